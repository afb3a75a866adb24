//! The trusted comment of a signature: `addrauth policy=NAME version=VERSION`, and nothing else.

use std::fmt;
use std::str::FromStr;

use super::version::Version;

/// What a signature says of its component. There is one spelling, with one space before each of the two words; the octets
/// themselves are named by the signature, so no digest stands here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comment {
    /// The policy: a-z, 0-9 and -, at most 64 of them.
    pub policy: String,
    /// Its version, which the component calls itself too.
    pub version: Version,
}

/// The text is no such comment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoComment;

impl fmt::Display for Comment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "addrauth policy={} version={}", self.policy, self.version)
    }
}

impl FromStr for Comment {
    type Err = NoComment;

    fn from_str(text: &str) -> Result<Comment, NoComment> {
        let words = text.strip_prefix("addrauth policy=").and_then(|rest| rest.split_once(" version="));
        let (policy, version) = words.ok_or(NoComment)?;
        let letter = |octet: u8| octet.is_ascii_lowercase() || octet.is_ascii_digit() || octet == b'-';
        let good = (1..=64).contains(&policy.len()) && policy.bytes().all(letter);
        let version = version.parse().map_err(|_| NoComment)?;
        if good { Ok(Comment { policy: policy.to_owned(), version }) } else { Err(NoComment) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_has_one_spelling() {
        let text = "addrauth policy=strict-2 version=1.2.0";
        let comment: Comment = text.parse().unwrap();
        assert_eq!((comment.policy.as_str(), comment.version.as_str()), ("strict-2", "1.2.0"));
        assert_eq!(comment.to_string(), text);
        for wrong in [
            "",
            "timestamp:1633700835\tfile:strict.wasm\thashed",
            "addrauth policy= version=1",
            "addrauth policy=Strict version=1",
            "addrauth policy=strict version=",
            "addrauth policy=strict version=1 ",
            "addrauth policy=strict  version=1",
            "addrauth policy=strict version=1 version=2",
            "addrauth version=1 policy=strict",
            "addrauth policy=strict version=1\r",
            " addrauth policy=strict version=1",
        ] {
            assert_eq!(wrong.parse::<Comment>(), Err(NoComment), "{wrong:?}");
        }
    }
}
