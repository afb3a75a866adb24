//! The rows of messages that are kept, and the single steps of transactions over them.

use std::time::{Duration, SystemTime};

use rusqlite::{Connection, Row, params};

use super::journal::{Entry, NewRow, annotate, insert};
use super::ledger::capped_as;
use super::sqlite::{Fault, Statements as _};
use super::words::{Ending, Kind, RowResult, RowVerdict, Sending};
use super::{Error, Reason, seconds, time};

/// How long a message is kept at least once the MTA refused it: somebody is to see why.
const AGAIN: Duration = Duration::from_secs(7 * 86_400);

/// A message to be kept.
#[derive(Clone, Debug)]
pub struct Kept {
    /// The MTA's name for it.
    pub queue_id: Option<String>,
    /// The address of its From field.
    pub sender: Option<String>,
    /// The reverse-path of its envelope; empty: none.
    pub reverse_path: String,
    /// For whom it is kept.
    pub recipients: Vec<String>,
    /// Its subject, printable ASCII.
    pub subject: String,
    /// Why it is kept.
    pub reason: Reason,
    /// The message, CRLF line endings in its header; never a key.
    pub message: Vec<u8>,
    /// Until when.
    pub expires: SystemTime,
    /// Whether it is a marked copy, which goes to its recipients at once.
    pub copy: bool,
}

/// A message that is kept, without its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Its number.
    pub id: i64,
    /// Its row in the journal, where that is kept still.
    pub journal: Option<i64>,
    /// When it came.
    pub at: SystemTime,
    /// Until when it is kept.
    pub expires: SystemTime,
    /// The MTA's name for it.
    pub queue_id: Option<String>,
    /// The address of its From field.
    pub sender: Option<String>,
    /// The reverse-path of its envelope; empty: none.
    pub reverse_path: String,
    /// Its subject, printable ASCII.
    pub subject: String,
    /// Why it is kept.
    pub reason: Reason,
    /// Its octets.
    pub size: u64,
    /// For whom, by address.
    pub recipients: Vec<HeldFor>,
}

/// Somebody for whom a message was kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldFor {
    /// His address.
    pub recipient: String,
    /// What became of it; absent while it waits for a word about it.
    pub outcome: Option<Ending>,
    /// Why the MTA did not take it when it was released.
    pub note: Option<String>,
    /// How far the message has come to him, while it is still to be sent.
    pub under_way: Option<UnderWay>,
}

/// A message that was let go and is not sent yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnderWay {
    /// How many tries there were.
    pub tries: u32,
    /// When the next one is.
    pub next_try: SystemTime,
    /// Why the last one did not succeed.
    pub last: Option<String>,
}

/// Whether these messages find room among those that are kept.
pub(super) fn has_room(work: &Connection, kept: &[Kept], most: u64) -> Result<bool, Fault> {
    if kept.is_empty() {
        return Ok(true);
    }
    let now: i64 = work.one("SELECT coalesce(sum(size), 0) FROM quarantine", ())?;
    let more = kept.iter().map(|message| message.message.len() as u64).fold(0, u64::saturating_add);
    Ok(u64::try_from(now).unwrap_or_default().saturating_add(more) <= most)
}

/// Keeps a message, and hands on at once what is a copy; returns its number.
pub(super) fn keep(work: &Connection, journal: i64, kept: &Kept, now: SystemTime) -> Result<i64, Fault> {
    let Kept { queue_id, sender, reverse_path, subject, message, .. } = kept;
    let size = i64::try_from(message.len()).unwrap_or(i64::MAX);
    let (expires, reason) = (seconds(kept.expires), kept.reason.as_str());
    let id: i64 = work.one(
        "INSERT INTO quarantine (journal, at, expires, queue_id, sender, reverse_path, subject, reason, size, message)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING id",
        params![journal, seconds(now), expires, queue_id, sender, reverse_path, subject, reason, size, message],
    )?;
    for recipient in &kept.recipients {
        // One who was named twice is one.
        let fresh = work.run(
            "INSERT OR IGNORE INTO held (quarantine, recipient, folded) VALUES (?, ?, ?)",
            params![id, recipient, capped_as(recipient)],
        )?;
        if kept.copy && fresh > 0 {
            outcome(work, id, recipient, Ending::Copied, now)?;
            hand_on(work, (journal, id, Kind::Copy), reverse_path, recipient, now)?;
        }
    }
    if !kept.copy {
        annotate(work, journal, &format!("kept in quarantine as {id}"))?;
    }
    Ok(id)
}

