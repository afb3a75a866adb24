//! What is known of 256 rows of the journal without reading them: how they count, and which names and words are in them.
//!
//! The names (addresses, their domains, queue ids) stand in a Bloom filter: where it says no, the block has none of that name;
//! where it says yes, the rows are looked at. So a search reads some ten octets a row and then the rows that it finds, no index
//! is written at random places, and what is appended is appended at the end. Once an address is erased, the filter is made anew
//! from the rows that are left.

use super::folded;
use super::octets::{Octets, put, put_text};
use super::words::{RowResult, RowVerdict};
use crate::case::{Carried, Differs, KeyStatus, WrittenCase};

/// Rows of a block.
pub(super) const ROWS: i64 = 256;
/// The version of what [`Block::summary`] writes.
const VERSION: u8 = 1;
/// Octets of a filter: two fill a page of SQLite's.
const NAMES: usize = 1_980;
/// A filter never takes more.
const NAMES_AT_MOST: usize = 256 * 1024;
/// Bits that each name sets.
const BITS: u64 = 6;
/// Bits of the filter for each name: about one block in 300 is looked at in vain.
const BITS_A_NAME: usize = 12;
/// Policies of a block that are told apart; the rest are one.
const POLICIES: usize = 7;
/// Whose senders' domains are not counted: nothing is wrong with them, or nothing can be.
const QUIET: [RowResult; 2] = [RowResult::Judged(KeyStatus::Valid), RowResult::Judged(KeyStatus::None)];
/// The words of decisions, in the order of their bits.
const DECISIONS: [&str; 6] = ["accept", "mark", "quarantine", "reject", "defer", "nothing"];
const CARRIED: [Carried; 3] = [Carried::InForce, Carried::Observed, Carried::PutOff];

/// The number of the block that a row is in.
pub(super) fn of_row(id: i64) -> i64 {
    id.div_euclid(ROWS)
}

/// How many messages were judged how. Absent rows count nowhere.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tally {
    /// Messages that were judged.
    pub messages: u64,
    /// Rows that this version cannot read.
    pub unread: u64,
    /// How many messages had this result and a decision of this word that came to this.
    pub counts: Vec<(RowResult, &'static str, Carried, u64)>,
    /// How many messages of this result came from this domain, the domain of the newest message first. Not of `valid` and
    /// `none`.
    pub domains: Vec<(RowResult, String, u64)>,
    /// How many decisions of this policy had this candidate beside them (`case::Shadow::candidate`), which differed so.
    pub shadows: Vec<(String, String, Differs, u64)>,
}

impl Tally {
    /// Counts one row more, a newer one.
    pub(super) fn add(&mut self, result: &RowResult, story: Option<&WrittenCase>) {
        let Some(story) = story else {
            // What stands in for the row of a message that was in quarantine for longer than the journal is kept was no
            // message of its own.
            self.unread += u64::from(*result != RowResult::Quarantined);
            return;
        };
        self.messages += 1;
        for (word, carried) in story.carried() {
            let same = |known: &&mut (RowResult, &'static str, Carried, u64)| {
                known.0 == *result && known.1 == word && known.2 == carried
            };
            match self.counts.iter_mut().find(same) {
                Some((.., count)) => *count += 1,
                None => self.counts.push((result.clone(), word, carried, 1)),
            }
        }
        for (policy, candidate, differs) in story.shadows() {
            let same = |known: &&mut (String, String, Differs, u64)| {
                known.0 == policy && known.1 == candidate && known.2 == differs
            };
            match self.shadows.iter_mut().find(same) {
                Some((.., count)) => *count += 1,
                None => self.shadows.push((policy.to_owned(), candidate, differs, 1)),
            }
        }
        if !QUIET.contains(result) {
            let domain = story.sender_domain();
            let known = self.domains.iter().position(|known| known.0 == *result && known.1 == domain);
            let before = known.map_or(0, |at| self.domains.remove(at).2);
            self.domains.insert(0, (result.clone(), domain, before + 1));
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        put(out, self.messages);
        put(out, self.unread);
        put(out, self.counts.len() as u64);
        for (result, word, carried, count) in &self.counts {
            put_text(out, result.word());
            out.push(place(&DECISIONS, word));
            out.push(place(&CARRIED, carried));
            put(out, *count);
        }
        put(out, self.domains.len() as u64);
        for (result, domain, count) in &self.domains {
            put_text(out, result.word());
            put_text(out, domain);
            put(out, *count);
        }
        if self.shadows.is_empty() {
            return;
        }
        // Behind all else, and only where there are some: the octets of other blocks stay what they were.
        put(out, self.shadows.len() as u64);
        for (policy, candidate, differs, count) in &self.shadows {
            put_text(out, policy);
            put_text(out, candidate);
            out.push(place(&Differs::ALL, differs));
            put(out, *count);
        }
    }

    fn read(left: &mut Octets<'_>) -> Option<Tally> {
        let mut tally = Tally { messages: left.number()?, unread: left.number()?, ..Tally::default() };
        for _ in 0..left.number()? {
            let result = RowResult::of_word(left.text()?);
            let word = *DECISIONS.get(usize::from(left.octet()?))?;
            let carried = *CARRIED.get(usize::from(left.octet()?))?;
            tally.counts.push((result, word, carried, left.number()?));
        }
        for _ in 0..left.number()? {
            tally.domains.push((RowResult::of_word(left.text()?), left.text()?.to_owned(), left.number()?));
        }
        let shadows = if left.is_over() { 0 } else { left.number()? };
        for _ in 0..shadows {
            let (policy, candidate) = (left.text()?.to_owned(), left.text()?.to_owned());
            let differs = *Differs::ALL.get(usize::from(left.octet()?))?;
            tally.shadows.push((policy, candidate, differs, left.number()?));
        }
        Some(tally)
    }
}

/// A row, as far as its block tells of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct BlockRow<'a> {
    pub(super) id: i64,
    pub(super) at: i64,
    pub(super) octets: u64,
    pub(super) queue_id: Option<&'a str>,
    pub(super) result: &'a RowResult,
    pub(super) verdict: &'a RowVerdict,
    /// Absent where it cannot be read.
    pub(super) story: Option<&'a WrittenCase>,
}

