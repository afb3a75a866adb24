//! How many INVALIDKEY answers each network got: what keeps addresses and keys from being guessed.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::proto::network::network;

/// The window in which answers are counted (SPECIFICATION §2.5: 50 in 10 s).
const WINDOW: Duration = Duration::from_secs(10);

/// The counts of one window, which begins with its first answer.
#[derive(Debug)]
pub(super) struct InvalidAnswers {
    most: u32,
    networks: usize,
    began: Option<Instant>,
    counts: HashMap<IpAddr, u32>,
}

impl InvalidAnswers {
    /// At most `most` answers to each network in a window; memory for `networks` of them.
    pub(super) fn new(most: u32, networks: usize) -> InvalidAnswers {
        InvalidAnswers { most, networks, began: None, counts: HashMap::new() }
    }

    /// Counts an INVALIDKEY answer to this peer; whether it may be given.
    ///
    /// Where a window has seen more networks than there is memory for, it begins anew: whoever owns so many networks is
    /// not held by a limit per network anyway, and nobody else is to suffer.
    pub(super) fn allow(&mut self, peer: IpAddr, now: Instant) -> bool {
        let running = self.began.is_some_and(|began| now.saturating_duration_since(began) < WINDOW);
        let network = network(peer);
        if !running || (self.counts.len() >= self.networks && !self.counts.contains_key(&network)) {
            self.began = Some(now);
            self.counts.clear();
        }
        let count = self.counts.entry(network).or_insert(0);
        *count = count.saturating_add(1);
        *count <= self.most
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_network_is_a_24_or_a_56() {
        let mut counts = InvalidAnswers::new(2, 100);
        let now = Instant::now();
        assert!(counts.allow(ip("192.0.2.1"), now));
        assert!(counts.allow(ip("::ffff:192.0.2.9"), now));
        assert!(!counts.allow(ip("192.0.2.255"), now));
        assert!(counts.allow(ip("192.0.3.1"), now));
        assert!(counts.allow(ip("2001:db8:0:1200::1"), now));
        assert!(counts.allow(ip("2001:db8:0:12ff::1"), now));
        assert!(!counts.allow(ip("2001:db8:0:1234::1"), now));
        assert!(counts.allow(ip("2001:db8:0:1300::1"), now));
    }

    #[test]
    fn the_window_ends_after_ten_seconds() {
        let mut counts = InvalidAnswers::new(1, 100);
        let now = Instant::now();
        assert!(counts.allow(ip("192.0.2.1"), now));
        assert!(!counts.allow(ip("192.0.2.1"), now + Duration::from_millis(9_999)));
        assert!(counts.allow(ip("192.0.2.1"), now + Duration::from_secs(10)));
    }

    #[test]
    fn memory_is_bounded() {
        let mut counts = InvalidAnswers::new(1, 100);
        let now = Instant::now();
        for n in 0..10_000_u32 {
            counts.allow(IpAddr::V4((n << 8).into()), now);
            assert!(counts.counts.len() <= 100);
        }
    }
}
