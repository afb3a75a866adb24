//! New keys that are still to reach their addresses.

use std::time::{Duration, SystemTime};

use async_trait::async_trait;

use super::{Error, PostEnd};
use crate::proto::address::Mailbox;
use crate::proto::seal::Sealed;

/// A new key whose turn it is to be sent.
#[derive(Clone, Debug)]
pub struct Post {
    /// The address it belongs to.
    pub address: Mailbox,
    /// Which of the address's keys it is.
    pub generation: i64,
    /// The key, sealed to whoever posts it; the address is bound in.
    pub sealed: Sealed,
    /// When it was made.
    pub created: SystemTime,
    /// When it ends.
    pub expires: SystemTime,
    /// How many tries there were, this one included.
    pub tries: u32,
}

/// How a new key's way to its address stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostRow {
    /// Which of the address's keys it is.
    pub generation: i64,
    /// How many tries there were.
    pub tries: u32,
    /// When the next one is, where it is not ended.
    pub next_try: SystemTime,
    /// What became of it; absent while it is owed.
    pub outcome: Option<PostEnd>,
    /// Why the last try did not succeed, while it is owed.
    pub note: Option<String>,
}

/// How the posting of keys stands, over all addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owing {
    /// Keys that are still to be sent.
    pub waiting: u64,
    /// When the oldest of them was made.
    pub oldest: Option<SystemTime>,
}

/// The verbs of the AS about keys that are on their way.
#[async_trait]
pub trait Posts {
    /// Takes the key that has waited longest among all whose turn it is, and counts the try; the next one is after
    /// `backoff(tries)`, unless [`Posts::end_post`] comes first: a try that a crash cut short is repeated. Of two
    /// processes one gets it. Keys that were revoked or ended meanwhile are never handed out; their posts end here.
    async fn take_post(&self, now: SystemTime, backoff: fn(u32) -> Duration) -> Result<Option<Post>, Error>;

    /// Notes why a try did not succeed; the next one is when [`Posts::take_post`] said.
    async fn postpone_post(&self, post: &Post, why: &str) -> Result<(), Error>;

    /// Ends a post in this way; the sealed key is gone.
    async fn end_post(&self, post: &Post, outcome: &PostEnd, now: SystemTime) -> Result<(), Error>;

    /// Sees to it that the sealed keys of ended posts are in no log of the database either, as far as that can be done now.
    async fn forget_ended(&self) {}

    /// The posts of an address, newest first, until their keys are swept.
    async fn posts_of(&self, address: &Mailbox) -> Result<Vec<PostRow>, Error>;

    /// How the posting stands.
    async fn owing(&self) -> Result<Owing, Error>;
}
