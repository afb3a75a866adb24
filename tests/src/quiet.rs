//! Tests whose result depends on when things happen, on a machine that does other work as well.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How often a run that the machine disturbed is repeated.
const RUNS: usize = 20;
/// A thread that slept this much longer than it wanted was kept waiting: by then a datagram is late, too.
const LATE: Duration = Duration::from_millis(20);

/// Runs a test that measures time. One that fails while the machine kept a thread waiting that only sleeps proves nothing, and is
/// repeated, `RUNS` times at most; one that passes, or fails undisturbed, has passed or failed.
pub async fn undisturbed<F>(test: impl Fn() -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    for run in 1.. {
        let watch = Watch::start();
        let failed = tokio::spawn(test()).await.err();
        let disturbed = watch.stop();
        let Some(failed) = failed else { return };
        if !disturbed || run == RUNS {
            std::panic::resume_unwind(failed.into_panic());
        }
        println!("run {run} failed on a machine that was late: once more");
    }
}

/// A thread that notices whether it gets its time.
struct Watch {
    over: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<bool>,
}

impl Watch {
    fn start() -> Watch {
        let over = Arc::new(AtomicBool::new(false));
        let ends = over.clone();
        let thread = std::thread::spawn(move || {
            let pause = Duration::from_millis(2);
            let mut late = false;
            while !ends.load(Ordering::Relaxed) {
                let begin = Instant::now();
                std::thread::sleep(pause);
                late |= begin.elapsed() > pause + LATE;
            }
            late
        });
        Watch { over, thread }
    }

    fn stop(self) -> bool {
        self.over.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or(true)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[tokio::test]
    #[should_panic(expected = "it never holds")]
    async fn what_never_holds_fails_however_busy_the_machine_is() {
        undisturbed(|| async { panic!("it never holds") }).await;
    }

    #[tokio::test]
    async fn what_holds_is_run_once() {
        let runs = Arc::new(AtomicUsize::new(0));
        let count = runs.clone();
        undisturbed(move || {
            let count = count.clone();
            async move {
                count.fetch_add(1, Ordering::SeqCst);
            }
        })
        .await;
        assert_eq!(runs.load(Ordering::SeqCst), 1);
    }
}
