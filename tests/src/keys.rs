//! A domain with all its parts on loopback: its AS, the DNS that leads there, and the filter behind its milter socket.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use addrauth::authority::{Authority, Clock};
use addrauth::config::{Config, Limits, Listen, Milter, Observe, StateDir};
use addrauth::filter::Filter;
use addrauth::mta::Lanes;
use addrauth::mta::milter::{self, serve};
use addrauth::mta::reception::Reception;
use addrauth::policy::Trial;
use addrauth::proto::address::{Address, Mailbox};
use addrauth::proto::key::AuthKey;
use addrauth::proto::seal::Opener;
use addrauth::store::{JournalRow, Keyring, NewestKey, Opening, open_keyring, read_or_make_opener};
use addrauth_lab::mta::{Envelope, Mta, Outcome};
use addrauth_lab::zone::{Records, Zone};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::world::{self, LOOPBACK};

/// The domain.
pub const HOME: &str = "home.example";

/// The domain, running.
pub struct House {
    /// Its AS.
    pub authority: Arc<Authority>,
    /// What the filter was set up with.
    pub config: Config,
    /// The filter itself.
    pub filter: Arc<Filter>,
    /// Where its milter listens.
    pub place: Listen,
    /// Seconds by which the AS's clock is ahead of ours.
    pub ahead: Arc<AtomicU64>,
    answering: Option<(CancellationToken, JoinHandle<()>)>,
    door: CancellationToken,
    state: tempfile::TempDir,
    _judge: watch::Sender<Arc<Filter>>,
    _zone: Zone,
}

/// An address that there is.
pub fn address(text: &str) -> Address {
    Address::parse(text.as_bytes(), true).unwrap()
}

/// The address of a sender who can be told.
pub fn sender(text: &str) -> Option<Address> {
    Some(address(text))
}

/// The mailbox of an address.
pub fn mailbox(text: &str) -> Mailbox {
    Mailbox::parse(text).unwrap()
}

impl House {
    /// The domain, with the keyring's pair made; `change` has the last word on the filter's configuration.
    pub async fn build(change: impl FnOnce(&mut Config)) -> House {
        let ahead = Arc::new(AtomicU64::new(0));
        let seconds = ahead.clone();
        let clock = Clock::new(move || SystemTime::now() + Duration::from_secs(seconds.load(Ordering::SeqCst)));
        let state = tempfile::tempdir().unwrap();
        let limits = Arc::new(Limits::default());
        let mut of_as = Config { state_dir: StateDir(state.path().join("as")), ..Config::default() };
        of_as.authority.domains = vec![HOME.parse().unwrap()];
        of_as.authority.listen = vec![(LOOPBACK, 0).into()];
        let authority = Arc::new(Authority::with_clock(&of_as, &limits, clock).await.unwrap());
        let sockets = authority.bind().unwrap();
        let port = sockets[0].local_addr().unwrap().port();
        let stop = CancellationToken::new();
        let task = tokio::spawn(authority.clone().serve(sockets, stop.clone()));

        let records = Records::default().txt(HOME, &format!("AS=as.{HOME}:{port}; m=all"));
        let zone = Zone::start(records.address(&format!("as.{HOME}"), LOOPBACK)).await.unwrap();
        let mut config = Config {
            hostname: format!("mx.{HOME}"),
            final_domains: vec![HOME.parse().unwrap()],
            observe: Observe(false),
            state_dir: StateDir(state.path().join("filter")),
            verify: world::config(&zone),
            ..Config::default()
        };
        std::fs::create_dir(&config.state_dir.0).unwrap();
        read_or_make_opener(&config.state_dir.0.join("keyring.key")).unwrap();
        change(&mut config);
        let filter =
            Arc::new(Filter::builder(config.clone(), Trial::waived()).limits(limits.clone()).open().await.unwrap());
        let milter = Milter { listen: vec!["inet:127.0.0.1:0".parse().unwrap()], group: String::new() };
        let listeners = milter::bind(&milter).unwrap();
        let place = listeners[0].local();
        let (judge, receiver) = watch::channel(filter.clone());
        let door = CancellationToken::new();
        tokio::spawn(serve(listeners, Reception::open(receiver, limits, door.clone()), Lanes::here()));
        let answering = Some((stop, task));
        House { authority, config, filter, place, ahead, answering, door, state, _judge: judge, _zone: zone }
    }

    /// Has the AS make a key.
    pub async fn issue(&self, text: &str) -> AuthKey {
        self.authority.issue(&address(text)).await.unwrap().key.clone()
    }

    /// Time passes at the AS.
    pub fn pass(&self, seconds: u64) {
        self.ahead.fetch_add(seconds, Ordering::SeqCst);
    }

    /// From now on the AS answers nobody.
    pub async fn silence(&mut self) {
        if let Some((stop, task)) = self.answering.take() {
            stop.cancel();
            task.await.unwrap();
        }
    }

    /// Hands a message to the milter as Postfix does.
    pub async fn send(&self, envelope: &Envelope, message: &str) -> Outcome {
        let mut mta = Mta::connect(&self.place).await.unwrap();
        let outcome = mta.send(envelope, message.as_bytes()).await.unwrap();
        mta.quit().await.unwrap();
        outcome
    }

    /// The keyring, opened beside the filter.
    pub async fn keyring(&self) -> Arc<dyn Keyring> {
        let opening = Opening { busy: Duration::from_secs(5), readers: 1 };
        open_keyring(&self.config, opening).await.unwrap()
    }

    /// The key that the keyring has of an address, and when it ends.
    pub async fn kept(&self, text: &str) -> Option<(AuthKey, SystemTime)> {
        let newest = self.keyring().await.newest(&mailbox(text)).await.unwrap()?;
        Some((self.opener().open(&newest.address, &newest.sealed).unwrap(), newest.expires))
    }

    /// Puts a key into the keyring, as if it had been learned.
    pub async fn keep(&self, text: &str, key: &AuthKey, expires: SystemTime) {
        let sealed = self.opener().seal_to().seal(text, key).unwrap();
        let fingerprint = key.verify_key().fingerprint();
        let newest = NewestKey { address: text.into(), fingerprint, sealed, learned: SystemTime::now(), expires };
        self.keyring().await.learn(&newest).await.unwrap();
    }

    /// The secret half.
    pub fn opener(&self) -> Opener {
        read_or_make_opener(&self.config.state_dir.0.join("keyring.key")).unwrap()
    }

    /// The filter's journal, newest first.
    pub async fn journal(&self) -> Vec<JournalRow> {
        let custody = self.filter.custody().unwrap();
        custody.flush().await;
        custody.journal(100).await.unwrap()
    }

    /// All octets below its state directories and what is written to its journal: nowhere may a key stand.
    pub fn octets(&self) -> Vec<u8> {
        let mut all = Vec::new();
        let mut folders = vec![self.state.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap().flatten() {
                match entry.path().is_dir() {
                    true => folders.push(entry.path()),
                    false => all.extend(std::fs::read(entry.path()).unwrap()),
                }
            }
        }
        all
    }
}

impl Drop for House {
    fn drop(&mut self) {
        self.door.cancel();
        if let Some((stop, _)) = &self.answering {
            stop.cancel();
        }
    }
}
