//! The mark on our own mail: an HMAC that says "this installation wrote it", so that our notices and re-injections pass.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::Mac;
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::address::Mailbox;
use super::key::hmac;

/// How long a mark is good: Postfix keeps mail in its queue for 5 days.
const GOOD_FOR: Duration = Duration::from_secs(7 * 86_400);
/// How far ahead of ours the clock that wrote a mark may be.
const AHEAD: Duration = Duration::from_secs(300);

/// The secret of this installation's marks.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct MarkKey([u8; 32]);

impl std::fmt::Debug for MarkKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MarkKey(…)")
    }
}

impl MarkKey {
    /// The secret as it was stored.
    pub fn from_octets(octets: [u8; 32]) -> MarkKey {
        MarkKey(octets)
    }

    /// The value of the mark field of one message to one recipient.
    pub fn write(&self, at: SystemTime, reverse_path: &str, recipient: &str, message_id: &str) -> String {
        let seconds = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        format!("v1 {seconds} {}", self.sum(seconds, reverse_path, recipient, message_id))
    }

    /// Whether `value` is the mark that we wrote on this message: not over 7 days ago, for this envelope and Message-ID.
    pub fn checks(&self, value: &str, now: SystemTime, reverse_path: &str, recipient: &str, message_id: &str) -> bool {
        let mut words = value.split_ascii_whitespace();
        let (Some("v1"), Some(seconds), Some(sum), None) = (words.next(), words.next(), words.next(), words.next())
        else {
            return false;
        };
        let Ok(seconds) = seconds.parse::<u64>() else { return false };
        let Some(at) = UNIX_EPOCH.checked_add(Duration::from_secs(seconds)) else { return false };
        let fresh = match now.duration_since(at) {
            Ok(age) => age <= GOOD_FOR,
            Err(early) => early.duration() <= AHEAD,
        };
        let ours = self.sum(seconds, reverse_path, recipient, message_id);
        fresh && bool::from(ours.as_bytes().ct_eq(sum.as_bytes()))
    }

    /// The number that stands for a mailbox in the tables of this installation.
    pub fn pseudonym(&self, mailbox: &Mailbox) -> Pseudonym {
        let mut mac = hmac(&self.0);
        mac.update(b"addrauth-pseudonym-v1\0");
        mac.update(mailbox.as_str().as_bytes());
        let sum: [u8; 32] = mac.finalize().into_bytes().into();
        let mut octets = [0; 8];
        octets.copy_from_slice(&sum[..8]);
        Pseudonym(i64::from_be_bytes(octets))
    }

    fn sum(&self, seconds: u64, reverse_path: &str, recipient: &str, message_id: &str) -> String {
        let mut mac = hmac(&self.0);
        mac.update(b"addrauth-mark-v1");
        for part in [&seconds.to_string(), reverse_path, recipient, message_id] {
            mac.update(b"\0");
            mac.update(part.as_bytes());
        }
        URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes())
    }
}

/// A number that stands for a mailbox: 64 bits of an HMAC over its text (SPECIFICATION §1). Without the secret nobody can tell which
/// mailbox it is, nor make a mailbox that has the number of another one. Two of ten million mailboxes share a number with a
/// probability of three in a million.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pseudonym(i64);

impl Pseudonym {
    /// The number, as a table keeps it.
    pub fn number(self) -> i64 {
        self.0
    }
}

/// What a mark binds of a message's Message-ID fields, given their values: the one there is, without blanks and folds, or
/// nothing where there is none or there are several.
pub fn bound_id<'a>(values: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut values = values.into_iter();
    match (values.next(), values.next()) {
        (Some(id), None) => {
            let octets: Vec<u8> = id.iter().copied().filter(|octet| !octet.is_ascii_whitespace()).collect();
            String::from_utf8_lossy(&octets).into_owned()
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_message_id_is_bound_however_it_is_folded_and_none_or_several_are_not() {
        let bound = |values: &[&[u8]]| bound_id(values.iter().copied());
        assert_eq!(bound(&[b" <1@mx>"]), "<1@mx>");
        assert_eq!(bound(&[b"\r\n <1@mx>\r\n "]), bound(&[b"\n <1@mx>\n "]));
        assert_eq!(bound(&[b" <\xff@mx>"]), "<\u{fffd}@mx>");
        assert_eq!((bound(&[]), bound(&[b" <1@mx>", b" <1@mx>"])), (String::new(), String::new()));
    }

    #[test]
    fn a_mailbox_has_one_pseudonym_under_one_secret_and_no_other_mailbox_has_it() {
        let key = MarkKey::from_octets([7; 32]);
        let of = |key: &MarkKey, address: &str| key.pseudonym(&Mailbox::parse(address).unwrap());
        let alice = of(&key, "alice@example.com");
        for same in ["Alice@example.com", "alice+news@EXAMPLE.com", "alice@example.com."] {
            assert_eq!(of(&key, same), alice, "{same}");
        }
        for other in ["alicf@example.com", "alice@example.org", "alice@mail.example.com", "\"alice+x\"@example.com"] {
            assert_ne!(of(&key, other), alice, "{other}");
        }
        assert_ne!(of(&MarkKey::from_octets([8; 32]), "alice@example.com"), alice);
    }

    #[test]
    fn a_mark_is_good_for_its_message_and_time_alone() {
        let key = MarkKey::from_octets([7; 32]);
        let now = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let mark = key.write(now, "", "bob@example.com", "<1@mx>");
        let day = Duration::from_secs(86_400);
        assert!(key.checks(&mark, now + day, "", "bob@example.com", "<1@mx>"));
        assert!(!key.checks(&mark, now + 8 * day, "", "bob@example.com", "<1@mx>"));
        assert!(!key.checks(&mark, now - day, "", "bob@example.com", "<1@mx>"));
        assert!(!key.checks(&mark, now, "x@y.example", "bob@example.com", "<1@mx>"));
        assert!(!key.checks(&mark, now, "", "eve@example.com", "<1@mx>"));
        assert!(!key.checks(&mark, now, "", "bob@example.com", "<2@mx>"));
        assert!(!MarkKey::from_octets([8; 32]).checks(&mark, now, "", "bob@example.com", "<1@mx>"));
        assert!(!key.checks("v1 99999999999999999999 x", now, "", "bob@example.com", "<1@mx>"));
    }
}
