//! A mailbox: an address as it is looked up, whatever its spelling.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;

use super::Address;

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
}

impl Address {
    /// The mailbox of this address.
    pub fn mailbox(&self) -> Mailbox {
        Mailbox::of_parts(self.local(), self.domain())
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

    proptest! {
        #[test]
        fn an_address_has_the_mailbox_of_its_text(local in "[A-Za-z0-9+.\"\\\\ \u{e4}\u{130}]{1,9}", domain in "[A-Za-z]{1,5}(\\.[A-Za-z]{1,5}){0,2}") {
            if let Ok(address) = Address::from_parts(&local, &domain) {
                prop_assert_eq!(Some(address.mailbox()), Mailbox::parse(&address.to_string()));
            }
        }
    }
}
