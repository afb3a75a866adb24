//! A policy that does what its setting says, all of it bad: what the sandbox is tested with.

use std::sync::atomic::{AtomicI64, Ordering};

use addrauth_policy::{Decision, Description, Facts, Policy, Settings, Wanted, Wants, accept, mark};

/// The policy.
#[derive(Debug)]
pub struct Hostile;

static CALLS: AtomicI64 = AtomicI64::new(0);

impl Policy for Hostile {
    fn describe() -> Description {
        Description::new("hostile", env!("CARGO_PKG_VERSION"), "Does what `does` says.").text(
            "does",
            "the misdeed",
            None,
        )
    }

    fn check_settings(settings: &Settings) -> Result<Wanted, String> {
        if settings.text("does") == "trap-in-check" { trap() } else { Ok(Wanted::facts(Wants::SIZE)) }
    }

    fn decide(facts: &Facts, settings: &Settings) -> Decision {
        let size = facts.size.unwrap_or(1);
        match settings.text("does") {
            "loop" => loop {
                std::hint::black_box(size);
            },
            "grow" => loop {
                std::hint::black_box(vec![1_u8; 1 << 20]);
                std::mem::forget(std::hint::black_box(vec![1_u8; 1 << 20]));
            },
            "recurse" => mark(recurse(size).to_string()),
            "huge" => mark("x".repeat(4 << 20)),
            "trap" => trap(),
            "words" => mark("a\r\n250 OK %s \u{e9}\0z"),
            "state" => mark(CALLS.fetch_add(1, Ordering::Relaxed).to_string()),
            _ => accept(),
        }
    }
}

fn trap() -> ! {
    std::process::abort()
}

#[allow(unconditional_recursion, reason = "that is the misdeed")]
fn recurse(depth: u64) -> u64 {
    let room = std::hint::black_box([depth; 16]);
    recurse(depth + room[3]).wrapping_mul(room[5]) + 1
}

addrauth_policy::export!(Hostile);
