//! What an answer of the Authentication Server costs, beside the least UDP server and NSD where it is installed:
//! `tests/run --bench`, or `cargo bench --bench answers -- ROUNDS ANSWERS ADDRESSES`.
//!
//! All lanes answer as many datagrams in each round, one under way at a time and 32; processor time is that of the server
//! alone (and of its PostgreSQL). Only the ratios say something, and nothing passes or fails by them.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use addrauth::authority::Clock;
use addrauth::config::Limits;
use addrauth_tests::bench::cost::{self, Counted, Look, Machine, families};
use addrauth_tests::bench::figures::{self, Columns, cell, json_spread, milliseconds};
use addrauth_tests::bench::peers::{self, Skipped};
use addrauth_tests::bench::site::{Asked, Site, ask_all, questions};
use addrauth_tests::daemon::LOG_LEVEL;
use addrauth_tests::ports::claim;
use addrauth_tests::postgres::Postgres;
use serde_json::{Value, json};

/// How many addresses are asked again and again: what a cache can hold.
const FEW: usize = 1_000;
/// Questions under way at once.
const WINDOWS: [usize; 2] = [1, 32];
/// Questions while system calls are counted.
const COUNTED: usize = 1_000;

/// How many of so many questions are asked with this window: each takes the server's 2 ms where no other is under way.
fn each(window: usize, count: usize) -> usize {
    if window == 1 { (count / 8).max(1) } else { count }
}

/// Which question has this number; the last word makes each round ask others.
type Ask = fn(usize, usize, usize) -> Vec<Vec<u8>>;

/// One that answers datagrams.
struct Lane {
    name: String,
    port: u16,
    roots: Vec<u32>,
    ask: Ask,
    /// How many addresses are asked.
    among: usize,
    found: BTreeMap<usize, (Columns, Option<Counted>)>,
}

impl Lane {
    fn new(name: &str, port: u16, roots: &[u32], ask: Ask, among: usize) -> Lane {
        Lane { name: name.into(), port, roots: roots.to_vec(), ask, among, found: BTreeMap::new() }
    }

    fn round(&mut self, window: usize, count: usize, round: usize) {
        let count = each(window, count);
        let questions = (self.ask)(count, self.among, round);
        let looks = || [families(&self.roots), vec![std::process::id()]].map(|pids| Look::at(&pids));
        let (before, machine) = (looks(), Machine::look());
        let Asked { answered, took, latencies } = ask_all(self.port, &questions, window);
        let after = looks();
        let [server, client] = [0, 1].map(|at| before[at].until(&after[at]));
        let elsewhere = machine.elsewhere(server.ran + client.ran);
        if round == 0 {
            return;
        }
        let answers = answered.max(1) as f64;
        let columns = &mut self.found.entry(window).or_default().0;
        for (column, value) in [
            ("CPU µs", server.ran.as_secs_f64() * 1e6 / answers),
            ("answers a second", answers / took.as_secs_f64()),
            ("p50 µs", milliseconds(&latencies, 0.5) * 1e3),
            ("p99 µs", milliseconds(&latencies, 0.99) * 1e3),
            ("switches", server.voluntary.map_or(f64::NAN, |switches| switches as f64 / answers)),
            ("lost", (count - answered) as f64),
            ("machine busy elsewhere", elsewhere),
        ] {
            columns.push(column, value);
        }
    }

    /// System calls, apart from the rounds, since perf slows what it looks at.
    fn count_calls(&mut self, window: usize, salt: usize) {
        let questions = (self.ask)(each(window, COUNTED), self.among, salt);
        let counted = cost::count(&families(&self.roots), || {
            ask_all(self.port, &questions, window);
        });
        self.found.entry(window).or_default().1 = counted;
    }
}

/// The stores that can be had here, filled.
fn sites(root: &Path, addresses: usize, postgres: Option<&(String, Postgres)>) -> Vec<Site> {
    let mut sites = vec![Site::sqlite(root)];
    sites.extend(postgres.map(|(database, server)| Site::postgresql(root, server, database)));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for site in &sites {
        runtime.block_on(site.fill(addresses, &Clock::system()));
    }
    sites
}

