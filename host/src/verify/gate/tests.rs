use tokio::task::JoinSet;
use tokio::time::advance;

use super::*;

/// A network of this number; proven for its address or not.
fn of(network: u8, proven: bool) -> Arc<Sponsors> {
    let sponsors = Arc::new(Sponsors::default());
    sponsors.add(Sponsor { bringer: [network; 16], pair: [network.wrapping_add(128); 16], proven });
    sponsors
}

fn gate_with(limits: Limits) -> Arc<Gate> {
    let tokens = Tokens::new(limits.failures_per_second, limits.failures_burst, Instant::now());
    let places = (limits.questions_per_endpoint, limits.questions_per_endpoint_most);
    Gate::new(places, Some(tokens), &Arc::default(), &Arc::new(limits))
}

fn gate() -> Arc<Gate> {
    gate_with(Limits::default())
}

/// How a question that waits for at most so long fares: when its turn came, counted from `start`, or why not. It is answered
/// at once, with INVALIDKEY.
async fn wrong(gate: Arc<Gate>, sponsors: Arc<Sponsors>, patience: u64, start: Instant) -> Result<Duration, Turned> {
    let until = Instant::now() + Duration::from_millis(patience);
    gate.enter(&sponsors, until, |_| false).await.map(|_pass| start.elapsed())
}

/// Takes all that one network can have at once.
fn exhaust(gate: &Arc<Gate>, network: u8) -> usize {
    std::iter::from_fn(|| gate.enter_now(&of(network, false)).map(drop)).take(1_000).count()
}

