//! How long the steps of a message take, counted without a lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What takes longer is slow: more than a question or two on the network, or a write to a disk that has others to do.
pub const SLOW: Duration = Duration::from_millis(250);

/// How long the steps of all messages took since the start; a reload goes on with the same.
#[derive(Debug, Default)]
pub struct Steps {
    /// Finding out about the sender: DNS, the Authentication Server, the keyring.
    pub verify: Times,
    /// The recipients' choices, and the policies; of messages about which there is something to decide.
    pub decide: Times,
    /// Making durable what is owed.
    pub keep: Times,
}

/// How often a step was taken, and how long it took in all.
#[derive(Debug, Default)]
pub struct Times {
    quick: AtomicU64,
    slow: AtomicU64,
    nanoseconds: AtomicU64,
}

impl Times {
    /// Counts one: two atomic additions.
    pub(super) fn took(&self, time: Duration) {
        let count = if time <= SLOW { &self.quick } else { &self.slow };
        count.fetch_add(1, Ordering::Relaxed);
        self.nanoseconds.fetch_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// How many took no longer than [`SLOW`], and how many did.
    pub fn counts(&self) -> [u64; 2] {
        [&self.quick, &self.slow].map(|count| count.load(Ordering::Relaxed))
    }

    /// How long all of them took together.
    pub fn total(&self) -> Duration {
        Duration::from_nanos(self.nanoseconds.load(Ordering::Relaxed))
    }
}

/// Takes the time of one message's steps, which may be taken more than once.
pub(super) struct Watch(Instant);

impl Watch {
    pub(super) fn start() -> Watch {
        Watch(Instant::now())
    }

    /// The time since the start, or since this was last asked for.
    pub(super) fn lap(&mut self) -> Duration {
        let now = Instant::now();
        now.saturating_duration_since(std::mem::replace(&mut self.0, now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_longer_than_slow_is_told_apart_and_all_of_it_is_added_up() {
        let times = Times::default();
        for millis in [0, 1, 250, 251, 10_000] {
            times.took(Duration::from_millis(millis));
        }
        assert_eq!(times.counts(), [3, 2]);
        assert_eq!(times.total(), Duration::from_millis(10_502));
    }
}
