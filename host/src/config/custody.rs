//! `[custody]`: how long and how much is kept. Every value is good: zero keeps nothing.

use super::*;

/// `[custody]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Custody {
    /// How long a journal row is kept.
    #[serde(with = "span")]
    pub journal_kept: Duration,
    /// MiB of journal rows at most; beyond it the oldest go first. A row of ordinary mail takes about a quarter of a KiB.
    pub journal_mib: u64,
    /// Journal rows kept at most, in the same way.
    pub journal_rows: u64,
    /// How long a sender stays known whose mail had a right key here; counted in whole days.
    #[serde(with = "span")]
    pub known_kept: Duration,
    /// How long a quarantined message is kept.
    #[serde(with = "span")]
    pub quarantine_kept: Duration,
    /// MiB of quarantined messages at most; beyond it, what would be quarantined is deferred.
    pub quarantine_mib: u64,
}

impl Default for Custody {
    fn default() -> Custody {
        Custody {
            journal_kept: Duration::from_secs(90 * 86_400),
            // 90 days of 400,000 messages a day.
            journal_mib: 8_192,
            // The room comes to its end before.
            journal_rows: 1_000_000_000,
            known_kept: Duration::from_secs(365 * 86_400),
            quarantine_kept: Duration::from_secs(30 * 86_400),
            quarantine_mib: 2_048,
        }
    }
}
