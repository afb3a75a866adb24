//! The journal: what became of messages, row by row; written, looked up, counted and bounded.

mod clear;
mod look;
mod row;
mod wanted;
mod write;

use std::sync::Arc;
use std::time::SystemTime;

use rusqlite::Row;

use super::block::Tally;
use super::packed::{Beside, unpack};
use super::sqlite::{Fault, Statements as _};
use super::words::{Ending, Kind, RowResult, RowVerdict, Sending};
use super::{Error, KnownSender, Ledger, known, time};

use look::Sought;
pub(super) use look::{names_address, octets};
pub use row::{Columns, NewRow};
pub use wanted::{Found, Wanted};
use write::RowWriter;
pub(super) use write::{annotate, insert, survey};

/// Rows that are read at once where many are looked through.
const PAGE: u32 = 256;

/// What a row is read from.
pub(super) const COLUMNS: &str = "id, at, queue_id, sender, result, verdict, entry, note, story";

/// What a journal row says.
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

/// Which rows are looked for; what is absent does not matter. Result, verdict and time are exact. The others leave out what
/// certainly does not fit: who looks for them reads what is found.
#[derive(Clone, Debug, Default)]
pub struct Search {
    /// What was found.
    pub result: Option<RowResult>,
    /// What the mail server was told.
    pub verdict: Option<RowVerdict>,
    /// Written at this time or later.
    pub since: Option<SystemTime>,
    /// From this sender, by the From field or the envelope: the text of a [`Mailbox`](crate::proto::address::Mailbox), or `@`
    /// and a domain.
    pub sender: Option<String>,
    /// To this recipient, in the same form.
    pub recipient: Option<String>,
    /// To one of these as well, in the same form; empty: to anybody.
    pub recipients: Vec<String>,
    /// Where a policy decided this, by the word of its [`Disposition`](crate::case::Disposition).
    pub decision: Option<String>,
    /// Where the policy of this id decided.
    pub policy: Option<String>,
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
    pub async fn append(&self, rows: Vec<Arc<NewRow>>) -> Result<(), Error> {
        self.0.in_place()?;
        let senders: Vec<KnownSender> = rows.iter().filter_map(|row| row.known).collect();
        let noted = senders.clone();
        let written = self.0.write(move |work| {
            let mut writer = RowWriter::new(work);
            for row in rows {
                writer.write(&row)?;
            }
            known::note(work, noted)?;
            writer.close()
        });
        written.await?;
        // The caller forgets the rows then.
        self.0.in_place()?;
        self.2.learn(self.0.commits(), senders);
        Ok(())
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
        let sought = Sought::of_queue_id(queue_id);
        let mut rows = self.0.scan(move |work| sought.page(work, i64::MAX, u32::MAX)).await?;
        rows.reverse();
        Ok(rows)
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
    async fn page(&self, search: &Search, below: Option<i64>, most: u32) -> Result<Vec<JournalRow>, Error> {
        let sought = Sought::new(search.clone());
        self.0.scan(move |work| sought.page(work, below.unwrap_or(i64::MAX), most)).await
    }

    /// Shows how many messages were judged how since then, in parts of which each is of older messages than the one before. What
    /// was counted when a row was written is not counted again: this reads some octets a row.
    pub async fn tally(&self, since: Option<SystemTime>, mut see: impl FnMut(Tally)) -> Result<(), Error> {
        let (since, mut below) = (since.map_or(0, super::seconds), Some(i64::MAX));
        while let Some(upto) = below {
            let (tallies, left) = self.0.scan(move |work| look::tallies(work, upto, since)).await?;
            tallies.into_iter().for_each(&mut see);
            below = left;
        }
        Ok(())
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
}

/// A row of [`COLUMNS`].
pub(super) fn read(row: &Row<'_>) -> Result<JournalRow, Fault> {
    let at = row.get("at")?;
    let (queue_id, sender): (Option<String>, Option<String>) = (row.get("queue_id")?, row.get("sender")?);
    let json = match row.get_ref("story")?.as_blob_or_null().map_err(|_| Fault::Column("the story is no blob"))? {
        // What cannot be read is told of where the story is wanted.
        Some(story) => {
            let beside = Beside { at, queue_id: queue_id.as_deref(), sender: sender.as_deref() };
            unpack(story, beside).unwrap_or_default()
        }
        None => row.get("entry")?,
    };
    let result = RowResult::of_word(&row.get::<_, String>("result")?);
    let verdict = RowVerdict::of_word(&row.get::<_, String>("verdict")?);
    let note = row.get("note")?;
    let entry = Entry { queue_id, sender, result, verdict, json, note };
    Ok(JournalRow { id: row.get("id")?, at: time(at), entry })
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
