//! The journal's rule (INVARIANTS §3.5): which rows may wait for others, which are durable before the mail server hears of the
//! verdict, and that no message is taken whose row cannot be kept.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use addrauth::case::*;
use addrauth::config::{Config, Limits, StateDir};
use addrauth::custody::Custody;
use addrauth::proto::key::AuthKey;
use addrauth::settle::{Permits, Rules, settle};
use addrauth::store::{Columns, NewRow, RowResult, RowVerdict};
use addrauth_tests::keys::sender as address;

const BOB: &str = "bob@example.com";
const CAROL: &str = "carol@example.com";

fn mail(queue_id: &str, recipients: &[&str]) -> Mail {
    let recipient = |to: &&str| Recipient::new(format!("<{to}>"));
    addrauth_tests::world::mail(&[], &[]).altered(|envelope, _| {
        envelope.received = SystemTime::now();
        envelope.queue_id = Some(queue_id.into());
        envelope.login = None;
        envelope.reverse_path = ReversePath::Path(address("eve@x.example"));
        envelope.recipients = recipients.iter().map(recipient).collect();
    })
}

/// A message that is accepted and owes nothing.
fn case(queue_id: &str) -> Case {
    let found = Found::bare(KeyStatus::None, None, address("eve@x.example"));
    Case {
        mail: mail(queue_id, &[BOB]),
        finding: Finding::Found(found),
        decisions: Vec::new(),
        reply: Reply::bare(Verdict::Accept),
    }
}

async fn open(dir: &Path, limits: Limits) -> Custody {
    let state_dir = StateDir(dir.to_owned());
    let config = Config { state_dir, hostname: "mx.example.com".into(), ..Config::default() };
    Custody::open(&config, &Arc::new(limits)).await.unwrap()
}

/// Limits under which no batch is written before somebody asks for it.
fn patient() -> Limits {
    Limits::default().with(|limits| limits.custody.journal_batch = Duration::from_secs(3_600))
}

fn decision(recipients: Vec<usize>, disposition: Disposition, sender: bool, recipient: bool) -> Decision {
    Decision {
        recipients,
        by: By::Site,
        mark: MarkAs::Header,
        policy: "p".into(),
        digest: "d".repeat(64),
        disposition,
        notify: Notify { sender, recipient },
        reason: String::new(),
        fault: None,
        clamped: None,
        passed_over: None,
        rules_unread: None,
        shadow: None,
        facts: serde_json::json!({ "status": "invalid" }),
        settings: serde_json::json!({}),
    }
}

/// What becomes of a message by these decisions.
fn settled(finding: Finding, decisions: Vec<Decision>, rules: &Rules) -> Case {
    let count = decisions.iter().map(|decision| decision.recipients.len()).sum::<usize>().max(1);
    let mail = mail("4AAA", &[BOB, CAROL, "dave@example.com"][..count]);
    let permits = Permits { report: Ok(()), refuse: true };
    let reply = settle(&mail, &finding, &decisions, rules, &permits);
    Case { mail, finding, decisions, reply }
}

fn invalid() -> Finding {
    Finding::Found(Found::bare(KeyStatus::Invalid, Some(Why::Wrong), address("eve@x.example")))
}

/// A mail with a key that its AS vouches for.
fn learned() -> Finding {
    let key = AuthKey::parse(b"vb3kq9w2zr7typ0sxn4mlc8dhf1gja6e").unwrap();
    let address = address(BOB).unwrap();
    let (ends, learned) = (SystemTime::now() + Duration::from_secs(86_400), Some(Learned::Newest));
    let mut found = Found::bare(KeyStatus::Valid, None, Some(address.clone()));
    found.new_key = Some(NewKey::Proven(Proven { address, key, ends, authority: None, learned }));
    Finding::Found(found)
}

