//! `addrauth quarantine`: list, show, release and delete the messages that were kept back.

use std::io::Write as _;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use humantime_serde::re::humantime::format_rfc3339_seconds;
use serde_json::{Value, json};

use super::{Context, database, exit, ledger};
use crate::config::{self, Config, Limits};
use crate::store::{self, Held, Ledger};

/// Between two looks for what became of a release.
const LOOK: Duration = Duration::from_millis(200);
/// Lines of the body that `show` prints.
const LINES: usize = 20;
/// Octets of a line that it prints: the longest one that SMTP knows (RFC 5321 §4.5.3.1.6).
const WIDTH: usize = 1_000;

/// List, show, release and delete the messages that were kept back
///
/// Works on `filter.db` in `state_dir`, whether or not `addrauth filter` is running; what is released, the running filter
/// sends. Run it as the user that the filter runs as.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// List the messages that wait for a word about them, newest first
    ///
    /// Exit code: 0 there are some, 1 there are none, 2 it could not be told.
    List {
        /// Only those for this recipient; a +tag and letter case do not matter
        #[arg(long, value_name = "ADDRESS")]
        recipient: Option<String>,
    },
    /// Show a message: for whom and why it is kept, its header and its first lines, all of it printable
    ///
    /// Exit code: 0 shown, 1 there is no such message, 2 it could not be told.
    Show {
        /// Its number, as `addrauth quarantine list` tells it
        id: i64,
        /// The whole message as it is kept, octet by octet, and nothing else
        #[arg(long)]
        raw: bool,
    },
    /// Deliver a message to those who wait for it, or to one of them
    ///
    /// The running filter hands it to the server of `notices.notify_via`, from its own sender, under our mark, so that it is
    /// not examined again. If that server refuses it, it is kept again. This waits a while for the outcome.
    ///
    /// Exit code: 0 delivered to the mail server, 1 refused by it or no such message, 2 still waiting, or it could not be
    /// done.
    Release {
        /// Its number
        id: i64,
        /// Only for this recipient
        recipient: Option<String>,
        /// From now on accept what this sender writes to them
        #[arg(long)]
        allow: bool,
    },
    /// Delete a message for all who wait for it, or for one of them
    ///
    /// Exit code: 0 deleted, 1 there is no such message, 2 it could not be done.
    Delete {
        /// Its number
        id: i64,
        /// Only for this recipient
        recipient: Option<String>,
    },
}

/// Why the verb was not carried out.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Config(#[from] config::Error),
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error(
        "there is no {0}: `addrauth filter` makes it when it starts. Has it run, and does --config name its configuration?"
    )]
    NoLedger(std::path::PathBuf),
    #[error("cannot write to standard output: {0}")]
    Output(#[from] std::io::Error),
}

/// Runs the verb.
pub async fn run(args: Args, context: &Context) -> ExitCode {
    let limits = Limits::default();
    let done = async {
        let config = context.read_config()?;
        let ledger = open(&config).await?;
        let done = match args.verb {
            Verb::List { recipient } => list(&ledger, recipient.as_deref(), &limits, context.json).await,
            Verb::Show { id, raw } => show(&ledger, id, raw, context.json).await,
            Verb::Release { id, recipient, allow } => {
                let allow = allow.then_some(limits.allowed_per_user);
                release(&ledger, (id, recipient.as_deref(), allow), &limits, context.json).await
            }
            Verb::Delete { id, recipient } => delete(&ledger, id, recipient.as_deref(), context.json).await,
        };
        ledger.close().await;
        done
    };
    done.await.unwrap_or_else(|error: Error| {
        let code = match &error {
            Error::Store(
                store::Error::NoMessage { .. }
                | store::Error::NoSuchRecipient { .. }
                | store::Error::AlreadyEnded { .. }
                | store::Error::NoSender { .. },
            ) => exit::no(),
            _ => exit::unknown(),
        };
        let _ = writeln!(std::io::stderr(), "addrauth quarantine: {error}");
        code
    })
}

/// The filter's database. It is not made here: it would belong to whoever looked first.
async fn open(config: &Config) -> Result<Ledger, Error> {
    ledger(config).await?.ok_or_else(|| Error::NoLedger(database(config)))
}

