//! Writes what serde tells of a value in the octets of [`super`]: one step from a case to its row, without JSON in between.

use std::fmt::{self, Display};
use std::net::IpAddr;
use std::ops::Range;

use serde::ser::{self, Impossible, Serialize, Serializer};
use serde_json::Value;

use super::{
    AGAIN, AGAIN_AS_PATH, AGAIN_BARE, Beside, DIGEST, EMPTY_LIST, END, FALSE, IPV4, IPV6, LIST, LIST_OF_ONE, NULL,
    NUMBER, OBJECT, REMEMBERED, SHAPE, SHAPES_OF, SHORTEST, SMALL, TEXT, TIME, TRUE, bare, digits, millis, word_of,
};
use crate::store::octets::{put, put_signed};

/// The octets as far as they are written.
pub(super) struct Packer<'a> {
    pub(super) out: Vec<u8>,
    beside: [&'a str; 2],
    /// Where the texts stand that were written.
    seen: Vec<Range<usize>>,
    at: i64,
}

/// A value that these octets have no form for: it stays as JSON.
#[derive(Debug)]
pub(super) struct NotPacked;

impl Display for NotPacked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number below zero or with a fraction, or another value that is not packed")
    }
}

impl std::error::Error for NotPacked {}

impl ser::Error for NotPacked {
    fn custom<T: Display>(_: T) -> NotPacked {
        NotPacked
    }
}

impl<'a> Packer<'a> {
    pub(super) fn new(beside: Beside<'a>) -> Packer<'a> {
        Packer { out: Vec::with_capacity(512), beside: beside.texts(), seen: Vec::with_capacity(8), at: beside.at }
    }

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
            } else if earlier.strip_prefix(b"<").and_then(|earlier| earlier.strip_suffix(b">")) == Some(text) {
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

/// The name of a member: a word of the table, or another text.
enum Name {
    Word(u8),
    Text(String),
}

impl Name {
    fn of(text: &str) -> Name {
        word_of(text).map_or_else(|| Name::Text(text.to_owned()), Name::Word)
    }
}

/// A list that is being written.
pub(super) struct List<'p, 'a> {
    packer: &'p mut Packer<'a>,
    place: usize,
    count: usize,
}

impl List<'_, '_> {
    fn add<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), NotPacked> {
        self.count += 1;
        value.serialize(&mut *self.packer)
    }

    fn close(self) {
        match self.count {
            0 => self.packer.put_at(self.place, EMPTY_LIST),
            1 => self.packer.put_at(self.place, LIST_OF_ONE),
            _ => {
                self.packer.put_at(self.place, LIST);
                self.packer.out.push(END);
            }
        }
    }
}

/// An object that is being written, and the one member of another that it may be.
pub(super) struct Object<'p, 'a> {
    packer: &'p mut Packer<'a>,
    place: usize,
    names: Vec<Name>,
    within: Option<(usize, &'static str)>,
}

impl<'p, 'a> Object<'p, 'a> {
    fn new(packer: &'p mut Packer<'a>, members: usize) -> Object<'p, 'a> {
        let place = packer.begin();
        Object { packer, place, names: Vec::with_capacity(members.min(64)), within: None }
    }

    fn add<T: Serialize + ?Sized>(&mut self, name: Name, value: &T) -> Result<(), NotPacked> {
        self.names.push(name);
        value.serialize(&mut *self.packer)
    }

    fn close(self) -> Result<(), NotPacked> {
        let Object { packer, place, names, within } = self;
        close(packer, place, names)?;
        match within {
            Some((place, name)) => close(packer, place, vec![Name::of(name)]),
            None => Ok(()),
        }
    }
}

/// Writes at the place of an object which shape it has, or behind it the names of its members.
fn close(packer: &mut Packer<'_>, place: usize, names: Vec<Name>) -> Result<(), NotPacked> {
    let octets = || names.iter().map(|name| if let Name::Word(octet) = name { Some(*octet) } else { None });
    let shape = SHAPES_OF.iter().position(|shape| !names.is_empty() && octets().eq(shape.iter().copied()));
    match shape.and_then(|at| SHAPE.start.checked_add(u8::try_from(at).ok()?)) {
        Some(shape) if SHAPE.contains(&shape) => packer.put_at(place, shape),
        // More shapes than octets for them.
        Some(_) => return Err(NotPacked),
        None => {
            packer.put_at(place, OBJECT);
            packer.out.push(END);
            for name in names {
                match name {
                    Name::Word(octet) => packer.out.push(octet),
                    Name::Text(text) => packer.text(&text),
                }
            }
        }
    }
    Ok(())
}

/// Methods of a serializer that refuse a value of their type.
macro_rules! refuse {
    ($($method:ident: $type:ty),* $(,)?) => {
        $(fn $method(self, _: $type) -> Result<Self::Ok, NotPacked> {
            Err(NotPacked)
        })*
    };
}

/// Methods that write a number as a wider one is written.
macro_rules! widen {
    ($wide:ident: $($method:ident $type:ty),*) => {
        $(fn $method(self, number: $type) -> Result<(), NotPacked> {
            self.$wide(number.into())
        })*
    };
}

impl<'p, 'a> Serializer for &'p mut Packer<'a> {
    type Ok = ();
    type Error = NotPacked;
    type SerializeSeq = List<'p, 'a>;
    type SerializeTuple = List<'p, 'a>;
    type SerializeTupleStruct = List<'p, 'a>;
    type SerializeTupleVariant = Impossible<(), NotPacked>;
    type SerializeMap = Object<'p, 'a>;
    type SerializeStruct = Object<'p, 'a>;
    type SerializeStructVariant = Object<'p, 'a>;

