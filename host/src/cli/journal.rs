//! `addrauth journal`: look up what became of messages, and take an address out.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use serde_json::json;

use super::why::text::shown;
use super::{Context, exit, fail};
use crate::case::{CASE_VERSION, Story, ToldFinding, stamp};
use crate::config::{self, Config, Limits};
use crate::proto::address::Address;
use crate::store::{self, JournalRow, Ledger, Opening, Search, folded};

/// Look up what became of messages
///
/// The journal of `addrauth filter` has a row for each message that it judged, whatever was decided. Run this as the user
/// that the filter runs as, or as root; the filter may be running.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// List rows, the newest first
    ///
    /// Exit code: 0 there are some, 1 there are none, 2 it could not be told.
    List(Wanted),
    /// Show one row as it was written: `addrauth why` explains it
    ///
    /// Exit code: 0 shown, 2 there is no such row.
    Show {
        /// The number of a row, or the mail server's queue id
        #[arg(value_name = "ID|QUEUE-ID")]
        id: String,
    },
    /// Take an address out of all rows, and out of notices that were sent or given up
    ///
    /// erased@erased.invalid takes its place, whether it stands there as sender, recipient, in a fact that a policy saw or in
    /// a note; a +tag and letter case do not matter. The rows stay, and so does all else in them.
    ///
    /// Exit code: 0 done, 1 it was nowhere, 2 it could not be done.
    Erase {
        /// The address, such as bob@example.com
        address: String,
    },
}

#[derive(Debug, clap::Args)]
struct Wanted {
    /// How many at most
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..))]
    last: u16,
    /// Only from this sender: address of the From field or of the envelope; @example.com for a whole domain
    #[arg(long, value_name = "ADDRESS")]
    sender: Option<String>,
    /// Only to this recipient; @example.com for a whole domain
    #[arg(long, value_name = "ADDRESS")]
    recipient: Option<String>,
    /// Only with this result
    #[arg(long, value_name = "WORD", value_parser = ["valid", "invalid", "missing", "none", "unverified", "unusable"])]
    result: Option<String>,
    /// Only where the mail server was told this
    #[arg(long, value_name = "WORD", value_parser = ["accept", "hold", "discard", "reject", "defer"])]
    verdict: Option<String>,
    /// Only of this time: 2d, 12h, 30min
    #[arg(long, value_name = "AGE", value_parser = humantime_serde::re::humantime::parse_duration)]
    since: Option<Duration>,
}

/// Why the journal cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unread {
    #[error(transparent)]
    Config(#[from] config::Error),
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error(
        "there is no journal {0}: no filter ran with this state_dir yet; name its configuration with --config FILE"
    )]
    None(PathBuf),
    #[error(
        "the journal has no row {0:?}: `addrauth journal list` shows which there are. The message may be too old \
         (custody.journal_kept), only have passed through, or have been treated by another server"
    )]
    NoRow(String),
    #[error("row {id} cannot be read: {text}. It may be of a newer addrauth")]
    Story { id: i64, text: String },
    #[error("{0:?} is no address: write bob@example.com")]
    Address(String),
}

/// Runs the verb.
pub async fn run(args: Args, context: &Context) -> ExitCode {
    let done = match args.verb {
        Verb::List(wanted) => list(&wanted, context).await,
        Verb::Show { id } => show(&id, context).await,
        Verb::Erase { address } => erase(&address, context).await,
    };
    done.unwrap_or_else(fail)
}

/// Opens the journal of this configuration, where there is one: looking must not make files of another user's.
pub(crate) async fn open(config: &Config) -> Result<Ledger, Unread> {
    let (dir, limits) = (&config.state_dir.0, Limits::default());
    let file = dir.join("filter.db");
    if !file.exists() {
        return Err(Unread::None(file));
    }
    Ok(Ledger::open(dir, Opening { busy: limits.store_busy_command, readers: 1 }).await?)
}

/// The rows of a queue id, or the one of this number.
pub(crate) async fn rows(ledger: &Ledger, id: &str) -> Result<Vec<JournalRow>, Unread> {
    let mut rows = ledger.journal_of(id).await?;
    if let (true, Ok(number)) = (rows.is_empty(), id.parse()) {
        rows.extend(ledger.journal_row(number).await?);
    }
    if rows.is_empty() { Err(Unread::NoRow(id.to_owned())) } else { Ok(rows) }
}

/// What a row tells.
pub(crate) fn story(row: &JournalRow) -> Result<Story, Unread> {
    let unread = |text| Unread::Story { id: row.id, text };
    let story: Story = serde_json::from_str(&row.entry.json).map_err(|e| unread(e.to_string()))?;
    match story.version {
        CASE_VERSION => Ok(story),
        other => Err(unread(format!("it has version {other}, and {CASE_VERSION} is known"))),
    }
}

