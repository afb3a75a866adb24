//! The filter behind its doors.

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinHandle};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::doors::{self, Doors};
#[cfg(feature = "metrics")]
use super::telling::{OfFilter, Telling};
use super::watch::Watch;
use super::watchdog::Health;
use super::watched::{Hears, UnderWay, Watched};
use crate::config::{Concern, Config, Limits, Listen, Warning, Where};
use crate::custody::Custody;
use crate::filter::{self, Filter};
use crate::mta::Lanes;
use crate::mta::listen;
use crate::mta::reception::Reception;
use crate::policy::Trial;
use crate::{daemon, files};

/// Why the filter does not start, or is not reloaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// What it needs cannot be opened.
    #[error(transparent)]
    Filter(#[from] filter::Error),
    /// No place to listen is named.
    #[error(
        "milter.listen, hooks.listen and lmtp.listen are empty: no mail server could connect; name a place in one of them"
    )]
    NoDoor,
    /// The door of MTA Hooks cannot be set up.
    #[error(transparent)]
    Hooks(doors::Error),
    /// It cannot listen.
    #[error(transparent)]
    Listen(#[from] listen::Error),
    /// There are no threads for its connections.
    #[error("cannot start the threads that serve connections: {0}")]
    Threads(#[source] std::io::Error),
    /// Another filter runs on this state directory; both would send what is owed.
    #[error(
        "another filter runs with state_dir {}: stop it first, or give this one a directory of its own",
        .0.display()
    )]
    Taken(PathBuf),
    /// The lock of its state directory cannot be taken.
    #[error("cannot use {}: {source}", path.display())]
    Lock {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A part of it panicked, or the runtime ends.
    #[error(transparent)]
    Panic(#[from] JoinError),
}

/// Runs the filter as `config` says until `shutdown`; messages in flight still get their answer then. Each configuration that
/// `reload` brings replaces the one in force as a whole; one that cannot be taken leaves it in force, and the log says why.
/// `trial` is how a component from a file is tried.
///
/// # Errors
/// It does not start, or a part of it panicked.
pub async fn run(
    config: Config,
    trial: Trial,
    mut reload: mpsc::Receiver<Config>,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let mut running = tokio::select! {
        () = shutdown.cancelled() => return Ok(()),
        running = Running::start(config, Arc::new(Limits::default()), trial) => running?,
    };
    loop {
        let next = tokio::select! {
            () = shutdown.cancelled() => break,
            Some(next) = reload.recv() => next,
            _ = running.changed() => running.config(),
        };
        let reloaded = tokio::select! {
            () = shutdown.cancelled() => break,
            reloaded = running.reload(next) => reloaded,
        };
        match reloaded {
            Ok(()) => tracing::info!("reloaded: the next message is treated by the new configuration"),
            Err(error) => tracing::error!("not reloaded, the old configuration stays in force: {error}"),
        }
    }
    running.stop().await
}

/// A filter that serves, for a program that has more to tell it, or to hear of it, than [`run`] has. Dropped, it stops as by
/// [`Running::stop`], but nothing tells when it has.
pub struct Running {
    /// The sections by which the listeners were opened.
    doors: Doors,
    hears: Option<Hears>,
    #[cfg(feature = "metrics")]
    telling: Telling,
    sender: watch::Sender<Arc<Watched<Filter>>>,
    under_way: Arc<UnderWay>,
    health: Arc<Health>,
    listening: Vec<Listen>,
    watch: Watch,
    /// Dropped, it stops what was begun.
    stop: DropGuard,
    serving: JoinHandle<()>,
    looking: JoinHandle<()>,
    sending: JoinHandle<Vec<Arc<Custody>>>,
    locks: Arc<Mutex<Locks>>,
}

/// The file in `state_dir` that the filter locks.
const LOCK: &str = "filter.lock";

/// Locks by `state_dir`: each directory is this filter's until it ends. The task that sends what is owed shares them, so that
/// no other filter sends it as well before that task has ended.
type Locks = BTreeMap<PathBuf, File>;

impl Running {
    /// Opens all that the configuration names, and serves. It may be dropped while it opens.
    ///
    /// # Errors
    /// See [`Error`]: then nothing listens.
    pub async fn start(config: Config, limits: Arc<Limits>, trial: Trial) -> Result<Running, Error> {
        let (doors, room, begun) = (Doors::of(&config), Arc::clone(&limits), SystemTime::now());
        if doors.are_shut() {
            return Err(Error::NoDoor);
        }
        let locks = Arc::new(Mutex::new(Locks::new()));
        check_free(&locks, &config)?;
        let filter = daemon::apart(async move { Filter::builder(config, trial).limits(room).open().await }).await??;
        lock(&locks, filter.config())?;
        let lanes = Lanes::start(limits.mta.lanes).map_err(Error::Threads)?;
        let open = lanes.within(|| doors.open()).map_err(|error| match error {
            doors::Error::Listen(error) => Error::Listen(error),
            error => Error::Hooks(error),
        })?;
        let listening = open.listening();
        for place in &listening {
            tracing::info!("listening on {place}");
        }
        #[cfg(feature = "metrics")]
        let telling = Telling::bind(&filter.config().metrics)?;
        announce(&filter);
        let watch = Watch::of(filter.policies().files(), begun, limits.policy.watch);
        let stop = CancellationToken::new();
        let under_way = Arc::new(UnderWay::new(limits.mta.answer));
        let pulses = open.pulses().chain(lanes.pulses()).collect();
        let known = Arc::clone(&under_way);
        let health = Health::new(pulses, move || known.is_overdue());
        #[cfg(feature = "metrics")]
        let (figures, hears) = telling.figures();
        #[cfg(not(feature = "metrics"))]
        let hears = None;
        let (sender, judge) = watch::channel(Watched::of(filter, &under_way, &hears));
        #[cfg(feature = "metrics")]
        let telling = match figures {
            Some(figures) => telling.serve(OfFilter::new(figures, judge.clone(), &health, &limits), &limits, &stop),
            None => telling,
        };
        let sending = tokio::spawn(send_owed(judge.clone(), stop.clone(), Arc::clone(&locks)));
        let looking = tokio::spawn(look_at_keys(judge.clone(), limits.keyring.watch, stop.clone()));
        let reception = Reception::open(judge, limits, stop.clone());
        let serving = tokio::spawn(open.serve(reception, lanes));
        let stop = stop.drop_guard();
        Ok(Running {
            doors,
            hears,
            #[cfg(feature = "metrics")]
            telling,
            sender,
            under_way,
            health,
            listening,
            watch,
            stop,
            serving,
            looking,
            sending,
            locks,
        })
    }

    /// The places where it listens, with the ports that the system chose.
    pub fn listening(&self) -> &[Listen] {
        &self.listening
    }

    /// The places where figures are to be had.
    #[cfg(feature = "metrics")]
    pub fn telling(&self) -> &[Listen] {
        self.telling.places()
    }

    /// Whether it serves, for a watchdog.
    pub fn health(&self) -> Arc<Health> {
        Arc::clone(&self.health)
    }

    /// Takes another configuration, as a whole or not at all. The next message is treated by it; the door stays as it is. It
    /// may be dropped: then the old configuration stays.
    ///
    /// # Errors
    /// The new configuration cannot be taken: the old one stays in force.
    pub async fn reload(&mut self, config: Config) -> Result<(), Error> {
        if let Some(changed) = self.doors.changed(&config) {
            tracing::warn!("{changed}");
        }
        #[cfg(feature = "metrics")]
        self.telling.warn_of(&config);
        #[cfg(feature = "hooks")]
        let fresh = self.doors.credentials(&config.hooks);
        let (old, begun) = (Arc::clone(&self.sender.borrow()), SystemTime::now());
        check_free(&self.locks, &config)?;
        let filter = daemon::apart(async move { old.reload(config).await }).await??;
        // The lock of the state_dir in force is held, so for the same one nothing fails any more.
        lock(&self.locks, filter.config())?;
        #[cfg(feature = "hooks")]
        self.doors.take(&fresh);
        announce(&filter);
        self.watch.goes_on_with(filter.policies().files(), begun);
        self.sender.send_replace(Watched::of(filter, &self.under_way, &self.hears));
        Ok(())
    }

    /// The configuration in force.
    pub fn config(&self) -> Config {
        self.sender.borrow().config().clone()
    }

    /// Waits until a component file has changed and rests; with `policy.watch` off for ever. The log names it. What follows is a
    /// [`Running::reload`] with the configuration in force: its file is not looked at. It may be dropped.
    pub async fn changed(&mut self) {
        if !self.sender.borrow().config().policy.watch {
            std::future::pending::<()>().await;
        }
        let files = self.watch.changed().await;
        let names: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
        tracing::info!("policy.watch: changed, and read again: {}", names.join(", "));
    }

    /// Ends it: messages in flight get their answer, and what is kept is closed.
    ///
    /// # Errors
    /// A part of it panicked.
    pub async fn stop(self) -> Result<(), Error> {
        // No connection is accepted any more, but messages in flight still go on.
        self.health.stops_taking();
        drop(self.stop);
        self.serving.await?;
        self.looking.await?;
        // No message is in flight any more, so nothing can come after what is written here.
        for custody in self.sending.await? {
            custody.close().await;
        }
        let last = Arc::clone(&self.sender.borrow());
        last.close_keys().await;
        Ok(())
    }
}

/// Whether another filter has the directory: then nothing in it is changed. [`lock`] is what counts.
fn check_free(locks: &Mutex<Locks>, config: &Config) -> Result<(), Error> {
    let dir = &config.state_dir.0;
    let ours = || locks.lock().unwrap_or_else(PoisonError::into_inner).contains_key(dir);
    if config.final_domains.is_empty() || ours() {
        return Ok(());
    }
    // What is wrong with the file otherwise, `lock` says.
    let Ok(file) = File::open(dir.join(LOCK)) else { return Ok(()) };
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => Err(Error::Taken(dir.clone())),
        _ => Ok(()),
    }
}

