//! One message as it comes in, frame by frame, until it is a `Mail`.

use std::mem::take;
use std::time::SystemTime;

use super::Error;
use super::frame::strings;
use crate::case::{Client, Field, Mail, Recipient, ReversePath};
use crate::config::Limits;
use crate::proto::address::Address;
use crate::proto::header::{KEY_FIELD, NEW_KEY_FIELD, STATUS_FIELD, hides_field, hides_key, key_value};
use crate::proto::key::AuthKey;
use crate::proto::mark::MARK_FIELD;

/// Fields that only we may write: a forged one has to be found and deleted wherever it stands.
const OURS: [&str; 2] = [STATUS_FIELD, MARK_FIELD];
/// The fields whose values are secret.
const KEYS: [&str; 2] = [KEY_FIELD, NEW_KEY_FIELD];

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
}

/// A message between MAIL and our answer.
#[derive(Debug)]
pub(super) struct Message {
    /// How far it has come.
    pub(super) stage: Stage,
    /// Why it will get 451.
    pub(super) fault: Option<Error>,
    mail: Mail,
    fields: usize,
    octets: usize,
    /// Fields that count, whatever the limits say, because the MTA may have to delete them.
    doomed: usize,
}

impl Message {
    /// A message of which nothing but its sender's session is known.
    pub(super) fn new(client: Client, daemon: String, login: Option<String>) -> Message {
        let mail = Mail {
            received: SystemTime::UNIX_EPOCH,
            queue_id: None,
            client,
            daemon,
            login,
            reverse_path: ReversePath::Null,
            smtputf8: false,
            size: None,
            recipients: Vec::new(),
            fields: Vec::new(),
            keys: Vec::new(),
            malformed: false,
            truncated: false,
        };
        Message { stage: Stage::Envelope, fault: None, mail, fields: 0, octets: 0, doomed: 0 }
    }

    /// MAIL: the reverse-path, of at most `limit` octets, and its parameters.
    pub(super) fn begin(&mut self, payload: &[u8], limit: usize) -> Result<(), Error> {
        let words = strings(payload).ok_or(Error::Malformed("MAIL"))?;
        let Some((path, parameters)) = words.split_first().filter(|(path, _)| path.len() <= limit) else {
            return Err(Error::Malformed("MAIL"));
        };
        for parameter in parameters {
            if parameter.eq_ignore_ascii_case(b"SMTPUTF8") {
                self.mail.smtputf8 = true;
            } else if parameter.get(..5).is_some_and(|name| name.eq_ignore_ascii_case(b"SIZE=")) {
                let digits = parameter.get(5..).and_then(|digits| std::str::from_utf8(digits).ok());
                self.mail.size = digits.and_then(|digits| digits.parse().ok());
            }
        }
        self.mail.reverse_path = match bare(path) {
            b"" => ReversePath::Null,
            inner => ReversePath::Path(Address::parse(inner, self.mail.smtputf8).ok()),
        };
        Ok(())
    }

    /// When MAIL came.
    pub(super) fn received(&mut self, at: SystemTime) {
        self.mail.received = at;
    }

    /// The queue id as macro `i` tells it: Postfix 3.7 does not know it at MAIL and at the first RCPT.
    pub(super) fn queued_as(&mut self, id: &str) {
        if !id.is_empty() {
            self.mail.queue_id = Some(id.to_owned());
        }
    }

    /// The queue id, for the log.
    pub(super) fn queue_id(&self) -> &str {
        self.mail.queue_id.as_deref().unwrap_or("-")
    }

    /// A recipient.
    pub(super) fn recipient(&mut self, payload: &[u8], limits: &Limits) -> Result<(), Error> {
        let words = strings(payload).ok_or(Error::Malformed("RCPT"))?;
        let Some(path) = words.first().filter(|path| path.len() <= limits.milter_text) else {
            return Err(Error::Malformed("RCPT"));
        };
        if self.mail.recipients.len() >= limits.recipients {
            return Err(Error::Recipients(limits.recipients));
        }
        let address = Address::parse(bare(path), self.mail.smtputf8).ok();
        let never_notify = words.iter().skip(1).any(|parameter| never_notify(parameter));
        self.mail.recipients.push(Recipient { path: path.to_vec(), address, never_notify });
        Ok(())
    }

