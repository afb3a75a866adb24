//! The roles as a program runs them: opened, served, reloaded, stopped. Signals and what a service manager is told are the
//! program's own.

use tokio::runtime::Handle;
use tokio::task::{JoinError, spawn_blocking};

#[cfg(feature = "authority")]
mod ask;
#[cfg(feature = "authority")]
pub mod authority;
#[cfg(all(feature = "filter", feature = "milter"))]
pub mod filter;
mod watchdog;
#[cfg(all(feature = "filter", feature = "milter"))]
mod watched;

#[cfg(feature = "authority")]
pub use ask::Asking;
pub use watchdog::Health;

/// Does work that reads files, compiles or otherwise may take its time on a thread of its own, so that the caller goes on
/// meanwhile. Dropped, it goes on until the program ends, and nobody learns what came of it.
///
/// # Errors
/// The work panicked, or the runtime ends.
pub async fn apart<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> Result<T, JoinError> {
    let here = Handle::current();
    spawn_blocking(move || here.block_on(work)).await
}
