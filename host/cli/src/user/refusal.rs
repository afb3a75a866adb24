//! What a user may not choose, and the way out.

use std::path::PathBuf;
use std::process::ExitCode;

use super::super::exit;
use addrauth::case::KeyStatus;
use addrauth::config::{self, Config};
use addrauth::policy::{self, NotChosen};
use addrauth::proto::address::Address;
use addrauth::store::{self, wanted};

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("{0:?} is no address: write one such as bob@example.com")]
    Address(String),
    #[error(
        "{address} is in none of final_domains ({}), so its mail is passed untouched: add its domain there first, or mind the \
         spelling", if finals.is_empty() { "there are none" } else { finals.as_str() }
    )]
    Elsewhere { address: String, finals: String },
    #[error("{0:?} is no result: write invalid, missing, none, unverified, unusable, mark or rules")]
    Name(String),
    #[error("{0} is chosen twice: say it once")]
    Twice(String),
    #[error("{path}: {text}", path = .0.display(), text = .1)]
    File(PathBuf, String),
    #[error("{0:?} is no sender: write an address, or @example.com for all of a domain")]
    Sender(String),
    #[error("{0:?} would be one address, and no domain: write {1}")]
    Star(String, String),
    #[error("there is no directory {0}: the filter makes it when it first starts; is state_dir right?")]
    NoDirectory(PathBuf),
    #[error(transparent)]
    NotChosen(#[from] NotChosen),
    #[error(transparent)]
    Config(#[from] config::Error),
    #[error(transparent)]
    Policy(#[from] policy::Error),
    #[error(transparent)]
    Store(#[from] store::Error),
}

impl Error {
    /// Refused, or not to be done.
    pub(super) fn code(&self) -> ExitCode {
        match self {
            Error::Store(store::Error::TooManyAllowed { .. }) => exit::no(),
            Error::Address(_) | Error::File(..) | Error::Sender(_) | Error::Star(..) => exit::unknown(),
            Error::Config(_) | Error::Policy(_) | Error::Store(_) | Error::NoDirectory(_) => exit::unknown(),
            _ => exit::no(),
        }
    }
}

/// An address as it was typed.
pub(super) fn read(text: &str) -> Result<Address, Error> {
    Address::parse(text.as_bytes(), true).map_err(|_| Error::Address(text.into()))
}

/// An address whose mail ends here.
pub(super) fn of_ours(config: &Config, text: &str) -> Result<Address, Error> {
    let address = read(text)?;
    match config.final_domains.contains(address.domain()) {
        true => Ok(address),
        false => Err(Error::Elsewhere { address: address.to_string(), finals: config.final_domains.join(", ") }),
    }
}

/// Senders in the form in which the list keeps them.
pub(super) fn read_senders(senders: &[String]) -> Result<Vec<String>, Error> {
    senders.iter().map(|text| wanted(text).ok_or_else(|| Error::Sender(text.clone()))).collect()
}

/// The same for a list to be added to: a star for all of a domain is not put there as the address that it is.
pub(super) fn read_wanted(senders: &[String]) -> Result<Vec<String>, Error> {
    let star =
        senders.iter().find_map(|text| Some((text, text.strip_prefix('*').filter(|rest| rest.starts_with('@'))?)));
    match star {
        Some((text, domain)) => Err(Error::Star(text.clone(), domain.to_owned())),
        None => read_senders(senders),
    }
}

/// The result of this word.
pub(super) fn result(word: &str) -> Option<KeyStatus> {
    KeyStatus::ALL.into_iter().find(|status| status.word() == word)
}
