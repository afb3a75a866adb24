//! The sandbox: a fresh instance for each call, no imports, and a bound on everything. The only place that names wasmtime.

use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use wasmtime::component::{
    Component, ComponentExportIndex, ComponentNamedList, Instance, InstancePre, Lift, Linker, Lower,
};
use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig, Store, Trap};

use crate::config::{Limits, Size};

mod bounds;
pub(crate) mod contract;
mod outline;
mod since_v0_1;
mod since_v0_2;
mod ticker;
mod version;

use bounds::{Bounds, Exceeded};
use ticker::{TICK, Ticker};
use version::{Offered, Version};

/// Octets of an instance's memory that stay resident between two decisions: more than a Rust or C policy has at all, so
/// that a fresh instance costs a memset and no system call, and as much as one in JavaScript has. In class large most of a memory is
/// never written: there the kernel says which pages were, where it can (Linux 6.7), and these alone are put back.
const KEEP_RESIDENT: usize = 2 << 20;
/// The same of a table.
const KEEP_TABLE: usize = 128 * 1024;
/// Core instances and tables in one component. A policy has one module; a component without imports has one
/// table, one with adapters two.
const PARTS: u32 = 4;
/// Tables in one module: in a linked one the second holds what it would import.
const TABLES: u32 = 2;
/// Memories in one component. Together they have the room of one.
const MEMORIES: u32 = 2;
/// Places for memories, and as many for tables. Far fewer are in use at a time, but from 128 on the library shares the places out
/// among the processors, and each thread takes those of its own share. Below that, two threads hand each other the memory that
/// they have just cleared, and together they decide no more than one alone.
const PLACES: u32 = 128;
/// Address space behind each memory that is never mapped: what a constant offset can reach needs no bounds check.
const GUARD: u64 = 32 << 20;
/// The compiler's stack in the process that decides.
const STACK: usize = 4 * 1024 * 1024;
/// The compiler's stack in a trial: what passes there has room here.
const TRIAL_STACK: usize = STACK / 2;

/// Where components are compiled and run.
pub(crate) struct Sandbox {
    small: Arc<Chamber>,
    /// There while a guest of its class is.
    large: Mutex<Weak<Chamber>>,
    limits: Arc<Limits>,
}

/// The part of the sandbox that a class has for itself.
struct Chamber {
    engine: Engine,
    ticker: Ticker,
    /// Those of its class.
    limits: Arc<Limits>,
}

/// A compiled component that exports a version of the contract.
pub(crate) struct Guest {
    chamber: Arc<Chamber>,
    component: Prepared,
}

/// The component and the contract's functions in it.
struct Prepared {
    version: Version,
    pre: InstancePre<Bounds>,
    describe: ComponentExportIndex,
    check_settings: ComponentExportIndex,
    decide: ComponentExportIndex,
}