fn print(lanes: &[Lane], window: usize) {
    println!("\n### {window} under way\n");
    let head =
        ["an answer", "CPU µs", "to the echo", "answers a second", "p50 µs", "p99 µs", "switches", "calls", "lost"];
    let row = |lane: &Lane| {
        let (own, counted) = &lane.found[&window];
        vec![
            lane.name.clone(),
            cell(own.spread("CPU µs")),
            cell(own.to(&lanes[0].found[&window].0, "CPU µs")),
            cell(own.spread("answers a second")),
            cell(own.spread("p50 µs")),
            cell(own.spread("p99 µs")),
            cell(own.spread("switches")),
            counted
                .map_or("–".into(), |counted| format!("{:.2}", counted.calls as f64 / each(window, COUNTED) as f64)),
            cell(own.spread("lost")),
        ]
    };
    figures::print(&head, &lanes.iter().map(row).collect::<Vec<_>>());
}

fn json_lane(lanes: &[Lane], lane: &Lane) -> Value {
    let window = |(window, (columns, counted)): (&usize, &(Columns, Option<Counted>))| {
        let counted =
            counted.map(|counted| json!({ "calls": counted.calls, "switches of both kinds": counted.switches }));
        let value = json!({
            "columns": columns.json(),
            "CPU to the echo": columns.to(&lanes[0].found[window].0, "CPU µs").map(json_spread),
            "counted apart": { "answers": each(*window, COUNTED), "server": counted },
        });
        (window.to_string(), value)
    };
    json!({ "lane": lane.name, "addresses asked": lane.among, "under way": lane.found.iter().map(window).collect::<BTreeMap<_, _>>() })
}

fn main() {
    let numbers: Vec<usize> = std::env::args().filter_map(|word| word.parse().ok()).collect();
    let number = |at: usize, usual: usize| numbers.get(at).copied().unwrap_or(usual);
    let (rounds, count, addresses) = (number(0, 9), number(1, 4_000), number(2, 100_000));
    let before = figures::machine();
    let root = tempfile::tempdir().unwrap();
    LOG_LEVEL.get_or_init(|| "info");
    let few = FEW.min(addresses);
    let (mut lanes, mut running) = (Vec::new(), Vec::new());
    let port = claim();
    // All others are told in times of it.
    let echo = |port, hold| peers::echo(root.path(), port, hold).unwrap_or_else(|Skipped(why)| panic!("{why}"));
    running.push(echo(port, Duration::ZERO));
    lanes.push(Lane::new("echo", port, &[running[0].pid()], questions, few));
    // What it costs to be woken twice for an answer, and at the server's rate.
    let port = claim();
    running.push(echo(port, Limits::default().authority.answer_after));
    lanes.push(Lane::new("echo, as late as the server", port, &[running[1].pid()], questions, few));
    let port = claim();
    match peers::nsd(root.path(), port, few) {
        Ok(nsd) => {
            lanes.push(Lane::new("NSD, TXT", port, &[nsd.pid()], peers::txt_questions, few));
            running.push(nsd);
        }
        Err(Skipped(why)) => println!("skipped: NSD: {why}"),
    }
    let postgres = Postgres::start().map(|server| (server.database(), server));
    let mut daemons = Vec::new();
    for site in sites(root.path(), addresses, postgres.as_ref()) {
        let (daemon, _) = site.start(addresses);
        let server = postgres.as_ref().filter(|_| site.name != "SQLite").and_then(|(_, server)| server.pid());
        let roots: Vec<u32> = [Some(daemon.pid()), server].into_iter().flatten().collect();
        for (among, which) in [(few, "few addresses"), (addresses, "all addresses")] {
            lanes.push(Lane::new(&format!("{}, {which}", site.name), site.port, &roots, questions, among));
        }
        daemons.push(daemon);
    }
    for round in 0..=rounds {
        for window in WINDOWS {
            for at in 0..lanes.len() {
                // Each round begins with another lane. The first fills caches.
                let at = (at + round) % lanes.len();
                lanes[at].round(window, count, round);
            }
        }
    }
    for window in WINDOWS {
        for lane in &mut lanes {
            lane.count_calls(window, rounds + 1);
        }
    }
    println!("{rounds} rounds of {count} answers, an eighth of them one by one; {addresses} addresses, few are {few}");
    for window in WINDOWS {
        print(&lanes, window);
    }
    let found: Vec<Value> = lanes.iter().map(|lane| json_lane(&lanes, lane)).collect();
    let settings = json!({ "rounds": rounds, "count": count, "addresses": addresses, "few": few });
    let machine = json!({ "before": before, "after": figures::machine() });
    figures::keep("answers", &json!({ "settings": settings, "machine": machine, "lanes": found }));
    drop((daemons, running));
}
