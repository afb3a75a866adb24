//! A million addresses, on SQLite and on PostgreSQL: room, start, issuing, answering. `tests/run --bench`, or
//! `cargo bench --bench million -- ADDRESSES ANSWERS`.
//!
//! Figures of one machine and one run: only the ratios say something, and nothing passes or fails by them. Processor time is
//! that of the server under test alone (and of its PostgreSQL), as the kernel counts it; the peers answer the same datagrams
//! in interleaved rounds.

use std::collections::HashMap;
use std::fs;
use std::net::{Ipv4Addr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use addrauth::authority::{Authority, Clock, Intervals};
use addrauth::config::{Config, Deliver, Limits};
use addrauth::proto::address::Address;
use addrauth::proto::key::AuthKey;
use addrauth::store::{self, NewKey, Opening};
use addrauth_tests::daemon::{Daemon, binary};
use addrauth_tests::ports::claim;
use addrauth_tests::postgres::Postgres;

/// AGI of all addresses: the default.
const AGI: u64 = 5 * 86_400;
/// How often the daemon looks whose turn it is, here: an hour instead of a minute, so that a run of five days ends.
const LOOK: Duration = Duration::from_secs(3_600);
/// Questions under way at once.
const WINDOW: usize = 64;
/// Rounds of answers; their median counts.
const ROUNDS: usize = 5;

/// The key of the nth address, the same in every run.
fn key(n: usize) -> AuthKey {
    AuthKey::parse(format!("{n:0>64}").as_bytes()).unwrap()
}

fn address(n: usize) -> String {
    format!("user{n}@example.com")
}

/// Octets of all files below a directory.
fn octets(dir: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(dir) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(found) if found.is_dir() => octets(&entry.path()),
            Ok(found) => found.len(),
            Err(_) => 0,
        })
        .sum()
}

/// Nanoseconds that all threads of a process ran.
fn busy(pid: u32) -> u64 {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return 0 };
    let ran = |path: PathBuf| fs::read_to_string(path.join("schedstat")).ok()?.split(' ').next()?.parse::<u64>().ok();
    tasks.flatten().filter_map(|task| ran(task.path())).sum()
}

/// Octets of a process's memory that are its own.
fn own_memory(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap_or("0");
    line.split_ascii_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or_default() * 1024
}

