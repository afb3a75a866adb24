//! Who may ask: tokens (RFC 6750) and names with passwords (RFC 7617), of which only sums are kept.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConstantTimeEq as _};
use zeroize::Zeroizing;

/// A credential that no mail server could show.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BadCredential {
    /// It is no token of RFC 6750.
    #[error("it must hold one token: letters, digits and -._~+/ with = at its end, 16 at least")]
    Token,
    /// It has no colon, or nothing before or behind it.
    #[error("it must hold one USER:PASSWORD, with a password of 8 octets at least")]
    Basic,
}

/// The credentials that count. Without any, everybody may ask: then a door is for the machine it runs on. Clones share them.
#[derive(Clone, Default)]
pub struct Access(Arc<RwLock<Known>>);

/// Sums of credentials.
#[derive(Clone, Default)]
struct Known {
    tokens: Vec<[u8; 32]>,
    basic: Vec<[u8; 32]>,
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = self.known();
        write!(f, "Access({} tokens, {} names)", known.tokens.len(), known.basic.len())
    }
}

impl Access {
    /// Lets those in that show this token.
    ///
    /// # Errors
    /// It is none.
    pub fn token(&self, token: &str) -> Result<(), BadCredential> {
        let good = |octet: u8| octet.is_ascii_alphanumeric() || b"-._~+/".contains(&octet);
        let bare = token.trim_end_matches('=');
        if bare.len() < 16 || !bare.bytes().all(good) {
            return Err(BadCredential::Token);
        }
        self.0.write().unwrap_or_else(PoisonError::into_inner).tokens.push(sum(token.as_bytes()));
        Ok(())
    }

    /// Lets those in that show this `USER:PASSWORD`.
    ///
    /// # Errors
    /// It is none.
    pub fn basic(&self, pair: &str) -> Result<(), BadCredential> {
        match pair.split_once(':') {
            Some((user, password)) if !user.is_empty() && password.len() >= 8 => {
                self.0.write().unwrap_or_else(PoisonError::into_inner).basic.push(sum(pair.as_bytes()));
                Ok(())
            }
            _ => Err(BadCredential::Basic),
        }
    }

    /// From now on the credentials of the other one count, and no others.
    pub fn replace(&self, other: &Access) {
        let other = other.known();
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = other;
    }

    fn known(&self) -> Known {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether these fields of a request show one of the credentials, or none is needed; and, as a sum, who it is.
    pub(super) fn of(&self, fields: &HeaderMap) -> Option<[u8; 32]> {
        let all_known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if all_known.tokens.is_empty() && all_known.basic.is_empty() {
            return Some([0; 32]);
        }
        let mut all = fields.get_all(AUTHORIZATION).into_iter();
        let (Some(field), None) = (all.next(), all.next()) else { return None };
        let (scheme, shown) = field.to_str().ok()?.split_once(' ')?;
        let shown = shown.trim();
        let (known, sum) = if scheme.eq_ignore_ascii_case("bearer") {
            (&all_known.tokens, sum(shown.as_bytes()))
        } else if scheme.eq_ignore_ascii_case("basic") {
            let pair = Zeroizing::new(STANDARD.decode(shown).ok()?);
            (&all_known.basic, sum(&pair))
        } else {
            return None;
        };
        let is_known = known.iter().fold(Choice::from(0), |found, one| found | one.ct_eq(&sum));
        bool::from(is_known).then_some(sum)
    }
}

/// Comparing sums tells nothing of a credential, not even its length.
fn sum(octets: &[u8]) -> [u8; 32] {
    Sha256::digest(octets).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(shown: &[&str]) -> HeaderMap {
        shown.iter().map(|value| (AUTHORIZATION, value.parse().unwrap())).collect()
    }

    #[test]
    fn a_credential_opens_in_its_own_scheme_alone_and_once() {
        let access = Access::default();
        assert!(access.of(&fields(&[])).is_some(), "without credentials everybody may ask");
        access.token("0123456789abcdef==").unwrap();
        access.basic("stalwart:correct horse").unwrap();
        let basic = format!("Basic {}", STANDARD.encode("stalwart:correct horse"));
        for (shown, may) in [
            (vec!["Bearer 0123456789abcdef=="], true),
            (vec!["bearer  0123456789abcdef== "], true),
            (vec![basic.as_str()], true),
            (vec![], false),
            (vec!["Bearer 0123456789abcdef"], false),
            (vec!["Bearer stalwart:correct horse"], false),
            (vec!["Basic 0123456789abcdef=="], false),
            (vec!["Digest 0123456789abcdef=="], false),
            (vec!["0123456789abcdef=="], false),
            (vec![basic.as_str(), basic.as_str()], false),
        ] {
            assert_eq!(access.of(&fields(&shown)).is_some(), may, "{shown:?}");
        }
        assert_eq!(format!("{access:?}"), "Access(1 tokens, 1 names)");
    }

    #[test]
    fn what_is_no_credential_is_refused() {
        for token in ["", "short", "0123456789 abcdef", "0123456789abcdef\n", "=================="] {
            assert!(Access::default().token(token).is_err(), "{token:?}");
        }
        for pair in ["", "user", "user:", ":password", "user:short"] {
            assert!(Access::default().basic(pair).is_err(), "{pair:?}");
        }
    }
}
