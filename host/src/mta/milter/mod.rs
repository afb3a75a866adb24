//! The milter protocol, versions 2 to 6: the door that Postfix and Sendmail know.
//!
//! Frames come in ([`frame`]), and a [`session`] without I/O makes a `Mail` of them. The mail is examined at the first piece
//! of its body. That piece is answered once it is known whether the body is wanted; nearly always it is not, and the MTA need
//! not send the rest. At the end of the message everything is answered in one write ([`answer`]).
//!
//! Whatever goes wrong with a message ends in its refusal ([`Error::reply`]): for good where the fault is the message's, such
//! as too many recipients; for now where it is this door's, such as a malformed frame, a panic, a deadline, or an action that
//! the MTA does not offer. What goes wrong with the connection ends the connection, and the MTA's default action, which has
//! to be `tempfail`, defers the message.
//!
//! A detail that cannot be read, such as a client's address, is a fact that is missing. It neither refuses a message nor ends
//! a connection.
//!
//! Recipients are those that came to us. The MTA does not tell where another milter after us refuses one of them.

use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::config::Milter;
use crate::mta::hourly::HourlyWarning;
use crate::mta::reception::Reception;
use crate::mta::{Judge, Lanes, listen};

mod again;
pub mod answer;
mod connection;
mod error;
pub mod frame;
mod message;
pub mod session;
pub mod terms;

pub use crate::mta::listen::Listener;
pub use error::Error;

use connection::{Door, RcptStage};

/// The places of `[milter]`.
fn places(milter: &Milter) -> listen::Places<'_> {
    listen::Places { section: "milter", listen: &milter.listen, group: &milter.group }
}

/// Binds every place of `[milter]`: see [`Listener::bind`].
///
/// # Errors
/// A place cannot be bound: then none is.
pub fn bind(milter: &Milter) -> Result<Vec<Listener>, listen::Error> {
    Listener::bind(places(milter))
}

/// Whether the places of `[milter]` can be bound, as far as that is known without binding them: a filter may be running.
///
/// # Errors
/// The group or the directory of a socket is not there.
pub fn check(milter: &Milter) -> Result<(), listen::Error> {
    places(milter).check()
}

/// Serves MTAs until the reception closes; then messages in flight may end within `limits.mta.drain`, and the sockets are
/// removed.
///
/// Connections live on these lanes; the listeners were bound within them. Each message keeps, to its end, the judge that stood
/// behind the reception at its MAIL. Beyond `limits.mta.connections` and `limits.mta.messages_in_flight` MAIL gets 451; beyond
/// twice as many connections a new one is closed.
pub async fn serve<J: Judge>(listeners: Vec<Listener>, reception: Arc<Reception<J>>, lanes: Lanes) {
    let limits = Arc::clone(reception.limits());
    let seats = reception.seats(limits.mta.connections, "milter connections");
    let door = Arc::new(Door {
        reception,
        frames: Arc::new(Semaphore::new(limits.mta.frames_octets.min(Semaphore::MAX_PERMITS))),
        unfit: HourlyWarning::default(),
        rcpt_stage: RcptStage::default(),
        unknown: HourlyWarning::default(),
    });
    let connection = {
        let door = Arc::clone(&door);
        move |socket, seat| connection::run(socket, Arc::clone(&door), seat)
    };
    listen::serve(listeners, &door.reception, &seats, lanes, connection).await;
}
