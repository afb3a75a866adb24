//! Issuing by hand, listing and revoking the keys of an address.

use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use super::schedule::next_turn;
use super::{Authority, Error};
use crate::config::Deliver;
use crate::proto::address::{Address, Mailbox};
use crate::proto::key::AuthKey;
use crate::proto::seal::SealTo;
use crate::store::{self, Added, KeyRow, NewKey, Opening, PostRow};

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

/// A key that was just made and is owed to its address: whoever posts keys brings it there, and nobody else sees it.
#[derive(Clone, Debug)]
pub struct OwedKey {
    /// The address, as it is looked up.
    pub address: String,
    /// Which of the address's keys this is, counted from 1.
    pub generation: i64,
    /// When it was made.
    pub created: SystemTime,
    /// When it ends.
    pub expires: SystemTime,
    /// What tells it apart in lists, and reveals nothing.
    pub fingerprint: String,
}

/// What a key is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
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
    /// How its way to the address stands; absent: it was printed and not posted.
    pub post: Option<PostRow>,
}

impl Authority {
    /// Makes a key for an address of ours, for whoever called to bring it there. It is valid from now on, and durable.
    pub async fn issue(&self, address: &Address) -> Result<Issued, Error> {
        let (key, row) = self.made_by_hand(address).await?;
        let row = NewKey { others_end: None, ..row };
        let generation = self.add(&row).await?;
        Ok(Issued {
            key,
            generation,
            created: row.created,
            expires: row.expires,
            fingerprint: row.k.fingerprint(),
            address: row.address,
        })
    }

    /// Makes a key for an address of ours and owes it to the address; the older ones end after AVT at the latest.
    ///
    /// # Errors
    /// Also where `authority.deliver` says that nobody posts keys: then there is no new key.
    pub async fn rotate(&self, address: &Address) -> Result<OwedKey, Error> {
        if self.deliver == Deliver::Nobody {
            return Err(Error::NobodyPosts { address: self.own_or_refuse(address)?.into() });
        }
        let seal_to = store::post_seal_to(&self.state_dir, self.shared)?;
        let (key, row) = self.made_by_hand(address).await?;
        let row = sealed(&key, row, &seal_to)?;
        let generation = self.add(&row).await?;
        let (created, expires, fingerprint) = (row.created, row.expires, row.k.fingerprint());
        Ok(OwedKey { address: row.address, generation, created, expires, fingerprint })
    }

    async fn made_by_hand(&self, address: &Address) -> Result<(AuthKey, NewKey), Error> {
        let address = self.own_or_refuse(address)?;
        let (agi, avt) = self.intervals(&address).await?;
        let (key, row) = self.made(&address, agi, avt)?;
        Ok((key, NewKey { only_due: false, ..row }))
    }

    async fn add(&self, row: &NewKey) -> Result<i64, Error> {
        let address = row.address.clone();
        let _forgets = self.asked.forgets([&address]);
        match self.keys.add_all(std::slice::from_ref(row), self.limits.authority.keys_per_address).await?.first() {
            Some(Added::Generation(generation)) => Ok(*generation),
            Some(Added::Full(count)) => Err(store::Error::TooManyKeys { address, count: *count }.into()),
            _ => Err(Error::NotEnlisted { address }),
        }
    }

    /// Takes back a key that nobody has read: it ends at once, and it is its address's turn again.
    pub async fn take_back(&self, key: &Issued) -> Result<(), Error> {
        let _forgets = self.asked.forgets([&key.address]);
        Ok(self.keys.take_back(&[(key.address.clone(), key.generation)], self.clock.now()).await?)
    }

    /// A key for an address whose turn it is.
    pub(super) fn made(&self, address: &str, agi: Duration, avt: Duration) -> Result<(AuthKey, NewKey), Error> {
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
        let (now, address) = (self.clock.now(), self.own_or_refuse(address)?);
        let (rows, posts) = (self.keys.of(&address).await?, self.keys.posts_of(&address).await?);
        let post = |row: &KeyRow| posts.iter().find(|post| post.generation == row.generation).cloned();
        Ok(rows.iter().map(|row| listed(row, post(row), now)).collect())
    }

