//! Issuing, listing and revoking the keys of an address.

use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use super::schedule::{at_once, next_turn};
use super::{Authority, Error};
use crate::proto::address::Address;
use crate::proto::key::AuthKey;
use crate::store::{self, Added, KeyRow, NewKey};

/// The random octets of a key: 384 bits, 64 characters of base64url, the length that the proposal names.
const KEY_OCTETS: usize = 48;

/// A key that was just made: the one moment at which it can be read.
#[derive(Debug)]
pub struct Issued {
    /// The address it belongs to, as it is looked up.
    pub address: String,
    /// The key. It is stored nowhere.
    pub key: AuthKey,
    /// Which of the address's keys this is, counted from 1.
    pub generation: i64,
    /// When it was made.
    pub created: SystemTime,
    /// When it ends: AGI and AVT later.
    pub expires: SystemTime,
    /// What tells it apart in lists, and reveals nothing.
    pub fingerprint: String,
}

/// An address that got no key although its turn had come; it passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The address.
    pub address: String,
    /// How many living keys it has, where these are too many; absent: another process gave it one.
    pub living: Option<usize>,
}

/// What a key is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyState {
    /// It is answered VALIDKEY.
    Living,
    /// It ended.
    Expired,
    /// It was taken back.
    Revoked,
}

impl KeyState {
    /// The word of lists.
    pub fn word(self) -> &'static str {
        match self {
            KeyState::Living => "living",
            KeyState::Expired => "expired",
            KeyState::Revoked => "revoked",
        }
    }
}

/// A key as it may be listed: all about it but the key.
#[derive(Clone, Debug)]
pub struct Listed {
    /// Which of the address's keys this is.
    pub generation: i64,
    /// When it was made.
    pub created: SystemTime,
    /// When it ends or ended.
    pub expires: SystemTime,
    /// When it was revoked, if it was.
    pub revoked: Option<SystemTime>,
    /// What it is good for now.
    pub state: KeyState,
    /// What tells it apart.
    pub fingerprint: String,
}

impl Authority {
    /// Makes a key for an address of ours. It is valid from now on, and durable.
    pub async fn issue(&self, address: &Address) -> Result<Issued, Error> {
        self.issue_one(address, false).await
    }

    /// The same, and the older keys of the address end after AVT at the latest.
    pub async fn rotate(&self, address: &Address) -> Result<Issued, Error> {
        self.issue_one(address, true).await
    }

    async fn issue_one(&self, address: &Address, others_end: bool) -> Result<Issued, Error> {
        let address = self.own_or_refuse(address)?;
        let (agi, avt) = self.intervals(&address).await?;
        let (key, row) = self.made(&address, agi, avt)?;
        let row = NewKey { others_end: row.others_end.filter(|_| others_end), only_due: false, ..row };
        match self.keys.add_all(std::slice::from_ref(&row), self.limits.keys_per_address).await?.first() {
            Some(Added::Generation(generation)) => Ok(issued(&row, key, *generation)),
            Some(Added::Full(count)) => Err(store::Error::TooManyKeys { address, count: *count }.into()),
            _ => Err(Error::NotEnlisted { address }),
        }
    }

    /// How many keys one run of [`Authority::rotate_due`] makes at most, where a run comes `every` so often.
    pub async fn due_at_once(&self, every: Duration) -> Result<usize, Error> {
        Ok(at_once(self.keys.turns_per_second(self.agi).await?, every))
    }

    /// Makes keys for those whose turn has come, the longest overdue first, at most `most` and at most
    /// `Limits::keys_at_once` of them; also those who got none. None at all: there is nobody left.
    pub async fn rotate_due(&self, most: usize) -> Result<(Vec<Issued>, Vec<Refused>), Error> {
        let most = u32::try_from(most.min(self.limits.keys_at_once)).unwrap_or(u32::MAX);
        let mut keys = Vec::new();
        let mut rows = Vec::new();
        for due in self.keys.due(self.clock.now(), most).await? {
            let made = self.made(&due.address, due.agi.unwrap_or(self.agi), due.avt.unwrap_or(self.avt))?;
            keys.push(made.0);
            rows.push(made.1);
        }
        if rows.is_empty() {
            return Ok((Vec::new(), Vec::new()));
        }
        let added = self.keys.add_all(&rows, self.limits.keys_per_address).await?;
        let (mut all, mut refused) = (Vec::new(), Vec::new());
        for ((row, key), added) in rows.iter().zip(keys).zip(added) {
            match added {
                Added::Generation(generation) => all.push(issued(row, key, generation)),
                Added::Full(living) => refused.push(Refused { address: row.address.clone(), living: Some(living) }),
                // Another process was quicker.
                Added::NotDue => refused.push(Refused { address: row.address.clone(), living: None }),
            }
        }
        Ok((all, refused))
    }

