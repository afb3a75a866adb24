//! Learn new keys from the mail that brings them: by proof of their AS, whoever brings it (INVARIANTS §4.2).

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::Error;
use crate::case::{Found, KeyStatus, Learned, Mail, NewKey, NotLearned, Postponed, Proven, Why};
use crate::config::Limits;
use crate::proto::address::{Address, Domain};
use crate::proto::key::AuthKey;
use crate::proto::seal::SealTo;
use crate::store::{Keyring, NewestKey};

/// The one address and the one key of a message that may be a key mail; what its AS says of them is still to be asked.
///
/// # Errors
/// Which condition the message does not fulfil.
pub fn candidate<'a>(mail: &'a Mail, finals: &[Domain]) -> Result<(Address, &'a AuthKey), NotLearned> {
    if mail.head().malformed {
        return Err(NotLearned::Malformed);
    }
    let key = match mail.head().new_keys.as_slice() {
        [Some(key)] => key,
        [None] => return Err(NotLearned::BadKey),
        _ => return Err(NotLearned::SeveralKeys),
    };
    let [recipient] = mail.recipients.as_slice() else { return Err(NotLearned::SeveralRecipients) };
    let recipient = recipient.mailbox().ok_or(NotLearned::SeveralRecipients)?;
    let mut to = mail.named("To");
    let (Some(field), None) = (to.next(), to.next()) else { return Err(NotLearned::NoSingleTo) };
    let address = Address::from_field(&field.value, mail.smtputf8).map_err(|_| NotLearned::NoSingleTo)?;
    if address.mailbox() != recipient {
        return Err(NotLearned::OtherTo);
    }
    match finals.contains(address.domain()) {
        true => Ok((address, key)),
        false => Err(NotLearned::ForeignDomain),
    }
}

/// What the answer of the AS about a candidate comes to; `valid_for` is how long the key is still good.
///
/// # Errors
/// Nobody could say: the message is to come again, so that no key is lost.
pub fn weigh(
    address: Address,
    key: &AuthKey,
    found: &Found,
    valid_for: Option<Duration>,
    now: SystemTime,
) -> Result<NewKey, Postponed> {
    let refused = match (found.status, found.why) {
        (KeyStatus::Valid, _) => {
            let ends = valid_for.filter(|left| !left.is_zero()).and_then(|left| now.checked_add(left));
            let Some(ends) = ends else { return Ok(NewKey::Refused(NotLearned::NoLifetime)) };
            let authority = found.authority.clone();
            return Ok(NewKey::Proven(Proven { address, key: key.clone(), ends, authority, learned: None }));
        }
        (KeyStatus::Unverified, why) => return Err(Postponed::NewKey(why.unwrap_or(Why::Timeout))),
        (KeyStatus::None, _) => NotLearned::NoServer,
        (_, Some(Why::Expired)) => NotLearned::Expired,
        _ => NotLearned::Wrong,
    };
    Ok(NewKey::Refused(refused))
}

/// Writes keys into the keyring. It holds the half that seals, and can open none of them.
#[derive(Debug)]
pub struct Learner {
    keyring: Arc<dyn Keyring>,
    seal_to: SealTo,
    limits: Arc<Limits>,
}

impl Learner {
    /// Learns into this keyring, for whoever has the other half.
    pub fn new(keyring: Arc<dyn Keyring>, seal_to: SealTo, limits: &Arc<Limits>) -> Learner {
        Learner { keyring, seal_to, limits: Arc::clone(limits) }
    }

