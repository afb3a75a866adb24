//! The Authentication Server over real UDP sockets and real database files.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use addrauth::authority::{Authority, Clock, Intervals, KeyState, OwedKey};
use addrauth::config::{Config, Limits, StateDir};
use addrauth::proto::key::AuthKey;
use addrauth::store::{self, Opening, Posts as _, SqliteKeys};
use addrauth_tests::daemon::binary;
use addrauth_tests::keys::address;
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const SEQ: &str = "00112233445566778899aabbccddeeff";
const DAY: u64 = 86_400;
const START: u64 = 1_800_000_000;

struct Server {
    authority: Arc<Authority>,
    client: UdpSocket,
    clock: Arc<AtomicU64>,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

fn config(dir: &Path) -> Config {
    let mut config = Config { state_dir: StateDir(dir.to_owned()), ..Config::default() };
    config.authority.domains = vec!["Example.com".parse().unwrap()];
    config.authority.listen = vec![SocketAddr::from(([127, 0, 0, 1], 0))];
    config
}

impl Server {
    async fn start(dir: &Path) -> Server {
        let clock = Arc::new(AtomicU64::new(START));
        let now = clock.clone();
        let seam = Clock::new(move || UNIX_EPOCH + Duration::from_secs(now.load(Ordering::SeqCst)));
        let limits = Arc::new(Limits::default());
        let authority = Arc::new(Authority::with_clock(&config(dir), &limits, seam).await.unwrap());
        let sockets = authority.bind().unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        client.connect(sockets[0].local_addr().unwrap()).await.unwrap();
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(authority.clone().serve(sockets, shutdown.clone()));
        Server { authority, client, clock, shutdown, task }
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.unwrap();
        self.authority.close().await;
    }

    fn pass(&self, seconds: u64) {
        self.clock.fetch_add(seconds, Ordering::SeqCst);
    }

    async fn say(&self, line: &[u8]) -> Option<String> {
        self.client.send(line).await.unwrap();
        let mut room = [0; 2048];
        let length = tokio::time::timeout(Duration::from_secs(60), self.client.recv(&mut room)).await.ok()?.unwrap();
        assert!(length <= line.len(), "an answer is never longer than its question");
        Some(String::from_utf8(room[..length].to_vec()).unwrap())
    }

