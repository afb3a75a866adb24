//! Handing the keyring's newest keys to our own submission server, over TLS and for a token.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, UNIX_EPOCH};

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use tracing::{debug, warn};

use super::rate::InvalidAnswers;
use super::stream::Spoken;
use super::{Authority, Error};
use crate::config::{Config, Limits};
use crate::proto::fetch::{Reply, Request, is_token};
use crate::store::{self, Keyring, Opening};

/// What is handed out, and to whom.
pub(super) struct Fetch {
    /// SHA-256 of the token: comparing sums tells nothing of it, not even its length.
    token: [u8; 32],
    keyring: Arc<dyn Keyring>,
    wrong: Mutex<InvalidAnswers>,
}

impl std::fmt::Debug for Fetch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Fetch(…)")
    }
}

impl Fetch {
    /// Reads the token and opens the keyring, where `authority.fetch_token_file` is set.
    pub(super) async fn open(config: &Config, limits: &Limits) -> Result<Option<Fetch>, Error> {
        let path = &config.authority.fetch_token_file;
        if path.as_os_str().is_empty() {
            return Ok(None);
        }
        let token = store::read_secret_line(path)?;
        if !is_token(token.as_bytes()) {
            return Err(Error::Token { path: path.clone() });
        }
        let opening = Opening { busy: limits.store_busy, readers: limits.store_readers };
        let keyring = store::open_keyring(config, opening).await?;
        let wrong = Mutex::new(InvalidAnswers::new(limits.wrong_tokens, limits.invalid_networks));
        Ok(Some(Fetch { token: Sha256::digest(token.as_bytes()).into(), keyring, wrong }))
    }

    pub(super) async fn close(&self) {
        self.keyring.close().await;
    }
}

impl Authority {
    /// Answers one FETCH. Whoever brings a wrong token is told so and heard no more on this connection; a right one always
    /// counts, however many wrong ones came before.
    pub(super) async fn hand_out(&self, fetch: &Fetch, line: &[u8], peer: SocketAddr) -> Spoken {
        let no_more = |reply| Spoken { reply, goes_on: false };
        let Some(Request { seq, address, decoded, token }) = Request::read(line) else { return no_more(None) };
        if !bool::from(fetch.token.ct_eq(&<[u8; 32]>::from(Sha256::digest(token)))) {
            let mut wrong = fetch.wrong.lock().unwrap_or_else(PoisonError::into_inner);
            if !wrong.allow(peer.ip(), Instant::now()) {
                return no_more(None);
            }
            warn!(%peer, "a key was to be fetched with a wrong token: see authority.fetch_token_file");
            return no_more(Reply::Refused.line(seq, address));
        }
        let newest = match self.own(&decoded) {
            Some(own) => fetch.keyring.newest(&own).await,
            None => Ok(None),
        };
        self.tell_trouble(newest.as_ref().err());
        // No answer: the other side uses what it has, or tries again.
        let Ok(newest) = newest else { return no_more(None) };
        let now = self.clock.now();
        let reply = match newest.filter(|newest| newest.expires > now) {
            Some(newest) => Reply::Key {
                expires: newest.expires.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
                sealed: newest.sealed,
            },
            None => Reply::NoKey,
        };
        debug!(%peer, address = %address.escape_ascii(), has_key = reply != Reply::NoKey, "a key was fetched");
        let reply = reply.line(seq, address);
        Spoken { goes_on: reply.is_some(), reply }
    }
}
