//! Verbs over the database: callers say what they mean, and SQL stays in this room.
//!
//! Three things are kept, by roles with different rights. The AS's addresses and keys ([`KeyTable`]) and the keyring of our
//! own addresses ([`Keyring`]) are traits, since they may be shared by several hosts: SQLite files in the state directory
//! (`authority.db`, `keyring.db`), one PostgreSQL database, or memory. What a host took responsibility for, its journal, its
//! quarantine and its outbox ([`Ledger`]), stays on its own disk, in `filter.db`: no message waits for another machine. All
//! are durable at commit, and know the version of their schema; SQLite files have mode 0600.

mod addresses;
mod block;
mod changes;
mod choices;
mod commits;
mod erase;
mod forged;
mod held;
mod journal;
mod keyring;
mod keys;
mod known;
mod ledger;
mod memory;
mod noted;
mod octets;
mod outbox;
mod packed;
mod plan;
#[cfg(feature = "postgres")]
mod postgres;
mod posts;
mod quarantine;
mod reason;
mod record;
mod register;
mod remembered;
mod rights;
mod scrub;
mod secret;
mod sqlite;
mod status;
mod summary;
mod words;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub use addresses::{Addresses, SettingsRow};
pub use block::Tally;
pub use changes::{Changed, Changes, LogPlace, Look};
pub use choices::{OWN_RULES, UserRow, wanted};
pub use erase::{Erased, StillNamed};
pub use forged::{ForgedRow, Forgeries};
pub use held::{Held, HeldFor, Kept, UnderWay};
pub use journal::{Columns, Entry, Found, HeldTrace, JournalRow, NewRow, Search, SentTrace, Traces, Wanted};
pub use keyring::{KeyAges, Keyring, KeyringRow, Learned, NewestKey};
pub use keys::{Added, KeyRow, Keys, NewKey, OUTLIVES, RunningOut};
pub use ledger::Ledger;
pub use memory::{MemoryKeyring, MemoryKeys};
pub use noted::KnownSender;
pub use outbox::{Caps, Collected, Draft, Due, OutboxRow, Withheld};
#[cfg(feature = "postgres")]
pub use postgres::{Copied, CopiedTable, Migrated, PostgresKeyring, PostgresKeys, copy, migrate};
pub use posts::{Owing, Post, PostRow, Posts};
pub use quarantine::{Released, Sought};
pub use reason::{Reason, Upon};
pub use record::Recorded;
pub use register::{AccountRow, Act, ActRow, Holder, Link, LinkAct, Register, Role, Session, TokenHash};
pub use rights::is_there;
pub use scrub::ERASED;
pub use secret::{
    check_keyring_seal_to, check_post_key, keyring_key, keyring_seal_to, post_opener, post_seal_to,
    read_or_make_opener, read_or_make_secret, read_secret, read_secret_line,
};
pub use sqlite::{HEADER, SqliteKeyring, SqliteKeys, check_version, prepare_dir};
pub use status::{Schema, Status};
pub use summary::{COUNTED_DOMAINS, CountedDomains, Counts, SHOWN_DOMAINS, Summary};
pub use words::{Ending, Kind, PostEnd, RowResult, RowVerdict, Sending, UnknownWord};

use crate::config::Config;
pub use crate::proto::address::folded;

/// The verbs of the Authentication Server, by subject.
pub trait KeyTable: Keys + Addresses + Forgeries + Posts + std::fmt::Debug + Send + Sync {
    /// The log of changes of a table whose short reads ([`Keys::of_all`], [`Changes::changes`]) are calls on the caller's own thread,
    /// done when they are first polled. There is none where a table is asked over a connection: what is remembered of it could be
    /// told by its time from what has to be asked for, although both leave at the same time by the server's clock. Whoever asks
    /// from the same machine feels that another process ran meanwhile, or did not (`tests/bench/told.c`).
    fn log(&self) -> Option<&dyn Changes>;
}

/// Whether the settings of `[store]` can be used; connects to nothing.
pub fn check(config: &Config) -> Result<(), Error> {
    let opening = Opening { busy: Duration::from_secs(2), readers: 1 };
    if config.store.url.is_empty() { Ok(()) } else { shared::check(config, opening) }
}

/// Opens the AS's table where `[store]` says. A file is made where there is none; tables in PostgreSQL are not, and where
/// its server does not answer, the verbs fail until it does.
pub async fn open_keys(config: &Config, opening: Opening) -> Result<Arc<dyn KeyTable>, Error> {
    if config.store.url.is_empty() {
        Ok(Arc::new(SqliteKeys::open(&config.state_dir.0, opening).await?))
    } else {
        shared::keys(config, opening).await
    }
}

