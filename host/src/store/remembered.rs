//! Choices that were read, for as long as nobody changes one.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::commits::Commits;
use crate::case::Wish;
use crate::proto::address::Mailbox;

/// How much is remembered: a mailbox counts as one, and so do each sender on its list and each 100 octets of its rules. Some 100
/// octets each, so 10 MB; a database of its own answers in microseconds where that is not enough.
const MOST: usize = 100_000;
/// How many wanted senders of one mailbox are remembered; a longer list is looked up for each message. One more is read
/// (`CHOSEN`).
const SENDERS: usize = 100;

/// What a mailbox chose.
#[derive(Clone, Debug, Default)]
pub(super) struct Chosen {
    /// Policies and mark.
    pub(super) wish: Wish,
    /// Whom it wants mail from; one more than [`SENDERS`] where the list is longer than that.
    pub(super) senders: Vec<String>,
}

impl Chosen {
    /// Whether the list of senders is not all here.
    pub(super) fn is_cut(&self) -> bool {
        self.senders.len() > SENDERS
    }

    /// What it counts as in [`MOST`].
    fn weight(&self) -> usize {
        let rules = self.wish.rules.as_ref().map_or(0, |rules| rules.len().div_ceil(100));
        self.senders.len().saturating_add(rules).saturating_add(1)
    }
}

/// What was read of choices, and when.
#[derive(Debug, Default)]
pub(super) struct Remembered {
    state: Mutex<State>,
    /// How often all that was asked for was known, and how often not.
    asked: [AtomicU64; 2],
}

#[derive(Debug, Default)]
struct State {
    /// How the database stood before the newest of it was read; all of it holds while it stands so.
    at: Option<Commits>,
    /// How often choices had been changed.
    changed: i64,
    by_mailbox: HashMap<String, Arc<Chosen>>,
    weight: usize,
}

impl Remembered {
    /// What these mailboxes chose, in their order; absent where one is not known, or the database does not stand as it did.
    pub(super) fn all(&self, now: Commits, asked: &[Option<Mailbox>]) -> Option<Vec<Option<Arc<Chosen>>>> {
        let state = self.state();
        let known = |mailbox: &Mailbox| state.by_mailbox.get(mailbox.as_str()).cloned();
        let of = |mailbox: &Option<Mailbox>| mailbox.as_ref().map_or(Some(None), |mailbox| known(mailbox).map(Some));
        let all = if state.at == Some(now) { asked.iter().map(of).collect() } else { None };
        drop(state);
        let [known, read] = &self.asked;
        let count: &AtomicU64 = if all.is_some() { known } else { read };
        count.fetch_add(1, Ordering::Relaxed);
        all
    }

    /// Takes in what was read at one moment, after the database had stood so, with how often choices had been changed then.
    pub(super) fn learn(&self, at: Commits, changed: i64, read: &HashMap<String, Arc<Chosen>>) {
        let mut state = self.state();
        let moved = state.at.is_none_or(|before| !before.is_same_file(&at));
        if moved || state.changed != changed || state.weight > MOST {
            *state = State::default();
        }
        (state.at, state.changed) = (Some(at), changed);
        for (mailbox, chosen) in read {
            if state.by_mailbox.insert(mailbox.clone(), Arc::clone(chosen)).is_none() {
                state.weight = state.weight.saturating_add(chosen.weight());
            }
        }
    }

    /// How many mailboxes are remembered.
    pub(super) fn mailboxes(&self) -> usize {
        self.state().by_mailbox.len()
    }

    /// How often all that was asked for was known, and how often it was to be read.
    pub(super) fn asked(&self) -> [u64; 2] {
        self.asked.each_ref().map(|count| count.load(Ordering::Relaxed))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
