//! Why a statement failed, inside a verb.

use crate::store::{Error, UnknownWord};

/// A failure inside a verb.
#[derive(Debug, thiserror::Error)]
pub(in crate::store) enum Fault {
    /// SQLite, or the reading of a row.
    #[error(transparent)]
    Sql(#[from] rusqlite::Error),
    /// A word that this version does not know.
    #[error(transparent)]
    Word(#[from] UnknownWord),
    /// One that is told as it is, and undoes the transaction.
    #[error(transparent)]
    Known(#[from] Error),
    /// A column holds something else than it may.
    #[error("{0}")]
    Column(&'static str),
    /// The connections are closed.
    #[error("it is closed")]
    Closed,
    /// Others of this process kept the connections for as long as a lock is waited for.
    #[error("other statements of this program have kept it busy for too long")]
    Busy,
    /// The caller asks for nothing any more, so nothing was committed.
    #[error("it was given up before it was done")]
    GivenUp,
}

impl Fault {
    /// SQLite's primary result code, without what it says more closely.
    pub(in crate::store) fn primary_code(&self) -> Option<i32> {
        let Fault::Sql(error) = self else { return None };
        error.sqlite_error().map(|error| error.extended_code & 0xff)
    }

    /// Whether SQLite says that the file is malformed (11) or no database (26), whatever else it says with it.
    pub(in crate::store) fn is_damage(&self) -> bool {
        matches!(self.primary_code(), Some(11 | 26))
    }

    /// Whether another process has the file for a moment: busy (5), locked (6), or a race for the locks of the log (15).
    pub(super) fn is_locked(&self) -> bool {
        matches!(self.primary_code(), Some(5 | 6 | 15))
    }
}
