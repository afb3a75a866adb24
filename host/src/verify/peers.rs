//! What is remembered of each endpoint and each domain, so that a dead or attacked one costs little: breakers and budgets.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use quick_cache::sync::Cache;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::locate::Endpoint;
use super::schedule::END;
use crate::config::Limits;

/// What a question goes over. An endpoint has a breaker for each: UDP may be dead where TLS is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Over {
    Udp,
    Tls,
}

impl Over {
    /// Whether an endpoint may be asked over it.
    pub(super) fn is_offered_by(self, endpoint: &Endpoint) -> bool {
        match self {
            Over::Udp => endpoint.offers.udp,
            Over::Tls => endpoint.offers.tls,
        }
    }
}

/// All endpoints and domains, the least used forgotten first.
pub(super) struct Peers {
    endpoints: Cache<(SocketAddr, Over), Arc<Peer>>,
    budgets: Cache<String, Arc<Mutex<Budget>>>,
    limits: Arc<Limits>,
}

/// One endpoint.
pub(super) struct Peer {
    /// Questions that may be in flight to it.
    pub(super) room: Arc<Semaphore>,
    breaker: Mutex<Breaker>,
    limits: Arc<Limits>,
}

#[derive(Default)]
struct Breaker {
    timeouts: u32,
    /// Closed to questions until then.
    until: Option<Instant>,
    /// When the one probe was let through.
    probe: Option<Instant>,
}

/// A domain's questions that were not answered VALIDKEY: tokens left, and when they were counted.
struct Budget {
    tokens: f64,
    at: Instant,
}

impl Peers {
    pub(super) fn new(limits: &Arc<Limits>) -> Peers {
        let known = limits.peers_known;
        Peers { endpoints: Cache::new(known), budgets: Cache::new(known), limits: limits.clone() }
    }

    pub(super) fn endpoint(&self, address: SocketAddr, over: Over) -> Arc<Peer> {
        let peer =
            self.endpoints.get_or_insert_with(&(address, over), || Ok::<_, std::convert::Infallible>(self.stranger()));
        peer.unwrap_or_else(|never| match never {})
    }

    /// An endpoint of which nothing is remembered, now or later.
    pub(super) fn stranger(&self) -> Arc<Peer> {
        let room = Arc::new(Semaphore::new(self.limits.questions_per_endpoint));
        Arc::new(Peer { room, breaker: Mutex::default(), limits: self.limits.clone() })
    }

    /// Takes a token for a question about this domain; false where none is left.
    pub(super) fn spend(&self, domain: &str, now: Instant) -> bool {
        let burst = self.limits.failures_burst;
        let full = || Ok::<_, std::convert::Infallible>(Arc::new(Mutex::new(Budget { tokens: burst, at: now })));
        let budget = self.budgets.get_or_insert_with(domain, full).unwrap_or_else(|never| match never {});
        let mut budget = budget.lock().unwrap_or_else(PoisonError::into_inner);
        let gained = now.saturating_duration_since(budget.at).as_secs_f64() * self.limits.failures_per_second;
        budget.tokens = (budget.tokens + gained).min(burst);
        budget.at = now;
        let left = budget.tokens >= 1.0;
        if left {
            budget.tokens -= 1.0;
        }
        left
    }

    /// Gives the token back: the answer was VALIDKEY, or nobody was asked.
    pub(super) fn refund(&self, domain: &str) {
        if let Some(budget) = self.budgets.get(domain) {
            let mut budget = budget.lock().unwrap_or_else(PoisonError::into_inner);
            budget.tokens = (budget.tokens + 1.0).min(self.limits.failures_burst);
        }
    }
}

impl Peer {
    /// Whether it may be asked now: yes while the breaker is closed, and for one probe once its time is over.
    pub(super) fn admits(&self, now: Instant) -> bool {
        let mut breaker = self.breaker.lock().unwrap_or_else(PoisonError::into_inner);
        match breaker.until {
            None => true,
            Some(until) if now < until => false,
            // A probe that never came to an end (its message was given up) does not close the endpoint for ever.
            Some(_) if breaker.probe.is_some_and(|at| now < at + 2 * END) => false,
            Some(_) => {
                breaker.probe = Some(now);
                true
            }
        }
    }

    /// Whether its breaker is open; unlike [`Peer::admits`] it lets no probe through.
    pub(super) fn is_open(&self, now: Instant) -> bool {
        let breaker = self.breaker.lock().unwrap_or_else(PoisonError::into_inner);
        breaker.until.is_some_and(|until| now < until)
    }

    /// VALIDKEY or INVALIDKEY: it works.
    pub(super) fn decided(&self) {
        *self.breaker.lock().unwrap_or_else(PoisonError::into_inner) = Breaker::default();
    }

    /// Sent to and no answer, an ICMP error, or an answer that counts as none.
    pub(super) fn timed_out(&self, now: Instant) {
        let mut breaker = self.breaker.lock().unwrap_or_else(PoisonError::into_inner);
        breaker.timeouts = breaker.timeouts.saturating_add(1);
        if breaker.timeouts >= self.limits.breaker_timeouts {
            breaker.until = Some(now + self.limits.breaker_open_for);
            breaker.probe = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn peers() -> Peers {
        Peers::new(&Arc::new(Limits::default()))
    }

    #[test]
    fn five_timeouts_in_a_row_open_the_breaker_for_30_s_and_then_one_probe_goes() {
        let (peers, start) = (peers(), Instant::now());
        let peer = peers.endpoint(([192, 0, 2, 1], 4410).into(), Over::Udp);
        for _ in 0..4 {
            peer.timed_out(start);
        }
        peer.decided();
        for _ in 0..5 {
            assert!(peer.admits(start));
            peer.timed_out(start);
        }
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(!peer.admits(start) && !peer.admits(at(29)) && peer.is_open(at(29)));
        assert!(!peer.is_open(at(30)) && peer.admits(at(30)));
        assert!(!peer.admits(at(30)) && !peer.admits(at(31)));
        peer.timed_out(at(33));
        assert!(!peer.admits(at(62)));
        assert!(peer.admits(at(63)));
        peer.decided();
        assert!(peer.admits(at(63)) && peer.admits(at(63)));
    }

    #[test]
    fn a_dead_udp_does_not_close_tls_at_the_same_place() {
        let (peers, start, place) = (peers(), Instant::now(), ([192, 0, 2, 1], 4410).into());
        (0..5).for_each(|_| peers.endpoint(place, Over::Udp).timed_out(start));
        assert!(peers.endpoint(place, Over::Udp).is_open(start) && !peers.endpoint(place, Over::Tls).is_open(start));
    }

    #[test]
    fn f1_a_victims_domain_is_asked_20_times_and_then_10_times_a_second() {
        let (peers, start) = (peers(), Instant::now());
        let spent = |now| (0..100).filter(|_| peers.spend("victim.example", now)).count();
        assert_eq!(spent(start), 20);
        assert_eq!(spent(start + Duration::from_millis(1_050)), 10);
        peers.refund("victim.example");
        assert_eq!(spent(start + Duration::from_millis(1_050)), 1);
        assert_eq!((0..100).filter(|_| peers.spend("other.example", start)).count(), 20);
        assert_eq!(spent(start + Duration::from_secs(3_600)), 20);
    }
}
