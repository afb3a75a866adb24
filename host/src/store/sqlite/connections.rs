//! The connections to one file: several that read where the caller is, several that read for long, and one that writes.
//!
//! A short, indexed read is a call on the caller's own thread. What writes (each commit waits for the disk) or reads for
//! long runs on one of the runtime's threads for blocking work, one verb at a time on each connection.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::oneshot;

use super::Fault;

/// A connection that verbs take turns with; absent once it is closed.
type Turns = Arc<tokio::sync::Mutex<Option<Connection>>>;

/// Connections to a file.
#[derive(Debug)]
pub(super) struct Connections {
    writer: Turns,
    /// For what reads for long.
    scanners: Vec<Turns>,
    /// For short reads.
    readers: Vec<Mutex<Option<Connection>>>,
    /// Which one is tried first the next time.
    next: AtomicUsize,
    closed: AtomicBool,
    /// How long a verb waits for its turn.
    patience: Duration,
}

impl Connections {
    /// One connection that writes, `readers` for short reads, and half as many for long ones. All are open from the start: when
    /// descriptors run out, what is open can still be read and written.
    pub(super) fn open(
        readers: u32,
        patience: Duration,
        connect: impl Fn() -> Result<Connection, Fault>,
    ) -> Result<Connections, Fault> {
        let turns = || Ok::<Turns, Fault>(Arc::new(tokio::sync::Mutex::new(Some(connect()?))));
        let reader = || Ok::<_, Fault>(Mutex::new(Some(connect()?)));
        Ok(Connections {
            writer: turns()?,
            scanners: (0..readers.div_ceil(2).max(1)).map(|_| turns()).collect::<Result<_, _>>()?,
            readers: (0..readers.max(1)).map(|_| reader()).collect::<Result<_, _>>()?,
            next: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
            patience,
        })
    }

    /// A short read, here and now.
    pub(super) fn read<T>(&self, work: impl FnOnce(&Connection) -> Result<T, Fault>) -> Result<T, Fault> {
        let reader = self.free_reader().ok_or(Fault::Closed)?;
        work(reader.as_ref().ok_or(Fault::Closed)?)
    }

    /// One that nobody reads on, else the one whose turn it is: short reads take microseconds.
    fn free_reader(&self) -> Option<MutexGuard<'_, Option<Connection>>> {
        let first = self.next.fetch_add(1, Ordering::Relaxed) % self.readers.len().max(1);
        let (behind, before) = self.readers.split_at_checked(first)?;
        let free = before.iter().chain(behind).find_map(|reader| match reader.try_lock() {
            Ok(reader) => Some(reader),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        });
        free.or_else(|| Some(self.readers.get(first)?.lock().unwrap_or_else(PoisonError::into_inner)))
    }

    /// A read that takes long, elsewhere.
    pub(super) async fn scan<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Fault> {
        let at = self.next.fetch_add(1, Ordering::Relaxed) % self.scanners.len().max(1);
        let free = self.scanners.iter().find(|scanner| scanner.try_lock().is_ok());
        let scanner = free.or(self.scanners.get(at)).ok_or(Fault::Closed)?;
        self.elsewhere(scanner, |connection, _| work(connection)).await
    }

    /// A verb on the connection that writes, elsewhere. It may ask whether its caller has given it up: then nothing is to be
    /// committed any more.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection, &dyn Fn() -> bool) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Fault> {
        self.elsewhere(&self.writer, work).await
    }

    async fn elsewhere<T: Send + 'static>(
        &self,
        turns: &Turns,
        work: impl FnOnce(&mut Connection, &dyn Fn() -> bool) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Fault> {
        let turn = tokio::time::timeout(self.patience, Arc::clone(turns).lock_owned());
        let mut turn = turn.await.map_err(|_| Fault::Busy)?;
        let (told, heard) = oneshot::channel();
        tokio::task::spawn_blocking(move || {
            let done = match turn.as_mut() {
                Some(connection) if !told.is_closed() => work(connection, &|| told.is_closed()),
                Some(_) => Err(Fault::GivenUp),
                None => Err(Fault::Closed),
            };
            // First, so that whoever hears of it finds the connection free.
            drop(turn);
            let _ = told.send(done);
        });
        // Nothing is told where the runtime ends, or the verb panics: its transaction is undone.
        heard.await.unwrap_or(Err(Fault::GivenUp))
    }

    /// Whether they are closed, or about to be.
    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Closes them, those in use as soon as their verbs are done.
    pub(super) async fn close(&self) {
        self.closed.store(true, Ordering::Release);
        let mut all = Vec::new();
        for turns in self.scanners.iter().chain([&self.writer]) {
            all.extend(turns.lock().await.take());
        }
        for reader in &self.readers {
            all.extend(reader.lock().unwrap_or_else(PoisonError::into_inner).take());
        }
        // The last connection that is closed moves the log into the file.
        let _ = tokio::task::spawn_blocking(move || drop(all)).await;
    }
}