/// Locks the directory for this filter until it ends, since two filters on one outbox would each send what is owed.
fn lock(locks: &Mutex<Locks>, config: &Config) -> Result<(), Error> {
    let mut locks = locks.lock().unwrap_or_else(PoisonError::into_inner);
    let dir = &config.state_dir.0;
    if config.final_domains.is_empty() || locks.contains_key(dir) {
        return Ok(());
    }
    let path = dir.join(LOCK);
    let failed = |source: std::io::Error| Error::Lock { path: path.clone(), source };
    let file =
        files::open_with(&path, File::options().create(true).append(true).mode(0o600)).map_err(|e| failed(e.into()))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(Error::Taken(dir.clone())),
        Err(TryLockError::Error(e)) => return Err(failed(e)),
    }
    locks.insert(dir.clone(), file);
    Ok(())
}

/// Sends what custody owes, and goes over to another custody when a reload brings one; returns what is to be closed at the
/// end. A custody from before a reload stays open while messages that began with it are in flight.
async fn send_owed(
    mut judge: watch::Receiver<Arc<Watched<Filter>>>,
    stop: CancellationToken,
    _locks: Arc<Mutex<Locks>>,
) -> Vec<Arc<Custody>> {
    let mut former: Vec<Arc<Custody>> = Vec::new();
    loop {
        let custody = judge.borrow_and_update().custody().cloned();
        let until = stop.child_token();
        let sending = async {
            match &custody {
                Some(custody) => custody.run(until.clone()).await,
                None => until.cancelled().await,
            }
        };
        tokio::pin!(sending);
        let changed = async {
            loop {
                if judge.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
                let same = match (judge.borrow().custody(), &custody) {
                    (Some(new), Some(old)) => Arc::ptr_eq(new, old),
                    (None, None) => true,
                    _ => false,
                };
                if !same {
                    return;
                }
            }
        };
        tokio::select! {
            () = &mut sending => {}
            () = changed => {
                until.cancel();
                sending.await;
            }
        }
        let (unused, used) = former.into_iter().partition(|custody| Arc::strong_count(custody) == 1);
        former = used;
        for custody in unused {
            custody.close().await;
        }
        former.extend(custody.clone());
        if stop.is_cancelled() {
            // A reload may have come in the same moment.
            former.extend(judge.borrow().custody().cloned());
            return former;
        }
    }
}

