use super::*;
use crate::store::{Entry, Opening};

const OPENING: Opening = Opening { busy: Duration::from_secs(2), readers: 2 };
const CAPS: Caps = Caps {
    per_hour: 2,
    pair: Duration::from_secs(86_400),
    waiting: 100,
    report_pair: Duration::from_secs(3_600),
    rules_pair: Duration::from_secs(7 * 86_400),
    digest_after: Duration::from_secs(3_600),
    digest_senders: 3,
};

fn draft(number: u32, recipient: &str, sender: &str) -> Draft {
    Draft {
        kind: Kind::Notice,
        reverse_path: String::new(),
        recipient: recipient.into(),
        sender: sender.into(),
        message_id: format!("<{number}@mx.example.com>"),
        message: b"Subject: x\r\n\r\ny\r\n".to_vec(),
    }
}

fn minute(_: u32) -> Duration {
    Duration::from_secs(60)
}

fn mailbox(address: &str) -> Mailbox {
    Mailbox::parse(address).unwrap()
}

async fn ledger() -> (tempfile::TempDir, Ledger) {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(dir.path(), OPENING).await.unwrap();
    (dir, ledger)
}

#[tokio::test]
async fn j1_one_notice_per_recipient_and_sender_a_day() {
    let (_dir, ledger) = ledger().await;
    let caps = Caps { per_hour: 9, ..CAPS };
    let day = Duration::from_secs(86_400);
    let at = |n, when, recipient| {
        let ledger = ledger.clone();
        async move { ledger.record(&Entry::default(), &[draft(n, recipient, "Eve@x.example")], caps, when).await.unwrap() }
    };
    assert_eq!(at(1, time(1_000_000), "bob@example.com").await.owed, 1);
    let again = at(2, time(1_000_000) + day / 2, "Bob+tag@example.com").await;
    assert_eq!((again.owed, &again.withheld[0].1), (0, &Withheld::Pair));
    assert_eq!(at(3, time(1_000_000), "carol@example.com").await.owed, 1);
    assert_eq!(at(4, time(1_000_001) + day, "bob@example.com").await.owed, 1);
    let rows = ledger.journal(10).await.unwrap();
    assert_eq!(rows.len(), 4, "the journal has a row for every one of them");
    assert!(rows[2].entry.note.contains("no notice to Bob+tag@example.com"), "{:?}", rows[2]);
}

#[tokio::test]
async fn a_user_has_one_letter_about_the_rules_a_week_whoever_wrote_the_messages() {
    let (_dir, ledger) = ledger().await;
    let at = |n, when, user: &str| {
        let (ledger, draft) = (ledger.clone(), Draft { kind: Kind::RulesUnread, ..draft(n, user, "") });
        async move { ledger.record(&Entry::default(), &[draft], CAPS, when).await.unwrap() }
    };
    assert_eq!(at(1, time(1_000_000), "bob@example.com").await.owed, 1);
    let again = at(2, time(1_000_000) + CAPS.rules_pair / 2, "Bob+tag@example.com").await;
    assert_eq!((again.owed, &again.withheld[0].1), (0, &Withheld::RulesUnread));
    assert_eq!(at(3, time(1_000_000), "carol@example.com").await.owed, 1);
    assert_eq!(at(4, time(1_000_001) + CAPS.rules_pair, "bob@example.com").await.owed, 1);
    let notice = ledger.record(&Entry::default(), &[draft(5, "bob@example.com", "")], CAPS, time(1_000_000)).await;
    assert_eq!(notice.unwrap().owed, 1, "a notice has a cap of its own");
}

#[tokio::test]
async fn j4_the_cap_of_an_hour_outlives_a_restart() {
    let (dir, ledger) = ledger().await;
    let now = time(1_000_000);
    for n in 0..2 {
        let drafts = [draft(n, "bob@example.com", &format!("{n}@x.example"))];
        assert_eq!(ledger.record(&Entry::default(), &drafts, CAPS, now).await.unwrap().owed, 1);
    }
    ledger.close().await;
    let ledger = Ledger::open(dir.path(), OPENING).await.unwrap();
    let drafts = [draft(3, "bob@example.com", "3@x.example")];
    let third = ledger.record(&Entry::default(), &drafts, CAPS, now).await.unwrap();
    assert_eq!(third.withheld, [("bob@example.com".to_owned(), Withheld::Hour)]);
    let later = now + Duration::from_secs(3601);
    assert_eq!(ledger.record(&Entry::default(), &drafts, CAPS, later).await.unwrap().owed, 1);
}

