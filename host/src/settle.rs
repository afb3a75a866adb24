//! Many decisions into one reply, pure: the only place where a disposition becomes an SMTP answer.

use std::iter::repeat_n;

use crate::case::{
    Decision, Direction, Disposition, Finding, Found, Learned, Mail, MarkAs, NewKey, NotStamped, Owed, Postponed,
    Proven, Recipient, Redirect, Refusal, Reply, ReversePath, Stamp, Submitted, Verdict,
};
use crate::proto::address::Address;
use crate::proto::header::{AGENT_FIELD, Edit, KEY_FIELD, NEW_KEY_FIELD, STATUS_FIELD, deletions};
use crate::proto::key::AuthKey;
use crate::proto::mark::MARK_FIELD;
use crate::proto::results::RESULTS_FIELD;

mod results;

/// What the filters of mail clients and delivery agents know as "this is spam".
pub const SPAM_FIELD: &str = "X-Spam-Flag";

/// Letters of an MTA's name in `X-Auth-Agent`: a word or two.
const BRAND: usize = 32;

/// What settling needs of the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// Decide, but only strip keys and write the status field.
    pub observe: bool,
    /// The `by=` of the status field, and the authserv-id of our own results.
    pub hostname: String,
    /// Nobody before us writes Authentication-Results in our name.
    pub first_in_chain: bool,
    /// Write an Authentication-Results field of our own.
    pub authentication_results: bool,
    /// What follows a local part to name the spam folder; empty: there is no such way.
    pub spam_folder: String,
    /// Quarantine a message on which all agree in the MTA's hold queue.
    pub hold: bool,
    /// Deliver the mails that bring new keys, with the key in them (Phase II).
    pub deliver_key_mail: bool,
}

/// What may be said to whom about this one message; found out beforehand, so that settling stays pure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permits {
    /// Whether a report to the reverse-path may go out (guard B); the words say why not.
    pub report: Result<(), &'static str>,
    /// Whether the client may be refused for good: a relay would make a bounce of it, to somebody innocent.
    pub refuse: bool,
}

/// Turns what was found and decided into the one answer that the MTA gets.
///
/// A message is accepted, held, discarded, refused or deferred, and never two of these; what has to be durable first is in
/// [`Reply::owed`]. Where the recipients' wishes differ (invariants §3), it is accepted for those who get it, the others are
/// struck out, and what each of them is owed stands beside that; nobody left means discarded, never an empty envelope. One
/// deferral defers it for all: a message cannot be taken and put off at once, and it comes again whole.
pub fn settle(mail: &Mail, finding: &Finding, decisions: &[Decision], rules: &Rules, permits: &Permits) -> Reply {
    let found = match finding {
        Finding::Found(found) => found,
        Finding::Passing(direction) => {
            let edits = match direction {
                Direction::Own => removals(MARK_FIELD, mail),
                Direction::Examined => key_removals(NEW_KEY_FIELD, &mail.new_keys),
                Direction::Outbound => unasked(mail, rules),
                Direction::Inbound | Direction::Relay => Vec::new(),
            };
            return Reply { edits, ..Reply::bare(Verdict::Accept) };
        }
        Finding::Submitted(submitted) => {
            return Reply { edits: submitted_edits(mail, submitted, rules), ..Reply::bare(Verdict::Accept) };
        }
        Finding::Postponed(postponed) => return Reply::bare(Verdict::Defer(later(postponed))),
    };
    if let Some(NewKey::Proven(proven)) = &found.new_key {
        return key_mail(mail, found, proven, rules);
    }
    if rules.observe {
        return Reply { edits: edits(mail, found, false, rules), ..Reply::bare(Verdict::Accept) };
    }
    let (mut reply, mark) = fate(mail, found, decisions, rules, permits);
    if matches!(reply.verdict, Verdict::Accept | Verdict::Hold(_)) {
        reply.edits = edits(mail, found, mark, rules);
    }
    reply
}

/// A mail that brings a new key ends here (Phase I), unless it is to be delivered or nothing is to be done but observing; what it
/// brings was written into the keyring before. No policy is asked: the message is the AS's, by proof.
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

