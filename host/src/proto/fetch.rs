//! Fetching a key from one's own AS, over TLS alone: a verb of ours, no part of VERIFY.
//!
//! ```text
//! FETCH <seq> <address> <token> CRLF
//! FETCH_REPLY <seq> <address> KEY <seconds since 1970 at which it ends> <the sealed key in base64url> CRLF
//! FETCH_REPLY <seq> <address> NOKEY CRLF
//! FETCH_REPLY <seq> <address> REFUSED CRLF
//! ```
//!
//! seq and address are those of SPECIFICATION §1.1, and so is the length of a line. What is given out opens for nobody but the
//! holder of the secret half of `keyring.key`.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use super::address::Address;
use super::seal::Sealed;
use super::wire::{STREAM_MAX, decode, is_seq};

/// The shortest token, in octets: some 190 random bits of base64url.
pub const TOKEN_MIN: usize = 32;
/// The longest token, in octets.
pub const TOKEN_MAX: usize = 128;

/// A request as the AS reads it. It holds the token, so it prints without.
#[derive(Clone, PartialEq, Eq)]
pub struct Request<'a> {
    /// To be echoed.
    pub seq: &'a [u8],
    /// To be echoed.
    pub address: &'a [u8],
    /// The address decoded.
    pub decoded: String,
    /// What the other side proves itself with.
    pub token: &'a [u8],
}

impl fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Request({})", self.address.escape_ascii())
    }
}

/// What the AS says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The newest key of the address.
    Key {
        /// When it ends, in seconds since 1970.
        expires: u64,
        /// Sealed for the address (folded).
        sealed: Sealed,
    },
    /// It has no living key.
    NoKey,
    /// The token is not the one.
    Refused,
}

/// Whether a text may be a token: 32 to 128 printable ASCII characters without spaces.
pub fn is_token(octets: &[u8]) -> bool {
    (TOKEN_MIN..=TOKEN_MAX).contains(&octets.len()) && octets.iter().all(u8::is_ascii_graphic)
}

/// The line that asks; absent where it would be longer than a line may be.
pub fn request(seq: &str, address: &Address, token: &str) -> Option<Zeroizing<Vec<u8>>> {
    let line = Zeroizing::new(format!("FETCH {seq} {} {token}\r\n", address.wire()).into_bytes());
    (line.len() <= STREAM_MAX).then_some(line)
}

impl<'a> Request<'a> {
    /// Reads one line, CRLF included; absent where it is none.
    pub fn read(line: &'a [u8]) -> Option<Request<'a>> {
        let mut words = line.strip_prefix(b"FETCH ")?.strip_suffix(b"\r\n")?.split(|&o| o == b' ');
        let (seq, address, token) = (words.next()?, words.next()?, words.next()?);
        let whole = words.next().is_none() && line.len() <= STREAM_MAX && is_seq(seq) && is_token(token);
        let decoded = decode(address).filter(|_| whole)?;
        Some(Request { seq, address, decoded, token })
    }
}

impl Reply {
    /// The line, CRLF included; absent where it would be longer than a line may be.
    pub fn line(&self, seq: &[u8], address: &[u8]) -> Option<Vec<u8>> {
        let said = match self {
            Reply::Key { expires, sealed } => format!("KEY {expires} {}", URL_SAFE_NO_PAD.encode(sealed.octets())),
            Reply::NoKey => "NOKEY".to_owned(),
            Reply::Refused => "REFUSED".to_owned(),
        };
        let line = [b"FETCH_REPLY ".as_slice(), seq, b" ", address, b" ", said.as_bytes(), b"\r\n"].concat();
        (line.len() <= STREAM_MAX).then_some(line)
    }

    /// Reads the reply to this request; absent where the line is none, to be ignored.
    pub fn read(line: &[u8], seq: &str, address: &Address) -> Option<Reply> {
        let rest = line.strip_prefix(b"FETCH_REPLY ")?.strip_suffix(b"\r\n")?;
        let mut words = std::str::from_utf8(rest).ok()?.split(' ');
        if words.next()? != seq || words.next()? != address.wire() {
            return None;
        }
        match (words.next()?, words.next(), words.next(), words.next()) {
            ("KEY", Some(expires), Some(sealed), None) => {
                let digits = expires.bytes().all(|o| o.is_ascii_digit());
                let expires = expires.parse().ok().filter(|_| digits)?;
                Some(Reply::Key { expires, sealed: Sealed::from_octets(URL_SAFE_NO_PAD.decode(sealed).ok()?) })
            }
            ("NOKEY", None, ..) => Some(Reply::NoKey),
            ("REFUSED", None, ..) => Some(Reply::Refused),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TOKEN: &str = "0123456789abcdef0123456789abcdef";

    fn alice() -> Address {
        Address::parse(b"alice@example.com", true).unwrap()
    }

    #[test]
    fn what_is_written_reads_the_same() {
        let line = request("00ff", &alice(), TOKEN).unwrap();
        let read = Request::read(&line).unwrap();
        assert_eq!(
            (read.seq, read.decoded.as_str(), read.token),
            (&b"00ff"[..], "alice@example.com", TOKEN.as_bytes())
        );
        assert!(!format!("{read:?}").contains(TOKEN));
        let key = Reply::Key { expires: 1_800_000_000, sealed: Sealed::from_octets(vec![7; 112]) };
        for reply in [key, Reply::NoKey, Reply::Refused] {
            let line = reply.line(read.seq, read.address).unwrap();
            assert_eq!(Reply::read(&line, "00ff", &alice()), Some(reply));
            assert_eq!(Reply::read(&line, "00fe", &alice()), None);
            assert_eq!(Reply::read(&line, "00ff", &Address::parse(b"bob@example.com", true).unwrap()), None);
        }
    }

    #[test]
    fn what_the_grammar_does_not_know_is_no_request_and_no_reply() {
        for line in [
            "FETCH 00 alice@example.com\r\n".to_owned(),
            format!("FETCH 00 alice@example.com {TOKEN}\n"),
            format!("FETCH 00 alice@example.com {TOKEN} x\r\n"),
            format!("FETCH zz alice@example.com {TOKEN}\r\n"),
            format!("FETCH 00 al\tice@example.com {TOKEN}\r\n"),
            format!("FETCH 00 alice@example.com {}\r\n", &TOKEN[1..]),
            format!("FETCH 00 alice@example.com {}\r\n", TOKEN.repeat(5)),
            format!("fetch 00 alice@example.com {TOKEN}\r\n"),
        ] {
            assert_eq!(Request::read(line.as_bytes()), None, "{line:?}");
        }
        for said in
            ["", "KEY", "KEY 1", "KEY +1 AAAA", "KEY x AAAA", "KEY 1 A=", "KEY 1 AAAA x", "NOKEY x", "key 1 AAAA"]
        {
            let line = format!("FETCH_REPLY 00 alice@example.com {said}\r\n");
            assert_eq!(Reply::read(line.as_bytes(), "00", &alice()), None, "{line:?}");
        }
    }

    proptest! {
        #[test]
        fn no_octets_upset_the_readers(octets in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Request::read(&[b"FETCH ".as_slice(), &octets, b"\r\n"].concat());
            let _ = Reply::read(&[b"FETCH_REPLY 00 alice@example.com ".as_slice(), &octets, b"\r\n"].concat(), "00", &alice());
        }
    }
}
