//! The attacks K in class large, and that it takes nothing from class small (INVARIANTS §5).

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::written::{Written, shelf_with};
use super::*;
use crate::config::Policy;

const PAGE: usize = 64 * 1024;

/// Bounds that are met soon.
fn quick() -> Limits {
    Limits::default().with(|limits| {
        limits.policy.time = Duration::from_millis(200);
        limits.policy.other.time = Duration::from_millis(200);
        limits.policy.other.threads = 2;
    })
}

/// Loads these octets as the policy `x` of class large, bound to a missing and an invalid key, with more lines for `[policies]`.
fn load_beside(octets: &[u8], limits: Limits, more: &str) -> Result<Policies, Error> {
    let (_dir, dir) = shelf_with(octets);
    let modules: BTreeMap<String, Module> = toml::from_str(&format!("x.size = \"large\"\n{more}")).unwrap();
    let bindings = Policy { dir, ..bindings("x") };
    Policies::load(&bindings, &modules, &Arc::new(limits), &Trial::waived()).map_err(bare)
}

fn load_large(octets: &[u8], limits: Limits) -> Result<Policies, Error> {
    load_beside(octets, limits, "")
}

/// The same component with a section that means nothing and has so many octets.
fn padded(octets: &[u8], more: u32) -> Vec<u8> {
    // Custom (0), its length in five octets of LEB128, and an empty name.
    let length = (0..5).map(|n| u8::try_from((more >> (7 * n)) & 127).unwrap() | if n < 4 { 128 } else { 0 });
    let padding = vec![0_u8; usize::try_from(more).unwrap()];
    [octets, &[0], &length.collect::<Vec<u8>>(), &padding].concat()
}

/// Grows its memory by so many pages, writes to the last octet, and accepts; or traps.
fn grows(pages: usize) -> Written {
    Written::deciding(&format!(
        "(if (i32.eq (memory.grow (i32.const {pages})) (i32.const -1)) (then unreachable))
         (i32.store8 (i32.sub (i32.mul (memory.size) (i32.const {PAGE})) (i32.const 1)) (i32.const 1)) (i32.const 128)"
    ))
}

/// Does not decide before its time is up.
fn endless() -> Written {
    Written { decide: "(loop $l (br $l)) (i32.const 128)".into(), ..Written::wanting(64) }
}

async fn fault(written: &Written) -> Option<String> {
    let policies = load_large(&written.component(), quick()).unwrap();
    one(&policies, &mail(1), &wrong_key()).await.fault
}

#[test]
fn a_component_that_is_too_large_for_class_small_is_refused_with_the_line_to_write_and_loads_with_it() {
    let octets = padded(&Written::default().component(), 5 << 20);
    let refused = sealed::load_octets(&octets, quick()).unwrap_err();
    assert!(matches!(refused, Error::TooLarge { size: Size::Small, .. }), "{refused}");
    let said = refused.to_string();
    assert!(said.contains("larger than 4 MiB") && said.contains("size = \"large\" into its [policies.ID]"), "{said}");
    assert!(load_large(&octets, quick()).unwrap().list().iter().any(|policy| policy.id == "x"));
    let beyond = load_large(&padded(&octets, 44 << 20), quick()).unwrap_err();
    assert!(matches!(beyond, Error::TooLarge { size: Size::Large, .. }), "{beyond}");
    let said = beyond.to_string();
    assert!(said.contains("larger than 48 MiB") && !said.contains("size ="), "{said}");
}

#[tokio::test]
async fn k1_a_loop_ends_with_the_time_of_its_class() {
    let begin = Instant::now();
    assert_eq!(fault(&endless()).await.as_deref(), Some("ran longer than 200 ms"));
    assert!(begin.elapsed() >= Duration::from_millis(200), "{:?}", begin.elapsed());
}

#[tokio::test]
async fn k2_a_memory_grows_to_the_bound_of_its_class_and_no_further() {
    let room = Limits::default().policy.other.memory / PAGE;
    assert_eq!(fault(&grows(room - 1)).await, None);
    assert_eq!(fault(&grows(room)).await.as_deref(), Some("wanted more than 128 MiB of memory"));
    let small = sealed::load_written(&grows(room - 1)).unwrap();
    let fault = one(&small, &mail(1), &wrong_key()).await.fault;
    assert_eq!(fault.as_deref(), Some("wanted more than 16 MiB of memory"), "class small has its own bound");
}

#[tokio::test]
async fn k3_a_stack_a_trap_and_a_result_have_their_bounds() {
    let recursion = Written {
        items: "(func $again (param i64) (result i64) (i64.add (call $again (local.get 0)) (local.get 0)))".into(),
        ..Written::deciding("(drop (call $again (i64.const 1))) (i32.const 128)")
    };
    assert_eq!(fault(&recursion).await.as_deref(), Some("used up its stack"));
    let trap = fault(&Written::deciding("unreachable")).await.unwrap();
    assert!(trap.starts_with("trapped"), "{trap}");
    // A reason of a whole MiB.
    let talk = "(drop (memory.grow (i32.const 32))) (i32.store (i32.const 136) (i32.const 1048576)) (i32.const 128)";
    assert_eq!(fault(&Written::deciding(talk)).await.as_deref(), Some("handed back more than 65536 octets"));
}