/// What is known of the rows of a block.
#[derive(Clone, Debug, Default)]
pub(super) struct Block {
    pub(super) oldest: i64,
    pub(super) newest: i64,
    pub(super) rows: u64,
    pub(super) octets: u64,
    pub(super) tally: Tally,
    /// The results and verdicts of its rows.
    results: Vec<String>,
    verdicts: Vec<String>,
    /// The policies that decided, up to [`POLICIES`] of them.
    policies: Vec<String>,
    /// By row: the decisions and the policies, a bit each; the last one stands for all other policies.
    words: Vec<[u8; 2]>,
    pub(super) names: Names,
}

impl Block {
    /// Takes a row in.
    pub(super) fn add(&mut self, row: BlockRow<'_>) {
        self.oldest = if self.rows == 0 { row.at } else { self.oldest.min(row.at) };
        self.newest = if self.rows == 0 { row.at } else { self.newest.max(row.at) };
        self.rows += 1;
        self.octets += row.octets;
        self.tally.add(row.result, row.story);
        note(&mut self.results, row.result.word());
        note(&mut self.verdicts, row.verdict.word());
        let words = self.words_of(row.story);
        let at = usize::try_from(row.id.rem_euclid(ROWS)).unwrap_or_default();
        if self.words.len() <= at {
            self.words.resize(at + 1, [0; 2]);
        }
        if let Some(known) = self.words.get_mut(at) {
            *known = words;
        }
        names_of(row.queue_id, row.story, |name| self.names.put(name));
    }

    fn words_of(&mut self, story: Option<&WrittenCase>) -> [u8; 2] {
        let mut words = [0; 2];
        for decision in story.into_iter().flat_map(|story| &story.decisions) {
            words[0] |= 1 << place(&DECISIONS, &decision.disposition.word()).min(7);
            words[1] |= 1 << self.policy(&decision.policy);
        }
        words
    }

    /// The bit of a policy.
    fn policy(&mut self, id: &str) -> usize {
        match self.policies.iter().position(|known| known == id) {
            Some(at) => at,
            None if self.policies.len() < POLICIES => {
                self.policies.push(id.to_owned());
                self.policies.len() - 1
            }
            None => POLICIES,
        }
    }

    /// The bits of which a row that this decision or policy is in has one. None where no row has it.
    pub(super) fn bits(&self, decision: Option<&str>, policy: Option<&str>) -> [u8; 2] {
        let known = policy.and_then(|id| self.policies.iter().position(|known| known == id));
        [decision_bits(decision), policy_bits(policy, known, self.policies.len())]
    }

    /// The bits of the row of this number.
    pub(super) fn words(&self, id: i64) -> [u8; 2] {
        let at = usize::try_from(id.rem_euclid(ROWS)).unwrap_or_default();
        self.words.get(at).copied().unwrap_or_default()
    }