/// Why a component cannot be a policy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// The sandbox itself could not be set up.
    #[error("the sandbox cannot be set up: {0}")]
    Setup(String),
    /// The engine could not be made: nearly always for want of address space.
    #[error(
        "the sandbox cannot be set up: {text}. The process needs some {gib} GiB of address space, of which next to nothing \
         becomes memory: allow them (no LimitAS= in the unit, `ulimit -v unlimited`; MemoryMax= does not count them)"
    )]
    AddressSpace {
        /// The library's words.
        text: String,
        /// What the process needs.
        gib: u64,
    },
    /// It is no component, or uses what the sandbox does not allow.
    #[error("it is no component that this program can run: {0}")]
    Compile(String),
    /// Its make-up is no policy's: it was not compiled at all.
    #[error("it {0}, which no policy needs: build it with `addrauth policy build`, without other components inside")]
    Outline(String),
    /// Compiling it took too long.
    #[error(
        "compiling it took longer than {}, so it was given up: take another build of it or bind another policy{}",
        super::seconds(*most), size.way_out()
    )]
    CompileTime {
        /// How long it may take.
        most: Duration,
        /// Its class.
        size: Size,
    },
    /// Compiling it takes too much work.
    #[error(
        "compiling it takes more than {} of processor time: its language is too large for its class, the machine is slow, or it is \
         made to do harm. Take another build of it or bind another policy{}",
        super::seconds(*most), size.way_out()
    )]
    TrialTime {
        /// How much it may take.
        most: Duration,
        /// Its class.
        size: Size,
    },
    /// Compiling it takes too much memory.
    #[error(
        "compiling it takes more than {} MiB of memory or more stack than there is: its language is too large for its class, or it is \
         made to do harm. Take another build of it or bind another policy{}",
        most >> 20, size.way_out()
    )]
    TrialMemory {
        /// How much it may take, in octets.
        most: usize,
        /// Its class.
        size: Size,
    },
    /// Nobody knows whether it can be compiled.
    #[error("it could not be tried: {0}")]
    Untried(String),
    /// It wants something from outside.
    #[error("it imports {0}; a policy imports nothing (build it without WASI: `addrauth policy build`)")]
    Imports(String),
    /// It exports other versions of the contract alone.
    #[error("it speaks {speaks}, and this program offers {Offered}: build it against one of these versions")]
    Version {
        /// What it exports.
        speaks: String,
    },
    /// It does not export the contract at all.
    #[error("it does not export {}, so it is no policy", Version::NEWEST.interface())]
    NoPolicy,
    /// It exports the interface's name with other types.
    #[error("its {name} is not the contract's: {text}")]
    Types {
        /// The function.
        name: &'static str,
        /// What differs.
        text: String,
    },
}

/// What went wrong in a call; the text goes into logs and into [`crate::case::Decision::fault`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Fault(pub(crate) String);

impl Guest {
    /// The interface that it exports and is spoken to by.
    pub(crate) fn interface(&self) -> &'static str {
        self.component.version.interface()
    }

    /// Its class.
    pub(crate) fn size(&self) -> Size {
        self.chamber.limits.policy.size
    }

    /// How long a call of it may run.
    pub(crate) fn time(&self) -> Duration {
        self.chamber.limits.policy.time
    }

    /// The newest interface, where it is spoken to by an older one.
    pub(crate) fn newer(&self) -> Option<&'static str> {
        (self.component.version != Version::NEWEST).then(|| Version::NEWEST.interface())
    }
}

impl Sandbox {
    /// A sandbox of this size: an instance for each of the threads, one for the thread that loads, one for that of candidates, and one
    /// for whoever reads a user's text. What class large takes is made when the first of its components is loaded.
    pub(crate) fn new(limits: &Arc<Limits>) -> Result<Sandbox, Refused> {
        let small = Arc::new(Chamber::new(limits, BESIDE)?);
        Ok(Sandbox { small, large: Mutex::default(), limits: Arc::clone(limits) })
    }

    /// Compiles a component of this class and holds it against the contract. What comes from outside is tried first: see
    /// [`super::trial::Trial::run`].
    pub(crate) fn load(&self, octets: &[u8], size: Size) -> Result<Guest, Refused> {
        let chamber = self.chamber(size)?;
        let limits = &chamber.limits;
        let component = prepare_apart(&chamber.engine, octets, limits, STACK, limits.policy.compile)?;
        let guest = Guest { chamber, component };
        self.check_types(&guest)?;
        Ok(guest)
    }

    fn chamber(&self, size: Size) -> Result<Arc<Chamber>, Refused> {
        if size == self.limits.policy.size {
            return Ok(Arc::clone(&self.small));
        }
        let mut large = self.large.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(chamber) = large.upgrade() {
            return Ok(chamber);
        }
        // The other class has its memories beside it.
        let beside = BESIDE.saturating_add(address_space(&self.limits));
        let chamber = Arc::new(Chamber::new(&Arc::new(self.limits.of(size)), beside)?);
        *large = Arc::downgrade(&chamber);
        Ok(chamber)
    }

