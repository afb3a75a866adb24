//! The filter's tables: the journal of what became of messages, and the outbox of what is still to be sent.

use std::path::Path;
use std::time::{Duration, SystemTime};

use sqlx::sqlite::{Sqlite, SqliteRow};
use sqlx::{Row, Transaction};

use super::outbox::{self, Caps, Draft, Kind, Withheld};
use super::sqlite::Database;
use super::{Error, Kept, Opening, quarantine, seconds, time};

/// No row of ours is that far in the future, unless the clock was wrong and has been put right since: such rows count for
/// nothing in the caps, and a notice among them is due.
pub(super) const AHEAD: Duration = Duration::from_secs(86_400);

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

impl Ledger {
    /// Opens journal and outbox in this directory, and makes them where there are none.
    pub async fn open(dir: &Path, opening: Opening) -> Result<Ledger, Error> {
        let schema = [include_str!("schema/filter.1.sql"), include_str!("schema/filter.2.sql")];
        Ok(Ledger(Database::open(dir, "filter.db", &schema, opening).await?))
    }

    /// Writes a journal row, and the mails that the caps allow, in one transaction. Durable when it returns. Notices that
    /// they do not allow are told of in the row's note; another mail that they do not allow is an error, and nothing is
    /// written.
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
        written.map_err(|refused| match refused {
            Refused::Full => Error::QuarantineFull { most },
            Refused::Withheld(recipient, cap) => Error::Withheld { recipient, why: cap.words() },
        })
    }

    async fn write(
        &self,
        entry: &Entry,
        drafts: &[Draft],
        (kept, most): (&[Kept], u64),
        caps: Caps,
        now: SystemTime,
    ) -> Result<Result<Recorded, Refused>, sqlx::Error> {
        let mut work = self.0.writer().begin_with("BEGIN IMMEDIATE").await?;
        if !quarantine::has_room(&mut work, kept, most).await? {
            return Ok(Err(Refused::Full));
        }
        let journal = journal_row(&mut work, entry, now).await?;
        let mut recorded = Recorded { journal, owed: 0, withheld: Vec::new(), kept: Vec::new() };
        for message in kept {
            recorded.kept.push(quarantine::keep(&mut work, journal, message, now).await?);
        }
        for draft in drafts {
            match outbox::admit(&mut work, journal, draft, caps, now).await? {
                None => recorded.owed += 1,
                Some(cap) if draft.kind == Kind::Notice => {
                    annotate(&mut work, journal, &format!("no notice to {}: {}", draft.recipient, cap.words())).await?;
                    recorded.withheld.push((draft.recipient.clone(), cap));
                }
                // Without it nobody would be told: then the message must not be taken either, and nothing is written.
                Some(cap) => return Ok(Err(Refused::Withheld(draft.recipient.clone(), cap))),
            }
        }
        work.commit().await?;
        Ok(Ok(recorded))
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

/// Why nothing was written.
enum Refused {
    /// The quarantine has no room.
    Full,
    /// A mail on which the message's fate hangs is over a cap.
    Withheld(String, Withheld),
}

/// Writes a journal row.
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

pub(super) async fn annotate(work: &mut Transaction<'_, Sqlite>, journal: i64, words: &str) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE journal SET note = CASE note WHEN '' THEN ?1 ELSE note || '; ' || ?1 END WHERE id = ?2")
        .bind(words)
        .bind(journal)
        .execute(&mut **work)
        .await
        .map(|_| ())
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

#[cfg(test)]
#[path = "ledger/tests.rs"]
mod tests;
