//! Many messages through one filter: each has its journal row, once, and the filter's memory does not grow with their number.
//! 2,000 of them; 100,000 where `ADDRAUTH_LONG` is set.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use addrauth_lab::mta::{Envelope, Fate, Mta};
use addrauth_tests::daemon::Daemon;
use addrauth_tests::dns;
use rusqlite::Connection;

/// Connections that bring them.
const CONNECTIONS: usize = 8;
/// Octets of its own by which the filter may grow from a tenth of the messages to the last.
const GROWTH: u64 = 24 * 1024 * 1024;

/// Octets of a process's memory that are its own.
fn own_memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.split_ascii_whitespace().next().unwrap().parse::<u64>().unwrap() * 1024
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn as_many_rows_as_messages_and_memory_stays_flat() {
    let count = if std::env::var_os("ADDRAUTH_LONG").is_some() { 100_000 } else { 2_000 };
    let dir = tempfile::tempdir().unwrap();
    let (file, door, state) = (dir.path().join("filter.toml"), dir.path().join("door"), dir.path().join("state"));
    let text = format!(
        "hostname = \"mx.home.example\"\nfinal_domains = [\"home.example\"]\nobserve = false\nstate_dir = {state:?}\n\
         [milter]\nlisten = [\"unix:{}\"]\n[notices]\nnotify_via = \"127.0.0.1:9\"\n[verify]\ndns = [\"{}\"]\n\
         [policy]\nunusable = \"quarantine\"\n",
        door.display(),
        dns::empty()
    );
    std::fs::write(&file, text).unwrap();
    let mut daemon = Daemon::start("filter", &file);
    let place = format!("unix:{}", door.display());
    daemon.until_it_takes_mail(&place);
    let (next, begin) = (Arc::new(AtomicUsize::new(0)), Instant::now());
    let senders: Vec<_> = (0..CONNECTIONS)
        .map(|_| {
            let (next, place) = (Arc::clone(&next), place.parse().unwrap());
            tokio::spawn(async move {
                let mut mta = Mta::connect(&place).await.unwrap();
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= count {
                        return;
                    }
                    // One in 50 is kept in quarantine: its row is durable before the answer.
                    let from = if n % 50 == 7 { "nobody" } else { "alice@sender.example" };
                    let queue_id = format!("S{n}");
                    let envelope =
                        Envelope { queue_id, ..Envelope::inbound("alice@sender.example", "bob@home.example") };
                    let message = format!("From: {from}\r\nTo: bob@home.example\r\nSubject: {n}\r\n\r\nHello\r\n");
                    let fate = mta.send(&envelope, message.as_bytes()).await.unwrap().fate;
                    let want = if n % 50 == 7 { Fate::Discarded } else { Fate::Delivered };
                    assert_eq!(fate, want, "{n}");
                }
            })
        })
        .collect();
    while next.load(Ordering::Relaxed) < count / 10 {
        assert!(senders.iter().any(|sender| !sender.is_finished()), "{}", daemon.log());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let early = own_memory(daemon.pid());
    for sender in senders {
        sender.await.unwrap();
    }
    let (late, took) = (own_memory(daemon.pid()), begin.elapsed());
    // Dropped, it is told to end, writes what waits, and is waited for.
    drop(daemon);
    let tables = Connection::open(state.join("filter.db")).unwrap();
    let mut rows = tables.prepare("SELECT queue_id FROM journal").unwrap();
    let rows: Vec<String> = rows.query_map((), |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    let names: HashSet<&String> = rows.iter().collect();
    println!(
        "{count} messages in {took:?}, {} rows; memory {} KiB after a tenth, {} KiB at the end",
        rows.len(),
        early / 1024,
        late / 1024
    );
    assert_eq!((rows.len(), names.len()), (count, count), "each message has its row, once");
    assert!(late < early + GROWTH, "from {early} octets to {late}");
    let check: String = tables.query_row("PRAGMA integrity_check", (), |row| row.get(0)).unwrap();
    assert_eq!(check, "ok");
}
