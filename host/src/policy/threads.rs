//! The threads that decide, apart from the daemon's own, behind a bounded queue: a slow policy holds up no connection.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use tokio::sync::oneshot;

use super::sandbox::contract::{Decision, Facts};
use super::sandbox::{Fault, Sandbox};
use super::shelf::Shelved;

/// A decision to be made, and where it goes.
struct Job {
    policy: Arc<Shelved>,
    facts: Facts,
    answer: oneshot::Sender<Result<Decision, Fault>>,
}

/// The threads. They end when this is dropped and the queue is empty.
pub(super) struct Threads(SyncSender<Job>);

impl Threads {
    pub(super) fn start(sandbox: &Arc<Sandbox>, threads: usize, queue: usize) -> std::io::Result<Threads> {
        let (sender, receiver) = sync_channel(queue);
        let receiver = Arc::new(Mutex::new(receiver));
        for _ in 0..threads.max(1) {
            let (sandbox, receiver) = (Arc::clone(sandbox), Arc::clone(&receiver));
            thread::Builder::new().name("policy".into()).spawn(move || work(&sandbox, &receiver))?;
        }
        Ok(Threads(sender))
    }

    /// The policy's decision, or its fault; a full queue is one.
    pub(super) async fn decide(&self, policy: &Arc<Shelved>, facts: Facts) -> Result<Decision, Fault> {
        let (answer, decided) = oneshot::channel();
        self.0.try_send(Job { policy: Arc::clone(policy), facts, answer }).map_err(|e| match e {
            TrySendError::Full(_) => Fault("was not asked: too many decisions are waiting".into()),
            TrySendError::Disconnected(_) => gone(),
        })?;
        decided.await.unwrap_or_else(|_| Err(gone()))
    }
}

fn gone() -> Fault {
    Fault("was not asked: the sandbox has ended".into())
}

fn work(sandbox: &Sandbox, receiver: &Mutex<Receiver<Job>>) {
    loop {
        let job = receiver.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job { policy, facts, answer }) = job else { return };
        if !answer.is_closed() {
            let decided = sandbox.decide(&policy.guest, &facts, &policy.settings);
            // A message that no longer waits needs no answer.
            let _ = answer.send(decided);
        }
    }
}
