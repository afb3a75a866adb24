//! The VERIFY lines, both sides of them (VERIFY §1 and §2).

use super::address::Address;
use super::key::AuthKey;

/// The longest line in a datagram, CRLF included.
pub const DATAGRAM_MAX: usize = 512;

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

impl Question {
    /// A question with a proof of form h1. `from` is our own domain, a claim for the AS's log; empty: left out.
    pub fn new(seq: String, address: &Address, key: &AuthKey, from: &str) -> Question {
        let _ = (address, key, from);
        Question { seq, address: String::new(), proof: String::new(), tags: String::new() }
    }

    /// The line, CRLF included; absent where it would be longer than `room` octets.
    pub fn line(&self, room: usize) -> Option<Vec<u8>> {
        let _ = room;
        None
    }

    /// Whether an answer is to this question: seq and address octet for octet.
    pub fn is_answered_by(&self, answer: &Answer) -> bool {
        answer.seq == self.seq && answer.address == self.address
    }
}

impl Answer {
    /// Reads a reply line, CRLF included; absent where it is none.
    pub fn parse(line: &[u8]) -> Option<Answer> {
        let _ = line;
        None
    }
}

impl<'a> Request<'a> {
    /// Reads one line of at most `room` octets. Total: whatever arrives is one of the three.
    pub fn read(line: &'a [u8], room: usize) -> Request<'a> {
        let _ = (line, room);
        Request::Silence
    }
}

/// Writes a reply of at most `room` octets, CRLF included: drops `v`, `t`, `e` in that order until it fits; absent where
/// even the bare reply does not.
pub fn reply(
    seq: &[u8],
    address: &[u8],
    status: Status,
    valid_for: Option<u32>,
    reason: Option<Reason>,
    room: usize,
) -> Option<Vec<u8>> {
    let _ = (seq, address, status, valid_for, reason, room);
    None
}
