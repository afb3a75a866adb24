//! A filter made of its parts, each of them given, left out, or opened as the configuration says.

use std::sync::Arc;

use super::rules;
use super::snapshot::{Error, Filter, raise};
use super::steps::Steps;
use crate::config::{Config, Limits};
use crate::custody::Custody;
use crate::keyring::{OwnKeys, RecentWarnings};
use crate::policy::{self, Policies, Trial};
use crate::verify::Verifier;

/// A part of the filter.
enum Part<T> {
    /// As the configuration says.
    Opened,
    Given(T),
    LeftOut,
}

/// A filter before it is opened; see [`Filter::builder`].
pub struct Builder {
    config: Config,
    limits: Arc<Limits>,
    trial: Trial,
    policies: Option<Policies>,
    verifier: Part<Arc<Verifier>>,
    custody: Part<Arc<Custody>>,
}

impl Filter {
    /// A filter as this configuration says. Parts that are given or left out are named before [`Builder::open`].
    ///
    /// `trial` is how a component from a file is tried before it is compiled. A hostile one can take all memory and a processor for
    /// minutes, so going without has to be said ([`Trial::waived`]).
    pub fn builder(config: Config, trial: Trial) -> Builder {
        Builder::new(config, trial)
    }
}

impl Builder {
    fn new(config: Config, trial: Trial) -> Builder {
        Builder { config, limits: Arc::default(), trial, policies: None, verifier: Part::Opened, custody: Part::Opened }
    }

    /// Other bounds than the usual ones.
    pub fn limits(mut self, limits: Arc<Limits>) -> Builder {
        self.limits = limits;
        self
    }

    /// Policies that are loaded already.
    pub fn policies(mut self, policies: Policies) -> Builder {
        self.policies = Some(policies);
        self
    }

    /// A verifier that exists already, such as one shared by several filters.
    pub fn verifier(mut self, verifier: Arc<Verifier>) -> Builder {
        self.verifier = Part::Given(verifier);
        self
    }

    /// No AS is asked: a message with a usable sender, and with a usable key or none, is `unverified`.
    pub fn without_verifier(mut self) -> Builder {
        self.verifier = Part::LeftOut;
        self
    }

    /// A custody that is open already.
    pub fn custody(mut self, custody: Arc<Custody>) -> Builder {
        self.custody = Part::Given(custody);
        self
    }

    /// Nothing is kept: no journal, no quarantine, no notice, no choice of a recipient. A decision that needs any of these is
    /// answered by a deferral.
    pub fn without_custody(mut self) -> Builder {
        self.custody = Part::LeftOut;
        self
    }

    /// Opens what was neither given nor left out. It loads the components, those from files after their trial; opens the
    /// journal unless `final_domains` is empty, and keeps beside it which signed components are in force; and opens the keyring where
    /// `keyring.learn` or `keyring.stamp` needs it. It may be dropped at any moment, and a process that tries a component ends with it.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn open(self) -> Result<Filter, Error> {
        let Builder { config, limits, trial, policies, verifier, custody } = self;
        let rules = rules(&config);
        let policies = match policies {
            Some(policies) => policies,
            None => Policies::load_apart(&config.policy, &config.policies, &limits, &trial).await?,
        };
        let verifier = match verifier {
            Part::Opened => Some(Arc::new(Verifier::new(&config.verify, &rules.hostname, &limits)?)),
            Part::Given(verifier) => Some(verifier),
            Part::LeftOut => None,
        };
        let keeps = !matches!(custody, Part::LeftOut);
        let custody = match custody {
            Part::Opened if config.final_domains.is_empty() => None,
            Part::Opened => Some(Arc::new(Custody::open(&config, &limits).await?)),
            Part::Given(custody) => Some(custody),
            Part::LeftOut => None,
        };
        let own_keys = Arc::new(OwnKeys::open(&config, &limits).await?);
        let warned = Arc::new(RecentWarnings::new(&limits));
        // Last: what did not come into force must not be the floor.
        raise(&config, keeps, &policies).await?.commit().map_err(policy::Error::from)?;
        let steps = Arc::new(Steps::default());
        Ok(Filter { config, limits, verifier, policies, trial, custody, keeps, own_keys, warned, rules, steps })
    }
}
