//! Reports to senders: delivery status notifications (RFC 3464; RFC 6533 where an address is not ASCII).

use mail_builder::headers::content_type::ContentType;
use mail_builder::headers::date::Date;
use mail_builder::headers::raw::Raw;
use mail_builder::mime::{BodyPart, MimePart};

use super::compose::{NotOwed, Sender, found, letters, reference, seconds, sender, spelled, when};
use crate::case::{Case, Field, Mail, Recipient};
use crate::proto::header::{KEY_FIELD, MARK_FIELD, NEW_KEY_FIELD, STATUS_FIELD};
use crate::proto::text::ascii;
use crate::store::{Draft, Kind};

/// The longest line that a mail may have, CR included (RFC 5322 §2.1.1).
const LINE: usize = 999;
/// Recipients that the text names; all are in the part for machines.
const NAMED: usize = 20;

impl Sender {
    /// The report to the reverse-path that the message was not delivered to these recipients (indices). At most
    /// `header_octets` octets of its header go along.
    pub(super) fn report(&self, case: &Case, recipients: &[usize], header_octets: usize) -> Result<Draft, NotOwed> {
        let mail = &case.mail;
        let to = mail.reverse_path.address().ok_or(NotOwed::NoAddress)?;
        if recipients.is_empty() || recipients.iter().any(|index| mail.recipients.get(*index).is_none()) {
            return Err(NotOwed::NoAddress);
        }
        let sender = sender(case);
        let text = &self.texts.report;
        let values = [
            ("sender", sender.as_deref().map_or("(no usable address)".into(), spelled)),
            ("recipients", named(mail, recipients)),
            ("when", when(mail.received)),
            ("reason", reason(case, recipients.first().copied().unwrap_or_default())),
            ("reference", reference(mail)),
            ("postmaster", self.from.clone()),
        ];
        let mut parts = vec![MimePart::new("text/plain", text.body(&values)), self.status(case, recipients)];
        parts.extend(header(mail, header_octets));
        let kind = ContentType::new("multipart/report").attribute("report-type", "delivery-status");
        let (id, mut letter) = self.letter(&to.to_string(), seconds(mail.received), text.subject(&values))?;
        if let Some(original) = message_id(mail) {
            letter = letter.header("In-Reply-To", Raw::new(original.clone())).header("References", Raw::new(original));
        }
        let letter = letter.body(MimePart::new(kind, BodyPart::Multipart(parts)));
        Ok(Draft {
            kind: Kind::Report,
            recipient: to.to_string(),
            sender: sender.unwrap_or_default(),
            reverse_path: String::new(),
            message_id: id,
            message: letter.write_to_vec().map_err(|_| NotOwed::Failed)?,
        })
    }

    /// The part for machines: a group of fields about the message, and one about each recipient.
    fn status(&self, case: &Case, recipients: &[usize]) -> MimePart<'static> {
        let arrival = Date::new(seconds(case.mail.received)).to_rfc822();
        let mut status = format!("Reporting-MTA: dns; {}\r\nArrival-Date: {arrival}\r\n", self.host);
        for index in recipients {
            let recipient = final_recipient(&case.mail, *index);
            let reason = reason(case, *index);
            status += &format!(
                "\r\nFinal-Recipient: {recipient}\r\nAction: failed\r\nStatus: 5.7.1\r\n\
                 Diagnostic-Code: smtp; 550 5.7.1 {reason}\r\n"
            );
        }
        // As octets and with an encoding of their own choosing: neither type has a charset, or may be encoded (RFC 3464 §2.1).
        let (kind, encoding) = match status.is_ascii() {
            true => ("message/delivery-status", "7bit"),
            false => ("message/global-delivery-status", "8bit"),
        };
        MimePart::new(kind, status.into_bytes()).transfer_encoding(encoding)
    }
}

/// A recipient as the value of Final-Recipient: a type and an address of it.
fn final_recipient(mail: &Mail, index: usize) -> String {
    let Some(recipient) = mail.recipients.get(index) else { return "unknown; unknown".to_owned() };
    let shown: String = recipient.shown().chars().take(500).collect();
    if shown.is_ascii() { format!("rfc822; {shown}") } else { format!("utf-8; {shown}") }
}

