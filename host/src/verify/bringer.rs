//! Who brings a message: what the budgets for questions are shared out by, and who has shown a right key lately.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quick_cache::sync::Cache;
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use crate::case::Mail;
use crate::config::Limits;
use crate::proto::address::Address;
use crate::proto::network::network;

/// Bringers of one question that are told apart; a question is asked once for all who want the answer at the same time.
const SPONSORS: usize = 16;

/// Who brings a message.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Bringer {
    /// A client of this network, a /24 or /56.
    Network(IpAddr),
    /// A login of ours.
    Login(String),
    /// A local program, or a client whose address the MTA does not tell: all of them are one.
    Local,
}

impl Bringer {
    /// Who brings this message: its login, else the network of its client. The sender writes the From, so that counts for
    /// nothing here.
    pub fn of(mail: &Mail) -> Bringer {
        match (&mail.login, mail.client.ip) {
            (Some(login), _) => Bringer::Login(login.clone()),
            (None, Some(ip)) => Bringer::Network(network(ip)),
            (None, None) => Bringer::Local,
        }
    }
}

/// A bringer, or a bringer and an address, as a salted hash: of one size whatever the login's length, and nobody outside can
/// choose two that are equal.
pub(super) type Tag = [u8; 16];

/// A bringer in one question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sponsor {
    /// The bringer.
    pub(super) bringer: Tag,
    /// The bringer and the address that the question is about.
    pub(super) pair: Tag,
    /// It brought a right key of this address within `limits.verify.proven_for`.
    pub(super) proven: bool,
}

/// All who want one question answered: the best of them counts, so that nobody makes another's mail wait by asking the same.
#[derive(Debug, Default)]
pub(super) struct Sponsors(Mutex<Vec<Sponsor>>);

impl Sponsors {
    /// Adds one; those beyond the bound wait with the others.
    pub(super) fn add(&self, sponsor: Sponsor) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() < SPONSORS && !all.contains(&sponsor) {
            all.push(sponsor);
        }
    }

    /// All of them, the first one first.
    pub(super) fn all(&self) -> Vec<Sponsor> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Messages that wait for the answer to another's question. Each of them holds a place in flight as one does whose own question
/// waits, so they count with those; and no bringer has more of them than it may have questions waiting.
pub(super) struct Joiners {
    by: Mutex<HashMap<Tag, usize>>,
    waiting: Arc<AtomicUsize>,
    limits: Arc<Limits>,
}

/// The place of one that joined; dropped, it is free again.
pub(super) struct Place {
    joiners: Arc<Joiners>,
    tag: Tag,
}

impl Joiners {
    /// `waiting`: what waits in front of all doors.
    pub(super) fn new(waiting: &Arc<AtomicUsize>, limits: &Arc<Limits>) -> Arc<Joiners> {
        Arc::new(Joiners { by: Mutex::default(), waiting: waiting.clone(), limits: limits.clone() })
    }

