//! A mailbox: an address as it is looked up, whatever its spelling.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;

use serde::{Serialize, Serializer};

use super::{Address, Domain};

/// The form under which an address is looked up (SPECIFICATION §1): ASCII letters in lower case, `local+tag` as `local`. Two
/// addresses are one mailbox where these are equal.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mailbox(String);

impl Mailbox {
    /// The mailbox of an address. A quoted local part has no tag. Absent where there is no "@", or nothing beside it.
    pub fn parse(address: &str) -> Option<Mailbox> {
        let (local, domain) = address.rsplit_once('@')?;
        let domain = domain.strip_suffix('.').unwrap_or(domain);
        (!local.is_empty() && !domain.is_empty()).then(|| Mailbox::of_parts(local, domain))
    }

    fn of_parts(local: &str, domain: &str) -> Mailbox {
        // From the first "+" that is not the first octet; "+" is ASCII, so the cut falls between characters.
        let tag = local.bytes().skip(1).position(|octet| octet == b'+').map(|at| at + 1);
        let kept = match tag {
            Some(at) if !local.starts_with('"') => local.get(..at).unwrap_or(local),
            _ => local,
        };
        Mailbox(format!("{}@{}", kept.to_ascii_lowercase(), domain.to_ascii_lowercase()))
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The text of its domain; of one that a path names, this may be a name that is no [`Domain`].
    pub fn domain(&self) -> &str {
        self.0.rsplit_once('@').map_or("", |(_, domain)| domain)
    }

    /// Whether it is a mailbox of this domain.
    pub fn is_of(&self, domain: &Domain) -> bool {
        self.domain() == domain.as_str()
    }
}

impl Address {
    /// The mailbox of this address.
    pub fn mailbox(&self) -> Mailbox {
        Mailbox::of_parts(self.local(), self.domain().as_str())
    }
}

impl Serialize for Mailbox {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl Deref for Mailbox {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

/// A table whose keys are mailboxes is asked by text.
impl Borrow<str> for Mailbox {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl From<Mailbox> for String {
    fn from(mailbox: Mailbox) -> String {
        mailbox.0
    }
}

impl fmt::Display for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The text of [`Mailbox::parse`].
pub fn folded(address: &str) -> Option<String> {
    Mailbox::parse(address).map(String::from)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_mailbox_is_found_by_its_text() {
        let table = HashMap::from([(Mailbox::parse("Bob+x@Example.com.").unwrap(), 1)]);
        assert_eq!((table.get("bob@example.com"), table.get("Bob@example.com")), (Some(&1), None));
    }

    #[test]
    fn a_mailbox_is_of_the_domain_behind_its_last_at_sign() {
        let mailbox = |address: &str| Address::parse(address.as_bytes(), true).unwrap().mailbox();
        let domain = Domain::parse("example.com").unwrap();
        assert!(mailbox("Bob+x@EXAMPLE.com").is_of(&domain) && mailbox("\"a@b\"@example.com").is_of(&domain));
        assert!(!mailbox("bob@mail.example.com").is_of(&domain) && !mailbox("bob@myexample.com").is_of(&domain));
    }

    proptest! {
        #[test]
        fn an_address_has_the_mailbox_of_its_text(local in "[A-Za-z0-9+.\"\\\\ \u{e4}\u{130}]{1,9}", domain in "[A-Za-z]{1,5}(\\.[A-Za-z]{1,5}){0,2}") {
            let address = Domain::parse(&domain).ok().and_then(|domain| Address::from_parts(&local, &domain).ok());
            if let Some(address) = address {
                prop_assert_eq!(Some(address.mailbox()), Mailbox::parse(&address.to_string()));
            }
        }
    }
}
