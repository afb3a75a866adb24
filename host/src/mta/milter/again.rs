//! The header of a message whose MTA shows it twice: in HEADER frames, and again at the beginning of the body.
//!
//! Stalwart (0.15.5 and 0.16.19, measured) does so. Its HEADER frames tell which fields it knows, and so can delete, without
//! the blanks around names and values, and empty where octets are no UTF-8. Its BODY frames hold the message as it came. Each
//! known field is found there by its spelling; lines that other readers take for fields, and the MTA does not know as such,
//! are told apart.

use std::fmt;

use memchr::memchr;
use zeroize::Zeroizing;

use super::Error;
use crate::config::Limits;
use crate::mta::Refused;
use crate::mta::intake::{Intake, is_edited, loose_name};

/// The fields that the MTA told, and the message's octets up to the end of its header.
#[derive(Debug, Default)]
pub(super) struct Again {
    told: Vec<Told>,
    /// Octets of all that was told.
    octets: usize,
    raw: Raw,
}

/// A field as a HEADER frame has it. It prints without its value, which may be a key.
struct Told {
    name: Vec<u8>,
    value: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Told({})", self.name.escape_ascii())
    }
}

impl Again {
    /// A HEADER frame. The name ends at the first NUL; a NUL inside the value is the sender's.
    pub(super) fn tell(&mut self, payload: &[u8], limits: &Limits) -> Result<(), Error> {
        let malformed = || Error::Malformed("header");
        let end = memchr(0, payload).ok_or_else(malformed)?;
        let (name, value) = payload.split_at_checked(end).ok_or_else(malformed)?;
        let value = value.get(1..).and_then(|value| value.strip_suffix(b"\0")).ok_or_else(malformed)?;
        self.octets = self.octets.saturating_add(payload.len());
        let fields = limits.mta.header_fields.saturating_add(limits.mta.key_fields);
        if self.octets > most(limits) || self.told.len() >= fields {
            return Err(Refused::Header(most(limits)).into());
        }
        self.told.push(Told { name: name.to_vec(), value: Zeroizing::new(value.to_vec()) });
        Ok(())
    }

    /// A piece of the body; `last` where none follows. Where the header is all there, this is the place in the piece at which the
    /// message's own body begins.
    pub(super) fn hear(&mut self, piece: &[u8], last: bool, limits: &Limits) -> Result<Option<usize>, Error> {
        let before = self.raw.octets.len();
        let room = most(limits).saturating_sub(before);
        self.raw.add(piece.get(..room).unwrap_or(piece));
        match self.raw.body {
            Some(body) => Ok(Some(body.saturating_sub(before))),
            None if piece.len() > room => Err(Refused::Header(most(limits)).into()),
            None if last => Ok(Some(piece.len())),
            None => Ok(None),
        }
    }

    /// Puts the header into the intake, as the message has it.
    pub(super) fn put_into(&self, intake: &mut Intake) -> Result<(), Error> {
        for part in self.parts()? {
            match part {
                Part::Field { name, value } => {
                    let own = folded_end(value, 0);
                    intake.field(name, &unfolded(octets(value, 0, own)), true)?;
                    // The MTA takes what follows for a part of the value (0.15.5: the line below a date that ends in Z).
                    beside(octets(value, own, value.len()), intake)?;
                }
                Part::Lines(lines) => beside(lines, intake)?,
            }
        }
        Ok(())
    }

    /// The header in parts: what the MTA knows as fields, and the lines between them.
    ///
    /// Where they cannot be told apart, the message is refused unless it has no field that may have to be deleted.
    fn parts(&self) -> Result<Vec<Part<'_>>, Error> {
        let header = self.raw.header();
        let (mut parts, mut at) = (Vec::new(), 0);
        for told in &self.told {
            let begin = at;
            let found = loop {
                match told.found_at(header, at) {
                    Some(place) => break place,
                    None if at < header.len() => at = line_end(header, at),
                    None if parts.is_empty() => return Err(Error::HeaderMissing),
                    None if self.may_be_edited() => return Err(Error::HeaderDiffers),
                    None => return Ok(vec![Part::Lines(header)]),
                }
            };
            let Place { name, colon, end } = found;
            parts.push(Part::Lines(octets(header, begin, at)));
            let value = octets(header, colon + 1, end);
            parts.push(match octets(header, name, colon) {
                named if is_field_name(named) => Part::Field { name: named, value },
                // Words before a colon are a field to the MTA alone.
                _ => Part::Lines(octets(header, name, end)),
            });
            at = end;
        }
        parts.push(Part::Lines(octets(header, at, header.len())));
        Ok(parts)
    }

    /// Whether the MTA or another reader may find a field here that may have to be deleted.
    fn may_be_edited(&self) -> bool {
        let told = |told: &Told| is_edited(told.name.trim_ascii());
        names_edited(self.raw.header()) || self.told.iter().any(told)
    }
}

/// Takes lines that are no fields to the MTA. It deletes none of them, and beside one that spells
/// an edited field nobody knows which of the two the MTA has told (0.15.5: the line below a date that ends in Z is none).
fn beside(lines: &[u8], intake: &mut Intake) -> Result<(), Error> {
    if names_edited(lines) {
        return Err(Error::HeaderDiffers);
    }
    intake.beside(lines);
    Ok(())
}

/// Whether one of these lines can be read as a field that may have to be deleted.
fn names_edited(lines: &[u8]) -> bool {
    lines.split(|octet| *octet == b'\n').filter_map(loose_name).any(|name| is_edited(&name))
}

/// What stands at one place of the header.
enum Part<'a> {
    /// A field that the MTA knows: its spelling, and what follows the colon.
    Field { name: &'a [u8], value: &'a [u8] },
    /// Lines that the MTA does not know as fields of their own.
    Lines(&'a [u8]),
}

