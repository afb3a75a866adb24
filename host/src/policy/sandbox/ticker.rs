//! The clock of the deadlines: moves wasmtime's epoch on every millisecond, and sleeps when no policy runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use wasmtime::Engine;

/// One tick of the epoch.
pub(super) const TICK: Duration = Duration::from_millis(1);
/// Ticks without a call before the clock goes to sleep: on a busy server it never does, so a call costs no system call.
const IDLE_TICKS: u32 = 200;

/// A thread that ticks while calls run. It ends with the value.
pub(super) struct Ticker {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    running: AtomicUsize,
    /// Counts the calls that began, so that a short one between two ticks is seen too.
    begun: AtomicU64,
    asleep: AtomicBool,
    stop: AtomicBool,
}

/// A call under way; dropped when it ends.
pub(super) struct Running<'a>(&'a Shared);

impl Ticker {
    pub(super) fn start(engine: Engine) -> std::io::Result<Ticker> {
        let shared = Arc::new(Shared::default());
        let seen = Arc::clone(&shared);
        let thread = thread::Builder::new().name("policy-clock".into()).spawn(move || tick(&engine, &seen))?;
        Ok(Ticker { shared, thread: Some(thread) })
    }

    /// Wakes the clock for a call.
    pub(super) fn running(&self) -> Running<'_> {
        self.shared.running.fetch_add(1, Ordering::SeqCst);
        self.shared.begun.fetch_add(1, Ordering::SeqCst);
        if self.shared.asleep.load(Ordering::SeqCst) {
            self.wake();
        }
        Running(&self.shared)
    }

    fn wake(&self) {
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
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

fn tick(engine: &Engine, shared: &Shared) {
    let mut last = 0;
    let mut idle = 0;
    while !shared.stop.load(Ordering::SeqCst) {
        thread::sleep(TICK);
        engine.increment_epoch();
        let begun = shared.begun.load(Ordering::SeqCst);
        let busy = begun != last || shared.running.load(Ordering::SeqCst) > 0;
        (last, idle) = (begun, if busy { 0 } else { idle + 1 });
        if idle > IDLE_TICKS {
            sleep_until_called(shared);
            idle = 0;
        }
    }
}

fn sleep_until_called(shared: &Shared) {
    shared.asleep.store(true, Ordering::SeqCst);
    // A call that began before `asleep` was visible is seen here; one that begins later sees `asleep` and wakes us.
    while shared.running.load(Ordering::SeqCst) == 0 && !shared.stop.load(Ordering::SeqCst) {
        thread::park();
    }
    shared.asleep.store(false, Ordering::SeqCst);
}
