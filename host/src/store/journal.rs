//! The journal: what became of messages, row by row; written, looked up and bounded.

use std::sync::Arc;
use std::time::SystemTime;

use rusqlite::{Connection, Row, params};

use super::scrub::without_any;
use super::sqlite::{Fault, Statements as _};
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
    pub async fn append(&self, rows: Vec<Arc<(SystemTime, Entry)>>) -> Result<(), Error> {
        self.0.in_place()?;
        let written = self.0.write(move |work| {
            for row in rows {
                insert(work, &row.1, row.0)?;
            }
            Ok(())
        });
        written.await?;
        // Whoever wrote them forgets them then.
        self.0.in_place()
    }

    /// The newest journal rows, newest first.
    pub async fn journal(&self, most: u32) -> Result<Vec<JournalRow>, Error> {
        self.page(&Search::default(), None, most).await
    }

    /// The row of this number.
    pub async fn journal_row(&self, id: i64) -> Result<Option<JournalRow>, Error> {
        let row = format!("SELECT {COLUMNS} FROM journal WHERE id = ?");
        self.0.read(|work| work.first(&row, [id], read))
    }

    /// The rows of this queue id, oldest first; an MTA may use a queue id again after a while.
    pub async fn journal_of(&self, queue_id: &str) -> Result<Vec<JournalRow>, Error> {
        let rows = format!("SELECT {COLUMNS} FROM journal WHERE queue_id = ? ORDER BY id");
        self.0.read(|work| work.all(&rows, [queue_id], read))
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
        let Search { result, verdict, since, holds } = search.clone();
        let holds = holds.map(|words| format!("%{}%", escaped(&words)));
        let page = format!(
            "SELECT {COLUMNS} FROM journal WHERE id < ?1 AND (?2 IS NULL OR result = ?2) AND (?3 IS NULL OR verdict = ?3)
             AND at >= ?4 AND (?5 IS NULL OR entry LIKE ?5 ESCAPE '\\' OR note LIKE ?5 ESCAPE '\\')
             ORDER BY id DESC LIMIT ?6"
        );
        let rows = self.0.scan(move |work| {
            let (result, verdict) = (result.as_ref().map(RowResult::word), verdict.as_ref().map(RowVerdict::word));
            let (below, since) = (below.unwrap_or(i64::MAX), since.map_or(0, seconds));
            work.all(&page, params![below, result, verdict, since, holds, most], read)
        });
        rows.await
    }

    /// What became of the notices and kept copies of this row.
    pub async fn traces(&self, journal: i64) -> Result<Traces, Error> {
        let sent = "SELECT kind, recipient, tries, next_try, ended, outcome FROM outbox WHERE journal = ? ORDER BY id";
        let held = "SELECT q.id, h.recipient, q.expires, h.outcome FROM quarantine q JOIN held h ON h.quarantine = q.id
                    WHERE q.journal = ? ORDER BY q.id, h.recipient";
        self.0.read(|work| {
            Ok(Traces { sent: work.all(sent, [journal], read_sent)?, held: work.all(held, [journal], read_held)? })
        })
    }

    /// Deletes journal rows older than `before`, and their notices where those have ended; returns how many.
    pub async fn sweep(&self, before: SystemTime) -> Result<u64, Error> {
        self.clear("at < ?", seconds(before)).await
    }

    /// Deletes the oldest rows beyond this many, but none that something unsent hangs on; returns how many went.
    pub async fn trim(&self, most: u64) -> Result<u64, Error> {
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let beyond = "SELECT id FROM journal ORDER BY id DESC LIMIT 1 OFFSET ?";
        match self.0.scan(move |work| work.find(beyond, [most])).await? {
            Some(newest) => self.clear("id <= ?", newest).await,
            None => Ok(0),
        }
    }

    /// Deletes the rows of which this is true and that nothing hangs on: what is unsent, what the caps still count (a day), a
    /// digest to come. Some at a time: whoever wants to write meanwhile gets his turn.
    async fn clear(&self, condition: &'static str, bound: i64) -> Result<u64, Error> {
        let mut cleared = 0;
        loop {
            let some = format!(
                "DELETE FROM journal WHERE id IN (SELECT id FROM journal WHERE {condition} AND NOT EXISTS
                   (SELECT 1 FROM outbox WHERE outbox.journal = journal.id
                     AND (ended IS NULL OR created > unixepoch() - 86400))
                 AND NOT EXISTS (SELECT 1 FROM digest WHERE digest.journal = journal.id) LIMIT {PAGE})"
            );
            let done = self.0.write(move |work| work.run(&some, [bound])).await?;
            cleared += done;
            if done < u64::from(PAGE) {
                return Ok(cleared);
            }
        }
    }
}

/// Writes one row; its number.
pub(super) fn insert(work: &Connection, entry: &Entry, now: SystemTime) -> Result<i64, Fault> {
    let Entry { queue_id, sender, result, verdict, json, note } = entry;
    work.one(
        "INSERT INTO journal (at, queue_id, sender, result, verdict, entry, note) VALUES (?, ?, ?, ?, ?, ?, ?)
         RETURNING id",
        params![seconds(now), queue_id, sender, result.word(), verdict.word(), json, note],
    )
}

/// Adds words to a row's note. Once an address was taken out of the row, no address comes into it any more: which one it was
/// nobody knows, and that is the point of it.
pub(super) fn annotate(work: &Connection, journal: i64, words: &str) -> Result<(), Fault> {
    let erased = "SELECT CASE WHEN json_valid(entry) THEN json_extract(entry, '$.erased') IS 1 ELSE 0 END FROM journal
                  WHERE id = ?";
    let erased: Option<bool> = work.find(erased, [journal])?;
    let words = if erased == Some(true) { without_any(words) } else { words.to_owned() };
    work.run(
        "UPDATE journal SET note = CASE note WHEN '' THEN ?1 ELSE note || '; ' || ?1 END WHERE id = ?2",
        params![words, journal],
    )?;
    Ok(())
}

/// Words as a pattern of LIKE that means themselves alone.
pub(super) fn escaped(words: &str) -> String {
    words.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_")
}

fn read(row: &Row<'_>) -> Result<JournalRow, Fault> {
    Ok(JournalRow {
        id: row.get("id")?,
        at: time(row.get("at")?),
        entry: Entry {
            queue_id: row.get("queue_id")?,
            sender: row.get("sender")?,
            result: RowResult::of_word(&row.get::<_, String>("result")?),
            verdict: RowVerdict::of_word(&row.get::<_, String>("verdict")?),
            json: row.get("entry")?,
            note: row.get("note")?,
        },
    })
}

fn read_sent(row: &Row<'_>) -> Result<SentTrace, Fault> {
    Ok(SentTrace {
        kind: Kind::of_word(&row.get::<_, String>("kind")?)?,
        recipient: row.get("recipient")?,
        tries: row.get("tries")?,
        next_try: time(row.get("next_try")?),
        ended: row.get::<_, Option<i64>>("ended")?.map(time),
        outcome: row.get::<_, Option<String>>("outcome")?.map(Sending::of_words),
    })
}

fn read_held(row: &Row<'_>) -> Result<HeldTrace, Fault> {
    Ok(HeldTrace {
        quarantine: row.get("id")?,
        recipient: row.get("recipient")?,
        expires: time(row.get("expires")?),
        outcome: row.get::<_, Option<String>>("outcome")?.map(|word| Ending::of_word(&word)).transpose()?,
    })
}

#[cfg(test)]
#[path = "journal/tests.rs"]
mod tests;
