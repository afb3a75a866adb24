//! The log of changes: whose keys changed since somebody looked last.

use async_trait::async_trait;

use super::Error;
use super::commits::Commits;

/// A place in a table's log of changes, as the table told it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogPlace {
    /// The newest row, and its mark.
    pub(super) newest: (i64, i64),
    /// How a SQLite database stood before the look: while it stands so, the log has no newer row.
    pub(super) commits: Option<Commits>,
}

/// What a look at the log found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// The place up to which it went.
    pub place: LogPlace,
    /// Whose keys changed since the place before.
    pub changed: Changed,
}

/// Whose keys changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changed {
    /// Those of these addresses (folded), maybe of none.
    Of(Vec<String>),
    /// Anybody's: too many, or what lies between is not in the log any more, or the log is another one.
    Anybodys,
}

/// Addresses that one look tells of: to read more takes longer than to begin with an empty memory.
pub(super) const CHANGES_MOST: usize = 1_000;

/// The verbs about the log of changes, which a table writes by itself in the transaction of each change of a key.
#[async_trait]
pub trait Changes: Send + Sync {
    /// Looks at what changed since this place, and where the log is now; without a place [`Changed::Anybodys`]. Keys that are
    /// read afterwards are at least as new as the place that it tells.
    async fn changes(&self, since: Option<&LogPlace>) -> Result<Look, Error>;

    /// Deletes old rows, where there are more than `most`, down to half of that; returns how many.
    async fn trim_changes(&self, most: u64) -> Result<u64, Error>;
}
