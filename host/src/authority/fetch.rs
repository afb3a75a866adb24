//! Handing the keyring's newest keys to our own submission server, over TLS and for a token.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, UNIX_EPOCH};

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use tracing::{debug, error, info, warn};
use zeroize::Zeroizing;

use super::issue::{KeyState, state};
use super::rate::InvalidAnswers;
use super::{Authority, Error};
use crate::config::{Config, Limits};
use crate::proto::address::Mailbox;
use crate::proto::fetch::{Reply, Request, is_token};
use crate::store::{self, KeyRow, Keyring, NewestKey, Opening};

/// What is done with one line.
pub(super) struct Spoken {
    pub(super) reply: Option<Vec<u8>>,
    /// Whether the connection goes on afterwards.
    pub(super) goes_on: bool,
}

/// An address that nobody has (RFC 2606): reading its key shows whether keys can be read.
const NOBODY: &str = "nobody@example.invalid";

/// What is handed out, and to whom.
pub(super) struct Fetch {
    /// SHA-256 of the token: comparing sums tells nothing of it, not even its length.
    token: [u8; 32],
    keyring: Arc<dyn Keyring>,
    wrong: Mutex<InvalidAnswers>,
    /// Whether the keyring could not be read last time.
    troubled: AtomicBool,
}

/// The token of `authority.fetch_token_file`, where it is set.
fn token(config: &Config) -> Result<Option<Zeroizing<String>>, Error> {
    let path = &config.authority.fetch_token_file;
    if path.as_os_str().is_empty() {
        return Ok(None);
    }
    let token = store::read_secret_line(path)?;
    if !is_token(token.as_bytes()) {
        return Err(Error::Token { path: path.clone() });
    }
    Ok(Some(token))
}

/// Whether the token can be used, where one is named.
pub(super) fn check(config: &Config) -> Result<(), Error> {
    token(config).map(|_| ())
}

impl std::fmt::Debug for Fetch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Fetch(…)")
    }
}

impl Fetch {
    /// Reads the token and opens the keyring, where `authority.fetch_token_file` is set.
    pub(super) async fn open(config: &Config, limits: &Limits) -> Result<Option<Fetch>, Error> {
        let Some(token) = token(config)? else { return Ok(None) };
        let opening = Opening { busy: limits.store.busy, readers: limits.store.readers };
        let keyring = store::open_keyring(config, opening).await?;
        let wrong = Mutex::new(InvalidAnswers::new(limits.authority.wrong_tokens, limits.authority.invalid_networks));
        let token = Sha256::digest(token.as_bytes()).into();
        let fetch = Fetch { token, keyring, wrong, troubled: AtomicBool::new(false) };
        // A right that is missing stays missing; a database that is away comes back.
        let read = match Mailbox::parse(NOBODY) {
            Some(nobody) => fetch.keyring.newest(&nobody).await,
            None => Ok(None),
        };
        match read {
            Err(source @ store::Error::NoRight { .. }) => {
                fetch.close().await;
                Err(Error::FetchRight { source })
            }
            read => {
                fetch.tell_trouble(read.as_ref().err());
                Ok(Some(fetch))
            }
        }
    }

    /// Says when trouble with the keyring begins and ends.
    fn tell_trouble(&self, trouble: Option<&store::Error>) {
        match (trouble, self.troubled.swap(trouble.is_some(), Ordering::Relaxed)) {
            (Some(e), false) => error!("the keyring cannot be read, so no key is handed out, and mail waits: {e}"),
            (None, true) => info!("the keyring can be read again, and keys are handed out"),
            _ => {}
        }
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
        // No answer: the other side uses what it has, or tries again.
        let Some(newest) = self.handed_out(fetch, &decoded).await else { return no_more(None) };
        let reply = match newest {
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

    /// The newest key of an address of ours, if this very server still answers VALIDKEY to it; absent: it cannot be told now.
    async fn handed_out(&self, fetch: &Fetch, address: &str) -> Option<Option<NewestKey>> {
        // An empty local part is nobody's.
        let Some(own) = self.own(address).and_then(|own| Mailbox::parse(&own)) else { return Some(None) };
        let newest = fetch.keyring.newest(&own).await;
        fetch.tell_trouble(newest.as_ref().err());
        let Some(newest) = newest.ok()? else { return Some(None) };
        let rows = self.keys.of(&own).await;
        self.tell_trouble(rows.as_ref().err());
        let now = self.clock.now();
        let lives = |row: &KeyRow| state(row, now) == KeyState::Living && row.k.fingerprint() == newest.fingerprint;
        let good = newest.expires > now && rows.ok()?.iter().any(lives);
        Some(good.then_some(newest))
    }
}
