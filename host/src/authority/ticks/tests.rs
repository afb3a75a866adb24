//! The pace, with a clock of the test's own.

use super::*;

const STEP: Duration = Duration::from_millis(2);
/// How late a timer wakes the thread, in microseconds.
const LATE: u64 = 40;

/// What became of questions that came at these microseconds.
#[derive(Debug, Default, PartialEq, Eq)]
struct Run {
    /// When each was received, and when its answer left.
    times: Vec<(u64, u64)>,
    wakes: usize,
}

fn lately() -> Arc<[Lately; 2]> {
    Arc::new([Lately::new(), Lately::new()])
}

/// A socket's thread, of which each question takes so many microseconds.
fn run(came: &[u64], work: impl Fn(usize) -> u64) -> Run {
    let (zero, mut ticks) = (Instant::now(), Ticks::new(STEP, lately()));
    let at = |micros: u64| zero + Duration::from_micros(micros);
    let micros = |at: Instant| u64::try_from(at.saturating_duration_since(zero).as_micros()).unwrap();
    let (mut run, mut now, mut left, mut waiting) = (Run::default(), came[0], 0, Vec::<(u64, usize)>::new());
    while left < came.len() {
        run.wakes += 1;
        let (begin, first) = (now, run.times.len());
        let turn = ticks.advance(at(now));
        let here = match turn {
            Turn::Begin | Turn::Middle => came[first..].iter().take_while(|came| **came <= now).count(),
            Turn::Nothing => 0,
        };
        let is_ready = |due: u64| turn == Turn::Begin && due <= now;
        let ready = waiting.extract_if(.., |(due, _)| is_ready(*due)).map(|(_, question)| question).collect::<Vec<_>>();
        left += ready.len();
        for question in &ready {
            run.times[*question].1 = now;
        }
        if here > 0 {
            ticks.start(at(now));
            let received = ticks.received(at(now));
            run.times.resize(first + here, (now, 0));
            now += (first..first + here).map(&work).sum::<u64>();
            let due = micros(ticks.leave(received, at(now), false));
            waiting.extend((first..first + here).map(|question| (due, question)));
        }
        ticks.looked(at(begin), here + ready.len(), waiting.is_empty());
        let timer = ticks.next().map(|next| micros(next).max(now) + LATE);
        let question = came.get(run.times.len()).filter(|_| ticks.listens()).map(|came| (*came).max(now));
        now = match (timer, question) {
            (Some(timer), Some(question)) if question < timer => {
                ticks.expect(at(question));
                question
            }
            (Some(timer), _) => timer,
            (None, Some(question)) => question,
            (None, None) => now,
        };
    }
    run
}

/// Repeatable without being regular: a linear congruence (Knuth).
fn numbers(seed: u64) -> impl FnMut(u64) -> u64 {
    let mut number = seed;
    move |below| {
        number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (number >> 33) % below
    }
}

/// Questions of which some come together, some closely and some alone.
fn arrivals(seed: u64) -> Vec<u64> {
    let (mut draw, mut now) = (numbers(seed), 10_000);
    let apart = [1, 300, 1_000, 4_000, 30_000][usize::try_from(seed % 5).unwrap()];
    (0..300)
        .map(|_| {
            now += draw(apart);
            now
        })
        .collect()
}

#[test]
fn h_neither_when_questions_are_received_nor_when_answers_leave_hangs_on_the_work() {
    for seed in 1..200 {
        let came = arrivals(seed);
        // As many as come together may not take half a step.
        let most = if seed % 5 == 0 { 2 } else { 30 };
        let quick = run(&came, |_| 0);
        let slow = run(&came, |question| numbers(seed + question as u64)(most));
        assert_eq!(quick.times, slow.times, "{seed}");
    }
}

#[test]
fn h_an_answer_waits_half_a_step_at_least_and_a_step_and_a_half_at_most_and_a_wake_serves_many() {
    for seed in 1..200 {
        let came = arrivals(seed);
        let Run { times, wakes } = run(&came, |_| 1);
        for (came, (received, left)) in came.iter().zip(&times) {
            let (waited, held) = (left - came, left - received);
            assert!(waited <= 3_000 + 2 * LATE, "{seed}: {waited}");
            assert!(held >= 1_000 - LATE, "{seed}: {held}");
        }
        let steps = usize::try_from((times.last().unwrap().1 - came[0]) / 2_000).unwrap();
        assert!(wakes <= 2 * (steps + 1) + 2 * came.len().min(steps + 1), "{seed}: {wakes} in {steps}");
        if seed % 5 < 3 {
            assert!(wakes <= 2 * steps + 4, "{seed}: {wakes} in {steps}");
        }
    }
}

#[test]
fn h_one_alone_is_answered_after_a_step_by_two_wakes() {
    let came: Vec<u64> = (1..50).map(|n| 10_000 * n).collect();
    let Run { times, wakes } = run(&came, |_| 50);
    assert!(came.iter().zip(&times).all(|(came, times)| *times == (*came, came + 2_000 + LATE)), "{times:?}");
    assert_eq!(wakes, 2 * came.len());
}

#[test]
fn h_work_that_takes_longer_delays_its_answer_by_whole_steps_and_one_from_memory_likewise() {
    let (begin, lately) = (Instant::now(), lately());
    let mut ticks = Ticks::new(STEP, lately);
    ticks.start(begin);
    let after = |micros| begin + Duration::from_micros(micros);
    for (came, done, leaves) in
        [(0, 1_999, 2), (0, 2_000, 4), (1_000, 1_999, 2), (1_250, 5_999, 6), (1_251, 1_252, 4), (1_900, 4_100, 6)]
    {
        let leaves = begin + Duration::from_millis(leaves);
        assert_eq!(ticks.leave(ticks.received(after(came)), after(done), false), leaves, "{came} {done}");
    }
    for _ in 0..64 {
        ticks.leave(ticks.received(begin), after(5_000), false);
    }
    let early = ticks.leave(ticks.received(begin), begin, true);
    assert_eq!(early, after(6_000), "as late as those that were read");
    let late: std::collections::BTreeSet<Instant> =
        (0..5_000).map(|_| ticks.leave(ticks.received(after(1_000)), after(1_001), true)).collect();
    assert_eq!(late, [2_000, 6_000].map(after).into(), "as late as others of the middle of a step");
}

#[test]
fn a_step_of_nothing_does_not_keep_the_thread_running() {
    let mut ticks = Ticks::new(Duration::ZERO, lately());
    let now = Instant::now();
    ticks.start(now);
    assert!(ticks.advance(now) == Turn::Nothing && ticks.next().unwrap() > now);
}
