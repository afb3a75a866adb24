//! What each door costs: the same messages through the milter, MTA Hooks in both dialects, and LMTP, all of one filter, beside the
//! delivery agent reached without it. `cargo bench --bench doors -- ROUNDS MESSAGES`.
//!
//! The mail servers are stand-ins within this process, so a lane's rate holds their work too; the processor time is the filter's
//! alone. Figures of one machine and one run; nothing passes or fails by them. The README beside says what they mean.

use std::fs;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use addrauth::authority::Clock;
use addrauth_lab::mta::{Envelope, Mta};
use addrauth_tests::agent::{Agent, Client, Habits};
use addrauth_tests::bench::cost::{Look, Machine, family};
use addrauth_tests::bench::figures::{Columns, cell, keep, machine, milliseconds, print};
use addrauth_tests::bench::site::{Site, address, key_text};
use addrauth_tests::bridge::Bridge;
use addrauth_tests::daemon::{Daemon, binary};
use addrauth_tests::dns;
use addrauth_tests::stalwart::{Brought, Stalwart};
use serde_json::json;
use tokio::runtime::Runtime;

/// The lanes; the last is the delivery agent alone, to which LMTP is compared.
const LANES: [&str; 5] = ["milter", "hooks, Stalwart", "hooks, draft-01", "LMTP", "no filter, LMTP"];
/// The filter writes its journal once in so long.
const REST: Duration = Duration::from_millis(700);

/// The stand-ins, each with a connection of its own where it keeps one.
struct Stage {
    mta: Mta,
    stalwart: Stalwart,
    bridge: Bridge,
    lmtp: Client,
    direct: Client,
    agent: Agent,
    to: Vec<String>,
    from: String,
    message: Vec<u8>,
}

impl Stage {
    /// Brings one message by a lane; it arrives with a status, or as it is where there is no filter.
    async fn bring(&mut self, lane: usize, number: u64) {
        let id = format!("Q{number}");
        let brought = Brought { from: &self.from, to: self.to.clone(), login: None, id: &id, octets: &self.message };
        let arrived = match lane {
            0 => {
                let envelope = Envelope { queue_id: id.clone(), ..Envelope::inbound(&self.from, &self.to[0]) };
                self.mta.send(&envelope, &self.message).await.unwrap().message
            }
            1 => self.stalwart.takes(&brought, false).await.message,
            2 => self.bridge.takes(&brought, false).await.message,
            lane => {
                let client = if lane == 3 { &mut self.lmtp } else { &mut self.direct };
                let replies = client.bring(&self.from, &self.to, &self.message).await;
                assert!(replies.iter().all(|reply| reply.starts_with("250")), "{replies:?}");
                self.agent.take().remove(0).message
            }
        };
        let is_valid = arrived.windows(28).any(|window| window.eq_ignore_ascii_case(b"x-auth-key-status: validkey;"));
        let has_status = is_valid || arrived.windows(27).any(|window| window == b"X-Auth-Key-Status: VALIDKEY");
        assert_eq!(has_status, lane != 4, "{}: {}", LANES[lane], String::from_utf8_lossy(&arrived));
    }
}

/// The place of a door, as the log tells it: in the order of the sections.
fn inet(daemon: &Daemon, at: usize) -> SocketAddr {
    let log = daemon.log();
    let mut places =
        log.lines().filter_map(|line| line.split_once("listening on inet:").map(|(_, place)| place.trim()));
    places.nth(at).unwrap().parse().unwrap()
}

