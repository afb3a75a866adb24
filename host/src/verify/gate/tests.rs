use super::*;

/// A step of the simulated clock.
const STEP: Duration = Duration::from_millis(10);

/// A network of this number; proven for its address or not.
fn of(network: u8, proven: bool) -> Arc<Sponsors> {
    let sponsors = Arc::new(Sponsors::default());
    sponsors.add(Sponsor { bringer: [network; 16], pair: [network.wrapping_add(128); 16], proven });
    sponsors
}

/// A gate with a clock of its own, and those who wait in front of it.
struct Bed {
    gate: Arc<Gate>,
    start: Instant,
    now: Instant,
    waiting: Vec<Waits>,
    /// How each that is over came out: what it was, how long it waited, and whether it passed.
    over: Vec<(u8, Duration, bool)>,
}

struct Waits {
    network: u8,
    since: Instant,
    until: Instant,
    number: u64,
    turn: oneshot::Receiver<Pass>,
}

impl Bed {
    fn new(limits: Limits) -> Bed {
        let start = Instant::now();
        let tokens = Tokens::new(limits.verify.failures_per_second, limits.verify.failures_burst, start);
        let places = (limits.verify.questions_per_endpoint, limits.verify.questions_per_endpoint_most);
        let gate = Gate::new(places, Some(tokens), &Arc::default(), &Arc::new(limits));
        Bed { gate, start, now: start, waiting: Vec::new(), over: Vec::new() }
    }

    /// A question comes that waits for four seconds at most, and is answered INVALIDKEY at once.
    fn comes(&mut self, network: u8, proven: bool) {
        match self.gate.queue(&of(network, proven), self.now, true) {
            Ok((number, turn)) => {
                let until = self.now + Duration::from_secs(4);
                self.waiting.push(Waits { network, since: self.now, until, number, turn });
            }
            Err(_) => self.over.push((network, Duration::ZERO, false)),
        }
        self.look();
    }

    fn look(&mut self) {
        loop {
            self.gate.serve(self.now);
            let before = self.over.len();
            for mut waits in std::mem::take(&mut self.waiting) {
                let waited = self.now - waits.since;
                match waits.turn.try_recv() {
                    Ok(pass) => {
                        drop(pass.used());
                        self.over.push((waits.network, waited, true));
                    }
                    Err(oneshot::error::TryRecvError::Closed) => self.over.push((waits.network, waited, false)),
                    Err(_) if self.now >= waits.until => {
                        self.gate.remove(&mut self.gate.lock(), waits.number);
                        self.over.push((waits.network, waited, false));
                    }
                    Err(_) => self.waiting.push(waits),
                }
            }
            if self.over.len() == before {
                return;
            }
        }
    }

    fn passes(&mut self, span: Duration) {
        let until = self.now + span;
        while self.now < until {
            self.now += STEP;
            self.look();
        }
    }

    fn asked(&self) -> usize {
        self.over.iter().filter(|over| over.2).count()
    }

    /// How long the one question of this network waited until it passed.
    fn waited(&self, network: u8) -> Option<Duration> {
        self.over.iter().find(|over| over.0 == network && over.2).map(|over| over.1)
    }

    fn expect_cap(&self) {
        let cap = 20.0 + 10.0 * (self.now - self.start).as_secs_f64() + 0.1;
        assert!(self.asked() as f64 <= cap, "{} of {cap}", self.asked());
    }
}

fn usual() -> Bed {
    Bed::new(Limits::default())
}

/// No token comes back while a test goes by the real clock.
fn slow() -> Limits {
    Limits::default().with(|limits| limits.verify.failures_per_second = 0.000_1)
}

/// Takes all that one network can have at once.
fn exhaust(gate: &Arc<Gate>, network: u8) -> usize {
    std::iter::from_fn(|| gate.enter_now(&of(network, false)).map(drop)).take(1_000).count()
}

#[test]
fn f1_whoever_asks_the_server_sees_no_more_than_the_cap_and_no_less() {
    let mut bed = usual();
    for _ in 0..20 {
        for network in 0..100 {
            // Each tenth of them has brought a right key of its address.
            (0..3).for_each(|_| bed.comes(network, network % 10 == 0));
        }
        bed.passes(Duration::from_secs(1));
        bed.expect_cap();
    }
    assert!(bed.asked() >= 20 + 20 * 10 - 2, "{}", bed.asked());
}

