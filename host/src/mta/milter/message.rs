//! One message as it comes in, frame by frame, until it is a `Mail`.

use std::mem::take;
use std::ops::Range;
use std::time::SystemTime;

use zeroize::Zeroizing;

use super::Error;
use super::frame::strings;
use crate::case::{Client, Envelope, Field, Head, Mail, Recipient, ReversePath};
use crate::config::Limits;
use crate::proto::address::Address;
use crate::proto::header::{
    Bounds, KEY_FIELD, KEY_FIELDS, Span, TOLD_FIELDS, hidden_keys, hides_field, hides_key, key_value, scan,
};
use crate::proto::key::AuthKey;

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
    /// It is examined, and nobody needs the body.
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
    /// A recipient of whom it is still to be said whether he may stay beside the first.
    pub(super) asked: Option<Recipient>,
    envelope: Envelope,
    head: Head,
    fields: usize,
    octets: usize,
    /// Fields that count, whatever the limits say, because the MTA may have to delete them.
    doomed: usize,
    /// The first fields' names, and the first lines of their values.
    opening: Vec<(Vec<u8>, Zeroizing<Vec<u8>>)>,
}

impl Message {
    /// A message of which nothing but its sender's session is known.
    pub(super) fn new(client: Client, daemon: String, login: Option<String>) -> Message {
        let envelope = Envelope { client, daemon, login, ..Envelope::default() };
        Message {
            stage: Stage::Envelope,
            fault: None,
            asked: None,
            envelope,
            head: Head::default(),
            fields: 0,
            octets: 0,
            doomed: 0,
            opening: Vec::new(),
        }
    }