    /// Whether each place for a memory was used, and none is now.
    #[cfg(test)]
    pub(super) fn are_all_places_used(&self) -> bool {
        let metrics = self.small.engine.pooling_allocator_metrics();
        metrics.is_some_and(|metrics| metrics.unused_warm_memories() == places(&self.limits))
    }

    /// Whether there is what class large takes.
    #[cfg(test)]
    pub(super) fn has_large(&self) -> bool {
        self.large.lock().unwrap_or_else(PoisonError::into_inner).strong_count() > 0
    }

    /// What it keeps to, in class small.
    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// One call on a fresh instance, under every limit.
    fn call<P, R>(&self, guest: &Guest, function: &ComponentExportIndex, params: P) -> Result<R, Fault>
    where
        P: ComponentNamedList + Lower,
        R: ComponentNamedList + Lift + 'static,
    {
        self.call_within(guest, function, params, guest.time())
    }

    /// The same within this time.
    fn call_within<P, R>(
        &self,
        guest: &Guest,
        function: &ComponentExportIndex,
        params: P,
        time: Duration,
    ) -> Result<R, Fault>
    where
        P: ComponentNamedList + Lower,
        R: ComponentNamedList + Lift + 'static,
    {
        let fault = |e: wasmtime::Error| guest.chamber.fault(&e);
        let (mut store, instance) = guest.instance(time).map_err(fault)?;
        let function = instance.get_typed_func::<P, R>(&mut store, function).map_err(fault)?;
        function.call(&mut store, params).map_err(fault)
    }
}

impl Guest {
    /// A fresh instance, which the clock stops when this time is up.
    fn instance(&self, time: Duration) -> wasmtime::Result<(Store<Bounds>, Instance)> {
        let mut store = self.chamber.store();
        // Armed before the instance exists: a start function may loop too. One tick more, since the first is cut short.
        let ticks = time.as_millis().div_ceil(TICK.as_millis());
        store.set_epoch_deadline(u64::try_from(ticks).unwrap_or(u64::MAX - 1) + 1);
        // Only then: from here on the clock turns until that deadline has passed, even where this thread has to wait meanwhile.
        self.chamber.ticker.called();
        let instance = self.component.pre.instantiate(&mut store)?;
        Ok((store, instance))
    }
}

impl Chamber {
    /// `beside`: octets of address space that all else in the process takes.
    fn new(limits: &Arc<Limits>, beside: u64) -> Result<Chamber, Refused> {
        let setup = |e: &dyn std::fmt::Display| Refused::Setup(e.to_string());
        let engine = Engine::new(&settings(pool(limits), limits)).map_err(|e| Refused::AddressSpace {
            text: one_line(&e),
            gib: address_space(limits).saturating_add(beside).div_ceil(1 << 30),
        })?;
        let ticker = Ticker::start(engine.clone(), limits.policy.time).map_err(|e| setup(&e))?;
        Ok(Chamber { engine, ticker, limits: Arc::clone(limits) })
    }

    fn store(&self) -> Store<Bounds> {
        let limits = &self.limits.policy;
        let mut store = Store::new(&self.engine, Bounds::new(limits.memory, limits.outline.elements));
        store.limiter(|bounds| bounds);
        store.set_hostcall_fuel(limits.result);
        store
    }

    fn fault(&self, error: &wasmtime::Error) -> Fault {
        let limits = &self.limits;
        let text = match (error.downcast_ref::<Trap>(), error.downcast_ref::<Exceeded>()) {
            (_, Some(Exceeded::Memory)) => format!("wanted more than {} MiB of memory", limits.policy.memory >> 20),
            (_, Some(Exceeded::Elements)) => {
                format!("wanted more than {} table elements", limits.policy.outline.elements)
            }
            (Some(Trap::Interrupt), _) => format!("ran longer than {} ms", limits.policy.time.as_millis()),
            (Some(Trap::StackOverflow), _) => "used up its stack".into(),
            (Some(trap), _) => format!("trapped: {trap}"),
            (None, None) => match format!("{:#}", error) {
                // wasmtime tells this one by its words alone.
                chain if chain.contains("fuel") => format!("handed back more than {} octets", limits.policy.result),
                chain => chain,
            },
        };
        Fault(super::printable(&text, limits.policy.text))
    }
}

