//! `addrauth policy diff`: what changes where one policy takes the place of another.

use std::time::{Instant, SystemTime};

use addrauth::policy::rehearse::{Change, Comparison, Replay, compare};
use addrauth::store::Search;

use super::named::Workshop;
use super::{Error, Set, Told, change, replay};
use crate::journal;

/// What is compared.
#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// The policy of before.
    old: String,
    /// The policy that takes its place.
    new: String,
    /// Only such a change is a finding.
    #[arg(long, value_name = "CHANGE", value_parser = change)]
    fail_on: Vec<Change>,
    /// Also over one's own mail of this time, as far as OLD decided it: 7d, 12h, or from a day on: 2026-11-20 (UTC).
    #[arg(long, value_name = "AGE|DAY", value_parser = journal::since)]
    journal: Option<SystemTime>,
    #[command(flatten)]
    set: Set,
}

/// Prints what changes; a change is a finding, or with `--fail-on` one of those.
pub(super) fn run(workshop: &Workshop, options: &Options, json: bool) -> Result<Told, Error> {
    let set = &options.set.set;
    let (old, new) = (workshop.load(&options.old, set)?, workshop.load(&options.new, set)?);
    let mut samples = old.samples(workshop)?;
    samples.extend(&new.samples(workshop)?);
    let (before, after) = (old.subject()?, new.subject()?);
    let comparison = compare(&before, &after, &samples, &workshop.limits)?;
    let known = if options.journal.is_some() { replay::known(workshop)? } else { Vec::new() };
    let mut replay = Replay::of(&after).against(&before);
    replay::tell(&mut replay, &known);
    let begin = Instant::now();
    let rows = match options.journal {
        Some(since) => {
            let search = Search { policy: Some(old.located.name.clone()), since: Some(since), ..Search::default() };
            replay::over(workshop, &search, &mut replay)?
        }
        None => 0,
    };
    let seconds = begin.elapsed().as_secs_f64();
    let of_journal = options.journal.map(|_| replay.report());
    match json {
        true => {
            let mut told = serde_json::to_value(&comparison).unwrap_or_default();
            told["doubt"] = comparison.doubt().into();
            if of_journal.is_some() {
                told["journal"] = replay::told(&replay, rows, seconds);
            }
            println!("{told:#}");
        }
        false => {
            print(&comparison);
            if of_journal.is_some() {
                println!("\nOver the mail that {} decided:", old.located.name);
                replay::print(&replay, &after, rows, seconds);
            }
        }
    }
    let counts = |change: &Change| options.fail_on.is_empty() || options.fail_on.contains(change);
    let moved = of_journal.into_iter().flat_map(|report| report.moved()).any(|moved| counts(&moved.change));
    let unknown = of_journal.is_some_and(|report| report.unknown() > 0 || report.decisions == 0);
    Ok(match comparison.counts.iter().any(|(change, _)| counts(change)) || moved {
        true => Told::Finding,
        false if unknown || comparison.doubt().is_some() => Told::Unknown,
        false => Told::Good,
    })
}

fn print(comparison: &Comparison) {
    for changed in &comparison.changes {
        let word = match changed.change {
            Change::Looser => "LOOSER",
            other => other.word(),
        };
        println!("{word:<9} {}\n  was {}\n  now {}", changed.when, changed.old, changed.new);
        println!("  {} of {} combinations of facts\n", changed.combinations, comparison.extent.rows);
    }
    let counts: Vec<String> =
        comparison.counts.iter().map(|(change, count)| format!("{count} {}", change.word())).collect();
    let nothing = if comparison.doubt().is_some() { "no change was found" } else { "nothing changes" };
    let summary = if counts.is_empty() { nothing.to_owned() } else { counts.join(", ") };
    println!(
        "{summary}, of {} combinations in {:.0} ms; {}.",
        comparison.extent.rows,
        comparison.milliseconds,
        comparison.extent.words()
    );
    if comparison.cut {
        println!("There are more rows: they are left out.");
    }
    if comparison.doubt().is_none() && comparison.extent.is_exact() && !counts.is_empty() && !comparison.cut {
        println!("All other mail is treated as before.");
    }
    if let Some(doubt) = comparison.doubt() {
        println!("UNKNOWN   whether there are others: {doubt}.");
    }
}
