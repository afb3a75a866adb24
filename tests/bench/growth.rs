//! How cost grows with the size of what there is: headers, recipients, connections, the cache, domains, the journal and known
//! senders. `tests/run --only growth`, or `cargo bench --bench growth -- ROWS MESSAGES SENDERS`; below ten minutes with the
//! defaults. With 0 rows the senders alone are looked at.
//!
//! Figures of one machine and one run; nothing passes or fails by them. The README beside says what they mean.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use addrauth::authority::Clock;
use addrauth::case::{KeyStatus, WrittenCase};
use addrauth::proto::address::Mailbox;
use addrauth::proto::mark::{MarkKey, Pseudonym};
use addrauth::store::{Columns, KnownSender, Ledger, NewRow, Opening, RowResult, RowVerdict};
use addrauth_lab::mta::{Envelope, Mta};
use addrauth_tests::bench::cost::{Look, Machine, family};
use addrauth_tests::bench::figures::{keep, machine, print};
use addrauth_tests::bench::site::{Site, address, key_text};
use addrauth_tests::daemon::{Daemon, binary};
use addrauth_tests::dns;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

/// Rows that are written in one transaction, as the filter does.
const BATCH: u64 = 256;
/// The time of the first row, and between two: a million rows are 90 days.
const SPAN: u64 = 90 * 86_400;

fn main() {
    let numbers: Vec<u64> = std::env::args().skip(1).filter_map(|word| word.parse().ok()).collect();
    let rows = numbers.first().copied().unwrap_or(1_000_000);
    let messages = numbers.get(1).copied().unwrap_or(400);
    let senders = numbers.get(2).copied().unwrap_or(1_000_000);
    println!("{rows} rows, {messages} messages, {senders} senders, daemon {}", binary().display());
    let (runtime, begin) = (Runtime::new().unwrap(), Machine::look());
    if rows == 0 {
        runtime.block_on(known(senders));
        return;
    }
    let found = json!({
        "machine": machine(),
        "journal": runtime.block_on(journal(rows)),
        "header": headers(&runtime, messages),
        "recipients": recipients(&runtime, messages),
        "connections": connections(&runtime, messages),
        "domains": domains(&runtime, messages),
        "cache": cache(&runtime, messages),
        "known": runtime.block_on(known(senders)),
        "busy": begin.elsewhere(Duration::ZERO),
    });
    keep("growth", &found);
}

// --- the journal ---------------------------------------------------------------------------------------------------

/// The story of the nth message, and what stands beside it. Nine in ten are ordinary mail; of a hundred thousand senders in ten
/// thousand domains; one in ten thousand is quarantined.
fn story(n: u64, rows: u64) -> (WrittenCase, Columns, SystemTime) {
    let dice = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
    let (status, result) = match dice % 100 {
        0..75 => ("none", KeyStatus::None),
        75..92 => ("valid", KeyStatus::Valid),
        92..96 => ("missing", KeyStatus::Missing),
        96..99 => ("unverified", KeyStatus::Unverified),
        _ => ("invalid", KeyStatus::Invalid),
    };
    let kept = n % 10_000 == 5_000;
    let (decided, verdict) = if kept { ("quarantine", RowVerdict::Discard) } else { ("accept", RowVerdict::Accept) };
    let (user, domain, to) = (dice / 7 % 10, dice / 100 % 10_000, dice / 13 % 5_000);
    let sender = format!("first.last{user}@company{domain}.example");
    let at = SystemTime::now() - Duration::from_secs(SPAN - SPAN * n / rows);
    let queue_id = format!("4Zb{:08x}Q", n);
    let authority = (status == "valid").then(|| format!("as.company{domain}.example:4050 over TLS"));
    let story = json!({
        "version": 2, "received": addrauth::case::stamp(at - Duration::from_millis(321)), "queue_id": queue_id,
        "client": { "ip": format!("192.0.2.{}", dice % 250), "name": format!("mail.company{domain}.example"),
            "helo": format!("mail.company{domain}.example"), "tls": true },
        "daemon": "smtpd", "login": null, "reverse_path": format!("<{sender}>"),
        "recipients": [format!("<recipient{to}@receiver.example>")], "size": 4_096 + dice % 100_000, "keys": 1,
        "finding": { "found": { "status": status, "why": null, "sender": sender, "claim": null,
            "authority": authority, "cached": true, "mail_auth": null } },
        "decisions": [{ "recipients": [0], "by": "site", "mark": "header", "policy": decided,
            "digest": "3da7ffbad24604c86602cb1fac9305345ee9974bfdb5b264ac4b6c1a8f9e3b5b", "disposition": decided,
            "notify": { "sender": false, "recipient": false }, "reason": "", "fault": null, "clamped": null,
            "facts": { "status": status }, "settings": {} }],
        "reply": { "verdict": verdict.word(), "added": ["X-Auth-Key-Status"], "removed": [], "redirected": [], "owed": [] }
    });
    let (queue_id, sender) = (Some(queue_id), Some(sender));
    let columns = Columns { queue_id, sender, result: RowResult::Judged(result), verdict, note: String::new() };
    (WrittenCase::read(&story.to_string()).unwrap(), columns, at)
}