/// Faults where anything is in its memory that its module does not say, beyond what stays resident too; then writes over it.
fn tracing(times: usize) -> Written {
    let end = 3 << 20;
    let look = format!(
        "(if (global.get $mark) (then unreachable)) (global.set $mark (i32.const 1))
         (local.set $facts (i32.const 32768))
         (loop $next
             (if (i64.ne (i64.load (local.get $facts)) (i64.const 0)) (then unreachable))
             (i64.store (local.get $facts) (i64.const -1))
             (local.set $facts (i32.add (local.get $facts) (i32.const 512)))
             (br_if $next (i32.lt_u (local.get $facts) (i32.const {end}))))"
    );
    Written {
        items: "(global $mark (mut i32) (i32.const 0))".into(),
        decide: format!("(drop (memory.grow (i32.const 63))) {} (i32.const 128)", look.repeat(times)),
        ..Written::wanting(64)
    }
}

#[tokio::test]
async fn k13_nothing_of_one_instance_is_there_for_the_next_in_the_same_place() {
    let octets = tracing(1).component();
    let more: String = (0..24).map(|n| format!("[y{n}]\nmodule = \"x.wasm\"\nsize = \"large\"\n")).collect();
    let policies = load_beside(&octets, quick(), &more).unwrap();
    let (mail, found) = (mail(1), wrong_key());
    let large: Vec<_> = policies.all.iter().filter(|policy| policy.guest.size() == Size::Large).collect();
    // More than the 20 places of two threads, so that each place goes from one policy to another.
    assert_eq!(large.len(), 25);
    for round in 0..20 {
        for policy in &large {
            let (facts, _) = facts::gather(&mail, &found, &policy.wanted, vec![0]).next().unwrap();
            let decided = policies.threads.decide(policy, &facts).await;
            let accepted = decided.map(|decided| decided.disposition) == Ok(contract::Disposition::Accept);
            assert!(accepted, "{} in round {round}", policy.id);
        }
    }
    // It would be seen: the second look in one instance finds what the first one left.
    let seen = fault(&tracing(2)).await.unwrap();
    assert!(seen.starts_with("trapped"), "{seen}");
}

#[tokio::test]
async fn a_large_policy_that_takes_all_its_time_holds_up_no_message_of_small_ones() {
    let limits = quick().with(|limits| {
        limits.policy.other.time = Duration::from_secs(20);
        limits.policy.message = Duration::from_secs(60);
    });
    let octets = endless().component();
    let policies = Arc::new(load_beside(&octets, limits, "rules.settings.rules = [\"otherwise accept\"]").unwrap());
    let done = Arc::new(AtomicBool::new(false));
    // More of them than their threads take.
    let running: Vec<_> = (0..6)
        .map(|_| {
            let (policies, done) = (Arc::clone(&policies), Arc::clone(&done));
            tokio::spawn(async move {
                let decision = one(&policies, &mail(1), &wrong_key()).await;
                done.store(true, Ordering::Relaxed);
                decision
            })
        })
        .collect();
    tokio::task::yield_now().await;
    let small = policies.all.iter().find(|policy| policy.id == "rules").unwrap();
    for n in 0..200 {
        let valid = Found::bare(KeyStatus::Valid, None, None);
        assert_eq!(one(&policies, &mail(1), &valid).await.fault, None, "{n}");
        let facts = Facts::of(contract::KeyStatus::Invalid);
        policies.threads.decide(small, &facts).await.unwrap();
    }
    assert!(!done.load(Ordering::Relaxed), "all that ran while none of the large decisions was done");
    running.into_iter().for_each(|task| task.abort());
}

#[test]
fn what_class_large_takes_is_there_while_a_policy_of_it_is() {
    let sandbox = Sandbox::new(&Arc::new(quick())).unwrap();
    assert!(!sandbox.has_large());
    let octets = Written::default().component();
    let small = sandbox.load(&octets, Size::Small).unwrap();
    assert!(!sandbox.has_large() && small.size() == Size::Small);
    let [one, other] = [(); 2].map(|()| sandbox.load(&octets, Size::Large).unwrap());
    assert!(sandbox.has_large() && one.size() == Size::Large);
    drop(one);
    assert!(sandbox.has_large());
    assert_eq!(other.time(), Duration::from_millis(200));
    drop(other);
    assert!(!sandbox.has_large());
}

#[test]
fn what_passed_its_trial_in_class_large_is_tried_again_in_class_small() {
    let octets = Written::default().component();
    let sandbox = Sandbox::new(&Arc::new(quick())).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("tester");
    let digest = shelf::hex(&<sha2::Sha256 as sha2::Digest>::digest(&octets));
    let said = dir.path().join("said");
    let script =
        format!("#!/bin/sh\necho \"${{ADDRAUTH_TRIAL-small}}\" >> {}\nprintf 'passes {digest}'\n", said.display());
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let trial = Trial::by(program, ["try"]);
    for size in [Size::Large, Size::Large, Size::Small, Size::Small, Size::Large] {
        trial.load(&sandbox, &octets, size).unwrap();
    }
    assert_eq!(std::fs::read_to_string(said).unwrap(), "large\nsmall\n");
}
