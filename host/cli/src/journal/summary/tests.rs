use std::sync::Arc;

use addrauth::proto::header::SPAM_FIELD;
use addrauth::store::{
    COUNTED_DOMAINS as DOMAINS, CountedDomains as Domains, Entry, Ledger, NewRow, Opening, RowResult, RowVerdict,
    SHOWN_DOMAINS as TOP, Tally,
};

use super::*;

/// A row of a message from this domain, for so many recipients as there are decisions; the reply as JSON.
fn row(result: &str, from: &str, decisions: &[&str], reply: Value) -> Entry {
    let decisions: Vec<_> = (decisions.iter().enumerate())
        .map(|(n, word)| {
            json!({ "recipients": [n], "by": "site", "mark": "header", "policy": "p", "digest": "", "disposition": word,
                "notify": { "sender": false, "recipient": false }, "reason": "", "fault": null, "clamped": null,
                "facts": null, "settings": null })
        })
        .collect();
    let recipients: Vec<_> = (0..decisions.len()).map(|n| format!("<r{n}@home.example>")).collect();
    let story = json!({ "version": 1, "received": "", "queue_id": null, "daemon": "", "login": null,
        "client": { "ip": null, "name": null, "helo": "", "tls": false }, "reverse_path": null, "recipients": recipients,
        "size": null, "keys": 0, "decisions": decisions, "reply": reply,
        "finding": { "found": { "status": result, "why": null, "sender": format!("eve@{from}"), "claim": null,
            "authority": null, "cached": false, "mail_auth": null } } });
    written(result, story.to_string())
}

fn written(result: &str, json: String) -> Entry {
    let (result, verdict) = (RowResult::of_word(result), RowVerdict::Accept);
    Entry { queue_id: None, sender: None, result, verdict, json, note: String::new() }
}

fn reply(verdict: Value, added: &[&str], removed: &[usize]) -> Value {
    json!({ "verdict": verdict, "added": added, "removed": removed, "redirected": [], "owed": [] })
}

/// What the journal that has these rows comes to.
async fn summed(rows: Vec<Entry>) -> Summary {
    let dir = tempfile::tempdir().unwrap();
    let opening = Opening { busy: std::time::Duration::from_secs(2), readers: 1 };
    let ledger = Ledger::open(dir.path(), opening).await.unwrap();
    ledger.append(rows.into_iter().map(|row| Arc::new(NewRow::again(row, SystemTime::now()))).collect()).await.unwrap();
    let mut summary = Summary::default();
    ledger.tally(None, |tally| summary.add(tally)).await.unwrap();
    summary
}

fn counts(summary: &Summary, result: &str, decision: &'static str) -> (u64, u64, u64) {
    let counts = summary.counts.get(&(result.to_owned(), decision)).copied().unwrap_or_default();
    (counts.in_force, counts.observed, counts.put_off)
}

#[tokio::test]
async fn what_was_carried_out_is_told_from_what_was_observed_and_what_was_put_off() {
    let refusal = json!({ "code": 451, "status": "4.3.0", "text": "" });
    let summary = summed(vec![
        row("valid", "a.example", &["accept"], reply(json!("accept"), &[], &[])),
        row("invalid", "b.example", &["reject"], reply(json!("discard"), &[], &[])),
        row("invalid", "b.example", &["reject"], reply(json!("accept"), &[], &[])),
        row("invalid", "c.example", &["reject"], reply(json!({ "defer": refusal }), &[], &[])),
        row("missing", "c.example", &["mark"], reply(json!("accept"), &[SPAM_FIELD], &[])),
        row("missing", "c.example", &["mark"], reply(json!("accept"), &[], &[])),
        row("missing", "c.example", &["accept", "quarantine"], reply(json!("accept"), &[], &[1])),
        row("missing", "c.example", &["accept", "accept"], reply(json!("accept"), &[], &[])),
        row("none", "d.example", &["defer"], reply(json!({ "defer": refusal }), &[], &[])),
    ])
    .await;
    assert_eq!(summary.messages, 9);
    assert_eq!(counts(&summary, "valid", "accept"), (1, 0, 0));
    assert_eq!(counts(&summary, "invalid", "reject"), (1, 1, 1));
    assert_eq!(counts(&summary, "missing", "mark"), (1, 1, 0));
    assert_eq!(counts(&summary, "missing", "quarantine"), (1, 0, 0));
    assert_eq!(counts(&summary, "missing", "accept"), (2, 0, 0));
    assert_eq!(counts(&summary, "none", "defer"), (1, 0, 0));
    let lines = Printed(&summary).lines(Some(SystemTime::UNIX_EPOCH));
    assert_eq!(lines[0], "9 messages were judged since 1970-01-01 00:00 UTC");
    let begins: Vec<&str> = lines[3..9].iter().map(|line| line.get(..22).unwrap().trim_end()).collect();
    assert_eq!(begins[0], "valid       accept");
    assert_eq!(begins[1], "invalid     reject");
    assert_eq!(begins[2..5], ["missing     accept", "missing     mark", "missing     quarantine"]);
    // Of valid and none nobody is named.
    let heads: Vec<&String> = lines.iter().filter(|line| line.starts_with("Senders' domains")).collect();
    assert_eq!(heads, ["Senders' domains of the result invalid", "Senders' domains of the result missing"]);
}

#[test]
fn the_ten_most_frequent_domains_are_shown_and_memory_is_bounded() {
    let mut domains = Domains::default();
    (0..DOMAINS + 5).for_each(|n| domains.add(format!("d{n:05}.example"), 1));
    (0..3).for_each(|_| domains.add("d00777.example".into(), 1));
    assert_eq!((domains.single.len(), domains.others), (DOMAINS, 5));
    let top = domains.top();
    assert_eq!((top.len(), top[0], top[1]), (TOP, ("d00777.example", 4), ("d00000.example", 1)));
}

#[tokio::test]
async fn every_line_fits_into_100_columns() {
    let long = format!("{}.example", "x".repeat(200));
    let mut summary = summed(vec![row("unverified", &long, &["quarantine"], reply(json!("discard"), &[], &[]))]).await;
    let shadows = vec![("x".repeat(64), format!("{0}.{0}", "0".repeat(12)), Differs::Sideways, 123_456)];
    let mut tally = Tally::default();
    tally.shadows = shadows;
    summary.add(tally);
    let lines = Printed(&summary).lines(None);
    assert!(lines.iter().any(|line| line.contains("123456")), "{lines:?}");
    assert!(lines.iter().all(|line| line.chars().count() <= 100), "{lines:?}");
    assert!(lines.iter().any(|line| line.ends_with('…')), "{lines:?}");
}

#[tokio::test]
async fn a_row_that_cannot_be_read_is_told_of_and_a_stand_in_is_none() {
    let rows = [("invalid", "{\"version\":9}"), ("quarantined", "{\"version\":1}")];
    let summary = summed(rows.map(|(result, json)| written(result, json.into())).to_vec()).await;
    assert_eq!((summary.messages, summary.unread), (0, 1));
    assert!(Printed(&summary).lines(None)[1].starts_with("1 rows cannot be read"));
}