    /// Writes a proven key down, sealed; durable when it returns.
    pub async fn learn(&self, proven: &Proven, now: SystemTime) -> Result<Learned, Error> {
        let address = String::from(proven.address.mailbox());
        let sealed = self.seal_to.seal(&address, &proven.key).ok_or(Error::NoRandom)?;
        let fingerprint = proven.key.verify_key().fingerprint();
        let key = NewestKey { address, fingerprint, sealed, learned: now, expires: proven.ends };
        let learning = tokio::time::timeout(self.limits.custody.keep, self.keyring.learn(&key));
        Ok(learning.await.map_err(|_| Error::Late(self.limits.custody.keep))??)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::{Envelope, Field, Head, Recipient};

    fn key(letter: u8) -> Option<AuthKey> {
        AuthKey::parse(&[letter; 64]).ok()
    }

    fn mail(new_keys: Vec<Option<AuthKey>>, to: &[&str], recipients: &[&str]) -> Mail {
        let recipient = |text: &&str| Recipient::new(format!("<{text}>"));
        Mail::new(
            Envelope { recipients: recipients.iter().map(recipient).collect(), ..Envelope::default() },
            Head {
                fields: to.iter().map(|to| Field { name: "TO".into(), value: format!(" {to}").into_bytes() }).collect(),
                new_keys,
                ..Head::default()
            },
        )
    }

    #[test]
    fn a_key_mail_has_one_key_one_recipient_and_the_same_address_in_its_one_to_field() {
        let finals = ["example.com".parse().unwrap()];
        let of = |mail: &Mail| candidate(mail, &finals).map(|(address, _)| address.to_string());
        let [alice, bob] = ["alice@example.com", "bob@example.com"];
        assert_eq!(of(&mail(vec![key(b'k')], &[alice], &[alice])), Ok(alice.into()));
        let named = "Alice <ALICE@example.com>";
        assert_eq!(of(&mail(vec![key(b'k')], &[named], &["alice+x@Example.com"])), Ok("ALICE@example.com".into()));
        for (new_keys, to, recipients, why) in [
            (vec![key(b'k'), key(b'k')], vec![alice], vec![alice], NotLearned::SeveralKeys),
            (vec![key(b'k'), None], vec![alice], vec![alice], NotLearned::SeveralKeys),
            (vec![None], vec![alice], vec![alice], NotLearned::BadKey),
            (vec![key(b'k')], vec![alice], vec![alice, bob], NotLearned::SeveralRecipients),
            (vec![key(b'k')], vec![alice], vec!["postmaster"], NotLearned::SeveralRecipients),
            (vec![key(b'k')], vec![alice, alice], vec![alice], NotLearned::NoSingleTo),
            (vec![key(b'k')], vec![], vec![alice], NotLearned::NoSingleTo),
            (vec![key(b'k')], vec!["alice@example.com, bob@example.com"], vec![alice], NotLearned::NoSingleTo),
            (vec![key(b'k')], vec!["undisclosed-recipients:;"], vec![alice], NotLearned::NoSingleTo),
            (vec![key(b'k')], vec![bob], vec![alice], NotLearned::OtherTo),
            (vec![key(b'k')], vec!["a@example.org"], vec!["a@example.org"], NotLearned::ForeignDomain),
        ] {
            assert_eq!(of(&mail(new_keys, &to, &recipients)), Err(why), "{to:?} {recipients:?}");
        }
        let malformed = mail(vec![key(b'k')], &[alice], &[alice]).altered(|_, head| head.malformed = true);
        assert_eq!(of(&malformed), Err(NotLearned::Malformed));
    }

    #[test]
    fn only_a_key_with_a_lifetime_is_proven_and_whoever_cannot_be_asked_is_asked_again() {
        let alice = Address::parse(b"alice@example.com", false).unwrap();
        let weighed = |status, why, seconds: Option<u64>| {
            let found = Found::bare(status, why, None);
            let left = seconds.map(Duration::from_secs);
            weigh(alice.clone(), &key(b'k').unwrap(), &found, left, SystemTime::UNIX_EPOCH)
        };
        let Ok(NewKey::Proven(proven)) = weighed(KeyStatus::Valid, None, Some(60)) else { panic!("proven") };
        assert_eq!((proven.ends, proven.learned), (SystemTime::UNIX_EPOCH + Duration::from_secs(60), None));
        for (status, why, seconds, refused) in [
            (KeyStatus::Valid, None, None, NotLearned::NoLifetime),
            (KeyStatus::Valid, None, Some(0), NotLearned::NoLifetime),
            (KeyStatus::Valid, None, Some(u64::MAX), NotLearned::NoLifetime),
            (KeyStatus::Invalid, Some(Why::Wrong), None, NotLearned::Wrong),
            (KeyStatus::Invalid, Some(Why::Expired), None, NotLearned::Expired),
            (KeyStatus::None, None, None, NotLearned::NoServer),
        ] {
            assert_eq!(weighed(status, why, seconds), Ok(NewKey::Refused(refused)));
        }
        for why in [Why::Dns, Why::Timeout, Why::NoProof] {
            assert_eq!(weighed(KeyStatus::Unverified, Some(why), None), Err(Postponed::NewKey(why)));
        }
    }
}
