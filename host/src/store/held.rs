//! The rows of messages that are kept, and the single steps of transactions over them.

use std::time::{Duration, SystemTime};

use sqlx::sqlite::{Sqlite, SqliteRow};
use sqlx::{Row, Transaction};

use super::journal::{Entry, annotate, insert};
use super::ledger::capped_as;
use super::words::{Ending, Kind, RowResult, RowVerdict};
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
pub(super) async fn has_room(
    work: &mut Transaction<'_, Sqlite>,
    kept: &[Kept],
    most: u64,
) -> Result<bool, sqlx::Error> {
    if kept.is_empty() {
        return Ok(true);
    }
    let now: i64 = sqlx::query_scalar("SELECT coalesce(sum(size), 0) FROM quarantine").fetch_one(&mut **work).await?;
    let more = kept.iter().map(|message| message.message.len() as u64).fold(0, u64::saturating_add);
    Ok(u64::try_from(now).unwrap_or_default().saturating_add(more) <= most)
}

/// Keeps a message, and hands on at once what is a copy; returns its number.
pub(super) async fn keep(
    work: &mut Transaction<'_, Sqlite>,
    journal: i64,
    kept: &Kept,
    now: SystemTime,
) -> Result<i64, sqlx::Error> {
    let id: i64 = sqlx::query_scalar(
        "INSERT INTO quarantine (journal, at, expires, queue_id, sender, reverse_path, subject, reason, size, message)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING id",
    )
    .bind(journal)
    .bind(seconds(now))
    .bind(seconds(kept.expires))
    .bind(&kept.queue_id)
    .bind(&kept.sender)
    .bind(&kept.reverse_path)
    .bind(&kept.subject)
    .bind(kept.reason.as_str())
    .bind(i64::try_from(kept.message.len()).unwrap_or(i64::MAX))
    .bind(&kept.message)
    .fetch_one(&mut **work)
    .await?;
    for recipient in &kept.recipients {
        // One who was named twice is one.
        let fresh = sqlx::query("INSERT OR IGNORE INTO held (quarantine, recipient, folded) VALUES (?, ?, ?)")
            .bind(id)
            .bind(recipient)
            .bind(capped_as(recipient))
            .execute(&mut **work)
            .await?
            .rows_affected();
        if kept.copy && fresh > 0 {
            outcome(work, id, recipient, Ending::Copied, now).await?;
            hand_on(work, (journal, id, Kind::Copy), &kept.reverse_path, recipient, now).await?;
        }
    }
    if !kept.copy {
        annotate(work, journal, &format!("kept in quarantine as {id}")).await?;
    }
    Ok(id)
}

/// What follows from the end of a message's way to one recipient.
pub(super) async fn ended(
    work: &mut Transaction<'_, Sqlite>,
    (journal, id, kind): (i64, i64, Kind),
    recipient: &str,
    given_up: Option<&str>,
    now: SystemTime,
) -> Result<(), sqlx::Error> {
    let Some(why) = given_up else { return tidy(work, id).await };
    sqlx::query("UPDATE held SET outcome = NULL, ended = NULL, note = ? WHERE quarantine = ? AND recipient = ?")
        .bind(why)
        .bind(id)
        .bind(recipient)
        .execute(&mut **work)
        .await?;
    sqlx::query("UPDATE quarantine SET expires = max(expires, ?) WHERE id = ?")
        .bind(seconds(now + AGAIN))
        .bind(id)
        .execute(&mut **work)
        .await?;
    let words = format!("{} to {recipient} not taken, kept in quarantine as {id}: {why}", kind.word());
    annotate(work, journal, &words).await
}

/// A recipient, his mailbox, and what became of the message for him.
type Named = (String, String, Option<String>);

