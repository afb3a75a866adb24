//! Tells whether a role serves: it asks the loops that take work, and looks for messages that should long have had their
//! answer.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;

use crate::pulse::Pulse;

/// Whether a role serves, for a watchdog to ask.
pub struct Health {
    /// The pulses of the loops that take work; empty once no work is taken any more.
    pulses: Mutex<Vec<Arc<Pulse>>>,
    is_overdue: Box<dyn Fn() -> bool + Send + Sync>,
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Health({} loops)", self.loops().len())
    }
}

impl Health {
    /// `is_overdue`: whether a message has been under way for longer than any may be.
    pub(super) fn new(pulses: Vec<Arc<Pulse>>, is_overdue: impl Fn() -> bool + Send + Sync + 'static) -> Arc<Health> {
        Arc::new(Health { pulses: Mutex::new(pulses), is_overdue: Box::new(is_overdue) })
    }

    /// From now on no loop need answer; messages in flight still have to get theirs.
    pub(super) fn stops_taking(&self) {
        self.pulses.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn loops(&self) -> Vec<Arc<Pulse>> {
        self.pulses.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Names what stands still, where something does. A loop has `patience` to answer.
    pub async fn trouble(&self, patience: Duration) -> Option<&'static str> {
        if (self.is_overdue)() {
            return Some("a message has been examined or kept for longer than any may take");
        }
        // All at once: a watchdog that asks one after the other is late itself.
        let loops = self.loops();
        let beats = join_all(loops.iter().map(|pulse| pulse.beats(patience))).await;
        // A loop that ended meanwhile, since no more work is taken, need not answer.
        let stands = beats.contains(&false) && !self.loops().is_empty();
        stands.then_some("a loop that takes work does not turn")
    }
}
