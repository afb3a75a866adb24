use std::time::Duration;

use serde_json::json;

use super::*;
use crate::case::{KeyStatus, WrittenCase};
use crate::proto::address::Mailbox;
use crate::store::{Caps, Draft, ERASED, Erased, Kept, Opening, Reason, StillNamed};

#[path = "tests/blocks.rs"]
mod blocks;

const OPENING: Opening = Opening { busy: Duration::from_secs(2), readers: 2 };
const NONE: RowResult = RowResult::Judged(KeyStatus::None);
const INVALID: RowResult = RowResult::Judged(KeyStatus::Invalid);
const CAPS: Caps = Caps {
    per_hour: 9,
    pair: Duration::from_secs(1),
    waiting: 100,
    report_pair: Duration::from_secs(3_600),
    rules_pair: Duration::from_secs(7 * 86_400),
    digest_after: Duration::from_secs(3_600),
    digest_senders: 3,
};

fn mailbox(address: &str) -> Mailbox {
    Mailbox::parse(address).unwrap()
}

async fn ledger() -> (tempfile::TempDir, Ledger) {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(dir.path(), OPENING).await.unwrap();
    (dir, ledger)
}

fn entry(queue_id: &str, result: RowResult, story: &str) -> Entry {
    Entry {
        queue_id: Some(queue_id.into()),
        result,
        verdict: RowVerdict::Accept,
        json: story.into(),
        ..Entry::default()
    }
}

fn written(rows: impl IntoIterator<Item = (SystemTime, Entry)>) -> Vec<Arc<NewRow>> {
    rows.into_iter().map(|(at, row)| Arc::new(NewRow::again(row, at))).collect()
}

fn written_at(rows: impl IntoIterator<Item = Entry>, at: SystemTime) -> Vec<Arc<NewRow>> {
    written(rows.into_iter().map(|row| (at, row)))
}

fn draft(recipient: &str, sender: &str) -> Draft {
    Draft {
        kind: Kind::Notice,
        reverse_path: String::new(),
        recipient: recipient.into(),
        sender: sender.into(),
        message_id: format!("<{}@mx.example.com>", sender.len()),
        message: b"Subject: x\r\n\r\ny\r\n".to_vec(),
    }
}

fn ids(rows: &[JournalRow]) -> Vec<i64> {
    rows.iter().map(|row| row.id).collect()
}

#[tokio::test]
async fn a_batch_is_written_whole_or_not_at_all() {
    let (_dir, ledger) = ledger().await;
    let rows: Vec<Entry> = (0..300).map(|n| entry(&n.to_string(), NONE, "{}")).collect();
    ledger.append(written_at(rows, time(1_000_000))).await.unwrap();
    assert_eq!(ledger.journal(999).await.unwrap().len(), 300);
    // Another process forbids the second row of the next batch.
    let forbid =
        "CREATE TRIGGER t BEFORE INSERT ON journal WHEN NEW.queue_id = 'bad' BEGIN SELECT raise(ABORT, 'no'); END";
    ledger.0.run(forbid).await.unwrap();
    let batch = [entry("good", NONE, "{}"), entry("bad", NONE, "{}")];
    ledger.append(written_at(batch, time(1_000_000))).await.unwrap_err();
    assert!(ledger.journal_of("good").await.unwrap().is_empty());
}

