//! Holds an answer back, so that its time does not tell how much work it was.

use std::io;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use rustix::fd::OwnedFd;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, sleep_until};

/// How many questions are worth one step: they cost some 100 us, and 300 where none of them is in memory.
const TOGETHER: usize = 32;

/// Holds the answers of one connection back.
///
/// The kernel's timer ends at its deadline to within some 50 us. The runtime's own cannot be used: it waits in whole
/// milliseconds from the moment at which the work was done, so that the fraction of a millisecond that the work took
/// shows in the time of the answer.
#[derive(Debug)]
pub(super) struct Hold {
    /// Absent where no descriptor was left for it.
    timer: Option<AsyncFd<OwnedFd>>,
    /// The time that an answer takes, `limits.authority.answer_after`; zero holds nothing back.
    step: Duration,
}

impl Hold {
    /// Must be called within a runtime.
    #[expect(
        deprecated,
        reason = "its successor is unsafe, for types that share their descriptor; an OwnedFd does not"
    )]
    pub(super) fn new(step: Duration) -> Hold {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let made = || AsyncFd::try_new(timerfd_create(TimerfdClockId::Monotonic, flags).ok()?).ok();
        Hold { timer: if step.is_zero() { None } else { made() }, step }
    }

    /// Waits until the time of an answer to so many questions that came together at `begin`.
    pub(super) async fn until_even(&self, begin: Instant, questions: usize) {
        let now = Instant::now().into_std();
        let Some(deadline) = deadline(self.step, begin.into_std(), questions, now).map(Instant::from_std) else {
            return;
        };
        let kept = match &self.timer {
            Some(timer) => wait(timer, deadline).await.is_ok(),
            None => false,
        };
        if !kept {
            sleep_until(deadline).await;
        }
    }
}

/// The time of an answer: when `step` has passed since `begin`, when so many questions came together, or a multiple of it where
/// answering took longer. Every 32 questions add one `step`, so that many at once do not add up the differences between them;
/// absent where nothing is held back.
pub(super) fn deadline(
    step: Duration,
    begin: std::time::Instant,
    questions: usize,
    now: std::time::Instant,
) -> Option<std::time::Instant> {
    let times = u32::try_from(questions.div_ceil(TOGETHER).max(1)).unwrap_or(u32::MAX);
    let step = step.checked_mul(times).filter(|step| !step.is_zero())?;
    let steps = now.saturating_duration_since(begin).as_nanos() / step.as_nanos() + 1;
    begin.checked_add(step.saturating_mul(u32::try_from(steps).unwrap_or(u32::MAX)))
}

/// How long reading keys took lately, in steps. An answer from memory waits as long as one of these readings took, drawn by lot:
/// so its time does not tell that its address was asked about before.
#[derive(Debug)]
pub(super) struct Lately {
    steps: [AtomicU32; READINGS],
    next: AtomicUsize,
}

/// Readings that are remembered.
const READINGS: usize = 64;
/// The most that an answer from memory waits for, in steps: a table that stalls once does not hold it up for long.
const STEPS_MOST: u32 = 5;

impl Lately {
    pub(super) fn new() -> Lately {
        Lately { steps: [const { AtomicU32::new(1) }; READINGS], next: AtomicUsize::new(0) }
    }

    /// Keys were read, which took so many steps.
    pub(super) fn note(&self, steps: u32) {
        let at = self.next.fetch_add(1, Ordering::Relaxed) % READINGS;
        if let Some(place) = self.steps.get(at) {
            place.store(steps.clamp(1, STEPS_MOST), Ordering::Relaxed);
        }
    }

    /// How many steps an answer from memory waits at least.
    pub(super) fn draw(&self) -> u32 {
        let at = usize::from(rand::random::<u8>()) % READINGS;
        self.steps.get(at).map_or(1, |steps| steps.load(Ordering::Relaxed))
    }
}

async fn wait(timer: &AsyncFd<OwnedFd>, deadline: Instant) -> io::Result<()> {
    // A timer of zero would be one that never ends.
    let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_nanos(1));
    let it_value = Timespec::try_from(left).map_err(io::Error::other)?;
    let once = Itimerspec { it_interval: Timespec::default(), it_value };
    timerfd_settime(timer, TimerfdTimerFlags::empty(), &once)?;
    let read = |fd: &OwnedFd| Ok(rustix::io::read(fd, &mut [0_u8; 8])?);
    loop {
        let mut ready = timer.readable().await?;
        if let Ok(read) = ready.try_io(|timer| read(timer.get_ref())) {
            return read.map(|_| ());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Duration = Duration::from_millis(2);

    #[test]
    fn h_the_end_is_a_multiple_of_the_step_after_the_question_whatever_the_work() {
        let begin = std::time::Instant::now();
        for (work, questions, steps) in [
            (0, 1, 1),
            (1, 32, 1),
            (1_999, 1, 1),
            (2_000, 1, 2),
            (5_500, 1, 3),
            (0, 33, 2),
            (3_999, 64, 2),
            (4_000, 64, 4),
        ] {
            let end = deadline(STEP, begin, questions, begin + Duration::from_micros(work));
            assert_eq!(end, Some(begin + STEP * steps), "{work} us, {questions} questions");
        }
        assert_eq!(deadline(Duration::ZERO, begin, 1, begin), None);
    }

    #[test]
    fn h_an_answer_from_memory_waits_as_long_as_the_readings_lately() {
        let lately = Lately::new();
        let drawn = || {
            let mut all = [0; 6];
            (0..1_000).for_each(|_| all[lately.draw() as usize] += 1);
            all
        };
        assert_eq!(drawn(), [0, 1_000, 0, 0, 0, 0]);
        for steps in [1, 1, 2, 3].repeat(16) {
            lately.note(steps);
        }
        let [_, one, two, three, more @ ..] = drawn();
        assert!(one > 400 && two > 150 && three > 150 && more == [0, 0], "{one} {two} {three} {more:?}");
        lately.note(30_000);
        lately.note(0);
        assert!((0..10_000).map(|_| lately.draw()).all(|steps| (1..=5).contains(&steps)));
    }

    #[tokio::test]
    async fn h_an_answer_waits_for_its_time_with_the_kernels_timer_and_without() {
        for mut hold in [Hold::new(STEP), Hold::new(STEP)] {
            for _ in 0..5 {
                let begin = Instant::now();
                hold.until_even(begin, 70).await;
                assert!(begin.elapsed() >= 3 * STEP, "{:?}", begin.elapsed());
            }
            hold.timer = None;
            let begin = Instant::now();
            hold.until_even(begin, 1).await;
            assert!(begin.elapsed() >= STEP, "{:?}", begin.elapsed());
        }
    }
}
