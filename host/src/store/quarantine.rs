//! Messages kept back, whole but for their keys, until somebody releases or deletes them or their time is over.

use std::time::SystemTime;

use rusqlite::{Connection, params};

use super::held::{Held, allowed, back, grouped, hand_on, journal_of, outcome, read_held, tidy, waiting};
use super::journal::annotate;
use super::ledger::capped_as;
use super::outbox::read_outbox;
use super::sqlite::{Fault, Statements as _};
use super::words::{Ending, Kind};
use super::{Error, Ledger, OutboxRow, Reason, folded, seconds};

/// The columns of a [`Held`], and where they are from: a row for each recipient.
const HELD: &str =
    "q.id, q.journal, q.at, q.expires, q.queue_id, q.sender, q.reverse_path, q.subject, q.reason, q.size,
     h.recipient, h.outcome, h.note, o.tries, o.next_try, o.note AS last
     FROM quarantine q JOIN held h ON h.quarantine = q.id
     LEFT JOIN outbox o ON o.quarantine = q.id AND o.recipient = h.recipient AND o.ended IS NULL";

/// Messages that one transaction deletes: mail waits for its lock, and large ones are overwritten page by page.
const BATCH: u32 = 4;

/// Which messages are sought; by default all that wait for a word about them.
#[derive(Clone, Debug, Default)]
pub struct Sought {
    /// Those for this recipient, however his address is spelled.
    pub recipient: Option<String>,
    /// Those that came then or later.
    pub since: Option<SystemTime>,
    /// Those too that were let go and are not sent yet.
    pub under_way: bool,
}

/// What a release set going.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Released {
    /// The rows of the outbox, one for each recipient: [`Ledger::progress`] tells what becomes of them.
    pub rows: Vec<i64>,
    /// Whether the sender is on the list of each recipient now; false also where nobody asked for that.
    pub allowed: bool,
    /// The sender, as a list of wanted ones has him.
    pub sender: Option<String>,
    /// Why the message was kept.
    pub reason: Reason,
}

impl Ledger {
    /// The messages that wait for a word about them, newest first; those of one recipient, however his address is spelled,
    /// where one is named.
    pub async fn held(&self, recipient: Option<&str>, most: u32) -> Result<Vec<Held>, Error> {
        let recipient = recipient.map(str::to_owned);
        self.sought(&Sought { recipient, ..Sought::default() }, most).await
    }

