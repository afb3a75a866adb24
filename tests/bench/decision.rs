//! What a decision costs: natively, from a finite table, in the sandbox, and through its threads: `cargo bench --bench decision`.
//!
//! Criterion tells the time of each; the comparison at the end runs them in turn, so that a busy machine slows all of
//! them alike. Only the ratios say something, and nothing passes or fails by them.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::pin::pin;
use std::sync::{Arc, Barrier};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use addrauth::case::{Decision, Disposition, Envelope, Found, Head, KeyStatus, Mail, Recipient, ReversePath};
use addrauth::config::{Limits, Policy as Bindings};
use addrauth::policy::{Policies, Trial};
use addrauth::proto::address::Address;
use addrauth::proto::record::Claim;
use addrauth_policy::{Claim as Told, Facts, KeyStatus as Status, Policy, Settings, Trail};
use addrauth_tests::bench::cost;
use criterion::Criterion;
use policy_missing_direct::MissingDirect;
use tokio::runtime::Handle;

/// Calls of each lane in a row, in one round of the comparison.
const CALLS: u32 = 200;
/// Rounds of the comparison.
const ROUNDS: usize = 101;
/// Decisions while system calls are counted.
const COUNTED: u32 = 10_000;

/// Direct mail without a key: what missing-direct was made for.
fn mail() -> Mail {
    Mail::new(
        Envelope {
            reverse_path: ReversePath::Path(None),
            size: Some(4096),
            recipients: vec![Recipient::new(b"<bob@example.com>")],
            ..Envelope::default()
        },
        Head::default(),
    )
}

fn found(status: KeyStatus) -> Found {
    Found { claim: Some(Claim::All), ..Found::bare(status, None, None) }
}

/// A thing compared: what it is called, and one call of it.
type Lane<'a> = (String, Box<dyn FnMut() + 'a>);

/// What a future has when it is first looked at, as a connection's task looks at it on its lane.
fn at_once<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("the decision was not made at once"),
    }
}

/// A text of so many lines that leaves all mail to the last one. Each line is read to its second test, or left after the first.
fn rules(lines: usize, left: bool) -> Policies {
    let result = if left { "invalid" } else { "missing" };
    let line = |n| format!("\"when result is {result} and sender is user{n}@bank.example: mark 'not from the bank'\"");
    let mut text: Vec<String> = (1..lines).map(line).collect();
    text.push("\"otherwise accept\"".into());
    let module = format!("[ours]\nmodule = \"rules\"\nsettings.rules = [{}]", text.join(", "));
    let bindings = Bindings { missing: "ours".into(), ..Bindings::default() };
    let modules = toml::from_str(&module).unwrap();
    Policies::load(&bindings, &modules, &Arc::new(Limits::default()), &Trial::waived()).unwrap()
}

/// The lanes of texts, all in the sandbox on a fresh instance.
fn texts<'a>(mail: &'a Mail) -> impl Iterator<Item = Lane<'a>> {
    let found = Found { sender: Address::parse(b"alice@shop.example", false).ok(), ..found(KeyStatus::Missing) };
    [(2, false), (10, false), (50, false), (200, false), (200, true)].into_iter().map(move |(lines, left)| {
        let (policies, found) = (rules(lines, left), found.clone());
        let decided = policies.decide_here(mail, &found);
        assert_eq!((decided[0].disposition, &decided[0].fault), (Disposition::Accept, &None));
        let name = format!("rules, {lines} lines{}", if left { ", left early" } else { "" });
        let call = move || {
            black_box(policies.decide_here(black_box(mail), &found));
        };
        (name, Box::new(call) as Box<dyn FnMut() + 'a>)
    })
}

fn lanes<'a>(policies: &'a Policies, mail: &'a Mail, facts: &'a Facts) -> Vec<Lane<'a>> {
    let (missing, none) = (found(KeyStatus::Missing), found(KeyStatus::None));
    let (here, settings) = (missing.clone(), Settings::defaults(&MissingDirect::describe()));
    let own: [Lane<'a>; 4] = [
        (
            "native".into(),
            Box::new(move || {
                black_box(MissingDirect::decide(black_box(facts), &settings));
            }),
        ),
        (
            "finite table".into(),
            Box::new(move || {
                black_box(at_once(policies.decide(black_box(mail), &none, &[])));
            }),
        ),
        (
            "sandbox, fresh instance".into(),
            Box::new(move || {
                black_box(policies.decide_here(black_box(mail), &here));
            }),
        ),
        (
            "sandbox, as the filter asks".into(),
            Box::new(move || {
                black_box(policies_asked(policies, black_box(mail), &missing));
            }),
        ),
    ];
    own.into_iter().chain(texts(mail)).collect()
}

