//! Bursts of forged mail through the real daemon's milter socket: they are neither let through, nor do they stop honest mail,
//! and the Authentication Server sees no more of them than the cap.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use addrauth::config::Listen;
use addrauth::proto::wire::Reason;
use addrauth_lab::mta::{Envelope, Fate, Mta};
use addrauth_tests::authority::{Act, Authority};
use addrauth_tests::daemon::{Daemon, LOG_LEVEL, binary};
use addrauth_tests::dns;
use addrauth_tests::world::{GOOD, junk, key};

/// Connections of the MTA at once.
const CONNECTIONS: usize = 200;
/// Messages of a burst.
const BURST: usize = 600;
/// How long the filter may take for one message: generous, since the machine may be busy.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The cap of questions that are not answered VALIDKEY: at once, and a second.
const CAP: (f64, f64) = (20.0, 10.0);

/// How one message was answered.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Told {
    /// Delivered with this word in its status field.
    Status(String),
    /// Put off.
    Later,
}

struct Stage {
    dir: tempfile::TempDir,
    authority: Authority,
    daemon: Daemon,
    start: Instant,
    /// Right keys that were brought.
    right: usize,
    numbers: Arc<AtomicUsize>,
}

impl Stage {
    async fn set(observe: bool) -> Stage {
        let _ = LOG_LEVEL.set("info");
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::start([Act::Check(key(GOOD))]).await.unwrap();
        let (state, socket) = (dir.path().join("state"), dir.path().join("milter"));
        let text = format!(
            "hostname = \"mx.example.com\"\nfinal_domains = [\"example.com\"]\nobserve = {observe}\nstate_dir = {state:?}\n\
             [milter]\nlisten = [\"unix:{}\"]\n\
             [verify]\ndns = [\"{}\"]\ntimeout = \"{}s\"\n[verify.domain.\"send.test\"]\nas = \"{}\"\n",
            socket.display(),
            dns::empty(),
            TIMEOUT.as_secs(),
            authority.addr
        );
        let file = dir.path().join("filter.toml");
        std::fs::write(&file, text).unwrap();
        let mut daemon = Daemon::start("filter", &file);
        daemon.until_it_takes_mail(&format!("unix:{}", socket.display()));
        let start = Instant::now();
        Stage { dir, authority, daemon, start, right: 0, numbers: Arc::default() }
    }

    fn place(&self) -> Listen {
        Listen::Unix(self.dir.path().join("milter"))
    }

    /// A burst of messages in the name of an address, each with another wrong key, brought by clients of these networks in
    /// turn; what each was told, by its queue id.
    fn burst(&self, size: usize, networks: &[[u8; 3]]) -> tokio::task::JoinHandle<BTreeMap<String, Told>> {
        let (place, numbers, networks) = (self.place(), self.numbers.clone(), networks.to_vec());
        let first = numbers.fetch_add(size, Ordering::SeqCst);
        let next = Arc::new(AtomicUsize::new(first));
        tokio::spawn(async move {
            let mut pouring = tokio::task::JoinSet::new();
            for _ in 0..CONNECTIONS.min(size) {
                let (place, next, networks) = (place.clone(), next.clone(), networks.clone());
                pouring.spawn(async move {
                    let (mut mta, mut all) = (Mta::connect(&place).await.unwrap(), BTreeMap::new());
                    loop {
                        let number = next.fetch_add(1, Ordering::SeqCst);
                        if number >= first + size {
                            return all;
                        }
                        let [a, b, c] = networks[number % networks.len()];
                        let client = IpAddr::from([a, b, c, (number % 250) as u8]);
                        let (id, told) = bring(&mut mta, number, client, "alice@send.test", &junk(number)).await;
                        all.insert(id, told);
                    }
                });
            }
            pouring.join_all().await.into_iter().flatten().collect()
        })
    }

    /// A message with this key; what it was told, and how long that took.
    async fn honest(&mut self, client: [u8; 4], from: &str, key: &str) -> (Told, Duration) {
        self.right += 1;
        let number = self.numbers.fetch_add(1, Ordering::SeqCst);
        let mut mta = Mta::connect(&self.place()).await.unwrap();
        let since = Instant::now();
        let told = bring(&mut mta, number, client.into(), from, key).await.1;
        (told, since.elapsed())
    }

    /// Whether the server saw no more questions than the cap allows, those about right keys left out.
    fn expect_cap(&self) {
        let allowed = CAP.0 + CAP.1 * self.start.elapsed().as_secs_f64();
        let received = self.authority.received();
        let questions: BTreeSet<&str> = received.iter().map(|one| one.word(1)).collect();
        let wrong = questions.len().saturating_sub(self.right);
        assert!(wrong as f64 <= allowed, "{wrong} questions, {allowed:.0} are allowed");
    }

    /// What another verb prints.
    fn says(&self, verb: &[&str]) -> String {
        let mut command = Command::new(binary());
        command.arg("--config").arg(self.file()).args(verb).stdin(Stdio::null());
        let out = command.output().unwrap();
        assert!(out.status.success(), "{verb:?}: {out:?}");
        String::from_utf8(out.stdout).unwrap()
    }

    fn file(&self) -> std::path::PathBuf {
        Path::new(self.dir.path()).join("filter.toml")
    }
}

