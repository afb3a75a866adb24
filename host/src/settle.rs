//! Many decisions into one reply, pure: the only place where a disposition becomes an SMTP answer.

use std::iter::repeat_n;

use crate::case::{
    Case, Decision, Direction, Disposition, Door, Finding, Found, Learned, Mail, NewKey, Owed, Proven, Refusal, Reply,
    Submitted, Unreported, Verdict,
};
use crate::proto::header::{
    Edit, KEY_FIELD, MARK_FIELD, NEW_KEY_FIELD, RESULTS_FIELD, SPAM_FIELD, STATUS_FIELD, deletions,
};
use crate::proto::key::AuthKey;
use crate::proto::text::field_word;

mod delivery;
mod fates;
mod outward;
mod results;
mod words;

use fates::Fates;
use outward::{both_ways, outward, unasked};
use words::{defer, later, local_trouble, one_way, text, unclear};

/// What settling needs of the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// Decide, but only strip keys and write the status field.
    pub observe: bool,
    /// The `by=` of the status field, and the authserv-id of our own results.
    pub hostname: String,
    /// No milter before us writes Authentication-Results in our name.
    pub first_in_chain: bool,
    /// Write an Authentication-Results field of our own.
    pub authentication_results: bool,
    /// What follows a local part to name the spam folder; empty: spam folders have no addresses.
    pub spam_folder: String,
    /// Quarantine in the MTA's hold queue what all recipients want quarantined.
    pub hold: bool,
    /// Deliver the mails that bring new keys, with the key in them (Phase II).
    pub deliver_key_mail: bool,
}

/// What may be said about this one message, and to whom. It is found out beforehand, so that settling stays pure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permits {
    /// Whether a report to the reverse-path may go out (guard B), or why not.
    pub report: Result<(), Unreported>,
    /// Whether the client may be refused for good. A relay may not: it would bounce the message to somebody innocent.
    pub refuse: bool,
}

/// Turns what was found and decided into the one answer that the MTA gets.
///
/// A message is accepted, held, discarded, refused or deferred, and never two of these. What has to be durable first is in
/// [`Reply::owed`]. Where the recipients' wishes differ (INVARIANTS §3.2), the message is accepted for those who get it; the
/// others are struck out, and each of them is owed what was wished. Where nobody is left it is discarded: an envelope is
/// never empty. One deferral defers the message for all, since it cannot be taken and put off at once, and comes again whole.
///
/// A direction belongs to a recipient (INVARIANTS §1.4). A recipient elsewhere has no decision, and what is decided for
/// others neither marks nor drops that copy. The MTA edits the header once for all, so:
///
/// * what a stranger brings to recipients here and elsewhere loses its key for all and tells all the status, which is a fact; it
///   tells nobody a mark, which is a judgement;
/// * where the MTA may not strike a recipient out for certain, it strikes out none: all get copies of their own, and the message
///   itself is dropped; a message that also goes elsewhere is refused;
/// * what a login of ours sends to both goes out as if to those elsewhere alone, stamped or as submitted; the recipients here are
///   struck out, and get a copy of their own without the key, with their status and mark.
///
/// All of this is said of [`Door::Reception`]. At [`Door::Delivery`] each recipient has a fate and a header of its own, none is
/// elsewhere, and nothing is refused for good or held (INVARIANTS §3.6).
///
/// A user whose own rules cannot be read is owed a letter that says so, whatever else becomes of a message that is taken.
pub fn settle(mail: &Mail, finding: &Finding, decisions: &[Decision], rules: &Rules, permits: &Permits) -> Reply {
    let mut reply = answer(mail, finding, decisions, rules, permits);
    if !rules.observe && !matches!(reply.verdict, Verdict::Defer(_)) {
        let unread = decisions.iter().filter(|decision| decision.rules_unread.is_some());
        let comes_again = |index: &usize| reply.put_off.iter().any(|put_off| put_off.recipient == *index);
        let told: Vec<Owed> = unread
            .flat_map(|decision| &decision.recipients)
            .filter(|index| !comes_again(index))
            .map(|index| Owed::RulesUnread(*index))
            .collect();
        reply.owed.extend(told);
    }
    reply
}