#[tokio::test(start_paused = true)]
async fn f1_whoever_asks_the_server_sees_no_more_than_the_cap() {
    let (gate, start) = (gate(), Instant::now());
    let mut asking = JoinSet::new();
    let mut asked = 0;
    for second in 0..20_u64 {
        for network in 0..100_u8 {
            // Each tenth of them has brought a right key of its address.
            let sponsors = of(network, network % 10 == 0);
            for _ in 0..3 {
                asking.spawn(wrong(gate.clone(), sponsors.clone(), 4_000, start));
            }
        }
        tokio::time::sleep_until(start + Duration::from_secs(second + 1)).await;
        while let Some(done) = asking.try_join_next() {
            asked += usize::from(done.unwrap().is_ok());
        }
        let cap = 20 + 10 * (second as usize + 1);
        assert!(asked <= cap && asked + 12 >= cap, "{asked} in {} s", second + 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_network_goes_before_one_that_floods_and_before_fifty_that_do() {
    let (gate, start) = (gate(), Instant::now());
    let mut flood = JoinSet::new();
    for _ in 0..600 {
        flood.spawn(wrong(gate.clone(), of(1, false), 4_000, start));
    }
    advance(Duration::from_millis(300)).await;
    let waited = |turn: Result<Duration, Turned>, since: Instant| turn.unwrap() - (since - start);
    let since = Instant::now();
    assert!(waited(wrong(gate.clone(), of(2, false), 4_000, start).await, since) <= Duration::from_millis(400));
    for number in 0..600 {
        flood.spawn(wrong(gate.clone(), of(10 + number % 50, false), 4_000, start));
        if number % 100 == 50 {
            // In the middle of it too, each from a network of its own.
            let since = Instant::now();
            let turn = wrong(gate.clone(), of(100 + (number / 100), false), 4_000, start).await;
            assert!(waited(turn, since) <= Duration::from_millis(500), "{number}: {turn:?}");
        }
    }
    let (mut asked, mut away) = (0, 0);
    while let Some(done) = flood.join_next().await {
        match done.unwrap() {
            Ok(_) => asked += 1,
            Err(_) => away += 1,
        }
    }
    let cap = 20.0 + 10.0 * start.elapsed().as_secs_f64();
    assert!(f64::from(asked) <= cap && asked + away == 1_200, "{asked} of {cap}, {away} put off");
}

#[tokio::test(start_paused = true)]
async fn right_keys_cost_nothing_so_that_any_number_of_them_passes() {
    let gate = gate();
    for round in 0..1_000_u32 {
        let pass = gate.enter_now(&of((round % 3) as u8, false)).unwrap_or_else(|| panic!("{round}"));
        pass.refund();
    }
    assert_eq!(exhaust(&gate, 1), 15);
    // Many at once wait for places, not for tokens, and none of them is sent away.
    let mut asking = JoinSet::new();
    for _ in 0..60 {
        let gate = gate_with(Limits::default());
        asking.spawn(async move {
            let pass = gate.enter(&of(1, false), Instant::now() + Duration::from_secs(4), |_| false).await?;
            tokio::time::sleep(Duration::from_millis(50)).await;
            pass.refund();
            Ok::<_, Turned>(())
        });
    }
    assert!(asking.join_all().await.into_iter().all(|turn| turn.is_ok()));
}

#[tokio::test(start_paused = true)]
async fn a_proven_network_has_a_share_of_its_own_that_strangers_cannot_spend() {
    let gate = gate();
    assert_eq!((1..=100).map(|network| exhaust(&gate, network)).sum::<usize>(), 15);
    assert!(gate.enter_now(&of(101, false)).is_none());
    assert!((0..5).all(|_| gate.enter_now(&of(102, true)).is_some()), "five at once");
    assert!(gate.enter_now(&of(102, true)).is_none());
    // And of what arrives no more than half, while strangers wait.
    let (start, mut asking) = (Instant::now(), JoinSet::new());
    for number in 0..60 {
        asking.spawn({
            let (gate, sponsors) = (gate.clone(), of(120 + number % 2, number % 2 == 0));
            async move { (number % 2 == 0, wrong(gate, sponsors, 3_000, start).await.is_ok()) }
        });
    }
    let turns = asking.join_all().await;
    let passed = |proven: bool| turns.iter().filter(|turn| **turn == (proven, true)).count();
    assert!((13..=17).contains(&passed(true)) && (13..=17).contains(&passed(false)), "{turns:?}");
}

#[tokio::test(start_paused = true)]
async fn of_those_who_wait_nobody_holds_more_places_than_is_good_for_all() {
    let limits = Limits { questions_waiting: 20, questions_waiting_per_network: 12, ..Limits::default() };
    let (gate, start) = (gate_with(limits), Instant::now());
    exhaust(&gate, 1);
    let mut flood = JoinSet::new();
    let wait = |flood: &mut JoinSet<_>, network| drop(flood.spawn(wrong(gate.clone(), of(network, false), 10, start)));
    for _ in 0..30 {
        wait(&mut flood, 1);
    }
    tokio::task::yield_now().await;
    let waiting = || gate.lock().waiting.len();
    assert_eq!(waiting(), 4, "it has spent all");
    for _ in 0..30 {
        wait(&mut flood, 2);
    }
    tokio::task::yield_now().await;
    assert_eq!(waiting(), 16, "it has spent nothing");
    for network in 3..40 {
        wait(&mut flood, network);
    }
    tokio::task::yield_now().await;
    assert_eq!(waiting(), 20, "those who stand worse made room");
    let fresh = gate.lock().waiting.iter().filter(|waiter| waiter.sponsors.all()[0].bringer[0] > 2).count();
    assert!(fresh >= 19, "{fresh}");
    while flood.join_next().await.is_some() {}
    assert_eq!((waiting(), gate.waiting.load(Ordering::Relaxed)), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn places_grow_with_answers_and_shrink_with_silence() {
    let limits = Limits { failures_burst: 10_000.0, ..Limits::default() };
    let gate = gate_with(limits);
    let places = || {
        let passes: Vec<Pass> = std::iter::from_fn(|| gate.enter_now(&of(1, false))).collect();
        passes.len()
    };
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

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_server_that_dies_is_told_and_who_goes_away_leaves_nothing_behind() {
    let gate = gate();
    exhaust(&gate, 1);
    let begin = Instant::now();
    let dies = begin + Duration::from_millis(150);
    let turned = gate.enter(&of(1, false), begin + Duration::from_secs(4), |now| now >= dies).await.err();
    // One token may have come first.
    assert!(turned.is_none_or(|turned| turned == Turned::Shut) && begin.elapsed() < Duration::from_millis(500));
    for _ in 0..100 {
        let waiting = tokio::time::timeout(
            Duration::from_millis(1),
            gate.enter(&of(2, false), Instant::now() + Duration::from_secs(4), |_| false),
        );
        drop(waiting.await);
    }
    assert_eq!((gate.lock().waiting.len(), gate.waiting.load(Ordering::Relaxed), gate.lock().inside), (0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn one_question_goes_by_the_best_of_those_who_want_it() {
    let gate = gate();
    exhaust(&gate, 1);
    let shared = of(1, false);
    let asking = tokio::spawn({
        let (gate, shared) = (gate.clone(), shared.clone());
        async move { gate.enter(&shared, Instant::now() + Duration::from_millis(90), |_| false).await.is_ok() }
    });
    tokio::task::yield_now().await;
    // A proven network joins what a flooder asks: there is a share for it.
    shared.add(Sponsor { bringer: [9; 16], pair: [10; 16], proven: true });
    assert!(asking.await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn what_is_remembered_of_networks_is_bounded_and_nobody_stands_better_by_bringing_others_along() {
    let limits = Limits { networks_per_endpoint: 10, ..Limits::default() };
    let gate = gate_with(limits.clone());
    assert_eq!(exhaust(&gate, 1), 15);
    for network in 2..250 {
        for _ in 0..3 {
            assert!(gate.enter_now(&of(network, false)).is_none());
        }
    }
    let state = gate.lock();
    assert_eq!(state.open.known.len(), 10);
    let flooder = state.open.now([1; 16], Instant::now(), &limits);
    assert_eq!(flooder.spent, 15.0, "it is not forgotten");
    let later = Instant::now() + Duration::from_secs(600);
    assert_eq!(state.open.now([1; 16], later, &limits).spent, 0.0, "but forgiven with time");
}
