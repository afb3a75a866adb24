//! The door in front of an Authentication Server: how many questions pass, and whose turn it is.
//!
//! Tokens bound the questions that are not answered VALIDKEY, places those that are in flight. Both are shared out by who
//! brings the mail: of all who wait, the one goes first whose network has spent least, then the one that asked for least, then
//! the newest, which has the most time left. A part of the tokens is set aside for networks that brought a right key of the
//! address within a day; each of these has a standing of its own for that address. What waits in vain is put off, never decided.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};

use super::bringer::{Sponsor, Sponsors, Tag};
use crate::config::Limits;
use standings::{Rank, Standings, compare};
use tokens::Pool;
pub(super) use tokens::Tokens;

mod standings;
mod tokens;

/// How often those who wait look whether the server has died meanwhile.
const LOOK: Duration = Duration::from_millis(200);
/// Why nobody was let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turned {
    /// Too many wait, and those of this network have had more than the others.
    Away,
    /// Its turn did not come in time.
    Late,
    /// There is nothing to wait for any more.
    Shut,
}

/// A door; the questions wait in front of it.
pub(super) struct Gate {
    state: Mutex<State>,
    /// Questions that wait in front of all doors.
    waiting: Arc<AtomicUsize>,
    limits: Arc<Limits>,
}

/// The right to ask; dropped, it leaves its place to the next one.
pub(super) struct Pass {
    gate: Arc<Gate>,
    spent: Spent,
    /// Whether it is used: one that nobody took, or that is given back, costs nothing.
    counts: bool,
}

/// What a pass has cost.
#[derive(Clone, Copy, Debug)]
struct Spent {
    pool: Pool,
    /// Whose standing bears it: a network's, or a proven pair's.
    by: Tag,
}

struct State {
    /// Questions in flight, and how many may be.
    inside: usize,
    places: f64,
    most: usize,
    tokens: Option<Tokens>,
    open: Standings,
    proven: Standings,
    /// In the order of their coming.
    waiting: Vec<Waiter>,
    next: u64,
    /// The latest moment that was told: it never goes back.
    now: Instant,
    /// Which pool was served last: they take turns.
    last: Pool,
}

struct Waiter {
    number: u64,
    sponsors: Arc<Sponsors>,
    wake: oneshot::Sender<Pass>,
}

impl Gate {
    /// A door with so many places, and at most so many once they prove to be answered; with tokens, or without a bound in time.
    pub(super) fn new(
        (places, most): (usize, usize),
        tokens: Option<Tokens>,
        waiting: &Arc<AtomicUsize>,
        limits: &Arc<Limits>,
    ) -> Arc<Gate> {
        let state = State {
            inside: 0,
            places: places as f64,
            most: most.max(places),
            tokens,
            open: Standings::new(limits),
            proven: Standings::new(limits),
            waiting: Vec::new(),
            next: 0,
            now: Instant::now(),
            last: Pool::Open,
        };
        Arc::new(Gate { state: Mutex::new(state), waiting: waiting.clone(), limits: limits.clone() })
    }

    /// Waits for a turn, until then at most. `is_shut` tells that the server is given up.
    pub(super) async fn enter(
        self: &Arc<Gate>,
        sponsors: &Arc<Sponsors>,
        until: Instant,
        is_shut: impl Fn(Instant) -> bool,
    ) -> Result<Pass, Turned> {
        let (number, mut turn) = self.queue(sponsors, Instant::now(), true)?;
        let _leave = Leave { gate: self, number };
        loop {
            let now = Instant::now();
            let wake = self.next_token(now).unwrap_or(now + LOOK).min(now + LOOK).min(until);
            tokio::select! {
                biased;
                pass = &mut turn => return pass.map(Pass::used).map_err(|_| Turned::Away),
                () = sleep_until(wake) => {
                    let now = Instant::now();
                    if is_shut(now) {
                        return Err(Turned::Shut);
                    }
                    if now >= until {
                        return Err(Turned::Late);
                    }
                    self.serve(now);
                }
            }
        }
    }

    /// A turn at once, where nobody has to wait for it.
    pub(super) fn enter_now(self: &Arc<Gate>, sponsors: &Arc<Sponsors>) -> Option<Pass> {
        let (_, mut turn) = self.queue(sponsors, Instant::now(), false).ok()?;
        turn.try_recv().ok().map(Pass::used)
    }

