//! The filter's tables: the journal of what became of messages, and the outbox of what is still to be sent.

use std::path::Path;
use std::time::{Duration, SystemTime};

use sqlx::sqlite::{Sqlite, SqliteRow};
use sqlx::{Row, Transaction};

use super::sqlite::Database;
use super::{Error, Kept, Opening, folded, quarantine, seconds, time};

/// No row of ours is that far in the future, unless the clock was wrong and has been put right since: such rows count for
/// nothing in the caps, and a notice among them is due.
const AHEAD: Duration = Duration::from_secs(86_400);

/// Journal and outbox, `filter.db`.
#[derive(Clone, Debug)]
pub struct Ledger(pub(super) Database);

/// A journal row to be written.
#[derive(Clone, Debug, Default)]
pub struct Entry {
    /// The MTA's name for the message.
    pub queue_id: Option<String>,
    /// The address of the From field.
    pub sender: Option<String>,
    /// The result's word.
    pub result: String,
    /// The verdict's word.
    pub verdict: String,
    /// The whole story as JSON, with a version in it. Never a key.
    pub json: String,
    /// What else is to be said, such as which notices are withheld.
    pub note: String,
}

/// A notice to be owed.
#[derive(Clone, Debug)]
pub struct Draft {
    /// Whom it goes to.
    pub recipient: String,
    /// Who claimed to write; empty where nobody could be told. The cap per pair counts by it.
    pub sender: String,
    /// Its Message-ID, the same for every try.
    pub message_id: String,
    /// The message, CRLF line endings.
    pub message: Vec<u8>,
}

/// How many notices may be owed.
#[derive(Clone, Copy, Debug)]
pub struct Caps {
    /// Notices to one recipient in an hour.
    pub per_hour: u32,
    /// Between two notices to one recipient about one sender.
    pub pair: Duration,
    /// Notices that may wait to be sent, to whomever.
    pub waiting: u32,
}

/// What became of an entry and its drafts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// The journal row.
    pub journal: i64,
    /// The notices that are now owed.
    pub owed: usize,
    /// The notices that a cap kept back, by recipient.
    pub withheld: Vec<(String, Withheld)>,
    /// The numbers of the messages that are now kept.
    pub kept: Vec<i64>,
}

/// The cap that kept a notice back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Withheld {
    /// There was one to this recipient about this sender within the day.
    Pair,
    /// The recipient had as many in this hour as one may have.
    Hour,
    /// As many wait to be sent as may.
    Full,
}

impl Withheld {
    /// The words of the journal's note.
    pub fn words(self) -> &'static str {
        match self {
            Withheld::Pair => "one about this sender within a day",
            Withheld::Hour => "as many within an hour as allowed",
            Withheld::Full => "as many waiting to be sent as allowed",
        }
    }
}

/// A notice, or a message of somebody else's, whose turn it is.
#[derive(Clone, Debug)]
pub struct Due {
    /// Its row in the outbox.
    pub id: i64,
    /// Its row in the journal.
    pub journal: i64,
    /// What it is: `notice`, `digest`, `report`, `release`, `copy`.
    pub kind: String,
    /// Where bounces go; empty: nowhere.
    pub reverse_path: String,
    /// Whom it goes to.
    pub recipient: String,
    /// Its Message-ID; for a message from quarantine, a name of the row.
    pub message_id: String,
    /// The message, CRLF line endings.
    pub message: Vec<u8>,
    /// Its number in quarantine, where it comes from there.
    pub quarantine: Option<i64>,
    /// How many tries there were, this one included.
    pub tries: u32,
}

/// A journal row as it was written.
#[derive(Clone, Debug)]
pub struct JournalRow {
    /// Its number.
    pub id: i64,
    /// When it was written.
    pub at: SystemTime,
    /// What was written.
    pub entry: Entry,
}