    /// What follows seq and address in the answer to a question with this credential.
    async fn ask(&self, address: &str, credential: &str) -> String {
        let line = format!("VERIFY {SEQ} {address} {credential} v=1 from=example.net\r\n");
        let answer = self.say(line.as_bytes()).await.expect("an answer");
        let rest = answer.strip_prefix(&format!("VERIFY_REPLY {SEQ} {address} ")).expect("seq and address echoed");
        rest.strip_suffix("\r\n").unwrap().to_owned()
    }
}

fn proof(key: &AuthKey, address: &str) -> String {
    key.verify_key().prove(SEQ.as_bytes(), address.as_bytes(), b"v=1 from=example.net")
}

async fn with_key() -> (tempfile::TempDir, Server, AuthKey) {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let key = server.authority.issue(&address("alice@example.com")).await.unwrap().key;
    (dir, server, key)
}

#[tokio::test]
async fn a_key_is_valid_by_proof_and_as_it_is() {
    let (_dir, server, key) = with_key().await;
    let valid = format!("VALIDKEY t={}", 12 * DAY);
    assert_eq!(server.ask("alice@example.com", &proof(&key, "alice@example.com")).await, valid);
    assert_eq!(server.ask("alice@example.com", key.expose()).await, valid);
    // The address is folded for the look-up, and echoed and proved as it stands.
    for spelling in ["Alice+news@Example.COM", "%61lice@example.com"] {
        assert_eq!(server.ask(spelling, &proof(&key, spelling)).await, valid, "{spelling}");
    }
    server.stop().await;
}

#[tokio::test]
async fn h_the_wrong_key_and_the_unknown_address_get_the_same_octets() {
    let (_dir, server, key) = with_key().await;
    let other = AuthKey::parse(&[b'x'; 64]).unwrap();
    for (address, credential) in [
        ("alice@example.com", proof(&other, "alice@example.com")),
        ("alice@example.com", other.expose().to_owned()),
        ("nobody@example.com", proof(&key, "nobody@example.com")),
        ("nobody@example.com", key.expose().to_owned()),
        // A proof for another address is no proof for this one.
        ("alice@example.com", proof(&key, "bob@example.com")),
    ] {
        assert_eq!(server.ask(address, &credential).await, "INVALIDKEY", "{address}");
    }
    server.stop().await;
}

#[tokio::test]
async fn every_living_key_counts_and_each_ends_in_its_time() {
    let (_dir, server, first) = with_key().await;
    server.pass(5 * DAY);
    let second = server.authority.issue(&address("alice@example.com")).await.unwrap();
    assert_eq!(second.generation, 2);
    let ask = |key: AuthKey| {
        let server = &server;
        async move { server.ask("alice@example.com", &proof(&key, "alice@example.com")).await }
    };
    assert_eq!(ask(first.clone()).await, format!("VALIDKEY t={}", 7 * DAY));
    assert_eq!(ask(second.key.clone()).await, format!("VALIDKEY t={}", 12 * DAY));
    server.pass(7 * DAY);
    assert_eq!(ask(first.clone()).await, "INVALIDKEY e=expired");
    assert_eq!(ask(second.key.clone()).await, format!("VALIDKEY t={}", 5 * DAY));
    server.pass(14 * DAY);
    assert_eq!(ask(first.clone()).await, "INVALIDKEY e=expired");
    server.pass(1);
    assert_eq!(ask(first.clone()).await, "INVALIDKEY");
    assert_eq!(server.authority.sweep().await.unwrap(), 1);
    assert_eq!(ask(second.key).await, "INVALIDKEY e=expired");
    server.stop().await;
}

#[tokio::test]
async fn a_server_that_starts_with_a_clock_ahead_deletes_nothing_at_once() {
    let (_dir, server, key) = with_key().await;
    server.pass(60 * DAY);
    let (serving, shutdown) = (server.authority.clone(), CancellationToken::new());
    let task = tokio::spawn(serving.serve(Vec::new(), shutdown.clone()));
    tokio::time::sleep(Duration::from_millis(300)).await;
    shutdown.cancel();
    task.await.unwrap();
    let rows = server.authority.list(&address("alice@example.com")).await.unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].fingerprint, key.verify_key().fingerprint());
    server.stop().await;
}

#[tokio::test]
async fn revoking_counts_from_the_next_answer_on_even_from_another_process() {
    let (dir, server, key) = with_key().await;
    let keep = server.authority.issue(&address("alice@example.com")).await.unwrap();
    // The second opener stands for `addrauth key`, which is a process of its own.
    let other = Authority::open(&config(dir.path()), &Arc::new(Limits::default())).await.unwrap();
    let fingerprint = key.verify_key().fingerprint();
    assert!(other.revoke(&address("alice@example.com"), Some("00000000")).await.is_err());
    // By the real clock, which is behind the server's here: a revoked key is revoked all the same.
    assert_eq!(other.revoke(&address("alice@example.com"), Some(&fingerprint)).await.unwrap(), 1);
    assert_eq!(server.ask("alice@example.com", key.expose()).await, "INVALIDKEY");
    assert!(server.ask("alice@example.com", keep.key.expose()).await.starts_with("VALIDKEY"));
    assert_eq!(server.authority.revoke(&address("alice@example.com"), None).await.unwrap(), 1);
    assert_eq!(server.ask("alice@example.com", keep.key.expose()).await, "INVALIDKEY");
    server.stop().await;
}

