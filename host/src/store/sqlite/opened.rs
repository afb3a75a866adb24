//! The connections to one SQLite file, as it was when they were opened, with its schema brought up to date.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Connection, SqliteConnection, SqlitePool};

use crate::config::Limits;
use crate::store::plan::{Plan, Stand};
use crate::store::rights::{prepare_file, primary_code, unusable};
use crate::store::{Error, Opening};

/// How long to wait before a file is tried again that another process holds for a moment.
const AGAIN: Duration = Duration::from_millis(20);

/// Why a file is not taken up by a daemon that runs.
pub(super) const EMPTY: &str = "nothing is in it: a copy that is not complete, or a new database. A daemon that runs takes up no \
                                such file: stop it, put the backup there with its -wal, and start it; without a backup, start \
                                it again";

/// Connections to a file: one that writes, several that read, so that no writer waits for another of ours.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) writer: SqlitePool,
    pub(super) readers: SqlitePool,
    anchor: Anchor,
    /// Which files they are connected to.
    pub(super) files: Files,
    /// The connections that took their place, once another file was found at the path.
    pub(super) next: OnceLock<Box<Opened>>,
}

/// A connection that is open as long as the others, and never used: while it is there no other process is the last one to close
/// the file, which would remove its log under a lock that SQLite does not wait for.
struct Anchor(Mutex<Option<SqliteConnection>>);

impl std::fmt::Debug for Anchor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Anchor")
    }
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

fn with_end(path: &Path, end: &str) -> PathBuf {
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
        let options = options(path, opening);
        let most = opening.busy.max(Limits::default().store.open);
        let before = Files::at(path).database;
        let connected = patiently(most, || async {
            match taken_up {
                Some(same) if !holds_something(&options, same).await? => Ok(None),
                _ => connect(&options, plan).await.map(Some),
            }
        });
        let anchor = match connected.await.map_err(|e| unopened(path, &e, most))? {
            Some((Found::Ours, anchor)) => anchor,
            Some((Found::Newer(found), _)) => {
                return Err(Error::Newer { path: path.to_owned(), found, known: plan.known() });
            }
            Some((Found::Strange, _)) => {
                let text = "it has tables and no version (a dump that was read back needs `PRAGMA user_version`)";
                return Err(Error::Damaged { path: path.to_owned(), text: text.to_owned() });
            }
            None => return Err(Error::Open { path: path.to_owned(), text: EMPTY.to_owned() }),
        };
        let files = Files::at(path);
        if files.database != before {
            return Err(Error::Moved { path: path.to_owned() });
        }
        let pool = |most: u32| {
            SqlitePoolOptions::new()
                .max_connections(most.max(1))
                // All of them soon after the start: when descriptors run out, what is open can still be read and written.
                .min_connections(most.max(1))
                .acquire_timeout(opening.busy)
                .idle_timeout(None)
                .max_lifetime(None)
                .after_release(|connection, _| Box::pin(is_clean(connection)))
                .connect_lazy_with(options.clone())
        };
        Ok(Opened {
            writer: pool(1),
            readers: pool(opening.readers),
            anchor: Anchor(Mutex::new(Some(anchor))),
            files,
            next: OnceLock::new(),
        })
    }

    /// Closes the connections that are used, those in use as soon as they are given back; the anchor holds the file.
    pub(super) async fn close_pools(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }

    /// Closes the connections, those in use as soon as they are given back.
    pub(super) async fn close(&self) {
        self.close_pools().await;
        let anchor = self.anchor.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(anchor) = anchor {
            // Everything is committed: what the log holds is read from there at the next start.
            let _ = anchor.close().await;
        }
    }
}

/// Whether a connection may be used again. On a full disk SQLite takes the whole transaction back by itself, the ROLLBACK
/// that follows finds none and fails, and the library takes the connection for one inside a transaction for ever after:
/// every later write would fail, with room on the disk again too.
async fn is_clean(connection: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
    // The ROLLBACK of a dropped transaction is under way: what answers after it finds it done.
    connection.ping().await?;
    Ok(!connection.is_in_transaction())
}

