//! The sandbox: a fresh instance for each call, no imports, and a bound on everything. The only place that names wasmtime.

use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Duration;

use wasmtime::component::{Component, ComponentExportIndex, ComponentNamedList, InstancePre, Lift, Linker, Lower};
use wasmtime::{
    Config, Engine, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig, Store, StoreLimits,
    StoreLimitsBuilder, Trap,
};

use crate::config::Limits;

pub(crate) mod contract;
mod ticker;

use contract::{Decision, Description, Facts, INTERFACE, Value};
use ticker::{TICK, Ticker};

/// Octets of an instance's memory that stay resident between two decisions: more than a Rust or C policy has at all, so
/// that a fresh instance costs a memset and no system call.
const KEEP_RESIDENT: usize = 128 * 1024;
/// Core instances, memories and tables in one component. A policy has one module; a component without imports has one
/// table, one with adapters two.
const PARTS: u32 = 4;
/// Elements of one table: function pointers. A large policy has hundreds.
const TABLE_ELEMENTS: usize = 20_000;

/// Where components are compiled and run.
pub(crate) struct Sandbox {
    engine: Engine,
    ticker: Ticker,
    limits: Arc<Limits>,
}

/// A compiled component that exports the contract.
pub(crate) struct Guest {
    pre: InstancePre<StoreLimits>,
    describe: ComponentExportIndex,
    check_settings: ComponentExportIndex,
    decide: ComponentExportIndex,
}

/// Why a component cannot be a policy.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The sandbox itself could not be set up.
    #[error("the sandbox cannot be set up: {0}")]
    Setup(String),
    /// It is no component, or uses what the sandbox does not allow.
    #[error("it is no component that this program can run: {0}")]
    Compile(String),
    /// Compiling it took too long.
    #[error("compiling it took longer than {}, so it was given up", super::seconds(*.0))]
    CompileTime(Duration),
    /// It wants something from outside.
    #[error("it imports {0}; a policy imports nothing (build it without WASI: `addrauth policy build`)")]
    Imports(String),
    /// It exports another version of the contract.
    #[error("it speaks {speaks}, and this program offers {INTERFACE}: build it against that version")]
    Version {
        /// What it exports.
        speaks: String,
    },
    /// It does not export the contract at all.
    #[error("it does not export {INTERFACE}, so it is no policy")]
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

impl Sandbox {
    /// A sandbox of this size: an instance for each of the threads, and one for the thread that loads.
    pub(crate) fn new(limits: &Arc<Limits>) -> Result<Sandbox, Refused> {
        let setup = |e: &dyn std::fmt::Display| Refused::Setup(e.to_string());
        let engine = Engine::new(&settings(limits)).map_err(|e| setup(&e))?;
        let ticker = Ticker::start(engine.clone()).map_err(|e| setup(&e))?;
        Ok(Sandbox { engine, ticker, limits: Arc::clone(limits) })
    }

    /// Compiles a component and holds it against the contract.
    pub(crate) fn load(&self, octets: &[u8]) -> Result<Guest, Refused> {
        let component = self.compile(octets)?;
        self.check_outline(&component)?;
        let compiled = |e: wasmtime::Error| Refused::Compile(one_line(&e));
        let interface = component.get_export_index(None, INTERFACE).ok_or(Refused::NoPolicy)?;
        let function = |name| {
            let missing = || Refused::Types { name, text: "there is no such function".into() };
            component.get_export_index(Some(&interface), name).ok_or_else(missing)
        };
        let guest = Guest {
            describe: function("describe")?,
            check_settings: function("check-settings")?,
            decide: function("decide")?,
            pre: Linker::new(&self.engine).instantiate_pre(&component).map_err(compiled)?,
        };
        self.check_types(&guest)?;
        Ok(guest)
    }

    /// What the policy says of itself.
    pub(crate) fn describe(&self, guest: &Guest) -> Result<Description, Fault> {
        self.call::<(), (Description,)>(guest, &guest.describe, ()).map(|(description,)| description)
    }

