//! Issuing, listing and revoking the keys of an address.

use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use super::{Authority, Error};
use crate::proto::address::Address;
use crate::proto::key::AuthKey;
use crate::store::KeyRow;

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
        let address = self.own_or_refuse(address)?;
        let created = self.clock.now();
        let lifetime = self.agi.checked_add(self.avt).ok_or(Error::Lifetime)?;
        let expires = created.checked_add(lifetime).ok_or(Error::Lifetime)?;
        let key = new_key()?;
        let k = key.verify_key();
        let generation = self.keys.add(&address, &k, created, expires, self.limits.keys_per_address).await?;
        Ok(Issued { address, key, generation, created, expires, fingerprint: k.fingerprint() })
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

    fn own_or_refuse(&self, address: &Address) -> Result<String, Error> {
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