/// What happens, and whether the row of it may wait.
fn outcomes() -> Vec<(&'static str, Case, bool)> {
    use Disposition::*;
    let plain = Rules::default();
    let by = |decisions| settled(invalid(), decisions, &plain);
    let one = |disposition, sender, recipient| by(vec![decision(vec![0], disposition, sender, recipient)]);
    let two = |other| by(vec![decision(vec![0], Accept, false, false), decision(vec![1], other, false, false)]);
    let folder = |decisions: Vec<Decision>| {
        let decisions = decisions.into_iter().map(|decision| Decision { mark: MarkAs::Folder, ..decision }).collect();
        settled(invalid(), decisions, &Rules { spam_folder: "+spam".into(), ..Rules::default() })
    };
    let observed = |finding| settled(finding, Vec::new(), &Rules { observe: true, ..Rules::default() });
    let delivered = Rules { deliver_key_mail: true, ..Rules::default() };
    let held = settled(
        invalid(),
        vec![decision(vec![0], Quarantine, false, false)],
        &Rules { hold: true, ..Rules::default() },
    );
    vec![
        ("all accept", by(vec![decision(vec![0, 1], Accept, false, false)]), true),
        ("all mark by header", by(vec![decision(vec![0, 1], Mark, false, false)]), true),
        ("refused, the sender's server tells", one(Reject, true, false), true),
        ("deferred", one(Defer, false, false), true),
        ("observed", observed(invalid()), true),
        ("no decision, so deferred", by(Vec::new()), true),
        ("postponed", settled(Finding::Postponed(Postponed::Owners("x".into())), Vec::new(), &plain), true),
        ("a path that can be read in two ways", settled(Finding::Unclear, Vec::new(), &plain), true),
        ("dropped in silence", one(Reject, false, false), false),
        ("dropped, the recipient is told", one(Reject, false, true), false),
        ("refused, and the recipient is told", one(Reject, true, true), false),
        ("kept in quarantine", one(Quarantine, false, false), false),
        ("held in the mail server's queue", held, false),
        ("one of two is struck out", two(Reject), false),
        ("one of two gets a marked copy", two(Mark), false),
        ("one of two is kept", two(Quarantine), false),
        ("to a spam folder", folder(vec![decision(vec![0], Mark, false, false)]), false),
        ("a key is learned, and its mail ends here", settled(learned(), Vec::new(), &plain), false),
        ("a key is learned, and its mail is delivered", settled(learned(), Vec::new(), &delivered), false),
        ("a key is learned while observing", observed(learned()), false),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_waits_only_where_nothing_is_deleted_copied_told_or_learned_because_of_what_it_says() {
    for (what, case, waits) in outcomes() {
        let dir = tempfile::tempdir().unwrap();
        let custody = open(dir.path(), patient()).await;
        let body = case.reply.wants_body().then(|| Body(b"text\r\n".to_vec()));
        let verdict = case.reply.verdict.clone();
        let kept = custody.keep(case, body).await;
        assert_eq!(kept.reply.verdict, verdict, "{what}");
        let durable = custody.journal(9).await.unwrap().len();
        assert_eq!(durable, usize::from(!waits), "{what}: {verdict:?}, owed {:?}", kept.reply.owed);
        custody.flush().await;
        assert_eq!(custody.journal(9).await.unwrap().len(), 1, "{what}");
        custody.close().await;
    }
}

/// Octets of memory that the row of this case counts with.
fn memory(case: &Case) -> usize {
    let columns = Columns {
        queue_id: case.mail.queue_id.clone(),
        sender: case.finding.sender().map(ToString::to_string),
        result: RowResult::Unclear,
        verdict: RowVerdict::from(&case.reply.verdict),
        note: String::new(),
    };
    NewRow::of(WrittenCase::of(case), columns, SystemTime::now()).memory()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_makes_the_door_wait_and_then_defer_the_message() {
    let octets = memory(&case("1"));
    for limits in [
        patient().with(|limits| limits.custody.journal_waiting = 2),
        patient().with(|limits| limits.custody.journal_octets = octets * 5 / 2),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let keep = Duration::from_millis(300);
        let custody = Arc::new(open(dir.path(), limits.with(|limits| limits.custody.keep = keep)).await);
        custody.keep(case("1"), None).await;
        custody.keep(case("2"), None).await;
        let begin = Instant::now();
        let deferred = custody.keep(case("3"), None).await;
        assert!(matches!(deferred.reply.verdict, Verdict::Defer(_)), "{:?}", deferred.reply);
        assert!(begin.elapsed() >= keep, "the door waited");
        // Room that comes in time is used.
        let waiting = tokio::spawn({
            let custody = Arc::clone(&custody);
            async move { custody.keep(case("4"), None).await }
        });
        tokio::time::sleep(keep / 4).await;
        custody.flush().await;
        assert_eq!(waiting.await.unwrap().reply.verdict, Verdict::Accept);
        custody.flush().await;
        let rows = custody.journal(9).await.unwrap();
        let ids: Vec<_> = rows.iter().rev().filter_map(|row| row.entry.queue_id.as_deref()).collect();
        assert_eq!(ids, ["1", "2", "4"]);
    }
}

/// Another process that holds the lock of the database until its input ends.
fn lock(dir: &Path) -> Child {
    let mut other = Command::new("python3")
        .args(["-c", "import sqlite3,sys; c=sqlite3.connect(sys.argv[1], isolation_level=None); c.execute('BEGIN IMMEDIATE'); print('held', flush=True); sys.stdin.read()"])
        .arg(dir.join("filter.db"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = [0; 4];
    std::io::Read::read_exact(other.stdout.as_mut().unwrap(), &mut line).unwrap();
    other
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_commits_fail_messages_are_taken_for_a_bounded_time_and_then_deferred_until_one_succeeds() {
    let dir = tempfile::tempdir().unwrap();
    let overdue = Duration::from_secs(2);
    let custody = open(
        dir.path(),
        Limits::default().with(|limits| {
            limits.store.busy = Duration::from_millis(100);
            limits.custody.journal_batch = Duration::from_millis(20);
            limits.custody.journal_overdue = overdue;
            limits.custody.keep = Duration::from_millis(300);
        }),
    )
    .await;
    let mut other = lock(dir.path());
    let begin = Instant::now();
    let mut taken = 0;
    let deferred = loop {
        let kept = custody.keep(case(&taken.to_string()), None).await;
        match kept.reply.verdict {
            Verdict::Accept => taken += 1,
            _ => break kept,
        }
        assert!(begin.elapsed() < Duration::from_secs(60), "commits fail, and mail is taken all the same");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert!(matches!(deferred.reply.verdict, Verdict::Defer(_)), "{:?}", deferred.reply);
    assert!(begin.elapsed() >= overdue && taken > 0, "not at once");
    assert!(deferred.reply.edits.is_empty() && deferred.reply.owed.is_empty());
    // A message that is dropped is deferred as well: its row cannot be made durable.
    let dropped = settled(invalid(), vec![decision(vec![0], Disposition::Reject, false, false)], &Rules::default());
    assert!(matches!(custody.keep(dropped, None).await.reply.verdict, Verdict::Defer(_)));
    drop(other.stdin.take());
    other.wait().unwrap();
    while custody.keep(case("after"), None).await.reply.verdict != Verdict::Accept {
        assert!(begin.elapsed() < Duration::from_secs(120), "mail is taken again once rows are written");
    }
    custody.flush().await;
    let rows = custody.journal(u32::MAX).await.unwrap();
    let told = |id: &str| rows.iter().filter(|row| row.entry.queue_id.as_deref() == Some(id)).count();
    assert!((0..taken).all(|id| told(&id.to_string()) == 1), "no row of a message that was taken is lost");
    assert_eq!(told("after"), 1);
}
