//! A component outside of any configuration: what it says of itself, and what it decides on facts that somebody wrote down.
//! What the commands of policy authors stand on.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::sandbox::contract::{self, Description, Value, Wants};
use super::sandbox::{Guest, Sandbox};
pub use super::written_facts::WrittenFacts;
use super::{Fault, Proposal, Refused, Trial, facts, printable, shelf, shipped, written_facts};
use crate::case::{By, Decision, Found, KeyStatus, Mail, MarkAs, Why, restrained};
use crate::config::{Limits, Size};

mod answers;
mod axis;
mod case_text;
mod cases;
mod clause;
mod compare;
mod constants;
mod coverage;
mod exact;
mod findings;
mod locate;
mod merged;
mod nearest;
mod order;
mod phrase;
mod probe;
mod property;
mod replay;
mod rule_line;
mod samples;
mod space;
mod speed;
mod subject;
mod table;
#[cfg(test)]
mod tests;
mod wording;

use answers::Answers;
pub use case_text::CaseText;
pub use cases::{BadCases, Case, Expected, Given, Messages, Ran, Suite};
pub use clause::{Clause, Malformed};
pub use compare::{Changed, Comparison, compare};
pub use coverage::{Covered, Uncountable, Uncovered, coverage};
pub use findings::{Finding, Odd, odd};
pub use locate::{Located, Lost, cases_of, locate, locate_id, locate_path, locate_shipped};
pub use nearest::{Flip, Reasons, reasons};
pub use order::{Change, badness};
pub use property::{Counterexample, Outcome, Proof, Property, Relation, prove, relate};
pub use replay::{Moved, Replay, Report};
pub use samples::Samples;
pub use space::{Extent, TooWide, can_be, reasons_of};
pub use speed::{Speed, speed};
pub use subject::{Answer, Subject};
pub use table::{Row, Table};

/// Facts that nobody names.
fn nothing() -> contract::Wanted {
    contract::Wanted { facts: Wants::empty(), headers: Vec::new() }
}

/// Reads a component file, and no more of it than a component may have.
///
/// # Errors
/// It cannot be read, is no plain file, or is larger than `limits.policy.file`.
pub fn read(path: &Path, limits: &Limits) -> Result<Vec<u8>, super::Error> {
    shelf::read(path, limits)
}

/// Whether a word may be the id of a policy.
///
/// # Errors
/// It may not.
pub fn check_id(id: &str) -> Result<(), super::Error> {
    shelf::check_id(id)
}

impl WrittenFacts {
    /// The result and its reason.
    pub fn result(&self) -> (KeyStatus, Option<Why>) {
        let (status, why) = self.status();
        (subject::result(status), why.map(subject::reason))
    }
}

/// The facts that a policy is told of a message, for each group of its recipients that cannot be told apart: all facts, and the header
/// fields of these names.
pub fn facts_of(mail: &Mail, found: &Found, headers: &[String]) -> Vec<(WrittenFacts, Vec<usize>)> {
    let wanted = contract::Wanted { facts: Wants::all(), headers: headers.to_vec() };
    let all = (0..mail.recipients.len()).collect();
    let told = facts::gather(mail, found, &wanted, all);
    told.map(|(facts, recipients)| (WrittenFacts::of(&facts, &wanted), recipients)).collect()
}

/// The decision that the filter would make of a proposal, its own restraint included, as if the policy were bound for these
/// recipients. `policy` is its id and digest; then the facts and the settings.
pub fn decision(
    proposal: &Proposal,
    policy: (&str, &str),
    found: &Found,
    (facts, settings): (serde_json::Value, serde_json::Value),
    recipients: Vec<usize>,
) -> Decision {
    let notify = restrained(found.status, found.why, proposal.disposition, proposal.notify);
    Decision {
        recipients,
        by: By::Site,
        mark: MarkAs::Header,
        policy: policy.0.to_owned(),
        digest: policy.1.to_owned(),
        disposition: proposal.disposition,
        notify,
        reason: proposal.reason.clone(),
        fault: None,
        clamped: (notify != proposal.notify).then(|| super::HELD_BACK.to_owned()),
        passed_over: None,
        rules_unread: None,
        shadow: None,
        facts,
        settings,
    }
}

/// Where components are rehearsed: one sandbox for as many as are looked at.
pub struct Stage {
    sandbox: Arc<Sandbox>,
}

