//! The keys of our own addresses: learn them from the mail that brings them, stamp the mail that our logins send.

mod check;
pub mod fetch;
pub mod learn;
mod own_keys;
pub mod owner;
pub mod stamp;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;
use quick_cache::sync::Cache;

use crate::config::Limits;
use crate::proto::address::Address;
use crate::proto::key::AuthKey;
use crate::proto::seal::Opener;
use crate::store::{self, Keyring};

pub use check::check;
pub use own_keys::OwnKeys;

/// What can go wrong with the keys of our own addresses.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The keyring, or a secret.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// There is no secret half, and keys are to be stamped.
    #[error(
        "keyring.stamp needs {path}, the secret half of the keyring's pair, which is not there: `addrauth keyring key` makes the pair \
         here, and prints the half that belongs into keyring.seal_to where keys are learned or made"
    )]
    NoPair {
        /// The file.
        path: PathBuf,
    },
    /// Keys would be sealed to a half whose other half is not this one.
    #[error(
        "keyring.seal_to is not the public half of {path}: what is learned here could not be stamped here. `addrauth keyring key` \
         prints the right one"
    )]
    OtherPair {
        /// The file of the secret half.
        path: PathBuf,
    },
    /// A table of `keyring.owners` is not spelt right.
    #[error("keyring.owners: {0:?} is no table: write it as Postfix does, such as \"hash:/etc/postfix/sender_logins\"")]
    Spelling(String),
    /// A domain for bare logins that is none.
    #[error("keyring.login_domain = {0:?} is no domain: write a name such as \"example.com\", without @")]
    LoginDomain(String),
    /// A domain where rows of bare users count that is none.
    #[error(
        "keyring.local_domains: {0:?} is no domain: write names such as \"example.com\", as `postconf -x myorigin mydestination` prints them"
    )]
    LocalDomain(String),
    /// A table of `keyring.owners` cannot be read.
    #[error("keyring.owners: {table} cannot be read: {text}")]
    Table {
        /// The table.
        table: String,
        /// The reason.
        text: String,
    },
    /// The system gives no random octets.
    #[error("a key cannot be sealed: the system gives no random octets")]
    NoRandom,
    /// Owners were not told in time.
    #[error("keyring.owners: no answer within {0:?}")]
    LateOwners(Duration),
    /// The keyring did not answer in time.
    #[error("the keyring gave no answer within {0:?}")]
    Late(Duration),
    /// A key of the keyring does not open.
    #[error(
        "the key of {address} in the keyring was sealed to another key: set keyring.seal_to, where keys are learned or made, to what \
         `addrauth keyring key` prints on the host that stamps; `addrauth keyring forget {address}` makes room for the next"
    )]
    Shut {
        /// The address.
        address: String,
    },
    /// What fetching needs is not there.
    #[error("keys cannot be fetched from the AS: keyring.{what}")]
    FetchSetup {
        /// The setting or the file, and what is wrong with it.
        what: String,
    },
    /// The AS was to hand a key over, and did not.
    #[error("cannot fetch the key of {address} from {from}: {text}")]
    Fetch {
        /// The address.
        address: String,
        /// The AS, as HOST:PORT.
        from: String,
        /// The reason.
        text: String,
    },
}

/// Where the keys come from that are stamped.
#[async_trait]
pub trait Source: fmt::Debug + Send + Sync {
    /// The newest key of an address and when it ends, whether it has ended or not; absent where there is none.
    async fn newest(&self, address: &Address) -> Result<Option<(AuthKey, SystemTime)>, Error>;
}

/// The keyring as a source: it is opened here alone.
#[derive(Debug)]
pub struct Stored {
    keyring: Arc<dyn Keyring>,
    opener: Opener,
}

impl Stored {
    /// The keys in this keyring, sealed to this pair.
    pub fn new(keyring: Arc<dyn Keyring>, opener: Opener) -> Stored {
        Stored { keyring, opener }
    }
}

#[async_trait]
impl Source for Stored {
    async fn newest(&self, address: &Address) -> Result<Option<(AuthKey, SystemTime)>, Error> {
        let Some(newest) = self.keyring.newest(&address.mailbox()).await? else { return Ok(None) };
        match self.opener.open(&newest.address, &newest.sealed) {
            Ok(key) => Ok(Some((key, newest.expires))),
            Err(_) => Err(Error::Shut { address: newest.address }),
        }
    }
}

/// The warnings of the last hour (`limits.keyring.watch`): a log line for each message would drown the others.
pub struct RecentWarnings {
    warned: Cache<String, Instant>,
    span: Duration,
}

impl RecentWarnings {
    /// Nothing was warned about yet.
    pub fn new(limits: &Limits) -> RecentWarnings {
        RecentWarnings { warned: Cache::new(limits.keyring.keys_warned), span: limits.keyring.watch }
    }

    /// Whether it is time to warn about this; if so, it is done with for an hour.
    pub fn is_due(&self, what: &str) -> bool {
        let due = self.warned.get(what).is_none_or(|at| at.elapsed() >= self.span);
        if due {
            self.warned.insert(what.to_owned(), Instant::now());
        }
        due
    }
}

impl fmt::Debug for RecentWarnings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RecentWarnings({})", self.warned.len())
    }
}
