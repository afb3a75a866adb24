//! The keys of addresses that were asked about lately, in memory, kept true by the table's log of changes.
//!
//! Nothing here is a verdict: a question is judged anew each time, by the clock. What is held counts as long as the log, which is
//! read before each batch of questions, told of no change of it; of a table without a log nothing is held. Unknown addresses are
//! held apart, so that junk evicts no key.

use std::cmp::Reverse;
use std::collections::hash_map::RandomState;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quick_cache::Weighter;
use quick_cache::unsync::{Cache, DefaultLifecycle};

use super::weigh::{Candidate, Comparisons};
use crate::config::limits::Authority as Limits;
use crate::proto::key::Checker;
use crate::store::{Changed, KeyRow, LogPlace, Look};

/// Comparisons are made by so many: five days between two keys, seven for which an old one stays good, and 14 for which an
/// ended one is told from a wrong one, leave an address six.
const TOGETHER: usize = 8;
/// Octets of an entry beside its address and its keys, with what the cache and the allocator add.
const ENTRY: usize = 160;

/// What the keys of an address are compared as.
#[derive(Debug, Default)]
pub(super) struct Keys {
    /// Those that were not revoked, the ones that end last first.
    pub(super) candidates: Vec<Candidate<Checker>>,
    /// Whether the table has any key of the address, a revoked one too.
    pub(super) has_any: bool,
}

impl Keys {
    fn of(rows: &[KeyRow]) -> Keys {
        let usable = rows.iter().filter(|row| row.revoked.is_none());
        let candidate = |row: &KeyRow| Candidate { key: row.k.checker(), expires: row.expires };
        let mut candidates: Vec<Candidate<Checker>> = usable.map(candidate).collect();
        candidates.sort_by_key(|candidate| Reverse(candidate.expires));
        candidates.shrink_to_fit();
        Keys { candidates, has_any: !rows.is_empty() }
    }
}

/// The addresses, and what is known of their keys.
pub(super) struct Asked {
    held: Mutex<Held>,
    /// Whether the table has a log.
    has_log: bool,
    most: usize,
    /// The comparisons that an answer costs at least.
    least: AtomicUsize,
    nobody: Arc<Keys>,
}

struct Held {
    known: Cache<Box<str>, Arc<Keys>, Octets, RandomState>,
    unknown: Cache<Box<str>, (), Octets, RandomState>,
    place: Option<LogPlace>,
    /// How often something was taken out: what was read from the table before the last time may be older than that.
    taken_out: u64,
    is_closed: bool,
}

/// When something was read: see [`Asked::hold`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Ticket(u64);

#[derive(Clone, Copy)]
struct Octets;

impl Weighter<Box<str>, Arc<Keys>> for Octets {
    fn weight(&self, address: &Box<str>, keys: &Arc<Keys>) -> u64 {
        octets(ENTRY + address.len() + keys.candidates.len() * size_of::<Candidate<Checker>>())
    }
}

impl Weighter<Box<str>, ()> for Octets {
    fn weight(&self, address: &Box<str>, (): &()) -> u64 {
        octets(ENTRY + address.len())
    }
}

fn octets(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

impl fmt::Debug for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let held = self.held();
        write!(f, "Asked({} known, {} unknown)", held.known.len(), held.unknown.len())
    }
}

impl Asked {
    /// `has_log`: whether the table has a log of changes.
    pub(super) fn new(limits: &Limits, has_log: bool) -> Asked {
        let [known, unknown] = [limits.asked_octets, limits.asked_unknown_octets];
        let entries = |all: u64| usize::try_from(all).unwrap_or(usize::MAX) / (2 * ENTRY);
        let held = Held {
            known: Cache::with(entries(known), known, Octets, RandomState::new(), DefaultLifecycle::default()),
            unknown: Cache::with(entries(unknown), unknown, Octets, RandomState::new(), DefaultLifecycle::default()),
            place: None,
            taken_out: 0,
            is_closed: false,
        };
        Asked {
            held: Mutex::new(held),
            has_log,
            most: limits.keys_per_address,
            least: AtomicUsize::new(TOGETHER.min(limits.keys_per_address)),
            nobody: Arc::default(),
        }
    }

