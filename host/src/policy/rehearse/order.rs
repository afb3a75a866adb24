//! Which of two answers is stricter, and which of two results is worse.
//!
//! * A decision is as strict as its disposition ([`Disposition::strictness`](crate::case::Disposition::strictness)).
//! * valid < none < missing < invalid, from the best to the worst. `unverified` and `unusable` are beside them: nothing is known of
//!   the key there, or there is no one address.
//!
//! Who is told changes nothing of how strict a decision is, and neither do its words.

use std::cmp::Ordering;

use super::subject::Answer;
use crate::case::KeyStatus;

/// How one decision differs from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// The later one lets less through.
    Stricter,
    /// The later one lets more through.
    Looser,
    /// Neither: a deferral or a fault stands on one side, or others are told.
    Sideways,
    /// Only the words differ.
    Reworded,
}

impl Change {
    /// Every change, the one to look at first first.
    pub const ALL: [Change; 4] = [Change::Looser, Change::Stricter, Change::Sideways, Change::Reworded];

    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Change::Stricter => "stricter",
            Change::Looser => "looser",
            Change::Sideways => "sideways",
            Change::Reworded => "reworded",
        }
    }

    /// How `new` differs from `old`; none where it does not.
    pub fn between(old: &Answer, new: &Answer) -> Option<Change> {
        let compared = match (&old.decision, &new.decision) {
            _ if old == new => return None,
            (Some(old), Some(new)) => old.disposition.strictness().zip(new.disposition.strictness()),
            _ => None,
        };
        Some(match compared.map(|(old, new)| new.cmp(&old)) {
            Some(Ordering::Greater) => Change::Stricter,
            Some(Ordering::Less) => Change::Looser,
            Some(Ordering::Equal) | None => sideways(old, new),
        })
    }
}

fn sideways(old: &Answer, new: &Answer) -> Change {
    let same = |(old, new): (&super::Proposal, &super::Proposal)| {
        old.disposition == new.disposition && old.notify == new.notify && old.reason != new.reason
    };
    let decisions = old.decision.as_ref().zip(new.decision.as_ref());
    let fails_alike = old.fault.is_some() == new.fault.is_some();
    if decisions.is_some_and(same) && fails_alike { Change::Reworded } else { Change::Sideways }
}

/// How bad a result is; none for those that are beside the order.
pub fn badness(status: KeyStatus) -> Option<u8> {
    match status {
        KeyStatus::Valid => Some(0),
        KeyStatus::None => Some(1),
        KeyStatus::Missing => Some(2),
        KeyStatus::Invalid => Some(3),
        KeyStatus::Unverified | KeyStatus::Unusable => None,
    }
}
