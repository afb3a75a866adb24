//! The bounds of reading mail and answering the MTA.

use std::time::Duration;

/// What a message may be made of, and how long the MTA waits.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Mta {
    /// Header fields in one message. Real mail stays below 200; a reader of ours is linear in it.
    pub header_fields: usize,
    /// Octets of one header block: the same as Postfix's `header_size_limit` times ten.
    pub header_octets: usize,
    /// Recipients of one message; Postfix's `smtpd_recipient_limit`.
    pub recipients: usize,
    /// Fields in one message which the MTA may be asked to delete (keys, status, results of others). Postfix counts from the
    /// top for each of them, so its work grows with the square; a message with more is refused.
    pub key_fields: usize,
    /// Messages in flight, between MAIL and our answer: bounds what their headers can occupy (256 KiB each).
    pub messages_in_flight: usize,
    /// How long examining one message may take: more than verification (20 s) and decisions (2 s) together.
    pub examine: Duration,
    /// Octets of one milter frame, checked before anything is allocated. Postfix sends at most 64 KiB of body at a time.
    pub frame: usize,
    /// Octets of all milter frames at once, from their first octet until they are done with, beyond 8 KiB of each: a piece of
    /// a body (64 KiB) on each of a thousand connections. Beyond it the connection ends, with 451 for its message.
    pub frames_octets: usize,
    /// Milter connections at once: a Postfix smtpd process each, 100 of them by default.
    pub connections: usize,
    /// Threads that connections live on: one for each core, and no more than a host of many cores has use for.
    pub lanes: usize,
    /// How long a milter connection may stay silent: longer than an SMTP client may (5 min, RFC 5321 §4.5.3.2).
    pub idle: Duration,
    /// How long writing one answer to the MTA may take.
    pub write: Duration,
    /// How long a new milter connection may take to negotiate: an MTA does so at once, a half-open connection never.
    pub greeting: Duration,
    /// Octets of one name, path or macro value that the MTA tells: Postfix's `line_length_limit`.
    pub text: usize,
    /// How long comparing a recipient with the first one may take (`policy.mixed = "split"`), while the SMTP client waits.
    /// After that the recipient stays, and the end of the message settles it.
    pub compare: Duration,
    /// LMTP connections at once: a Postfix lmtp process each, 100 of them by default.
    pub lmtp_connections: usize,
    /// Octets of one header at the LMTP door, which holds it whole: four times what is read of one.
    pub lmtp_header: usize,
    /// How long the next hop may take for one reply, or for taking in a piece: below the 180 s that Postfix waits
    /// for a piece to be taken from it.
    pub next_hop: Duration,
    /// How long the next hop may take for all it has to do once a message is over, with each copy that is brought then: below
    /// the 600 s that Postfix waits, which else brings all copies again.
    pub next_hop_end: Duration,
    /// Octets of a body that wait in memory where it goes to the next hop more than once; more lie in a file.
    pub spool_memory: usize,
    /// Octets of such a body: above Postfix's `message_size_limit`; a larger one is refused for now, for those it waits for.
    pub spool_octets: usize,
    /// Octets of all of them at once; beyond it, 452.
    pub spools_octets: usize,
    /// How long our answer may take from the end of the message on: Postfix waits 30 s.
    pub answer: Duration,
    /// How long messages in flight may go on when the program stops: the longest answer.
    pub drain: Duration,
}

impl Default for Mta {
    fn default() -> Mta {
        Mta {
            header_fields: 1_000,
            header_octets: 256 * 1024,
            recipients: 1_000,
            key_fields: 1_000,
            messages_in_flight: 500,
            examine: Duration::from_secs(25),
            frame: 1024 * 1024,
            frames_octets: 64 * 1024 * 1024,
            connections: 500,
            lanes: std::thread::available_parallelism().map_or(2, |n| n.get().min(16)),
            idle: Duration::from_secs(600),
            write: Duration::from_secs(30),
            greeting: Duration::from_secs(10),
            text: 2_048,
            compare: Duration::from_secs(2),
            lmtp_connections: 500,
            lmtp_header: 1024 * 1024,
            next_hop: Duration::from_secs(100),
            next_hop_end: Duration::from_secs(500),
            spool_memory: 256 * 1024,
            spool_octets: 64 * 1024 * 1024,
            spools_octets: 1024 * 1024 * 1024,
            answer: Duration::from_secs(28),
            drain: Duration::from_secs(30),
        }
    }
}
