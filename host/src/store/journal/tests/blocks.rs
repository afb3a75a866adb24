//! What blocks say of their rows is what the rows say, whatever was written, erased and deleted, by this version or the one
//! before.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;
use crate::case::{Carried, WrittenCase};
use crate::store::block::Tally;
use crate::store::plan;
use crate::store::sqlite::Database;

/// Numbers that look random, the same in each run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % most
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        let at = self.below(of.len() as u64);
        of[usize::try_from(at).unwrap()]
    }
}

const RESULTS: [&str; 8] = ["valid", "none", "none", "none", "none", "missing", "invalid", "submitted"];
const DECISIONS: [&str; 6] = ["accept", "accept", "accept", "accept", "mark", "quarantine"];

/// Mail of all kinds: most of it ordinary, some to several recipients, some that cannot be read.
fn mail(dice: &mut Dice, n: u64) -> Entry {
    let (result, decision) = (dice.one(&RESULTS), dice.one(&DECISIONS));
    let (sender, to) = (format!("s{}@d{}.example", dice.below(50), dice.below(9)), dice.below(40));
    let path = if dice.below(3) == 0 { "<Bounce+7@Lists.example>".to_owned() } else { format!("<{sender}>") };
    let policy = if dice.below(20) == 0 { format!("p{}", dice.below(12)) } else { decision.to_owned() };
    let mut story = json!({
        "version": 2, "received": "2026-11-29T15:41:00.865Z", "queue_id": format!("Q{n}"),
        "client": { "ip": "192.0.2.25", "name": null, "helo": "mx.example", "tls": true }, "daemon": "smtpd", "login": null,
        "reverse_path": path, "recipients": [format!("<R{to}@home.example>")], "size": n, "keys": 1,
        "finding": { "found": { "status": "none", "why": null, "sender": sender, "claim": null, "authority": null,
            "cached": true, "mail_auth": null } },
        "decisions": [{ "recipients": [0], "by": "site", "mark": "header", "policy": policy, "digest": "d".repeat(64),
            "disposition": decision, "notify": { "sender": false, "recipient": false }, "reason": "", "fault": null,
            "clamped": null, "facts": { "status": "none" }, "settings": {} }],
        "reply": { "verdict": "accept", "added": ["X-Auth-Key-Status"], "removed": [], "redirected": [], "owed": [] }
    });
    if dice.below(30) == 0 {
        story["recipients"] = (0..40).map(|n| Value::from(format!("<many{n}-{to}@other.example>"))).collect();
        story["reply"]["removed"] = json!([0]);
    }
    let verdict = if dice.below(10) == 0 { RowVerdict::Discard } else { RowVerdict::Accept };
    let json = if dice.below(50) == 0 { "{\"version\":9}".to_owned() } else { story.to_string() };
    let sender = (result != "submitted").then_some(sender);
    let result = RowResult::of_word(result);
    Entry { queue_id: Some(format!("Q{n}")), sender, result, verdict, json, note: String::new() }
}

fn story(row: &JournalRow) -> Option<WrittenCase> {
    WrittenCase::read(&row.entry.json).ok()
}

fn mails(seed: u64, count: u64) -> Vec<(SystemTime, Entry)> {
    let mut dice = Dice(seed);
    (0..count).map(|n| (time(1_000_000 + i64::try_from(n).unwrap()), mail(&mut dice, n))).collect()
}

/// Whether the row is from or to this one, as `addrauth journal list` reads it.
fn is_of(addresses: impl Iterator<Item = String>, whom: &str) -> bool {
    addresses
        .filter_map(|address| Mailbox::parse(address.trim_matches(['<', '>'])))
        .any(|mailbox| if whom.starts_with('@') { mailbox.ends_with(whom) } else { mailbox.as_str() == whom })
}

