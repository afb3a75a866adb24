//! The clock of the deadlines: moves wasmtime's epoch on every millisecond, and sleeps when no policy runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use wasmtime::Engine;

/// One tick of the epoch.
pub(super) const TICK: Duration = Duration::from_millis(1);
/// Ticks without a call before the clock goes to sleep: on a busy server it never does, so a call costs no system call. They
/// come after the ticks that the last call may take.
const IDLE_TICKS: u128 = 200;

/// A thread that ticks while calls run. It ends with the value.
pub(super) struct Ticker {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// What the threads that call and the clock tell each other. A call only reads it where another one was made since the last tick:
/// a count of calls would move between the processors with each of them.
#[derive(Default)]
struct Shared {
    /// Whether a call began since the last tick.
    called: AtomicBool,
    asleep: AtomicBool,
    stop: AtomicBool,
}

impl Ticker {
    /// `longest` is how long a call may take: the clock turns longer than that after each.
    pub(super) fn start(engine: Engine, longest: Duration) -> std::io::Result<Ticker> {
        let shared = Arc::new(Shared::default());
        let seen = Arc::clone(&shared);
        // One tick more than the deadline has, and one that was under way.
        let idle = longest.as_millis().div_ceil(TICK.as_millis()).saturating_add(2).saturating_add(IDLE_TICKS);
        let thread = thread::Builder::new().name("policy-clock".into()).spawn(move || tick(&engine, &seen, idle))?;
        Ok(Ticker { shared, thread: Some(thread) })
    }

    /// Tells the clock of a call whose deadline is set, and wakes it where it sleeps. It turns until that deadline has passed.
    pub(super) fn called(&self) {
        if !self.shared.called.load(Ordering::SeqCst) {
            self.shared.called.store(true, Ordering::SeqCst);
        }
        if self.shared.asleep.load(Ordering::SeqCst) {
            self.wake();
        }
    }

    fn wake(&self) {
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.wake();
        if let Some(thread) = self.thread.take() {
            // A clock that panicked has nothing left to clean up.
            let _ = thread.join();
        }
    }
}

fn tick(engine: &Engine, shared: &Shared, longest_idle: u128) {
    let mut idle: u128 = 0;
    while !shared.stop.load(Ordering::SeqCst) {
        thread::sleep(TICK);
        engine.increment_epoch();
        idle = if shared.called.swap(false, Ordering::SeqCst) { 0 } else { idle.saturating_add(1) };
        if idle > longest_idle {
            sleep_until_called(shared);
            idle = 0;
        }
    }
}

fn sleep_until_called(shared: &Shared) {
    shared.asleep.store(true, Ordering::SeqCst);
    // A call that began before `asleep` was visible is seen here; one that begins later sees `asleep` and wakes us.
    while !shared.called.load(Ordering::SeqCst) && !shared.stop.load(Ordering::SeqCst) {
        thread::park();
    }
    shared.asleep.store(false, Ordering::SeqCst);
}
