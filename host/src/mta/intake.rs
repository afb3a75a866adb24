//! Makes a `Mail` of what a door hears of a message, command by command and field by field.
//!
//! It holds the limits: recipients, fields and their octets, fields that the MTA may have to delete. Key fields leave the
//! header for [`Head::keys`]; a key that no MTA can delete makes the message malformed. The value of a key field is copied
//! into an [`AuthKey`] alone, which wipes itself. The door wipes the octets that it hands over.

use std::mem::take;
use std::net::IpAddr;
use std::ops::Range;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::SystemTime;

use memchr::memchr;

use crate::case::{Client, Door, Envelope, Field, Head, Mail, Means, Recipient, ReversePath};
use crate::config::Limits;
use crate::mta::Refused;
use crate::proto::address::Address;
use crate::proto::header::{
    Bounds, KEY_FIELD, KEY_FIELDS, NEW_KEY_FIELD, TOLD_FIELDS, hidden_keys, hides_field, hides_key, key_value, scan,
};
use crate::proto::key::AuthKey;

/// A message as far as it has come in.
#[derive(Debug)]
pub struct Intake {
    limits: Arc<Limits>,
    envelope: Envelope,
    head: Head,
    fields: usize,
    octets: usize,
    /// Fields that the MTA may have to delete. They count beyond the limits too.
    doomed: usize,
}

/// What a field's name says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Key,
    NewKey,
    /// One of [`TOLD_FIELDS`].
    Ours(&'static str),
    Other,
}

impl Kind {
    fn of(name: &[u8]) -> Kind {
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        let ours = || TOLD_FIELDS.into_iter().find(|known| is(known)).map_or(Kind::Other, Kind::Ours);
        if is(KEY_FIELD) {
            Kind::Key
        } else if is(NEW_KEY_FIELD) {
            Kind::NewKey
        } else {
            ours()
        }
    }
}

impl Intake {
    /// A message of which only the session is known: its client, the daemon of the MTA that takes it, and the login.
    pub fn new(client: Client, daemon: String, login: Option<String>, limits: Arc<Limits>) -> Intake {
        let envelope = Envelope { client, daemon, login, ..Envelope::default() };
        Intake { limits, envelope, head: Head::default(), fields: 0, octets: 0, doomed: 0 }
    }

    /// The door, where it is not that of a reception.
    pub fn comes_to(&mut self, door: Door) {
        self.envelope.door = door;
    }

    /// MAIL: the reverse-path and its parameters. A path over `limits.mta.text` has no address; a parameter that is not known
    /// or cannot be read counts for nothing.
    pub fn begin(&mut self, path: &[u8], parameters: &[&[u8]]) {
        for parameter in parameters {
            if parameter.eq_ignore_ascii_case(b"SMTPUTF8") {
                self.envelope.smtputf8 = true;
            } else if parameter.get(..5).is_some_and(|name| name.eq_ignore_ascii_case(b"SIZE=")) {
                let digits = parameter.get(5..).and_then(|digits| std::str::from_utf8(digits).ok());
                self.envelope.size = digits.and_then(|digits| digits.parse().ok());
            }
        }
        self.envelope.reverse_path = match bare(path) {
            b"" => ReversePath::Null,
            inner if inner.len() > self.limits.mta.text => ReversePath::Path(None),
            inner => ReversePath::Path(Address::parse(inner, self.envelope.smtputf8).ok()),
        };
    }

    /// What the MTA calls itself.
    pub fn taken_by(&mut self, mta: &str) {
        mta.clone_into(&mut self.envelope.mta);
    }

    /// What the MTA calls itself, as [`Intake::taken_by`] said.
    pub fn mta(&self) -> &str {
        &self.envelope.mta
    }

    /// Whether its client logged in.
    pub fn has_login(&self) -> bool {
        self.envelope.login.is_some()
    }

    /// What this door can do with it.
    pub fn by(&mut self, means: Means) {
        self.envelope.means = means;
    }

    /// When MAIL came.
    pub fn received(&mut self, at: SystemTime) {
        self.envelope.received = at;
    }

    /// The MTA's name for it; an empty one is none.
    pub fn queued_as(&mut self, id: &str) {
        if !id.is_empty() {
            self.envelope.queue_id = Some(id.to_owned());
        }
    }

    /// The MTA's name for it, for the log.
    pub fn queue_id(&self) -> &str {
        self.envelope.queue_id.as_deref().unwrap_or("-")
    }

