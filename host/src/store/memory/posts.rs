//! Keys on their way, in memory.

use std::time::{Duration, SystemTime};

use async_trait::async_trait;

use super::{MemoryKeys, Owed, Table};
use crate::proto::address::Mailbox;
use crate::store::{Error, Owing, Post, PostEnd, PostRow, Posts, seconds, time};

#[async_trait]
impl Posts for MemoryKeys {
    async fn take_post(&self, now: SystemTime, backoff: fn(u32) -> Duration) -> Result<Option<Post>, Error> {
        let now_seconds = seconds(now);
        self.0.with(|table| {
            while let Some(place) = table.next_owed(now_seconds) {
                let (Some(owed), Some(key)) = (table.posts.get_mut(&place), table.keys.get(&place)) else { break };
                match (key.lives(now_seconds), owed.sealed.clone()) {
                    (true, Some(sealed)) => {
                        owed.tries = owed.tries.saturating_add(1);
                        owed.next_try = seconds(now.checked_add(backoff(owed.tries)).unwrap_or(now));
                        let ((address, generation), tries) = (place, owed.tries);
                        let address = Mailbox::parse(&address).ok_or_else(nobody)?;
                        let (created, expires) = (time(key.created), time(key.expires));
                        return Ok(Some(Post { address, generation, sealed, created, expires, tries }));
                    }
                    _ if key.revoked.is_none() => owed.end(PostEnd::Expired),
                    _ => owed.end(PostEnd::Revoked),
                }
            }
            Ok(None)
        })
    }

    async fn postpone_post(&self, post: &Post, why: &str) -> Result<(), Error> {
        self.0.with(|table| {
            if let Some(owed) = table.owed(post) {
                owed.note = Some(why.to_owned());
            }
            Ok(())
        })
    }

    async fn end_post(&self, post: &Post, outcome: &PostEnd, _now: SystemTime) -> Result<(), Error> {
        self.0.with(|table| {
            if let Some(owed) = table.owed(post) {
                owed.end(outcome.clone());
            }
            Ok(())
        })
    }

    async fn posts_of(&self, address: &Mailbox) -> Result<Vec<PostRow>, Error> {
        let address = address.as_str().to_owned();
        let row = |((_, generation), owed): (&(String, i64), &Owed)| PostRow {
            generation: *generation,
            tries: owed.tries,
            next_try: time(owed.next_try),
            outcome: owed.outcome.clone(),
            note: owed.note.clone(),
        };
        let all = (address.clone(), i64::MIN)..=(address, i64::MAX);
        self.0.with(|table| Ok(table.posts.range(all).rev().map(row).collect()))
    }

    async fn owing(&self) -> Result<Owing, Error> {
        self.0.with(|table| {
            let waiting = || table.posts.values().filter(|owed| owed.outcome.is_none());
            let oldest = waiting().map(|owed| owed.created).min().map(time);
            Ok(Owing { waiting: u64::try_from(waiting().count()).unwrap_or_default(), oldest })
        })
    }
}

fn nobody() -> Error {
    Error::Statement { path: "memory".into(), source: "a post is for no mailbox".into() }
}

impl Owed {
    fn end(&mut self, outcome: PostEnd) {
        (self.sealed, self.note) = (None, None);
        self.outcome = Some(outcome);
    }
}

impl Table {
    fn owed(&mut self, post: &Post) -> Option<&mut Owed> {
        self.posts.get_mut(&(post.address.clone().into(), post.generation)).filter(|owed| owed.outcome.is_none())
    }

    /// The post that has waited longest among those whose turn it is.
    fn next_owed(&self, now: i64) -> Option<(String, i64)> {
        let due = self.posts.iter().filter(|(_, owed)| owed.outcome.is_none() && owed.next_try <= now);
        due.min_by(|(a, one), (b, other)| (one.next_try, a).cmp(&(other.next_try, b))).map(|(place, _)| place.clone())
    }
}
