//! Which rows of a policy's table its cases reach.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::case_text::{CaseText, case_text};
use super::cases::{Case, Messages, Suite};
use super::space::{Extent, TooWide};
use super::subject::Subject;
use super::table::{Table, sentence};
use super::{Component, Undecided};
use crate::config::Limits;

/// The coverage under one choice of settings.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Covered {
    /// The settings that differ from the defaults, as TOML; empty: none.
    pub settings: String,
    /// Merged rows of the table.
    pub rows: usize,
    /// The rows that no case reaches, each with a case that would.
    pub missing: Vec<Uncovered>,
    /// What the table holds.
    pub extent: Extent,
    /// Names of cases whose facts the filter never finds together: they reach no row.
    pub impossible: Vec<String>,
    /// Names of cases of which it could not be told which row they reach: their message cannot be read, or they name constants that
    /// there was no room for.
    pub untold: Vec<String>,
    /// Whether there are more merged rows than are counted.
    pub cut: bool,
    /// Combinations that there was no time for.
    pub unasked: usize,
}

/// Why no coverage can be told.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Uncountable {
    /// A table has too many rows.
    #[error("{0}")]
    Wide(#[from] TooWide),
    /// It takes none of the settings, so it has no table.
    #[error(
        "there is no table whose rows could be counted, since no settings are taken: {0}. Set them with --set NAME=VALUE, or in cases"
    )]
    Settings(Undecided),
}

/// A row that no case reaches.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Uncovered {
    /// The row in a sentence.
    pub when: String,
    /// A case that would reach it: what it expects is what the policy decides now.
    pub case: CaseText,
}

impl Covered {
    /// Rows that cases reach.
    pub fn reached(&self) -> usize {
        self.rows.saturating_sub(self.missing.len())
    }

    /// Whether the rows are all that are to be reached.
    pub fn is_whole(&self) -> bool {
        !self.cut && self.unasked == 0 && self.rows > 0
    }
}

/// What cases reach.
struct Reached {
    rows: Vec<bool>,
    impossible: Vec<String>,
    untold: Vec<String>,
}

/// Which rows of the table these cases reach.
fn reached<'a>(
    table: &Table,
    subject: &Subject,
    cases: impl Iterator<Item = &'a Case>,
    path: &Path,
    messages: &Messages<'_>,
) -> Reached {
    let mut reached = Reached { rows: vec![false; table.merged.len()], impossible: Vec::new(), untold: Vec::new() };
    for case in cases {
        let facts = case.facts(path, messages).ok().and_then(|facts| facts.facts(subject.wanted()).ok());
        match facts.and_then(|facts| table.space.place(&facts)) {
            Some(row) if table.space.is_possible(&row) => {
                for (reached, merged) in reached.rows.iter_mut().zip(&table.merged) {
                    *reached |= merged.holds(&row);
                }
            }
            Some(_) => reached.impossible.push(case.name.clone()),
            None => reached.untold.push(case.name.clone()),
        }
    }
    reached
}

/// These settings, and each other choice of settings that a case makes.
fn choices<'a>(
    given: &BTreeMap<String, toml::Value>,
    cases: impl Iterator<Item = &'a Case>,
) -> Vec<BTreeMap<String, toml::Value>> {
    let mut choices = vec![given.clone()];
    for case in cases {
        let settings = case.settings(given);
        if !choices.contains(&settings) {
            choices.push(settings);
        }
    }
    choices
}

/// The coverage of the cases of a component: under `given`, and under each other choice of settings that a case makes and the
/// component takes.
///
/// # Errors
/// See [`Uncountable`].
pub fn coverage(
    suite: Option<&Suite>,
    component: &Arc<Component>,
    given: &BTreeMap<String, toml::Value>,
    messages: &Messages<'_>,
    limits: &Limits,
) -> Result<Vec<Covered>, Uncountable> {
    let cases = || suite.into_iter().flat_map(|suite| &suite.cases);
    let choices = choices(given, cases());
    let samples = suite.map(|suite| suite.samples(component, given, messages)).unwrap_or_default();
    let mut covered: Vec<(serde_json::Value, Covered)> = Vec::new();
    let mut refused = None;
    for choice in choices {
        let settings = component.fit(&choice).map_err(Undecided::Settings);
        let subject = match settings.and_then(|settings| component.under("policy", settings)) {
            Ok(subject) => subject,
            // What is refused decides nothing.
            Err(why) => {
                refused.get_or_insert(why);
                continue;
            }
        };
        let settings = subject.settings_json();
        // A default that is written out is the same choice.
        if covered.iter().any(|(known, _)| *known == settings) {
            continue;
        }
        let table = Table::of(&subject, &samples, limits)?;
        let here = |case: &&Case| {
            let fitted = component.fit(&case.settings(given)).ok();
            fitted.is_some_and(|fitted| component.settings_json(&fitted) == settings)
        };
        let path = suite.map_or("".as_ref(), |suite| suite.path.as_path());
        let Reached { rows, impossible, untold } = reached(&table, &subject, cases().filter(here), path, messages);
        let missing = table.merged.iter().zip(&rows).filter(|(_, reached)| !**reached);
        let missing = missing.filter_map(|(merged, _)| {
            let row = (0..table.space.len()).find(|row| merged.holds(table.space.row(*row)))?;
            let case = case_text(&subject, &table.space.written(row, &subject), table.answers.of_row(row)?);
            Some(Uncovered { when: sentence(&table.space, merged), case })
        });
        let changed = subject.settings_changed();
        let text = if changed.is_empty() { String::new() } else { toml::Value::Table(changed).to_string() };
        let one = Covered {
            settings: text,
            rows: table.merged.len(),
            missing: missing.collect(),
            extent: table.extent(),
            impossible,
            untold,
            cut: table.cut,
            unasked: table.unasked(),
        };
        covered.push((settings, one));
    }
    if let (true, Some(why)) = (covered.is_empty(), refused) {
        return Err(Uncountable::Settings(why));
    }
    Ok(covered.into_iter().map(|(_, covered)| covered).collect())
}
