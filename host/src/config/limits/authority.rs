//! The bounds of the Authentication Server.

use std::time::Duration;

/// What the Authentication Server keeps, answers and posts.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Authority {
    /// INVALIDKEY answers of our AS to one /24 or /56 in ten seconds; right proofs are always answered.
    pub invalid_answers: u32,
    /// Networks whose INVALIDKEY answers are counted within one window; more, and the window begins anew: some 3 MB.
    pub invalid_networks: usize,
    /// Batches of VERIFY questions of one socket that are received at once, and whose keys are read from another machine at once;
    /// beyond it questions wait in the kernel's buffer. A socket's thread receives twice in a step of `answer_after`: with 8
    /// batches of 32, some 250,000 datagrams a second; only where all of them are no questions does it go on meanwhile. What comes
    /// faster fills the buffer, and is lost where that is full.
    pub answers_at_once: usize,
    /// VERIFY questions of a batch: under load one question to the table serves as many.
    pub answers_together: usize,
    /// Answers of one socket that wait for their time, some 600 octets each; beyond it questions wait in the kernel's buffer.
    pub answers_waiting: usize,
    /// The step in which our AS answers. Over UDP answers leave when one begins, three eighths of it to one and a half after
    /// their questions came; over TLS one after that; or later by whole ones where answering takes longer. It hides the time that
    /// reading an address's keys takes, and is little beside a network's. Over UDP a step takes 0.1 ms at least; over TLS zero
    /// holds nothing back.
    pub answer_after: Duration,
    /// Octets of memory for the keys of addresses that were asked about lately: some 100,000 addresses with two keys, and what a
    /// small machine has to spare.
    pub asked_octets: u64,
    /// The same for addresses that have no key: some 40,000. Whoever asks about junk evicts junk.
    pub asked_unknown_octets: u64,
    /// Rows of the log of changes that are kept, some 15 MB: half a day of a million addresses. Those who read it look before
    /// each batch of questions.
    pub log_rows: u64,
    /// TLS connections to our AS at once, those in their handshake included, and at most an eighth of the descriptors that
    /// this process may have (each takes two); for a new one beyond that the one silent longest is closed. Some 50 KB each.
    pub streams: usize,
    /// The same from one /24 or /56: a large provider's servers keep one each, and one network must not take all.
    pub streams_per_network: usize,
    /// How long a TLS handshake with our AS may take: two round trips and a slow machine; a half-open connection never ends
    /// it.
    pub stream_handshake: Duration,
    /// How long a TLS connection to our AS may say nothing between two lines.
    pub stream_idle: Duration,
    /// How long a TLS connection to our AS may last, whatever it says: nobody holds a place for ever.
    pub stream_age: Duration,
    /// How long one line may take from its first octet to its last: a verifier writes it in one go.
    pub stream_line: Duration,
    /// How long the other side may leave our replies unread before its connection is closed.
    pub stream_write: Duration,
    /// Octets of pipelined lines that are read before they are answered: some hundred questions.
    pub stream_octets: usize,
    /// Lines of one TLS connection that are worked on at once: the table has few readers.
    pub stream_lines: usize,
    /// Wrong tokens from one network in ten seconds that are logged and answered; beyond it the connection is closed unheard.
    pub wrong_tokens: u32,
    /// How long the AS keeps an ended key, to say `e=expired`.
    pub expired_kept: Duration,
    /// Between two sweeps of the AS's ended keys, and before the first, also of the keyring's: a late one costs a few rows,
    /// and one right after the start may go by a clock that is ahead.
    pub key_sweep: Duration,
    /// An AVT below this gets a warning: Postfix keeps mail in its queue for 5 days, and its key must not end before that.
    pub avt_advised: Duration,
    /// Living keys of one address, and the comparisons that an answer of our AS costs at most, whether the address has keys or
    /// not. AGI and AVT by default leave three living keys, and as many that ended: eight comparisons.
    pub keys_per_address: usize,
    /// AGI and AVT of an address at least: no mail is delivered and read in less.
    pub interval_least: Duration,
    /// AGI and AVT of an address at most: a key that leaked is to end some day.
    pub interval_most: Duration,
    /// AGI and AVT together: a key's time is told in seven digits (SPECIFICATION §1.5), and a server that learned the key
    /// stamps no longer than that.
    pub lifetime_most: Duration,
    /// Keys made in one transaction: others may write to the table between two.
    pub keys_at_once: usize,
    /// Between two looks for addresses whose turn has come: how even issue times are.
    pub issue_every: Duration,
    /// Keys that are taken, asked about and posted together: with one connection to the MTA, some 60 a second at most.
    pub posts_at_once: usize,
    /// The pause between two such lots: what a burst may be for the MTA and the mailboxes.
    pub post_pause: Duration,
    /// Between two looks for keys to be posted: how long one made by a command waits.
    pub post_look: Duration,
    /// Tries to post one key before it is given up: 20 days, and a key ends after 12 by default.
    pub post_tries: u32,
    /// Characters of the reason why a key is not posted yet: a line of a log.
    pub post_note: usize,
    /// Octets of a list of addresses that is imported: a million lines.
    pub import_octets: u64,
    /// Wrong lines of such a list that are told one by one: a screenful.
    pub import_errors: usize,
    /// INVALIDKEY answers that differ (address, verifier, network) and wait to be written: some 3 MB.
    pub forged_waiting: usize,
    /// How often they are written: a report lags by this, and a crash loses this much.
    pub forged_written: Duration,
    /// Rows of them on the disk, some 40 MB; beyond it they are counted for their domain alone.
    pub forged_rows: u64,
    /// How long they are kept: a season, long enough to show a domain's owner what changed.
    pub forged_kept: Duration,
}

impl Default for Authority {
    fn default() -> Authority {
        Authority {
            invalid_answers: 50,
            invalid_networks: 65_536,
            answers_at_once: 8,
            answers_together: 32,
            answers_waiting: 4_096,
            answer_after: Duration::from_millis(2),
            asked_octets: 64 * 1024 * 1024,
            asked_unknown_octets: 8 * 1024 * 1024,
            log_rows: 200_000,
            streams: 1_024,
            streams_per_network: 64,
            stream_handshake: Duration::from_secs(5),
            stream_idle: Duration::from_secs(60),
            stream_age: Duration::from_secs(3_600),
            stream_line: Duration::from_secs(5),
            stream_write: Duration::from_secs(10),
            stream_octets: 16 * 1024,
            stream_lines: 32,
            wrong_tokens: 5,
            expired_kept: Duration::from_secs(14 * 86_400),
            key_sweep: Duration::from_secs(3_600),
            avt_advised: Duration::from_secs(5 * 86_400),
            keys_per_address: 64,
            interval_least: Duration::from_secs(3_600),
            interval_most: Duration::from_secs(115 * 86_400),
            lifetime_most: Duration::from_secs(9_999_999),
            keys_at_once: 100,
            issue_every: Duration::from_secs(60),
            posts_at_once: 16,
            post_pause: Duration::from_millis(250),
            post_look: Duration::from_secs(2),
            post_tries: 250,
            post_note: 300,
            import_octets: 64 * 1024 * 1024,
            import_errors: 20,
            forged_waiting: 10_000,
            forged_written: Duration::from_secs(10),
            forged_rows: 200_000,
            forged_kept: Duration::from_secs(90 * 86_400),
        }
    }
}
