//! The header block: where its fields are, and how to take some out or put one in without touching another byte.
//!
//! A field begins with a name of octets 33 to 126 without colon, blanks, and a colon (Postfix's `is_header`); lines that
//! begin with SP or TAB fold it; the first other line ends the block.

use std::collections::HashMap;
use std::ops::Range;

use memchr::{memchr, memchr2_iter};

use super::key::AuthKey;
use super::redact::KEYS_MOST;

/// The field that carries an address's key.
pub const KEY_FIELD: &str = "X-Auth-Key";
/// The field that brings an address its next key.
pub const NEW_KEY_FIELD: &str = "X-New-Auth-Key";
/// The field that names who attached the key, for whoever looks for a fault.
pub const AGENT_FIELD: &str = "X-Auth-Agent";
/// The field that tells the result to the delivery agent and the mail client.
pub const STATUS_FIELD: &str = "X-Auth-Key-Status";

/// The field that carries the mark of our own mail; it is removed before delivery, so that no recipient learns one.
pub const MARK_FIELD: &str = "X-Addrauth-Mark";
/// The field that tells other programs what was found out (RFC 8601).
pub const RESULTS_FIELD: &str = "Authentication-Results";
/// What the filters of mail clients and delivery agents know as "this is spam".
pub const SPAM_FIELD: &str = "X-Spam-Flag";
/// The fields whose values are secret.
pub const KEY_FIELDS: [&str; 2] = [KEY_FIELD, NEW_KEY_FIELD];
/// The fields by which we tell what we found: a forged one has to be found and deleted wherever it stands.
pub const TOLD_FIELDS: [&str; 3] = [STATUS_FIELD, MARK_FIELD, RESULTS_FIELD];

/// One change to a header block, in the milter's terms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit {
    /// Delete the `index`th field (from 1) of those with this name, letter case ignored.
    Delete {
        /// The field name.
        name: String,
        /// Which of the fields of this name, counted from 1 at the top.
        index: u32,
    },
    /// Insert a field so that it becomes the one at `index` (0: the top).
    Insert {
        /// The position; 0 and 1 only, never below possible junk.
        index: u32,
        /// The field name.
        name: String,
        /// The value, its leading space included, without a line ending.
        value: String,
    },
    /// Insert [`KEY_FIELD`] with this key at the top: the one edit that holds a secret, and so does not print.
    InsertKey {
        /// The key.
        key: AuthKey,
    },
}

/// How much of a header block is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Fields.
    pub fields: usize,
    /// Octets, line endings included.
    pub octets: usize,
}

/// A field's place in a message, as ranges of octets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// The name, without the blanks that may stand before the colon.
    pub name: Range<usize>,
    /// What follows the colon: leading space and folds included, without the last line ending.
    pub value: Range<usize>,
    /// All of it, the last line ending included.
    pub whole: Range<usize>,
}

/// What ended a header block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// An empty line.
    Blank,
    /// A line that is no field: the MTA takes it for the first of the body, other readers may not.
    Junk,
    /// The end of the message.
    Message,
    /// A bound: what follows was not read.
    Bound,
}

/// A header block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// Its fields, top first; one follows directly upon the other.
    pub fields: Vec<Span>,
    /// Where the line begins that ended it.
    pub end: usize,
    /// What ended it.
    pub ending: Ending,
}

/// The header block is over its bounds, so that nobody knows what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the header block has more than {} fields or {} octets", .0.fields, .0.octets)]
pub struct OverBounds(pub Bounds);

/// A field cannot stand there in that form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadField {
    /// Not a name of octets 33 to 126 without colon, with or without blanks after it.
    #[error("no field name")]
    Name,
    /// The value holds a line break that is no fold.
    #[error("the field's value holds a line break without a blank after it")]
    Value,
    /// The message begins with a blank: what stands there would become part of the field.
    #[error("the message begins with a folded line")]
    Place,
}

/// Reads the header block of a whole message. Total, linear, and of any octets.
pub fn scan(message: &[u8], bounds: Bounds) -> Block {
    let mut fields: Vec<Span> = Vec::new();
    let mut at = 0;
    let ending = loop {
        let line = message.get(at..).unwrap_or_default();
        if line.is_empty() {
            break Ending::Message;
        }
        let length = line.iter().position(|&o| o == b'\n').map_or(line.len(), |end| end + 1);
        let line = without_ending(line.get(..length).unwrap_or(line));
        if line.is_empty() {
            break Ending::Blank;
        }
        let name = field_name(line);
        let folds = !fields.is_empty() && matches!(line.first(), Some(b' ' | b'\t'));
        if name.is_none() && !folds {
            break Ending::Junk;
        }
        if at + length > bounds.octets || (name.is_some() && fields.len() == bounds.fields) {
            break Ending::Bound;
        }
        match (name, fields.last_mut()) {
            (Some((name, colon)), _) => fields.push(Span {
                name: at..at + name.len(),
                value: at + colon + 1..at + line.len(),
                whole: at..at + length,
            }),
            (None, Some(field)) => {
                field.value.end = at + line.len();
                field.whole.end = at + length;
            }
            (None, None) => break Ending::Junk,
        }
        at += length;
    };
    Block { fields, end: at, ending }
}

