//! The places of keys, as few as say the same: a long run of one letter holds a key of that letter at each octet.

use std::ops::Range;

/// A place that holds a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cut {
    pub(super) place: Range<usize>,
    /// For base64, the place of its first octet in a group of four.
    pub(super) phase: Option<usize>,
}

/// What is found while octets are read in one way.
///
/// Two cuts of one kind that overlap become one, so that of each kind there are at most as many as keys fit side by side.
pub(super) struct Cuts {
    /// By kind: text, and base64 by where its groups of four begin. Those of one kind are in their order and do not overlap.
    kinds: [Vec<Cut>; 5],
    /// Whether the first suffices.
    first: bool,
}

impl Cuts {
    pub(super) fn all() -> Cuts {
        Cuts { kinds: Default::default(), first: false }
    }

    /// For the question whether there is one.
    pub(super) fn first() -> Cuts {
        Cuts { first: true, ..Cuts::all() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.kinds.iter().all(Vec::is_empty)
    }

    /// Whether nothing more need be found.
    pub(super) fn suffice(&self) -> bool {
        self.first && !self.is_empty()
    }

    /// Adds a cut that ends no earlier than those before it; `digit` says how many octets were read before its first.
    pub(super) fn add(&mut self, mut cut: Cut, digit: usize) {
        let kind = cut.phase.map_or(0, |phase| 1 + (digit + 4 - phase % 4) % 4);
        let Some(cuts) = self.kinds.get_mut(kind) else { return };
        while let Some(last) = cuts.pop_if(|last| last.place.end > cut.place.start) {
            let earlier = if last.place.start <= cut.place.start { &last } else { &cut };
            let place = earlier.place.start..last.place.end.max(cut.place.end);
            cut = Cut { place, phase: earlier.phase };
        }
        cuts.push(cut);
    }

    /// Puts the cuts among those that were found in other ways of reading, which mostly find the same.
    pub(super) fn join(self, places: &mut Vec<Cut>) {
        places.extend(self.kinds.into_iter().flatten());
        // Of two that begin at one place the longer first, and text before base64: it is the whole of a key.
        places.sort_by_key(|cut| (cut.place.start, usize::MAX - cut.place.end, cut.phase));
        places.dedup_by(|cut, before| cut.place == before.place);
    }
}
