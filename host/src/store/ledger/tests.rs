use super::*;

const OPENING: Opening = Opening { busy: Duration::from_secs(2), readers: 2 };
const CAPS: Caps = Caps { per_hour: 2, pair: Duration::from_secs(86_400), waiting: 100 };

fn draft(number: u32, recipient: &str, sender: &str) -> Draft {
    Draft {
        recipient: recipient.into(),
        sender: sender.into(),
        message_id: format!("<{number}@mx.example.com>"),
        message: b"Subject: x\r\n\r\ny\r\n".to_vec(),
    }
}

fn minute(_: u32) -> Duration {
    Duration::from_secs(60)
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
    assert_eq!(ledger.outbox(9).await.unwrap()[0].outcome.as_deref(), Some("sent"));
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

#[tokio::test]
async fn a_failed_transaction_leaves_neither_journal_row_nor_notice() {
    let (_dir, ledger) = ledger().await;
    let now = time(1_000_000);
    let twice = [draft(1, "bob@example.com", "a@x.example"), draft(1, "carol@example.com", "a@x.example")];
    assert!(ledger.record(&Entry::default(), &twice, CAPS, now).await.is_err(), "two notices, one Message-ID");
    assert!(ledger.journal(9).await.unwrap().is_empty());
    assert!(ledger.outbox(9).await.unwrap().is_empty());
}

#[tokio::test]
async fn the_sweep_spares_what_is_still_to_be_sent() {
    let (_dir, ledger) = ledger().await;
    let now = time(1_000_000);
    ledger.record(&Entry::default(), &[], CAPS, now).await.unwrap();
    ledger.record(&Entry::default(), &[draft(1, "bob@example.com", "")], CAPS, now).await.unwrap();
    let later = now + Duration::from_secs(10);
    assert_eq!(ledger.sweep(later).await.unwrap(), 1);
    let due = ledger.take(later, minute).await.unwrap().unwrap();
    ledger.end(&due, None, later).await.unwrap();
    assert_eq!(ledger.sweep(later).await.unwrap(), 1);
    assert!(ledger.outbox(9).await.unwrap().is_empty());
}

#[tokio::test]
async fn another_process_that_holds_the_lock_is_an_error_after_a_bounded_wait() {
    let dir = tempfile::tempdir().unwrap();
    let short = Opening { busy: Duration::from_millis(200), readers: 1 };
    let ours = Ledger::open(dir.path(), short).await.unwrap();
    let theirs = Ledger::open(dir.path(), short).await.unwrap();
    let lock = theirs.0.writer().begin_with("BEGIN IMMEDIATE").await.unwrap();
    let error = ours.record(&Entry::default(), &[], CAPS, time(1_000_000)).await.unwrap_err().to_string();
    assert!(error.contains("filter.db") && error.contains("locked"), "{error}");
    assert!(ours.journal(9).await.unwrap().is_empty(), "reading goes on meanwhile");
    lock.rollback().await.unwrap();
    ours.record(&Entry::default(), &[], CAPS, time(1_000_000)).await.unwrap();
}
