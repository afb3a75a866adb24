//! The trial of a component: a child process under limits of its own compiles it before this process does.
//!
//! A compiler works on foreign input with no bound of its own: some kilobytes can cost it gigabytes and minutes, and it
//! cannot be interrupted. The child can be ended, whatever it is doing.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::Signal;
use sha2::{Digest, Sha256};

use super::sandbox::{Guest, Refused, Sandbox, check_outline};
use super::shelf::hex;
use crate::config::{Limits, Size};

mod child;

pub use child::answer;

/// Between two looks whether the child is done: it takes some 50 ms.
const PAUSE: Duration = Duration::from_millis(5);
/// How the answer of a child begins that could compile it; the component's digest follows.
const PASSES: &str = "passes ";
/// What the environment of a child says where the component is of class large.
const LARGE: (&str, &str) = ("ADDRAUTH_TRIAL", "large");
/// What it says where the component will be interpreted.
const INTERPRETED: (&str, &str) = ("ADDRAUTH_TRIAL_ENGINE", "interpreter");
/// How the answer begins that says why it cannot be compiled.
const REFUSED: &str = "refused: ";

/// How components from files are tried before this process compiles them. Shipped ones are part of this program.
///
/// What passed is remembered by its digest, for all clones of this value: a reload tries only what has changed.
#[derive(Clone, Debug)]
pub struct Trial {
    /// Absent: not at all.
    child: Option<Arc<Tester>>,
    passed: Arc<Mutex<BTreeSet<String>>>,
}

#[derive(Clone, Debug)]
struct Tester {
    program: PathBuf,
    arguments: Vec<OsString>,
    /// All of its environment.
    environment: Vec<(OsString, OsString)>,
}

impl Trial {
    /// By this program with these arguments; it has to call [`answer`] with the same [`Limits`], and nothing else. It gets the
    /// component on its standard input, and of the environment what [`Trial::with`] says, `ADDRAUTH_TRIAL=large` where that is its
    /// class (then [`answer`] keeps to the bounds of that class), and `ADDRAUTH_TRIAL_ENGINE=interpreter` where it is to be
    /// interpreted.
    pub fn by<A: Into<OsString>>(program: impl Into<PathBuf>, arguments: impl IntoIterator<Item = A>) -> Trial {
        let arguments = arguments.into_iter().map(Into::into).collect();
        let tester = Tester { program: program.into(), arguments, environment: Vec::new() };
        Trial { child: Some(Arc::new(tester)), passed: Arc::default() }
    }