    /// Takes back keys that nobody has read: they end at once, and it is their addresses' turn again.
    pub async fn take_back(&self, keys: &[Issued]) -> Result<(), Error> {
        let keys: Vec<_> = keys.iter().map(|key| (key.address.clone(), key.generation)).collect();
        Ok(self.keys.take_back(&keys, self.clock.now()).await?)
    }

    /// A key for an address whose turn it is.
    fn made(&self, address: &str, agi: Duration, avt: Duration) -> Result<(AuthKey, NewKey), Error> {
        let created = self.clock.now();
        let lifetime = agi.checked_add(avt).ok_or(Error::Lifetime)?;
        let expires = created.checked_add(lifetime).ok_or(Error::Lifetime)?;
        let others_end = created.checked_add(avt).ok_or(Error::Lifetime)?;
        let key = new_key()?;
        let row = NewKey {
            address: address.to_owned(),
            k: key.verify_key(),
            created,
            expires,
            others_end: Some(others_end),
            turn: Some(next_turn(address, agi, created)),
            only_due: true,
            post: None,
        };
        Ok((key, row))
    }

    /// The keys of an address of ours, newest first, ended and revoked ones too for a while.
    pub async fn list(&self, address: &Address) -> Result<Vec<Listed>, Error> {
        let now = self.clock.now();
        let rows = self.keys.of(&self.own_or_refuse(address)?).await?;
        Ok(rows.iter().map(|row| listed(row, now)).collect())
    }

    /// Takes keys back, at once: all living ones of the address, or the one with this fingerprint. Returns how many.
    pub async fn revoke(&self, address: &Address, fingerprint: Option<&str>) -> Result<u64, Error> {
        let address = self.own_or_refuse(address)?;
        let now = self.clock.now();
        let rows = self.keys.of(&address).await?;
        let wanted = |row: &&KeyRow| {
            state(row, now) == KeyState::Living
                && fingerprint.is_none_or(|asked| row.k.fingerprint().eq_ignore_ascii_case(asked))
        };
        let generations: Vec<i64> = rows.iter().filter(wanted).map(|row| row.generation).collect();
        match fingerprint {
            Some(asked) if generations.is_empty() => Err(Error::NoSuchKey { address, fingerprint: asked.to_owned() }),
            _ => Ok(self.keys.revoke(&address, &generations, now).await?),
        }
    }

    /// Deletes the keys that ended longer ago than `e=expired` is told; returns how many.
    pub async fn sweep(&self) -> Result<u64, Error> {
        match self.clock.now().checked_sub(self.limits.expired_kept) {
            Some(before) => Ok(self.keys.sweep(before).await?),
            None => Ok(0),
        }
    }

    pub(super) fn own_or_refuse(&self, address: &Address) -> Result<String, Error> {
        let address = address.to_string();
        self.own(&address).ok_or_else(|| Error::OtherDomain { address, domains: self.domains.join(", ") })
    }
}

/// What a row is good for at this time.
pub(super) fn state(row: &KeyRow, now: SystemTime) -> KeyState {
    match row.revoked {
        Some(_) => KeyState::Revoked,
        None if row.expires > now => KeyState::Living,
        None => KeyState::Expired,
    }
}

fn issued(row: &NewKey, key: AuthKey, generation: i64) -> Issued {
    Issued {
        address: row.address.clone(),
        key,
        generation,
        created: row.created,
        expires: row.expires,
        fingerprint: row.k.fingerprint(),
    }
}

fn listed(row: &KeyRow, now: SystemTime) -> Listed {
    Listed {
        generation: row.generation,
        created: row.created,
        expires: row.expires,
        revoked: row.revoked,
        state: state(row, now),
        fingerprint: row.k.fingerprint(),
    }
}

fn new_key() -> Result<AuthKey, Error> {
    let mut octets = Zeroizing::new([0; KEY_OCTETS]);
    getrandom::fill(octets.as_mut_slice()).map_err(Error::Random)?;
    let text = Zeroizing::new(URL_SAFE_NO_PAD.encode(octets.as_slice()));
    // 64 characters of base64url are always in the key's grammar.
    AuthKey::parse(text.as_bytes()).map_err(|_| Error::Random(getrandom::Error::UNEXPECTED))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_64_url_safe_characters_and_no_two_are_alike() {
        let keys: Vec<AuthKey> = (0..50).map(|_| new_key().unwrap()).collect();
        for (i, key) in keys.iter().enumerate() {
            assert_eq!(key.expose().len(), 64);
            assert!(keys.iter().skip(i + 1).all(|other| other != key));
        }
    }
}
