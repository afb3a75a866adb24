//! A component outside of any configuration: what it says of itself, and what it decides on facts that somebody wrote down.
//! What the commands of policy authors stand on.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::sandbox::contract::{self, Description, Value};
use super::sandbox::{Guest, Sandbox};
pub use super::written_facts::WrittenFacts;
use super::{Fault, Proposal, Refused, Trial, facts, printable, shelf};
use crate::case::KeyStatus;
use crate::config::Limits;

/// Reads a component file, and no more of it than a component may have.
///
/// # Errors
/// It cannot be read, is no plain file, or is larger than `limits.policy.file`.
pub fn read(path: &Path, limits: &Limits) -> Result<Vec<u8>, super::Error> {
    shelf::read(path, limits)
}

/// Where components are rehearsed: one sandbox for as many as are looked at.
pub struct Stage {
    sandbox: Arc<Sandbox>,
}

/// A component that is loaded to be rehearsed.
pub struct Component {
    sandbox: Arc<Sandbox>,
    guest: Guest,
    description: Description,
}

/// Why a component cannot be rehearsed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Unfit {
    /// It is no policy, or cannot be loaded.
    #[error("is refused: {0}")]
    Refused(Refused),
    /// It asks for what no policy may see, whatever its settings.
    #[error("is refused: {0}")]
    Asks(super::Error),
    /// Its own function failed.
    #[error("its {during} {fault}")]
    Fault {
        /// The function.
        during: &'static str,
        /// What happened.
        fault: Fault,
    },
}

/// A setting that a component declares; its words are made safe.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
#[non_exhaustive]
pub struct Setting {
    /// The name in the configuration.
    pub name: String,
    /// What its values are: a text, a number, …
    pub kind: &'static str,
    /// The value where none is set; null: it must be set.
    pub default: serde_json::Value,
    /// What it does.
    pub summary: String,
}

/// Values for all settings of a component.
pub struct Settings(Vec<Value>);

/// What a component wants to see under some settings.
pub struct Wanted(contract::Wanted);

/// Why there is no decision.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Undecided {
    /// What was written is no fact.
    #[error("{0}")]
    Facts(String),
    /// The settings are not the component's, or it does not take them.
    #[error("refused: {0}")]
    Settings(String),
    /// It wants what no policy may see.
    #[error("{0}")]
    Wants(String),
    /// The component failed.
    #[error("fault: {0}")]
    Fault(String),
}

impl Wanted {
    /// The facts besides the result, by their words.
    pub fn facts(&self) -> Vec<&'static str> {
        self.0.facts.words()
    }

    /// The names of header fields.
    pub fn headers(&self) -> &[String] {
        &self.0.headers
    }

    /// Whether it is the result alone, so that a table holds all that the component decides.
    pub fn is_nothing(&self) -> bool {
        self.0.is_nothing()
    }
}

impl Stage {
    /// Sets up a sandbox.
    ///
    /// # Errors
    /// Threads or address space are missing.
    pub fn new(limits: &Arc<Limits>) -> Result<Stage, Refused> {
        Ok(Stage { sandbox: Arc::new(Sandbox::new(limits)?) })
    }

    /// Loads a component, after its trial, and asks what it is.
    ///
    /// # Errors
    /// See [`Unfit`].
    pub fn load(&self, octets: &[u8], trial: &Trial) -> Result<Component, Unfit> {
        let guest = trial.load(&self.sandbox, octets).map_err(Unfit::Refused)?;
        let fault = |fault| Unfit::Fault { during: "describe", fault };
        let description = self.sandbox.describe(&guest).map_err(fault)?;
        if let Some(wanted) = self.sandbox.wanted_always(&guest).map_err(fault)? {
            shelf::check_wanted("policy", &wanted, self.sandbox.limits()).map_err(Unfit::Asks)?;
        }
        Ok(Component { sandbox: Arc::clone(&self.sandbox), guest, description })
    }
}

impl Component {
    /// The contract that it speaks.
    pub fn contract(&self) -> &'static str {
        self.guest.interface()
    }

    /// What it calls itself.
    pub fn name(&self) -> String {
        self.line(&self.description.name)
    }

    /// Its version.
    pub fn version(&self) -> String {
        self.line(&self.description.version)
    }

    /// Its own line about itself.
    pub fn summary(&self) -> String {
        self.line(&self.description.summary)
    }

    /// The settings that it declares.
    pub fn settings(&self) -> Vec<Setting> {
        let setting = |setting: &contract::Setting| Setting {
            name: self.line(&setting.name),
            kind: setting.kind.word(),
            default: setting.kind.default_value().map_or(serde_json::Value::Null, |value| value.json()),
            summary: self.line(&setting.summary),
        };
        self.description.settings.iter().map(setting).collect()
    }

    /// The values of a configuration with the defaults filled in.
    ///
    /// # Errors
    /// One is missing, unknown or of another type: in words for the administrator.
    pub fn fit(&self, given: &BTreeMap<String, toml::Value>) -> Result<Settings, String> {
        shelf::fit(&self.description, given).map(Settings)
    }

    /// What the component wants to see under these settings.
    ///
    /// # Errors
    /// It does not take them, in its own words made safe; it wants what no policy may see; or it fails.
    pub fn check(&self, settings: &Settings) -> Result<Wanted, Undecided> {
        let said = self.sandbox.check_settings(&self.guest, &settings.0);
        let said = said.map_err(|fault| Undecided::Fault(format!("check-settings {fault}")))?;
        let wanted = said.map_err(|text| Undecided::Settings(self.line(&text)))?;
        let limits = self.sandbox.limits();
        shelf::check_wanted("policy", &wanted, limits).map_err(|e| Undecided::Wants(e.to_string()))?;
        Ok(Wanted(wanted))
    }

    /// What it decides on these facts, of which it sees those that it wants under these settings.
    ///
    /// # Errors
    /// What was written is no fact, or the component fails.
    pub fn decide(&self, written: &WrittenFacts, settings: &Settings, wanted: &Wanted) -> Result<Proposal, Undecided> {
        let facts = written.facts(&wanted.0).map_err(Undecided::Facts)?;
        self.proposal(&facts, settings)
    }

    /// What it decides where nothing but the result is known.
    ///
    /// # Errors
    /// The component fails.
    pub fn decide_bare(&self, status: KeyStatus, settings: &Settings) -> Result<Proposal, Undecided> {
        self.proposal(&contract::Facts::of(facts::contract_status(status)), settings)
    }

    fn proposal(&self, facts: &contract::Facts, settings: &Settings) -> Result<Proposal, Undecided> {
        let decided = self.sandbox.decide(&self.guest, facts, &settings.0);
        let decided = decided.map_err(|fault| Undecided::Fault(fault.to_string()))?;
        Ok(Proposal::of(&decided, self.sandbox.limits()))
    }

    fn line(&self, text: &str) -> String {
        printable(text, self.sandbox.limits().policy.text)
    }
}
