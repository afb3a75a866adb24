//! Verbs of the program, run for a page: bounded in time and in what they say.

use std::io::{Read, Write as _};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tokio::time::timeout;

use crate::desk::{Desk, Verbs};
use crate::fault::Fault;

/// Octets of what a verb says that are shown.
const SAID: u64 = 256 * 1024;
/// Octets of one argument: the system takes 128 KiB.
const ARGUMENT: usize = 100 * 1024;
/// How long a verb may take: `doctor` asks servers of others.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks whether it ended.
const LOOK: Duration = Duration::from_millis(10);
/// Verbs at once: each is a process.
const AT_ONCE: usize = 2;

static ROOM: tokio::sync::Semaphore = tokio::sync::Semaphore::const_new(AT_ONCE);

/// What a verb said.
#[derive(Debug)]
pub(crate) struct Said {
    /// Whether its exit code is 0.
    pub(crate) good: bool,
    /// Its standard output, and standard error behind it.
    pub(crate) text: String,
    /// Its standard output alone.
    out: String,
}

impl Said {
    /// What it said as JSON; null where it said none.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_default()
    }

    /// The same of a verb that says one such value a line.
    pub(crate) fn json_lines(&self) -> Vec<serde_json::Value> {
        self.out.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }
}

/// Runs a verb with this on its standard input.
///
/// # Errors
/// It cannot be run, or takes too long.
pub(crate) async fn run(desk: &Desk, words: &[&str], input: &[u8]) -> Result<Said, Fault> {
    let Some(verbs) = desk.verbs.clone() else {
        return Err(Fault::Refused("this console was started without the program that can tell".into()));
    };
    if words.iter().any(|word| word.len() > ARGUMENT) {
        return Err(Fault::TooLarge);
    }
    if words.iter().any(|word| word.contains('\0')) {
        return Err(Fault::Refused("no text here has a zero octet".into()));
    }
    let room = timeout(PATIENCE, ROOM.acquire()).await.map_err(|_| Fault::TooMany)?;
    let (words, input) = (words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>(), input.to_owned());
    let running = tokio::task::spawn_blocking(move || {
        let said = attended(&verbs, &words, input);
        drop(room);
        said
    });
    running.await.map_err(|fault| Fault::Trouble(fault.to_string()))?
}

/// Runs it, and ends it where it takes too long.
fn attended(Verbs { program, arguments }: &Verbs, words: &[String], input: Vec<u8>) -> Result<Said, Fault> {
    let trouble = |fault: std::io::Error| Fault::Trouble(format!("{}: {fault}", program.display()));
    // What a verb puts there goes with it, also where it is ended.
    let scratch = tempfile::tempdir().map_err(trouble)?;
    let mut child = Command::new(program)
        .args(arguments)
        .args(words)
        .env("ADDRAUTH_LOG", "off")
        .env("TMPDIR", scratch.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(trouble)?;
    if let Some(mut stdin) = child.stdin.take() {
        // A verb that reads nothing closes it; that is no fault.
        thread::spawn(move || stdin.write_all(&input));
    }
    let out = child.stdout.take().map(|stdout| thread::spawn(move || heard(stdout)));
    let err = child.stderr.take().map(|stderr| thread::spawn(move || heard(stderr)));
    let begin = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().map_err(trouble)? {
            break status;
        }
        if begin.elapsed() >= PATIENCE {
            child.kill().and_then(|()| child.wait()).map_err(trouble)?;
            return Err(Fault::Late);
        }
        thread::sleep(LOOK);
    };
    let [out, err] = [out, err].map(|hearing| hearing.and_then(|hearing| hearing.join().ok()).unwrap_or_default());
    // Standard error has it in words.
    let is_refusal = |said: serde_json::Value| said["ok"] == false && said["error"].is_string();
    let out = if serde_json::from_str(&out).is_ok_and(is_refusal) { String::new() } else { out };
    Ok(Said { good: status.success(), text: format!("{out}{err}"), out })
}

fn heard(stream: impl Read) -> String {
    let mut octets = Vec::new();
    // What was heard up to a fault is shown.
    let _ = stream.take(SAID).read_to_end(&mut octets);
    String::from_utf8_lossy(&octets).into_owned()
}