fn answer(mail: &Mail, finding: &Finding, decisions: &[Decision], rules: &Rules, permits: &Permits) -> Reply {
    let found = match finding {
        Finding::Found(found) => found,
        Finding::Passing(direction) => {
            let edits = match direction {
                Direction::Own => removals(MARK_FIELD, mail),
                Direction::Examined => key_removals(NEW_KEY_FIELD, &mail.head().new_keys),
                Direction::Outbound => unasked(mail, rules),
                Direction::Inbound | Direction::Relay => Vec::new(),
            };
            return Reply { edits, ..Reply::bare(Verdict::Accept) };
        }
        Finding::Submitted(Submitted { inside: Some(found), .. }) if mail.door == Door::Delivery => found,
        Finding::Submitted(Submitted { stamp, inside, .. }) => {
            return match inside {
                Some(found) => both_ways(mail, stamp, found, decisions, rules, permits),
                None => Reply { edits: outward(mail, stamp, rules), ..Reply::bare(Verdict::Accept) },
            };
        }
        Finding::Postponed(postponed) => return Reply::bare(Verdict::Defer(later(postponed))),
        Finding::Unclear if mail.door == Door::Delivery => return deferred(),
        Finding::Unclear => return Reply::bare(Verdict::Reject(unclear())),
    };
    if let Some(NewKey::Proven(proven)) = &found.new_key {
        return key_mail(mail, found, proven, rules);
    }
    if rules.observe {
        return Reply { edits: edits(mail, found, false, rules), ..Reply::bare(Verdict::Accept) };
    }
    if mail.door == Door::Delivery {
        return delivery::each(mail, found, decisions, rules, permits);
    }
    let (mut reply, mut mark) = fate(mail, found, decisions, rules, permits, Sharing::One);
    if !strikes_out(mail, &reply) {
        (reply, mark) = match found.elsewhere.is_empty() {
            true => fate(mail, found, decisions, rules, permits, Sharing::Apart),
            false => (Reply::bare(Verdict::Reject(one_way())), false),
        };
    }
    if matches!(reply.verdict, Verdict::Accept | Verdict::Hold(_)) {
        reply.edits = edits(mail, found, mark, rules);
    }
    reply
}

/// Whether the MTA strikes out for certain each recipient that this reply takes out of the message. One that it keeps all the
/// same would get two fates.
fn strikes_out(mail: &Mail, reply: &Reply) -> bool {
    let redirected = reply.redirected.iter().map(|redirect| &redirect.recipient);
    let mut gone = reply.removed.iter().chain(redirected);
    reply.verdict != Verdict::Accept || gone.all(|index| leaves(mail, *index))
}

/// Whether the MTA strikes out the recipient with this index for certain.
fn leaves(mail: &Mail, index: usize) -> bool {
    mail.recipients.get(index).is_some_and(|recipient| recipient.struck_out_by().is_some())
}

/// Whether recipients share the message that the MTA has, those whose mail ends here get copies of their own, or each gets the
/// message with a header of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sharing {
    One,
    Apart,
    Each,
}

/// The reply to a mail that brings a new key. It ends here (Phase I) unless `keyring.deliver_key_mail` or `observe` is true;
/// the key was written into the keyring before. No policy is asked, since the message is proven to be the AS's.
fn key_mail(mail: &Mail, found: &Found, proven: &Proven, rules: &Rules) -> Reply {
    if !rules.observe && !rules.deliver_key_mail {
        return Reply { owed: vec![Owed::Record], ..Reply::bare(Verdict::Discard) };
    }
    // A client must not go back to a superseded key either.
    let current = matches!(proven.learned, None | Some(Learned::Newest | Learned::Known));
    let mut edits = edits(mail, found, false, rules);
    if rules.deliver_key_mail && current {
        edits.retain(|edit| !matches!(edit, Edit::Delete { name, .. } if name == NEW_KEY_FIELD));
    }
    Reply { edits, ..Reply::bare(Verdict::Accept) }
}

/// The deferral of a message, where a recipient has no decision or a decision defers it.
fn put_off(mail: &Mail, found: &Found, decisions: &[Decision]) -> Option<Verdict> {
    undecided(mail, found, decisions).or_else(|| {
        let deferred = decisions.iter().find(|decision| decision.disposition == Disposition::Defer)?;
        Some(Verdict::Defer(defer(&deferred.reason)))
    })
}

