//! A story in few octets: the JSON of a case, written so that what each row repeats takes one octet or none.
//!
//! It is packed and read back alike, number by number and text by text: the tables below only make what is usual short.
//! Nothing is shared between rows, so a row is understood, erased and deleted by itself. A text stands in the row literally, at
//! the first place where it occurs, in the columns or here: so an address is found by looking for its octets. Not so the names,
//! words and digests of the tables below, which hold no address.

mod tables;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;
use std::sync::LazyLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use humantime_serde::re::humantime::parse_rfc3339;
use serde::Deserializer;
use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};

use super::octets::{Octets, put, put_signed};
use crate::case::stamp;

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
    fn texts(&self) -> Vec<&'a str> {
        vec![self.queue_id.unwrap_or_default(), self.sender.unwrap_or_default()]
    }
}

/// The JSON in few octets. Absent where it is none, or has a number below zero or with a fraction: that stays as it is written.
pub(super) fn pack(json: &str, beside: Beside<'_>) -> Option<Vec<u8>> {
    let mut packer = Packer { out: Vec::with_capacity(256), beside: beside.texts(), seen: Vec::new(), at: beside.at };
    let mut json = serde_json::Deserializer::from_str(json);
    packer.deserialize(&mut json).ok()?;
    json.end().ok()?;
    Some(packer.out)
}

/// What [`pack`] was given, as JSON without blanks. Absent where the octets are not its own.
pub(super) fn unpack(octets: &[u8], beside: Beside<'_>) -> Option<String> {
    let mut unpacker =
        Unpacker { left: Octets::new(octets), seen: beside.texts(), at: beside.at, json: String::with_capacity(1024) };
    unpacker.value(DEPTH)?;
    unpacker.left.is_over().then_some(unpacker.json)
}

struct Packer<'a> {
    out: Vec<u8>,
    beside: Vec<&'a str>,
    /// Where the texts stand that were written.
    seen: Vec<Range<usize>>,
    at: i64,
}

impl Packer<'_> {
    fn text(&mut self, text: &str) {
        if let Some(word) = word_of(text) {
            self.out.push(word);
        } else if let Some((kind, number)) = self.again(text) {
            self.out.push(kind);
            put(&mut self.out, number as u64);
        } else if !self.special(text) {
            self.out.push(TEXT);
            put(&mut self.out, text.len() as u64);
            let begin = self.out.len();
            self.out.extend_from_slice(text.as_bytes());
            if text.len() >= SHORTEST && self.seen.len() < REMEMBERED {
                self.seen.push(begin..self.out.len());
            }
        }
    }

    /// Which earlier text this one repeats, and in which form.
    fn again(&self, text: &str) -> Option<(u8, usize)> {
        if text.len() < SHORTEST {
            return None;
        }
        let (text, inner) = (text.as_bytes(), bare(text).map(str::as_bytes));
        let written = self.seen.iter().map(|range| self.out.get(range.clone()).unwrap_or_default());
        let mut earlier = self.beside.iter().map(|text| text.as_bytes()).chain(written).enumerate();
        earlier.find_map(|(number, earlier)| {
            if earlier == text {
                Some((AGAIN, number))
            } else if inner == Some(earlier) {
                Some((AGAIN_AS_PATH, number))
            } else if str::from_utf8(earlier).ok().and_then(bare).map(str::as_bytes) == Some(text) {
                Some((AGAIN_BARE, number))
            } else {
                None
            }
        })
    }

    /// Writes a text that is really an IP address, a digest or a time; whether it is.
    fn special(&mut self, text: &str) -> bool {
        match text.len() {
            64 => {
                let octets = digits(text);
                if let Some(octets) = &octets {
                    self.out.push(DIGEST);
                    self.out.extend_from_slice(octets);
                }
                octets.is_some()
            }
            24 if text.ends_with('Z') => {
                let Some(millis) = millis(text) else { return false };
                self.out.push(TIME);
                put_signed(&mut self.out, millis.saturating_sub(self.at.saturating_mul(1_000)));
                true
            }
            3..40 if text.bytes().all(|octet| octet.is_ascii_hexdigit() || matches!(octet, b'.' | b':')) => {
                match text.parse().ok().filter(|ip: &IpAddr| ip.to_string() == text) {
                    Some(IpAddr::V4(ip)) => {
                        self.out.push(IPV4);
                        self.out.extend_from_slice(&ip.octets());
                        true
                    }
                    Some(IpAddr::V6(ip)) => {
                        self.out.push(IPV6);
                        self.out.extend_from_slice(&ip.octets());
                        true
                    }
                    None => false,
                }
            }
            _ => false,
        }
    }

    /// The octet that stands at this place until it is known what to write there.
    fn begin(&mut self) -> usize {
        self.out.push(NULL);
        self.out.len() - 1
    }

    fn put_at(&mut self, place: usize, kind: u8) {
        if let Some(octet) = self.out.get_mut(place) {
            *octet = kind;
        }
    }
}

impl<'de> DeserializeSeed<'de> for &mut Packer<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for &mut Packer<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.out.push(NULL);
        Ok(())
    }

    fn visit_bool<E>(self, is: bool) -> Result<(), E> {
        self.out.push(if is { TRUE } else { FALSE });
        Ok(())
    }

    fn visit_u64<E>(self, number: u64) -> Result<(), E> {
        match u8::try_from(number).ok().and_then(|number| SMALL.start.checked_add(number)) {
            Some(small) if SMALL.contains(&small) => self.out.push(small),
            _ => {
                self.out.push(NUMBER);
                put(&mut self.out, number);
            }
        }
        Ok(())
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        self.text(text);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let (place, mut count) = (self.begin(), 0_usize);
        while list.next_element_seed(&mut *self)?.is_some() {
            count += 1;
        }
        match count {
            0 => self.put_at(place, EMPTY_LIST),
            1 => self.put_at(place, LIST_OF_ONE),
            _ => {
                self.put_at(place, LIST);
                self.out.push(END);
            }
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let (place, mut names) = (self.begin(), Vec::<Name>::with_capacity(16));
        while let Some(name) = members.next_key_seed(AName)? {
            names.push(name);
            members.next_value_seed(&mut *self)?;
        }
        let octets = || names.iter().map(|name| if let Name::Word(octet) = name { Some(*octet) } else { None });
        let shape = SHAPES_OF.iter().position(|shape| !names.is_empty() && octets().eq(shape.iter().copied()));
        match shape.and_then(|at| SHAPE.start.checked_add(u8::try_from(at).ok()?)) {
            Some(shape) if SHAPE.contains(&shape) => self.put_at(place, shape),
            Some(_) => return Err(A::Error::custom("more shapes than octets")),
            None => {
                self.put_at(place, OBJECT);
                self.out.push(END);
                for name in names {
                    match name {
                        Name::Word(octet) => self.out.push(octet),
                        Name::Text(text) => self.text(&text),
                    }
                }
            }
        }
        Ok(())
    }
}

/// The name of a member: a word of the table, or another text.
enum Name {
    Word(u8),
    Text(String),
}

/// Reads a [`Name`]; one of the table is not copied.
struct AName;

impl<'de> DeserializeSeed<'de> for AName {
    type Value = Name;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Name, D::Error> {
        json.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for AName {
    type Value = Name;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a member")
    }

    fn visit_str<E>(self, text: &str) -> Result<Name, E> {
        Ok(word_of(text).map_or_else(|| Name::Text(text.to_owned()), Name::Word))
    }
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
