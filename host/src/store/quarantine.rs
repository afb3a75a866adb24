//! Messages kept back, whole but for their keys, until somebody releases or deletes them or their time is over.

use std::time::SystemTime;

use sqlx::AssertSqlSafe;

use super::held::{Held, allowed, back, grouped, hand_on, journal_of, outcome, tidy, waiting};
use super::journal::annotate;
use super::ledger::capped_as;
use super::outbox::read_outbox;
use super::words::{Ending, Kind};
use super::{Error, Ledger, OutboxRow, Reason, folded, seconds};

/// The columns of a [`Held`], and where they are from: a row for each recipient.
const HELD: &str = "q.id, q.at, q.expires, q.queue_id, q.sender, q.reverse_path, q.subject, q.reason, q.size,
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
        let rows = sqlx::query(AssertSqlSafe(format!(
            "SELECT {HELD} WHERE q.id IN (SELECT h.quarantine FROM held h JOIN quarantine p ON p.id = h.quarantine
                 WHERE (h.outcome IS NULL OR ?1 AND EXISTS (SELECT 1 FROM outbox o
                     WHERE o.quarantine = h.quarantine AND o.recipient = h.recipient AND o.ended IS NULL))
                 AND h.folded = coalesce(?2, h.folded) AND p.at >= ?3
                 GROUP BY h.quarantine ORDER BY h.quarantine DESC LIMIT ?4)
             ORDER BY q.id DESC, h.recipient"
        )))
        .bind(sought.under_way)
        .bind(sought.recipient.as_deref().map(capped_as))
        .bind(sought.since.map(seconds).unwrap_or_default())
        .bind(most)
        .fetch_all(self.0.readers())
        .await;
        rows.and_then(|rows| grouped(&rows)).map_err(|e| self.0.failed(e))
    }

    /// One message and its text; absent where nothing is kept under this number.
    pub async fn held_message(&self, id: i64) -> Result<Option<(Held, Vec<u8>)>, Error> {
        let read = async {
            let rows = sqlx::query(AssertSqlSafe(format!("SELECT {HELD} WHERE q.id = ? ORDER BY h.recipient")))
                .bind(id)
                .fetch_all(self.0.readers())
                .await?;
            let message = sqlx::query_scalar("SELECT message FROM quarantine WHERE id = ?")
                .bind(id)
                .fetch_optional(self.0.readers())
                .await?;
            Ok(grouped(&rows)?.pop().zip(message))
        };
        read.await.map_err(|e| self.0.failed(e))
    }

    /// The numbers of the messages that are kept and that the MTA called by this name.
    pub async fn held_as(&self, queue_id: &str) -> Result<Vec<i64>, Error> {
        sqlx::query_scalar("SELECT id FROM quarantine WHERE queue_id = ? ORDER BY id")
            .bind(queue_id)
            .fetch_all(self.0.readers())
            .await
            .map_err(|e| self.0.failed(e))
    }

    /// How many messages are kept, those on their way included, and their octets.
    pub async fn kept(&self) -> Result<(u64, u64), Error> {
        let kept: (i64, i64) = sqlx::query_as("SELECT count(*), coalesce(sum(size), 0) FROM quarantine")
            .fetch_one(self.0.readers())
            .await
            .map_err(|e| self.0.failed(e))?;
        Ok((kept.0.unsigned_abs(), kept.1.unsigned_abs()))
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
        self.try_release(id, recipient, allow, now).await.map_err(|e| self.0.failed(e))?
    }

    async fn try_release(
        &self,
        id: i64,
        recipient: Option<&str>,
        allow: Option<u32>,
        now: SystemTime,
    ) -> Result<Result<Released, Error>, sqlx::Error> {
        let mut work = self.0.writer().begin_with("BEGIN IMMEDIATE").await?;
        let waiting = match waiting(&mut work, id, recipient).await? {
            Ok(waiting) => waiting,
            Err(e) => return Ok(Err(e)),
        };
        let (sender, reverse_path, reason): (Option<String>, String, String) =
            sqlx::query_as("SELECT sender, reverse_path, reason FROM quarantine WHERE id = ?")
                .bind(id)
                .fetch_one(&mut *work)
                .await?;
        let sender = sender.as_deref().and_then(folded);
        if allow.is_some() && sender.is_none() {
            return Ok(Err(Error::NoSender { id }));
        }
        let journal = journal_of(&mut work, id, now).await?;
        let reason = Reason::written(reason);
        let mut released = Released { rows: Vec::new(), allowed: allow.is_some(), sender: sender.clone(), reason };
        for recipient in &waiting {
            outcome(&mut work, id, recipient, Ending::Released, now).await?;
            released.rows.push(hand_on(&mut work, (journal, id, Kind::Release), &reverse_path, recipient, now).await?);
            if let (Some(most), Some(sender)) = (allow, &sender) {
                released.allowed &= allowed(&mut work, recipient, sender, most, now).await?;
            }
        }
        annotate(&mut work, journal, &format!("released from quarantine to {}", waiting.join(", "))).await?;
        work.commit().await?;
        Ok(Ok(released))
    }

    /// Deletes a message for one recipient, or for all who wait for it or to whom it is on its way and not sent yet: it is
    /// taken back, unless the very try under way succeeds. Returns who they are.
    ///
    /// # Errors
    /// [`Error::NoMessage`], [`Error::NoSuchRecipient`], [`Error::AlreadyEnded`]: nothing changed.
    pub async fn delete_held(&self, id: i64, recipient: Option<&str>, now: SystemTime) -> Result<Vec<String>, Error> {
        let deleted = async {
            let mut work = self.0.writer().begin_with("BEGIN IMMEDIATE").await?;
            // First of all: whom it was on its way to waits again, and is among those for whom it is deleted.
            back(&mut work, id, recipient, now).await?;
            let waiting = match waiting(&mut work, id, recipient).await? {
                Ok(waiting) => waiting,
                Err(e) => return Ok(Err(e)),
            };
            for recipient in &waiting {
                outcome(&mut work, id, recipient, Ending::Deleted, now).await?;
            }
            let journal = journal_of(&mut work, id, now).await?;
            annotate(&mut work, journal, &format!("deleted from quarantine for {}", waiting.join(", "))).await?;
            tidy(&mut work, id).await?;
            work.commit().await?;
            Ok(Ok(waiting))
        };
        deleted.await.map_err(|e| self.0.failed(e))?
    }

    /// Deletes the messages whose time is over, but for those on their way; the journal notes it. Returns how many.
    pub async fn expire(&self, now: SystemTime) -> Result<u64, Error> {
        let mut count = 0;
        loop {
            let batch = self.expire_some(now).await.map_err(|e| self.0.failed(e))?;
            count += u64::from(batch);
            if batch < BATCH {
                return Ok(count);
            }
        }
    }

    async fn expire_some(&self, now: SystemTime) -> Result<u32, sqlx::Error> {
        let mut work = self.0.writer().begin_with("BEGIN IMMEDIATE").await?;
        let ids: Vec<i64> = sqlx::query_scalar(
            "SELECT id FROM quarantine q WHERE expires <= ?
             AND NOT EXISTS (SELECT 1 FROM outbox WHERE outbox.quarantine = q.id AND ended IS NULL)
             ORDER BY expires LIMIT ?",
        )
        .bind(seconds(now))
        .bind(BATCH)
        .fetch_all(&mut *work)
        .await?;
        for &id in &ids {
            let waited: Vec<String> =
                sqlx::query_scalar("SELECT recipient FROM held WHERE quarantine = ? AND outcome IS NULL")
                    .bind(id)
                    .fetch_all(&mut *work)
                    .await?;
            let journal = journal_of(&mut work, id, now).await?;
            let words = format!("expired in quarantine, not released to {}", waited.join(", "));
            annotate(&mut work, journal, &words).await?;
            sqlx::query("DELETE FROM quarantine WHERE id = ?").bind(id).execute(&mut *work).await?;
        }
        work.commit().await?;
        Ok(u32::try_from(ids.len()).unwrap_or(u32::MAX))
    }

    /// These rows of the outbox, in this order, as far as they are there.
    pub async fn progress(&self, rows: &[i64]) -> Result<Vec<OutboxRow>, Error> {
        let mut progress = Vec::new();
        for row in rows {
            let row = sqlx::query(
                "SELECT kind, recipient, message_id, tries, next_try, outcome, note FROM outbox WHERE id = ?",
            )
            .bind(row)
            .fetch_optional(self.0.readers())
            .await
            .and_then(|row| row.as_ref().map(read_outbox).transpose())
            .map_err(|e| self.0.failed(e))?;
            progress.extend(row);
        }
        Ok(progress)
    }
}

#[cfg(test)]
mod tests;
