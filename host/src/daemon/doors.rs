//! The doors of one filter: bound together, and served side by side by one reception.

use std::path::PathBuf;
use std::sync::Arc;

use crate::config::{Config, Hooks, Listen, Lmtp, Milter};
#[cfg(feature = "hooks")]
use crate::mta::hooks::{self, Access, BadCredential, Setting};
use crate::mta::listen::{self, Listener};
#[cfg(feature = "lmtp")]
use crate::mta::lmtp;
use crate::mta::reception::Reception;
use crate::mta::{Judge, Lanes, milter};
use crate::pulse::Pulse;
#[cfg(feature = "hooks")]
use crate::{store, tls};

/// Why the doors cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A place cannot be listened on.
    #[error(transparent)]
    Listen(#[from] listen::Error),
    /// A credential cannot be read.
    #[cfg(feature = "hooks")]
    #[error(transparent)]
    Secret(#[from] store::Error),
    /// A file holds no credential.
    #[cfg(feature = "hooks")]
    #[error("{}: {source}", path.display())]
    Credential {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: BadCredential,
    },
    /// The certificate cannot be used.
    #[cfg(feature = "hooks")]
    #[error(transparent)]
    Tls(#[from] tls::Error),
    /// This program was built without the door.
    #[error("{0}.listen is set, and this program was built without the feature `{0}`")]
    NotBuilt(&'static str),
}

/// The sections of the configuration that name places to listen.
#[derive(Clone, Debug)]
pub(super) struct Doors {
    milter: Milter,
    hooks: Hooks,
    lmtp: Lmtp,
    /// `state_dir`, where the filter has one.
    state: Option<PathBuf>,
    /// The credentials that count now.
    #[cfg(feature = "hooks")]
    access: Access,
    #[cfg(feature = "lmtp")]
    delivery: Option<lmtp::Settings>,
}

/// The doors with their listeners.
pub(super) struct Open {
    milter: Vec<Listener>,
    #[cfg(feature = "hooks")]
    hooks: Option<(Vec<Listener>, Setting)>,
    #[cfg(feature = "lmtp")]
    lmtp: Option<(Vec<Listener>, lmtp::Settings)>,
}

impl Doors {
    pub(super) fn of(config: &Config) -> Doors {
        Doors {
            milter: config.milter.clone(),
            hooks: config.hooks.clone(),
            lmtp: config.lmtp.clone(),
            #[cfg(feature = "hooks")]
            access: Access::default(),
            state: (!config.final_domains.is_empty()).then(|| config.state_dir.0.clone()),
            #[cfg(feature = "lmtp")]
            delivery: lmtp::Settings::of(config),
        }
    }

    /// Whether no mail server could connect.
    pub(super) fn are_shut(&self) -> bool {
        self.milter.listen.is_empty() && !self.hooks.is_open() && self.lmtp.listen.is_empty()
    }

    /// What of another configuration counts after a restart alone.
    pub(super) fn changed(&self, config: &Config) -> Option<&'static str> {
        let is_kept = self.hooks.is_open() || !self.lmtp.listen.is_empty();
        let changed = [
            (config.milter != self.milter, "the [milter] section changed: restart to listen elsewhere"),
            (
                !is_but_for_credentials(&config.hooks, &self.hooks),
                "the [hooks] section changed: restart, and it counts",
            ),
            (config.lmtp != self.lmtp, "the [lmtp] section changed: restart to listen, or to deliver, elsewhere"),
            (
                is_kept && Doors::of(config).state != self.state,
                "state_dir changed: restart, since what [hooks] and [lmtp] keep stays in the old one until then",
            ),
        ];
        changed.into_iter().find(|(changed, _)| *changed).map(|(_, said)| said)
    }

    /// Reads what the doors need, and binds every place.
    pub(super) fn open(&self) -> Result<Open, Error> {
        #[cfg(feature = "hooks")]
        let hooks = match self.hooks.is_open() {
            true => {
                let read = setting(&self.hooks, self.state.clone())?;
                self.access.replace(&read.access);
                Some((hooks::bind(&self.hooks)?, Setting { access: self.access.clone(), ..read }))
            }
            false => None,
        };
        #[cfg(not(feature = "hooks"))]
        if self.hooks.is_open() {
            return Err(Error::NotBuilt("hooks"));
        }
        #[cfg(feature = "lmtp")]
        let lmtp = match &self.delivery {
            Some(settings) => Some((lmtp::bind(&self.lmtp)?, settings.clone())),
            None => None,
        };
        #[cfg(not(feature = "lmtp"))]
        if !self.lmtp.listen.is_empty() {
            return Err(Error::NotBuilt("lmtp"));
        }
        Ok(Open {
            milter: milter::bind(&self.milter)?,
            #[cfg(feature = "hooks")]
            hooks,
            #[cfg(feature = "lmtp")]
            lmtp,
        })
    }
}

/// Whether two sections differ in the files of credentials at most.
fn is_but_for_credentials(one: &Hooks, other: &Hooks) -> bool {
    let bare = |hooks: &Hooks| Hooks { tokens: Vec::new(), basic: Vec::new(), ..hooks.clone() };
    bare(one) == bare(other)
}

/// Credentials that were read and do not count yet.
#[cfg(feature = "hooks")]
pub(super) struct Fresh(Option<Access>);

#[cfg(feature = "hooks")]
impl Doors {
    /// Reads the files of credentials again; those in force stay where one of them cannot be read. Where the section names other places, which count after a restart, so do its
    /// credentials: they may be none, since the new places are reached by this host alone.
    pub(super) fn credentials(&self, hooks: &Hooks) -> Fresh {
        let is_same = self.hooks.is_open() && is_but_for_credentials(hooks, &self.hooks);
        let read = is_same.then(|| access(hooks)).transpose();
        Fresh(read.unwrap_or_else(|fault| {
            tracing::error!("[hooks]: the credentials from before stay in force: {fault}");
            None
        }))
    }

    /// From now on these count.
    pub(super) fn take(&self, Fresh(fresh): &Fresh) {
        if let Some(fresh) = fresh {
            self.access.replace(fresh);
        }
    }
}

#[cfg(feature = "hooks")]
fn access(hooks: &Hooks) -> Result<Access, Error> {
    let access = Access::default();
    for path in &hooks.tokens {
        let wrong = |source| Error::Credential { path: path.clone(), source };
        access.token(&store::read_secret_line(path)?).map_err(wrong)?;
    }
    for path in &hooks.basic {
        let wrong = |source| Error::Credential { path: path.clone(), source };
        access.basic(&store::read_secret_line(path)?).map_err(wrong)?;
    }
    Ok(access)
}

/// What the door of MTA Hooks needs beside its listeners, read from the files that `[hooks]` names; `state` is the directory where
/// it keeps its own.
///
/// # Errors
/// See [`Error`].
#[cfg(feature = "hooks")]
pub fn setting(hooks: &Hooks, state: Option<PathBuf>) -> Result<Setting, Error> {
    let access = access(hooks)?;
    let tls = hooks.tls.is_on().then(|| tls::Acceptor::http(&hooks.tls)).transpose()?;
    Ok(Setting { dialects: hooks.dialects.clone(), access, tls, state })
}

impl Open {
    fn listeners(&self) -> impl Iterator<Item = &Listener> {
        let listeners = self.milter.iter();
        #[cfg(feature = "hooks")]
        let listeners = listeners.chain(self.hooks.iter().flat_map(|(listeners, _)| listeners));
        #[cfg(feature = "lmtp")]
        let listeners = listeners.chain(self.lmtp.iter().flat_map(|(listeners, _)| listeners));
        listeners
    }

    /// The places, with the ports that the system chose.
    pub(super) fn listening(&self) -> Vec<Listen> {
        self.listeners().map(Listener::local).collect()
    }

    /// What tells whether connections are waited for.
    pub(super) fn pulses(&self) -> impl Iterator<Item = Arc<Pulse>> {
        self.listeners().map(Listener::pulse)
    }

    /// Serves all doors until the reception closes. One without a place has nothing to serve, and would close the reception.
    pub(super) async fn serve<J: Judge>(self, reception: Arc<Reception<J>>, lanes: Lanes) {
        let by_milter = async {
            if !self.milter.is_empty() {
                milter::serve(self.milter, Arc::clone(&reception), lanes.clone()).await;
            }
        };
        #[cfg(feature = "hooks")]
        let by_hooks = async {
            if let Some((listeners, setting)) = self.hooks {
                hooks::serve(listeners, setting, Arc::clone(&reception), lanes.clone()).await;
            }
        };
        #[cfg(not(feature = "hooks"))]
        let by_hooks = async {};
        #[cfg(feature = "lmtp")]
        let by_lmtp = async {
            if let Some((listeners, settings)) = self.lmtp {
                lmtp::serve(listeners, Arc::clone(&reception), lanes.clone(), settings).await;
            }
        };
        #[cfg(not(feature = "lmtp"))]
        let by_lmtp = async {};
        tokio::join!(by_milter, by_hooks, by_lmtp);
    }
}
