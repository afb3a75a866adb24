//! The threads that connections live on: each has a runtime of its own, so that a message seldom needs another.

use std::io;
use std::sync::Arc;
use std::thread;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

use super::socket::Socket;
use crate::mta::reception::Seat;
use crate::pulse::Pulse;

/// How many connections more than the emptiest lane the first one may have. The first one accepts, and a connection that goes to
/// another one wakes it: below this, what two threads could share is not worth that.
const AHEAD: usize = 16;

/// Where connections of all doors live. The first lane accepts them; each stays on the lane that it was given to. The lanes end
/// when the last clone is dropped, and so do the tasks on them: that drop comes after
/// [`crate::mta::reception::Reception::drain`].
#[derive(Clone, Debug)]
pub struct Lanes(Arc<[Lane]>);

#[derive(Debug)]
struct Lane {
    runtime: Handle,
    /// One clone for each connection.
    connections: Arc<()>,
    pulse: Arc<Pulse>,
    /// Dropped, it ends the thread.
    _end: oneshot::Sender<()>,
}

impl Lanes {
    /// No threads: connections live on the runtime of the caller.
    pub fn here() -> Lanes {
        Lanes(Arc::default())
    }

    /// Starts so many threads, one at least.
    ///
    /// # Errors
    /// The system has no thread or descriptor left.
    pub fn start(count: usize) -> io::Result<Lanes> {
        (0..count.max(1)).map(|_| Lane::start()).collect::<io::Result<_>>().map(Lanes)
    }

    /// Does something on the first lane's behalf: listeners that are bound here belong to it.
    pub fn within<T>(&self, work: impl FnOnce() -> T) -> T {
        let _entered = self.0.first().map(|lane| lane.runtime.enter());
        work()
    }

    /// What tells whether each thread still turns.
    pub fn pulses(&self) -> Vec<Arc<Pulse>> {
        self.0.iter().map(|lane| Arc::clone(&lane.pulse)).collect()
    }

    /// The runtime that accepts: the first lane's, or the caller's.
    pub(super) fn accepting(&self) -> Handle {
        self.0.first().map_or_else(Handle::current, |lane| lane.runtime.clone())
    }

    /// Has a connection served: by the first lane, on which this is called, as long as no other one has much less to do.
    pub(super) fn place<F>(&self, socket: Socket, seat: Seat, connection: impl Fn(Socket, Seat) -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let load = |lane: &Lane| Arc::strong_count(&lane.connections);
        let emptiest = self.0.iter().enumerate().min_by_key(|(_, lane)| load(lane));
        match (self.0.first(), emptiest) {
            (Some(first), Some((1.., lane))) if load(first) > load(lane).saturating_add(AHEAD) => {
                let counted = Arc::clone(&lane.connections);
                // Out of this lane's runtime, and into the other one's.
                let moved = socket.into_std();
                lane.runtime.spawn(async move {
                    let _counted = counted;
                    match moved.and_then(Socket::from_std) {
                        Ok(socket) => connection(socket, seat).await,
                        Err(fault) => tracing::warn!("a connection is lost between two threads: {fault}"),
                    }
                });
            }
            (first, _) => {
                let counted = first.map(|lane| Arc::clone(&lane.connections));
                tokio::spawn(async move {
                    let _counted = counted;
                    connection(socket, seat).await;
                });
            }
        }
    }
}

impl Lane {
    fn start() -> io::Result<Lane> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let pulse = Arc::new(Pulse::default());
        let (end, ended) = oneshot::channel::<()>();
        let turning = Arc::clone(&pulse);
        thread::Builder::new().name("lane".into()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    _ = ended => {}
                    never = turning.answer() => match never {},
                }
            });
            // What still runs on a thread of its own, such as a look at a file, is not waited for.
            runtime.shutdown_background();
        })?;
        Ok(Lane { runtime: handle, connections: Arc::default(), pulse, _end: end })
    }
}
