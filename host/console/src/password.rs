//! Passwords: hashed by Argon2id, and compared in a time that does not tell whether there is such an account.

use std::sync::LazyLock;

use argon2::Argon2;
use argon2::password_hash::{PasswordHash, PasswordHasher as _, PasswordVerifier as _, SaltString};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;

/// Characters that a password has at least (NIST SP 800-63B-4 has 15 where it is all that is asked for).
pub const SHORTEST: usize = 15;
/// Octets that a password has at most: what is longer was not typed.
pub const LONGEST: usize = 1_024;

/// What is compared where there is no account.
static NOBODYS: LazyLock<String> = LazyLock::new(|| hashed("nobody's, and nobody knows it").unwrap_or_default());

/// Why a password is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadPassword {
    /// It is too short.
    #[error("a password has at least {SHORTEST} characters: some words are remembered more easily than a few signs")]
    Short,
    /// It is too long.
    #[error("a password has at most {LONGEST} octets")]
    Long,
    /// It could not be hashed.
    #[error("the password cannot be hashed")]
    Unhashed,
}

/// The hash of a new password, as Argon2id's string: 19 MiB, 2 passes, as OWASP has it.
///
/// # Errors
/// It is too short, or too long.
pub fn hash(password: &str) -> Result<String, BadPassword> {
    if password.chars().count() < SHORTEST {
        return Err(BadPassword::Short);
    }
    if password.len() > LONGEST {
        return Err(BadPassword::Long);
    }
    hashed(password).ok_or(BadPassword::Unhashed)
}

fn hashed(password: &str) -> Option<String> {
    let salt: [u8; 16] = rand::random();
    let salt = SaltString::from_b64(&STANDARD_NO_PAD.encode(salt)).ok()?;
    Some(Argon2::default().hash_password(password.as_bytes(), &salt).ok()?.to_string())
}

/// Whether this is the password of the hash; without one there is no such account, and it takes as long.
pub fn matches(password: &str, kept: Option<&str>) -> bool {
    if password.len() > LONGEST {
        return false;
    }
    let text = kept.map_or_else(|| NOBODYS.clone(), str::to_owned);
    let is_right = PasswordHash::new(&text)
        .is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok());
    is_right && kept.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_matches_its_own_hash_alone() {
        let text = "correct horse battery staple";
        let (one, other) = (hash(text).unwrap(), hash(text).unwrap());
        assert!(one.starts_with("$argon2id$") && one != other && !one.contains("horse"));
        assert!(matches(text, Some(&one)) && matches(text, Some(&other)));
        for (wrong, kept) in [
            ("correct horse battery stapl", Some(one.as_str())),
            (text, Some("")),
            (text, None),
            ("nobody", None),
            ("", None),
        ] {
            assert!(!matches(wrong, kept), "{wrong} {kept:?}");
        }
        assert_eq!(hash("short"), Err(BadPassword::Short));
        assert_eq!(hash(&"x".repeat(LONGEST + 1)), Err(BadPassword::Long));
    }
}
