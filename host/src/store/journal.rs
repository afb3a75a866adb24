//! The journal: what became of messages, row by row; written, looked up and bounded.

use std::time::SystemTime;

use sqlx::sqlite::{Sqlite, SqliteRow};
use sqlx::{AssertSqlSafe, Row, Transaction};

use super::scrub::without_any;
use super::words::{Ending, Kind, RowResult, RowVerdict, Sending};
use super::{Error, Ledger, seconds, time};

/// Rows that are read at once where many are looked through.
const PAGE: u32 = 256;

/// What a row is read from.
const COLUMNS: &str = "id, at, queue_id, sender, result, verdict, entry, note";

/// A journal row to be written.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The MTA's name for the message.
    pub queue_id: Option<String>,
    /// The address of the From field.
    pub sender: Option<String>,
    /// What was found.
    pub result: RowResult,
    /// What the mail server was told.
    pub verdict: RowVerdict,
    /// The whole story as JSON, with a version in it. Never a key.
    pub json: String,
    /// What else is to be said, such as which notices are withheld.
    pub note: String,
}

/// A row that says as little as one can.
#[cfg(test)]
impl Default for Entry {
    fn default() -> Entry {
        Entry {
            queue_id: None,
            sender: None,
            result: RowResult::Unclear,
            verdict: RowVerdict::Discard,
            json: String::new(),
            note: String::new(),
        }
    }
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

/// Which rows are looked for; what is absent does not matter.
#[derive(Clone, Debug, Default)]
pub struct Search {
    /// What was found.
    pub result: Option<RowResult>,
    /// What the mail server was told.
    pub verdict: Option<RowVerdict>,
    /// Written at this time or later.
    pub since: Option<SystemTime>,
    /// Words that stand somewhere in the story, in letters of either case: a domain narrows down whom it concerns.
    pub holds: Option<String>,
}

/// What became of a row's notices and kept copies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traces {
    /// What went out, or is still to.
    pub sent: Vec<SentTrace>,
    /// What was kept back, for whom.
    pub held: Vec<HeldTrace>,
}

/// Something in the outbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SentTrace {
    /// What it is.
    pub kind: Kind,
    /// Whom it goes to.
    pub recipient: String,
    /// How many tries there were.
    pub tries: u32,
    /// When the next one is, where it is not ended.
    pub next_try: SystemTime,
    /// When it ended.
    pub ended: Option<SystemTime>,
    /// How it ended; absent while it is still to be sent.
    pub outcome: Option<Sending>,
}

/// A message in quarantine, for one recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldTrace {
    /// Its number in the quarantine.
    pub quarantine: i64,
    /// For whom.
    pub recipient: String,
    /// When it goes, where nobody releases it.
    pub expires: SystemTime,
    /// What became of it; absent while it is kept.
    pub outcome: Option<Ending>,
}