    /// MAIL: the reverse-path, no address where it has more than `limit` octets, and its parameters, of which those that are
    /// not known, or say what cannot be read, say nothing.
    pub(super) fn begin(&mut self, payload: &[u8], limit: usize) -> Result<(), Error> {
        let words = strings(payload).ok_or(Error::Malformed("MAIL"))?;
        let (path, parameters) = words.split_first().ok_or(Error::Malformed("MAIL"))?;
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
            inner if inner.len() > limit => ReversePath::Path(None),
            inner => ReversePath::Path(Address::parse(inner, self.envelope.smtputf8).ok()),
        };
        Ok(())
    }

    /// What the MTA calls itself.
    pub(super) fn taken_by(&mut self, mta: &str) {
        mta.clone_into(&mut self.envelope.mta);
    }

    /// What the MTA calls itself, as it said before MAIL.
    pub(super) fn mta(&self) -> &str {
        &self.envelope.mta
    }

    /// Whether its client logged in.
    pub(super) fn has_login(&self) -> bool {
        self.envelope.login.is_some()
    }

    /// When MAIL came.
    pub(super) fn received(&mut self, at: SystemTime) {
        self.envelope.received = at;
    }

    /// The queue id as macro `i` tells it: Postfix 3.7 does not know it at MAIL and at the first RCPT.
    pub(super) fn queued_as(&mut self, id: &str) {
        if !id.is_empty() {
            self.envelope.queue_id = Some(id.to_owned());
        }
    }

    /// The queue id, for the log.
    pub(super) fn queue_id(&self) -> &str {
        self.envelope.queue_id.as_deref().unwrap_or("-")
    }

    /// Reads a recipient, by the MTA's own word where it `told` one; [`Message::join`] makes him one of the message's.
    pub(super) fn recipient(&self, payload: &[u8], told: Option<&[u8]>, limits: &Limits) -> Result<Recipient, Error> {
        let words = strings(payload).ok_or(Error::Malformed("RCPT"))?;
        let path = words.first().ok_or(Error::Malformed("RCPT"))?;
        if path.len() > limits.milter_text {
            return Err(Error::Path(limits.milter_text));
        }
        if self.envelope.recipients.len() >= limits.recipients {
            return Err(Error::Recipients(limits.recipients));
        }
        let never_notify = words.iter().skip(1).any(|parameter| never_notify(parameter));
        let recipient = match told {
            Some(told) => Recipient::by_mta(*path, told),
            None => Recipient::new(*path),
        };
        Ok(Recipient { never_notify, ..recipient })
    }

    /// A recipient of the message.
    pub(super) fn join(&mut self, recipient: Recipient) {
        self.envelope.recipients.push(recipient);
    }

    /// The first of the recipients.
    pub(super) fn first(&self) -> Option<&Recipient> {
        self.envelope.recipients.first()
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
        if self.opening.len() < OPENING {
            self.opening.push((name.to_ascii_lowercase(), Zeroizing::new(first_line(value).to_vec())));
        }
        self.fields = self.fields.saturating_add(1);
        self.octets = self.octets.saturating_add(name.len()).saturating_add(value.len()).saturating_add(3);
        let over = self.fields > limits.header_fields || self.octets > limits.header_octets;
        self.head.malformed |= over;
        self.head.truncated |= over;
        let is = |known: &&str| name.eq_ignore_ascii_case(known.as_bytes());
        let ours = TOLD_FIELDS.iter().find(|known| is(known));
        let is_key = KEY_FIELDS.iter().any(&is);
        if is_key || ours.is_some() {
            if self.doomed >= limits.key_fields {
                return Err(Error::KeyFields(limits.key_fields));
            }
            self.doomed += 1;
        }
        // Beyond the limits the fields that may have to be deleted are only counted.
        if is_key {
            let key = AuthKey::parse(key_value(value)).ok();
            // Beyond the limits it is no key to ask about, but one to cut out all the same.
            let key = if over {
                self.head.hidden.extend(key);
                None
            } else {
                key
            };
            if is(&KEY_FIELD) {
                self.head.keys.push(key)
            } else {
                self.head.new_keys.push(key)
            }
            return Ok(());
        }
        if over {
            self.head.fields.extend(ours.map(|name| Field { name: (*name).to_owned(), value: Vec::new() }));
            return Ok(());
        }
        let is_name = !name.is_empty() && name.iter().all(|octet| octet.is_ascii_graphic() && *octet != b':');
        let Some(name) = std::str::from_utf8(name).ok().filter(|_| is_name) else {
            // No field by RFC 5322, and none that a milter could name to delete it.
            self.head.malformed = true;
            return Ok(());
        };
        // A bare CR is a line's end to some readers; the first line of a folded value may be empty. An LF that folds nothing
        // comes from no MTA that cuts a header into fields.
        let lines = value.strip_prefix(b"\n").unwrap_or(value);
        self.head.malformed |= value.contains(&b'\r') && KEY_FIELDS.iter().any(|name| hides_field(lines, name));
        self.head.malformed |=
            value.split(|octet| *octet == b'\n').skip(1).any(|l| !matches!(l.first(), Some(b' ' | b'\t')));
        if value.contains(&b'\r') && self.head.hidden.len() <= limits.key_fields {
            self.head.hidden.extend(hidden_keys(lines, &KEY_FIELDS));
        }
        let mut stored = Vec::with_capacity(value.len() + 1);
        if !spaced && !matches!(value.first(), None | Some(b' ' | b'\t' | b'\n')) {
            stored.push(b' ');
        }
        stored.extend_from_slice(value);
        self.head.fields.push(Field { name: name.to_owned(), value: stored });
        Ok(())
    }

    /// Whether the body begins with the header's first fields: then it is no body, but the whole message once more.
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

    /// The header is over, and this is how the body begins; empty where there is none.
    ///
    /// An MTA ends the header at the first line that is no field; a reader after it may not. So a key field there makes the
    /// message malformed: no milter command can remove it.
    pub(super) fn finish(&mut self, body_start: &[u8]) -> Mail {
        let hidden = KEY_FIELDS.iter().any(|name| hides_key(body_start, name));
        self.head.malformed |= hidden;
        self.head.hidden.extend(hidden_keys(body_start, &KEY_FIELDS));
        self.stage = Stage::Body;
        let recipients = take(&mut self.envelope.recipients);
        Mail::new(Envelope { recipients, ..self.envelope.clone() }, take(&mut self.head))
    }
}

