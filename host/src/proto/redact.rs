//! Keys by their value: found and cut out of octets, wherever a copy of the key field left them.
//!
//! A DKIM signature repeats fields in its `z=` (RFC 6376 §3.5), forwarders rename them, people quote whole headers. Such a
//! copy may be folded, quoted-printable, percent-encoded or in base64.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::OnceLock;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use zeroize::{Zeroize, Zeroizing};

use super::key::{AuthKey, KEY_MAX, KEY_MIN};

mod cuts;
mod scan;

use cuts::{Cut, Cuts};
use scan::{Escapes, Gap, Item, Octets};

/// What stands where a key was: one word of octets that may stand in a field's name.
pub const REMOVED: &str = "[key-removed]";
/// Keys of one message that are looked for one by one. No sender's mail has more than two; beyond, whatever may be a key goes.
pub(super) const KEYS_MOST: usize = 64;
/// The shortest text behind a key field's name that is taken for a key, in octets: a key outside the grammar is a secret too.
const NAMED_LEAST: usize = 16;
/// The end of the names of key fields, whatever a forwarder wrote before it.
const NAME: &[u8] = b"auth-key";
/// What base64 says for asterisks: it takes the place of a key inside base64, so that the rest can still be decoded.
const FILLER: &[u8; 4] = b"Kioq";
/// Octets of the longest pattern: a key in base64.
const PATTERN_MOST: usize = (KEY_MAX + 2).div_ceil(3) * 4;

/// The keys of one message, to be cut out of what is kept or told of it.
///
/// Cut out is each copy of a key, and what looks like a key behind the name of a key field. It takes time in proportion to the
/// octets, whatever the keys are.
pub struct Redactor {
    /// What is looked for, each once.
    keys: Vec<AuthKey>,
    /// An automaton that finds all patterns at once (Aho and Corasick 1975); made for the first text in which there is room for
    /// one of them, which most mail has none of.
    automaton: OnceLock<Automaton>,
    /// There are too many keys: every text that may be one is cut.
    crowded: bool,
}

/// The states that tell where a pattern ends; the first one is the beginning. Without any, nothing is found.
#[derive(Default)]
struct Automaton(Vec<Node>);

static NO_PATTERN: Automaton = Automaton(Vec::new());

/// A state of the automaton: the longest beginning of a pattern that the octets so far end with.
#[derive(Debug, Default)]
struct Node {
    next: Vec<(u8, usize)>,
    /// The state of the next shorter one.
    fail: usize,
    /// The longest pattern that ends here: its length, and for base64 the place of its first octet in a group of four.
    ends: Option<(usize, Option<usize>)>,
}

