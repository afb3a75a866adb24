//! The console as it runs: started, reloaded, stopped.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use addrauth::config::{Config, Limits, Listen};
use addrauth::custody;
use addrauth::mta::listen::{self, Listener, Places};
use addrauth::outbox::{self, Letters};
use addrauth::policy::Trial;
use addrauth::store;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::desk::{Desk, Verbs};
use crate::{door, entry, mail};

/// How often what is over is forgotten.
const SWEEP: Duration = Duration::from_secs(600);

/// Why the console does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A place cannot be bound.
    #[error(transparent)]
    Listen(#[from] listen::Error),
    /// A database cannot be opened.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// No mail can be sent as `[notices]` says.
    #[error("console.url is set, and no mail can be sent: {0}")]
    Mail(#[from] outbox::Error),
    /// The secret of the marks cannot be read.
    #[error(transparent)]
    Mark(#[from] custody::Error),
    /// There is no secret of the marks.
    #[error("console.url is set, and there is no mark.key in state_dir: `addrauth filter` makes it when it starts")]
    NoMark,
    /// Nothing is listened on.
    #[error("console.listen and console.trusted_proxy are empty: write a place, such as inet:127.0.0.1:8894")]
    Nowhere,
}

/// What a console is started with.
#[derive(Debug)]
pub struct Start {
    /// The configuration.
    pub config: Config,
    /// The bounds.
    pub limits: Arc<Limits>,
    /// How components are tried.
    pub trial: Trial,
    /// How verbs of the program are run; absent: the pages that need one say so.
    pub verbs: Option<Verbs>,
}

/// A console that runs.
pub struct Running {
    desk: Arc<Desk>,
    places: Vec<Listen>,
    stop: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Running").field("places", &self.places).finish_non_exhaustive()
    }
}

impl Running {
    /// Opens what is there, and listens.
    ///
    /// # Errors
    /// Nothing is served then.
    pub async fn start(start: Start) -> Result<Running, Error> {
        let Start { config, limits, trial, verbs } = start;
        let section = config.console.clone();
        let letters = if section.url.is_empty() {
            None
        } else {
            let mark = custody::read_mark(&config.state_dir.0)?.ok_or(Error::NoMark)?;
            Some(Letters::open(&config, &limits, mark)?)
        };
        if section.listen.is_empty() && section.trusted_proxy.is_empty() {
            return Err(Error::Nowhere);
        }
        let bind = |listen: &[Listen]| Listener::bind(Places { section: "console", listen, group: &section.group });
        let mut listeners: Vec<(Listener, bool)> = bind(&section.listen)?.into_iter().map(|one| (one, false)).collect();
        listeners.extend(bind(&section.trusted_proxy)?.into_iter().map(|one| (one, true)));
        let places = listeners.iter().map(|(listener, _)| listener.local()).collect();
        let desk = Desk::open(config, limits, (trial, verbs), letters).await?;
        let stop = CancellationToken::new();
        let serving = tokio::spawn(door::serve(listeners, entry::router(&desk), Arc::clone(&desk), stop.clone()));
        let sweeping = tokio::spawn(sweep(Arc::clone(&desk), stop.clone()));
        let mailing = tokio::spawn(digests(Arc::clone(&desk), stop.clone()));
        Ok(Running { desk, places, stop, tasks: vec![serving, sweeping, mailing] })
    }

    /// Where it listens, with the ports that the system chose; those of proxies last.
    pub fn listening(&self) -> &[Listen] {
        &self.places
    }

    /// Takes another configuration; where it listens, and how mail is sent, stays as it was.
    pub async fn reload(&self, config: Config) {
        self.desk.reload(config).await;
    }

    /// Waits until an act has edited the configuration: then it is to be read again.
    pub async fn edited(&self) {
        self.desk.edited.notified().await;
    }

    /// Mails each user now what is newly kept back for him; how many mails went out.
    pub async fn mail_digests(&self, now: SystemTime) -> usize {
        mail::digests(&self.desk, now).await.unwrap_or_else(|fault| {
            fault.log();
            0
        })
    }

    /// Lets requests under way come to their end, and closes.
    pub async fn stop(self) {
        self.stop.cancel();
        for task in self.tasks {
            // A task that panicked has said so.
            let _ = task.await;
        }
        self.desk.close().await;
    }
}

async fn sweep(desk: Arc<Desk>, stop: CancellationToken) {
    loop {
        let (now, bounds) = (SystemTime::now(), &desk.limits.console);
        let before = |span: Duration| now.checked_sub(span).unwrap_or(SystemTime::UNIX_EPOCH);
        let swept = desk.register.sweep(now, before(bounds.session_idle), before(bounds.acts_kept)).await;
        if let Err(fault) = swept {
            tracing::warn!("what is over is not forgotten: {fault}");
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(SWEEP) => {}
        }
    }
}

async fn digests(desk: Arc<Desk>, stop: CancellationToken) {
    loop {
        let every = desk.current().config.console.digest;
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(if every.is_zero() { SWEEP } else { every }) => {}
        }
        if every.is_zero() {
            continue;
        }
        if let Err(fault) = mail::digests(&desk, SystemTime::now()).await {
            fault.log();
        }
    }
}
