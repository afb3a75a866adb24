//! The VERIFY lines, both sides of them (SPECIFICATION §1 and §2).

use zeroize::Zeroizing;

use super::address::{ADDRESS_MAX, Address};
use super::key::AuthKey;

/// The longest line in a datagram, CRLF included.
pub const DATAGRAM_MAX: usize = 512;
/// The longest line on TLS, CRLF included.
pub const STREAM_MAX: usize = 1024;
/// The longest sequence number, in digits.
const SEQ_MAX: usize = 32;
/// Tags of one line.
const TAGS_MAX: usize = 8;
/// The longest name of a tag.
const TAG_NAME_MAX: usize = 16;
/// The longest value of a tag, in octets.
const TAG_VALUE_MAX: usize = 128;
/// The longest word of a reply.
const STATUS_MAX: usize = 32;
/// The longest validity that a reply may tell, in seconds.
const VALID_FOR_MAX: u32 = 9_999_999;

/// A question as the verifier writes it.
///
/// It holds a proof and no key, so it may be logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The sequence number: 32 hexadecimal digits of 128 random bits.
    pub seq: String,
    /// The address, percent-encoded as it stands on the wire.
    pub address: String,
    /// The credential: `h1.` and 43 characters.
    pub proof: String,
    /// What follows the credential, without CRLF: `v=1 from=example.net`.
    pub tags: String,
}

/// The word of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    /// Key and address belong together.
    Valid,
    /// They do not.
    Invalid,
    /// The AS cannot say; also any word that we do not know, and any reply of another version.
    Unverified,
}

/// The `e=` of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The key was right until at most 14 days ago.
    Expired,
    /// Ask again over TLS.
    Stream,
    /// Over the AS's rate limit.
    Limit,
    /// The AS has trouble of its own.
    Temp,
    /// Not a domain of this AS.
    Domain,
    /// A version it does not speak.
    Version,
    /// Not a request.
    Syntax,
    /// A word that we do not know.
    Other,
}

/// A reply as the verifier reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The sequence number, as echoed.
    pub seq: String,
    /// The address, as echoed.
    pub address: String,
    /// The word.
    pub status: Status,
    /// `t=`: seconds of validity left, at most 9999999; absent where missing or malformed.
    pub valid_for: Option<u32>,
    /// `e=`: the reason.
    pub reason: Option<Reason>,
}

/// A request as the AS reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// It does not parse up to the address, or is itself a reply: no answer on UDP, close on TLS.
    Silence,
    /// It parses up to the address and is no request of ours.
    Refused {
        /// To be echoed.
        seq: &'a [u8],
        /// To be echoed.
        address: &'a [u8],
        /// `e=version` or `e=syntax`.
        reason: Reason,
    },
    /// A question.
    Asked {
        /// To be echoed, and part of the proof.
        seq: &'a [u8],
        /// As on the wire: to be echoed, and part of the proof.
        address: &'a [u8],
        /// The address decoded: UTF-8 of at most 254 octets, otherwise unread.
        decoded: String,
        /// The key or the proof.
        credential: Credential<'a>,
        /// The octets after the credential and its space, without CRLF.
        tags: &'a [u8],
    },
}

/// What a request vouches with.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential<'a> {
    /// The key itself.
    Key(AuthKey),
    /// A proof of form h1, 46 octets.
    Proof(&'a [u8]),
}

impl std::fmt::Debug for Credential<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Credential::Key(_) => "Key(…)",
            Credential::Proof(_) => "Proof(…)",
        })
    }
}

impl Status {
    /// The word on the wire.
    pub fn word(self) -> &'static str {
        match self {
            Status::Valid => "VALIDKEY",
            Status::Invalid => "INVALIDKEY",
            Status::Unverified => "UNVERIFIED",
        }
    }
}

impl Reason {
    /// The word on the wire; absent for [`Reason::Other`].
    pub fn word(self) -> Option<&'static str> {
        match self {
            Reason::Expired => Some("expired"),
            Reason::Stream => Some("stream"),
            Reason::Limit => Some("limit"),
            Reason::Temp => Some("temp"),
            Reason::Domain => Some("domain"),
            Reason::Version => Some("version"),
            Reason::Syntax => Some("syntax"),
            Reason::Other => None,
        }
    }

    fn of(word: &[u8]) -> Reason {
        match word {
            b"expired" => Reason::Expired,
            b"stream" => Reason::Stream,
            b"limit" => Reason::Limit,
            b"temp" => Reason::Temp,
            b"domain" => Reason::Domain,
            b"version" => Reason::Version,
            b"syntax" => Reason::Syntax,
            _ => Reason::Other,
        }
    }
}

