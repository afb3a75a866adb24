//! When a socket's thread looks for questions, and when answers leave: a pace that neither the questions nor the work set.
//!
//! Time is cut into steps, from the question that comes while nothing waits. Answers leave when a step begins. Questions are
//! received when a step begins, and in its middle where others came or left; meanwhile they gather in the socket's buffer. What
//! was received leaves when the next step begins, three eighths of a step to one and a half after it came; or later by whole
//! steps where the work takes longer. One waking thus serves all that came and all that leaves, whatever the rate.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::hold::Lately;

/// A shorter step would have the thread run without a pause.
const LEAST: Duration = Duration::from_micros(100);

/// The pace of one socket.
#[derive(Debug)]
pub(super) struct Ticks {
    step: Duration,
    /// When the newest step began; absent while nothing waits.
    begin: Option<Instant>,
    middle: Middle,
    /// How long readings took of what was received when a step began, and of what was received later.
    lately: Arc<[Lately; 2]>,
}

/// What it is time for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// A step begins: questions are received, and answers leave. At rest too, where a question begins one.
    Begin,
    /// The middle of a step: questions are received, and nothing leaves.
    Middle,
    /// Neither.
    Nothing,
}

/// Whether questions are received in the middle of the step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Middle {
    /// If any come before it.
    Open,
    Wanted,
    /// Not any more.
    Over,
}

/// When questions were received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Received {
    /// The beginning of the step that their answers' times are counted from.
    begin: Instant,
    /// Whether it was later than that.
    is_late: bool,
}

impl Ticks {
    pub(super) fn new(step: Duration, lately: Arc<[Lately; 2]>) -> Ticks {
        Ticks { step: step.max(LEAST), begin: None, middle: Middle::Open, lately }
    }

    /// A question came: the first step begins, where none does.
    pub(super) fn start(&mut self, now: Instant) {
        if self.begin.is_none() {
            (self.begin, self.middle) = (Some(now), Middle::Open);
        }
    }

    /// Goes on to this time; what it is time for.
    pub(super) fn advance(&mut self, now: Instant) -> Turn {
        let Some(begin) = self.begin else { return Turn::Begin };
        let steps = whole_steps(now.saturating_duration_since(begin), self.step);
        if steps > 0 {
            (self.begin, self.middle) = (Some(begin + self.step.saturating_mul(steps)), Middle::Open);
            return Turn::Begin;
        }
        if self.middle == Middle::Wanted && now >= begin + self.step / 2 {
            self.middle = Middle::Over;
            return Turn::Middle;
        }
        Turn::Nothing
    }

    /// So many questions came and answers left at this time. With nothing that waits or is worked on (`is_idle`) the pace rests;
    /// but several are followed by others.
    pub(super) fn looked(&mut self, now: Instant, came_and_left: usize, is_idle: bool) {
        if came_and_left > 1 {
            self.expect(now);
        } else if is_idle {
            self.begin = None;
        }
    }

    /// More are to be expected: they are received in the middle of this step, unless that is over.
    pub(super) fn expect(&mut self, now: Instant) {
        if self.middle == Middle::Open {
            let is_ahead = self.begin.is_some_and(|begin| now < begin + self.step / 2);
            self.middle = if is_ahead { Middle::Wanted } else { Middle::Over };
        }
    }

    /// Whether it matters that a question comes.
    pub(super) fn listens(&self) -> bool {
        self.begin.is_none() || self.middle == Middle::Open
    }

    /// When the thread is to wake; absent while nothing waits.
    pub(super) fn next(&self) -> Option<Instant> {
        let whole = if self.middle == Middle::Wanted { self.step / 2 } else { self.step };
        self.begin.map(|begin| begin + whole)
    }

    /// Questions were received at this time. What is received after the middle, since the thread was late, counts as
    /// received when the next step begins: its work must have room.
    pub(super) fn received(&self, now: Instant) -> Received {
        let begin = self.begin.unwrap_or(now);
        let late = now.saturating_duration_since(begin);
        match late {
            _ if late <= self.step / 8 => Received { begin, is_late: false },
            _ if late <= self.step * 5 / 8 => Received { begin, is_late: true },
            _ => Received { begin: begin + self.step, is_late: false },
        }
    }

    /// The time of answers that are ready at `done`. Those from memory are as late as others whose keys were read lately.
    pub(super) fn leave(&self, received: Received, done: Instant, from_memory: bool) -> Instant {
        let steps = whole_steps(done.saturating_duration_since(received.begin), self.step).saturating_add(1);
        let [early, late] = &*self.lately;
        let lately = if received.is_late { late } else { early };
        let steps = match from_memory {
            true => steps.max(lately.draw()),
            false => {
                lately.note(steps);
                steps
            }
        };
        received.begin + self.step.saturating_mul(steps)
    }
}

fn whole_steps(time: Duration, step: Duration) -> u32 {
    u32::try_from(time.as_nanos() / step.as_nanos().max(1)).unwrap_or(u32::MAX)
}

#[cfg(test)]
#[path = "ticks/tests.rs"]
mod tests;
