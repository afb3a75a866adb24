//! How long a policy takes over decisions, on facts spread over all that it can be told.

use std::time::{Duration, Instant};

use super::answers::patiently;
use super::probe::fitted;
use super::samples::Samples;
use super::space::TooWide;
use super::subject::Subject;
use crate::config::Limits;

/// What decisions took, each on a fresh instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Speed {
    /// How many were timed.
    pub decisions: usize,
    /// Half of them took no longer.
    pub median: Duration,
    /// 99 of a hundred took no longer.
    pub p99: Duration,
    /// The longest.
    pub longest: Duration,
    /// Decisions that failed.
    pub failed: usize,
}

/// Times so many decisions on this thread.
///
/// # Errors
/// There are too many combinations of facts to choose from.
pub fn speed(subject: &Subject, more: &Samples, decisions: usize, limits: &Limits) -> Result<Speed, TooWide> {
    let space = fitted(&[subject], more, &super::nothing(), limits)?;
    let decisions = decisions.max(1);
    let mut times = Vec::with_capacity(decisions);
    let mut failed = 0;
    for number in 0..decisions {
        // A step that shares no factor with most lengths goes through all parts of the space.
        let facts = space.facts(space.row(number.wrapping_mul(7_919) % space.len().max(1)));
        let begin = Instant::now();
        let answer = subject.answer(&facts, &space.wanted().headers);
        times.push(begin.elapsed());
        if answer.fault.is_some() {
            // What others took of its time is no fault of its own.
            let until = Instant::now() + limits.policy.rehearsal;
            let again = patiently(subject, &facts, &space.wanted().headers, (limits.policy.time, until));
            failed += usize::from(again.fault.is_some());
        }
    }
    times.sort_unstable();
    let at = |hundredth: usize| times.get(times.len() * hundredth / 100).or(times.last()).copied().unwrap_or_default();
    Ok(Speed { decisions, median: at(50), p99: at(99), longest: times.last().copied().unwrap_or_default(), failed })
}