    refuse!(serialize_f32: f32, serialize_f64: f64, serialize_bytes: &[u8]);
    widen!(serialize_i64: serialize_i8 i8, serialize_i16 i16, serialize_i32 i32);
    widen!(serialize_u64: serialize_u8 u8, serialize_u16 u16, serialize_u32 u32);

    fn serialize_bool(self, is: bool) -> Result<(), NotPacked> {
        self.out.push(if is { TRUE } else { FALSE });
        Ok(())
    }

    fn serialize_i64(self, number: i64) -> Result<(), NotPacked> {
        self.serialize_u64(u64::try_from(number).map_err(|_| NotPacked)?)
    }

    fn serialize_u64(self, number: u64) -> Result<(), NotPacked> {
        match u8::try_from(number).ok().and_then(|number| SMALL.start.checked_add(number)) {
            Some(small) if SMALL.contains(&small) => self.out.push(small),
            _ => {
                self.out.push(NUMBER);
                put(&mut self.out, number);
            }
        }
        Ok(())
    }

    fn serialize_char(self, letter: char) -> Result<(), NotPacked> {
        self.serialize_str(letter.encode_utf8(&mut [0; 4]))
    }

    fn serialize_str(self, text: &str) -> Result<(), NotPacked> {
        self.text(text);
        Ok(())
    }

    fn serialize_none(self) -> Result<(), NotPacked> {
        self.serialize_unit()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), NotPacked> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), NotPacked> {
        self.out.push(NULL);
        Ok(())
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), NotPacked> {
        self.serialize_unit()
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result<(), NotPacked> {
        self.serialize_str(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<(), NotPacked> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), NotPacked> {
        let mut object = Object::new(self, 1);
        object.add(Name::of(variant), value)?;
        object.close()
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<List<'p, 'a>, NotPacked> {
        let place = self.begin();
        Ok(List { packer: self, place, count: 0 })
    }

    fn serialize_tuple(self, count: usize) -> Result<List<'p, 'a>, NotPacked> {
        self.serialize_seq(Some(count))
    }

    fn serialize_tuple_struct(self, _: &'static str, count: usize) -> Result<List<'p, 'a>, NotPacked> {
        self.serialize_seq(Some(count))
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Impossible<(), NotPacked>, NotPacked> {
        Err(NotPacked)
    }

    fn serialize_map(self, members: Option<usize>) -> Result<Object<'p, 'a>, NotPacked> {
        Ok(Object::new(self, members.unwrap_or(4)))
    }

    fn serialize_struct(self, _: &'static str, members: usize) -> Result<Object<'p, 'a>, NotPacked> {
        Ok(Object::new(self, members))
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        members: usize,
    ) -> Result<Object<'p, 'a>, NotPacked> {
        let around = self.begin();
        Ok(Object { within: Some((around, variant)), ..Object::new(self, members) })
    }
}

/// The traits of lists, which differ in the name of one method.
macro_rules! lists {
    ($($kind:ident: $method:ident),* $(,)?) => {
        $(impl ser::$kind for List<'_, '_> {
            type Ok = ();
            type Error = NotPacked;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), NotPacked> {
                self.add(value)
            }

            fn end(self) -> Result<(), NotPacked> {
                self.close();
                Ok(())
            }
        })*
    };
}

lists!(SerializeSeq: serialize_element, SerializeTuple: serialize_element, SerializeTupleStruct: serialize_field);

impl ser::SerializeMap for Object<'_, '_> {
    type Ok = ();
    type Error = NotPacked;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, name: &T) -> Result<(), NotPacked> {
        let Ok(Value::String(name)) = serde_json::to_value(name) else { return Err(NotPacked) };
        self.names.push(word_of(&name).map_or(Name::Text(name), Name::Word));
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), NotPacked> {
        value.serialize(&mut *self.packer)
    }

    fn end(self) -> Result<(), NotPacked> {
        self.close()
    }
}

/// The traits of objects whose members are known.
macro_rules! objects {
    ($($kind:ident),*) => {
        $(impl ser::$kind for Object<'_, '_> {
            type Ok = ();
            type Error = NotPacked;

            fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<(), NotPacked> {
                self.add(Name::of(name), value)
            }

            fn end(self) -> Result<(), NotPacked> {
                self.close()
            }
        })*
    };
}

objects!(SerializeStruct, SerializeStructVariant);
