//! The roles as a program runs them: opened, served, reloaded, stopped. The program itself handles signals and tells its
//! service manager.

use tokio::runtime::Handle;
use tokio::task::{JoinError, spawn_blocking};

#[cfg(feature = "authority")]
mod ask;
#[cfg(feature = "authority")]
pub mod authority;
#[cfg(all(feature = "filter", feature = "milter"))]
pub mod doors;
#[cfg(all(feature = "filter", feature = "milter"))]
pub mod filter;
#[cfg(all(feature = "filter", feature = "milter"))]
mod watch;
mod watchdog;
#[cfg(all(feature = "filter", feature = "milter"))]
mod watched;

#[cfg(all(feature = "filter", feature = "metrics", feature = "milter"))]
mod figures;
#[cfg(feature = "metrics")]
mod pages;
#[cfg(feature = "metrics")]
mod telling;

#[cfg(feature = "authority")]
pub use ask::Asking;
pub use watchdog::Health;

/// Does work on a thread of its own that may take its time, such as reading files or compiling, so that the caller goes on
/// meanwhile. Dropped, the work goes on until the program ends, and its outcome is lost.
///
/// # Errors
/// The work panicked, or the runtime ends.
pub async fn apart<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> Result<T, JoinError> {
    let here = Handle::current();
    spawn_blocking(move || here.block_on(work)).await
}
