//! The words of refusals and deferrals of whole messages.

use crate::case::{Found, Postponed, Refusal};

/// The words of a refusal for now; what is wrong here is nobody's business outside.
pub(super) fn later(postponed: &Postponed) -> Refusal {
    match postponed {
        Postponed::NewKey(_) => Refusal {
            code: 451,
            status: "4.7.1",
            text: "Address Authentication: the new key cannot be checked now, please try again later".into(),
        },
        Postponed::Limited { .. } => Refusal {
            code: 451,
            status: "4.7.1",
            text: "Address Authentication: the key cannot be checked now, please try again later".into(),
        },
        Postponed::Owners(_) | Postponed::Keyring(_) => local_trouble(),
    }
}

/// The words for a message to somebody whom two mail servers could take for two (RFC 3463 §3.2: bad destination mailbox address
/// syntax).
pub(super) fn unclear() -> Refusal {
    let text = "a recipient's address can be read in more than one way: write it as local@domain";
    Refusal { code: 553, status: "5.1.3", text: format!("Address Authentication: {text}") }
}

/// The words to a login whose message cannot be parted into the one that goes out and the copies that stay.
pub(super) fn one_way() -> Refusal {
    let text = "this message cannot go to all its recipients at once: send it to each of them alone";
    Refusal { code: 550, status: "5.6.0", text: format!("Address Authentication: {text}") }
}

/// The deferral that a policy asks for, or that no policy decided.
pub(super) fn defer(reason: &str) -> Refusal {
    let text = if reason.is_empty() { "please try again later" } else { reason };
    Refusal { code: 451, status: "4.7.1", text: format!("Address Authentication: {text}") }
}

/// The text of a refusal or hold: the policy's own words, else the result's word.
pub(super) fn text(found: &Found, reason: &str) -> String {
    let reason = if reason.is_empty() { found.status.word() } else { reason };
    format!("Address Authentication: {reason}")
}

/// The deferral of a message that cannot be kept, or judged, here and now.
pub(super) fn local_trouble() -> Refusal {
    Refusal { code: 451, status: "4.3.0", text: "Local trouble, try again later".into() }
}
