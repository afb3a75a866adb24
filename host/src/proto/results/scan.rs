//! The grammar of RFC 8601 §2.2, piece by piece.

use super::{Bad, LeftOut, Outcome, Property, is_control};

/// What stands between two semicolons.
pub(super) enum Read {
    /// `none`.
    None,
    /// What a method found out.
    Outcome(Outcome),
    /// Nothing that could be read.
    Nothing,
}

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

    /// `method=result` and what follows it up to the next semicolon, blanks before it included. What cannot be read is left out,
    /// and told so.
    pub(super) fn outcome(&mut self, left_out: &mut LeftOut) -> Result<Read, Bad> {
        let Ok(method) = self.keyword("method") else {
            *left_out = LeftOut::Method;
            self.skip()?;
            return Ok(Read::Nothing);
        };
        let mut outcome = Outcome { method, version: 1, result: String::new(), reason: None, properties: Vec::new() };
        match self.fill(&mut outcome, left_out) {
            Ok(true) => Ok(Read::Outcome(outcome)),
            Ok(false) => Ok(Read::None),
            Err(Bad::Missing(_)) => {
                // What stands before the odd part may have been cut out of a longer value.
                (outcome.reason, outcome.properties) = (None, Vec::new());
                *left_out = (*left_out).max(LeftOut::Details);
                self.skip()?;
                Ok(Read::Outcome(outcome))
            }
            Err(bad) => Err(bad),
        }
    }

    /// What follows the method; false where it is `none`, and nothing follows.
    fn fill(&mut self, outcome: &mut Outcome, left_out: &mut LeftOut) -> Result<bool, Bad> {
        self.blanks()?;
        if self.eat(b'/') {
            outcome.version = 0;
            self.blanks()?;
            outcome.version = self.version()?;
            self.blanks()?;
        }
        if outcome.method == "none" && matches!(self.peek(), None | Some(b';')) {
            return Ok(false);
        }
        self.expect(b'=', "equals sign after a method")?;
        self.blanks()?;
        outcome.result = self.keyword("result")?;
        loop {
            let apart = self.blanks()?;
            if matches!(self.peek(), None | Some(b';')) {
                return Ok(true);
            }
            if !apart {
                return Err(Bad::Missing("blank between two parts"));
            }
            self.part(outcome, left_out)?;
        }
    }

    /// Up to the next semicolon that is in no comment and no quoted string.
    fn skip(&mut self) -> Result<(), Bad> {
        loop {
            self.blanks()?;
            match self.peek() {
                None | Some(b';') => return Ok(()),
                Some(b'"') => {
                    self.next();
                    self.quoted(&mut Vec::new())?;
                }
                Some(_) => {
                    self.next();
                }
            }
        }
    }

    /// A reason, a property, or a word that is neither.
    fn part(&mut self, outcome: &mut Outcome, left_out: &mut LeftOut) -> Result<(), Bad> {
        let ptype = self.keyword("property")?;
        self.blanks()?;
        let dot = self.eat(b'.');
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
        } else if ptype == "reason" {
            outcome.reason.get_or_insert(value);
        } else {
            *left_out = (*left_out).max(LeftOut::Details);
        }
        Ok(())
    }
}
