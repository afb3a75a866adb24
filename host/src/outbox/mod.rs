//! What we still have to send: notices to recipients, composed here, and messages that custody hands on; kept in the
//! outbox, sent over SMTP.
//!
//! Delivery is at least once: a try is counted before it is made, and a crash between sending and noting so repeats it,
//! with the same Message-ID.

mod compose;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use lettre::address::Envelope;
use lettre::transport::smtp::extension::ClientId;
use lettre::{AsyncSmtpTransport, AsyncTransport, Tokio1Executor};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

pub use compose::{NotOwed, Sender};

use crate::case::Case;
use crate::config::{Config, Limits};
use crate::proto::header::{self, Bounds};
use crate::proto::mark::{MARK_FIELD, MarkKey, bound_id};
use crate::store::{self, Caps, Draft, Due, Ledger};

/// How long the worker waits at most before it looks for what is due: whoever releases a message waits for that.
const LOOK: Duration = Duration::from_secs(5);
/// Between two sweeps of what need not be kept any longer.
const SWEEP: Duration = Duration::from_secs(3_600);

/// What can go wrong with the outbox.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A setting that names no server.
    #[error("notices.notify_via = {0:?} is no server: write HOST:PORT, such as 127.0.0.1:25")]
    Via(String),
    /// A setting that is no address.
    #[error(
        "notices.from = {0:?} is no address, and postmaster at the host name would be none either: set notices.from or hostname"
    )]
    From(String),
    /// The database.
    #[error(transparent)]
    Store(#[from] store::Error),
}

/// What one turn of the worker came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Nothing is to be sent now.
    Idle,
    /// A notice was sent.
    Sent,
    /// A message from quarantine was sent: somebody else's, and no notice of ours that a rate bounds.
    HandedOn,
    /// It was not taken; it is tried again later.
    Postponed(String),
    /// It was not taken, and is not tried again; a message from quarantine is kept there again.
    GivenUp(String),
}

/// The outbox: composes notices, and sends those that are owed.
pub struct Outbox {
    ledger: Ledger,
    mark: MarkKey,
    sender: Sender,
    server: AsyncSmtpTransport<Tokio1Executor>,
    limits: Arc<Limits>,
    journal_kept: Duration,
    wake: Notify,
}

impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox").field("sender", &self.sender).finish_non_exhaustive()
    }
}

impl Outbox {
    /// An outbox over this ledger, with the server and the From address of the configuration. It connects to nothing yet.
    pub fn open(config: &Config, limits: &Arc<Limits>, ledger: Ledger, mark: MarkKey) -> Result<Outbox, Error> {
        let sender = Sender::from_config(config)?;
        let wrong = || Error::Via(config.notices.notify_via.clone());
        let (host, port) = config.notices.notify_via.rsplit_once(':').ok_or_else(wrong)?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let port: u16 = port.parse().map_err(|_| wrong())?;
        if host.is_empty() || port == 0 {
            return Err(wrong());
        }
        // Plain SMTP to a server of our own; it is the one that speaks to others.
        let server = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(host)
            .port(port)
            .hello_name(ClientId::Domain(sender.host().to_owned()))
            .timeout(Some(limits.notice_step))
            .build();
        Ok(Outbox {
            ledger,
            mark,
            sender,
            server,
            limits: limits.clone(),
            journal_kept: config.custody.journal_kept,
            wake: Notify::new(),
        })
    }

    /// The notice to the recipient with this index, or why there is to be none.
    pub fn compose(&self, case: &Case, recipient: usize) -> Result<Draft, NotOwed> {
        self.sender.compose(case, recipient)
    }

    /// How many notices may be owed.
    pub fn caps(&self) -> Caps {
        let limits = &self.limits;
        Caps { per_hour: limits.notices_per_hour, pair: limits.notice_pair, waiting: limits.notices_waiting }
    }

