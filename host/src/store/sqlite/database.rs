//! Opening a SQLite file: its rights, its settings, its schema.

use std::fs::DirBuilder;
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Connection, SqliteConnection, SqlitePool};

use crate::config::Limits;
use crate::store::plan::{Plan, Stand};
use crate::store::rights::{is_damage, prepare_file, primary_code, unusable};
use crate::store::{Error, Opening};

/// How long to wait before a file is tried again that another process holds for a moment.
const AGAIN: Duration = Duration::from_millis(20);

/// An open database: one connection that writes, several that read, so that no writer waits for another of ours.
#[derive(Clone, Debug)]
pub(in crate::store) struct Database {
    path: PathBuf,
    writer: SqlitePool,
    readers: SqlitePool,
    anchor: Arc<Anchor>,
}

/// A connection that is open as long as the database is, and never used: while it is there no other process is the last one
/// to close the file, which would remove its log under a lock that SQLite does not wait for.
struct Anchor(Mutex<Option<SqliteConnection>>);

impl std::fmt::Debug for Anchor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Anchor")
    }
}

/// Sees to it that the directory is there: one that is missing is made, for its owner alone (0700).
pub fn prepare_dir(path: &Path) -> Result<(), Error> {
    let wrong = |source| Error::Directory { path: path.to_owned(), source };
    match DirBuilder::new().recursive(true).mode(0o700).create(path) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(e) => Err(wrong(e)),
    }
}

impl Database {
    /// Opens the file of this plan in `dir`, and brings its schema up to date.
    pub(in crate::store) async fn open(dir: &Path, plan: Plan, opening: Opening) -> Result<Database, Error> {
        prepare_dir(dir)?;
        let path = dir.join(plan.of);
        // Made by us and not by SQLite, so that nobody else can read it for a moment; its -wal and -shm follow its mode.
        prepare_file(&path)?;
        let options = options(&path, opening);
        let most = opening.busy.max(Limits::default().store_open);
        let anchor = match patiently(most, || open(&options, plan)).await.map_err(|e| unopened(&path, &e, most))? {
            (Found::Ours, anchor) => anchor,
            (Found::Newer(found), _) => return Err(Error::Newer { path, found, known: plan.known() }),
            (Found::Strange, _) => {
                let text =
                    "it has tables and no version (a dump that was read back needs `PRAGMA user_version`)".to_owned();
                return Err(Error::Damaged { path, text });
            }
        };
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
        let anchor = Arc::new(Anchor(Mutex::new(Some(anchor))));
        Ok(Database { writer: pool(1), readers: pool(opening.readers), anchor, path })
    }

    /// The connection that writes.
    pub(in crate::store) fn writer(&self) -> &SqlitePool {
        &self.writer
    }

    /// The connections that read.
    pub(in crate::store) fn readers(&self) -> &SqlitePool {
        &self.readers
    }

    /// A failed statement as an error that names the file.
    pub(in crate::store) fn failed(&self, source: sqlx::Error) -> Error {
        match is_damage(&source) {
            true => Error::Damaged { path: self.path.clone(), text: source.to_string() },
            false => Error::Statement { path: self.path.clone(), source },
        }
    }

    /// Empties the log into the file, where nobody reads at this moment: what was overwritten is then in neither.
    pub(in crate::store) async fn empty_log(&self) {
        if let Err(e) = sqlx::raw_sql("PRAGMA wal_checkpoint(TRUNCATE)").execute(&self.writer).await {
            tracing::debug!("{}: the log is emptied later: {e}", self.path.display());
        }
    }