/// What follows from the end of a message's way to one recipient.
pub(super) fn ended(
    work: &Connection,
    (journal, id, kind): (i64, i64, Kind),
    recipient: &str,
    given_up: Option<&str>,
    now: SystemTime,
) -> Result<(), Fault> {
    let Some(why) = given_up else { return tidy(work, id) };
    work.run(
        "UPDATE held SET outcome = NULL, ended = NULL, note = ? WHERE quarantine = ? AND recipient = ?",
        params![why, id, recipient],
    )?;
    work.run("UPDATE quarantine SET expires = max(expires, ?) WHERE id = ?", params![seconds(now + AGAIN), id])?;
    let words = format!("{} to {recipient} not taken, kept in quarantine as {id}: {why}", kind.word());
    annotate(work, journal, &words)
}

/// A recipient, his mailbox, and what became of the message for him.
type Named = (String, String, Option<String>);

/// The rows of one recipient, or of all.
fn named(work: &Connection, id: i64, recipient: Option<&str>) -> Result<Vec<Named>, Fault> {
    let mut rows: Vec<Named> =
        work.all("SELECT recipient, folded, outcome FROM held WHERE quarantine = ? ORDER BY recipient", [id], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })?;
    if let Some(named) = recipient {
        // The very spelling counts before other spellings of the same mailbox.
        let exact = rows.iter().any(|(recipient, ..)| recipient.eq_ignore_ascii_case(named));
        let same = |row: &Named| match exact {
            true => row.0.eq_ignore_ascii_case(named),
            false => row.1 == capped_as(named),
        };
        rows.retain(same);
    }
    Ok(rows)
}

/// Who of those named waits for the message.
///
/// # Errors
/// Why nobody does.
pub(super) fn waiting(work: &Connection, id: i64, recipient: Option<&str>) -> Result<Vec<String>, Fault> {
    let rows = named(work, id, recipient)?;
    let waiting: Vec<String> =
        rows.iter().filter(|(.., outcome)| outcome.is_none()).map(|(recipient, ..)| recipient.clone()).collect();
    match (rows.into_iter().next(), recipient) {
        (None, Some(recipient)) if !named(work, id, None)?.is_empty() => {
            Err(Error::NoSuchRecipient { id, recipient: recipient.to_owned() }.into())
        }
        (None, _) => Err(Error::NoMessage { id }.into()),
        (Some((.., Some(outcome))), _) if waiting.is_empty() => {
            Err(Error::AlreadyEnded { id, outcome: Ending::of_word(&outcome)? }.into())
        }
        (Some(_), _) => Ok(waiting),
    }
}

pub(super) fn outcome(
    work: &Connection,
    id: i64,
    recipient: &str,
    outcome: Ending,
    now: SystemTime,
) -> Result<(), Fault> {
    work.run(
        "UPDATE held SET outcome = ?, ended = ?, note = NULL WHERE quarantine = ? AND recipient = ?",
        params![outcome.word(), seconds(now), id, recipient],
    )?;
    Ok(())
}

/// Puts a kept message into the outbox for one recipient. It counts for no cap of the notices, so `capped_as` is empty.
pub(super) fn hand_on(
    work: &Connection,
    (journal, id, kind): (i64, i64, Kind),
    reverse_path: &str,
    recipient: &str,
    now: SystemTime,
) -> Result<i64, Fault> {
    work.one(
        "INSERT INTO outbox
             (journal, quarantine, kind, reverse_path, recipient, created, next_try, capped_as, sender, message_id, message)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6, '', '', ?3 || '-' || ?2 || '-' || lower(hex(randomblob(9))), x'')
         RETURNING id",
        params![journal, id, kind.word(), reverse_path, recipient, seconds(now)],
    )
}

/// Whether the sender is on the recipient's list now.
pub(super) fn allowed(
    work: &Connection,
    recipient: &str,
    sender: &str,
    most: u32,
    now: SystemTime,
) -> Result<bool, Fault> {
    let address = capped_as(recipient);
    work.run(
        "INSERT OR IGNORE INTO allowed (address, sender, at)
         SELECT ?1, ?2, ?3 WHERE (SELECT count(*) FROM allowed WHERE address = ?1) < ?4",
        params![address, sender, seconds(now), most],
    )?;
    work.one("SELECT EXISTS (SELECT 1 FROM allowed WHERE address = ? AND sender = ?)", [address.as_str(), sender])
}

