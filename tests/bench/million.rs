//! A million addresses, on SQLite and on PostgreSQL: room, start, issuing. `tests/run --only million`, or
//! `cargo bench --bench million -- ADDRESSES ANSWERS`; half an hour with the defaults.
//!
//! Figures of one machine and one run; nothing passes or fails by them. What an answer costs is in answers.rs.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use addrauth::authority::{Authority, Clock};
use addrauth::config::{Deliver, Limits};
use addrauth::store;
use addrauth_tests::bench::site::{Site, ask_all, questions};
use addrauth_tests::daemon::binary;
use addrauth_tests::postgres::Postgres;

/// AGI of all addresses: the default.
const AGI: u64 = 5 * 86_400;
/// How often the daemon looks whose turn it is, here: an hour instead of a minute, so that a run of five days ends.
const LOOK: Duration = Duration::from_secs(3_600);
/// Questions under way at once.
const WINDOW: usize = 64;

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

/// Octets of a process's memory that are its own.
fn own_memory(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap_or("0");
    line.split_ascii_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or_default() * 1024
}

/// Five days of issuing by a clock that is driven: how many keys a second, and how evenly.
async fn issue(site: &Site, count: usize, time: &Arc<AtomicU64>, clock: &Clock) {
    let limits = Limits::default().with(|limits| {
        limits.store.busy = Duration::from_secs(60);
        limits.authority.issue_every = LOOK;
    });
    let mut config = site.read();
    config.authority.deliver = Deliver::Mail;
    // The pair that the first start of a server that posts makes; the daemon here posted nothing.
    store::post_opener(&config.state_dir.0).unwrap();
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

fn main() {
    let numbers: Vec<usize> = std::env::args().skip(1).filter_map(|word| word.parse().ok()).collect();
    let addresses = numbers.first().copied().unwrap_or(1_000_000);
    let answers = numbers.get(1).copied().unwrap_or(20_000);
    println!("{addresses} addresses, daemon {}", binary().display());
    let root = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let time = Arc::new(AtomicU64::new(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()));
    let clock = Clock::new({
        let time = time.clone();
        move || UNIX_EPOCH + Duration::from_secs(time.load(Ordering::Relaxed))
    });
    let mut sites = vec![Site::sqlite(root.path())];
    let postgres = Postgres::start().map(|server| (server.database(), server));
    if let Some((name, server)) = &postgres {
        sites.push(Site::postgresql(root.path(), server, name));
    }
    let size = |(name, server): &(String, Postgres)| -> u64 {
        server.sql("postgres", name, "SELECT pg_database_size(current_database())").unwrap().trim().parse().unwrap()
    };
    let begin = time.load(Ordering::Relaxed);
    for site in &sites {
        println!("{}:", site.name);
        time.store(begin, Ordering::Relaxed);
        let server = postgres.as_ref().filter(|_| site.name != "SQLite");
        let empty = server.map(size);
        let took = runtime.block_on(site.fill(addresses, &clock));
        println!("  import: {:.0} addresses a second", addresses as f64 / took.as_secs_f64());
        let disk = server.map_or_else(|| octets(&site.dir), size) - empty.unwrap_or_default();
        println!("  disk: {:.0} octets an address", disk as f64 / addresses as f64);
        let (daemon, took) = site.start(addresses);
        let idle = own_memory(daemon.pid());
        println!("  start to first answer: {} ms", took.as_millis());
        ask_all(site.port, &questions(answers, addresses, 2), WINDOW);
        let after = own_memory(daemon.pid());
        println!("  memory of the daemon: {} KiB at start, {} KiB after {answers} answers", idle / 1024, after / 1024);
        drop(daemon);
        runtime.block_on(issue(site, addresses, &time, &clock));
    }
}
