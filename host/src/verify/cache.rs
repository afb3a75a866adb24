//! What an AS said, remembered within the bounds of SPECIFICATION §3.8; no key is kept, only what the AS itself stores of one.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quick_cache::sync::Cache;
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use super::inquiry::{Said, Verdict};
use crate::case::{Answerer, Limited};
use crate::config::Limits;
use crate::proto::address::Address;
use crate::proto::key::VerifyKey;

/// Three bounded caches: junk in the one evicts nothing from the others.
pub(super) struct Memory {
    /// By address: the one key that was found valid last, as in the proposal; another valid key replaces it.
    valid: Cache<Address, Valid>,
    invalid: Cache<Mark, Other>,
    unverified: Cache<Mark, Other>,
    salt: [u8; 16],
    limits: Arc<Limits>,
}

/// Address and key as one salted hash: the key is not in it, and comparing marks tells an attacker nothing.
pub(super) type Mark = [u8; 32];

#[derive(Clone)]
struct Valid {
    key: VerifyKey,
    answerer: Option<Answerer>,
    until: Instant,
}

#[derive(Clone)]
struct Other {
    verdict: Verdict,
    until: Instant,
}

impl Memory {
    pub(super) fn new(limits: &Arc<Limits>) -> Memory {
        Memory {
            valid: Cache::new(limits.verify.cache_valid),
            invalid: Cache::new(limits.verify.cache_invalid),
            unverified: Cache::new(limits.verify.cache_invalid),
            salt: rand::random(),
            limits: limits.clone(),
        }
    }

    /// What stands for an address and a key, here and among the questions in flight.
    pub(super) fn mark(&self, address: &Address, key: &VerifyKey) -> Mark {
        let mut hash = Sha256::new();
        hash.update(self.salt);
        hash.update(key.octets());
        hash.update(address.to_string().as_bytes());
        hash.finalize().into()
    }

    /// What is remembered of this address and key.
    pub(super) fn recall(&self, address: &Address, key: &VerifyKey, now: Instant) -> Option<(Said, Option<Answerer>)> {
        if let Some(known) = self.valid.get(address)
            && now < known.until
            && known.key == *key
        {
            return Some((Said::Valid { valid_for: None }, known.answerer));
        }
        let mark = self.mark(address, key);
        let other = [&self.invalid, &self.unverified].into_iter().find_map(|cache| {
            let other = cache.get(&mark)?;
            (now < other.until).then_some(other)
        })?;
        Some((other.verdict.said, other.verdict.answerer()))
    }

    /// Which endpoint said INVALIDKEY, so that another may be asked.
    pub(super) fn who_denied(&self, address: &Address, key: &VerifyKey) -> Option<SocketAddr> {
        self.invalid
            .get(&self.mark(address, key))
            .and_then(|other| other.verdict.endpoint)
            .map(|endpoint| endpoint.address)
    }

    /// Remembers a verdict. What was said of another key of this address stays, unless this one is valid.
    pub(super) fn remember(&self, address: &Address, key: &VerifyKey, verdict: &Verdict, now: Instant) {
        let mark = self.mark(address, key);
        let other = |lifetime| Other { verdict: verdict.clone(), until: now + lifetime };
        match verdict.said {
            Said::Valid { valid_for } => {
                let answerer = verdict.answerer();
                let until = now + self.lifetime(valid_for);
                self.valid.insert(address.clone(), Valid { key: key.clone(), answerer, until });
                self.invalid.remove(&mark);
            }
            Said::Invalid(_) => {
                // The AS no longer knows a key that it did know.
                self.valid.remove_if(address, |known| known.key == *key);
                self.invalid.insert(mark, other(self.limits.verify.cache_invalid_for));
            }
            // Our own budget is not what the AS said.
            Said::Limited(Limited::Here) => {}
            Said::Unverified(_) | Said::Limited(Limited::There) => {
                self.unverified.insert(mark, other(self.limits.verify.cache_unverified_for))
            }
        }
    }

    /// The second answer differed: neither is believed.
    pub(super) fn forget(&self, address: &Address, key: &VerifyKey) {
        self.valid.remove_if(address, |known| known.key == *key);
        self.invalid.remove(&self.mark(address, key));
    }

    /// How many verdicts are remembered, some of them too old to be used.
    pub(super) fn len(&self) -> usize {
        self.valid.len() + self.invalid.len() + self.unverified.len()
    }

