//! What is owed is durable before the MTA hears of it, and notices reach their recipients.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use addrauth::case::*;
use addrauth::config::{Config, Limits, StateDir};
use addrauth::custody::Custody;
use addrauth::outbox::Turn;
use addrauth::proto::header::MARK_FIELD;
use addrauth::proto::key::AuthKey;
use addrauth::store::{RowResult, RowVerdict};
use addrauth_lab::mailbox::{Mailbox, Taken};
use addrauth_tests::keys::sender as address;
use addrauth_tests::ports::Closed;

const KEY: &str = "Vb3kQ9w2Zr7tYp0sXn4mLc8dHf1gJa6eUi5oRk2yTq9wEz3xBv7nMs4pDl8hGj0K";
const CHILD: &str = "ADDRAUTH_TEST_CUSTODY_CHILD";

fn config(dir: &Path, mailbox: Option<&Mailbox>) -> Config {
    let mut config =
        Config { state_dir: StateDir(dir.to_owned()), hostname: "mx.example.com".into(), ..Config::default() };
    if let Some(mailbox) = mailbox {
        config.notices.notify_via = mailbox.address().to_string();
    }
    config
}

async fn open(dir: &Path, mailbox: Option<&Mailbox>) -> Custody {
    Custody::open(&config(dir, mailbox), &Arc::new(Limits::default())).await.unwrap()
}

/// A message from `sender` to bob with the wrong key, dropped, of which bob is to be told.
fn case(sender: &str) -> Case {
    Case {
        mail: Mail::new(
            Envelope {
                received: SystemTime::now(),
                queue_id: Some("4XyZ1".into()),
                client: Client { ip: Some("192.0.2.7".parse().unwrap()), ..Client::default() },
                daemon: "smtpd".into(),
                reverse_path: ReversePath::Path(address(sender)),
                size: Some(1000),
                recipients: vec![Recipient::new(b"<bob@example.com>")],
                ..Envelope::default()
            },
            Head {
                fields: vec![Field { name: "Subject".into(), value: b" a secret subject".to_vec() }],
                keys: vec![Some(AuthKey::parse(KEY.as_bytes()).unwrap())],
                ..Head::default()
            },
        ),
        finding: Finding::Found(Found::bare(KeyStatus::Invalid, Some(Why::Wrong), address(sender))),
        decisions: vec![Decision {
            recipients: vec![0],
            policy: "tell-recipient".into(),
            digest: "0".repeat(64),
            disposition: Disposition::Reject,
            notify: Notify { sender: false, recipient: true },
            reason: "wrong key".into(),
            fault: None,
            clamped: None,
            passed_over: None,
            rules_unread: None,
            shadow: None,
            by: By::Site,
            mark: MarkAs::Header,
            facts: Default::default(),
            settings: Default::default(),
        }],
        reply: Reply { owed: vec![Owed::Record, Owed::Notice(0)], ..Reply::bare(Verdict::Discard) },
    }
}

fn is_deferred(case: &Case) -> bool {
    matches!(&case.reply.verdict, Verdict::Defer(Refusal { code: 451, status: "4.3.0", .. }))
        && case.reply.owed.is_empty()
        && case.reply.edits.is_empty()
}

fn holds(dir: &Path, needle: &str) -> bool {
    std::fs::read_dir(dir).unwrap().any(|file| {
        let octets = std::fs::read(file.unwrap().path()).unwrap();
        octets.windows(needle.len()).any(|window| window == needle.as_bytes())
    })
}

