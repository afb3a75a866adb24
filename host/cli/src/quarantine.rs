//! `addrauth quarantine`: list, show, release and delete the messages that were kept back.

use std::io::Write as _;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use humantime_serde::re::humantime::parse_duration;
use serde_json::{Value, json};

use super::{Context, database, exit, ledger, output};

use addrauth::config::{self, Config, Limits};
use addrauth::proto::address::Address;
use addrauth::proto::preview::{halves, line, plain, printable};
use addrauth::proto::whom::Whom;
use addrauth::store::{self, Ledger, OutboxRow, Released, Sending, Sought};

mod text;

use text::{kib, messages, row, write_row};

/// Between two looks for what became of a release.
const LOOK: Duration = Duration::from_millis(200);
/// Lines of the body that `show` prints.
const LINES: usize = 20;

/// List, show, release and delete the messages that were kept back
///
/// Works on `filter.db` in `state_dir`, whether or not `addrauth filter` is running; what is released, the running filter
/// sends. Run it as the user that the filter runs as.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// List the messages that wait for a word about them, and those that were released and are not delivered yet; newest first
    ///
    /// Exit code: 0 there are some, 1 there are none, 2 it could not be told.
    List {
        /// Only those for this recipient; a +tag and letter case do not matter
        #[arg(long, value_name = "ADDRESS", value_parser = address)]
        recipient: Option<String>,
        /// Only those whose From field has this address; @example.com for a whole domain
        #[arg(long, value_name = "ADDRESS", value_parser = sender)]
        sender: Option<Whom>,
        /// Only those of this time: 2d, 12h, 30min
        #[arg(long, value_name = "AGE", value_parser = parse_duration)]
        since: Option<Duration>,
    },
    /// Show a message: for whom and why it is kept, its header and its first lines, all of it printable
    ///
    /// Exit code: 0 shown, 1 there is no such message, 2 it could not be told.
    Show {
        /// Its number, as `addrauth quarantine list` tells it, or the mail server's queue id
        #[arg(value_name = "ID|QUEUE-ID")]
        id: String,
        /// The whole message as it is kept, octet by octet, and nothing else
        #[arg(long)]
        raw: bool,
    },
    /// Deliver messages to those who wait for them, or to one of them
    ///
    /// The running filter hands them to the server of `notices.notify_via`, from their own senders, under our mark, so that they
    /// are not examined again. What that server refuses is kept again. This waits a while for the outcome.
    ///
    /// Exit code: 0 all delivered to the mail server, 1 one refused by it or no such message, 2 still waiting, or it could not
    /// be done.
    Release {
        /// Numbers or queue ids
        #[arg(required = true, value_name = "ID|QUEUE-ID")]
        ids: Vec<String>,
        /// Only for this recipient
        #[arg(long = "for", value_name = "ADDRESS", value_parser = address)]
        recipient: Option<String>,
        /// From now on accept what their senders write to them
        #[arg(long)]
        allow: bool,
    },
    /// Delete messages for all who wait for them, or for one of them; what was released and is not delivered yet is taken back
    ///
    /// Exit code: 0 all deleted, 1 there is no such message, 2 it could not be done.
    Delete {
        /// Numbers or queue ids
        #[arg(required = true, value_name = "ID|QUEUE-ID")]
        ids: Vec<String>,
        /// Only for this recipient
        #[arg(long = "for", value_name = "ADDRESS", value_parser = address)]
        recipient: Option<String>,
    },
}

/// A recipient as he may be kept: an address, or the postmaster, who needs no domain (RFC 5321 §4.5.1).
fn address(text: &str) -> Result<String, String> {
    let good = text.eq_ignore_ascii_case("postmaster") || Address::parse(text.as_bytes(), true).is_ok();
    good.then(|| text.to_owned()).ok_or_else(|| "it is no address: write one such as bob@example.com".into())
}

