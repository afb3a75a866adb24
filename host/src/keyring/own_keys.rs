//! What this host does with the keys of our own addresses, and what that needs: opened once, looked after hourly.

use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use tracing::{info, warn};

use super::fetch::Fetched;
use super::learn::Learner;
use super::owner::Owners;
use super::stamp::Stamper;
use super::{Error, Source, Stored};
use crate::config::{self, Config, Limits};
use crate::files;
use crate::proto::seal::Opener;
use crate::store::{self, KeyAges, Keyring, KeyringRow, Opening};

/// When a secret's file was written, and which file it is; absent where there is none, else why it cannot be looked at.
type Secret = Result<Option<(SystemTime, u64)>, ErrorKind>;

/// The keys of our own addresses, as this host learns them and stamps mail with them.
#[derive(Debug)]
pub struct OwnKeys {
    settings: config::Keyring,
    /// Whether the keyring is a file of ours. In a shared database whoever stamps may only read it.
    is_file: bool,
    owners: Owners,
    /// Absent where keys are neither learned nor stamped out of it.
    keyring: Option<Arc<dyn Keyring>>,
    learner: Option<Learner>,
    stamper: Option<Stamper>,
    /// The secrets as they were when they were read.
    secrets: Vec<Secret>,
    limits: Arc<Limits>,
    opened: Instant,
}