    /// RCPT: reads a recipient, as the MTA does where it `told` that. [`Intake::join`] then takes it into the message.
    ///
    /// # Errors
    /// [`Refused::Path`] and [`Refused::Recipients`], which a door may say of this recipient alone.
    pub fn recipient(&self, path: &[u8], parameters: &[&[u8]], told: Option<&[u8]>) -> Result<Recipient, Refused> {
        if path.len() > self.limits.mta.text {
            return Err(Refused::Path(self.limits.mta.text));
        }
        if self.envelope.recipients.len() >= self.limits.mta.recipients {
            return Err(Refused::Recipients(self.limits.mta.recipients));
        }
        let never_notify = parameters.iter().any(|parameter| never_notify(parameter));
        let recipient = match told {
            Some(told) => Recipient::by_mta(path, told),
            None => Recipient::new(path),
        };
        Ok(Recipient { never_notify, ..recipient })
    }

    /// A recipient of the message.
    pub fn join(&mut self, recipient: Recipient) {
        self.envelope.recipients.push(recipient);
    }

    /// The first of the recipients.
    pub fn first(&self) -> Option<&Recipient> {
        self.envelope.recipients.first()
    }

    /// A header field, the topmost first; `spaced` when values keep their leading space. Folds are LF and blank; blanks
    /// behind the name are no part of it, and count where the MTA deletes by spellings ([`Head::spelled`]).
    ///
    /// Postfix 3.7.11 (measured) hands `X-Auth-Key : v`, `X-Auth-Key<TAB>: v` and any letter case as one name without the
    /// blanks, and counts all of them in one row when it deletes; folds come as LF and blank, 8-bit octets as they are, a
    /// bare CR as a space; a value ends at its first NUL, and so does what it delivers. Header lines beyond
    /// `header_size_limit` are gone for all readers. A line that is no field ends the header: the rest begins the body.
    ///
    /// # Errors
    /// [`Refused::KeyFields`].
    pub fn field(&mut self, name: &[u8], value: &[u8], spaced: bool) -> Result<(), Refused> {
        let spelled = name;
        let name = name.trim_ascii_end();
        let over = self.is_over(name, value);
        let kind = Kind::of(name);
        if kind != Kind::Other {
            if self.doomed >= self.limits.mta.key_fields {
                return Err(Refused::KeyFields(self.limits.mta.key_fields));
            }
            self.doomed += 1;
            self.head.spelled.push(String::from_utf8_lossy(spelled).into_owned());
        }
        // Beyond the limits the fields that may have to be deleted are only counted.
        match kind {
            Kind::Key => {
                let key = self.key(value, over);
                self.head.keys.push(key);
            }
            Kind::NewKey => {
                let key = self.key(value, over);
                self.head.new_keys.push(key);
            }
            Kind::Ours(name) if over => self.head.fields.push(Field { name: name.to_owned(), value: Vec::new() }),
            Kind::Other if over => {}
            Kind::Ours(_) | Kind::Other => self.plain_field(name, value, spaced),
        }
        Ok(())
    }

    /// Counts a field, and whether the header is over its limits with it.
    fn is_over(&mut self, name: &[u8], value: &[u8]) -> bool {
        self.fields = self.fields.saturating_add(1);
        self.octets = self.octets.saturating_add(name.len()).saturating_add(value.len()).saturating_add(3);
        let over = self.fields > self.limits.mta.header_fields || self.octets > self.limits.mta.header_octets;
        self.head.malformed |= over;
        self.head.truncated |= over;
        over
    }

    /// The key in the value of a key field. Beyond the limits it is no key to ask about, but one to cut out all the same.
    fn key(&mut self, value: &[u8], over: bool) -> Option<AuthKey> {
        let key = AuthKey::parse(key_value(value)).ok();
        if over {
            self.head.hidden.extend(key);
            return None;
        }
        key
    }

    /// A field that is no key field, within the limits.
    fn plain_field(&mut self, name: &[u8], value: &[u8], spaced: bool) {
        let is_name = !name.is_empty() && name.iter().all(|octet| octet.is_ascii_graphic() && *octet != b':');
        let Some(name) = std::str::from_utf8(name).ok().filter(|_| is_name) else {
            // No field by RFC 5322, and none that an MTA could be asked to delete.
            self.head.malformed = true;
            return;
        };
        // A bare CR is a line's end to some readers; the first line of a folded value may be empty. An LF that folds nothing
        // comes from no MTA that cuts a header into fields.
        let lines = value.strip_prefix(b"\n").unwrap_or(value);
        self.head.malformed |= value.contains(&b'\r') && KEY_FIELDS.iter().any(|name| hides_field(lines, name));
        self.head.malformed |=
            value.split(|octet| *octet == b'\n').skip(1).any(|l| !matches!(l.first(), Some(b' ' | b'\t')));
        if value.contains(&b'\r') && self.head.hidden.len() <= self.limits.mta.key_fields {
            self.head.hidden.extend(hidden_keys(lines, &KEY_FIELDS));
        }
        let mut stored = Vec::with_capacity(value.len() + 1);
        if !spaced && !matches!(value.first(), None | Some(b' ' | b'\t' | b'\n')) {
            stored.push(b' ');
        }
        stored.extend_from_slice(value);
        self.head.fields.push(Field { name: name.to_owned(), value: stored });
    }

