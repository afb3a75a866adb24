//! How many questions about wrong keys there were: about which address, from which verifier and network, on which day.

use std::time::SystemTime;

use async_trait::async_trait;

use super::Error;

/// INVALIDKEY answers that belong together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForgedRow {
    /// The domain.
    pub domain: String,
    /// The address, folded; empty: addresses that have no key.
    pub address: String,
    /// Whom the verifier said it was; empty: nobody, or no room to tell.
    pub verifier: String,
    /// The network that asked; empty: no room to tell.
    pub network: String,
    /// How many.
    pub answers: u64,
    /// When the first of them was given.
    pub first: SystemTime,
    /// When the last was.
    pub last: SystemTime,
}

/// The verbs of the AS about INVALIDKEY answers.
#[async_trait]
pub trait Forgeries {
    /// Adds these to what was counted on their days, all in one transaction.
    ///
    /// Where the table has `most` rows, what it has no row for yet is counted for its domain alone: it grows by one row a
    /// day and domain then.
    async fn count_forged(&self, rows: &[ForgedRow], most: u64) -> Result<(), Error>;

    /// What was counted on the days whose last answer is not before `since`, for all domains or one; the most first.
    async fn forged(&self, domain: Option<&str>, since: SystemTime) -> Result<Vec<ForgedRow>, Error>;

    /// Deletes what was counted on days that ended before this time; returns how many rows.
    async fn sweep_forged(&self, before: SystemTime) -> Result<u64, Error>;
}
