//! Whom a list is asked about: one mailbox, or all of a domain.

use super::address::{Address, Domain, Mailbox};

/// One mailbox, or all of a domain; its subdomains are others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whom {
    /// One mailbox.
    Mailbox(Mailbox),
    /// All of a domain.
    Domain(Domain),
}

impl Whom {
    /// Reads an address, or `@` and a domain.
    pub fn parse(text: &str) -> Option<Whom> {
        match text.strip_prefix('@') {
            Some(domain) => Domain::parse_full(domain).ok().map(Whom::Domain),
            None => Address::parse(text.as_bytes(), true).ok().map(|address| Whom::Mailbox(address.mailbox())),
        }
    }

    /// Whether an address, in whatever spelling, is meant too.
    pub fn includes(&self, address: &str) -> bool {
        Mailbox::parse(address).is_some_and(|mailbox| match self {
            Whom::Mailbox(own) => mailbox == *own,
            Whom::Domain(domain) => mailbox.is_of(domain),
        })
    }

    /// The text under which the journal looks for it.
    pub fn sought(&self) -> String {
        match self {
            Whom::Mailbox(mailbox) => mailbox.to_string(),
            Whom::Domain(domain) => format!("@{}", domain.as_str()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_means_its_mailbox_and_a_domain_all_of_its_own() {
        for (text, address, includes) in [
            ("Bob+x@Example.com", "bob@example.com", true),
            ("bob@example.com", "BOB+y@EXAMPLE.COM", true),
            ("bob@example.com", "bo@example.com", false),
            ("@B\u{fc}cher.example.", "bob@xn--bcher-kva.example", true),
            ("@example.com", "\"a@b\"@example.com", true),
            ("@example.com", "bob@mail.example.com", false),
            ("@example.com", "bob@myexample.com", false),
            ("@example.com", "nobody", false),
        ] {
            assert_eq!(Whom::parse(text).unwrap().includes(address), includes, "{text} {address}");
        }
        for text in ["", "@", "bob", "example.com", "@localhost", "@a@example.com", "@example.com.."] {
            assert_eq!(Whom::parse(text), None, "{text:?}");
        }
        let sought = ["Bob+x@a.example", "@A.example"].map(|text| Whom::parse(text).unwrap().sought());
        assert_eq!(sought, ["bob@a.example", "@a.example"]);
    }
}
