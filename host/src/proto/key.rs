//! The AuthKey, the verification key made from it, and the proof that keeps it off the wire.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::digest::KeyInit;
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// The shortest key that may be asked about, in octets (SPECIFICATION §1.1).
pub const KEY_MIN: usize = 22;
/// The longest key that may be asked about, in octets (SPECIFICATION §1.1).
pub const KEY_MAX: usize = 128;
/// What a proof of form h1 begins with; a dot never occurs in a key.
const H1: &str = "h1.";

/// The secret that an address's mail carries in `X-Auth-Key`: 22 to 128 octets of `ALPHA / DIGIT / "-" / "_"`.
///
/// It never prints, compares in constant time and is wiped from memory when dropped.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct AuthKey(Box<str>);

/// The octets are no AuthKey: a wrong length, or an octet outside `ALPHA / DIGIT / "-" / "_"`.
///
/// It does not say which octet: even a bad key may be one typing error away from a good one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a key of 22 to 128 characters A-Z a-z 0-9 - _")]
pub struct BadKey;

impl AuthKey {
    /// Reads a key as it stands in a field value, without white space around it.
    pub fn parse(octets: &[u8]) -> Result<AuthKey, BadKey> {
        let good = |o: &u8| o.is_ascii_alphanumeric() || matches!(o, b'-' | b'_');
        if !(KEY_MIN..=KEY_MAX).contains(&octets.len()) || !octets.iter().all(good) {
            return Err(BadKey);
        }
        let text = std::str::from_utf8(octets).map_err(|_| BadKey)?;
        Ok(AuthKey(text.into()))
    }

    /// The key itself, for the two places that must write it: the header of outgoing mail and the mail that delivers a new key.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The verification key K = SHA-256("addrauth-key-v1" 00 AuthKey).
    pub fn verify_key(&self) -> VerifyKey {
        let mut hash = Sha256::new();
        hash.update(b"addrauth-key-v1\0");
        hash.update(self.0.as_bytes());
        VerifyKey(hash.finalize().into())
    }
}

impl fmt::Debug for AuthKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AuthKey(…)")
    }
}

impl PartialEq for AuthKey {
    fn eq(&self, other: &AuthKey) -> bool {
        self.0.as_bytes().ct_eq(other.0.as_bytes()).into()
    }
}

impl Eq for AuthKey {}

/// K, all that an AS stores of a key: it checks keys and proofs, and forges no mail.
///
/// It is a secret all the same (whoever holds it can make proofs), so it never prints.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct VerifyKey([u8; 32]);

impl VerifyKey {
    /// K as it was stored.
    pub fn from_octets(octets: [u8; 32]) -> VerifyKey {
        VerifyKey(octets)
    }

    /// K, to be stored.
    pub fn octets(&self) -> &[u8; 32] {
        &self.0
    }

    /// The first 8 hexadecimal digits of SHA-256(K): tells keys apart in lists and journals, and reveals nothing.
    pub fn fingerprint(&self) -> String {
        Sha256::digest(self.0)[..4].iter().map(|o| format!("{o:02x}")).collect()
    }

    /// h1, the proof over a question: 46 octets of ASCII (SPECIFICATION §1.6). `seq`, `address` and `tags` as they stand on
    /// the wire.
    pub fn prove(&self, seq: &[u8], address: &[u8], tags: &[u8]) -> String {
        let mut mac = hmac(&self.0);
        for part in [b"addrauth-verify-v1".as_slice(), b"\0", seq, b"\0", address, b"\0", tags] {
            mac.update(part);
        }
        format!("{H1}{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
    }

    /// Whether `proof` is this key's proof over the question, compared in constant time.
    pub fn checks(&self, proof: &[u8], seq: &[u8], address: &[u8], tags: &[u8]) -> bool {
        self.prove(seq, address, tags).as_bytes().ct_eq(proof).into()
    }
}

impl fmt::Debug for VerifyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("VerifyKey(…)")
    }
}

impl PartialEq for VerifyKey {
    fn eq(&self, other: &VerifyKey) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for VerifyKey {}

/// HMAC-SHA256 under a key of 32 octets, which HMAC itself fills up with zeros to its block of 64 (RFC 2104 §2).
pub(super) fn hmac(key: &[u8; 32]) -> Hmac<Sha256> {
    let mut block = [0; 64];
    block[..32].copy_from_slice(key);
    let mac = <Hmac<Sha256> as KeyInit>::new(&block.into());
    block.zeroize();
    mac
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &[u8] = b"Vb3kQ9w2Zr7tYp0sXn4mLc8dHf1gJa6eUi5oRk2yTq9wEz3xBv7nMs4pDl8hGj0K";

    #[test]
    fn the_published_vectors_hold() {
        let k = AuthKey::parse(KEY).unwrap().verify_key();
        let hex: String = k.octets().iter().map(|o| format!("{o:02x}")).collect();
        assert_eq!(hex, "99190ec75e5192ea92d4295906ac97d08b011dd5979875bafbc3863e12da0a18");
        let (seq, address) = (b"00112233445566778899aabbccddeeff", b"alice@example.com");
        assert_eq!(k.prove(seq, address, b"v=1 from=example.net"), "h1._rAsoD7yZ6cqlf4q2GMiPXaF0RJlCyb0VlTrPCC084U");
        assert_eq!(k.prove(seq, address, b""), "h1.eV9EsDLHaoaCFaDxVoaMuKghS-DFp-mRng-CRNrxCQ4");
    }

    #[test]
    fn a_key_never_prints() {
        let key = AuthKey::parse(KEY).unwrap();
        assert_eq!(format!("{key:?} {:?}", key.verify_key()), "AuthKey(…) VerifyKey(…)");
    }
}
