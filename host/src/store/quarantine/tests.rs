//! Keeping, releasing, deleting and expiring, over a real file.

use std::time::Duration;

use super::*;
use crate::store::{Caps, Draft, Due, Entry, Kept, NewRow, Opening, Sending, UnderWay, time};

const OPENING: Opening = Opening { busy: Duration::from_secs(2), readers: 2 };
const CAPS: Caps = Caps {
    per_hour: 1,
    pair: Duration::from_secs(86_400),
    waiting: 100,
    report_pair: Duration::from_secs(3_600),
    rules_pair: Duration::from_secs(7 * 86_400),
    digest_after: Duration::from_secs(3_600),
    digest_senders: 20,
};
const DAY: Duration = Duration::from_secs(86_400);
const BOB: &str = "bob@example.com";
const CAROL: &str = "carol@example.com";

fn now() -> SystemTime {
    time(1_000_000)
}

fn minute(_: u32) -> Duration {
    Duration::from_secs(60)
}

fn kept(recipients: &[&str]) -> Kept {
    Kept {
        queue_id: Some("4F1".into()),
        sender: Some("Alice+x@Sender.example".into()),
        reverse_path: "alice@sender.example".into(),
        recipients: recipients.iter().map(|r| String::from(*r)).collect(),
        subject: "hello".into(),
        reason: Reason::written("quarantine: invalid (wrong)".into()),
        message: b"Subject: hello\r\n\r\nbody\r\n".to_vec(),
        expires: now() + 30 * DAY,
        copy: false,
    }
}

async fn ledger() -> (tempfile::TempDir, Ledger) {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(dir.path(), OPENING).await.unwrap();
    (dir, ledger)
}

async fn keep_one(ledger: &Ledger, kept: Kept) -> i64 {
    let row = NewRow::again(Entry::default(), now());
    ledger.record_and_keep(row, Vec::new(), (vec![kept], 10_000), CAPS, now()).await.unwrap().kept[0]
}

async fn take(ledger: &Ledger, at: SystemTime) -> Option<Due> {
    ledger.take(at, minute).await.unwrap()
}

async fn note(ledger: &Ledger) -> String {
    ledger.journal(9).await.unwrap().iter().map(|row| row.entry.note.clone()).collect::<Vec<_>>().join(" | ")
}

#[tokio::test]
async fn what_is_kept_is_listed_for_each_spelling_of_its_recipient_and_nobody_else() {
    let (_dir, ledger) = ledger().await;
    let first = keep_one(&ledger, kept(&["Bob+news@example.com", CAROL])).await;
    let second = keep_one(&ledger, kept(&[CAROL, CAROL])).await;
    let ids = |held: Vec<Held>| held.iter().map(|h| h.id).collect::<Vec<_>>();
    assert_eq!(ids(ledger.held(None, 9).await.unwrap()), [second, first], "newest first");
    assert_eq!(ids(ledger.held(None, 1).await.unwrap()), [second]);
    assert_eq!(ids(ledger.held(Some("BOB@example.com"), 9).await.unwrap()), [first]);
    assert_eq!(ids(ledger.held(Some("eve@example.com"), 9).await.unwrap()), [0; 0]);
    let (held, message) = ledger.held_message(first).await.unwrap().unwrap();
    assert_eq!((held.size, message), (24, kept(&[]).message));
    assert_eq!((held.recipients.len(), held.sender.as_deref()), (2, Some("Alice+x@Sender.example")));
    assert_eq!(ledger.held_message(second).await.unwrap().unwrap().0.recipients.len(), 1, "named twice is one");
    assert!(ledger.held_message(99).await.unwrap().is_none());
    assert!(note(&ledger).await.contains(&format!("kept in quarantine as {first}")));
}

#[tokio::test]
async fn a_full_quarantine_writes_nothing_at_all() {
    let (_dir, ledger) = ledger().await;
    let record = |most| {
        let (ledger, kept) = (ledger.clone(), [kept(&[BOB])]);
        let row = NewRow::again(Entry::default(), now());
        async move { ledger.record_and_keep(row, Vec::new(), (kept.to_vec(), most), CAPS, now()).await }
    };
    record(24).await.unwrap();
    let error = record(47).await.unwrap_err();
    assert!(matches!(error, Error::QuarantineFull { most: 47 }), "{error}");
    assert!(error.to_string().contains("quarantine_mib"));
    assert_eq!((ledger.journal(9).await.unwrap().len(), ledger.held(None, 9).await.unwrap().len()), (1, 1));
    record(48).await.unwrap();
    ledger.record(&Entry::default(), &[], CAPS, now()).await.expect("what keeps nothing needs no room");
}