async fn list(wanted: &Wanted, context: &Context) -> Result<ExitCode, Unread> {
    let sender = wanted.sender.as_deref().map(whom).transpose()?;
    let recipient = wanted.recipient.as_deref().map(whom).transpose()?;
    let narrowest = sender.as_ref().or(recipient.as_ref());
    let search = Search {
        result: wanted.result.clone(),
        verdict: wanted.verdict.clone(),
        since: wanted.since.and_then(|age| SystemTime::now().checked_sub(age)),
        holds: narrowest.map(|whom| format!("@{}", whom.rsplit_once('@').map_or("", |(_, domain)| domain))),
    };
    let fits = |row: &JournalRow| {
        if sender.is_none() && recipient.is_none() {
            return true;
        }
        let Ok(story) = story(row) else { return false };
        let is_sender = |whom: &String| senders(&story).iter().any(|address| is(address, whom));
        let is_recipient = |whom: &String| story.recipients.iter().any(|address| is(address, whom));
        sender.as_ref().is_none_or(is_sender) && recipient.as_ref().is_none_or(is_recipient)
    };
    let ledger = open(&context.read_config()?).await?;
    let found = ledger.find(&search, usize::from(wanted.last), fits).await;
    ledger.close().await;
    let rows = found?;
    if !context.json && !rows.is_empty() {
        println!("{:>8}  {:<20}  {:<14}  {:<10}  {:<7}  FROM -> TO", "ID", "WRITTEN", "QUEUE ID", "RESULT", "VERDICT");
    }
    for row in &rows {
        println!("{}", if context.json { as_json(row).to_string() } else { line(row) });
    }
    Ok(if rows.is_empty() { exit::no() } else { exit::YES })
}

/// An address in the form that is compared, or `@domain`.
fn whom(text: &str) -> Result<String, Unread> {
    let wrong = || Unread::Address(text.to_owned());
    if text.starts_with('@') && text.len() > 1 {
        let one = Address::parse(format!("x{text}").as_bytes(), true).map_err(|_| wrong())?;
        return Ok(format!("@{}", one.domain()));
    }
    let address = Address::parse(text.as_bytes(), true).map_err(|_| wrong())?;
    folded(&address.to_string()).ok_or_else(wrong)
}

/// The address in From, and that of the envelope.
fn senders(story: &Story) -> Vec<&str> {
    let author = match &story.finding {
        ToldFinding::Found(found) => found.sender.as_deref(),
        ToldFinding::Passing(_) => None,
    };
    author.into_iter().chain(story.reverse_path.as_deref()).collect()
}

fn is(path: &str, whom: &str) -> bool {
    let path = path.trim_start_matches('<').trim_end_matches('>');
    let Some(folded) = folded(path) else { return false };
    if whom.starts_with('@') {
        return folded.rsplit_once('@').is_some_and(|(_, domain)| whom.get(1..) == Some(domain));
    }
    folded == whom
}

/// One row as one line; what comes from outside is made safe for a terminal.
fn line(row: &JournalRow) -> String {
    let entry = &row.entry;
    let to = match story(row) {
        Ok(story) => match story.recipients.as_slice() {
            [one] => one.clone(),
            [first, more @ ..] => format!("{first} and {} more", more.len()),
            [] => "nobody".into(),
        },
        Err(_) => "?".into(),
    };
    shown(&format!(
        "{:>8}  {}  {:<14}  {:<10}  {:<7}  {} -> {to}",
        row.id,
        stamp(row.at).get(..19).unwrap_or_default().to_owned() + "Z",
        entry.queue_id.as_deref().unwrap_or("-"),
        entry.result,
        entry.verdict,
        entry.sender.as_deref().unwrap_or("-"),
    ))
}

fn as_json(row: &JournalRow) -> serde_json::Value {
    let entry = &row.entry;
    let case: serde_json::Value = serde_json::from_str(&entry.json).unwrap_or_default();
    json!({ "id": row.id, "at": stamp(row.at), "queue_id": entry.queue_id, "sender": entry.sender, "result": entry.result,
        "verdict": entry.verdict, "note": entry.note, "case": case })
}

async fn show(id: &str, context: &Context) -> Result<ExitCode, Unread> {
    let ledger = open(&context.read_config()?).await?;
    let found = rows(&ledger, id).await;
    ledger.close().await;
    for row in &found? {
        let row = as_json(row);
        match context.json {
            true => println!("{row}"),
            // Four spaces more are nothing that could fail.
            false => println!("{}", shown_lines(&serde_json::to_string_pretty(&row).unwrap_or_default())),
        }
    }
    Ok(exit::YES)
}

fn shown_lines(text: &str) -> String {
    text.lines().map(shown).collect::<Vec<_>>().join("\n")
}

async fn erase(address: &str, context: &Context) -> Result<ExitCode, Unread> {
    let whom = Address::parse(address.as_bytes(), true).map_err(|_| Unread::Address(address.to_owned()))?;
    let ledger = open(&context.read_config()?).await?;
    let erased = ledger.erase(&whom.to_string()).await;
    ledger.close().await;
    let erased = erased?;
    if context.json {
        println!("{}", json!({ "rows": erased.rows, "notices": erased.ended, "unsent": erased.unsent }));
    } else {
        println!("{} journal rows and {} ended notices held it, and hold it no more", erased.rows, erased.ended);
        if erased.unsent > 0 {
            println!("{} notices still to be sent hold it until they are: erase it again then", erased.unsent);
        }
    }
    let nowhere = (erased.rows, erased.ended, erased.unsent) == (0, 0, 0);
    Ok(if nowhere { exit::no() } else { exit::YES })
}
