//! A space too wide to be gone through: values of a fact between which a probe finds no difference count as one.
//!
//! A probe proves nothing, and what rests on it says so. It asks about the facts of cases, about facts that the texts of settings
//! speak of, and about chance rows, of which it keeps some for each answer; it tries all values of each fact in them. Then it holds
//! the answers to such rows against those to the rows that stand for them; where these differ, the value that makes the difference
//! gets a class of its own.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::super::sandbox::contract::Wanted;
use super::answers::patiently;
use super::axis::{Aspect, Axis};
use super::samples::{Samples, Whole};
use super::space::{Space, TooWide};
use super::subject::{Answer, Subject};
use crate::config::Limits;

/// Chance rows among which those are chosen in which each value of a fact is tried, and how many are chosen: the answers that are
/// rare have as many as the others.
const DRAWN: usize = 4_000;
const CONTEXTS: usize = 48;
/// Chance rows that are held against those that stand for them.
const CHECKS: usize = 3_000;
/// Rows of facts that texts speak of: for each line so many at most, and for all of them together.
const OF_LINE: usize = 8;
const OF_LINES: usize = 512;
/// Draws until all facts that a line speaks of can stand together.
const DRAWS: usize = 64;

/// The space of these subjects, with values that are probed alike as one where it would be too wide otherwise.
///
/// # Errors
/// It is too wide even so.
pub(super) fn fitted(subjects: &[&Subject], more: &Samples, named: &Wanted, limits: &Limits) -> Result<Space, TooWide> {
    match Space::over(subjects, more, named, limits) {
        Ok(space) => Ok(space),
        Err(_) => {
            let until = Instant::now() + limits.policy.rehearsal;
            let samples = Space::samples(subjects, more);
            let (axes, wanted) = Space::wide(subjects, more, named, limits);
            let times = subjects.iter().map(|subject| limits.policy.of(subject.size()).time);
            let (time, chance) = (times.max().unwrap_or(limits.policy.time), Chance(0x9e37_79b9_7f4a_7c15));
            let mut probe = Probe { subjects, axes, wanted, chance, time, until, is_late: false };
            let spoken = probe.spoken(&samples);
            probe.classify(named, &spoken);
            probe.check(&spoken);
            if probe.is_late {
                return Err(TooWide::Time(limits.policy.rehearsal));
            }
            Space::of_axes(probe.axes, probe.wanted, limits.policy.rows)
        }
    }
}

struct Probe<'a> {
    subjects: &'a [&'a Subject],
    axes: Vec<Axis>,
    wanted: Wanted,
    chance: Chance,
    /// What a decision may take.
    time: Duration,
    until: Instant,
    /// Whether that moment came before all was asked.
    is_late: bool,
}

/// Numbers that are the same each time, so that a report can be had again (xorshift64*).
struct Chance(u64);

impl Chance {
    fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let drawn = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(drawn).unwrap_or(0) % most.max(1)
    }
}