/// Whether a row is one of those that are looked for, read whole.
fn fits(search: &Search, row: &JournalRow) -> bool {
    let Search { result, verdict, since, sender, recipient, recipients, decision, policy } = search;
    let told = story(row);
    let decided = |fits: &dyn Fn(&crate::case::Decision) -> bool| told.iter().flat_map(|t| &t.decisions).any(fits);
    let from = told.iter().flat_map(|t| t.author().into_iter().chain(t.reverse_path.as_deref())).map(str::to_owned);
    let to = told.iter().flat_map(|t| t.recipients.clone());
    let is_one = |whom: &String| is_of(to.clone(), whom);
    (recipients.is_empty() || recipients.iter().any(is_one))
        && result.as_ref().is_none_or(|result| *result == row.entry.result)
        && verdict.as_ref().is_none_or(|verdict| *verdict == row.entry.verdict)
        && since.is_none_or(|since| row.at >= since)
        && sender.as_ref().is_none_or(|whom| is_of(from, whom))
        && recipient.as_ref().is_none_or(is_one)
        && decision.as_ref().is_none_or(|word| decided(&|d| d.disposition.word() == word))
        && policy.as_ref().is_none_or(|id| decided(&|d| d.policy == *id))
}

fn searches() -> Vec<Search> {
    let none = Search::default;
    let text = |text: &str| Some(text.to_owned());
    let mut all = vec![
        none(),
        Search { result: Some(NONE), ..none() },
        Search { result: Some(RowResult::Unclear), ..none() },
        Search { result: Some(INVALID), verdict: Some(RowVerdict::Discard), ..none() },
        Search { verdict: Some(RowVerdict::Hold), ..none() },
        Search { since: Some(time(1_000_700)), result: Some(INVALID), ..none() },
        Search { since: Some(time(9_000_000)), ..none() },
    ];
    for whom in ["s7@d3.example", "bounce@lists.example", "@d3.example", "@lists.example", "x@y.example", "@y.example"]
    {
        all.push(Search { sender: text(whom), ..none() });
        all.push(Search { sender: text(whom), result: Some(NONE), decision: text("mark"), ..none() });
    }
    for whom in ["r17@home.example", "many39-3@other.example", "@other.example", "@home.example", "@d3.example"] {
        all.push(Search { recipient: text(whom), ..none() });
        all.push(Search { recipient: text(whom), sender: text("@d3.example"), ..none() });
    }
    for some in [
        ["@other.example", "@nowhere.example"].as_slice(),
        &["@home.example", "r17@home.example", "@other.example"],
        &["@nowhere.example", "x@y.example"],
    ] {
        let recipients: Vec<String> = some.iter().map(|whom| (*whom).to_owned()).collect();
        all.push(Search { recipients: recipients.clone(), ..none() });
        all.push(Search { recipients: recipients.clone(), recipient: text("@home.example"), ..none() });
        all.push(Search { recipients, sender: text("@d3.example"), decision: text("mark"), ..none() });
    }
    for word in ["accept", "mark", "quarantine", "reject"] {
        all.push(Search { decision: text(word), ..none() });
    }
    for id in ["accept", "mark", "p1", "p11", "p12", "\"quoted\""] {
        all.push(Search { policy: text(id), decision: text("quarantine"), ..none() });
        all.push(Search { policy: text(id), ..none() });
    }
    all
}

/// Each search finds what reading all rows finds.
async fn searches_find_what_is_there(ledger: &Ledger) {
    let all = ledger.journal(u32::MAX).await.unwrap();
    for search in searches() {
        let want: Vec<i64> = all.iter().filter(|row| fits(&search, row)).map(|row| row.id).collect();
        let found = ledger.find(&search, usize::MAX, |row| fits(&search, row)).await.unwrap();
        assert_eq!(ids(&found), want, "{search:?}");
        let newest = ledger.find(&search, 3, |row| fits(&search, row)).await.unwrap();
        assert_eq!(ids(&newest), want[..want.len().min(3)], "{search:?}");
    }
    for id in ["Q0", "Q300", "Q1299", "Q999999"] {
        let want: Vec<i64> =
            all.iter().rev().filter(|row| row.entry.queue_id.as_deref() == Some(id)).map(|row| row.id).collect();
        assert_eq!(ids(&ledger.journal_of(id).await.unwrap()), want, "{id}");
    }
}

