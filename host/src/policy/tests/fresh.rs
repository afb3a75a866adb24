//! Places that many instances take one after the other: nothing of one is there for the next.

use super::sealed::load_written;
use super::written::Written;
use super::*;

/// Faults where anything but what the module says is in its memory or its global; writes over all of it, and accepts. It looks at
/// data at 1024 and at the upper half of a page, and does so as often.
fn tracing(times: usize) -> Written {
    let look =
        "(if (i32.or (global.get $mark) (i32.ne (i32.load8_u (i32.const 1024)) (i32.const 97))) (then unreachable))
        (global.set $mark (i32.const 1)) (i32.store8 (i32.const 1024) (i32.const 98))
        (local.set $facts (i32.const 32768))
        (loop $next
            (if (i64.ne (i64.load (local.get $facts)) (i64.const 0)) (then unreachable))
            (i64.store (local.get $facts) (i64.const -1))
            (local.set $facts (i32.add (local.get $facts) (i32.const 8)))
            (br_if $next (i32.lt_u (local.get $facts) (i32.const 65536))))";
    Written {
        items: "(global $mark (mut i32) (i32.const 0)) (data (i32.const 1024) \"a\")".into(),
        decide: format!("{} (i32.const 128)", look.repeat(times)),
        ..Written::wanting(64)
    }
}

/// More policies than the pool has places, so that each place goes from one policy to another. With fewer, each would keep its own.
const POLICIES: usize = 139;

/// Policies of which each looks for what others may have left, in one sandbox.
fn many() -> Policies {
    let (octets, dir) = (tracing(1).component(), tempfile::tempdir().unwrap());
    let ids: Vec<String> = (0..POLICIES).map(|n| format!("x{n}")).collect();
    for id in &ids {
        std::fs::write(dir.path().join(format!("{id}.wasm")), &octets).unwrap();
    }
    let bindings = config::Policy { dir: dir.path().into(), user_may: ids, ..config::Policy::default() };
    Policies::load(&bindings, &BTreeMap::new(), &limits(), &Trial::waived()).unwrap()
}

#[test]
fn k13_policies_that_decide_at_once_find_nothing_of_each_other_in_their_places() {
    let policies = many();
    let all: Vec<&Arc<Shelved>> = policies.all.iter().filter(|policy| policy.id.starts_with('x')).collect();
    assert_eq!(all.len(), POLICIES);
    let (mail, found) = (mail(1), wrong_key());
    let decide = |policy: &Shelved, n: usize| {
        let (facts, _) = facts::gather(&mail, &found, &policy.wanted, vec![0]).next().unwrap();
        let decided = policies.sandbox.decide(&policy.guest, &facts, &policy.settings);
        assert_eq!(decided.map(|decided| decided.disposition), Ok(contract::Disposition::Accept), "{n}");
    };
    // A thread begins with the places of another processor than the one before it.
    for n in (0..600).step_by(2) {
        std::thread::scope(|scope| {
            for n in [n, n + 1] {
                let (decide, policy) = (&decide, all[n % POLICIES]);
                scope.spawn(move || decide(policy, n));
            }
        });
    }
    assert!(policies.sandbox.are_all_places_used(), "fewer places than policies were used, and none by two of them");
    // It would be seen: the second look in one instance finds what the first one left.
    let twice = load_written(&tracing(2)).unwrap().decide_here(&mail, &found);
    assert!(twice[0].fault.as_ref().is_some_and(|fault| fault.starts_with("trapped")), "{:?}", twice[0].fault);
}
