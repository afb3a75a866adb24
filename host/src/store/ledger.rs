//! The filter's database: what verbs of the journal, the quarantine and the outbox have in common.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::noted::Noted;
use super::remembered::Remembered;
use super::sqlite::Database;
use super::{Error, Opening, folded, plan};

/// No row of ours is that far in the future, unless the clock was wrong and has been put right since: such rows count for
/// nothing in the caps, and a notice among them is due.
pub(super) const AHEAD: Duration = Duration::from_secs(86_400);

/// Journal and outbox, `filter.db`.
#[derive(Clone, Debug)]
pub struct Ledger(pub(super) Database, pub(super) Arc<Remembered>, pub(super) Arc<Noted>);

impl Ledger {
    /// Opens journal and outbox in this directory, and makes them where there are none.
    pub async fn open(dir: &Path, opening: Opening) -> Result<Ledger, Error> {
        Ok(Ledger(Database::open(dir, plan::FILTER, opening).await?, Arc::default(), Arc::default()))
    }

    /// Closes the file; every later verb fails.
    pub async fn close(&self) {
        self.0.close().await;
    }
}

/// One mailbox counts once, however its address is spelled: `bob+1@`, `BOB@`.
pub(super) fn capped_as(address: &str) -> String {
    folded(address).unwrap_or_else(|| address.to_ascii_lowercase())
}