/// The message without the fields of these names, letter case ignored; every other octet stays.
///
/// # Errors
/// [`OverBounds`] where the header block is: half of a removal would look like a whole one.
pub fn strip(message: &[u8], names: &[&str], bounds: Bounds) -> Result<Vec<u8>, OverBounds> {
    let block = scan(message, bounds);
    if block.ending == Ending::Bound {
        return Err(OverBounds(bounds));
    }
    let octets = |range: &Range<usize>| message.get(range.clone()).unwrap_or_default();
    let mut stripped = Vec::with_capacity(message.len());
    for field in &block.fields {
        let name = octets(&field.name);
        if !names.iter().any(|doomed| doomed.as_bytes().eq_ignore_ascii_case(name)) {
            stripped.extend_from_slice(octets(&field.whole));
        }
    }
    stripped.extend_from_slice(message.get(block.end..).unwrap_or_default());
    Ok(stripped)
}

/// The message with a field put in so that it becomes the one at `position` (0: the top), or the last one where there are
/// fewer; every other octet stays.
///
/// The value stands as it is, its leading space included; its folds, and the ending, take the line ending of the message's
/// first line (CRLF where it has none). Blanks after the name stay too.
///
/// # Errors
/// [`BadField`] where the message would not read as the same with one field more.
pub fn inject(message: &[u8], position: usize, name: &str, value: &[u8]) -> Result<Vec<u8>, BadField> {
    match field_name(&[name.as_bytes(), b":"].concat()) {
        Some((_, colon)) if colon == name.len() => {}
        _ => return Err(BadField::Name),
    }
    let mut lines = value.split(|&o| o == b'\n').enumerate().peekable();
    let crlf = match message.iter().position(|&o| o == b'\n') {
        Some(end) => end > 0 && message.get(end - 1) == Some(&b'\r'),
        None => true,
    };
    let ending: &[u8] = if crlf { b"\r\n" } else { b"\n" };
    let mut field = [name.as_bytes(), b":"].concat();
    while let Some((number, line)) = lines.next() {
        if number > 0 && !matches!(line.first(), Some(b' ' | b'\t')) {
            return Err(BadField::Value);
        }
        field.extend_from_slice(if lines.peek().is_some() { line.strip_suffix(b"\r").unwrap_or(line) } else { line });
        field.extend_from_slice(ending);
    }
    let at = place(message, position)?;
    let (above, below) = message.split_at_checked(at).ok_or(BadField::Place)?;
    Ok([above, &field, below].concat())
}

/// Where a field must begin to become the one at `position`: never after a last line that has no ending.
fn place(message: &[u8], position: usize) -> Result<usize, BadField> {
    let block = scan(message, Bounds { fields: position.saturating_add(1), octets: usize::MAX });
    if block.fields.is_empty() && matches!(message.first(), Some(b' ' | b'\t')) {
        return Err(BadField::Place);
    }
    let at = block.fields.get(position).map_or(block.end, |field| field.whole.start);
    match block.fields.last() {
        Some(last) if at == last.whole.end && message.get(at.wrapping_sub(1)) != Some(&b'\n') => Ok(last.whole.start),
        _ => Ok(at),
    }
}

/// The commands that delete the doomed among the fields of a message, given its field names, top first.
///
/// `doomed` is asked with the position among all the fields (from 0) and the name without blanks after it. From the highest
/// index of each name down: an MTA that counts among the fields that are left, and one that counts among those it had,
/// both delete the same ones (CVE-2022-48521 is what the other order did).
pub fn deletions<'a>(
    names: impl IntoIterator<Item = &'a str>,
    mut doomed: impl FnMut(usize, &str) -> bool,
) -> Vec<Edit> {
    let mut seen: HashMap<String, u32> = HashMap::new();
    let mut edits = Vec::new();
    for (position, name) in names.into_iter().enumerate() {
        let name = name.trim_end_matches([' ', '\t']);
        let index = seen.entry(name.to_ascii_lowercase()).or_default();
        *index = index.saturating_add(1);
        if doomed(position, name) {
            edits.push(Edit::Delete { name: name.to_owned(), index: *index });
        }
    }
    edits.reverse();
    edits
}

/// Whether octets that the MTA does not take for header fields hold, before the first empty line, a line that somebody
/// else would take for a field of this name.
///
/// For a value, where a bare CR, a line's end to some readers, may hide one.
pub fn hides_field(octets: &[u8], name: &str) -> bool {
    hidden_values(octets, name).next().is_some()
}

