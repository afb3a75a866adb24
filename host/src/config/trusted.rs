//! `policy.trusted_keys`: the minisign public keys by which component files are signed.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Octets of a public key: two for its kind, eight for its number, 32 for the key itself.
const OCTETS: usize = 42;
/// The kind: Ed25519.
const KIND: &[u8] = b"Ed";

/// A minisign public key, in the spelling of the second line of a `.pub` file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustedKey {
    text: String,
    number: u64,
}

/// It is no public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is no minisign public key: write the line of the .pub file that begins with RW, 56 characters")]
pub struct NoKey;

impl TrustedKey {
    /// Reads the one spelling that a key has.
    ///
    /// # Errors
    /// Anything else.
    pub fn parse(text: &str) -> Result<TrustedKey, NoKey> {
        let octets = STANDARD.decode(text).map_err(|_| NoKey)?;
        let number = octets.get(KIND.len()..KIND.len() + 8).and_then(|number| number.try_into().ok());
        let good = octets.len() == OCTETS && octets.starts_with(KIND);
        let number = number.filter(|_| good).map(u64::from_le_bytes).ok_or(NoKey)?;
        Ok(TrustedKey { text: text.to_owned(), number })
    }

    /// The key in base64.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The number that a signature names its key by; minisign prints it as 16 hexadecimal digits.
    pub fn number(&self) -> u64 {
        self.number
    }
}

impl fmt::Display for TrustedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for TrustedKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

/// `policy.trusted_keys`. The parser tells the line at which the list begins.
pub(super) fn keys<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<TrustedKey>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?.into_iter().enumerate();
    let key = |(at, text): (usize, String)| {
        let at = at + 1;
        TrustedKey::parse(&text).map_err(|e| D::Error::custom(format_args!("policy.trusted_keys, entry {at}: {e}")))
    };
    texts.map(key).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Config;

    /// The key in the manual of minisign.
    const KEY: &str = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3";

    #[test]
    fn a_key_has_one_spelling_and_a_number() {
        let key = TrustedKey::parse(KEY).unwrap();
        assert_eq!((key.as_str(), format!("{:016X}", key.number())), (KEY, "E7620F1842B4E81F".to_owned()));
        let wrong =
            ["", "RWQ", &KEY[1..], &format!("{KEY}="), &format!(" {KEY}"), &KEY.replace("RWQ", "RXQ"), &"R".repeat(56)];
        for wrong in wrong {
            assert_eq!(TrustedKey::parse(wrong), Err(NoKey), "{wrong:?}");
        }
    }

    #[test]
    fn a_key_that_is_none_is_an_error_with_its_line() {
        let read = |text: &str| Config::parse(text, Path::new("x.toml"));
        let good = read(&format!("[policy]\ntrusted_keys = [\"{KEY}\"]\nrequire_signature = true\n")).unwrap();
        assert_eq!(good.policy.trusted_keys, [TrustedKey::parse(KEY).unwrap()]);
        let told =
            read(&format!("[policy]\ntrusted_keys = [\n  \"{KEY}\",\n  \"RWnonsense\",\n]\n")).unwrap_err().to_string();
        assert!(
            told.contains("line 2") && told.contains("policy.trusted_keys, entry 2") && told.contains(".pub"),
            "{told}"
        );
        let told = read("[policy]\nrequire_signature = true\n").unwrap_err().to_string();
        assert!(told.contains("policy.trusted_keys"), "{told}");
    }
}