type Sums = (u64, u64, BTreeMap<(String, &'static str, Carried), u64>, BTreeMap<(String, String), u64>);

fn add(sums: &mut Sums, tally: Tally) {
    sums.0 += tally.messages;
    sums.1 += tally.unread;
    for (result, word, carried, count) in tally.counts {
        *sums.2.entry((result.word().to_owned(), word, carried)).or_default() += count;
    }
    for (result, domain, count) in tally.domains {
        *sums.3.entry((result.word().to_owned(), domain)).or_default() += count;
    }
}

/// What is counted is what the rows say, whatever the time from which it is counted.
async fn counts_are_those_of_the_rows(ledger: &Ledger) {
    let all = ledger.journal(u32::MAX).await.unwrap();
    for since in [None, Some(0), Some(1_000_000), Some(1_000_100), Some(1_000_255), Some(1_000_801), Some(2_000_000)] {
        let since = since.map(time);
        let (mut want, mut told) = (Sums::default(), Sums::default());
        for row in all.iter().filter(|row| since.is_none_or(|since| row.at >= since)) {
            let mut tally = Tally::default();
            tally.add(&row.entry.result, story(row).as_ref());
            add(&mut want, tally);
        }
        ledger.tally(since, |tally| add(&mut told, tally)).await.unwrap();
        assert_eq!(told, want, "{since:?}");
    }
}

/// What is known of each block is what is found out about its rows anew, but for names that only may be there.
async fn blocks_are_true(ledger: &Ledger) {
    let known =
        "SELECT block.block, oldest, newest, rows, summary FROM block JOIN block_summary USING (block) ORDER BY 1";
    let read = move |work: &rusqlite::Connection| {
        work.all(known, (), |row| {
            let told: Vec<u8> = row.get(4)?;
            Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?, row.get::<_, i64>(3)?, told))
        })
    };
    let before = ledger.0.scan(read).await.unwrap();
    let numbers: Vec<i64> = before.iter().map(|block| block.0).collect();
    let anew = ledger.0.write(move |work| {
        numbers.iter().try_for_each(|number| survey(work, *number))?;
        read(work)
    });
    assert_eq!(anew.await.unwrap(), before);
}

#[tokio::test]
async fn searches_and_counts_by_blocks_are_those_of_the_rows() {
    let (_dir, ledger) = ledger().await;
    for part in mails(7, 1_300).chunks(77) {
        ledger.append(written(part.to_vec())).await.unwrap();
    }
    searches_find_what_is_there(&ledger).await;
    counts_are_those_of_the_rows(&ledger).await;
    blocks_are_true(&ledger).await;
}

#[tokio::test]
async fn blocks_stay_true_when_rows_are_swept_trimmed_erased_and_taken_back() {
    let (_dir, ledger) = ledger().await;
    ledger.append(written(mails(11, 1_300))).await.unwrap();
    ledger.record(&Entry::default(), &[draft("bob@example.com", "a@x.example")], CAPS, time(1_000_000)).await.unwrap();
    assert_eq!(ledger.sweep(time(1_000_300)).await.unwrap(), 300);
    blocks_are_true(&ledger).await;
    assert_eq!(ledger.trim(700, u64::MAX).await.unwrap(), 301);
    blocks_are_true(&ledger).await;
    ledger.take_back(900).await.unwrap();
    let deferred = Search { verdict: Some(RowVerdict::Defer), ..Search::default() };
    assert_eq!(ids(&ledger.find(&deferred, 9, |_| true).await.unwrap()), [900]);
    let before = ledger.journal(u32::MAX).await.unwrap();
    let holds = |row: &&JournalRow| fits(&Search { sender: Some("s7@d3.example".into()), ..Search::default() }, row);
    let count = before.iter().filter(holds).count();
    assert!(count > 0);
    assert_eq!(ledger.erase(&mailbox("s7@d3.example")).await.unwrap().rows, count as u64);
    searches_find_what_is_there(&ledger).await;
    counts_are_those_of_the_rows(&ledger).await;
    blocks_are_true(&ledger).await;
    // What is known of the rows has forgotten the name as well: it is no more than what rows with the stand-in give.
    let name = crate::store::block::sender("s7@d3.example");
    let names =
        ledger.0.scan(|work| work.all("SELECT names FROM block_names", (), |row| Ok(row.get::<_, Vec<u8>>(0)?)));
    let may_hold = |names: &Vec<u8>| crate::store::block::Names::may_hold(names, name);
    assert!(!names.await.unwrap().iter().any(may_hold));
}

