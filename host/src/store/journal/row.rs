//! A row on its way into the journal, with its story in the form in which it is stored.

use std::time::SystemTime;

use super::Entry;
use crate::case::{Decision, WrittenCase};
use crate::store::packed::{Beside, pack, pack_json};
use crate::store::words::{RowResult, RowVerdict};
use crate::store::{KnownSender, seconds};

/// A journal row to be written, all but its number.
#[derive(Clone, Debug)]
pub struct NewRow {
    /// When it was written, in seconds since 1970.
    pub(super) at: i64,
    pub(in crate::store) columns: Columns,
    pub(in crate::store) stored: Stored,
    /// The sender, where the message shows that it is a known one; it stands in a table of its own, and is not read back.
    pub known: Option<KnownSender>,
    /// What the block of the row counts. Absent where nobody can read it.
    pub(super) case: Option<WrittenCase>,
}

/// What stands beside the story.
#[derive(Clone, Debug)]
pub struct Columns {
    /// The MTA's name for the message.
    pub queue_id: Option<String>,
    /// The address of the From field.
    pub sender: Option<String>,
    /// What was found.
    pub result: RowResult,
    /// What the mail server was told.
    pub verdict: RowVerdict,
    /// What else is to be said, such as which notices are withheld.
    pub note: String,
}

impl Columns {
    fn beside(&self, at: i64) -> Beside<'_> {
        Beside { at, queue_id: self.queue_id.as_deref(), sender: self.sender.as_deref() }
    }
}

/// A story as it is stored.
#[derive(Clone, Debug)]
pub(in crate::store) enum Stored {
    Packed(Vec<u8>),
    Json(String),
}

impl Stored {
    /// Octets that it takes.
    pub(super) fn len(&self) -> usize {
        match self {
            Stored::Packed(octets) => octets.len(),
            Stored::Json(json) => json.len(),
        }
    }

    /// What stands in the columns `entry` and `story`.
    pub(in crate::store) fn columns(&self) -> (&str, Option<&[u8]>) {
        match self {
            Stored::Packed(octets) => ("", Some(octets)),
            Stored::Json(json) => (json, None),
        }
    }
}

impl NewRow {
    /// The row of this case.
    pub fn of(case: WrittenCase, columns: Columns, now: SystemTime) -> NewRow {
        NewRow::at(case, columns, seconds(now))
    }

    fn at(mut case: WrittenCase, columns: Columns, at: i64) -> NewRow {
        let stored = match pack(&case, columns.beside(at)) {
            Some(octets) => Stored::Packed(octets),
            // Plain data with string keys: it always serialises; were it otherwise, the columns still tell the story.
            None => Stored::Json(
                serde_json::to_string(&case).unwrap_or_else(|e| format!("{{\"version\":0,\"error\":\"{e}\"}}")),
            ),
        };
        // The block counts none of them, and while the row waits they would take many times what is packed.
        case.decisions.iter_mut().for_each(Decision::forget_facts);
        NewRow { at, columns, stored, known: None, case: Some(case) }
    }

    /// The same row without the facts that its decisions were made of.
    pub fn without_facts(self) -> NewRow {
        let Some(mut case) = self.case else { return self };
        case.decisions.iter_mut().for_each(Decision::forget_facts);
        case.shortened = true;
        NewRow { known: self.known, ..NewRow::at(case, self.columns, self.at) }
    }

    /// A row as it was read, or one whose story is JSON for another reason.
    pub fn again(entry: Entry, now: SystemTime) -> NewRow {
        let (at, case) = (seconds(now), WrittenCase::read(&entry.json).ok());
        let Entry { queue_id, sender, result, verdict, json, note } = entry;
        let columns = Columns { queue_id, sender, result, verdict, note };
        let stored = match pack_json(&json, columns.beside(at)) {
            Some(octets) => Stored::Packed(octets),
            None => Stored::Json(json),
        };
        NewRow { at, columns, stored, known: None, case }
    }

    /// The MTA's name for the message.
    pub fn queue_id(&self) -> Option<&str> {
        self.columns.queue_id.as_deref()
    }

    /// Octets that the story takes where it is stored.
    pub fn octets(&self) -> usize {
        self.stored.len()
    }

    /// Octets of memory that it takes while it waits, reckoned from what is stored, rather too many than too few: each short text
    /// and number of the case has a place of its own there.
    pub fn memory(&self) -> usize {
        size_of::<NewRow>().saturating_add(self.stored.len().saturating_mul(6)).saturating_add(self.columns.note.len())
    }
}
