//! The bounds of log lines that wait.

use std::time::Duration;

/// What log lines that wait to be written may take.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Log {
    /// Octets of log lines that wait to be written: some thousand lines; beyond it they are lost, and counted.
    pub octets: usize,
    /// How long the last log lines may take to be written when the program ends: a reader that has stopped is not waited for.
    pub flush: Duration,
}

impl Default for Log {
    fn default() -> Log {
        Log { octets: 1024 * 1024, flush: Duration::from_secs(1) }
    }
}
