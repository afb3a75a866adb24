//! The child's side of a trial: takes limits upon itself, compiles what stands on its standard input, and says how it went.

use std::io::{Read as _, Write as _};
use std::process::ExitCode;

use rustix::process::{Resource, Rlimit, Signal, set_parent_process_death_signal, setrlimit};
use sha2::{Digest, Sha256};

use super::super::sandbox::{Refused, rehearse};
use super::super::shelf::hex;
use super::{INTERPRETED, LARGE, PASSES, REFUSED};
use crate::config::{Limits, Size};

/// Compiles the component on standard input under the processor time and memory that a trial of its class has, and says on
/// standard output how that went. What a program calls that [`super::Trial::by`] names: first of all, with one thread and nothing
/// open, since the limits are for the whole process and stay.
pub fn answer(limits: &Limits) -> ExitCode {
    let is_large = std::env::var_os(LARGE.0).is_some_and(|size| size == LARGE.1);
    let mut limits = limits.of(if is_large { Size::Large } else { Size::Small });
    limits.policy.interpreter = std::env::var_os(INTERPRETED.0).is_some_and(|engine| engine == INTERPRETED.1);
    let limits = &limits;
    let (text, code) = match confine(limits).and_then(|()| read(limits)) {
        Err(error) => (format!("cannot try it: {error}"), ExitCode::from(2)),
        Ok(octets) => match rehearse(&octets, limits) {
            Err(Refused::Compile(text)) => (format!("{REFUSED}{text}"), ExitCode::from(1)),
            Err(Refused::CompileTime { .. } | Refused::Setup(_)) => ("cannot try it".to_owned(), ExitCode::from(2)),
            // Whatever else is wrong with it, this process could find out: so can the one that asks.
            Ok(()) | Err(_) => (format!("{PASSES}{}", hex(&Sha256::digest(&octets))), ExitCode::SUCCESS),
        },
    };
    let mut out = std::io::stdout();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => code,
        Err(_) => ExitCode::from(2),
    }
}

/// Bounds this process for good. It ends with the process that asks, too.
fn confine(limits: &Limits) -> std::io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let bound = |most: u64| Rlimit { current: Some(most), maximum: Some(most) };
    let seconds = limits.policy.trial_time.as_secs().max(1);
    let memory = u64::try_from(limits.policy.trial_memory).unwrap_or(u64::MAX);
    // Where it fails is told already, and half a gigabyte of it tells no more.
    setrlimit(Resource::Core, bound(0))?;
    setrlimit(Resource::As, bound(memory))?;
    // The first says why (SIGXCPU), the second cannot be caught.
    setrlimit(Resource::Cpu, Rlimit { current: Some(seconds), maximum: Some(seconds.saturating_add(1)) })?;
    Ok(())
}

fn read(limits: &Limits) -> std::io::Result<Vec<u8>> {
    let mut octets = Vec::new();
    let room = u64::try_from(limits.policy.file).unwrap_or(u64::MAX);
    std::io::stdin().lock().take(room.saturating_add(1)).read_to_end(&mut octets)?;
    if octets.len() > limits.policy.file {
        return Err(std::io::Error::other("it is larger than a component may be"));
    }
    Ok(octets)
}