/// Does all that loading a component does but for running it, without a pool: its 6 GiB of address space and a bound on that
/// do not go together. Leaves everything to the process's own limits.
pub(super) fn rehearse(octets: &[u8], limits: &Limits) -> Result<(), Refused> {
    let engine = Engine::new(&settings(InstanceAllocationStrategy::OnDemand, limits));
    let engine = engine.map_err(|e| Refused::Setup(one_line(&e)))?;
    // The process's own limit counts what it worked, not how long it waited for a processor.
    let for_ever = Duration::from_secs(u64::from(u32::MAX));
    prepare_apart(&engine, octets, limits, TRIAL_STACK, for_ever).map(drop)
}

/// Refuses what is no policy by its make-up, at no cost.
pub(super) fn check_outline(octets: &[u8], limits: &Limits) -> Result<(), Refused> {
    if !octets.starts_with(b"\0asm") {
        return Err(Refused::Compile("it is not WebAssembly at all".into()));
    }
    if octets.get(4..8) == Some(&[1, 0, 0, 0]) {
        let text = "it is a core module, of which `addrauth policy build` makes a component";
        return Err(Refused::Compile(text.into()));
    }
    outline::check(octets, limits).map(drop)
}

/// Compiles on a thread of its own, so that a component made to be slow to compile ends in an error: Cranelift cannot be
/// interrupted, but its result need not be waited for.
fn prepare_apart(
    engine: &Engine,
    octets: &[u8],
    limits: &Limits,
    stack: usize,
    most: Duration,
) -> Result<Prepared, Refused> {
    check_outline(octets, limits)?;
    let (engine, octets, text) = (engine.clone(), octets.to_vec(), limits.policy.text);
    let (done, prepared) = sync_channel(1);
    thread::Builder::new()
        .name("policy-compiler".into())
        .stack_size(stack)
        .spawn(move || {
            // Nobody listens any more where it took too long.
            let _ = done.send(prepare(&engine, &octets, text));
        })
        .map_err(|e| Refused::Setup(e.to_string()))?;
    match prepared.recv_timeout(most) {
        Ok(guest) => guest,
        Err(RecvTimeoutError::Timeout) => Err(Refused::CompileTime { most, size: limits.policy.size }),
        Err(RecvTimeoutError::Disconnected) => Err(Refused::Compile("the compiler gave up on it".into())),
    }
}

/// Compiles a component, and finds the contract's functions in it.
fn prepare(engine: &Engine, octets: &[u8], text: usize) -> Result<Prepared, Refused> {
    let compiled = |e: wasmtime::Error| Refused::Compile(one_line(&e));
    let component = Component::from_binary(engine, octets).map_err(compiled)?;
    let version = check_interface(engine, &component, text)?;
    let interface = component.get_export_index(None, version.interface()).ok_or(Refused::NoPolicy)?;
    let function = |name| {
        let missing = || Refused::Types { name, text: "there is no such function".into() };
        component.get_export_index(Some(&interface), name).ok_or_else(missing)
    };
    Ok(Prepared {
        version,
        describe: function("describe")?,
        check_settings: function("check-settings")?,
        decide: function("decide")?,
        pre: Linker::new(engine).instantiate_pre(&component).map_err(compiled)?,
    })
}

