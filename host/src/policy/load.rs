//! Loads every policy that is bound or configured, all of them or none.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use tokio::sync::oneshot;

use super::cases_beside;
use super::choose::Bound;
use super::origin::Origin;
use super::own_rules::{OwnRules, RULES};
use super::rehearse;
use super::sandbox::Sandbox;
use super::shadow::{self, Asker, Shadowing, Shadows};
use super::shelf::{self, Shelved};
use super::threads::Threads;
use super::trial::Trial;
use super::{Error, Policies};
use crate::config::{self, Limits, Module, Size};

/// The stack of the thread that loads: reading a component's types takes more than a thread usually has.
const STACK: usize = 4 * 1024 * 1024;

/// Sets the flag when it is dropped.
struct GiveUp(Arc<AtomicBool>);

impl Drop for GiveUp {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What the policies of before leave to those that take their place.
struct Former {
    /// Where each component came from.
    origins: BTreeMap<String, Origin>,
    sandbox: Arc<Sandbox>,
    threads: Arc<Threads>,
    asker: Option<Arc<Asker>>,
    loading: Arc<Mutex<()>>,
}

impl Policies {
    /// Loads every policy that is bound or configured, and checks that each fits. It reads files, waits for trials and
    /// compiles: never on a thread that serves others, see [`Policies::load_apart`].
    pub fn load(
        bindings: &config::Policy,
        modules: &BTreeMap<String, Module>,
        limits: &Arc<Limits>,
        trial: &Trial,
    ) -> Result<Policies, Error> {
        load(bindings, modules, None, limits, trial, &AtomicBool::new(false))
    }

    /// The same on a thread of its own. Where this is dropped, the process that tries a component is ended at once and waited
    /// for, and nothing more is begun.
    pub async fn load_apart(
        bindings: &config::Policy,
        modules: &BTreeMap<String, Module>,
        limits: &Arc<Limits>,
        trial: &Trial,
    ) -> Result<Policies, Error> {
        load_apart(bindings, modules, None, limits, trial).await
    }