/// The changes to a message that a login of ours sends out: all deletions first; then, where some of it ends here, what those
/// are told; then `X-Auth-Key` on top, `X-Auth-Agent` below it.
fn submitted_edits(mail: &Mail, submitted: &Submitted, rules: &Rules) -> Vec<Edit> {
    let mut edits = unasked(mail, rules);
    // Whoever may not write as this address may not show its key either.
    if matches!(submitted.stamp, Stamp::Newest(_) | Stamp::Bare(NotStamped::NotOwner)) {
        edits.extend(key_removals(KEY_FIELD, &mail.keys));
    }
    if let Some(found) = &submitted.inside {
        edits.extend(told(found, rules));
    }
    if let Stamp::Newest(key) = &submitted.stamp {
        edits.push(insertion(AGENT_FIELD, &agent(&mail.mta)));
        edits.push(Edit::InsertKey { key: key.clone() });
    }
    edits
}

/// What no login and no submitter of ours may bring, since a recipient here would get a copy that no MX of ours has looked at:
/// new keys, which come from an Authentication Server and not from a login, and the words of our own about keys.
fn unasked(mail: &Mail, rules: &Rules) -> Vec<Edit> {
    let mut edits = if mail.login.is_some() { key_removals(NEW_KEY_FIELD, &mail.new_keys) } else { Vec::new() };
    edits.extend(removals(STATUS_FIELD, mail));
    edits.extend(results::removals(mail, rules));
    edits
}

/// Who attached the key: `SMTP - postfix 3.7` for an MTA that calls itself `Postfix 3.7.11`, else this program.
fn agent(mta: &str) -> String {
    let good = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let brand = || {
        let (name, version) = mta.rsplit_once(' ')?;
        let name: String = name.to_ascii_lowercase().chars().filter(good).take(BRAND).collect();
        let number = |part: &&str| !part.is_empty() && part.len() <= 5 && part.bytes().all(|o| o.is_ascii_digit());
        let mut parts = version.split(['.', '-']);
        let (major, minor) = (parts.next().filter(number)?, parts.next().filter(number)?);
        (!name.is_empty()).then(|| format!("SMTP - {name} {major}.{minor}"))
    };
    let own = || format!("SMTP - addrauth {}.{}", env!("CARGO_PKG_VERSION_MAJOR"), env!("CARGO_PKG_VERSION_MINOR"));
    brand().unwrap_or_else(own)
}

/// The words of a refusal for now; what is wrong here is nobody's business outside.
fn later(postponed: &Postponed) -> Refusal {
    match postponed {
        Postponed::NewKey(_) => Refusal {
            code: 451,
            status: "4.7.1",
            text: "Address Authentication: the new key cannot be checked now, please try again later".into(),
        },
        Postponed::Owners(_) | Postponed::Keyring(_) => {
            Refusal { code: 451, status: "4.3.0", text: "Local trouble, try again later".into() }
        }
    }
}

/// What becomes of each recipient's copy; indices into [`Mail::recipients`], in their order.
#[derive(Debug, Default)]
struct Fates {
    /// Delivered as it is.
    plain: Vec<usize>,
    /// Delivered with the mark's field.
    marked: Vec<usize>,
    /// Delivered to the spam folder.
    folder: Vec<Redirect>,
    /// Dropped; the sender hears nothing of it.
    silent: Vec<usize>,
    /// Not delivered; the sender is to hear of it.
    told: Vec<usize>,
    /// Kept back.
    kept: Vec<usize>,
    /// Gets a notice.
    noticed: Vec<usize>,
}

