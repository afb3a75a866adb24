//! LMTP (RFC 2033): a proxy between an MTA's queue and the delivery agent that fills the mailboxes.
//!
//! Octets come in, and a [`session`] without I/O makes a `Mail` of them, whose recipients are the mailboxes behind all aliases.
//! The mail is examined once its header and the first of its body are in. Its [`plan`] gives each recipient an answer of ours or
//! a copy with a header of its own; recipients with the same header are one transaction with the next hop ([`hop`]). The body
//! streams through to the first of them, and waits ([`spool`]) for the others. Its octets are never changed.
//!
//! What is owed is durable before the end of the first copy is said, and so before any 250 of the next hop is passed on. The next
//! hop's own words are passed on as they are. Whatever goes wrong here ends in a 4xx for those whose copy is not delivered: the
//! MTA, which has the message in its queue, would write to a reverse-path that may be forged.

use std::sync::Arc;

use crate::config::Lmtp;
use crate::mta::reception::Reception;
use crate::mta::{Judge, Lanes, listen};

pub mod command;
mod connection;
mod door;
pub mod dots;
mod facts;
pub mod header;
pub mod hop;
mod incoming;
mod message;
pub mod offers;
pub mod plan;
pub mod reply;
pub mod session;
pub mod spool;

pub use crate::mta::listen::Listener;
pub use door::Settings;

use door::Door;

/// The places of `[lmtp]`.
fn places(lmtp: &Lmtp) -> listen::Places<'_> {
    listen::Places { section: "lmtp", listen: &lmtp.listen, group: &lmtp.group }
}

/// Binds every place of `[lmtp]`: see [`Listener::bind`].
///
/// # Errors
/// A place cannot be bound: then none is.
pub fn bind(lmtp: &Lmtp) -> Result<Vec<Listener>, listen::Error> {
    Listener::bind(places(lmtp))
}

/// Whether the places of `[lmtp]` can be bound, as far as that is known without binding them: a filter may be running.
///
/// # Errors
/// The group or the directory of a socket is not there.
pub fn check(lmtp: &Lmtp) -> Result<(), listen::Error> {
    places(lmtp).check()
}

/// Serves MTAs until the reception closes: see [`listen::serve`]. Beyond `limits.mta.lmtp_connections` and
/// `limits.mta.messages_in_flight` MAIL gets 451; beyond twice as many connections a new one is closed.
pub async fn serve<J: Judge>(listeners: Vec<Listener>, reception: Arc<Reception<J>>, lanes: Lanes, settings: Settings) {
    let limits = Arc::clone(reception.limits());
    let seats = reception.seats(limits.mta.lmtp_connections, "LMTP connections");
    let room = spool::Room::below(settings.spool.clone(), &limits);
    let door = Arc::new(Door { reception, settings, room });
    let connection = {
        let door = Arc::clone(&door);
        move |socket, seat| connection::run(socket, Arc::clone(&door), seat)
    };
    listen::serve(listeners, &door.reception, &seats, lanes, connection).await;
}
