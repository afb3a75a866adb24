//! `addrauth journal`: look up what became of messages, and take an address out.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use humantime_serde::re::humantime::{parse_duration, parse_rfc3339_weak};
use serde_json::json;

use super::{Context, database, exit, fail, ledger};
use addrauth::case::stamp;
use addrauth::config::{self, Config, Limits};
use addrauth::custody;
use addrauth::proto::address::Address;
use addrauth::proto::text::shown;
use addrauth::store::{self, Erased, JournalRow, Ledger};
use addrauth::why;

mod list;
mod summary;

/// Look up what became of messages
///
/// The journal of `addrauth filter` has a row for each message that it judged, whatever was decided. Run this as the user
/// that the filter runs as, or as root; the filter may be running.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// List rows, the newest first: what was found, what the mail server was told, and what each policy decided
    ///
    /// Exit code: 0 there are some, 1 there are none, 2 it could not be told.
    List(list::Wanted),
    /// Count the messages: how many of each result were decided how, and whose domains had no valid key
    ///
    /// Where `observe = true` was in force a decision was made and not carried out: it counts as observed. So this tells what
    /// would happen if that setting went.
    ///
    /// Exit code: 0 there are some, 1 there are none, 2 it could not be told.
    Summary {
        /// Only of this time: 7d, 12h, or from a day on: 2026-11-20 (UTC)
        #[arg(long, value_name = "AGE|DAY", value_parser = since)]
        since: Option<SystemTime>,
    },
    /// Show one row as it was written: `addrauth why` explains it
    ///
    /// Exit code: 0 shown, 1 there is no such row, 2 it could not be told.
    Show {
        /// The number of a row, or the mail server's queue id
        #[arg(value_name = "ID|QUEUE-ID")]
        id: String,
    },
    /// Take an address out of all rows, and out of notices that were sent or given up; forget it as a known sender
    ///
    /// erased@erased.invalid takes its place, whether it stands there as sender, recipient, in a fact that a policy saw or in
    /// a note; a +tag and letter case do not matter. The rows stay, and so does all else in them; no later note brings an
    /// address back into such a row. That the address was valid here, which a policy may want to know, is forgotten too, until it
    /// is valid again; where the running filter saw it valid today, until another day. What the user chose, and messages in quarantine, stay: it says what holds the address still.
    ///
    /// Exit code: 0 done, or it stands elsewhere still; 1 it was nowhere, 2 it could not be done.
    Erase {
        /// The address, such as bob@example.com
        address: String,
    },
}

/// Why the journal cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unread {
    #[error(transparent)]
    Config(#[from] config::Error),
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error(transparent)]
    Custody(#[from] custody::Error),
    #[error(
        "there is no journal {0}: no filter ran with this state_dir yet; name its configuration with --config FILE"
    )]
    None(PathBuf),
    #[error(
        "the journal has no row {0:?}: `addrauth journal list` shows which there are. The message may be too old \
         (custody.journal_kept), only have passed through, or have been treated by another server"
    )]
    NoRow(String),
    #[error(transparent)]
    Why(#[from] why::Error),
    #[error("{0:?} is no address: write bob@example.com")]
    Address(String),
    #[error(
        "{0:?} is neither the number of a row, such as 17, nor a queue id, such as 4XyZ1bQ7: `addrauth journal list` shows \
         both"
    )]
    Id(String),
}

/// Runs the verb.
pub(crate) async fn run(args: Args, context: &Context) -> ExitCode {
    let done = match args.verb {
        Verb::List(wanted) => list::list(&wanted, context).await,
        Verb::Summary { since } => summary::summary(since, context).await,
        Verb::Show { id } => show(&id, context).await,
        Verb::Erase { address } => erase(&address, context).await,
    };
    match done {
        Ok(code) => code,
        Err(none @ Unread::NoRow(_)) => {
            exit::complain(none);
            exit::no()
        }
        Err(error) => fail(error),
    }
}

/// A time as `--since` takes it: an age before now, or the beginning of a day in UTC.
pub(crate) fn since(text: &str) -> Result<SystemTime, String> {
    let day = || parse_rfc3339_weak(&format!("{text} 00:00:00")).or_else(|_| parse_rfc3339_weak(text));
    match parse_duration(text) {
        Ok(age) => Ok(before_now(age)),
        Err(_) => day().map_err(|_| "write an age (--since 2d, 12h, 30min) or a day (--since 2026-11-20)".into()),
    }
}

