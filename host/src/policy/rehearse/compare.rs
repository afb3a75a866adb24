//! What changes where one policy takes the place of another.

use std::collections::HashMap;
use std::time::Instant;

use super::Answers;
use super::case_text::{CaseText, case_text};
use super::merged::{Merged, merge};
use super::order::Change;
use super::probe::fitted;
use super::samples::Samples;
use super::space::{Extent, Space, TooWide};
use super::subject::{Answer, Subject};
use super::table::{sentence, used, words};
use crate::config::Limits;

/// All that changes.
#[derive(Debug, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Comparison {
    /// The facts that matter.
    pub columns: Vec<String>,
    /// The changes, the looser ones first.
    pub changes: Vec<Changed>,
    /// For each kind of change how many of the combinations it is; those of no change are the rest.
    pub counts: Vec<(Change, usize)>,
    /// What was gone through.
    pub extent: Extent,
    /// Combinations that there was no time for.
    pub unasked: usize,
    /// Whether there are more merged rows than are told.
    pub cut: bool,
    /// How long it took, in milliseconds.
    pub milliseconds: f64,
}

/// A row in which the two differ.
#[derive(Debug, serde::Serialize)]
pub struct Changed {
    /// How.
    pub change: Change,
    /// The facts in a sentence.
    pub when: String,
    /// For each column the words of its values; none: whatever it is.
    pub facts: Vec<Option<String>>,
    /// What the old one decides.
    pub old: String,
    /// What the new one decides.
    pub new: String,
    /// How many combinations the row stands for.
    pub combinations: usize,
    /// One of them as a case, with what the new one decides.
    pub example: CaseText,
}

/// What old and new answer, each pair of answers once.
struct Pairs {
    /// The pairs, with what changes; absent where an answer is.
    told: Vec<Option<(Answer, Answer, Option<Change>)>>,
    /// The pair of each row; absent where there was no time for it.
    of_row: Vec<Option<u32>>,
}

impl Pairs {
    fn of(before: &Answers, after: &Answers, rows: usize) -> Pairs {
        let mut numbers: HashMap<(u32, u32), u32> = HashMap::new();
        let mut pairs: Vec<(u32, u32)> = Vec::new();
        let mut of_row = Vec::with_capacity(rows);
        for row in 0..rows {
            of_row.push(before.number(row).zip(after.number(row)).map(|pair| {
                let next = u32::try_from(pairs.len()).unwrap_or(u32::MAX);
                *numbers.entry(pair).or_insert_with(|| {
                    pairs.push(pair);
                    next
                })
            }));
        }
        let answer = |answers: &Answers, number: u32| answers.distinct.get(usize::try_from(number).ok()?).cloned();
        let told = pairs.into_iter().map(|(one, other)| {
            let (one, other) = (answer(before, one)?, answer(after, other)?);
            let change = Change::between(&one, &other);
            Some((one, other, change))
        });
        Pairs { told: told.collect(), of_row }
    }
}

/// The rows that a merged row stands for.
#[derive(Clone, Default)]
struct Found {
    first: Option<usize>,
    rows: usize,
}

impl Comparison {
    /// Why there may be more that changes, or changes otherwise; none: these are all changes, or all for these samples.
    pub fn doubt(&self) -> Option<String> {
        match self.unasked {
            0 => self.extent.doubt(),
            rows => Some(format!("{rows} combinations were not asked about in time")),
        }
    }
}

/// How many rows are which change, and for each merged row those that it stands for.
fn gone_through(
    space: &Space,
    merged: &[Merged],
    kind: &dyn Fn(usize) -> Option<(u32, Change)>,
) -> (HashMap<Change, usize>, Vec<Found>) {
    let (mut counts, mut found) = (HashMap::new(), vec![Found::default(); merged.len()]);
    let mut of_number: HashMap<u32, Vec<usize>> = HashMap::new();
    for (place, row) in merged.iter().enumerate() {
        of_number.entry(row.answer).or_default().push(place);
    }
    for row in 0..space.len() {
        let Some((number, kind)) = kind(row) else { continue };
        *counts.entry(kind).or_default() += 1;
        let Some(places) = of_number.get_mut(&number) else { continue };
        let holds = |place: &usize| merged.get(*place).is_some_and(|merged| merged.holds(space.row(row)));
        if let Some(at) = places.iter().position(holds) {
            // Rows that lie beside each other mostly belong to the same.
            places.swap(0, at);
            if let Some(found) = places.first().and_then(|place| found.get_mut(*place)) {
                found.first.get_or_insert(row);
                found.rows += 1;
            }
        }
    }
    (counts, found)
}

/// Compares two subjects over all facts.
///
/// # Errors
/// There are too many combinations of facts.
pub fn compare(old: &Subject, new: &Subject, more: &Samples, limits: &Limits) -> Result<Comparison, TooWide> {
    let begin = Instant::now();
    let space = fitted(&[old, new], more, &super::nothing(), limits)?;
    let (before, after) = (space.ask(old, limits), space.ask(new, limits));
    let Pairs { told, of_row } = Pairs::of(&before, &after, space.len());
    // What does not change is one answer, whatever it is.
    let same = u32::try_from(told.len()).unwrap_or(u32::MAX);
    let change = |number: u32| usize::try_from(number).ok().and_then(|number| told.get(number)?.as_ref()?.2);
    let number = |row: usize| {
        let number = of_row.get(row).copied().flatten()?;
        Some(if change(number).is_some() { number } else { same })
    };
    let (merged, cut) = merge(&space, &number, told.len() + 1, limits.policy.merged);
    let merged: Vec<Merged> = merged.into_iter().filter(|row| row.answer != same).collect();
    let kind = |row: usize| number(row).and_then(|number| Some((number, change(number)?)));
    let (counts, found) = gone_through(&space, &merged, &kind);
    let changed = |(row, found): (&Merged, &Found)| {
        let (one, other, change) = told.get(usize::try_from(row.answer).ok()?)?.clone()?;
        Some(Changed {
            change: change?,
            when: sentence(&space, row),
            facts: words(&space, &merged, row),
            old: one.words(),
            new: other.words(),
            combinations: found.rows,
            example: case_text(new, &space.written(found.first?, new), &other),
        })
    };
    let mut changes: Vec<Changed> = merged.iter().zip(&found).filter_map(changed).collect();
    let rank = |change: Change| Change::ALL.iter().position(|known| *known == change);
    changes.sort_by_key(|changed| (rank(changed.change), std::cmp::Reverse(changed.combinations)));
    Ok(Comparison {
        columns: used(&space, &merged).map(|(_, word)| word.to_owned()).collect(),
        changes,
        counts: Change::ALL.into_iter().filter_map(|change| Some((change, *counts.get(&change)?))).collect(),
        extent: space.extent(),
        unasked: before.unasked() + after.unasked(),
        cut,
        milliseconds: begin.elapsed().as_secs_f64() * 1_000.0,
    })
}
