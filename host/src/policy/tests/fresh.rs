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

#[test]
fn k13_threads_that_decide_at_once_find_nothing_of_each_other_in_their_places() {
    let all = [load_written(&tracing(1)).unwrap(), load_written(&tracing(1)).unwrap()];
    std::thread::scope(|scope| {
        for first in 0..2 {
            let all = &all;
            scope.spawn(move || {
                for n in 0..400 {
                    let decided = all[(first + n / 7) % 2].decide_here(&mail(1), &wrong_key());
                    assert_eq!((decided[0].disposition, &decided[0].fault), (Disposition::Accept, &None), "{n}");
                }
            });
        }
    });
    // It would be seen: the second look in one instance finds what the first one left.
    let twice = load_written(&tracing(2)).unwrap().decide_here(&mail(1), &wrong_key());
    assert!(twice[0].fault.as_ref().is_some_and(|fault| fault.starts_with("trapped")), "{:?}", twice[0].fault);
}
