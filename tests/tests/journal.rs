//! Every judged message has its journal row, in time and whole; and the journal is read back by the commands.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use addrauth::case::*;
use addrauth::config::{Config, Limits, StateDir};
use addrauth::custody::Custody;
use addrauth::policy::{Policies, Trial};
use addrauth::settle::{Permits, Rules, settle};
use addrauth::store::{Ledger, Opening};
use addrauth_lab::mta::{Envelope, Fate, Mta};
use addrauth_tests::daemon::{Daemon, binary};
use addrauth_tests::dns;
use addrauth_tests::keys::{mailbox, sender as address};

const CHILD: &str = "ADDRAUTH_TEST_JOURNAL_CHILD";

fn mail(queue_id: &str, recipients: &[&str]) -> Mail {
    let recipient = |to: &&str| Recipient::new(format!("<{to}>"));
    addrauth_tests::world::mail(&[], &[]).altered(|envelope, _| {
        envelope.received = SystemTime::now();
        envelope.queue_id = Some(queue_id.into());
        envelope.client =
            Client { ip: Some("192.0.2.7".parse().unwrap()), helo: "mx.x.example".into(), ..Client::default() };
        envelope.daemon = "smtpd".into();
        envelope.login = None;
        envelope.reverse_path = ReversePath::Path(address("bounce@x.example"));
        envelope.smtputf8 = false;
        envelope.size = Some(1000);
        envelope.recipients = recipients.iter().map(recipient).collect();
    })
}

fn found(status: KeyStatus, why: Option<Why>) -> Found {
    Found::bare(status, why, address("eve@x.example"))
}

/// A message that is accepted and owes nothing.
fn case(queue_id: &str) -> Case {
    Case {
        mail: mail(queue_id, &["bob@example.com"]),
        finding: Finding::Found(found(KeyStatus::None, None)),
        decisions: Vec::new(),
        reply: Reply::bare(Verdict::Accept),
    }
}

fn config(dir: &Path) -> Config {
    Config { state_dir: StateDir(dir.to_owned()), hostname: "mx.example.com".into(), ..Config::default() }
}

async fn open(dir: &Path, limits: Limits) -> Custody {
    Custody::open(&config(dir), &Arc::new(limits)).await.unwrap()
}