#[tokio::test]
async fn a_release_is_sent_as_it_was_and_leaves_nothing_behind() {
    let (dir, ledger) = ledger().await;
    let id = keep_one(&ledger, kept(&[BOB, CAROL])).await;
    let released = ledger.release(id, Some("BOB+x@example.com"), None, now()).await.unwrap();
    assert_eq!((released.rows.len(), released.allowed), (1, false));
    let due = take(&ledger, now()).await.unwrap();
    assert_eq!((due.kind.word(), due.reverse_path.as_str()), ("release", "alice@sender.example"));
    assert_eq!((due.recipient.as_str(), due.quarantine), (BOB, Some(id)));
    assert_eq!(due.message, kept(&[]).message);
    assert_eq!(ledger.progress(&released.rows).await.unwrap()[0].outcome, None);
    ledger.end(&due, None, now()).await.unwrap();
    assert_eq!(ledger.progress(&released.rows).await.unwrap()[0].outcome, Some(Sending::Sent));
    let (held, _) = ledger.held_message(id).await.unwrap().expect("carol still waits");
    let outcomes: Vec<_> = held.recipients.iter().map(|r| (r.recipient.as_str(), r.outcome)).collect();
    assert_eq!(outcomes, [(BOB, Some(Ending::Released)), (CAROL, None)]);

    ledger.release(id, None, None, now()).await.unwrap();
    let due = take(&ledger, now()).await.unwrap();
    assert_eq!(due.recipient, CAROL, "bob has it already");
    ledger.end(&due, None, now()).await.unwrap();
    assert!(ledger.held_message(id).await.unwrap().is_none(), "nobody waits for it any more");
    assert!(take(&ledger, now() + 9 * DAY).await.is_none());
    let words = note(&ledger).await;
    assert!(words.contains(&format!("released from quarantine to {BOB}")) && words.contains(CAROL), "{words}");
    drop(dir);
}

#[tokio::test]
async fn a_release_twice_and_one_of_nothing_say_no_and_change_nothing() {
    let (_dir, ledger) = ledger().await;
    let id = keep_one(&ledger, kept(&[BOB])).await;
    let error = ledger.release(id, Some(CAROL), None, now()).await.unwrap_err();
    assert!(matches!(&error, Error::NoSuchRecipient { recipient, .. } if recipient == CAROL), "{error}");
    ledger.release(id, None, None, now()).await.unwrap();
    for recipient in [None, Some(BOB)] {
        let error = ledger.release(id, recipient, None, now()).await.unwrap_err();
        assert!(matches!(&error, Error::AlreadyEnded { outcome: Ending::Released, .. }), "{error}");
    }
    let due = take(&ledger, now()).await.unwrap();
    assert!(take(&ledger, now()).await.is_none(), "it goes once");
    ledger.end(&due, None, now()).await.unwrap();
    let error = ledger.release(id, None, None, now()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("there is no message {id} in quarantine; `addrauth quarantine list` shows them")
    );
}

#[tokio::test]
async fn what_the_mta_refuses_is_kept_again_with_its_reason_and_can_be_released_again() {
    let (_dir, ledger) = ledger().await;
    let id = keep_one(&ledger, kept(&[BOB])).await;
    let late = now() + 30 * DAY - Duration::from_secs(60);
    ledger.release(id, None, None, late).await.unwrap();
    assert_eq!(ledger.expire(now() + 31 * DAY).await.unwrap(), 0, "what is on its way does not expire");
    let due = take(&ledger, late).await.unwrap();
    ledger.end(&due, Some("550 no such user"), late).await.unwrap();
    assert!(take(&ledger, late + DAY).await.is_none());
    let held = ledger.held(Some(BOB), 9).await.unwrap();
    assert_eq!(
        (held[0].recipients[0].outcome, held[0].recipients[0].note.as_deref()),
        (None, Some("550 no such user"))
    );
    assert!(note(&ledger).await.contains("550 no such user"));
    assert_eq!(ledger.expire(late + DAY).await.unwrap(), 0, "there is time to see why");
    ledger.release(id, None, None, late + DAY).await.unwrap();
    let due = take(&ledger, late + DAY).await.unwrap();
    ledger.end(&due, None, late + DAY).await.unwrap();
    assert!(ledger.held_message(id).await.unwrap().is_none());
}