#[test]
fn a_new_network_goes_before_one_that_floods_and_before_fifty_that_do() {
    let mut bed = usual();
    (0..600).for_each(|_| bed.comes(1, false));
    bed.passes(Duration::from_millis(300));
    bed.comes(2, false);
    for number in 0..600_u32 {
        bed.comes(10 + (number % 50) as u8, false);
        if number % 2 == 0 {
            bed.passes(Duration::from_millis(1));
        }
        if number % 100 == 60 {
            // In the middle of it too, each from a network of its own.
            bed.comes(100 + (number / 100) as u8, false);
        }
    }
    bed.passes(Duration::from_secs(6));
    assert!(bed.waiting.is_empty() && bed.over.len() == 1_207);
    for network in [2, 100, 101, 102, 103, 104, 105] {
        let waited = bed.waited(network);
        assert!(waited.is_some_and(|waited| waited <= Duration::from_secs(1)), "{network}: {waited:?}");
    }
    bed.expect_cap();
}

#[test]
fn a_network_that_floods_on_leaves_the_turn_to_each_that_does_not() {
    let mut bed = usual();
    let mut slowest = Duration::ZERO;
    for tenth in 0..600_u32 {
        // Thirty networks with three a second each, for a minute; a new one every second.
        (0..9).for_each(|n| bed.comes(1 + ((tenth * 9 + n) % 30) as u8, false));
        if tenth % 10 == 5 {
            bed.comes(60 + (tenth / 10) as u8, false);
        }
        bed.passes(Duration::from_millis(100));
    }
    bed.passes(Duration::from_secs(5));
    for network in 60..120 {
        slowest = slowest.max(bed.waited(network).unwrap_or(Duration::MAX));
    }
    assert!(slowest <= Duration::from_secs(4), "{slowest:?}");
    bed.expect_cap();
}

#[test]
fn right_keys_cost_nothing_so_that_any_number_of_them_passes() {
    let bed = Bed::new(slow());
    for round in 0..1_000_u32 {
        let pass = bed.gate.enter_now(&of((round % 3) as u8, false)).unwrap_or_else(|| panic!("{round}"));
        pass.refund();
    }
    assert_eq!(exhaust(&bed.gate, 1), 15);
}

#[tokio::test]
async fn many_right_keys_of_one_network_wait_for_places_and_none_is_sent_away() {
    let bed = Bed::new(slow());
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..60 {
        let gate = bed.gate.clone();
        asking.spawn(async move {
            let pass = gate.enter(&of(1, false), Instant::now() + Duration::from_secs(60), |_| false).await?;
            tokio::time::sleep(Duration::from_millis(5)).await;
            pass.refund();
            Ok::<_, Turned>(())
        });
    }
    assert!(asking.join_all().await.into_iter().all(|turn| turn.is_ok()));
}

#[test]
fn a_proven_network_has_a_share_of_its_own_that_strangers_cannot_spend() {
    let gate = Bed::new(slow()).gate;
    assert_eq!((1..=100).map(|network| exhaust(&gate, network)).sum::<usize>(), 15);
    assert!(gate.enter_now(&of(101, false)).is_none());
    assert!((0..5).all(|_| gate.enter_now(&of(102, true)).is_some()), "five at once");
    assert!(gate.enter_now(&of(102, true)).is_none());
    // It has that and its turns among all; strangers keep theirs.
    let mut bed = usual();
    for _ in 0..40 {
        bed.comes(1, false);
        bed.comes(2, true);
    }
    bed.passes(Duration::from_secs(3));
    let passed = |network| bed.over.iter().filter(|over| over.0 == network && over.2).count();
    assert!(passed(1) >= 12 && passed(2) >= 20, "{} and {}", passed(1), passed(2));
    bed.expect_cap();
}

#[test]
fn of_those_who_wait_nobody_holds_more_places_than_is_good_for_all() {
    let limits = slow().with(|limits| {
        limits.verify.questions_waiting = 20;
        limits.verify.questions_waiting_per_network = 12;
    });
    let mut bed = Bed::new(limits);
    (0..45).for_each(|_| bed.comes(1, false));
    assert_eq!(bed.waiting.len(), 4, "it has spent all");
    (0..30).for_each(|_| bed.comes(2, false));
    assert_eq!(bed.waiting.len(), 16, "it has spent nothing");
    (3..40).for_each(|network| bed.comes(network, false));
    assert_eq!(bed.waiting.len(), 20, "those who stand worse made room");
    let fresh = bed.waiting.iter().filter(|waits| waits.network > 2).count();
    assert!(fresh >= 18, "{fresh}");
    bed.passes(Duration::from_secs(5));
    assert_eq!((bed.waiting.len(), bed.gate.waiting.load(Ordering::Relaxed)), (0, 0));
}