    fn lifetime(&self, valid_for: Option<u32>) -> Duration {
        match valid_for {
            Some(seconds) => Duration::from_secs(seconds.into()).min(self.limits.verify.cache_valid_for),
            None => self.limits.verify.cache_valid_without_t,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::locate::Endpoint;
    use super::super::peers::Over;
    use super::*;
    use crate::case::Why;
    use crate::proto::key::AuthKey;

    fn key(number: usize) -> VerifyKey {
        AuthKey::parse(format!("{number:0>64}").as_bytes()).unwrap().verify_key()
    }

    fn alice() -> Address {
        Address::parse(b"alice@example.com", false).unwrap()
    }

    fn memory(limits: Limits) -> Memory {
        Memory::new(&Arc::new(limits))
    }

    fn verdict(said: Said) -> Verdict {
        let address = ([192, 0, 2, 1], 4410).into();
        Verdict { said, endpoint: Some(Endpoint::fixed(address)), over: Over::Udp }
    }

    /// For how many whole seconds a verdict is remembered.
    fn remembered(said: Said) -> u64 {
        let (memory, start) = (memory(Limits::default()), Instant::now());
        memory.remember(&alice(), &key(1), &verdict(said), start);
        let known = |seconds: &u64| memory.recall(&alice(), &key(1), start + Duration::from_secs(*seconds)).is_some();
        (0..10_000).take_while(known).count() as u64
    }

    #[test]
    fn g2_g4_each_answer_is_believed_for_its_time_and_no_longer() {
        assert_eq!(remembered(Said::Valid { valid_for: Some(9_999_999) }), 3_600);
        assert_eq!(remembered(Said::Valid { valid_for: Some(40) }), 40, "no longer than the key lives");
        assert_eq!(remembered(Said::Valid { valid_for: Some(0) }), 0);
        assert_eq!(remembered(Said::Valid { valid_for: None }), 300);
        assert_eq!(remembered(Said::Invalid(Why::Wrong)), 60);
        assert_eq!(remembered(Said::Invalid(Why::Expired)), 60);
        assert_eq!(remembered(Said::Unverified(Why::Timeout)), 5);
        assert_eq!(remembered(Said::Limited(Limited::There)), 5);
    }

    #[test]
    fn our_own_budget_is_not_remembered_as_an_answer() {
        let (memory, start) = (memory(Limits::default()), Instant::now());
        memory.remember(&alice(), &key(1), &Verdict::limited(), start);
        assert!(memory.recall(&alice(), &key(1), start).is_none());
    }

    #[test]
    fn g1_an_answer_is_for_one_spelling_of_the_local_part() {
        let (memory, start) = (memory(Limits::default()), Instant::now());
        memory.remember(&alice(), &key(1), &verdict(Said::Valid { valid_for: None }), start);
        for other in ["Alice@example.com", "alice+x@example.com", "\"al ice\"@example.com", "alice@example.org"] {
            let other = Address::parse(other.as_bytes(), false).unwrap();
            assert!(memory.recall(&other, &key(1), start).is_none(), "{other}");
        }
        let same = Address::parse(b"\"alice\"@EXAMPLE.com", false).unwrap();
        assert!(memory.recall(&same, &key(1), start).is_some());
    }

    #[test]
    fn g3_an_invalid_key_locks_the_owner_out_neither_before_nor_after() {
        let (memory, start) = (memory(Limits::default()), Instant::now());
        memory.remember(&alice(), &key(2), &verdict(Said::Invalid(Why::Wrong)), start);
        assert!(memory.recall(&alice(), &key(1), start).is_none());
        memory.remember(&alice(), &key(1), &verdict(Said::Valid { valid_for: None }), start);
        memory.remember(&alice(), &key(3), &verdict(Said::Invalid(Why::Wrong)), start);
        let said = |number| memory.recall(&alice(), &key(number), start).map(|known| known.0);
        assert_eq!(said(1), Some(Said::Valid { valid_for: None }));
        assert_eq!(said(2), Some(Said::Invalid(Why::Wrong)));
        memory.remember(&alice(), &key(1), &verdict(Said::Invalid(Why::Expired)), start);
        assert_eq!(said(1), Some(Said::Invalid(Why::Expired)), "what the AS takes back is gone");
    }

    #[test]
    fn g5_g6_keys_are_kept_as_verify_keys_and_salted_hashes_alone() {
        let (one, other) = (memory(Limits::default()), memory(Limits::default()));
        assert_ne!(one.mark(&alice(), &key(1)), other.mark(&alice(), &key(1)), "the salt differs from start to start");
        assert_ne!(one.mark(&alice(), &key(1)), one.mark(&alice(), &key(2)));
        // `Valid::key` has the type whose comparison takes constant time and which never prints.
        let kept = Valid { key: key(1), answerer: None, until: Instant::now() };
        assert_eq!(format!("{:?}", kept.key), "VerifyKey(…)");
    }

    #[test]
    fn f7_a_flood_of_junk_evicts_no_valid_key_and_stays_bounded() {
        let limits = Limits::default().with(|limits| {
            limits.verify.cache_valid = 100;
            limits.verify.cache_invalid = 100;
        });
        let (memory, start) = (memory(limits), Instant::now());
        memory.remember(&alice(), &key(0), &verdict(Said::Valid { valid_for: None }), start);
        for number in 1..5_000 {
            memory.remember(&alice(), &key(number), &verdict(Said::Invalid(Why::Wrong)), start);
            memory.remember(&alice(), &key(number), &verdict(Said::Unverified(Why::Timeout)), start);
        }
        assert!(memory.recall(&alice(), &key(0), start).is_some());
        assert!(memory.invalid.len() <= 100 && memory.unverified.len() <= 100);
    }

    #[test]
    fn after_disagreement_neither_answer_is_believed() {
        let (memory, start) = (memory(Limits::default()), Instant::now());
        memory.remember(&alice(), &key(1), &verdict(Said::Invalid(Why::Wrong)), start);
        assert_eq!(memory.who_denied(&alice(), &key(1)), Some(([192, 0, 2, 1], 4410).into()));
        memory.forget(&alice(), &key(1));
        assert!(memory.recall(&alice(), &key(1), start).is_none());
    }
}