#[tokio::test]
async fn a_copy_goes_out_at_once_to_each_and_is_kept_only_where_it_is_refused() {
    let (_dir, ledger) = ledger().await;
    let id = keep_one(&ledger, Kept { copy: true, ..kept(&[BOB, CAROL]) }).await;
    assert!(ledger.held(None, 9).await.unwrap().is_empty(), "it waits for nobody's word");
    let error = ledger.release(id, None, None, now()).await.unwrap_err();
    assert!(matches!(&error, Error::AlreadyEnded { outcome: Ending::Copied, .. }), "{error}");
    let (first, second) = (take(&ledger, now()).await.unwrap(), take(&ledger, now()).await.unwrap());
    assert_eq!((first.kind.word(), first.recipient.as_str(), second.recipient.as_str()), ("copy", BOB, CAROL));
    ledger.end(&first, None, now()).await.unwrap();
    ledger.end(&second, Some("552 mailbox full"), now()).await.unwrap();
    let held = ledger.held(None, 9).await.unwrap();
    assert_eq!((held.len(), held[0].recipients[1].note.as_deref()), (1, Some("552 mailbox full")));
    ledger.delete_held(id, Some(CAROL), now()).await.unwrap();
    assert!(ledger.held_message(id).await.unwrap().is_none());
}

#[tokio::test]
async fn what_is_on_its_way_is_listed_with_its_tries_and_can_be_taken_back() {
    let (_dir, ledger) = ledger().await;
    let id = keep_one(&ledger, kept(&[BOB, CAROL])).await;
    ledger.release(id, Some(BOB), None, now()).await.unwrap();
    ledger.delete_held(id, Some(CAROL), now()).await.unwrap();
    assert!(ledger.held(None, 9).await.unwrap().is_empty(), "nobody's word is waited for");
    let due = take(&ledger, now()).await.unwrap();
    ledger.postpone(&due, "451 later").await.unwrap();
    let sought = Sought { under_way: true, recipient: Some(BOB.into()), since: Some(now()) };
    let held = ledger.sought(&sought, 9).await.unwrap();
    let way = UnderWay { tries: 1, next_try: now() + minute(1), last: Some("451 later".into()) };
    assert_eq!(held[0].recipients[0].under_way.as_ref(), Some(&way));
    assert_eq!(held[0].recipients[1].under_way, None, "carol's was deleted");
    assert!(ledger.sought(&Sought { since: Some(now() + DAY), ..sought }, 9).await.unwrap().is_empty());
    assert_eq!(ledger.kept().await.unwrap(), (1, 24));

    assert_eq!(ledger.delete_held(id, None, now()).await.unwrap(), [BOB]);
    assert!(take(&ledger, now() + DAY).await.is_none() && ledger.held_message(id).await.unwrap().is_none());
    assert_eq!(ledger.outbox(9).await.unwrap()[0].outcome, Some(Sending::Deleted));
    // The try that was under way ends after all: what was taken back is not kept again.
    ledger.end(&due, Some("550 no"), now()).await.unwrap();
    assert_eq!(ledger.outbox(9).await.unwrap()[0].outcome, Some(Sending::Deleted));
    let words = note(&ledger).await;
    assert!(words.contains(&format!("deleted from quarantine for {BOB}")) && !words.contains("550"), "{words}");
}

#[tokio::test]
async fn a_crash_before_the_end_of_a_try_repeats_it_with_the_same_message() {
    let (dir, ledger) = ledger().await;
    let id = keep_one(&ledger, kept(&[BOB])).await;
    ledger.release(id, None, None, now()).await.unwrap();
    let first = take(&ledger, now()).await.unwrap();
    ledger.close().await;
    let ledger = Ledger::open(dir.path(), OPENING).await.unwrap();
    let again = take(&ledger, now() + minute(1)).await.unwrap();
    assert_eq!((&again.message, &again.message_id, again.tries), (&first.message, &first.message_id, 2));
}

#[tokio::test]
async fn a_deletion_for_one_leaves_it_to_the_other() {
    let (_dir, ledger) = ledger().await;
    let id = keep_one(&ledger, kept(&[BOB, CAROL])).await;
    assert_eq!(ledger.delete_held(id, Some(BOB), now()).await.unwrap(), [BOB]);
    assert!(ledger.held(Some(BOB), 9).await.unwrap().is_empty());
    assert_eq!(ledger.delete_held(id, None, now()).await.unwrap(), [CAROL]);
    assert!(matches!(ledger.delete_held(id, None, now()).await, Err(Error::NoMessage { .. })));
    assert!(note(&ledger).await.contains("deleted from quarantine for carol@example.com"));
}

