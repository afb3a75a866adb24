//! Why a message is not taken at any door, and what its client is told then. Each 451 that a door says by itself is made
//! here; one that follows from a decision is made in `settle`.

use std::time::Duration;

/// What the client is told of a recipient that may not share the message with the first: it brings the message again for that
/// recipient alone (RFC 3463 §3.6: too many recipients).
pub const ONE_AT_A_TIME: &str = "452 4.5.3 One recipient at a time here, please send to this one again";

/// What the client is told where something here, or in the mail server's way of speaking, goes wrong with a message.
pub const FOR_NOW: &str = "451 4.3.0 Temporary failure, please try again later";

/// What the client is told where settings ask for what its message's mail server does in another way.
pub const UNFIT: &str = "451 4.3.5 Address Authentication: its settings here do not fit this mail server";

/// What the client is told where its mail server asks in a way that is not understood here, or may not ask.
pub const NOT_UNDERSTOOD: &str = "451 4.3.5 Address Authentication: this mail server is not set up for its filter";

/// What the client is told of a message that its mail server shows as too large for one request (RFC 1870 §6.3).
pub const TOO_LARGE: &str = "552 5.3.4 The message is too large to be examined";

/// What the client is told where its message came through a mail server whose milter is not understood.
pub const NOT_SUPPORTED: &str = "451 4.3.5 Address Authentication: this mail server's milter is not supported yet";

/// What an MTA is told of a recipient whose delivery agent cannot be reached.
pub const AGENT_AWAY: &str = "451 4.4.1 The delivery agent cannot be reached";

/// The same where the delivery agent does not say what became of the copy.
pub const AGENT_SILENT: &str = "451 4.4.2 The delivery agent did not answer";

/// What an MTA is told of a message in which another reader could find an end that is none.
pub const SMUGGLED: &str = "451 4.6.0 A dot stands behind a line end that is none";

/// What an MTA is told whose MAIL has no path that can be read: a stranger may have written it.
pub const UNREAD_SENDER: &str = "451 4.1.7 The sender's address cannot be read";

/// The same of RCPT.
pub const UNREAD_RECIPIENT: &str = "451 4.1.3 The recipient's address cannot be read";

/// What an MTA is told of a copy whose body cannot wait.
pub const NO_ROOM: &str = "452 4.3.1 No room for the message, please try again later";

/// A code that is passed on: that which would end the session, and all that waits in it, becomes a refusal for now.
pub fn passed_on(code: u16) -> u16 {
    if code == 421 { 451 } else { code }
}

/// Why a message, or one of its recipients, is refused: see [`Refused::reply`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// More recipients than `limits.mta.recipients`.
    #[error("more than {0} recipients")]
    Recipients(usize),
    /// A recipient's path over `limits.mta.text`.
    #[error("a recipient's path of more than {0} octets")]
    Path(usize),
    /// A login name over `limits.mta.text`: without it the message would be a stranger's.
    #[error("a login name of more than {0} octets")]
    Login(usize),
    /// More fields to delete than `limits.mta.key_fields`.
    #[error("more than {0} fields that may have to be deleted: X-Auth-Key, X-Auth-Key-Status, Authentication-Results")]
    KeyFields(usize),
    /// A header so large that nobody can say where the body begins, or over `limits.mta.lmtp_header` at the door that takes it as
    /// octets.
    #[error("a header of too many fields, or of more than {0} octets")]
    Header(usize),
    /// A body over `limits.custody.body_octets` that was to be kept.
    #[error("its body has more than {0} octets, too many to keep a copy of")]
    Body(usize),
    /// No room for another message, or for more of it.
    #[error("too many {0} at once")]
    Full(&'static str),
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
    /// The program stops.
    #[error("the program stops")]
    Stopping,
    /// The MTA was silent, or did not read its answer.
    #[error("the MTA was {what} for {limit:?}")]
    Silent {
        /// Silent, or not reading.
        what: &'static str,
        /// The bound.
        limit: Duration,
    },
    /// An edit of the answer would not stay one header field.
    #[error("the answer holds an edit that is no header field")]
    Edit,
    /// The answer strikes out recipients that the message does not have, that are to stay, or all of them.
    #[error("the answer strikes out recipients who are not there, who are to stay, or all there are")]
    Recipient,
}