    /// Says that something is owed, so that it need not wait for the next look.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// Sends what is owed, one notice in `Limits::notice_interval` at most, until `shutdown`; a notice under way then
    /// has `Limits::notice_drain` to come to its end.
    pub async fn run(&self, shutdown: CancellationToken) {
        let mut swept: Option<std::time::Instant> = None;
        loop {
            if swept.is_none_or(|at| at.elapsed() >= SWEEP) {
                swept = Some(std::time::Instant::now());
                self.sweep(SystemTime::now()).await;
            }
            let turn = self.turn(SystemTime::now());
            tokio::pin!(turn);
            let turn = tokio::select! {
                turn = &mut turn => turn,
                () = shutdown.cancelled() => {
                    // The server may have the notice already: cut off before that is noted, it would be sent again.
                    if tokio::time::timeout(self.limits.notice_drain, turn).await.is_err() {
                        warn!("a notice under way is cut off; it is tried again later");
                    }
                    return;
                }
            };
            let pause = match turn {
                Ok(Turn::Idle) => LOOK,
                Ok(Turn::HandedOn) => Duration::ZERO,
                Ok(_) => self.limits.notice_interval,
                Err(e) => {
                    warn!("the outbox cannot be read, notices wait: {e}");
                    LOOK
                }
            };
            // After a notice the pause is kept, whoever wakes us: it is what bounds the rate.
            let woken = async {
                if pause < LOOK {
                    std::future::pending::<()>().await;
                }
                self.wake.notified().await;
            };
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
                () = woken => {}
            }
        }
    }

    /// Sends one notice, or message from quarantine, whose turn it is at this time.
    pub async fn turn(&self, now: SystemTime) -> Result<Turn, Error> {
        let Some(due) = self.ledger.take(now, backoff).await? else { return Ok(Turn::Idle) };
        let failure = match self.send(&due, now).await {
            Ok(()) => {
                self.ledger.end(&due, None, now).await?;
                let Due { kind, recipient, message_id, tries, .. } = &due;
                info!(recipient, message_id, tries, "{kind} sent");
                return Ok(if due.quarantine.is_some() { Turn::HandedOn } else { Turn::Sent });
            }
            Err(failure) => failure,
        };
        let Failure { lasting, text } = failure;
        let Due { kind, recipient, message_id, tries, .. } = &due;
        if lasting || due.tries >= self.limits.notice_tries {
            warn!(recipient, message_id, tries, "{kind} given up: {text}");
            self.ledger.end(&due, Some(&text), now).await?;
            return Ok(Turn::GivenUp(text));
        }
        debug!(recipient, message_id, tries, "{kind} waits: {text}");
        Ok(Turn::Postponed(text))
    }

    /// Hands it to the server, under our mark, which is made anew for each try since it ages.
    async fn send(&self, due: &Due, now: SystemTime) -> Result<(), Failure> {
        if due.message.is_empty() {
            return Err(Failure::lasting("its text is gone".to_owned()));
        }
        let to = due.recipient.parse().map_err(|e| Failure::lasting(format!("no address for SMTP: {e}")))?;
        // A reverse-path that SMTP cannot carry would keep the message from its recipient: it goes without one.
        let from: Option<lettre::Address> = due.reverse_path.parse().ok();
        let path = if from.is_some() { due.reverse_path.as_str() } else { "" };
        let envelope = Envelope::new(from, vec![to]).map_err(|e| Failure::lasting(e.to_string()))?;
        let mark = self.mark.write(now, path, &due.recipient, &self.bound_id(&due.message));
        let message = on_the_wire(&format!("{MARK_FIELD}: {mark}\r\n"), &due.message);
        match self.server.send_raw(&envelope, &message).await {
            Ok(_) => Ok(()),
            Err(e) => Err(Failure { lasting: e.is_permanent(), text: in_one_line(&e) }),
        }
    }

    /// What the mark binds of the message's Message-ID.
    fn bound_id(&self, message: &[u8]) -> String {
        // What custody wrote is never over these bounds: it has two fields more than a message within them at most.
        let Limits { header_fields, header_octets, .. } = *self.limits;
        let bounds = Bounds { fields: header_fields.saturating_mul(2), octets: header_octets.saturating_mul(2) };
        let block = header::scan(message, bounds);
        let octets = |range: &std::ops::Range<usize>| message.get(range.clone()).unwrap_or_default();
        let named = block.fields.iter().filter(|field| octets(&field.name).eq_ignore_ascii_case(b"Message-ID"));
        bound_id(named.map(|field| octets(&field.value)))
    }

    async fn sweep(&self, now: SystemTime) {
        match self.ledger.expire(now).await {
            Ok(0) => {}
            Ok(messages) => info!(messages, "messages in quarantine whose time is over deleted"),
            Err(e) => warn!("messages in quarantine whose time is over are not deleted: {e}"),
        }
        let Some(before) = now.checked_sub(self.journal_kept) else { return };
        match self.ledger.sweep(before).await {
            Ok(0) => {}
            Ok(rows) => info!(rows, "old journal rows deleted"),
            Err(e) => warn!("old journal rows are not deleted: {e}"),
        }
    }
}