/// A component that is loaded to be rehearsed.
pub struct Component {
    sandbox: Arc<Sandbox>,
    guest: Arc<Guest>,
    description: Description,
    /// Whether it is the `rules` that ship: how they read their text is known.
    is_rules: bool,
    /// Settings that its cases need not name.
    assumed: BTreeMap<String, toml::Value>,
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

    /// Loads a component of class small, after its trial, and asks what it is.
    ///
    /// # Errors
    /// See [`Unfit`].
    pub fn load(&self, octets: &[u8], trial: &Trial) -> Result<Component, Unfit> {
        self.load_as(octets, Size::Small, trial)
    }

    /// Loads a component of this class, after its trial, and asks what it is.
    ///
    /// # Errors
    /// See [`Unfit`].
    pub fn load_as(&self, octets: &[u8], size: Size, trial: &Trial) -> Result<Component, Unfit> {
        let guest = trial.load(&self.sandbox, octets, size).map_err(Unfit::Refused)?;
        let fault = |fault| Unfit::Fault { during: "describe", fault };
        let description = shelf::patiently(|| self.sandbox.describe(&guest)).map_err(fault)?;
        if let Some(wanted) = shelf::patiently(|| self.sandbox.wanted_always(&guest)).map_err(fault)? {
            shelf::check_wanted("policy", &wanted, self.sandbox.limits()).map_err(Unfit::Asks)?;
        }
        let is_rules = shipped::rules() == Some(octets);
        let (sandbox, assumed) = (Arc::clone(&self.sandbox), BTreeMap::new());
        Ok(Component { sandbox, guest: Arc::new(guest), description, is_rules, assumed })
    }
}

impl Component {
    /// One that is loaded as a policy.
    pub(super) fn of(sandbox: &Arc<Sandbox>, policy: &shelf::Shelved) -> Component {
        let (guest, description) = (Arc::clone(&policy.guest), policy.description.clone());
        let is_rules = subject::is_shipped_rules(policy);
        Component { sandbox: Arc::clone(sandbox), guest, description, is_rules, assumed: BTreeMap::new() }
    }

    /// The contract that it speaks.
    pub fn contract(&self) -> &'static str {
        self.guest.interface()
    }

    /// The newest contract, where it speaks an older one.
    pub fn is_older(&self) -> Option<&'static str> {
        self.guest.newer()
    }

    /// Its class.
    pub fn size(&self) -> Size {
        self.guest.size()
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
        let said = shelf::patiently(|| self.sandbox.check_settings(&self.guest, &settings.0));
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
        let decided = shelf::patiently(|| self.sandbox.decide(&self.guest, &facts, &settings.0));
        let decided = decided.map_err(|fault| Undecided::Fault(fault.to_string()))?;
        Ok(Proposal::of(&decided, self.sandbox.limits()))
    }

    /// What it decides where nothing but the result is known.
    ///
    /// # Errors
    /// The component fails.
    pub fn decide_bare(&self, status: KeyStatus, settings: &Settings) -> Result<Proposal, Undecided> {
        self.proposal(&contract::Facts::of(facts::contract_status(status)), settings)
    }

    /// Settings by name.
    pub fn settings_json(&self, settings: &Settings) -> serde_json::Value {
        written_facts::settings(&self.description, &settings.0)
    }

    /// The same component where its cases stand beside these settings, and need not name them.
    #[must_use]
    pub fn assuming(self, settings: BTreeMap<String, toml::Value>) -> Component {
        Component { assumed: settings, ..self }
    }

    /// The settings that differ from those that cases need not name, the defaults among them, as a case names them.
    pub fn changed(&self, settings: &Settings) -> toml::Table {
        let assumed = self.fit(&self.assumed).ok();
        let assumed = |place: usize, setting: &contract::Setting| match &assumed {
            Some(assumed) => assumed.0.get(place).cloned(),
            None => setting.kind.default_value(),
        };
        let pairs = self.description.settings.iter().zip(&settings.0).enumerate();
        let changed = pairs.filter(|(place, (setting, value))| assumed(*place, setting).as_ref() != Some(*value));
        changed
            .filter_map(|(_, (setting, value))| Some((setting.name.clone(), toml::Value::try_from(value.json()).ok()?)))
            .collect()
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
