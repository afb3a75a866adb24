//! The addr-spec: one strict reading of an address, the same for every part of the program.

use std::fmt;

/// An addr-spec (RFC 5322 §3.4.1): the local part as written, the domain in lower case and A-labels.
///
/// Domain literals, single labels and over-long parts are no addresses.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address {
    local: String,
    domain: String,
}

/// The text is no addr-spec.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an address of the form local@domain.example")]
pub struct BadAddress;

/// Why a From field names no single address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadFrom {
    /// More than one mailbox, or a group.
    #[error("the From field does not hold exactly one mailbox")]
    Several,
    /// No mailbox, or one that two readers would read differently.
    #[error("the From field holds no usable address")]
    Bad,
}

impl Address {
    /// Reads an addr-spec without angle brackets. 8-bit octets are read as UTF-8 where `utf8` allows them (SMTPUTF8).
    pub fn parse(text: &[u8], utf8: bool) -> Result<Address, BadAddress> {
        let _ = (text, utf8);
        Err(BadAddress)
    }

    /// The one address of a From field's value (raw, folds included): exactly one mailbox, on which our strict reading and
    /// mail-parser's agree.
    pub fn from_field(value: &[u8], utf8: bool) -> Result<Address, BadFrom> {
        let _ = (value, utf8);
        Err(BadFrom::Bad)
    }

    /// The local part, as written; a quoted string keeps its quotes unless it equals a dot-atom.
    pub fn local(&self) -> &str {
        &self.local
    }

    /// The domain: lower case, A-labels, no final dot.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The address as it stands in a VERIFY line: SP, CTL, DEL and `%` percent-encoded (VERIFY §1).
    pub fn wire(&self) -> String {
        String::new()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.local, self.domain)
    }
}
