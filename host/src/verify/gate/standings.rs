//! How well each bringer stands at a door: by what it has had there.

use std::collections::HashMap;

use tokio::time::Instant;

use super::super::bringer::Tag;
use crate::config::Limits;

/// How well somebody stands: less goes first.
pub(super) type Rank = (f64, f64);

pub(super) fn compare(one: &Rank, other: &Rank) -> std::cmp::Ordering {
    one.0.total_cmp(&other.0).then(one.1.total_cmp(&other.1))
}

/// What a bringer has had at a door. It is forgiven with time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing {
    /// Questions that were asked and not answered VALIDKEY.
    pub(super) spent: f64,
    /// Questions that were to be asked.
    pub(super) asked: f64,
    at: Instant,
}

impl Standing {
    fn at(self, now: Instant, limits: &Limits) -> Standing {
        let forgiven = now.saturating_duration_since(self.at).as_secs_f64() * limits.verify.network_forgiven;
        Standing { spent: (self.spent - forgiven).max(0.0), asked: (self.asked - forgiven).max(0.0), at: now }
    }

    pub(super) fn ask(&mut self, limits: &Limits) {
        self.asked = (self.asked + 1.0).min(limits.verify.network_held_against);
    }

    pub(super) fn spend(&mut self, limits: &Limits) {
        self.spent = (self.spent + 1.0).min(limits.verify.network_held_against);
    }

    pub(super) fn forgive(&mut self) {
        self.spent = (self.spent - 1.0).max(0.0);
        self.asked = (self.asked - 1.0).max(0.0);
    }
}

/// Bounded: the one that stands best makes room for a new one, which inherits what it had spent. So nobody stands better than
/// he should by bringing others along.
pub(super) struct Standings {
    pub(super) known: HashMap<Tag, Standing>,
    most: usize,
}

impl Standings {
    pub(super) fn new(limits: &Limits) -> Standings {
        Standings { known: HashMap::new(), most: limits.verify.networks_per_endpoint.max(1) }
    }

    /// How somebody stands now; who is not known has had nothing.
    pub(super) fn now(&self, tag: Tag, now: Instant, limits: &Limits) -> Standing {
        self.known.get(&tag).map_or(Standing { spent: 0.0, asked: 0.0, at: now }, |standing| standing.at(now, limits))
    }

    /// The same, to be changed.
    pub(super) fn of(&mut self, tag: Tag, now: Instant, limits: &Limits) -> &mut Standing {
        let mut start = self.now(tag, now, limits);
        if !self.known.contains_key(&tag) && self.known.len() >= self.most {
            self.known.retain(|_, standing| standing.at(now, limits).asked > 0.5);
            let best = self.known.iter().map(|(tag, standing)| (*tag, standing.at(now, limits)));
            let best =
                best.min_by(|(_, one), (_, other)| compare(&(one.spent, one.asked), &(other.spent, other.asked)));
            if let (true, Some((tag, standing))) = (self.known.len() >= self.most, best) {
                self.known.remove(&tag);
                start = standing;
            }
        }
        let standing = self.known.entry(tag).or_insert(start);
        *standing = standing.at(now, limits);
        standing
    }
}
