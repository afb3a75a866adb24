//! A message as it lies in a file, read as if a door had heard it.

use std::sync::Arc;

use zeroize::Zeroizing;

use super::Refused;
use super::intake::Intake;
use crate::case::{Client, Mail};
use crate::config::Limits;
use crate::proto::header::{Block, Bounds, scan};

/// Octets of a body among which a hidden key field is looked for.
const BODY_START: usize = 64 * 1024;

/// What a delivery agent wrote on top of a message when it put it into a mailbox. No mail filter saw that.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OnTop {
    /// The reverse-path, with its angle brackets: Return-Path.
    pub return_path: Option<String>,
    /// The recipient, with angle brackets: Delivered-To.
    pub delivered_to: Option<String>,
}

/// Parts what a delivery agent wrote from the message below it: the fields Return-Path, X-Original-To, Delivered-To, Envelope-To and
/// Delivery-Date that stand before all others. A line `From …` of a mailbox file goes too.
pub fn opened(octets: &[u8]) -> (OnTop, &[u8]) {
    let octets = without_separator(octets);
    let mut top = OnTop::default();
    let mut end = 0;
    for field in scan(octets, Bounds { fields: 16, octets: 64 * 1024 }).fields {
        let part = |range: &std::ops::Range<usize>| octets.get(range.clone()).unwrap_or_default();
        let name = String::from_utf8_lossy(part(&field.name)).to_ascii_lowercase();
        let value = String::from_utf8_lossy(part(&field.value)).trim().to_owned();
        let path = if value.starts_with('<') { value } else { format!("<{value}>") };
        match name.as_str() {
            "return-path" => _ = top.return_path.get_or_insert(path),
            "delivered-to" => _ = top.delivered_to.get_or_insert(path),
            "x-original-to" | "envelope-to" | "delivery-date" => {}
            _ => break,
        }
        end = field.whole.end;
    }
    (top, octets.get(end..).unwrap_or_default())
}

/// The message below the line that parts messages in a mailbox file; a field From with a blank before its colon is none.
fn without_separator(octets: &[u8]) -> &[u8] {
    let behind = octets.strip_prefix(b"From ");
    let first = behind.and_then(|behind| behind.iter().find(|octet| !matches!(octet, b' ' | b'\t')));
    match behind.is_some() && first != Some(&b':') {
        true => {
            octets.iter().position(|octet| *octet == b'\n').and_then(|end| octets.get(end + 1..)).unwrap_or_default()
        }
        false => octets,
    }
}

/// Reads a message: its envelope from what is given, its header from the octets, through the same [`Intake`] as a door's. Line
/// endings are CRLF or LF. What a delivery agent wrote on top is parted off by [`opened`] before.
///
/// # Errors
/// As the intake's: a recipient's path or the fields are over the limits.
pub fn letter(
    octets: &[u8],
    client: Client,
    reverse_path: &str,
    recipients: &[String],
    limits: &Arc<Limits>,
) -> Result<Mail, Refused> {
    let block = scan(octets, Bounds { fields: usize::MAX, octets: usize::MAX });
    let mut intake = Intake::new(client, String::new(), None, Arc::clone(limits));
    let size = format!("SIZE={}", octets.len());
    let mut parameters = vec![size.as_bytes()];
    let header = octets.get(..block.end).unwrap_or_default();
    if !(header.is_ascii() && reverse_path.is_ascii() && recipients.iter().all(|path| path.is_ascii())) {
        parameters.push(b"SMTPUTF8");
    }
    intake.begin(reverse_path.as_bytes(), &parameters);
    for path in recipients {
        let recipient = intake.recipient(path.as_bytes(), &[], None)?;
        intake.join(recipient);
    }
    tell_fields(&mut intake, octets, &block)?;
    let body = octets.get(block.end..).unwrap_or_default();
    intake.finish(body.get(..BODY_START).unwrap_or(body))
}

