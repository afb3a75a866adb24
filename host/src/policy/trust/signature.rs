//! A signature's file, read strictly: no octet of it can change without the file being refused.
//!
//! minisign's format leaves room: its first line is any text, which nothing signs; base64 has spellings for the same octets; and
//! the octet that says how the file was hashed is outside of both signatures. Here each of them has one value.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The first line, as minisign writes it. It is not signed, so it must not say anything of its own.
pub const FIRST_LINE: &str = "untrusted comment: signature from minisign secret key";
/// The same of the tool rsign.
const FIRST_LINE_RSIGN: &str = "untrusted comment: signature from rsign secret key";
/// How the third line begins.
const TRUSTED: &str = "trusted comment: ";
/// A signature over the hash of a file.
const HASHED: &[u8] = b"ED";
/// A signature over the file itself.
const LEGACY: &[u8] = b"Ed";
/// Octets of the second line: how it was made, the key's number, the signature.
const SECOND: usize = 2 + 8 + 64;
/// Octets of the fourth line: the signature over the first one and the trusted comment.
const FOURTH: usize = 64;

/// Why a file is no signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Misshapen {
    /// It has not four lines of text.
    #[error("it is not four lines of text")]
    Lines,
    /// Its first line is another one.
    #[error(
        "its first line, which nothing signs, is not `{FIRST_LINE}`: sign without a comment of your own (minisign's -c)"
    )]
    First,
    /// The second line is no signature.
    #[error("its second line is no signature in base64")]
    Second,
    /// The file itself is signed, and not its hash.
    #[error("it is of the legacy kind, over the file and not its hash: sign again, with minisign before 0.10 by -H")]
    Legacy,
    /// The third line is no trusted comment.
    #[error("its third line is no trusted comment")]
    Third,
    /// The fourth line is no signature.
    #[error("its fourth line is no signature in base64")]
    Fourth,
}

/// A signature as its file has it; whether it holds is not known yet.
pub(super) struct Signature {
    pub(super) read: minisign_verify::Signature,
    /// The number of its key.
    pub(super) number: u64,
}

impl Signature {
    pub(super) fn parse(octets: &[u8]) -> Result<Signature, Misshapen> {
        let text = str::from_utf8(octets).map_err(|_| Misshapen::Lines)?;
        let lines: Vec<&str> = text.strip_suffix('\n').unwrap_or(text).split('\n').collect();
        let [first, second, third, fourth] = lines.as_slice() else { return Err(Misshapen::Lines) };
        if ![FIRST_LINE, FIRST_LINE_RSIGN].contains(first) {
            return Err(Misshapen::First);
        }
        let second = decoded(second, SECOND).ok_or(Misshapen::Second)?;
        match second.get(..2) {
            Some(HASHED) => {}
            Some(LEGACY) => return Err(Misshapen::Legacy),
            _ => return Err(Misshapen::Second),
        }
        let number = second.get(2..10).and_then(|number| number.try_into().ok());
        let number = number.map(u64::from_le_bytes).ok_or(Misshapen::Second)?;
        // The reader of the library takes a line end of another system off; the comment must not have one.
        if !third.starts_with(TRUSTED) || third.ends_with('\r') {
            return Err(Misshapen::Third);
        }
        decoded(fourth, FOURTH).ok_or(Misshapen::Fourth)?;
        let read = minisign_verify::Signature::decode(text).map_err(|_| Misshapen::Lines)?;
        Ok(Signature { read, number })
    }

    /// The trusted comment, to be believed once the signature holds.
    pub(super) fn comment(&self) -> &str {
        self.read.trusted_comment()
    }
}

/// Base64 of so many octets, in the one spelling that it has.
fn decoded(line: &str, octets: usize) -> Option<Vec<u8>> {
    STANDARD.decode(line).ok().filter(|decoded| decoded.len() == octets)
}
