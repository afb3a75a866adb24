//! A SQLite file that is in use: its connections, and whether it is still the file at its path.

use std::fs::DirBuilder;
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rusqlite::{Connection, TransactionBehavior};

use super::Fault;
use super::log_index::LogIndex;
use super::opened::{EMPTY, Files, Look, Opened, with_end};
use crate::store::commits::Commits;
use crate::store::plan::Plan;
use crate::store::{Error, Opening};

/// How long a file that was put in place of an open one must stand still before it is opened: a copy may be under way.
const SETTLED: Duration = Duration::from_secs(1);

/// An open database.
#[derive(Clone, Debug)]
pub(in crate::store) struct Database(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    plan: Plan,
    opening: Opening,
    first: Opened,
    /// Whether another file is being opened.
    reopening: AtomicBool,
    /// Whether the caller closed it.
    closed: AtomicBool,
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
        let first = Opened::open(&path, plan, opening).await?;
        Ok(Database(Arc::new(Inner {
            path,
            plan,
            opening,
            first,
            reopening: AtomicBool::default(),
            closed: AtomicBool::default(),
        })))
    }

    /// A short read by an index, on the caller's own thread.
    pub(in crate::store) fn read<T>(&self, work: impl FnOnce(&Connection) -> Result<T, Fault>) -> Result<T, Error> {
        self.opened().connections.read(work).map_err(|e| self.failed(e))
    }

    /// A read that goes through many rows or large ones, where it keeps nobody waiting. All of it sees the tables as they are
    /// at one moment.
    pub(in crate::store) async fn scan<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Error> {
        let scanned = self.opened().connections.scan(|connection| work(&*connection.transaction()?));
        scanned.await.map_err(|e| self.failed(e))
    }

    /// One transaction, durable when this returns. A fault undoes it; so does a caller that gives this up before the commit has
    /// begun.
    pub(in crate::store) async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Error> {
        let written = self.opened().connections.write(|connection, is_given_up| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let done = work(&transaction)?;
            if is_given_up() {
                return Err(Fault::GivenUp);
            }
            transaction.commit()?;
            Ok(done)
        });
        written.await.map_err(|e| self.failed(e))
    }

    /// Whether the file that is open is the one at its path, log included. For a verb whose answer others rest on, before it
    /// reads and after it has committed: in a file that was removed or replaced meanwhile nobody finds it again. Where it is
    /// not, the file that is there now is opened as soon as it stands still and holds something; verbs fail until that is done.
    /// None is made: an empty one would answer that no key is right, and that nobody chose anything. After
    /// [`Database::close`] it tells nothing, and the verb itself fails.
    ///
    /// # Errors
    /// [`Error::Moved`].
    pub(in crate::store) fn in_place(&self) -> Result<(), Error> {
        let opened = self.opened();
        let closed = self.0.closed.load(Ordering::Acquire);
        if closed || (Files::at(&self.0.path) == opened.files && !opened.connections.is_closed()) {
            return Ok(());
        }
        if !self.0.reopening.swap(true, Ordering::AcqRel) {
            tracing::error!("{}", self.moved());
            let database = self.clone();
            tokio::spawn(async move { database.reopen().await });
        }
        Err(self.moved())
    }

    /// How the database stands, told without a statement: what was read after a look still holds while later looks equal it. Absent
    /// where it cannot be told, or the database is closed: then a statement tells.
    pub(in crate::store) fn commits(&self) -> Option<Commits> {
        let opened = self.opened();
        let index = (*opened.index.get_or_init(|| LogIndex::at(&with_end(&self.0.path, "-shm"))))?;
        if opened.connections.is_closed() { None } else { index.look() }
    }

    fn moved(&self) -> Error {
        Error::Moved { path: self.0.path.clone() }
    }

    async fn reopen(&self) {
        let old = self.opened();
        old.connections.close().await;
        match self.take_up(old).await {
            Ok(opened) => {
                tracing::warn!("{}: the file that is there now is in use", self.0.path.display());
                // Nobody else sets it: `reopening` is ours.
                let _ = old.next.set(Box::new(opened));
            }
            Err(e) => tracing::error!("{e}"),
        }
        self.0.reopening.store(false, Ordering::Release);
    }

    /// Opens the file that is at the path now. As long as there is none, the log stays beside it for the database that may come
    /// back, and the old one is held, so that another file cannot get its inode and pass for it.
    async fn take_up(&self, old: &Opened) -> Result<Opened, Error> {
        let Inner { path, plan, opening, .. } = &*self.0;
        let failed = |text: String| Error::Open { path: path.clone(), text };
        let before = Look::at(path);
        tokio::time::sleep(SETTLED).await;
        let now = Look::at(path);
        if now.length().is_none() {
            return Err(self.moved());
        }
        if now != before {
            return Err(failed("it is still being written; it is tried again".into()));
        }
        // Before SQLite sees it: beside an empty file that would remove the log.
        if now.length() == Some(0) {
            return Err(failed(EMPTY.into()));
        }
        // Both files would be written through one -shm otherwise.
        old.close().await;
        old.files.set_log_aside(path).map_err(|e| failed(format!("its log cannot be set aside: {e}")))?;
        let same = old.files.is_same_database(path);
        Opened::take_up(path, *plan, *opening, same).await
    }

    /// The newest connections. Those before them, as many as the file was replaced in the life of this process, are closed.
    fn opened(&self) -> &Opened {
        let mut opened = &self.0.first;
        while let Some(next) = opened.next.get() {
            opened = next;
        }
        opened
    }

    /// A failure inside a verb as an error that names the file.
    fn failed(&self, fault: Fault) -> Error {
        let path = self.0.path.clone();
        match fault {
            Fault::Known(error) => error,
            fault if fault.is_damage() => Error::Damaged { path, text: fault.to_string() },
            fault => Error::Statement { path, source: fault.into() },
        }
    }

    /// Empties the log into the file, where nobody reads at this moment: what was overwritten is then in neither.
    pub(in crate::store) async fn empty_log(&self) -> Result<(), Error> {
        let emptied = self
            .opened()
            .connections
            .write(|connection, _| Ok(connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)")?));
        emptied.await.map_err(|e| self.failed(e))
    }

    /// The same for a verb that is done already, and whose success does not hang on it.
    pub(in crate::store) async fn empty_log_later(&self) {
        if let Err(e) = self.empty_log().await {
            tracing::debug!("{}: the log is emptied later: {e}", self.0.path.display());
        }
    }

    /// Closes the connections; what is asked for later fails.
    pub(in crate::store) async fn close(&self) {
        self.0.closed.store(true, Ordering::Release);
        self.opened().close().await;
    }
}

/// What tests do beside the verbs.
#[cfg(test)]
impl Database {
    /// Statements on the connection that writes, without a transaction of ours.
    pub(in crate::store) async fn run(&self, statements: &str) -> Result<(), Error> {
        let statements = statements.to_owned();
        let done = self.opened().connections.write(move |connection, _| Ok(connection.execute_batch(&statements)?));
        done.await.map_err(|e| self.failed(e))
    }
}

#[cfg(test)]
#[path = "database/tests.rs"]
mod tests;
