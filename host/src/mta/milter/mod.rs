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
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::Limits;
use crate::mta::Judge;
use crate::mta::reception::{Reception, Seats};

pub mod answer;
mod connection;
mod error;
pub mod frame;
mod listen;
mod message;
pub mod session;
pub mod terms;

pub use error::Error;
pub use listen::{Listener, Socket, check};

use connection::{Door, HourlyWarning};

/// How long to wait when the system has no more descriptors.
const NO_DESCRIPTORS: Duration = Duration::from_millis(200);

/// Serves MTAs until `shutdown`; then messages in flight may end within `limits.mta.drain`, and the sockets are removed.
///
/// Each message keeps, to its end, the judge that stood behind the door at its MAIL. Beyond `limits.mta.connections` and
/// `limits.mta.messages_in_flight` MAIL gets 451; beyond twice as many connections a new one is closed.
pub async fn serve<J: Judge>(
    listeners: Vec<Listener>,
    judge: watch::Receiver<Arc<J>>,
    limits: Arc<Limits>,
    shutdown: CancellationToken,
) {
    let reception = Reception::open(judge, limits, shutdown);
    let limits = Arc::clone(reception.limits());
    let seats = reception.seats(limits.mta.connections, "milter connections");
    let door = Arc::new(Door {
        reception,
        frames: Arc::new(Semaphore::new(limits.mta.frames_octets.min(Semaphore::MAX_PERMITS))),
        foreign: HourlyWarning::default(),
        unknown: HourlyWarning::default(),
    });
    let accepting = TaskTracker::new();
    for listener in listeners {
        accepting.spawn(accept(listener, door.clone(), seats.clone()));
    }
    accepting.close();
    accepting.wait().await;
    door.reception.drain().await;
}

async fn accept<J: Judge>(listener: Listener, door: Arc<Door<J>>, seats: Seats) {
    loop {
        let accepted = tokio::select! {
            biased;
            () = door.reception.closing().cancelled() => return,
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
        let Some(seat) = seats.take() else {
            tracing::warn!("too many milter connections on {}: a new one is closed", listener.local());
            continue;
        };
        tokio::spawn(connection::run(socket, door.clone(), seat));
    }
}