async fn list(ledger: &Ledger, recipient: Option<&str>, limits: &Limits, json: bool) -> Result<ExitCode, Error> {
    let all = ledger.held(recipient, limits.quarantine_listed).await?;
    let mut out = std::io::stdout().lock();
    if json {
        writeln!(out, "{}", Value::from(all.iter().map(row).collect::<Vec<_>>()))?;
    } else {
        for held in &all {
            write_row(&mut out, held)?;
        }
    }
    if all.is_empty() && !json {
        writeln!(
            out,
            "no message is kept back{}",
            recipient.map(|r| format!(" for {}", plain(r))).unwrap_or_default()
        )?;
    }
    Ok(if all.is_empty() { exit::no() } else { exit::YES })
}

async fn show(ledger: &Ledger, id: i64, raw: bool, json: bool) -> Result<ExitCode, Error> {
    let (held, message) = ledger.held_message(id).await?.ok_or(store::Error::NoMessage { id })?;
    let mut out = std::io::stdout().lock();
    if raw {
        out.write_all(&message)?;
        out.flush()?;
        return Ok(exit::YES);
    }
    let (header, body) = halves(&message);
    let lines = |octets: &[u8], most: usize| {
        octets.split_inclusive(|&o| o == b'\n').take(most).map(printable).collect::<Vec<String>>()
    };
    let (header, beginning) = (lines(header, usize::MAX), lines(body, LINES));
    if json {
        let mut shown = row(&held);
        if let Value::Object(fields) = &mut shown {
            fields.insert("header".into(), json!(header));
            fields.insert("beginning".into(), json!(beginning));
        }
        writeln!(out, "{shown}")?;
        return Ok(exit::YES);
    }
    write_row(&mut out, &held)?;
    writeln!(out)?;
    for line in header.iter().chain([&String::new()]).chain(&beginning) {
        writeln!(out, "  {line}")?;
    }
    if body.split_inclusive(|&o| o == b'\n').nth(LINES).is_some() {
        writeln!(out, "  […] `addrauth quarantine show {id} --raw` prints all of it")?;
    }
    Ok(exit::YES)
}

async fn release(
    ledger: &Ledger,
    (id, recipient, allow): (i64, Option<&str>, Option<u32>),
    limits: &Limits,
    json: bool,
) -> Result<ExitCode, Error> {
    let released = ledger.release(id, recipient, allow, SystemTime::now()).await?;
    let end = tokio::time::Instant::now() + limits.release_wait;
    let mut progress = ledger.progress(&released.rows).await?;
    while progress.iter().any(|row| row.outcome.is_none()) && tokio::time::Instant::now() < end {
        tokio::time::sleep(LOOK).await;
        progress = ledger.progress(&released.rows).await?;
    }
    let word = |outcome: Option<&str>| match outcome {
        Some("sent") => "delivered",
        Some(_) => "refused",
        None => "waiting",
    };
    let mut out = std::io::stdout().lock();
    if json {
        let rows = progress.iter().map(|row| {
            let state = word(row.outcome.as_deref());
            let why = row.outcome.as_deref().filter(|_| state == "refused");
            json!({ "recipient": row.recipient, "state": state, "reason": why })
        });
        let rows: Vec<Value> = rows.collect();
        writeln!(out, "{}", json!({ "id": id, "recipients": rows, "allowed": released.allowed }))?;
    } else {
        for row in &progress {
            let state = word(row.outcome.as_deref());
            let more = match (state, row.outcome.as_deref(), row.tries) {
                ("refused", Some(why), _) => format!(", it is kept again: {}", plain(why)),
                ("waiting", _, 0) => ": `addrauth filter` sends it while it runs".into(),
                ("waiting", ..) => ": the mail server did not take it yet, it is tried again".into(),
                _ => String::new(),
            };
            writeln!(out, "{}: {state}{more}", plain(&row.recipient))?;
        }
        if allow.is_some() && !released.allowed {
            writeln!(out, "the sender is not on every list of wanted senders: one of them is full")?;
        }
    }
    let any = |state: &str| progress.iter().any(|row| word(row.outcome.as_deref()) == state);
    Ok(match (any("refused"), any("waiting")) {
        (true, _) => exit::no(),
        (false, true) => exit::unknown(),
        (false, false) => exit::YES,
    })
}

async fn delete(ledger: &Ledger, id: i64, recipient: Option<&str>, json: bool) -> Result<ExitCode, Error> {
    let deleted = ledger.delete_held(id, recipient, SystemTime::now()).await?;
    let mut out = std::io::stdout().lock();
    if json {
        writeln!(out, "{}", json!({ "id": id, "deleted": deleted }))?;
    } else {
        writeln!(out, "deleted for {}", plain(&deleted.join(", ")))?;
    }
    Ok(exit::YES)
}