/// A message as SMTP carries it (RFC 5321 §2.3.8), these lines on top. Every line ends with CRLF: where a bare LF stayed,
/// the dot of a line that it begins would not be doubled, and could end the message for the server.
///
/// Without the last CRLF, since the SMTP client writes one before its final dot.
fn on_the_wire(top: &str, message: &[u8]) -> Vec<u8> {
    let mut wire = Vec::with_capacity(top.len() + message.len() + 2);
    wire.extend_from_slice(top.as_bytes());
    for line in message.split_inclusive(|&octet| octet == b'\n') {
        match line.strip_suffix(b"\n") {
            Some(text) => {
                wire.extend_from_slice(text.strip_suffix(b"\r").unwrap_or(text));
                wire.extend_from_slice(b"\r\n");
            }
            None => wire.extend_from_slice(line),
        }
    }
    if wire.ends_with(b"\r\n") {
        wire.truncate(wire.len().saturating_sub(2));
    }
    wire
}

/// Why it was not taken.
struct Failure {
    /// It makes no sense to try again.
    lasting: bool,
    text: String,
}

impl Failure {
    fn lasting(text: String) -> Failure {
        Failure { lasting: true, text }
    }
}

/// The error and its causes, printable, without line ends: a server's words go to the log and the journal.
fn in_one_line(e: &dyn std::error::Error) -> String {
    let mut text = e.to_string();
    let mut cause = e.source();
    while let Some(next) = cause {
        text.push_str(": ");
        text.push_str(&next.to_string());
        cause = next.source();
    }
    text.chars().map(|c| if c == ' ' || c.is_ascii_graphic() { c } else { '?' }).take(200).collect()
}

/// How long after the nth try the next one is: a minute, doubling to six hours; 20 tries take some three days.
fn backoff(tries: u32) -> Duration {
    let doubled = 60_u64.saturating_mul(1 << tries.saturating_sub(1).min(20));
    Duration::from_secs(doubled.min(6 * 3_600))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn m_no_bare_line_feed_goes_out_and_nothing_is_added_at_the_end() {
        for (message, wire) in [
            (&b"A: b\r\n\r\nx\r\n"[..], &b"T: t\r\nA: b\r\n\r\nx"[..]),
            (b"A: b\r\n\r\n", b"T: t\r\nA: b\r\n"),
            (b"A: b\r\n\r\nx\n.\ny\r\n\r\n", b"T: t\r\nA: b\r\n\r\nx\r\n.\r\ny\r\n"),
            (b"A: b\r\n\r\nno end", b"T: t\r\nA: b\r\n\r\nno end"),
            (b"A: b\r\n\r\nx\r\r\ny", b"T: t\r\nA: b\r\n\r\nx\r\r\ny"),
        ] {
            assert_eq!(on_the_wire("T: t\r\n", message), wire);
        }
    }

    #[test]
    fn tries_take_days_and_begin_within_minutes() {
        assert_eq!(backoff(0), Duration::from_secs(60));
        assert_eq!(backoff(1), Duration::from_secs(60));
        assert_eq!(backoff(3), Duration::from_secs(240));
        assert_eq!(backoff(u32::MAX), Duration::from_secs(6 * 3_600));
        let all: Duration = (1..Limits::default().notice_tries).map(backoff).sum();
        assert!(all > Duration::from_secs(2 * 86_400) && all < Duration::from_secs(5 * 86_400), "{all:?}");
    }
}
