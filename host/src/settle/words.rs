//! The words of refusals and deferrals of whole messages. Each 451 that a decision leads to is made here.

use crate::case::{Found, Postponed, Refusal};

/// The refusal for now of a message that cannot be judged. It does not tell outside what is wrong in here.
pub(super) fn later(postponed: &Postponed) -> Refusal {
    match postponed {
        Postponed::NewKey(_) => defer("the new key cannot be checked now, please try again later"),
        Postponed::Limited { .. } => defer("the key cannot be checked now, please try again later"),
        Postponed::Owners(_) | Postponed::Keyring(_) => local_trouble(),
    }
}

/// The refusal of a message to a recipient whose path two mail servers could read differently (RFC 3463 §3.2: bad destination
/// mailbox address syntax).
pub(super) fn unclear() -> Refusal {
    let text = "a recipient's address can be read in more than one way: write it as local@domain";
    Refusal { code: 553, status: "5.1.3", text: format!("Address Authentication: {text}") }
}

/// The refusal of a login's message that cannot be parted into the one that goes out and the copies that stay.
pub(super) fn one_way() -> Refusal {
    let text = "this message cannot go to all its recipients at once: send it to each of them alone";
    Refusal { code: 550, status: "5.6.0", text: format!("Address Authentication: {text}") }
}

/// A deferral for this reason: a policy asks for it, no policy decided, or a key cannot be checked.
pub(super) fn defer(reason: &str) -> Refusal {
    let text = if reason.is_empty() { "please try again later" } else { reason };
    for_now("4.7.1", format!("Address Authentication: {text}"))
}

/// The text of a refusal or hold: the policy's own words, else the result's word.
pub(super) fn text(found: &Found, reason: &str) -> String {
    let reason = if reason.is_empty() { found.status.word() } else { reason };
    format!("Address Authentication: {reason}")
}

/// The deferral of a message that cannot be kept, or judged, here and now.
pub(super) fn local_trouble() -> Refusal {
    for_now("4.3.0", "Local trouble, try again later".into())
}

fn for_now(status: &'static str, text: String) -> Refusal {
    Refusal { code: 451, status, text }
}
