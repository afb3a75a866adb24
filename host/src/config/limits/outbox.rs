//! The bounds of notices and reports.

use std::time::Duration;

/// How many notices and reports go out, and how they are submitted.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Outbox {
    /// Between two reports (DSN) to one sender.
    pub report_pair: Duration,
    /// Octets of a message's header that a report carries: real ones stay below, and many reports must not fill the disk.
    pub report_header: usize,
    /// How long notices over the hourly cap are collected before they are told of together.
    pub digest_after: Duration,
    /// Senders that a digest names; more are "others".
    pub digest_senders: usize,
    /// Octets of a text of the postmaster's own: some thirty pages.
    pub template_octets: u64,
    /// Tries to submit one notice before it is given up and journalled so.
    pub notice_tries: u32,
    /// Notices to one recipient in an hour.
    pub notices_per_hour: u32,
    /// Between two notices to one recipient about one sender.
    pub notice_pair: Duration,
    /// Between two letters to one user whose own rules cannot be read: often enough to be noticed, and no nuisance.
    pub rules_pair: Duration,
    /// Between two notices of this installation: one a second at most.
    pub notice_interval: Duration,
    /// Notices that may wait to be sent, some three hours' worth: mail to many recipients must not fill the disk with them.
    pub notices_waiting: u32,
    /// How long each step of handing a notice to the SMTP server may take.
    pub notice_step: Duration,
    /// How long the server may take for the message itself: RFC 5321 §4.5.3.2.6 asks for ten minutes, since a client that
    /// gives up earlier sends it twice.
    pub notice_message: Duration,
    /// How long a notice under way may go on when the program stops, so that it need not be sent twice.
    pub notice_drain: Duration,
}

impl Default for Outbox {
    fn default() -> Outbox {
        Outbox {
            report_pair: Duration::from_secs(3_600),
            report_header: 32 * 1024,
            digest_after: Duration::from_secs(3_600),
            digest_senders: 20,
            template_octets: 64 * 1024,
            notice_tries: 20,
            notices_per_hour: 5,
            notice_pair: Duration::from_secs(86_400),
            rules_pair: Duration::from_secs(7 * 86_400),
            notice_interval: Duration::from_secs(1),
            notices_waiting: 10_000,
            notice_step: Duration::from_secs(30),
            notice_message: Duration::from_secs(600),
            notice_drain: Duration::from_secs(10),
        }
    }
}