    /// The server has decided a question: it can do with one more at a time, once for each round of them.
    pub(super) fn widen(&self) {
        let mut state = self.lock();
        state.places = (state.places + 1.0 / state.places.max(1.0)).min(state.most as f64);
    }

    /// The server was silent: half of the places, and no fewer than `least`.
    pub(super) fn narrow(&self, least: usize) {
        let mut state = self.lock();
        state.places = (state.places / 2.0).max(least as f64);
    }

    /// Queues up behind those who stand better, and serves whose turn it is. Who is not ready to wait takes nobody's place.
    fn queue(
        self: &Arc<Gate>,
        sponsors: &Arc<Sponsors>,
        now: Instant,
        waits: bool,
    ) -> Result<(u64, oneshot::Receiver<Pass>), Turned> {
        let (wake, turn) = oneshot::channel();
        let mut state = self.lock();
        state.now = state.now.max(now);
        let now = state.now;
        let all = sponsors.all();
        for sponsor in &all {
            state.open.of(sponsor.bringer, now, &self.limits).ask(&self.limits);
            if sponsor.proven {
                state.proven.of(sponsor.pair, now, &self.limits).ask(&self.limits);
            }
        }
        let number = state.next;
        state.next += 1;
        state.waiting.push(Waiter { number, sponsors: sponsors.clone(), wake });
        self.waiting.fetch_add(1, Ordering::Relaxed);
        drop(state);
        self.serve(now);
        let mut state = self.lock();
        let still = state.waiting.iter().any(|waiter| waiter.number == number);
        if still && (!waits || all.first().is_some_and(|first| state.has_enough(*first, now, &self.limits))) {
            self.remove(&mut state, number);
            return Err(Turned::Away);
        }
        let all_waiting = self.waiting.load(Ordering::Relaxed);
        // Where few wait, the one that stands worst stands badly by being alone: others fill the house.
        let few = state.waiting.len() <= self.limits.verify.questions_waiting_per_endpoint
            && all_waiting <= self.limits.verify.questions_waiting_most;
        if still && !few && all_waiting > self.limits.verify.questions_waiting {
            let worst = state.worst(now, &self.limits).unwrap_or(number);
            self.remove(&mut state, worst);
            if worst == number {
                return Err(Turned::Away);
            }
        }
        Ok((number, turn))
    }

