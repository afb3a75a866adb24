//! The Authentication-Results field (RFC 8601 §2.2): who speaks, and what it found out by which method.

use std::fmt;

/// The field that tells other programs what was found out.
pub const RESULTS_FIELD: &str = "Authentication-Results";
/// Our method's name; it is not registered, hence the `x-` (RFC 8601 §2.7.6).
pub const METHOD: &str = "x-auth-key";
/// The longest value that is read, in octets: real ones stay below 4,000.
pub const VALUE_MAX: usize = 16 * 1024;

/// A field's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Results {
    /// Who speaks: without quotes, in the letter case in which it stands. To be compared by [`same_id`].
    pub authserv_id: String,
    /// The version of the grammar: 1 where none is named.
    pub version: u32,
    /// What was found out, in the field's order; empty where nothing was checked.
    pub outcomes: Vec<Outcome>,
}

/// What one method found out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The method, such as `dkim`: lower case.
    pub method: String,
    /// The version of the method: 1 where none is named.
    pub version: u32,
    /// The result, such as `pass`: lower case.
    pub result: String,
    /// The words after `reason=`.
    pub reason: Option<String>,
    /// What was looked at.
    pub properties: Vec<Property>,
}

/// A property, such as `header.d=example.com`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Property {
    /// The part before the dot, such as `header`: lower case.
    pub ptype: String,
    /// The part after it, such as `d`: lower case.
    pub name: String,
    /// The value without quotes; octets that are no UTF-8 are U+FFFD.
    pub value: String,
}

/// Why a value is none of the grammar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Bad {
    /// Longer than [`VALUE_MAX`].
    #[error("the field has more than {VALUE_MAX} octets")]
    Long,
    /// A comment or a quoted string does not end, or holds a control character.
    #[error("a comment or a quoted string does not end, or holds a control character")]
    Open,
    /// Something else stands where this was to be.
    #[error("there is no {0} where one has to be")]
    Missing(&'static str),
}

impl Results {
    /// Reads a field's value as it stands, folds included. Total and linear, of any octets.
    ///
    /// More than the grammar allows is read where real fields need it: a `;` at the end or twice, values with `/`, `:` or `=`
    /// without quotes, empty values, and octets above 127.
    ///
    /// # Errors
    /// [`Bad`] where it is outside the grammar even so.
    pub fn parse(value: &[u8]) -> Result<Results, Bad> {
        if value.len() > VALUE_MAX {
            return Err(Bad::Long);
        }
        let mut scan = Scan { rest: value };
        let authserv_id = scan.authserv_id()?;
        scan.blanks()?;
        let version = if scan.peek().is_some_and(|octet| octet.is_ascii_digit()) { scan.version()? } else { 1 };
        let mut results = Results { authserv_id, version, outcomes: Vec::new() };
        let mut none = false;
        loop {
            scan.blanks()?;
            if scan.rest.is_empty() {
                return Ok(results);
            }
            scan.expect(b';', "semicolon")?;
            scan.blanks()?;
            if matches!(scan.peek(), None | Some(b';')) {
                continue;
            }
            match scan.outcome()? {
                Some(outcome) if !none => results.outcomes.push(outcome),
                None if !none && results.outcomes.is_empty() => none = true,
                _ => return Err(Bad::Missing("end after `none`")),
            }
        }
    }
}

impl Outcome {
    /// The values of a property, in the field's order.
    pub fn values<'a>(&'a self, ptype: &'a str, name: &'a str) -> impl Iterator<Item = &'a str> + 'a {
        self.properties.iter().filter(move |p| p.ptype == ptype && p.name == name).map(|p| p.value.as_str())
    }
}

/// The authserv-id with which a value begins, whether the rest can be read or not.
pub fn authserv_id(value: &[u8]) -> Option<String> {
    Scan { rest: value }.authserv_id().ok()
}

