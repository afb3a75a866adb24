//! Whether a loop still turns: the loop answers beside its work, and a watchdog asks.

use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;

/// Shared by a loop and whoever watches it.
#[derive(Debug, Default)]
pub struct Pulse {
    asked: AtomicU64,
    answered: AtomicU64,
    wake: Notify,
    told: Notify,
}

impl Pulse {
    /// For the loop, to be polled wherever it waits for work, such as in a `select!`: answers whoever asks, and never ends.
    pub async fn answer(&self) -> Infallible {
        loop {
            self.tell(self.asked().await);
        }
    }

    /// For who carries the question to a loop on a thread of its own: waits until somebody asks; what the loop is to
    /// [`Pulse::tell`].
    pub async fn asked(&self) -> u64 {
        self.wake.notified().await;
        self.asked.load(Ordering::SeqCst)
    }

    /// For that loop: answers whoever asked.
    pub fn tell(&self, number: u64) {
        self.answered.store(number, Ordering::SeqCst);
        self.told.notify_one();
    }

    /// For the watchdog: whether the loop answers within this time.
    pub async fn beats(&self, within: Duration) -> bool {
        let number = self.asked.fetch_add(1, Ordering::SeqCst).saturating_add(1);
        self.wake.notify_one();
        let answered = async {
            while self.answered.load(Ordering::SeqCst) < number {
                self.told.notified().await;
            }
        };
        timeout(within, answered).await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);
    const SHORT: Duration = Duration::from_millis(50);

    #[tokio::test]
    async fn a_loop_that_waits_for_work_answers_and_one_that_works_for_ever_does_not() {
        let pulse = Arc::new(Pulse::default());
        assert!(!pulse.beats(SHORT).await, "there is no loop yet");
        let turning = {
            let pulse = Arc::clone(&pulse);
            tokio::spawn(async move { pulse.answer().await })
        };
        for _ in 0..3 {
            assert!(pulse.beats(LONG).await);
        }
        turning.abort();
        let _ = turning.await;
        assert!(!pulse.beats(SHORT).await, "an answer from before does not count");
        assert!(!pulse.beats(SHORT).await);
    }
}