    /// All but the filter and the columns, in octets.
    pub(super) fn summary(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(1_024);
        out.push(VERSION);
        for words in [&self.results, &self.verdicts, &self.policies] {
            put(&mut out, words.len() as u64);
            words.iter().for_each(|word| put_text(&mut out, word));
        }
        // Most blocks have the same few pairs in all rows: runs of them.
        let mut left = self.words.as_slice();
        while let Some(first) = left.first() {
            let run = left.iter().take_while(|words| *words == first).count();
            put(&mut out, run as u64);
            out.extend_from_slice(first);
            left = left.get(run..).unwrap_or_default();
        }
        put(&mut out, 0);
        self.tally.write(&mut out);
        out
    }

    /// What [`Block::summary`] wrote. Absent where it is of another version.
    pub(super) fn read(summary: &[u8]) -> Option<Block> {
        let (mut block, mut left) = Block::words_in(summary)?;
        block.tally = Tally::read(&mut left)?;
        Some(block)
    }

    /// The same without what is counted: a search does not ask for that.
    pub(super) fn read_words(summary: &[u8]) -> Option<Block> {
        Block::words_in(summary).map(|(block, _)| block)
    }

    /// Whether a row with all of these words may be in the block of this summary. Absent where it is of another version. Nothing of it is
    /// copied: a search asks this of thousands of blocks.
    pub(super) fn may_have(summary: &[u8], sought: SoughtWords<'_>) -> Option<bool> {
        let mut left = Octets::new(summary);
        if left.octet()? != VERSION {
            return None;
        }
        let mut listed = |wanted: Option<&str>| {
            let (count, mut place) = (left.number()?, None);
            for at in 0..count {
                if Some(left.text()?) == wanted {
                    place = usize::try_from(at).ok();
                }
            }
            Some((place, usize::try_from(count).ok()?))
        };
        let (result, _) = listed(sought.result)?;
        let (verdict, _) = listed(sought.verdict)?;
        let (policy, policies) = listed(sought.policy)?;
        if sought.result.is_some() && result.is_none() || sought.verdict.is_some() && verdict.is_none() {
            return Some(false);
        }
        let bits = [decision_bits(sought.decision), policy_bits(sought.policy, policy, policies)];
        if bits == [u8::MAX; 2] {
            return Some(true);
        }
        loop {
            if left.number()? == 0 {
                return Some(false);
            }
            if fits(left.some(2)?.try_into().ok()?, bits) {
                return Some(true);
            }
        }
    }

    /// What is counted, and nothing else.
    pub(super) fn read_tally(summary: &[u8]) -> Option<Tally> {
        let (_, mut left) = Block::words_in(summary)?;
        Tally::read(&mut left)
    }

    fn words_in(summary: &[u8]) -> Option<(Block, Octets<'_>)> {
        let mut left = Octets::new(summary);
        if left.octet()? != VERSION {
            return None;
        }
        let mut block = Block { names: Names(Vec::new()), ..Block::default() };
        for words in [&mut block.results, &mut block.verdicts, &mut block.policies] {
            for _ in 0..left.number()? {
                words.push(left.text()?.to_owned());
            }
        }
        loop {
            let run = usize::try_from(left.number()?).ok()?;
            if run == 0 {
                return Some((block, left));
            }
            let words = left.some(2)?.try_into().ok()?;
            let length = block.words.len() + run;
            if i64::try_from(length).is_ok_and(|length| length <= ROWS) {
                block.words.resize(length, words);
            }
        }
    }
}

/// Words that a row is looked for by; absent ones do not matter.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SoughtWords<'a> {
    pub(super) result: Option<&'a str>,
    pub(super) verdict: Option<&'a str>,
    pub(super) decision: Option<&'a str>,
    pub(super) policy: Option<&'a str>,
}

impl SoughtWords<'_> {
    /// Whether none is looked for.
    pub(super) fn are_none(&self) -> bool {
        self.result.is_none() && self.verdict.is_none() && self.decision.is_none() && self.policy.is_none()
    }
}

/// The bit of a decision; all bits where none is looked for.
fn decision_bits(word: Option<&str>) -> u8 {
    word.map_or(u8::MAX, |word| 1 << place(&DECISIONS, &word).min(7))
}

/// The bit of a policy that is known at this place of so many; all bits where none is looked for.
fn policy_bits(id: Option<&str>, known: Option<usize>, policies: usize) -> u8 {
    match (id, known) {
        (None, _) => u8::MAX,
        (_, Some(at)) => 1 << at.min(POLICIES),
        _ if policies < POLICIES => 0,
        _ => 1 << POLICIES,
    }
}

