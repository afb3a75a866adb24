//! What a browser or a mail holds as a secret, and what is made of it: hashes to be kept, and the tokens of forms.

use addrauth::store::TokenHash;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

/// Octets of a secret: nobody guesses 256 bits.
const OCTETS: usize = 32;

/// A secret that a browser holds as a cookie, or a mail as a link.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Secret {
    /// A new one.
    pub fn fresh() -> Secret {
        let octets: Zeroizing<[u8; OCTETS]> = Zeroizing::new(rand::random());
        Secret(Zeroizing::new(URL_SAFE_NO_PAD.encode(octets.as_slice())))
    }

    /// One that somebody shows, where it has the form of one.
    pub fn shown(text: &str) -> Option<Secret> {
        let octets = Zeroizing::new(URL_SAFE_NO_PAD.decode(text).ok()?);
        (octets.len() == OCTETS).then(|| Secret(Zeroizing::new(text.to_owned())))
    }

    /// As a browser or a mail is given it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// What is kept of it.
    pub fn hash(&self) -> TokenHash {
        self.derived(b"addrauth-console-token\0")
    }

    /// The token that forms hold for the browser with this cookie.
    pub fn form_token(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.derived(b"addrauth-console-form\0"))
    }

    /// Whether a form holds that token.
    pub fn is_form_token(&self, text: &str) -> bool {
        self.form_token().as_bytes().ct_eq(text.as_bytes()).into()
    }

    fn derived(&self, purpose: &[u8]) -> [u8; 32] {
        Sha256::new().chain_update(purpose).chain_update(self.0.as_bytes()).finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_read_again_and_its_hash_and_token_are_neither_it_nor_each_other() {
        let secret = Secret::fresh();
        let again = Secret::shown(secret.expose()).unwrap();
        assert_eq!(again.hash(), secret.hash());
        assert!(secret.is_form_token(&again.form_token()));
        let other = Secret::fresh();
        assert!(!secret.is_form_token(&other.form_token()) && other.hash() != secret.hash());
        assert!(!secret.is_form_token(secret.expose()) && !secret.is_form_token(""));
        assert_ne!(URL_SAFE_NO_PAD.encode(secret.hash()), secret.form_token());
        assert_eq!(format!("{secret:?}"), "Secret(…)");
        for text in ["", "x", &secret.expose()[1..], &format!("{}A", secret.expose()), "ü"] {
            assert!(Secret::shown(text).is_none(), "{text}");
        }
    }
}