fn row((story, columns, at): (WrittenCase, Columns, SystemTime)) -> NewRow {
    NewRow::of(story, columns, at)
}

/// Octets of the database, its log included.
fn octets(dir: &Path) -> u64 {
    fs::read_dir(dir).unwrap().map(|file| file.unwrap().metadata().unwrap().len()).sum()
}

/// Processor time of this process so far.
fn spent() -> Look {
    Look::at(&[std::process::id()])
}

fn microseconds(of: Duration, count: u64) -> f64 {
    of.as_secs_f64() * 1e6 / count.max(1) as f64
}

async fn open(dir: &Path) -> Ledger {
    Ledger::open(dir, Opening { busy: Duration::from_secs(60), readers: 2 }).await.unwrap()
}

/// A journal of each size up to this one: what a row costs and takes, how long the commands take.
async fn journal(most: u64) -> Value {
    let sizes: Vec<u64> = [1_000, 10_000, 100_000].into_iter().filter(|size| *size < most).chain([most]).collect();
    let (mut found, mut table, mut searched) = (Vec::new(), Vec::new(), Vec::new());
    for &size in &sizes {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
        fs::write(dir.path().join("addrauth.toml"), format!("state_dir = {:?}\n", dir.path())).unwrap();
        let ledger = open(dir.path()).await;
        let (mut took, mut ran) = (Duration::ZERO, Duration::ZERO);
        for begin in (0..size).step_by(BATCH as usize) {
            let batch: Vec<_> = (begin..size.min(begin + BATCH)).map(|n| story(n, size)).collect();
            let (before, at) = (spent(), Instant::now());
            let batch = batch.into_iter().map(|story| Arc::new(row(story))).collect();
            ledger.append(batch).await.unwrap();
            took += at.elapsed();
            ran += before.until(&spent()).ran;
        }
        ledger.close().await;
        let room = octets(dir.path()) as f64 / size as f64;
        let (append, cpu) = (microseconds(took, size), microseconds(ran, size));
        let searches = commands(dir.path());
        let ledger = open(dir.path()).await;
        let trimmed = (size / 10).max(256).min(size);
        let at = Instant::now();
        let gone = ledger.trim(size - trimmed, u64::MAX).await.unwrap();
        let trim = microseconds(at.elapsed(), gone);
        ledger.close().await;
        table.push(vec![
            size.to_string(),
            format!("{room:.0}"),
            format!("{append:.1}"),
            format!("{cpu:.1}"),
            format!("{trim:.1}"),
        ]);
        searched.push(searches.clone());
        found.push(json!({ "rows": size, "octets": room, "append_us": append, "append_cpu_us": cpu, "trim_us": trim,
            "commands_ms": searches.iter().cloned().collect::<serde_json::Map<_, _>>() }));
    }
    println!("\nThe journal by its rows");
    print(&["rows", "octets a row", "append µs a row", "CPU µs", "trim µs a row"], &table);
    println!("\nCommands, ms, the start of the program included");
    let head: Vec<String> = ["command".to_owned()].into_iter().chain(sizes.iter().map(u64::to_string)).collect();
    let names: Vec<String> = searched.first().into_iter().flatten().map(|(name, _)| name.clone()).collect();
    let line = |at: usize| searched.iter().map(move |found| format!("{:.0}", found[at].1.as_f64().unwrap()));
    let lines: Vec<Vec<String>> =
        (0..names.len()).map(|at| [names[at].clone()].into_iter().chain(line(at)).collect()).collect();
    print(&head.iter().map(String::as_str).collect::<Vec<_>>(), &lines);
    json!(found)
}