/// Limits under which no batch is written before somebody asks for it.
fn patient() -> Limits {
    Limits::default().with(|limits| limits.custody.journal_batch = Duration::from_secs(3_600))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_judged_message_has_its_row_soon_and_what_passes_has_none() {
    let dir = tempfile::tempdir().unwrap();
    let custody =
        open(dir.path(), Limits::default().with(|limits| limits.custody.journal_batch = Duration::from_millis(50)))
            .await;
    for direction in [Direction::Relay, Direction::Own, Direction::Outbound] {
        let passing = Case { finding: Finding::Passing(direction), ..case("passing") };
        assert_eq!(custody.keep(passing, None).await.reply.verdict, Verdict::Accept);
    }
    assert_eq!(custody.keep(case("judged"), None).await.reply.verdict, Verdict::Accept);
    let begin = Instant::now();
    while custody.journal(9).await.unwrap().is_empty() && begin.elapsed() < Duration::from_secs(60) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let rows = custody.journal(9).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.entry.queue_id.as_deref()).collect::<Vec<_>>(), [Some("judged")]);
    let story: WrittenCase = serde_json::from_str(&rows[0].entry.json).unwrap();
    let told = WrittenCase::of(&case("judged"));
    assert_eq!(story, WrittenCase { received: story.received.clone(), ..told });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_is_written_at_shutdown_when_closed_and_when_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let custody = open(dir.path(), patient()).await;
    custody.keep(case("run"), None).await;
    assert!(custody.journal(9).await.unwrap().is_empty(), "it waits for others");
    let stop = tokio_util::sync::CancellationToken::new();
    stop.cancel();
    custody.run(stop).await;
    assert_eq!(custody.journal(9).await.unwrap().len(), 1);
    custody.keep(case("closed"), None).await;
    custody.close().await;
    let custody = open(dir.path(), patient()).await;
    assert_eq!(custody.journal(9).await.unwrap().len(), 2);
    custody.keep(case("dropped"), None).await;
    drop(custody);
    let custody = open(dir.path(), patient()).await;
    let begin = Instant::now();
    while custody.journal(9).await.unwrap().len() < 3 {
        assert!(begin.elapsed() < Duration::from_secs(60), "the writer of the dropped one ends its work");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_would_be_huge_leaves_the_facts_out_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let policies =
        Policies::load(&Config::default().policy, &BTreeMap::new(), &Arc::new(Limits::default()), &Trial::waived())
            .unwrap();
    let mut large = case("large");
    large.decisions = policies.decide(&large.mail, &found(KeyStatus::None, None), &[]).await;
    large.decisions[0].facts["headers"] = "x".repeat(100_000).into();
    for (journal_row, shortened) in [(50_000, true), (200_000, false)] {
        let custody = open(dir.path(), patient().with(|limits| limits.custody.journal_row = journal_row)).await;
        custody.keep(large.clone(), None).await;
        custody.flush().await;
        let json = custody.journal(1).await.unwrap()[0].entry.json.clone();
        let story: WrittenCase = serde_json::from_str(&json).unwrap();
        assert_eq!((story.shortened, story.decisions[0].facts.is_null()), (shortened, shortened));
        assert_eq!(json.len() <= 50_000, shortened);
        custody.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_batch_waits_for_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let custody = open(dir.path(), patient()).await;
    for n in 0..256 {
        custody.keep(case(&n.to_string()), None).await;
    }
    let begin = Instant::now();
    while custody.journal(999).await.unwrap().len() < 256 {
        assert!(begin.elapsed() < Duration::from_secs(60), "256 rows are a batch");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_failed_is_written_with_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let limits = patient().with(|limits| limits.store.busy = Duration::from_millis(100));
    let custody = open(dir.path(), limits).await;
    let file = dir.path().join("filter.db");
    custody.keep(case("1"), None).await;
    // Another process holds the lock.
    let mut other = Command::new("python3")
        .args(["-c", "import sqlite3,sys; c=sqlite3.connect(sys.argv[1], isolation_level=None); c.execute('BEGIN IMMEDIATE'); print('held', flush=True); sys.stdin.read()"])
        .arg(&file)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = [0; 4];
    std::io::Read::read_exact(other.stdout.as_mut().unwrap(), &mut line).unwrap();
    custody.flush().await;
    assert!(custody.journal(9).await.unwrap().is_empty());
    drop(other.stdin.take());
    other.wait().unwrap();
    custody.keep(case("2"), None).await;
    custody.flush().await;
    assert_eq!(custody.journal(9).await.unwrap().len(), 2);
}

/// Not a test by itself: the process that the next test kills. It keeps messages as fast as it can.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_that_keeps_and_keeps() {
    let Ok(dir) = std::env::var(CHILD) else { return };
    let limits = Limits::default().with(|limits| limits.custody.journal_batch = Duration::from_millis(1));
    let custody = open(Path::new(&dir), limits).await;
    for n in 0..1_000_000 {
        custody.keep(case(&n.to_string()), None).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_leaves_whole_rows_in_their_order() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_that_keeps_and_keeps"])
        .env(CHILD, dir.path())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let wal = dir.path().join("filter.db-wal");
    let begin = Instant::now();
    while std::fs::metadata(&wal).map_or(0, |file| file.len()) < 1 << 20 {
        assert!(begin.elapsed() < Duration::from_secs(60), "the child writes");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    child.kill().unwrap(); // SIGKILL
    child.wait().unwrap();
    let rows = open(dir.path(), Limits::default()).await.journal(u32::MAX).await.unwrap();
    assert!(!rows.is_empty());
    for (n, row) in rows.iter().rev().enumerate() {
        let story: WrittenCase = serde_json::from_str(&row.entry.json).unwrap();
        assert_eq!((story.queue_id, row.entry.queue_id.as_deref()), (Some(n.to_string()), Some(&*n.to_string())));
    }
}

/// A state directory with a valid message and a forged one that was dropped, and its configuration.
async fn kept() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path());
    config.policy.invalid = "reject-silently".into();
    let policies =
        Policies::load(&config.policy, &BTreeMap::new(), &Arc::new(Limits::default()), &Trial::waived()).unwrap();
    let custody = open(dir.path(), Limits::default()).await;
    let cases = [
        ("4AAA", found(KeyStatus::Valid, None), "bob@example.com"),
        ("4BBB", found(KeyStatus::Invalid, Some(Why::Wrong)), "Carol+x@example.com"),
    ];
    for (queue_id, found, to) in cases {
        let mail = mail(queue_id, &[to]);
        let decisions = policies.decide(&mail, &found, &[]).await;
        let finding = Finding::Found(found);
        let permits = Permits { report: Err(Unreported::Undecided), refuse: true };
        let reply = settle(&mail, &finding, &decisions, &Rules::default(), &permits);
        custody.keep(Case { mail, finding, decisions, reply }, None).await;
        custody.flush().await;
    }
    custody.close().await;
    write_config(dir.path(), "invalid = \"reject-silently\"");
    dir
}

fn write_config(dir: &Path, policy: &str) {
    std::fs::write(dir.join("addrauth.toml"), format!("state_dir = {dir:?}\n[policy]\n{policy}\n")).unwrap();
}

fn addrauth(dir: &Path, words: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(binary());
    command.arg("--config").arg(dir.join("addrauth.toml")).args(words).stdin(Stdio::null());
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = |octets| String::from_utf8(octets).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

/// The tables, without a filter that writes them.
async fn tables(dir: &Path) -> Ledger {
    Ledger::open(dir, Opening { busy: Duration::from_secs(2), readers: 1 }).await.unwrap()
}

/// The queue ids that `journal list` shows.
fn listed(dir: &Path, words: &[&str]) -> (i32, Vec<String>) {
    let (code, out, err) = addrauth(dir, &[&["--json", "journal", "list"], words].concat());
    let told = if code == 0 { "newest shown; --last 0 shows all" } else { "the journal has no such row" };
    assert!(err.is_empty() && code == 0 || err.contains(told), "{code} {err}");
    let row =
        |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["queue_id"].as_str().unwrap().into();
    (code, out.lines().map(row).collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_journal_is_listed_by_whom_what_and_when() {
    let dir = kept().await;
    let dir = dir.path();
    let cases: [(&[&str], &[&str]); 22] = [
        (&[], &["4BBB", "4AAA"]),
        (&["--last", "1"], &["4BBB"]),
        (&["--sender", "EVE+tag@x.example"], &["4BBB", "4AAA"]),
        (&["--sender", "bounce@x.example"], &["4BBB", "4AAA"]),
        (&["--sender", "@x.example", "--recipient", "bob@example.com"], &["4AAA"]),
        (&["--sender", "@example.com"], &[]),
        (&["--recipient", "carol@example.com"], &["4BBB"]),
        (&["--recipient", "arol@example.com"], &[]),
        (&["--result", "valid"], &["4AAA"]),
        (&["--verdict", "discard"], &["4BBB"]),
        (&["--verdict", "discard", "--result", "valid"], &[]),
        (&["--since", "2d"], &["4BBB", "4AAA"]),
        (&["--since", "0s", "--recipient", "@other.example"], &[]),
        (&["--since", "2001-02-03"], &["4BBB", "4AAA"]),
        (&["--since", "2999-02-03"], &[]),
        (&["--last", "0"], &["4BBB", "4AAA"]),
        (&["--last", "2"], &["4BBB", "4AAA"]),
        (&["--decision", "reject"], &["4BBB"]),
        (&["--decision", "reject", "--policy", "accept"], &[]),
        (&["--policy", "accept"], &["4AAA"]),
        (&["--policy", "accept", "--recipient", "carol@example.com"], &[]),
        (&["--policy", "none-of-that-name"], &[]),
    ];
    for (words, want) in cases {
        let code = i32::from(want.is_empty());
        assert_eq!(listed(dir, words), (code, want.iter().map(|id| id.to_string()).collect()), "{words:?}");
    }
    let (code, out, _) = addrauth(dir, &["journal", "list"]);
    assert!(code == 0 && out.lines().count() == 3 && out.contains("eve@x.example -> <Carol+x@example.com>"), "{out}");
    assert!(out.contains("  reject-silently=reject  "), "{out}");
    assert_eq!(addrauth(dir, &["journal", "list", "--last", "2"]).2, "");
    assert_eq!(addrauth(dir, &["journal", "list", "--last", "1"]).2, "1 newest shown; --last 0 shows all\n");
    assert_eq!(addrauth(dir, &["journal", "list", "--result", "bad"]).0, 2);
    let (code, out, _) = addrauth(dir, &["--json", "journal", "show", "2"]);
    let row: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &row["case"]["finding"]["found"]["why"]), (0, &"wrong".into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_there_is_1_and_what_is_wrong_is_2_with_the_right_form() {
    let dir = kept().await;
    let dir = dir.path();
    let cases: [(&[&str], i32, &str); 8] = [
        (&["journal", "show", "99"], 1, "the journal has no row \"99\": `addrauth journal list` shows which there are"),
        (&["journal", "show", "4ZZZ"], 1, "the journal has no row \"4ZZZ\""),
        (&["journal", "show", "bob@example.com"], 2, "neither the number of a row, such as 17, nor a queue id"),
        (&["journal", "list", "--sender", "nobody"], 2, "write bob@example.com"),
        (
            &["journal", "list", "--since", "yesterday"],
            2,
            "write an age (--since 2d, 12h, 30min) or a day (--since 2026-11-20)",
        ),
        (&["journal", "list", "--last", "many"], 2, "write a number, such as --last 20"),
        (&["journal", "summary", "--since", "2026-13-40"], 2, "--since 2026-11-20"),
        (&["why", "99"], 2, "`addrauth journal list` shows which there are"),
    ];
    for (words, want, form) in cases {
        let (code, out, err) = addrauth(dir, words);
        assert!((code, out.as_str()) == (want, "") && err.contains(form), "{words:?}: {code} {err}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_summary_counts_results_decisions_and_domains() {
    let dir = kept().await;
    let dir = dir.path();
    let (code, out, err) = addrauth(dir, &["journal", "summary", "--since", "7d"]);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    let lines: Vec<String> = out.lines().map(words).collect();
    for line in
        ["RESULT DECIDED IN FORCE OBSERVED PUT OFF", "valid accept 1 0 0", "invalid reject 1 0 0", "1 x.example"]
    {
        assert!(lines.iter().any(|known| known == line), "{line}\n{out}");
    }
    assert!(out.lines().all(|line| line.chars().count() <= 100), "{out}");
    let (code, out, _) = addrauth(dir, &["--json", "journal", "summary"]);
    let told: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &told["messages"], told["counts"].as_array().map(Vec::len)), (0, &2.into(), Some(2)));
    assert_eq!(told["domains"]["invalid"]["top"][0], serde_json::json!({ "domain": "x.example", "messages": 1 }));
    assert_eq!(addrauth(dir, &["journal", "summary", "--since", "2999-01-01"]).0, 1);
}

/// The text without its line ends.
fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn why_tells_and_proves_by_exit_code() {
    let dir = kept().await;
    let dir = dir.path();
    for id in ["2", "4BBB"] {
        let (code, out, err) = addrauth(dir, &["why", id]);
        assert_eq!((code, err.as_str()), (0, ""), "{out}");
        for sign in ["4BBB (journal row 2)", "It is probably forged", "`reject-silently`", "the same decision"] {
            assert!(words(&out).contains(sign), "{out}");
        }
    }
    // Nothing is bound to the policy any more: it proves itself all the same.
    write_config(dir, "invalid = \"mark\"");
    assert_eq!(addrauth(dir, &["why", "2"]).0, 0);
    // Another component of that name.
    std::fs::create_dir(dir.join("own")).unwrap();
    std::fs::write(dir.join("own/reject-silently.wasm"), addrauth_tests::daemon::component("mark")).unwrap();
    write_config(dir, &format!("dir = {:?}", dir.join("own")));
    let (code, out, _) = addrauth(dir, &["--json", "why", "2"]);
    let told: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &told["proofs"][0]["recomputed"]), (2, &"unknown".into()), "{out}");
    assert_eq!(told["case"]["decisions"][0]["digest"].as_str().map(str::len), Some(64));
    // A configuration that loads nothing still lets the story be told.
    write_config(dir, "invalid = \"no-such-policy\"");
    let (code, out, _) = addrauth(dir, &["why", "2"]);
    assert!(code == 2 && words(&out).contains("today's policies cannot be loaded"), "{out}");
    let (code, out, err) = addrauth(dir, &["why", "4ZZZ"]);
    assert!(code == 2 && out.is_empty() && err.contains("4ZZZ"), "{err}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_erased_address_is_found_no_more() {
    let dir = kept().await;
    let dir = dir.path();
    let (code, out, err) = addrauth(dir, &["--json", "journal", "erase", "CAROL@example.com"]);
    let none = r#"{"allowed":0,"choices":0,"listed":0,"quarantined":0}"#;
    let want = format!(r#"{{"forgotten":false,"notices":0,"remains":{none},"rows":1,"unsent":0}}"#);
    assert_eq!((code, out.trim(), err.as_str()), (0, want.as_str(), ""));
    assert_eq!(listed(dir, &["--recipient", "carol@example.com"]), (1, vec![]));
    let (code, out, _) = addrauth(dir, &["why", "4BBB"]);
    assert!(code == 0 && !out.contains("arol") && out.contains("<erased@erased.invalid>"), "{out}");
    assert_eq!(addrauth(dir, &["journal", "erase", "carol@example.com"]).0, 1);
    assert_eq!(addrauth(dir, &["journal", "erase", "carol"]).0, 2);
    // What the user chose is not the journal's to forget: it says so.
    let ledger = tables(dir).await;
    ledger.choose(&mailbox("carol@example.com"), "invalid", "quarantine").await.unwrap();
    ledger.allow(&mailbox("carol@example.com"), "@x.example", 9).await.unwrap();
    ledger.close().await;
    let (code, out, _) = addrauth(dir, &["journal", "erase", "carol@example.com"]);
    for sign in ["addrauth user clear carol@example.com", "addrauth user disallow carol@example.com SENDER"] {
        assert!(code == 0 && out.contains(sign), "{out}");
    }
    assert!(!out.contains("quarantine list"), "{out}");
}

#[test]
fn looking_makes_no_files() {
    let dir = tempfile::tempdir().unwrap();
    write_config(dir.path(), "");
    for words in [&["why", "1"][..], &["journal", "list"], &["journal", "erase", "bob@example.com"]] {
        let (code, _, err) = addrauth(dir.path(), words);
        assert!(code == 2 && err.contains("there is no journal") && err.contains("filter.db"), "{err}");
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    // An empty journal is another thing.
    std::fs::File::create(dir.path().join("filter.db")).unwrap();
    let (code, out, err) = addrauth(dir.path(), &["journal", "list"]);
    assert_eq!((code, out.as_str(), err.as_str()), (1, "", "addrauth: the journal has no row yet\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_daemon_writes_what_waits_on_reload_and_on_sigterm() {
    let dir = tempfile::tempdir().unwrap();
    let (path, socket) = (dir.path().join("filter.toml"), dir.path().join("milter"));
    let configure = |kept: &str| {
        let text = format!(
            "hostname = \"mx.home.example\"\nfinal_domains = [\"home.example\"]\nstate_dir = {:?}\n[milter]\n\
             listen = [\"unix:{}\"]\n[notices]\nnotify_via = \"127.0.0.1:9\"\n[verify]\ndns = [\"{}\"]\n[custody]\n\
             journal_kept = \"{kept}\"\n",
            dir.path().join("state"),
            socket.display(),
            dns::empty(),
        );
        std::fs::write(&path, text).unwrap();
    };
    configure("9d");
    let daemon = Daemon::start("filter", &path);
    let begin = Instant::now();
    let place = format!("unix:{}", socket.display()).parse().unwrap();
    let mut mta = loop {
        match Mta::connect(&place).await {
            Ok(mta) => break mta,
            Err(e) => assert!(begin.elapsed() < Duration::from_secs(60), "{e}\n{}", daemon.log()),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let message = b"From: alice@sender.example\r\nTo: bob@home.example\r\n\r\nHello\r\n";
    let envelope = Envelope::inbound("alice@sender.example", "bob@home.example");
    assert!(matches!(mta.send(&envelope, message).await.unwrap().fate, Fate::Delivered));
    // Another [custody] section is another journal's writer; the connection stays with the filter.
    configure("8d");
    daemon.signal("HUP");
    while !daemon.log().contains("reloaded: ") {
        assert!(begin.elapsed() < Duration::from_secs(60), "{}", daemon.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(matches!(mta.send(&envelope, message).await.unwrap().fate, Fate::Delivered));
    mta.quit().await.unwrap();
    // Dropped, it is told to end and waited for.
    drop(daemon);
    let rows = open(&dir.path().join("state"), Limits::default()).await.journal(9).await.unwrap();
    let stories: Vec<WrittenCase> = rows.iter().map(|row| serde_json::from_str(&row.entry.json).unwrap()).collect();
    assert_eq!(stories.len(), 2);
    assert!(stories.iter().all(|story| story.recipients == ["<bob@home.example>"] && story.decisions.len() == 1));
}
