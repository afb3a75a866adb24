//! The addr-spec: one strict reading of an address, the same for every part of the program.

use std::fmt;

use serde::{Serialize, Serializer};
use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

mod domain;
mod folded;
mod mailbox;
mod path;

pub use domain::{BadDomain, DOMAIN_MAX, Domain};
pub use folded::{Mailbox, folded};
pub use path::{Name, Reading};

/// The longest local part, in octets, quotes included (RFC 5321 §4.5.3.1.1).
pub const LOCAL_MAX: usize = 64;
/// The longest address, in octets: a path of 256 without its angle brackets (RFC 5321 §4.5.3.1.3).
pub const ADDRESS_MAX: usize = 254;
/// The longest text that is read as an address, in octets: escapes and normalisation shorten at most this much.
const TEXT_MAX: usize = 4 * ADDRESS_MAX;
/// The longest From value that is read, in octets: real ones stay below 1,000, and nobody shows more to a reader.
pub const FROM_MAX: usize = 8 * 1024;

/// An addr-spec (RFC 5322 §3.4.1): the local part as written, and a [`Domain`].
///
/// Domain literals, single labels and over-long parts are no addresses.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address {
    local: String,
    domain: Domain,
}

/// The text is no addr-spec.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an address of the form local@domain.example")]
pub struct BadAddress;

/// Why a From field names no single address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadFrom {
    /// More than one mailbox, or a group.
    #[error("the From field does not hold exactly one mailbox")]
    Several,
    /// No mailbox, or one that two readers would read differently.
    #[error("the From field holds no usable address")]
    Bad,
    /// `<>`, or a name alone: no reader finds an address there.
    #[error("the From field names nobody")]
    Nobody,
}

impl Address {
    /// Reads an addr-spec without angle brackets, comments or white space around it. 8-bit octets are read as UTF-8 where
    /// `utf8` allows them (SMTPUTF8).
    ///
    /// The result is canonical: the local part in NFC, without quotes where it can stand without them and with as few
    /// escapes as it needs; the domain in lower-case A-labels (UTS 46, non-transitional).
    pub fn parse(text: &[u8], utf8: bool) -> Result<Address, BadAddress> {
        if text.len() > TEXT_MAX || !(utf8 || text.is_ascii()) {
            return Err(BadAddress);
        }
        let text = std::str::from_utf8(text).map_err(|_| BadAddress)?;
        let (local, domain) = text.rsplit_once('@').ok_or(BadAddress)?;
        Address::bounded(canonical_local(local)?, Domain::parse(domain)?)
    }

    /// The address of a local part as [`Address::parse`] would read it, at this domain.
    pub fn at(local: &str, domain: &Domain) -> Result<Address, BadAddress> {
        if local.len() > TEXT_MAX {
            return Err(BadAddress);
        }
        Address::bounded(canonical_local(local)?, domain.clone())
    }

    /// The address of what a local part means, without quotes and escapes, at this domain: it is quoted where it has to be.
    pub fn from_parts(content: &str, domain: &Domain) -> Result<Address, BadAddress> {
        if content.len() > TEXT_MAX {
            return Err(BadAddress);
        }
        Address::bounded(spelled_local(content)?, domain.clone())
    }

    fn bounded(local: String, domain: Domain) -> Result<Address, BadAddress> {
        let long = local.len() > LOCAL_MAX || local.len() + 1 + domain.as_str().len() > ADDRESS_MAX;
        if long { Err(BadAddress) } else { Ok(Address { local, domain }) }
    }

    /// The one address of a From field's value (raw, folds included): exactly one mailbox, in a form that every reader shows
    /// alike, on which our strict reading and mail-parser's agree.
    ///
    /// A value over [`FROM_MAX`] octets is [`BadFrom::Bad`].
    pub fn from_field(value: &[u8], utf8: bool) -> Result<Address, BadFrom> {
        let text = mailbox::text(value).ok_or(BadFrom::Bad)?;
        let read = || {
            let address = Address::parse(mailbox::addr_spec(&text)?.as_bytes(), utf8).map_err(|_| BadFrom::Bad)?;
            let second = mailbox::second_opinion(&text).ok_or(BadFrom::Bad)?;
            match Address::parse(second.as_bytes(), utf8) {
                Ok(second) if second == address => Ok(address),
                _ => Err(BadFrom::Bad),
            }
        };
        read().map_err(|bad| match bad {
            BadFrom::Bad if mailbox::names_nobody(&text) => BadFrom::Nobody,
            bad => bad,
        })
    }

