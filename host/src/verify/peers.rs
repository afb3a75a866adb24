//! What is remembered of each endpoint, so that a dead or attacked one costs little: its breakers and its gate.

use std::net::SocketAddr;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, PoisonError};

use quick_cache::sync::Cache;
use tokio::time::Instant;

use super::bringer::{Joiners, Sponsors};
use super::gate::{Gate, Pass, Tokens, Turned};
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

/// All endpoints, the least used forgotten first.
pub(super) struct Peers {
    endpoints: Cache<SocketAddr, Arc<Peer>>,
    waiting: Arc<AtomicUsize>,
    /// When one may have been forgotten last, for a new one's sake.
    forgot: Mutex<Option<Instant>>,
    limits: Arc<Limits>,
}

/// One endpoint.
pub(super) struct Peer {
    /// Which questions go to it, and when.
    pub(super) gate: Arc<Gate>,
    udp: Mutex<Breaker>,
    tls: Mutex<Breaker>,
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

impl Peers {
    pub(super) fn new(limits: &Arc<Limits>) -> Peers {
        Peers {
            endpoints: Cache::new(limits.verify.peers_known),
            waiting: Arc::default(),
            forgot: Mutex::default(),
            limits: limits.clone(),
        }
    }

    pub(super) fn endpoint(&self, address: SocketAddr) -> Arc<Peer> {
        let new = || Ok::<_, std::convert::Infallible>(self.new_endpoint());
        self.endpoints.get_or_insert_with(&address, new).unwrap_or_else(|never| match never {})
    }

    /// One that is not known. Nobody gets a whole burst anew by having it forgotten: where that may have happened, the budget
    /// is what came back since the last moment when it can have.
    fn new_endpoint(&self) -> Arc<Peer> {
        let now = Instant::now();
        let tokens = Tokens::new(self.limits.verify.failures_per_second, self.limits.verify.failures_burst, now);
        if self.endpoints.len() < self.limits.verify.peers_known / 2 {
            return self.peer(Some(tokens));
        }
        let mut forgot = self.forgot.lock().unwrap_or_else(PoisonError::into_inner);
        let last = forgot.replace(now).unwrap_or(now);
        self.peer(Some(tokens.nearly_spent(last)))
    }

    /// An endpoint of which nothing is remembered, now or later, and which may be asked without a budget.
    pub(super) fn stranger(&self) -> Arc<Peer> {
        self.peer(None)
    }

    fn peer(&self, tokens: Option<Tokens>) -> Arc<Peer> {
        let places = (self.limits.verify.questions_per_endpoint, self.limits.verify.questions_per_endpoint_most);
        let gate = Gate::new(places, tokens, &self.waiting, &self.limits);
        Arc::new(Peer { gate, udp: Mutex::default(), tls: Mutex::default(), limits: self.limits.clone() })
    }

    /// The door that all questions pass, whomever they go to: those that wait there count with the others.
    pub(super) fn common_gate(&self) -> Arc<Gate> {
        Gate::new((self.limits.verify.questions, self.limits.verify.questions), None, &self.waiting, &self.limits)
    }

    /// Those that wait for an answer to another's question count with those that wait at a door.
    pub(super) fn joiners(&self) -> Arc<Joiners> {
        Joiners::new(&self.waiting, &self.limits)
    }
}

impl Peer {
    /// Whether it may be asked now: yes while the breaker is closed, and for one probe once its time is over.
    pub(super) fn admits(&self, over: Over, now: Instant) -> bool {
        let mut breaker = self.breaker(over).lock().unwrap_or_else(PoisonError::into_inner);
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
    pub(super) fn is_open(&self, over: Over, now: Instant) -> bool {
        let breaker = self.breaker(over).lock().unwrap_or_else(PoisonError::into_inner);
        breaker.until.is_some_and(|until| now < until)
    }

    /// VALIDKEY or INVALIDKEY: it works.
    pub(super) fn decided(&self, over: Over) {
        *self.breaker(over).lock().unwrap_or_else(PoisonError::into_inner) = Breaker::default();
        self.gate.widen();
    }

    /// Sent to and no answer, an ICMP error, or an answer that counts as none.
    pub(super) fn timed_out(&self, over: Over, now: Instant) {
        let mut breaker = self.breaker(over).lock().unwrap_or_else(PoisonError::into_inner);
        breaker.timeouts = breaker.timeouts.saturating_add(1);
        if breaker.timeouts >= self.limits.verify.breaker_timeouts {
            breaker.until = Some(now + self.limits.verify.breaker_open_for);
            breaker.probe = None;
        }
        drop(breaker);
        self.gate.narrow(self.limits.verify.questions_per_endpoint);
    }

    fn breaker(&self, over: Over) -> &Mutex<Breaker> {
        match over {
            Over::Udp => &self.udp,
            Over::Tls => &self.tls,
        }
    }
}

/// The passes of one question: one for each endpoint that it goes to, and one for all of them.
pub(super) struct Passage {
    sponsors: Arc<Sponsors>,
    held: Mutex<Vec<(Option<SocketAddr>, Pass)>>,
}

impl Passage {
    pub(super) fn new(sponsors: Arc<Sponsors>) -> Passage {
        Passage { sponsors, held: Mutex::default() }
    }