/// No import, and a version of the contract among the exports, of which the newest counts: judged by the component's type, never
/// by its octets.
fn check_interface(engine: &Engine, component: &Component, text: usize) -> Result<Version, Refused> {
    let outline = component.component_type();
    let imports: Vec<_> = outline.imports(engine).map(|(name, _)| name.to_owned()).collect();
    if !imports.is_empty() {
        // A name may be a URL, and hold anything.
        return Err(Refused::Imports(super::printable(&imports.join(", "), text)));
    }
    let mut exports: Vec<_> = outline.exports(engine).map(|(name, _)| name.to_owned()).collect();
    if let Some(version) = Version::among(&exports) {
        return Ok(version);
    }
    exports.retain(|name| name.starts_with("addrauth:policy/"));
    if exports.is_empty() {
        return Err(Refused::NoPolicy);
    }
    Err(Refused::Version { speaks: super::printable(&exports.join(", "), text) })
}

/// Octets of address space for all else in a process: its code, its threads' stacks, and what its allocator takes beforehand
/// (1 GiB in the program `addrauth`).
const BESIDE: u64 = 2 << 30;

/// Octets of address space that the pool reserves, nearly all of it never touched.
fn address_space(limits: &Limits) -> u64 {
    u64::from(places(limits)).saturating_mul(reservation(limits).saturating_add(GUARD))
}

/// Octets of address space for one memory: all that it may grow to. Compiled code checks each access against its size; the
/// library's default of 4 GiB spares the check, and takes half a TiB for as many places.
fn reservation(limits: &Limits) -> u64 {
    u64::try_from(limits.policy.memory).unwrap_or(u64::MAX)
}

/// Instances at a time: one for each thread that decides, and one each for loading, for candidates and for reading a user's text.
fn instances(limits: &Limits) -> u32 {
    u32::try_from(limits.policy.threads).unwrap_or(u32::MAX).saturating_add(3)
}

/// Places for memories, and as many for tables.
fn places(limits: &Limits) -> u32 {
    let needed = instances(limits).saturating_mul(PARTS.max(MEMORIES));
    match limits.policy.size {
        Size::Small => PLACES.max(needed),
        // Few threads decide, and each of these places is dear.
        Size::Large => needed,
    }
}

/// The instances that may be there at a time are few; the places that they are put in are many, and one that was used stays warm
/// for the same policy on the same thread: at most [`KEEP_RESIDENT`] of memory in each, and of what the policy has.
fn pool(limits: &Limits) -> InstanceAllocationStrategy {
    let (instances, places) = (instances(limits), places(limits));
    let mut pool = PoolingAllocationConfig::default();
    pool.total_component_instances(instances)
        .total_core_instances(instances.saturating_mul(PARTS))
        .total_memories(places)
        .total_tables(places)
        .max_core_instances_per_component(PARTS)
        .max_memories_per_component(MEMORIES)
        .max_tables_per_component(PARTS)
        .max_tables_per_module(TABLES)
        .max_memory_size(limits.policy.memory)
        .table_elements(limits.policy.outline.elements)
        .linear_memory_keep_resident(KEEP_RESIDENT)
        .table_keep_resident(KEEP_TABLE)
        .pagemap_scan(if limits.policy.size == Size::Large { Enabled::Auto } else { Enabled::No })
        .max_unused_warm_slots(places);
    InstanceAllocationStrategy::Pooling(pool)
}

/// Deterministic and bounded; the same code wherever instances live.
fn settings(allocation: InstanceAllocationStrategy, limits: &Limits) -> Config {
    let mut config = Config::new();
    config
        .allocation_strategy(allocation)
        .cranelift_opt_level(OptLevel::Speed)
        .cranelift_nan_canonicalization(true)
        .relaxed_simd_deterministic(true)
        .epoch_interruption(true)
        .memory_reservation(reservation(limits))
        .memory_guard_size(GUARD)
        .max_wasm_stack(limits.policy.stack)
        .wasm_backtrace_max_frames(None);
    config
}

/// wasmtime's reasons span lines and quote names from the component.
fn one_line(error: &wasmtime::Error) -> String {
    let text = format!("{error:#}");
    super::printable(&text.split_whitespace().collect::<Vec<_>>().join(" "), 400)
}