impl Redactor {
    /// Looks for these keys; without any, still for what stands behind the name of a key field.
    pub fn new<'a>(keys: impl IntoIterator<Item = &'a AuthKey>) -> Redactor {
        let mut distinct: Vec<AuthKey> = Vec::new();
        for key in keys {
            if distinct.len() > KEYS_MOST {
                break;
            }
            if !distinct.contains(key) {
                distinct.push(key.clone());
            }
        }
        let crowded = distinct.len() > KEYS_MOST;
        if crowded {
            distinct.clear();
        }
        Redactor { keys: distinct, automaton: OnceLock::new(), crowded }
    }

    /// The octets without any key, [`REMOVED`] in its place.
    pub fn cut<'a>(&self, octets: &'a [u8]) -> Cow<'a, [u8]> {
        let cuts = self.cuts(octets);
        if cuts.is_empty() {
            return Cow::Borrowed(octets);
        }
        let mut clean = Vec::with_capacity(octets.len());
        let mut at = 0;
        for Cut { place, phase } in cuts {
            // What an earlier cut reached into is cut already.
            let from = place.start.max(at);
            clean.extend_from_slice(octets.get(at..from).unwrap_or_default());
            let cut = octets.get(from..place.end).unwrap_or_default();
            match phase {
                Some(phase) if from == place.start => clean.extend(filled(cut, phase)),
                _ if cut.is_empty() => {}
                _ => clean.extend_from_slice(REMOVED.as_bytes()),
            }
            at = at.max(place.end);
        }
        clean.extend_from_slice(octets.get(at..).unwrap_or_default());
        Cow::Owned(clean)
    }

    /// The same of a text.
    pub fn cut_text<'a>(&self, text: &'a str) -> Cow<'a, str> {
        match self.cut(text.as_bytes()) {
            Cow::Borrowed(_) => Cow::Borrowed(text),
            Cow::Owned(clean) => Cow::Owned(String::from_utf8_lossy(&clean).into_owned()),
        }
    }

    /// The same of a field's value, which its name may give away.
    pub fn cut_value<'a>(&self, name: &str, value: &'a [u8]) -> Cow<'a, [u8]> {
        let field = [name.as_bytes(), b":", value].concat();
        match self.cut(&field) {
            Cow::Borrowed(_) => Cow::Borrowed(value),
            Cow::Owned(clean) => {
                let colon = clean.iter().position(|octet| *octet == b':').map_or(0, |colon| colon + 1);
                Cow::Owned(clean.get(colon..).unwrap_or_default().to_vec())
            }
        }
    }

    /// Whether a key is in the octets.
    pub fn holds(&self, octets: &[u8]) -> bool {
        let Some(automaton) = self.automaton_for(octets) else { return false };
        Escapes::ALL.into_iter().filter(|escapes| escapes.are_in(octets)).any(|escapes| {
            let mut first = Cuts::first();
            self.find(automaton, Octets::new(octets, escapes), &mut first);
            !first.is_empty()
        })
    }

    /// The places of keys, in their order; they may overlap.
    fn cuts(&self, octets: &[u8]) -> Vec<Cut> {
        let mut places = Vec::new();
        let Some(automaton) = self.automaton_for(octets) else { return places };
        for escapes in Escapes::ALL.into_iter().filter(|escapes| escapes.are_in(octets)) {
            let mut cuts = Cuts::all();
            self.find(automaton, Octets::new(octets, escapes), &mut cuts);
            cuts.join(&mut places);
        }
        places
    }

    /// What finds the patterns in these octets; absent where nothing of what is cut has room in them.
    fn automaton_for(&self, octets: &[u8]) -> Option<&Automaton> {
        let shortest = if self.crowded { Some(KEY_MIN) } else { self.keys.iter().map(|key| key.expose().len()).min() };
        if shortest.is_some_and(|shortest| scan::has_run(octets, shortest)) {
            return Some(self.automaton.get_or_init(|| Automaton::of(&self.keys)));
        }
        // The colon behind a name may be escaped.
        let is_named = octets.len() > NAME.len() + NAMED_LEAST && octets.iter().any(|octet| b":=%".contains(octet));
        is_named.then_some(&NO_PATTERN)
    }

    fn find(&self, automaton: &Automaton, octets: impl Iterator<Item = Item>, cuts: &mut Cuts) {
        // Where the last octets stood, and what they were, for a pattern's beginning and a field's name.
        let mut last = [Item::default(); PATTERN_MOST];
        let (mut seen, mut state) = (0_usize, 0);
        let mut named = Named::default();
        for item in octets {
            last[seen % PATTERN_MOST] = item;
            seen += 1;
            let ago = |back: usize| last[(seen - 1 - back) % PATTERN_MOST];
            if !automaton.0.is_empty() {
                state = automaton.step(state, item.octet);
                if let Some((length, phase)) = automaton.0.get(state).and_then(|node| node.ends) {
                    cuts.add(Cut { place: ago(length - 1).start..item.end, phase }, seen - length);
                }
            }
            let is_name = item.octet == b':'
                && seen > NAME.len()
                && NAME.iter().rev().enumerate().all(|(back, o)| ago(back + 1).octet.eq_ignore_ascii_case(o));
            named.take(item, is_name, self.crowded, cuts);
            if cuts.suffice() {
                return;
            }
        }
        named.end(cuts);
    }
}

impl Automaton {
    fn of(keys: &[AuthKey]) -> Automaton {
        let mut automaton = Automaton::default();
        if !keys.is_empty() {
            automaton.0.push(Node::default());
            for key in keys {
                automaton.add(key.expose().as_bytes(), None);
                for shift in 0..3 {
                    automaton.add_base64(key, shift);
                }
            }
            automaton.link();
        }
        automaton
    }

    fn step(&self, mut state: usize, octet: u8) -> usize {
        loop {
            let Some(node) = self.0.get(state) else { return 0 };
            match node.next.iter().find(|(known, _)| *known == octet) {
                Some((_, next)) => return *next,
                None if state == 0 => return 0,
                None => state = node.fail,
            }
        }
    }

