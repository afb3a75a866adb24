//! The bounds of journal and quarantine.

use std::time::Duration;

/// What journal and quarantine may hold, and how long keeping may take.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Custody {
    /// How long making an obligation durable may take before the message is deferred: Postfix waits 30 s for a milter.
    pub keep: Duration,
    /// How long a letter about a user's own rules may take to become durable before the message goes on without it.
    pub letter: Duration,
    /// Octets of a body that is to be kept: above Postfix's `message_size_limit` of 10,240,000; a larger one is refused.
    pub body_octets: usize,
    /// Octets of all bodies that are kept in memory at once, until they are written down; beyond it, 451.
    pub bodies_octets: usize,
    /// Journal rows that wait to be written together; beyond it the door waits for the disk.
    pub journal_waiting: usize,
    /// Octets of the rows that wait: what a policy saw of a header may be long.
    pub journal_octets: usize,
    /// Octets of one row: beyond it, the facts that the policies saw are left out, and the decisions cannot be made again.
    pub journal_row: usize,
    /// How long a journal row waits for others, where the message's fate does not hang on it.
    pub journal_batch: Duration,
    /// How long one may wait beyond that where nothing can be written; then messages are deferred until one is. A lock that
    /// another process holds, or a slow disk, is over by then.
    pub journal_overdue: Duration,
    /// Known senders: those of a very large site's year, some 20 octets of disk each. Beyond it those go first who were valid
    /// longest ago.
    pub known_senders: u64,
    /// Characters of a kept message's subject that lists show: a line of a wide screen.
    pub subject_shown: usize,
    /// Kept messages that one list shows, the newest first. A longer list is looked through by recipient.
    pub quarantine_listed: u32,
    /// How long releasing a message waits to hear what became of it: a few looks of the outbox, and a slow MTA.
    pub release_wait: Duration,
    /// Entries of one user's list of wanted senders.
    pub allowed_per_user: u32,
}

impl Default for Custody {
    fn default() -> Custody {
        Custody {
            keep: Duration::from_secs(5),
            letter: Duration::from_secs(1),
            body_octets: 64 * 1024 * 1024,
            bodies_octets: 256 * 1024 * 1024,
            journal_waiting: 10_000,
            journal_octets: 64 * 1024 * 1024,
            journal_row: 1024 * 1024,
            journal_batch: Duration::from_millis(500),
            journal_overdue: Duration::from_secs(15),
            known_senders: 20_000_000,
            subject_shown: 200,
            quarantine_listed: 10_000,
            release_wait: Duration::from_secs(20),
            allowed_per_user: 1_000,
        }
    }
}
