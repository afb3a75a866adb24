//! The bounds of learning and stamping.

use std::time::Duration;

/// What learning and stamping may take.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Keyring {
    /// Octets of a table that says which logins own which addresses: a million rows.
    pub owner_octets: u64,
    /// How long asking Postfix's postmap about such a table may take, while an SMTP client waits.
    pub owner_time: Duration,
    /// How long its answer is believed: how soon a login that lost an address is noticed.
    pub owner_kept: Duration,
    /// Its answers that are remembered: a busy server's senders of a minute.
    pub owner_known: usize,
    /// Processes of postmap at once, a few MB each.
    pub owner_at_once: usize,
    /// All look-ups of owners for one message, its key included: several tables, each in its own time, could outlast the MTA's
    /// patience with a milter.
    pub owner_message: Duration,
    /// Addresses whose fetched keys are kept in memory: the senders of a busy hour, at some 200 octets each.
    pub fetch_addresses: usize,
    /// How long a fetched key is used before the AS is asked for a newer one.
    pub fetch_kept: Duration,
    /// The same where the AS had none: how long a new address's mail goes out without.
    pub fetch_absence_kept: Duration,
    /// How long a fetched key that lives is used while the AS cannot be reached: a revoked one must not be used for ever.
    pub fetch_stale: Duration,
    /// How long the AS is left alone after fetching failed.
    pub fetch_rest: Duration,
    /// How long before its newest key ends an address is warned about: a day to find out why the AS made no other.
    pub alarm: Duration,
    /// Between two looks at the keyring for keys that end; and between two warnings about one address.
    pub watch: Duration,
    /// Keys that one such look reads; more are told as "and others".
    pub keys_ending: u32,
    /// Addresses that one such warning names: a line of a log.
    pub keys_named: usize,
    /// Addresses about which a warning is remembered, so that it is not repeated at once.
    pub keys_warned: usize,
}

impl Default for Keyring {
    fn default() -> Keyring {
        Keyring {
            owner_octets: 64 * 1024 * 1024,
            owner_time: Duration::from_secs(5),
            owner_kept: Duration::from_secs(60),
            owner_known: 10_000,
            owner_at_once: 4,
            owner_message: Duration::from_secs(8),
            fetch_addresses: 10_000,
            fetch_kept: Duration::from_secs(300),
            fetch_absence_kept: Duration::from_secs(60),
            fetch_stale: Duration::from_secs(3_600),
            fetch_rest: Duration::from_secs(5),
            alarm: Duration::from_secs(86_400),
            watch: Duration::from_secs(3_600),
            keys_ending: 10_000,
            keys_named: 10,
            keys_warned: 10_000,
        }
    }
}
