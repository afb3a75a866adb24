//! Negotiation: what the MTA offers, and what we take of it.

use tokio_util::bytes::BytesMut;

use super::Error;
use super::frame::{Frame, answer, command, put};
use crate::mta::Counting;

/// The newest version of the protocol that is spoken here.
const VERSION: u32 = 6;
/// The oldest: before it there was no negotiation of what follows.
const OLDEST: u32 = 2;

/// Actions: add header fields.
const ADD_FIELDS: u32 = 0x01;
/// Actions: add recipients.
const ADD_RECIPIENTS: u32 = 0x04;
/// Actions: delete recipients.
const DELETE_RECIPIENTS: u32 = 0x08;
/// Actions: change and delete header fields.
const CHANGE_FIELDS: u32 = 0x10;
/// Actions: hold the message.
const QUARANTINE: u32 = 0x20;
/// Actions: choose which macros come.
const CHOOSE_MACROS: u32 = 0x100;

/// Protocol: unknown SMTP commands are not told.
const NO_UNKNOWN: u32 = 0x100;
/// Protocol: the rest of a body may be skipped.
const SKIP: u32 = 0x400;
/// Protocol: values keep their leading space, in both directions.
const LEADING_SPACE: u32 = 0x10_0000;
/// Protocol: commands that get no answer, and so cost no round trip. MAIL is answered, because it gets 451 where too many
/// messages are in flight; a body's pieces are answered, because the first answer can save all the others; RCPT is answered
/// where recipients are told apart.
///
/// RCPT_REJ (0x800) is not asked for: recipients that the MTA refused do not come then.
const UNANSWERED: [(u8, u32); 6] = [
    (command::HEADER, 0x80),
    (command::CONNECT, 0x1000),
    (command::HELO, 0x2000),
    (command::RCPT, 0x8000),
    (command::DATA, 0x1_0000),
    (command::END_OF_HEADER, 0x4_0000),
];

/// The macros that are wanted, by stage: 0 connect, 1 HELO, 2 MAIL, 3 RCPT, 4 DATA, 5 end of message. Without our asking,
/// Postfix 3.7 sends all of them but `{tls_version}` at MAIL; an administrator may have changed that.
const MACROS: [(u32, &[u8]); 6] = [
    (0, b"j {daemon_name} v\0"),
    (1, b"{tls_version}\0"),
    (2, b"i {auth_authen} {tls_version}\0"),
    (3, b"i {rcpt_addr} {rcpt_mailer}\0"),
    (4, b"i\0"),
    (5, b"i\0"),
];

/// What was agreed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    actions: u32,
    protocol: u32,
    counting: Counting,
    folds_crlf: bool,
}

impl Terms {
    /// Takes what is useful of an offer, and writes our answer to it. Where recipients are told apart (`splits`), the MTA is
    /// to wait for an answer to each.
    pub fn agree(offer: &Frame, splits: bool, out: &mut BytesMut) -> Result<Terms, Error> {
        if offer.command != command::OPTIONS {
            return Err(Error::Order(offer.command));
        }
        // What follows the three words is for a later version.
        let mut words = offer.payload.chunks_exact(4).map(|w| w.iter().fold(0, |n, o| n << 8 | u32::from(*o)));
        let (Some(version), Some(actions), Some(protocol)) = (words.next(), words.next(), words.next()) else {
            return Err(Error::Malformed("negotiation"));
        };
        if version < OLDEST {
            return Err(Error::Version(version));
        }
        let quiet = UNANSWERED.iter().filter(|(command, _)| !(splits && *command == command::RCPT));
        let silent = quiet.fold(0, |all, (_, flag)| all | flag);
        let recipients = ADD_RECIPIENTS | DELETE_RECIPIENTS;
        let terms = Terms {
            actions: actions & (ADD_FIELDS | CHANGE_FIELDS | recipients | QUARANTINE | CHOOSE_MACROS),
            protocol: protocol & (NO_UNKNOWN | SKIP | LEADING_SPACE | silent),
            ..Terms::default()
        };
        let mut words = Vec::new();
        for word in [version.min(VERSION), terms.actions, terms.protocol] {
            words.extend(word.to_be_bytes());
        }
        if terms.actions & CHOOSE_MACROS != 0 {
            for (stage, names) in MACROS {
                words.extend(stage.to_be_bytes());
                words.extend(names);
            }
        }
        put(out, answer::OPTIONS, &[&words], usize::MAX)?;
        Ok(terms)
    }

    /// What these terms mean with a Stalwart: it counts fields by their spelling, writes values as they come, delivers what is
    /// to be held, and returns mail to a spam folder's address (0.15.5 and 0.16.19, measured).
    #[must_use]
    pub fn with_stalwart(self) -> Terms {
        let actions = self.actions & !(QUARANTINE | ADD_RECIPIENTS);
        Terms { actions, counting: Counting::BySpelling, folds_crlf: true, ..self }
    }