/// The reply but for its edits, and whether the mark's field is among them.
fn fate(mail: &Mail, found: &Found, decisions: &[Decision], rules: &Rules, permits: &Permits) -> (Reply, bool) {
    let said = |index: usize| decisions.iter().flat_map(|d| &d.recipients).filter(|known| **known == index).count();
    // Two decisions about one copy would be two fates: it is put off like one about which nobody decided.
    if decisions.is_empty() || !(0..mail.recipients.len()).all(|index| said(index) == 1) {
        return (Reply::bare(Verdict::Defer(defer("no policy decided"))), false);
    }
    if let Some(deferred) = decisions.iter().find(|decision| decision.disposition == Disposition::Defer) {
        return (Reply::bare(Verdict::Defer(defer(&deferred.reason))), false);
    }
    let mut fates = sorted(mail, decisions, rules, permits);
    let reason = |fate: &[usize]| {
        let first = fate.first().and_then(|index| decisions.iter().find(|d| d.recipients.contains(index)));
        text(found, first.map_or("", |decision| &decision.reason))
    };
    let notices = |fates: &Fates| fates.noticed.iter().map(|&index| Owed::Notice(index)).collect::<Vec<_>>();
    let gets_it = !(fates.plain.is_empty() && fates.marked.is_empty() && fates.folder.is_empty());

    // Everybody wants it refused and the sender told: his own server tells him.
    if !gets_it && fates.silent.is_empty() && fates.kept.is_empty() {
        let refusal = Refusal { code: 550, status: "5.7.1", text: reason(&fates.told) };
        return (Reply { owed: notices(&fates), ..Reply::bare(Verdict::Reject(refusal)) }, false);
    }
    let reported = tell(mail, permits, &mut fates);

    // Those who get it in one form: one of them differs, and he gets a copy of his own.
    let mark = !fates.marked.is_empty() && fates.plain.is_empty();
    let copies = if mark { Vec::new() } else { std::mem::take(&mut fates.marked) };

    let all_kept = fates.kept.len() == mail.recipients.len();
    // A copy that could never be sent would be no copy: then the MTA keeps the message, which knows its own names.
    let unreachable = |index: &usize| mail.recipients.get(*index).is_none_or(|r| r.address().is_none());
    let no_copy = mail.truncated || fates.kept.iter().chain(&copies).any(unreachable);
    if all_kept && rules.hold || no_copy && !(fates.kept.is_empty() && copies.is_empty()) {
        let owed = [vec![Owed::Record], notices(&fates)].concat();
        return (Reply { owed, ..Reply::bare(Verdict::Hold(reason(&fates.kept))) }, false);
    }
    let mut removed: Vec<usize> =
        [&fates.silent, &reported, &fates.kept, &copies].into_iter().flatten().copied().collect();
    removed.sort_unstable();
    let mut owed = Vec::new();
    if !removed.is_empty() {
        owed.push(Owed::Record);
    }
    let lists = [
        (fates.kept.clone(), Owed::Quarantine as fn(Vec<usize>) -> Owed),
        (copies, Owed::Copy),
        (reported, Owed::Report),
    ];
    owed.extend(lists.into_iter().filter(|(list, _)| !list.is_empty()).map(|(list, owe)| owe(list)));
    owed.extend(notices(&fates));
    if removed.len() == mail.recipients.len() {
        return (Reply { owed, ..Reply::bare(Verdict::Discard) }, false);
    }
    // Whoever is addressed in that folder already gets it there: an MTA may take a path that is struck out and put in again
    // for a duplicate.
    fates.folder.retain(|redirect| {
        mail.recipients.get(redirect.recipient).is_some_and(|recipient| recipient.address() != Some(&redirect.to))
    });
    (Reply { removed, redirected: fates.folder, owed, ..Reply::bare(Verdict::Accept) }, mark)
}

/// Some want the sender told, while others get the message or are dropped: he gets a report where one may go out, which is
/// about those returned; else somebody is to look at the message.
fn tell(mail: &Mail, permits: &Permits, fates: &mut Fates) -> Vec<usize> {
    let mut reported = Vec::new();
    for index in std::mem::take(&mut fates.told) {
        let never = mail.recipients.get(index).is_some_and(|recipient| recipient.never_notify);
        match permits.report {
            _ if mail.reverse_path == ReversePath::Null => fates.silent.push(index),
            Ok(()) if !never => reported.push(index),
            _ => fates.kept.push(index),
        }
    }
    fates.kept.sort_unstable();
    reported
}

