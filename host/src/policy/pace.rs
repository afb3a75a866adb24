//! How quick a policy has been, by which it is asked where its message is or on a thread apart.

use std::sync::atomic::{AtomicU32, Ordering};

/// Whether a policy is quick enough to be asked where its message is. Its time is counted by the clock, and now and then a busy
/// machine takes all of it from a good one: what counts is what happens often.
#[derive(Debug, Default)]
pub(super) struct Pace(AtomicU32);

impl Pace {
    /// What one call counts that took too long; a quick one takes 1 off.
    const SLOW: u32 = 100;
    /// From here on the policy is asked apart, until it is loaded again.
    const APART: u32 = 3 * Pace::SLOW;

    pub(super) fn takes_time(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= Pace::APART
    }

    pub(super) fn was_quick(&self) {
        let lower = |count: u32| if count < Pace::APART { count.checked_sub(1) } else { None };
        // Nothing is there to be taken off, or nothing any more: both are as they should be.
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, lower);
    }

    /// Whether it is asked apart from now on, by this.
    pub(super) fn took_time(&self) -> bool {
        let before = self.0.fetch_add(Pace::SLOW, Ordering::Relaxed);
        before < Pace::APART && before.saturating_add(Pace::SLOW) >= Pace::APART
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_that_is_often_slow_is_asked_apart_and_one_that_the_machine_delayed_now_and_then_is_not() {
        let good = Pace::default();
        for _ in 0..1_000 {
            assert!(!good.took_time() && !good.takes_time());
            (0..Pace::SLOW).for_each(|_| good.was_quick());
        }
        let slow = Pace::default();
        let moved: Vec<bool> = (0..5).map(|_| slow.took_time()).collect();
        assert_eq!(moved, [false, false, true, false, false], "it is told once");
        (0..10 * Pace::APART).for_each(|_| slow.was_quick());
        assert!(slow.takes_time(), "there is no way back but to load it again");
    }
}
