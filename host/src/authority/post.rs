//! Posting new keys: each is brought to its address once every endpoint of the domain knows it (SPECIFICATION §2.6).
//!
//! At least once: a try is counted before it is made, and a crash between sending and noting so repeats it, with the same
//! Message-ID. Several servers may post from one database, since of two one gets a post; they need the same `post.key` then.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use futures_util::future::join_all;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::issue::{KeyState, state};
use super::refusals::Refusals;
use super::{Authority, Error};
use crate::config::{Config, Deliver};
use crate::outbox::{Failure, KeyMail, KeyMails, Tour};
use crate::proto::address::Address;
use crate::proto::key::AuthKey;
use crate::proto::seal::{Opener, SealTo};
use crate::proto::text::masked;
use crate::store::{self, Keyring, Learned, NewestKey, Opening, Post, PostEnd};

/// Tries after which it is said that keys are held back: a replica may well lag for the first ones.
const TELLING_TRIES: u32 = 3;

/// Asks the servers of a domain whether they know a key.
#[async_trait]
pub trait AskEverywhere: Send + Sync {
    /// Whether every endpoint of the address's domain answers VALIDKEY to this key.
    ///
    /// # Errors
    /// Which one does not, and what it said, or why it cannot be asked; in words, for lists and the log.
    async fn everywhere(&self, address: &Address, key: &AuthKey) -> Result<(), String>;
}

/// What one turn of the poster came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PostTurn {
    /// Keys whose turn it was.
    pub taken: usize,
    /// Those that are where they belong now.
    pub done: usize,
    /// Those that will never be.
    pub given_up: usize,
}

/// Brings new keys to their addresses.
pub struct Poster {
    authority: Arc<Authority>,
    opener: Opener,
    asks: Arc<dyn AskEverywhere>,
    way: Way,
    wake: Notify,
    /// The domains whose keys are held back, so that the log says so once and not for each key.
    held: Mutex<BTreeSet<String>>,
}

/// How keys reach their addresses.
enum Way {
    Mail(Box<KeyMails>),
    Keyring { keyring: Arc<dyn Keyring>, seal_to: SealTo },
}

/// A key that may go out.
struct Proved {
    post: Post,
    address: Address,
    key: AuthKey,
}

impl Poster {
    /// Whoever brings the keys of this server to their addresses, in the way that `authority.deliver` says; `None`: nobody does.
    /// The pair that opens them is made where there is none. It connects to nothing yet.
    pub async fn open(
        config: &Config,
        authority: Arc<Authority>,
        asks: Arc<dyn AskEverywhere>,
    ) -> Result<Option<Poster>, Error> {
        let limits = &authority.limits;
        let way = match config.authority.deliver {
            Deliver::Nobody => return Ok(None),
            Deliver::Mail => Way::Mail(Box::new(KeyMails::from_config(config, limits)?)),
            Deliver::Keyring => {
                let opening = Opening { busy: limits.store.busy, readers: limits.store.readers };
                let seal_to = store::keyring_seal_to(config)?;
                Way::Keyring { keyring: store::open_keyring(config, opening).await?, seal_to }
            }
        };
        let opener = store::post_opener(&config.state_dir.0)?;
        Ok(Some(Poster { authority, opener, asks, way, wake: Notify::new(), held: Mutex::default() }))
    }

    /// Makes keys in time and posts what is owed, until `shutdown`; a lot under way then has `limits.outbox.notice_drain` to come to
    /// its end.
    pub async fn run(&self, shutdown: CancellationToken) {
        let issuing = self.authority.clone().issue_often(&self.wake, shutdown.clone());
        tokio::join!(issuing, self.post_often(shutdown));
        if let Way::Keyring { keyring, .. } = &self.way {
            keyring.close().await;
        }
    }

