//! `addrauth filter`: the milter in the foreground.

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::daemon::apart;
use super::daemon::notify::Supervisor;
use super::daemon::settings::Settings;
use super::daemon::signals::{Signals, Wish};
use super::daemon::watchdog::{self, UnderWay, Watched};
use super::{Context, exit, fail};
use crate::config::{Config, Limits, Where};
use crate::custody::Custody;
use crate::files;
use crate::filter::Filter;
use crate::mta::milter::{self, Listener};

/// Run the milter that examines incoming mail.
///
/// Without a configuration it listens on 127.0.0.1:8891, knows no domain of its own and changes nothing. SIGHUP reads the
/// configuration and the policy components again, all together or, on an error, not at all; a file that is gone, empty or cut,
/// or takes all of final_domains or the line observe = false away, is an error. SIGTERM ends it cleanly: messages in flight get their answer first.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs until SIGTERM or SIGINT.
pub async fn run(_: Args, context: &Context, signals: Signals) -> ExitCode {
    match filter(context, signals).await {
        Ok(()) => exit::YES,
        Err(error) => fail(error),
    }
}

async fn filter(context: &Context, mut signals: Signals) -> Result<(), Failure> {
    let supervisor = Supervisor::from_environment();
    let limits = Arc::new(Limits::default());
    let (mut settings, filter) = tokio::select! {
        biased;
        name = signals.stop() => {
            tracing::info!("{name} came before the start was over");
            return Ok(());
        }
        opened = apart(open(context.clone(), Arc::clone(&limits))) => opened??,
    };
    let config = settings.config.clone();
    let mut locks = BTreeMap::new();
    lock(&mut locks, &config)?;
    let listeners = Listener::bind(&config.milter)?;
    for listener in &listeners {
        tracing::info!("listening on {}", listener.local());
    }
    announce(&filter);
    let stop = CancellationToken::new();
    let under_way = Arc::new(UnderWay::new(limits.milter_answer));
    let pulses = listeners.iter().map(Listener::pulse).collect();
    let (sender, judge) = watch::channel(Watched::new(filter, &under_way));
    let sending = tokio::spawn(send_owed(judge.clone(), stop.clone()));
    let looking = tokio::spawn(look_at_keys(judge.clone(), limits.key_watch, stop.clone()));
    let door = tokio::spawn(milter::serve(listeners, judge, limits, stop.clone()));
    let feeding = tokio::spawn(watchdog::feed(supervisor.clone(), pulses, Arc::clone(&under_way)));
    supervisor.ready().await;
    while let Wish::Reload = signals.next().await {
        supervisor.reloading().await;
        let old = Arc::clone(&sender.borrow());
        let new = tokio::select! {
            biased;
            _ = signals.stop() => break,
            new = apart(renew(context.clone(), settings.clone(), old)) => new,
        };
        // The lock of the state_dir in force is held, so for the same one nothing fails any more.
        let new = new.unwrap_or_else(|e| Err(e.into()));
        match new.and_then(|(next, filter)| {
            lock(&mut locks, &next.config)?;
            Ok((next, filter))
        }) {
            Ok((next, filter)) => {
                if next.config.milter != config.milter {
                    tracing::warn!("the [milter] section changed: restart to listen elsewhere");
                }
                let weaker = settings.weaker(&next);
                settings = next;
                take_over(&sender, Watched::new(filter, &under_way), &weaker);
            }
            Err(error) => tracing::error!("not reloaded, the old configuration stays in force: {error}"),
        }
        supervisor.ready().await;
    }
    tracing::info!("stopping: messages in flight get their answer");
    supervisor.stopping().await;
    // Nobody accepts any more, but messages in flight are still to go on.
    feeding.abort();
    let feeding = tokio::spawn(watchdog::feed(supervisor, Vec::new(), under_way));
    stop.cancel();
    door.await?;
    looking.await?;
    // Now that no message is in flight, nothing comes behind what is written here.
    for custody in sending.await? {
        custody.close().await;
    }
    let last = Arc::clone(&sender.borrow());
    last.close_keys().await;
    feeding.abort();
    Ok(())
}

/// Why the filter does not start, or is not reloaded.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// What counts at the start.
async fn open(context: Context, limits: Arc<Limits>) -> Result<(Settings, Filter), Failure> {
    let settings = Settings::read(&context)?;
    let filter = Filter::open(settings.config.clone(), limits, super::trial()).await?;
    Ok((settings, filter))
}

/// What counts after a reload: all of it new or, on an error, nothing.
async fn renew(context: Context, settings: Settings, old: Arc<Watched<Filter>>) -> Result<(Settings, Filter), Failure> {
    let next = settings.next(&context)?;
    let filter = old.reload(next.config.clone()).await?;
    Ok((next, filter))
}

/// From the next message on this snapshot counts; `weaker` is what it does no longer.
fn take_over(sender: &watch::Sender<Arc<Watched<Filter>>>, filter: Arc<Watched<Filter>>, weaker: &[String]) {
    announce(&filter);
    if !weaker.is_empty() {
        tracing::warn!("the reload takes away what was in force before: {}", weaker.join("; "));
    }
    sender.send_replace(filter);
    tracing::info!("reloaded: the next message is treated by the new configuration");
}

/// Two filters on one outbox would each send what is owed: the directory is this one's until it ends.
fn lock(locks: &mut BTreeMap<PathBuf, File>, config: &Config) -> Result<(), String> {
    let dir = &config.state_dir.0;
    if config.final_domains.is_empty() || locks.contains_key(dir) {
        return Ok(());
    }
    let path = dir.join("filter.lock");
    let failed = |e: std::io::Error| format!("cannot use {}: {e}", path.display());
    let file =
        files::open_with(&path, File::options().create(true).append(true).mode(0o600)).map_err(|e| failed(e.into()))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(format!(
                "another filter runs with state_dir {}: stop it first, or give this one a directory of its own",
                dir.display()
            ));
        }
        Err(TryLockError::Error(e)) => return Err(failed(e)),
    }
    locks.insert(dir.clone(), file);
    Ok(())
}

/// Sends what custody owes, and follows the snapshot when a reload brings another custody; returns what is to be closed at
/// the end. A custody of before a reload stays open while messages that began with it are in flight.
async fn send_owed(mut judge: watch::Receiver<Arc<Watched<Filter>>>, stop: CancellationToken) -> Vec<Arc<Custody>> {
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

/// Looks at the keyring at the start and every so often, by the snapshot that is in force.
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

/// Says what is in force, at the start and after each reload.
fn announce(filter: &Filter) {
    let config = filter.config();
    for policy in filter.policies().list() {
        tracing::info!("{policy}");
    }
    for (role, place) in [("learned from", &config.keyring.learn), ("put into", &config.keyring.stamp)] {
        match place {
            Where::All(false) => {}
            Where::All(true) => tracing::info!("keys are {role} the mail of every daemon"),
            Where::Daemons(names) => tracing::info!("keys are {role} the mail of {}", names.join(", ")),
        }
    }
    if let Some(warning) = super::config::host_name(config) {
        tracing::warn!("{warning}");
    }
    if config.final_domains.is_empty() {
        tracing::warn!("final_domains is empty: nothing is examined or changed, since this may be a relay");
    } else if config.observe.0 {
        tracing::info!(
            "observe = true: incoming mail loses its keys and gets the status field, nothing else is done to it"
        );
    }
}