#[tokio::test]
async fn a_try_that_never_ended_is_repeated_and_one_that_did_is_not() {
    let (_dir, ledger) = ledger().await;
    let now = time(1_000_000);
    ledger.record(&Entry::default(), &[draft(1, "bob@example.com", "")], CAPS, now).await.unwrap();
    let first = ledger.take(now, minute).await.unwrap().unwrap();
    assert!(ledger.take(now, minute).await.unwrap().is_none(), "nobody else takes it meanwhile");
    let later = now + Duration::from_secs(60);
    let second = ledger.take(later, minute).await.unwrap().unwrap();
    assert_eq!((first.message_id == second.message_id, first.tries, second.tries), (true, 1, 2));
    ledger.end(&second, None, later).await.unwrap();
    assert!(ledger.take(later + Duration::from_secs(86_400), minute).await.unwrap().is_none());
    assert_eq!(ledger.outbox(9).await.unwrap()[0].outcome, Some(Sending::Sent));
}

#[tokio::test]
async fn a_mail_ends_no_other_of_the_same_number() {
    let ((_dir, ledger), (_restored, other)) = (ledger().await, ledger().await);
    let now = time(1_000_000);
    ledger.record(&Entry::default(), &[draft(1, "bob@example.com", "")], CAPS, now).await.unwrap();
    other.record(&Entry::default(), &[draft(2, "carol@example.com", "")], CAPS, now).await.unwrap();
    let due = ledger.take(now, minute).await.unwrap().unwrap();
    other.postpone(&due, "later").await.unwrap();
    other.end(&due, Some("refused"), now).await.unwrap();
    other.end(&due, None, now).await.unwrap();
    assert_eq!(other.outbox(9).await.unwrap()[0].note, None);
    let carols = other.take(now, minute).await.unwrap().unwrap();
    assert_eq!((carols.id, carols.recipient.as_str()), (due.id, "carol@example.com"));
}

#[tokio::test]
async fn j1_notices_to_many_recipients_do_not_pile_up_without_end() {
    let (_dir, ledger) = ledger().await;
    let (caps, now) = (Caps { waiting: 3, ..CAPS }, time(1_000_000));
    let all: Vec<Draft> = (0..5).map(|n| draft(n, &format!("user{n}@example.com"), "eve@x.example")).collect();
    let recorded = ledger.record(&Entry::default(), &all, caps, now).await.unwrap();
    assert_eq!((recorded.owed, recorded.withheld.len()), (3, 2));
    assert!(recorded.withheld.iter().all(|(_, cap)| *cap == Withheld::Full));
    let due = ledger.take(now, minute).await.unwrap().unwrap();
    ledger.end(&due, None, now).await.unwrap();
    let later = [draft(9, "user9@example.com", "eve@x.example")];
    assert_eq!(
        ledger.record(&Entry::default(), &later, caps, now).await.unwrap().owed,
        1,
        "one went out, one more may come"
    );
}

#[tokio::test]
async fn a_clock_that_was_ahead_neither_holds_notices_back_nor_keeps_them_from_going_out() {
    let (_dir, ledger) = ledger().await;
    let (wrong, now) = (time(2_000_000_000), time(1_000_000));
    let waiting = [draft(1, "bob@example.com", "a@x.example"), draft(2, "bob@example.com", "b@x.example")];
    assert_eq!(ledger.record(&Entry::default(), &waiting, CAPS, wrong).await.unwrap().owed, 2);
    assert_eq!(ledger.take(now, minute).await.unwrap().unwrap().message_id, "<1@mx.example.com>");
    assert_eq!(ledger.take(now, minute).await.unwrap().unwrap().message_id, "<2@mx.example.com>");
    assert!(ledger.take(now, minute).await.unwrap().is_none(), "its next try has a time by the right clock");
    let third = [draft(3, "bob@example.com", "a@x.example")];
    assert_eq!(ledger.record(&Entry::default(), &third, CAPS, now).await.unwrap().owed, 1);
}

#[tokio::test]
async fn what_is_given_up_is_noted_in_the_journal() {
    let (_dir, ledger) = ledger().await;
    let now = time(1_000_000);
    ledger.record(&Entry::default(), &[draft(1, "bob@example.com", "")], CAPS, now).await.unwrap();
    let due = ledger.take(now, minute).await.unwrap().unwrap();
    ledger.end(&due, Some("550 no such user"), now).await.unwrap();
    assert_eq!(ledger.journal(1).await.unwrap()[0].entry.note, "notice to bob@example.com given up: 550 no such user");
}

fn report(number: u32, recipient: &str) -> Draft {
    Draft { kind: Kind::Report, ..draft(number, recipient, "alice@x.example") }
}

fn digest(collected: &Collected) -> Option<Draft> {
    Some(Draft { kind: Kind::Digest, ..draft(1_000, &collected.recipient, "") })
}

