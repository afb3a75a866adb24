//! A message as it may be looked at: its halves, line by line, without anything of a stranger's that moves the cursor.

use super::text;

/// Octets of a line that are shown: the longest one that SMTP knows (RFC 5321 §4.5.3.1.6).
const WIDTH: usize = 1_000;

/// Header and body of a message, without the empty line between them.
pub fn halves(message: &[u8]) -> (&[u8], &[u8]) {
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
pub fn line(octets: &[u8]) -> String {
    let line = octets.strip_suffix(b"\n").map_or(octets, |l| l.strip_suffix(b"\r").unwrap_or(l));
    match line.get(..WIDTH) {
        Some(begin) if line.len() > WIDTH => String::from_utf8_lossy(begin).into_owned() + "[…]",
        _ => String::from_utf8_lossy(line).into_owned(),
    }
}

/// The same such that no octet of a stranger's moves the cursor.
pub fn printable(octets: &[u8]) -> String {
    plain(&line(octets))
}

/// Text of one line as it may be printed; a tab is a blank.
pub fn plain(text: &str) -> String {
    text::shown(&text.replace('\t', " "))
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