    /// How the MTA counts the fields of one name.
    pub fn counting(&self) -> Counting {
        self.counting
    }

    /// Whether the MTA writes a value's line endings as they come, so that they have to be CRLF.
    pub fn folds_crlf(&self) -> bool {
        self.folds_crlf
    }

    /// Whether fields may be inserted.
    pub fn may_insert(&self) -> bool {
        self.actions & ADD_FIELDS != 0
    }

    /// Whether fields may be deleted.
    pub fn may_delete(&self) -> bool {
        self.actions & CHANGE_FIELDS != 0
    }

    /// Whether recipients may be added.
    pub fn may_add_recipients(&self) -> bool {
        self.actions & ADD_RECIPIENTS != 0
    }

    /// Whether recipients may be deleted.
    pub fn may_delete_recipients(&self) -> bool {
        self.actions & DELETE_RECIPIENTS != 0
    }

    /// Whether the message may be held.
    pub fn may_hold(&self) -> bool {
        self.actions & QUARANTINE != 0
    }

    /// Whether the rest of a body may be skipped.
    pub fn may_skip(&self) -> bool {
        self.protocol & SKIP != 0
    }

    /// Whether values keep their leading space.
    pub fn keep_leading_space(&self) -> bool {
        self.protocol & LEADING_SPACE != 0
    }

    /// Whether the MTA waits for an answer to this command.
    pub fn answers(&self, command: u8) -> bool {
        !UNANSWERED.iter().any(|(silent, flag)| *silent == command && self.protocol & flag != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agree(version: u32, actions: u32, protocol: u32) -> (Terms, Vec<u8>) {
        let mut out = BytesMut::new();
        let words = [version, actions, protocol].map(u32::to_be_bytes).concat();
        let terms = Terms::agree(&Frame::new(b'O', &[&words]), false, &mut out).unwrap();
        (terms, out[5..].to_vec())
    }

    #[test]
    fn postfix_gets_an_answer_with_what_it_offers() {
        let (terms, answer) = agree(6, 0x1ff, 0x1f_ffff);
        assert_eq!(answer[..12], [6, 0x13d, 0x15_b580].map(u32::to_be_bytes).concat());
        assert!(answer[12..].starts_with(b"\0\0\0\0j {daemon_name} v\0\0\0\0\x01{tls_version}\0"));
        assert!(terms.may_insert() && terms.may_delete() && terms.may_hold() && terms.may_skip());
        assert!(terms.may_add_recipients() && terms.may_delete_recipients() && terms.keep_leading_space());
        assert!(!terms.answers(command::RCPT) && !terms.answers(command::HEADER));
        assert!(terms.answers(command::MAIL) && terms.answers(command::BODY));
    }

    #[test]
    fn where_recipients_are_told_apart_rcpt_is_answered_and_nothing_else_changes() {
        let mut out = BytesMut::new();
        let offer = Frame::new(b'O', &[&[6u32, 0x1ff, 0x1f_ffff].map(u32::to_be_bytes).concat()]);
        let terms = Terms::agree(&offer, true, &mut out).unwrap();
        assert_eq!(out[5..17], [6, 0x13d, 0x15_3580].map(u32::to_be_bytes).concat());
        assert!(terms.answers(command::RCPT) && !terms.answers(command::DATA));
    }

    #[test]
    fn nothing_is_taken_that_was_not_offered() {
        for version in 2..=7 {
            let (terms, answer) = agree(version, 0, 0);
            assert_eq!(answer, [version.min(6), 0, 0].map(u32::to_be_bytes).concat());
            assert!(!terms.may_insert() && !terms.may_delete() && !terms.may_hold() && !terms.may_skip());
            assert!(!terms.may_add_recipients() && !terms.may_delete_recipients());
            assert!(terms.answers(command::RCPT) && terms.answers(command::HEADER));
        }
    }

    #[test]
    fn version_1_short_offers_and_other_commands_are_refused() {
        let mut out = BytesMut::new();
        let old = [1u32, 0x3f, 0x7f].map(u32::to_be_bytes).concat();
        let mut agree = |command, offer: &[u8]| Terms::agree(&Frame::new(command, &[offer]), false, &mut out);
        assert!(matches!(agree(b'O', &old), Err(Error::Version(1))));
        assert!(matches!(agree(b'O', &old[..11]), Err(Error::Malformed(_))));
        assert!(matches!(agree(b'M', &old), Err(Error::Order(b'M'))));
        assert!(out.is_empty());
    }
}
