//! What may be asked in time: tokens that come back, a part of them set aside for proven networks.

use std::time::Duration;

use tokio::time::Instant;

/// How much of the tokens that arrive is set aside for proven networks, where these need it.
const PROVEN_PART: f64 = 0.5;
/// How much of the burst is theirs.
const PROVEN_BURST: f64 = 0.25;

/// Whose tokens they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pool {
    /// Of networks that brought a right key of the address.
    Proven,
    /// Everybody's.
    Open,
}

/// What is left of a budget that fills up again with time.
#[derive(Clone, Debug)]
pub(in super::super) struct Tokens {
    rate: f64,
    burst: f64,
    proven: f64,
    open: f64,
    at: Instant,
}

impl Tokens {
    /// `rate` a second, and `burst` at once; full at the beginning.
    pub(in super::super) fn new(rate: f64, burst: f64, now: Instant) -> Tokens {
        Tokens { rate, burst, proven: burst * PROVEN_BURST, open: burst * (1.0 - PROVEN_BURST), at: now }
    }

    /// All but one were gone then: how a door begins that may have been forgotten at that moment.
    pub(in super::super) fn nearly_spent(self, then: Instant) -> Tokens {
        Tokens { proven: 0.0, open: 1.0, at: then, ..self }
    }

    pub(super) fn has(&mut self, pool: Pool, now: Instant) -> bool {
        let gained = now.saturating_duration_since(self.at).as_secs_f64() * self.rate;
        self.at = self.at.max(now);
        self.add(gained * PROVEN_PART, gained * (1.0 - PROVEN_PART));
        match pool {
            Pool::Proven => self.proven >= 1.0,
            Pool::Open => self.open >= 1.0,
        }
    }

    /// What one pool has no room for goes to the other.
    fn add(&mut self, proven: f64, open: f64) {
        let (most_proven, most_open) = (self.burst * PROVEN_BURST, self.burst * (1.0 - PROVEN_BURST));
        let spills = (self.proven + proven - most_proven).max(0.0);
        let over = (self.open + open - most_open).max(0.0);
        self.proven = (self.proven + proven + over).min(most_proven);
        self.open = (self.open + open + spills).min(most_open);
    }

    pub(super) fn take(&mut self, pool: Pool) {
        match pool {
            Pool::Proven => self.proven -= 1.0,
            Pool::Open => self.open -= 1.0,
        }
    }

    pub(super) fn give_back(&mut self, pool: Pool) {
        match pool {
            Pool::Proven => self.add(1.0, 0.0),
            Pool::Open => self.add(0.0, 1.0),
        }
    }

    /// How long until one more token has surely arrived, at least a moment.
    pub(super) fn until_next(&self) -> Duration {
        let missing = (1.0 - self.open).clamp(0.0, 1.0);
        Duration::from_secs_f64((missing / self.rate.max(0.1)).clamp(0.001, 10.0))
    }
}
