//! All that a subject decides, as few rows as it takes.

use super::answers::Answers;
use super::merged::{Merged, merge};
use super::probe::fitted;
use super::samples::Samples;
use super::space::{Extent, Space, TooWide};
use super::subject::{Answer, Subject};
use crate::config::Limits;

/// All that a subject decides.
pub struct Table {
    pub(super) space: Space,
    pub(super) answers: Answers,
    pub(super) merged: Vec<Merged>,
    /// Whether there are more merged rows than `limits.policy.merged`; they are left out.
    pub cut: bool,
}

/// A row of a table: the facts that it stands for, and what is decided.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Row {
    /// For each column the words of its values; none: whatever it is.
    pub facts: Vec<Option<String>>,
    /// What is decided, in words.
    pub decision: String,
}

impl Table {
    /// The table of a subject; `more` are constants that cases name.
    ///
    /// # Errors
    /// There are too many combinations of facts, even where those that a probe finds alike count as one.
    pub fn of(subject: &Subject, more: &Samples, limits: &Limits) -> Result<Table, TooWide> {
        let space = fitted(&[subject], more, &super::nothing(), limits)?;
        let answers = space.ask(subject, limits);
        let (merged, cut) = merge(&space, &|row| answers.number(row), answers.distinct.len(), limits.policy.merged);
        Ok(Table { space, answers, merged, cut })
    }

    /// The facts that matter: the columns.
    pub fn columns(&self) -> Vec<String> {
        self.used().map(|(_, word)| word.to_owned()).collect()
    }

    fn used(&self) -> impl Iterator<Item = (usize, &str)> {
        used(&self.space, &self.merged)
    }

    /// The rows; each stands for all combinations of the values in its columns.
    pub fn rows(&self) -> Vec<Row> {
        let answer =
            |row: &Merged| usize::try_from(row.answer).ok().and_then(|answer| self.answers.distinct.get(answer));
        let row = |row: &Merged| Row {
            facts: words(&self.space, &self.merged, row),
            decision: answer(row).map(Answer::words).unwrap_or_default(),
        };
        self.merged.iter().map(row).collect()
    }

    /// How much of what there is it holds.
    pub fn extent(&self) -> Extent {
        self.space.extent()
    }

    /// Rows that there was no time for.
    pub fn unasked(&self) -> usize {
        self.answers.unasked()
    }

    /// How long asking took.
    pub fn took(&self) -> std::time::Duration {
        self.answers.took
    }
}

/// The axes that any of these rows names, with their words; the result stands there in any case.
pub(super) fn used<'a>(space: &'a Space, merged: &[Merged]) -> impl Iterator<Item = (usize, &'a str)> {
    let names = |axis: usize| merged.iter().any(|row| row.sets.get(axis).is_some_and(Option::is_some));
    let used: Vec<usize> = (0..space.axes.len()).filter(|axis| *axis == 0 || names(*axis)).collect();
    used.into_iter().filter_map(|axis| Some((axis, space.axes.get(axis)?.kind.word())))
}

/// The words of a merged row, one for each of the axes that any of them names.
pub(super) fn words(space: &Space, merged: &[Merged], row: &Merged) -> Vec<Option<String>> {
    let word = |axis: usize| space.axes.get(axis)?.words(row.sets.get(axis)?.as_ref()?);
    used(space, merged).map(|(axis, _)| word(axis)).collect()
}

/// A merged row in a sentence, such as `result missing, claim all`.
pub(super) fn sentence(space: &Space, row: &Merged) -> String {
    let word = |axis: usize| {
        let set = space.axes.get(axis)?.words(row.sets.get(axis)?.as_ref()?)?;
        Some(format!("{} {set}", space.axes.get(axis)?.kind.word()))
    };
    let words: Vec<String> = (0..space.axes.len()).filter_map(word).collect();
    if words.is_empty() { "any message".into() } else { words.join(", ") }
}