/// Tells the intake of each field of a header that was found in these octets.
pub(super) fn tell_fields(intake: &mut Intake, octets: &[u8], block: &Block) -> Result<(), Refused> {
    for field in &block.fields {
        let part = |range: &std::ops::Range<usize>| octets.get(range.clone()).unwrap_or_default();
        let value = part(&field.value);
        // It may be a key.
        let unix: Zeroizing<Vec<u8>> = Zeroizing::new(
            (value.iter().enumerate())
                // An MTA hands folds over as LF alone; a bare CR stays, since some readers take it for a line's end.
                .filter(|(at, octet)| !(**octet == b'\r' && value.get(at + 1) == Some(&b'\n')))
                .map(|(_, octet)| *octet)
                .collect(),
        );
        intake.field(part(&field.name), &unix, true)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(octets: &[u8]) -> Mail {
        let recipients = ["<bob@example.net>".to_owned()];
        letter(octets, Client::default(), "<alice@example.com>", &recipients, &Arc::default()).unwrap()
    }

    #[test]
    fn a_file_is_read_as_a_door_would_have_heard_it() {
        for text in [
            "Received: from a\r\n\tby b\r\nFrom: Alice <alice@example.com>\r\nX-Auth-Key: k\r\n\r\nbody\r\n",
            "From alice Mon Nov 30\nReceived: from a\n\tby b\nFrom: Alice <alice@example.com>\nX-Auth-Key: k\n\nbody\n",
        ] {
            let mail = read(opened(text.as_bytes()).1);
            assert_eq!(mail.sender().map(ToString::to_string).ok().as_deref(), Some("alice@example.com"));
            assert_eq!((mail.head().fields.len(), mail.head().keys.len()), (2, 1));
            assert_eq!(mail.head().fields[0].value, b" from a\n\tby b");
            assert_eq!(mail.recipients.len(), 1);
            assert!(!mail.head().malformed && mail.size.is_some());
        }
    }

    #[test]
    fn what_a_delivery_agent_wrote_is_parted_from_what_a_filter_saw() {
        let stored = b"Return-Path: <a@b.example>\nX-Original-To: x@y\nDelivered-To: c@d.example\nReceived: x\nDelivered-To: e@f\n\n";
        let (top, rest) = opened(stored);
        assert_eq!(top.return_path.as_deref(), Some("<a@b.example>"));
        assert_eq!(top.delivered_to.as_deref(), Some("<c@d.example>"));
        assert_eq!(rest, b"Received: x\nDelivered-To: e@f\n\n");
        assert_eq!(opened(b"From x\nSubject: y\n\n"), (OnTop::default(), &b"Subject: y\n\n"[..]));
    }

    #[test]
    fn a_line_that_parts_messages_is_parted_off_once_and_a_field_is_none() {
        let mail = read(opened(b"From : Alice <alice@example.com>\nSubject: y\n\n").1);
        assert_eq!(mail.sender().map(ToString::to_string).ok().as_deref(), Some("alice@example.com"));
        let twice = b"From x\nFrom y\nSubject: z\n\n";
        let (_, rest) = opened(twice);
        assert_eq!(rest, b"From y\nSubject: z\n\n");
        assert!(
            read(rest).head().malformed || read(rest).head().fields.is_empty(),
            "a second line is a part of the message"
        );
    }

    #[test]
    fn octets_of_any_shape_are_a_message_or_an_error() {
        for octets in [&b""[..], b"\r\n", b"From ", b"From x\n", b":\n", b" folded\n", b"a:\xff\xfe\r\r\n\n", &[0; 100]]
        {
            assert!(read(octets).sender().is_err());
        }
        let many = "X-Auth-Key: k\n".repeat(100_000);
        let read = letter(many.as_bytes(), Client::default(), "<>", &[], &Arc::default());
        assert!(matches!(read, Err(Refused::KeyFields(_))));
    }
}
