//! Where decisions are made: at once where the message is, or on threads apart from the daemon's own, behind a bounded queue, so
//! that a slow policy holds up no connection.

use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::sync::oneshot;

use super::sandbox::contract::{Decision, Facts};
use super::sandbox::{Fault, Sandbox};
use super::shelf::Shelved;
use crate::config::Size;

/// How long a policy may hold up the connections of the thread that asks it, to within a tick of the clock. One that needs longer,
/// or faults, is asked again on a thread apart, and where that is no exception (`Pace`) from then on there alone: the same facts
/// give the same decision.
pub const AT_ONCE: Duration = Duration::from_millis(1);

/// A decision to be made, and where it goes.
struct Job {
    policy: Arc<Shelved>,
    facts: Facts,
    answer: oneshot::Sender<Result<Decision, Fault>>,
}

/// The threads of both classes. A decision of class large never waits for the threads of class small, nor they for it.
pub(super) struct Threads {
    small: Crew,
    /// There from the first load on that has a policy of this class.
    large: OnceLock<Crew>,
}

impl Threads {
    pub(super) fn start(sandbox: &Arc<Sandbox>) -> std::io::Result<Threads> {
        let limits = &sandbox.limits().policy;
        Ok(Threads { small: Crew::start(sandbox, limits.threads, limits.queue)?, large: OnceLock::new() })
    }

    /// Makes ready for policies of this class.
    pub(super) fn prepare(&self, sandbox: &Arc<Sandbox>, size: Size) -> std::io::Result<()> {
        if size == Size::Large && self.large.get().is_none() {
            let limits = &sandbox.limits().policy.other;
            // Nobody else does so: loads follow each other.
            let _ = self.large.set(Crew::start(sandbox, limits.threads, limits.queue)?);
        }
        Ok(())
    }

    /// The policy's decision, or its fault; a full queue is one. In class large never at once: the connections of the thread that asks
    /// would wait.
    pub(super) async fn decide(&self, policy: &Arc<Shelved>, facts: &Facts) -> Result<Decision, Fault> {
        match policy.guest.size() {
            Size::Small => match self.small.decide_at_once(policy, facts) {
                Some(decision) => Ok(decision),
                None => self.small.decide_apart(policy, facts.clone()).await,
            },
            Size::Large => match self.large.get() {
                Some(crew) => crew.decide_apart(policy, facts.clone()).await,
                None => Err(gone()),
            },
        }
    }
}

/// The threads of a class. They end when this is dropped and the queue is empty.
struct Crew {
    jobs: SyncSender<Job>,
    sandbox: Arc<Sandbox>,
    places: Arc<Places>,
}

impl Crew {
    fn start(sandbox: &Arc<Sandbox>, threads: usize, queue: usize) -> std::io::Result<Crew> {
        let (jobs, receiver) = sync_channel(queue);
        let receiver = Arc::new(Mutex::new(receiver));
        let places = Arc::new(Places::new(threads.max(1)));
        for _ in 0..threads.max(1) {
            let (sandbox, receiver, places) = (Arc::clone(sandbox), Arc::clone(&receiver), Arc::clone(&places));
            thread::Builder::new().name("policy".into()).spawn(move || work(&sandbox, &receiver, &places))?;
        }
        Ok(Crew { jobs, sandbox: Arc::clone(sandbox), places })
    }

    /// The decision of a policy that is quick, where there is an instance for it.
    fn decide_at_once(&self, policy: &Shelved, facts: &Facts) -> Option<Decision> {
        if policy.pace.takes_time() {
            return None;
        }
        let _place = self.places.try_take()?;
        let time = AT_ONCE.min(self.sandbox.limits().policy.time);
        let decided = self.sandbox.decide_within(&policy.guest, facts, &policy.settings, time);
        match decided {
            Ok(decision) => {
                policy.pace.was_quick();
                Some(decision)
            }
            Err(fault) => {
                if policy.pace.took_time() {
                    tracing::info!(policy = policy.id, "the policy is asked on a thread apart from now on: it {fault}");
                }
                None
            }
        }
    }

    async fn decide_apart(&self, policy: &Arc<Shelved>, facts: Facts) -> Result<Decision, Fault> {
        let (answer, decided) = oneshot::channel();
        self.jobs.try_send(Job { policy: Arc::clone(policy), facts, answer }).map_err(|e| match e {
            TrySendError::Full(_) => Fault("was not asked: too many decisions are waiting".into()),
            TrySendError::Disconnected(_) => gone(),
        })?;
        decided.await.unwrap_or_else(|_| Err(gone()))
    }
}

fn gone() -> Fault {
    Fault("was not asked: the sandbox has ended".into())
}

fn work(sandbox: &Sandbox, receiver: &Mutex<Receiver<Job>>, places: &Places) {
    loop {
        let job = receiver.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job { policy, facts, answer }) = job else { return };
        if !answer.is_closed() {
            let place = places.take();
            let decided = sandbox.decide(&policy.guest, &facts, &policy.settings);
            drop(place);
            // A message that no longer waits needs no answer.
            let _ = answer.send(decided);
        }
    }
}

/// The instances of the sandbox that decide at the same time. Taking a free one and giving it back is an addition each.
struct Places {
    free: AtomicUsize,
    /// Threads that wait for one. Where none does, giving one back is no system call.
    waiting: AtomicUsize,
    /// Held by a thread that waits while it looks, and by one that wakes another: so no wake-up is lost in between.
    looking: Mutex<()>,
    freed: Condvar,
}

/// An instance's place, until it is dropped.
struct Place<'a>(&'a Places);

impl Places {
    fn new(places: usize) -> Places {
        let (free, waiting) = (AtomicUsize::new(places), AtomicUsize::new(0));
        Places { free, waiting, looking: Mutex::new(()), freed: Condvar::new() }
    }

    fn looking(&self) -> MutexGuard<'_, ()> {
        self.looking.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One that is free now; none while a thread waits for one.
    fn try_take(&self) -> Option<Place<'_>> {
        if self.waiting.load(SeqCst) > 0 { None } else { self.take_free() }
    }

    fn take_free(&self) -> Option<Place<'_>> {
        self.free.fetch_update(SeqCst, SeqCst, |free| free.checked_sub(1)).ok().map(|_| Place(self))
    }

    /// One as soon as it is free.
    fn take(&self) -> Place<'_> {
        self.waiting.fetch_add(1, SeqCst);
        let mut looking = self.looking();
        let place = loop {
            if let Some(place) = self.take_free() {
                break place;
            }
            looking = self.freed.wait(looking).unwrap_or_else(PoisonError::into_inner);
        };
        drop(looking);
        self.waiting.fetch_sub(1, SeqCst);
        place
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.free.fetch_add(1, SeqCst);
        // Who began to wait before this sees the place; who did so after it is seen here.
        if self.0.waiting.load(SeqCst) > 0 {
            drop(self.0.looking());
            self.0.freed.notify_one();
        }
    }
}
