//! What the two daemons have in common: signals, a log that waits for nobody, what systemd is told.

pub(crate) mod log;
pub(crate) mod notify;
pub(crate) mod signals;
