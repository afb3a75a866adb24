//! A warning that the log gets once an hour: a line for each message would drown the others.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

const HOUR: Duration = Duration::from_secs(3_600);

/// When the warning was given last.
#[derive(Debug, Default)]
pub(super) struct HourlyWarning(Mutex<Option<Instant>>);

impl HourlyWarning {
    /// Whether the warning is due; if so, it counts as given for an hour.
    pub(super) fn is_due(&self) -> bool {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let due = told.is_none_or(|at| at.elapsed() >= HOUR);
        if due {
            *told = Some(Instant::now());
        }
        due
    }
}
