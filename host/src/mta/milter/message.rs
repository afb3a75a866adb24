//! One message as its frames come in: how far it has come, and whether its frames make a message at all.

use std::ops::Range;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::Error;
use super::again::Again;
use super::frame::strings;
use crate::case::{Client, Mail, Recipient};
use crate::config::Limits;
use crate::mta::intake::Intake;
use crate::proto::header::{Bounds, Span, scan};

/// Fields by which a header that comes again as the body is known: no message begins with three of its own fields by chance.
const OPENING: usize = 3;
/// Octets of each that are compared.
const OPENING_LINE: usize = 256;

/// How far a message has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// MAIL was said; recipients and DATA may come.
    Envelope,
    /// Header fields come.
    Header,
    /// The header is over.
    HeaderEnd,
    /// The body has begun, and the message is being examined.
    Body,
    /// It is examined, and its body is not needed.
    Skipped,
    /// It is examined, and its body is to be kept.
    Wanted,
}

/// A message between MAIL and our answer.
#[derive(Debug)]
pub(super) struct Message {
    /// How far it has come.
    pub(super) stage: Stage,
    /// Why it will be refused.
    pub(super) fault: Option<Error>,
    /// A recipient that is being compared with the first.
    pub(super) asked: Option<Recipient>,
    /// What has come in of it.
    pub(super) intake: Intake,
    /// The first fields' names, and the first lines of their values.
    opening: Vec<(Vec<u8>, Zeroizing<Vec<u8>>)>,
    /// The header, until it is all there, of an MTA that shows it once more in the body.
    again: Option<Again>,
}

impl Message {
    /// A message of which only the session is known.
    pub(super) fn new(client: Client, daemon: String, login: Option<String>, limits: Arc<Limits>) -> Message {
        let intake = Intake::new(client, daemon, login, limits);
        Message { stage: Stage::Envelope, fault: None, asked: None, intake, opening: Vec::new(), again: None }
    }

    /// Its header is to come twice, the second time as the beginning of the body.
    pub(super) fn shown_again(&mut self) {
        self.again = Some(Again::default());
    }

    /// MAIL.
    pub(super) fn begin(&mut self, payload: &[u8]) -> Result<(), Error> {
        let words = strings(payload).ok_or(Error::Malformed("MAIL"))?;
        let (path, parameters) = words.split_first().ok_or(Error::Malformed("MAIL"))?;
        self.intake.begin(path, parameters);
        Ok(())
    }

    /// Reads a recipient, as the MTA does where it `told` that.
    pub(super) fn recipient(&self, payload: &[u8], told: Option<&[u8]>) -> Result<Recipient, Error> {
        let words = strings(payload).ok_or(Error::Malformed("RCPT"))?;
        let (path, parameters) = words.split_first().ok_or(Error::Malformed("RCPT"))?;
        Ok(self.intake.recipient(path, parameters, told)?)
    }

    /// Whether its header is to come twice.
    pub(super) fn is_shown_again(&self) -> bool {
        self.again.is_some()
    }

    /// A header field; `spaced` when values keep their leading space.
    pub(super) fn field(&mut self, payload: &[u8], spaced: bool, limits: &Limits) -> Result<(), Error> {
        if let Some(again) = &mut self.again {
            return again.tell(payload, limits);
        }
        let words = strings(payload).ok_or(Error::Malformed("header"))?;
        let &[name, value] = words.as_slice() else { return Err(Error::Malformed("header")) };
        if self.opening.len() < OPENING {
            let line = Zeroizing::new(first_line(value).to_vec());
            self.opening.push((name.trim_ascii_end().to_ascii_lowercase(), line));
        }
        Ok(self.intake.field(name, value, spaced)?)
    }

    /// Whether the body begins with the header's first fields. Then it is no body but the whole message once more.
    pub(super) fn comes_again(&self, body_start: &[u8]) -> bool {
        let block = scan(body_start, Bounds { fields: OPENING, octets: usize::MAX });
        let octets = |range: &Range<usize>| body_start.get(range.clone()).unwrap_or_default();
        let same = |((name, line), span): (&(Vec<u8>, Zeroizing<Vec<u8>>), &Span)| {
            octets(&span.name).eq_ignore_ascii_case(name) && first_line(octets(&span.value)) == line.as_slice()
        };
        self.opening.len() == OPENING
            && block.fields.len() == OPENING
            && self.opening.iter().zip(&block.fields).all(same)
    }

    /// Ends the header at a piece of the body; `last` where none follows. With the message comes the place in the piece at which its
    /// body begins. There is no message yet where more of its header is to come.
    pub(super) fn finish(&mut self, piece: &[u8], last: bool, limits: &Limits) -> Result<Option<(Mail, usize)>, Error> {
        let mut body = 0;
        if let Some(again) = &mut self.again {
            let Some(begin) = again.hear(piece, last, limits)? else { return Ok(None) };
            again.put_into(&mut self.intake)?;
            (body, self.again) = (begin, None);
        }
        self.stage = Stage::Body;
        Ok(Some((self.intake.finish(piece.get(body..).unwrap_or_default())?, body)))
    }
}

/// The first line of a field's value without blanks around it, or the beginning of a long one.
fn first_line(value: &[u8]) -> &[u8] {
    let line = value.split(|octet| matches!(octet, b'\r' | b'\n')).next().unwrap_or_default().trim_ascii();
    line.get(..OPENING_LINE).unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_that_is_no_row_of_strings_is_malformed() {
        let mut message = Message::new(Client::default(), String::new(), None, Arc::default());
        for payload in [&b""[..], b"no end"] {
            assert!(matches!(message.begin(payload), Err(Error::Malformed("MAIL"))));
            assert!(matches!(message.recipient(payload, None), Err(Error::Malformed("RCPT"))));
        }
        for payload in [&b""[..], b"A\0", b"A\0b", b"A\0b\0c\0"] {
            assert!(matches!(message.field(payload, true, &Limits::default()), Err(Error::Malformed("header"))));
        }
        let recipient =
            message.recipient(b"<b@two.example>\0ORCPT=rfc822;b@two.example\0NOTIFY=NEVER\0", None).unwrap();
        assert!(recipient.path == b"<b@two.example>" && recipient.never_notify);
    }
}
