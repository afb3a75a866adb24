//! Which senders are written down as known for today, for as long as the program runs.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use super::commits::Commits;
use super::seconds;
use crate::proto::mark::Pseudonym;

/// How many senders are remembered to be noted for today, some 16 octets each: those of a busy server's day. One that is not
/// remembered costs the writer a look at its row.
const NOTED: usize = 250_000;

/// A sender for whom an AS vouched, and on which day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownSender {
    pub(super) sender: Pseudonym,
    /// Counted from 1970 in UTC.
    pub(super) day: i64,
}

impl KnownSender {
    /// The sender of a message that came at this time.
    pub fn new(sender: Pseudonym, at: SystemTime) -> KnownSender {
        KnownSender { sender, day: day_of(at) }
    }
}

/// The day of a time, counted from 1970 in UTC.
pub(super) fn day_of(at: SystemTime) -> i64 {
    seconds(at) / 86_400
}

/// Which senders are noted for today, so that writing them down once more is spared.
#[derive(Debug, Default)]
pub(super) struct Noted(Mutex<Today>);

#[derive(Debug, Default)]
struct Today {
    /// How the database stood, which tells whether it is another one by now.
    at: Option<Commits>,
    day: i64,
    senders: HashSet<Pseudonym>,
}

impl Noted {
    fn lock(&self) -> MutexGuard<'_, Today> {
        // What a panic leaves is whole: each change is one step, and the set may be empty at any time.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn holds(&self, known: KnownSender) -> bool {
        let today = self.lock();
        today.day == known.day && today.senders.contains(&known.sender)
    }

    /// Takes in what is on the disk. Where it cannot be told which file that is, nothing is remembered.
    pub(super) fn learn(&self, at: Option<Commits>, noted: impl IntoIterator<Item = KnownSender>) {
        let mut today = self.lock();
        let same = matches!((&today.at, &at), (Some(before), Some(now)) if before.is_same_file(now));
        if !same || today.senders.len() >= NOTED {
            today.senders.clear();
        }
        today.at = at;
        if today.at.is_none() {
            return;
        }
        for KnownSender { sender, day } in noted {
            if day > today.day {
                today.day = day;
                today.senders.clear();
            }
            if day == today.day {
                today.senders.insert(sender);
            }
        }
    }
}
