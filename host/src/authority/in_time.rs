//! Keys made in time: a look every minute for those whose turn has come, and never a burst.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::issue::sealed;
use super::schedule::at_once;
use super::{Authority, Error};
use crate::config::Deliver;
use crate::proto::seal::SealTo;
use crate::store::{self, Added};

/// An address that got no key although its turn had come, since it has as many as one may; its turn passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FullAddress {
    /// The address.
    pub address: String,
    /// How many living keys it has.
    pub living: usize,
}

/// What one look for addresses whose turn has come led to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IssuedInTime {
    /// How many new keys are owed.
    pub made: usize,
    /// Who got none.
    pub full: Vec<FullAddress>,
}

impl Authority {
    /// How many keys one look makes at most, where a look comes `every` so often: three times the usual number, so that nobody
    /// meets a burst after a standstill.
    pub async fn due_at_once(&self, every: Duration) -> Result<usize, Error> {
        Ok(at_once(self.keys.turns_per_second(self.agi).await?, every))
    }

    /// Looks once, as the daemon does every `limits.authority.issue_every`: makes keys for those whose turn has come, the longest overdue
    /// first, and owes each to its address in the same transaction. None where `authority.deliver` says that nobody posts them.
    ///
    /// An address whose domain has left `authority.domains` gets none, and holds nobody up.
    ///
    /// Several servers on one database may look at the same time: an address whose turn another one took gets no second key.
    pub async fn issue_due(&self) -> Result<IssuedInTime, Error> {
        let mut look = IssuedInTime::default();
        if self.deliver == Deliver::Nobody {
            return Ok(look);
        }
        let mut left = self.due_at_once(self.limits.authority.issue_every).await?;
        let seal_to = store::post_seal_to(&self.state_dir, self.shared)?;
        while left > 0 {
            let seen = self.issue_some(left, &seal_to, &mut look).await?;
            if seen == 0 {
                break;
            }
            left = left.saturating_sub(seen);
        }
        Ok(look)
    }

    /// One transaction's worth of keys; how many addresses had their turn.
    async fn issue_some(&self, most: usize, seal_to: &SealTo, look: &mut IssuedInTime) -> Result<usize, Error> {
        let most = u32::try_from(most.min(self.limits.authority.keys_at_once)).unwrap_or(u32::MAX);
        let mut rows = Vec::new();
        let domains: Vec<String> = self.domains.iter().map(ToString::to_string).collect();
        for due in self.keys.due(&domains, self.clock.now(), most).await? {
            let (key, row) = self.made(&due.address, due.agi.unwrap_or(self.agi), due.avt.unwrap_or(self.avt))?;
            rows.push(sealed(&key, row, seal_to)?);
        }
        if rows.is_empty() {
            return Ok(0);
        }
        let added = {
            let _forgets = self.asked.forgets(rows.iter().map(|row| &row.address));
            self.keys.add_all(&rows, self.limits.authority.keys_per_address).await?
        };
        for (row, added) in rows.iter().zip(added) {
            match added {
                Added::Generation(_) => look.made += 1,
                Added::Full(living) => look.full.push(FullAddress { address: row.address.clone(), living }),
                // Another server was quicker.
                Added::NotDue => {}
            }
        }
        Ok(rows.len())
    }

    /// Looks at once and then every `limits.authority.issue_every`, until `shutdown`; says so where there is something to post.
    pub(super) async fn issue_often(self: Arc<Self>, made: &Notify, shutdown: CancellationToken) {
        let mut troubled = false;
        loop {
            let look = tokio::select! {
                // Cut off, it leaves no transaction half done.
                () = shutdown.cancelled() => return,
                look = self.issue_due() => look,
            };
            match look {
                Ok(look) => {
                    tell(&look);
                    if look.made > 0 {
                        made.notify_one();
                    }
                    if std::mem::take(&mut troubled) {
                        info!("new keys can be made again");
                    }
                }
                Err(e) if !troubled => {
                    troubled = true;
                    error!("no new keys can be made, and old ones run out: {e}");
                }
                Err(_) => {}
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(self.limits.authority.issue_every) => {}
            }
        }
    }
}

fn tell(look: &IssuedInTime) {
    if look.made > 0 {
        info!(keys = look.made, "new keys made");
    }
    for FullAddress { address, living } in &look.full {
        warn!(address, living, "it gets no new key: it has too many living ones; `addrauth key revoke` ends them");
    }
}