/// Where a field's name begins, where its colon stands, and where the next line begins.
struct Place {
    name: usize,
    colon: usize,
    end: usize,
}

impl Told {
    /// Where this field stands, if it begins with the line that begins `at`.
    fn found_at(&self, header: &[u8], at: usize) -> Option<Place> {
        let name = at + blanks(octets(header, at, header.len()));
        let line = octets(header, name, line_end(header, name));
        let colon = match self.name.is_empty() {
            // The name is no UTF-8.
            true => memchr(b':', line).filter(|colon| trimmed(octets(line, 0, *colon)).is_empty())?,
            false => {
                let behind = line.strip_prefix(self.name.as_slice())?;
                let blanks = blanks(behind);
                (behind.get(blanks) == Some(&b':')).then_some(self.name.len() + blanks)?
            }
        };
        let colon = name + colon;
        let value = octets(header, colon + 1, header.len());
        let mut end = folded_end(value, 0);
        if !self.value.is_empty() {
            let lead = lead(value);
            octets(value, lead, value.len()).strip_prefix(self.value.as_slice())?;
            while end < lead + self.value.len() {
                end = folded_end(value, end);
            }
        }
        (trimmed(octets(value, 0, end)) == self.value.as_slice()).then_some(Place { name, colon, end: colon + 1 + end })
    }
}

/// The octets of a message as far as its header goes, and more of the piece with which that ends. They are wiped.
#[derive(Default)]
struct Raw {
    octets: Zeroizing<Vec<u8>>,
    /// Where the line begins that is not over yet, or that ended the header.
    line: usize,
    /// Up to here no line's end is to be looked for.
    seen: usize,
    /// Where the body begins.
    body: Option<usize>,
}

impl fmt::Debug for Raw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Raw({} octets)", self.octets.len())
    }
}

impl Raw {
    fn add(&mut self, piece: &[u8]) {
        let needed = self.octets.len() + piece.len();
        if needed > self.octets.capacity() {
            // A buffer that grows by itself would leave its beginning behind.
            let mut longer = Zeroizing::new(Vec::with_capacity(needed.max(self.octets.len() * 2)));
            longer.extend_from_slice(&self.octets);
            self.octets = longer;
        }
        self.octets.extend_from_slice(piece);
        while let (None, Some(end)) = (self.body, memchr(b'\n', octets(&self.octets, self.seen, self.octets.len()))) {
            let end = self.seen + end;
            match octets(&self.octets, self.line, end) {
                b"" | b"\r" => self.body = Some(end + 1),
                _ => (self.line, self.seen) = (end + 1, end + 1),
            }
        }
        self.seen = self.octets.len();
    }

    /// The header without the empty line.
    fn header(&self) -> &[u8] {
        octets(&self.octets, 0, if self.body.is_some() { self.line } else { self.octets.len() })
    }
}

/// Octets that are collected at most. A header over its own bound counts as truncated; of one over twice that nobody could say
/// where its body begins.
fn most(limits: &Limits) -> usize {
    limits.mta.header_octets.saturating_mul(2)
}

/// Those from `begin` up to `end`.
fn octets(all: &[u8], begin: usize, end: usize) -> &[u8] {
    all.get(begin..end).unwrap_or_default()
}

/// Where the line that `at` is in ends, its line ending included.
fn line_end(all: &[u8], at: usize) -> usize {
    memchr(b'\n', octets(all, at, all.len())).map_or(all.len(), |end| at + end + 1)
}

/// Where the line that begins `at` ends with its folds.
fn folded_end(all: &[u8], at: usize) -> usize {
    let mut end = line_end(all, at);
    while matches!(all.get(end), Some(b' ' | b'\t')) {
        end = line_end(all, end);
    }
    end
}

/// What the MTA trims off a name or a value, as far as it is ASCII and ends no line.
fn is_blank(octet: u8) -> bool {
    matches!(octet, b' ' | b'\t' | b'\r' | 0x0b | 0x0c)
}

/// How many blanks these octets begin with.
fn blanks(octets: &[u8]) -> usize {
    octets.iter().take_while(|octet| is_blank(**octet)).count()
}

/// How many octets the MTA trims off in front of a value: blanks, line ends and all that Unicode has for white space.
fn lead(value: &[u8]) -> usize {
    let is_space = |octets: &[u8]| std::str::from_utf8(octets).is_ok_and(|text| text.trim_start().is_empty());
    let mut at = 0;
    // No such character has more than three octets.
    while let Some(width) = (1..=3).find(|width| value.get(at..at + width).is_some_and(is_space)) {
        at += width;
    }
    at
}

/// What the MTA tells of these octets.
fn trimmed(octets: &[u8]) -> &[u8] {
    std::str::from_utf8(octets).map(str::trim).unwrap_or_default().as_bytes()
}

/// Whether this is a field's name with blanks behind it.
fn is_field_name(name: &[u8]) -> bool {
    let name = name.trim_ascii_end();
    !name.is_empty() && name.iter().all(|octet| octet.is_ascii_graphic() && *octet != b':')
}

/// A value with LF alone before its folds, as all doors hand it over, and without its last line ending.
fn unfolded(value: &[u8]) -> Zeroizing<Vec<u8>> {
    let value = value.strip_suffix(b"\n").map_or(value, |value| value.strip_suffix(b"\r").unwrap_or(value));
    let mut kept = Zeroizing::new(Vec::with_capacity(value.len()));
    for (at, octet) in value.iter().enumerate() {
        if !(*octet == b'\r' && value.get(at + 1) == Some(&b'\n')) {
            kept.push(*octet);
        }
    }
    kept
}