/// Tries again, for so long, while other processes hold the file for a moment. SQLite itself waits for a lock (`busy_timeout`),
/// but not for those that the switch to the write-ahead log, its recovery, and its removal by the last one who closes need.
pub(super) async fn patiently<T, F>(most: Duration, work: impl Fn() -> F) -> Result<T, sqlx::Error>
where
    F: Future<Output = Result<T, sqlx::Error>>,
{
    let begin = Instant::now();
    loop {
        match work().await {
            Err(e) if is_locked(&e) && begin.elapsed() < most => tokio::time::sleep(AGAIN).await,
            other => return other,
        }
    }
}

/// Why a file could not be opened, in this time.
pub(super) fn unopened(path: &Path, error: &sqlx::Error, most: Duration) -> Error {
    match is_locked(error) {
        true => {
            let text = format!("another process has kept it locked for {} s", most.as_secs());
            Error::Open { path: path.to_owned(), text }
        }
        false => unusable(path, error),
    }
}

/// Whether another process has the file for a moment: busy (5), locked (6), or a race for the locks of the log (15).
fn is_locked(error: &sqlx::Error) -> bool {
    matches!(primary_code(error), Some(5 | 6 | 15))
}

/// How each connection is opened.
pub(super) fn options(path: &Path, opening: Opening) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .busy_timeout(opening.busy)
        .synchronous(SqliteSynchronous::Full)
        // What is deleted is overwritten: an address that was to be forgotten is in no free page either.
        .pragma("secure_delete", "ON")
        // The log gives its room back after a large message.
        .pragma("journal_size_limit", "67108864")
        .foreign_keys(true)
}

/// The first connection, and the schema brought up to date by it. The switch to the write-ahead log stays with the file: the
/// connections after it need not ask for that.
pub(super) async fn connect(
    options: &SqliteConnectOptions,
    plan: Plan,
) -> Result<(Found, SqliteConnection), sqlx::Error> {
    let options = options.clone().journal_mode(SqliteJournalMode::Wal);
    let mut connection = SqliteConnection::connect_with(&options).await?;
    Ok((step(&mut connection, plan).await?, connection))
}

/// Whether a file has tables and, unless it is the `same` as before, a row in one of them. It is only read.
async fn holds_something(options: &SqliteConnectOptions, same: bool) -> Result<bool, sqlx::Error> {
    let mut connection = SqliteConnection::connect_with(options).await?;
    let version: i64 = sqlx::query_scalar("PRAGMA user_version").fetch_one(&mut connection).await?;
    let tables = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite!_%' ESCAPE '!'";
    let tables: Vec<String> = sqlx::query_scalar(tables).fetch_all(&mut connection).await?;
    let mut holds = version != 0 && !tables.is_empty() && same;
    for table in tables.iter().filter(|_| version != 0) {
        let row = format!("SELECT EXISTS (SELECT 1 FROM \"{}\")", table.replace('"', "\"\""));
        holds = holds || sqlx::query_scalar(sqlx::AssertSqlSafe(row)).fetch_one(&mut connection).await?;
    }
    connection.close().await?;
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
async fn step(connection: &mut SqliteConnection, plan: Plan) -> Result<Found, sqlx::Error> {
    // What is up to date needs no lock: a command need not wait for the daemon that writes.
    let found: i64 = sqlx::query_scalar("PRAGMA user_version").fetch_one(&mut *connection).await?;
    match plan.at(found) {
        Stand::Current => return Ok(Found::Ours),
        Stand::Newer => return Ok(Found::Newer(found)),
        Stand::Older(_) => {}
    }
    let mut work = connection.begin_with("BEGIN IMMEDIATE").await?;
    // Somebody else may have been quicker.
    let found: i64 = sqlx::query_scalar("PRAGMA user_version").fetch_one(&mut *work).await?;
    let missing = match plan.at(found) {
        Stand::Current => return Ok(Found::Ours),
        Stand::Newer => return Ok(Found::Newer(found)),
        Stand::Older(missing) => missing,
    };
    let tables: i64 = sqlx::query_scalar("SELECT count(*) FROM sqlite_schema").fetch_one(&mut *work).await?;
    if found == 0 && tables > 0 {
        return Ok(Found::Strange);
    }
    for step in missing {
        sqlx::raw_sql(*step).execute(&mut *work).await?;
    }
    // A pragma takes no bound value; this one is a number of ours.
    let version = format!("PRAGMA user_version = {}", plan.known());
    sqlx::raw_sql(sqlx::AssertSqlSafe(version)).execute(&mut *work).await?;
    work.commit().await?;
    Ok(Found::Ours)
}