/// The rows of one recipient, or of all.
async fn named(
    work: &mut Transaction<'_, Sqlite>,
    id: i64,
    recipient: Option<&str>,
) -> Result<Vec<Named>, sqlx::Error> {
    let mut rows: Vec<Named> =
        sqlx::query_as("SELECT recipient, folded, outcome FROM held WHERE quarantine = ? ORDER BY recipient")
            .bind(id)
            .fetch_all(&mut **work)
            .await?;
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

/// Who of those named waits for the message; or why nobody does.
pub(super) async fn waiting(
    work: &mut Transaction<'_, Sqlite>,
    id: i64,
    recipient: Option<&str>,
) -> Result<Result<Vec<String>, Error>, sqlx::Error> {
    let rows = named(work, id, recipient).await?;
    let waiting: Vec<String> =
        rows.iter().filter(|(.., outcome)| outcome.is_none()).map(|(recipient, ..)| recipient.clone()).collect();
    Ok(match (rows.into_iter().next(), recipient) {
        (None, Some(recipient)) if !named(work, id, None).await?.is_empty() => {
            Err(Error::NoSuchRecipient { id, recipient: recipient.to_owned() })
        }
        (None, _) => Err(Error::NoMessage { id }),
        (Some((.., Some(outcome))), _) if waiting.is_empty() => {
            Err(Error::AlreadyEnded { id, outcome: Ending::of_word(&outcome)? })
        }
        (Some(_), _) => Ok(waiting),
    })
}

pub(super) async fn outcome(
    work: &mut Transaction<'_, Sqlite>,
    id: i64,
    recipient: &str,
    outcome: Ending,
    now: SystemTime,
) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE held SET outcome = ?, ended = ?, note = NULL WHERE quarantine = ? AND recipient = ?")
        .bind(outcome.word())
        .bind(seconds(now))
        .bind(id)
        .bind(recipient)
        .execute(&mut **work)
        .await
        .map(|_| ())
}

/// Puts a kept message into the outbox for one recipient. It counts for no cap of the notices, so `capped_as` is empty.
pub(super) async fn hand_on(
    work: &mut Transaction<'_, Sqlite>,
    (journal, id, kind): (i64, i64, Kind),
    reverse_path: &str,
    recipient: &str,
    now: SystemTime,
) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar(
        "INSERT INTO outbox
             (journal, quarantine, kind, reverse_path, recipient, created, next_try, capped_as, sender, message_id, message)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6, '', '', ?3 || '-' || ?2 || '-' || lower(hex(randomblob(9))), x'')
         RETURNING id",
    )
    .bind(journal)
    .bind(id)
    .bind(kind.word())
    .bind(reverse_path)
    .bind(recipient)
    .bind(seconds(now))
    .fetch_one(&mut **work)
    .await
}

/// Whether the sender is on the recipient's list now.
pub(super) async fn allowed(
    work: &mut Transaction<'_, Sqlite>,
    recipient: &str,
    sender: &str,
    most: u32,
    now: SystemTime,
) -> Result<bool, sqlx::Error> {
    let address = capped_as(recipient);
    sqlx::query(
        "INSERT OR IGNORE INTO allowed (address, sender, at)
         SELECT ?1, ?2, ?3 WHERE (SELECT count(*) FROM allowed WHERE address = ?1) < ?4",
    )
    .bind(&address)
    .bind(sender)
    .bind(seconds(now))
    .bind(most)
    .execute(&mut **work)
    .await?;
    let there: i64 = sqlx::query_scalar("SELECT count(*) FROM allowed WHERE address = ? AND sender = ?")
        .bind(address)
        .bind(sender)
        .fetch_one(&mut **work)
        .await?;
    Ok(there > 0)
}

