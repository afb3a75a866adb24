//! Known senders: who was found valid here, and when last.

use std::sync::Arc;
use std::time::SystemTime;

use tracing::{info, warn};

use super::{Custody, Error};
use crate::case::{Case, KeyStatus};
use crate::config::{self, Limits};
use crate::proto::address::Address;
use crate::store::{KnownSender, Ledger};

/// How many days a sender stays known.
pub(super) fn days(settings: &config::Custody) -> u32 {
    u32::try_from(settings.known_kept.as_secs() / 86_400).unwrap_or(u32::MAX)
}

impl Custody {
    /// How many days before this time an AS last vouched for this sender; absent where it never did, or longer ago than
    /// `custody.known_kept`.
    ///
    /// # Errors
    /// The database.
    pub async fn last_valid(&self, sender: &Address, now: SystemTime) -> Result<Option<u32>, Error> {
        let ago = self.ledger.last_valid(self.mark.pseudonym(&sender.mailbox()), now).await?;
        Ok(ago.filter(|ago| *ago <= self.known_days))
    }

    /// The sender of this message, where an AS vouched for it and that is not written down for today. A login's mail shows nothing
    /// of the kind: it has no key.
    pub(super) fn newly_known(&self, case: &Case) -> Option<KnownSender> {
        let found = case.finding.found()?;
        let is_shown = found.status == KeyStatus::Valid && found.authority.is_some() && self.known_days > 0;
        let sender = found.sender.as_ref().filter(|_| is_shown)?;
        let known = KnownSender::new(self.mark.pseudonym(&sender.mailbox()), case.mail.received);
        (!self.ledger.is_noted(known)).then_some(known)
    }
}

/// Forgets senders whose time is over, and the oldest where there are too many.
pub(super) async fn forget_old(ledger: &Ledger, settings: &config::Custody, limits: &Arc<Limits>) {
    match ledger.forget_old(SystemTime::now(), days(settings), limits.custody.known_senders).await {
        Ok(0) => {}
        Ok(senders) => info!(senders, "known senders of long ago forgotten"),
        Err(e) => warn!("known senders of long ago are not forgotten: {e}"),
    }
}
