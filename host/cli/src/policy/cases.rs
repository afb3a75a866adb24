//! `addrauth policy test`: runs a policy's cases in the sandbox.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Error;
use addrauth::config::Limits;
use addrauth::policy::rehearse::{self, Component, Stage, Undecided, WrittenFacts};
use addrauth::policy::{Proposal, Trial};

/// The file of cases beside a policy.
pub(super) const CASES_FILE: &str = "cases.toml";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Cases {
    case: Vec<Case>,
}

/// One case: facts and settings, and the decision that must follow.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    facts: WrittenFacts,
    #[serde(default)]
    settings: BTreeMap<String, toml::Value>,
    expect: Expected,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    disposition: String,
    #[serde(default)]
    notify: Vec<String>,
    /// Not compared where it is left out.
    reason: Option<String>,
}

/// How one case went.
#[derive(Debug, Serialize)]
pub(super) struct Outcome {
    policy: String,
    case: String,
    passed: bool,
    expected: String,
    actual: String,
}

impl Outcome {
    /// Whether the decision was the expected one.
    pub(super) fn passed(&self) -> bool {
        self.passed
    }
}

/// Runs the cases of these components; false where one fails.
pub(super) fn run(paths: &[PathBuf], json: bool, trial: &Trial) -> Result<bool, Error> {
    let paths = if paths.is_empty() { directories_with(CASES_FILE)? } else { paths.to_vec() };
    if paths.is_empty() {
        return Err(Error::Nothing);
    }
    let mut outcomes = Vec::new();
    for path in &paths {
        let (component, cases) = files(path);
        if path.is_dir() && !there(&component)? {
            return Err(Error::NotBuilt { path: component });
        }
        let octets = rehearse::read(&component, &Limits::default())?;
        outcomes.extend(run_one(&component, &octets, &cases, trial)?);
    }
    if json {
        println!("{}", serde_json::to_string_pretty(&outcomes).unwrap_or_default());
    } else {
        print(&outcomes);
    }
    Ok(outcomes.iter().all(Outcome::passed))
}

/// Whether there is such a file; not to be allowed to look is an error.
fn there(path: &Path) -> Result<bool, Error> {
    addrauth::files::is_there(path).map_err(|e| Error::Read { path: path.to_owned(), source: e.into() })
}

/// Runs the cases of one file against one component.
pub(super) fn run_one(component: &Path, octets: &[u8], cases: &Path, trial: &Trial) -> Result<Vec<Outcome>, Error> {
    let text = addrauth::files::read_text(cases, Limits::default().policy.cases_octets)
        .map_err(|e| Error::Read { path: cases.to_owned(), source: e.into() })?;
    let syntax = |text: String| Error::Syntax { path: cases.to_owned(), text };
    let Cases { case } = toml::from_str(&text).map_err(|e| syntax(e.to_string()))?;
    let stage = Stage::new(&Arc::new(Limits::default())).map_err(Error::Setup)?;
    let loaded = stage.load(octets, trial).map_err(|why| Error::Unfit { path: component.to_owned(), why })?;
    let name = component.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let outcome = |case: Case| {
        let expected = case.expect.words();
        let actual = decide(&loaded, &case, cases)?;
        let same = match &case.expect.reason {
            Some(reason) => actual == format!("{expected}: {reason}"),
            None => actual == expected || actual.starts_with(&format!("{expected}: ")),
        };
        let expected = match case.expect.reason {
            Some(reason) => format!("{expected}: {reason}"),
            None => expected,
        };
        Ok(Outcome { policy: name.clone(), case: case.name, passed: same, expected, actual })
    };
    case.into_iter().map(outcome).collect()
}

/// What the policy decides, in the words of [`Expected::words`] and its reason; or how it fails.
fn decide(component: &Component, case: &Case, path: &Path) -> Result<String, Error> {
    let decided = || {
        let settings = component.fit(&case.settings).map_err(Undecided::Settings)?;
        let wanted = component.check(&settings)?;
        component.decide(&case.facts, &settings, &wanted)
    };
    match decided() {
        Ok(proposal) => Ok(words(&proposal)),
        Err(Undecided::Facts(text)) => {
            Err(Error::Syntax { path: path.to_owned(), text: format!("{}: {text}", case.name) })
        }
        Err(other) => Ok(other.to_string()),
    }
}

/// A decision in words: `reject, tell sender: reason`.
pub(super) fn words(proposal: &Proposal) -> String {
    let disposition = format!("{:?}", proposal.disposition).to_ascii_lowercase();
    let told = [("sender", proposal.notify.sender), ("recipient", proposal.notify.recipient)];
    let notify: Vec<&str> = told.iter().filter(|(_, told)| *told).map(|(word, _)| *word).collect();
    let mut words = phrase(&disposition, &notify);
    if !proposal.reason.is_empty() {
        words += &format!(": {}", proposal.reason);
    }
    words
}

fn phrase(disposition: &str, notify: &[&str]) -> String {
    if notify.is_empty() { disposition.to_owned() } else { format!("{disposition}, tell {}", notify.join(" and ")) }
}

impl Expected {
    fn words(&self) -> String {
        let mut notify: Vec<&str> = self.notify.iter().map(String::as_str).collect();
        notify.sort_unstable_by(|a, b| b.cmp(a));
        phrase(&self.disposition, &notify)
    }
}

/// The component and the cases that a path means: NAME/NAME.wasm and NAME/cases.toml for a directory.
pub(super) fn files(path: &Path) -> (PathBuf, PathBuf) {
    if path.is_dir() {
        let name = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let name = name.file_name().unwrap_or_default().to_string_lossy().into_owned();
        (path.join(format!("{name}.wasm")), path.join(CASES_FILE))
    } else {
        (path.to_owned(), path.with_file_name(CASES_FILE))
    }
}

/// The directories in ./policies that hold such a file, in the order of their names.
pub(super) fn directories_with(file: &str) -> Result<Vec<PathBuf>, Error> {
    let root = Path::new("policies");
    let failed = |source| Error::Read { path: root.to_owned(), source };
    let entries = match std::fs::read_dir(root) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        if path.is_dir() && there(&path.join(file))? {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn print(outcomes: &[Outcome]) {
    for outcome in outcomes {
        println!("{} {}: {}", if outcome.passed { "pass" } else { "FAIL" }, outcome.policy, outcome.case);
        if !outcome.passed {
            println!(
                "  expected: {}\n  actual:   {}",
                outcome.expected,
                addrauth::proto::reply::words(&outcome.actual, 500)
            );
        }
    }
    let failed = outcomes.iter().filter(|outcome| !outcome.passed).count();
    println!("{} passed, {failed} failed", outcomes.len() - failed);
}