/// The recipients for people, a line each.
fn named(mail: &Mail, recipients: &[usize]) -> String {
    let name = |index: &usize| {
        let shown = mail.recipients.get(*index).map(Recipient::shown);
        format!("    {}", letters(&shown.unwrap_or_default()))
    };
    let mut lines: Vec<String> = recipients.iter().take(NAMED).map(name).collect();
    if recipients.len() > NAMED {
        lines.push(format!("    and {} more", recipients.len() - NAMED));
    }
    lines.join("\n")
}

/// The reason that this recipient's policy gives, or the result's word: what a refusal at the door would have said.
fn reason(case: &Case, recipient: usize) -> String {
    let decision = case.decisions.iter().find(|decision| decision.recipients.contains(&recipient));
    let word = || found(case).map_or("refused", |found| found.status.word());
    let reason = match decision {
        Some(decision) if !decision.reason.is_empty() => decision.reason.as_str(),
        _ => word(),
    };
    format!("Address Authentication: {}", ascii(reason, 400))
}

/// The Message-ID of the message, where it is one that can stand in a field of ours as it is.
fn message_id(mail: &Mail) -> Option<String> {
    let mut fields = mail.named("Message-ID");
    let (first, None) = (fields.next()?, fields.next()) else { return None };
    let id = std::str::from_utf8(&first.value).ok()?.trim();
    let inside = id.strip_prefix('<')?.strip_suffix('>')?;
    let plain = |c: char| c.is_ascii_graphic() && !matches!(c, '<' | '>');
    let harmless = inside.contains('@')
        && id.len() <= 250
        && inside.chars().all(plain)
        && !mail.redactor().holds(inside.as_bytes());
    harmless.then(|| id.to_owned())
}

/// The header of the message, as a part: none where the header may hide a key from us. Fields beyond `most` octets are left
/// out, and so are ours and those that repeat a key, as a DKIM signature does with its `z=`.
fn header(mail: &Mail, most: usize) -> Option<MimePart<'static>> {
    if mail.head().malformed || mail.head().truncated {
        return None;
    }
    let redactor = mail.redactor();
    let holds_key = |field: &Field| redactor.holds(&[field.name.as_bytes(), b":", &field.value].concat());
    let ours = [KEY_FIELD, NEW_KEY_FIELD, STATUS_FIELD, MARK_FIELD];
    let hidden = |field: &Field| ours.iter().any(|name| field.name.trim().eq_ignore_ascii_case(name));
    let mut octets = Vec::new();
    for field in mail.head().fields.iter().filter(|field| !hidden(field) && !holds_key(field)) {
        if octets.len() + field.name.len() + field.value.len() + 3 > most {
            break;
        }
        octets.extend_from_slice(field.name.as_bytes());
        octets.push(b':');
        octets.extend(in_crlf(&field.value));
        octets.extend_from_slice(b"\r\n");
    }
    let (seven, utf8) = (octets.is_ascii(), std::str::from_utf8(&octets).is_ok());
    let long = octets.split(|octet| *octet == b'\n').any(|line| line.len() > LINE);
    Some(match (long, seven, utf8) {
        (false, true, _) => MimePart::new("text/rfc822-headers", octets).transfer_encoding("7bit"),
        (false, false, true) => MimePart::new("message/global-headers", octets).transfer_encoding("8bit"),
        // Lines too long, or octets of no known charset: mail-builder encodes them.
        _ => MimePart::new("text/rfc822-headers", octets),
    })
}

/// The octets with CRLF at each line's end, whatever ends it: a bare one has no place in mail.
fn in_crlf(octets: &[u8]) -> Vec<u8> {
    let mut clean = Vec::with_capacity(octets.len());
    let mut before = 0;
    for &octet in octets {
        match octet {
            b'\n' if before == b'\r' => {}
            b'\r' | b'\n' => clean.extend_from_slice(b"\r\n"),
            0 => clean.push(b'?'),
            octet => clean.push(octet),
        }
        before = octet;
    }
    clean
}
