//! MTA Hooks over HTTP: the door that Stalwart knows, and other mail servers that ask a filter by POST.
//!
//! One listener speaks several dialects, each under its own path: [`Dialect`]. A request is read within its bounds, made a
//! `Mail`, examined and kept as at any door, and answered by one plan ([`crate::mta::Changes`]) that each dialect says in its own
//! words.
//!
//! **What goes wrong is said in an answer, and in time.** A mail server that gets an error or no answer may go on without its
//! filter, and would deliver the key. So a fault of a message, of a request or of this door is a refusal for now in the
//! dialect's words, within `limits.hooks.answer`.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::config::{Dialect, Hooks};
use crate::mta::hourly::HourlyWarning;
use crate::mta::reception::{Reception, Seats};
use crate::mta::{Judge, Lanes, listen};
use crate::tls::Acceptor;

mod access;
mod connection;
mod draft01;
mod fault;
mod loose;
mod octets;
mod paths;
mod patient;
mod stalwart;
mod told;

pub use crate::mta::listen::Listener;
pub use access::{Access, BadCredential};
pub use draft01::{Registration, Registry};
pub use fault::Fault;

use draft01::Repeats;

/// The places of `[hooks]`.
fn places(hooks: &Hooks) -> listen::Places<'_> {
    listen::Places { section: "hooks", listen: &hooks.listen, group: &hooks.group }
}

/// Binds every place of `[hooks]`: see [`Listener::bind`].
///
/// # Errors
/// A place cannot be bound: then none is.
pub fn bind(hooks: &Hooks) -> Result<Vec<Listener>, listen::Error> {
    Listener::bind(places(hooks))
}

/// Whether the places of `[hooks]` can be bound, as far as that is known without binding them: a filter may be running.
///
/// # Errors
/// The group or the directory of a socket is not there.
pub fn check(hooks: &Hooks) -> Result<(), listen::Error> {
    places(hooks).check()
}

/// What a door needs beside its listeners.
#[derive(Debug)]
pub struct Setting {
    /// The dialects that are spoken.
    pub dialects: Vec<Dialect>,
    /// Who may ask.
    pub access: Access,
    /// HTTPS; absent: HTTP.
    pub tls: Option<Acceptor>,
    /// Where registrations and the last answers are kept; absent: in memory.
    pub state: Option<PathBuf>,
}

/// What all connections share.
struct Door<J> {
    reception: Arc<Reception<J>>,
    setting: Setting,
    /// The mail servers of draft-01.
    registry: Registry,
    /// What was answered to them.
    repeats: Repeats,
    /// Room for the octets of requests, until they are answered.
    room: Arc<Semaphore>,
    /// Warns that somebody asks without a right.
    denied: HourlyWarning,
    /// Warns that recipients cannot be told apart, since RCPT is not asked about.
    unasked: HourlyWarning,
    /// Whether a Stalwart asked about RCPT.
    asked_at_rcpt: std::sync::atomic::AtomicBool,
}

impl<J> fmt::Debug for Door<J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Door").field("setting", &self.setting).finish_non_exhaustive()
    }
}

impl<J: Judge> Door<J> {
    /// When an answer is due to a request whose head has come now.
    fn due(&self) -> Instant {
        Instant::now() + self.reception.limits().hooks.answer
    }

    /// Logs a fault.
    fn tell(&self, fault: &Fault) {
        match fault {
            Fault::Denied if !self.denied.is_due() => {}
            Fault::Denied => tracing::warn!("requests of a mail server are refused for now: {fault}"),
            _ => tracing::warn!("a message is refused: {fault}"),
        }
    }
}

/// Serves mail servers until the reception closes; then requests in flight may end within `limits.mta.drain`, and the sockets
/// are removed.
///
/// Connections live on these lanes; the listeners were bound within them. Beyond `limits.hooks.connections` and
/// `limits.mta.messages_in_flight` a message gets 451; beyond twice as many connections a new one is closed.
pub async fn serve<J: Judge>(listeners: Vec<Listener>, setting: Setting, reception: Arc<Reception<J>>, lanes: Lanes) {
    let Conversations { door, paths, seats } = Conversations::new(setting, reception);
    let connection = {
        let door = Arc::clone(&door);
        move |socket, seat| connection::run(socket, paths.clone(), Arc::clone(&door), seat)
    };
    listen::serve(listeners, &door.reception, &seats, lanes, connection).await;
}

/// The door for those who accept connections themselves: over a pipe, or a socket that a service manager hands over.
#[derive(Debug)]
pub struct Conversations<J> {
    door: Arc<Door<J>>,
    paths: Router,
    seats: Seats,
}

impl<J: Judge> Conversations<J> {
    /// A door with this setting, at which nobody listens.
    pub fn new(setting: Setting, reception: Arc<Reception<J>>) -> Conversations<J> {
        let limits = Arc::clone(reception.limits());
        let seats = reception.seats(limits.hooks.connections, "connections of hooks");
        let door = Arc::new(Door {
            reception,
            registry: Registry::of(setting.state.clone()),
            repeats: Repeats::of(setting.state.clone()),
            setting,
            room: Arc::new(Semaphore::new(limits.hooks.requests_octets.min(Semaphore::MAX_PERMITS))),
            denied: HourlyWarning::default(),
            unasked: HourlyWarning::default(),
            asked_at_rcpt: false.into(),
        });
        let paths = paths::router(&door);
        Conversations { door, paths, seats }
    }

    /// Serves one connection until one side closes it, in plain HTTP/1.1. Beyond twice `limits.hooks.connections` it is closed at
    /// once.
    pub async fn converse(&self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        if let Some(seat) = self.seats.take() {
            connection::converse(stream, self.paths.clone(), &self.door, seat).await;
        }
    }
}
