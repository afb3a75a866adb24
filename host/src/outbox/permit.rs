//! Guard B: whether a report may go to a message's reverse-path, so that nobody is told of mail that he never sent.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use crate::case::trail::{Trail, is_automatic};
use crate::case::{AuthResult, Found, Mail, ReversePath, Unreported};
use crate::proto::address::{Address, Mailbox};

/// Whether the message itself lets a report be written, and to whom.
pub(super) fn reportable<'a>(mail: &'a Mail, found: &Found, own: &str) -> Result<&'a Address, Unreported> {
    let path = match &mail.reverse_path {
        ReversePath::Null => return Err(Unreported::NullPath),
        ReversePath::Path(None) => return Err(Unreported::BadPath),
        ReversePath::Path(Some(path)) => path,
    };
    if is_automatic(path) || path.to_string().eq_ignore_ascii_case(own) {
        return Err(Unreported::AutomaticPath);
    }
    if Trail::of(mail, 0).is_bulk() {
        return Err(Unreported::Bulk);
    }
    if !is_vouched_for(path, found) {
        return Err(Unreported::Unvouched);
    }
    Ok(path)
}

/// Whether the reverse-path is no stranger's choice: the login owns it, SPF passed for its domain, or a DKIM signature for the
/// same domain.
fn is_vouched_for(path: &Address, found: &Found) -> bool {
    if found.owns_path {
        return true;
    }
    let Some(auth) = found.mail_auth else { return false };
    let same_domain = found.sender.as_ref().is_some_and(|sender| sender.domain() == path.domain());
    let by_spf = auth.spf == AuthResult::Pass && auth.spf_of_path;
    let by_dkim = auth.dkim == AuthResult::Pass && auth.dkim_aligned && same_domain;
    by_spf || by_dkim
}

/// Reports that were permitted a while ago and may not have reached the outbox yet: two messages at the same moment must
/// not both get one.
#[derive(Debug, Default)]
pub(super) struct Reserved(Mutex<HashMap<Mailbox, SystemTime>>);

impl Reserved {
    /// Reserves the one report that this sender may get in `pair`; false where it is reserved already, or where as many
    /// senders are remembered as may be.
    pub(super) fn reserve(&self, sender: &Mailbox, pair: Duration, most: usize, now: SystemTime) -> bool {
        let mut reserved = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A time ahead of ours is one of a clock that was wrong: it counts as long as one behind us.
        let age = |at: &SystemTime| now.duration_since(*at).unwrap_or_else(|ahead| ahead.duration());
        if reserved.get(sender).is_some_and(|at| age(at) < pair) {
            return false;
        }
        if reserved.len() >= most {
            reserved.retain(|_, at| age(at) < pair);
        }
        let room = reserved.len() < most || reserved.contains_key(sender);
        if room {
            reserved.insert(sender.clone(), now);
        }
        room
    }

    /// Gives back a reservation that the outbox makes needless: it remembers a report itself.
    pub(super) fn give_back(&self, sender: &Mailbox) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(sender);
    }
}

#[cfg(test)]
#[path = "permit/tests.rs"]
mod tests;
