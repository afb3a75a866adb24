//! All memories of a component together have the room of one, and so have its tables (attack K2).

use super::sealed::{load_octets, load_written};
use super::written::Written;
use super::*;

const PAGE: usize = 64 * 1024;

/// LEB128, as WebAssembly writes numbers.
fn leb(mut number: usize) -> Vec<u8> {
    let mut out = Vec::new();
    loop {
        let low = u8::try_from(number & 127).unwrap();
        number >>= 7;
        out.push(if number == 0 { low } else { low | 128 });
        if number == 0 {
            return out;
        }
    }
}

fn section(id: u8, body: &[u8]) -> Vec<u8> {
    [&[id], leb(body.len()).as_slice(), body].concat()
}

/// The same component with these core modules besides, each of them instantiated; `policy` is the policy's own module to them.
fn with_modules(written: &Written, others: &[&str]) -> Vec<u8> {
    let mut octets = written.component();
    for (index, text) in others.iter().enumerate() {
        let module = wat::parse_str(text).unwrap();
        octets.extend(section(1, &module));
        // A list of one: instantiate (0) the module of this index, with one argument: instance 0 by its name. The policy's own
        // module and instance have index 0.
        octets.extend(section(2, &[&[1, 0], leb(index + 1).as_slice(), b"\x01\x06policy\x12\0"].concat()));
    }
    octets
}

/// A module that grows its memory by so many pages when it starts, and traps where that fails.
fn growing(begin: usize, more: usize) -> String {
    format!(
        "(module (memory {begin}) (func $s (if (i32.eq (memory.grow (i32.const {more})) (i32.const -1)) (then unreachable)))
         (start $s))"
    )
}

async fn fault(octets: &[u8]) -> Option<String> {
    let policies = load_octets(octets, Limits::clone(&limits())).unwrap();
    one(&policies, &mail(1), &wrong_key()).await.fault
}

/// Grows the policy's own memory by so many pages and accepts, or traps.
fn grows(pages: usize) -> Written {
    Written::deciding(&format!(
        "(if (i32.eq (memory.grow (i32.const {pages})) (i32.const -1)) (then unreachable)) (i32.const 128)"
    ))
}

const TOO_MUCH: &str = "wanted more than 16 MiB of memory";

#[tokio::test]
async fn k2_two_modules_have_together_the_memory_of_one() {
    let room = limits().policy.memory / PAGE;
    for (begin, started, more, whole) in [
        // One page is the policy's own from the beginning.
        (1, 0, room - 2, true),
        (1, 0, room - 1, false),
        (1, room / 2, room / 2 - 2, true),
        (1, room / 2, room / 2 - 1, false),
        (room / 2, 0, room / 2 - 1, true),
        (room / 2, 0, room / 2, false),
        (room - 1, 0, 0, true),
        (room - 1, 0, 1, false),
    ] {
        let said = fault(&with_modules(&grows(more), &[&growing(begin, started)])).await;
        let expected = (!whole).then(|| TOO_MUCH.to_owned());
        assert_eq!(said, expected, "{begin} pages, {started} more at the start, {more} when it decides");
    }
}

#[test]
fn k2_what_a_component_begins_with_counts_and_so_does_what_its_start_functions_take() {
    let room = limits().policy.memory / PAGE;
    for (begin, started) in [(room, 0), (1, room - 1), (room / 2, room / 2)] {
        let octets = with_modules(&Written::default(), &[&growing(begin, started)]);
        let refused = load_octets(&octets, Limits::clone(&limits())).unwrap_err().to_string();
        assert!(refused.contains(TOO_MUCH), "{begin}, {started}: {refused}");
    }
}

#[test]
fn k2_memories_that_grow_in_turns_have_together_the_room_of_one() {
    let turns = |rounds: usize| {
        let other = format!(
            "(module (import \"policy\" \"memory\" (memory $first 1)) (memory $second 1)
                (func $s (local $left i32) (local.set $left (i32.const {rounds}))
                    (loop $l
                        (drop (memory.grow $first (i32.const 16))) (drop (memory.grow $second (i32.const 16)))
                        (br_if $l (local.tee $left (i32.sub (local.get $left) (i32.const 1))))))
                (start $s))"
        );
        load_octets(&with_modules(&Written::default(), &[&other]), Limits::clone(&limits()))
    };
    // 1 MiB for each of both a round, beside the two pages that they begin with.
    turns(7).unwrap();
    let refused = turns(8).unwrap_err().to_string();
    assert!(refused.contains(TOO_MUCH), "{refused}");
}

#[tokio::test]
async fn k2_three_modules_have_no_more_than_two() {
    let other = growing(1, 100);
    let refused = load_octets(&with_modules(&grows(1), &[&other, &other]), Limits::clone(&limits())).unwrap_err();
    assert!(matches!(&refused, Error::Refused { why: Refused::Compile(_), .. }), "{refused}");
    assert!(refused.to_string().contains("memories"), "{refused}");
    // The third may use the memory of another, but makes none.
    let none = "(module (func $s) (start $s))";
    assert_eq!(fault(&with_modules(&grows(1), &[&other, none])).await, None);
    assert_eq!(fault(&with_modules(&grows(200), &[&other, none])).await.as_deref(), Some(TOO_MUCH));
}

#[tokio::test]
async fn k2_the_tables_of_a_component_have_together_the_elements_of_one() {
    let grow = |elements: usize| Written {
        items: "(table $t 9000 funcref)".into(),
        ..Written::deciding(&format!("(drop (table.grow $t (ref.null func) (i32.const {elements}))) (i32.const 128)"))
    };
    let other = "(module (table 9000 funcref))";
    assert_eq!(fault(&with_modules(&grow(2_000), &[other])).await, None);
    let said = fault(&with_modules(&grow(2_001), &[other])).await;
    assert_eq!(said.as_deref(), Some("wanted more than 20000 table elements"));
    let born = with_modules(&grow(0), &["(module (table 11001 funcref))"]);
    let refused = load_octets(&born, Limits::clone(&limits())).unwrap_err().to_string();
    assert!(refused.contains("wanted more than 20000 table elements"), "{refused}");
}

#[test]
fn k2_a_second_memory_or_a_third_table_of_one_module_is_refused() {
    for items in ["(memory 1)", "(table 1 funcref) (table 1 funcref) (table 1 funcref)"] {
        let refused = load_written(&Written { items: items.into(), ..Written::default() }).unwrap_err();
        assert!(matches!(refused, Error::Refused { .. }), "{items}: {refused}");
    }
}

#[test]
fn k2_a_memory_that_others_share_is_not_counted_and_so_is_refused() {
    let shared = "(module (memory 1 200 shared))";
    let refused = load_octets(&with_modules(&Written::default(), &[shared]), Limits::clone(&limits())).unwrap_err();
    assert!(matches!(refused, Error::Refused { .. }), "{refused}");
}