/// Looks at the keyring at the start and at intervals, by the snapshot in force.
async fn look_at_keys(judge: watch::Receiver<Arc<Watched<Filter>>>, every: Duration, stop: CancellationToken) {
    loop {
        let filter = Arc::clone(&judge.borrow());
        tokio::select! {
            () = filter.look_at_keys() => {}
            () = stop.cancelled() => return,
        }
        drop(filter);
        tokio::select! {
            () = tokio::time::sleep(every) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// Logs what is in force, at the start and after each reload.
fn announce(filter: &Filter) {
    let config = filter.config();
    for policy in filter.policies().list() {
        tracing::info!("{policy}");
    }
    if let Some((id, origin, digest)) = filter.policies().reader_of_rules() {
        tracing::info!("users' own rules: read by {id} ({origin}, sha256 {digest:.12}…)");
    }
    for (role, place) in [("learned from", &config.keyring.learn), ("put into", &config.keyring.stamp)] {
        match place {
            Where::All(false) => {}
            Where::All(true) => tracing::info!("keys are {role} the mail of every daemon"),
            Where::Daemons(names) => tracing::info!("keys are {role} the mail of {}", names.join(", ")),
        }
    }
    for warning in config.warnings().into_iter().filter(|warning| warning.concerns() != Concern::Authority) {
        match warning {
            Warning::NoFinalDomains => {
                tracing::warn!("final_domains is empty: nothing is examined or changed, since this may be a relay");
            }
            Warning::Observing if config.final_domains.is_empty() => {}
            Warning::Observing => tracing::info!(
                "observe = true: incoming mail loses its keys and gets the status field, nothing else is done to it"
            ),
            other => tracing::warn!("{other}"),
        }
    }
    for warning in filter.policies().warnings() {
        tracing::warn!("{warning}");
    }
}
