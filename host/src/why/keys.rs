//! What the words about the keys of our own addresses mean.

use crate::case::{Learned, WrittenFinding, WrittenNewKey, WrittenStamp};

/// What it means that a recipient is unclear.
pub(super) const UNCLEAR: &str = "Nothing was looked for: the address of a recipient is written in a way that the mail server may \
    read as another one than we, so nobody could tell whose policy to ask.";

/// Why no policy decided.
pub(super) fn undecided(finding: &WrittenFinding) -> &'static str {
    match finding {
        WrittenFinding::Submitted(submitted) if submitted.inside.is_none() => {
            "Nothing: policies are not asked about mail that goes out."
        }
        WrittenFinding::Found(found) if matches!(found.new_key, Some(WrittenNewKey::Proven { .. })) => {
            "Nothing: policies are not asked about a mail that brings a new key, and does so by proof."
        }
        _ => "Nothing: no policy was asked, or nobody could tell which one to ask.",
    }
}

/// What became of the new key that a message brought.
pub(super) fn new_key(new_key: &WrittenNewKey) -> String {
    match new_key {
        WrittenNewKey::Proven { address, fingerprint, authority, learned, .. } => {
            let server = authority.as_ref().map(|name| format!(" ({name})")).unwrap_or_default();
            let outcome = match learned {
                Some(Learned::Newest) => "it is the address's key from then on",
                Some(Learned::Known) => "it was in the keyring already",
                Some(Learned::Superseded) => {
                    "it was superseded by another one before, and a superseded key is never taken again"
                }
                Some(Learned::Shorter) => {
                    "the Authentication Server made it end no later than the one that the address has, so it was not taken \
                     (`addrauth keyring forget` makes room for another)"
                }
                None => "it could not be recorded",
            };
            format!(
                "It brought a new key of {address} (fingerprint {fingerprint}), and the address's own Authentication Server{server} \
                 vouched for it: {outcome}."
            )
        }
        WrittenNewKey::Refused(why) => {
            format!("It brought a new key (X-New-Auth-Key), which was taken off and not learned, since {}.", why.text())
        }
    }
}

/// What it means that a key of ours came in from outside.
pub(super) fn own_key(sender: &str) -> String {
    format!(
        "But {sender} is an address of ours, and the message came neither from a login that owns it nor from a server of ours: \
         somebody elsewhere has this key. Forwarded mail looks like that, and so does a stolen key: `addrauth key rotate \
         {sender}` makes another at once, and this one stays good until it ends: once the new one is learned, `addrauth key \
         revoke {sender} --only FINGERPRINT` ends it (`addrauth key show {sender}` lists them)."
    )
}

/// What became of the key fields of a message that goes out.
pub(super) fn stamp(stamp: &WrittenStamp) -> String {
    match stamp {
        WrittenStamp::Newest(fingerprint) => {
            format!("A login of ours sent it; the newest key of its sender (fingerprint {fingerprint}) was put on top.")
        }
        WrittenStamp::Client => "A login of ours sent it, and its mail program put its own key there.".into(),
        WrittenStamp::Bare(why) => format!("A login of ours sent it; no key was put on top, since {}.", why.text()),
    }
}
