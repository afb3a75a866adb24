//! What a user may not choose, and the way out.

use std::path::PathBuf;
use std::process::ExitCode;

use super::super::exit;
use addrauth::case::Wish;
use addrauth::case::{KeyStatus, MarkAs};
use addrauth::config::{self, Config};
use addrauth::policy::{self, Policies};
use addrauth::proto::address::{Address, Mailbox};
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
    #[error(
        "{0:?} is no choice: write RESULT=POLICY with a RESULT of invalid, missing, none, unverified or unusable; or \
         mark=header, mark=folder"
    )]
    Choice(String),
    #[error("{0:?} is no result: write invalid, missing, none, unverified, unusable, mark or rules")]
    Name(String),
    #[error("{0} is chosen twice: say it once")]
    Twice(String),
    #[error("a user has no say over valid: an administrator binds it, in [policy] or [policy.recipient.\"{0}\"]")]
    Valid(Mailbox),
    #[error(
        "{id:?} cannot be chosen for {result}. {}",
        if open.is_empty() {
            "Nothing can: an administrator names what users may choose, as in policy.user_may = [\"accept\", \"mark\"]".into()
        } else {
            format!("What can: {open}. An administrator adds others to policy.user_may")
        }
    )]
    NotOpen { result: &'static str, id: String, open: String },
    #[error(
        "missing={id} would drop mail without a key silently: forwarded and list mail lost its key on the way. What can be \
         chosen: {open}"
    )]
    Silent { id: String, open: String },
    #[error(
        "mark=folder needs policy.spam_folder, such as \"+Junk\": how a spam folder is addressed. mark=header does not"
    )]
    Folder,
    #[error("users have no rules of their own here: an administrator lets them by policy.user_rules = true")]
    NoRules,
    #[error(
        "no decision of theirs would count, since nothing is open to users: an administrator names what is, as in \
         policy.user_may = [\"accept\", \"mark\"]"
    )]
    NothingOpen,
    #[error("{0}")]
    Rules(String),
    #[error("{path}: {text}", path = .0.display(), text = .1)]
    File(PathBuf, String),
    #[error("{0:?} is no sender: write an address, or @example.com for all of a domain")]
    Sender(String),
    #[error("{0:?} would be one address, and no domain: write {1}")]
    Star(String, String),
    #[error("there is no directory {0}: the filter makes it when it first starts; is state_dir right?")]
    NoDirectory(PathBuf),
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

/// Whether this may be chosen; what is good goes into `wish`.
pub(super) fn check(
    config: &Config,
    policies: &Policies,
    address: &Address,
    name: &str,
    value: &str,
    wish: &mut Wish,
) -> Result<(), Error> {
    if name == "mark" {
        let mark = match value {
            "header" => MarkAs::Header,
            "folder" if config.policy.spam_folder.is_empty() => return Err(Error::Folder),
            "folder" => MarkAs::Folder,
            _ => return Err(Error::Choice(format!("{name}={value}"))),
        };
        wish.mark = Some(mark);
        return Ok(());
    }
    let status = result(name).ok_or_else(|| Error::Choice(format!("{name}={value}")))?;
    if status == KeyStatus::Valid {
        return Err(Error::Valid(address.mailbox()));
    }
    let open = policies.open_to_users(status);
    if !open.contains(&value) {
        let (id, open) = (value.to_owned(), open.join(", "));
        let elsewhere = policies.open_to_users(KeyStatus::Invalid).contains(&value);
        return Err(match status {
            KeyStatus::Missing if elsewhere => Error::Silent { id, open },
            _ => Error::NotOpen { result: status.word(), id, open },
        });
    }
    wish.policies.insert(status, value.to_owned());
    Ok(())
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
