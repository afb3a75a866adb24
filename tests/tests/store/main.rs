//! One suite for the stores of the AS's table and the keyring: SQLite, PostgreSQL and memory mean the same by each verb.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use addrauth::config::Config;
use addrauth::proto::key::VerifyKey;
use addrauth::proto::seal::Sealed;
use addrauth::store::{self, KeyTable, Keyring, MemoryKeyring, MemoryKeys, NewKey, NewestKey, Opening, SettingsRow};
use addrauth_tests::keys::mailbox;
use addrauth_tests::postgres::Postgres;

/// Makes each of these tests one for each store, in a module of its name.
macro_rules! on_each_store {
    ($($name:ident)*) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(crate::Bed::sqlite()).await;
            })*
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                if let Some(bed) = crate::Bed::postgres().await {
                    super::$name(bed).await;
                }
            })*
        }
        mod memory {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(crate::Bed::memory()).await;
            })*
        }
    };
}

mod addresses;
mod alike;
mod changes;
mod command;
mod encoding;
mod forged;
mod keyring;
mod keys;
mod lost;
mod many;
mod openers;
mod posts;
mod rights;
mod together;
mod upgrade;

const OPENING: Opening = Opening { busy: Duration::from_secs(10), readers: 4 };

/// A store of its own for one test.
struct Bed {
    config: Config,
    memory: Option<(Arc<MemoryKeys>, Arc<MemoryKeyring>)>,
    /// In PostgreSQL: which database.
    database: String,
    _dir: tempfile::TempDir,
}

impl Bed {
    fn sqlite() -> Bed {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        config.state_dir.0 = dir.path().join("state");
        config.authority.domains = vec!["example.com".parse().unwrap()];
        Bed { config, memory: None, database: String::new(), _dir: dir }
    }

    fn memory() -> Bed {
        Bed { memory: Some(Default::default()), ..Bed::sqlite() }
    }

    /// In the cluster that all tests share.
    async fn postgres() -> Option<Bed> {
        Some(Bed::in_cluster(Postgres::shared()?).await)
    }

    async fn in_cluster(cluster: &Postgres) -> Bed {
        let mut bed = Bed::sqlite();
        bed.database = cluster.database();
        bed.config.store.url = cluster.url("postgres", &bed.database);
        assert_eq!(store::migrate(&bed.config.store, OPENING).await.unwrap().left, None);
        bed
    }

    /// A handle on the AS's table; every call opens another one.
    async fn keys(&self) -> Arc<dyn KeyTable> {
        match &self.memory {
            Some((keys, _)) => keys.clone(),
            None => store::open_keys(&self.config, OPENING).await.unwrap(),
        }
    }

    /// A handle on the keyring.
    async fn keyring(&self) -> Arc<dyn Keyring> {
        match &self.memory {
            Some((_, keyring)) => keyring.clone(),
            None => store::open_keyring(&self.config, OPENING).await.unwrap(),
        }
    }

    fn name(&self) -> &'static str {
        match (&self.memory, self.config.store.url.is_empty()) {
            (Some(_), _) => "memory",
            (None, true) => "SQLite",
            (None, false) => "PostgreSQL",
        }
    }

    /// Octets on the disk: the files, or the database without the server's log of changes.
    fn disk(&self) -> u64 {
        if !self.database.is_empty() {
            let size = format!("SELECT pg_database_size('{}')", self.database);
            let size = Postgres::shared().and_then(|cluster| cluster.sql("postgres", &self.database, &size).ok());
            return size.and_then(|size| size.parse().ok()).unwrap_or_default();
        }
        let files = std::fs::read_dir(&self.config.state_dir.0).into_iter().flatten().flatten();
        files.filter_map(|file| file.metadata().ok()).map(|found| found.len()).sum()
    }

    /// Whether what it keeps outlives a handle.
    fn is_durable(&self) -> bool {
        self.memory.is_none()
    }
}

/// Whose addresses have their turn.
fn domains() -> Vec<String> {
    ["example.com", "x.test", "example.net"].map(str::to_owned).to_vec()
}

fn at(seconds: i64) -> SystemTime {
    store::time(seconds)
}

fn k(octet: u8) -> VerifyKey {
    VerifyKey::from_octets([octet; 32])
}

/// Something sealed; the stores do not look inside.
fn sealed(text: &str) -> Sealed {
    Sealed::from_octets(text.as_bytes().to_vec())
}

/// A key made at a time, living for 1,000 s.
fn new_key(address: &str, created: i64) -> NewKey {
    NewKey {
        address: address.into(),
        k: k(7),
        created: at(created),
        expires: at(created + 1_000),
        others_end: None,
        turn: None,
        only_due: false,
        post: None,
    }
}

/// The same where it is the address's turn, with a post.
fn turn_key(address: &str, created: i64, turn: i64) -> NewKey {
    let post = Some(sealed(&format!("{address} {created}")));
    NewKey { turn: Some(at(turn)), only_due: true, post, ..new_key(address, created) }
}

fn row(address: &str, agi: Option<u64>, due: i64) -> SettingsRow {
    let agi = agi.map(Duration::from_secs);
    SettingsRow { address: address.into(), agi, avt: None, created: at(100), due: at(due) }
}

fn learned(address: &str, fingerprint: &str, expires: i64) -> NewestKey {
    NewestKey {
        address: address.into(),
        fingerprint: fingerprint.into(),
        sealed: sealed(fingerprint),
        learned: at(100),
        expires: at(expires),
    }
}
