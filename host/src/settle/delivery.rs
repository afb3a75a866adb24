//! The answer between the MTA's queue and the mailboxes: each recipient has a fate and a header of its own.

use super::fates::Fates;
use super::words::{defer, local_trouble};
use super::{Permits, Rules, Sharing, edits, is_reachable, owed_to, undecided};
use crate::case::{Decision, Found, Mail, Owed, PutOff, Recipient, Reply, Variant, Verdict};

/// The reply to a message for mailboxes here.
///
/// A recipient gets the message, with a mark in its header or in its spam folder where that is decided; or it is put off; or its
/// copy is dropped, kept, or reported to the sender, and is answered with 250. A sender that is to be told hears of it by a
/// report where one may go out (guard B), and else the copy is kept: the MTA took the message before, so what is refused here
/// for good it would report to a reverse-path that nobody vouches for.
pub(super) fn each(mail: &Mail, found: &Found, decisions: &[Decision], rules: &Rules, permits: &Permits) -> Reply {
    if let Some(deferred) = undecided(mail, found, decisions) {
        return Reply::bare(deferred);
    }
    let mut fates = Fates::sorted(mail, found, decisions, rules, permits, Sharing::Each);
    let reported = fates.tell(mail, permits);
    let put_off = put_off(mail, &mut fates, decisions);
    if put_off.len() == mail.recipients.len()
        && let Some(first) = put_off.first()
    {
        return Reply::bare(Verdict::Defer(first.refusal.clone()));
    }
    // A recipient that is the address of its spam folder gets the message there.
    fates
        .folder
        .retain(|redirect| mail.recipients.get(redirect.recipient).and_then(Recipient::address) != Some(&redirect.to));
    let mut removed: Vec<usize> = [&fates.silent, &reported, &fates.kept].into_iter().flatten().copied().collect();
    removed.sort_unstable();
    let waits = |index: &usize| put_off.iter().any(|put_off| put_off.recipient == *index);
    let notices = fates.noticed.iter().filter(|index| !waits(index)).map(|index| Owed::Notice(*index)).collect();
    let record = if removed.is_empty() { Vec::new() } else { vec![Owed::Record] };
    let listed = owed_to(std::mem::take(&mut fates.kept), Vec::new(), Vec::new(), reported).collect();
    let owed = [record, listed, notices].concat();
    let unreported = fates.unreported;
    if removed.len() + put_off.len() == mail.recipients.len() {
        let removed = if put_off.is_empty() { Vec::new() } else { removed };
        return Reply { removed, put_off, owed, unreported, ..Reply::bare(Verdict::Discard) };
    }
    // The copy for a spam folder is marked as well: where that address turns out not to be known, the recipient gets it so.
    let mut marked = std::mem::take(&mut fates.marked);
    marked.extend(fates.folder.iter().map(|redirect| redirect.recipient));
    marked.sort_unstable();
    let all_marked = marked.len() + removed.len() + put_off.len() == mail.recipients.len();
    let variants = match marked.is_empty() || all_marked {
        true => Vec::new(),
        false => vec![Variant { recipients: marked, edits: edits(mail, found, true, rules) }],
    };
    let edits = edits(mail, found, all_marked, rules);
    let redirected = fates.folder;
    Reply { edits, removed, redirected, variants, put_off, owed, unreported, ..Reply::bare(Verdict::Accept) }
}

/// The recipients that are refused for now: by a decision, or since a copy that is to be kept could never be sent. The fates lose
/// these.
fn put_off(mail: &Mail, fates: &mut Fates, decisions: &[Decision]) -> Vec<PutOff> {
    let reason = |index: usize| decisions.iter().find(|d| d.recipients.contains(&index)).map_or("", |d| &d.reason);
    let by_decision = std::mem::take(&mut fates.put_off).into_iter();
    let mut all: Vec<PutOff> =
        by_decision.map(|recipient| PutOff { recipient, refusal: defer(reason(recipient)) }).collect();
    let (kept, no_copy): (Vec<usize>, Vec<usize>) = std::mem::take(&mut fates.kept)
        .into_iter()
        .partition(|index| !mail.head().truncated && is_reachable(mail, *index));
    fates.kept = kept;
    all.extend(no_copy.into_iter().map(|recipient| PutOff { recipient, refusal: local_trouble() }));
    all.sort_unstable_by_key(|put_off| put_off.recipient);
    all
}