    fn add(&mut self, pattern: &[u8], phase: Option<usize>) {
        let mut state = 0;
        for octet in pattern {
            let added = self.0.len();
            let Some(node) = self.0.get_mut(state) else { return };
            state = match node.next.iter().find(|(known, _)| known == octet) {
                Some((_, next)) => *next,
                None => {
                    node.next.push((*octet, added));
                    self.0.push(Node::default());
                    added
                }
            };
        }
        if let Some(node) = self.0.get_mut(state) {
            node.ends = Some((pattern.len(), phase));
        }
    }

    /// A key in base64 after so many other octets of its group of three: the digits that are the key's alone.
    fn add_base64(&mut self, key: &AuthKey, shift: usize) {
        let octets = Zeroizing::new([&[0; 2][..shift], key.expose().as_bytes()].concat());
        let (from, to) = ((shift * 8).div_ceil(6), octets.len() * 8 / 6);
        for base64 in [STANDARD_NO_PAD.encode(&*octets), URL_SAFE_NO_PAD.encode(&*octets)].map(Zeroizing::new) {
            self.add(base64.as_bytes().get(from..to).unwrap_or_default(), Some(from % 4));
        }
    }

    /// Finds what each state falls back to, nearest to the root first.
    fn link(&mut self) {
        let mut order = vec![0];
        let mut at = 0;
        while let Some(&state) = order.get(at) {
            at += 1;
            let Some(node) = self.0.get(state) else { continue };
            let (next, fail) = (Zeroizing::new(node.next.clone()), node.fail);
            for &(octet, child) in next.iter() {
                let back = if state == 0 { 0 } else { self.step(fail, octet) };
                let ends = self.0.get(back).and_then(|node| node.ends);
                if let Some(node) = self.0.get_mut(child) {
                    node.fail = back;
                    node.ends = node.ends.or(ends);
                }
                order.push(child);
            }
        }
    }
}

impl Drop for Automaton {
    fn drop(&mut self) {
        self.0.iter_mut().for_each(|node| node.next.zeroize());
    }
}

impl std::fmt::Debug for Redactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Redactor(…)")
    }
}

/// What stands behind the name of a key field, as far as it was read.
#[derive(Default)]
struct Named {
    /// A key may come.
    armed: bool,
    run: Range<usize>,
    length: usize,
}

impl Named {
    /// Takes the next octet; `is_name`: it is the colon behind a key field's name.
    fn take(&mut self, item: Item, is_name: bool, crowded: bool, cuts: &mut Cuts) {
        let breaks = matches!(item.gap, Gap::Blank) && self.length > 0 || matches!(item.gap, Gap::Line);
        if breaks {
            // Behind one key may stand another; behind a word of prose stands prose.
            let goes_on = item.gap == Gap::Blank && self.length >= NAMED_LEAST;
            self.end(cuts);
            self.armed = goes_on;
        }
        let is_key = item.octet.is_ascii_alphanumeric() || matches!(item.octet, b'-' | b'_');
        match is_key {
            _ if is_name => {
                self.end(cuts);
                self.armed = true;
            }
            true if self.armed || crowded => {
                if self.length == 0 {
                    self.run.start = item.start;
                }
                self.run.end = item.end;
                self.length += 1;
            }
            true => {}
            // A quote or bracket before the key, or what parts it from another.
            false
                if self.armed
                    && (self.length == 0 || self.length >= NAMED_LEAST)
                    && b"\"'<([{,;".contains(&item.octet) =>
            {
                self.end(cuts);
                self.armed = true;
            }
            false => self.end(cuts),
        }
    }

    fn end(&mut self, cuts: &mut Cuts) {
        let least = if self.armed { NAMED_LEAST } else { KEY_MIN };
        if self.length >= least {
            cuts.add(Cut { place: self.run.clone(), phase: None }, 0);
        }
        *self = Named::default();
    }
}

/// As many octets of base64 as these, line breaks as they are.
fn filled(octets: &[u8], phase: usize) -> impl Iterator<Item = u8> + '_ {
    let mut digit = phase;
    octets.iter().map(move |octet| match octet.is_ascii_graphic() {
        true => {
            digit += 1;
            FILLER[(digit - 1) % FILLER.len()]
        }
        false => *octet,
    })
}

#[cfg(test)]
mod tests;
