//! Knows the messages that are being examined or kept, so that one that takes too long is noticed.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::case::{Body, Case, Client, Mail, Recipient};
use crate::config::{Peer, Unfit};
use crate::filter::Filter;
use crate::mta::Judge;

/// The messages that are being examined or kept, by when that began.
#[derive(Debug)]
pub(super) struct UnderWay {
    begun: Mutex<BTreeMap<u64, Instant>>,
    next: AtomicU64,
    /// How long a message may take before something is wrong.
    most: Duration,
}

/// A message that is under way until this is dropped.
struct Begun<'a>(&'a UnderWay, u64);

impl UnderWay {
    /// `answer`: the time in which each message gets its answer, whatever happens. A message that takes twice as long is on a
    /// blocked thread, where the timer that should have ended it does not run.
    pub(super) fn new(answer: Duration) -> UnderWay {
        UnderWay { begun: Mutex::default(), next: AtomicU64::new(0), most: answer.saturating_mul(2) }
    }

    fn begin(&self) -> Begun<'_> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.begun.lock().unwrap_or_else(PoisonError::into_inner).insert(number, Instant::now());
        Begun(self, number)
    }

    pub(super) fn is_overdue(&self) -> bool {
        let begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        begun.first_key_value().is_some_and(|(_, at)| at.elapsed() > self.most)
    }
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        self.0.begun.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.1);
    }
}

/// A step of a message that is over.
pub(super) enum Step<'a> {
    /// It was given up before it was examined or kept: too late, or by a panic.
    GivenUp,
    /// What is owed is kept: this is what the mail server is told.
    Kept {
        /// The message with its answer.
        case: &'a Case,
        /// Whether decisions are only told of.
        observe: bool,
    },
}

/// Whoever hears of each step.
pub(super) type Hears = Arc<dyn Fn(Step<'_>) + Send + Sync>;

/// A judge whose messages under way are known.
pub(super) struct Watched<J> {
    judge: J,
    under_way: Arc<UnderWay>,
    hears: Option<Hears>,
    observe: bool,
}

impl<J> Watched<J> {
    /// Shared by all snapshots of one daemon.
    #[cfg(test)]
    fn new(judge: J, under_way: &Arc<UnderWay>) -> Arc<Watched<J>> {
        Arc::new(Watched { judge, under_way: Arc::clone(under_way), hears: None, observe: false })
    }

    fn hear(&self, step: Step<'_>) {
        if let Some(hears) = &self.hears {
            hears(step);
        }
    }

    /// What tells that a step was given up, unless it is forgotten.
    fn trusts(&self) -> Trust<'_, J> {
        Trust(Some(self))
    }
}

/// A step that has not come to its end.
struct Trust<'a, J>(Option<&'a Watched<J>>);

impl<J> Trust<'_, J> {
    fn ends(mut self) {
        self.0 = None;
    }
}

impl<J> Drop for Trust<'_, J> {
    fn drop(&mut self) {
        if let Some(judge) = self.0 {
            judge.hear(Step::GivenUp);
        }
    }
}

impl Watched<Filter> {
    /// One snapshot of a daemon, whose snapshots share the rest.
    pub(super) fn of(filter: Filter, under_way: &Arc<UnderWay>, hears: &Option<Hears>) -> Arc<Watched<Filter>> {
        let observe = filter.config().observe.0;
        Arc::new(Watched { judge: filter, under_way: Arc::clone(under_way), hears: hears.clone(), observe })
    }
}

impl Deref for Watched<Filter> {
    type Target = Filter;

    fn deref(&self) -> &Filter {
        &self.judge
    }
}

impl<J: Judge> Judge for Watched<J> {
    async fn examine(&self, mail: Mail) -> Case {
        let _begun = self.under_way.begin();
        let trust = self.trusts();
        let case = self.judge.examine(mail).await;
        trust.ends();
        case
    }

    async fn keep(&self, case: Case, body: Option<Body>) -> Case {
        let _begun = self.under_way.begin();
        let trust = self.trusts();
        let case = self.judge.keep(case, body).await;
        trust.ends();
        self.hear(Step::Kept { case: &case, observe: self.observe });
        case
    }

    fn splits(&self) -> bool {
        self.judge.splits()
    }

    fn unfit(&self, peer: Peer) -> Option<Unfit> {
        self.judge.unfit(peer)
    }

    async fn alike(&self, client: &Client, first: &Recipient, next: &Recipient) -> bool {
        self.judge.alike(client, first, next).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::{Envelope, Head};
    use crate::daemon::Health;
    use crate::pulse::Pulse;

    fn health(pulses: Vec<Arc<Pulse>>, under_way: &Arc<UnderWay>) -> Arc<Health> {
        let under_way = Arc::clone(under_way);
        Health::new(pulses, move || under_way.is_overdue())
    }

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn a_message_that_is_overdue_is_stuck_and_one_that_ended_is_not() {
        let under_way = Arc::new(UnderWay::new(Duration::from_millis(20)));
        assert_eq!(health(Vec::new(), &under_way).trouble(LONG).await, None);
        let begun = under_way.begin();
        let later = under_way.begin();
        tokio::time::sleep(Duration::from_millis(60)).await;
        assert!(health(Vec::new(), &under_way).trouble(LONG).await.is_some());
        drop(begun);
        drop(later);
        assert_eq!(health(Vec::new(), &under_way).trouble(LONG).await, None);
        let _fresh = under_way.begin();
        assert_eq!(health(Vec::new(), &Arc::new(UnderWay::new(LONG))).trouble(LONG).await, None);
    }

    /// A judge that never comes to an end.
    struct Stuck;

    impl Judge for Stuck {
        async fn examine(&self, _: Mail) -> Case {
            std::future::pending().await
        }

        async fn keep(&self, _: Case, _: Option<Body>) -> Case {
            std::future::pending().await
        }
    }

    fn mail() -> Mail {
        Mail::new(Envelope::default(), Head::default())
    }

    #[tokio::test]
    async fn a_judge_that_is_stuck_with_a_message_is_seen() {
        let under_way = Arc::new(UnderWay::new(Duration::from_millis(20)));
        let judge = Watched::new(Stuck, &under_way);
        let examining = tokio::spawn(async move { judge.examine(mail()).await });
        while health(Vec::new(), &under_way).trouble(LONG).await.is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        examining.abort();
        let _ = examining.await;
        assert_eq!(
            health(Vec::new(), &under_way).trouble(LONG).await,
            None,
            "one that was given up is no longer under way"
        );
    }

    #[tokio::test]
    async fn one_loop_of_several_that_does_not_turn_is_enough() {
        let under_way = Arc::new(UnderWay::new(LONG));
        let pulses = [Arc::new(Pulse::default()), Arc::new(Pulse::default())];
        let turn = |pulse: &Arc<Pulse>| {
            let pulse = Arc::clone(pulse);
            tokio::spawn(async move { pulse.answer().await })
        };
        let _first = turn(&pulses[0]);
        assert!(health(pulses.to_vec(), &under_way).trouble(Duration::from_millis(50)).await.is_some());
        let _second = turn(&pulses[1]);
        assert_eq!(health(pulses.to_vec(), &under_way).trouble(LONG).await, None);
    }
}