#[test]
fn a_flood_at_one_door_turns_away_nobody_at_another() {
    let (waiting, limits) = (Arc::new(AtomicUsize::new(0)), Arc::new(slow()));
    let door = || {
        let tokens = Tokens::new(limits.verify.failures_per_second, limits.verify.failures_burst, Instant::now());
        let gate = Gate::new((8, 8), Some(tokens), &waiting, &limits);
        exhaust(&gate, 0);
        gate
    };
    let queue = |gate: &Arc<Gate>, networks: std::ops::Range<u8>| {
        let turns = networks.map(|network| gate.queue(&of(network, false), Instant::now(), true));
        turns.flatten().collect::<Vec<_>>()
    };
    let (one, other) = (door(), door());
    let flood: Vec<_> = (0..3).map(|_| queue(&one, 1..127)).collect();
    assert_eq!((waiting.load(Ordering::Relaxed), flood.len()), (250, 3));
    let honest = queue(&other, 1..100);
    assert_eq!(other.lock().waiting.len(), 16);
    assert!(honest.len() >= 16);
    // Whoever has many doors opened fills the house nevertheless, and no more.
    let many: Vec<_> = (0..20).map(|_| door()).collect();
    let turns: Vec<_> = many.iter().map(|gate| queue(gate, 1..100)).collect();
    assert_eq!((waiting.load(Ordering::Relaxed), turns.len()), (400, 20));
}

#[test]
fn places_grow_with_answers_and_shrink_with_silence() {
    let gate = Bed::new(slow().with(|limits| limits.verify.failures_burst = 100_000.0)).gate;
    let places = || std::iter::from_fn(|| gate.enter_now(&of(1, false))).collect::<Vec<Pass>>().len();
    assert_eq!(places(), 8);
    (0..9).for_each(|_| gate.widen());
    assert_eq!(places(), 9);
    (0..10_000).for_each(|_| gate.widen());
    assert_eq!(places(), 64);
    gate.narrow(8);
    assert_eq!(places(), 32);
    (0..10).for_each(|_| gate.narrow(8));
    assert_eq!(places(), 8);
}

#[tokio::test]
async fn who_waits_for_a_server_that_dies_is_told_and_who_goes_away_leaves_nothing_behind() {
    let gate = Bed::new(slow()).gate;
    exhaust(&gate, 1);
    let until = Instant::now() + Duration::from_secs(600);
    assert_eq!(gate.enter(&of(1, false), until, |_| true).await.err(), Some(Turned::Shut));
    let soon = Instant::now() + Duration::from_millis(20);
    assert_eq!(gate.enter(&of(1, false), soon, |_| false).await.err(), Some(Turned::Late));
    for _ in 0..20 {
        let sponsors = of(2, false);
        let waiting = gate.enter(&sponsors, until, |_| false);
        assert!(tokio::time::timeout(Duration::from_millis(1), waiting).await.is_err());
    }
    let state = gate.lock();
    assert_eq!((state.waiting.len(), gate.waiting.load(Ordering::Relaxed), state.inside), (0, 0, 0));
}

#[test]
fn one_question_goes_by_the_best_of_those_who_want_it() {
    let bed = Bed::new(slow());
    exhaust(&bed.gate, 1);
    let shared = of(1, false);
    let (_, mut turn) = bed.gate.queue(&shared, bed.now, true).unwrap();
    bed.gate.serve(bed.now);
    assert!(turn.try_recv().is_err());
    // A proven network joins what a flooder asks: there is a share for it.
    shared.add(Sponsor { bringer: [9; 16], pair: [10; 16], proven: true });
    bed.gate.serve(bed.now);
    assert!(turn.try_recv().is_ok());
}

#[test]
fn what_is_remembered_of_networks_is_bounded_and_nobody_stands_better_by_bringing_others_along() {
    let limits = slow().with(|limits| limits.verify.networks_per_endpoint = 10);
    let gate = Bed::new(limits.clone()).gate;
    assert_eq!(exhaust(&gate, 1), 15);
    for network in 2..250 {
        for _ in 0..3 {
            assert!(gate.enter_now(&of(network, false)).is_none());
        }
    }
    let state = gate.lock();
    assert_eq!(state.open.known.len(), 10);
    assert!(state.open.now([1; 16], state.now, &limits).spent > 12.0, "it is not forgotten");
    let later = state.now + Duration::from_secs(600);
    assert_eq!(state.open.now([1; 16], later, &limits).spent, 0.0, "but forgiven with time");
}