    /// The place up to which the log was read.
    pub(super) fn place(&self) -> Option<LogPlace> {
        self.held().place.clone()
    }

    /// Takes out what a look at the log told of.
    pub(super) fn follow(&self, look: Look) {
        let mut held = self.held();
        match look.changed {
            Changed::Of(addresses) => held.take_out(addresses.iter().map(String::as_str)),
            Changed::Anybodys => held.empty(),
        }
        held.place = Some(look.place);
    }

    /// To be kept while this process writes keys of these addresses: they are taken out when that is over, done or not.
    pub(super) fn forgets(&self, addresses: impl IntoIterator<Item = impl Into<String>>) -> Forgets<'_> {
        Forgets { asked: self, addresses: addresses.into_iter().map(Into::into).collect() }
    }

    /// From now on nothing is held.
    pub(super) fn close(&self) {
        let mut held = self.held();
        held.empty();
        held.is_closed = true;
    }

    /// What is held of these addresses (folded), and when that was looked at.
    pub(super) fn recall(&self, addresses: &[&str]) -> (Vec<Option<Arc<Keys>>>, Ticket) {
        let held = self.held();
        let one = |address: &&str| {
            // Both are looked into, whatever the first says.
            let (known, unknown) = (held.known.get(*address), held.unknown.get(*address));
            known.cloned().or(unknown.map(|()| Arc::clone(&self.nobody)))
        };
        (addresses.iter().map(one).collect(), Ticket(held.taken_out))
    }

    /// Holds what was read of an address after this ticket was given, unless something changed since: it may have been read
    /// before that.
    pub(super) fn hold(&self, ticket: Ticket, address: &str, rows: &[KeyRow]) -> Arc<Keys> {
        let keys = if rows.is_empty() { Arc::clone(&self.nobody) } else { Arc::new(Keys::of(rows)) };
        let least = keys.candidates.len().min(self.most).next_multiple_of(TOGETHER).min(self.most);
        self.least.fetch_max(least, Ordering::Relaxed);
        let mut held = self.held();
        if self.has_log && ticket.0 == held.taken_out && !held.is_closed {
            match keys.has_any {
                true => held.known.insert(address.into(), Arc::clone(&keys)),
                false => held.unknown.insert(address.into(), ()),
            }
        }
        keys
    }

    /// What an answer costs. It grows with the most keys that an address was found to have, for all addresses alike.
    pub(super) fn comparisons(&self) -> Comparisons {
        Comparisons { least: self.least.load(Ordering::Relaxed), most: self.most }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes keys out when it is dropped.
pub(super) struct Forgets<'a> {
    asked: &'a Asked,
    addresses: Vec<String>,
}

impl Drop for Forgets<'_> {
    fn drop(&mut self) {
        self.asked.held().take_out(self.addresses.iter().map(String::as_str));
    }
}

