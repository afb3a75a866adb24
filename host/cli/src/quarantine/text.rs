//! What is printed of a message that is kept: nothing of a stranger's moves the cursor.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use humantime_serde::re::humantime::format_rfc3339_seconds;
use serde_json::{Value, json};

use addrauth::proto::text;
use addrauth::store::{Ending, Held, HeldFor};

/// Octets of a line that are printed: the longest one that SMTP knows (RFC 5321 §4.5.3.1.6).
const WIDTH: usize = 1_000;

/// A message as JSON, without its text.
pub(super) fn row(held: &Held) -> Value {
    let recipients: Vec<Value> = held
        .recipients
        .iter()
        .map(|r| {
            let way = r.under_way.as_ref();
            let way = way.map(|way| json!({ "tries": way.tries, "next": text(way.next_try), "last": way.last }));
            json!({ "recipient": r.recipient, "outcome": r.outcome.map(Ending::word), "note": r.note, "under_way": way })
        })
        .collect();
    json!({
        "id": held.id, "at": text(held.at), "expires": text(held.expires), "queue_id": held.queue_id,
        "from": held.sender, "reverse_path": held.reverse_path, "recipients": recipients, "subject": held.subject,
        "size": held.size, "reason": held.reason.as_str(),
    })
}

/// A message for people: its number and times, then who, what and why, a line each.
pub(super) fn write_row(out: &mut impl std::io::Write, held: &Held) -> std::io::Result<()> {
    let path = if held.reverse_path.is_empty() { "<>" } else { &held.reverse_path };
    let from = held.sender.as_deref().unwrap_or("(no usable address)");
    let bounces = if from == path { String::new() } else { format!(" (envelope: {})", plain(path)) };
    let queue_id = held.queue_id.as_deref().map(|id| format!("  queue id {}", plain(id))).unwrap_or_default();
    let (at, expires) = (text(held.at), text(held.expires));
    writeln!(out, "{}  {at}  kept until {expires}  {} octets{queue_id}", held.id, held.size)?;
    writeln!(out, "    From: {}{bounces}", plain(from))?;
    for r in &held.recipients {
        writeln!(out, "    To: {}{}", plain(&r.recipient), fate(r))?;
    }
    writeln!(out, "    Subject: {}", plain(&held.subject))?;
    writeln!(out, "    Reason: {}", plain(held.reason.as_str()))
}

/// What became of the message for him, in brackets.
fn fate(r: &HeldFor) -> String {
    if let Some(way) = &r.under_way {
        let last = way.last.as_deref().map(|last| format!(", last: {}", plain(last))).unwrap_or_default();
        let tries = if way.tries == 1 { "1 try".into() } else { format!("{} tries", way.tries) };
        return format!(" (being delivered: {tries}, next at {}{last})", text(way.next_try));
    }
    let outcome = r.outcome.map(|outcome| format!(" ({outcome})")).unwrap_or_default();
    let note = r.note.as_deref().map(|note| format!(" (not taken: {})", plain(note))).unwrap_or_default();
    outcome + &note
}

/// Octets in KiB, every one begun counted.
pub(super) fn kib(octets: u64) -> u64 {
    octets.div_ceil(1_024)
}

/// So many of a thing.
pub(super) fn messages(count: u64) -> String {
    if count == 1 { "1 message".into() } else { format!("{count} messages") }
}

/// Header and body of a message, without the empty line between them.
pub(super) fn halves(message: &[u8]) -> (&[u8], &[u8]) {
    let mut at = 0;
    for line in message.split_inclusive(|&o| o == b'\n') {
        if matches!(line, b"\r\n" | b"\n") {
            return (message.get(..at).unwrap_or_default(), message.get(at + line.len()..).unwrap_or_default());
        }
        at += line.len();
    }
    (message, &[])
}

/// A line without its ending, cut where it is over-long.
pub(super) fn line(octets: &[u8]) -> String {
    let line = octets.strip_suffix(b"\n").map_or(octets, |l| l.strip_suffix(b"\r").unwrap_or(l));
    match line.get(..WIDTH) {
        Some(begin) if line.len() > WIDTH => String::from_utf8_lossy(begin).into_owned() + "[…]",
        _ => String::from_utf8_lossy(line).into_owned(),
    }
}

/// The same such that no octet of a stranger's moves the cursor.
pub(super) fn printable(octets: &[u8]) -> String {
    plain(&line(octets))
}

/// Text of one line as it may be printed; a tab is a blank.
pub(super) fn plain(text: &str) -> String {
    text::shown(&text.replace('\t', " "))
}

/// A time as RFC 3339; what no calendar reaches, as the last moment of it.
fn text(at: SystemTime) -> String {
    let most = UNIX_EPOCH + Duration::from_secs(253_402_300_799);
    format_rfc3339_seconds(at.clamp(UNIX_EPOCH, most)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_moves_no_cursor() {
        assert_eq!(printable(b"a\x1b[2Jb\r\n"), "a\\u001b[2Jb");
        assert_eq!(printable("\u{202e}moc\tü".as_bytes()), "\\u202emoc ü");
        assert_eq!(printable(&[b'x'; WIDTH]).len(), WIDTH);
        assert!(printable(&[b'x'; 2 * WIDTH]).ends_with("xx[…]"));
        assert_eq!(printable(b"\xff\r"), "\u{fffd}\\u000d");
    }

    #[test]
    fn header_and_body_part_at_the_first_empty_line() {
        assert_eq!(halves(b"A: b\r\n\r\nc\r\n\r\nd"), (&b"A: b\r\n"[..], &b"c\r\n\r\nd"[..]));
        assert_eq!(halves(b"A: b\r\n\r\n"), (&b"A: b\r\n"[..], &b""[..]));
        assert_eq!(halves(b"A: b"), (&b"A: b"[..], &b""[..]));
    }
}