#[tokio::test]
async fn a13_the_journal_tells_the_story_and_holds_no_key() {
    let dir = tempfile::tempdir().unwrap();
    let custody = open(dir.path(), None).await;
    assert_eq!(custody.keep(case("eve@x.example"), None).await.reply.verdict, Verdict::Discard);
    let rows = custody.journal(9).await.unwrap();
    let entry = &rows[0].entry;
    assert_eq!((entry.queue_id.as_deref(), entry.sender.as_deref()), (Some("4XyZ1"), Some("eve@x.example")));
    assert_eq!((&entry.result, &entry.verdict), (&RowResult::Judged(KeyStatus::Invalid), &RowVerdict::Discard));
    let json: serde_json::Value = serde_json::from_str(&entry.json).unwrap();
    assert_eq!(json["version"], CASE_VERSION);
    assert_eq!(json["recipients"][0], "<bob@example.com>");
    assert_eq!(json["finding"]["found"]["why"], "wrong");
    assert_eq!(json["decisions"][0]["policy"], "tell-recipient");
    assert_eq!(json["decisions"][0]["digest"], "0".repeat(64));
    assert!(holds(dir.path(), "eve@x.example"), "the search finds what is there");
    assert!(!holds(dir.path(), KEY) && !holds(dir.path(), "a secret subject"));
}

/// Not a test by itself: the process that the next test kills. It keeps a message, says so, and waits.
#[tokio::test]
async fn child_that_keeps_and_waits() {
    let Ok(dir) = std::env::var(CHILD) else { return };
    let custody = open(Path::new(&dir), None).await;
    custody.keep(case("eve@x.example"), None).await;
    std::fs::write(Path::new(&dir).join("kept"), "").unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
}

#[tokio::test]
async fn what_was_kept_survives_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_that_keeps_and_waits"])
        .env(CHILD, dir.path())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    for _ in 0..500 {
        if dir.path().join("kept").exists() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    child.kill().unwrap(); // SIGKILL
    child.wait().unwrap();
    assert!(dir.path().join("kept").exists(), "the child got as far as keeping");
    let mailbox = Mailbox::start().unwrap();
    let custody = open(dir.path(), Some(&mailbox)).await;
    assert_eq!(custody.journal(9).await.unwrap().len(), 1);
    assert_eq!(custody.outbox().turn(SystemTime::now()).await.unwrap(), Turn::Sent);
    assert_eq!(mailbox.taken().len(), 1);
}

#[tokio::test]
async fn a_lost_database_defers_the_message() {
    let dir = tempfile::tempdir().unwrap();
    let custody = open(dir.path(), None).await;
    custody.close().await;
    assert!(is_deferred(&custody.keep(case("eve@x.example"), None).await));
}

/// Not a test by itself: the process that the next test gives little room. It keeps messages until one is deferred.
#[tokio::test]
async fn child_that_keeps_until_there_is_no_room() {
    let Ok(dir) = std::env::var(CHILD) else { return };
    let custody = open(Path::new(&dir), None).await;
    for kept in 0..500 {
        let mut large = case("eve@x.example");
        large.decisions[0].reason = "x".repeat(20_000);
        if is_deferred(&custody.keep(large, None).await) {
            std::fs::write(Path::new(&dir).join("kept"), kept.to_string()).unwrap();
            return;
        }
    }
}

#[tokio::test]
async fn a_full_disk_defers_the_message_and_loses_none_that_was_kept() {
    let dir = tempfile::tempdir().unwrap();
    // A limit on the size of files stands for the full disk: writes fail half way.
    let status = std::process::Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 2000; exec \"$0\" --exact child_that_keeps_until_there_is_no_room"])
        .arg(std::env::current_exe().unwrap())
        .env(CHILD, dir.path())
        .stdout(std::process::Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
    let kept: usize = std::fs::read_to_string(dir.path().join("kept")).unwrap().parse().unwrap();
    assert!(kept > 5, "{kept} were kept while there was room");
    let custody = open(dir.path(), None).await;
    assert_eq!(custody.journal(1000).await.unwrap().len(), kept);
}

