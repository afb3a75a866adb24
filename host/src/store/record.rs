//! What became of a message, written down with what is owed for it, in one transaction.

use std::time::SystemTime;

use rusqlite::{Connection, params};

use super::block::of_row;
use super::held::{self, Kept};
#[cfg(test)]
use super::journal::Entry;
use super::journal::{NewRow, annotate, insert, survey};
use super::outbox::{self, Caps, Draft, Withheld};
use super::sqlite::{Fault, Statements as _};
use super::words::{Kind, RowVerdict};
use super::{Error, Ledger, known};

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
    /// The same without messages that are kept.
    #[cfg(test)]
    pub(super) async fn record(
        &self,
        entry: &Entry,
        drafts: &[Draft],
        caps: Caps,
        now: SystemTime,
    ) -> Result<Recorded, Error> {
        let row = NewRow::again(entry.clone(), now);
        self.record_and_keep(row, drafts.to_vec(), (Vec::new(), 0), caps, now).await
    }

    /// Writes a journal row, and the mails that the caps allow, in one transaction. Durable when it returns. Notices that
    /// they do not allow are told of in the row's note; another mail that they do not allow is an error, and nothing is
    /// written. It keeps these messages with them; all of them together may be so many octets with what is kept already,
    /// or nothing is written ([`Error::QuarantineFull`]).
    pub async fn record_and_keep(
        &self,
        row: NewRow,
        drafts: Vec<Draft>,
        (kept, most): (Vec<Kept>, u64),
        caps: Caps,
        now: SystemTime,
    ) -> Result<Recorded, Error> {
        self.0.in_place()?;
        let recorded = self.0.write(move |work| write(work, &row, &drafts, (&kept, most), caps, now)).await?;
        self.0.in_place()?;
        Ok(recorded)
    }

    /// Takes back what hangs on a journal row that was written too late: the MTA heard 451, and the message comes again. What
    /// has been sent meanwhile stays.
    pub async fn take_back(&self, journal: i64) -> Result<(), Error> {
        let taken = self.0.write(move |work| {
            work.run("DELETE FROM outbox WHERE journal = ? AND ended IS NULL AND tries = 0", [journal])?;
            work.run("DELETE FROM quarantine WHERE journal = ?", [journal])?;
            work.run("UPDATE journal SET verdict = ? WHERE id = ?", params![RowVerdict::Defer.word(), journal])?;
            annotate(work, journal, "written too late: the mail server was told 451, and nothing of this was done")?;
            // The block tells of another verdict now.
            survey(work, of_row(journal))
        });
        taken.await
    }
}

fn write(
    work: &Connection,
    row: &NewRow,
    drafts: &[Draft],
    (kept, most): (&[Kept], u64),
    caps: Caps,
    now: SystemTime,
) -> Result<Recorded, Fault> {
    if !held::has_room(work, kept, most)? {
        return Err(Error::QuarantineFull { most }.into());
    }
    let journal = insert(work, row)?;
    known::note(work, row.known)?;
    let mut recorded = Recorded { journal, owed: 0, withheld: Vec::new(), kept: Vec::new() };
    for message in kept {
        recorded.kept.push(held::keep(work, journal, message, now)?);
    }
    for draft in drafts {
        match outbox::admit(work, journal, draft, caps, now)? {
            None => recorded.owed += 1,
            Some(cap) if draft.kind == Kind::Notice => {
                annotate(work, journal, &format!("no notice to {}: {}", draft.recipient, cap.words()))?;
                recorded.withheld.push((draft.recipient.clone(), cap));
            }
            // The decision itself says that they cannot be read.
            Some(cap) if draft.kind == Kind::RulesUnread => recorded.withheld.push((draft.recipient.clone(), cap)),
            // Without it nobody would be told: then the message must not be taken either, and nothing is written.
            Some(cap) => return Err(Error::Withheld { recipient: draft.recipient.clone(), why: cap.words() }.into()),
        }
    }
    Ok(recorded)
}

#[cfg(test)]
mod tests;
