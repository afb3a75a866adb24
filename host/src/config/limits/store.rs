//! The bounds of opening and locking databases.

use std::time::Duration;

/// How databases are opened, and how long locks are waited for.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Store {
    /// How long a statement waits for another process's lock on a database.
    pub busy: Duration,
    /// The same for a command: a person waits longer than an MTA does.
    pub busy_command: Duration,
    /// How long opening a database waits for other processes that hold its file: longer than a statement, since no mail waits
    /// for a start, and a start that gives up leaves the machine without its daemon.
    pub open: Duration,
    /// Connections that read one database; two cores are busy with that.
    pub readers: u32,
}

impl Default for Store {
    fn default() -> Store {
        Store {
            busy: Duration::from_secs(2),
            busy_command: Duration::from_secs(15),
            open: Duration::from_secs(30),
            readers: 4,
        }
    }
}
