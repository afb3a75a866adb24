//! Guard B: whether a report may go to a message's reverse-path, so that nobody is told of mail that he never sent.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use crate::case::trail::{Trail, is_automatic};
use crate::case::{AuthResult, Case, Decision, Disposition, Found, Mail, Owed, ReversePath, Verdict};
use crate::proto::address::Address;

/// Whether the message itself lets a report be written, and to whom; refusals in plain words, for the journal.
pub(super) fn reportable<'a>(mail: &'a Mail, found: &Found, own: &str) -> Result<&'a Address, &'static str> {
    let path = match &mail.reverse_path {
        ReversePath::Null => return Err("the message has the null reverse-path"),
        ReversePath::Path(None) => return Err("the reverse-path is no address"),
        ReversePath::Path(Some(path)) => path,
    };
    if is_automatic(path) || path.to_string().eq_ignore_ascii_case(own) {
        return Err("the reverse-path belongs to a list, a programme or ourselves");
    }
    if Trail::of(mail, 0).is_bulk() {
        return Err("the message is list, bulk or automatic mail");
    }
    if !is_vouched_for(path, found) {
        return Err("neither SPF nor an aligned DKIM signature vouches for the reverse-path's domain");
    }
    Ok(path)
}

/// Why a sender who was to be told of a message that was taken gets no report; absent where he gets one, or nobody wanted it.
pub(super) fn refusal(case: &Case, own: &str) -> Option<&'static str> {
    let refused = matches!(case.reply.verdict, Verdict::Reject(_) | Verdict::Defer(_));
    let reported = |index: &usize| case.reply.owed.iter().any(|o| matches!(o, Owed::Report(to) if to.contains(index)));
    let tells = |d: &&Decision| d.disposition == Disposition::Reject && d.notify.sender;
    let mut untold = case.decisions.iter().filter(tells).flat_map(|d| &d.recipients).filter(|index| !reported(index));
    let (Some(first), Some(found), false) = (untold.next(), case.finding.found(), refused) else { return None };
    match reportable(&case.mail, found, own) {
        Err(why) => Some(why),
        Ok(_) if case.mail.recipients.get(*first).is_some_and(|r| r.never_notify) => Some("the sender asked for none"),
        Ok(_) => Some(
            "a sender gets one in an hour, none while too many mails wait, and none of what a relay of ours brings",
        ),
    }
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
pub(super) struct Reserved(Mutex<HashMap<String, SystemTime>>);

impl Reserved {
    /// Reserves the one report that this sender may get in `pair`; false where it is reserved already, or where as many
    /// senders are remembered as may be.
    pub(super) fn reserve(&self, sender: &str, pair: Duration, most: usize, now: SystemTime) -> bool {
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
            reserved.insert(sender.to_owned(), now);
        }
        room
    }

    /// Gives back a reservation that the outbox makes needless: it remembers a report itself.
    pub(super) fn give_back(&self, sender: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(sender);
    }
}

#[cfg(test)]
#[path = "permit/tests.rs"]
mod tests;
