//! What can go wrong at the milter door.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Why a place cannot be listened on, a connection ends, or a message is refused: see [`Error::reply`].
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
    /// A recipient's path over `Limits::milter_text`.
    #[error("a recipient's path of more than {0} octets")]
    Path(usize),
    /// A login name over `Limits::milter_text`: without it the message would be a stranger's.
    #[error("a login name of more than {0} octets")]
    Login(usize),
    /// An MTA whose milter client does other things than Postfix's, so that the answers would not do what they say.
    #[error("this mail server's milter is not supported yet: {0}")]
    Foreign(&'static str),
    /// A body that begins with the header's first fields, by an MTA that does not say that it is a Postfix: either its milter
    /// client shows the whole message as the body, or the message was written so.
    #[error("its body begins with its header once more, as where a mail server's milter is not supported yet")]
    HeaderAgain,
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

impl Error {
    /// What the SMTP client is told of its message: code, enhanced status code and text (RFC 5321 §4.2, RFC 3463).
    ///
    /// What another try would meet again, since it lies in the message, is refused for good: its sender hears of it. What lies
    /// in this server (a fault, a bound that others use up, an MTA that speaks the protocol otherwise) is refused for now, since
    /// its postmaster can mend it while the mail waits.
    pub fn reply(&self) -> &'static str {
        match self {
            Error::Recipients(_) => "554 5.5.3 Too many recipients in one message",
            Error::Path(_) => "554 5.1.3 A recipient's address is too long",
            Error::Login(_) => "554 5.7.0 The login name is too long",
            Error::KeyFields(_) => "554 5.6.0 Too many header fields that tell of authentication",
            Error::Body(_) => "552 5.3.4 The message is too large to be kept for its recipients",
            Error::LongFrame { .. } => "552 5.3.4 A header field or a line of the message is too long",
            Error::Full(_) => "451 4.3.2 Too many messages at once, please try again later",
            Error::Foreign(_) | Error::HeaderAgain => {
                "451 4.3.5 Address Authentication: this mail server's milter is not supported yet"
            }
            Error::Bind { .. }
            | Error::Taken(_)
            | Error::NoSocket(_)
            | Error::Group(_)
            | Error::Io(_)
            | Error::EmptyFrame
            | Error::CutFrame
            | Error::Malformed(_)
            | Error::Order(_)
            | Error::Unknown(_)
            | Error::Version(_)
            | Error::NotOffered(_)
            | Error::Edit
            | Error::Recipient
            | Error::Panicked(_)
            | Error::Late { .. }
            | Error::Silent { .. }
            | Error::Stopping => "451 4.3.0 Temporary failure, please try again later",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_in_the_message_is_refused_for_good_and_what_lies_here_for_now() {
        let time = Duration::ZERO;
        let for_good = [
            Error::Recipients(1),
            Error::Path(1),
            Error::Login(1),
            Error::KeyFields(1),
            Error::Body(1),
            Error::LongFrame { length: 2, limit: 1 },
        ];
        let for_now = [
            Error::Io(io::Error::other("x")),
            Error::EmptyFrame,
            Error::CutFrame,
            Error::Malformed("x"),
            Error::Order(b'x'),
            Error::Unknown(b'x'),
            Error::Version(1),
            Error::Foreign("x"),
            Error::HeaderAgain,
            Error::Full("x"),
            Error::NotOffered("x"),
            Error::Edit,
            Error::Recipient,
            Error::Panicked("x"),
            Error::Late { what: "x", limit: time },
            Error::Silent { what: "x", limit: time },
            Error::Stopping,
        ];
        for (errors, class) in [(&for_good[..], '5'), (&for_now[..], '4')] {
            for error in errors {
                let reply = error.reply();
                let words: Vec<&str> = reply.splitn(3, ' ').collect();
                let [code, status, text] = words.as_slice() else { panic!("{reply}") };
                assert!(code.len() == 3 && code.starts_with(class) && status.starts_with(class), "{error:?}: {reply}");
                assert!(
                    *code != "421"
                        && reply.len() < 200
                        && text.bytes().all(|o| (b' '..=b'~').contains(&o) && o != b'%')
                );
            }
        }
    }
}