    /// The local part, as written; a quoted string keeps its quotes unless it equals a dot-atom.
    pub fn local(&self) -> &str {
        &self.local
    }

    /// The domain.
    pub fn domain(&self) -> &Domain {
        &self.domain
    }

    /// Whether another address differs in the case of ASCII letters at most. A `+tag` counts, unlike in [`Address::mailbox`].
    pub fn is_but_for_case(&self, other: &Address) -> bool {
        self.domain == other.domain && self.local.eq_ignore_ascii_case(&other.local)
    }

    /// The address as it stands in a VERIFY line: SP, CTL, DEL and `%` percent-encoded (SPECIFICATION §1.3).
    pub fn wire(&self) -> String {
        let mut wire = String::with_capacity(ADDRESS_MAX);
        for c in self.local.chars().chain(['@']).chain(self.domain.as_str().chars()) {
            match c {
                '\0'..=' ' | '%' | '\x7f' => wire.push_str(&format!("%{:02X}", u32::from(c))),
                _ => wire.push(c),
            }
        }
        wire
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.local, self.domain)
    }
}

/// As it prints.
impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The local part in its one spelling.
fn canonical_local(raw: &str) -> Result<String, BadAddress> {
    let quoted = raw.strip_prefix('"');
    let content = match quoted {
        Some(rest) => unquoted(rest)?,
        None if is_dot_atom(raw) => raw.to_owned(),
        None => return Err(BadAddress),
    };
    let spelled = spelled_local(&content)?;
    // What is an atom no more once it is normalised was none.
    if quoted.is_none() && spelled.starts_with('"') { Err(BadAddress) } else { Ok(spelled) }
}

/// What a local part means in its one spelling: as a dot-atom, else quoted with as few escapes as it needs.
fn spelled_local(content: &str) -> Result<String, BadAddress> {
    // Normalised without its escapes: a letter and its escaped accent belong together. Composition can also make an atom
    // of what was none, and the other way round, hence the second look at the result.
    let content: String = content.nfc().collect();
    if content.chars().next().is_some_and(is_combining_mark) || !content.chars().all(is_quotable) {
        return Err(BadAddress);
    }
    if is_dot_atom(&content) {
        return Ok(content);
    }
    let mut quoted = String::from('"');
    for c in content.chars() {
        if matches!(c, '"' | '\\') {
            quoted.push('\\');
        }
        quoted.push(c);
    }
    quoted.push('"');
    Ok(quoted)
}

/// What a quoted string means, given what follows its opening quote; it ends with the closing one.
fn unquoted(rest: &str) -> Result<String, BadAddress> {
    let mut content = String::with_capacity(rest.len());
    let mut chars = rest.chars();
    loop {
        match chars.next().ok_or(BadAddress)? {
            '"' if chars.as_str().is_empty() => return Ok(content),
            '"' => return Err(BadAddress),
            '\\' => content.push(chars.next().ok_or(BadAddress)?),
            c => content.push(c),
        }
    }
}

/// dot-atom-text (RFC 5322 §3.2.3, RFC 6532 §3.2).
fn is_dot_atom(text: &str) -> bool {
    text.split('.').all(|atom| !atom.is_empty() && atom.chars().all(is_atext))
}

/// atext: ASCII letters, digits and the signs that need no quotes, and all but ASCII.
fn is_atext(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c) || !c.is_ascii()
}

/// What may stand in a quoted local part: ASCII that prints and SP (RFC 5321 §4.1.2), and beyond ASCII whatever a reader
/// can see: no control, no blank, no mark that turns the writing direction or takes no room.
fn is_quotable(c: char) -> bool {
    match c {
        ' '..='~' => true,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' => false,
        '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffd}' | '\u{e0000}'..='\u{e0fff}' => false,
        _ => !c.is_ascii() && !c.is_control() && !c.is_whitespace(),
    }
}

/// Whether a text is the full name of a host, two labels at least: a domain as an address has it.
pub fn is_host_name(text: &str) -> bool {
    text.is_ascii() && Domain::parse(text).is_ok()
}

#[cfg(test)]
mod tests;
