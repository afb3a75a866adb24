use std::time::Duration;

use super::*;
use crate::store::time;
use crate::store::{Opening, RowVerdict};

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

async fn ledger() -> (tempfile::TempDir, Ledger) {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(dir.path(), OPENING).await.unwrap();
    (dir, ledger)
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
    theirs.0.run("BEGIN IMMEDIATE").await.unwrap();
    let error = ours.record(&Entry::default(), &[], CAPS, time(1_000_000)).await.unwrap_err().to_string();
    assert!(error.contains("filter.db") && error.contains("locked"), "{error}");
    assert!(ours.journal(9).await.unwrap().is_empty(), "reading goes on meanwhile");
    theirs.0.run("ROLLBACK").await.unwrap();
    ours.record(&Entry::default(), &[], CAPS, time(1_000_000)).await.unwrap();
}

#[tokio::test]
async fn what_was_written_too_late_is_taken_back_with_all_that_hangs_on_it() {
    let (_dir, ledger) = ledger().await;
    let now = time(1_000_000);
    let written =
        ledger.record(&Entry::default(), &[draft(1, "bob@x.example", "eve@y.example")], CAPS, now).await.unwrap();
    ledger.take_back(written.journal).await.unwrap();
    assert!(ledger.take(now, minute).await.unwrap().is_none(), "nothing is owed");
    let row = ledger.journal(1).await.unwrap().remove(0);
    assert_eq!(row.entry.verdict, RowVerdict::Defer);
    assert!(row.entry.note.contains("too late"), "{}", row.entry.note);
}