impl Question {
    /// A question with a proof of form h1. `from` is our own domain, a claim for the AS's log; empty, or nothing that a tag
    /// can hold: left out.
    pub fn new(seq: String, address: &Address, key: &AuthKey, from: &str) -> Question {
        let address = address.wire();
        let tags = match is_tag_value(from.as_bytes()) && !from.is_empty() {
            true => format!("v=1 from={from}"),
            false => "v=1".to_owned(),
        };
        let proof = key.verify_key().prove(seq.as_bytes(), address.as_bytes(), tags.as_bytes());
        Question { seq, address, proof, tags }
    }

    /// The line, CRLF included; absent where it would be longer than `room` octets.
    pub fn line(&self, room: usize) -> Option<Vec<u8>> {
        let space = if self.tags.is_empty() { "" } else { " " };
        let line = format!("VERIFY {} {} {}{space}{}\r\n", self.seq, self.address, self.proof, self.tags);
        (line.len() <= room).then(|| line.into_bytes())
    }

    /// The line with the key itself where the proof would stand: for TLS alone, once the certificate has passed.
    pub fn line_with_key(&self, key: &AuthKey, room: usize) -> Option<Zeroizing<Vec<u8>>> {
        let space = if self.tags.is_empty() { "" } else { " " };
        let line = format!("VERIFY {} {} {}{space}{}\r\n", self.seq, self.address, key.expose(), self.tags);
        let line = Zeroizing::new(line.into_bytes());
        (line.len() <= room).then_some(line)
    }

    /// Whether an answer is to this question: seq and address octet for octet.
    pub fn is_answered_by(&self, answer: &Answer) -> bool {
        answer.seq == self.seq && answer.address == self.address
    }
}

impl Answer {
    /// Reads a reply line, CRLF included; absent where it is none, to be ignored.
    ///
    /// A word or a version that we do not know reads as [`Status::Unverified`].
    pub fn parse(line: &[u8]) -> Option<Answer> {
        let rest = line.strip_prefix(b"VERIFY_REPLY ")?.strip_suffix(b"\r\n")?;
        let mut words = rest.split(|&o| o == b' ');
        let (seq, address, word) = (words.next()?, words.next()?, words.next()?);
        let is_word = |o: &u8| o.is_ascii_alphabetic() || *o == b'_';
        if !is_seq(seq) || !(1..=STATUS_MAX).contains(&word.len()) || !word.iter().all(is_word) {
            return None;
        }
        decode(address)?;
        let tags = tags(words)?;
        let tag = |name: &[u8]| tags.iter().find(|tag| tag.0 == name).map(|tag| tag.1);
        let status = match word {
            _ if tag(b"v").is_some_and(|v| v != b"1") => Status::Unverified,
            b"VALIDKEY" => Status::Valid,
            b"INVALIDKEY" => Status::Invalid,
            _ => Status::Unverified,
        };
        Some(Answer {
            seq: std::str::from_utf8(seq).ok()?.to_owned(),
            address: std::str::from_utf8(address).ok()?.to_owned(),
            status,
            valid_for: tag(b"t").filter(|_| status == Status::Valid).and_then(seconds),
            reason: tag(b"e").map(Reason::of),
        })
    }
}

