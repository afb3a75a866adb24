//! Room, deadlines, and what is kept.

use std::future::pending;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::case::{Body, Direction, Envelope, Finding, Head, Owed, Reply, Verdict};

/// A judge that owes what it is told to, or is never done where that is nothing.
struct Fake {
    owed: Option<Vec<Owed>>,
    kept: AtomicUsize,
}

impl Judge for Fake {
    async fn examine(&self, mail: Mail) -> Case {
        let owed = match &self.owed {
            Some(owed) => owed.clone(),
            None => pending().await,
        };
        let reply = Reply { owed, ..Reply::bare(Verdict::Discard) };
        Case { mail, finding: Finding::Passing(Direction::Relay), decisions: Vec::new(), reply }
    }

    async fn keep(&self, case: Case, body: Option<Body>) -> Case {
        assert_eq!(body.is_some(), case.reply.wants_body());
        self.kept.fetch_add(1, Ordering::SeqCst);
        case
    }
}

fn reception(owed: Option<Vec<Owed>>, limits: Limits) -> (Arc<Fake>, Arc<Reception<Fake>>) {
    let judge = Arc::new(Fake { owed, kept: AtomicUsize::new(0) });
    let (_, receiver) = watch::channel(Arc::clone(&judge));
    (judge, Reception::open(receiver, Arc::new(limits), CancellationToken::new()))
}

fn mail() -> Mail {
    Mail::new(Envelope::default(), Head::default())
}

#[tokio::test]
async fn nothing_is_kept_for_an_answer_that_cannot_be_given() {
    for (owed, sayable, kept) in [
        (vec![Owed::Quarantine(vec![0])], true, 1),
        (vec![Owed::Quarantine(vec![0])], false, 0),
        // Nothing becomes durable: the door finds out when it says it.
        (Vec::new(), false, 1),
    ] {
        let (judge, reception) = reception(Some(owed.clone()), Limits::default());
        let seat = reception.seats(1, "connections").take().unwrap();
        let mut admitted = reception.admit(&seat).unwrap();
        let case = admitted.examine(mail(), reception.due()).await.unwrap();
        let can_say = |_: &Case| if sayable { Ok(()) } else { Err(Refused::Full("words")) };
        let said = admitted.keep(case, b"body", reception.due(), can_say).await;
        assert_eq!((said.is_ok(), judge.kept.load(Ordering::SeqCst)), (kept == 1, kept), "{owed:?}");
    }
}

#[tokio::test]
async fn an_examination_ends_when_its_answer_is_due_at_its_own_limit_or_when_the_doors_are_closed() {
    let (_judge, reception) =
        reception(None, Limits::default().with(|limits| limits.mta.examine = Duration::from_millis(1)));
    let seat = reception.seats(1, "connections").take().unwrap();
    let admitted = reception.admit(&seat).unwrap();
    for due in [Instant::now(), reception.due()] {
        assert!(matches!(admitted.examine(mail(), due).await, Err(Refused::Late { what: "examining", .. })));
    }
    reception.closed().cancel();
    assert!(matches!(admitted.examine(mail(), reception.due()).await, Err(Refused::Stopping)));
}

#[tokio::test]
async fn who_has_no_seat_stands_and_is_refused_and_beyond_that_there_is_no_place() {
    let (_judge, reception) = reception(None, Limits::default().with(|limits| limits.mta.messages_in_flight = 1));
    let seats = reception.seats(1, "connections");
    let (seated, standing) = (seats.take().unwrap(), seats.take().unwrap());
    assert!(seats.take().is_none());
    assert!(matches!(reception.admit(&standing), Err(Refused::Full("connections"))));
    let message = reception.admit(&seated).unwrap();
    assert!(matches!(reception.admit(&seated), Err(Refused::Full("messages in flight"))));
    drop((message, seated));
    let seated = seats.take().unwrap();
    assert!(reception.admit(&seated).is_ok() && seats.take().is_none());
    let mut draining = Box::pin(reception.drain());
    assert!(futures_util::poll!(&mut draining).is_pending(), "two places are taken");
    drop((seated, standing));
    draining.await;
    assert!(!reception.closed().is_cancelled());
}
