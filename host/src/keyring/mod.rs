//! The keys of our own addresses: learn them from the mail that brings them, stamp the mail that our logins send.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;

use crate::proto::key::AuthKey;
use crate::proto::seal::Opener;
use crate::store::{self, Keyring};

/// What can go wrong with the keys of our own addresses.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The keyring, or a secret.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// A key of the keyring does not open.
    #[error(
        "the key of {address} in the keyring was sealed to another key: set keyring.seal_to, where keys are learned or made, to what \
         `addrauth keyring key` prints on the host that stamps; `addrauth keyring forget {address}` makes room for the next"
    )]
    Shut {
        /// The address.
        address: String,
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
    /// The newest key of an address (folded here) and when it ends, whether it has ended or not; absent where there is none.
    async fn newest(&self, address: &str) -> Result<Option<(AuthKey, SystemTime)>, Error>;
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
    async fn newest(&self, address: &str) -> Result<Option<(AuthKey, SystemTime)>, Error> {
        let Some(newest) = self.keyring.newest(address).await? else { return Ok(None) };
        match self.opener.open(&newest.address, &newest.sealed) {
            Ok(key) => Ok(Some((key, newest.expires))),
            Err(_) => Err(Error::Shut { address: newest.address }),
        }
    }
}
