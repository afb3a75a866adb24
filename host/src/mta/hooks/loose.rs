//! Details of a request in whatever form they come: one that cannot be read is a fact that is missing, and no more.

use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use zeroize::Zeroizing;

/// Parameters of one path that are looked at: SMTP extensions know about a dozen.
const PARAMETERS: usize = 64;

/// A text, or a number or truth as one; absent for anything else.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Loose(pub(super) Option<String>);

impl Loose {
    /// The text; empty where there is none.
    pub(super) fn text(&self) -> &str {
        self.0.as_deref().unwrap_or_default()
    }
}

/// A text that may hold a key: it does not print, and is wiped when dropped.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Secret(pub(super) Zeroizing<String>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({} octets)", self.0.len())
    }
}

impl serde::Serialize for Secret {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// Parameters of a path, each as SMTP says it: `NAME` or `NAME=value`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Parameters(pub(super) Vec<Vec<u8>>);

/// At most so many of a list; the rest is counted and thrown away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bounded<T, const MOST: usize> {
    pub(super) list: Vec<T>,
    pub(super) more: usize,
}

impl<T, const MOST: usize> Default for Bounded<T, MOST> {
    fn default() -> Self {
        Bounded { list: Vec::new(), more: 0 }
    }
}

struct LooseVisitor;

impl<'de> Visitor<'de> for LooseVisitor {
    type Value = Loose;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a detail")
    }

    fn visit_str<E>(self, text: &str) -> Result<Loose, E> {
        Ok(Loose(Some(text.to_owned())))
    }

    fn visit_bool<E>(self, truth: bool) -> Result<Loose, E> {
        Ok(Loose(Some(truth.to_string())))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Loose, E> {
        Ok(Loose(Some(number.to_string())))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Loose, E> {
        Ok(Loose(Some(number.to_string())))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Loose, E> {
        Ok(Loose(Some(number.to_string())))
    }

    fn visit_bytes<E>(self, octets: &[u8]) -> Result<Loose, E> {
        Ok(Loose(std::str::from_utf8(octets).ok().map(str::to_owned)))
    }

    fn visit_unit<E>(self) -> Result<Loose, E> {
        Ok(Loose(None))
    }

    fn visit_none<E>(self) -> Result<Loose, E> {
        Ok(Loose(None))
    }

    fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<Loose, D::Error> {
        Loose::deserialize(inner)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Loose, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Loose(None))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Loose, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Loose(None))
    }
}

impl<'de> Deserialize<'de> for Loose {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Loose, D::Error> {
        deserializer.deserialize_any(LooseVisitor)
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Secret, D::Error> {
        Ok(Secret(Zeroizing::new(String::deserialize(deserializer)?)))
    }
}

struct ParametersVisitor;

impl<'de> Visitor<'de> for ParametersVisitor {
    type Value = Parameters;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("parameters by their names, or null")
    }

    fn visit_unit<E>(self) -> Result<Parameters, E> {
        Ok(Parameters::default())
    }

    fn visit_none<E>(self) -> Result<Parameters, E> {
        Ok(Parameters::default())
    }

    fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<Parameters, D::Error> {
        Parameters::deserialize(inner)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Parameters, A::Error> {
        let mut all = Vec::new();
        while let Some((Loose(name), Loose(value))) = map.next_entry::<Loose, Loose>()? {
            let Some(name) = name.filter(|_| all.len() < PARAMETERS) else { continue };
            // SMTPUTF8 comes as a name with an empty value.
            let value = value.filter(|value| !value.is_empty());
            all.push(value.map_or(name.clone(), |value| format!("{name}={value}")).into_bytes());
        }
        Ok(Parameters(all))
    }
}

impl<'de> Deserialize<'de> for Parameters {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Parameters, D::Error> {
        deserializer.deserialize_any(ParametersVisitor)
    }
}

impl Parameters {
    /// As [`crate::mta::intake::Intake`] takes them.
    pub(super) fn words(&self) -> Vec<&[u8]> {
        self.0.iter().map(Vec::as_slice).collect()
    }
}

struct BoundedVisitor<T, const MOST: usize>(std::marker::PhantomData<T>);

impl<'de, T: Deserialize<'de>, const MOST: usize> Visitor<'de> for BoundedVisitor<T, MOST> {
    type Value = Bounded<T, MOST>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut bounded = Bounded::default();
        while bounded.list.len() < MOST {
            match list.next_element()? {
                Some(next) => bounded.list.push(next),
                None => return Ok(bounded),
            }
        }
        while list.next_element::<IgnoredAny>()?.is_some() {
            bounded.more += 1;
        }
        Ok(bounded)
    }
}

impl<'de, T: Deserialize<'de>, const MOST: usize> Deserialize<'de> for Bounded<T, MOST> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(BoundedVisitor(std::marker::PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_detail_in_another_form_is_a_text_or_missing() {
        for (json, text) in [
            (r#""a""#, Some("a")),
            ("1", Some("1")),
            ("-1", Some("-1")),
            ("1.0", Some("1")),
            ("true", Some("true")),
            ("null", None),
            (r#"[1, {"a": []}]"#, None),
            (r#"{"a": {"b": 1}}"#, None),
        ] {
            assert_eq!(serde_json::from_str::<Loose>(json).unwrap().0.as_deref(), text, "{json}");
        }
        assert!(serde_json::from_str::<Loose>("[1").is_err());
    }

    #[test]
    fn parameters_are_as_smtp_says_them() {
        let read = |json: &str| serde_json::from_str::<Parameters>(json).unwrap().0;
        let json = r#"{"SIZE": 700, "SMTPUTF8": "", "BODY": null, "NOTIFY": "NEVER", "X": ["y"]}"#;
        let words: Vec<&[u8]> = vec![b"SIZE=700", b"SMTPUTF8", b"BODY", b"NOTIFY=NEVER", b"X"];
        assert_eq!(read(json), words);
        assert_eq!(read("null"), Vec::<Vec<u8>>::new());
        let many: String = (0..1_000).map(|n| format!("\"P{n}\": \"\",")).collect();
        assert_eq!(read(&format!("{{{many} \"Q\": 1}}")).len(), PARAMETERS);
    }

    #[test]
    fn a_list_is_kept_within_its_bound_and_counted_beyond() {
        let read = serde_json::from_str::<Bounded<u32, 3>>("[1, 2, 3, \"x\", {}]").unwrap();
        assert_eq!((read.list, read.more), (vec![1, 2, 3], 2));
        assert_eq!(format!("{:?}", Secret(Zeroizing::new("key".into()))), "Secret(3 octets)");
    }
}