#[tokio::test]
async fn j1_what_the_hourly_cap_holds_back_becomes_one_digest_an_hour() {
    let (dir, ledger) = ledger().await;
    let now = time(1_000_000);
    for n in 0..10 {
        let recipient = ["bob@example.com", "Bob+1@example.com"][n as usize % 2];
        let drafts = [draft(n, recipient, &format!("{}@x.example", n % 8))];
        ledger.record(&Entry::default(), &drafts, CAPS, now + Duration::from_secs(n.into())).await.unwrap();
    }
    let early = now + Duration::from_secs(3_600);
    assert!(!ledger.bundle(CAPS, early, |_| panic!("not yet an hour since the first")).await.unwrap());
    ledger.close().await;
    let ledger = Ledger::open(dir.path(), OPENING).await.unwrap();
    let later = now + Duration::from_secs(3_602);
    let mut seen = None;
    let compose = |collected: &Collected| {
        seen = Some(collected.clone());
        digest(collected)
    };
    assert!(ledger.bundle(CAPS, later, compose).await.unwrap(), "it outlives a restart");
    let seen = seen.unwrap();
    // Two of ten went out, two more were about the same senders.
    assert_eq!((seen.count, seen.since), (6, now + Duration::from_secs(2)));
    assert_eq!(seen.senders, ["2@x.example", "3@x.example", "4@x.example", "5@x.example"], "one more than it names");
    assert!(!ledger.bundle(CAPS, later, |_| panic!("twice")).await.unwrap());
    assert_eq!(ledger.outbox(9).await.unwrap().iter().filter(|row| row.kind == Kind::Digest).count(), 1);
    // The digest counts for no cap of the notices.
    let drafts = [draft(20, "bob@example.com", "new@x.example"), draft(21, "bob@example.com", "newer@x.example")];
    assert_eq!(ledger.record(&Entry::default(), &drafts, CAPS, later).await.unwrap().owed, 2);
}

#[tokio::test]
async fn a_digest_waits_while_the_outbox_is_full_and_is_not_lost() {
    let (_dir, ledger) = ledger().await;
    let (now, later) = (time(1_000_000), time(1_010_000));
    for n in 0..3 {
        let drafts = [draft(n, "bob@example.com", &format!("{n}@x.example"))];
        ledger.record(&Entry::default(), &drafts, CAPS, now).await.unwrap();
    }
    assert!(!ledger.bundle(Caps { waiting: 2, ..CAPS }, later, digest).await.unwrap());
    assert!(!ledger.bundle(CAPS, later, |_| None).await.unwrap(), "nor where it cannot be written");
    assert!(ledger.bundle(CAPS, later, digest).await.unwrap());
}

#[tokio::test]
async fn a_report_over_its_cap_leaves_nothing_behind() {
    let (_dir, ledger) = ledger().await;
    let now = time(1_000_000);
    ledger.record(&Entry::default(), &[report(1, "alice@x.example")], CAPS, now).await.unwrap();
    assert_eq!(ledger.report_withheld(&mailbox("Alice+x@x.example"), CAPS, now).await.unwrap(), Some(Withheld::Report));
    let both = [draft(2, "bob@example.com", "alice@x.example"), report(3, "ALICE@x.example")];
    let error = ledger.record(&Entry::default(), &both, CAPS, now).await.unwrap_err();
    assert!(matches!(error, Error::Withheld { .. }), "{error}");
    assert_eq!((ledger.journal(9).await.unwrap().len(), ledger.outbox(9).await.unwrap().len()), (1, 1));
    let hour = now + Duration::from_secs(3_601);
    assert_eq!(ledger.report_withheld(&mailbox("alice@x.example"), CAPS, hour).await.unwrap(), None);
    let full = Caps { waiting: 1, ..CAPS };
    assert_eq!(ledger.report_withheld(&mailbox("carol@x.example"), full, now).await.unwrap(), Some(Withheld::Full));
    assert!(ledger.record(&Entry::default(), &[report(4, "carol@x.example")], full, now).await.is_err());
    assert_eq!(ledger.record(&Entry::default(), &both, CAPS, hour).await.unwrap().owed, 2);
}

#[tokio::test]
async fn a_report_to_somebody_counts_for_none_of_his_notices() {
    let (_dir, ledger) = ledger().await;
    let now = time(1_000_000);
    let caps = Caps { per_hour: 1, ..CAPS };
    ledger.record(&Entry::default(), &[report(1, "bob@example.com")], caps, now).await.unwrap();
    let notice = [draft(2, "bob@example.com", "alice@x.example")];
    assert_eq!(ledger.record(&Entry::default(), &notice, caps, now).await.unwrap().owed, 1);
}

#[tokio::test]
async fn a_mail_of_a_kind_that_another_version_knows_holds_up_no_other() {
    let (_dir, ledger) = ledger().await;
    let now = time(1_000_000);
    for number in 1..=2 {
        let draft = draft(number, &format!("bob{number}@example.com"), "alice@sender.example");
        ledger.record(&Entry::default(), &[draft], CAPS, now).await.unwrap();
    }
    ledger.0.run("UPDATE outbox SET kind = 'later', next_try = 0 WHERE id = 1").await.unwrap();
    let due = ledger.take(now, minute).await.unwrap().unwrap();
    assert_eq!(due.recipient, "bob2@example.com");
    assert!(ledger.take(now, minute).await.unwrap().is_none());
}
