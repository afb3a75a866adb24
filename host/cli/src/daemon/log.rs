//! The log: lines that are written by a thread of their own, so that no reader of standard error stops a message.
//!
//! A reader may be gone (EPIPE), full (ENOSPC), or stand still. Whoever logs never waits for it, never fails by it, and never
//! panics: lines that find no room, or cannot be written, are counted and told of in a later line.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tracing::Level;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use addrauth::config::Limits;
use journal::{Journal, LineFields, Records};

mod journal;

/// How long the writer rests when standard error is shared with somebody who made it non-blocking, and is full.
const FULL: Duration = Duration::from_millis(20);

/// How long the writer gathers lines once it is awake: to wake a thread for each line costs more than the line.
const GATHER: Duration = Duration::from_millis(20);

/// The log of this process, where it is a daemon.
static DAEMONS: OnceLock<Daemons> = OnceLock::new();

/// The log of a daemon.
#[derive(Debug)]
struct Daemons {
    log: Log,
    /// Whether the journal takes it, as records and not as lines.
    in_journal: bool,
}

/// Lines on their way to the writer.
#[derive(Clone, Debug)]
pub(crate) struct Log(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    waiting: Mutex<Waiting>,
    changed: Condvar,
    /// Octets that may wait.
    room: usize,
}

#[derive(Debug, Default)]
struct Waiting {
    lines: VecDeque<Vec<u8>>,
    octets: usize,
    /// Lines that nobody was told of yet.
    lost: u64,
    /// Whether the writer has lines in its hands.
    writing: bool,
    /// Whether the writer sleeps until there are lines.
    asleep: bool,
    /// How many wait until all is written: nothing is gathered then.
    flushing: u32,
}

/// What is written in one go: an event of the log.
#[derive(Debug)]
pub(crate) struct Line<'a>(&'a Log);

impl Log {
    /// Starts the writer. `tell` is called on its thread with the number of lines that were lost, once there is room again.
    ///
    /// # Errors
    /// The system's, where it has no thread left.
    pub(crate) fn start(
        sink: impl Write + Send + 'static,
        room: usize,
        tell: impl Fn(u64) + Send + 'static,
    ) -> io::Result<Log> {
        let log = Log(Arc::new(Shared { waiting: Mutex::default(), changed: Condvar::new(), room }));
        let writer = log.clone();
        thread::Builder::new().name("log".into()).spawn(move || writer.write(sink, tell))?;
        Ok(log)
    }

    /// Takes a line, or counts it as lost where there is no room. Waits for nobody.
    pub(crate) fn push(&self, line: &[u8]) {
        let mut waiting = self.waiting();
        let octets = waiting.octets.saturating_add(line.len());
        if octets > self.0.room {
            waiting.lost = waiting.lost.saturating_add(1);
        } else {
            waiting.octets = octets;
            waiting.lines.push_back(line.to_vec());
        }
        let asleep = std::mem::take(&mut waiting.asleep);
        drop(waiting);
        if asleep {
            self.0.changed.notify_all();
        }
    }