    /// Whether the question may go to this endpoint now.
    pub(super) fn passes_now(&self, address: SocketAddr, gate: &Arc<Gate>) -> bool {
        self.has(Some(address)) || gate.enter_now(&self.sponsors).map(|pass| self.keep(Some(address), pass)).is_some()
    }

    /// Waits until it may, or until then; the common gate has no address. `is_shut` as in [`Gate::enter`].
    pub(super) async fn passes(
        &self,
        address: Option<SocketAddr>,
        gate: &Arc<Gate>,
        until: Instant,
        is_shut: impl Fn(Instant) -> bool,
    ) -> Result<(), Turned> {
        if !self.has(address) {
            let pass = gate.enter(&self.sponsors, until, is_shut).await?;
            self.keep(address, pass);
        }
        Ok(())
    }

    /// Gives back what the question cost: nobody was asked.
    pub(super) fn refund(&self) {
        self.taken().into_iter().for_each(|(_, pass)| pass.refund());
    }

    /// Gives back what the question cost in general and at the endpoint that answered VALIDKEY. The others were asked for nothing,
    /// and whoever publishes them beside a server of his own must not be free to have them asked.
    pub(super) fn answered_by(&self, endpoint: Option<SocketAddr>) {
        let paid = |address: &Option<SocketAddr>| address.is_none() || *address == endpoint;
        self.taken().into_iter().filter(|(address, _)| paid(address)).for_each(|(_, pass)| pass.refund());
    }

    fn taken(&self) -> Vec<(Option<SocketAddr>, Pass)> {
        std::mem::take(&mut *self.held.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn has(&self, address: Option<SocketAddr>) -> bool {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).iter().any(|(known, _)| *known == address)
    }

    fn keep(&self, address: Option<SocketAddr>, pass: Pass) {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).push((address, pass));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::bringer::Sponsor;
    use super::*;

    fn peers() -> Peers {
        Peers::new(&Arc::new(Limits::default()))
    }

    #[test]
    fn five_timeouts_in_a_row_open_the_breaker_for_30_s_and_then_one_probe_goes() {
        let (peers, start) = (peers(), Instant::now());
        let peer = peers.endpoint(([192, 0, 2, 1], 4410).into());
        let (admits, is_open) = (|now| peer.admits(Over::Udp, now), |now| peer.is_open(Over::Udp, now));
        for _ in 0..4 {
            peer.timed_out(Over::Udp, start);
        }
        peer.decided(Over::Udp);
        for _ in 0..5 {
            assert!(admits(start));
            peer.timed_out(Over::Udp, start);
        }
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(!admits(start) && !admits(at(29)) && is_open(at(29)));
        assert!(!is_open(at(30)) && admits(at(30)));
        assert!(!admits(at(30)) && !admits(at(31)));
        peer.timed_out(Over::Udp, at(33));
        assert!(!admits(at(62)));
        assert!(admits(at(63)));
        peer.decided(Over::Udp);
        assert!(admits(at(63)) && admits(at(63)));
    }

    #[test]
    fn a_dead_udp_does_not_close_tls_at_the_same_place() {
        let (peers, start, place) = (peers(), Instant::now(), ([192, 0, 2, 1], 4410).into());
        (0..5).for_each(|_| peers.endpoint(place).timed_out(Over::Udp, start));
        assert!(peers.endpoint(place).is_open(Over::Udp, start) && !peers.endpoint(place).is_open(Over::Tls, start));
    }

    #[test]
    fn f1_a_server_that_is_forgotten_gets_no_whole_burst_anew() {
        let limits = Arc::new(Limits::default().with(|limits| {
            limits.verify.peers_known = 100;
            limits.verify.failures_per_second = 0.001;
        }));
        let peers = Peers::new(&limits);
        let sponsors = Arc::new(Sponsors::default());
        sponsors.add(Sponsor { bringer: [1; 16], pair: [2; 16], proven: false });
        let ask = |place: SocketAddr| {
            let gate = peers.endpoint(place).gate.clone();
            std::iter::from_fn(|| gate.enter_now(&sponsors).map(drop)).take(100).count()
        };
        let victim = ([192, 0, 2, 1], 4410).into();
        assert_eq!((ask(victim), ask(victim)), (15, 0), "the burst but for the part of proven networks");
        let mut more = 0;
        for round in 0..20 {
            for port in 0..500 {
                peers.endpoint(([192, 0, 2, 100 + round], port).into());
            }
            more += ask(victim);
        }
        assert!(more <= 20, "it may be forgotten, and was asked {more} times more");
        assert_eq!(ask(([192, 0, 2, 2], 4410).into()), 1, "nor does one that may have been forgotten");
    }

    #[test]
    fn once_nobody_is_forgotten_any_more_a_new_server_has_its_burst() {
        let peers = Peers::new(&Arc::new(Limits::default().with(|limits| limits.verify.peers_known = 100)));
        let sponsors = Arc::new(Sponsors::default());
        sponsors.add(Sponsor { bringer: [1; 16], pair: [2; 16], proven: false });
        for port in 1_024..u16::MAX {
            peers.endpoint(([192, 0, 2, 1], port).into());
        }
        *peers.forgot.lock().unwrap() = Instant::now().checked_sub(Duration::from_secs(3));
        let gate = peers.endpoint(([192, 0, 2, 2], 4410).into()).gate.clone();
        let asked = std::iter::from_fn(|| gate.enter_now(&sponsors).map(drop)).take(100).count();
        assert!(asked >= 15, "{asked}");
    }
}
