//! Verbs over the database: callers say what they mean, and SQL stays in this room.
//!
//! Two SQLite files in the state directory, since two processes with different rights use them: `authority.db` holds
//! the AS's addresses and keys ([`KeyTable`]), `filter.db` the journal and the outbox ([`Ledger`]). Both are durable at commit
//! (write-ahead log, `synchronous=FULL`), mode 0600, and know the version of their schema.

mod addresses;
mod choices;
mod erase;
mod forged;
mod journal;
mod keys;
mod ledger;
mod outbox;
mod quarantine;
mod rights;
mod sqlite;

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub use addresses::SettingsRow;
pub use choices::{UserRow, Wish, wanted};
pub use erase::{ERASED, Erased, Remains};
pub use forged::ForgedRow;
pub use journal::{Entry, HeldTrace, JournalRow, Search, SentTrace, Traces};
pub use keys::{Added, KeyRow, KeyTable, NewKey, RunningOut};
pub use ledger::{Ledger, Recorded};
pub use outbox::{Caps, Collected, Draft, Due, Kind, OutboxRow, Withheld};
pub use quarantine::{Held, HeldFor, Kept, Released, Sought, UnderWay};
pub use rights::is_there;
pub use sqlite::prepare_dir;

pub use crate::proto::address::folded;

/// How a database is opened; the numbers come from `config::Limits`.
#[derive(Clone, Copy, Debug)]
pub struct Opening {
    /// How long a statement waits for another process's lock before it fails.
    pub busy: Duration,
    /// Connections for reading, beside the one for writing.
    pub readers: u32,
}

/// What can go wrong with a database.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The directory is not there, and cannot be made.
    #[error(
        "cannot use the directory {path}: {source}. Make it, owned by the user that runs addrauth with mode 0700, or set state_dir"
    )]
    Directory {
        /// The directory.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The file cannot be opened or created.
    #[error("cannot open {path}: {text}")]
    Open {
        /// The file.
        path: PathBuf,
        /// The reason.
        text: String,
    },
    /// The file is another user's.
    #[error("cannot open {path}: permission denied: {way}")]
    Denied {
        /// The file.
        path: PathBuf,
        /// What to do about it.
        way: String,
    },
    /// The file holds something else, or not all of what it held.
    #[error(
        "{path} is damaged, or no database of ours: {text}. Restore it from a backup, or move it away with its -wal and -shm"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The database's reason.
        text: String,
    },
    /// Written by a newer version of this program.
    #[error(
        "{path} has schema {found}, this program knows up to {known}: it was written by a newer addrauth. Install that version again, or restore the file from before the upgrade"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// The version found.
        found: i64,
        /// The newest version known.
        known: i64,
    },
    /// A statement failed.
    #[error("{path}: {source}")]
    Statement {
        /// The file.
        path: PathBuf,
        /// The database's reason; values are bound and do not show in it.
        source: sqlx::Error,
    },
    /// A list of wanted senders has as many entries as one may have.
    #[error(
        "{address} has {most} wanted senders already: take some off with `addrauth user disallow`, or allow @domain"
    )]
    TooManyAllowed {
        /// The address.
        address: String,
        /// How many there may be.
        most: u32,
    },
    /// The quarantine holds as much as it may.
    #[error(
        "the quarantine is full: {most} octets are all it may hold. Release or delete messages (`addrauth quarantine list`), or raise custody.quarantine_mib"
    )]
    QuarantineFull {
        /// How many octets it may hold.
        most: u64,
    },
    /// Nothing is kept under this number.
    #[error("there is no message {id} in quarantine; `addrauth quarantine list` shows them")]
    NoMessage {
        /// The number.
        id: i64,
    },
    /// The message is kept for others.
    #[error("message {id} is not kept for {recipient}; `addrauth quarantine show {id}` tells for whom it is")]
    NoSuchRecipient {
        /// Its number.
        id: i64,
        /// Who was named.
        recipient: String,
    },
    /// It is not kept back any more.
    #[error("message {id} was {outcome} already; `addrauth quarantine list` shows those that wait")]
    AlreadyEnded {
        /// Its number.
        id: i64,
        /// What became of it: `released`, `copied` or `deleted`.
        outcome: String,
    },
    /// Nobody's mail can be wanted where no sender could be told.
    #[error("message {id} has no usable sender address that could be allowed; release it without --allow")]
    NoSender {
        /// Its number.
        id: i64,
    },
    /// A mail on which the fate of a message hangs may not be owed.
    #[error("the mail to {recipient} may not be sent: {why}")]
    Withheld {
        /// Whom it was to go to.
        recipient: String,
        /// The cap, in words.
        why: &'static str,
    },
    /// An address has as many keys as one may have.
    #[error("{address} has {count} living keys already: revoke some before another one is issued")]
    TooManyKeys {
        /// The address.
        address: String,
        /// How many.
        count: usize,
    },
    /// The address gets no keys in time.
    #[error("{address} is not in the table of addresses: `addrauth address add {address}` puts it in")]
    NotEnlisted {
        /// The address.
        address: String,
    },
}

/// Seconds since 1970, as the tables keep time; a time before is 0.
pub fn seconds(at: SystemTime) -> i64 {
    let seconds = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    i64::try_from(seconds).unwrap_or(i64::MAX)
}

/// The time that [`seconds`] wrote down.
pub fn time(seconds: i64) -> SystemTime {
    let seconds = u64::try_from(seconds).unwrap_or_default();
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds)).unwrap_or(UNIX_EPOCH)
}
