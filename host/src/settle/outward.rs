//! The answer to what our logins send: the message as it goes out, and copies for the recipients whose mail ends here.

use super::{
    Permits, Rules, Sharing, fate, insertion, is_reachable, key_removals, leaves, one_way, removals, results,
    strikes_out,
};
use crate::case::{Decision, Found, Mail, NotStamped, Owed, Reply, Stamp, Verdict};
use crate::proto::header::{AGENT_FIELD, Edit, KEY_FIELD, NEW_KEY_FIELD, STATUS_FIELD};

/// Letters of an MTA's name in `X-Auth-Agent`: a word or two.
const BRAND: usize = 32;

/// The reply to what a login of ours sends to recipients here and elsewhere. It goes out as [`outward`] says, and recipients
/// here are treated as if it went to them alone.
///
/// With `observe = true` recipients here get copies without the key where the message that goes out carries one, and nothing
/// else is done. They see no status then, since none may go out.
pub(super) fn both_ways(
    mail: &Mail,
    stamp: &Stamp,
    found: &Found,
    decisions: &[Decision],
    rules: &Rules,
    permits: &Permits,
) -> Reply {
    if !rules.observe {
        let (mut reply, _) = fate(mail, found, decisions, rules, permits, Sharing::Apart);
        if !strikes_out(mail, &reply) {
            return Reply::bare(Verdict::Reject(one_way()));
        }
        if reply.verdict == Verdict::Accept {
            reply.edits = outward(mail, stamp, rules);
        }
        return reply;
    }
    let here: Vec<usize> = (0..mail.recipients.len()).filter(|index| found.concerns(*index)).collect();
    if !carries_key(mail, stamp) {
        return Reply { edits: outward(mail, stamp, rules), ..Reply::bare(Verdict::Accept) };
    }
    if !mail.can_be_copied() || here.iter().any(|index| !(is_reachable(mail, *index) && leaves(mail, *index))) {
        // With `observe = true` nothing is refused, so the key is taken off for all.
        let edits = outward(mail, &Stamp::Bare(NotStamped::NotOwner), rules);
        return Reply { edits, ..Reply::bare(Verdict::Accept) };
    }
    let owed = vec![Owed::Record, Owed::Apart(here.clone())];
    Reply { edits: outward(mail, stamp, rules), removed: here, owed, ..Reply::bare(Verdict::Accept) }
}

/// Whether a message that goes out with this stamp has a key in its header.
fn carries_key(mail: &Mail, stamp: &Stamp) -> bool {
    match stamp {
        Stamp::Newest(_) | Stamp::Client => true,
        Stamp::Bare(NotStamped::NotOwner) => mail.head().malformed,
        Stamp::Bare(_) => !mail.head().keys.is_empty() || mail.head().malformed,
    }
}

/// The changes to a message that a login of ours sends out: all deletions first, then `X-Auth-Key` on top, `X-Auth-Agent`
/// below it. No word of our own about the key is among them.
pub(super) fn outward(mail: &Mail, stamp: &Stamp, rules: &Rules) -> Vec<Edit> {
    let mut edits = unasked(mail, rules);
    // A login that may not write as this address may not show its key either.
    if matches!(stamp, Stamp::Newest(_) | Stamp::Bare(NotStamped::NotOwner)) {
        edits.extend(key_removals(KEY_FIELD, &mail.head().keys));
    }
    if let Stamp::Newest(key) = stamp {
        edits.push(insertion(AGENT_FIELD, &agent(&mail.mta)));
        edits.push(Edit::InsertKey { key: key.clone() });
    }
    edits
}

/// Deletes what no login and no submitter of ours may bring, since a recipient here would get a copy that no MX of ours has
/// looked at: new keys, which come from an Authentication Server and not from a login, and fields with our own words about
/// keys.
pub(super) fn unasked(mail: &Mail, rules: &Rules) -> Vec<Edit> {
    let mut edits = if mail.login.is_some() { key_removals(NEW_KEY_FIELD, &mail.head().new_keys) } else { Vec::new() };
    edits.extend(removals(STATUS_FIELD, mail));
    edits.extend(results::removals(mail, rules));
    edits
}

/// The program that attached the key: `SMTP - postfix 3.7` for an MTA that calls itself `Postfix 3.7.11`, else this one.
pub(super) fn agent(mta: &str) -> String {
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