/// A row of the outbox, without the message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxRow {
    /// Whom it goes to.
    pub recipient: String,
    /// Its Message-ID.
    pub message_id: String,
    /// How many tries there were.
    pub tries: u32,
    /// When the next one is, where it is not ended.
    pub next_try: SystemTime,
    /// `sent`, or why it was given up; absent while it is still to be sent.
    pub outcome: Option<String>,
}

impl Ledger {
    /// Opens journal and outbox in this directory, and makes them where there are none.
    pub async fn open(dir: &Path, opening: Opening) -> Result<Ledger, Error> {
        let schema = [include_str!("schema/filter.1.sql"), include_str!("schema/filter.2.sql")];
        Ok(Ledger(Database::open(dir, "filter.db", &schema, opening).await?))
    }

    /// Writes a journal row, and the notices that the caps allow, in one transaction. Durable when it returns.
    pub async fn record(
        &self,
        entry: &Entry,
        drafts: &[Draft],
        caps: Caps,
        now: SystemTime,
    ) -> Result<Recorded, Error> {
        self.record_and_keep(entry, drafts, (&[], 0), caps, now).await
    }

    /// The same, and keeps these messages with it; all of them together may be so many octets with what is kept already,
    /// or nothing is written ([`Error::QuarantineFull`]).
    pub async fn record_and_keep(
        &self,
        entry: &Entry,
        drafts: &[Draft],
        (kept, most): (&[Kept], u64),
        caps: Caps,
        now: SystemTime,
    ) -> Result<Recorded, Error> {
        let written = self.write(entry, drafts, (kept, most), caps, now).await.map_err(|e| self.0.failed(e))?;
        written.ok_or(Error::QuarantineFull { most })
    }

    /// Absent where the quarantine has no room.
    async fn write(
        &self,
        entry: &Entry,
        drafts: &[Draft],
        (kept, most): (&[Kept], u64),
        caps: Caps,
        now: SystemTime,
    ) -> Result<Option<Recorded>, sqlx::Error> {
        let mut work = self.0.writer().begin_with("BEGIN IMMEDIATE").await?;
        if !quarantine::has_room(&mut work, kept, most).await? {
            return Ok(None);
        }
        let journal = journal_row(&mut work, entry, now).await?;
        let mut recorded = Recorded { journal, owed: 0, withheld: Vec::new(), kept: Vec::new() };
        for message in kept {
            recorded.kept.push(quarantine::keep(&mut work, journal, message, now).await?);
        }
        for draft in drafts {
            match over(&mut work, draft, caps, now).await? {
                Some(cap) => {
                    annotate(&mut work, journal, &format!("no notice to {}: {}", draft.recipient, cap.words())).await?;
                    recorded.withheld.push((draft.recipient.clone(), cap));
                }
                None => {
                    owe(&mut work, journal, draft, now).await?;
                    recorded.owed += 1;
                }
            }
        }
        work.commit().await?;
        Ok(Some(recorded))
    }

    /// Takes what has waited longest among all whose turn it is, messages from quarantine before notices, and counts the
    /// try; the next one is after `backoff(tries)`, unless [`Ledger::end`] comes first. So a try that a crash cut short is
    /// repeated.
    pub async fn take(&self, now: SystemTime, backoff: fn(u32) -> Duration) -> Result<Option<Due>, Error> {
        let taken = async {
            let mut work = self.0.writer().begin_with("BEGIN IMMEDIATE").await?;
            let row = sqlx::query(
                "SELECT o.id, o.journal, o.kind, o.reverse_path, o.recipient, o.message_id, o.quarantine, o.tries,
                     coalesce(q.message, o.message) AS message
                 FROM outbox o LEFT JOIN quarantine q ON q.id = o.quarantine
                 WHERE o.id = (SELECT id FROM outbox WHERE ended IS NULL AND (next_try <= ?1 OR next_try > ?2)
                     ORDER BY quarantine IS NULL, next_try, id LIMIT 1)",
            )
            .bind(seconds(now))
            .bind(seconds(now + AHEAD))
            .fetch_optional(&mut *work)
            .await?;
            let Some(row) = row else { return Ok(None) };
            let due = Due {
                id: row.try_get("id")?,
                journal: row.try_get("journal")?,
                kind: row.try_get("kind")?,
                reverse_path: row.try_get("reverse_path")?,
                quarantine: row.try_get("quarantine")?,
                recipient: row.try_get("recipient")?,
                message_id: row.try_get("message_id")?,
                message: row.try_get("message")?,
                tries: row.try_get::<u32, _>("tries")?.saturating_add(1),
            };
            sqlx::query("UPDATE outbox SET tries = ?, next_try = ? WHERE id = ?")
                .bind(due.tries)
                .bind(seconds(now + backoff(due.tries)))
                .bind(due.id)
                .execute(&mut *work)
                .await?;
            work.commit().await?;
            Ok(Some(due))
        };
        taken.await.map_err(|e| self.0.failed(e))
    }

