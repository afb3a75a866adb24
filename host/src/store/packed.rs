//! A story in few octets: what the JSON of a case tells, written so that what each row repeats takes one octet or none.
//!
//! It is packed and read back alike, number by number and text by text: the tables below only make what is usual short.
//! Nothing is shared between rows, so a row is understood, erased and deleted by itself. A text stands in the row literally, at
//! the first place where it occurs, in the columns or here: so an address is found by looking for its octets. Not so the names,
//! words and digests of the tables below, which hold no address.

mod packer;
mod tables;

use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::Range;
use std::sync::LazyLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use humantime_serde::re::humantime::parse_rfc3339;
use serde::Serialize;
use serde_transcode::transcode;

use super::octets::Octets;
use crate::case::stamp;

use packer::Packer;
use tables::{SHAPES, WORDS};

/// Texts of a row that later ones are compared with: a message to a thousand recipients is packed in linear time.
const REMEMBERED: usize = 32;
/// Shorter ones are not worth a comparison.
const SHORTEST: usize = 4;
/// Values within each other that are read; the parser of JSON takes no more.
const DEPTH: u32 = 130;

// What an octet begins. Below 0x20 the kinds, then small numbers, shapes and words.
const NULL: u8 = 0x00;
const FALSE: u8 = 0x01;
const TRUE: u8 = 0x02;
const NUMBER: u8 = 0x03;
const TEXT: u8 = 0x04;
/// A text that stood before; one that stood before without its angle brackets; one that stood before with them.
const AGAIN: u8 = 0x05;
const AGAIN_AS_PATH: u8 = 0x06;
const AGAIN_BARE: u8 = 0x07;
const IPV4: u8 = 0x08;
const IPV6: u8 = 0x09;
/// 64 hexadecimal digits, and a time of RFC 3339, in milliseconds after the row's.
const DIGEST: u8 = 0x0a;
const TIME: u8 = 0x0b;
const EMPTY_LIST: u8 = 0x0c;
const LIST_OF_ONE: u8 = 0x0d;
const LIST: u8 = 0x0e;
const END: u8 = 0x0f;
/// Values up to END, and then their names.
const OBJECT: u8 = 0x10;
const SMALL: Range<u8> = 0x20..0x40;
const SHAPE: Range<u8> = 0x40..0x80;
const WORD: u8 = 0x80;

/// The words by their length, each with its octet: a short list is looked through sooner than a text is hashed.
static WORDS_OF: LazyLock<Vec<Vec<(&str, u8)>>> = LazyLock::new(|| {
    let longest = WORDS.iter().map(|word| word.len()).max().unwrap_or_default();
    let of_length = |length| WORDS.into_iter().zip(WORD..=u8::MAX).filter(|(word, _)| word.len() == length).collect();
    (0..=longest).map(of_length).collect()
});

/// The shapes as the octets of their names.
static SHAPES_OF: LazyLock<Vec<Vec<Option<u8>>>> =
    LazyLock::new(|| SHAPES.iter().map(|shape| shape.iter().map(|name| word_of(name)).collect()).collect());

/// The octet of a word.
fn word_of(text: &str) -> Option<u8> {
    let words = WORDS_OF.get(text.len())?;
    words.iter().find(|(word, _)| *word == text).map(|(_, octet)| *octet)
}

/// What a row says of itself beside its story: texts that the story repeats need not stand there again.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Beside<'a> {
    /// When it was written, in seconds since 1970.
    pub(super) at: i64,
    pub(super) queue_id: Option<&'a str>,
    pub(super) sender: Option<&'a str>,
}

impl<'a> Beside<'a> {
    fn texts(&self) -> [&'a str; 2] {
        [self.queue_id.unwrap_or_default(), self.sender.unwrap_or_default()]
    }
}

/// What serde tells of a value, in few octets. Absent where it has a number below zero or with a fraction: that stays as JSON.
pub(super) fn pack(value: &impl Serialize, beside: Beside<'_>) -> Option<Vec<u8>> {
    let mut packer = Packer::new(beside);
    value.serialize(&mut packer).ok()?;
    Some(packer.out)
}

/// The same of a value that is written as JSON; absent also where it is none.
pub(super) fn pack_json(json: &str, beside: Beside<'_>) -> Option<Vec<u8>> {
    let (mut packer, mut json) = (Packer::new(beside), serde_json::Deserializer::from_str(json));
    transcode(&mut json, &mut packer).ok()?;
    json.end().ok()?;
    Some(packer.out)
}

/// What was packed, as JSON without blanks. Absent where the octets are not its own.
pub(super) fn unpack(octets: &[u8], beside: Beside<'_>) -> Option<String> {
    let mut unpacker = Unpacker {
        left: Octets::new(octets),
        seen: beside.texts().into(),
        at: beside.at,
        json: String::with_capacity(1024),
    };
    unpacker.value(DEPTH)?;
    unpacker.left.is_over().then_some(unpacker.json)
}

struct Unpacker<'a> {
    left: Octets<'a>,
    seen: Vec<&'a str>,
    at: i64,
    json: String,
}