impl Ledger {
    /// Writes rows, all of them or none, in one transaction. Durable when it returns.
    pub async fn append<'a>(&self, rows: impl Iterator<Item = (SystemTime, &'a Entry)>) -> Result<(), Error> {
        self.0.in_place()?;
        let written = async {
            let mut work = self.0.writer().begin_with("BEGIN IMMEDIATE").await?;
            for (at, entry) in rows {
                insert(&mut work, entry, at).await?;
            }
            work.commit().await
        };
        written.await.map_err(|e| self.0.failed(e))?;
        // Whoever wrote them forgets them then.
        self.0.in_place()
    }

    /// The newest journal rows, newest first.
    pub async fn journal(&self, most: u32) -> Result<Vec<JournalRow>, Error> {
        self.page(&Search::default(), None, most).await
    }

    /// The row of this number.
    pub async fn journal_row(&self, id: i64) -> Result<Option<JournalRow>, Error> {
        sqlx::query(AssertSqlSafe(format!("SELECT {COLUMNS} FROM journal WHERE id = ?")))
            .bind(id)
            .fetch_optional(self.0.readers())
            .await
            .and_then(|row| row.as_ref().map(read).transpose())
            .map_err(|e| self.0.failed(e))
    }

    /// The rows of this queue id, oldest first; an MTA may use a queue id again after a while.
    pub async fn journal_of(&self, queue_id: &str) -> Result<Vec<JournalRow>, Error> {
        sqlx::query(AssertSqlSafe(format!("SELECT {COLUMNS} FROM journal WHERE queue_id = ? ORDER BY id")))
            .bind(queue_id)
            .fetch_all(self.0.readers())
            .await
            .and_then(|rows| rows.iter().map(read).collect())
            .map_err(|e| self.0.failed(e))
    }

    /// The newest rows that are looked for and that `fits` accepts, newest first.
    pub async fn find(
        &self,
        search: &Search,
        most: usize,
        mut fits: impl FnMut(&JournalRow) -> bool,
    ) -> Result<Vec<JournalRow>, Error> {
        let mut found = Vec::new();
        if most > 0 {
            let take = |row: JournalRow| {
                if fits(&row) {
                    found.push(row);
                }
                found.len() < most
            };
            self.scan(search, take).await?;
        }
        Ok(found)
    }

    /// Shows the rows that are looked for to `see`, newest first, until it wants no more; a page of them at a time is in
    /// memory, and rows that come or go meanwhile are seen or not.
    pub async fn scan(&self, search: &Search, mut see: impl FnMut(JournalRow) -> bool) -> Result<(), Error> {
        let mut below = None;
        loop {
            let rows = self.page(search, below, PAGE).await?;
            let Some(last) = rows.last() else { return Ok(()) };
            below = Some(last.id);
            for row in rows {
                if !see(row) {
                    return Ok(());
                }
            }
        }
    }

    /// The next rows below this number.
    pub(super) async fn page(&self, search: &Search, below: Option<i64>, most: u32) -> Result<Vec<JournalRow>, Error> {
        let holds = search.holds.as_ref().map(|words| format!("%{}%", escaped(words)));
        sqlx::query(AssertSqlSafe(format!(
            "SELECT {COLUMNS} FROM journal WHERE id < ?1 AND (?2 IS NULL OR result = ?2) AND (?3 IS NULL OR verdict = ?3)
             AND at >= ?4 AND (?5 IS NULL OR entry LIKE ?5 ESCAPE '\\' OR note LIKE ?5 ESCAPE '\\')
             ORDER BY id DESC LIMIT ?6"
        )))
        .bind(below.unwrap_or(i64::MAX))
        .bind(search.result.as_ref().map(RowResult::word))
        .bind(search.verdict.as_ref().map(RowVerdict::word))
        .bind(search.since.map_or(0, seconds))
        .bind(holds)
        .bind(most)
        .fetch_all(self.0.readers())
        .await
        .and_then(|rows| rows.iter().map(read).collect())
        .map_err(|e| self.0.failed(e))
    }

    /// What became of the notices and kept copies of this row.
    pub async fn traces(&self, journal: i64) -> Result<Traces, Error> {
        let read = async {
            let sent = sqlx::query(
                "SELECT kind, recipient, tries, next_try, ended, outcome FROM outbox WHERE journal = ? ORDER BY id",
            )
            .bind(journal)
            .fetch_all(self.0.readers())
            .await?;
            let held = sqlx::query(
                "SELECT q.id, h.recipient, q.expires, h.outcome FROM quarantine q JOIN held h ON h.quarantine = q.id
                 WHERE q.journal = ? ORDER BY q.id, h.recipient",
            )
            .bind(journal)
            .fetch_all(self.0.readers())
            .await?;
            Ok(Traces {
                sent: sent.iter().map(read_sent).collect::<Result<_, _>>()?,
                held: held.iter().map(read_held).collect::<Result<_, _>>()?,
            })
        };
        read.await.map_err(|e: sqlx::Error| self.0.failed(e))
    }

    /// Deletes journal rows older than `before`, and their notices where those have ended; returns how many.
    pub async fn sweep(&self, before: SystemTime) -> Result<u64, Error> {
        self.clear("at < ?", seconds(before)).await.map_err(|e| self.0.failed(e))
    }

    /// Deletes the oldest rows beyond this many, but none that something unsent hangs on; returns how many went.
    pub async fn trim(&self, most: u64) -> Result<u64, Error> {
        let cleared = async {
            let beyond = sqlx::query_scalar("SELECT id FROM journal ORDER BY id DESC LIMIT 1 OFFSET ?")
                .bind(i64::try_from(most).unwrap_or(i64::MAX))
                .fetch_optional(self.0.readers())
                .await?;
            match beyond {
                Some(newest) => self.clear("id <= ?", newest).await,
                None => Ok(0),
            }
        };
        cleared.await.map_err(|e| self.0.failed(e))
    }

    /// Deletes the rows of which this is true and that nothing hangs on: what is unsent, what the caps still count (a day), a
    /// digest to come. Some at a time: whoever wants to write meanwhile gets his turn.
    async fn clear(&self, condition: &'static str, bound: i64) -> Result<u64, sqlx::Error> {
        let mut cleared = 0;
        loop {
            let some = format!(
                "DELETE FROM journal WHERE id IN (SELECT id FROM journal WHERE {condition} AND NOT EXISTS
                   (SELECT 1 FROM outbox WHERE outbox.journal = journal.id
                     AND (ended IS NULL OR created > unixepoch() - 86400))
                 AND NOT EXISTS (SELECT 1 FROM digest WHERE digest.journal = journal.id) LIMIT {PAGE})"
            );
            let done = sqlx::query(AssertSqlSafe(some)).bind(bound).execute(self.0.writer()).await?;
            cleared += done.rows_affected();
            if done.rows_affected() < u64::from(PAGE) {
                return Ok(cleared);
            }
        }
    }
}