/// The commands, each as often as its best of three needs, by the program itself.
fn commands(dir: &Path) -> Vec<(String, Value)> {
    let middle = story(500, 1_000).1;
    let common = middle.sender.clone().unwrap();
    let lines: [&[&str]; 18] = [
        &["journal", "list"],
        &["journal", "list", "--result", "none"],
        &["journal", "list", "--result", "submitted"],
        &["journal", "list", "--verdict", "discard"],
        &["journal", "list", "--decision", "accept"],
        &["journal", "list", "--decision", "quarantine"],
        &["journal", "list", "--decision", "reject"],
        &["journal", "list", "--policy", "mark"],
        &["journal", "list", "--sender", &common],
        &["journal", "list", "--sender", "@nowhere.example"],
        &["journal", "list", "--recipient", "recipient17@receiver.example"],
        &["journal", "list", "--recipient", "nobody@receiver.example"],
        &["journal", "list", "--since", "1h"],
        &["why", "4Zb000001f4Q"],
        &["journal", "summary", "--since", "90d"],
        &["journal", "summary", "--since", "7d"],
        &["policy", "replay", "mark", "--since", "91d"],
        &["policy", "replay", "missing-direct", "--since", "91d"],
    ];
    let mut all: Vec<_> = lines.iter().map(|words| (words.join(" "), best(dir, words, 3))).collect();
    all.push((
        "journal erase recipient17@receiver.example".into(),
        best(dir, &["journal", "erase", "recipient17@receiver.example"], 1),
    ));
    all
}

fn best(dir: &Path, words: &[&str], times: u32) -> Value {
    let one = || {
        let mut command = Command::new(binary());
        command.arg("--config").arg(dir.join("addrauth.toml")).args(words);
        let at = Instant::now();
        let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
        assert!(status.code().is_some_and(|code| code <= 2), "{words:?}");
        at.elapsed().as_secs_f64() * 1e3
    };
    json!((0..times).map(|_| one()).fold(f64::INFINITY, f64::min))
}

// --- known senders -------------------------------------------------------------------------------------------------

/// Batches of rows that are written with senders, and as many without.
const BATCHES: u64 = 40;
/// Look-ups.
const LOOKS: u64 = 20_000;

fn sender(n: u64) -> Pseudonym {
    let address = format!("first.last{}@company{}.example", n / 10_000, n % 10_000);
    MarkKey::from_octets([7; 32]).pseudonym(&Mailbox::parse(&address).unwrap())
}

/// Writes down so many senders, in no order, as valid on days of the last year. Octets that each takes.
fn fill(dir: &Path, size: u64, today: u64) -> f64 {
    let mut file = rusqlite::Connection::open(dir.join("filter.db")).unwrap();
    file.execute_batch("PRAGMA synchronous = OFF; PRAGMA cache_size = -262144").unwrap();
    let before = fs::metadata(dir.join("filter.db")).unwrap().len();
    for begin in (0..size).step_by(100_000) {
        let work = file.transaction().unwrap();
        let mut insert = work.prepare("INSERT OR IGNORE INTO known VALUES (?, ?)").unwrap();
        for n in begin..size.min(begin + 100_000) {
            insert.execute((sender(n).number(), (today - n % 365) as i64)).unwrap();
        }
        drop(insert);
        work.commit().unwrap();
    }
    let _: (i64, i64, i64) = (file)
        .query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .unwrap();
    (fs::metadata(dir.join("filter.db")).unwrap().len() - before) as f64 / size as f64
}

