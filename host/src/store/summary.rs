//! Messages counted by result, decision and sender's domain, so that an observing phase can be weighed.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};

use super::Tally;
use crate::case::{Carried, Differs, KeyStatus};

/// CountedDomains that are counted singly, of each result. Anybody can invent more of them in From: those that come later, of older
/// messages, are counted together.
pub const COUNTED_DOMAINS: usize = 10_000;
/// Candidates that are counted; a site tries some.
const CANDIDATES: usize = 1_000;
/// CountedDomains that are shown of each result.
pub const SHOWN_DOMAINS: usize = 10;

/// How many messages were decided in one way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// It was carried out.
    pub in_force: u64,
    /// `observe = true`: it was decided, and the message was delivered all the same.
    pub observed: u64,
    /// The message was put off, on account of another recipient or of trouble here.
    pub put_off: u64,
}

/// The domains of one result's senders.
#[derive(Debug, Default)]
pub struct CountedDomains {
    /// Counted singly.
    pub single: HashMap<String, u64>,
    /// Messages of all the others.
    pub others: u64,
}

/// What is counted of all rows; its size is bounded by the words that there are and by [`COUNTED_DOMAINS`].
#[derive(Debug, Default)]
pub struct Summary {
    /// Messages that were judged.
    pub messages: u64,
    /// By result and decision.
    pub counts: BTreeMap<(String, &'static str), Counts>,
    /// By result.
    pub domains: BTreeMap<String, CountedDomains>,
    /// By policy and candidate: how many decisions were the same, stricter, and so on, in the order of [`Differs::ALL`].
    pub shadows: BTreeMap<(String, String), [u64; Differs::ALL.len()]>,
    /// Rows that this version cannot read.
    pub unread: u64,
}

impl Summary {
    /// Counts these too: of older messages than those before.
    pub fn add(&mut self, tally: Tally) {
        self.messages += tally.messages;
        self.unread += tally.unread;
        for (result, word, carried, count) in tally.counts {
            let counts = self.counts.entry((result.word().to_owned(), word)).or_default();
            match carried {
                Carried::InForce => counts.in_force += count,
                Carried::Observed => counts.observed += count,
                Carried::PutOff => counts.put_off += count,
            }
        }
        for (result, domain, count) in tally.domains {
            self.domains.entry(result.word().to_owned()).or_default().add(domain, count);
        }
        for (policy, candidate, differs, count) in tally.shadows {
            if self.shadows.len() >= CANDIDATES && !self.shadows.contains_key(&(policy.clone(), candidate.clone())) {
                continue;
            }
            let counts = self.shadows.entry((policy, candidate)).or_default();
            let all = Differs::ALL.iter().zip(counts);
            all.filter(|(known, _)| **known == differs).for_each(|(_, sum)| *sum += count);
        }
    }

    /// The counts in the order of the results, and of the decisions from the mildest on.
    pub fn sorted(&self) -> Vec<(&(String, &'static str), &Counts)> {
        let result = |word: &str| KeyStatus::ALL.iter().position(|status| status.word() == word);
        let decisions = ["accept", "mark", "quarantine", "reject", "defer"];
        let decision = |word: &str| decisions.iter().position(|known| *known == word);
        let mut all: Vec<_> = self.counts.iter().collect();
        all.sort_by_key(|((of, decided), _)| (result(of), decision(decided)));
        all
    }
}

impl CountedDomains {
    /// Counts messages of a domain.
    pub fn add(&mut self, domain: String, messages: u64) {
        if self.single.len() < COUNTED_DOMAINS || self.single.contains_key(&domain) {
            *self.single.entry(domain).or_default() += messages;
        } else {
            self.others += messages;
        }
    }

    /// The most frequent, then by name.
    pub fn top(&self) -> Vec<(&str, u64)> {
        let mut all: Vec<_> = self.single.iter().map(|(name, count)| (name.as_str(), *count)).collect();
        all.sort_by_key(|(name, count)| (Reverse(*count), *name));
        all.truncate(SHOWN_DOMAINS);
        all
    }
}
