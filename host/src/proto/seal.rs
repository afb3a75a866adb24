//! Keys at rest: sealed so that who writes them cannot read them (INVARIANTS §4.3).
//!
//! HPKE (RFC 9180), base mode, DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, ChaCha20Poly1305; info `addrauth-seal-v1`, and the
//! folded address as associated data: what was sealed for one address opens for no other.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hpke::aead::ChaCha20Poly1305;
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::{Deserializable, Kem, OpModeR, OpModeS, Serializable, single_shot_open, single_shot_seal};
use zeroize::Zeroizing;

use super::key::AuthKey;

type Kemx = X25519HkdfSha256;

/// Says of what the seal is.
const INFO: &[u8] = b"addrauth-seal-v1";
/// What the public half begins with where it is written down.
const PUBLIC: &str = "seal1.";
/// What the secret half begins with.
const SECRET: &str = "open1.";
/// Octets of an encapsulated key, which stands before the sealed octets.
const ENCAPPED: usize = 32;

/// No half of a pair of seal keys, or not the one that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not {what}: {begins} and 43 characters of base64url, as `addrauth keyring key` writes them")]
pub struct BadHalf {
    what: &'static str,
    begins: &'static str,
}

/// The sealed octets cannot be opened: made for another half, for another address, or damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a sealed key does not open: it was sealed to another key, or for another address")]
pub struct Shut;

/// An AuthKey, sealed. It tells nothing of what it holds but its length.
#[derive(Clone, PartialEq, Eq)]
pub struct Sealed(Vec<u8>);

impl Sealed {
    /// What was stored.
    pub fn from_octets(octets: Vec<u8>) -> Sealed {
        Sealed(octets)
    }

    /// To be stored.
    pub fn octets(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealed({} octets)", self.0.len())
    }
}

/// The public half: seals, and opens nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct SealTo(<Kemx as Kem>::PublicKey);

impl SealTo {
    /// Seals a key for an address (folded). Absent where the system gives no random octets.
    pub fn seal(&self, address: &str, key: &AuthKey) -> Option<Sealed> {
        let (encapped, sealed) = single_shot_seal::<ChaCha20Poly1305, HkdfSha256, Kemx>(
            &OpModeS::Base,
            &self.0,
            INFO,
            key.expose().as_bytes(),
            address.as_bytes(),
        )
        .ok()?;
        Some(Sealed([encapped.to_bytes().as_slice(), &sealed].concat()))
    }
}

impl fmt::Display for SealTo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PUBLIC}{}", URL_SAFE_NO_PAD.encode(self.0.to_bytes()))
    }
}

impl fmt::Debug for SealTo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for SealTo {
    type Err = BadHalf;

    fn from_str(text: &str) -> Result<SealTo, BadHalf> {
        let bad = BadHalf { what: "a key to seal to", begins: PUBLIC };
        let octets = text.trim().strip_prefix(PUBLIC).and_then(|rest| URL_SAFE_NO_PAD.decode(rest).ok()).ok_or(bad)?;
        <Kemx as Kem>::PublicKey::from_bytes(&octets).map(SealTo).map_err(|_| bad)
    }
}

/// The secret half: opens. It never prints.
#[derive(Clone)]
pub struct Opener(<Kemx as Kem>::PrivateKey);

impl Opener {
    /// A new pair. Absent where the system gives no random octets.
    pub fn new() -> Option<Opener> {
        let mut octets = Zeroizing::new([0; 32]);
        getrandom::fill(octets.as_mut_slice()).ok()?;
        Some(Opener(Kemx::derive_keypair(octets.as_slice()).0))
    }

    /// The half that others may have.
    pub fn seal_to(&self) -> SealTo {
        SealTo(Kemx::sk_to_pk(&self.0))
    }

    /// Opens what was sealed to this pair for this address (folded).
    pub fn open(&self, address: &str, sealed: &Sealed) -> Result<AuthKey, Shut> {
        let (encapped, octets) = sealed.0.split_at_checked(ENCAPPED).ok_or(Shut)?;
        let encapped = <Kemx as Kem>::EncappedKey::from_bytes(encapped).map_err(|_| Shut)?;
        let open = single_shot_open::<ChaCha20Poly1305, HkdfSha256, Kemx>;
        let opened = open(&OpModeR::Base, &self.0, &encapped, INFO, octets, address.as_bytes()).map_err(|_| Shut)?;
        AuthKey::parse(&Zeroizing::new(opened)).map_err(|_| Shut)
    }

    /// As it is written to its file.
    pub fn expose(&self) -> Zeroizing<String> {
        let octets = Zeroizing::new(self.0.to_bytes().to_vec());
        let text = Zeroizing::new(URL_SAFE_NO_PAD.encode(octets.as_slice()));
        Zeroizing::new(format!("{SECRET}{}", text.as_str()))
    }

    /// As it stands in its file.
    pub fn parse(text: &str) -> Result<Opener, BadHalf> {
        let bad = BadHalf { what: "a key that opens seals", begins: SECRET };
        let rest = text.trim().strip_prefix(SECRET).ok_or(bad)?;
        let octets = Zeroizing::new(URL_SAFE_NO_PAD.decode(rest).map_err(|_| bad)?);
        <Kemx as Kem>::PrivateKey::from_bytes(&octets).map(Opener).map_err(|_| bad)
    }
}

impl fmt::Debug for Opener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Opener(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> AuthKey {
        AuthKey::parse(&[b'k'; 64]).unwrap()
    }

    #[test]
    fn what_is_sealed_for_an_address_opens_for_it_alone_and_by_its_own_half_alone() {
        let opener = Opener::new().unwrap();
        let sealed = opener.seal_to().seal("alice@example.com", &key()).unwrap();
        assert_eq!(opener.open("alice@example.com", &sealed), Ok(key()));
        assert_eq!(opener.open("bob@example.com", &sealed), Err(Shut));
        assert_eq!(Opener::new().unwrap().open("alice@example.com", &sealed), Err(Shut));
        for at in [0, 40, sealed.octets().len() - 1] {
            let mut damaged = sealed.octets().to_vec();
            damaged[at] ^= 1;
            assert_eq!(opener.open("alice@example.com", &Sealed::from_octets(damaged)), Err(Shut));
        }
        for length in [0, 31, 32, 40] {
            let cut = Sealed::from_octets(sealed.octets()[..length].to_vec());
            assert_eq!(opener.open("alice@example.com", &cut), Err(Shut));
        }
        assert!(!sealed.octets().windows(8).any(|part| part == b"kkkkkkkk"));
        assert_ne!(opener.seal_to().seal("alice@example.com", &key()).unwrap(), sealed, "no two are alike");
    }

    #[test]
    fn both_halves_stay_what_they_are_when_written_down() {
        let opener = Opener::new().unwrap();
        let again = Opener::parse(&format!("{}\n", opener.expose().as_str())).unwrap();
        assert_eq!(again.seal_to(), opener.seal_to());
        assert_eq!(opener.seal_to().to_string().parse::<SealTo>().unwrap(), opener.seal_to());
        assert_eq!(opener.seal_to().to_string().len(), 49);
        assert_eq!(format!("{opener:?}"), "Opener(…)");
        for text in ["", "seal1.", "open1.", "seal1.!", &format!("open1.{}", "A".repeat(42))] {
            assert!(text.parse::<SealTo>().is_err() && Opener::parse(text).is_err(), "{text:?}");
        }
        assert!(opener.expose().parse::<SealTo>().is_err(), "the secret half is not taken for the public one");
    }
}
