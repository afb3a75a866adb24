//! One SQLite file, as it was when its connections were opened, with its schema brought up to date.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use super::connections::Connections;
use super::log_index::LogIndex;
use super::{Fault, Statements as _};
use crate::config::Limits;
use crate::store::plan::{Plan, Stand};
use crate::store::rights::{prepare_file, unusable};
use crate::store::{Error, Opening};

/// How long to wait before a file is tried again that another process holds for a moment.
const AGAIN: Duration = Duration::from_millis(20);
/// Statements that a connection keeps prepared: more than there are.
const PREPARED: usize = 128;

/// Why a file is not taken up by a daemon that runs.
pub(super) const EMPTY: &str = "nothing is in it: a copy that is not complete, or a new database. A daemon that runs takes up no \
                                such file: stop it, put the backup there with its -wal, and start it; without a backup, start \
                                it again";

/// A file and the connections to it.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) connections: Connections,
    /// A connection that is open as long as the others, and never used: while it is there no other process is the last one to
    /// close the file, which would remove its log under a lock that SQLite does not wait for.
    anchor: Mutex<Option<Connection>>,
    /// The index of the log that they are connected to, once somebody asked for it; absent where it cannot be had.
    pub(super) index: OnceLock<Option<LogIndex>>,
    /// Which files they are connected to.
    pub(super) files: Files,
    /// The connections that took their place, once another file was found at the path.
    pub(super) next: OnceLock<Box<Opened>>,
}

/// Device and inode of a database and of its log; absent where there is no such file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Files {
    database: Option<(u64, u64)>,
    log: Option<(u64, u64)>,
}

impl Files {
    /// What is at this path now.
    pub(super) fn at(path: &Path) -> Files {
        let identity = |path: &Path| std::fs::metadata(path).ok().map(|found| (found.dev(), found.ino()));
        Files { database: identity(path), log: identity(&log_of(path)) }
    }

    /// Whether the database at this path is the one of these files.
    pub(super) fn is_same_database(self, path: &Path) -> bool {
        Files::at(path).database == self.database
    }

    /// Moves the log at this path out of the way where it belongs to these files and not to the database that is there now:
    /// SQLite would write its pages into that.
    pub(super) fn set_log_aside(self, path: &Path) -> std::io::Result<()> {
        let now = Files::at(path);
        match now.database.is_some() && now.log.is_some() && now.log == self.log && now.database != self.database {
            true => std::fs::rename(log_of(path), with_end(path, "-wal.old")),
            false => Ok(()),
        }
    }
}

/// How a database and its log stand, to tell whether somebody writes them. The time of the last change is one that no copy
/// sets back.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Look([Option<Seen>; 2]);

#[derive(Debug, PartialEq, Eq)]
struct Seen {
    inode: (u64, u64),
    length: u64,
    changed: (i64, i64),
}

impl Look {
    /// At what is at this path now. The files are not opened: to close one ends the locks that this process has on it.
    pub(super) fn at(path: &Path) -> Look {
        let stand = |path: &Path| {
            let found = std::fs::metadata(path).ok()?;
            let changed = (found.ctime(), found.ctime_nsec());
            Some(Seen { inode: (found.dev(), found.ino()), length: found.len(), changed })
        };
        Look([stand(path), stand(&log_of(path))])
    }

    /// The database's length in octets; absent where there is none.
    pub(super) fn length(&self) -> Option<u64> {
        self.0[0].as_ref().map(|database| database.length)
    }
}

fn log_of(path: &Path) -> PathBuf {
    with_end(path, "-wal")
}

pub(super) fn with_end(path: &Path, end: &str) -> PathBuf {
    let mut name = path.to_owned().into_os_string();
    name.push(end);
    name.into()
}

impl Opened {
    /// Opens the file, which is made where it is not there, and brings its schema up to date.
    pub(super) async fn open(path: &Path, plan: Plan, opening: Opening) -> Result<Opened, Error> {
        // Made by us and not by SQLite, so that nobody else can read it for a moment; its -wal and -shm follow its mode.
        prepare_file(path)?;
        Opened::with(path, plan, opening, None).await
    }

    /// Opens the file that was put in place of another one, or of itself (`same`), while that was in use. It is not made, and
    /// refused where it has no tables or, unless it is the same, not one row.
    pub(super) async fn take_up(path: &Path, plan: Plan, opening: Opening, same: bool) -> Result<Opened, Error> {
        Opened::with(path, plan, opening, Some(same)).await
    }

    async fn with(path: &Path, plan: Plan, opening: Opening, taken_up: Option<bool>) -> Result<Opened, Error> {
        let most = opening.busy.max(Limits::default().store.open);
        let before = Files::at(path).database;
        let owned: Arc<Path> = path.into();
        let connected = patiently(most, || {
            let path = Arc::clone(&owned);
            move || match taken_up {
                Some(same) if !holds_something(&path, opening, same)? => Ok(None),
                _ => Ok(Some(open_all(&path, plan, opening)?)),
            }
        });
        let (anchor, connections) = match connected.await.map_err(|e| unopened(path, &e, most))? {
            Some((Found::Ours, anchor, connections)) => (anchor, connections),
            Some((Found::Newer(found), ..)) => {
                return Err(Error::Newer { path: path.to_owned(), found, known: plan.known() });
            }
            Some((Found::Strange, ..)) => {
                let text = "it has tables and no version (a dump that was read back needs `PRAGMA user_version`)";
                return Err(Error::Damaged { path: path.to_owned(), text: text.to_owned() });
            }
            None => return Err(Error::Open { path: path.to_owned(), text: EMPTY.to_owned() }),
        };
        let files = Files::at(path);
        if files.database != before {
            return Err(Error::Moved { path: path.to_owned() });
        }
        Ok(Opened {
            connections,
            anchor: Mutex::new(Some(anchor)),
            index: OnceLock::new(),
            files,
            next: OnceLock::new(),
        })
    }