    /// Takes one out of those who wait: to be woken, if it still waits, by hearing nothing any more.
    fn remove(&self, state: &mut State, number: u64) {
        if let Some(at) = state.waiting.iter().position(|waiter| waiter.number == number) {
            state.waiting.remove(at);
            self.waiting.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Lets in whose turn it is, as many as may be.
    fn serve(self: &Arc<Gate>, now: Instant) {
        let mut unheard = Vec::new();
        let mut state = self.lock();
        state.now = state.now.max(now);
        let now = state.now;
        while let Some((number, spent)) = state.take(now, &self.limits) {
            let Some(at) = state.waiting.iter().position(|waiter| waiter.number == number) else { break };
            let waiter = state.waiting.remove(at);
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            if let Err(pass) = waiter.wake.send(Pass { gate: self.clone(), spent, counts: false }) {
                unheard.push(pass);
            }
        }
        drop(state);
        // Whoever went away leaves token and place to others, which locks the door anew.
        drop(unheard);
    }

    /// When the next token arrives, where one is waited for.
    fn next_token(&self, now: Instant) -> Option<Instant> {
        let state = self.lock();
        let tokens = state.tokens.as_ref()?;
        state.has_place().then(|| now + tokens.until_next())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Leaves the queue, however waiting ends.
struct Leave<'a> {
    gate: &'a Gate,
    number: u64,
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        let mut state = self.gate.lock();
        self.gate.remove(&mut state, self.number);
    }
}

impl Pass {
    fn used(mut self) -> Pass {
        self.counts = true;
        self
    }

    /// Gives back what it cost: the answer was VALIDKEY, or nobody was asked.
    pub(super) fn refund(mut self) {
        self.counts = false;
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut state = self.gate.lock();
        state.inside = state.inside.saturating_sub(1);
        if !self.counts {
            state.give_back(self.spent, &self.gate.limits);
        }
        drop(state);
        self.gate.serve(Instant::now());
    }
}

impl State {
    fn give_back(&mut self, spent: Spent, limits: &Limits) {
        if let Some(tokens) = &mut self.tokens {
            tokens.give_back(spent.pool);
        }
        let standings = match spent.pool {
            Pool::Proven => &mut self.proven,
            Pool::Open => &mut self.open,
        };
        standings.of(spent.by, self.now, limits).forgive();
    }

    fn has_place(&self) -> bool {
        (self.inside as f64) < self.places.floor()
    }

    /// The next one, and what it spends; absent where nobody waits, or nothing is left.
    fn take(&mut self, now: Instant, limits: &Limits) -> Option<(u64, Spent)> {
        if self.waiting.is_empty() || !self.has_place() {
            return None;
        }
        let mut pools = [Pool::Proven, Pool::Open];
        if self.last == Pool::Proven {
            pools.reverse();
        }
        for pool in pools {
            let left = match &mut self.tokens {
                Some(tokens) => tokens.has(pool, now),
                None => pool == Pool::Open,
            };
            if left && let Some((number, by)) = self.first(pool, now, limits) {
                if let Some(tokens) = &mut self.tokens {
                    tokens.take(pool);
                }
                match pool {
                    Pool::Proven => self.proven.of(by, now, limits).spend(limits),
                    Pool::Open => self.open.of(by, now, limits).spend(limits),
                }
                self.inside += 1;
                self.last = pool;
                return Some((number, Spent { pool, by }));
            }
        }
        None
    }

    /// Who stands best of those who may draw from this pool, and by which sponsor. Among equals the newest goes first.
    fn first(&self, pool: Pool, now: Instant, limits: &Limits) -> Option<(u64, Tag)> {
        let ranks = self.ranks(pool, now, limits);
        let best = ranks.into_iter().rev().min_by(|(_, one, _), (_, other, _)| compare(one, other));
        best.map(|(number, _, by)| (number, by))
    }

    /// Who stands worst of all, whichever pool each may draw from; proven ones come last of these.
    fn worst(&self, now: Instant, limits: &Limits) -> Option<u64> {
        let proven: Vec<u64> = self.ranks(Pool::Proven, now, limits).into_iter().map(|(number, ..)| number).collect();
        let open = self.ranks(Pool::Open, now, limits);
        let strangers = open.iter().filter(|(number, ..)| !proven.contains(number));
        let worst = strangers.max_by(|(_, one, _), (_, other, _)| compare(one, other));
        worst
            .or_else(|| open.iter().max_by(|(_, one, _), (_, other, _)| compare(one, other)))
            .map(|(number, ..)| *number)
    }

    /// How well those stand who may draw from this pool, in the order of their coming: what the bringer has spent and those
    /// of his who came before, then what he asked for.
    fn ranks(&self, pool: Pool, now: Instant, limits: &Limits) -> Vec<(u64, Rank, Tag)> {
        let mut before: HashMap<Tag, f64> = HashMap::new();
        let mut ranks = Vec::with_capacity(self.waiting.len());
        for waiter in &self.waiting {
            let mut best: Option<(Rank, Tag)> = None;
            for sponsor in waiter.sponsors.all() {
                let (standings, tag) = match pool {
                    Pool::Proven if sponsor.proven => (&self.proven, sponsor.pair),
                    Pool::Proven => continue,
                    Pool::Open => (&self.open, sponsor.bringer),
                };
                let earlier = before.entry(tag).or_insert(0.0);
                let standing = standings.now(tag, now, limits);
                let rank = (standing.spent + *earlier, standing.asked);
                *earlier += 1.0;
                if best.is_none_or(|(known, _)| compare(&rank, &known).is_lt()) {
                    best = Some((rank, tag));
                }
            }
            if let Some((rank, tag)) = best {
                ranks.push((waiter.number, rank, tag));
            }
        }
        ranks
    }

    /// Whether enough of this bringer's questions wait: the more it has spent, the fewer may.
    fn has_enough(&self, sponsor: Sponsor, now: Instant, limits: &Limits) -> bool {
        let is_his = |other: Sponsor| {
            if sponsor.proven { other.pair == sponsor.pair } else { other.bringer == sponsor.bringer }
        };
        let (standings, tag) =
            if sponsor.proven { (&self.proven, sponsor.pair) } else { (&self.open, sponsor.bringer) };
        let standing = standings.now(tag, now, limits);
        let waits = self.waiting.iter().filter(|waiter| waiter.sponsors.all().into_iter().any(is_his)).count();
        let (most, least) =
            (limits.verify.questions_waiting_per_network as f64, limits.verify.questions_waiting_least as f64);
        waits as f64 > (most - standing.spent).max(least)
    }
}

#[cfg(test)]
mod tests;
