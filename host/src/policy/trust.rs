//! Who signed a component: a minisign signature in a file beside it, by a key that the configuration trusts.
//!
//! A signature is looked at before anything reads the component, the process that tries it included. It says of which policy
//! the component is and of which version ([`Comment`]), so that neither a renamed file nor, by what [`floor`] keeps, an older
//! pair takes the place of the one in force. Text of the policy `rules` is configuration, and nobody signs it.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use minisign_verify::PublicKey;

use crate::config::{self, Limits, TrustedKey};
use crate::files;

mod comment;
#[cfg(feature = "filter")]
pub mod floor;
mod signature;
#[cfg(test)]
mod tests;
mod version;

pub use comment::Comment;
pub use signature::{FIRST_LINE, Misshapen};
pub use version::{NoVersion, Version};

use signature::Signature;

/// What the name of a signature's file has behind that of its component.
pub const ENDING: &str = ".minisig";

/// A signature that holds.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct Signed {
    /// The policy whose component it is.
    pub policy: String,
    /// Which version of it.
    pub version: Version,
    /// The key that signed it.
    pub key: TrustedKey,
}

impl fmt::Display for Signed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "policy {}, version {}, signed by {}", self.policy, self.version, self.key)
    }
}

/// A policy in force whose component is signed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct InForce {
    /// Who signed what.
    pub signed: Signed,
    /// SHA-256 of the component, as hexadecimal digits.
    pub digest: String,
}

impl InForce {
    /// A component of this SHA-256 with its signature.
    pub fn of(signed: Signed, digest: String) -> InForce {
        InForce { signed, digest }
    }
}

/// Why a component is not trusted. The one in force stays.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Untrusted {
    /// No key is trusted, and a signature is asked for.
    #[error("policy.require_signature is true, and policy.trusted_keys names no key")]
    NoKeys,
    /// There is none.
    #[error(
        "there is no signature {0}, and policy.require_signature is true: who made the component signs it by `addrauth policy sign`"
    )]
    Missing(PathBuf),
    /// It cannot be read.
    #[error("cannot read its signature {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// It is no signature.
    #[error("{path} is no signature that is taken: {why}")]
    Misshapen {
        /// The file.
        path: PathBuf,
        /// What it lacks.
        why: Misshapen,
    },
    /// Nobody trusts its key.
    #[error("{path} is by the key {number:016X}, which is none of policy.trusted_keys")]
    Key {
        /// The file.
        path: PathBuf,
        /// The number of the key, as minisign prints it.
        number: u64,
    },
    /// Signature and component do not belong together.
    #[error("{0} does not fit the component: one of the two was changed, or only one of the two files is new")]
    Unfit(PathBuf),
    /// The trusted comment is none of ours.
    #[error(
        "the trusted comment of {0} is not `addrauth policy=NAME version=VERSION`: sign the component by `addrauth policy sign`"
    )]
    Comment(PathBuf),
    /// It is another policy's.
    #[error(
        "it is signed as the policy `{signed}`, and the file's name says `{named}`: was it renamed? Sign it under this name"
    )]
    Policy {
        /// What was signed.
        signed: String,
        /// How the file's name begins.
        named: String,
    },
    /// The component says that it is of another version.
    #[error("it is signed as version {signed}, and calls itself version {described}: sign it again")]
    Version {
        /// What was signed.
        signed: String,
        /// The component's own words.
        described: String,
    },
}

/// The policy that a component file is of: its name up to the first dot. So `strict.next.wasm` and `strict.1-2-0.wasm` are files of
/// `strict`, and `[policies.ours] module = "strict.wasm"` runs what was signed as `strict`.
pub fn policy_of(component: &Path) -> String {
    let name = component.file_name().unwrap_or_default().to_string_lossy();
    name.split('.').next().unwrap_or_default().to_owned()
}

/// Where the signature of a component file lies: FILE.wasm.minisig beside FILE.wasm.
pub fn signature_of(component: &Path) -> PathBuf {
    let mut path = OsString::from(component);
    path.push(ENDING);
    path.into()
}

/// Who signed these octets of this file, under the name of this policy; none where no signature lies beside it.
///
/// # Errors
/// A signature that lies there has to hold.
pub fn verify(
    octets: &[u8],
    component: &Path,
    policy: &str,
    keys: &[TrustedKey],
    limits: &Limits,
) -> Result<Option<Signed>, Untrusted> {
    let path = signature_of(component);
    let read = match files::read(&path, limits.policy.signature) {
        Err(e) if e.is_absent() => return Ok(None),
        Err(e) => return Err(Untrusted::Read { path, source: e.into() }),
        Ok(read) => read,
    };
    let signature = match Signature::parse(&read) {
        Ok(signature) => signature,
        Err(why) => return Err(Untrusted::Misshapen { path, why }),
    };
    let number = signature.number;
    let mut known = keys.iter().filter(|key| key.number() == number).peekable();
    if known.peek().is_none() {
        return Err(Untrusted::Key { path, number });
    }
    let holds = |key: &&TrustedKey| {
        let key = PublicKey::from_base64(key.as_str());
        key.is_ok_and(|key| key.verify(octets, &signature.read, false).is_ok())
    };
    let Some(key) = known.find(holds) else { return Err(Untrusted::Unfit(path)) };
    let Ok(Comment { policy: signed, version }) = signature.comment().parse() else {
        return Err(Untrusted::Comment(path));
    };
    match signed == policy {
        true => Ok(Some(Signed { policy: signed, version, key: key.clone() })),
        false => Err(Untrusted::Policy { signed, named: policy.to_owned() }),
    }
}

/// The same as the configuration wants it; without trusted keys nobody looks for a signature.
///
/// # Errors
/// Also where there is no signature and `policy.require_signature` is true.
pub fn check(
    octets: &[u8],
    component: &Path,
    bindings: &config::Policy,
    limits: &Limits,
) -> Result<Option<Signed>, Untrusted> {
    if bindings.trusted_keys.is_empty() {
        return if bindings.require_signature { Err(Untrusted::NoKeys) } else { Ok(None) };
    }
    match verify(octets, component, &policy_of(component), &bindings.trusted_keys, limits)? {
        None if bindings.require_signature => Err(Untrusted::Missing(signature_of(component))),
        found => Ok(found),
    }
}

impl Signed {
    /// Whether the component calls itself what was signed.
    ///
    /// # Errors
    /// [`Untrusted::Version`].
    pub fn check_version(&self, described: &str) -> Result<(), Untrusted> {
        match self.version.as_str() == described {
            true => Ok(()),
            false => {
                Err(Untrusted::Version { signed: self.version.to_string(), described: super::printable(described, 64) })
            }
        }
    }
}
