//! The `AS=` TXT record (VERIFY §4).

/// The domain's published claim: does all direct mail of this domain carry a key? The weakest counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Claim {
    /// Being tried out: conclude nothing.
    Testing,
    /// Some mail does (the default, and what an unknown word means).
    Some,
    /// All direct mail does.
    All,
}

/// A usable `AS=` record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The AS's host name, lower case, without final dot.
    pub host: String,
    /// Its port, for UDP and TLS alike.
    pub port: u16,
    /// Whether it answers on UDP.
    pub udp: bool,
    /// Whether it answers on TLS.
    pub tls: bool,
    /// `p=`: lower first.
    pub priority: u16,
    /// Whether it takes proofs of form h1; otherwise the raw key only, over TLS.
    pub h1: bool,
    /// `m=`.
    pub claim: Claim,
}

/// Why a text that begins `AS=` is no usable record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadRecord {
    /// Another version: skipped.
    #[error("v={0} is a version that this program does not speak")]
    Version(String),
    /// Outside the grammar; the text names the part.
    #[error("{0}")]
    Syntax(String),
}

impl Record {
    /// Whether a TXT text counts as an AS record at all: it begins `AS=`.
    pub fn begins(text: &[u8]) -> bool {
        text.starts_with(b"AS=")
    }

    /// Reads the joined strings of one TXT record.
    pub fn parse(text: &[u8]) -> Result<Record, BadRecord> {
        let _ = text;
        Err(BadRecord::Syntax(String::new()))
    }
}