    /// The same with this variable in the environment: an allocator that reserves address space beforehand, which counts against
    /// `policy_trial_memory`, may have to be told not to.
    #[must_use]
    pub fn with(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Trial {
        if let Some(tester) = &mut self.child {
            Arc::make_mut(tester).environment.push((name.into(), value.into()));
        }
        self
    }

    /// Not at all: for programs that load only components of their own making. A hostile component can take all memory and a
    /// processor for minutes.
    pub fn waived() -> Trial {
        Trial { child: None, passed: Arc::default() }
    }

    /// Tries a component of this class and then loads it.
    pub(crate) fn load(&self, sandbox: &Sandbox, octets: &[u8], size: Size) -> Result<Guest, Refused> {
        let limits = sandbox.limits().of(size);
        self.run(octets, &hex(&Sha256::digest(octets)), &limits, &AtomicBool::new(false))?;
        sandbox.load(octets, size)
    }

    /// Tries a component of this SHA-256, under the limits of its class. It blocks for at most `policy_compile`, or until `given_up` is
    /// set; then the child is ended. Either way it leaves no process behind.
    pub(crate) fn run(
        &self,
        octets: &[u8],
        digest: &str,
        limits: &Limits,
        given_up: &AtomicBool,
    ) -> Result<(), Refused> {
        check_outline(octets, limits)?;
        let Some(tester) = &self.child else { return Ok(()) };
        let passed = || self.passed.lock().unwrap_or_else(PoisonError::into_inner);
        // What passes in one class need not in another one.
        let tried = format!("{} {digest}", limits.policy.size.word());
        if passed().contains(&tried) {
            return Ok(());
        }
        let untold = |e: std::io::Error| Refused::Untried(tester.untold(&e));
        let mut child = tester.spawn(octets, limits).map_err(untold)?;
        let begin = Instant::now();
        let status = loop {
            match child.try_wait() {
                Ok(Some(status)) => break status,
                Ok(None) if begin.elapsed() < limits.policy.compile && !given_up.load(Ordering::Relaxed) => {
                    std::thread::sleep(PAUSE);
                }
                ended => {
                    // Neither fails for a child that has not been waited for.
                    let _ = child.kill();
                    let _ = child.wait();
                    return Err(match ended {
                        Err(e) => untold(e),
                        Ok(_) if given_up.load(Ordering::Relaxed) => Refused::Untried("nobody waits for it".into()),
                        Ok(_) => Refused::CompileTime { most: limits.policy.compile, size: limits.policy.size },
                    });
                }
            }
        };
        verdict(&said(&mut child, limits.policy.trial_answer), status, digest, limits)?;
        let mut passed = passed();
        if passed.len() >= limits.policy.trials_known {
            passed.clear();
        }
        passed.insert(tried);
        Ok(())
    }
}

impl Tester {
    /// Why no child could be had, and the way out where the system has no such program.
    fn untold(&self, error: &std::io::Error) -> String {
        let way = match self.program.starts_with("/proc") && error.kind() == std::io::ErrorKind::NotFound {
            true => ". This program finds itself there: mount /proc where it runs (in its chroot or container)",
            false => "",
        };
        format!("{}: {error}{way}", self.program.display())
    }

    fn spawn(&self, octets: &[u8], limits: &Limits) -> std::io::Result<Child> {
        // In memory: nothing has to be written while the child reads, and no directory has to be writable.
        let mut file = std::fs::File::from(memfd_create("policy", MemfdFlags::CLOEXEC)?);
        file.write_all(octets)?;
        file.rewind()?;
        let mut command = Command::new(&self.program);
        command
            .arg0("addrauth")
            .args(&self.arguments)
            .env_clear()
            .envs(self.environment.iter().cloned())
            .envs((limits.policy.size == Size::Large).then_some(LARGE))
            .envs(limits.policy.interpreter.then_some(INTERPRETED))
            .current_dir("/");
        command.stdin(file).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()
    }
}

/// The answer of a child that has ended, so many octets of it at most.
fn said(child: &mut Child, most: u64) -> String {
    let mut octets = Vec::new();
    if let Some(out) = &mut child.stdout {
        // What cannot be read is no answer, and no answer is a refusal.
        let _ = out.take(most).read_to_end(&mut octets);
    }
    String::from_utf8_lossy(&octets).into_owned()
}

/// What the child's end means. Only the whole answer counts: another program may well end with 0.
fn verdict(said: &str, status: ExitStatus, digest: &str, limits: &Limits) -> Result<(), Refused> {
    let text = |text: &str| super::printable(text, limits.policy.text);
    let signal = status.signal().and_then(Signal::from_named_raw);
    match (status.code(), signal) {
        (Some(0), _) if said.strip_prefix(PASSES) == Some(digest) => Ok(()),
        (Some(1), _) if said.starts_with(REFUSED) => {
            Err(Refused::Compile(text(said.strip_prefix(REFUSED).unwrap_or_default())))
        }
        (_, Some(Signal::XCPU)) => Err(Refused::TrialTime { most: limits.policy.trial_time, size: limits.policy.size }),
        // An allocation that fails aborts; a stack that ends does too.
        (_, Some(Signal::ABORT | Signal::SEGV | Signal::BUS)) => {
            Err(Refused::TrialMemory { most: limits.policy.trial_memory, size: limits.policy.size })
        }
        _ => Err(Refused::Untried(text(&format!("it ended with {status} and said {said:?}")))),
    }
}

#[cfg(test)]
mod tests;
