//! What a proof comes to, beside the keys that an address has; the work is the same whatever they are.

use std::time::{Duration, SystemTime};

use crate::proto::wire::{Reason, Status};

/// What a question came to, before it is written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) status: Status,
    pub(super) valid_for: Option<u32>,
    pub(super) reason: Option<Reason>,
}

impl Outcome {
    pub(super) fn unverified(reason: Reason) -> Outcome {
        Outcome { status: Status::Unverified, valid_for: None, reason: Some(reason) }
    }
}

/// A key of an address that was not revoked, and when it ends.
#[derive(Clone, Debug)]
pub(super) struct Candidate<K> {
    pub(super) key: K,
    pub(super) expires: SystemTime,
}

/// How many comparisons an answer costs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Comparisons {
    /// At least: where there are fewer keys, the dummy fills up.
    pub(super) least: usize,
    /// At most, unless more keys are alive: the table was made under a larger limit then.
    pub(super) most: usize,
}

/// Compares with each candidate, and with the dummy until there were enough comparisons, and never stops at a match: the work
/// tells neither whether the address has keys, nor how many, nor which one it was. `candidates` begins with those that end last,
/// so that the living ones come first, whatever the time is.
pub(super) fn weigh<K>(
    candidates: &[Candidate<K>],
    dummy: &K,
    now: SystemTime,
    expired_kept: Duration,
    comparisons: Comparisons,
    mut matches: impl FnMut(&K) -> bool,
) -> Outcome {
    let alive = candidates.partition_point(|candidate| candidate.expires > now);
    let (mut living, mut expired) = (None, false);
    let mut made = 0;
    for candidate in candidates.iter().take(comparisons.most.max(alive)) {
        let hit = matches(&candidate.key);
        if candidate.expires > now {
            living = if hit { Some(candidate.expires) } else { living };
        } else {
            expired |= hit && now.duration_since(candidate.expires).is_ok_and(|age| age <= expired_kept);
        }
        made += 1;
    }
    for _ in made..comparisons.least {
        std::hint::black_box(matches(std::hint::black_box(dummy)));
    }
    match living {
        Some(expires) => {
            let left = expires.duration_since(now).unwrap_or_default().as_secs().min(9_999_999);
            Outcome { status: Status::Valid, valid_for: u32::try_from(left).ok(), reason: None }
        }
        None => Outcome { status: Status::Invalid, valid_for: None, reason: expired.then_some(Reason::Expired) },
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    const DUMMY: u8 = 0xff;
    const LONG: Duration = Duration::from_secs(10_000);

    /// Keys by the second in which they end; those that end last come first, as in memory.
    fn candidates(ends: impl IntoIterator<Item = (u8, u64)>) -> Vec<Candidate<u8>> {
        let candidate = |(key, end)| Candidate { key, expires: UNIX_EPOCH + Duration::from_secs(end) };
        let mut all: Vec<_> = ends.into_iter().map(candidate).collect();
        all.sort_by_key(|candidate| std::cmp::Reverse(candidate.expires));
        all
    }

    fn judged(candidates: &[Candidate<u8>], comparisons: Comparisons, right: u8) -> (usize, Status, Option<Reason>) {
        let (mut made, now) = (0, UNIX_EPOCH + Duration::from_secs(1_000));
        let outcome = weigh(candidates, &DUMMY, now, LONG, comparisons, |key| {
            made += 1;
            *key == right
        });
        (made, outcome.status, outcome.reason)
    }

    #[test]
    fn h_the_number_of_comparisons_tells_neither_whether_an_address_has_keys_nor_which_one_was_right() {
        let comparisons = Comparisons { least: 64, most: 64 };
        for count in 0..=64_u8 {
            // Every other one has ended.
            let keys = candidates((1..=count).map(|key| (key, if key.is_multiple_of(2) { 2_000 } else { 500 })));
            for right in [0, 1, 2, 7, 8, 9, count.saturating_sub(1), count] {
                let there = right > 0 && right <= count;
                let status = if there && right % 2 == 0 { Status::Valid } else { Status::Invalid };
                let reason = (there && right % 2 == 1).then_some(Reason::Expired);
                assert_eq!(
                    judged(&keys, comparisons, right),
                    (64, status, reason),
                    "{count} keys, number {right} right"
                );
            }
        }
    }

    #[test]
    fn h_ended_keys_beyond_the_comparisons_are_left_out_and_living_ones_never() {
        let comparisons = Comparisons { least: 8, most: 16 };
        // 100 keys that all ended, one after another, and one that lives the longest.
        let ended = candidates((1..=100).map(|key| (key, 500 + u64::from(key))).chain([(101, 9_000)]));
        assert_eq!(judged(&ended, comparisons, 101), (16, Status::Valid, None));
        assert_eq!(
            judged(&ended, comparisons, 100),
            (16, Status::Invalid, Some(Reason::Expired)),
            "the last that ended"
        );
        assert_eq!(judged(&ended, comparisons, 1), (16, Status::Invalid, None), "the one that ended first");
        // More living keys than comparisons, of a table that was made under a larger limit.
        let living = candidates((1..=30).map(|key| (key, 2_000)));
        for right in 1..=30 {
            assert_eq!(judged(&living, comparisons, right), (30, Status::Valid, None), "{right}");
        }
    }

    #[test]
    fn h_the_dummy_that_fills_up_never_vouches() {
        let comparisons = Comparisons { least: 8, most: 64 };
        assert_eq!(judged(&[], comparisons, DUMMY), (8, Status::Invalid, None));
    }

    #[test]
    fn a_key_ends_while_it_is_remembered() {
        let (keys, most) = (candidates([(1, 1_000)]), Comparisons { least: 8, most: 64 });
        let at = |second: u64| {
            let now = UNIX_EPOCH + Duration::from_secs(second);
            let outcome = weigh(&keys, &DUMMY, now, Duration::from_secs(100), most, |key| *key == 1);
            (outcome.status, outcome.valid_for, outcome.reason)
        };
        assert_eq!(at(990), (Status::Valid, Some(10), None));
        assert_eq!(at(1_000), (Status::Invalid, None, Some(Reason::Expired)));
        assert_eq!(at(1_100), (Status::Invalid, None, Some(Reason::Expired)));
        assert_eq!(at(1_101), (Status::Invalid, None, None));
        assert_eq!(at(999), (Status::Valid, Some(1), None), "a clock that is set back");
    }
}