    /// A place for one more; none where too many wait, or enough of this bringer's. Each has few while many wait.
    pub(super) fn admit(self: &Arc<Joiners>, sponsor: Sponsor) -> Option<Place> {
        let tag = if sponsor.proven { sponsor.pair } else { sponsor.bringer };
        let mut by = self.lock();
        let (wait, most) = (self.waiting.load(Ordering::Relaxed), self.limits.verify.questions_waiting);
        let own = if wait < most / 2 {
            self.limits.verify.questions_waiting_per_network
        } else {
            self.limits.verify.questions_waiting_least
        };
        if wait >= most || by.get(&tag).is_some_and(|joined| *joined >= own) {
            return None;
        }
        *by.entry(tag).or_default() += 1;
        self.waiting.fetch_add(1, Ordering::Relaxed);
        Some(Place { joiners: self.clone(), tag })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Tag, usize>> {
        self.by.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut by = self.joiners.lock();
        if let Some(joined) = by.get_mut(&self.tag) {
            *joined -= 1;
            if *joined == 0 {
                by.remove(&self.tag);
            }
        }
        self.joiners.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Who brought a right key of which address, and when: in memory alone, the least used forgotten first.
///
/// A bringer that is not known, or not any more, is a stranger and has the strangers' share.
pub(super) struct Proven {
    known: Cache<Tag, Instant>,
    salt: [u8; 16],
    limits: Arc<Limits>,
}

impl Proven {
    pub(super) fn new(limits: &Arc<Limits>) -> Proven {
        Proven { known: Cache::new(limits.verify.proven_known), salt: rand::random(), limits: limits.clone() }
    }

    /// The bringer of a question about this address.
    pub(super) fn sponsor(&self, bringer: &Bringer, address: &Address, now: Instant) -> Sponsor {
        let address = address.to_string();
        let (bringer, pair) = (self.tag(bringer, None), self.tag(bringer, Some(&address)));
        let fresh = |at: Instant| now.saturating_duration_since(at) < self.limits.verify.proven_for;
        Sponsor { bringer, pair, proven: self.known.get(&pair).is_some_and(fresh) }
    }

    /// The AS said VALIDKEY to what these brought, now or within the cache's bound.
    pub(super) fn remember(&self, sponsors: &[Sponsor], now: Instant) {
        for sponsor in sponsors {
            self.known.insert(sponsor.pair, now);
        }
    }

    fn tag(&self, bringer: &Bringer, address: Option<&str>) -> Tag {
        let mut hash = Sha256::new();
        hash.update(self.salt);
        match bringer {
            Bringer::Network(IpAddr::V4(ip)) => hash.update([&b"4"[..], &ip.octets()].concat()),
            Bringer::Network(IpAddr::V6(ip)) => hash.update([&b"6"[..], &ip.octets()].concat()),
            // A login ends with the octet 0, which it cannot hold.
            Bringer::Login(login) => hash.update([b"l", login.as_bytes(), b"\0"].concat()),
            Bringer::Local => hash.update(b"-"),
        }
        if let Some(address) = address {
            hash.update(address.as_bytes());
        }
        let mut tag = Tag::default();
        tag.iter_mut().zip(hash.finalize()).for_each(|(to, from)| *to = from);
        tag
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn alice() -> Address {
        Address::parse(b"alice@example.com", false).unwrap()
    }

    fn at(ip: &str) -> Bringer {
        Bringer::Network(network(ip.parse().unwrap()))
    }

    #[test]
    fn a_network_is_proven_for_an_address_for_a_day_and_for_no_other() {
        let (proven, start) = (Proven::new(&Arc::new(Limits::default())), Instant::now());
        let bob = Address::parse(b"bob@example.com", false).unwrap();
        let one = proven.sponsor(&at("192.0.2.1"), &alice(), start);
        assert!(!one.proven);
        proven.remember(&[one], start);
        let is = |bringer: &Bringer, address: &Address, hours: u64| {
            proven.sponsor(bringer, address, start + Duration::from_secs(hours * 3_600)).proven
        };
        assert!(is(&at("192.0.2.254"), &alice(), 0) && is(&at("::ffff:192.0.2.9"), &alice(), 23));
        assert!(!is(&at("192.0.2.1"), &alice(), 24), "a day is over");
        assert!(!is(&at("192.0.2.1"), &bob, 0), "another address");
        assert!(!is(&at("192.0.3.1"), &alice(), 0), "another network");
        for other in [Bringer::Login("192.0.2.0".into()), Bringer::Local, at("2001:db8::1")] {
            assert!(!is(&other, &alice(), 0), "{other:?}");
        }
    }

    #[test]
    fn a_flood_of_right_keys_stays_bounded_and_who_is_forgotten_is_a_stranger() {
        let limits = Limits::default().with(|limits| limits.verify.proven_known = 100);
        let (proven, start) = (Proven::new(&Arc::new(limits)), Instant::now());
        for n in 0..10_000_u32 {
            let sponsor = proven.sponsor(&Bringer::Network(IpAddr::V4((n << 8).into())), &alice(), start);
            proven.remember(&[sponsor], start);
        }
        let is = |n: u32| proven.sponsor(&Bringer::Network(IpAddr::V4((n << 8).into())), &alice(), start).proven;
        assert!(proven.known.len() <= 100 && (0..10_000).filter(|n| is(*n)).count() <= 100);
    }

    #[test]
    fn equal_questions_hold_no_more_places_than_others() {
        let limits = Arc::new(Limits::default());
        let waiting = Arc::new(AtomicUsize::new(0));
        let joiners = Joiners::new(&waiting, &limits);
        let join = |network: u8, times: usize| -> Vec<Place> {
            let sponsor = Sponsor { bringer: [network; 16], pair: [network; 16], proven: false };
            (0..times).filter_map(|_| joiners.admit(sponsor)).collect()
        };
        let first = join(1, 450);
        assert_eq!((first.len(), waiting.load(Ordering::Relaxed)), (64, 64), "one network");
        let mut others: Vec<Place> = (2..200).flat_map(|network| join(network, 450)).collect();
        assert_eq!(first.len() + others.len(), 250, "any number of networks");
        assert!(join(201, 1).is_empty());
        others.truncate(100);
        assert_eq!(join(201, 450).len(), 4, "few while many wait");
        drop((first, others));
        assert_eq!((waiting.load(Ordering::Relaxed), joiners.lock().len()), (0, 0));
    }

    #[test]
    fn a_login_and_the_address_after_it_are_told_apart() {
        let proven = Proven::new(&Arc::new(Limits::default()));
        let tag = |login: &str, address: &str| proven.tag(&Bringer::Login(login.into()), Some(address));
        assert_ne!(tag("a", "b@c.example"), tag("ab", "@c.example"));
        assert_ne!(proven.tag(&Bringer::Local, None), proven.tag(&Bringer::Local, Some("a@b.example")));
    }
}
