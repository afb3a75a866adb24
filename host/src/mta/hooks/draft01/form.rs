//! The two forms of a request and its answer: JSON (RFC 8259) and CBOR (RFC 8949).

use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use crate::mta::hooks::Fault;
use crate::mta::hooks::octets::{Counter, json};

/// How deep a value may nest: a request has four levels.
const DEPTH: usize = 32;

/// A form.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Form {
    #[default]
    Json,
    Cbor,
}

impl Form {
    /// The form of this media type; none for another.
    pub(super) fn named(kind: &str) -> Option<Form> {
        let bare = kind.split(';').next().unwrap_or_default().trim();
        if bare.eq_ignore_ascii_case("application/json") {
            Some(Form::Json)
        } else if bare.eq_ignore_ascii_case("application/cbor") {
            Some(Form::Cbor)
        } else {
            None
        }
    }

    /// Its media type.
    pub(super) fn name(self) -> &'static str {
        match self {
            Form::Json => "application/json",
            Form::Cbor => "application/cbor",
        }
    }

    /// A value of this form, and nothing behind it.
    pub(super) fn read<T: DeserializeOwned>(self, octets: &[u8]) -> Result<T, Fault> {
        // The libraries' words could repeat what stands there.
        match self {
            Form::Json => serde_json::from_slice(octets).map_err(|fault| {
                Fault::Malformed(format!("line {}, column {}: {:?}", fault.line(), fault.column(), fault.classify()))
            }),
            Form::Cbor => {
                let mut rest = octets;
                let read = ciborium::de::from_reader_with_recursion_limit(&mut rest, DEPTH);
                let read = read.map_err(|_| Fault::Malformed("no CBOR of this form".into()))?;
                if rest.is_empty() { Ok(read) } else { Err(Fault::Malformed("octets behind its CBOR".into())) }
            }
        }
    }

    /// A value in this form, in a buffer that never grew.
    pub(super) fn write(self, value: &impl Serialize) -> Option<Zeroizing<Vec<u8>>> {
        match self {
            Form::Json => json(value),
            Form::Cbor => {
                let mut counter = Counter(0);
                ciborium::into_writer(value, &mut counter).ok()?;
                let mut octets = Zeroizing::new(Vec::with_capacity(counter.0));
                ciborium::into_writer(value, &mut *octets).ok()?;
                Some(octets)
            }
        }
    }
}