/// As the filter asks. A machine that takes the time of a policy has the decision made on a thread apart.
fn policies_asked(policies: &Policies, mail: &Mail, found: &Found) -> Vec<Decision> {
    let mut asked = pin!(policies.decide(mail, found, &[]));
    match asked.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(decided) => decided,
        Poll::Pending => Handle::current().block_on(asked),
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Nanoseconds for each lane, round by round.
fn compare(lanes: &mut [Lane]) -> Vec<Vec<f64>> {
    let mut times = vec![Vec::new(); lanes.len()];
    for round in 0..=ROUNDS {
        for (lane, times) in lanes.iter_mut().zip(&mut times) {
            let begin = Instant::now();
            for _ in 0..CALLS {
                (lane.1)();
            }
            // The first round fills caches.
            if round > 0 {
                times.push(begin.elapsed().as_secs_f64() * 1e9 / f64::from(CALLS));
            }
        }
    }
    times
}

fn main() {
    let bindings = Bindings { missing: "missing-direct".into(), ..Bindings::default() };
    let policies = Policies::load(&bindings, &BTreeMap::new(), &Arc::new(Limits::default()), &Trial::waived()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    // Timers belong to a runtime; nothing waits for one.
    let _entered = runtime.enter();
    let mail = mail();
    let mut facts = Facts::of(Status::Missing);
    (facts.claim, facts.trail) = (Some(Told::All), Some(Trail::empty()));
    let decided = policies_asked(&policies, &mail, &found(KeyStatus::Missing));
    assert_eq!((decided[0].disposition, &decided[0].fault), (Disposition::Mark, &None));
    assert_eq!(policies.decide_here(&mail, &found(KeyStatus::Missing)), decided);

    let mut lanes = lanes(&policies, &mail, &facts);
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    for (name, call) in &mut lanes {
        criterion.bench_function(name.as_str(), |bencher| bencher.iter(&mut *call));
    }
    let times = compare(&mut lanes);
    let here = || {
        black_box(policies.decide_here(black_box(&mail), &found(KeyStatus::Missing)));
    };
    println!("{ROUNDS} rounds of {CALLS} calls each, in turn");
    println!("{:<26} {:>12} {:>12} {:>12}", "", "median ns", "to native", "to sandbox");
    for ((name, _), own) in lanes.iter().zip(&times) {
        let ratio = |to: usize| median(own.iter().zip(&times[to]).map(|(own, other)| own / other).collect());
        println!("{name:<26} {:>12.0} {:>12.2} {:>12.3}", median(own.clone()), ratio(0), ratio(2));
    }
    let native = Settings::defaults(&MissingDirect::describe());
    let natively = || {
        // As long as a decision in the sandbox takes: two threads meet at the end of each round.
        (0..100).for_each(|_| drop(black_box(MissingDirect::decide(black_box(&facts), &native))));
    };
    println!("two threads decide {:.2} times as much as one, in the sandbox", two_to_one(&here));
    println!(
        "{:.2} times as much natively, where nothing is shared: what the machine has to give",
        two_to_one(&natively)
    );
    let calls = cost::count(&[std::process::id()], || (0..COUNTED).for_each(|_| here()));
    let each = calls.map_or("–".into(), |counted| format!("{:.3}", counted.calls as f64 / f64::from(COUNTED)));
    println!("system calls a decision: {each}, those of the clock for deadlines included");
}

/// How much more two threads get done than one: the median of the rounds. The two live through all rounds, as lanes do.
fn two_to_one(call: &(impl Fn() + Sync)) -> f64 {
    let meet = Barrier::new(2);
    let calls = || (0..20 * CALLS).for_each(|_| call());
    let alone_and_with_the_other = || {
        let begin = Instant::now();
        calls();
        let one = begin.elapsed();
        meet.wait();
        let begin = Instant::now();
        calls();
        meet.wait();
        2.0 * one.as_secs_f64() / begin.elapsed().as_secs_f64()
    };
    let ratios = std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..ROUNDS {
                meet.wait();
                calls();
                meet.wait();
            }
        });
        let one = scope.spawn(|| (0..ROUNDS).map(|_| alone_and_with_the_other()).collect());
        one.join().unwrap()
    });
    median(ratios)
}