    /// At most so many of the newest messages that are sought, newest first.
    pub async fn sought(&self, sought: &Sought, most: u32) -> Result<Vec<Held>, Error> {
        let found = format!(
            "SELECT {HELD} WHERE q.id IN (SELECT h.quarantine FROM held h JOIN quarantine p ON p.id = h.quarantine
                 WHERE (h.outcome IS NULL OR ?1 AND EXISTS (SELECT 1 FROM outbox o
                     WHERE o.quarantine = h.quarantine AND o.recipient = h.recipient AND o.ended IS NULL))
                 AND h.folded = coalesce(?2, h.folded) AND p.at >= ?3
                 GROUP BY h.quarantine ORDER BY h.quarantine DESC LIMIT ?4)
             ORDER BY q.id DESC, h.recipient"
        );
        let recipient = sought.recipient.as_deref().map(capped_as);
        let (under_way, since) = (sought.under_way, sought.since.map(seconds).unwrap_or_default());
        let rows = self.0.scan(move |work| work.all(&found, params![under_way, recipient, since, most], read_held));
        Ok(grouped(rows.await?))
    }

    /// One message and its text; absent where nothing is kept under this number.
    pub async fn held_message(&self, id: i64) -> Result<Option<(Held, Vec<u8>)>, Error> {
        let read = self.0.scan(move |work| {
            let rows = work.all(&format!("SELECT {HELD} WHERE q.id = ? ORDER BY h.recipient"), [id], read_held)?;
            let message = work.find("SELECT message FROM quarantine WHERE id = ?", [id])?;
            Ok(grouped(rows).pop().zip(message))
        });
        read.await
    }

    /// A message in quarantine without its octets.
    pub async fn held_row(&self, id: i64) -> Result<Option<Held>, Error> {
        let read = self.0.scan(move |work| {
            let rows = work.all(&format!("SELECT {HELD} WHERE q.id = ? ORDER BY h.recipient"), [id], read_held)?;
            Ok(grouped(rows).pop())
        });
        read.await
    }

    /// The numbers of the messages that are kept and that the MTA called by this name.
    pub async fn held_as(&self, queue_id: &str) -> Result<Vec<i64>, Error> {
        let queue_id = queue_id.to_owned();
        let called = "SELECT id FROM quarantine WHERE queue_id = ? ORDER BY id";
        self.0.scan(move |work| work.all(called, [queue_id], |row| Ok(row.get(0)?))).await
    }

    /// How many messages are kept, those on their way included, and their octets.
    pub async fn kept(&self) -> Result<(u64, u64), Error> {
        let kept = self.0.scan(|work| {
            let kept = work.first("SELECT count(*), coalesce(sum(size), 0) FROM quarantine", (), |row| {
                Ok((row.get::<_, i64>(0)?.unsigned_abs(), row.get::<_, i64>(1)?.unsigned_abs()))
            })?;
            Ok(kept.unwrap_or_default())
        });
        kept.await
    }

    /// Hands a message to the outbox for one recipient, or for all who wait for it; the running filter sends it. With
    /// `allow`, its sender comes onto their lists of wanted senders, of so many entries at most.
    ///
    /// # Errors
    /// [`Error::NoMessage`], [`Error::NoSuchRecipient`], [`Error::AlreadyEnded`], [`Error::NoSender`]: nothing changed.
    pub async fn release(
        &self,
        id: i64,
        recipient: Option<&str>,
        allow: Option<u32>,
        now: SystemTime,
    ) -> Result<Released, Error> {
        let recipient = recipient.map(str::to_owned);
        self.0.write(move |work| release(work, id, recipient.as_deref(), allow, now)).await
    }

    /// Deletes a message for one recipient, or for all who wait for it or to whom it is on its way and not sent yet: it is
    /// taken back, unless the very try under way succeeds. Returns who they are.
    ///
    /// # Errors
    /// [`Error::NoMessage`], [`Error::NoSuchRecipient`], [`Error::AlreadyEnded`]: nothing changed.
    pub async fn delete_held(&self, id: i64, recipient: Option<&str>, now: SystemTime) -> Result<Vec<String>, Error> {
        let recipient = recipient.map(str::to_owned);
        let deleted = self.0.write(move |work| {
            // First of all: whom it was on its way to waits again, and is among those for whom it is deleted.
            back(work, id, recipient.as_deref(), now)?;
            let waiting = waiting(work, id, recipient.as_deref())?;
            for recipient in &waiting {
                outcome(work, id, recipient, Ending::Deleted, now)?;
            }
            let journal = journal_of(work, id, now)?;
            annotate(work, journal, &format!("deleted from quarantine for {}", waiting.join(", ")))?;
            tidy(work, id)?;
            Ok(waiting)
        });
        deleted.await
    }

    /// Deletes the messages whose time is over, but for those on their way; the journal notes it. Returns how many.
    pub async fn expire(&self, now: SystemTime) -> Result<u64, Error> {
        let mut count = 0;
        loop {
            let batch = self.0.write(move |work| expire_some(work, now)).await?;
            count += u64::from(batch);
            if batch < BATCH {
                return Ok(count);
            }
        }
    }

    /// These rows of the outbox, in this order, as far as they are there.
    pub async fn progress(&self, rows: &[i64]) -> Result<Vec<OutboxRow>, Error> {
        let row = "SELECT kind, recipient, message_id, tries, next_try, outcome, note FROM outbox WHERE id = ?";
        self.0.read(|work| {
            let found = rows.iter().map(|id| work.first(row, [id], read_outbox));
            found.filter_map(Result::transpose).collect()
        })
    }
}

fn release(
    work: &Connection,
    id: i64,
    recipient: Option<&str>,
    allow: Option<u32>,
    now: SystemTime,
) -> Result<Released, Fault> {
    let waiting = waiting(work, id, recipient)?;
    let row = work.first("SELECT sender, reverse_path, reason FROM quarantine WHERE id = ?", [id], |row| {
        Ok((row.get::<_, Option<String>>(0)?, row.get::<_, String>(1)?, Reason::written(row.get(2)?)))
    })?;
    let (sender, reverse_path, reason) = row.ok_or(Error::NoMessage { id })?;
    let sender = sender.as_deref().and_then(folded);
    if allow.is_some() && sender.is_none() {
        return Err(Error::NoSender { id }.into());
    }
    let journal = journal_of(work, id, now)?;
    let mut released = Released { rows: Vec::new(), allowed: allow.is_some(), sender: sender.clone(), reason };
    for recipient in &waiting {
        outcome(work, id, recipient, Ending::Released, now)?;
        released.rows.push(hand_on(work, (journal, id, Kind::Release), &reverse_path, recipient, now)?);
        if let (Some(most), Some(sender)) = (allow, &sender) {
            released.allowed &= allowed(work, recipient, sender, most, now)?;
        }
    }
    annotate(work, journal, &format!("released from quarantine to {}", waiting.join(", ")))?;
    Ok(released)
}

fn expire_some(work: &Connection, now: SystemTime) -> Result<u32, Fault> {
    let ids: Vec<i64> = work.all(
        "SELECT id FROM quarantine q WHERE expires <= ?
         AND NOT EXISTS (SELECT 1 FROM outbox WHERE outbox.quarantine = q.id AND ended IS NULL)
         ORDER BY expires LIMIT ?",
        params![seconds(now), BATCH],
        |row| Ok(row.get(0)?),
    )?;
    for &id in &ids {
        let waited = "SELECT recipient FROM held WHERE quarantine = ? AND outcome IS NULL";
        let waited: Vec<String> = work.all(waited, [id], |row| Ok(row.get(0)?))?;
        let journal = journal_of(work, id, now)?;
        let words = format!("expired in quarantine, not released to {}", waited.join(", "));
        annotate(work, journal, &words)?;
        work.run("DELETE FROM quarantine WHERE id = ?", [id])?;
    }
    Ok(u32::try_from(ids.len()).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests;
