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

/// How often those who wait look whether the server has died meanwhile.
const LOOK: Duration = Duration::from_millis(200);
/// How much of the tokens that arrive is set aside for proven networks, where these need it.
const PROVEN_PART: f64 = 0.5;
/// How much of the burst is theirs.
const PROVEN_BURST: f64 = 0.25;

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
}

/// What a pass has cost.
#[derive(Clone, Copy, Debug)]
struct Spent {
    pool: Pool,
    /// Whose standing bears it: a network's, or a proven pair's.
    by: Tag,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pool {
    Proven,
    Open,
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
    /// Which pool was served last: they take turns.
    last: Pool,
}

struct Waiter {
    number: u64,
    sponsors: Arc<Sponsors>,
    wake: oneshot::Sender<Pass>,
}

/// How well somebody stands: less goes first.
type Rank = (f64, f64);

impl Gate {
    /// A door with so many places, and at most so many once they prove to be answered; with tokens, or without a bound in time.
    pub(super) fn new(
        (places, most): (usize, usize),
        tokens: Option<Tokens>,
        waiting: &Arc<AtomicUsize>,
        limits: &Arc<Limits>,
    ) -> Arc<Gate> {
        let standings = || Standings { known: HashMap::new(), most: limits.networks_per_endpoint.max(1) };
        let state = State {
            inside: 0,
            places: places as f64,
            most: most.max(places),
            tokens,
            open: standings(),
            proven: standings(),
            waiting: Vec::new(),
            next: 0,
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
        let (number, mut turn) = self.queue(sponsors)?;
        let _leave = Leave { gate: self, number };
        loop {
            let now = Instant::now();
            let wake = self.next_token(now).unwrap_or(now + LOOK).min(now + LOOK).min(until);
            tokio::select! {
                biased;
                pass = &mut turn => return pass.map_err(|_| Turned::Away),
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
        let (number, mut turn) = self.queue(sponsors).ok()?;
        let _leave = Leave { gate: self, number };
        turn.try_recv().ok()
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

    /// Queues up behind those who stand better, and serves whose turn it is.
    fn queue(self: &Arc<Gate>, sponsors: &Arc<Sponsors>) -> Result<(u64, oneshot::Receiver<Pass>), Turned> {
        let now = Instant::now();
        let (wake, turn) = oneshot::channel();
        let mut state = self.lock();
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
        if still && all.first().is_some_and(|first| state.has_enough(*first, now, &self.limits)) {
            self.remove(&mut state, number);
            return Err(Turned::Away);
        }
        if still && self.waiting.load(Ordering::Relaxed) > self.limits.questions_waiting {
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
        while let Some((number, spent)) = state.take(now, &self.limits) {
            let Some(at) = state.waiting.iter().position(|waiter| waiter.number == number) else { break };
            let waiter = state.waiting.remove(at);
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            if let Err(pass) = waiter.wake.send(Pass { gate: self.clone(), spent }) {
                unheard.push(pass);
            }
        }
        drop(state);
        // Whoever went away leaves token and place to others, which locks the door anew.
        unheard.into_iter().for_each(Pass::refund);
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
    /// Gives back what it cost: the answer was VALIDKEY, or nobody was asked.
    pub(super) fn refund(self) {
        let mut state = self.gate.lock();
        if let Some(tokens) = &mut state.tokens {
            tokens.give_back(self.spent.pool);
        }
        let (now, limits) = (Instant::now(), &self.gate.limits);
        let standings = match self.spent.pool {
            Pool::Proven => &mut state.proven,
            Pool::Open => &mut state.open,
        };
        standings.of(self.spent.by, now, limits).forgive();
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut state = self.gate.lock();
        state.inside = state.inside.saturating_sub(1);
        drop(state);
        self.gate.serve(Instant::now());
    }
}

impl State {
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
        let is_his = |other: Sponsor| match sponsor.proven {
            true => other.pair == sponsor.pair,
            false => other.bringer == sponsor.bringer,
        };
        let standing = match sponsor.proven {
            true => self.proven.now(sponsor.pair, now, limits),
            false => self.open.now(sponsor.bringer, now, limits),
        };
        let waits = self.waiting.iter().filter(|waiter| waiter.sponsors.all().into_iter().any(is_his)).count();
        let (most, least) = (limits.questions_waiting_per_network as f64, limits.questions_waiting_least as f64);
        waits as f64 > (most - standing.spent).max(least)
    }
}

fn compare(one: &Rank, other: &Rank) -> std::cmp::Ordering {
    one.0.total_cmp(&other.0).then(one.1.total_cmp(&other.1))
}

/// What is left of a budget that fills up again with time.
#[derive(Clone, Debug)]
pub(super) struct Tokens {
    rate: f64,
    burst: f64,
    proven: f64,
    open: f64,
    at: Instant,
}

impl Tokens {
    /// `rate` a second, and `burst` at once; full at the beginning.
    pub(super) fn new(rate: f64, burst: f64, now: Instant) -> Tokens {
        Tokens { rate, burst, proven: burst * PROVEN_BURST, open: burst * (1.0 - PROVEN_BURST), at: now }
    }

    /// All but one are gone: how a door begins of which it is not known whether it was forgotten.
    pub(super) fn nearly_spent(self) -> Tokens {
        Tokens { proven: 0.0, open: 1.0, ..self }
    }

    fn has(&mut self, pool: Pool, now: Instant) -> bool {
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

    fn take(&mut self, pool: Pool) {
        match pool {
            Pool::Proven => self.proven -= 1.0,
            Pool::Open => self.open -= 1.0,
        }
    }

    fn give_back(&mut self, pool: Pool) {
        match pool {
            Pool::Proven => self.add(1.0, 0.0),
            Pool::Open => self.add(0.0, 1.0),
        }
    }

    /// How long until one more token has surely arrived, at least a moment.
    fn until_next(&self) -> Duration {
        let missing = (1.0 - self.open).clamp(0.0, 1.0);
        Duration::from_secs_f64((missing / self.rate.max(0.1)).clamp(0.001, 10.0))
    }
}

/// What a bringer has had at a door. It is forgiven with time.
#[derive(Clone, Copy, Debug)]
struct Standing {
    /// Questions that were asked and not answered VALIDKEY.
    spent: f64,
    /// Questions that were to be asked.
    asked: f64,
    at: Instant,
}

impl Standing {
    fn at(self, now: Instant, limits: &Limits) -> Standing {
        let forgiven = now.saturating_duration_since(self.at).as_secs_f64() * limits.network_forgiven;
        Standing { spent: (self.spent - forgiven).max(0.0), asked: (self.asked - forgiven).max(0.0), at: now }
    }

    fn ask(&mut self, limits: &Limits) {
        self.asked = (self.asked + 1.0).min(limits.network_held_against);
    }

    fn spend(&mut self, limits: &Limits) {
        self.spent = (self.spent + 1.0).min(limits.network_held_against);
    }

    fn forgive(&mut self) {
        self.spent = (self.spent - 1.0).max(0.0);
        self.asked = (self.asked - 1.0).max(0.0);
    }
}

/// Bounded: the one that stands best makes room for a new one, which inherits what it had spent. So nobody stands better than
/// he should by bringing others along.
struct Standings {
    known: HashMap<Tag, Standing>,
    most: usize,
}

impl Standings {
    fn now(&self, tag: Tag, now: Instant, limits: &Limits) -> Standing {
        self.known.get(&tag).map_or(Standing { spent: 0.0, asked: 0.0, at: now }, |standing| standing.at(now, limits))
    }

    fn of(&mut self, tag: Tag, now: Instant, limits: &Limits) -> &mut Standing {
        let mut start = self.now(tag, now, limits);
        if !self.known.contains_key(&tag) && self.known.len() >= self.most {
            self.known.retain(|_, standing| standing.at(now, limits).asked > 0.5);
            let best = self.known.iter().map(|(tag, standing)| (*tag, standing.at(now, limits)));
            let best =
                best.min_by(|(_, one), (_, other)| compare(&(one.spent, one.asked), &(other.spent, other.asked)));
            if let (true, Some((tag, standing))) = (self.known.len() >= self.most, best) {
                self.known.remove(&tag);
                start = standing;
            }
        }
        let standing = self.known.entry(tag).or_insert(start);
        *standing = standing.at(now, limits);
        standing
    }
}

#[cfg(test)]
mod tests;