    /// Lines of a header that the MTA does not know as fields of their own, and so cannot delete, although other readers may
    /// take them for fields. A field that may have to be deleted makes the message malformed there.
    pub fn beside(&mut self, lines: &[u8]) {
        let mut rest = lines;
        while !rest.is_empty() {
            let block = scan(rest, Bounds { fields: usize::MAX, octets: usize::MAX });
            for field in &block.fields {
                let part = |range: &Range<usize>| rest.get(range.clone()).unwrap_or_default();
                let (name, value) = (part(&field.name), part(&field.value));
                let over = self.is_over(name, value);
                if is_edited(name) {
                    self.head.malformed = true;
                    self.head.hidden.extend(AuthKey::parse(key_value(value)).ok());
                } else if !over {
                    self.plain_field(name, value, true);
                }
            }
            // A line that is no field, but may be one to a reader that is looser than we are.
            let line = rest.get(block.end..).unwrap_or_default();
            let (line, below) = line.split_at(memchr(b'\n', line).map_or(line.len(), |end| end + 1));
            self.head.malformed |= loose_name(line).is_some_and(|name| is_edited(&name) || is_author(&name));
            rest = below;
        }
    }

    /// Ends the header: the message is a `Mail` now. `body_start` is how the body begins, empty where there is none. Of this
    /// only the session and the queue id are left.
    ///
    /// An MTA ends the header at the first line that is no field; a later reader may not. So a key field at the beginning of
    /// the body, which no MTA can remove, makes the message malformed.
    ///
    /// # Errors
    /// [`Refused::Panicked`]: reading the From field, which a stranger wrote, panicked.
    pub fn finish(&mut self, body_start: &[u8]) -> Result<Mail, Refused> {
        let hidden = KEY_FIELDS.iter().any(|name| hides_key(body_start, name));
        self.head.malformed |= hidden;
        self.head.hidden.extend(hidden_keys(body_start, &KEY_FIELDS));
        let recipients = take(&mut self.envelope.recipients);
        let (envelope, head) = (Envelope { recipients, ..self.envelope.clone() }, take(&mut self.head));
        let read = std::panic::catch_unwind(AssertUnwindSafe(|| Mail::new(envelope, head)));
        read.map_err(|_| Refused::Panicked("reading the header of"))
    }
}

/// Whether a field of this name, without blanks behind it, may have to be deleted.
pub fn is_edited(name: &[u8]) -> bool {
    Kind::of(name) != Kind::Other
}

/// The name of the field that a loose reader finds in a line: without its blanks and the colons before it. Stalwart's
/// (mail-parser 0.11, read) takes `Fr om: a` and `: From: a` for From.
pub fn loose_name(line: &[u8]) -> Option<Vec<u8>> {
    let mut name = Vec::new();
    for octet in line {
        match octet {
            b':' if !name.is_empty() => return Some(name),
            b':' | 0x0b => {}
            octet if octet.is_ascii_whitespace() => {}
            octet => name.push(*octet),
        }
    }
    None
}

/// Whether a field of this name says who wrote the message.
fn is_author(name: &[u8]) -> bool {
    ["From", "Sender"].iter().any(|known| name.eq_ignore_ascii_case(known.as_bytes()))
}

/// Octets as text; absent where there are more than `limit`.
pub fn text(octets: &[u8], limit: usize) -> Option<String> {
    (octets.len() <= limit).then(|| String::from_utf8_lossy(octets).into_owned())
}

/// The name that a client logged in with; none where it is empty.
///
/// # Errors
/// [`Refused::Login`]: it has more than `limit` octets. Without it the message would be a stranger's, so it is not taken.
pub fn login(name: &[u8], limit: usize) -> Result<Option<String>, Refused> {
    if name.is_empty() { Ok(None) } else { text(name, limit).map(Some).ok_or(Refused::Login(limit)) }
}

/// A client's name, where it is one: `unknown`, or the address in brackets, stands where forward and reverse look-up
/// disagree.
pub fn client_name(name: &[u8], limit: usize) -> Option<String> {
    let known = |name: &String| !name.is_empty() && name != "unknown" && !name.starts_with('[');
    text(name, limit).filter(known)
}

/// A client's address. One with a zone is none: it is of a network that no configuration could name.
pub fn client_ip(octets: &[u8]) -> Option<IpAddr> {
    let address = std::str::from_utf8(octets).ok()?;
    // An SMTP address literal's prefix (RFC 5321 §4.1.3).
    let address = address.strip_prefix("IPv6:").unwrap_or(address);
    Some(address.parse::<IpAddr>().ok()?.to_canonical())
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

#[cfg(test)]
mod tests;
