//! The rows that are looked for, one a line.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::SystemTime;

use clap::builder::{PossibleValuesParser, TypedValueParser};

use super::{Context, Unread, as_json, exit, open, shown, since};
use addrauth::case::{WrittenCase, stamp};
use addrauth::proto::whom::Whom;
use addrauth::store::{self, JournalRow, RowResult, RowVerdict};
use addrauth::why::story;

/// The words of a row's result: the six, and those of mail that was sent, was not ours to judge, or could not be judged.
const RESULTS: [&str; 11] = [
    "valid",
    "invalid",
    "missing",
    "none",
    "unverified",
    "unusable",
    "passing",
    "submitted",
    "postponed",
    "unclear",
    "quarantined",
];
/// The words of what the mail server was told.
const VERDICTS: [&str; 5] = ["accept", "hold", "discard", "reject", "defer"];

#[derive(Debug, clap::Args)]
pub(super) struct Wanted {
    /// How many at most; 0: all
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = count)]
    last: usize,
    /// Only from this sender: address of the From field or of the envelope; @example.com for a whole domain
    #[arg(long, value_name = "ADDRESS")]
    sender: Option<String>,
    /// Only to this recipient; @example.com for a whole domain
    #[arg(long, value_name = "ADDRESS")]
    recipient: Option<String>,
    /// Only with this result
    #[arg(long, value_name = "WORD", value_parser = result())]
    result: Option<RowResult>,
    /// Only where the mail server was told this
    #[arg(long, value_name = "WORD", value_parser = verdict())]
    verdict: Option<RowVerdict>,
    /// Only where a policy decided this, carried out or observed
    #[arg(long, value_name = "WORD", value_parser = ["accept", "mark", "quarantine", "reject", "defer"])]
    decision: Option<String>,
    /// Only where this policy decided
    #[arg(long, value_name = "ID")]
    policy: Option<String>,
    /// Only of this time: 2d, 12h, 30min, or from a day on: 2026-11-20 (UTC)
    #[arg(long, value_name = "AGE|DAY", value_parser = since)]
    since: Option<SystemTime>,
}

impl Wanted {
    /// The same as the journal is asked for it.
    fn read(&self) -> Result<store::Wanted, Unread> {
        Ok(store::Wanted {
            sender: self.sender.as_deref().map(whom).transpose()?,
            recipient: self.recipient.as_deref().map(whom).transpose()?,
            result: self.result.clone(),
            verdict: self.verdict.clone(),
            decision: self.decision.clone(),
            policy: self.policy.clone(),
            since: self.since,
            ..store::Wanted::default()
        })
    }
}

fn result() -> impl TypedValueParser<Value = RowResult> {
    PossibleValuesParser::new(RESULTS).map(|word| RowResult::of_word(&word))
}

fn verdict() -> impl TypedValueParser<Value = RowVerdict> {
    PossibleValuesParser::new(VERDICTS).map(|word| RowVerdict::of_word(&word))
}

fn count(text: &str) -> Result<usize, String> {
    text.parse().map_err(|_| "write a number, such as --last 20; --last 0 shows all".into())
}

/// Prints them as they are found: all of them may be more than fit into memory.
pub(super) async fn list(wanted: &Wanted, context: &Context) -> Result<ExitCode, Unread> {
    let (last, wanted) = (wanted.last, wanted.read()?);
    let ledger = open(&context.read_config()?).await?;
    let (mut printed, mut more) = (0, false);
    let print = |row: JournalRow| {
        if !wanted.fits(&row) {
            return true;
        }
        more = last > 0 && printed == last;
        if !more {
            if printed == 0 && !context.json {
                println!("{}", heading());
            }
            println!("{}", if context.json { as_json(&row).to_string() } else { line(&row) });
            printed += 1;
        }
        !more
    };
    let scanned = ledger.scan(&wanted.search(), print).await;
    ledger.close().await;
    scanned?;
    match (printed, more) {
        (0, _) if wanted.is_all() => eprintln!("addrauth: the journal has no row yet"),
        (0, _) => eprintln!("addrauth: the journal has no such row; `addrauth journal list` alone shows the newest"),
        (_, true) => eprintln!("{printed} newest shown; --last 0 shows all"),
        (_, false) => {}
    }
    Ok(if printed == 0 { exit::no() } else { exit::YES })
}

fn whom(text: &str) -> Result<Whom, Unread> {
    Whom::parse(text).ok_or_else(|| Unread::Address(text.to_owned()))
}

fn heading() -> String {
    let [id, written, queue_id] = ["ID", "WRITTEN", "QUEUE ID"];
    format!("{id:>8}  {written:<20}  {queue_id:<14}  {:<10}  {:<7}  {:<24}  FROM -> TO", "RESULT", "VERDICT", "DECIDED")
}

/// One row as one line; what comes from outside is made safe for a terminal.
fn line(row: &JournalRow) -> String {
    let entry = &row.entry;
    let (to, decided) = match story(row) {
        Ok(story) => (recipients(&story), decisions(&story)),
        Err(_) => ("?".into(), "?".into()),
    };
    shown(&format!(
        "{:>8}  {}  {:<14}  {:<10}  {:<7}  {decided:<24}  {} -> {to}",
        row.id,
        stamp(row.at).get(..19).unwrap_or_default().to_owned() + "Z",
        entry.queue_id.as_deref().unwrap_or("-"),
        entry.result.word(),
        entry.verdict.word(),
        entry.sender.as_deref().unwrap_or("-"),
    ))
}

fn recipients(story: &WrittenCase) -> String {
    match story.recipients.as_slice() {
        [one] => one.clone(),
        [first, more @ ..] => format!("{first} and {} more", more.len()),
        [] => "nobody".into(),
    }
}

/// `policy=decision`, each once, as many as differ.
fn decisions(story: &WrittenCase) -> String {
    let words: BTreeSet<String> =
        story.decisions.iter().map(|decision| format!("{}={}", decision.policy, decision.word())).collect();
    if words.is_empty() { "-".into() } else { words.into_iter().collect::<Vec<_>>().join(",") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_result_that_a_row_can_have_can_be_asked_for() {
        let known: Vec<RowResult> = RowResult::known().collect();
        assert_eq!(known.iter().map(RowResult::word).collect::<Vec<_>>(), RESULTS);
    }
}
