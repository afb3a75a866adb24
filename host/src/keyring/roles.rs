//! Which part this host plays for the keys of our own addresses, and what that needs: opened once, looked after hourly.

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use tracing::{info, warn};

use super::fetch::Fetched;
use super::learn::Learner;
use super::owner::Owners;
use super::stamp::Stamper;
use super::{Error, Source, Stored};
use crate::config::{self, Config, Limits};
use crate::proto::seal::Opener;
use crate::store::{self, Keyring, KeyringRow, Opening};

/// What this host does with the keys of our own addresses.
#[derive(Debug)]
pub struct Roles {
    settings: config::Keyring,
    owners: Owners,
    /// Absent where keys are neither learned nor stamped out of it.
    keyring: Option<Arc<dyn Keyring>>,
    learner: Option<Learner>,
    stamper: Option<Stamper>,
    limits: Arc<Limits>,
}

impl Roles {
    /// Opens what the roles need that are played at all: the keyring, and for each its half of the pair.
    pub async fn open(config: &Config, limits: &Arc<Limits>) -> Result<Roles, Error> {
        let settings = config.keyring.clone();
        let owners = Owners::new(&settings, limits)?;
        let (learns, stamps) = (settings.learn.is_anywhere(), settings.stamp.is_anywhere());
        let keyring = match learns || stamps && settings.fetch_from.is_empty() {
            true => {
                let opening = Opening { busy: limits.store_busy, readers: limits.store_readers };
                Some(store::open_keyring(config, opening).await?)
            }
            false => None,
        };
        let learner = match &keyring {
            Some(keyring) if learns => Some(Learner::new(Arc::clone(keyring), store::keyring_seal_to(config)?, limits)),
            _ => None,
        };
        let stamper = match stamps {
            true => Some(Stamper::new(source(config, keyring.as_ref(), limits)?, limits)),
            false => None,
        };
        Ok(Roles { settings, owners, keyring, learner, stamper, limits: Arc::clone(limits) })
    }

    /// Whether what was opened for one configuration serves the other.
    pub fn opens_alike(one: &Config, other: &Config) -> bool {
        let parts = |config: &Config| {
            let Config { keyring, store, state_dir, verify, .. } = config.clone();
            (keyring, store, state_dir, verify.tls_roots)
        };
        parts(one) == parts(other)
    }

    /// Which logins own which addresses.
    pub fn owners(&self) -> &Owners {
        &self.owners
    }

    /// Who learns keys from mail that this daemon of the MTA took, if anybody does.
    pub fn learner(&self, daemon: &str) -> Option<&Learner> {
        self.learner.as_ref().filter(|_| self.settings.learn.covers(daemon))
    }

    /// Who stamps mail that this daemon of the MTA took, if anybody does.
    pub fn stamper(&self, daemon: &str) -> Option<&Stamper> {
        self.stamper.as_ref().filter(|_| self.settings.stamp.covers(daemon))
    }

    /// The hourly look: warns of addresses whose newest key ends within a day, which says that their AS makes no others, and
    /// deletes what ended so long ago that no AS vouches for it any more. What fails is told, and done the next time.
    pub async fn look(&self, now: SystemTime) {
        let Some(keyring) = &self.keyring else { return };
        let swept = match now.checked_sub(self.limits.expired_kept) {
            Some(before) => keyring.sweep(before).await,
            None => Ok(0),
        };
        match swept {
            Ok(0) => {}
            Ok(rows) => info!(rows, "ended keys deleted from the keyring"),
            Err(error) => warn!("ended keys are not deleted from the keyring: {error}"),
        }
        if self.stamper.is_none() {
            return;
        }
        match keyring.ending(now + self.limits.key_alarm, self.limits.keys_ending).await {
            Ok(rows) => self.warn(&rows, now),
            Err(error) => warn!("whether keys end soon cannot be told: {error}"),
        }
    }

    fn warn(&self, rows: &[KeyringRow], now: SystemTime) {
        let way = "its Authentication Server should have brought another one long before; `addrauth keyring forget ADDRESS` where \
                   an address gets no more";
        let (ended, soon): (Vec<&KeyringRow>, Vec<&KeyringRow>) = rows.iter().partition(|row| row.expires <= now);
        for (rows, what) in [(soon, "ends within a day"), (ended, "has ended: their mail goes out without one")] {
            if rows.is_empty() {
                continue;
            }
            let named: Vec<&str> = rows.iter().take(self.limits.keys_named).map(|row| row.address.as_str()).collect();
            let others = if rows.len() > named.len() { " and others" } else { "" };
            let count = rows.len();
            warn!(addresses = count, "the newest key of {}{others} {what}; {way}", named.join(", "));
        }
    }

    /// Closes the keyring; every later verb fails.
    pub async fn close(&self) {
        if let Some(keyring) = &self.keyring {
            keyring.close().await;
        }
    }
}

/// Where the keys come from that are stamped: the AS itself where `keyring.fetch_from` says so, else the keyring.
fn source(config: &Config, keyring: Option<&Arc<dyn Keyring>>, limits: &Arc<Limits>) -> Result<Arc<dyn Source>, Error> {
    let path = store::keyring_key(config);
    let opener = opener(&path)?;
    let seal_to = &config.keyring.seal_to;
    if !seal_to.is_empty() && seal_to.parse() != Ok(opener.seal_to()) {
        return Err(Error::OtherPair { path });
    }
    if !config.keyring.fetch_from.is_empty() {
        return Ok(Arc::new(Fetched::new(config, opener, limits)?));
    }
    let keyring = keyring.ok_or(Error::NoPair { path })?;
    Ok(Arc::new(Stored::new(Arc::clone(keyring), opener)))
}

/// The secret half; read once, at the start.
fn opener(path: &Path) -> Result<Opener, Error> {
    let octets = match store::read_secret(path) {
        Err(store::Error::SecretFile { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            return Err(Error::NoPair { path: path.to_owned() });
        }
        read => read?,
    };
    Opener::parse(str::from_utf8(&octets).unwrap_or_default())
        .map_err(|bad| store::Error::Secret { path: path.to_owned(), what: format!("is {bad}") }.into())
}