/// Sorts the recipients by what their decisions say.
fn sorted(mail: &Mail, decisions: &[Decision], rules: &Rules, permits: &Permits) -> Fates {
    let mut fates = Fates::default();
    for decision in decisions {
        for &index in &decision.recipients {
            let Some(recipient) = mail.recipients.get(index) else { continue };
            let folder = recipient.address().and_then(|address| folder(address, &rules.spam_folder));
            // A mark on some copies and not on others cannot be one field of the one message.
            match decision.disposition {
                Disposition::Accept => fates.plain.push(index),
                Disposition::Mark => match folder {
                    Some(to) if decision.mark == MarkAs::Folder => {
                        fates.folder.push(Redirect { recipient: index, to });
                    }
                    _ => fates.marked.push(index),
                },
                Disposition::Quarantine | Disposition::Defer => fates.kept.push(index),
                Disposition::Reject if !permits.refuse => fates.kept.push(index),
                Disposition::Reject if decision.notify.sender => fates.told.push(index),
                Disposition::Reject => fates.silent.push(index),
            }
            let kept_back = matches!(decision.disposition, Disposition::Reject | Disposition::Quarantine);
            if decision.notify.recipient && kept_back {
                fates.noticed.push(index);
            }
        }
    }
    if !fates.plain.is_empty() {
        into_folders(mail, rules, &mut fates);
    }
    for list in [&mut fates.plain, &mut fates.marked, &mut fates.silent, &mut fates.told, &mut fates.kept] {
        list.sort_unstable();
    }
    fates.noticed.sort_unstable();
    fates.folder.sort_unstable_by_key(|redirect| redirect.recipient);
    fates
}

/// Who wants the mark's field in a message that others want without it gets it into his spam folder, where there is a way.
fn into_folders(mail: &Mail, rules: &Rules, fates: &mut Fates) {
    for index in std::mem::take(&mut fates.marked) {
        let address = mail.recipients.get(index).and_then(Recipient::address);
        match address.and_then(|address| folder(address, &rules.spam_folder)) {
            Some(to) => fates.folder.push(Redirect { recipient: index, to }),
            None => fates.marked.push(index),
        }
    }
}

/// The address of a spam folder: `bob+Junk@…` for `bob@…` and for `bob+news@…`. Absent where there is no such way, or the
/// local part is a quoted one.
fn folder(address: &Address, tag: &str) -> Option<Address> {
    let delimiter = tag.chars().next()?;
    let local = address.local();
    if local.starts_with('"') {
        return None;
    }
    let base = match local.find(delimiter) {
        Some(at) if at > 0 => local.get(..at)?,
        _ => local,
    };
    Address::parse(format!("{base}{tag}@{}", address.domain()).as_bytes(), true).ok()
}

fn defer(reason: &str) -> Refusal {
    let text = if reason.is_empty() { "please try again later" } else { reason };
    Refusal { code: 451, status: "4.7.1", text: format!("Address Authentication: {text}") }
}

/// The text of a refusal or hold: the policy's own words, else the result's word.
fn text(found: &Found, reason: &str) -> String {
    let reason = if reason.is_empty() { found.status.word() } else { reason };
    format!("Address Authentication: {reason}")
}

/// The changes to the header: all deletions first, each name from its last field up, then ours on top.
fn edits(mail: &Mail, found: &Found, mark: bool, rules: &Rules) -> Vec<Edit> {
    let mut edits = key_removals(KEY_FIELD, &mail.keys);
    edits.extend(key_removals(NEW_KEY_FIELD, &mail.new_keys));
    edits.extend(removals(STATUS_FIELD, mail));
    edits.extend(removals(MARK_FIELD, mail));
    edits.extend(results::removals(mail, rules));
    if mark {
        edits.push(insertion(SPAM_FIELD, "YES"));
    }
    edits.extend(told(found, rules));
    edits
}

/// Our own words about the key: the status field, and one of Authentication-Results where that is wanted.
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

/// Deletes every field of this name, of which the door took the values.
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
        value += &plain(sender);
    }
    value += "; by=";
    value += hostname;
    if let Some(why) = found.why {
        value += "; reason=";
        value += why.word();
    }
    value
}

/// An address as one word of ASCII: every octet that could end the word or the field is percent-encoded.
fn plain(address: &Address) -> String {
    let mut word = String::new();
    for octet in address.to_string().bytes() {
        match octet {
            b'%' | b';' | b'"' | b'\\' | b'(' | b')' | b',' | 0..=b' ' | 0x7f.. => word += &format!("%{octet:02X}"),
            _ => word.push(char::from(octet)),
        }
    }
    word
}

#[cfg(test)]
mod tests;