#[tokio::test]
async fn what_is_no_question_of_ours_is_told_so() {
    let (_dir, server, key) = with_key().await;
    let key = key.expose();
    let cases = [
        (format!("VERIFY {SEQ} a@other.example {key}\r\n"), "UNVERIFIED e=domain"),
        (format!("VERIFY {SEQ} a@sub.example.com {key}\r\n"), "UNVERIFIED e=domain"),
        (format!("VERIFY {SEQ} alice {key}\r\n"), "UNVERIFIED e=domain"),
        (format!("VERIFY {SEQ} alice@example.com {key} v=2 x=1\r\n"), "UNVERIFIED e=version"),
        (format!("VERIFY {SEQ} alice@example.com {key} a=1 a=2\r\n"), "UNVERIFIED e=syntax"),
        (format!("VERIFY {SEQ} alice@example.com {key} x=1\n"), "UNVERIFIED e=syntax"),
        (format!("VERIFY {SEQ} alice@example.com h2.{key} x=1\r\n"), "UNVERIFIED e=syntax"),
    ];
    for (line, want) in cases {
        let answer = server.say(line.as_bytes()).await.expect("an answer");
        assert!(answer.trim_end().ends_with(want), "{line:?} got {answer:?}");
    }
    server.stop().await;
}

#[tokio::test]
async fn some_lines_are_met_with_silence() {
    let (_dir, server, key) = with_key().await;
    let from: SocketAddr = "127.0.0.1:9".parse().unwrap();
    let key = key.expose();
    let long = format!("VERIFY {SEQ} {}@example.com {key}\r\n", "a".repeat(250));
    for line in [
        &b""[..],
        b"\r\n",
        b"VERIFY\r\n",
        b"HELLO world\r\n",
        b"VERIFY xyz alice@example.com k\r\n",
        format!("VERIFY {SEQ}00 alice@example.com {key}\r\n").as_bytes(),
        format!("VERIFY_REPLY {SEQ} alice@example.com VALIDKEY t=1\r\n").as_bytes(),
        long.as_bytes(),
        // Too short for any answer: nothing is amplified.
        format!("VERIFY {SEQ} alice@example.com").as_bytes(),
    ] {
        assert_eq!(server.authority.answer(line, from).await, None, "{}", line.escape_ascii());
    }
    // A datagram that is too long, over the wire: the next answer is the one to the next question.
    server.client.send(&[b'x'; 1500]).await.unwrap();
    assert!(server.ask("alice@example.com", key).await.starts_with("VALIDKEY"));
    server.stop().await;
}

#[tokio::test]
async fn no_datagram_is_answered_with_a_longer_one() {
    let (_dir, server, key) = with_key().await;
    let from: SocketAddr = "127.0.0.1:9".parse().unwrap();
    let line = format!("VERIFY {SEQ} alice@example.com {} v=1 from=example.net\r\n", key.expose());
    let mut answered = 0;
    for length in 0..=line.len() {
        for end in ["", "\r\n", " v=9"] {
            let datagram = [&line.as_bytes()[..length], end.as_bytes()].concat();
            if let Some(answer) = server.authority.answer(&datagram, from).await {
                answered += 1;
                assert!(answer.len() <= datagram.len(), "{}", datagram.escape_ascii());
            }
        }
    }
    assert!(answered > 50, "{answered}");
    server.stop().await;
}

#[tokio::test]
async fn h_guessing_is_limited_and_the_owner_is_not() {
    let (_dir, server, key) = with_key().await;
    let alice = proof(&key, "alice@example.com");
    let guess = "x".repeat(64);
    server.pass(12 * DAY);
    let second = server.authority.issue(&address("alice@example.com")).await.unwrap().key;
    for n in 0..60 {
        let want = if n < 50 { "INVALIDKEY" } else { "UNVERIFIED e=limit" };
        assert_eq!(server.ask(&format!("user{n}@example.com"), &guess).await, want, "{n}");
        // Right but ended: said, and not counted.
        assert_eq!(server.ask("alice@example.com", &alice).await, "INVALIDKEY e=expired");
    }
    assert!(server.ask("alice@example.com", second.expose()).await.starts_with("VALIDKEY"));
    // Another network is not held by it.
    let line = format!("VERIFY {SEQ} bob@example.com {guess}\r\n");
    let answer = server.authority.answer(line.as_bytes(), "192.0.2.1:5000".parse().unwrap()).await.unwrap();
    assert!(answer.ends_with(b" INVALIDKEY\r\n"));
    server.stop().await;
}

#[tokio::test]
async fn a_lost_database_is_no_verdict_on_a_key() {
    let (_dir, server, key) = with_key().await;
    server.authority.close().await;
    assert_eq!(server.ask("alice@example.com", key.expose()).await, "UNVERIFIED e=temp");
    assert_eq!(server.ask("nobody@example.com", key.expose()).await, "UNVERIFIED e=temp");
    server.stop().await;
}

