//! The log of changes in memory.

use async_trait::async_trait;

use super::{MemoryKeys, Table};
use crate::store::changes::CHANGES_MOST;
use crate::store::{Changed, Changes, Error, LogPlace, Look};

#[async_trait]
impl Changes for MemoryKeys {
    async fn changes(&self, since: Option<&LogPlace>) -> Result<Look, Error> {
        self.0.with(|table| {
            let place = LogPlace { newest: (table.last_change, 0), commits: None };
            let changed = match since {
                Some(since) => table.changed_after(since.newest.0),
                None => Changed::Anybodys,
            };
            Ok(Look { place, changed })
        })
    }

    async fn trim_changes(&self, most: u64) -> Result<u64, Error> {
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        self.0.with(|table| {
            let count = table.changes.len();
            if count > most {
                table.changes.drain(..count - most / 2);
            }
            Ok(u64::try_from(count - table.changes.len()).unwrap_or_default())
        })
    }
}

impl Table {
    /// Writes down that the keys of this address changed. What no look tells of any more is not kept.
    pub(super) fn note(&mut self, address: &str) {
        self.last_change = self.last_change.saturating_add(1);
        self.changes.push_back((self.last_change, address.to_owned()));
        if self.changes.len() > CHANGES_MOST {
            self.changes.pop_front();
        }
    }

    fn changed_after(&self, number: i64) -> Changed {
        let goes_on = self.changes.front().is_some_and(|(oldest, _)| *oldest <= number.saturating_add(1));
        if number == self.last_change {
            Changed::Of(Vec::new())
        } else if number < self.last_change && goes_on {
            let later = self.changes.iter().filter(|(seq, _)| *seq > number);
            Changed::Of(later.map(|(_, address)| address.clone()).collect())
        } else {
            Changed::Anybodys
        }
    }
}
