//! The AS's table and the keyring in memory, for tests and for programs that embed this one: lost when it ends.

mod addresses;
mod changes;
mod forged;
mod keyring;
mod keys;
mod posts;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};

pub use keyring::MemoryKeyring;

use super::{Changes, Error, KeyTable, PostEnd};
use crate::proto::key::VerifyKey;
use crate::proto::seal::Sealed;

/// The AS's table, in memory: what is in it is lost with it.
#[derive(Debug, Default)]
pub struct MemoryKeys(Kept<Table>);

impl MemoryKeys {
    /// An empty table.
    pub fn new() -> MemoryKeys {
        MemoryKeys::default()
    }
}

impl KeyTable for MemoryKeys {
    fn log(&self) -> Option<&dyn Changes> {
        Some(self)
    }
}

/// What is kept until it is closed.
#[derive(Debug)]
struct Kept<T>(Mutex<Option<T>>);

impl<T: Default> Default for Kept<T> {
    fn default() -> Kept<T> {
        Kept(Mutex::new(Some(T::default())))
    }
}

impl<T> Kept<T> {
    /// Does one verb on it, while no other is done.
    fn with<R>(&self, verb: impl FnOnce(&mut T) -> Result<R, Error>) -> Result<R, Error> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let closed = || Error::Statement { path: "memory".into(), source: "it is closed".into() };
        verb(kept.as_mut().ok_or_else(closed)?)
    }

    fn close(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// The tables of `authority.*.sql`; times and durations are in seconds, as they are there.
#[derive(Debug, Default)]
struct Table {
    generations: BTreeMap<String, i64>,
    keys: BTreeMap<(String, i64), Key>,
    settings: BTreeMap<String, Settings>,
    /// By domain, day, address, verifier and network.
    forged: BTreeMap<(String, i64, String, String, String), Counted>,
    posts: BTreeMap<(String, i64), Owed>,
    /// Whose keys changed, by number; the newest ones.
    changes: VecDeque<(i64, String)>,
    last_change: i64,
}

#[derive(Debug)]
struct Key {
    k: VerifyKey,
    created: i64,
    expires: i64,
    revoked: Option<i64>,
}

#[derive(Debug)]
struct Settings {
    agi: Option<i64>,
    avt: Option<i64>,
    created: i64,
    due: i64,
}

#[derive(Debug)]
struct Counted {
    answers: u64,
    first: i64,
    last: i64,
}

#[derive(Debug)]
struct Owed {
    /// Gone as soon as it ends.
    sealed: Option<Sealed>,
    created: i64,
    tries: u32,
    next_try: i64,
    outcome: Option<PostEnd>,
    note: Option<String>,
}

impl Key {
    fn lives(&self, now: i64) -> bool {
        self.revoked.is_none() && self.expires > now
    }
}

impl Table {
    /// The keys of an address, oldest first.
    fn of(&mut self, address: &str) -> impl DoubleEndedIterator<Item = (i64, &mut Key)> {
        let all = (address.to_owned(), i64::MIN)..=(address.to_owned(), i64::MAX);
        self.keys.range_mut(all).map(|((_, generation), key)| (*generation, key))
    }
}