/// Opens the keyring where `[store]` says; as [`open_keys`].
pub async fn open_keyring(config: &Config, opening: Opening) -> Result<Arc<dyn Keyring>, Error> {
    if config.store.url.is_empty() {
        Ok(Arc::new(SqliteKeyring::open(&config.state_dir.0, opening).await?))
    } else {
        shared::keyring(config, opening).await
    }
}

/// How the tables stand that `[store]` names. Nothing is made or changed.
pub async fn status(config: &Config, opening: Opening) -> Result<Status, Error> {
    if config.store.url.is_empty() {
        sqlite::status(&config.state_dir.0, opening).await
    } else {
        shared::status(config, opening).await
    }
}

/// The tables that several hosts share.
#[cfg(feature = "postgres")]
mod shared {
    use super::{Arc, Config, Error, KeyTable, Keyring, Opening, PostgresKeyring, PostgresKeys, Status, postgres};

    pub(super) fn check(config: &Config, opening: Opening) -> Result<(), Error> {
        postgres::check(&config.store, opening)
    }

    pub(super) async fn keys(config: &Config, opening: Opening) -> Result<Arc<dyn KeyTable>, Error> {
        Ok(Arc::new(PostgresKeys::open(&config.store, opening).await?))
    }

    pub(super) async fn keyring(config: &Config, opening: Opening) -> Result<Arc<dyn Keyring>, Error> {
        Ok(Arc::new(PostgresKeyring::open(&config.store, opening).await?))
    }

    pub(super) async fn status(config: &Config, opening: Opening) -> Result<Status, Error> {
        postgres::status(&config.store, opening).await
    }
}

/// A library without them: `store.url` is refused, and no file takes their place.
#[cfg(not(feature = "postgres"))]
mod shared {
    use super::{Arc, Config, Error, KeyTable, Keyring, Opening, Status};

    fn refused() -> Error {
        Error::StoreUrl { what: "is set, and this program was built without PostgreSQL".into() }
    }

    pub(super) fn check(_: &Config, _: Opening) -> Result<(), Error> {
        Err(refused())
    }

    pub(super) async fn keys(_: &Config, _: Opening) -> Result<Arc<dyn KeyTable>, Error> {
        Err(refused())
    }

    pub(super) async fn keyring(_: &Config, _: Opening) -> Result<Arc<dyn Keyring>, Error> {
        Err(refused())
    }

    pub(super) async fn status(_: &Config, _: Opening) -> Result<Status, Error> {
        Err(refused())
    }
}

/// How a database is opened; the numbers come from `config::Limits`.
#[derive(Clone, Copy, Debug)]
pub struct Opening {
    /// How long a statement waits for another process's lock before it fails.
    pub busy: Duration,
    /// Connections for short reads, beside the one for writing. Where the tables are SQLite files, half as many read for long;
    /// in PostgreSQL these are for all reads.
    pub readers: u32,
}