/// What look-ups of senders cost, of those that are noted and of others, and the number of one: CPU µs.
async fn look_ups(ledger: &Ledger, size: u64, now: SystemTime) -> [f64; 3] {
    let looked = async |of: &dyn Fn(u64) -> u64| {
        let before = spent();
        for n in 0..LOOKS {
            ledger.last_valid(sender(of(n)), now).await.unwrap();
        }
        microseconds(before.until(&spent()).ran, LOOKS)
    };
    let (there, absent) = (looked(&|n| n.wrapping_mul(7_919_317) % size).await, looked(&|n| size + n).await);
    let before = spent();
    for n in 0..LOOKS {
        std::hint::black_box(sender(n));
    }
    [there, absent, microseconds(before.until(&spent()).ran, LOOKS)]
}

/// What a row costs without a sender, with one that is new for the day, and with one that is noted already: µs by the clock, and
/// of CPU.
async fn noted(ledger: &Ledger, size: u64, now: SystemTime) -> [(f64, f64); 3] {
    let mut costs = [(Duration::ZERO, Duration::ZERO); 3];
    for batch in 0..BATCHES {
        for (lane, (took, ran)) in costs.iter_mut().enumerate() {
            let rows = (0..BATCH).map(|n| {
                let mut row = row(story(batch * BATCH + n, 1_000_000));
                let n = (batch * BATCH + n).wrapping_mul(7_919_317) % size;
                row.known = (lane > 0).then(|| KnownSender::new(sender(n), now));
                Arc::new(row)
            });
            let rows = rows.collect();
            let (before, at) = (spent(), Instant::now());
            ledger.append(rows).await.unwrap();
            *took += at.elapsed();
            *ran += before.until(&spent()).ran;
        }
    }
    costs.map(|(took, ran)| (microseconds(took, BATCHES * BATCH), microseconds(ran, BATCHES * BATCH)))
}

/// Known senders by their number: what one takes, a look-up, a row that notes one beside a row that does not, and the hourly look
/// for those whose time is over.
async fn known(most: u64) -> Value {
    let now = SystemTime::now();
    let today = now.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() / 86_400;
    let (mut found, mut table) = (Vec::new(), Vec::new());
    for size in [10_000, 1_000_000].into_iter().filter(|size| *size < most).chain([most]) {
        let dir = tempfile::tempdir().unwrap();
        open(dir.path()).await.close().await;
        let room = fill(dir.path(), size, today);
        let ledger = open(dir.path()).await;
        let [there, absent, named] = look_ups(&ledger, size, now).await;
        let [bare, new, again] = noted(&ledger, size, now).await;
        let at = Instant::now();
        assert_eq!(ledger.forget_old(now, 365, u64::MAX).await.unwrap(), 0);
        let idle = at.elapsed().as_secs_f64() * 1e3;
        let (before, at) = (spent(), Instant::now());
        let gone = ledger.forget_old(now, 363, u64::MAX).await.unwrap();
        let (sweep, swept) = (at.elapsed().as_secs_f64() * 1e3, before.until(&spent()).ran.as_secs_f64() * 1e3);
        ledger.close().await;
        let costs = [room, there, absent, named, bare.1, new.1, again.1, idle].map(|cost| format!("{cost:.1}"));
        let sweeps = format!("{gone}: {sweep:.0} ({swept:.0})");
        table.push([size.to_string()].into_iter().chain(costs).chain([sweeps]).collect());
        found.push(json!({ "senders": size, "octets": room, "look_us": there, "look_absent_us": absent,
            "pseudonym_us": named, "append_us": [bare.0, new.0, again.0], "append_cpu_us": [bare.1, new.1, again.1],
            "sweep_idle_ms": idle, "sweep_ms": sweep, "swept": gone }));
    }
    tell_known(&table);
    json!(found)
}