/// The processes that this one started and that live.
fn children(pid: u32) -> Vec<u32> {
    let list = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    list.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

/// One that answers datagrams.
struct Lane {
    name: &'static str,
    port: u16,
    pids: Box<dyn Fn() -> Vec<u32>>,
    /// Nanoseconds per answer, one per round.
    costs: Vec<f64>,
    rates: Vec<f64>,
}

impl Lane {
    fn round(&mut self, questions: &[Vec<u8>]) {
        let before: HashMap<u32, u64> = (self.pids)().into_iter().map(|pid| (pid, busy(pid))).collect();
        let begun = Instant::now();
        let answered = ask_all(self.port, questions);
        let rate = answered as f64 / begun.elapsed().as_secs_f64();
        // A connection's process may be new; it began at zero.
        let spent: u64 =
            (self.pids)().into_iter().map(|pid| busy(pid) - before.get(&pid).copied().unwrap_or_default()).sum();
        self.costs.push(spent as f64 / answered.max(1) as f64);
        self.rates.push(rate);
    }
}

/// Asks all of it, [`WINDOW`] at once, and returns how many were answered; UDP may lose some.
fn ask_all(port: u16, questions: &[Vec<u8>]) -> usize {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let (mut answered, mut room) = (0, [0; 1024]);
    let mut waiting = 0_usize;
    for question in questions {
        if waiting == WINDOW && socket.recv(&mut room).is_ok() {
            answered += 1;
            waiting -= 1;
        }
        waiting = waiting.min(WINDOW - 1);
        socket.send(question).unwrap();
        waiting += 1;
    }
    while waiting > 0 && socket.recv(&mut room).is_ok() {
        answered += 1;
        waiting -= 1;
    }
    answered
}

/// Questions with right proofs, about addresses all over the table.
fn questions(count: usize, addresses: usize, salt: usize) -> Vec<Vec<u8>> {
    let one = |n: usize| {
        let who = n.wrapping_mul(7_919).wrapping_add(salt * 104_729) % addresses;
        let (seq, address) = (format!("{n:032x}"), address(who));
        let proof = key(who).verify_key().prove(seq.as_bytes(), address.as_bytes(), b"v=1");
        format!("VERIFY {seq} {address} {proof} v=1\r\n").into_bytes()
    };
    (0..count).map(one).collect()
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// One of the two stores, filled.
struct Site {
    name: &'static str,
    dir: PathBuf,
    config: PathBuf,
    port: u16,
}

impl Site {
    fn new(name: &'static str, root: &Path, store: &str) -> Site {
        let dir = root.join(name);
        fs::create_dir_all(&dir).unwrap();
        let port = claim();
        let config = dir.join("addrauth.toml");
        let text = format!(
            "state_dir = {:?}\nhostname = \"as.example.com\"\n{store}\n[authority]\ndomains = [\"example.com\"]\n\
             listen = [\"127.0.0.1:{port}\"]\ndeliver = \"nobody\"\n",
            dir.join("state")
        );
        fs::write(&config, text).unwrap();
        Site { name, dir, config, port }
    }

    fn read(&self) -> Config {
        Config::read(&self.config).unwrap()
    }

    /// Puts the addresses in, and a key for each; tells how long that took.
    async fn fill(&self, count: usize, clock: &Clock) {
        let limits = Arc::new(Limits { store_busy: Duration::from_secs(60), ..Limits::default() });
        let authority = Authority::with_clock(&self.read(), &limits, clock.clone()).await.unwrap();
        let parsed = |n: usize| (Address::parse(address(n).as_bytes(), false).unwrap(), Intervals::default());
        let all: Vec<_> = (0..count).map(parsed).collect();
        let begun = Instant::now();
        authority.enlist(&all, &mut |_| {}).await.unwrap();
        println!("  import: {:.0} addresses a second", count as f64 / begun.elapsed().as_secs_f64());
        authority.close().await;

        let keys = store::open_keys(&self.read(), Opening { busy: limits.store_busy, readers: 1 }).await.unwrap();
        let now = clock.now();
        let new = |n: usize| NewKey {
            address: address(n),
            k: key(n).verify_key(),
            created: now,
            expires: now + Duration::from_secs(12 * 86_400),
            others_end: None,
            turn: None,
            only_due: false,
            post: None,
        };
        for begin in (0..count).step_by(1_000) {
            let batch: Vec<_> = (begin..count.min(begin + 1_000)).map(new).collect();
            keys.add_all(&batch, 64).await.unwrap();
        }
        keys.close().await;
    }

    /// Starts the daemon; returns it and how long it took until the first answer.
    fn start(&self, addresses: usize) -> (Daemon, Duration) {
        let begun = Instant::now();
        let daemon = Daemon::start("authority", &self.config);
        let question = questions(1, addresses, 1);
        while ask_all(self.port, &question) == 0 {
            assert!(begun.elapsed() < Duration::from_secs(120), "{}: no answer", self.name);
        }
        (daemon, begun.elapsed())
    }

    /// Five days of issuing by a clock that is driven: how many keys a second, and how evenly.
    async fn issue(&self, count: usize, time: &Arc<AtomicU64>, clock: &Clock) {
        let limits = Limits { store_busy: Duration::from_secs(60), issue_every: LOOK, ..Limits::default() };
        let mut config = self.read();
        config.authority.deliver = Deliver::Mail;
        let authority = Authority::with_clock(&config, &Arc::new(limits), clock.clone()).await.unwrap();
        let (mut hours, begun) = (Vec::new(), Instant::now());
        for _ in 0..AGI / LOOK.as_secs() {
            time.fetch_add(LOOK.as_secs(), Ordering::Relaxed);
            hours.push(authority.issue_due().await.unwrap().made);
        }
        let (all, took) = (hours.iter().sum::<usize>(), begun.elapsed().as_secs_f64());
        println!("  issuing: {all} keys for {count} addresses in five days, {:.0} a second of work", all as f64 / took);
        let mean = all as f64 / hours.len() as f64;
        let (least, most) = (hours.iter().min().unwrap(), hours.iter().max().unwrap());
        println!("  an hour: {mean:.0} on average, {least} at least, {most} at most ({:.2})", *most as f64 / mean);
        for (day, hours) in hours.chunks(24).enumerate() {
            let row: Vec<String> = hours.chunks(2).map(|two| format!("{:>6}", two.iter().sum::<usize>())).collect();
            println!("  day {}: {}", day + 1, row.join(""));
        }
        authority.close().await;
    }
}

/// The peer: a C program that does nothing but receive and send.
fn echo(root: &Path, port: u16) -> Option<Child> {
    let program = root.join("echo");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("bench/echo.c");
    let built = Command::new("cc").args(["-O2", "-o"]).arg(&program).arg(source).status();
    if !built.is_ok_and(|status| status.success()) {
        println!("no peer: the C compiler does not build bench/echo.c");
        return None;
    }
    Command::new(program).arg(port.to_string()).stdin(Stdio::null()).spawn().ok()
}

fn main() {
    let numbers: Vec<usize> = std::env::args().skip(1).filter_map(|word| word.parse().ok()).collect();
    let addresses = numbers.first().copied().unwrap_or(1_000_000);
    let answers = numbers.get(1).copied().unwrap_or(20_000);
    println!("{addresses} addresses, {answers} answers a round, daemon {}", binary().display());
    let root = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let time = Arc::new(AtomicU64::new(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()));
    let clock = Clock::new({
        let time = time.clone();
        move || UNIX_EPOCH + Duration::from_secs(time.load(Ordering::Relaxed))
    });
    let mut sites = vec![Site::new("sqlite", root.path(), "")];
    let postgres = Postgres::start().map(|server| (server.database(), server));
    if let Some((name, server)) = &postgres {
        let url = server.url("postgres", name);
        let site = Site::new("postgresql", root.path(), &format!("[store]\nurl = {url:?}"));
        let migrated = Command::new(binary()).arg("--config").arg(&site.config).args(["store", "migrate"]).status();
        assert!(migrated.unwrap().success(), "the schema is not made");
        sites.push(site);
    }
    let mut lanes = Vec::new();
    let (port, mut peer) = (claim(), None);
    if let Some(child) = echo(root.path(), port) {
        let pid = child.id();
        lanes.push(Lane {
            name: "recvmmsg echo, C",
            port,
            pids: Box::new(move || vec![pid]),
            costs: Vec::new(),
            rates: Vec::new(),
        });
        peer = Some(child);
    }
    let mut daemons = Vec::new();
    let size = |(name, server): &(String, Postgres)| -> u64 {
        server.sql("postgres", name, "SELECT pg_database_size(current_database())").unwrap().trim().parse().unwrap()
    };
    for site in &sites {
        println!("{}:", site.name);
        let server = postgres.as_ref().filter(|_| site.name != "sqlite");
        let empty = server.map(size);
        runtime.block_on(site.fill(addresses, &clock));
        let disk = server.map_or_else(|| octets(&site.dir), size) - empty.unwrap_or_default();
        println!("  disk: {:.0} octets an address", disk as f64 / addresses as f64);
        let (daemon, took) = site.start(addresses);
        let (idle, pid) = (own_memory(daemon.pid()), daemon.pid());
        println!("  start to first answer: {} ms", took.as_millis());
        let backends = server.and_then(|(_, server)| server.pid());
        lanes.push(Lane {
            name: site.name,
            port: site.port,
            pids: Box::new(move || [vec![pid], backends.map(children).unwrap_or_default()].concat()),
            costs: Vec::new(),
            rates: Vec::new(),
        });
        ask_all(site.port, &questions(answers, addresses, 2));
        let after = own_memory(pid);
        println!("  memory of the daemon: {} KiB at start, {} KiB after {answers} answers", idle / 1024, after / 1024);
        daemons.push(daemon);
    }
    for round in 0..ROUNDS {
        let questions = questions(answers, addresses, round + 3);
        for lane in &mut lanes {
            lane.round(&questions);
        }
    }
    let least = lanes.first().map_or(1.0, |lane| median(&lane.costs));
    println!("processor time an answer, medians of {ROUNDS} rounds:");
    for lane in &lanes {
        let (cost, rate) = (median(&lane.costs), median(&lane.rates));
        println!("  {:<18} {:>7.0} ns  × {:>5.2}   {rate:>6.0} answers a second", lane.name, cost, cost / least);
    }
    drop(daemons);
    if let Some(mut peer) = peer {
        let _ = peer.kill().and_then(|()| peer.wait());
    }
    let begin = time.load(Ordering::Relaxed);
    for site in &sites {
        println!("{}:", site.name);
        time.store(begin, Ordering::Relaxed);
        runtime.block_on(site.issue(addresses, &time, &clock));
    }
}