/// What can go wrong with a database.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The directory is not there, and cannot be made.
    #[error(
        "cannot use the directory {path}: {source}. Make it, owned by the user that runs addrauth with mode 0700, or set state_dir"
    )]
    Directory {
        /// The directory.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The file cannot be opened or created.
    #[error("cannot open {path}: {text}")]
    Open {
        /// The file.
        path: PathBuf,
        /// The reason.
        text: String,
    },
    /// The file is another user's.
    #[error("cannot open {path}: permission denied: {way}")]
    Denied {
        /// The file.
        path: PathBuf,
        /// What to do about it.
        way: String,
    },
    /// The file holds something else, or not all of what it held.
    #[error(
        "{path} is damaged, or no database of ours: {text}. Restore it from a backup, or move it away with its -wal and -shm"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The database's reason.
        text: String,
    },
    /// The file is not the one that was opened.
    #[error(
        "{path} was removed or replaced while it was in use, so what is written to the old file is found by nobody. A daemon that runs makes no empty one in its place: it answers and decides nothing that rests on it until a database that holds something is there. Stop addrauth before a database is removed, moved or restored; put the old one or a backup in place with its -wal, and start it again. Where none is there, the start makes an empty one"
    )]
    Moved {
        /// The file.
        path: PathBuf,
    },
    /// Written by a newer version of this program.
    #[error(
        "{path} has schema {found}, this program knows up to {known}: it was written by a newer addrauth. Install that version again, or restore what was there before the upgrade"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// The version found.
        found: i64,
        /// The newest version known.
        known: i64,
    },
    /// A statement failed.
    #[error("{path}: {source}")]
    Statement {
        /// The file.
        path: PathBuf,
        /// The database's reason; values are bound and do not show in it.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// `store.url` cannot be used.
    #[error(
        "store.url {what}. Write one such as postgres:///addrauth?host=/run/postgresql or postgres://addrauth@db.example.com/addrauth?sslmode=verify-full"
    )]
    StoreUrl {
        /// What is wrong with it; no secret.
        what: String,
    },
    /// `store.url` holds a password.
    #[error(
        "store.url holds a password, and others may read the configuration: put it into a file of mode 0600 and name that in store.password_file, or into ~/.pgpass, or let peer authentication over a unix socket do without: postgres:///addrauth?host=/run/postgresql"
    )]
    StorePassword,
    /// The server does not answer.
    #[error("cannot reach {place}: {text}. It is used again as soon as it answers")]
    Unreachable {
        /// Which database.
        place: String,
        /// The reason.
        text: String,
    },
    /// The database cannot hold every address.
    #[error(
        "{place} has the encoding {encoding}, which has no place for every address: make one by `createdb --encoding=UTF8 --template=template0`, and carry over with pg_dump and psql what this one holds"
    )]
    Encoding {
        /// Which database.
        place: String,
        /// Its encoding, as the server calls it.
        encoding: String,
    },
    /// The tables are not there, or older than this program.
    #[error("{place} has schema {found}, this program needs {known}: `addrauth store migrate` brings it up to date")]
    OldSchema {
        /// Which database.
        place: String,
        /// The version found; 0: none.
        found: i64,
        /// The version needed.
        known: i64,
    },
    /// A copy would be mixed with what is there.
    #[error("{place} holds addresses or keys already: a copy is made into empty tables alone")]
    NotEmpty {
        /// Which database.
        place: String,
    },
    /// The login may not do this.
    #[error("{place}: {text}. {way}")]
    NoRight {
        /// Which database.
        place: String,
        /// The server's reason.
        text: String,
        /// What to do about it.
        way: &'static str,
    },
    /// The server refused.
    #[error("{place}: {text}. {way}")]
    Postgres {
        /// Which database.
        place: String,
        /// The server's reason; values are bound and do not show in it.
        text: String,
        /// What to do about it.
        way: &'static str,
    },
    /// A list of wanted senders has as many entries as one may have.
    #[error(
        "{address} has {most} wanted senders already: take some off with `addrauth user disallow`, or allow @domain"
    )]
    TooManyAllowed {
        /// The address.
        address: String,
        /// How many there may be.
        most: u32,
    },
    /// The quarantine holds as much as it may.
    #[error(
        "the quarantine is full: {most} octets are all it may hold. Release or delete messages (`addrauth quarantine list`), or raise custody.quarantine_mib"
    )]
    QuarantineFull {
        /// How many octets it may hold.
        most: u64,
    },
    /// Nothing is kept under this number.
    #[error("there is no message {id} in quarantine; `addrauth quarantine list` shows them")]
    NoMessage {
        /// The number.
        id: i64,
    },
    /// The message is kept for others.
    #[error("message {id} is not kept for {recipient}; `addrauth quarantine show {id}` tells for whom it is")]
    NoSuchRecipient {
        /// Its number.
        id: i64,
        /// Who was named.
        recipient: String,
    },
    /// It is not kept back any more.
    #[error("message {id} was {outcome} already; `addrauth quarantine list` shows those that wait")]
    AlreadyEnded {
        /// Its number.
        id: i64,
        /// What became of it.
        outcome: Ending,
    },
    /// Nobody's mail can be wanted where no sender could be told.
    #[error("message {id} has no usable sender address that could be allowed; release it without --allow")]
    NoSender {
        /// Its number.
        id: i64,
    },
    /// A mail on which the fate of a message hangs may not be owed.
    #[error("the mail to {recipient} may not be sent: {why}")]
    Withheld {
        /// Whom it was to go to.
        recipient: String,
        /// The cap, in words.
        why: &'static str,
    },
    /// An address has as many keys as one may have.
    #[error("{address} has {count} living keys already: revoke some before another one is issued")]
    TooManyKeys {
        /// The address.
        address: String,
        /// How many.
        count: usize,
    },
    /// The file of a secret cannot be read or made.
    #[error("cannot use {path}: {source}. It must belong to the user that runs addrauth, with mode 0600")]
    SecretFile {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A secret is not what it should be.
    #[error("{path} {what}")]
    Secret {
        /// The file, or the setting.
        path: PathBuf,
        /// What is wrong with it, and the way out; never the secret.
        what: String,
    },
    /// The address gets no keys in time.
    #[error("{address} is not in the table of addresses: `addrauth address add {address}` puts it in")]
    NotEnlisted {
        /// The address.
        address: String,
    },
}

/// Seconds since 1970, as the tables keep time; a time before is 0.
pub fn seconds(at: SystemTime) -> i64 {
    let seconds = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    i64::try_from(seconds).unwrap_or(i64::MAX)
}

/// The time that [`seconds`] wrote down.
pub fn time(seconds: i64) -> SystemTime {
    let seconds = u64::try_from(seconds).unwrap_or_default();
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds)).unwrap_or(UNIX_EPOCH)
}