/// The deferral of a message of which a recipient has no decision, or several.
fn undecided(mail: &Mail, found: &Found, decisions: &[Decision]) -> Option<Verdict> {
    let said = |index: usize| decisions.iter().flat_map(|d| &d.recipients).filter(|known| **known == index).count();
    // Two decisions about one copy would be two fates, so it is put off like one without a decision. A copy that goes
    // elsewhere must have none.
    let once = |index: usize| said(index) == usize::from(found.concerns(index));
    if decisions.is_empty() || !(0..mail.recipients.len()).all(once) {
        return Some(Verdict::Defer(defer("no policy decided")));
    }
    None
}

/// The reply but for its edits, and whether the mark's field is among them.
fn fate(
    mail: &Mail,
    found: &Found,
    decisions: &[Decision],
    rules: &Rules,
    permits: &Permits,
    sharing: Sharing,
) -> (Reply, bool) {
    if let Some(deferred) = put_off(mail, found, decisions) {
        return (Reply::bare(deferred), false);
    }
    let mut fates = Fates::sorted(mail, found, decisions, rules, permits, sharing);
    let reason = |fate: &[usize]| {
        let first = fate.first().and_then(|index| decisions.iter().find(|d| d.recipients.contains(index)));
        text(found, first.map_or("", |decision| &decision.reason))
    };
    let apart = sharing == Sharing::Apart;
    let gets_it = apart || fates.is_delivered();

    // All want the message refused and the sender told: the sender's own server does that.
    if !gets_it && fates.silent.is_empty() && fates.kept.is_empty() {
        return (refused(reason(&fates.told), &fates), false);
    }
    let reported = fates.tell(mail, permits);

    // The message goes on in one form. A recipient that gets it in another form gets a copy of its own.
    let mark = !fates.marked.is_empty() && fates.plain.is_empty() && !apart;
    let copies = if mark { Vec::new() } else { std::mem::take(&mut fates.marked) };
    let own = if apart { std::mem::take(&mut fates.plain) } else { Vec::new() };
    let folders = match apart {
        true => std::mem::take(&mut fates.folder),
        false => fates.struck_out_too(mail, &[&reported, &copies]),
    };
    let in_folders = folders.iter().map(|redirect| redirect.recipient).collect();

    let all_kept = fates.kept.len() == mail.recipients.len();
    let whole = [&fates.kept, &copies, &own, &in_folders];
    let no_copy = cannot_be_copied(mail, &whole);
    if no_copy && apart {
        return (Reply::bare(Verdict::Reject(one_way())), false);
    }
    if all_kept && rules.hold && mail.means.holds || no_copy {
        let owed = [vec![Owed::Record], fates.notices()].concat();
        return match mail.means.holds {
            true => (held_whole(reason(&fates.kept), owed, &fates, &reported), false),
            false => (marked_whole(owed, &fates, &reported), true),
        };
    }
    let mut removed: Vec<usize> = [&fates.silent, &reported].into_iter().chain(whole).flatten().copied().collect();
    removed.sort_unstable();
    let record = (!removed.is_empty()).then_some(Owed::Record);
    let listed = owed_to(std::mem::take(&mut fates.kept), copies, own, reported);
    let folders = (!folders.is_empty()).then_some(Owed::Folder(folders));
    let owed = record.into_iter().chain(listed).chain(folders).chain(fates.notices()).collect();
    let Fates { folder: redirected, unreported, .. } = fates;
    if removed.len() == mail.recipients.len() {
        return (Reply { owed, unreported, ..Reply::bare(Verdict::Discard) }, false);
    }
    (Reply { removed, redirected, owed, unreported, ..Reply::bare(Verdict::Accept) }, mark)
}

/// Refuses the message for good, so that the sender's own server tells the sender.
fn refused(reason: String, fates: &Fates) -> Reply {
    let refusal = Refusal { code: 550, status: "5.7.1", text: reason };
    Reply { owed: fates.notices(), ..Reply::bare(Verdict::Reject(refusal)) }
}

/// Keeps the message in the MTA's hold queue for all. A report that was permitted does not go out yet.
fn held_whole(reason: String, owed: Vec<Owed>, fates: &Fates, reported: &[usize]) -> Reply {
    let unreported = fates.unreported.or((!reported.is_empty()).then_some(Unreported::HeldWhole));
    Reply { owed, unreported, ..Reply::bare(Verdict::Hold(reason)) }
}

/// Delivers the message with the mark to all but those who would never hear of it, where it can be kept neither here nor by
/// the MTA.
fn marked_whole(owed: Vec<Owed>, fates: &Fates, reported: &[usize]) -> Reply {
    let unreported = fates.unreported.or((!reported.is_empty()).then_some(Unreported::HeldWhole));
    Reply { removed: fates.silent.clone(), owed, unreported, ..Reply::bare(Verdict::Accept) }
}

