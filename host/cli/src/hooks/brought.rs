//! What a played mail server brings, and what comes of it.

use super::client::Exchange;

/// What a client brings.
#[derive(Debug)]
pub(super) struct Brought {
    pub(super) from: String,
    pub(super) to: Vec<String>,
    pub(super) login: Option<String>,
    /// CRLF line endings.
    pub(super) octets: Vec<u8>,
}

/// What was said, and what does not conform.
#[derive(Debug, Default)]
pub(super) struct Trial {
    pub(super) exchanges: Vec<Exchange>,
    pub(super) findings: Vec<String>,
}

/// A field's name and value, as they came.
pub(super) type Spelled = (Vec<u8>, Vec<u8>);

/// A message's fields, names untrimmed and values with their line endings, and its body. A line without a colon is left out.
pub(super) fn cut(octets: &[u8]) -> (Vec<Spelled>, &[u8]) {
    let end = octets.windows(4).position(|four| four == b"\r\n\r\n").map_or(octets.len(), |at| at + 2);
    let (header, rest) = octets.split_at_checked(end).unwrap_or((octets, b""));
    let mut fields: Vec<Spelled> = Vec::new();
    for line in header.split_inclusive(|octet| *octet == b'\n') {
        let colon = line.iter().position(|octet| *octet == b':').and_then(|at| line.split_at_checked(at));
        match (fields.last_mut(), colon) {
            (Some((_, value)), _) if matches!(line.first(), Some(b' ' | b'\t')) => value.extend_from_slice(line),
            (_, Some((name, value))) => fields.push((name.to_vec(), value.get(1..).unwrap_or_default().to_vec())),
            (_, None) => {}
        }
    }
    (fields, rest.strip_prefix(b"\r\n").unwrap_or(rest))
}