async fn bring(mta: &mut Mta, number: usize, client: IpAddr, from: &str, key: &str) -> (String, Told) {
    let mut envelope = Envelope::inbound(from, "bob@example.com");
    envelope.client = client;
    envelope.queue_id = format!("4B{number:08X}");
    let message = format!("X-Auth-Key: {key}\r\nFrom: {from}\r\nSubject: {number}\r\n\r\ntext\r\n");
    let outcome = mta.send(&envelope, message.as_bytes()).await.unwrap();
    let told = match outcome.fate {
        Fate::Refused(text) if text.starts_with("451 4.7.1 ") => Told::Later,
        Fate::Delivered => {
            let text = String::from_utf8(outcome.message).unwrap();
            let field = text.lines().find_map(|line| line.strip_prefix("X-Auth-Key-Status: ")).unwrap();
            assert!(!text.contains(key), "{text}");
            Told::Status(field.replace(&format!("; address={from}; by=mx.example.com"), ""))
        }
        other => panic!("{number}: {other:?}"),
    };
    (envelope.queue_id, told)
}

fn counted(told: &BTreeMap<String, Told>) -> BTreeMap<&Told, usize> {
    let mut counts = BTreeMap::new();
    told.values().for_each(|told| *counts.entry(told).or_default() += 1);
    counts
}

fn status(word: &str) -> Told {
    Told::Status(word.into())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_of_forged_mail_is_neither_let_through_nor_stops_honest_mail() {
    let mut stage = Stage::set(false).await;
    let fifty: Vec<[u8; 3]> = (0..50).map(|n| [100, 64, n]).collect();
    // Somebody wrote before, from home; since then the key changed.
    let home = [198, 51, 100, 7];
    assert_eq!(stage.honest(home, "alice@send.test", GOOD).await.0, status("VALIDKEY"));
    let newer = junk(900_001);
    stage.authority.now_does(Act::Check(key(&newer)));

    let mut forged = BTreeMap::new();
    for (round, networks) in [&fifty[..1], &fifty[..], &fifty[..]].into_iter().enumerate() {
        let newest = junk(900_002 + round);
        match round {
            2 => stage.authority.now_does(Act::CheckElse(key(&newest), Reason::Limit)),
            _ => stage.authority.now_does(Act::Check(key(&newest))),
        }
        let burst = stage.burst(BURST, networks);
        tokio::time::sleep(Duration::from_millis(150)).await;
        // While it lasts: a network that never wrote, another address, and who wrote before with a key that nobody has seen.
        let fresh = [203, 0, round as u8, 9];
        for (client, from) in
            [(fresh, "alice@send.test"), ([192, 0, 2 + round as u8, 1], "carol@send.test"), (home, "alice@send.test")]
        {
            let (told, took) = stage.honest(client, from, &newest).await;
            assert_eq!(told, status("VALIDKEY"), "{round}: {client:?} {from} after {took:?}");
            assert!(took < TIMEOUT + Duration::from_secs(5), "{took:?}");
        }
        let told = burst.await.unwrap();
        println!("{round}: {:?}", counted(&told));
        assert_eq!(told.len(), BURST);
        // A machine that is busy enough loses an answer now and then: that is a silent server, and no budget.
        let silence = status("UNVERIFIED; reason=timeout");
        let allowed = [Told::Later, status("INVALIDKEY; reason=wrong"), silence.clone()];
        assert!(told.values().all(|told| allowed.contains(told)), "{round}: {:?}", counted(&told));
        assert!(told.values().filter(|told| **told == silence).count() <= 5, "{round}: {:?}", counted(&told));
        stage.expect_cap();
        forged = told;
    }
    // What the AS itself held back is told as such.
    assert!(forged.values().filter(|told| **told == Told::Later).count() >= BURST - 5, "{:?}", counted(&forged));
    let (here, there) = ("more questions to the Authentication Server of send.test", "(e=limit)");
    let later = forged.iter().filter(|(_, told)| **told == Told::Later).map(|(id, _)| id);
    let words: Vec<String> = later.step_by(60).map(|id| stage.says(&["why", id])).collect();
    let flat = |text: &String| text.split_whitespace().collect::<Vec<_>>().join(" ");
    for words in words.iter().map(flat) {
        assert!(words.contains("Nothing could be told yet: its key could not be checked"), "{words}");
        assert!(words.contains(here) || words.contains(there), "{words}");
        assert!(words.contains("451 4.7.1"), "{words}");
    }
    let log = stage.daemon.log();
    assert!(log.contains("postponed=limit-here") && log.contains("postponed=limit-there"), "{log}");
    assert!(!log.contains("why=limit"), "the host finds no `limit` any more");
}

#[tokio::test(flavor = "multi_thread")]
async fn while_observing_nobody_is_put_off() {
    let mut stage = Stage::set(true).await;
    let told = stage.burst(150, &[[100, 64, 0]]).await.unwrap();
    println!("{:?}", counted(&told));
    for told in told.values() {
        assert!([status("INVALIDKEY; reason=wrong"), status("UNVERIFIED")].contains(told), "{told:?}");
    }
    let (id, _) = told.iter().find(|(_, told)| **told == status("UNVERIFIED")).expect("more than the cap");
    stage.expect_cap();
    let words = stage.says(&["why", id]).split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains("without `observe` the message would have been put off, since more questions"), "{words}");
    let (told, _) = stage.honest([203, 0, 113, 1], "alice@send.test", GOOD).await;
    assert_eq!(told, status("VALIDKEY"));
}
