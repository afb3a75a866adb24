//! What can go wrong at the milter door.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Why a place cannot be listened on, a connection ends, or a message gets 451.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The place cannot be bound.
    #[error("cannot listen on {place}: {source}")]
    Bind {
        /// The place, in the configuration's spelling.
        place: String,
        /// The system's reason.
        source: io::Error,
    },
    /// Another process answers on the socket.
    #[error("another process answers on {}: stop it, or set another milter.listen", .0.display())]
    Taken(PathBuf),
    /// Something else lies where the socket belongs.
    #[error("{} exists and is no socket: move it away, or set another milter.listen", .0.display())]
    NoSocket(PathBuf),
    /// The configured group does not exist.
    #[error("milter.group `{0}` is not in /etc/group")]
    Group(String),
    /// Reading or writing failed.
    #[error("the MTA's connection failed: {0}")]
    Io(#[from] io::Error),
    /// A frame without even a command.
    #[error("a milter frame of length 0")]
    EmptyFrame,
    /// A frame over `Limits::milter_frame`.
    #[error("a milter frame of {length} octets, over the limit of {limit}")]
    LongFrame {
        /// What the MTA announced.
        length: u64,
        /// What is allowed.
        limit: usize,
    },
    /// The connection ended inside a frame.
    #[error("the MTA's connection ended inside a frame")]
    CutFrame,
    /// A frame whose contents do not fit its command.
    #[error("a malformed {0} frame")]
    Malformed(&'static str),
    /// A command that does not fit here.
    #[error("the milter command {} comes out of order", .0.escape_ascii())]
    Order(u8),
    /// A command that this protocol does not have.
    #[error("an unknown milter command, octet {0}")]
    Unknown(u8),
    /// A protocol version below 2.
    #[error("milter protocol version {0}: versions from 2 on are spoken here")]
    Version(u32),
    /// More recipients than `Limits::recipients`.
    #[error("more than {0} recipients")]
    Recipients(usize),
    /// More fields to delete than `Limits::key_fields`.
    #[error("more than {0} fields that may have to be deleted: X-Auth-Key, X-Auth-Key-Status, Authentication-Results")]
    KeyFields(usize),
    /// A body over `Limits::body_octets` that was to be kept.
    #[error("its body has more than {0} octets, too many to keep a copy of")]
    Body(usize),
    /// No room for another message.
    #[error("too many {0} at once")]
    Full(&'static str),
    /// The MTA let its milters not do what the answer needs.
    #[error("the MTA does not let its milters {0}")]
    NotOffered(&'static str),
    /// An edit that would not stay one header field.
    #[error("the answer holds an edit that is no header field")]
    Edit,
    /// Recipients struck out that the message does not have, or that are to stay, or all of them.
    #[error("the answer strikes out recipients who are not there, who are to stay, or all there are")]
    Recipient,
    /// Examining the message, or keeping what is owed, panicked.
    #[error("{0} the message panicked")]
    Panicked(&'static str),
    /// Examining the message, or keeping what is owed, took too long.
    #[error("{what} the message took longer than {limit:?}")]
    Late {
        /// Which of them.
        what: &'static str,
        /// The bound.
        limit: Duration,
    },
    /// The MTA was silent, or did not read its answer.
    #[error("the MTA was {what} for {limit:?}")]
    Silent {
        /// Silent, or not reading.
        what: &'static str,
        /// The bound.
        limit: Duration,
    },
    /// The program stops.
    #[error("the program stops")]
    Stopping,
}
