//! `addrauth policy bench`: what a decision takes, beside its limits.

use std::time::{Duration, Instant};

use addrauth::config::Size;
use addrauth::policy::AT_ONCE;
use addrauth::policy::rehearse::{Speed, speed};
use serde_json::json;

use super::named::Workshop;
use super::{Error, Setting, Told};

/// Times decisions; a finding where 1 of 100 takes longer than a message's connection waits for.
pub(super) fn run(
    workshop: &Workshop,
    word: &str,
    decisions: usize,
    set: &[Setting],
    json: bool,
) -> Result<Told, Error> {
    let before = resident();
    let begin = Instant::now();
    let named = workshop.load(word, set)?;
    let loaded = begin.elapsed();
    let subject = named.subject()?;
    let speed = speed(&subject, &named.samples(workshop)?, decisions, &workshop.limits)?;
    let tabled = subject.facts().is_empty() && subject.headers().is_empty();
    let limits = &workshop.limits.policy.of(subject.size());
    // A large one never holds up who asks it.
    let at_once = (subject.size() == Size::Small).then_some(AT_ONCE);
    let memory = resident().saturating_sub(before);
    if json {
        println!(
            "{:#}",
            json!({
                "policy": subject.name, "decisions": speed.decisions, "median_us": us(speed.median), "p99_us": us(speed.p99),
                "longest_us": us(speed.longest), "failed": speed.failed, "tabled": tabled,
                "load_ms": loaded.as_secs_f64() * 1e3, "octets": named.located.octets.len(),
                "limit_us": us(limits.time), "limit_octets": limits.memory, "size": subject.size(), "memory_octets": memory,
            })
        );
    } else {
        println!(
            "{}: {} octets, found, tried and compiled in {:.0} ms",
            subject.name,
            named.located.octets.len(),
            loaded.as_secs_f64() * 1e3
        );
        print(&speed, decisions);
        match tabled {
            true => println!(
                "  tabled    the filter looks the decision up: it asks once for each result, when it loads the policy"
            ),
            false => println!("  tabled    no: it wants more than the result"),
        }
        println!("  memory    {:.1} MiB more than before it was loaded", memory as f64 / f64::from(1 << 20));
        let at_once = at_once.map(|time| format!("{:.0} us at once, then ", us(time))).unwrap_or_default();
        println!(
            "  limits    {at_once}{:.0} us on a thread apart; {} MiB of memory",
            us(limits.time),
            limits.memory >> 20
        );
    }
    Ok(Told::is(speed.failed == 0 && speed.p99 < at_once.unwrap_or(limits.time)))
}

/// A time in microseconds.
fn us(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// How long decisions took, and which were not made.
fn print(speed: &Speed, asked: usize) {
    let [median, p99, longest] = [speed.median, speed.p99, speed.longest].map(us);
    println!(
        "  fresh     p50 {median:.1} us, p99 {p99:.1} us, longest {longest:.1} us, of {} decisions",
        speed.decisions
    );
    if speed.decisions < asked {
        println!("            there was no time for the other {}", asked - speed.decisions);
    }
    if speed.failed > 0 {
        println!("  FAILED    {} decisions: `addrauth policy check` shows one", speed.failed);
    }
}

/// Octets of this process that are memory; 0 where the system does not tell.
fn resident() -> u64 {
    let told = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = told.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or_default().saturating_mul(1024)
}