    /// Takes keys back, at once: all living ones of the address, or the one with this fingerprint. Returns how many.
    ///
    /// They leave the keyring too, where this server reaches it ([`Authority::reaches_keyring`]), and an address that has no
    /// living key left gets a new one at the next look. Done again, it makes up for a keyring that could not be written.
    pub async fn revoke(&self, address: &Address, fingerprint: Option<&str>) -> Result<u64, Error> {
        let address = self.own_or_refuse(address)?;
        let now = self.clock.now();
        let rows = self.keys.of(&address).await?;
        let asked = |row: &&KeyRow| fingerprint.is_none_or(|asked| row.k.fingerprint().eq_ignore_ascii_case(asked));
        let (alive, dead): (Vec<_>, Vec<_>) = rows.iter().partition(|row| state(row, now) == KeyState::Living);
        let wanted: Vec<&KeyRow> = alive.into_iter().filter(asked).collect();
        let generations: Vec<i64> = wanted.iter().map(|row| row.generation).collect();
        let revoked = {
            let _forgets = self.asked.forgets([address.as_str()]);
            self.keys.revoke(&address, &generations, now).await?
        };
        let before = dead.into_iter().filter(|row| row.revoked.is_some());
        let gone = wanted.into_iter().chain(before).map(|row| row.k.fingerprint()).collect();
        self.unstamp(vec![(address.clone(), gone)]).await?;
        match fingerprint {
            Some(asked) if generations.is_empty() => {
                Err(Error::NoSuchKey { address: address.into(), fingerprint: asked.to_owned() })
            }
            _ => Ok(revoked),
        }
    }

    /// Whether keys that are revoked here leave the keyring by themselves; otherwise whoever stamps has them until the next
    /// ones arrive.
    pub fn reaches_keyring(&self) -> bool {
        self.keyring_at.is_some()
    }

    /// Takes keys that do not count any more out of the keyring, by address and fingerprint.
    pub(super) async fn unstamp(&self, gone: Vec<(Mailbox, Vec<String>)>) -> Result<(), Error> {
        let Some(config) = self.keyring_at.as_deref().filter(|_| gone.iter().any(|(_, keys)| !keys.is_empty())) else {
            return Ok(());
        };
        let opening = Opening { busy: self.limits.store.busy, readers: self.limits.store.readers };
        let left = |source| Error::StillStamped { source };
        let keyring = store::open_keyring(config, opening).await.map_err(left)?;
        let mut done = Ok(());
        for (address, keys) in gone {
            done = keyring.supersede(&address, &keys).await.map(drop);
            if done.is_err() {
                break;
            }
        }
        keyring.close().await;
        done.map_err(left)
    }

    /// Deletes the keys that ended longer ago than `e=expired` is told; returns how many.
    pub async fn sweep(&self) -> Result<u64, Error> {
        match self.clock.now().checked_sub(self.limits.authority.expired_kept) {
            Some(before) => Ok(self.keys.sweep(before).await?),
            None => Ok(0),
        }
    }

    pub(super) fn own_or_refuse(&self, address: &Address) -> Result<Mailbox, Error> {
        if self.domains.contains(address.domain()) {
            return Ok(address.mailbox());
        }
        Err(Error::OtherDomain { address: address.to_string(), domains: self.domains.join(", ") })
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

fn listed(row: &KeyRow, post: Option<PostRow>, now: SystemTime) -> Listed {
    Listed {
        generation: row.generation,
        created: row.created,
        expires: row.expires,
        revoked: row.revoked,
        state: state(row, now),
        fingerprint: row.k.fingerprint(),
        post,
    }
}

/// The same key, owed to its address.
pub(super) fn sealed(key: &AuthKey, row: NewKey, seal_to: &SealTo) -> Result<NewKey, Error> {
    let sealed = seal_to.seal(&row.address, key).ok_or(Error::Random(getrandom::Error::UNEXPECTED))?;
    Ok(NewKey { post: Some(sealed), ..row })
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
