//! Opening a SQLite file: its rights, its settings, its schema.

use std::fs::DirBuilder;
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Connection, SqliteConnection, SqlitePool};

use crate::store::plan::{Plan, Stand};
use crate::store::rights::{is_damage, prepare_file, unusable};
use crate::store::{Error, Opening};

/// An open database: one connection that writes, several that read, so that no writer waits for another of ours.
#[derive(Clone, Debug)]
pub(in crate::store) struct Database {
    path: PathBuf,
    writer: SqlitePool,
    readers: SqlitePool,
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
        let options = SqliteConnectOptions::new()
            .filename(&path)
            .busy_timeout(opening.busy)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            // What is deleted is overwritten: an address that was to be forgotten is in no free page either.
            .pragma("secure_delete", "ON")
            // The log gives its room back after a large message.
            .pragma("journal_size_limit", "67108864")
            .foreign_keys(true);
        migrate(&path, &options, plan).await?;
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
        Ok(Database { writer: pool(1), readers: pool(opening.readers), path })
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

/// Two processes that start at once may both find an empty file: switching to the write-ahead log does not wait for
/// locks, so it is tried again; the schema itself is made under the write lock.
async fn migrate(path: &Path, options: &SqliteConnectOptions, plan: Plan) -> Result<(), Error> {
    let mut tries = 0;
    let mut connection = loop {
        match SqliteConnection::connect_with(options).await {
            Ok(connection) => break connection,
            Err(e) if tries < 20 && e.to_string().contains("locked") => tries += 1,
            Err(e) => return Err(unusable(path, &e)),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let found = step(&mut connection, plan).await.map_err(|e| unusable(path, &e))?;
    // Not an error of ours to report: everything is committed.
    let _ = connection.close().await;
    match found {
        Found::Ours => Ok(()),
        Found::Newer(found) => Err(Error::Newer { path: path.to_owned(), found, known: plan.known() }),
        Found::Strange => {
            let text =
                "it has tables and no version (a dump that was read back needs `PRAGMA user_version`)".to_owned();
            Err(Error::Damaged { path: path.to_owned(), text })
        }
    }
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