/// Whether a row with these words may be one of those that are looked for.
pub(super) fn fits(words: [u8; 2], bits: [u8; 2]) -> bool {
    words.iter().zip(bits).all(|(words, bits)| bits == u8::MAX || words & bits != 0)
}

fn place<T: PartialEq>(all: &[T], one: &T) -> u8 {
    let at = all.iter().position(|known| known == one);
    at.and_then(|at| u8::try_from(at).ok()).unwrap_or(u8::MAX)
}

fn note(words: &mut Vec<String>, word: &str) {
    if !words.iter().any(|known| known == word) {
        words.push(word.to_owned());
    }
}

/// A name as the filter knows it.
pub(super) type Name = u64;

/// The name of a queue id.
pub(super) fn queue_id(id: &str) -> Name {
    hash(b'q', id)
}

/// The name of a sender or a recipient: a mailbox, or `@` and a domain.
pub(super) fn sender(whom: &str) -> Name {
    hash(b's', whom)
}

/// The same for a recipient.
pub(super) fn recipient(whom: &str) -> Name {
    hash(b'r', whom)
}

/// Shows the names that a row is found by.
pub(super) fn names_of(id: Option<&str>, story: Option<&WrittenCase>, mut see: impl FnMut(Name)) {
    if let Some(id) = id {
        see(queue_id(id));
    }
    let Some(story) = story else { return };
    let bare = |path: &str| folded(path.trim_start_matches('<').trim_end_matches('>'));
    let mut each = |address: &str, name: fn(&str) -> Name| {
        let Some(mailbox) = bare(address) else { return };
        see(name(&mailbox));
        see(name(mailbox.rfind('@').and_then(|at| mailbox.get(at..)).unwrap_or_default()));
    };
    let senders: Vec<&str> = story.author().into_iter().chain(story.reverse_path.as_deref()).collect();
    senders.iter().for_each(|address| each(address, sender));
    story.recipients.iter().for_each(|address| each(address, recipient));
}

/// FNV-1a, and a last mixing of its bits: it stays the same in all versions. Who makes two names collide makes a search read
/// some rows more.
fn hash(kind: u8, text: &str) -> Name {
    let octets = [kind].into_iter().chain(text.bytes());
    let hash = octets
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, octet| (hash ^ u64::from(octet)).wrapping_mul(0x0000_0100_0000_01b3));
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^ (hash >> 29)
}

/// A Bloom filter.
#[derive(Clone, Debug)]
pub(super) struct Names(Vec<u8>);

impl Default for Names {
    fn default() -> Names {
        Names(vec![0; NAMES])
    }
}

impl Names {
    /// As it was written.
    pub(super) fn new(octets: Vec<u8>) -> Names {
        if octets.is_empty() { Names::default() } else { Names(octets) }
    }

    /// One that is large enough for these.
    pub(super) fn of(names: &[Name]) -> Names {
        let octets = (names.len() * BITS_A_NAME).div_ceil(8).clamp(NAMES, NAMES_AT_MOST);
        let mut all = Names(vec![0; octets]);
        names.iter().for_each(|name| all.put(*name));
        all
    }

    pub(super) fn octets(&self) -> &[u8] {
        &self.0
    }

    fn put(&mut self, name: Name) {
        for (octet, bit) in Names::places(self.0.len(), name) {
            if let Some(octet) = self.0.get_mut(octet) {
                *octet |= bit;
            }
        }
    }

    /// Whether this name may be among those of the filter with these octets.
    pub(super) fn may_hold(names: &[u8], name: Name) -> bool {
        Names::places(names.len(), name).all(|(octet, bit)| names.get(octet).is_some_and(|known| known & bit != 0))
    }

    fn places(octets: usize, name: Name) -> impl Iterator<Item = (usize, u8)> {
        let (bits, step) = (octets as u64 * 8, (name >> 32) | 1);
        (0..BITS).map(move |n| {
            let bit = name.wrapping_add(n.wrapping_mul(step)) % bits.max(1);
            (usize::try_from(bit / 8).unwrap_or_default(), 1 << (bit % 8))
        })
    }

    /// Whether it says yes too often: more than half of its bits are set, and it may grow.
    pub(super) fn is_crowded(&self) -> bool {
        let set: usize = self.0.iter().map(|octet| octet.count_ones() as usize).sum();
        set > self.0.len() * 4 && self.0.len() < NAMES_AT_MOST
    }
}

#[cfg(test)]
#[path = "block/tests.rs"]
mod tests;