    /// Ends it: it was sent, or is given up with these words, which the journal notes. A message from quarantine that is
    /// given up is kept there again; one that was sent to the last who waited for it is kept no longer.
    pub async fn end(&self, due: &Due, given_up: Option<&str>, now: SystemTime) -> Result<(), Error> {
        let ended = async {
            let mut work = self.0.writer().begin_with("BEGIN IMMEDIATE").await?;
            // The text is not needed any more; the row stays for the caps.
            sqlx::query("UPDATE outbox SET ended = ?, outcome = ?, message = x'', quarantine = NULL WHERE id = ?")
                .bind(seconds(now))
                .bind(given_up.unwrap_or("sent"))
                .bind(due.id)
                .execute(&mut *work)
                .await?;
            match (due.quarantine, given_up) {
                (Some(id), given_up) => quarantine::ended(&mut work, due, id, given_up, now).await?,
                (None, Some(why)) => {
                    annotate(&mut work, due.journal, &format!("notice to {} given up: {why}", due.recipient)).await?;
                }
                (None, None) => {}
            }
            work.commit().await
        };
        ended.await.map_err(|e| self.0.failed(e))
    }

    /// The newest journal rows, newest first.
    pub async fn journal(&self, most: u32) -> Result<Vec<JournalRow>, Error> {
        sqlx::query(
            "SELECT id, at, queue_id, sender, result, verdict, entry, note FROM journal ORDER BY id DESC LIMIT ?",
        )
        .bind(most)
        .fetch_all(self.0.readers())
        .await
        .and_then(|rows| rows.iter().map(read_journal).collect())
        .map_err(|e| self.0.failed(e))
    }

    /// The newest notices, newest first.
    pub async fn outbox(&self, most: u32) -> Result<Vec<OutboxRow>, Error> {
        sqlx::query("SELECT recipient, message_id, tries, next_try, outcome FROM outbox ORDER BY id DESC LIMIT ?")
            .bind(most)
            .fetch_all(self.0.readers())
            .await
            .and_then(|rows| rows.iter().map(read_outbox).collect())
            .map_err(|e| self.0.failed(e))
    }

    /// Deletes journal rows older than `before`, and their notices where those have ended; returns how many.
    pub async fn sweep(&self, before: SystemTime) -> Result<u64, Error> {
        sqlx::query(
            "DELETE FROM journal WHERE at < ?1
             AND NOT EXISTS (SELECT 1 FROM outbox WHERE outbox.journal = journal.id AND ended IS NULL)",
        )
        .bind(seconds(before))
        .execute(self.0.writer())
        .await
        .map(|done| done.rows_affected())
        .map_err(|e| self.0.failed(e))
    }

    /// Closes the file; every later verb fails.
    pub async fn close(&self) {
        self.0.close().await;
    }
}