    /// Closes the connections, those in use as soon as their verbs are done.
    pub(super) async fn close(&self) {
        self.connections.close().await;
        let anchor = self.anchor.lock().unwrap_or_else(PoisonError::into_inner).take();
        // Everything is committed: what the log holds is read from there at the next start.
        let _ = tokio::task::spawn_blocking(move || drop(anchor)).await;
    }
}

/// Tries again, for so long, while other processes hold the file for a moment. SQLite itself waits for a lock (`busy_timeout`),
/// but not for those that the switch to the write-ahead log, its recovery, and its removal by the last one who closes need.
pub(super) async fn patiently<T, F>(most: Duration, attempt: impl Fn() -> F) -> Result<T, Fault>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T, Fault> + Send + 'static,
{
    let begin = Instant::now();
    loop {
        match tokio::task::spawn_blocking(attempt()).await.unwrap_or(Err(Fault::GivenUp)) {
            Err(e) if e.is_locked() && begin.elapsed() < most => tokio::time::sleep(AGAIN).await,
            other => return other,
        }
    }
}

/// Why a file could not be opened, in this time.
pub(super) fn unopened(path: &Path, fault: &Fault, most: Duration) -> Error {
    if fault.is_locked() {
        let text = format!("another process has kept it locked for {} s", most.as_secs());
        Error::Open { path: path.to_owned(), text }
    } else if fault.is_damage() {
        Error::Damaged { path: path.to_owned(), text: fault.to_string() }
    } else {
        unusable(path, fault.to_string())
    }
}

/// One connection. The file is not made.
pub(super) fn connection(path: &Path, opening: Opening) -> Result<Connection, Fault> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(opening.busy)?;
    connection.set_prepared_statement_cache_capacity(PREPARED);
    // What is deleted is overwritten: an address that was to be forgotten is in no free page either. The log gives its room
    // back after a large message.
    connection.execute_batch(
        "PRAGMA foreign_keys = ON; PRAGMA synchronous = FULL; PRAGMA secure_delete = ON;
         PRAGMA journal_size_limit = 67108864",
    )?;
    Ok(connection)
}

/// The anchor, and all other connections where the file turns out to be ours.
fn open_all(path: &Path, plan: Plan, opening: Opening) -> Result<(Found, Connection, Connections), Fault> {
    let (found, anchor) = first(path, plan, opening)?;
    let readers = if matches!(found, Found::Ours) { opening.readers } else { 1 };
    let connections = Connections::open(readers, opening.busy, || connection(path, opening))?;
    Ok((found, anchor, connections))
}

/// The first connection, and the schema brought up to date by it. The switch to the write-ahead log stays with the file: the
/// connections after it need not ask for that.
pub(super) fn first(path: &Path, plan: Plan, opening: Opening) -> Result<(Found, Connection), Fault> {
    let mut first = connection(path, opening)?;
    let mode: String = first.one("PRAGMA journal_mode = WAL", ())?;
    if mode != "wal" {
        return Err(Fault::Column("it takes no write-ahead log"));
    }
    Ok((step(&mut first, plan)?, first))
}

/// Whether a file has tables and, unless it is the `same` as before, a row in one of them. It is only read.
fn holds_something(path: &Path, opening: Opening, same: bool) -> Result<bool, Fault> {
    let connection = connection(path, opening)?;
    let version: i64 = connection.one("PRAGMA user_version", ())?;
    let tables = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite!_%' ESCAPE '!'";
    let tables: Vec<String> = connection.all(tables, (), |row| Ok(row.get(0)?))?;
    let mut holds = version != 0 && !tables.is_empty() && same;
    for table in tables.iter().filter(|_| version != 0) {
        let row = format!("SELECT EXISTS (SELECT 1 FROM \"{}\")", table.replace('"', "\"\""));
        holds = holds || connection.one(&row, ())?;
    }
    Ok(holds)
}

/// What a file turned out to be.
pub(super) enum Found {
    /// It has the newest version now.
    Ours,
    /// A newer program wrote it.
    Newer(i64),
    /// It has tables, and no version.
    Strange,
}

/// All steps that are missing, in one transaction.
fn step(connection: &mut Connection, plan: Plan) -> Result<Found, Fault> {
    // What is up to date needs no lock: a command need not wait for the daemon that writes.
    let found: i64 = connection.one("PRAGMA user_version", ())?;
    match plan.at(found) {
        Stand::Current => return Ok(Found::Ours),
        Stand::Newer => return Ok(Found::Newer(found)),
        Stand::Older(_) => {}
    }
    let work = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // Somebody else may have been quicker.
    let found: i64 = work.one("PRAGMA user_version", ())?;
    let missing = match plan.at(found) {
        Stand::Current => return Ok(Found::Ours),
        Stand::Newer => return Ok(Found::Newer(found)),
        Stand::Older(missing) => missing,
    };
    let tables: i64 = work.one("SELECT count(*) FROM sqlite_schema", ())?;
    if found == 0 && tables > 0 {
        return Ok(Found::Strange);
    }
    for step in missing {
        work.execute_batch(step)?;
    }
    // A pragma takes no bound value; this one is a number of ours.
    work.execute_batch(&format!("PRAGMA user_version = {}", plan.known()))?;
    work.commit()?;
    Ok(Found::Ours)
}
