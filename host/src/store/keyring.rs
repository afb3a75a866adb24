//! The keyring: the newest key of each address of ours, sealed to whoever stamps mail with it.

use std::time::SystemTime;

use async_trait::async_trait;

use super::Error;
pub use crate::case::Learned;
use crate::proto::address::Mailbox;
use crate::proto::seal::Sealed;

/// A key that an AS vouched for.
#[derive(Clone, Debug)]
pub struct NewestKey {
    /// The address it belongs to, folded.
    pub address: String,
    /// What tells the key apart, and reveals nothing.
    pub fingerprint: String,
    /// The key, sealed to whoever stamps; the address is bound in.
    pub sealed: Sealed,
    /// When it was learned.
    pub learned: SystemTime,
    /// When it ends, as the AS said.
    pub expires: SystemTime,
}

/// An address's key as it may be listed: all about it but the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyringRow {
    /// The address, folded.
    pub address: String,
    /// What tells the key apart.
    pub fingerprint: String,
    /// When it was learned.
    pub learned: SystemTime,
    /// When it ends.
    pub expires: SystemTime,
}

/// How old the present keys of a domain are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyAges {
    /// The domain.
    pub domain: String,
    /// Addresses with a present key, living or not.
    pub addresses: u64,
    /// Of these, those whose key has ended.
    pub ended: u64,
    /// When the oldest of the living keys was learned; absent where none lives.
    pub oldest: Option<SystemTime>,
}

/// The verbs about the keys of our own addresses. Who learns needs no right to read what is sealed, and cannot open it.
#[async_trait]
pub trait Keyring: std::fmt::Debug + Send + Sync {
    /// Makes this the address's key where it lives longer than the present one and was never superseded. Durable when it
    /// returns.
    async fn learn(&self, key: &NewestKey) -> Result<Learned, Error>;

    /// The present key of an address, living or not.
    async fn newest(&self, address: &Mailbox) -> Result<Option<NewestKey>, Error>;

    /// The present keys of all addresses, or of one domain, in alphabetical order.
    async fn rows(&self, domain: Option<&str>) -> Result<Vec<KeyringRow>, Error>;

    /// The present keys that end before this time, the next first, at most this many.
    async fn ending(&self, before: SystemTime, most: u32) -> Result<Vec<KeyringRow>, Error>;

    /// How old the present keys of each domain are now, by domain in alphabetical order. It reads the whole table.
    async fn ages(&self, now: SystemTime) -> Result<Vec<KeyAges>, Error>;

    /// Takes the present key of an address out where it has one of these fingerprints: it is stamped no more, and
    /// never learned again. Returns whether it did.
    async fn supersede(&self, address: &Mailbox, fingerprints: &[String]) -> Result<bool, Error>;

    /// Forgets an address altogether, superseded keys too: the next key that an AS vouches for is learned,
    /// whatever it is. Returns whether there was anything.
    async fn forget(&self, address: &Mailbox) -> Result<bool, Error>;

    /// Deletes what ended before this time; returns how many rows.
    async fn sweep(&self, before: SystemTime) -> Result<u64, Error>;

    /// Closes the connections; every later verb fails.
    async fn close(&self);
}