    /// A header field; `spaced` when values keep their leading space.
    ///
    /// Postfix 3.7.11 (measured) hands `X-Auth-Key : v`, `X-Auth-Key<TAB>: v` and any letter case as one name without the
    /// blanks, and counts all of them in one row when it deletes; folds come as LF and blank, 8-bit octets as they are, a bare
    /// CR as a space; a value ends at its first NUL, and so does what it delivers. Header lines beyond `header_size_limit` are
    /// gone for all readers. A line that is no field ends the header: the rest begins the body.
    pub(super) fn field(&mut self, payload: &[u8], spaced: bool, limits: &Limits) -> Result<(), Error> {
        let words = strings(payload).ok_or(Error::Malformed("header"))?;
        let &[name, value] = words.as_slice() else { return Err(Error::Malformed("header")) };
        let name = name.trim_ascii_end();
        self.fields = self.fields.saturating_add(1);
        self.octets = self.octets.saturating_add(name.len()).saturating_add(value.len()).saturating_add(3);
        let over = self.fields > limits.header_fields || self.octets > limits.header_octets;
        self.mail.malformed |= over;
        self.mail.truncated |= over;
        let is = |known: &&str| name.eq_ignore_ascii_case(known.as_bytes());
        let ours = OURS.iter().find(|known| is(known));
        if is(&KEY_FIELD) || ours.is_some() {
            if self.doomed >= limits.key_fields {
                return Err(Error::KeyFields(limits.key_fields));
            }
            self.doomed += 1;
        }
        // Beyond the limits the fields that may have to be deleted are only counted.
        if is(&KEY_FIELD) {
            let key = if over { None } else { AuthKey::parse(key_value(value)).ok() };
            self.mail.keys.push(key);
            return Ok(());
        }
        if over {
            self.mail.fields.extend(ours.map(|name| Field { name: (*name).to_owned(), value: Vec::new() }));
            return Ok(());
        }
        if is(&NEW_KEY_FIELD) {
            return Ok(());
        }
        let is_name = !name.is_empty() && name.iter().all(|octet| octet.is_ascii_graphic() && *octet != b':');
        let Some(name) = std::str::from_utf8(name).ok().filter(|_| is_name) else {
            // No field by RFC 5322, and none that a milter could name to delete it.
            self.mail.malformed = true;
            return Ok(());
        };
        // A bare CR is a line's end to some readers; the first line of a folded value may be empty. An LF that folds nothing
        // comes from no MTA that cuts a header into fields.
        let lines = value.strip_prefix(b"\n").unwrap_or(value);
        self.mail.malformed |= value.contains(&b'\r') && KEYS.iter().any(|name| hides_field(lines, name));
        self.mail.malformed |=
            value.split(|octet| *octet == b'\n').skip(1).any(|l| !matches!(l.first(), Some(b' ' | b'\t')));
        let mut stored = Vec::with_capacity(value.len() + 1);
        if !spaced && !matches!(value.first(), None | Some(b' ' | b'\t' | b'\n')) {
            stored.push(b' ');
        }
        stored.extend_from_slice(value);
        self.mail.fields.push(Field { name: name.to_owned(), value: stored });
        Ok(())
    }

    /// The header is over, and this is how the body begins; empty where there is none.
    ///
    /// An MTA ends the header at the first line that is no field; a reader after it may not. So a key field there makes the
    /// message malformed: no milter command can remove it.
    pub(super) fn finish(&mut self, body_start: &[u8]) -> Mail {
        let hidden = KEYS.iter().any(|name| hides_key(body_start, name));
        self.mail.malformed |= hidden;
        self.stage = Stage::Body;
        let (fields, keys) = (take(&mut self.mail.fields), take(&mut self.mail.keys));
        let recipients = take(&mut self.mail.recipients);
        Mail { fields, keys, recipients, ..self.mail.clone() }
    }
}

/// A path without its angle brackets.
fn bare(path: &[u8]) -> &[u8] {
    path.strip_prefix(b"<").and_then(|path| path.strip_suffix(b">")).unwrap_or(path)
}

/// Whether a RCPT parameter is a `NOTIFY=` without FAILURE (RFC 3461 §4.1).
fn never_notify(parameter: &[u8]) -> bool {
    let Some((name, occasions)) = parameter.split_at_checked(7) else { return false };
    name.eq_ignore_ascii_case(b"NOTIFY=")
        && !occasions.split(|octet| *octet == b',').any(|occasion| occasion.eq_ignore_ascii_case(b"FAILURE"))
}
