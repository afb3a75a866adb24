//! A domain: what stands behind the `@` of an address, in its one spelling.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;

use idna::AsciiDenyList;
use idna::uts46::{DnsLength, Hyphens, Uts46};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{BadAddress, TEXT_MAX};

/// The longest domain, in octets: what fits into the 255 of a DNS name (RFC 1035 §2.3.4).
pub const DOMAIN_MAX: usize = 253;

/// A domain as addresses have it: lower case, A-labels (UTS 46, non-transitional), no final dot, two labels or more, and a
/// length that DNS allows. Domain literals and names of one label are no domains.
///
/// Two domains are the same where these are equal. It prints as its text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Domain(String);

/// The text is no domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a domain of the form example.com")]
pub struct BadDomain;

impl Domain {
    /// Reads a domain in any letter case, with A-labels or U-labels, without a final dot.
    pub fn parse(text: &str) -> Result<Domain, BadDomain> {
        if text.len() > TEXT_MAX { Err(BadDomain) } else { Domain::canonical(text) }
    }

    /// Reads a domain as people and mail servers write it: one final dot is none of it.
    pub fn parse_full(text: &str) -> Result<Domain, BadDomain> {
        Domain::parse(text.strip_suffix('.').unwrap_or(text))
    }

    /// The same as [`Domain::parse`] for a text whose length somebody else bounds.
    pub(super) fn canonical(text: &str) -> Result<Domain, BadDomain> {
        let domain = Uts46::new()
            .to_ascii(text.as_bytes(), AsciiDenyList::STD3, Hyphens::CheckFirstLast, DnsLength::Verify)
            .map_err(|_| BadDomain)?;
        // Top-level domains begin with a letter (RFC 1123 §2.1); others would be read as an IP address by some.
        match domain.rsplit_once('.') {
            Some((_, last)) if last.starts_with(|c: char| c.is_ascii_alphabetic()) => Ok(Domain(domain.into_owned())),
            _ => Err(BadDomain),
        }
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its first label: `mail` of `mail.example.com`.
    pub fn first_label(&self) -> &str {
        self.0.split('.').next().unwrap_or_default()
    }

    /// Whether it is below another one, as `mail.example.com` is below `example.com`.
    pub fn is_below(&self, upper: &Domain) -> bool {
        self.0.strip_suffix(&upper.0).is_some_and(|rest| rest.ends_with('.'))
    }
}

impl FromStr for Domain {
    type Err = BadDomain;

    fn from_str(text: &str) -> Result<Domain, BadDomain> {
        Domain::parse(text)
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Its text in quotes, as configurations have it.
impl fmt::Debug for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl AsRef<str> for Domain {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

/// A table whose keys are domains is asked by text; several are joined into one.
impl Borrow<str> for Domain {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl From<BadDomain> for BadAddress {
    fn from(_: BadDomain) -> BadAddress {
        BadAddress
    }
}

impl Serialize for Domain {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// As [`Domain::parse_full`] reads it.
impl<'de> Deserialize<'de> for Domain {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Domain, D::Error> {
        let text = String::deserialize(deserializer)?;
        Domain::parse_full(&text)
            .map_err(|_| D::Error::custom(format_args!("{text:?} is no domain, write a name such as \"example.com\"")))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::proto::address::Address;

    fn domain(text: &str) -> Domain {
        Domain::parse(text).unwrap()
    }

    #[test]
    fn every_spelling_of_a_domain_is_one_domain() {
        for spelling in
            ["b\u{fc}cher.example", "BU\u{308}CHER.Example", "xn--bcher-kva.example", "XN--BCHER-KVA.EXAMPLE"]
        {
            assert_eq!(domain(spelling).as_str(), "xn--bcher-kva.example", "{spelling}");
        }
        assert_eq!(domain("fa\u{df}.example").as_str(), "xn--fa-hia.example", "non-transitional");
        assert_eq!(format!("{} {:?}", domain("A.example"), domain("A.example")), "a.example \"a.example\"");
    }

    #[test]
    fn a_final_dot_is_taken_off_only_where_people_write_one() {
        assert_eq!(Domain::parse("example.com."), Err(BadDomain));
        assert_eq!(Domain::parse_full("Example.com."), Ok(domain("example.com")));
        for text in ["example.com..", ".", "", "localhost.", "192.0.2.1.", "[192.0.2.1]"] {
            assert_eq!(Domain::parse_full(text), Err(BadDomain), "{text:?}");
        }
    }

    #[test]
    fn it_is_written_and_read_as_its_text() {
        assert_eq!(serde_json::to_string(&domain("Example.com")).unwrap(), "\"example.com\"");
        assert_eq!(serde_json::from_str::<Domain>("\"B\u{fc}cher.example.\"").unwrap(), domain("b\u{fc}cher.example"));
        let error = serde_json::from_str::<Domain>("\"local host\"").unwrap_err().to_string();
        assert!(error.starts_with("\"local host\" is no domain, write a name such as \"example.com\""), "{error}");
    }

    #[test]
    fn a_domain_is_below_those_whose_labels_it_ends_with() {
        for (lower, upper, below) in [
            ("mail.example.com", "example.com", true),
            ("a.b.example.com", "example.com", true),
            ("example.com", "example.com", false),
            ("example.com", "mail.example.com", false),
            ("myexample.com", "example.com", false),
            ("a.example.com", "b.example.com", false),
        ] {
            assert_eq!(domain(lower).is_below(&domain(upper)), below, "{lower} {upper}");
        }
        assert_eq!(domain("mail.example.com").first_label(), "mail");
    }

    #[test]
    fn it_is_as_long_as_dns_allows() {
        let label = "d".repeat(63);
        let long = format!("{label}.{label}.{label}.{}", "d".repeat(61));
        assert_eq!((long.len(), domain(&long).as_str()), (DOMAIN_MAX, long.as_str()));
        for text in [format!("{long}d"), format!("{label}d.example"), "\u{ad}".repeat(TEXT_MAX) + "a.example"] {
            assert_eq!(Domain::parse(&text), Err(BadDomain), "{text}");
        }
    }

    proptest! {
        #[test]
        fn an_address_has_exactly_the_domains_that_are_some(text in "[a-zA-Z0-9.@_\u{fc}\u{df}\u{ff20}\u{3002} -]{0,12}") {
            let of_address = Address::parse(format!("x@{text}").as_bytes(), true);
            prop_assert_eq!(of_address.map(|address| address.domain().clone()).ok(), Domain::parse(&text).ok());
        }

        #[test]
        fn its_text_is_its_one_spelling(text in "[a-zA-Z0-9\u{fc}\u{df}-]{1,6}\\.[a-z]{2,4}") {
            if let Ok(domain) = Domain::parse(&text) {
                prop_assert_eq!(Domain::parse(domain.as_str()), Ok(domain.clone()));
                prop_assert_eq!(domain.as_str().to_ascii_lowercase(), domain.as_str());
            }
        }
    }
}