/// Whether the message is delivered with the mark to a recipient for whom another thing was decided, since no copy of it could
/// be kept.
pub fn is_marked_instead(case: &Case) -> bool {
    let marks = |edit: &Edit| matches!(edit, Edit::Insert { name, .. } if name == SPAM_FIELD);
    let gets_it = |index: &usize| !case.reply.removed.contains(index);
    let other = |d: &Decision| d.disposition != Disposition::Mark && d.recipients.iter().any(gets_it);
    let Case { mail, decisions, reply, .. } = case;
    !mail.can_be_copied() && !mail.means.holds && reply.edits.iter().any(marks) && decisions.iter().any(other)
}

/// Whether a recipient is to have a copy that could never be sent. Then the MTA keeps the message, since it knows its own
/// names; one that keeps none delivers it with the mark.
fn cannot_be_copied(mail: &Mail, whole: &[&Vec<usize>]) -> bool {
    let mut indices = whole.iter().copied().flatten().peekable();
    indices.peek().is_some() && (!mail.can_be_copied() || indices.any(|index| !is_reachable(mail, *index)))
}

/// What is owed to the recipients of these lists; an empty list owes nothing.
fn owed_to(
    kept: Vec<usize>,
    marked: Vec<usize>,
    apart: Vec<usize>,
    reported: Vec<usize>,
) -> impl Iterator<Item = Owed> {
    let lists = [
        (kept, Owed::Quarantine as fn(Vec<usize>) -> Owed),
        (marked, Owed::Copy),
        (apart, Owed::Apart),
        (reported, Owed::Report),
    ];
    lists.into_iter().filter(|(list, _)| !list.is_empty()).map(|(list, owe)| owe(list))
}

/// Whether a copy could be sent to the recipient with this index.
fn is_reachable(mail: &Mail, index: usize) -> bool {
    mail.recipients.get(index).is_some_and(|recipient| recipient.address().is_some())
}

/// The changes to the header: all deletions first, each name from its last field up, then ours on top.
fn edits(mail: &Mail, found: &Found, mark: bool, rules: &Rules) -> Vec<Edit> {
    let mut edits = key_removals(KEY_FIELD, &mail.head().keys);
    edits.extend(key_removals(NEW_KEY_FIELD, &mail.head().new_keys));
    edits.extend(removals(STATUS_FIELD, mail));
    edits.extend(removals(MARK_FIELD, mail));
    edits.extend(results::removals(mail, rules));
    if mark {
        edits.push(insertion(SPAM_FIELD, "YES"));
    }
    edits.extend(told(found, rules));
    edits
}

/// Our own fields about the key: the status field, and with `authentication_results` one of Authentication-Results.
fn told(found: &Found, rules: &Rules) -> Vec<Edit> {
    let mut edits = vec![insertion(STATUS_FIELD, &status(found, &rules.hostname))];
    if rules.authentication_results {
        edits.push(insertion(RESULTS_FIELD, &results::value(found, &rules.hostname)));
    }
    edits
}

/// Deletes every field of this name.
fn removals(name: &str, mail: &Mail) -> Vec<Edit> {
    deletions(repeat_n(name, mail.named(name).count()), |_, _| true)
}

/// Deletes every field of this name. The door took their values out of the header.
fn key_removals(name: &str, keys: &[Option<AuthKey>]) -> Vec<Edit> {
    deletions(repeat_n(name, keys.len()), |_, _| true)
}

fn insertion(name: &str, value: &str) -> Edit {
    Edit::Insert { index: 0, name: name.into(), value: format!(" {value}") }
}

/// The value of the status field: `WORD; address=…; by=HOST; reason=…`.
pub fn status(found: &Found, hostname: &str) -> String {
    let mut value = String::from(found.status.status_word());
    if let Some(sender) = &found.sender {
        value += "; address=";
        value += &field_word(&sender.to_string());
    }
    value += "; by=";
    value += hostname;
    if let Some(why) = found.why {
        value += "; reason=";
        value += why.word();
    }
    value
}

/// The reply to a message that is to come again, since what it owes cannot be kept. It edits nothing and owes nothing.
pub fn deferred() -> Reply {
    Reply::bare(Verdict::Defer(local_trouble()))
}

#[cfg(test)]
mod tests;