/// Whether the first octets of a body, whose beginning may be what a line of junk cut off the header, hold such a line
/// with what can be a key on it, or on the fold that follows it.
///
/// A text that only speaks of the field hides nothing; a first paragraph that quotes a whole key does.
pub fn hides_key(body_start: &[u8], name: &str) -> bool {
    mentions(body_start, name)
        && hidden_values(body_start, name).map(key_value).any(|value| value.is_empty() || AuthKey::parse(value).is_ok())
}

/// A body whose beginning may be what a line of junk cut off the header, without the lines that [`hides_key`] finds for
/// these names, and without their folds; every other octet stays.
pub fn strip_hidden(body: &[u8], names: &[&str]) -> Vec<u8> {
    let mut kept = Vec::with_capacity(body.len());
    let (mut at, mut hidden) = (0, false);
    for line in body.split_inclusive(|&o| o == b'\n') {
        if without_ending(line).is_empty() {
            break;
        }
        let folds = matches!(line.first(), Some(b' ' | b'\t'));
        hidden = names.iter().any(|name| hides_key(line, name)) || hidden && folds;
        kept.extend_from_slice(if hidden { b"" } else { line });
        at += line.len();
    }
    kept.extend_from_slice(body.get(at..).unwrap_or_default());
    kept
}

/// The keys on the lines that [`hides_key`] finds for these names, and on the folds that follow them: each once, and no more
/// than one above what a [`super::redact::Redactor`] looks for one by one.
pub fn hidden_keys(body: &[u8], names: &[&str]) -> Vec<AuthKey> {
    let mut keys: Vec<AuthKey> = Vec::new();
    if !names.iter().any(|name| mentions(body, name)) {
        return keys;
    }
    let mut hidden = false;
    let lines = body.split(|&o| o == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    for line in lines.take_while(|line| !line.is_empty()) {
        let mut values: Vec<&[u8]> = names.iter().flat_map(|name| hidden_values(line, name)).collect();
        let folds = hidden && matches!(line.first(), Some(b' ' | b'\t'));
        values.extend(folds.then_some(line));
        for key in values.iter().filter_map(|value| AuthKey::parse(key_value(value)).ok()) {
            if keys.len() <= KEYS_MOST && !keys.contains(&key) {
                keys.push(key);
            }
        }
        hidden = !values.is_empty();
    }
    keys
}

/// Whether the octets hold a field's name, letter case ignored: most mail need not be read line by line. It is looked for by its
/// first hyphen, since text has fewer of these than of any letter.
fn mentions(octets: &[u8], name: &str) -> bool {
    let name = name.as_bytes();
    let anchor = memchr(b'-', name).unwrap_or(0);
    let Some(sign) = name.get(anchor) else { return true };
    let is_name = |at: usize| {
        let found = octets.get(at.checked_sub(anchor)?..)?.get(..name.len())?;
        Some(found.eq_ignore_ascii_case(name))
    };
    memchr2_iter(sign.to_ascii_lowercase(), sign.to_ascii_uppercase(), octets).any(|at| is_name(at) == Some(true))
}

/// The values of the lines before the first empty one that read as a field of this name.
fn hidden_values<'a>(octets: &'a [u8], name: &'a str) -> impl Iterator<Item = &'a [u8]> + 'a {
    octets
        .split(|&o| o == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
        .take_while(|line| !line.is_empty())
        .flat_map(|line| line.split(|&o| o == b'\r'))
        .filter_map(|line| field_name(line).map(|(found, colon)| (found, line.get(colon + 1..).unwrap_or_default())))
        .filter(move |(found, _)| found.eq_ignore_ascii_case(name.as_bytes()))
        .map(|(_, value)| value)
}

/// The key in a key field's value: what is left without the blanks and folds around it.
///
/// Inside it nothing is removed: a key that was folded in its middle is outside the grammar.
pub fn key_value(raw: &[u8]) -> &[u8] {
    let mut key = raw;
    loop {
        let ends = key.strip_suffix(b"\n").map(|k| k.strip_suffix(b"\r").unwrap_or(k));
        let begins = key.strip_prefix(b"\r\n").or(key.strip_prefix(b"\n"));
        let blank = match key {
            [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] => Some(rest),
            _ => None,
        };
        match blank.or(begins).or(ends) {
            Some(rest) => key = rest,
            None => return key,
        }
    }
}

/// A line's field name and the offset of its colon; absent where the line begins no field.
fn field_name(line: &[u8]) -> Option<(&[u8], usize)> {
    let end = line.iter().position(|o| !matches!(o, b'!'..=b'9' | b';'..=b'~')).filter(|&end| end > 0)?;
    let (name, rest) = line.split_at_checked(end)?;
    let blanks = rest.iter().position(|o| !matches!(o, b' ' | b'\t'))?;
    (rest.get(blanks) == Some(&b':')).then_some((name, end + blanks))
}

fn without_ending(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\n").map_or(line, |l| l.strip_suffix(b"\r").unwrap_or(l))
}

#[cfg(test)]
mod tests;
