//! Connections to PostgreSQL: a few, given out one at a time, made anew when they broke, and no verb waits for ever.

use std::future::Future;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sqlx::{ConnectOptions as _, Connection as _, PgConnection};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::fault::Fault;
use super::{Place, SCAN, schema};
use crate::store::{Error, Opening};

/// A connection that lay idle for longer is not used again: a firewall on the way may have forgotten it.
const IDLE: Duration = Duration::from_secs(240);
/// Between two tries to connect while the server is about to come back.
const RETRY: Duration = Duration::from_millis(100);
/// How long a server takes to restart in good order; one that is away for longer is not waited for.
const RESTART: Duration = Duration::from_secs(3);
/// How often a transaction is begun anew that the server took back because of another one.
pub(super) const CONFLICTS: usize = 8;

/// A PostgreSQL database, and the connections to it.
///
/// Not the library's pool: that asks the server a question each time a connection is given back, and waits for the answer
/// without a bound, so that a host that vanished would take all connections with it.
#[derive(Clone)]
pub(super) struct Database(Arc<Inner>);

struct Inner {
    place: Place,
    busy: Duration,
    permits: Arc<Semaphore>,
    idle: Mutex<Vec<(PgConnection, Instant)>>,
    /// Since when no connection could be made.
    down: Mutex<Option<Instant>>,
    /// Whether the schema was found to be the one that this program knows.
    checked: AtomicBool,
}

/// A connection in use. It goes back with [`Database::rest`] or [`Database::commit`]; dropped before that, by an error or a
/// time that ran out, it is closed, and the server takes back what was not committed.
pub(super) struct Line {
    connection: PgConnection,
    _permit: OwnedSemaphorePermit,
}

impl Deref for Line {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.connection
    }
}

impl DerefMut for Line {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.connection
    }
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Database({})", self.0.place.name)
    }
}

impl Database {
    /// Where a server can be reached, its schema is looked at; where none can, that is done later: a mail server starts
    /// without its database too.
    pub(super) async fn open(place: Place, opening: Opening) -> Result<Database, Error> {
        if place.unproved {
            tracing::warn!(
                "store.url: nothing proves who answers as {}: add sslmode=verify-full, and sslrootcert=FILE where its \
                 certificate is of your own making",
                place.name
            );
        }
        let connections = usize::try_from(opening.readers.max(1)).unwrap_or(1).saturating_add(1);
        let database = Database(Arc::new(Inner {
            place,
            busy: opening.busy,
            permits: Arc::new(Semaphore::new(connections)),
            idle: Mutex::default(),
            down: Mutex::default(),
            checked: AtomicBool::new(false),
        }));
        match database.within(opening.busy, async { database.line().await.map(|line| database.rest(line)) }).await {
            Err(e @ Error::Unreachable { .. }) => tracing::warn!("{e}; going on without it until then"),
            other => other?,
        }
        Ok(database)
    }

    /// What messages call it.
    pub(super) fn name(&self) -> &str {
        &self.0.place.name
    }