/// Whether two authserv-ids are the same (RFC 8601 §2.5): letter case, and a final dot, do not count.
pub fn same_id(one: &str, other: &str) -> bool {
    let bare = |id: &str| id.strip_suffix('.').unwrap_or(id).to_ascii_lowercase();
    bare(one) == bare(other)
}

/// Whether a value tells of this method (in lower case), or may do so to a reader who takes what is outside the grammar:
/// where it cannot be read, the method's name anywhere in it is enough.
pub fn carries(value: &[u8], method: &str) -> bool {
    match Results::parse(value) {
        Ok(results) => results.outcomes.iter().any(|outcome| outcome.method == method),
        Err(_) => value.windows(method.len().max(1)).any(|part| part.eq_ignore_ascii_case(method.as_bytes())),
    }
}

/// The value as it is written: one line, quoted where the grammar wants it.
impl fmt::Display for Results {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_value(f, &self.authserv_id)?;
        if self.version != 1 {
            write!(f, " {}", self.version)?;
        }
        for outcome in &self.outcomes {
            write!(f, "; {}", outcome.method)?;
            if outcome.version != 1 {
                write!(f, "/{}", outcome.version)?;
            }
            write!(f, "={}", outcome.result)?;
            if let Some(reason) = &outcome.reason {
                f.write_str(" reason=")?;
                write_value(f, reason)?;
            }
            for Property { ptype, name, value } in &outcome.properties {
                write!(f, " {ptype}.{name}=")?;
                if is_address(value) { f.write_str(value)? } else { write_value(f, value)? }
            }
        }
        if self.outcomes.is_empty() { f.write_str("; none") } else { Ok(()) }
    }
}

/// A token (RFC 2045 §5.1) as it is, anything else as a quoted string; control characters are left out.
fn write_value(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    if !text.is_empty() && text.bytes().all(is_token) {
        return f.write_str(text);
    }
    f.write_str("\"")?;
    for c in text.chars().filter(|c| !is_control(*c)) {
        f.write_str(if matches!(c, '"' | '\\') { "\\" } else { "" })?;
        write!(f, "{c}")?;
    }
    f.write_str("\"")
}

/// Whether a text can stand as a property's value without quotes: a dot-atom or nothing, `@`, and a domain.
fn is_address(text: &str) -> bool {
    let atom = |o: u8| o.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~.".contains(&o);
    let Some((local, domain)) = text.split_once('@') else { return false };
    let is_domain = !domain.is_empty() && domain.bytes().all(|o| o.is_ascii_alphanumeric() || matches!(o, b'-' | b'.'));
    is_domain && local.bytes().all(atom) && !local.starts_with('.') && !local.ends_with('.') && !local.contains("..")
}

/// An octet of a token.
fn is_token(octet: u8) -> bool {
    octet.is_ascii_graphic() && !b"()<>@,;:\\\"/[]?=".contains(&octet)
}

/// A character that has no place in a value; a tab has.
fn is_control(c: char) -> bool {
    c.is_ascii_control() && c != '\t'
}

/// What is left to be read.
struct Scan<'a> {
    rest: &'a [u8],
}

impl<'a> Scan<'a> {
    fn peek(&self) -> Option<u8> {
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

    fn expect(&mut self, octet: u8, what: &'static str) -> Result<(), Bad> {
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
    fn blanks(&mut self) -> Result<bool, Bad> {
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
    fn authserv_id(&mut self) -> Result<String, Bad> {
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

    fn version(&mut self) -> Result<u32, Bad> {
        let digits = std::str::from_utf8(self.run(|octet| octet.is_ascii_digit())).unwrap_or_default();
        digits.parse().map_err(|_| Bad::Missing("version"))
    }

    /// `method=result` and what follows it up to the next semicolon; absent where it is `none`.
    fn outcome(&mut self) -> Result<Option<Outcome>, Bad> {
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

#[cfg(test)]
mod tests;
