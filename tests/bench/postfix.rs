//! Postfix with the filter before it, beside no milter, the least milter, and opendkim and rspamd where they are installed:
//! `tests/run --bench`, or `cargo bench --bench postfix -- ROUNDS COUNT`. README.md beside this file says how to read it.
//!
//! One instance, one smtpd port per milter, rounds interleaved, so that a busy machine slows all of them alike. Only the
//! ratios say something, and nothing passes or fails by them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use addrauth_tests::bench::cost::{self, Counted, Look, Machine, families};
use addrauth_tests::bench::figures::{self, Columns, cell, json_spread, milliseconds};
use addrauth_tests::bench::mail::{self, Rush, SESSIONS, Way, rush};
use addrauth_tests::bench::peers::{self, Peer, Skipped};
use addrauth_tests::daemon::{LOG_LEVEL, Rig};
use addrauth_tests::postfix::{Bed, Door, Kind};
use serde_json::{Value, json};

/// Octets of a message, header included.
const SIZE: usize = 4096;
/// A longer wait for one message alone is a stall: Nagle's algorithm against a delayed ACK costs 40 ms.
const STALL: Duration = Duration::from_millis(25);
/// Messages while system calls are counted.
const COUNTED: usize = 80;

/// One of the things compared.
struct Lane {
    name: String,
    port: u16,
    message: Vec<u8>,
    /// Its milter's first process, and the AS that the milter asks.
    milter: Vec<u32>,
    /// Which lane is its floor: the least milter on the same transport.
    floor: Option<usize>,
    ways: BTreeMap<&'static str, Found>,
}

/// What was found of one way of bringing messages.
#[derive(Default)]
struct Found {
    columns: Columns,
    stalls: usize,
    /// System calls and switches of the milter, of Postfix.
    counted: [Option<Counted>; 2],
}

impl Lane {
    fn new(name: &str, door: &Door, key: &str, milter: Vec<u32>) -> Lane {
        let message = mail::message(key, SIZE);
        Lane { name: name.into(), port: door.port, message, milter, floor: None, ways: BTreeMap::new() }
    }

    fn found(&self, way: Way) -> &Found {
        &self.ways[way.name()]
    }

    fn round(&mut self, bed: &Bed, master: u32, way: Way, count: usize, counts: bool) {
        let looks =
            || [families(&self.milter), families(&[master]), vec![std::process::id()]].map(|pids| Look::at(&pids));
        let (before, machine) = (looks(), Machine::look());
        let Rush { took, latencies } = rush(self.port, way, count, &self.message);
        // What Postfix owes to a message is done when the queue is empty.
        settle(bed);
        let after = looks();
        let [milter, postfix, client] = [0, 1, 2].map(|at| before[at].until(&after[at]));
        let elsewhere = machine.elsewhere(milter.ran + postfix.ran + client.ran);
        if !counts {
            return;
        }
        let found = self.ways.entry(way.name()).or_default();
        let messages = count as f64;
        let cpu = |spent: cost::Spent| spent.ran.as_secs_f64() * 1e3 / messages;
        let switches = |spent: cost::Spent| spent.voluntary.map_or(f64::NAN, |switches| switches as f64 / messages);
        for (column, value) in [
            ("messages a second", messages / took.as_secs_f64()),
            ("p50 ms", milliseconds(&latencies, 0.5)),
            ("p99 ms", milliseconds(&latencies, 0.99)),
            ("CPU ms, milter", cpu(milter)),
            ("CPU ms, Postfix", cpu(postfix)),
            ("CPU ms, client", cpu(client)),
            ("switches, milter", switches(milter)),
            ("switches, Postfix", switches(postfix)),
            ("machine busy elsewhere", elsewhere),
        ] {
            found.columns.push(column, value);
        }
        found.stalls += latencies.iter().filter(|took| **took > STALL).count();
    }

    /// System calls, apart from the rounds, since perf slows what it looks at.
    fn count_calls(&mut self, bed: &Bed, master: u32, way: Way) {
        let (milter, postfix) = (families(&self.milter), families(&[master]));
        let (port, message) = (self.port, &self.message);
        let mut of_milter = None;
        let of_postfix = cost::count(&postfix, || {
            let work = || {
                rush(port, way, COUNTED, message);
                settle(bed);
            };
            if milter.is_empty() { work() } else { of_milter = cost::count(&milter, work) }
        });
        self.ways.entry(way.name()).or_default().counted = [of_milter, of_postfix];
    }
}