impl<'a> Unpacker<'a> {
    /// Writes the next value as JSON.
    fn value(&mut self, depth: u32) -> Option<()> {
        let kind = self.left.octet()?;
        self.of_kind(kind, depth)
    }

    fn of_kind(&mut self, kind: u8, depth: u32) -> Option<()> {
        let depth = depth.checked_sub(1)?;
        match kind {
            NULL => self.json.push_str("null"),
            FALSE => self.json.push_str("false"),
            TRUE => self.json.push_str("true"),
            NUMBER => {
                let number = self.left.number()?.to_string();
                self.json.push_str(&number);
            }
            EMPTY_LIST => self.json.push_str("[]"),
            LIST_OF_ONE => {
                self.json.push('[');
                self.value(depth)?;
                self.json.push(']');
            }
            LIST => self.list(depth)?,
            OBJECT => self.object(depth)?,
            small if SMALL.contains(&small) => self.json.push_str(&(small - SMALL.start).to_string()),
            shape if SHAPE.contains(&shape) => self.shape(SHAPES.get(usize::from(shape - SHAPE.start))?, depth)?,
            kind => {
                let text = self.text(kind)?;
                self.quoted(&text);
            }
        }
        Some(())
    }

    fn list(&mut self, depth: u32) -> Option<()> {
        self.json.push('[');
        let mut is_first = true;
        loop {
            match self.left.octet()? {
                END => break,
                kind => {
                    if !is_first {
                        self.json.push(',');
                    }
                    self.of_kind(kind, depth)?;
                }
            }
            is_first = false;
        }
        self.json.push(']');
        Some(())
    }

    fn shape(&mut self, names: &[&str], depth: u32) -> Option<()> {
        for (number, name) in names.iter().enumerate() {
            self.json.push(if number == 0 { '{' } else { ',' });
            self.quoted(name);
            self.json.push(':');
            self.value(depth)?;
        }
        self.json.push('}');
        Some(())
    }

    /// The names stand behind all values.
    fn object(&mut self, depth: u32) -> Option<()> {
        let (begin, mut ends) = (self.json.len(), Vec::new());
        loop {
            match self.left.octet()? {
                END => break,
                kind => self.of_kind(kind, depth)?,
            }
            ends.push(self.json.len());
        }
        let values = self.json.split_off(begin);
        let (mut from, mut separator) = (0, '{');
        for end in ends {
            let kind = self.left.octet()?;
            let name = self.text(kind)?;
            self.json.push(separator);
            self.quoted(&name);
            self.json.push(':');
            self.json.push_str(values.get(from..end - begin)?);
            (from, separator) = (end - begin, ',');
        }
        self.json.push_str(if separator == '{' { "{}" } else { "}" });
        Some(())
    }

    /// The text that an octet of this kind begins.
    fn text(&mut self, kind: u8) -> Option<String> {
        Some(match kind {
            TEXT => {
                let text = self.left.text()?;
                if text.len() >= SHORTEST && self.seen.len() < REMEMBERED + 2 {
                    self.seen.push(text);
                }
                text.to_owned()
            }
            AGAIN => self.earlier()?.to_owned(),
            AGAIN_AS_PATH => format!("<{}>", self.earlier()?),
            AGAIN_BARE => bare(self.earlier()?)?.to_owned(),
            IPV4 => Ipv4Addr::from(<[u8; 4]>::try_from(self.left.some(4)?).ok()?).to_string(),
            IPV6 => Ipv6Addr::from(<[u8; 16]>::try_from(self.left.some(16)?).ok()?).to_string(),
            DIGEST => self.left.some(32)?.iter().map(|octet| format!("{octet:02x}")).collect(),
            TIME => {
                let millis = self.at.saturating_mul(1_000).saturating_add(self.left.signed()?);
                stamp(UNIX_EPOCH.checked_add(Duration::from_millis(u64::try_from(millis).ok()?))?)
            }
            word => (*WORDS.get(usize::from(word.checked_sub(WORD)?))?).to_owned(),
        })
    }

    fn earlier(&mut self) -> Option<&'a str> {
        let number = usize::try_from(self.left.number()?).ok()?;
        self.seen.get(number).copied()
    }

    fn quoted(&mut self, text: &str) {
        // A text always serialises.
        self.json.push_str(&serde_json::Value::from(text).to_string());
    }
}

/// A path without its angle brackets, which both are there.
fn bare(path: &str) -> Option<&str> {
    path.strip_prefix('<')?.strip_suffix('>')
}

/// The octets of 64 hexadecimal digits, the letters small.
fn digits(text: &str) -> Option<[u8; 32]> {
    let mut octets = [0; 32];
    let value = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    for (octet, pair) in octets.iter_mut().zip(text.as_bytes().chunks(2)) {
        let [high, low] = pair else { return None };
        *octet = value(*high)? << 4 | value(*low)?;
    }
    Some(octets)
}

/// A time of RFC 3339 as [`stamp`] writes it, in milliseconds since 1970.
fn millis(text: &str) -> Option<i64> {
    let at: SystemTime = parse_rfc3339(text).ok().filter(|at| stamp(*at) == text)?;
    i64::try_from(at.duration_since(UNIX_EPOCH).ok()?.as_millis()).ok()
}

#[cfg(test)]
mod tests;