    /// Closes the connections; what is asked for later fails.
    pub(in crate::store) async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
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
fn options(path: &Path, opening: Opening) -> SqliteConnectOptions {
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
async fn open(options: &SqliteConnectOptions, plan: Plan) -> Result<(Found, SqliteConnection), sqlx::Error> {
    let options = options.clone().journal_mode(SqliteJournalMode::Wal);
    let mut connection = SqliteConnection::connect_with(&options).await?;
    Ok((step(&mut connection, plan).await?, connection))
}

/// What a file turned out to be.
enum Found {
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use sqlx::ConnectOptions as _;

    use super::*;

    const OPENING: Opening = Opening { busy: Duration::from_secs(2), readers: 2 };
    const X: Plan = Plan { of: "x.db", steps: &["CREATE TABLE t (x INTEGER)"] };
    const LATER: Plan =
        Plan { of: "x.db", steps: &["CREATE TABLE t (x INTEGER)", "ALTER TABLE t ADD COLUMN y INTEGER"] };

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[tokio::test]
    async fn a_database_that_was_full_takes_writes_again() {
        let dir = tempfile::tempdir().unwrap();
        let db = Database::open(dir.path(), X, OPENING).await.unwrap();
        let write = async |octets: i64| {
            let mut work = db.writer().begin_with("BEGIN IMMEDIATE").await?;
            sqlx::query("INSERT INTO t VALUES (zeroblob(?))").bind(octets).execute(&mut *work).await?;
            work.commit().await
        };
        sqlx::raw_sql("PRAGMA max_page_count = 8").execute(db.writer()).await.unwrap();
        for _ in 0..3 {
            let full = write(1 << 20).await.unwrap_err().to_string();
            assert!(full.contains("full"), "{full}");
            write(1).await.unwrap();
            sqlx::raw_sql("PRAGMA max_page_count = 8").execute(db.writer()).await.unwrap();
        }
        let count: i64 = sqlx::query_scalar("SELECT count(*) FROM t").fetch_one(db.readers()).await.unwrap();
        assert_eq!(count, 3);
    }

    #[tokio::test]
    async fn directory_and_files_are_for_their_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("a/b");
        let db = Database::open(&state, X, OPENING).await.unwrap();
        sqlx::raw_sql("INSERT INTO t VALUES (1)").execute(db.writer()).await.unwrap();
        assert_eq!(mode(&state), 0o700);
        for name in ["x.db", "x.db-wal", "x.db-shm"] {
            assert_eq!(mode(&state.join(name)), 0o600, "{name}");
        }
    }

    #[tokio::test]
    async fn what_root_makes_in_another_users_directory_is_that_users() {
        let dir = tempfile::tempdir().unwrap();
        // Only root may; for anybody else the directory stays his own, and so must the files.
        let _ = std::os::unix::fs::chown(dir.path(), Some(65_534), Some(65_533));
        let db = Database::open(dir.path(), X, OPENING).await.unwrap();
        sqlx::raw_sql("INSERT INTO t VALUES (1)").execute(db.writer()).await.unwrap();
        let owner = |path: &Path| std::fs::metadata(path).map(|found| (found.uid(), found.gid())).unwrap();
        for name in ["x.db", "x.db-wal", "x.db-shm"] {
            assert_eq!(owner(&dir.path().join(name)), owner(dir.path()), "{name}");
            assert_eq!(mode(&dir.path().join(name)), 0o600, "{name}");
        }
    }

    #[tokio::test]
    async fn every_commit_is_synced_and_locks_are_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let db = Database::open(dir.path(), X, OPENING).await.unwrap();
        for pool in [db.writer(), db.readers()] {
            let journal: String = sqlx::query_scalar("PRAGMA journal_mode").fetch_one(pool).await.unwrap();
            let synchronous: i64 = sqlx::query_scalar("PRAGMA synchronous").fetch_one(pool).await.unwrap();
            let busy: i64 = sqlx::query_scalar("PRAGMA busy_timeout").fetch_one(pool).await.unwrap();
            let keys: i64 = sqlx::query_scalar("PRAGMA foreign_keys").fetch_one(pool).await.unwrap();
            assert_eq!((journal.as_str(), synchronous, busy, keys), ("wal", 2, 2000, 1));
        }
    }

