//! The bounds of finding and asking Authentication Servers.

use std::time::Duration;

/// What finding and asking Authentication Servers may take.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Verify {
    /// VERIFY questions in flight.
    pub questions: usize,
    /// VERIFY questions in flight to one AS address that was not asked yet, or was silent.
    pub questions_per_endpoint: usize,
    /// The same to one that answers: one more for each round that it answered.
    pub questions_per_endpoint_most: usize,
    /// Messages that wait for their question's turn, to whichever AS, or for the answer to another message's equal question.
    /// Each of them holds one of `limits.mta.messages_in_flight`; the other half of these is for mail that waits for no
    /// question.
    pub questions_waiting: usize,
    /// Questions that may wait at one AS address all the same, so that a flood at another one puts off no message here.
    pub questions_waiting_per_endpoint: usize,
    /// Questions and equal ones that wait in all, those included. A fifth of `limits.mta.messages_in_flight` is left under
    /// any flood; a flood of questions to many servers can fill the rest.
    pub questions_waiting_most: usize,
    /// Questions that one network may have waiting at one AS, less one for each that it spent: a large provider's mail after
    /// a restart. As many of its messages may wait for answers to others' equal questions.
    pub questions_waiting_per_network: usize,
    /// The same for a network that has spent much; and for equal questions, while half of `limits.verify.questions_waiting`
    /// wait.
    pub questions_waiting_least: usize,
    /// Questions per second and AS address that were not answered VALIDKEY: those that forged mail makes us ask.
    pub failures_per_second: f64,
    /// The burst above `limits.verify.failures_per_second`.
    pub failures_burst: f64,
    /// Networks whose spending at one AS is remembered: the least spender makes room for a new one.
    pub networks_per_endpoint: usize,
    /// Questions that a network can have spent at most.
    pub network_held_against: f64,
    /// How many of them a second are forgiven: a flood is forgotten ten minutes after it ended.
    pub network_forgiven: f64,
    /// How long a network that brought a right key of an address has a share of its own for it.
    pub proven_for: Duration,
    /// Pairs of network and address that are remembered so, at some 50 octets each.
    pub proven_known: usize,
    /// How long finding an AS in DNS may take: what `verify` leaves beside the 3 s of a question.
    pub locate: Duration,
    /// Between two looks whether /etc/resolv.conf has changed; a network manager's change is noticed so soon.
    pub resolv_conf_look: Duration,
    /// DNS answers kept, and failures of DNS remembered: a busy server's daily domains, at a few hundred octets each.
    pub dns_kept: u64,
    /// How long a DNS answer is believed at most, whatever its TTL: a withdrawn AS must not live on for a week.
    pub dns_kept_for: Duration,
    /// How long the absence of a record is believed at most: how soon a domain that joins is noticed.
    pub dns_absence_kept_for: Duration,
    /// Addresses of a domain's AS that one question goes to (SPECIFICATION §4.4: the first four count).
    pub endpoints: usize,
    /// Addresses of a domain's AS that are all asked about a new key before it is sent out: 8 records, and 8 hosts behind
    /// each.
    pub endpoints_everywhere: usize,
    /// Timeouts in a row after which an endpoint is left alone.
    pub breaker_timeouts: u32,
    /// How long it is left alone before one probe.
    pub breaker_open_for: Duration,
    /// Endpoints that are remembered at once; the least used are forgotten first.
    pub peers_known: usize,
    /// `AS=` records of one name; more, and the domain counts as unverified.
    pub as_records: usize,
    /// `AS=` records that are used, in order of priority.
    pub as_used: usize,
    /// Entries of the cache of valid keys: 83 octets each, and the strings.
    pub cache_valid: usize,
    /// Entries of the cache of invalid keys; a cache of its own, so that junk evicts no good entry.
    pub cache_invalid: usize,
    /// How long a valid answer is believed, at most.
    pub cache_valid_for: Duration,
    /// How long a valid answer without `t=` is believed.
    pub cache_valid_without_t: Duration,
    /// How long an invalid answer is believed.
    pub cache_invalid_for: Duration,
    /// How long a failure to verify is believed.
    pub cache_unverified_for: Duration,
    /// How long one try to ask over TLS may take, connection and handshake included.
    pub stream_try: Duration,
    /// How long a TLS connection of ours is kept for the next question: below what servers allow
    /// (`limits.authority.stream_idle`).
    pub stream_kept_for: Duration,
    /// TLS connections that are kept without a question; beyond it one is closed after its answer.
    pub streams_kept: usize,
    /// Lines on a TLS connection of ours that answer nothing we asked; then it is closed.
    pub stream_strays: usize,
}

impl Default for Verify {
    fn default() -> Verify {
        Verify {
            questions: 256,
            questions_per_endpoint: 8,
            questions_per_endpoint_most: 64,
            questions_waiting: 250,
            questions_waiting_per_endpoint: 16,
            questions_waiting_most: 400,
            questions_waiting_per_network: 64,
            questions_waiting_least: 4,
            failures_per_second: 10.0,
            failures_burst: 20.0,
            networks_per_endpoint: 256,
            network_held_against: 60.0,
            network_forgiven: 0.1,
            proven_for: Duration::from_secs(86_400),
            proven_known: 100_000,
            locate: Duration::from_secs(2),
            resolv_conf_look: Duration::from_secs(5),
            dns_kept: 10_000,
            dns_kept_for: Duration::from_secs(3_600),
            dns_absence_kept_for: Duration::from_secs(300),
            endpoints: 4,
            endpoints_everywhere: 64,
            breaker_timeouts: 5,
            breaker_open_for: Duration::from_secs(30),
            peers_known: 10_000,
            as_records: 16,
            as_used: 8,
            cache_valid: 100_000,
            cache_invalid: 10_000,
            cache_valid_for: Duration::from_secs(3_600),
            cache_valid_without_t: Duration::from_secs(300),
            cache_invalid_for: Duration::from_secs(60),
            cache_unverified_for: Duration::from_secs(5),
            stream_try: Duration::from_secs(3),
            stream_kept_for: Duration::from_secs(30),
            streams_kept: 64,
            stream_strays: 32,
        }
    }
}