/// Writes one row; its number.
pub(super) async fn insert(
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
    .bind(entry.result.word())
    .bind(entry.verdict.word())
    .bind(&entry.json)
    .bind(&entry.note)
    .fetch_one(&mut **work)
    .await
}

/// Adds words to a row's note. Once an address was taken out of the row, no address comes into it any more: which one it was
/// nobody knows, and that is the point of it.
pub(super) async fn annotate(work: &mut Transaction<'_, Sqlite>, journal: i64, words: &str) -> Result<(), sqlx::Error> {
    let erased: Option<bool> = sqlx::query_scalar(
        "SELECT CASE WHEN json_valid(entry) THEN json_extract(entry, '$.erased') IS 1 ELSE 0 END FROM journal WHERE id = ?",
    )
    .bind(journal)
    .fetch_optional(&mut **work)
    .await?;
    let words = if erased == Some(true) { without_any(words) } else { words.to_owned() };
    sqlx::query("UPDATE journal SET note = CASE note WHEN '' THEN ?1 ELSE note || '; ' || ?1 END WHERE id = ?2")
        .bind(words)
        .bind(journal)
        .execute(&mut **work)
        .await
        .map(|_| ())
}

/// Words as a pattern of LIKE that means themselves alone.
pub(super) fn escaped(words: &str) -> String {
    words.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_")
}

fn read(row: &SqliteRow) -> Result<JournalRow, sqlx::Error> {
    Ok(JournalRow {
        id: row.try_get("id")?,
        at: time(row.try_get("at")?),
        entry: Entry {
            queue_id: row.try_get("queue_id")?,
            sender: row.try_get("sender")?,
            result: RowResult::of_word(row.try_get("result")?),
            verdict: RowVerdict::of_word(row.try_get("verdict")?),
            json: row.try_get("entry")?,
            note: row.try_get("note")?,
        },
    })
}

fn read_sent(row: &SqliteRow) -> Result<SentTrace, sqlx::Error> {
    Ok(SentTrace {
        kind: Kind::of_word(row.try_get("kind")?)?,
        recipient: row.try_get("recipient")?,
        tries: row.try_get("tries")?,
        next_try: time(row.try_get("next_try")?),
        ended: row.try_get::<Option<i64>, _>("ended")?.map(time),
        outcome: row.try_get::<Option<String>, _>("outcome")?.map(Sending::of_words),
    })
}

fn read_held(row: &SqliteRow) -> Result<HeldTrace, sqlx::Error> {
    Ok(HeldTrace {
        quarantine: row.try_get("id")?,
        recipient: row.try_get("recipient")?,
        expires: time(row.try_get("expires")?),
        outcome: row.try_get::<Option<&str>, _>("outcome")?.map(Ending::of_word).transpose()?,
    })
}

#[cfg(test)]
#[path = "journal/tests.rs"]
mod tests;
