//! What can go wrong at the milter door.

use std::io;

use crate::config::Unfit;
use crate::mta::{FOR_NOW, NOT_SUPPORTED, Refused, UNFIT};

/// Why a connection ends, or a message is refused: see [`Error::reply`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Reading or writing failed.
    #[error("the MTA's connection failed: {0}")]
    Io(#[from] io::Error),
    /// A frame without even a command.
    #[error("a milter frame of length 0")]
    EmptyFrame,
    /// A frame over `limits.mta.frame`.
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
    /// Settings that do not fit the MTA: the answers would not have their effect.
    #[error("{0}")]
    Unfit(#[from] Unfit),
    /// A Stalwart whose body does not begin with the header, so that nobody knows how its fields are spelled.
    #[error("its body does not begin with its header, as it does where a Stalwart shows it to a milter")]
    HeaderMissing,
    /// The header and the body's beginning do not tell of the same fields, and a field may have to be deleted.
    #[error("its header cannot be read for certain: the mail server takes other lines for fields")]
    HeaderDiffers,
    /// A body that begins with the header's first fields, from an MTA that does not say that it is a Postfix. Either its
    /// milter client shows the whole message as the body, or the message was written so.
    #[error("its body begins with its header once more, as where a mail server's milter is not supported yet")]
    HeaderAgain,
    /// The answer needs an action that the MTA does not offer to its milters.
    #[error("the MTA does not let its milters {0}")]
    NotOffered(&'static str),
    /// What any door refuses.
    #[error(transparent)]
    Refused(#[from] Refused),
}

impl Error {
    /// What the SMTP client is told of its message: code, enhanced status code and text (RFC 5321 §4.2, RFC 3463).
    ///
    /// See [`Refused::reply`]. Faults of this door alone are refused for now, so that the postmaster can mend an MTA that
    /// speaks the protocol otherwise while the mail waits. A frame that is too long is refused for good.
    pub fn reply(&self) -> &'static str {
        match self {
            Error::Refused(refused) => refused.reply(),
            Error::LongFrame { .. } => "552 5.3.4 A header field or a line of the message is too long",
            Error::HeaderDiffers => "554 5.6.0 The message's header cannot be read for certain",
            Error::Unfit(_) => UNFIT,
            Error::HeaderAgain | Error::HeaderMissing => NOT_SUPPORTED,
            Error::Io(_)
            | Error::EmptyFrame
            | Error::CutFrame
            | Error::Malformed(_)
            | Error::Order(_)
            | Error::Unknown(_)
            | Error::Version(_)
            | Error::NotOffered(_) => FOR_NOW,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_in_the_message_is_refused_for_good_and_what_lies_here_for_now() {
        let for_good =
            [Error::Refused(Refused::Body(1)), Error::LongFrame { length: 2, limit: 1 }, Error::HeaderDiffers];
        let for_now = [
            Error::Io(io::Error::other("x")),
            Error::EmptyFrame,
            Error::CutFrame,
            Error::Malformed("x"),
            Error::Order(b'x'),
            Error::Unknown(b'x'),
            Error::Version(1),
            Error::Unfit(Unfit::RcptStage),
            Error::HeaderMissing,
            Error::HeaderAgain,
            Error::Refused(Refused::Full("x")),
            Error::NotOffered("x"),
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
