//! Which rows of a policy's table its cases reach.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::Component;
use super::case_text::{CaseText, case_text};
use super::cases::{Case, Messages, Suite};
use super::space::{Extent, TooWide};
use super::subject::Subject;
use super::table::{Table, sentence};
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
}

/// Which rows of the table these cases reach, and the names of those whose facts the filter never finds together.
fn reached<'a>(
    table: &Table,
    subject: &Subject,
    cases: impl Iterator<Item = &'a Case>,
    path: &Path,
    messages: &Messages<'_>,
) -> (Vec<bool>, Vec<String>) {
    let (mut reached, mut impossible) = (vec![false; table.merged.len()], Vec::new());
    for case in cases {
        let facts = case.facts(path, messages).ok().and_then(|facts| facts.facts(subject.wanted()).ok());
        let place = facts.and_then(|facts| table.space.place(&facts)).filter(|row| table.space.is_possible(row));
        match place {
            Some(row) => {
                for (reached, merged) in reached.iter_mut().zip(&table.merged) {
                    *reached |= merged.holds(&row);
                }
            }
            None => impossible.push(case.name.clone()),
        }
    }
    (reached, impossible)
}

/// The coverage of the cases of a component: under `given`, and under each other choice of settings that a case makes and the
/// component takes.
///
/// # Errors
/// A table has too many combinations of facts.
pub fn coverage(
    suite: Option<&Suite>,
    component: &Arc<Component>,
    given: &BTreeMap<String, toml::Value>,
    messages: &Messages<'_>,
    limits: &Limits,
) -> Result<Vec<Covered>, TooWide> {
    let cases = || suite.into_iter().flat_map(|suite| &suite.cases);
    let mut choices = vec![given.clone()];
    for case in cases() {
        let settings = case.settings(given);
        if !choices.contains(&settings) {
            choices.push(settings);
        }
    }
    let samples = suite.map(|suite| suite.samples(component, given, messages)).unwrap_or_default();
    let mut covered: Vec<(serde_json::Value, Covered)> = Vec::new();
    for choice in choices {
        let subject = component.fit(&choice).ok().and_then(|settings| component.under("policy", settings).ok());
        // What is refused decides nothing.
        let Some(subject) = subject else { continue };
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
        let (reached, impossible) = reached(&table, &subject, cases().filter(here), path, messages);
        let missing = table.merged.iter().zip(&reached).filter(|(_, reached)| !**reached);
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
        };
        covered.push((settings, one));
    }
    Ok(covered.into_iter().map(|(_, covered)| covered).collect())
}