/// The message's row in the journal; a new one where the journal is not kept as long as the message.
pub(super) fn journal_of(work: &Connection, id: i64, now: SystemTime) -> Result<i64, Fault> {
    let row = work.first("SELECT journal, queue_id, sender FROM quarantine WHERE id = ?", [id], |row| {
        Ok((row.get::<_, Option<i64>>(0)?, row.get(1)?, row.get(2)?))
    })?;
    let (journal, queue_id, sender) = row.ok_or(Error::NoMessage { id })?;
    if let Some(journal) = journal {
        return Ok(journal);
    }
    let (result, verdict) = (RowResult::Quarantined, RowVerdict::Discard);
    let json = "{\"version\":1}".to_owned();
    let entry = Entry { queue_id, sender, result, verdict, json, note: String::new() };
    let journal = insert(work, &NewRow::again(entry, now))?;
    work.run("UPDATE quarantine SET journal = ? WHERE id = ?", [journal, id])?;
    Ok(journal)
}

/// Deletes a message that nobody waits for and that is on its way to nobody.
pub(super) fn tidy(work: &Connection, id: i64) -> Result<(), Fault> {
    work.run(
        "DELETE FROM quarantine WHERE id = ?1
         AND NOT EXISTS (SELECT 1 FROM held WHERE quarantine = ?1 AND outcome IS NULL)
         AND NOT EXISTS (SELECT 1 FROM outbox WHERE quarantine = ?1 AND ended IS NULL)",
        [id],
    )?;
    Ok(())
}

/// Takes back what is on its way to one recipient, or to all, and not sent yet: they wait for a word again.
pub(super) fn back(work: &Connection, id: i64, recipient: Option<&str>, now: SystemTime) -> Result<(), Fault> {
    for (recipient, ..) in named(work, id, recipient)? {
        let ended = work.run(
            "UPDATE outbox SET ended = ?, outcome = ?, note = NULL, quarantine = NULL
             WHERE quarantine = ? AND recipient = ? AND ended IS NULL",
            params![seconds(now), Sending::Deleted.words(), id, recipient],
        )?;
        if ended > 0 {
            work.run(
                "UPDATE held SET outcome = NULL, ended = NULL WHERE quarantine = ? AND recipient = ?",
                params![id, recipient],
            )?;
        }
    }
    Ok(())
}

/// How far a message has come to its recipient, where it is still to be sent.
fn under_way(row: &Row<'_>) -> Result<Option<UnderWay>, Fault> {
    let (tries, next): (Option<u32>, Option<i64>) = (row.get("tries")?, row.get("next_try")?);
    let last = row.get("last")?;
    Ok(tries.zip(next).map(|(tries, next)| UnderWay { tries, next_try: time(next), last }))
}

/// One row of message and recipient, as a message for him alone.
pub(super) fn read_held(row: &Row<'_>) -> Result<Held, Fault> {
    let recipient = HeldFor {
        recipient: row.get("recipient")?,
        outcome: row.get::<_, Option<String>>("outcome")?.map(|word| Ending::of_word(&word)).transpose()?,
        note: row.get("note")?,
        under_way: under_way(row)?,
    };
    Ok(Held {
        id: row.get("id")?,
        journal: row.get("journal")?,
        at: time(row.get("at")?),
        expires: time(row.get("expires")?),
        queue_id: row.get("queue_id")?,
        sender: row.get("sender")?,
        reverse_path: row.get("reverse_path")?,
        subject: row.get("subject")?,
        reason: Reason::written(row.get("reason")?),
        size: row.get::<_, i64>("size")?.unsigned_abs(),
        recipients: vec![recipient],
    })
}

/// Rows of one message, one after the other, as one.
pub(super) fn grouped(rows: Vec<Held>) -> Vec<Held> {
    let mut all: Vec<Held> = Vec::new();
    for row in rows {
        match all.last_mut() {
            Some(held) if held.id == row.id => held.recipients.extend(row.recipients),
            _ => all.push(row),
        }
    }
    all
}