/// The first line of a field's value without blanks around it, or the beginning of a long one.
fn first_line(value: &[u8]) -> &[u8] {
    let line = value.split(|octet| matches!(octet, b'\r' | b'\n')).next().unwrap_or_default().trim_ascii();
    line.get(..OPENING_LINE).unwrap_or(line)
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
mod tests {
    use super::*;

    fn begun() -> Message {
        Message::new(Client::default(), String::new(), None)
    }

    #[test]
    fn no_report_is_wanted_where_notify_names_no_failure() {
        for (parameters, never) in [
            ("", false),
            ("NOTIFY=NEVER", true),
            ("notify=never", true),
            ("NOTIFY=SUCCESS,DELAY", true),
            ("NOTIFY=SUCCESS,FAILURE", false),
            ("Notify=Failure", false),
            ("NOTIFY=FAILURES", true),
            ("NOTIFY=", true),
            ("NOTIFY", false),
            ("XNOTIFY=NEVER", false),
            ("ORCPT=rfc822;NOTIFY=NEVER", false),
            ("ORCPT=rfc822;b@two.example\0NOTIFY=NEVER", true),
        ] {
            let payload = format!("<b@two.example>\0{parameters}{}", if parameters.is_empty() { "" } else { "\0" });
            let recipient = begun().recipient(payload.as_bytes(), None, &Limits::default()).unwrap();
            assert_eq!(recipient.path, b"<b@two.example>");
            assert_eq!(recipient.never_notify, never, "{parameters:?}");
        }
    }

    #[test]
    fn a_recipient_keeps_the_octets_of_his_path_whether_it_is_an_address_or_not() {
        let limits = Limits { recipients: 1, milter_text: 20, ..Limits::default() };
        let mut message = begun();
        assert!(matches!(message.recipient(b"", None, &limits), Err(Error::Malformed(_))));
        let long = [&[b'x'; 21][..], b"\0"].concat();
        assert!(matches!(message.recipient(&long, None, &limits), Err(Error::Path(20))));
        for (path, address) in [(&b"<Bob@Two.Example>"[..], true), (b"postmaster", false), (b"<b\xff@c>", false)] {
            let recipient = message.recipient(&[path, b"\0"].concat(), None, &limits).unwrap();
            assert_eq!((recipient.path.as_slice(), recipient.address().is_some()), (path, address));
        }
        let first = message.recipient(b"<b@c.example>\0", None, &limits).unwrap();
        message.join(first.clone());
        assert_eq!(message.first(), Some(&first));
        assert!(matches!(message.recipient(b"<b@c.example>\0", None, &limits), Err(Error::Recipients(1))));
    }

    #[test]
    fn a13_a_key_where_the_mta_sees_no_field_is_cut_out_of_all_that_is_told() {
        const KEY: &str = "Vb3kQ9w2Zr7tYp0sXn4mLc8dHf1gJa6eUi5oRk2yTq9wEz3xBv7nMs4pDl8hGj0K";
        let limits = Limits { header_fields: 2, ..Limits::default() };
        let (old, named) = (format!("X-Old\0 {KEY}\0"), format!("X-Auth-Key\0 {KEY}\0"));
        let bare = format!("X\0 a\rX-New-Auth-Key: {KEY}\0");
        for (fields, body) in [
            (vec![&*old], format!("junk\r\nX-Auth-Key: {KEY}\r\n\r\n")),
            (vec![&*old], format!("junk\r\nx-new-auth-key:\r\n {KEY}\r\n\r\n")),
            (vec![&*old, &*bare], String::new()),
            (vec![&*old, "A\0 b\0", &*named], String::new()),
        ] {
            let mut message = begun();
            fields.iter().for_each(|field| message.field(field.as_bytes(), true, &limits).unwrap());
            let mail = message.finish(body.as_bytes());
            assert!(mail.malformed && mail.keys.iter().chain(&mail.new_keys).all(Option::is_none));
            assert!(!mail.redactor().cut_text(&format!("old {KEY}")).contains(KEY), "{fields:?}{body}");
        }
        let many: String = (0..1_000).map(|n| format!("X-Auth-Key: {n:0>40}\r\n")).collect();
        let mail = begun().finish(many.as_bytes());
        assert!((1..100).contains(&mail.hidden.len()), "{}", mail.hidden.len());
        assert!(!mail.redactor().cut_text(&format!("a {KEY}")).contains(KEY), "too many keys: whatever may be one");
    }

    #[test]
    fn a_message_is_truncated_exactly_where_its_header_is_over_the_limits() {
        let limits = Limits { header_fields: 2, header_octets: 20, ..Limits::default() };
        let fields = |fields: &[&[u8]]| {
            let mut message = begun();
            fields.iter().for_each(|field| message.field(field, true, &limits).unwrap());
            let mail = message.finish(b"");
            (mail.truncated, mail.malformed, mail.fields.len())
        };
        assert_eq!(fields(&[b"A\0 b\0", b"C\0 d\0"]), (false, false, 2));
        assert_eq!(fields(&[b"A\0 b\0", b"C\0 d\0", b"E\0 f\0"]), (true, true, 2));
        assert_eq!(fields(&[b"A\0 345678901234567\0"]), (false, false, 1));
        assert_eq!(fields(&[b"A\0 3456789012345678\0"]), (true, true, 0));
        // Malformed for another reason: the header is all there.
        assert_eq!(fields(&[b"A\0 b\nc\0"]), (false, true, 1));
    }
}
