//! The AS's keys: the K of each, and until when it counts.

use std::time::{Duration, SystemTime};

use async_trait::async_trait;

use super::Error;
use crate::proto::address::Mailbox;
use crate::proto::key::VerifyKey;
use crate::proto::seal::Sealed;

/// One key of an address, as the table knows it.
#[derive(Clone, Debug)]
pub struct KeyRow {
    /// The address, folded.
    pub address: String,
    /// Which of the address's keys this is, counted from 1.
    pub generation: i64,
    /// K.
    pub k: VerifyKey,
    /// When it was made.
    pub created: SystemTime,
    /// When it ends.
    pub expires: SystemTime,
    /// When it was revoked, if it was.
    pub revoked: Option<SystemTime>,
}

/// By how much a key must outlive another to be taken for the longer-lived one by whoever learned both: lifetimes are told in
/// whole seconds, and each takes a moment to arrive.
pub const OUTLIVES: Duration = Duration::from_secs(2);

/// A key to be added.
#[derive(Clone, Debug)]
pub struct NewKey {
    /// The address, folded.
    pub address: String,
    /// K.
    pub k: VerifyKey,
    /// When it was made.
    pub created: SystemTime,
    /// When it ends.
    pub expires: SystemTime,
    /// When the address's older keys end at the latest; absent: as they are. It counts for those alone that this key outlives
    /// by [`OUTLIVES`]: whoever compares lifetimes goes on using the one that lives longer, so that one must stay good.
    pub others_end: Option<SystemTime>,
    /// When the address's next turn is; absent: as it is.
    pub turn: Option<SystemTime>,
    /// Whether the key is only wanted while it is the address's turn: somebody else may have been quicker.
    pub only_due: bool,
    /// The key itself, sealed to whoever posts it: owed from now on, in the same transaction. Absent: nobody is sent it.
    pub post: Option<Sealed>,
}

impl NewKey {
    /// What ends until then is outlived by this key.
    pub(super) fn outlived(&self) -> SystemTime {
        self.expires.checked_sub(OUTLIVES).unwrap_or(SystemTime::UNIX_EPOCH)
    }
}

/// What became of a new key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Added {
    /// It is in; which of the address's keys it is.
    Generation(i64),
    /// It is not: the address has this many living keys.
    Full(usize),
    /// It is not: it was not the address's turn.
    NotDue,
}

/// How the keys of all addresses stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunningOut {
    /// Addresses that had a key and are to have one: they have a living one, or get one every AGI.
    pub addresses: u64,
    /// Of these, those without a living one.
    pub without: u64,
    /// Of these, those whose last living one ends soon.
    pub soon: u64,
}

/// The verbs of the AS about keys. Only K is held, from which no key can be made, and, until it is posted, the key sealed.
#[async_trait]
pub trait Keys {
    /// Adds a key to an address and returns its generation. Durable when it returns.
    ///
    /// Refused where the address has `most` living keys already: every one of them costs each answer a comparison.
    async fn add(
        &self,
        address: &Mailbox,
        k: &VerifyKey,
        created: SystemTime,
        expires: SystemTime,
        most: usize,
    ) -> Result<i64, Error> {
        let (address, k) = (address.clone().into(), k.clone());
        let key = NewKey { address, k, created, expires, others_end: None, turn: None, only_due: false, post: None };
        match self.add_all(std::slice::from_ref(&key), most).await?.first() {
            Some(Added::Generation(generation)) => Ok(*generation),
            Some(Added::Full(count)) => Err(Error::TooManyKeys { address: key.address, count: *count }),
            _ => Err(Error::NotEnlisted { address: key.address }),
        }
    }

    /// Adds keys in one transaction; what became of each, in their order. Durable when it returns.
    ///
    /// An address that has `most` living keys already gets none, and its turn passes all the same: it must not stand at the
    /// head of the queue for ever.
    async fn add_all(&self, keys: &[NewKey], most: usize) -> Result<Vec<Added>, Error>;

    /// Takes back keys that nobody has read: revokes them, and makes it the turn of their addresses again.
    async fn take_back(&self, keys: &[(String, i64)], at: SystemTime) -> Result<(), Error>;

    /// All keys of an address, newest first, ended and revoked ones too, until they are swept.
    async fn of(&self, address: &Mailbox) -> Result<Vec<KeyRow>, Error> {
        self.of_all(&[address.clone().into()]).await
    }

    /// The same of several addresses (folded) by one question: those of an address one after another, newest first.
    async fn of_all(&self, addresses: &[String]) -> Result<Vec<KeyRow>, Error>;

    /// Marks these generations of an address as revoked, from now on; those revoked before stay as they
    /// are. Where its last living key goes so, it is the address's turn. Returns how many it marked.
    async fn revoke(&self, address: &Mailbox, generations: &[i64], at: SystemTime) -> Result<u64, Error>;

    /// How many addresses that are to have a key had one and have none alive now, and how many have their last one end before `soon`.
    async fn running_out(&self, now: SystemTime, soon: SystemTime) -> Result<RunningOut, Error>;

    /// Deletes the keys that ended or were revoked before this time; returns how many. Generations go on counting.
    async fn sweep(&self, before: SystemTime) -> Result<u64, Error>;

    /// Closes the connections; every later verb fails.
    async fn close(&self);
}
