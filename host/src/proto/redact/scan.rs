//! Octets as somebody reads them who decodes them: without blanks, folds and soft line breaks.

/// Which escapes are decoded. A key has neither sign in it, but the sign may stand right before one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Escapes {
    /// `=XX`: quoted-printable (RFC 2045 §6.7), DKIM's form of it (RFC 6376 §2.11), encoded words.
    equals: bool,
    /// `%XX`: percent-encoding (RFC 3986 §2.1).
    percent: bool,
}

impl Escapes {
    /// Every way to read.
    pub(super) const ALL: [Escapes; 4] = [
        Escapes { equals: false, percent: false },
        Escapes { equals: true, percent: false },
        Escapes { equals: false, percent: true },
        Escapes { equals: true, percent: true },
    ];

    /// Whether reading octets in this way may differ from reading them as they are.
    pub(super) fn are_in(self, octets: &[u8]) -> bool {
        (!self.equals || octets.contains(&b'=')) && (!self.percent || octets.contains(&b'%'))
    }
}

/// What was passed over before an octet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Gap {
    /// Nothing.
    #[default]
    None,
    /// Blanks.
    Blank,
    /// A line's end and blanks.
    Fold,
    /// A line's end.
    Line,
}

/// An octet that was read, and where.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Item {
    pub(super) octet: u8,
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) gap: Gap,
}

/// Whether so many octets in a row may be read as digits of a key, plain or in base64: they are such digits, or they are passed
/// over between them, or part of an escape that may stand for one.
pub(super) fn has_run(octets: &[u8], least: usize) -> bool {
    let may_be = |octet: &u8| octet.is_ascii_alphanumeric() || b"-_+/=% \t\r\n".contains(octet);
    octets.len() >= least && octets.split(|octet| !may_be(octet)).any(|run| run.len() >= least)
}

/// The octets that are no white space, one after the other.
pub(super) struct Octets<'a> {
    octets: &'a [u8],
    at: usize,
    escapes: Escapes,
}

impl<'a> Octets<'a> {
    pub(super) fn new(octets: &'a [u8], escapes: Escapes) -> Octets<'a> {
        Octets { octets, at: 0, escapes }
    }

    /// The octet that an escape at this place stands for.
    fn decoded(&self) -> Option<u8> {
        let [sign, high, low] = *self.octets.get(self.at..)?.first_chunk::<3>()?;
        let decodes = sign == b'=' && self.escapes.equals || sign == b'%' && self.escapes.percent;
        let digit = |octet: u8| char::from(octet).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        if decodes { Some(digit(high)? << 4 | digit(low)?) } else { None }
    }

    /// How long a soft line break at this place is.
    fn soft_break(&self) -> Option<usize> {
        match self.octets.get(self.at..)? {
            [b'=', b'\n', ..] => Some(2),
            [b'=', b'\r', b'\n', ..] => Some(3),
            _ => None,
        }
    }
}

impl Iterator for Octets<'_> {
    type Item = Item;

    fn next(&mut self) -> Option<Item> {
        let (mut line, mut blank_after, mut blank) = (false, false, false);
        loop {
            if let Some(length) = self.soft_break() {
                self.at += length;
                continue;
            }
            let start = self.at;
            let (octet, length) = match self.decoded() {
                Some(octet) => (octet, 3),
                None => (*self.octets.get(start)?, 1),
            };
            self.at += length;
            match octet {
                b'\r' | b'\n' => line = true,
                b' ' | b'\t' => (blank_after, blank) = (line, true),
                _ => {
                    let gap = match (line, blank_after, blank) {
                        (true, true, _) => Gap::Fold,
                        (true, false, _) => Gap::Line,
                        (false, _, true) => Gap::Blank,
                        (false, _, false) => Gap::None,
                    };
                    return Some(Item { octet, start, end: self.at, gap });
                }
            }
        }
    }
}
