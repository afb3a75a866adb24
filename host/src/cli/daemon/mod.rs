//! What the two daemons have in common: signals, a log that waits for nobody, what systemd is told, what a reload may do.

pub mod log;
pub(super) mod notify;
pub(super) mod settings;
pub mod signals;
pub(super) mod watchdog;

use tokio::runtime::Handle;
use tokio::task::{JoinError, spawn_blocking};

/// Does work that reads files, compiles or otherwise may take its time on a thread of its own, so that signals are answered
/// meanwhile. Dropped, it goes on until the program ends, and nobody learns what came of it.
pub(super) async fn apart<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> Result<T, JoinError> {
    let here = Handle::current();
    spawn_blocking(move || here.block_on(work)).await
}