    /// Whether the policy takes these settings; the inner error is its own words.
    pub(crate) fn check_settings(&self, guest: &Guest, settings: &[Value]) -> Result<Result<(), String>, Fault> {
        self.call::<(&[Value],), (Result<(), String>,)>(guest, &guest.check_settings, (settings,)).map(|(said,)| said)
    }

    /// The policy's decision on one set of facts.
    pub(crate) fn decide(&self, guest: &Guest, facts: &Facts, settings: &[Value]) -> Result<Decision, Fault> {
        let (decision,) = self.call::<(&Facts, &[Value]), (Decision,)>(guest, &guest.decide, (facts, settings))?;
        if decision.reason.len() > self.limits.policy_result {
            return Err(Fault(format!("handed back more than {} octets", self.limits.policy_result)));
        }
        Ok(decision)
    }

    /// One call on a fresh instance, under every limit.
    fn call<P, R>(&self, guest: &Guest, function: &ComponentExportIndex, params: P) -> Result<R, Fault>
    where
        P: ComponentNamedList + Lower,
        R: ComponentNamedList + Lift + 'static,
    {
        let mut store = self.store();
        let fault = |e: wasmtime::Error| self.fault(&e);
        let _running = self.ticker.running();
        // Armed before the instance exists: a start function may loop too. One tick more, since the first is cut short.
        let ticks = self.limits.policy_time.as_millis().div_ceil(TICK.as_millis());
        store.set_epoch_deadline(u64::try_from(ticks).unwrap_or(u64::MAX - 1) + 1);
        let instance = guest.pre.instantiate(&mut store).map_err(fault)?;
        let function = instance.get_typed_func::<P, R>(&mut store, function).map_err(fault)?;
        function.call(&mut store, params).map_err(fault)
    }

    fn store(&self) -> Store<StoreLimits> {
        let limits = StoreLimitsBuilder::new()
            .memory_size(self.limits.policy_memory)
            .table_elements(TABLE_ELEMENTS)
            .trap_on_grow_failure(true)
            .build();
        let mut store = Store::new(&self.engine, limits);
        store.limiter(|limits| limits);
        store.set_hostcall_fuel(self.limits.policy_result);
        store
    }

    fn fault(&self, error: &wasmtime::Error) -> Fault {
        let limits = &self.limits;
        let text = match error.downcast_ref::<Trap>() {
            Some(Trap::Interrupt) => format!("ran longer than {} ms", limits.policy_time.as_millis()),
            Some(Trap::StackOverflow) => "used up its stack".into(),
            Some(trap) => format!("trapped: {trap}"),
            None => {
                let chain = format!("{:#}", error);
                // wasmtime tells these apart by their words alone.
                if chain.contains("fuel") {
                    format!("handed back more than {} octets", limits.policy_result)
                } else if chain.contains("forcing trap when growing table") {
                    format!("wanted more than {TABLE_ELEMENTS} table elements")
                } else if chain.contains("forcing trap when growing") {
                    format!("wanted more than {} MiB of memory", limits.policy_memory >> 20)
                } else {
                    chain
                }
            }
        };
        Fault(super::printable(&text, limits.policy_text))
    }

    /// Compiles on a thread of its own, so that a component made to be slow to compile ends in an error: Cranelift cannot
    /// be interrupted, but its result need not be waited for.
    fn compile(&self, octets: &[u8]) -> Result<Component, Refused> {
        if !octets.starts_with(b"\0asm") {
            return Err(Refused::Compile("it is not WebAssembly at all".into()));
        }
        if octets.get(4..8) == Some(&[1, 0, 0, 0]) {
            let text = "it is a core module, of which `addrauth policy build` makes a component";
            return Err(Refused::Compile(text.into()));
        }
        let (engine, octets) = (self.engine.clone(), octets.to_vec());
        let (done, compiled) = sync_channel(1);
        thread::Builder::new()
            .name("policy-compiler".into())
            .spawn(move || {
                // Nobody listens any more where it took too long.
                let _ = done.send(Component::from_binary(&engine, &octets));
            })
            .map_err(|e| Refused::Setup(e.to_string()))?;
        match compiled.recv_timeout(self.limits.policy_compile) {
            Ok(component) => component.map_err(|e| Refused::Compile(one_line(&e))),
            Err(RecvTimeoutError::Timeout) => Err(Refused::CompileTime(self.limits.policy_compile)),
            Err(RecvTimeoutError::Disconnected) => Err(Refused::Compile("the compiler gave up on it".into())),
        }
    }

