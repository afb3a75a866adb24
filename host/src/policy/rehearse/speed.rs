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

/// Times so many decisions on this thread, `limits.policy.timed` at most; fewer where there is no time for all within
/// `limits.policy.rehearsal`.
///
/// # Errors
/// There are too many combinations of facts to choose from.
pub fn speed(subject: &Subject, more: &Samples, decisions: usize, limits: &Limits) -> Result<Speed, TooWide> {
    let space = fitted(&[subject], more, &super::nothing(), limits)?;
    let (time, until) = (limits.policy.of(subject.size()).time, Instant::now() + limits.policy.rehearsal);
    let decisions = decisions.clamp(1, limits.policy.timed);
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
            let again = patiently(subject, &facts, &space.wanted().headers, (time, until));
            failed += usize::from(again.fault.is_some());
        }
        if Instant::now() >= until {
            break;
        }
    }
    times.sort_unstable();
    let decisions = times.len();
    let at = |hundredth: usize| times.get(times.len() * hundredth / 100).or(times.last()).copied().unwrap_or_default();
    Ok(Speed { decisions, median: at(50), p99: at(99), longest: times.last().copied().unwrap_or_default(), failed })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::{Stage, locate_shipped};
    use super::*;
    use crate::policy::Trial;

    #[test]
    fn no_more_are_timed_than_there_is_time_for_and_than_the_bound() {
        let timed = |limits: Limits, decisions| {
            // The machine may be busy.
            let limits = Arc::new(limits.with(|limits| limits.policy.time = Duration::from_secs(1)));
            let component =
                Stage::new(&limits).unwrap().load(&locate_shipped("mark").unwrap().octets, &Trial::waived());
            let component = Arc::new(component.unwrap());
            let subject = component.under("mark", component.fit(&Default::default()).unwrap()).unwrap();
            speed(&subject, &Samples::default(), decisions, &limits).unwrap().decisions
        };
        assert_eq!(timed(Limits::default().with(|limits| limits.policy.rehearsal = Duration::ZERO), 50), 1);
        assert_eq!(timed(Limits::default().with(|limits| limits.policy.timed = 7), usize::MAX), 7);
    }
}