fn sender(text: &str) -> Result<Whom, String> {
    Whom::parse(text).ok_or_else(|| "it is no address: write alice@example.com, or @example.com".into())
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
    #[error("there is no message {0:?} in quarantine; `addrauth quarantine list` shows them")]
    NoName(String),
    #[error("several messages have the queue id {name:?}: {ids}; name one by its number")]
    Several { name: String, ids: String },
    #[error("cannot write to standard output: {0}")]
    Output(#[from] std::io::Error),
}

/// Runs the verb.
pub(crate) async fn run(args: Args, context: &Context) -> ExitCode {
    let limits = Limits::default();
    let done = async {
        let config = context.read_config()?;
        let ledger = open(&config).await?;
        let done = carry_out(&ledger, args.verb, &config, &limits, context.json).await;
        ledger.close().await;
        done
    };
    done.await.unwrap_or_else(|error: Error| failed(&error))
}

async fn carry_out(
    ledger: &Ledger,
    verb: Verb,
    config: &Config,
    limits: &Limits,
    json: bool,
) -> Result<ExitCode, Error> {
    match verb {
        Verb::List { recipient, sender, since } => {
            let since = since.and_then(|age| SystemTime::now().checked_sub(age));
            let sought = Sought { recipient, since, under_way: true };
            list(
                ledger,
                &sought,
                sender.as_ref(),
                (config.custody.quarantine_mib, limits.custody.quarantine_listed),
                json,
            )
            .await
        }
        Verb::Show { id, raw } => show(ledger, number(ledger, &id).await?, raw, json).await,
        Verb::Release { ids, recipient, allow } => {
            let allow = allow.then_some(limits.custody.allowed_per_user);
            release(ledger, &ids, (recipient.as_deref(), allow), limits, json).await
        }
        Verb::Delete { ids, recipient } => {
            let mut codes = Codes::default();
            for id in &ids {
                codes.count(delete(ledger, id, recipient.as_deref(), json).await);
            }
            Ok(codes.worst())
        }
    }
}

/// What became of several messages: one that failed does not keep the others.
#[derive(Default)]
struct Codes {
    no: bool,
    unknown: bool,
}

impl Codes {
    fn count(&mut self, done: Result<(), Error>) {
        if let Err(error) = done {
            failed(&error);
            self.no |= error.is_no();
            self.unknown |= !error.is_no();
        }
    }

    fn worst(&self) -> ExitCode {
        match (self.no, self.unknown) {
            (_, true) => exit::unknown(),
            (true, false) => exit::no(),
            (false, false) => exit::YES,
        }
    }
}

impl Error {
    /// Whether it is an answer, and no failure to answer.
    fn is_no(&self) -> bool {
        use store::Error::{AlreadyEnded, NoMessage, NoSender, NoSuchRecipient};
        let Error::Store(error) = self else { return matches!(self, Error::NoName(_)) };
        matches!(error, NoMessage { .. } | NoSuchRecipient { .. } | AlreadyEnded { .. } | NoSender { .. })
    }
}

fn failed(error: &Error) -> ExitCode {
    exit::complain(error);
    if error.is_no() { exit::no() } else { exit::unknown() }
}

/// The number of a message that is named by it, or by its queue id.
async fn number(ledger: &Ledger, name: &str) -> Result<i64, Error> {
    let number = name.parse().ok();
    if let Some(id) = number
        && ledger.held_message(id).await?.is_some()
    {
        return Ok(id);
    }
    match (ledger.held_as(name).await?.as_slice(), number) {
        (&[id], _) => Ok(id),
        ([], Some(id)) => Err(store::Error::NoMessage { id }.into()),
        ([], None) => Err(Error::NoName(name.to_owned())),
        (ids, _) => {
            let ids = ids.iter().map(i64::to_string).collect::<Vec<_>>().join(", ");
            Err(Error::Several { name: name.to_owned(), ids })
        }
    }
}

/// The filter's database. It is not made here: it would belong to whoever looked first.
async fn open(config: &Config) -> Result<Ledger, Error> {
    ledger(config).await?.ok_or_else(|| Error::NoLedger(database(config)))
}

async fn list(
    ledger: &Ledger,
    sought: &Sought,
    sender: Option<&Whom>,
    (mib, most): (u64, u32),
    json: bool,
) -> Result<ExitCode, Error> {
    let mut all = ledger.sought(sought, most).await?;
    if let Some(sender) = sender {
        all.retain(|held| held.sender.as_deref().is_some_and(|from| sender.includes(from)));
    }
    let (count, octets) = ledger.kept().await?;
    let mut out = output::out();
    if json {
        for held in &all {
            writeln!(out, "{}", row(held))?;
        }
    } else if all.is_empty() {
        let fits = if count > 0 { " that fits" } else { "" };
        writeln!(output::err(), "no message{fits} is kept back")?;
    } else {
        for held in &all {
            write_row(&mut out, held)?;
        }
        let shown = all.len() as u64;
        let of = if shown < count { format!("{shown} of ") } else { String::new() };
        writeln!(out, "{of}{}, {} KiB of {mib} MiB", messages(count), kib(octets))?;
    }
    Ok(if all.is_empty() { exit::no() } else { exit::YES })
}

async fn show(ledger: &Ledger, id: i64, raw: bool, json: bool) -> Result<ExitCode, Error> {
    let (held, message) = ledger.held_message(id).await?.ok_or(store::Error::NoMessage { id })?;
    if raw {
        let mut out = output::raw();
        out.write_all(&message)?;
        out.flush()?;
        return Ok(exit::YES);
    }
    let mut out = output::out();
    let (header, body) = halves(&message);
    // In JSON the text is as it came: what may not be printed is spelt there by JSON's own escapes.
    let one = if json { line } else { printable };
    let lines = |octets: &[u8], most: usize| {
        octets.split_inclusive(|&o| o == b'\n').take(most).map(one).collect::<Vec<String>>()
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
    names: &[String],
    (recipient, allow): (Option<&str>, Option<u32>),
    limits: &Limits,
    json: bool,
) -> Result<ExitCode, Error> {
    let (mut codes, mut all) = (Codes::default(), Vec::new());
    for name in names {
        let released = async {
            let id = number(ledger, name).await?;
            all.push((id, ledger.release(id, recipient, allow, SystemTime::now()).await?));
            Ok(())
        };
        codes.count(released.await);
    }
    let end = tokio::time::Instant::now() + limits.custody.release_wait;
    for (id, released) in &all {
        let mut progress = ledger.progress(&released.rows).await?;
        while progress.iter().any(|row| row.outcome.is_none()) && tokio::time::Instant::now() < end {
            tokio::time::sleep(LOOK).await;
            progress = ledger.progress(&released.rows).await?;
        }
        codes.no |= progress.iter().any(|row| matches!(row.outcome, Some(Sending::GivenUp(_))));
        codes.unknown |= progress.iter().any(|row| row.outcome.is_none());
        tell(*id, released, &progress, (allow.is_some(), names.len() > 1), json)?;
    }
    // A refusal is an answer: it goes before what still waits.
    Ok(if codes.no { exit::no() } else { codes.worst() })
}

/// What became of a release for one recipient.
fn state(row: &OutboxRow) -> &'static str {
    match &row.outcome {
        Some(Sending::Sent) => "delivered",
        Some(Sending::Deleted) => "deleted",
        Some(Sending::GivenUp(_)) => "refused",
        None => "waiting",
    }
}

fn tell(
    id: i64,
    released: &Released,
    progress: &[OutboxRow],
    (allow, numbered): (bool, bool),
    json: bool,
) -> Result<(), Error> {
    let mut out = output::out();
    if json {
        let rows = progress.iter().map(|row| {
            let state = state(row);
            let why = match &row.outcome {
                Some(Sending::GivenUp(why)) => Some(why),
                _ => row.note.as_ref(),
            };
            json!({ "recipient": row.recipient, "state": state, "reason": why })
        });
        let rows: Vec<Value> = rows.collect();
        let helps = released.allowed.then(|| !released.reason.is_wrong());
        writeln!(
            out,
            "{}",
            json!({ "id": id, "recipients": rows, "allowed": released.allowed, "allowing_helps": helps })
        )?;
        return Ok(());
    }
    let number = if numbered { format!("{id}: ") } else { String::new() };
    for row in progress {
        let state = state(row);
        let more = match (&row.outcome, &row.note) {
            (Some(Sending::GivenUp(why)), _) => format!(", it is kept again: {}", plain(why)),
            (None, Some(why)) => format!(": not taken yet, it is tried again: {}", plain(why)),
            (None, None) => ": `addrauth filter` sends it while it runs".into(),
            (Some(_), _) => String::new(),
        };
        writeln!(out, "{number}{}: {state}{more}", plain(&row.recipient))?;
    }
    if allow && !released.allowed {
        writeln!(out, "{number}the sender is not on every list of wanted senders: one of them is full")?;
    } else if let (true, Some(sender)) = (released.allowed, &released.sender) {
        for row in progress {
            // No list of wanted senders helps against what the sender's own domain denies.
            let useless = if released.reason.is_wrong() {
                "; that does not help while the sender's domain says that the key is wrong"
            } else {
                ""
            };
            writeln!(out, "{number}{} is on {}'s list now{useless}", plain(sender), plain(&row.recipient))?;
        }
    }
    Ok(())
}

async fn delete(ledger: &Ledger, name: &str, recipient: Option<&str>, json: bool) -> Result<(), Error> {
    let id = number(ledger, name).await?;
    let deleted = ledger.delete_held(id, recipient, SystemTime::now()).await?;
    let mut out = output::out();
    if json {
        writeln!(out, "{}", json!({ "id": id, "deleted": deleted }))?;
    } else {
        writeln!(out, "{id}: deleted for {}", plain(&deleted.join(", ")))?;
    }
    Ok(())
}