fn tell_known(table: &[Vec<String>]) {
    println!("\nKnown senders by their number; µs of CPU");
    let head =
        "senders|octets|look-up|of nobody|its number|a row|new that day|again|sweep of none, ms|of some, ms (CPU)";
    print(&head.split('|').collect::<Vec<_>>(), table);
}

// --- the filter ----------------------------------------------------------------------------------------------------

/// A filter of its own, and where its door is.
struct Door {
    daemon: Daemon,
    place: String,
    _dir: tempfile::TempDir,
}

impl Door {
    /// With these lines in `[verify]`, and so many domains of ours beside receiver.example.
    fn open(verify: &str, domains: u64) -> Door {
        let dir = tempfile::tempdir().unwrap();
        let (file, door): (PathBuf, PathBuf) = (dir.path().join("filter.toml"), dir.path().join("door"));
        let more: String = (0..domains).map(|n| format!("\"d{n}.example\",")).collect();
        let text = format!(
            "hostname = \"mx.receiver.example\"\nfinal_domains = [{more}\"receiver.example\"]\nobserve = false\n\
             state_dir = {:?}\n[milter]\nlisten = [\"unix:{}\"]\n[notices]\nnotify_via = \"127.0.0.1:9\"\n\
             [verify]\ndns = [\"{}\"]\n{verify}\n",
            dir.path().join("state"),
            door.display(),
            dns::empty()
        );
        fs::write(&file, text).unwrap();
        let place = format!("unix:{}", door.display());
        let mut daemon = Daemon::start("filter", &file);
        daemon.until_it_takes_mail(&place);
        Door { daemon, place, _dir: dir }
    }

    async fn connect(&self) -> Mta {
        Mta::connect(&self.place.parse().unwrap()).await.unwrap()
    }

    /// Processor time of the filter for each of these messages, in µs, over one connection.
    async fn cost(&self, mta: &mut Mta, messages: u64, mut one: impl FnMut(u64) -> (Envelope, Vec<u8>)) -> f64 {
        for n in 0..messages / 10 + 1 {
            let (envelope, message) = one(n);
            mta.send(&envelope, &message).await.unwrap();
        }
        let pids = family(self.daemon.pid());
        let before = Look::at(&pids);
        for n in 0..messages {
            let (envelope, message) = one(n);
            mta.send(&envelope, &message).await.unwrap();
        }
        // Rows of the journal that wait are written as well.
        tokio::time::sleep(Duration::from_millis(700)).await;
        microseconds(before.until(&Look::at(&pids)).ran, messages)
    }
}

fn mail(n: u64, more: &str) -> (Envelope, Vec<u8>) {
    let (from, to) = (format!("s{}@sender.example", n % 100), "bob@receiver.example");
    let envelope = Envelope { queue_id: format!("Q{n}"), ..Envelope::inbound(&from, to) };
    (envelope, format!("From: {from}\r\nTo: {to}\r\n{more}Subject: x\r\n\r\nHello\r\n").into_bytes())
}

/// A table of one figure by size.
fn told(title: &str, unit: &str, figures: &[(u64, f64)]) -> Value {
    println!("\n{title}");
    let rows: Vec<Vec<String>> = figures
        .iter()
        .map(|(size, cost)| vec![size.to_string(), format!("{cost:.0}"), format!("{:.3}", cost / *size as f64)])
        .collect();
    print(&["size", unit, "for each"], &rows);
    json!(figures.iter().map(|(size, cost)| json!({ "size": size, "us": cost })).collect::<Vec<_>>())
}

/// Headers from 1 kB to the limit, in lines of 100 octets.
fn headers(runtime: &Runtime, messages: u64) -> Value {
    let door = Door::open("", 0);
    let figures = [1_u64, 4, 16, 64, 250].map(|kib| {
        // At most 1,000 fields: the larger ones have longer values.
        let (fields, width) = if kib <= 64 { (kib * 10, 80) } else { (800, 300) };
        let more: String = (0..fields).map(|n| format!("X-Line-{n:05}: {}\r\n", "x".repeat(width))).collect();
        let cost = runtime.block_on(async {
            let mut mta = door.connect().await;
            door.cost(&mut mta, messages, |n| mail(n, &more)).await
        });
        (more.len() as u64, cost)
    });
    told("A header by its octets, CPU µs a message", "µs", &figures)
}