/// So long ago; what is older than all calendars is everything.
fn before_now(age: Duration) -> SystemTime {
    SystemTime::now().checked_sub(age).unwrap_or(UNIX_EPOCH)
}

/// Opens the journal of this configuration, where there is one: looking must not make files of another user's.
pub(crate) async fn open(config: &Config) -> Result<Ledger, Unread> {
    ledger(config).await?.ok_or_else(|| Unread::None(database(config)))
}

/// The rows of a queue id, or the one of this number.
pub(crate) async fn rows(ledger: &Ledger, id: &str) -> Result<Vec<JournalRow>, Unread> {
    let odd = |c: char| c == '@' || c.is_whitespace() || c.is_control();
    if id.is_empty() || id.contains(odd) {
        return Err(Unread::Id(id.to_owned()));
    }
    // The row of a message that was answered just now may still wait for others.
    let (begin, patience) = (Instant::now(), Limits::default().custody.journal_batch.saturating_mul(2));
    loop {
        let mut rows = ledger.journal_of(id).await?;
        if let (true, Ok(number)) = (rows.is_empty(), id.parse()) {
            rows.extend(ledger.journal_row(number).await?);
        }
        if !rows.is_empty() {
            return Ok(rows);
        }
        if begin.elapsed() >= patience {
            return Err(Unread::NoRow(id.to_owned()));
        }
        tokio::time::sleep(patience / 20).await;
    }
}

fn as_json(row: &JournalRow) -> serde_json::Value {
    let entry = &row.entry;
    let case: serde_json::Value = serde_json::from_str(&entry.json).unwrap_or_default();
    json!({ "id": row.id, "at": stamp(row.at), "queue_id": entry.queue_id, "sender": entry.sender, "result": entry.result.word(),
        "verdict": entry.verdict.word(), "note": entry.note, "case": case })
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
    let config = context.read_config()?;
    let ledger = open(&config).await?;
    // Before anything is erased: without the secret it cannot be told whether the address is known.
    let sender = custody::read_mark(&config.state_dir.0)?.map(|mark| mark.pseudonym(&whom.mailbox()));
    let erasing = async {
        let forgotten = match sender {
            Some(sender) => ledger.forget(sender).await?,
            None => false,
        };
        Ok::<_, store::Error>((forgotten, ledger.erase(&whom.mailbox()).await?))
    };
    let erased = erasing.await;
    ledger.close().await;
    let (forgotten, erased) = erased?;
    match context.json {
        true => {
            let remains = erased.still_named;
            let remains = json!({ "choices": remains.choices, "allowed": remains.allowed, "listed": remains.listed,
                "quarantined": remains.quarantined });
            println!(
                "{}",
                json!({ "rows": erased.rows, "notices": erased.ended, "unsent": erased.unsent, "forgotten": forgotten,
                    "remains": remains })
            );
        }
        false => {
            erased_words(&whom.to_string(), forgotten, &erased).iter().for_each(|line| println!("{}", shown(line)))
        }
    }
    Ok(if erased == Erased::default() && !forgotten { exit::no() } else { exit::YES })
}

/// What was done, and what holds the address still: a line each.
fn erased_words(whom: &str, forgotten: bool, erased: &Erased) -> Vec<String> {
    let Erased { rows, ended, unsent, still_named } = *erased;
    let mut lines = vec![format!("{rows} journal rows and {ended} ended notices held it, and hold it no more")];
    if forgotten {
        lines.push(
            "it was a known sender, and is none any more: when its mail last had a right key is forgotten".into(),
        );
    }
    let mut still = |count: u64, words: String| {
        if count > 0 {
            lines.push(words);
        }
    };
    still(unsent, format!("{unsent} notices still to be sent hold it until they are: erase it again then"));
    still(
        still_named.choices,
        format!("{} choices of this user stay: `addrauth user clear {whom}` takes them back", still_named.choices),
    );
    still(
        still_named.allowed,
        format!(
            "{} senders are on this user's own list and stay: `addrauth user show {whom}` names them, `addrauth user \
             disallow {whom} SENDER` takes one off",
            still_named.allowed
        ),
    );
    still(
        still_named.listed,
        format!("{} other users have it on their lists of wanted senders, and keep it", still_named.listed),
    );
    still(
        still_named.quarantined,
        format!(
            "{} messages in quarantine are for it or from it: `addrauth quarantine list` shows them, `addrauth quarantine \
             delete NUMBER` deletes one; then erase it again",
            still_named.quarantined
        ),
    );
    lines
}