    /// What takes the place of these after a change of the configuration or of files, under the same limits; loaded like
    /// [`Policies::load_apart`]. Both share one sandbox, so that no more address space is reserved, and its threads.
    ///
    /// # Errors
    /// Also where a file is gone that a component of these came from, and the shipped one would take its place. Another
    /// `policy.dir` or `policies.ID.module` may leave it behind.
    pub async fn reload_apart(
        &self,
        bindings: &config::Policy,
        modules: &BTreeMap<String, Module>,
        trial: &Trial,
    ) -> Result<Policies, Error> {
        let former = Former {
            origins: (self.own.iter().map(|own| (RULES.to_owned(), own.component().origin.clone())))
                .chain(self.all.iter().map(|policy| (policy.id.clone(), policy.origin.clone())))
                .collect(),
            sandbox: Arc::clone(&self.sandbox),
            threads: Arc::clone(&self.threads),
            asker: self.asker.clone(),
            loading: Arc::clone(&self.loading),
        };
        load_apart(bindings, modules, Some(former), &self.limits, trial).await
    }
}

async fn load_apart(
    bindings: &config::Policy,
    modules: &BTreeMap<String, Module>,
    former: Option<Former>,
    limits: &Arc<Limits>,
    trial: &Trial,
) -> Result<Policies, Error> {
    let (bindings, modules) = (bindings.clone(), modules.clone());
    let (limits, trial) = (Arc::clone(limits), trial.clone());
    let given_up = Arc::new(AtomicBool::new(false));
    let _give_up = GiveUp(Arc::clone(&given_up));
    let (done, loaded) = oneshot::channel();
    let work = move || {
        // Nobody waits any more where it was given up.
        let _ = done.send(load(&bindings, &modules, former.as_ref(), &limits, &trial, &given_up));
    };
    let setup = |text: String| Error::Setup(text);
    thread::Builder::new()
        .name("policy-load".into())
        .stack_size(STACK)
        .spawn(work)
        .map_err(|e| setup(e.to_string()))?;
    loaded.await.unwrap_or_else(|_| Err(setup("the thread that loads them has ended".into())))
}

/// The sandbox of those before, or a new one.
fn sandbox_of(former: Option<&Former>, limits: &Arc<Limits>) -> Result<Arc<Sandbox>, Error> {
    match former {
        Some(former) => Ok(Arc::clone(&former.sandbox)),
        None => Ok(Arc::new(Sandbox::new(limits).map_err(|e| Error::Setup(e.to_string()))?)),
    }
}

fn load(
    bindings: &config::Policy,
    modules: &BTreeMap<String, Module>,
    former: Option<&Former>,
    limits: &Arc<Limits>,
    trial: &Trial,
    given_up: &AtomicBool,
) -> Result<Policies, Error> {
    check_dir(&bindings.dir)?;
    let limits = &engine(bindings, former, limits)?;
    let sandbox = sandbox_of(former, limits)?;
    // The sandbox has room for one thread that loads.
    let loading = former.map(|former| Arc::clone(&former.loading)).unwrap_or_default();
    let alone = loading.lock().unwrap_or_else(PoisonError::into_inner);
    let tried = |octets: &[u8], digest: &str, size: Size| trial.run(octets, digest, &limits.of(size), given_up);
    let mut loaded: BTreeMap<String, Arc<Shelved>> = BTreeMap::new();
    let mut shelve = |id: &str| -> Result<Arc<Shelved>, Error> {
        if let Some(known) = loaded.get(id) {
            return Ok(Arc::clone(known));
        }
        if given_up.load(Ordering::Relaxed) {
            return Err(Error::GivenUp);
        }
        let (module, former) = (modules.get(id), former.and_then(|former| former.origins.get(id)));
        let policy = Arc::new(shelf::load(&sandbox, id, bindings, module, former, limits, tried)?);
        if let Some(file) = own_file(&policy, &bindings.dir) {
            cases_beside::run(&sandbox, &policy, module, &file)?;
        }
        tracing::debug!(policy = id, digest = policy.digest, origin = %policy.origin, "policy loaded");
        loaded.insert(id.to_owned(), Arc::clone(&policy));
        Ok(policy)
    };
    let bound = Bound::load(bindings, &mut shelve)?;
    for (id, _) in modules.iter().filter(|(id, module)| !only_pins(bindings, id, module)) {
        shelve(id)?;
    }
    let own = bindings.user_rules.then(|| {
        let (module, former) = (modules.get(RULES), former.and_then(|former| former.origins.get(RULES)));
        OwnRules::load(shelf::component(&sandbox, RULES, bindings, module, former, limits, tried), &sandbox, limits)
    });
    let own = own.transpose()?;
    let candidate = |id: &String| {
        let load = |module: &Module, file: &Path| {
            let policy = shelf::load(&sandbox, id, bindings, Some(module), None, limits, tried)?;
            cases_beside::run(&sandbox, &policy, Some(module), file).map(|()| policy)
        };
        Some((id.clone(), Shadowing::load(id, &bindings.dir, modules.get(id), load)?))
    };
    let shadows: Shadows = loaded.keys().filter_map(candidate).collect();
    let asker = if shadows.is_empty() { None } else { Some(asker(&sandbox, former, limits)?) };
    let threads = threads(&sandbox, former)?;
    for policy in loaded.values().chain(shadows.values().filter_map(|shadowing| shadowing.candidate.as_ref().ok())) {
        threads.prepare(&sandbox, policy.guest.size()).map_err(|e| Error::Setup(e.to_string()))?;
    }
    let all: Vec<Arc<Shelved>> = loaded.into_values().collect();
    let own_rules = own.as_ref().and_then(|own| own.component().origin.file().map(Path::to_owned));
    let files = files(&all, own_rules, &shadows, &bindings.dir);
    drop(alone);
    Ok(Policies { bound, all, own, shadows, asker, files, threads, sandbox, loading, limits: Arc::clone(limits) })
}

/// Whether a section does no more than pin the component of users' rules: then it makes no policy.
fn only_pins(bindings: &config::Policy, id: &str, module: &Module) -> bool {
    bindings.user_rules && id == RULES && module.settings.is_empty() && module.shadow.is_none()
}

/// The limits with the engine that the configuration names. Policies that are loaded again stay in the engine of before.
fn engine(bindings: &config::Policy, former: Option<&Former>, limits: &Arc<Limits>) -> Result<Arc<Limits>, Error> {
    match former {
        _ if bindings.interpreter == limits.policy.interpreter => Ok(Arc::clone(limits)),
        Some(_) => Err(Error::Engine { now: limits.policy.interpreter }),
        None => {
            let mut limits = Limits::clone(limits);
            limits.policy.interpreter = bindings.interpreter;
            Ok(Arc::new(limits))
        }
    }
}

/// The directory of component files, where there is one, can be looked into.
fn check_dir(dir: &Path) -> Result<(), Error> {
    if dir.as_os_str().is_empty() {
        return Ok(());
    }
    std::fs::read_dir(dir).map(drop).map_err(|source| Error::Dir { path: dir.to_owned(), source })
}

/// The threads that decide: those of before, where there were some.
fn threads(sandbox: &Arc<Sandbox>, former: Option<&Former>) -> Result<Arc<Threads>, Error> {
    if let Some(former) = former {
        return Ok(Arc::clone(&former.threads));
    }
    let threads = Threads::start(sandbox);
    Ok(Arc::new(threads.map_err(|e| Error::Setup(e.to_string()))?))
}

/// The thread that asks candidates: that of before, where there was one.
fn asker(sandbox: &Arc<Sandbox>, former: Option<&Former>, limits: &Limits) -> Result<Arc<Asker>, Error> {
    if let Some(same) = former.and_then(|former| former.asker.clone()) {
        return Ok(same);
    }
    let asker = Asker::start(sandbox, limits.policy.shadow_queue);
    Ok(Arc::new(asker.map_err(|e| Error::Setup(e.to_string()))?))
}

/// The file of a policy: its component's, or that which would take the place of the shipped one.
fn own_file(policy: &Shelved, dir: &Path) -> Option<PathBuf> {
    let in_its_place = || (!dir.as_os_str().is_empty()).then(|| dir.join(format!("{}.wasm", policy.id)));
    policy.origin.file().map(Path::to_owned).or_else(in_its_place)
}

/// What a reload would read: the files in force, and those that would take their place once they are there.
fn files(all: &[Arc<Shelved>], own_rules: Option<PathBuf>, shadows: &Shadows, dir: &Path) -> Vec<PathBuf> {
    let mut files = shadow::files(shadows, dir);
    files.extend(own_rules);
    files.extend(all.iter().filter_map(|policy| own_file(policy, dir)));
    let beside = |file: &PathBuf| {
        let signature = super::trust::signature_of(file);
        rehearse::cases_of(file).into_iter().chain([signature])
    };
    let more: Vec<PathBuf> = files.iter().flat_map(beside).collect();
    files.extend(more);
    files.sort();
    files.dedup();
    files
}