fn recipients(runtime: &Runtime, messages: u64) -> Value {
    let door = Door::open("", 0);
    let figures = [1_u64, 10, 100, 1_000].map(|count| {
        let to: Vec<String> = (0..count).map(|n| format!("r{n}@receiver.example")).collect();
        let cost = runtime.block_on(async {
            let mut mta = door.connect().await;
            let one = |n| {
                let (envelope, message) = mail(n, "");
                (Envelope { recipients: to.clone(), ..envelope }, message)
            };
            door.cost(&mut mta, (messages * 10 / (count + 9)).max(20), one).await
        });
        (count, cost)
    });
    told("A message by its recipients, CPU µs", "µs", &figures)
}

/// A message while so many connections are open, which say nothing meanwhile. The filter takes 500.
fn connections(runtime: &Runtime, messages: u64) -> Value {
    let door = Door::open("", 0);
    let figures = [1_u64, 10, 100, 490].map(|count| {
        let cost = runtime.block_on(async {
            let mut all = Vec::new();
            for _ in 0..count {
                all.push(door.connect().await);
            }
            let mut first = all.swap_remove(0);
            let cost = door.cost(&mut first, messages, |n| mail(n, "")).await;
            drop((first, all));
            tokio::time::sleep(Duration::from_millis(300)).await;
            cost
        });
        (count, cost)
    });
    told("A message by the connections that are open, CPU µs", "µs", &figures)
}

/// Domains whose mail ends here: the start, and a message. A configuration has at most 1 MiB: 50,000 domains fit.
fn domains(runtime: &Runtime, messages: u64) -> Value {
    let mut found = Vec::new();
    let mut table = Vec::new();
    for count in [1_u64, 100, 10_000, 50_000] {
        let at = Instant::now();
        let door = Door::open("", count);
        let start = at.elapsed().as_secs_f64() * 1e3;
        let cost = runtime.block_on(async {
            let mut mta = door.connect().await;
            door.cost(&mut mta, messages, |n| mail(n, "")).await
        });
        table.push(vec![count.to_string(), format!("{start:.0}"), format!("{cost:.0}")]);
        found.push(json!({ "domains": count, "start_ms": start, "message_us": cost }));
    }
    println!("\nDomains of the configuration");
    print(&["domains", "start ms", "CPU µs a message"], &table);
    json!(found)
}

/// Keys that were verified and are remembered: a message with one of them.
fn cache(runtime: &Runtime, messages: u64) -> Value {
    let root = tempfile::tempdir().unwrap();
    let site = Site::sqlite(root.path());
    let most = 20_000_usize;
    runtime.block_on(site.fill(most, &Clock::system()));
    let (authority, _) = site.start(most);
    let verify = format!("[verify.domain.\"example.com\"]\nas = \"127.0.0.1:{}\"\n", site.port);
    let one = |n: u64| {
        let from = address(usize::try_from(n).unwrap());
        let key = key_text(usize::try_from(n).unwrap());
        let envelope = Envelope { queue_id: format!("Q{n}"), ..Envelope::inbound(&from, "bob@receiver.example") };
        let message = format!("X-Auth-Key: {key}\r\nFrom: {from}\r\nTo: bob@receiver.example\r\n\r\nHello\r\n");
        (envelope, message.into_bytes())
    };
    let figures = [10_u64, 100, 1_000, 10_000].map(|entries| {
        let door = Door::open(&verify, 0);
        let cost = runtime.block_on(async {
            let mut mta = door.connect().await;
            for n in 0..entries {
                let (envelope, message) = one(n);
                mta.send(&envelope, &message).await.unwrap();
            }
            door.cost(&mut mta, messages, |n| one(n.wrapping_mul(7_919) % entries)).await
        });
        (entries, cost)
    });
    drop(authority);
    told("A message by the keys that are remembered, CPU µs", "µs", &figures)
}