/// A message as JSON, without its text.
fn row(held: &Held) -> Value {
    let recipients: Vec<Value> = held
        .recipients
        .iter()
        .map(|r| json!({ "recipient": r.recipient, "outcome": r.outcome, "note": r.note }))
        .collect();
    json!({
        "id": held.id, "at": text(held.at), "expires": text(held.expires), "queue_id": held.queue_id,
        "from": held.sender, "reverse_path": held.reverse_path, "recipients": recipients, "subject": held.subject,
        "size": held.size, "reason": held.reason,
    })
}

/// A message for people: its number and times, then who, what and why, a line each.
fn write_row(out: &mut impl std::io::Write, held: &Held) -> std::io::Result<()> {
    let path = if held.reverse_path.is_empty() { "<>" } else { &held.reverse_path };
    let from = held.sender.as_deref().unwrap_or("(no usable address)");
    let bounces = if from == path { String::new() } else { format!(" (envelope: {})", plain(path)) };
    writeln!(out, "{}  {}  kept until {}  {} octets", held.id, text(held.at), text(held.expires), held.size)?;
    writeln!(out, "    From: {}{bounces}", plain(from))?;
    for r in &held.recipients {
        let outcome = r.outcome.as_deref().map(|outcome| format!(" ({outcome})")).unwrap_or_default();
        let note = r.note.as_deref().map(|note| format!(" (not taken: {})", plain(note))).unwrap_or_default();
        writeln!(out, "    To: {}{outcome}{note}", plain(&r.recipient))?;
    }
    writeln!(out, "    Subject: {}", plain(&held.subject))?;
    writeln!(out, "    Reason: {}", plain(&held.reason))
}

/// Header and body of a message, without the empty line between them.
fn halves(message: &[u8]) -> (&[u8], &[u8]) {
    let mut at = 0;
    for line in message.split_inclusive(|&o| o == b'\n') {
        if matches!(line, b"\r\n" | b"\n") {
            return (message.get(..at).unwrap_or_default(), message.get(at + line.len()..).unwrap_or_default());
        }
        at += line.len();
    }
    (message, &[])
}

/// A line without its ending, cut where it is over-long, such that no octet of a stranger's moves the cursor: what is no printable text is escaped.
fn printable(line: &[u8]) -> String {
    let line = line.strip_suffix(b"\n").map_or(line, |l| l.strip_suffix(b"\r").unwrap_or(l));
    match line.get(..WIDTH) {
        Some(begin) if line.len() > WIDTH => plain(&String::from_utf8_lossy(begin)) + "[…]",
        _ => plain(&String::from_utf8_lossy(line)),
    }
}

/// Text without control characters and without marks that turn its direction: those are escaped.
fn plain(text: &str) -> String {
    let turns =
        |c| matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
    let one = |c: char| match c {
        '\t' => " ".to_owned(),
        c if c.is_control() || turns(c) => c.escape_unicode().to_string(),
        c => c.to_string(),
    };
    text.chars().map(one).collect()
}

/// A time as RFC 3339; what no calendar reaches, as the last moment of it.
fn text(at: SystemTime) -> String {
    let most = UNIX_EPOCH + Duration::from_secs(253_402_300_799);
    format_rfc3339_seconds(at.clamp(UNIX_EPOCH, most)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_moves_no_cursor() {
        assert_eq!(printable(b"a\x1b[2Jb\r\n"), "a\\u{1b}[2Jb");
        assert_eq!(printable("\u{202e}moc\tü".as_bytes()), "\\u{202e}moc ü");
        assert_eq!(printable(&[b'x'; WIDTH]).len(), WIDTH);
        assert!(printable(&[b'x'; 2 * WIDTH]).ends_with("xx[…]"));
        assert_eq!(printable(b"\xff\r"), "\u{fffd}\\u{d}");
    }

    #[test]
    fn header_and_body_part_at_the_first_empty_line() {
        assert_eq!(halves(b"A: b\r\n\r\nc\r\n\r\nd"), (&b"A: b\r\n"[..], &b"c\r\n\r\nd"[..]));
        assert_eq!(halves(b"A: b\r\n\r\n"), (&b"A: b\r\n"[..], &b""[..]));
        assert_eq!(halves(b"A: b"), (&b"A: b"[..], &b""[..]));
    }
}