impl Probe<'_> {
    /// A chance row of points that the filter can find.
    fn row(&mut self) -> Vec<usize> {
        // Each result goes with some value of each fact, so that there is such a row.
        let drawn = self.drawn();
        self.mended(drawn).unwrap_or_else(|| vec![0; self.axes.len()])
    }

    /// Chance points. The first value of a fact, such as a trail without a mark, is the one that policies ask about most.
    fn drawn(&mut self) -> Vec<usize> {
        let mut drawn = Vec::with_capacity(self.axes.len());
        for axis in 0..self.axes.len() {
            let count = self.axes.get(axis).map_or(1, |axis| axis.points.len());
            let first = axis > 0 && self.chance.below(2) == 0;
            drawn.push(if first { 0 } else { self.chance.below(count) });
        }
        drawn
    }

    /// The facts of cases, and for each text facts of which it speaks.
    fn spoken(&mut self, samples: &Samples) -> Vec<Vec<usize>> {
        let mut rows: Vec<Vec<usize>> = samples.whole.iter().filter_map(|whole| self.row_of(whole)).collect();
        let each = (OF_LINES / samples.lines.len().max(1)).clamp(1, OF_LINE);
        for line in samples.lines.iter().take(OF_LINES) {
            let points: Vec<Vec<usize>> = self.axes.iter().map(|axis| line.points(axis)).collect();
            if points.iter().any(|points| !points.is_empty()) {
                rows.extend((0..each).filter_map(|_| self.row_near(&points)));
            }
        }
        rows.sort();
        rows.dedup();
        rows
    }

    /// The row of a case; what it does not tell is the first that can be.
    fn row_of(&self, whole: &Whole) -> Option<Vec<usize>> {
        let has_why = self.axes.first()?.points.iter().any(|point| matches!(point.aspect, Aspect::Result(_, Some(_))));
        let place = |axis: &Axis| {
            let aspect = whole.aspect(&axis.kind, has_why);
            let same = axis.points.iter().position(|point| point.aspect == aspect);
            same.or_else(|| match aspect {
                Aspect::Result(status, _) => {
                    let is = |known: &Aspect| matches!(known, Aspect::Result(known, _) if *known == status);
                    axis.points.iter().position(|point| is(&point.aspect))
                }
                _ => None,
            })
        };
        self.mended(self.axes.iter().map(|axis| place(axis).unwrap_or(0)).collect())
    }

    /// A row with one of these points of each fact that has some, and a chance point of the others.
    fn row_near(&mut self, points: &[Vec<usize>]) -> Option<Vec<usize>> {
        let mut last = None;
        for _ in 0..DRAWS {
            let mut drawn = self.drawn();
            for (place, points) in drawn.iter_mut().zip(points) {
                if let Some(point) = points.get(self.chance.below(points.len())) {
                    *place = *point;
                }
            }
            let Some(row) = self.mended(drawn) else { continue };
            let is_spoken = row.iter().zip(points).all(|(point, points)| points.is_empty() || points.contains(point));
            last = Some(row);
            if is_spoken {
                break;
            }
        }
        last
    }

    /// Rows of every answer that is met, the rare ones before the frequent ones in turn.
    fn contexts(&mut self) -> Vec<Vec<usize>> {
        let mut met: HashMap<Vec<Answer>, Vec<Vec<usize>>> = HashMap::new();
        for _ in 0..DRAWN {
            let row = self.row();
            let answers = self.answers(&row);
            met.entry(answers).or_default().push(row);
            if self.has_no_time() {
                break;
            }
        }
        let mut groups: Vec<Vec<Vec<usize>>> = met.into_values().collect();
        groups.sort_by(|one, other| (one.len(), one).cmp(&(other.len(), other)));
        let most = groups.iter().map(Vec::len).max().unwrap_or(0);
        let turns = (0..most).flat_map(|turn| groups.iter().filter_map(move |group| group.get(turn)));
        turns.take(CONTEXTS).cloned().collect()
    }

    fn has_no_time(&mut self) -> bool {
        self.is_late |= Instant::now() >= self.until;
        self.is_late
    }

    /// The row with each value that cannot stand beside those before it replaced by the next that can.
    fn mended(&self, mut row: Vec<usize>) -> Option<Vec<usize>> {
        let plain = Space::plain(&self.axes);
        for axis in 0..row.len() {
            let count = self.axes.get(axis)?.points.len();
            let drawn = *row.get(axis)?;
            let fits = (0..count).map(|step| (drawn + step) % count).find(|point| {
                let mut begin: Vec<usize> = row.iter().take(axis).copied().collect();
                begin.push(*point);
                plain.allows(&begin)
            })?;
            *row.get_mut(axis)? = fits;
        }
        Some(row)
    }

    fn answers(&self, row: &[usize]) -> Vec<Answer> {
        let facts = Space::facts_of(&self.axes, &self.wanted, row);
        // A fault of a busy machine would be an answer of its own, and its row a class.
        let ask = |subject: &&Subject| patiently(subject, &facts, &self.wanted.headers, (self.time, self.until));
        self.subjects.iter().map(ask).collect()
    }

    /// Puts values of each fact into classes: alike are those that no probe tells apart. The result keeps all of its values, and so
    /// do the facts that a property names.
    fn classify(&mut self, named: &Wanted, spoken: &[Vec<usize>]) {
        let mut contexts = self.contexts();
        contexts.extend_from_slice(spoken);
        for axis in 1..self.axes.len() {
            let Some(current) = self.axes.get(axis) else { continue };
            if super::space::sees(named, &current.kind) {
                continue;
            }
            let count = current.points.len();
            let mut seen: Vec<Vec<Option<Vec<Answer>>>> = vec![Vec::new(); count];
            for context in &contexts {
                if self.has_no_time() {
                    return;
                }
                let mut row = context.clone();
                for (point, seen) in seen.iter_mut().enumerate() {
                    if let Some(place) = row.get_mut(axis) {
                        *place = point;
                    }
                    let can = Space::plain(&self.axes).allows(&row);
                    seen.push(can.then(|| self.answers(&row)));
                }
            }
            let Some(current) = self.axes.get_mut(axis) else { continue };
            let alike = |one: usize, other: usize| {
                let bears = |point: usize| current.points.get(point).map(|point| point.aspect.bearing());
                let told = |point: usize| seen.get(point).into_iter().flatten();
                bears(one) == bears(other)
                    && told(one).zip(told(other)).all(|(one, other)| one.is_none() || other.is_none() || one == other)
            };
            let mut classes: Vec<Vec<usize>> = Vec::new();
            for point in 0..count {
                match classes.iter_mut().find(|class| class.iter().all(|known| alike(*known, point))) {
                    Some(class) => class.push(point),
                    None => classes.push(vec![point]),
                }
            }
            current.classes = classes;
            current.by_text = false;
        }
    }

    /// Holds these rows and chance rows against those that stand for them, and gives the value that makes a difference a class of
    /// its own.
    fn check(&mut self, spoken: &[Vec<usize>]) {
        for number in 0..spoken.len() + CHECKS {
            if self.has_no_time() {
                return;
            }
            let row = spoken.get(number).cloned().unwrap_or_else(|| self.row());
            let mut now = row.clone();
            let mut before = self.answers(&row);
            for axis in 0..row.len() {
                let Some(point) = row.get(axis).copied() else { continue };
                let Some(stands) = self.axes.get(axis).and_then(|axis| stands_for(axis, point)) else { continue };
                if stands == point {
                    continue;
                }
                if let Some(place) = now.get_mut(axis) {
                    *place = stands;
                }
                let after = self.answers(&now);
                if after != before
                    && let Some(axis) = self.axes.get_mut(axis)
                {
                    axis.classes.iter_mut().for_each(|class| class.retain(|known| *known != point));
                    axis.classes.push(vec![point]);
                }
                before = after;
            }
        }
    }
}

fn stands_for(axis: &Axis, point: usize) -> Option<usize> {
    axis.classes.iter().find(|class| class.contains(&point))?.first().copied()
}
