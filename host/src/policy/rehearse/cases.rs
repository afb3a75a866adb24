//! The cases beside a policy: facts and settings in, the decision that must follow. One grammar for all verbs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use toml::Spanned;

use super::super::Proposal;
use super::samples::Samples;
use super::{Component, Undecided, WrittenFacts};
use crate::case::{Disposition, Notify};

/// The cases of one file.
#[derive(Debug)]
pub struct Suite {
    /// Where they stand.
    pub path: PathBuf,
    /// The cases, in their order.
    pub cases: Vec<Case>,
}

/// One case.
#[derive(Clone, Debug)]
pub struct Case {
    /// Its name.
    pub name: String,
    /// The line of the name.
    pub line: usize,
    /// The facts, or a message to take them from.
    pub given: Given,
    /// The settings that differ from the defaults.
    pub settings: BTreeMap<String, toml::Value>,
    /// What must follow.
    pub expect: Expected,
    /// The line where that stands.
    pub expect_line: usize,
}

/// What a case gives.
#[derive(Clone, Debug)]
pub enum Given {
    /// Facts, written down.
    Facts(Box<WrittenFacts>),
    /// A message in a file, with the facts that do not stand in it.
    Message {
        /// The file, as it is named relative to the cases.
        file: PathBuf,
        /// The result, its reason, the claim and whatever else is not to be had from the message.
        facts: Box<WrittenFacts>,
    },
}

/// What a case expects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    /// A decision; its words where they are given.
    Decision(Disposition, Notify, Option<String>),
    /// The settings are refused, with this among the words.
    Refused(String),
    /// The component fails, with this among the words.
    Fault(String),
}

/// Why cases cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}:{line}: {text}", path.display())]
pub struct BadCases {
    /// The file.
    pub path: PathBuf,
    /// The line.
    pub line: usize,
    /// What is wrong, and the way out.
    pub text: String,
}

/// How a case went.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Ran {
    /// Its name.
    pub case: String,
    /// The file.
    pub file: PathBuf,
    /// The line of its name.
    pub line: usize,
    /// The line of what it expects.
    pub expect_line: usize,
    /// Whether what followed was expected.
    pub passed: bool,
    /// What it expects, in words.
    pub expected: String,
    /// What followed, in words.
    pub actual: String,
    /// What is wrong with the case itself, such as a fact that the policy never sees.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wrong: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    case: Vec<Spanned<RawCase>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCase {
    name: Spanned<String>,
    facts: WrittenFacts,
    #[serde(default)]
    message: Option<PathBuf>,
    #[serde(default)]
    settings: BTreeMap<String, toml::Value>,
    expect: Spanned<RawExpected>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawExpected {
    disposition: Option<String>,
    #[serde(default)]
    notify: Vec<String>,
    reason: Option<String>,
    refused: Option<String>,
    fault: Option<String>,
}

/// Reads a message that a case names: its facts are those of the message and those given.
pub type Messages<'a> = dyn Fn(&Path, &WrittenFacts) -> Result<WrittenFacts, String> + 'a;

impl Suite {
    /// Reads cases.
    ///
    /// # Errors
    /// With the line: no TOML, an unknown key, a word that is none, two cases of one name, or no case at all.
    pub fn read(text: &str, path: &Path) -> Result<Suite, BadCases> {
        let bad = |at: usize, said: String| BadCases { path: path.to_owned(), line: line_of(text, at), text: said };
        let file: File = toml::from_str(text).map_err(|e| {
            let at = e.span().map_or(0, |span| span.start);
            bad(at, e.message().to_owned())
        })?;
        let mut cases: Vec<Case> = Vec::new();
        for raw in file.case {
            let RawCase { name, facts, message, settings, expect } = raw.into_inner();
            let (at, expect_at) = (name.span().start, expect.span().start);
            let name = name.into_inner();
            if let Some(twin) = cases.iter().find(|case| case.name == name) {
                return Err(bad(at, format!("line {} has a case of the same name", twin.line)));
            }
            let (line, expect_line) = (line_of(text, at), line_of(text, expect_at));
            let expect = expected(expect.into_inner()).map_err(|text| bad(expect_at, text))?;
            facts.check().map_err(|text| bad(at, text))?;
            let facts = Box::new(facts);
            let given = match message {
                Some(file) => Given::Message { file, facts },
                None => Given::Facts(facts),
            };
            cases.push(Case { name, line, given, settings, expect, expect_line });
        }
        if cases.is_empty() {
            return Err(bad(
                0,
                "there is no [[case]] in it: `addrauth policy test --coverage` prints some to begin with".into(),
            ));
        }
        Ok(Suite { path: path.to_owned(), cases })
    }

    /// The constants that the cases name, as a component sees them that has these settings beside those of each case.
    pub fn samples(
        &self,
        component: &Component,
        given: &BTreeMap<String, toml::Value>,
        messages: &Messages<'_>,
    ) -> Samples {
        let mut samples = Samples::default();
        for case in &self.cases {
            let wanted = component.fit(&case.settings(given)).ok().and_then(|settings| component.check(&settings).ok());
            let facts = case.facts(&self.path, messages);
            if let (Some(wanted), Ok(facts)) = (wanted, facts)
                && let Ok(facts) = facts.facts(&wanted.0)
            {
                samples.tell(&facts, &wanted.0);
            }
        }
        samples
    }

