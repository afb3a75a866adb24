//! The dots of DATA (RFC 5321 §4.5.2), taken off and put on octet by octet. A line ends with CRLF, and with nothing else.

/// Takes the dots off what comes in behind DATA, in pieces of any size, and finds its end.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unstuffed {
    state: State,
}

/// What the last octets were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// The beginning, or CRLF.
    #[default]
    LineStart,
    /// Inside a line.
    Line,
    /// A CR inside a line.
    Cr,
    /// A dot at the start of a line: not passed on yet, and never unless it turns out to be one of two.
    Dot,
    /// A dot at the start of a line and a CR.
    DotCr,
    /// CRLF, dot, CRLF.
    End,
}

impl Unstuffed {
    /// Reads a piece and appends what it means to `text`. Returns how many octets were read: all, unless the end came before.
    pub fn read(&mut self, piece: &[u8], text: &mut Vec<u8>) -> usize {
        for (at, &octet) in piece.iter().enumerate() {
            self.state = match (self.state, octet) {
                (State::End, _) => return at,
                (State::LineStart, b'.') => State::Dot,
                (State::Dot, b'\r') => State::DotCr,
                (State::DotCr, b'\n') => State::End,
                (State::DotCr, octet) => {
                    // The dot was the one that is taken off; its line begins with the CR.
                    text.push(b'\r');
                    text.push(octet);
                    if octet == b'\r' { State::Cr } else { State::Line }
                }
                (State::Cr, b'\n') => {
                    text.push(octet);
                    State::LineStart
                }
                (_, b'\r') => {
                    text.push(octet);
                    State::Cr
                }
                (_, octet) => {
                    text.push(octet);
                    State::Line
                }
            };
        }
        piece.len()
    }

    /// Whether the end has come.
    pub fn is_over(&self) -> bool {
        self.state == State::End
    }
}

/// Puts the dots on what goes out behind DATA.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stuffed {
    last: Last,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Last {
    #[default]
    Crlf,
    Cr,
    /// A CR that no LF follows, or an LF before which is no CR.
    Lf,
    Other,
}

/// A dot behind a bare CR or LF: some readers would take that for a line's end, and what follows for the end of the message.
/// It cannot be sent behind DATA.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a dot behind a bare CR or LF")]
pub struct Smuggled;

impl Stuffed {
    /// Appends a piece to `wire`.
    ///
    /// # Errors
    /// [`Smuggled`]: the message must not go on.
    pub fn write(&mut self, piece: &[u8], wire: &mut Vec<u8>) -> Result<(), Smuggled> {
        for &octet in piece {
            match (self.last, octet) {
                (Last::Crlf, b'.') => wire.push(b'.'),
                (Last::Cr | Last::Lf, b'.') => return Err(Smuggled),
                _ => {}
            }
            wire.push(octet);
            self.last = match (self.last, octet) {
                (Last::Cr, b'\n') => Last::Crlf,
                (_, b'\r') => Last::Cr,
                (_, b'\n') => Last::Lf,
                _ => Last::Other,
            };
        }
        Ok(())
    }

    /// Appends the end of the message: a line that is not ended is ended.
    pub fn end(self, wire: &mut Vec<u8>) {
        wire.extend_from_slice(if self.last == Last::Crlf { b".\r\n" } else { b"\r\n.\r\n" });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn unstuffed(wire: &[u8], sizes: &[usize]) -> (Vec<u8>, usize, bool) {
        let (mut dots, mut text, mut at) = (Unstuffed::default(), Vec::new(), 0);
        let mut sizes = sizes.iter().cycle();
        while at < wire.len() && !dots.is_over() {
            let size = sizes.next().map_or(1, |size| 1 + size % 7);
            let piece = &wire[at..wire.len().min(at + size)];
            let read = dots.read(piece, &mut text);
            at += read;
            assert!(read == piece.len() || dots.is_over());
        }
        (text, at, dots.is_over())
    }

    /// Octets of which lines, dots and their look-alikes are made.
    fn octets() -> impl Strategy<Value = Vec<u8>> {
        let octet = prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'.'), Just(b'a'), Just(0), any::<u8>()];
        prop::collection::vec(octet, 0..60)
    }

    #[test]
    fn nothing_but_crlf_dot_crlf_ends_a_message() {
        for wire in ["a\n.\n", "a\r\n.\n", "a\n.\r\n", "a\r.\r", "a\r\n.\r", "a\0\r\n.\0\r\n", "\n.\n", "a\r\n..\r\n"] {
            let wire = wire.as_bytes();
            assert!(!unstuffed(wire, &[1]).2, "{:?}", wire.escape_ascii().to_string());
            let whole = [wire, b"\r\n.\r\nQUIT\r\n"].concat();
            let (_, at, over) = unstuffed(&whole, &[1]);
            assert!(over && &whole[at..] == b"QUIT\r\n", "{:?}", wire.escape_ascii().to_string());
        }
        assert_eq!(unstuffed(b".\r\nrest", &[3]), (Vec::new(), 3, true));
        assert_eq!(unstuffed(b"..a\r\n.\r\n", &[2]).0, b".a\r\n");
    }

    #[test]
    fn a_dot_that_some_readers_would_take_for_the_end_does_not_go_out() {
        for text in ["a\n.\nMAIL", "a\r.\r", "\n.", "\r.", "a\r\n\n.\r\n"] {
            assert_eq!(Stuffed::default().write(text.as_bytes(), &mut Vec::new()), Err(Smuggled), "{text:?}");
        }
        for text in ["a\nb", "a\rb.", ".", "a\r\n.\n", "\0.", "a\r\n.\r\n"] {
            assert!(Stuffed::default().write(text.as_bytes(), &mut Vec::new()).is_ok(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn what_was_stuffed_is_unstuffed_to_the_same_octets_in_any_pieces(
            text in octets(),
            sizes in prop::collection::vec(any::<usize>(), 1..9),
        ) {
            let (mut stuffed, mut wire, mut smuggled) = (Stuffed::default(), Vec::new(), false);
            for piece in text.chunks(1 + sizes[0] % 11) {
                smuggled = smuggled || stuffed.write(piece, &mut wire).is_err();
            }
            if !smuggled {
                stuffed.end(&mut wire);
                let expected = if text.is_empty() || text.ends_with(b"\r\n") { text } else { [&text[..], b"\r\n"].concat() };
                wire.extend_from_slice(b"QUIT");
                let (read, at, over) = unstuffed(&wire, &sizes);
                prop_assert_eq!((read, at, over), (expected, wire.len() - 4, true));
            }
        }

        #[test]
        fn pieces_of_any_size_are_read_alike(wire in octets(), sizes in prop::collection::vec(any::<usize>(), 1..9)) {
            prop_assert_eq!(unstuffed(&wire, &sizes), unstuffed(&wire, &[6]));
        }
    }
}