impl OwnKeys {
    /// Opens what learning and stamping need where they are switched on: the keyring, and for each its half of the pair.
    pub async fn open(config: &Config, limits: &Arc<Limits>) -> Result<OwnKeys, Error> {
        let settings = config.keyring.clone();
        // Before they are read: what is changed meanwhile is read again.
        let before = secrets(config);
        let owners = Owners::new(&settings, limits)?;
        let (learns, stamps) = (settings.learn.is_anywhere(), settings.stamp.is_anywhere());
        let keyring = match learns || stamps && settings.fetch_from.is_empty() {
            true => {
                let opening = Opening { busy: limits.store.busy, readers: limits.store.readers };
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
        // A pair that was made just now is the one that was read.
        let now = secrets(config);
        let secrets =
            before.into_iter().zip(now).map(|(before, now)| if before == Ok(None) { now } else { before }).collect();
        let is_file = config.store.url.is_empty();
        Ok(OwnKeys {
            settings,
            is_file,
            owners,
            keyring,
            learner,
            stamper,
            secrets,
            limits: Arc::clone(limits),
            opened: Instant::now(),
        })
    }

    /// Whether what was opened for one configuration serves the other: the same settings, and files of secrets that nobody
    /// changed since.
    pub fn serves(&self, one: &Config, other: &Config) -> bool {
        let parts = |config: &Config| {
            let Config { keyring, store, state_dir, verify, .. } = config.clone();
            (keyring, store, state_dir, verify.tls_roots)
        };
        parts(one) == parts(other) && self.secrets == secrets(one)
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

    /// The hourly look: whoever stamps warns of addresses whose newest key ends within a day, which says that their AS makes no
    /// others; whoever may write deletes what ended so long ago that no AS vouches for it any more, but nothing in the first
    /// `limits.authority.key_sweep`: a host may come up with a clock that is ahead. What fails is told, and done the next time.
    pub async fn look(&self, now: SystemTime) {
        let Some(keyring) = &self.keyring else { return };
        let settled = self.opened.elapsed() >= self.limits.authority.key_sweep;
        let swept = match now.checked_sub(self.limits.authority.expired_kept).filter(|_| settled) {
            Some(before) if self.is_file || self.learner.is_some() => keyring.sweep(before).await,
            _ => Ok(0),
        };
        match swept {
            Ok(0) => {}
            Ok(rows) => info!(rows, "ended keys deleted from the keyring"),
            Err(error) => warn!("ended keys are not deleted from the keyring: {error}"),
        }
        if self.stamper.is_none() {
            return;
        }
        match keyring.ending(now + self.limits.keyring.alarm, self.limits.keyring.keys_ending).await {
            Ok(rows) => self.warn(&rows, now),
            Err(error) => warn!("whether keys end soon cannot be told: {error}"),
        }
    }

    /// How old the keys in the keyring are now, by domain; absent where no keyring is read or written here.
    ///
    /// # Errors
    /// It cannot be read.
    pub async fn ages(&self, now: SystemTime) -> Result<Option<Vec<KeyAges>>, Error> {
        match &self.keyring {
            Some(keyring) => Ok(Some(keyring.ages(now).await?)),
            None => Ok(None),
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
            let named: Vec<&str> =
                rows.iter().take(self.limits.keyring.keys_named).map(|row| row.address.as_str()).collect();
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

/// The files of secrets as they are now.
fn secrets(config: &Config) -> Vec<Secret> {
    let told = |path: PathBuf| match std::fs::metadata(path) {
        Ok(known) => Ok(Some((known.modified().map_err(|e| e.kind())?, known.ino()))),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e.kind()),
    };
    [config.keyring.fetch_token_file.clone(), store::keyring_key(config)].map(told).into()
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
pub(super) fn opener(path: &Path) -> Result<Opener, Error> {
    let octets = match store::read_secret(path) {
        Err(store::Error::SecretFile { source, .. }) if source.kind() == ErrorKind::NotFound => {
            return Err(Error::NoPair { path: path.to_owned() });
        }
        read => read?,
    };
    Opener::parse(str::from_utf8(files::without_mark(&octets)).unwrap_or_default())
        .map_err(|bad| store::Error::Secret { path: path.to_owned(), what: format!("is {bad}") }.into())
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Mutex, PoisonError};
    use std::time::Duration;

    use super::*;
    use crate::config::{StateDir, Where};
    use crate::proto::key::AuthKey;
    use crate::store::NewestKey;

    /// What was said to the log.
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl Write for Log {
        fn write(&mut self, octets: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(octets);
            Ok(octets.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    async fn look(own_keys: &OwnKeys, now: SystemTime) -> String {
        let log = Log::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
        let guard = tracing::subscriber::set_default(subscriber);
        own_keys.look(now).await;
        drop(guard);
        let said = log.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        String::from_utf8(said).unwrap()
    }

    #[tokio::test]
    async fn a_secret_that_was_changed_in_its_file_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config { state_dir: StateDir(dir.path().to_owned()), ..Config::default() };
        config.keyring.learn = Where::All(true);
        config.keyring.fetch_token_file = dir.path().join("token");
        let own_keys = OwnKeys::open(&config, &Arc::default()).await.unwrap();
        assert!(own_keys.serves(&config, &config), "a pair that it made itself is no change");
        for name in ["token", "keyring.key"] {
            let own_keys = OwnKeys::open(&config, &Arc::default()).await.unwrap();
            assert!(own_keys.serves(&config, &config));
            let text = std::fs::read(dir.path().join(name)).unwrap_or_else(|_| b"a token".to_vec());
            std::fs::write(dir.path().join("new"), text).unwrap();
            std::fs::rename(dir.path().join("new"), dir.path().join(name)).unwrap();
            assert!(!own_keys.serves(&config, &config), "{name}");
        }
    }

    #[tokio::test]
    async fn the_hourly_look_warns_a_day_before_a_key_ends_and_sweeps_what_ended_long_ago() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config { state_dir: StateDir(dir.path().to_owned()), ..Config::default() };
        config.keyring.learn = Where::All(true);
        config.keyring.stamp = Where::All(true);
        let limits = Arc::new(Limits::default().with(|limits| {
            limits.keyring.keys_named = 2;
            limits.authority.key_sweep = Duration::ZERO;
        }));
        let own_keys = OwnKeys::open(&config, &limits).await.unwrap();
        let just_started = OwnKeys::open(&config, &Arc::new(Limits::default())).await.unwrap();
        let keyring = own_keys.keyring.clone().unwrap();
        let (now, hour) = (SystemTime::now(), Duration::from_secs(3_600));
        let learn = async |address: &str, expires: SystemTime| {
            let key = AuthKey::parse(&[b'k'; 64]).unwrap();
            let sealed = store::keyring_seal_to(&config).unwrap().seal(address, &key).unwrap();
            let fingerprint = key.verify_key().fingerprint();
            let key = NewestKey { address: address.into(), fingerprint, sealed, learned: now, expires };
            keyring.learn(&key).await.unwrap();
        };
        assert_eq!(look(&own_keys, now).await, "", "nothing is amiss");
        learn("fresh@home.example", now + 25 * hour).await;
        assert_eq!(look(&own_keys, now).await, "");
        for name in ["a", "b", "c"] {
            learn(&format!("{name}@home.example"), now + 23 * hour).await;
        }
        learn("late@home.example", now - hour).await;
        learn("old@home.example", now - 15 * 24 * hour).await;
        assert!(!look(&just_started, now).await.contains("deleted"), "its clock may be ahead");
        assert_eq!(keyring.rows(None).await.unwrap().len(), 6);
        let said = look(&own_keys, now).await;
        assert!(said.contains("a@home.example, b@home.example and others ends within a day"), "{said}");
        assert!(said.contains("late@home.example has ended") && said.contains("addresses=3"), "{said}");
        assert!(!said.contains("fresh@") && !said.contains("old@") && said.contains("deleted"), "{said}");
        assert_eq!(keyring.rows(None).await.unwrap().len(), 5);
        own_keys.close().await;
        assert!(look(&own_keys, now).await.contains("cannot be told"), "what fails is told");
    }
}
