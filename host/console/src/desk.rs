//! What all requests share: databases, policies, and what is counted.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime};

use addrauth::config::{Config, Limits};
use addrauth::outbox::Letters;
use addrauth::policy::{self, Policies, Trial};
use addrauth::store::{self, Act, Ledger, Opening, Register, Summary, is_there};
use tokio::sync::{Mutex, Notify, Semaphore};

use crate::attempts::Attempts;
use crate::fault::Fault;
use crate::post::Post;
use crate::who::Who;

/// What counts since the last start or reload.
pub(crate) struct Current {
    /// The configuration.
    pub(crate) config: Config,
    /// The policies, or why there are none.
    pub(crate) policies: Result<Policies, policy::Error>,
}

/// How verbs of the program are run that have no home in the library: what administrators see of them is what the command line
/// says.
#[derive(Clone, Debug)]
pub struct Verbs {
    /// The program.
    pub program: PathBuf,
    /// What names the configuration.
    pub arguments: Vec<String>,
}

/// What all requests share.
pub(crate) struct Desk {
    pub(crate) limits: Arc<Limits>,
    pub(crate) ledger: Ledger,
    pub(crate) register: Register,
    pub(crate) attempts: Attempts,
    /// Who asks for links by mail, as often as for passwords.
    pub(crate) asked: Attempts,
    /// Room to check passwords, and to wait for that.
    pub(crate) checking: Arc<Semaphore>,
    pub(crate) waiting: Semaphore,
    /// Room for forms and uploads.
    pub(crate) uploads: Arc<Semaphore>,
    pub(crate) post: Option<Post>,
    pub(crate) verbs: Option<Verbs>,
    pub(crate) trial: Trial,
    /// Told where an act has edited the configuration.
    pub(crate) edited: Notify,
    current: RwLock<Arc<Current>>,
    overview: Mutex<Vec<(Duration, Instant, Arc<Summary>)>>,
}

/// Characters of what an act was about, and of what came of it.
const ABOUT: usize = 400;

impl Desk {
    /// Opens what is there.
    ///
    /// # Errors
    /// There is no database of the filter, or one cannot be opened.
    pub(crate) async fn open(
        config: Config,
        limits: Arc<Limits>,
        (trial, verbs): (Trial, Option<Verbs>),
        letters: Option<Letters>,
    ) -> Result<Arc<Desk>, store::Error> {
        let dir = config.state_dir.0.clone();
        // It is not made here: it would belong to whoever looked first.
        let place = dir.join("filter.db");
        if !is_there(&place)? {
            let text = "there is none: `addrauth filter` makes it when it starts. Has it run, and is state_dir right?";
            return Err(store::Error::Open { path: place, text: text.into() });
        }
        let opening = Opening { busy: limits.store.busy_command, readers: 4 };
        let (ledger, register) = (Ledger::open(&dir, opening).await?, Register::open(&dir, opening).await?);
        let bounds = &limits.console;
        let attempts = || Attempts::new(bounds.failures, bounds.failures_in, bounds.failing);
        let (attempts, asked) = (attempts(), attempts());
        let current = Desk::read(config, &limits, &trial).await;
        Ok(Arc::new(Desk {
            ledger,
            register,
            attempts,
            asked,
            checking: Arc::new(Semaphore::new(bounds.checking)),
            waiting: Semaphore::new(bounds.waiting),
            uploads: Arc::new(Semaphore::new(bounds.uploads)),
            post: letters.map(|letters| Post::new(letters, bounds.mails)),
            verbs,
            trial,
            edited: Notify::new(),
            current: RwLock::new(Arc::new(current)),
            overview: Mutex::default(),
            limits,
        }))
    }

    async fn read(config: Config, limits: &Arc<Limits>, trial: &Trial) -> Current {
        let policies = Policies::load_apart(&config.policy, &config.policies, limits, trial).await;
        if let Err(error) = &policies {
            tracing::warn!("policies cannot be shown: {error}");
        }
        Current { config, policies }
    }

    /// Takes another configuration; what is open stays open.
    pub(crate) async fn reload(&self, config: Config) {
        let current = Arc::new(Desk::read(config, &self.limits, &self.trial).await);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = current;
    }

    /// What counts now.
    pub(crate) fn current(&self) -> Arc<Current> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// What was judged how in this time up to now, counted a moment ago at most.
    pub(crate) async fn summary(&self, age: Duration) -> Result<Arc<Summary>, Fault> {
        let mut known = self.overview.lock().await;
        known.retain(|(_, at, _)| at.elapsed() < self.limits.console.overview_age);
        if let Some((.., summary)) = known.iter().find(|(of, ..)| *of == age) {
            return Ok(Arc::clone(summary));
        }
        let mut summary = Summary::default();
        self.ledger.tally(SystemTime::now().checked_sub(age), |tally| summary.add(tally)).await?;
        let summary = Arc::new(summary);
        known.push((age, Instant::now(), Arc::clone(&summary)));
        Ok(summary)
    }

    /// Notes an act, in the log too, before anybody is told that it is done.
    pub(crate) async fn note(&self, who: &Who, source: &str, act: Act) -> Result<(), Fault> {
        let cut = |text: &str| text.chars().take(ABOUT).collect::<String>();
        let act = Act { about: cut(&act.about), outcome: cut(&act.outcome), ..act };
        let act = Act { who: who.name.clone(), role: who.role.word().into(), source: source.to_owned(), ..act };
        tracing::info!(
            who = act.who,
            role = act.role,
            source,
            act = act.act,
            about = act.about,
            outcome = act.outcome,
            "console"
        );
        Ok(self.register.note(act, SystemTime::now()).await?)
    }

    /// Closes the databases.
    pub(crate) async fn close(&self) {
        self.ledger.close().await;
        self.register.close().await;
    }
}

impl Current {
    /// The policies.
    ///
    /// # Errors
    /// They cannot be loaded.
    pub(crate) fn loaded(&self) -> Result<&Policies, Fault> {
        self.policies.as_ref().map_err(|error| Fault::Refused(format!("the policies cannot be loaded: {error}")))
    }
}
