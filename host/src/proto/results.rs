//! The Authentication-Results field (RFC 8601 §2.2): who speaks, and what it found out by which method.

use std::fmt;

use scan::{Read, Scan};

mod scan;

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
    /// What of the value is not in `outcomes`.
    pub left_out: LeftOut,
}

/// The most that was left out of a value, because the grammar does not know it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum LeftOut {
    /// Nothing.
    #[default]
    Nothing,
    /// Details of a method: a word without a dot (`x-bits=2048`), or all properties of an outcome in which something else
    /// cannot be read.
    Details,
    /// An outcome whose method cannot be read: it may be any method's.
    Method,
}

/// What one method found out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The method, such as `dkim`: lower case.
    pub method: String,
    /// The version of the method: 1 where none is named, 0 where it cannot be read.
    pub version: u32,
    /// The result, such as `pass`: lower case. Empty where it cannot be read.
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
#[non_exhaustive]
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
    /// without quotes, empty values, and octets above 127. What cannot be read of one outcome voids no other: it is
    /// [left out](LeftOut), up to the next `;`.
    ///
    /// # Errors
    /// [`Bad`] where it cannot be told who speaks, in which version, or where one outcome ends.
    pub fn parse(value: &[u8]) -> Result<Results, Bad> {
        if value.len() > VALUE_MAX {
            return Err(Bad::Long);
        }
        let mut scan = Scan { rest: value };
        let authserv_id = scan.authserv_id()?;
        scan.blanks()?;
        let version = if scan.peek().is_some_and(|octet| octet.is_ascii_digit()) { scan.version()? } else { 1 };
        let mut results = Results { authserv_id, version, outcomes: Vec::new(), left_out: LeftOut::Nothing };
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
            let read = scan.outcome(&mut results.left_out)?;
            match read {
                Read::Outcome(outcome) if !none => results.outcomes.push(outcome),
                Read::None if !none && results.outcomes.is_empty() => none = true,
                Read::Nothing => {}
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
/// where not all of it can be read, the method's name anywhere in it is enough.
pub fn carries(value: &[u8], method: &str) -> bool {
    match Results::parse(value) {
        Ok(results) if results.left_out == LeftOut::Nothing => {
            results.outcomes.iter().any(|outcome| outcome.method == method)
        }
        _ => value.windows(method.len().max(1)).any(|part| part.eq_ignore_ascii_case(method.as_bytes())),
    }
}

/// Whether a value that came to us can only be forged: it tells of our method, or it bears `own_id`, to be given where nobody
/// before us writes in our name.
pub fn is_forged(value: &[u8], own_id: Option<&str>) -> bool {
    let own_id = own_id.filter(|id| !id.is_empty());
    carries(value, METHOD) || own_id.is_some_and(|own| authserv_id(value).is_some_and(|id| same_id(&id, own)))
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

#[cfg(test)]
mod tests;
