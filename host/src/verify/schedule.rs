//! When a question goes to which endpoint (SPECIFICATION §3.3): pure, without clock or socket.

use std::collections::VecDeque;
use std::time::Duration;

/// The moments and the endpoints (from 0) of the sends; with fewer endpoints the list wraps.
const SENDS: [(u64, usize); 6] = [(0, 0), (400, 0), (800, 1), (1_200, 0), (1_600, 2), (2_000, 3)];
/// How far a send may stray from its moment, in milliseconds; the first does not.
const JITTER: u64 = 80;
/// When the question ends.
pub(super) const END: Duration = Duration::from_secs(3);
/// How long an endpoint has to answer at least, in a question that lasts to its end: that of the last send. Silence for less
/// time is no timeout.
pub(super) const FAIR: Duration = Duration::from_millis(3_000 - 2_000 - JITTER);

/// The sends of one question that are still to come.
#[derive(Debug)]
pub(super) struct Schedule {
    sends: VecDeque<(Duration, usize)>,
    /// The endpoints that have not answered, in the order in which they are asked.
    order: Vec<usize>,
    /// Those of them that no ICMP error has come from.
    hopeful: Vec<usize>,
}

impl Schedule {
    /// For so many endpoints. `jitter` draws a number from 0 to its argument.
    pub(super) fn new(endpoints: usize, mut jitter: impl FnMut(u64) -> u64) -> Schedule {
        let order: Vec<usize> = (0..endpoints).collect();
        let moment = |(at, endpoint): (u64, usize)| {
            let stray = if at == 0 { 0 } else { jitter(2 * JITTER).min(2 * JITTER) };
            let at = if at == 0 { 0 } else { at - JITTER + stray };
            Some((Duration::from_millis(at), endpoint.checked_rem(endpoints)?))
        };
        Schedule { sends: SENDS.into_iter().filter_map(moment).collect(), hopeful: order.clone(), order }
    }

    /// The next send: when, counted from the beginning, and to which endpoint.
    pub(super) fn next(&self) -> Option<(Duration, usize)> {
        self.sends.front().copied()
    }

    /// The next send was made.
    pub(super) fn sent(&mut self) {
        self.sends.pop_front();
    }

    /// An endpoint answered without deciding: it is not sent to again, and the next send moves to now.
    pub(super) fn answered(&mut self, endpoint: usize, now: Duration) {
        self.order.retain(|other| *other != endpoint);
        self.hopeful.retain(|other| *other != endpoint);
        self.move_on(now);
    }

    /// The first ICMP error came from an endpoint: it goes to the end of the list, may still answer, and the next send moves to
    /// now. Later errors of the same endpoint change nothing.
    pub(super) fn unreachable(&mut self, endpoint: usize, now: Duration) {
        if !self.hopeful.contains(&endpoint) {
            return;
        }
        self.hopeful.retain(|other| *other != endpoint);
        self.order.retain(|other| *other != endpoint);
        self.order.push(endpoint);
        self.move_on(now);
    }

    /// Whether every endpoint has answered or failed.
    pub(super) fn is_over(&self) -> bool {
        self.hopeful.is_empty()
    }

    /// The remaining moments go to the endpoints left, in order.
    fn move_on(&mut self, now: Duration) {
        if self.order.is_empty() {
            self.sends.clear();
        }
        for (send, endpoint) in self.sends.iter_mut().zip(self.order.iter().cycle()) {
            send.1 = *endpoint;
        }
        if let Some(next) = self.sends.front_mut() {
            next.0 = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steady(endpoints: usize) -> Schedule {
        Schedule::new(endpoints, |most| most / 2)
    }

    fn run(mut schedule: Schedule) -> Vec<(u128, usize)> {
        let mut sends = Vec::new();
        while let Some((at, endpoint)) = schedule.next() {
            sends.push((at.as_millis(), endpoint));
            schedule.sent();
        }
        sends
    }

    #[test]
    fn the_sends_are_those_of_the_protocol_and_wrap() {
        let at = |endpoints: [usize; 6]| [0, 400, 800, 1200, 1600, 2000].into_iter().zip(endpoints).collect::<Vec<_>>();
        assert_eq!(run(steady(4)), at([0, 0, 1, 0, 2, 3]));
        assert_eq!(run(steady(3)), at([0, 0, 1, 0, 2, 0]));
        assert_eq!(run(steady(2)), at([0, 0, 1, 0, 0, 1]));
        assert_eq!(run(steady(1)), at([0; 6]));
        assert_eq!(run(steady(0)), []);
        assert!(steady(0).is_over());
    }

    #[test]
    fn the_jitter_is_at_most_80_ms_and_never_delays_the_first_send() {
        let early: Vec<u128> = run(Schedule::new(1, |_| 0)).into_iter().map(|send| send.0).collect();
        let late: Vec<u128> = run(Schedule::new(1, |_| u64::MAX)).into_iter().map(|send| send.0).collect();
        assert_eq!(early, [0, 320, 720, 1120, 1520, 1920]);
        assert_eq!(late, [0, 480, 880, 1280, 1680, 2080]);
    }

    #[test]
    fn an_undecided_answer_moves_the_next_send_to_now_and_on_to_the_others() {
        let mut schedule = steady(3);
        schedule.sent();
        schedule.answered(0, Duration::from_millis(30));
        assert!(!schedule.is_over());
        assert_eq!(run(schedule), [(30, 1), (800, 2), (1200, 1), (1600, 2), (2000, 1)]);
    }

    #[test]
    fn an_icmp_error_puts_an_endpoint_last_and_only_once() {
        let mut schedule = steady(2);
        schedule.sent();
        schedule.unreachable(0, Duration::from_millis(5));
        schedule.unreachable(0, Duration::from_millis(6));
        assert_eq!(schedule.next(), Some((Duration::from_millis(5), 1)));
        schedule.sent();
        assert_eq!(schedule.next(), Some((Duration::from_millis(800), 0)));
        assert!(!schedule.is_over());
        schedule.unreachable(1, Duration::from_millis(7));
        assert!(schedule.is_over());
    }

    #[test]
    fn the_end_is_at_once_when_all_have_answered() {
        let mut schedule = steady(2);
        schedule.sent();
        schedule.answered(0, Duration::ZERO);
        schedule.sent();
        schedule.answered(1, Duration::ZERO);
        assert!(schedule.is_over() && schedule.next().is_none());
    }
}
