//! A reply of the next hop.

use crate::mta::passed_on;

/// Octets of one line's text that are passed on: twice what RFC 5321 §4.5.3.1.5 has room for.
pub(super) const LINE: usize = 1_024;
/// Lines of one reply that are passed on.
pub(super) const LINES: usize = 50;

/// One reply of the next hop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Its code.
    pub code: u16,
    /// What stands behind the code on each line.
    pub lines: Vec<Vec<u8>>,
}

impl Reply {
    /// The reply, where it refuses. Any other has no place where this is asked, and must not reach the MTA as if it were the
    /// word about a recipient.
    pub(super) fn refusal(self) -> Option<Reply> {
        (self.is(4) || self.is(5)).then_some(self)
    }

    /// The reply to a copy. One that is too large (552) by what was added here (`outgrown`) is refused for now.
    pub(super) fn of(self, outgrown: bool) -> Reply {
        if outgrown && self.code == 552 {
            return Reply {
                code: 452,
                lines: vec![b"4.3.4 The message has grown beyond what the delivery agent takes".to_vec()],
            };
        }
        self
    }

    /// Whether it is of this class: 2, 3, 4 or 5.
    pub fn is(&self, class: u16) -> bool {
        self.code / 100 == class
    }

    /// The reply as it is passed on, without the last line's ending. See [`passed_on`].
    pub fn line(&self) -> Vec<u8> {
        let code = passed_on(self.code);
        let last = self.lines.len().saturating_sub(1);
        let mut all = Vec::new();
        for (at, line) in self.lines.iter().enumerate() {
            let parts = if at == last { ' ' } else { '-' };
            all.extend_from_slice(format!("{code}{parts}").as_bytes());
            all.extend_from_slice(line);
            all.extend_from_slice(if at == last { b"" } else { b"\r\n" });
        }
        all
    }
}

/// The parts of a reply line: code, text, and whether it is the last. A text that is too long is cut. It has no control octet:
/// a TAB (RFC 5321 §4.2) is passed on as a blank.
pub(super) fn parts(line: &[u8]) -> Option<(u16, Vec<u8>, bool)> {
    let (code, rest) = line.split_at_checked(3)?;
    let code: u16 =
        std::str::from_utf8(code).ok().filter(|code| code.bytes().all(|o| o.is_ascii_digit()))?.parse().ok()?;
    let (last, text) = match rest.split_first() {
        None => (true, rest),
        Some((b' ', text)) => (true, text),
        Some((b'-', text)) => (false, text),
        Some(_) => return None,
    };
    let text: Vec<u8> = text.iter().take(LINE).map(|octet| if *octet == b'\t' { b' ' } else { *octet }).collect();
    let known = (200..600).contains(&code) && !text.iter().any(u8::is_ascii_control);
    known.then_some((code, text, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_line_is_a_code_and_printable_text() {
        assert_eq!(parts(b"250-a b"), Some((250, b"a b".to_vec(), false)));
        assert_eq!(parts(b"250"), Some((250, Vec::new(), true)));
        for wrong in [&b"25"[..], b"199 a", b"600 a", b"2x0 a", b"250+a", b"250 a\rb", b"250 \0", b"+50 a"] {
            assert_eq!(parts(wrong), None, "{}", wrong.escape_ascii());
        }
        assert_eq!(parts(b"250 a\tb"), Some((250, b"a b".to_vec(), true)));
        let long = [b"250 ".as_slice(), &[b'a'; LINE + 1]].concat();
        assert_eq!(parts(&long), Some((250, vec![b'a'; LINE], true)));
    }

    #[test]
    fn a_reply_is_passed_on_as_it_came_but_for_one_that_would_end_the_session() {
        let reply = |code| Reply { code, lines: vec![b"5.1.1 no".to_vec(), b"5.1.1 body".to_vec()] };
        assert_eq!(reply(550).line(), b"550-5.1.1 no\r\n550 5.1.1 body");
        assert_eq!(reply(421).line(), b"451-5.1.1 no\r\n451 5.1.1 body");
    }
}
