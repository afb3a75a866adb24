//! The milter protocol, versions 2 to 6: the door that Postfix and Sendmail know.
//!
//! Frames come in ([`frame`]), and a [`session`] without I/O makes a `Mail` of them. It is examined at the first piece of its
//! body, which is not answered before it is known whether the body is wanted: nearly always it is not, and the MTA need not
//! send the rest. At the end of the message everything is answered in one write ([`answer`]). Whatever goes wrong
//! with a message ends in its refusal ([`Error::reply`]): for good where it lies in the message, such as too many recipients;
//! for now where it lies here, such as a malformed frame, a panic, a deadline, an action that the MTA does not offer. What goes
//! wrong with the connection ends the connection, and the MTA's default action, which has to be `tempfail`, does the same.
//!
//! A detail that cannot be read, such as a client's address, is a fact that is missing. It neither refuses a message nor ends
//! a connection.
//!
//! Recipients are those that came to us: where another milter after us refuses one of them, the MTA does not tell.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::Limits;
use crate::mta::Judge;

pub mod answer;
mod body;
mod connection;
mod error;
pub mod frame;
mod listen;
mod message;
pub mod session;
pub mod terms;

pub use error::Error;
pub use listen::{Listener, Socket, check};

use connection::{Door, Hourly};

/// How long to wait when the system has no more descriptors.
const NO_DESCRIPTORS: Duration = Duration::from_millis(200);

/// Serves MTAs until `shutdown`; then messages in flight may end within [`Limits::milter_drain`], and the sockets are removed.
///
/// Each message keeps, to its end, the judge that stood behind the door at its MAIL. Beyond [`Limits::milter_connections`] and
/// [`Limits::messages_in_flight`] MAIL gets 451; beyond twice as many connections a new one is closed.
pub async fn serve<J: Judge>(
    listeners: Vec<Listener>,
    judge: watch::Receiver<Arc<J>>,
    limits: Arc<Limits>,
    shutdown: CancellationToken,
) {
    let stopped = CancellationToken::new();
    let seats = Seats::new(limits.milter_connections);
    let door = Arc::new(Door {
        judge,
        messages: Arc::new(Semaphore::new(limits.messages_in_flight)),
        bodies: Arc::new(Semaphore::new(limits.bodies_octets.min(Semaphore::MAX_PERMITS))),
        frames: Arc::new(Semaphore::new(limits.frames_octets.min(Semaphore::MAX_PERMITS))),
        foreign: Hourly::default(),
        unknown: Hourly::default(),
        limits,
        stopping: shutdown.clone(),
        stopped: stopped.clone(),
    });
    let connections = TaskTracker::new();
    let accepting = TaskTracker::new();
    for listener in listeners {
        accepting.spawn(accept(listener, door.clone(), seats.clone(), connections.clone()));
    }
    accepting.close();
    accepting.wait().await;
    connections.close();
    if timeout(door.limits.milter_drain, connections.wait()).await.is_err() {
        stopped.cancel();
        connections.wait().await;
    }
}

/// Room for connections: seats, and as many standing places, where every MAIL gets 451.
#[derive(Clone)]
struct Seats {
    seats: Arc<Semaphore>,
    standing: Arc<Semaphore>,
}

impl Seats {
    fn new(count: usize) -> Seats {
        Seats { seats: Arc::new(Semaphore::new(count)), standing: Arc::new(Semaphore::new(count)) }
    }
}

async fn accept<J: Judge>(listener: Listener, door: Arc<Door<J>>, seats: Seats, connections: TaskTracker) {
    loop {
        let accepted = tokio::select! {
            biased;
            () = door.stopping.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let socket = match accepted {
            Ok(socket) => socket,
            Err(fault) => {
                tracing::warn!("cannot accept a connection on {}: {fault}", listener.local());
                sleep(NO_DESCRIPTORS).await;
                continue;
            }
        };
        let (place, seated) = match seats.seats.clone().try_acquire_owned() {
            Ok(seat) => (seat, true),
            Err(_) => match seats.standing.clone().try_acquire_owned() {
                Ok(standing) => (standing, false),
                Err(_) => {
                    tracing::warn!("too many milter connections on {}: a new one is closed", listener.local());
                    continue;
                }
            },
        };
        let door = door.clone();
        connections.spawn(async move {
            connection::run(socket, door, seated).await;
            drop(place);
        });
    }
}
