//! `addrauth policy replay`: recorded mail decided again by a candidate.

use std::collections::BTreeSet;
use std::io::IsTerminal as _;
use std::time::{Instant, SystemTime};

use addrauth::policy::rehearse::{Change, Replay, Subject};
use addrauth::store::{JournalRow, RowResult, Search};
use serde_json::json;

use super::named::{Named, Workshop};
use super::{Error, Set, Told};
use crate::journal;

/// Rows between two words on progress.
const STEP: usize = 20_000;

/// What is replayed.
#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// The candidate.
    policy: String,
    /// Only mail of this time: 7d, 12h, or from a day on: 2026-11-20 (UTC).
    #[arg(long, value_name = "AGE|DAY", value_parser = journal::since, default_value = "7d")]
    since: SystemTime,
    /// Only mail of this result: that which the candidate is to be bound to.
    #[arg(long, value_name = "RESULT", value_parser = ["valid", "invalid", "missing", "none", "unverified", "unusable"])]
    result: Option<String>,
    /// Only decisions of the policy of this id.
    #[arg(long, value_name = "ID")]
    of: Option<String>,
    /// Compare with this policy on the recorded facts, instead of with what was decided.
    #[arg(long, value_name = "POLICY")]
    against: Option<String>,
    /// Only such a change is a finding.
    #[arg(long, value_name = "CHANGE", value_parser = change)]
    fail_on: Vec<Change>,
    /// Decisions of a hundred that may lack a fact without the answer being `could not tell`.
    #[arg(long, value_name = "PERCENT", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=100))]
    may_lack: u8,
    #[command(flatten)]
    set: Set,
}

/// A word of a kind of change that is looked for here.
fn change(word: &str) -> Result<Change, String> {
    match super::change(word)? {
        Change::Reworded => Err("a replay compares no reasons: write looser, stricter, sideways".into()),
        change => Ok(change),
    }
}

/// Replays the journal; a change is a finding, and a decision that lacks a fact is not told.
pub(super) fn run(workshop: &Workshop, options: &Options, json: bool) -> Result<Told, Error> {
    let candidate = workshop.load(&options.policy, &options.set.set)?;
    let subject = candidate.subject()?;
    let former = options.against.as_deref().map(|word| workshop.load(word, &[])?.subject()).transpose()?;
    let known = known(workshop)?;
    let mut replay = Replay::of(&subject);
    if let Some(former) = &former {
        replay = replay.against(former);
    }
    tell(&mut replay, &known);
    let search = Search {
        result: options.result.as_deref().map(RowResult::of_word),
        policy: options.of.clone(),
        since: Some(options.since),
        ..Search::default()
    };
    let begin = Instant::now();
    let rows = over(workshop, &search, &mut replay)?;
    let seconds = begin.elapsed().as_secs_f64();
    match json {
        true => println!("{:#}", told(&replay, rows, seconds)),
        false => print(&replay, &subject, rows, seconds),
    }
    let report = replay.report();
    let counts = |change: Change| options.fail_on.is_empty() || options.fail_on.contains(&change);
    Ok(match report.moved().iter().any(|moved| counts(moved.change)) {
        _ if report.decisions == 0 => Told::Unknown,
        _ if report.unknown() * 100 > report.decisions * usize::from(options.may_lack) => Told::Unknown,
        true => Told::Finding,
        false => Told::Good,
    })
}

/// Tells which components are at hand.
pub(super) fn tell<'a>(replay: &mut Replay<'a>, known: &'a [Named]) {
    for named in known {
        replay.knows(&named.located.digest, &named.component, named.component.fit(&named.given).ok());
    }
}

/// The policies of the configuration and the candidates beside them, whose decisions are in the journal.
pub(super) fn known(workshop: &Workshop) -> Result<Vec<Named>, Error> {
    let config = workshop.config()?;
    let bound = &config.policy;
    let site = [
        &bound.valid,
        &bound.invalid,
        &bound.missing,
        &bound.none,
        &bound.unverified,
        &bound.unusable,
        &bound.no_address,
    ];
    let ids: BTreeSet<&String> = site.into_iter().chain(config.policies.keys()).chain(&bound.user_may).collect();
    // One that is not there any more is not known, and no more.
    let of = |id: &String| [workshop.load(id, &[]).ok(), workshop.candidate(id)].into_iter().flatten();
    Ok(ids.into_iter().flat_map(of).collect())
}

/// Shows recorded decisions of this policy, or of all, to the candidate, and says how many rows there were.
pub(super) fn over(workshop: &Workshop, search: &Search, replay: &mut Replay<'_>) -> Result<usize, Error> {
    scan(workshop, search, &mut |row| match addrauth::why::story(&row) {
        Ok(mut story) => {
            if let Some(id) = &search.policy {
                story.decisions.retain(|decision| decision.policy == *id);
            }
            replay.see(row.id, &story);
        }
        Err(_) => replay.unreadable(),
    })
}

/// Shows rows of the journal, and says how many there were.
pub(super) fn scan(
    workshop: &Workshop,
    search: &Search,
    see: &mut (dyn FnMut(JournalRow) + Send),
) -> Result<usize, Error> {
    let config = workshop.config()?;
    let progress = std::io::stderr().is_terminal();
    let mut rows = 0_usize;
    let each = |row| {
        rows += 1;
        see(row);
        if progress && rows.is_multiple_of(STEP) {
            eprintln!("{rows} rows");
        }
        true
    };
    // Verbs of the workshop run on a thread that may block.
    tokio::runtime::Handle::current().block_on(async {
        let ledger = journal::open(config).await?;
        let scanned = ledger.scan(search, each).await;
        ledger.close().await;
        Ok::<_, journal::Unread>(scanned?)
    })?;
    Ok(rows)
}

pub(super) fn print(replay: &Replay<'_>, subject: &Subject, rows: usize, seconds: f64) {
    let report = replay.report();
    for moved in report.moved() {
        println!("{:<9} {} -> {}", moved.change.word(), moved.old, moved.new);
        println!("  {} decisions for {} recipients, from {} domains", moved.decisions, moved.recipients, moved.domains);
        for (row, sender) in &moved.examples {
            println!("  e.g. row {row} of {}", if sender.is_empty() { "nobody that can be told" } else { sender });
        }
    }
    for (fact, count) in &report.lacking {
        println!("UNKNOWN   {count} decisions: their rows lack {fact}");
    }
    if report.decisions == 0 {
        println!("UNKNOWN   nothing was replayed: no row of this time has a decision of this result and policy");
    }
    println!(
        "{}: {} of {} decisions the same, {} could not be told; {rows} rows in {seconds:.1} s",
        subject.name,
        report.same,
        report.decisions,
        report.unknown()
    );
}

pub(super) fn told(replay: &Replay<'_>, rows: usize, seconds: f64) -> serde_json::Value {
    let report = replay.report();
    json!({
        "messages": report.messages, "decisions": report.decisions, "same": report.same, "changes": report.moved(),
        "unknown": report.lacking, "rows": rows, "seconds": seconds,
    })
}