#[tokio::test]
async fn rows_are_found_by_number_queue_id_result_and_time() {
    let (_dir, ledger) = ledger().await;
    let rows = [
        entry("A", RowResult::Judged(KeyStatus::Valid), r#"{"to":"<bob@example.com>"}"#),
        entry("B", INVALID, r#"{"to":"<carol@100%_.example>"}"#),
        entry("A", INVALID, r#"{"to":"<Bob@EXAMPLE.com>"}"#),
    ];
    ledger.append(written(rows.into_iter().zip([1_000, 2_000, 3_000]).map(|(row, at)| (time(at), row)))).await.unwrap();
    assert_eq!(ids(&ledger.journal_of("A").await.unwrap()), [1, 3]);
    assert_eq!(ledger.journal_row(2).await.unwrap().unwrap().entry.queue_id.as_deref(), Some("B"));
    assert!(ledger.journal_row(9).await.unwrap().is_none());
    let cases = [
        (Search { result: Some(INVALID), ..Search::default() }, vec![3, 2]),
        (Search { since: Some(time(2_000)), ..Search::default() }, vec![3, 2]),
        (Search { verdict: Some(RowVerdict::Discard), ..Search::default() }, vec![]),
    ];
    for (search, want) in cases {
        assert_eq!(ids(&ledger.find(&search, 9, |_| true).await.unwrap()), want, "{search:?}");
    }
    assert_eq!(ids(&ledger.find(&Search::default(), 1, |row| row.id != 3).await.unwrap()), [2]);
}

#[tokio::test]
async fn the_search_goes_on_past_a_page() {
    let (_dir, ledger) = ledger().await;
    let rows: Vec<Entry> = (0..700).map(|n| entry(&n.to_string(), NONE, "{}")).collect();
    ledger.append(written_at(rows, time(1_000))).await.unwrap();
    assert_eq!(ids(&ledger.find(&Search::default(), 9, |row| row.id % 300 == 1).await.unwrap()), [601, 301, 1]);
}

#[tokio::test]
async fn the_oldest_rows_go_and_those_with_something_unsent_stay() {
    let (_dir, ledger) = ledger().await;
    let now = time(1_000_000);
    ledger.record(&Entry::default(), &[draft("bob@example.com", "a@x.example")], CAPS, now).await.unwrap();
    for _ in 0..5 {
        ledger.record(&Entry::default(), &[], CAPS, now).await.unwrap();
    }
    assert_eq!(ledger.trim(6, u64::MAX).await.unwrap(), 0);
    assert_eq!(ledger.trim(3, u64::MAX).await.unwrap(), 2);
    assert_eq!(ids(&ledger.journal(9).await.unwrap()), [6, 5, 4, 1]);
    let due = ledger.take(now, |_| Duration::from_secs(60)).await.unwrap().unwrap();
    ledger.end(&due, None, now).await.unwrap();
    assert_eq!(ledger.trim(3, u64::MAX).await.unwrap(), 1);
    assert_eq!(ids(&ledger.journal(9).await.unwrap()), [6, 5, 4]);
}

#[tokio::test]
async fn many_rows_go_at_once_and_the_newest_stay() {
    let (_dir, ledger) = ledger().await;
    let rows: Vec<Entry> = (0..1_200).map(|n| entry(&n.to_string(), NONE, "{}")).collect();
    ledger.append(written(rows.into_iter().zip(1_000..).map(|(row, at)| (time(at), row)))).await.unwrap();
    assert_eq!(ledger.sweep(time(1_600)).await.unwrap(), 600);
    assert_eq!(ledger.trim(10, u64::MAX).await.unwrap(), 590);
    assert_eq!(ids(&ledger.journal(99).await.unwrap()), (1_191..=1_200).rev().collect::<Vec<_>>());
}

#[tokio::test]
async fn traces_tell_what_became_of_notices_and_kept_copies() {
    let (_dir, ledger) = ledger().await;
    let now = time(1_000_000);
    ledger.record(&Entry::default(), &[draft("bob@example.com", "a@x.example")], CAPS, now).await.unwrap();
    ledger
        .0
        .run(
            "INSERT INTO quarantine (id, journal, at, expires, reverse_path, subject, reason, size, message)
           VALUES (7, 1, 0, 2000000, '', '', '', 0, x'');
         INSERT INTO held (quarantine, recipient, folded, outcome, ended) VALUES
           (7, 'bob@example.com', 'bob@example.com', NULL, NULL), (7, 'c@example.com', 'c@example.com', 'released', 5)",
        )
        .await
        .unwrap();
    let traces = ledger.traces(1).await.unwrap();
    assert_eq!((traces.sent.len(), traces.sent[0].kind, &traces.sent[0].outcome), (1, Kind::Notice, &None));
    let held: Vec<_> = traces.held.iter().map(|h| (h.quarantine, h.recipient.as_str(), h.outcome)).collect();
    assert_eq!(held, [(7, "bob@example.com", None), (7, "c@example.com", Some(Ending::Released))]);
    let due = ledger.take(now, |_| Duration::from_secs(60)).await.unwrap().unwrap();
    ledger.end(&due, None, now).await.unwrap();
    assert_eq!(ledger.traces(1).await.unwrap().sent[0].outcome, Some(Sending::Sent));
    assert_eq!(ledger.traces(2).await.unwrap(), Traces::default());
}

#[tokio::test]
async fn an_erased_address_is_in_no_row_and_in_no_file() {
    let (dir, ledger) = ledger().await;
    let now = time(1_000_000);
    let story = r#"{"reverse_path":"<bob+x@forget.example>","facts":{"recipient":"BOB@forget.example"}}"#;
    let row = Entry {
        sender: Some("Bob@forget.example".into()),
        note: "no notice to bob@forget.example: x".into(),
        ..entry("A", NONE, story)
    };
    ledger.record(&row, &[draft("Bob@forget.example", "a@x.example")], CAPS, now).await.unwrap();
    ledger.record(&entry("B", NONE, "{}"), &[draft("c@x.example", "bob@forget.example")], CAPS, now).await.unwrap();
    let due = ledger.take(now, |_| Duration::from_secs(60)).await.unwrap().unwrap();
    ledger.end(&due, Some("550 bob@forget.example unknown"), now).await.unwrap();
    assert_eq!(
        ledger.erase(&mailbox("bob+tag@FORGET.example")).await.unwrap(),
        Erased { rows: 1, ended: 1, unsent: 1, ..Erased::default() }
    );
    let due = ledger.take(now, |_| Duration::from_secs(60)).await.unwrap().unwrap();
    ledger.end(&due, None, now).await.unwrap();
    assert_eq!(ledger.erase(&mailbox("bob@forget.example")).await.unwrap(), Erased { ended: 1, ..Erased::default() });
    assert_eq!(ledger.erase(&mailbox("bob@forget.example")).await.unwrap(), Erased::default());
    let rows = ledger.journal(9).await.unwrap();
    assert_eq!(rows[1].entry.sender.as_deref(), Some(ERASED));
    assert!(rows[1].entry.json.contains(ERASED) && rows[1].entry.json.contains("\"erased\":true"), "{:?}", rows[1]);
    let files = || std::fs::read_dir(dir.path()).unwrap().map(|file| file.unwrap().path());
    let holders = |needle: &str| -> Vec<_> {
        let holds = |octets: Vec<u8>| octets.windows(needle.len()).any(|w| w.eq_ignore_ascii_case(needle.as_bytes()));
        files().filter(|path| holds(std::fs::read(path).unwrap())).collect()
    };
    assert_eq!((holders(ERASED).len(), holders("forget.example")), (1, vec![]));
}

#[tokio::test]
async fn no_note_brings_an_erased_address_back_and_what_remains_is_counted() {
    let (_dir, ledger) = ledger().await;
    let now = time(1_000_000);
    let kept = Kept {
        queue_id: Some("A".into()),
        sender: Some("eve@x.example".into()),
        reverse_path: "bounce@x.example".into(),
        recipients: vec!["Bob+x@forget.example".into(), "carol@forget.example".into()],
        subject: String::new(),
        reason: Reason::default(),
        message: b"Subject: x\r\n\r\ny\r\n".to_vec(),
        expires: time(2_000_000),
        copy: false,
    };
    let messages = [kept.clone(), Kept { recipients: vec!["dora@forget.example".into()], ..kept }];
    let row = entry("A", INVALID, r#"{"recipients":["<Bob+x@forget.example>"]}"#);
    ledger.record_and_keep(NewRow::again(row, now), Vec::new(), (messages.to_vec(), 10_000), CAPS, now).await.unwrap();
    // The address stands nowhere but in this one's note.
    let noted = Entry { note: "no notice to bob@forget.example: x".into(), ..entry("B", NONE, "{}") };
    ledger.append(written_at([noted], now)).await.unwrap();
    ledger.choose(&mailbox("bob@forget.example"), "invalid", "quarantine").await.unwrap();
    ledger.allow(&mailbox("bob@forget.example"), "@x.example", 9).await.unwrap();
    ledger.allow(&mailbox("carol@forget.example"), "bob@forget.example", 9).await.unwrap();
    ledger.0
        .run(
        "INSERT INTO digest (capped_as, recipient, journal, since, count, senders)
         VALUES ('dora@forget.example', 'dora@forget.example', 1, 1000000, 2, 'Bob@forget.example' || char(10) || 'c@x.example')",
        )
        .await
        .unwrap();
    let still_named = StillNamed { choices: 1, allowed: 1, listed: 1, quarantined: 1 };
    let want = Erased { rows: 2, ended: 0, unsent: 1, still_named };
    assert_eq!(ledger.erase(&mailbox("bob@forget.example")).await.unwrap(), want);
    let from = ledger.erase(&mailbox("bounce@x.example")).await.unwrap();
    assert_eq!(
        from,
        Erased { still_named: StillNamed { quarantined: 2, ..StillNamed::default() }, ..Erased::default() }
    );
    ledger.release(1, Some("carol@forget.example"), None, now).await.unwrap();
    ledger.delete_held(1, Some("bob+x@forget.example"), now).await.unwrap();
    let rows = ledger.journal(9).await.unwrap();
    let note = &rows[1].entry.note;
    let want = format!("released from quarantine to {ERASED}; deleted from quarantine for {ERASED}");
    assert!(note.ends_with(&want) && !note.contains("forget.example"), "{note}");
    assert!(rows.iter().all(|row| row.entry.json.contains("\"erased\":true")), "{rows:?}");
}

#[tokio::test]
async fn a_row_that_waits_holds_no_facts_and_is_written_with_them() {
    let (_dir, ledger) = ledger().await;
    let seen = "x".repeat(36_000);
    let decision = json!({ "recipients": [0], "by": "site", "mark": "header", "policy": "p", "digest": "", "disposition": "accept",
        "notify": { "sender": false, "recipient": false }, "reason": "", "fault": null, "clamped": null,
        "facts": { "Subject": [seen] }, "settings": {},
        "shadow": { "digest": "", "settings": {}, "facts": { "headers": { "Subject": [seen] } }, "decisions": [] } });
    let story = json!({ "version": 2, "received": "", "queue_id": null, "daemon": "", "login": null,
        "client": { "ip": null, "name": null, "helo": "", "tls": false }, "reverse_path": null, "recipients": [], "size": null,
        "keys": 0, "finding": "unclear", "decisions": vec![decision; 28],
        "reply": { "verdict": "accept", "added": [], "removed": [], "redirected": [], "owed": [] } });
    let case = WrittenCase::read(&story.to_string()).unwrap();
    let columns = Columns {
        queue_id: None,
        sender: None,
        result: RowResult::Unclear,
        verdict: RowVerdict::Accept,
        note: String::new(),
    };
    let row = NewRow::of(case.clone(), columns, time(1_000));
    let waits = serde_json::to_string(&row.case).unwrap().len();
    assert!(waits < 20_000 && row.memory() > waits + row.octets(), "{waits} of {}", row.memory());
    ledger.append(vec![Arc::new(row)]).await.unwrap();
    let rows = ledger.journal(1).await.unwrap();
    assert_eq!(WrittenCase::read(&rows[0].entry.json).unwrap(), case);
}
