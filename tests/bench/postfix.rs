//! Postfix's throughput with the filter before it and without: `tests/run --bench`, or `cargo bench` with ROUNDS and COUNT.
//!
//! One instance, one smtpd port per milter, rounds interleaved, so that a busy machine slows all of them alike. Only the
//! ratios say something, and nothing passes or fails by them.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use addrauth_tests::daemon::{LOG_LEVEL, Rig};
use addrauth_tests::postfix::{Bed, Door, Kind};
use addrauth_tests::probe::{self, Probe};
use addrauth_tests::smtp::{Session, stuffed};

/// Octets of a message, header included.
const SIZE: usize = 4096;
/// What smtp-source opens at once.
const SESSIONS: usize = 8;
/// A longer wait for one reply is a stall: Nagle's algorithm against a delayed ACK costs 40 ms.
const STALL: Duration = Duration::from_millis(25);
/// The recipient; Postfix discards what is for him.
const RECIPIENT: &str = "box@bench.test";

/// One of the things compared.
struct Lane {
    name: &'static str,
    port: u16,
    message: PathBuf,
    /// Messages per second, one per round.
    rates: Vec<f64>,
    /// Messages whose end took longer than [`STALL`], of those sent one by one.
    stalls: usize,
}

impl Lane {
    fn new(name: &'static str, door: &Door, key: &str, folder: &Path) -> Lane {
        let message = folder.join(format!("{}.eml", name.replace(' ', "-")));
        let head = format!("From: alice@send.test\r\nTo: {RECIPIENT}\r\nSubject: a bench\r\nX-Auth-Key: {key}\r\n\r\n");
        let body = "A line of text as there are many.\r\n".repeat((SIZE - head.len()) / 35);
        std::fs::write(&message, head + &body).unwrap();
        Lane { name, port: door.port, message, rates: Vec::new(), stalls: 0 }
    }

    /// A connection per message, [`SESSIONS`] at once; returns messages per second.
    fn rush(&self, count: usize) -> f64 {
        let (sessions, messages) = (SESSIONS.to_string(), count.to_string());
        let begin = Instant::now();
        let status = Command::new("smtp-source")
            .args(["-s", &sessions, "-m", &messages, "-f", "alice@send.test", "-t", RECIPIENT, "-F"])
            .arg(&self.message)
            .arg(format!("127.0.0.1:{}", self.port))
            .stdin(Stdio::null())
            .status()
            .unwrap();
        assert!(status.success(), "{}: {status}", self.name);
        count as f64 / begin.elapsed().as_secs_f64()
    }

    /// Messages one by one on one connection; returns how many of them waited for a stall at their end.
    fn one_by_one(&self, count: usize) -> usize {
        let octets = stuffed(&std::fs::read(&self.message).unwrap());
        let mut session = Session::open(self.port);
        let mut slow = || {
            assert_eq!(session.say("MAIL FROM:<alice@send.test>").code, 250, "{}", self.name);
            assert_eq!(session.say(&format!("RCPT TO:<{RECIPIENT}>")).code, 250, "{}", self.name);
            assert_eq!(session.say("DATA").code, 354, "{}", self.name);
            session.write(&octets);
            let begin = Instant::now();
            session.write(b".\r\n");
            assert_eq!(session.reply().code, 250, "{}", self.name);
            begin.elapsed() > STALL
        };
        (0..count).filter(|_| slow()).count()
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Waits until Postfix has delivered what it took, a minute at most.
fn settle(bed: &Bed) {
    let begin = Instant::now();
    while !bed.is_idle() && begin.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn main() {
    let numbers: Vec<usize> = std::env::args().filter_map(|word| word.parse().ok()).collect();
    let (rounds, count) = (*numbers.first().unwrap_or(&5), *numbers.get(1).unwrap_or(&700));
    let each = (count / 7).max(1);
    let bed = Bed::start();
    let folder = tempfile::tempdir().unwrap();
    LOG_LEVEL.get_or_init(|| "info");
    let (tcp, unix) = (Rig::start(&bed, Kind::Inet, ""), Rig::start(&bed, Kind::Chroot, ""));
    let (bare, idle) = (bed.door(Kind::Bare), bed.door(Kind::Inet));
    Probe::inet(idle.milter_port(), |_| probe::accept());
    let lane = |name, door: &Door, key: &str| Lane::new(name, door, key, folder.path());
    let mut lanes = [
        lane("no milter", &bare, &tcp.key),
        lane("filter, unix", &unix.door, &unix.key),
        lane("filter, TCP", &tcp.door, &tcp.key),
        lane("idle stand-in, TCP", &idle, &tcp.key),
    ];
    for round in 0..=rounds {
        for lane in &mut lanes {
            let (rate, stalls) = (lane.rush(count), lane.one_by_one(each));
            settle(&bed);
            // The first round fills caches and starts Postfix's processes.
            if round > 0 {
                lane.rates.push(rate);
                lane.stalls += stalls;
            }
        }
    }
    println!("{rounds} rounds of {count} messages of {SIZE} octets, {SESSIONS} sessions; then {each} one by one");
    println!("{:<20} {:>10} {:>12} {:>16}", "", "median/s", "to no milter", "over 25 ms");
    for lane in &lanes {
        let ratios = lane.rates.iter().zip(&lanes[0].rates).map(|(rate, none)| rate / none).collect();
        let stalls = format!("{} of {}", lane.stalls, each * rounds);
        println!("{:<20} {:>10.0} {:>12.2} {stalls:>16}", lane.name, median(lane.rates.clone()), median(ratios));
    }
}