pub(super) async fn journal_row(
    work: &mut Transaction<'_, Sqlite>,
    entry: &Entry,
    now: SystemTime,
) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar(
        "INSERT INTO journal (at, queue_id, sender, result, verdict, entry, note) VALUES (?, ?, ?, ?, ?, ?, ?)
         RETURNING id",
    )
    .bind(seconds(now))
    .bind(&entry.queue_id)
    .bind(&entry.sender)
    .bind(&entry.result)
    .bind(&entry.verdict)
    .bind(&entry.json)
    .bind(&entry.note)
    .fetch_one(&mut **work)
    .await
}

/// The cap that this draft is over, if any.
async fn over(
    work: &mut Transaction<'_, Sqlite>,
    draft: &Draft,
    caps: Caps,
    now: SystemTime,
) -> Result<Option<Withheld>, sqlx::Error> {
    let capped_as = capped_as(&draft.recipient);
    let pair: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM outbox WHERE capped_as = ? AND sender = ? AND created > ? AND created <= ?",
    )
    .bind(&capped_as)
    .bind(sender_of(draft))
    .bind(seconds(now - caps.pair))
    .bind(seconds(now + AHEAD))
    .fetch_one(&mut **work)
    .await?;
    if pair > 0 {
        return Ok(Some(Withheld::Pair));
    }
    let hour: i64 =
        sqlx::query_scalar("SELECT count(*) FROM outbox WHERE capped_as = ? AND created > ? AND created <= ?")
            .bind(&capped_as)
            .bind(seconds(now - Duration::from_secs(3600)))
            .bind(seconds(now + AHEAD))
            .fetch_one(&mut **work)
            .await?;
    if hour >= i64::from(caps.per_hour) {
        return Ok(Some(Withheld::Hour));
    }
    let waiting: i64 =
        sqlx::query_scalar("SELECT count(*) FROM outbox WHERE ended IS NULL").fetch_one(&mut **work).await?;
    Ok((waiting >= i64::from(caps.waiting)).then_some(Withheld::Full))
}

async fn owe(
    work: &mut Transaction<'_, Sqlite>,
    journal: i64,
    draft: &Draft,
    now: SystemTime,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO outbox (journal, recipient, capped_as, sender, message_id, message, created, next_try)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(journal)
    .bind(&draft.recipient)
    .bind(capped_as(&draft.recipient))
    .bind(sender_of(draft))
    .bind(&draft.message_id)
    .bind(&draft.message)
    .bind(seconds(now))
    .bind(seconds(now))
    .execute(&mut **work)
    .await
    .map(|_| ())
}

pub(super) async fn annotate(work: &mut Transaction<'_, Sqlite>, journal: i64, words: &str) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE journal SET note = CASE note WHEN '' THEN ?1 ELSE note || '; ' || ?1 END WHERE id = ?2")
        .bind(words)
        .bind(journal)
        .execute(&mut **work)
        .await
        .map(|_| ())
}

/// One mailbox counts once, however its address is spelled: `bob+1@`, `BOB@`.
pub(super) fn capped_as(address: &str) -> String {
    folded(address).unwrap_or_else(|| address.to_ascii_lowercase())
}

fn sender_of(draft: &Draft) -> String {
    capped_as(&draft.sender)
}

fn read_journal(row: &SqliteRow) -> Result<JournalRow, sqlx::Error> {
    Ok(JournalRow {
        id: row.try_get("id")?,
        at: time(row.try_get("at")?),
        entry: Entry {
            queue_id: row.try_get("queue_id")?,
            sender: row.try_get("sender")?,
            result: row.try_get("result")?,
            verdict: row.try_get("verdict")?,
            json: row.try_get("entry")?,
            note: row.try_get("note")?,
        },
    })
}

pub(super) fn read_outbox(row: &SqliteRow) -> Result<OutboxRow, sqlx::Error> {
    Ok(OutboxRow {
        recipient: row.try_get("recipient")?,
        message_id: row.try_get("message_id")?,
        tries: row.try_get("tries")?,
        next_try: time(row.try_get("next_try")?),
        outcome: row.try_get("outcome")?,
    })
}

#[cfg(test)]
#[path = "ledger/tests.rs"]
mod tests;