impl Refused {
    /// What the SMTP client is told of its message: code, enhanced status code and text (RFC 5321 §4.2, RFC 3463).
    ///
    /// A fault of the message, which another try would meet again, is refused for good, so that its sender hears of it. A
    /// fault of this server, or a bound that others use up, is refused for now, so that its postmaster can mend it while the
    /// mail waits.
    pub fn reply(&self) -> &'static str {
        match self {
            Refused::Recipients(_) => "554 5.5.3 Too many recipients in one message",
            Refused::Path(_) => "554 5.1.3 A recipient's address is too long",
            Refused::Login(_) => "554 5.7.0 The login name is too long",
            Refused::KeyFields(_) => "554 5.6.0 Too many header fields that tell of authentication",
            Refused::Header(_) => "552 5.3.4 The message's header is too large",
            Refused::Body(_) => "552 5.3.4 The message is too large to be kept for its recipients",
            Refused::Full(_) => "451 4.3.2 Too many messages at once, please try again later",
            Refused::Panicked(_)
            | Refused::Late { .. }
            | Refused::Stopping
            | Refused::Silent { .. }
            | Refused::Edit
            | Refused::Recipient => FOR_NOW,
        }
    }

    /// What an MTA is told that has the message in its queue already. Nothing is refused for good there: the MTA would tell a
    /// reverse-path that may be forged. A fault of the message waits in the queue, where the postmaster sees it.
    pub fn reply_behind_queue(&self) -> &'static str {
        match self {
            Refused::Recipients(_) => self.reply_to_recipient(),
            Refused::Body(_) => "452 4.3.4 The message is too large to be kept for its recipients",
            Refused::Header(_) => "452 4.3.4 The header is too large",
            Refused::Path(_) => "451 4.1.3 A recipient's address is too long",
            Refused::Full(_) => self.reply(),
            _ => FOR_NOW,
        }
    }

    /// What the client is told where one recipient is refused and the message goes on without that one. A recipient too many
    /// is refused for now: the sender brings the rest in another message (RFC 5321 §4.5.3.1.10).
    pub fn reply_to_recipient(&self) -> &'static str {
        match self {
            Refused::Recipients(_) => "452 4.5.3 Too many recipients in one message, please send to this one again",
            _ => self.reply(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_in_the_message_is_refused_for_good_and_what_lies_here_for_now() {
        let for_good = [
            Refused::Recipients(1),
            Refused::Path(1),
            Refused::Login(1),
            Refused::KeyFields(1),
            Refused::Header(1),
            Refused::Body(1),
        ];
        let for_now = [
            Refused::Full("x"),
            Refused::Panicked("x"),
            Refused::Late { what: "x", limit: Duration::ZERO },
            Refused::Stopping,
            Refused::Silent { what: "x", limit: Duration::ZERO },
            Refused::Edit,
            Refused::Recipient,
        ];
        for (faults, class) in [(&for_good[..], '5'), (&for_now[..], '4')] {
            assert!(faults.iter().all(|fault| is_reply(fault.reply(), class)), "{faults:?}");
        }
        let behind = |fault: &Refused| is_reply(fault.reply_behind_queue(), '4');
        assert!(for_good.iter().chain(&for_now).all(behind), "behind a queue nothing is refused for good");
        assert!(is_reply(Refused::Recipients(1).reply_to_recipient(), '4') && is_reply(ONE_AT_A_TIME, '4'));
        assert_eq!(Refused::Path(1).reply_to_recipient(), Refused::Path(1).reply());
    }

    /// Whether this is one line of an SMTP reply of this class that does not end the session.
    fn is_reply(reply: &str, class: char) -> bool {
        let words: Vec<&str> = reply.splitn(3, ' ').collect();
        let [code, status, text] = words.as_slice() else { return false };
        let plain = text.bytes().all(|octet| (b' '..=b'~').contains(&octet) && octet != b'%');
        let fits = code.len() == 3 && code.starts_with(class) && status.starts_with(class);
        fits && plain && *code != "421" && reply.len() < 200
    }
}
