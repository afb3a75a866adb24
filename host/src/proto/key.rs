//! The AuthKey, the verification key made from it, and the proof that keeps it off the wire.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};
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
        let sum = self.checker().sum(&Proven::new(seq, address, tags));
        format!("{H1}{}", URL_SAFE_NO_PAD.encode(sum))
    }

    /// Whether `proof` is this key's proof over the question, compared in constant time.
    pub fn checks(&self, proof: &[u8], seq: &[u8], address: &[u8], tags: &[u8]) -> bool {
        self.prove(seq, address, tags).as_bytes().ct_eq(proof).into()
    }

    /// What checks many proofs by this key.
    pub fn checker(&self) -> Checker {
        Checker(hmac(&self.0))
    }
}

/// K as HMAC works with it, its two blocks of key hashed already: checks proofs by half of the work. It is as secret as K, never
/// prints, and is wiped from memory when dropped.
#[derive(Clone)]
pub struct Checker(Hmac<Sha256>);

/// The octets of a question that its proof is over.
#[derive(Clone, Debug)]
pub struct Proven(Vec<u8>);

/// What a proof says: the sum that a right key gives, or that no key does.
#[derive(Clone, Debug)]
pub struct Claim {
    sum: [u8; 32],
    is_sum: bool,
}

impl Checker {
    /// Whether this key gives that sum, compared in constant time.
    pub fn agrees(&self, claim: &Claim, proven: &Proven) -> bool {
        (self.sum(proven).ct_eq(&claim.sum) & Choice::from(u8::from(claim.is_sum))).into()
    }

    fn sum(&self, proven: &Proven) -> [u8; 32] {
        let mut mac = self.0.clone();
        mac.update(&proven.0);
        mac.finalize().into_bytes().into()
    }
}

impl fmt::Debug for Checker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Checker(…)")
    }
}

impl Proven {
    /// The question's `seq`, `address` and `tags` as they stand on the wire (SPECIFICATION §1.6).
    pub fn new(seq: &[u8], address: &[u8], tags: &[u8]) -> Proven {
        Proven([b"addrauth-verify-v1".as_slice(), b"\0", seq, b"\0", address, b"\0", tags].concat())
    }
}

impl Claim {
    /// What a proof of form h1 says.
    pub fn of_proof(proof: &[u8]) -> Claim {
        let text = proof.strip_prefix(H1.as_bytes()).unwrap_or_default();
        // One octet more than there are, for the decoder's estimate.
        let mut octets = [0; 33];
        // What is not written as a sum would be is none.
        let is_sum = text.len() == 43 && URL_SAFE_NO_PAD.decode_slice(text, &mut octets) == Ok(32);
        let mut sum = [0; 32];
        sum.copy_from_slice(&octets[..32]);
        Claim { sum, is_sum }
    }

    /// What whoever knows this key could say of the question.
    pub fn of_key(key: &AuthKey, proven: &Proven) -> Claim {
        Claim { sum: key.verify_key().checker().sum(proven), is_sum: true }
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
    fn a_checker_agrees_with_the_right_proof_and_the_right_key_alone() {
        let key = AuthKey::parse(KEY).unwrap();
        let (k, other) = (key.verify_key(), AuthKey::parse(&[b'x'; 64]).unwrap());
        let (seq, address, tags) = (b"00ff", b"a@example.com", b"v=1");
        let (checker, proven) = (k.checker(), Proven::new(seq, address, tags));
        let proof = k.prove(seq, address, tags);
        assert!(checker.agrees(&Claim::of_proof(proof.as_bytes()), &proven));
        assert!(checker.agrees(&Claim::of_key(&key, &proven), &proven));
        assert!(!checker.agrees(&Claim::of_key(&other, &proven), &proven));
        assert!(!checker.agrees(&Claim::of_proof(proof.as_bytes()), &Proven::new(seq, address, b"v=1 x=2")));
        // Each octet counts, the two bits that the last one has left over too; and what is no proof is none of any key.
        let mut octets = proof.into_bytes();
        for at in 0..octets.len() {
            for octet in (0..=255).filter(|octet| *octet != octets[at]).collect::<Vec<u8>>() {
                let right = std::mem::replace(&mut octets[at], octet);
                assert!(!checker.agrees(&Claim::of_proof(&octets), &proven), "{at} {octet}");
                octets[at] = right;
            }
        }
        for wrong in [&octets[..45], b"", b"h1.", &[&octets[..], b"A"].concat()] {
            assert!(!checker.agrees(&Claim::of_proof(wrong), &proven));
        }
    }

    #[test]
    fn a_key_never_prints() {
        let key = AuthKey::parse(KEY).unwrap();
        let k = key.verify_key();
        assert_eq!(format!("{key:?} {k:?} {:?}", k.checker()), "AuthKey(…) VerifyKey(…) Checker(…)");
    }

    #[test]
    fn what_checks_is_wiped_when_dropped() {
        fn is_wiped<T: ZeroizeOnDrop>() {}
        is_wiped::<AuthKey>();
        is_wiped::<VerifyKey>();
        // HMAC is made of this one's parts, and each wipes itself.
        is_wiped::<Sha256>();
    }
}