fn main() {
    let numbers: Vec<u64> = std::env::args().skip(1).filter_map(|word| word.parse().ok()).collect();
    let (rounds, messages) = (numbers.first().copied().unwrap_or(9), numbers.get(1).copied().unwrap_or(400));
    println!("{rounds} rounds of {messages} messages, daemon {}", binary().display());
    let (runtime, begin, root) = (Runtime::new().unwrap(), Machine::look(), tempfile::tempdir().unwrap());
    let site = Site::sqlite(root.path());
    runtime.block_on(site.fill(10, &Clock::system()));
    let (authority, _) = site.start(10);
    let agent = runtime.block_on(Agent::start(Habits { offers: vec!["8BITMIME", "PIPELINING"], ..Habits::default() }));
    let dir = tempfile::tempdir().unwrap();
    let (file, door) = (dir.path().join("filter.toml"), dir.path().join("door"));
    let text = format!(
        "hostname = \"mx.receiver.example\"\nfinal_domains = [\"receiver.example\"]\nobserve = false\nstate_dir = {:?}\n\
         [milter]\nlisten = [\"unix:{}\"]\n[hooks]\nlisten = [\"inet:127.0.0.1:0\"]\n\
         [lmtp]\nlisten = [\"inet:127.0.0.1:0\"]\nnext = \"inet:{}\"\n[notices]\nnotify_via = \"127.0.0.1:9\"\n\
         [verify]\ndns = [\"{}\"]\n[verify.domain.\"example.com\"]\nas = \"127.0.0.1:{}\"\n",
        dir.path().join("state"),
        door.display(),
        agent.address,
        dns::empty(),
        site.port
    );
    fs::write(&file, text).unwrap();
    let place = format!("unix:{}", door.display());
    let mut daemon = Daemon::start("filter", &file);
    daemon.until_it_takes_mail(&place);
    let (hooks, lmtp) = (inet(&daemon, 0), inet(&daemon, 1));
    let from = address(0);
    let body = "Hello, this is a line of a message that is as long as most of them are.\r\n".repeat(56);
    let mut stage = runtime.block_on(async {
        Stage {
            mta: Mta::connect(&place.parse().unwrap()).await.unwrap(),
            stalwart: Stalwart { cuts: false, ..Stalwart::asking(hooks) },
            bridge: Bridge::registered(hooks, None, &["data"]).await,
            lmtp: Client::open(lmtp).await.0,
            direct: Client::open(agent.address).await.0,
            agent,
            to: vec!["bob@receiver.example".into()],
            message: format!(
                "X-Auth-Key: {}\r\nFrom: {from}\r\nTo: bob@receiver.example\r\nSubject: x\r\n\r\n{body}",
                key_text(0)
            )
            .into_bytes(),
            from,
        }
    });
    let mut lanes: Vec<Columns> = LANES.map(|_| Columns::default()).into();
    let mut number = 0;
    for round in 0..=rounds {
        for turn in 0..LANES.len() {
            let lane = (turn + usize::try_from(round).unwrap()) % LANES.len();
            let pids = family(daemon.pid());
            let (before, at) = (Look::at(&pids), Instant::now());
            let mut each = Vec::new();
            for _ in 0..messages {
                number += 1;
                let one = Instant::now();
                runtime.block_on(stage.bring(lane, number));
                each.push(one.elapsed());
            }
            let took = at.elapsed();
            // Rows of the journal that wait are written as well.
            std::thread::sleep(REST);
            let spent = before.until(&Look::at(&pids)).ran;
            each.sort_unstable();
            if round > 0 {
                lanes[lane].push("rate", messages as f64 / took.as_secs_f64());
                lanes[lane].push("p50", milliseconds(&each, 0.5));
                lanes[lane].push("p99", milliseconds(&each, 0.99));
                lanes[lane].push("cpu", spent.as_secs_f64() * 1e3 / messages as f64);
            }
        }
    }
    let rows: Vec<Vec<String>> = LANES
        .iter()
        .enumerate()
        .map(|(at, name)| {
            let lane = &lanes[at];
            let beside = if at == 3 { lane.to(&lanes[4], "rate") } else { None };
            let spreads = [lane.spread("rate"), beside, lane.spread("p50"), lane.spread("p99"), lane.spread("cpu")];
            [(*name).to_owned()].into_iter().chain(spreads.map(cell)).collect()
        })
        .collect();
    println!("\nOne message after the other, 4 KiB, its key remembered");
    print(&["door", "messages a second", "to no filter", "p50 ms", "p99 ms", "CPU ms, filter"], &rows);
    let found: Vec<_> =
        LANES.iter().zip(&lanes).map(|(name, lane)| json!({ "lane": name, "columns": lane.json() })).collect();
    keep("doors", &json!({ "machine": machine(), "lanes": found, "busy": begin.elsewhere(Duration::ZERO) }));
    drop(authority);
}
