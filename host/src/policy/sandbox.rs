//! The sandbox: a fresh instance for each call, no imports, and a bound on everything. The only place that names wasmtime.

use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use rustix::io::Errno;
use wasmtime::component::{
    Component, ComponentExportIndex, ComponentNamedList, Instance, InstancePre, Lift, Linker, Lower,
};
use wasmtime::{Engine, InstanceAllocationStrategy, Store, Trap};

use crate::config::{Limits, Size};

mod bounds;
pub(crate) mod contract;
mod machine;
mod outline;
mod since_v0_1;
mod since_v0_2;
mod ticker;
mod version;

use bounds::{Bounds, Exceeded};
use machine::{BESIDE, address_space, pool, settings};
use ticker::{TICK, Ticker};
use version::{Offered, Version};

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
    /// The system lets this process execute no code that it compiled.
    #[error(
        "the system forbids this process to execute what it compiles ({0}): set policy.interpreter = true, or take \
         MemoryDenyWriteExecute= out of the unit"
    )]
    NoMachineCode(String),
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
        metrics.is_some_and(|metrics| metrics.unused_warm_memories() == machine::places(&self.limits))
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
        let settings = settings(pool(limits), limits).map_err(|e| setup(&e))?;
        let engine = Engine::new(&settings).map_err(|e| Refused::AddressSpace {
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
    let settings = settings(InstanceAllocationStrategy::OnDemand, limits);
    let engine = settings.and_then(|settings| Engine::new(&settings)).map_err(|e| Refused::Setup(one_line(&e)))?;
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
    let compiled = |e: wasmtime::Error| match is_forbidden(&e) {
        true => Refused::NoMachineCode(one_line(&e)),
        false => Refused::Compile(one_line(&e)),
    };
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

/// Whether the system refused what it was asked for: nothing but to make compiled code executable asks it for a right.
fn is_forbidden(error: &wasmtime::Error) -> bool {
    let is = |errno: &Errno| matches!(*errno, Errno::ACCESS | Errno::PERM);
    let by_io =
        error.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::PermissionDenied);
    by_io || error.downcast_ref::<Errno>().is_some_and(is)
}

/// wasmtime's reasons span lines and quote names from the component.
fn one_line(error: &wasmtime::Error) -> String {
    let text = format!("{error:#}");
    super::printable(&text.split_whitespace().collect::<Vec<_>>().join(" "), 400)
}