    #[tokio::test]
    async fn a_newer_schema_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        Database::open(dir.path(), LATER, OPENING).await.unwrap().close().await;
        let error = Database::open(dir.path(), X, OPENING).await.unwrap_err();
        assert!(matches!(error, Error::Newer { found: 2, known: 1, .. }), "{error}");
        assert!(error.to_string().contains("newer addrauth"));
        let again = Plan { steps: &["not run again"; 2], ..X };
        Database::open(dir.path(), again, OPENING).await.unwrap();
    }

    #[tokio::test]
    async fn an_older_schema_is_brought_up_to_date() {
        let dir = tempfile::tempdir().unwrap();
        Database::open(dir.path(), X, OPENING).await.unwrap().close().await;
        let db = Database::open(dir.path(), LATER, OPENING).await.unwrap();
        sqlx::raw_sql("INSERT INTO t (x, y) VALUES (1, 2)").execute(db.writer()).await.unwrap();
    }

    #[tokio::test]
    async fn a_step_that_fails_leaves_the_file_as_it_was_with_the_steps_before_it_undone() {
        let dir = tempfile::tempdir().unwrap();
        let db = Database::open(dir.path(), X, OPENING).await.unwrap();
        sqlx::raw_sql("INSERT INTO t VALUES (7)").execute(db.writer()).await.unwrap();
        db.close().await;
        const BROKEN: Plan = Plan {
            steps: &[
                "CREATE TABLE t (x INTEGER)",
                "ALTER TABLE t ADD COLUMN y INTEGER; DELETE FROM t",
                "ALTER TABLE no",
            ],
            ..X
        };
        assert!(matches!(Database::open(dir.path(), BROKEN, OPENING).await, Err(Error::Open { .. })));
        let db = Database::open(dir.path(), X, OPENING).await.unwrap();
        let rows: Vec<i64> = sqlx::query_scalar("SELECT * FROM t").fetch_all(db.readers()).await.unwrap();
        assert_eq!(rows, [7]);
    }

    #[tokio::test]
    async fn a_file_with_tables_and_no_version_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let db = Database::open(dir.path(), X, OPENING).await.unwrap();
        sqlx::raw_sql("PRAGMA user_version = 0").execute(db.writer()).await.unwrap();
        db.close().await;
        let error = Database::open(dir.path(), LATER, OPENING).await.unwrap_err().to_string();
        assert!(error.contains("x.db is damaged") && error.contains("user_version"), "{error}");
    }

    #[tokio::test]
    async fn several_openers_at_once_make_one_schema() {
        let dir = tempfile::tempdir().unwrap();
        let tasks: Vec<_> = (0..8)
            .map(|_| {
                let path = dir.path().to_owned();
                tokio::spawn(async move { Database::open(&path, X, OPENING).await.map(|_| ()) })
            })
            .collect();
        for task in tasks {
            task.await.unwrap().unwrap();
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn many_who_open_write_and_close_a_file_again_and_again_never_hear_of_locks() {
        async fn each(path: PathBuf) -> Result<(), Error> {
            for _ in 0..12 {
                let db = Database::open(&path, X, OPENING).await?;
                let write = sqlx::raw_sql("INSERT INTO t VALUES (1)").execute(db.writer()).await;
                write.map_err(|e| db.failed(e))?;
                let read = sqlx::query_scalar::<_, i64>("SELECT count(*) FROM t").fetch_one(db.readers()).await;
                read.map_err(|e| db.failed(e))?;
                db.close().await;
            }
            Ok(())
        }
        let dir = tempfile::tempdir().unwrap();
        let tasks: Vec<_> = (0..6).map(|_| tokio::spawn(each(dir.path().to_owned()))).collect();
        for task in tasks {
            task.await.unwrap().unwrap();
        }
        let db = Database::open(dir.path(), X, OPENING).await.unwrap();
        let rows: i64 = sqlx::query_scalar("SELECT count(*) FROM t").fetch_one(db.readers()).await.unwrap();
        assert_eq!(rows, 72);
    }

    #[tokio::test]
    async fn a_file_that_stays_locked_is_given_up_in_words() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.db");
        let mut other = SqliteConnectOptions::new().filename(&path).create_if_missing(true).connect().await.unwrap();
        sqlx::raw_sql("BEGIN EXCLUSIVE").execute(&mut other).await.unwrap();
        let options = options(&path, Opening { busy: Duration::from_millis(50), readers: 1 });
        let most = Duration::from_secs(1);
        let error = patiently(most, || open(&options, X)).await.err().unwrap();
        assert!(unopened(&path, &error, most).to_string().contains("kept it locked for 1 s"), "{error}");
    }

    #[tokio::test]
    async fn what_is_no_database_is_named_with_the_way_out() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("x.db"), vec![b'x'; 4096]).unwrap();
        let error = Database::open(dir.path(), X, OPENING).await.unwrap_err().to_string();
        assert!(error.contains("x.db is damaged") && error.contains("move it away"), "{error}");
        let error = Database::open(&dir.path().join("x.db"), X, OPENING).await.unwrap_err().to_string();
        assert!(error.contains("state_dir"), "{error}");
    }
}