#[tokio::test]
async fn keys_outlive_a_restart_and_the_files_hold_none() {
    let (dir, server, key) = with_key().await;
    server.stop().await;
    let server = Server::start(dir.path()).await;
    assert!(server.ask("alice@example.com", key.expose()).await.starts_with("VALIDKEY"));
    let mut files = 0;
    for file in std::fs::read_dir(dir.path()).unwrap() {
        let octets = std::fs::read(file.unwrap().path()).unwrap();
        files += 1;
        let holds = |needle: &[u8]| octets.windows(needle.len()).any(|window| window == needle);
        assert!(!holds(key.expose().as_bytes()) && !holds(&key.expose().as_bytes()[..24]));
    }
    assert!(files >= 2, "the database and its log");
    server.stop().await;
}

#[tokio::test]
async fn only_addresses_of_ours_get_keys() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let error = server.authority.issue(&address("eve@other.example")).await.unwrap_err();
    assert!(error.to_string().contains("authority.domains"), "{error}");
    let issued = server.authority.issue(&address("Carol+x@EXAMPLE.com")).await.unwrap();
    assert_eq!((issued.address.as_str(), issued.key.expose().len()), ("carol@example.com", 64));
    assert!(!format!("{issued:?}").contains(issued.key.expose()), "a key never prints");
    server.stop().await;
}

fn days(days: u64) -> Option<Duration> {
    Some(Duration::from_secs(days * DAY))
}

/// The key that is owed to an address, as whoever posts it sees it.
async fn opened(dir: &Path, owed: &OwedKey) -> AuthKey {
    let opening = Opening { busy: Duration::from_secs(2), readers: 1 };
    let table = SqliteKeys::open(dir, opening).await.unwrap();
    let post = table.take_post(owed.created, |_| Duration::from_secs(60)).await.unwrap().unwrap();
    assert_eq!((&*post.address, post.generation, post.expires), (&*owed.address, owed.generation, owed.expires));
    store::post_opener(dir).unwrap().open(&owed.address, &post.sealed).unwrap()
}

#[tokio::test]
async fn rotating_makes_a_key_at_once_and_the_old_ones_end_after_avt() {
    let (dir, server, first) = with_key().await;
    let alice = address("alice@example.com");
    let own = Intervals { agi: days(7), avt: days(6) };
    assert_eq!(server.authority.enlist(&[(alice.clone(), own)], &mut |_| {}).await.unwrap(), 1);
    let second = server.authority.rotate(&alice).await.unwrap();
    let second = opened(dir.path(), &second).await;
    let ask = async |key: &AuthKey| server.ask("alice@example.com", &proof(key, "alice@example.com")).await;
    assert_eq!(ask(&first).await, format!("VALIDKEY t={}", 6 * DAY));
    assert_eq!(ask(&second).await, format!("VALIDKEY t={}", 13 * DAY));
    server.pass(6 * DAY);
    assert_eq!(ask(&first).await, "INVALIDKEY e=expired");
    assert_eq!(ask(&second).await, format!("VALIDKEY t={}", 7 * DAY));
    // Back to the configuration's AVT of 7 days.
    let set = server.authority.set(&alice, None, Some(None)).await.unwrap();
    assert_eq!((Some(set.agi), Some(set.avt), set.own.avt), (days(7), days(7), None));
    let third = server.authority.issue(&alice).await.unwrap();
    assert_eq!(ask(&third.key).await, format!("VALIDKEY t={}", 14 * DAY));
    assert_eq!(server.authority.strike(std::slice::from_ref(&alice)).await.unwrap(), 2);
    assert_eq!(ask(&third.key).await, "INVALIDKEY");
    assert!(server.authority.set(&alice, Some(days(3)), None).await.is_err());
    server.stop().await;
}