impl Held {
    fn take_out<'a>(&mut self, addresses: impl IntoIterator<Item = &'a str>) {
        for address in addresses {
            self.known.remove(address);
            self.unknown.remove(address);
            self.taken_out += 1;
        }
    }

    fn empty(&mut self) {
        self.known.clear();
        self.unknown.clear();
        self.taken_out += 1;
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::proto::key::VerifyKey;
    use crate::store::{Changes as _, Keys as _, MemoryKeys};

    fn rows(address: &str, count: u8) -> Vec<KeyRow> {
        let row = |generation: u8| KeyRow {
            address: address.into(),
            generation: generation.into(),
            k: VerifyKey::from_octets([generation; 32]),
            created: UNIX_EPOCH,
            expires: UNIX_EPOCH + Duration::from_secs(1_000 + u64::from(generation)),
            revoked: None,
        };
        (1..=count).map(row).collect()
    }

    fn limits() -> Limits {
        Limits { asked_octets: 100_000, asked_unknown_octets: 20_000, ..Limits::default() }
    }

    fn has(asked: &Asked, address: &str) -> bool {
        asked.recall(&[address]).0[0].is_some()
    }

    fn hold(asked: &Asked, address: &str, count: u8) {
        let (_, ticket) = asked.recall(&[]);
        asked.hold(ticket, address, &rows(address, count));
    }

    #[test]
    fn memory_is_bounded_and_junk_evicts_no_key() {
        let asked = Asked::new(&limits(), true);
        hold(&asked, "alice@example.com", 3);
        for n in 0..10_000 {
            hold(&asked, &format!("nobody{n}@example.com"), 0);
        }
        assert!(has(&asked, "alice@example.com"));
        assert!(asked.held().unknown.weight() <= 20_000 && asked.held().unknown.len() > 50);
        for n in 0..1_000 {
            hold(&asked, &format!("user{n}@example.com"), 8);
        }
        assert!(asked.held().known.weight() <= 100_000 && asked.held().known.len() > 20);
        assert!(size_of::<Candidate<Checker>>() <= 192, "{}", size_of::<Candidate<Checker>>());
    }

    #[tokio::test]
    async fn what_the_log_tells_of_is_taken_out_and_a_gap_empties_all() {
        let (table, asked) = (MemoryKeys::new(), Asked::new(&limits(), true));
        let look = async || {
            asked.follow(table.changes(asked.place().as_ref()).await.unwrap());
        };
        let add = async |address: &str| {
            let address = crate::proto::address::Mailbox::parse(address).unwrap();
            table.add(&address, &VerifyKey::from_octets([1; 32]), UNIX_EPOCH, UNIX_EPOCH, 9_999).await.unwrap();
        };
        look().await;
        hold(&asked, "alice@example.com", 1);
        hold(&asked, "bob@example.com", 0);
        look().await;
        assert!(has(&asked, "alice@example.com") && has(&asked, "bob@example.com"));
        add("bob@example.com").await;
        look().await;
        assert!(has(&asked, "alice@example.com") && !has(&asked, "bob@example.com"));
        for _ in 0..1_001 {
            add("carol@example.com").await;
        }
        look().await;
        assert!(!has(&asked, "alice@example.com"), "too much changed to tell");
    }

    #[test]
    fn what_was_read_before_a_change_was_told_of_is_not_held() {
        let asked = Asked::new(&limits(), true);
        let (_, ticket) = asked.recall(&[]);
        drop(asked.forgets(["alice@example.com"]));
        asked.hold(ticket, "alice@example.com", &rows("alice@example.com", 1));
        assert!(!has(&asked, "alice@example.com"));
    }

    #[test]
    fn of_a_table_without_a_log_nothing_is_held_and_what_was_read_counts_for_its_question_alone() {
        let asked = Asked::new(&limits(), false);
        let (_, ticket) = asked.recall(&[]);
        let keys = asked.hold(ticket, "alice@example.com", &rows("alice@example.com", 1));
        assert_eq!(keys.candidates.len(), 1);
        assert!(!has(&asked, "alice@example.com"));
        let asked = Asked::new(&limits(), true);
        hold(&asked, "alice@example.com", 1);
        assert!(has(&asked, "alice@example.com"));
        asked.close();
        hold(&asked, "alice@example.com", 1);
        assert!(!has(&asked, "alice@example.com"));
    }

    #[test]
    fn h_all_answers_cost_what_the_address_with_the_most_keys_costs() {
        let asked = Asked::new(&limits(), true);
        assert_eq!(asked.comparisons().least, 8);
        for (count, least) in [(0, 8), (8, 8), (9, 16), (3, 16), (60, 64), (70, 64)] {
            hold(&asked, "alice@example.com", count);
            assert_eq!(asked.comparisons().least, least, "{count}");
        }
    }
}