#[tokio::test]
async fn a_notice_arrives_once_under_our_mark() {
    let (dir, mailbox) = (tempfile::tempdir().unwrap(), Mailbox::start().unwrap());
    let custody = open(dir.path(), Some(&mailbox)).await;
    custody.keep(case("eve@x.example"), None).await;
    custody.keep(case("eve@x.example"), None).await;
    let now = SystemTime::now();
    assert_eq!(custody.outbox().turn(now).await.unwrap(), Turn::Sent);
    assert_eq!(custody.outbox().turn(now + Duration::from_secs(9999)).await.unwrap(), Turn::Idle);
    assert_eq!(custody.journal(9).await.unwrap().len(), 2, "the second has its journal row alone");
    let [notice] = &mailbox.taken()[..] else { panic!("one notice") };
    assert_eq!((notice.from.as_str(), &notice.to[..]), ("<>", &["<bob@example.com>".to_owned()][..]));
    let id = notice.field("Message-ID").unwrap();
    let mark = notice.field(MARK_FIELD).unwrap();
    assert!(custody.mark().checks(&mark, now, "", "bob@example.com", &id), "{mark}");
    assert!(!custody.mark().checks(&mark, now, "", "carol@example.com", &id));
    assert!(!notice.text.contains(KEY) && !notice.text.contains("a secret subject"));
    assert!(!holds(dir.path(), &mark), "no mark is kept");
}

#[tokio::test]
async fn j4_a_failed_try_is_repeated_after_a_restart_with_the_same_message_id() {
    let (dir, mailbox) = (tempfile::tempdir().unwrap(), Mailbox::start().unwrap());
    let custody = open(dir.path(), Some(&mailbox)).await;
    custody.keep(case("eve@x.example"), None).await;
    mailbox.refuse(Some("451 4.3.0 later"));
    let now = SystemTime::now();
    let turn = custody.outbox().turn(now).await.unwrap();
    assert!(matches!(&turn, Turn::Postponed(why) if why.contains("later")), "{turn:?}");
    custody.close().await;
    let custody = open(dir.path(), Some(&mailbox)).await;
    mailbox.refuse(None);
    assert_eq!(custody.outbox().turn(now).await.unwrap(), Turn::Idle, "not before its time");
    assert_eq!(custody.outbox().turn(now + Duration::from_secs(61)).await.unwrap(), Turn::Sent);
    let taken = mailbox.taken();
    assert_eq!(taken.len(), 2);
    assert!(taken[0].field("Message-ID").is_some());
    assert_eq!(taken[0].field("Message-ID"), taken[1].field("Message-ID"));
}