#[tokio::test]
async fn every_address_has_its_turn_once_in_agi_and_after_a_standstill_one_more() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let authority = &server.authority;
    let wanted: Vec<_> = (0..300).map(|n| (address(&format!("user{n}@example.com")), Intervals::default())).collect();
    assert_eq!(authority.enlist(&wanted, &mut |_| {}).await.unwrap(), 300);
    assert_eq!(authority.enlist(&wanted, &mut |_| {}).await.unwrap(), 0);
    // 2.5 turns an hour are usual here, so 8 are the most; a minute's look makes one.
    assert_eq!(authority.due_at_once(Duration::from_secs(3_600)).await.unwrap(), 8);
    let keys = async || {
        let mut keys = Vec::new();
        for (address, _) in &wanted {
            keys.push(authority.list(address).await.unwrap().len());
        }
        keys
    };
    for _ in 0..5 * 24 * 6 {
        server.pass(600);
        assert!(authority.issue_due().await.unwrap().made <= 1);
    }
    assert!(keys().await.iter().all(|count| *count == 1), "one key in AGI");
    server.pass(30 * DAY);
    for _ in 0..300 {
        assert_eq!(authority.issue_due().await.unwrap().made, 1);
    }
    assert_eq!(authority.issue_due().await.unwrap().made, 0);
    assert!(keys().await.iter().all(|count| *count == 2), "what was missed is one turn and not many");
    server.stop().await;
}

#[tokio::test]
async fn who_is_forged_is_told_by_address_and_unknown_addresses_only_by_domain() {
    let (dir, server, key) = with_key().await;
    let guess = "x".repeat(64);
    for _ in 0..3 {
        assert_eq!(server.ask("Alice+news@Example.com", &guess).await, "INVALIDKEY");
    }
    for n in 0..5 {
        assert_eq!(server.ask(&format!("nobody{n}@example.com"), &guess).await, "INVALIDKEY");
    }
    let line = format!("VERIFY {SEQ} alice@example.com {guess} from=mx.example.org\r\n");
    server.authority.answer(line.as_bytes(), "[2001:db8:1:2fff::9]:5000".parse().unwrap()).await.unwrap();
    // None of these is a forgery: right, right but ended, and a domain of others.
    assert!(server.ask("alice@example.com", key.expose()).await.starts_with("VALIDKEY"));
    assert!(server.ask("a@other.example", &guess).await.contains("e=domain"));
    server.authority.write_counts().await.unwrap();
    server.authority.write_counts().await.unwrap();
    server.pass(13 * DAY);
    assert_eq!(server.ask("alice@example.com", key.expose()).await, "INVALIDKEY e=expired");
    // The command is another process; it reads what the server has written.
    let now = server.authority.forged(Some("Example.com."), Duration::from_secs(14 * DAY)).await.unwrap();
    let told: Vec<_> = now.iter().map(|forged| (forged.address.as_deref(), forged.answers)).collect();
    assert_eq!(told, [(None, 5), (Some("alice@example.com"), 4)]);
    let seen: Vec<_> =
        now[1].seen_by.iter().map(|by| (by.verifier.as_deref(), by.network.as_deref(), by.answers)).collect();
    assert_eq!(
        seen,
        [(Some("example.net"), Some("127.0.0.0/24"), 3), (Some("mx.example.org"), Some("2001:db8:1:2f00::/56"), 1)]
    );
    assert!(server.authority.forged(None, Duration::from_secs(5 * DAY)).await.unwrap().is_empty());
    assert!(server.authority.forged(Some("other.example"), Duration::from_secs(DAY)).await.is_err());
    server.pass(90 * DAY);
    assert_eq!(server.authority.sweep_forged().await.unwrap(), 3);
    // What is still in memory is written when the server stops.
    assert_eq!(server.ask("alice@example.com", &guess).await, "INVALIDKEY");
    let clock = server.clock.clone();
    server.stop().await;
    let server = Server::start(dir.path()).await;
    server.clock.store(clock.load(Ordering::SeqCst), Ordering::SeqCst);
    let after = server.authority.forged(None, Duration::from_secs(DAY)).await.unwrap();
    assert_eq!((after.len(), after[0].answers), (1, 1));
    server.stop().await;
}

