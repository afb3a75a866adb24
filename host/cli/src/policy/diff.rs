//! `addrauth policy diff`: what changes where one policy takes the place of another.

use addrauth::policy::rehearse::{Change, Comparison, compare};

use super::named::Workshop;
use super::{Error, Setting, Told};

/// Prints what changes; a change is a finding, or with `fail_on` one of those.
pub(super) fn run(
    workshop: &Workshop,
    [old, new]: [&str; 2],
    fail_on: &[Change],
    set: &[Setting],
    json: bool,
) -> Result<Told, Error> {
    let (old, new) = (workshop.load(old, set)?, workshop.load(new, set)?);
    let mut samples = old.samples(workshop)?;
    samples.extend(&new.samples(workshop)?);
    let comparison = compare(&old.subject()?, &new.subject()?, &samples, &workshop.limits)?;
    match json {
        true => {
            let mut told = serde_json::to_value(&comparison).unwrap_or_default();
            told["doubt"] = comparison.doubt().into();
            println!("{told:#}");
        }
        false => print(&comparison),
    }
    let counts = |change: &Change| fail_on.is_empty() || fail_on.contains(change);
    Ok(match comparison.counts.iter().any(|(change, _)| counts(change)) {
        true => Told::Finding,
        false if comparison.doubt().is_some() => Told::Unknown,
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
        println!("  {} of {} combinations\n", changed.combinations, comparison.extent.rows);
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
    if let Some(doubt) = comparison.doubt() {
        println!("UNKNOWN   whether there are others: {doubt}.");
    }
}
