//! Answers that wait for their time, in the order in which they were asked for.

use std::collections::BTreeMap;
use std::time::Instant;

use super::datagrams::Asker;

/// An answer that waits.
#[derive(Debug)]
pub(super) struct Reply {
    number: Number,
    pub(super) octets: Vec<u8>,
    pub(super) to: Asker,
}

/// A question's number, which says how it stands to others that leave at the same time: so the order tells nothing of the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Number(u64);

/// Answers by their time. They are of a few times only, since all that leave in a step leave when it begins.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    replies: BTreeMap<Instant, Vec<Reply>>,
    count: usize,
    asked: u64,
}

impl Waiting {
    /// The number of the next question.
    pub(super) fn number(&mut self) -> Number {
        self.asked += 1;
        Number(self.asked)
    }

    /// Keeps answers until their time.
    pub(super) fn keep(&mut self, at: Instant, replies: impl IntoIterator<Item = (Number, Vec<u8>, Asker)>) {
        let all = self.replies.entry(at).or_default();
        let before = all.len();
        all.extend(replies.into_iter().map(|(number, octets, to)| Reply { number, octets, to }));
        self.count += all.len() - before;
    }

    /// Those whose time has come, in the order of their questions where it is the same.
    pub(super) fn take(&mut self, now: Instant) -> Option<Vec<Reply>> {
        let mut replies = self.replies.first_entry().filter(|first| *first.key() <= now)?.remove();
        self.count -= replies.len();
        replies.sort_by_key(|reply| reply.number);
        Some(replies)
    }

    pub(super) fn len(&self) -> usize {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn h_answers_leave_at_their_time_in_the_order_of_their_questions_whichever_was_ready_first() {
        let (begin, to) = (Instant::now(), Asker::at_bound("192.0.2.1:53".parse().unwrap()));
        let mut waiting = Waiting::default();
        let numbers: Vec<Number> = (0..6).map(|_| waiting.number()).collect();
        for (at, question) in [(2, 3), (2, 1), (4, 0), (2, 5), (6, 4), (4, 2)] {
            waiting.keep(begin + Duration::from_millis(at), [(numbers[question], vec![question as u8], to)]);
        }
        let mut left = |after| {
            let now = begin + Duration::from_micros(after);
            std::iter::from_fn(|| waiting.take(now)).flatten().map(|reply| reply.octets[0]).collect::<Vec<_>>()
        };
        assert_eq!(
            [left(1_999), left(2_000), left(3_999), left(9_000)],
            [vec![], vec![1, 3, 5], vec![], vec![0, 2, 4]]
        );
        assert_eq!((waiting.len(), waiting.replies.len()), (0, 0));
    }
}