#[tokio::test]
async fn expiry_deletes_what_is_over_in_any_number_and_the_journal_says_so() {
    let (_dir, ledger) = ledger().await;
    for _ in 0..120 {
        keep_one(&ledger, kept(&[BOB])).await;
    }
    let young = keep_one(&ledger, Kept { expires: now() + 40 * DAY, ..kept(&[BOB]) }).await;
    assert_eq!(ledger.expire(now() + 29 * DAY).await.unwrap(), 0);
    assert_eq!(ledger.expire(now() + 30 * DAY).await.unwrap(), 120);
    assert_eq!(ledger.held(None, 999).await.unwrap().iter().map(|h| h.id).collect::<Vec<_>>(), [young]);
    let notes = ledger.journal(999).await.unwrap();
    let expired = notes.iter().filter(|row| row.entry.note.contains("expired in quarantine, not released to bob@"));
    assert_eq!(expired.count(), 120);
}

#[tokio::test]
async fn a_message_that_outlives_its_journal_row_is_released_all_the_same() {
    let (_dir, ledger) = ledger().await;
    let id = keep_one(&ledger, kept(&[BOB])).await;
    assert_eq!(ledger.sweep(now() + DAY).await.unwrap(), 1);
    ledger.release(id, None, None, now() + DAY).await.unwrap();
    assert!(take(&ledger, now() + DAY).await.is_some());
    let rows = ledger.journal(9).await.unwrap();
    assert_eq!((rows.len(), rows[0].entry.queue_id.as_deref()), (1, Some("4F1")));
    assert!(rows[0].entry.note.contains("released"));
}

#[tokio::test]
async fn allowing_puts_the_sender_on_the_list_of_each_recipient_within_its_bound() {
    let (_dir, ledger) = ledger().await;
    let lists = || async {
        let rows = "SELECT address, sender FROM allowed ORDER BY address, sender";
        let rows: Result<Vec<(String, String)>, _> =
            ledger.0.read(|work| work.all(rows, (), |row| Ok((row.get(0)?, row.get(1)?))));
        rows.unwrap()
    };
    let id = keep_one(&ledger, kept(&["Bob+x@example.com"])).await;
    assert!(ledger.release(id, None, Some(1), now()).await.unwrap().allowed);
    assert_eq!(lists().await, [(BOB.to_owned(), "alice@sender.example".to_owned())]);
    let id = keep_one(&ledger, kept(&[BOB])).await;
    assert!(ledger.release(id, None, Some(1), now()).await.unwrap().allowed, "it is there already");
    let id = keep_one(&ledger, Kept { sender: Some("dan@other.example".into()), ..kept(&[BOB]) }).await;
    assert!(!ledger.release(id, None, Some(1), now()).await.unwrap().allowed, "the list is full");
    assert_eq!(lists().await.len(), 1);
    let id = keep_one(&ledger, Kept { sender: None, ..kept(&[BOB]) }).await;
    let error = ledger.release(id, None, Some(9), now()).await.unwrap_err();
    assert!(matches!(error, Error::NoSender { .. }), "{error}");
    assert_eq!(ledger.held(None, 9).await.unwrap().len(), 1, "and it is not released either");
}

#[tokio::test]
async fn messages_from_quarantine_go_before_notices_and_count_for_none_of_their_caps() {
    let (_dir, ledger) = ledger().await;
    let draft = |n: u32| Draft {
        kind: Kind::Notice,
        reverse_path: String::new(),
        recipient: BOB.into(),
        sender: "alice@sender.example".into(),
        message_id: format!("<{n}@mx>"),
        message: b"x".to_vec(),
    };
    let id = keep_one(&ledger, kept(&[BOB])).await;
    ledger.release(id, None, None, now()).await.unwrap();
    let entry = Entry::default();
    assert_eq!(ledger.record(&entry, &[draft(1)], CAPS, now()).await.unwrap().owed, 1, "no cap is reached");
    let later = keep_one(&ledger, kept(&[CAROL])).await;
    ledger.release(later, None, None, now() + Duration::from_secs(5)).await.unwrap();
    let mut kinds = Vec::new();
    while let Some(due) = take(&ledger, now() + Duration::from_secs(5)).await {
        kinds.push(due.kind.word());
    }
    assert_eq!(kinds, ["release", "release", "notice"]);
}
