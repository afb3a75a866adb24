//! A policy changed on a real Postfix under load: shadowed, promoted, taken back; each message is decided by one version.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use addrauth_tests::daemon::{Rig, component};
use addrauth_tests::load::{Letter, Load};
use addrauth_tests::postfix::Bed;
use serde_json::Value;

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

fn letter(number: usize) -> Letter {
    let octets = format!("From: alice@send.test\r\nSubject: number {number}\r\n\r\nwithout a key\r\n").into_bytes();
    Letter { number, kind: "missing", from: "alice@send.test".into(), users: vec!["bob"], octets }
}

fn until(what: &str, mut ready: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !ready() {
        assert!(begin.elapsed() < PATIENCE, "never {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Tells the filter to read again, and waits until it has.
fn reload(rig: &Rig, times: usize) {
    let filter = rig.filter.as_ref().unwrap();
    filter.signal("HUP");
    let said = || filter.log().lines().filter(|line| line.contains("reloaded: the next message")).count();
    until("reloaded", || said() >= times);
}

/// The decisions of candidates by the summary of the journal.
fn shadowed(rig: &Rig) -> u64 {
    let summary: Value = serde_json::from_str(&rig.says(&["journal", "summary", "--json"])).unwrap();
    summary["shadows"][0]["decisions"]["stricter"].as_u64().unwrap_or_default()
}

#[test]
fn a_candidate_is_promoted_and_taken_back_under_load_and_each_message_is_decided_by_one_version() {
    let Some(bed) = Bed::shared() else { return };
    let rig = Rig::start_with_components(
        bed,
        "missing = \"door\"\n[policies.door]\nmodule = \"door.wasm\"\nshadow = \"next.wasm\"",
        &[("door.wasm", component("accept")), ("next.wasm", component("mark"))],
    );
    let load = Load::start((rig.door.port, &rig.door.domain), 3, Duration::from_millis(5), letter);
    until("shadowed", || shadowed(&rig) >= 30);
    let refused = rig.says(&["policy", "promote", "door", "--at-least", "20"]);
    println!("{refused}");
    for words in
        ["NOT PROMOTED", "accept -> mark", "e.g. row", "of send.test", "decisions change", "nothing was changed"]
    {
        assert!(refused.contains(words), "{words}: {refused}");
    }
    let done = rig.says(&["policy", "promote", "door", "--at-least", "20", "--max-change", "100%"]);
    assert!(done.contains("door: promoted"), "{done}");
    reload(&rig, 1);
    let before = load.decided();
    until("decided by the new one", || load.decided() > before + 20);
    let back = rig.says(&["policy", "rollback", "door"]);
    assert!(back.contains("door: rolled back"), "{back}");
    reload(&rig, 2);
    let before = load.decided();
    until("decided by the old one", || load.decided() > before + 20);

    let sent = load.finish();
    assert!(sent.iter().all(|sent| sent.decided().code == 250), "no message is refused or lost");
    let files = rig.door.delivered("bob", sent.len());
    assert_eq!(files.len(), sent.len(), "each is delivered once");
    let mut marked: BTreeMap<usize, bool> = BTreeMap::new();
    for file in &files {
        let text = String::from_utf8_lossy(file);
        let number = text.lines().find_map(|line| line.strip_prefix("Subject: number ")).unwrap().parse().unwrap();
        marked.insert(number, text.contains("X-Spam-Flag: YES"));
    }
    let mut rows = BTreeMap::new();
    until("journalled", || {
        let list = rig.says(&["journal", "list", "--json", "--last", "0"]);
        rows = list
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap())
            .map(|row| (row["queue_id"].as_str().unwrap().to_owned(), row["case"]["decisions"].clone()))
            .collect();
        rows.len() >= sent.len()
    });
    let mut counts: BTreeMap<(String, bool), usize> = BTreeMap::new();
    for sent in &sent {
        let decisions = rows[sent.queue_id().unwrap()].as_array().unwrap();
        assert_eq!(decisions.len(), 1, "{decisions:?}");
        let by = decisions[0]["digest"].as_str().unwrap().to_owned();
        assert_eq!(decisions[0]["disposition"] == "mark", marked[&sent.letter.number], "{decisions:?}");
        *counts.entry((by, marked[&sent.letter.number])).or_default() += 1;
    }
    println!("{} messages: {counts:?}", sent.len());
    assert_eq!(counts.len(), 2, "one component accepts and the other marks, and none does both: {counts:?}");
}
