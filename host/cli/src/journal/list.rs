//! The rows that are looked for, one a line.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::SystemTime;

use clap::builder::{PossibleValuesParser, TypedValueParser};

use super::{Context, Unread, as_json, exit, open, shown, since, story};
use crate::whom::Whom;
use addrauth::case::{Disposition, WrittenCase, stamp};
use addrauth::store::{JournalRow, RowResult, RowVerdict, Search};

/// The words of a row's result: the six, and those of mail that was sent, or could not be judged when it came.
const RESULTS: [&str; 8] = ["valid", "invalid", "missing", "none", "unverified", "unusable", "submitted", "postponed"];
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
    /// Whether every row is looked for.
    fn is_all(&self) -> bool {
        let words = [&self.sender, &self.recipient, &self.decision, &self.policy];
        words.iter().all(|word| word.is_none())
            && (self.result.is_none() && self.verdict.is_none() && self.since.is_none())
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
    let sender = wanted.sender.as_deref().map(whom).transpose()?;
    let recipient = wanted.recipient.as_deref().map(whom).transpose()?;
    let search = search(wanted, sender.as_ref(), recipient.as_ref());
    let fits = |row: &JournalRow| {
        let people = [&sender, &recipient].iter().all(|whom| whom.is_none());
        if people && [&wanted.decision, &wanted.policy].iter().all(|word| word.is_none()) {
            return true;
        }
        let Ok(story) = story(row) else { return false };
        let is_sender = |whom: &Whom| senders(&story).any(|address| whom.includes(bare(address)));
        let is_recipient = |whom: &Whom| story.recipients.iter().any(|address| whom.includes(bare(address)));
        sender.as_ref().is_none_or(is_sender) && recipient.as_ref().is_none_or(is_recipient) && decided(&story, wanted)
    };
    let ledger = open(&context.read_config()?).await?;
    let (mut printed, mut more) = (0, false);
    let print = |row: JournalRow| {
        if !fits(&row) {
            return true;
        }
        more = wanted.last > 0 && printed == wanted.last;
        if !more {
            if printed == 0 && !context.json {
                println!("{}", heading());
            }
            println!("{}", if context.json { as_json(&row).to_string() } else { line(&row) });
            printed += 1;
        }
        !more
    };
    let scanned = ledger.scan(&search, print).await;
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

/// What the database looks for: as much as it can tell of a row.
fn search(wanted: &Wanted, sender: Option<&Whom>, recipient: Option<&Whom>) -> Search {
    Search {
        result: wanted.result.clone(),
        verdict: wanted.verdict.clone(),
        since: wanted.since,
        sender: sender.map(Whom::sought),
        recipient: recipient.map(Whom::sought),
        decision: wanted.decision.clone(),
        policy: wanted.policy.clone(),
    }
}

/// Whether one of its decisions is of the kind that is looked for.
fn decided(story: &WrittenCase, wanted: &Wanted) -> bool {
    if wanted.decision.is_none() && wanted.policy.is_none() {
        return true;
    }
    let is = |word: &String, disposition: Disposition| disposition.word() == word;
    story.decisions.iter().any(|decision| {
        wanted.decision.as_ref().is_none_or(|word| is(word, decision.disposition))
            && wanted.policy.as_ref().is_none_or(|id| *id == decision.policy)
    })
}

fn whom(text: &str) -> Result<Whom, Unread> {
    Whom::parse(text).ok_or_else(|| Unread::Address(text.to_owned()))
}

/// The address in From, and that of the envelope.
fn senders(story: &WrittenCase) -> impl Iterator<Item = &str> {
    story.author().into_iter().chain(story.reverse_path.as_deref())
}

/// A path without its angle brackets.
fn bare(path: &str) -> &str {
    path.trim_start_matches('<').trim_end_matches('>')
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