impl<'a> Request<'a> {
    /// Reads one line of at most `room` octets. Total: whatever arrives is one of the three.
    pub fn read(line: &'a [u8], room: usize) -> Request<'a> {
        Request::head(line, room).unwrap_or(Request::Silence)
    }

    /// Up to and including the address (SPECIFICATION §2.1); absent where the line does not parse so far.
    fn head(line: &'a [u8], room: usize) -> Option<Request<'a>> {
        if line.len() > room {
            return None;
        }
        let (seq, rest) = word(line.strip_prefix(b"VERIFY ")?);
        let (address, rest) = word(rest.strip_prefix(b" ")?);
        let decoded = decode(address).filter(|_| is_seq(seq))?;
        let refused = |reason| Some(Request::Refused { seq, address, reason });
        let first_line = rest.split(|&o| matches!(o, b'\r' | b'\n')).next().unwrap_or_default();
        if first_line.split(|&o| o == b' ').any(|word| word.starts_with(b"v=") && word != b"v=1") {
            return refused(Reason::Version);
        }
        match tail(rest).filter(|_| is_spelled(&decoded)) {
            Some((credential, tags)) => Some(Request::Asked { seq, address, decoded, credential, tags }),
            None => refused(Reason::Syntax),
        }
    }
}

/// Writes a reply of at most `room` octets, CRLF included; absent where even the bare reply does not fit.
///
/// Where space lacks, `t` goes first, then `e`. `v` is never written: its absence means 1, as in the published example.
/// `t` is told with [`Status::Valid`] alone and at most 9999999; [`Reason::Other`] has no word.
pub fn reply(
    seq: &[u8],
    address: &[u8],
    status: Status,
    valid_for: Option<u32>,
    reason: Option<Reason>,
    room: usize,
) -> Option<Vec<u8>> {
    let valid_for = valid_for.filter(|_| status == Status::Valid).map(|t| t.min(VALID_FOR_MAX));
    let reason = reason.and_then(Reason::word);
    let mut line = Vec::with_capacity(room.min(DATAGRAM_MAX));
    for part in [b"VERIFY_REPLY ".as_slice(), seq, b" ", address, b" ", status.word().as_bytes()] {
        line.extend_from_slice(part);
    }
    let has_room = |line: &[u8], octets: usize| line.len() + octets + b"\r\n".len() <= room;
    let with_reason = reason.map_or(0, |word| " e=".len() + word.len());
    if let Some(valid_for) = valid_for {
        let digits = valid_for.to_string();
        if has_room(&line, " t=".len() + digits.len() + with_reason) {
            line.extend_from_slice(b" t=");
            line.extend_from_slice(digits.as_bytes());
        }
    }
    if let Some(word) = reason.filter(|_| has_room(&line, with_reason)) {
        line.extend_from_slice(b" e=");
        line.extend_from_slice(word.as_bytes());
    }
    line.extend_from_slice(b"\r\n");
    (line.len() <= room).then_some(line)
}

/// The credential and the tags of a request, given what follows its address; absent where these are outside the grammar.
fn tail(rest: &[u8]) -> Option<(Credential<'_>, &[u8])> {
    let rest = rest.strip_prefix(b" ")?.strip_suffix(b"\r\n")?;
    let (credential, rest) = word(rest);
    let credential = if credential.contains(&b'.') {
        is_proof(credential).then_some(Credential::Proof(credential))?
    } else {
        Credential::Key(AuthKey::parse(credential).ok()?)
    };
    if rest.is_empty() {
        return Some((credential, rest));
    }
    let rest = rest.strip_prefix(b" ")?;
    tags(rest.split(|&o| o == b' '))?;
    Some((credential, rest))
}

/// Whether the domain of an address, if it has one, can be in the spelling of A-labels without a final dot: every verifier
/// writes that one, so any other is a mistake of its own (SPECIFICATION §2.1).
fn is_spelled(address: &str) -> bool {
    let domain = address.rsplit_once('@').map_or("", |(_, domain)| domain);
    domain.is_ascii() && !domain.ends_with('.')
}

/// The octets before the first SP, CR or LF, and the others.
fn word(octets: &[u8]) -> (&[u8], &[u8]) {
    let end = octets.iter().position(|o| matches!(o, b' ' | b'\r' | b'\n')).unwrap_or(octets.len());
    octets.split_at_checked(end).unwrap_or((octets, &[]))
}

pub(super) fn is_seq(octets: &[u8]) -> bool {
    (1..=SEQ_MAX).contains(&octets.len()) && octets.iter().all(u8::is_ascii_hexdigit)
}

fn is_proof(octets: &[u8]) -> bool {
    let good = |o: &u8| o.is_ascii_alphanumeric() || matches!(o, b'-' | b'_');
    octets.strip_prefix(b"h1.").is_some_and(|sum| sum.len() == 43 && sum.iter().all(good))
}

fn is_tag_value(octets: &[u8]) -> bool {
    octets.len() <= TAG_VALUE_MAX && octets.iter().all(u8::is_ascii_graphic)
}

/// An address as it stands on the wire, decoded: UTF-8 of 1 to 254 octets; absent where it is none.
pub(super) fn decode(wire: &[u8]) -> Option<String> {
    let mut octets = Vec::with_capacity(ADDRESS_MAX);
    let mut rest = wire.iter();
    while let Some(&octet) = rest.next() {
        octets.push(match octet {
            b'%' => 16 * hex(*rest.next()?)? + hex(*rest.next()?)?,
            b'!'..=b'~' | 0x80.. => octet,
            _ => return None,
        });
        if octets.len() > ADDRESS_MAX {
            return None;
        }
    }
    String::from_utf8(octets).ok().filter(|address| !address.is_empty())
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

/// The tags of a line as names and values; absent where one is outside the grammar, named twice or too many.
fn tags<'a>(words: impl Iterator<Item = &'a [u8]>) -> Option<Vec<(&'a [u8], &'a [u8])>> {
    let mut tags: Vec<(&[u8], &[u8])> = Vec::with_capacity(TAGS_MAX);
    for word in words {
        let (name, value) = word.split_at_checked(word.iter().position(|&o| o == b'=')?)?;
        let value = value.strip_prefix(b"=")?;
        let good = name.first()?.is_ascii_alphabetic()
            && name.len() <= TAG_NAME_MAX
            && name.iter().all(u8::is_ascii_alphanumeric)
            && is_tag_value(value);
        if !good || tags.len() == TAGS_MAX || tags.iter().any(|tag| tag.0 == name) {
            return None;
        }
        tags.push((name, value));
    }
    Some(tags)
}

/// `t=`: one to seven digits; anything else counts as absent.
fn seconds(value: &[u8]) -> Option<u32> {
    if !(1..=7).contains(&value.len()) || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(value).ok()?.parse().ok()
}

#[cfg(test)]
mod tests;