#[tokio::test]
async fn a_notice_that_is_refused_for_good_is_given_up_and_journalled() {
    let (dir, mailbox) = (tempfile::tempdir().unwrap(), Mailbox::start().unwrap());
    let custody = open(dir.path(), Some(&mailbox)).await;
    custody.keep(case("eve@x.example"), None).await;
    mailbox.refuse(Some("550 5.1.1 nobody"));
    assert!(matches!(custody.outbox().turn(SystemTime::now()).await.unwrap(), Turn::GivenUp(_)));
    let later = SystemTime::now() + Duration::from_secs(86_400);
    assert_eq!(custody.outbox().turn(later).await.unwrap(), Turn::Idle);
    let note = custody.journal(1).await.unwrap()[0].entry.note.clone();
    assert!(note.contains("given up") && note.contains("nobody"), "{note}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_owed_is_deferred_while_the_database_is_not_the_one_at_its_path_and_kept_in_that_soon_after() {
    for ends in [&["", "-wal", "-shm"][..], &[""], &["-wal"]] {
        let (dir, backup) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let before = open(backup.path(), None).await;
        before.keep(case("alice@x.example"), None).await;
        before.close().await;
        let custody = open(dir.path(), None).await;
        assert_eq!(custody.keep(case("eve@x.example"), None).await.reply.verdict, Verdict::Discard);
        for end in ends {
            std::fs::remove_file(dir.path().join(format!("filter.db{end}"))).unwrap();
        }
        let begin = std::time::Instant::now();
        if ends.contains(&"") {
            while begin.elapsed() < Duration::from_secs(3) {
                assert!(is_deferred(&custody.keep(case("mallory@x.example"), None).await), "{ends:?}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            assert!(!dir.path().join("filter.db").exists(), "{ends:?}: none is made");
            std::fs::copy(backup.path().join("filter.db"), dir.path().join("filter.db")).unwrap();
        } else {
            assert!(is_deferred(&custody.keep(case("mallory@x.example"), None).await), "{ends:?}");
        }
        // As the sending server does.
        while is_deferred(&custody.keep(case("mallory@x.example"), None).await) {
            assert!(begin.elapsed() < Duration::from_secs(60), "{ends:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        // By another process's handle on what is at the path.
        let other = open(dir.path(), None).await;
        let rows = other.journal(99).await.unwrap().into_iter().map(|row| row.entry);
        let dropped: Vec<_> = rows.filter(|row| row.verdict == RowVerdict::Discard).map(|row| row.sender).collect();
        let of_mallory = dropped.iter().flatten().filter(|sender| *sender == "mallory@x.example");
        assert_eq!(of_mallory.count(), 1, "{ends:?} {dropped:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_committed_after_its_caller_gave_up_is_taken_back() {
    let dir = tempfile::tempdir().unwrap();
    let custody = open(dir.path(), None).await;
    let other = rusqlite::Connection::open(dir.path().join("filter.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    // As a door does whose deadline is over: the answer was 451.
    let given_up = tokio::time::timeout(Duration::from_millis(200), custody.keep(case("eve@x.example"), None)).await;
    assert!(given_up.is_err(), "nobody could write");
    let free = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        other.execute_batch("COMMIT").unwrap();
    };
    tokio::join!(custody.close(), free);
    let custody = open(dir.path(), None).await;
    assert!(custody.journal(9).await.unwrap().iter().all(|row| row.entry.verdict == RowVerdict::Defer));
    let later = SystemTime::now() + Duration::from_secs(60);
    assert_eq!(custody.outbox().turn(later).await.unwrap(), Turn::Idle, "no notice is owed, since the end waits");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_tried_a_bounded_number_of_times() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path(), None);
    let closed = Closed::take();
    config.notices.notify_via = closed.place.to_string();
    let limits = Limits::default().with(|limits| limits.outbox.notice_tries = 3);
    let custody = Custody::open(&config, &Arc::new(limits)).await.unwrap();
    custody.keep(case("eve@x.example"), None).await;
    let mut now = SystemTime::now();
    for _ in 0..2 {
        assert!(matches!(custody.outbox().turn(now).await.unwrap(), Turn::Postponed(_)));
        now += Duration::from_secs(6 * 3600);
    }
    assert!(matches!(custody.outbox().turn(now).await.unwrap(), Turn::GivenUp(_)));
}

/// A server that takes the message and needs a while to say so.
fn slow_server() -> (std::net::SocketAddr, Arc<AtomicUsize>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, taken) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let count = taken.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut out = stream.try_clone().unwrap();
            let _ = out.write_all(b"220 slow.test ESMTP\r\n");
            let mut in_data = false;
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                let answer = match line.as_str() {
                    "." => {
                        in_data = false;
                        count.fetch_add(1, Ordering::SeqCst);
                        std::thread::sleep(Duration::from_millis(600));
                        "250 taken"
                    }
                    _ if in_data => continue,
                    "DATA" => {
                        in_data = true;
                        "354 go"
                    }
                    _ => "250 ok",
                };
                let _ = out.write_all(format!("{answer}\r\n").as_bytes());
            }
        }
    });
    (address, taken)
}

#[tokio::test]
async fn a_stop_in_the_middle_of_a_try_sends_no_notice_twice() {
    let drain = Limits::default().outbox.notice_drain;
    // Without time to end what was begun, the notice goes out again: that is what the time is for.
    for (drain, later_turn, in_all) in [(drain, Turn::Idle, 1), (Duration::ZERO, Turn::Sent, 2)] {
        let (dir, (address, taken)) = (tempfile::tempdir().unwrap(), slow_server());
        let mut config = config(dir.path(), None);
        config.notices.notify_via = address.to_string();
        let limits = Limits::default().with(|limits| limits.outbox.notice_drain = drain);
        let custody = Arc::new(Custody::open(&config, &Arc::new(limits)).await.unwrap());
        custody.keep(case("eve@x.example"), None).await;
        let shutdown = tokio_util::sync::CancellationToken::new();
        let (worker, stop) = (custody.clone(), shutdown.clone());
        let task = tokio::spawn(async move { worker.run(stop).await });
        for _ in 0..200 {
            if taken.load(Ordering::SeqCst) > 0 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        shutdown.cancel();
        task.await.unwrap();
        let later = SystemTime::now() + Duration::from_secs(3_600);
        assert_eq!(custody.outbox().turn(later).await.unwrap(), later_turn);
        assert_eq!(taken.load(Ordering::SeqCst), in_all);
    }
}

#[tokio::test]
async fn j1_ten_thousand_forged_messages_to_one_recipient_make_five_notices_and_a_digest() {
    // In memory where that is to be had: 10,000 commits on a disk would take their time and show nothing more.
    let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let mailbox = Mailbox::start().unwrap();
    let custody = open(dir.path(), Some(&mailbox)).await;
    for n in 0..10_000 {
        // Another sender each time, and another spelling of the recipient; the sender is to be told as well.
        let mut forged = case(&format!("eve{n}@x{}.example", n % 7));
        let spelling = ["bob", "Bob", "bob+1", "BOB+2"][n % 4];
        let bob = Recipient::new(format!("<{spelling}@example.com>"));
        forged.mail = forged.mail.altered(|envelope, _| envelope.recipients[0] = bob);
        forged.decisions[0].notify.sender = true;
        let Finding::Found(found) = &forged.finding else { panic!("it was examined") };
        if n % 100 == 0 {
            assert_eq!(custody.permit(&forged.mail, found).await, Err(Unreported::Unvouched));
        }
        forged.reply.unreported = Some(Unreported::Unvouched);
        assert_eq!(custody.keep(forged, None).await.reply.verdict, Verdict::Discard);
    }
    let rows = custody.journal(20_000).await.unwrap();
    assert_eq!(rows.len(), 10_000, "each of them has its row");
    assert!(rows.iter().all(|row| row.entry.note.contains("no report to the sender: neither SPF nor")));
    let now = SystemTime::now();
    while custody.outbox().turn(now).await.unwrap() != Turn::Idle {}
    assert_eq!(mailbox.taken().len(), 5);
    let later = now + Duration::from_secs(3_601);
    while custody.outbox().turn(later).await.unwrap() != Turn::Idle {}
    while custody.outbox().turn(later + Duration::from_secs(86_400)).await.unwrap() != Turn::Idle {}
    let taken = mailbox.taken();
    assert_eq!(taken.len(), 6, "and nobody but the recipient was told");
    assert!(taken.iter().all(|mail| mail.to[0].to_ascii_lowercase().starts_with("<bob")), "{taken:?}");
    let digest = &taken[5];
    assert!(digest.field("Subject").unwrap().starts_with("9995 more messages to you"), "{digest:?}");
    assert_eq!(digest.text.matches(" [at] ").count(), 20, "as many senders as it names");
    assert!(digest.text.contains("and others"), "{digest:?}");
}

/// A mail of ours as it arrives at another server, decided as badly as can be.
fn arrived(taken: &Taken, recipient: &str) -> Case {
    let header = taken.text.split("\r\n\r\n").next().unwrap().replace("\r\n ", " ").replace("\r\n\t", " ");
    let fields = header.split("\r\n").filter_map(|line| line.split_once(':'));
    let mut case = case("postmaster@mx.example.com");
    case.mail = case.mail.altered(|envelope, head| {
        head.fields = fields.map(|(name, value)| Field { name: name.into(), value: value.into() }).collect();
        envelope.reverse_path = match taken.from.as_str() {
            "<>" => ReversePath::Null,
            path => ReversePath::Path(address(path.trim_matches(['<', '>']))),
        };
        envelope.recipients[0] = Recipient::new(format!("<{recipient}>"));
    });
    case.decisions[0].notify.sender = true;
    case
}

#[tokio::test]
async fn j2_two_servers_that_tell_each_other_fall_silent_at_once() {
    let (ours, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (mailbox, other) = (Mailbox::start().unwrap(), Mailbox::start().unwrap());
    let here = open(ours.path(), Some(&mailbox)).await;
    let there = open(theirs.path(), Some(&other)).await;
    for n in 0..7 {
        here.keep(case(&format!("alice{n}@b.example")), None).await;
    }
    let mut told = case("alice@b.example");
    told.reply = Reply { owed: vec![Owed::Record, Owed::Report(vec![0])], ..Reply::bare(Verdict::Accept) };
    here.keep(told, None).await;
    let later = SystemTime::now() + Duration::from_secs(3_601);
    while here.outbox().turn(later).await.unwrap() != Turn::Idle {}
    let taken = mailbox.taken();
    assert_eq!(taken.len(), 7, "five notices, a digest, a report");
    let vouched = MailAuth { spf: AuthResult::Pass, spf_of_path: true, ..MailAuth::default() };
    for mail in &taken {
        let mut case = arrived(mail, "alice@b.example");
        let Finding::Found(found) = &mut case.finding else { panic!("it was examined") };
        found.mail_auth = Some(vouched);
        assert_eq!(there.permit(&case.mail, found).await, Err(Unreported::NullPath));
        // The same with a reverse-path, as a careless forwarder makes one.
        let path = ReversePath::Path(address("bob@a.example"));
        let forwarded = case.mail.clone().altered(|envelope, _| envelope.reverse_path = path);
        assert_eq!(there.permit(&forwarded, found).await, Err(Unreported::Bulk));
        there.keep(case, None).await;
    }
    assert_eq!(there.journal(99).await.unwrap().len(), 7);
    assert_eq!(there.outbox().turn(later).await.unwrap(), Turn::Idle, "nothing is owed for any of them");
    assert!(other.taken().is_empty());
}

#[tokio::test]
async fn j1_many_forged_messages_make_few_notices_and_one_a_second() {
    let (dir, mailbox) = (tempfile::tempdir().unwrap(), Mailbox::start().unwrap());
    let custody = Arc::new(open(dir.path(), Some(&mailbox)).await);
    for n in 0..20 {
        custody.keep(case(&format!("eve{n}@x.example")), None).await;
    }
    assert_eq!(custody.journal(99).await.unwrap().len(), 20);
    let shutdown = tokio_util::sync::CancellationToken::new();
    let (worker, stop) = (custody.clone(), shutdown.clone());
    let task = tokio::spawn(async move { worker.run(stop).await });
    tokio::time::sleep(Duration::from_millis(1_700)).await;
    let early = mailbox.taken().len();
    assert!((1..=2).contains(&early), "{early} within 1.7 s");
    shutdown.cancel();
    task.await.unwrap();
    let mut all = early;
    while custody.outbox().turn(SystemTime::now()).await.unwrap() == Turn::Sent {
        all += 1;
    }
    assert_eq!(all, 5, "an hour's worth");
}

#[tokio::test]
async fn state_is_for_its_owner_alone() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    open(&state, None).await.keep(case("eve@x.example"), None).await;
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&state), 0o700);
    for file in std::fs::read_dir(&state).unwrap() {
        let path = file.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
}