#[tokio::test]
async fn counting_the_forged_never_grows_and_outlives_a_lost_database() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits::default().with(|limits| {
        limits.authority.forged_waiting = 20;
        limits.authority.forged_rows = 30;
        limits.authority.invalid_answers = 1_000_000;
    });
    let authority = Authority::open(&config(dir.path()), &Arc::new(limits)).await.unwrap();
    authority.issue(&address("alice@example.com")).await.unwrap();
    let guess = "x".repeat(64);
    for round in 0..10 {
        for n in 0..100 {
            let line = format!("VERIFY {SEQ} alice@example.com {guess} from=v{round}-{n}.test\r\n");
            authority.answer(line.as_bytes(), "192.0.2.1:5000".parse().unwrap()).await.unwrap();
        }
        authority.write_counts().await.unwrap();
    }
    let told = authority.forged(None, Duration::from_secs(2 * DAY)).await.unwrap();
    assert_eq!(told.iter().map(|forged| forged.answers).sum::<u64>(), 1_000, "none is lost");
    assert!(told.iter().map(|forged| forged.seen_by.len()).sum::<usize>() <= 32, "{}", told.len());
    authority.close().await;
    let line = format!("VERIFY {SEQ} alice@example.com {guess}\r\n");
    authority.answer(line.as_bytes(), "192.0.2.1:5000".parse().unwrap()).await.unwrap();
    assert!(authority.write_counts().await.is_ok(), "e=temp is not counted");
}

#[tokio::test]
async fn a_key_that_the_command_cannot_print_is_taken_back() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("addrauth.toml");
    let text = format!("state_dir = {:?}\n[authority]\ndomains = [\"example.com\"]\n", dir.path());
    std::fs::write(&file, text).unwrap();
    let issue = |stdout: Stdio| {
        let mut command = Command::new(binary());
        command.arg("--config").arg(&file).args(["key", "issue", "alice@example.com"]).stderr(Stdio::null());
        command.stdout(stdout).spawn().unwrap().wait_with_output().unwrap()
    };
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    assert_eq!(issue(writer.into()).status.code(), Some(2), "nobody reads it");
    assert_eq!(issue(Stdio::piped()).stdout.len(), 65);
    let authority = Authority::open(&config(dir.path()), &Arc::new(Limits::default())).await.unwrap();
    let states: Vec<_> =
        authority.list(&address("alice@example.com")).await.unwrap().iter().map(|key| key.state).collect();
    assert_eq!(states, [KeyState::Living, KeyState::Revoked]);
    authority.close().await;
}

#[tokio::test]
async fn questions_that_come_at_once_are_each_answered_as_they_would_be_alone() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let mut issued = Vec::new();
    for who in ["alice@example.com", "bob@example.com"] {
        issued.push(server.authority.issue(&address(who)).await.unwrap());
    }
    // More than are looked up together, all in the socket's buffer before the first is answered.
    let mut wanted = std::collections::BTreeMap::new();
    for n in 0..100_usize {
        let (who, key) = (&issued[n % 2].address, &issued[if n % 5 == 0 { (n + 1) % 2 } else { n % 2 }].key);
        let seq = format!("{n:032x}");
        let (line, word) = match n % 7 {
            3 => (format!("VERIFY {seq} eve@other.example {} v=1\r\n", key.expose()), "UNVERIFIED"),
            4 => (format!("VERIFY {seq} a%00b@example.com {} v=1\r\n", key.expose()), "INVALIDKEY"),
            _ => {
                let proof = key.verify_key().prove(seq.as_bytes(), who.as_bytes(), b"v=1");
                (format!("VERIFY {seq} {who} {proof} v=1\r\n"), if n % 5 == 0 { "INVALIDKEY" } else { "VALIDKEY" })
            }
        };
        wanted.insert(seq, word);
        server.client.send(line.as_bytes()).await.unwrap();
    }
    let mut room = [0; 600];
    while !wanted.is_empty() {
        let received = tokio::time::timeout(Duration::from_secs(60), server.client.recv(&mut room));
        let length = received.await.unwrap().unwrap();
        let reply = String::from_utf8_lossy(&room[..length]).into_owned();
        let mut words = reply.split_ascii_whitespace().skip(1);
        let (seq, status) = (words.next().unwrap(), words.nth(1).unwrap());
        assert_eq!(wanted.remove(seq), Some(status), "{reply}");
    }
    server.stop().await;
}