    async fn post_often(&self, shutdown: CancellationToken) {
        let limits = &self.authority.limits;
        let mut troubled = false;
        loop {
            let turn = self.turn();
            tokio::pin!(turn);
            let turn = tokio::select! {
                turn = &mut turn => turn,
                () = shutdown.cancelled() => {
                    if tokio::time::timeout(limits.outbox.notice_drain, turn).await.is_err() {
                        warn!("keys under way are cut off; they are posted later");
                    }
                    return;
                }
            };
            if turn.is_err() != troubled {
                troubled = !troubled;
                match &turn {
                    Err(e) => warn!("the posting of keys cannot be read or written, new keys wait: {e}"),
                    Ok(_) => info!("the posting of keys goes on"),
                }
            }
            let idle = !turn.is_ok_and(|posted| posted.taken > 0);
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(if idle { limits.authority.post_look } else { limits.authority.post_pause }) => {}
                () = self.wake.notified(), if idle => {}
            }
        }
    }

    /// Posts one lot of the keys that are owed, `limits.authority.posts_at_once` at most: all are asked about at the same time, and then
    /// sent one after another.
    pub async fn turn(&self) -> Result<PostTurn, Error> {
        let authority = &self.authority;
        let taken = authority.clock.now();
        let mut posts = Vec::new();
        while posts.len() < authority.limits.authority.posts_at_once {
            let Some(post) = authority.keys.take_post(taken, backoff).await? else { break };
            posts.push(post);
        }
        let mut posted = PostTurn { taken: posts.len(), ..PostTurn::default() };
        let mut ready = Vec::new();
        for (post, proved) in join_all(posts.into_iter().map(|post| self.prove(post))).await {
            match proved {
                Ok((address, key)) => ready.push(Proved { post, address, key }),
                Err(why) => {
                    self.tell_held(&post, Some(&why));
                    self.postpone(&post, &why, &mut posted).await?;
                }
            }
        }
        match &self.way {
            Way::Mail(mails) => {
                let mut tour = mails.tour();
                for proved in ready {
                    self.mail(&mut tour, mails, proved, taken, &mut posted).await?;
                }
                tour.end().await;
            }
            Way::Keyring { keyring, seal_to } => {
                for proved in ready {
                    self.store(keyring.as_ref(), seal_to, proved, taken, &mut posted).await?;
                }
            }
        }
        if posted.done + posted.given_up > 0 {
            authority.keys.forget_ended().await;
        }
        Ok(posted)
    }

    /// Opens a key, and asks everywhere whether it is known: only then does it go out, so that no server that lags behind can
    /// condemn mail that carries it.
    async fn prove(&self, post: Post) -> (Post, Result<(Address, AuthKey), String>) {
        let proved = async {
            let address = Address::parse(post.address.as_bytes(), true).map_err(|e| format!("no address: {e}"))?;
            let key = self.opener.open(&post.address, &post.sealed).map_err(|_| {
                "it is sealed to another post.key: every Authentication Server on one database needs the same"
                    .to_owned()
            })?;
            self.asks.everywhere(&address, &key).await?;
            Ok((address, key))
        };
        let proved = proved.await;
        (post, proved)
    }

    async fn mail(
        &self,
        tour: &mut Tour<'_>,
        mails: &KeyMails,
        proved: Proved,
        taken: SystemTime,
        posted: &mut PostTurn,
    ) -> Result<(), Error> {
        let Proved { post, address, key } = proved;
        if let Err(why) = self.still_wanted(&post, taken).await? {
            return self.postpone(&post, why, posted).await;
        }
        let Post { generation, created, expires, tries, .. } = post;
        let mail = KeyMail { address: &address, key: &key, generation, created, expires };
        let message_id = mails.message_id(&mail);
        match tour.send(&mail, self.authority.clock.now()).await {
            Ok(()) => {
                self.end(&post, &PostEnd::Sent).await?;
                posted.done += 1;
                self.tell_held(&post, None);
                info!(address = post.address.as_str(), generation, message_id, tries, "new key sent");
            }
            Err(Failure { lasting: true, text }) => self.refused(&post, &text, posted).await?,
            Err(Failure { text, .. }) => {
                info!(address = post.address.as_str(), generation, message_id, tries, "new key postponed: {text}");
                self.postpone(&post, &text, posted).await?;
            }
        }
        Ok(())
    }

    async fn store(
        &self,
        keyring: &dyn Keyring,
        seal_to: &SealTo,
        proved: Proved,
        taken: SystemTime,
        posted: &mut PostTurn,
    ) -> Result<(), Error> {
        let Proved { post, key, .. } = proved;
        if let Err(why) = self.still_wanted(&post, taken).await? {
            return self.postpone(&post, why, posted).await;
        }
        let sealed = seal_to.seal(&post.address, &key).ok_or(Error::Random(getrandom::Error::UNEXPECTED))?;
        let (address, fingerprint) = (String::from(post.address.clone()), key.verify_key().fingerprint());
        let (learned, expires) = (self.authority.clock.now(), post.expires);
        let newest = NewestKey { address, fingerprint: fingerprint.clone(), sealed, learned, expires };
        let outcome = match keyring.learn(&newest).await {
            // Whoever revoked it meanwhile may have looked into the keyring before it was there.
            Ok(Learned::Newest | Learned::Known) if !self.lives(&post).await? => {
                keyring.supersede(&post.address, &[fingerprint]).await?;
                PostEnd::Revoked
            }
            Ok(Learned::Newest | Learned::Known) => PostEnd::Stored,
            Ok(other) => {
                let (address, generation, why) = (post.address.as_str(), post.generation, other.word());
                warn!(
                    address,
                    generation, "the keyring does not take the new key ({why}): mail goes on with the present one"
                );
                PostEnd::NotStored(other)
            }
            Err(e) => {
                let why = format!("the keyring cannot be written: {e}");
                self.tell_held(&post, Some(&why));
                return self.postpone(&post, &why, posted).await;
            }
        };
        self.end(&post, &outcome).await?;
        posted.done += 1;
        self.tell_held(&post, None);
        info!(address = post.address.as_str(), generation = post.generation, "new key {outcome}");
        Ok(())
    }

    async fn lives(&self, post: &Post) -> Result<bool, Error> {
        let rows = self.authority.keys.of(&post.address).await?;
        let row = rows.iter().find(|row| row.generation == post.generation);
        Ok(row.is_some_and(|row| state(row, self.authority.clock.now()) == KeyState::Living))
    }

    /// Whether a key may still go out, after the others of its lot have taken their time: it lives, and the time of this try
    /// is not over, since then another server may have begun the next.
    async fn still_wanted(&self, post: &Post, taken: SystemTime) -> Result<Result<(), &'static str>, Error> {
        let now = self.authority.clock.now();
        let over = taken.checked_add(backoff(post.tries)).is_none_or(|until| now >= until);
        let rows = self.authority.keys.of(&post.address).await?;
        let row = rows.iter().find(|row| row.generation == post.generation);
        Ok(match row.map(|row| state(row, now)) {
            Some(KeyState::Living) if over => Err("those before it took too long"),
            Some(KeyState::Living) => Ok(()),
            _ => Err("it was revoked or ended meanwhile"),
        })
    }

    /// Notes why a key is not posted yet; after `limits.authority.post_tries` it never is.
    async fn postpone(&self, post: &Post, why: &str, posted: &mut PostTurn) -> Result<(), Error> {
        if post.tries >= self.authority.limits.authority.post_tries {
            return self.give_up(post, &format!("after {} tries: {why}", post.tries), posted).await;
        }
        let why = self.note(why);
        debug!(
            address = post.address.as_str(),
            generation = post.generation,
            tries = post.tries,
            "new key postponed: {why}"
        );
        Ok(self.authority.keys.postpone_post(post, &why).await?)
    }

    /// Counts refusals for good in the note; the last of [`Refusals`] in a row gives up.
    async fn refused(&self, post: &Post, text: &str, posted: &mut PostTurn) -> Result<(), Error> {
        let rows = self.authority.keys.posts_of(&post.address).await?;
        let note = rows.into_iter().find(|row| row.generation == post.generation).and_then(|row| row.note);
        let refusals = Refusals::after(note.as_deref(), text);
        if refusals.are_enough() {
            self.give_up(post, text, posted).await
        } else {
            self.postpone(post, &refusals.to_string(), posted).await
        }
    }

    async fn give_up(&self, post: &Post, why: &str, posted: &mut PostTurn) -> Result<(), Error> {
        let why = self.note(why);
        self.end(post, &PostEnd::GivenUp(why.clone())).await?;
        posted.given_up += 1;
        let (address, generation) = (post.address.as_str(), post.generation);
        warn!(address, generation, "new key given up, `addrauth key rotate {address}` makes another: {why}");
        Ok(())
    }

    async fn end(&self, post: &Post, outcome: &PostEnd) -> Result<(), Error> {
        Ok(self.authority.keys.end_post(post, outcome, self.authority.clock.now()).await?)
    }

    /// A reason as it may stand in a list or a log: what others said is in it.
    fn note(&self, why: &str) -> String {
        masked(why, self.authority.limits.authority.post_note)
    }

    /// Says when the keys of a domain begin to be held back, and when they go out again.
    fn tell_held(&self, post: &Post, why: Option<&str>) {
        let domain = post.address.rsplit_once('@').map_or("", |(_, domain)| domain);
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        match why {
            Some(why) if post.tries >= TELLING_TRIES && held.insert(domain.to_owned()) => {
                warn!(domain, "new keys are held back, and tried again: {}", self.note(why));
            }
            None if held.remove(domain) => info!(domain, "new keys go out again"),
            _ => {}
        }
    }
}

/// How long after the nth try the next one is: ten seconds, doubling to two hours.
fn backoff(tries: u32) -> Duration {
    let doubled = 10_u64.saturating_mul(1 << tries.saturating_sub(1).min(20));
    Duration::from_secs(doubled.min(2 * 3_600))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Limits;

    #[test]
    fn tries_begin_within_seconds_and_outlast_a_key() {
        assert_eq!([0, 1, 2, 3].map(|tries| backoff(tries).as_secs()), [10, 10, 20, 40]);
        assert_eq!(backoff(u32::MAX), Duration::from_secs(7_200));
        let all: Duration = (1..Limits::default().authority.post_tries).map(backoff).sum();
        let config = Config::default().authority;
        assert!(all > config.agi + config.avt, "{all:?}");
    }
}
