//! The grammar of RFC 8601 §2.2, piece by piece.

use super::{Bad, Outcome, Property, is_control};

/// What is left to be read.
pub(super) struct Scan<'a> {
    pub(super) rest: &'a [u8],
}

impl<'a> Scan<'a> {
    pub(super) fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    fn next(&mut self) -> Option<u8> {
        let (&first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(first)
    }

    fn eat(&mut self, octet: u8) -> bool {
        let is = self.peek() == Some(octet);
        if is {
            self.next();
        }
        is
    }

    pub(super) fn expect(&mut self, octet: u8, what: &'static str) -> Result<(), Bad> {
        if self.eat(octet) { Ok(()) } else { Err(Bad::Missing(what)) }
    }

    /// The octets up to the first one that does not fit.
    fn run(&mut self, fits: impl Fn(u8) -> bool) -> &'a [u8] {
        let end = self.rest.iter().position(|&octet| !fits(octet)).unwrap_or(self.rest.len());
        let (run, rest) = self.rest.split_at_checked(end).unwrap_or_default();
        self.rest = rest;
        run
    }

    /// Skips blanks, folds and comments (CFWS), and says whether there were any. Comments nest as deep as they like: they are
    /// counted, not stacked.
    pub(super) fn blanks(&mut self) -> Result<bool, Bad> {
        let before = self.rest.len();
        let mut depth = 0usize;
        loop {
            match self.peek() {
                Some(b'(') => depth = depth.saturating_add(1),
                Some(b')') if depth > 0 => depth -= 1,
                Some(b'\\') if depth > 0 => {
                    self.next();
                }
                Some(b' ' | b'\t' | b'\r' | b'\n') => {}
                Some(_) if depth > 0 => {}
                None if depth > 0 => return Err(Bad::Open),
                _ => return Ok(self.rest.len() < before),
            }
            self.next();
        }
    }

    /// The authserv-id, and the blanks before it.
    pub(super) fn authserv_id(&mut self) -> Result<String, Bad> {
        self.blanks()?;
        // Without its `=`, so that a field that begins with its first result (some servers write such) has no id.
        let id = self.value(|octet| octet != b'=')?;
        match self.peek() {
            _ if id.is_empty() => Err(Bad::Missing("authserv-id")),
            None | Some(b';' | b' ' | b'\t' | b'\r' | b'\n' | b'(') => Ok(id),
            Some(_) => Err(Bad::Missing("end of the authserv-id")),
        }
    }

    /// A token or quoted string, or several without a blank between them; empty where there is none. What may stand without
    /// quotes is wider than a token.
    fn value(&mut self, fits: impl Fn(u8) -> bool) -> Result<String, Bad> {
        let mut octets = Vec::new();
        loop {
            let plain = |octet: u8| octet > b' ' && octet != 0x7f && !b"\"\\();".contains(&octet);
            octets.extend_from_slice(self.run(|octet| plain(octet) && fits(octet)));
            if !self.eat(b'"') {
                return Ok(String::from_utf8_lossy(&octets).into_owned());
            }
            self.quoted(&mut octets)?;
        }
    }

    /// The rest of a quoted string, without its folds and escapes.
    fn quoted(&mut self, octets: &mut Vec<u8>) -> Result<(), Bad> {
        loop {
            let octet = match self.next().ok_or(Bad::Open)? {
                b'"' => return Ok(()),
                b'\r' | b'\n' => continue,
                b'\\' => self.next().ok_or(Bad::Open)?,
                octet => octet,
            };
            if is_control(char::from(octet)) {
                return Err(Bad::Open);
            }
            octets.push(octet);
        }
    }

    /// A Keyword (RFC 5321 §4.1.2), underscores included, in lower case.
    fn keyword(&mut self, what: &'static str) -> Result<String, Bad> {
        let word = self.run(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_'));
        match word {
            [] => Err(Bad::Missing(what)),
            word => Ok(String::from_utf8_lossy(word).to_ascii_lowercase()),
        }
    }

    pub(super) fn version(&mut self) -> Result<u32, Bad> {
        let digits = std::str::from_utf8(self.run(|octet| octet.is_ascii_digit())).unwrap_or_default();
        digits.parse().map_err(|_| Bad::Missing("version"))
    }

    /// `method=result` and what follows it up to the next semicolon; absent where it is `none`.
    pub(super) fn outcome(&mut self) -> Result<Option<Outcome>, Bad> {
        let method = self.keyword("method")?;
        self.blanks()?;
        let mut version = 1;
        if self.eat(b'/') {
            self.blanks()?;
            version = self.version()?;
            self.blanks()?;
        }
        if method == "none" && matches!(self.peek(), None | Some(b';')) {
            return Ok(None);
        }
        self.expect(b'=', "equals sign after a method")?;
        self.blanks()?;
        let result = self.keyword("result")?;
        let mut outcome = Outcome { method, version, result, reason: None, properties: Vec::new() };
        loop {
            let apart = self.blanks()?;
            if matches!(self.peek(), None | Some(b';')) {
                return Ok(Some(outcome));
            }
            if !apart {
                return Err(Bad::Missing("blank between two parts"));
            }
            self.part(&mut outcome)?;
        }
    }

    /// A reason or a property.
    fn part(&mut self, outcome: &mut Outcome) -> Result<(), Bad> {
        let ptype = self.keyword("property")?;
        self.blanks()?;
        let dot = self.eat(b'.');
        if !dot && ptype != "reason" {
            return Err(Bad::Missing("dot in a property"));
        }
        let mut name = String::new();
        if dot {
            self.blanks()?;
            name = self.keyword("property")?;
            self.blanks()?;
        }
        self.expect(b'=', "equals sign")?;
        self.blanks()?;
        let value = self.value(|_| true)?;
        if dot {
            outcome.properties.push(Property { ptype, name, value });
        } else {
            outcome.reason.get_or_insert(value);
        }
        Ok(())
    }
}