    /// Waits until everything is written, so long at most; whether it is.
    pub(crate) fn flush(&self, within: Duration) -> bool {
        let end = Instant::now() + within;
        let mut waiting = self.waiting();
        waiting.flushing = waiting.flushing.saturating_add(1);
        self.0.changed.notify_all();
        let mut written = true;
        while !waiting.lines.is_empty() || waiting.writing {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                written = false;
                break;
            }
            waiting = self.0.changed.wait_timeout(waiting, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        waiting.flushing = waiting.flushing.saturating_sub(1);
        written
    }

    /// Whether what waits is to be written at once.
    fn is_pressing(&self, waiting: &Waiting) -> bool {
        waiting.flushing > 0 || waiting.octets > self.0.room / 2
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The writer's thread; it ends with the process.
    fn write(&self, mut sink: impl Write, tell: impl Fn(u64)) {
        let mut torn = false;
        loop {
            let lines = self.take();
            let mut lost = 0_u64;
            for line in lines {
                let written = if torn { whole(&mut sink, b"\n") } else { Ok(()) };
                torn &= written.is_err();
                match written.map_err(|_| torn).and_then(|()| whole(&mut sink, &line)) {
                    Ok(()) => {}
                    Err(begun) => {
                        torn |= begun;
                        lost = lost.saturating_add(1);
                    }
                }
            }
            self.done(lost, &tell);
        }
    }

    /// All lines that wait; waits for some, and then for those that come with them.
    fn take(&self) -> VecDeque<Vec<u8>> {
        let mut waiting = self.waiting();
        while waiting.lines.is_empty() {
            waiting.asleep = true;
            waiting = self.0.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        waiting.asleep = false;
        if !self.is_pressing(&waiting) {
            drop(waiting);
            thread::sleep(GATHER);
            waiting = self.waiting();
        }
        waiting.writing = true;
        waiting.octets = 0;
        std::mem::take(&mut waiting.lines)
    }

    /// Counts lines that could not be written; where all were, tells of those that were lost before.
    fn done(&self, lost: u64, tell: impl Fn(u64)) {
        let mut waiting = self.waiting();
        waiting.lost = waiting.lost.saturating_add(lost);
        let before = if lost == 0 { std::mem::take(&mut waiting.lost) } else { 0 };
        drop(waiting);
        if before > 0 {
            tell(before);
        }
        self.waiting().writing = false;
        self.0.changed.notify_all();
    }
}

/// Writes all of it; the error tells whether a part was written.
fn whole(sink: &mut impl Write, octets: &[u8]) -> Result<(), bool> {
    let mut rest = octets;
    while !rest.is_empty() {
        match sink.write(rest) {
            Ok(0) => return Err(rest.len() < octets.len()),
            Ok(count) => rest = rest.get(count..).unwrap_or_default(),
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) if e.kind() == ErrorKind::WouldBlock => thread::sleep(FULL),
            Err(_) => return Err(rest.len() < octets.len()),
        }
    }
    Ok(())
}

impl Write for Line<'_> {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.0.push(octets);
        Ok(octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line(self)
    }
}

/// Sets the log of this process up: of a daemon as lines that wait for nobody, panics included, or as records of the journal where
/// that reads its standard error; of another verb as lines on standard error.
///
/// # Errors
/// The system's, where it has no descriptor or thread left.
pub(crate) fn install(daemon: bool, colours: bool) -> io::Result<()> {
    let (level, complaint) = level(std::env::var_os("ADDRAUTH_LOG"), if daemon { "info" } else { "warn" });
    let lines = tracing_subscriber::fmt()
        .with_env_filter(level.clone())
        .with_ansi(colours)
        .with_target(false)
        .fmt_fields(LineFields)
        // Its complaint about a line that cannot be written would be a panic where standard error is gone.
        .log_internal_errors(false);
    if daemon {
        // A descriptor of its own: who writes to `stderr()` takes a lock that a standing reader would never give back.
        let stderr = File::from(io::stderr().as_fd().try_clone_to_owned()?);
        let stream = std::env::var_os("JOURNAL_STREAM");
        let journal = Journal::of(stream.as_deref(), &stderr, Path::new(journal::SOCKET));
        let (room, in_journal) = (Limits::default().log.octets, journal.is_some());
        let tell = |lines| {
            tracing::error!(lines, "log lines are lost: they could not be written, or not fast enough");
        };
        let log = match journal {
            Some(journal) => Log::start(journal, room, tell)?,
            None => Log::start(stderr, room, tell)?,
        };
        if in_journal {
            let records = log.clone();
            let records = Records(move |record: &[u8]| records.push(record));
            tracing_subscriber::registry().with(level).with(records).init();
        } else {
            lines.with_writer(log.clone()).init();
        }
        let _ = DAEMONS.set(Daemons { log, in_journal });
        std::panic::set_hook(Box::new(|panic| {
            let place = panic.location().map(ToString::to_string).unwrap_or_default();
            let words = panic.payload_as_str().unwrap_or("without words").replace(char::is_control, " ");
            tracing::error!("panicked at {place}: {words}");
        }));
    } else {
        lines.with_writer(io::stderr).init();
    }
    if let Some(complaint) = complaint {
        tracing::warn!("{complaint}");
    }
    Ok(())
}

/// Says something on standard error that is no line of the log; of a daemon it goes the way of the log.
pub(crate) fn say(text: &str) {
    match DAEMONS.get() {
        Some(Daemons { log, in_journal: true }) => log.push(&journal::record(&Level::ERROR, text, &[])),
        Some(Daemons { log, in_journal: false }) => log.push(text.as_bytes()),
        // Nobody is left to tell.
        None => drop(io::stderr().write_all(text.as_bytes())),
    }
}

/// Before a daemon ends: what it said is to be written, but nobody is waited for.
pub(crate) fn finish() {
    if let Some(Daemons { log, .. }) = DAEMONS.get() {
        log.flush(Limits::default().log.flush);
    }
}

/// The level that ADDRAUTH_LOG sets, or else this one; and what is to be told where it is set and cannot be used.
fn level(set: Option<std::ffi::OsString>, usual: &str) -> (EnvFilter, Option<String>) {
    let usual_filter = || EnvFilter::new(usual);
    let Some(set) = set else { return (usual_filter(), None) };
    let complain = |why: String| {
        let way = "write a level (error, warn, info, debug, trace, off), or such as addrauth::verify=debug";
        (usual_filter(), Some(format!("ADDRAUTH_LOG {why}, so it counts as {usual}: {way}")))
    };
    let Some(text) = set.to_str() else { return complain("is no text".into()) };
    if text.trim().is_empty() {
        return complain("is empty".into());
    }
    // A word alone that is no level would be taken for a part of a program, of which all is logged, and nothing else.
    let is_level = |word: &str| word.parse::<tracing::level_filters::LevelFilter>().is_ok();
    let odd = text.split(',').map(str::trim).find(|part| {
        let ours = part.starts_with("addrauth") && !part.contains(char::is_whitespace);
        // An empty word would be taken for `error`.
        !part.contains(['=', '[']) && !ours && (part.is_empty() || !is_level(part))
    });
    if let Some(odd) = odd {
        return complain(format!("holds {odd:?}, which is no level"));
    }
    match EnvFilter::try_new(text) {
        Ok(filter) => (filter, None),
        Err(e) => complain(format!("cannot be read ({e})")),
    }
}

#[cfg(test)]
mod tests;