    /// Runs the cases; `given` are settings for those that a case does not name.
    pub fn run(
        &self,
        component: &Arc<Component>,
        given: &BTreeMap<String, toml::Value>,
        messages: &Messages<'_>,
    ) -> Vec<Ran> {
        let ran = |case: &Case| {
            let actual = case.decide(&self.path, component, given, messages);
            let (wrong, passed) = match &actual {
                Err(Undecided::Facts(text)) => (Some(text.clone()), false),
                actual => (None, case.expect.is_met(actual)),
            };
            Ran {
                case: case.name.clone(),
                file: self.path.clone(),
                line: case.line,
                expect_line: case.expect_line,
                passed,
                expected: case.expect.words(),
                actual: actual.map_or_else(|other| other.to_string(), |proposal| proposal.to_string()),
                wrong,
            }
        };
        self.cases.iter().map(ran).collect()
    }
}

impl Case {
    /// Its settings, and those given for the others.
    pub(super) fn settings(&self, given: &BTreeMap<String, toml::Value>) -> BTreeMap<String, toml::Value> {
        let mut settings = given.clone();
        settings.extend(self.settings.clone());
        settings
    }

    /// Its facts, those of a message too.
    pub(super) fn facts(&self, path: &Path, messages: &Messages<'_>) -> Result<WrittenFacts, String> {
        match &self.given {
            Given::Facts(facts) => Ok((**facts).clone()),
            Given::Message { file, facts } => {
                let file = path.parent().map_or_else(|| file.clone(), |dir| dir.join(file));
                messages(&file, facts)
            }
        }
    }

    fn decide(
        &self,
        path: &Path,
        component: &Component,
        given: &BTreeMap<String, toml::Value>,
        messages: &Messages<'_>,
    ) -> Result<Proposal, Undecided> {
        let settings = component.fit(&self.settings(given)).map_err(Undecided::Settings)?;
        let wanted = component.check(&settings)?;
        if let Given::Facts(facts) = &self.given
            && let Some(fact) = facts.beyond(&wanted.0)
        {
            return Err(Undecided::Facts(format!(
                "it gives `{fact}`, which the policy does not see under these settings: take it out, or the case tests nothing"
            )));
        }
        let facts = self.facts(path, messages).map_err(Undecided::Facts)?;
        component.decide(&facts, &settings, &wanted)
    }
}

impl Expected {
    fn is_met(&self, actual: &Result<Proposal, Undecided>) -> bool {
        match (self, actual) {
            (Expected::Decision(disposition, notify, reason), Ok(proposal)) => {
                (*disposition, *notify) == (proposal.disposition, proposal.notify)
                    && reason.as_ref().is_none_or(|reason| *reason == proposal.reason)
            }
            (Expected::Refused(words), Err(Undecided::Settings(text))) => text.contains(words),
            (Expected::Fault(words), Err(Undecided::Fault(text))) => text.contains(words),
            _ => false,
        }
    }

    /// The same in the words of a decision.
    pub fn words(&self) -> String {
        match self {
            Expected::Decision(disposition, notify, reason) => {
                let reason = reason.clone().unwrap_or_default();
                Proposal { disposition: *disposition, notify: *notify, reason }.to_string()
            }
            Expected::Refused(words) => format!("refused: {words}"),
            Expected::Fault(words) => format!("fault: {words}"),
        }
    }
}

fn expected(raw: RawExpected) -> Result<Expected, String> {
    let RawExpected { disposition, notify, reason, refused, fault } = raw;
    let way = "write disposition = \"accept\", \"mark\", \"quarantine\", \"reject\" or \"defer\", or refused = \"…\" with words of \
               what the settings are refused with, or fault = \"…\"";
    let alone = notify.is_empty() && reason.is_none();
    match (disposition, refused, fault) {
        (Some(word), None, None) => {
            let disposition = match word.as_str() {
                "accept" => Disposition::Accept,
                "mark" => Disposition::Mark,
                "quarantine" => Disposition::Quarantine,
                "reject" => Disposition::Reject,
                "defer" => Disposition::Defer,
                other => return Err(format!("`{other}` is no disposition: {way}")),
            };
            let mut told = Notify::default();
            for word in notify {
                match word.as_str() {
                    "sender" => told.sender = true,
                    "recipient" => told.recipient = true,
                    other => return Err(format!("`{other}` is nobody to tell: write \"sender\" or \"recipient\"")),
                }
            }
            Ok(Expected::Decision(disposition, told, reason))
        }
        (None, Some(words), None) if alone => Ok(Expected::Refused(words)),
        (None, None, Some(words)) if alone => Ok(Expected::Fault(words)),
        _ => Err(format!("it expects several things at once, or nothing: {way}")),
    }
}

/// The line of an octet of a text, the first being 1.
fn line_of(text: &str, at: usize) -> usize {
    text.as_bytes().iter().take(at).filter(|octet| **octet == b'\n').count() + 1
}
