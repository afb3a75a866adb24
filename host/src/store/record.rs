//! What became of a message, written down with what is owed for it, in one transaction.

use std::time::SystemTime;

use super::held::{self, Kept};
use super::journal::{Entry, annotate, insert};
use super::outbox::{self, Caps, Draft, Withheld};
use super::words::Kind;
use super::{Error, Ledger};

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

impl Ledger {
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
        self.0.in_place()?;
        let written = self.write(entry, drafts, (kept, most), caps, now).await.map_err(|e| self.0.failed(e))?;
        self.0.in_place()?;
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
        if !held::has_room(&mut work, kept, most).await? {
            return Ok(Err(Refused::Full));
        }
        let journal = insert(&mut work, entry, now).await?;
        let mut recorded = Recorded { journal, owed: 0, withheld: Vec::new(), kept: Vec::new() };
        for message in kept {
            recorded.kept.push(held::keep(&mut work, journal, message, now).await?);
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

    /// Takes back what hangs on a journal row that was written too late: the MTA heard 451, and the message comes again. What
    /// has been sent meanwhile stays.
    pub async fn take_back(&self, journal: i64) -> Result<(), Error> {
        let taken = async {
            let mut work = self.0.writer().begin_with("BEGIN IMMEDIATE").await?;
            for statement in [
                "DELETE FROM outbox WHERE journal = ? AND ended IS NULL AND tries = 0",
                "DELETE FROM quarantine WHERE journal = ?",
                "UPDATE journal SET verdict = 'defer' WHERE id = ?",
            ] {
                sqlx::query(statement).bind(journal).execute(&mut *work).await?;
            }
            annotate(
                &mut work,
                journal,
                "written too late: the mail server was told 451, and nothing of this was done",
            )
            .await?;
            work.commit().await
        };
        taken.await.map_err(|e| self.0.failed(e))
    }
}

/// Why nothing was written.
enum Refused {
    /// The quarantine has no room.
    Full,
    /// A mail on which the message's fate hangs is over a cap.
    Withheld(String, Withheld),
}

#[cfg(test)]
mod tests;