    /// No import, and the contract's interface among the exports: judged by the component's type, never by its octets.
    fn check_outline(&self, component: &Component) -> Result<(), Refused> {
        let outline = component.component_type();
        let imports: Vec<_> = outline.imports(&self.engine).map(|(name, _)| name.to_owned()).collect();
        if !imports.is_empty() {
            // A name may be a URL, and hold anything.
            return Err(Refused::Imports(super::printable(&imports.join(", "), self.limits.policy_text)));
        }
        let exports: Vec<_> = outline.exports(&self.engine).map(|(name, _)| name.to_owned()).collect();
        if exports.iter().any(|name| name == INTERFACE) {
            return Ok(());
        }
        match exports.into_iter().find(|name| name.starts_with("addrauth:policy/")) {
            Some(speaks) => Err(Refused::Version { speaks }),
            None => Err(Refused::NoPolicy),
        }
    }

    /// Holds the three functions against our types; without a call, so that nothing of the component's own code matters
    /// but its start function, which runs under the limits.
    fn check_types(&self, guest: &Guest) -> Result<(), Refused> {
        let mut store = self.store();
        let _running = self.ticker.running();
        store.set_epoch_deadline(u64::try_from(self.limits.policy_time.as_millis()).unwrap_or(u64::MAX - 1) + 1);
        let started = guest.pre.instantiate(&mut store);
        let instance = started.map_err(|e| Refused::Compile(self.fault(&e).to_string()))?;
        let wrong = |name| move |e: wasmtime::Error| Refused::Types { name, text: one_line(&e) };
        instance.get_typed_func::<(), (Description,)>(&mut store, &guest.describe).map_err(wrong("describe"))?;
        instance
            .get_typed_func::<(&[Value],), (Result<(), String>,)>(&mut store, &guest.check_settings)
            .map_err(wrong("check-settings"))?;
        instance
            .get_typed_func::<(&Facts, &[Value]), (Decision,)>(&mut store, &guest.decide)
            .map_err(wrong("decide"))?;
        Ok(())
    }
}

/// Deterministic, bounded, and sized for our threads.
fn settings(limits: &Limits) -> Config {
    let instances = u32::try_from(limits.policy_threads).unwrap_or(u32::MAX).saturating_add(1);
    let parts = instances.saturating_mul(PARTS);
    let mut pool = PoolingAllocationConfig::default();
    pool.total_component_instances(instances)
        .total_core_instances(parts)
        .total_memories(instances.saturating_mul(2))
        .total_tables(parts)
        .max_core_instances_per_component(PARTS)
        .max_memories_per_component(2)
        .max_tables_per_component(PARTS)
        .max_memory_size(limits.policy_memory)
        .table_elements(TABLE_ELEMENTS)
        .linear_memory_keep_resident(KEEP_RESIDENT)
        .table_keep_resident(KEEP_RESIDENT)
        .max_unused_warm_slots(parts);
    let mut config = Config::new();
    config
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool))
        .cranelift_opt_level(OptLevel::Speed)
        .cranelift_nan_canonicalization(true)
        .relaxed_simd_deterministic(true)
        .epoch_interruption(true)
        .max_wasm_stack(limits.policy_stack)
        .wasm_backtrace_max_frames(None);
    config
}

/// wasmtime's reasons span lines and quote names from the component.
fn one_line(error: &wasmtime::Error) -> String {
    let text = format!("{error:#}");
    super::printable(&text.split_whitespace().collect::<Vec<_>>().join(" "), 400)
}