/// The message's row in the journal; a new one where the journal is not kept as long as the message.
pub(super) async fn journal_of(
    work: &mut Transaction<'_, Sqlite>,
    id: i64,
    now: SystemTime,
) -> Result<i64, sqlx::Error> {
    let row: (Option<i64>, Option<String>, Option<String>) =
        sqlx::query_as("SELECT journal, queue_id, sender FROM quarantine WHERE id = ?")
            .bind(id)
            .fetch_one(&mut **work)
            .await?;
    let (Some(journal), ..) = row else {
        let (_, queue_id, sender) = row;
        let (result, verdict) = (RowResult::Quarantined, RowVerdict::Discard);
        let json = "{\"version\":1}".to_owned();
        let entry = Entry { queue_id, sender, result, verdict, json, note: String::new() };
        let journal = insert(work, &entry, now).await?;
        sqlx::query("UPDATE quarantine SET journal = ? WHERE id = ?")
            .bind(journal)
            .bind(id)
            .execute(&mut **work)
            .await?;
        return Ok(journal);
    };
    Ok(journal)
}

/// Deletes a message that nobody waits for and that is on its way to nobody.
pub(super) async fn tidy(work: &mut Transaction<'_, Sqlite>, id: i64) -> Result<(), sqlx::Error> {
    sqlx::query(
        "DELETE FROM quarantine WHERE id = ?1
         AND NOT EXISTS (SELECT 1 FROM held WHERE quarantine = ?1 AND outcome IS NULL)
         AND NOT EXISTS (SELECT 1 FROM outbox WHERE quarantine = ?1 AND ended IS NULL)",
    )
    .bind(id)
    .execute(&mut **work)
    .await
    .map(|_| ())
}

/// Takes back what is on its way to one recipient, or to all, and not sent yet: they wait for a word again.
pub(super) async fn back(
    work: &mut Transaction<'_, Sqlite>,
    id: i64,
    recipient: Option<&str>,
    now: SystemTime,
) -> Result<(), sqlx::Error> {
    for (recipient, ..) in named(work, id, recipient).await? {
        let ended = sqlx::query(
            "UPDATE outbox SET ended = ?, outcome = 'deleted', note = NULL, quarantine = NULL
             WHERE quarantine = ? AND recipient = ? AND ended IS NULL",
        );
        let ended = ended.bind(seconds(now)).bind(id).bind(&recipient).execute(&mut **work).await?;
        if ended.rows_affected() > 0 {
            sqlx::query("UPDATE held SET outcome = NULL, ended = NULL WHERE quarantine = ? AND recipient = ?")
                .bind(id)
                .bind(&recipient)
                .execute(&mut **work)
                .await?;
        }
    }
    Ok(())
}

/// How far a message has come to its recipient, where it is still to be sent.
fn under_way(row: &SqliteRow) -> Result<Option<UnderWay>, sqlx::Error> {
    let (tries, next): (Option<u32>, Option<i64>) = (row.try_get("tries")?, row.try_get("next_try")?);
    let last = row.try_get("last")?;
    Ok(tries.zip(next).map(|(tries, next)| UnderWay { tries, next_try: time(next), last }))
}

/// Rows of message and recipient, those of one message one after the other, as messages.
pub(super) fn grouped(rows: &[SqliteRow]) -> Result<Vec<Held>, sqlx::Error> {
    let mut all: Vec<Held> = Vec::new();
    for row in rows {
        let id = row.try_get("id")?;
        let recipient = HeldFor {
            recipient: row.try_get("recipient")?,
            outcome: row.try_get::<Option<&str>, _>("outcome")?.map(Ending::of_word).transpose()?,
            note: row.try_get("note")?,
            under_way: under_way(row)?,
        };
        match all.last_mut() {
            Some(held) if held.id == id => held.recipients.push(recipient),
            _ => all.push(Held {
                id,
                at: time(row.try_get("at")?),
                expires: time(row.try_get("expires")?),
                queue_id: row.try_get("queue_id")?,
                sender: row.try_get("sender")?,
                reverse_path: row.try_get("reverse_path")?,
                subject: row.try_get("subject")?,
                reason: Reason::written(row.try_get("reason")?),
                size: row.try_get::<i64, _>("size")?.unsigned_abs(),
                recipients: vec![recipient],
            }),
        }
    }
    Ok(all)
}