/// Waits until Postfix has delivered what it took, a minute at most.
fn settle(bed: &Bed) {
    let begin = Instant::now();
    while !bed.is_idle() && begin.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Has no process of Postfix end while it is looked at: what an ended one used is lost. Returns the first process.
fn let_processes_live(etc: &Path) -> u32 {
    let settings = ["-e", "max_use=1000000", "max_idle=1h"];
    for (program, arguments) in [("postconf", settings.as_slice()), ("postfix", &["reload"])] {
        let status = Command::new(program).arg("-c").arg(etc).args(arguments).status().unwrap();
        assert!(status.success(), "{program} {arguments:?}: {status}");
    }
    let pid = etc.parent().unwrap().join("queue/pid/master.pid");
    fs::read_to_string(pid).unwrap().trim().parse().unwrap()
}

/// A milter beside ours: how it starts below a folder, at a place.
type Start<'a> = &'a dyn Fn(&Path, &str) -> Result<Peer, Skipped>;

/// No milter, then each milter on both transports: the floor, ours, the others. What is not installed is named.
fn lanes(bed: &Bed, rigs: &[Rig; 2], folder: &Path) -> (Vec<Lane>, Vec<Peer>) {
    let key = &rigs[0].key;
    let terms = peers::terms(&rigs[0].door.milter);
    let floor = |folder: &Path, milter: &str| peers::floor(folder, milter, &terms);
    let others: [(&str, Start); 3] =
        [("the floor", &floor), ("opendkim", &peers::opendkim), ("rspamd", &peers::rspamd)];
    let (mut lanes, mut running) = (vec![Lane::new("no milter", &bed.door(Kind::Bare), key, Vec::new())], Vec::new());
    let wanted = std::env::var("BENCH_LANES").ok();
    let is_wanted = |name: &str| wanted.as_ref().is_none_or(|names| names.split(',').any(|wanted| wanted == name));
    for (number, (name, start)) in others.into_iter().enumerate() {
        let transports = [(Kind::Chroot, "unix"), (Kind::Inet, "TCP")];
        for (kind, transport) in transports.into_iter().filter(|_| is_wanted(name)) {
            let (door, name) = (bed.door(kind), format!("{name}, {transport}"));
            let own = folder.join(format!("{number}-{transport}"));
            fs::create_dir(&own).unwrap();
            match start(&own, &door.milter) {
                Ok(peer) => {
                    lanes.push(Lane::new(&name, &door, key, vec![peer.pid()]));
                    running.push(peer);
                }
                Err(Skipped(why)) => println!("skipped: {name}: {why}"),
            }
        }
        if number == 0 {
            for (rig, transport) in rigs.iter().zip(["unix", "TCP"]) {
                let pids = [&rig.filter, &rig.authority].into_iter().flatten().map(|daemon| daemon.pid()).collect();
                lanes.push(Lane::new(&format!("addrauth, {transport}"), &rig.door, &rig.key, pids));
            }
        }
    }
    let names: Vec<String> = lanes.iter().map(|lane| lane.name.clone()).collect();
    for lane in &mut lanes {
        let floor = lane.name.split_once(", ").map(|(_, transport)| format!("the floor, {transport}"));
        lane.floor = names.iter().position(|name| Some(name) == floor.as_ref());
    }
    (lanes, running)
}

/// Two tables: what a sender sees, and what it costs.
fn print(lanes: &[Lane], way: Way, messages: usize) {
    let none = &lanes[0].found(way).columns;
    let floor = |lane: &Lane| lane.floor.map(|at| &lanes[at].found(way).columns);
    let seen = |lane: &Lane| {
        let own = &lane.found(way).columns;
        vec![
            lane.name.clone(),
            cell(own.spread("messages a second")),
            cell(own.to(none, "messages a second")),
            cell(floor(lane).and_then(|floor| own.to(floor, "messages a second"))),
            cell(own.spread("p50 ms")),
            cell(own.spread("p99 ms")),
            format!("{} of {messages}", lane.found(way).stalls),
        ]
    };
    let costs = |lane: &Lane| {
        let own = &lane.found(way).columns;
        let calls = |at: usize| {
            let each = |counted: Counted| format!("{:.1}", counted.calls as f64 / COUNTED as f64);
            lane.found(way).counted[at].map_or("–".into(), each)
        };
        vec![
            lane.name.clone(),
            cell(own.spread("CPU ms, milter")),
            cell(floor(lane).and_then(|floor| own.over(floor, "CPU ms, milter"))),
            cell(own.spread("CPU ms, Postfix")),
            cell(own.spread("switches, milter")),
            cell(floor(lane).and_then(|floor| own.over(floor, "switches, milter"))),
            calls(0),
            calls(1),
        ]
    };
    println!("\n### {}\n", way.name());
    let head = ["", "messages a second", "to no milter", "to the floor", "p50 ms", "p99 ms", "over 25 ms"];
    figures::print(&head, &lanes.iter().map(seen).collect::<Vec<_>>());
    println!();
    let head = [
        "a message",
        "CPU ms, milter",
        "CPU over the floor",
        "CPU ms, Postfix",
        "switches, milter",
        "switches over the floor",
        "calls, milter",
        "calls, Postfix",
    ];
    figures::print(&head, &lanes.iter().map(costs).collect::<Vec<_>>());
}

fn json_lane(lanes: &[Lane], lane: &Lane) -> Value {
    let way = |(name, found): (&&'static str, &Found)| {
        let ratio = |to: &Lane| found.columns.to(&to.ways[name].columns, "messages a second").map(json_spread);
        let counted = found.counted.map(|counted| {
            counted.map(|counted| json!({ "calls": counted.calls, "switches of both kinds": counted.switches }))
        });
        let value = json!({
            "columns": found.columns.json(),
            "throughput to no milter": ratio(&lanes[0]),
            "throughput to the floor": lane.floor.and_then(|at| ratio(&lanes[at])),
            "over 25 ms": found.stalls,
            "counted apart": { "messages": COUNTED, "milter": counted[0], "Postfix": counted[1] },
        });
        ((*name).to_owned(), value)
    };
    Value::Object(lane.ways.iter().map(way).collect())
}

fn main() {
    let numbers: Vec<usize> = std::env::args().filter_map(|word| word.parse().ok()).collect();
    let (rounds, count) = (*numbers.first().unwrap_or(&9), *numbers.get(1).unwrap_or(&200));
    let each = |way: Way| if way == Way::Alone { (count / 8).max(1) } else { count.max(SESSIONS) };
    let before = figures::machine();
    let bed = Bed::start();
    let folder = tempfile::tempdir().unwrap();
    LOG_LEVEL.get_or_init(|| "info");
    let rigs = [Rig::start(&bed, Kind::Chroot, ""), Rig::start(&bed, Kind::Inet, "")];
    let master = let_processes_live(&rigs[0].door.etc());
    let (mut lanes, running) = lanes(&bed, &rigs, folder.path());
    for round in 0..=rounds {
        for way in Way::ALL {
            for at in 0..lanes.len() {
                // Each round begins with another lane. The first round fills caches and starts Postfix's processes.
                let at = (at + round) % lanes.len();
                lanes[at].round(&bed, master, way, each(way), round > 0);
            }
        }
    }
    for way in Way::ALL {
        for lane in &mut lanes {
            lane.count_calls(&bed, master, way);
        }
    }
    println!(
        "{rounds} rounds of {count} messages of {SIZE} octets, {SESSIONS} clients; then {} by one client",
        each(Way::Alone)
    );
    for way in Way::ALL {
        print(&lanes, way, each(way) * rounds);
    }
    let busy = lanes
        .iter()
        .flat_map(|lane| lane.ways.values())
        .filter_map(|found| found.columns.spread("machine busy elsewhere"));
    let busy: Vec<f64> = busy.map(|spread| spread.median * 100.0).collect();
    println!(
        "\nthe machine was busy with other things, % of its processors, medians by lane: {}",
        cell(figures::Spread::of(&busy))
    );
    let found: Vec<Value> =
        lanes.iter().map(|lane| json!({ "lane": lane.name, "ways": json_lane(&lanes, lane) })).collect();
    let settings = json!({ "rounds": rounds, "count": count, "octets": SIZE, "clients": SESSIONS });
    let machine = json!({ "before": before, "after": figures::machine() });
    figures::keep("postfix", &json!({ "settings": settings, "machine": machine, "lanes": found }));
    drop(running);
}