    /// Reads. Where the connection turns out to be dead, once more on a fresh one. The answer comes within `busy`.
    pub(super) async fn read<T, F>(&self, work: impl Fn() -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Fault>>,
    {
        self.within(self.0.busy, self.again(work)).await
    }

    /// Reads what may be many rows; that the server is there is known within `busy`.
    pub(super) async fn scan<T, F>(&self, work: impl Fn() -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Fault>>,
    {
        self.answers().await?;
        self.within(SCAN, self.again(work)).await
    }

    /// Writes, in a transaction that `work` begins and commits; once more where the server took it back because of another.
    pub(super) async fn write<T, F>(&self, work: impl Fn() -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Fault>>,
    {
        self.within(self.0.busy, self.undisturbed(work)).await
    }

    /// Writes what may be many rows; that the server is there is known within `busy`.
    pub(super) async fn sweep<T, F>(&self, work: impl Fn() -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Fault>>,
    {
        self.answers().await?;
        self.within(SCAN, self.undisturbed(work)).await
    }

    /// Some work, in this time at most; its failure as callers get it.
    pub(super) async fn within<T>(
        &self,
        most: Duration,
        work: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T, Error> {
        self.part(most, work).await.map_err(|fault| fault.told(self.name()))
    }

    /// A part of some work, in this time at most.
    pub(super) async fn part<T>(
        &self,
        most: Duration,
        work: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T, Fault> {
        match tokio::time::timeout(most, work).await {
            Ok(done) => done,
            Err(_) => {
                let text = format!("no answer within {} s", most.as_secs_f64());
                Err(Fault::Known(Error::Unreachable { place: self.name().to_owned(), text }))
            }
        }
    }

    /// How long a verb may take that touches few rows.
    pub(super) fn busy(&self) -> Duration {
        self.0.busy
    }

    /// A connection, for statements that need no transaction.
    pub(super) async fn line(&self) -> Result<Line, Fault> {
        let permit = self.0.permits.clone().acquire_owned().await.map_err(|_| sqlx::Error::PoolClosed)?;
        let idle = std::iter::from_fn(|| self.idle().pop()).find(|(_, since)| since.elapsed() < IDLE);
        let mut connection = match idle {
            Some((connection, _)) => connection,
            None => self.connect().await?,
        };
        if !self.0.checked.load(Ordering::Relaxed) {
            schema::check(&mut connection, self.name()).await?;
            self.0.checked.store(true, Ordering::Relaxed);
        }
        Ok(Line { connection, _permit: permit })
    }

    /// A connection with a transaction begun on it.
    pub(super) async fn begin(&self) -> Result<Line, Fault> {
        let begin = async || {
            let mut line = self.line().await?;
            sqlx::raw_sql("BEGIN").execute(&mut *line).await?;
            Ok(line)
        };
        match begin().await {
            // Nothing was done on it yet.
            Err(fault) if self.broke(&fault) => begin().await,
            other => other,
        }
    }

    /// Makes durable what the transaction did.
    pub(super) async fn commit(&self, mut line: Line) -> Result<(), Fault> {
        sqlx::raw_sql("COMMIT").execute(&mut *line).await?;
        self.rest(line);
        Ok(())
    }

    /// Gives a connection back.
    pub(super) fn rest(&self, line: Line) {
        if !self.0.permits.is_closed() {
            self.idle().push((line.connection, Instant::now()));
        }
    }

    /// Closes the connections; what is asked for later fails.
    pub(super) async fn close(&self) {
        self.0.permits.close();
        let idle = std::mem::take(&mut *self.idle());
        for (connection, _) in idle {
            // A server that is gone need not be told.
            let _ = tokio::time::timeout(self.0.busy, connection.close()).await;
        }
    }

    async fn again<T, F>(&self, work: impl Fn() -> F) -> Result<T, Fault>
    where
        F: Future<Output = Result<T, Fault>>,
    {
        match work().await {
            Err(fault) if self.broke(&fault) || fault.is_conflict() => work().await,
            other => other,
        }
    }

    async fn undisturbed<T, F>(&self, work: impl Fn() -> F) -> Result<T, Fault>
    where
        F: Future<Output = Result<T, Fault>>,
    {
        for _ in 1..CONFLICTS {
            match work().await {
                Err(fault) if fault.is_conflict() => {}
                other => return other,
            }
        }
        work().await
    }

    async fn answers(&self) -> Result<(), Error> {
        let ping = async || {
            let mut line = self.line().await?;
            line.ping().await?;
            self.rest(line);
            Ok(())
        };
        self.within(self.0.busy, self.again(ping)).await
    }

    /// Whether a connection broke; those that lie idle are as dead then.
    fn broke(&self, fault: &Fault) -> bool {
        let broke = fault.is_broken();
        if broke {
            self.idle().clear();
        }
        broke
    }

    /// A server that restarts is waited for, one that has been away for longer is not: the caller has others to serve.
    async fn connect(&self) -> Result<PgConnection, Fault> {
        loop {
            match self.0.place.options.connect().await {
                Ok(connection) => {
                    *self.down() = None;
                    return Ok(connection);
                }
                Err(e) => {
                    let fault = Fault::from(e);
                    let since = *self.down().get_or_insert_with(Instant::now);
                    if !fault.is_broken() || since.elapsed() >= self.0.busy.min(RESTART) {
                        return Err(fault);
                    }
                }
            }
            tokio::time::sleep(RETRY.min(self.0.busy / 4)).await;
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<(PgConnection, Instant)>> {
        self.0.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn down(&self) -> MutexGuard<'_, Option<Instant>> {
        self.0.down.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