#[tokio::test]
async fn octets_bound_the_journal_and_the_newest_rows_stay() {
    let (_dir, ledger) = ledger().await;
    ledger.append(written(mails(13, 2_000))).await.unwrap();
    assert_eq!(ledger.trim(u64::MAX, 100_000_000).await.unwrap(), 0);
    let before = ledger.journal(u32::MAX).await.unwrap();
    let gone = ledger.trim(u64::MAX, 250_000).await.unwrap();
    let left = ledger.journal(u32::MAX).await.unwrap();
    assert!(gone > 0 && !left.is_empty(), "{gone}");
    assert_eq!(ids(&left), ids(&before)[..left.len()]);
    blocks_are_true(&ledger).await;
    assert_eq!(ledger.trim(u64::MAX, 0).await.unwrap(), left.len() as u64);
    assert_eq!(ledger.journal(9).await.unwrap().len(), 0);
    // The numbers begin anew, and so do the blocks.
    ledger.append(written(mails(13, 300))).await.unwrap();
    searches_find_what_is_there(&ledger).await;
    blocks_are_true(&ledger).await;
}

#[tokio::test]
async fn many_recipients_make_a_filter_grow_and_not_crowded() {
    let (_dir, ledger) = ledger().await;
    let mut dice = Dice(1);
    let rows = (0..20).map(|n| {
        let mut row = mail(&mut dice, n);
        let mut story: Value = serde_json::from_str(&row.json).unwrap();
        story["recipients"] = (0..1_000).map(|to| Value::from(format!("<r{to}x{n}@h{n}.example>"))).collect();
        row.json = story.to_string();
        (time(1_000), row)
    });
    ledger.append(written(rows)).await.unwrap();
    let read = |work: &rusqlite::Connection| work.one::<Vec<u8>>("SELECT names FROM block_names", ());
    let names = ledger.0.scan(read).await.unwrap();
    let set: u32 = names.iter().map(|octet| octet.count_ones()).sum();
    assert!(u64::from(set) < names.len() as u64 * 4, "{set} of {} octets", names.len());
    let search = Search { recipient: Some("r999x19@h19.example".into()), ..Search::default() };
    assert_eq!(ids(&ledger.find(&search, 9, |row| fits(&search, row)).await.unwrap()), [20]);
}

/// A journal as the version before wrote it.
async fn old(dir: &std::path::Path, rows: &[(SystemTime, Entry)]) {
    let plan = plan::Plan { of: plan::FILTER.of, steps: &plan::FILTER.steps[..2] };
    let database = Database::open(dir, plan, OPENING).await.unwrap();
    let rows = rows.to_vec();
    let written = database.write(move |work| {
        for row in &rows {
            let (at, Entry { queue_id, sender, result, verdict, json, note }) = row;
            work.run(
                "INSERT INTO journal (at, queue_id, sender, result, verdict, entry, note) VALUES (?, ?, ?, ?, ?, ?, ?)",
                rusqlite::params![
                    super::super::super::seconds(*at),
                    queue_id,
                    sender,
                    result.word(),
                    verdict.word(),
                    json,
                    note
                ],
            )?;
        }
        Ok(())
    });
    written.await.unwrap();
    database.close().await;
}

fn told(rows: &[JournalRow]) -> Vec<(i64, SystemTime, Option<String>, Value)> {
    let one = |row: &JournalRow| {
        let json = serde_json::from_str(&row.entry.json).unwrap_or_default();
        (row.id, row.at, row.entry.sender.clone(), json)
    };
    rows.iter().map(one).collect()
}

#[tokio::test]
async fn rows_of_the_version_before_are_read_as_before_until_they_are_packed_and_after() {
    let dir = tempfile::tempdir().unwrap();
    let mut rows = mails(17, 700);
    let noted = Entry { note: "kept in quarantine as 1".into(), json: "no JSON".into(), ..Entry::default() };
    rows.push((time(1_000_700), noted));
    old(dir.path(), &rows).await;
    let ledger = Ledger::open(dir.path(), OPENING).await.unwrap();
    let before = ledger.journal(u32::MAX).await.unwrap();
    assert_eq!(before.len(), rows.len());
    for (row, written) in before.iter().rev().zip(&rows) {
        assert_eq!((row.at, &row.entry.json, &row.entry.note), (written.0, &written.1.json, &written.1.note));
    }
    searches_find_what_is_there(&ledger).await;
    counts_are_those_of_the_rows(&ledger).await;
    // New rows come beside them, in a block that has old ones too.
    ledger.append(written(mails(19, 10))).await.unwrap();
    blocks_are_true(&ledger).await;
    searches_find_what_is_there(&ledger).await;
    counts_are_those_of_the_rows(&ledger).await;
    assert_eq!(told(&ledger.journal(u32::MAX).await.unwrap()[10..]), told(&before));
    // One block after the other is packed; in between all is as before.
    let mut blocks = 0;
    while ledger.take_over().await.unwrap() {
        blocks += 1;
        searches_find_what_is_there(&ledger).await;
        counts_are_those_of_the_rows(&ledger).await;
    }
    assert_eq!(blocks, 2);
    blocks_are_true(&ledger).await;
    assert_eq!(told(&ledger.journal(u32::MAX).await.unwrap()[10..]), told(&before));
    let text = "SELECT count(*) FROM journal WHERE entry <> ''";
    assert_eq!(ledger.0.scan(move |work| work.one::<i64>(text, ())).await.unwrap(), 1, "no JSON stays as it is");
}

#[tokio::test]
async fn old_rows_are_swept_trimmed_and_erased_before_they_are_packed() {
    let dir = tempfile::tempdir().unwrap();
    old(dir.path(), &mails(23, 700)).await;
    let ledger = Ledger::open(dir.path(), OPENING).await.unwrap();
    assert_eq!(ledger.sweep(time(1_000_100)).await.unwrap(), 100);
    assert_eq!(ledger.trim(500, u64::MAX).await.unwrap(), 100);
    assert_eq!(ledger.trim(u64::MAX, 1_100 * 400).await.unwrap(), 100);
    let before = ledger.journal(u32::MAX).await.unwrap();
    let search = Search { recipient: Some("r17@home.example".into()), ..Search::default() };
    let count = before.iter().filter(|row| fits(&search, row)).count();
    assert!(count > 0);
    assert_eq!(ledger.erase(&mailbox("r17@home.example")).await.unwrap().rows, count as u64);
    while ledger.take_over().await.unwrap() {}
    assert!(ledger.find(&search, 9, |row| fits(&search, row)).await.unwrap().is_empty());
    assert_eq!(ledger.journal(u32::MAX).await.unwrap().len(), 400);
    blocks_are_true(&ledger).await;
}

#[tokio::test]
async fn an_address_is_erased_in_every_spelling_from_a_packed_row_and_no_other_goes() {
    let (dir, ledger) = ledger().await;
    let far = format!("Bob+{}@FORGET.example", "x".repeat(5_000));
    let spelt =
        ["bob@forget.example", "<BOB+a@forget.example>", &far, "see bob+b@Forget.Example.", "\"bob\"@forget.example"];
    let rows = spelt.iter().enumerate().map(|(n, text)| {
        let json = json!({ "version": 2, "facts": [{ "deep": [text, "notbob@forget.example"] }] }).to_string();
        (time(1_000), entry(&n.to_string(), NONE, &json))
    });
    ledger.append(written(rows)).await.unwrap();
    assert_eq!(ledger.erase(&mailbox("bob@forget.example")).await.unwrap().rows, 4);
    assert_eq!(ledger.erase(&mailbox("bob@forget.example")).await.unwrap().rows, 0);
    let rows = ledger.journal(9).await.unwrap();
    for (row, text) in rows.iter().rev().zip(spelt) {
        let is_other = text.starts_with('"');
        assert_eq!(row.entry.json.contains(ERASED), !is_other, "{}", row.entry.json);
        assert!(row.entry.json.contains("notbob@forget.example"));
    }
    let holds = |path: std::path::PathBuf| {
        let octets = std::fs::read(path).unwrap().to_ascii_lowercase();
        octets.windows(4).any(|some| some == b"bob+")
    };
    let files = std::fs::read_dir(dir.path()).unwrap().map(|file| file.unwrap().path());
    assert_eq!(files.filter(|path| holds(path.clone())).count(), 0);
}
