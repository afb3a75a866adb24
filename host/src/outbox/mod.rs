//! What we still have to send: notices to recipients, reports to senders, composed here, and messages that custody hands on;
//! kept in the outbox, sent over SMTP. The mails of the AS that bring keys are composed and sent here too, and kept nowhere.
//!
//! Delivery is at least once: a try is counted before it is made, and a crash between sending and noting so repeats it,
//! with the same Message-ID.

mod compose;
mod key_mail;
mod letters;
mod permit;
mod report;
mod send;
mod texts;

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

pub use compose::{NotOwed, Sender};
pub use key_mail::{KeyMail, KeyMails, Tour};
pub use letters::Letters;
pub use send::Failure;

use self::permit::Reserved;
use self::send::Server;
use crate::case::{Case, Found, Mail, Unreported};
use crate::config::{self, Config, Limits};
use crate::proto::header::{self, Bounds, MARK_FIELD};
use crate::proto::mark::{MarkKey, bound_id};
use crate::store::{self, Caps, Draft, Due, Ledger, Withheld};

/// How long the worker waits at most before it looks for what is due: whoever releases a message waits for that.
const LOOK: Duration = Duration::from_secs(5);
/// Between two sweeps of what need not be kept any longer.
const SWEEP: Duration = Duration::from_secs(3_600);

/// What can go wrong with the outbox.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting that names no server, or is no address.
    #[error(transparent)]
    Setting(#[from] config::Error),
    /// A host name that is none.
    #[error("hostname = {0:?} is no host name: write this server's own, such as \"mx.example.com\"")]
    Host(String),
    /// A text of the postmaster's own.
    #[error("notices.templates: {path} {what}")]
    Template {
        /// The file, or the directory.
        path: PathBuf,
        /// What is wrong with it, and the way out.
        what: String,
    },
    /// A report that is owed cannot be written.
    #[error("the report to the sender cannot be written: {0}")]
    NoReport(NotOwed),
    /// The database.
    #[error(transparent)]
    Store(#[from] store::Error),
}

/// What one turn of the worker came to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Turn {
    /// Nothing is to be sent now.
    Idle,
    /// A mail was sent.
    Sent,
    /// A message from quarantine was sent: somebody else's, and no notice of ours that a rate bounds.
    HandedOn,
    /// It was not taken; it is tried again later.
    Postponed(String),
    /// It was not taken, and is not tried again; a message from quarantine is kept there again.
    GivenUp(String),
}

/// The outbox: composes notices and reports, and sends what is owed.
pub struct Outbox {
    ledger: Ledger,
    mark: MarkKey,
    /// Replaced by a reload that finds other texts.
    sender: RwLock<Arc<Sender>>,
    /// What the mail server called its host last, where `hostname` is not set: a digest has no message that tells.
    heard: RwLock<Option<String>>,
    server: Server,
    reserved: Reserved,
    limits: Arc<Limits>,
    journal_kept: Duration,
    wake: Notify,
}

impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox").field("sender", &self.sender()).finish_non_exhaustive()
    }
}

impl Outbox {
    /// An outbox over this ledger, with the server and the From address of the configuration. It connects to nothing yet.
    pub fn open(config: &Config, limits: &Arc<Limits>, ledger: Ledger, mark: MarkKey) -> Result<Outbox, Error> {
        let sender = Sender::from_config(config, limits)?;
        let server = server(config, &sender, limits)?;
        Ok(Outbox {
            ledger,
            mark,
            heard: RwLock::default(),
            sender: RwLock::new(Arc::new(sender)),
            server,
            reserved: Reserved::default(),
            limits: limits.clone(),
            journal_kept: config.custody.journal_kept,
            wake: Notify::new(),
        })
    }

    /// Reads the texts and the From address again, all or, on an error, nothing of them; what is composed from now on has them.
    pub fn reload(&self, config: &Config) -> Result<(), Error> {
        let sender = Sender::from_config(config, &self.limits)?;
        *self.sender.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(sender);
        Ok(())
    }

    /// The notice to the recipient with this index, or why there is to be none.
    pub fn compose(&self, case: &Case, recipient: usize) -> Result<Draft, NotOwed> {
        self.sender_for(&case.mail).compose(case, recipient)
    }

    /// The letter to the recipient with this index about its own rules, or why there is to be none.
    pub fn rules_unread(&self, case: &Case, recipient: usize) -> Result<Draft, NotOwed> {
        self.sender_for(&case.mail).rules_unread(case, recipient)
    }

    /// The report to the reverse-path about these recipients (indices). Whether one may be sent is [`Outbox::permit`]'s
    /// question.
    pub fn report(&self, case: &Case, recipients: &[usize]) -> Result<Draft, Error> {
        self.sender_for(&case.mail).report(case, recipients, self.limits.outbox.report_header).map_err(Error::NoReport)
    }

    /// Guard B: whether a report about this message may go to its reverse-path, at this time. Then the one report that this
    /// sender may get in `limits.outbox.report_pair` is reserved: [`Outbox::give_back`] it where no report is owed after all.
    pub async fn permit(&self, mail: &Mail, found: &Found, now: SystemTime) -> Result<(), Unreported> {
        let path = permit::reportable(mail, found, &self.sender_for(mail).from)?;
        let (sender, caps) = (path.mailbox(), self.caps());
        let most = usize::try_from(caps.waiting).unwrap_or(usize::MAX);
        if !self.reserved.reserve(&sender, caps.report_pair, most, now) {
            return Err(Unreported::Taken);
        }
        let refused = match self.ledger.report_withheld(&sender, caps, now).await {
            Ok(None) => return Ok(()),
            Ok(Some(Withheld::Full)) => Unreported::Full,
            Ok(Some(_)) => Unreported::Recent,
            Err(e) => {
                warn!("the outbox cannot be read, no report is permitted: {e}");
                Unreported::Unreadable
            }
        };
        self.reserved.give_back(&sender);
        Err(refused)
    }

    /// Gives back what [`Outbox::permit`] reserved for this message: no report is owed after all, or it is not taken and comes
    /// again.
    pub fn give_back(&self, mail: &Mail) {
        if let Some(path) = mail.reverse_path.address() {
            self.reserved.give_back(&path.mailbox());
        }
    }

    /// Who writes about this message: by the mail server's name for its host where none is set.
    fn sender_for(&self, mail: &Mail) -> Arc<Sender> {
        let server = &mail.client.server;
        if server.is_some() && *self.heard.read().unwrap_or_else(PoisonError::into_inner) != *server {
            self.heard.write().unwrap_or_else(PoisonError::into_inner).clone_from(server);
        }
        self.sender_by(server)
    }

    fn sender_by(&self, server: &Option<String>) -> Arc<Sender> {
        let sender = self.sender();
        server.as_ref().map_or_else(|| Arc::clone(&sender), |host| Arc::new(sender.at(host)))
    }

    /// How many mails may be owed.
    pub fn caps(&self) -> Caps {
        let limits = &self.limits;
        Caps {
            per_hour: limits.outbox.notices_per_hour,
            pair: limits.outbox.notice_pair,
            waiting: limits.outbox.notices_waiting,
            report_pair: limits.outbox.report_pair,
            rules_pair: limits.outbox.rules_pair,
            digest_after: limits.outbox.digest_after,
            digest_senders: limits.outbox.digest_senders,
        }
    }

    fn sender(&self) -> Arc<Sender> {
        self.sender.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Says that something is owed, so that it need not wait for the next look.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// Sends what is owed, one notice in `limits.outbox.notice_interval` at most, until `shutdown`; a notice under way then
    /// has `limits.outbox.notice_drain` to come to its end.
    pub async fn run(&self, shutdown: CancellationToken) {
        let mut swept: Option<std::time::Instant> = None;
        loop {
            if swept.is_none_or(|at| at.elapsed() >= SWEEP) {
                swept = Some(std::time::Instant::now());
                // Cut off, it leaves no transaction half done, and the next start goes on with it.
                tokio::select! {
                    () = self.sweep(SystemTime::now()) => {}
                    () = shutdown.cancelled() => return,
                }
            }
            let turn = self.turn(SystemTime::now());
            tokio::pin!(turn);
            let turn = tokio::select! {
                turn = &mut turn => turn,
                () = shutdown.cancelled() => {
                    // The server may have the notice already: cut off before that is noted, it would be sent again.
                    if tokio::time::timeout(self.limits.outbox.notice_drain, turn).await.is_err() {
                        warn!("a notice under way is cut off; it is tried again later");
                    }
                    return;
                }
            };
            let pause = match turn {
                Ok(Turn::Idle) => LOOK,
                Ok(Turn::HandedOn) => Duration::ZERO,
                Ok(_) => self.limits.outbox.notice_interval,
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

    /// Sends one mail whose turn it is at this time; a digest that is ripe is written first.
    pub async fn turn(&self, now: SystemTime) -> Result<Turn, Error> {
        let (sender, caps) = (self.sender_by(&self.heard.read().unwrap_or_else(PoisonError::into_inner)), self.caps());
        self.ledger.bundle(caps, now, |held| sender.digest(held, caps.digest_senders, now).ok()).await?;
        let Some(due) = self.ledger.take(now, backoff).await? else { return Ok(Turn::Idle) };
        let (kind, recipient, message_id, tries) = (due.kind.word(), &due.recipient, &due.message_id, due.tries);
        let Failure { lasting, text } = match self.send(&due, now).await {
            Ok(()) => {
                self.ledger.end(&due, None, now).await?;
                info!(recipient, message_id, tries, "{kind} sent");
                return Ok(if due.quarantine.is_some() { Turn::HandedOn } else { Turn::Sent });
            }
            Err(failure) => failure,
        };
        if lasting || tries >= self.limits.outbox.notice_tries {
            warn!(recipient, message_id, tries, "{kind} given up: {text}");
            self.ledger.end(&due, Some(&text), now).await?;
            return Ok(Turn::GivenUp(text));
        }
        info!(recipient, message_id, tries, "{kind} postponed: {text}");
        self.ledger.postpone(&due, &text).await?;
        Ok(Turn::Postponed(text))
    }

    /// Hands one mail to the server, under our mark, which is made anew for each try since it ages.
    async fn send(&self, due: &Due, now: SystemTime) -> Result<(), Failure> {
        if due.message.is_empty() {
            return Err(Failure::lasting("its text is gone"));
        }
        // A reverse-path that SMTP cannot carry would keep the message from its recipient: it goes without one.
        let path = if send::carries(&due.reverse_path) { due.reverse_path.as_str() } else { "" };
        let mark = self.mark.write(now, path, &due.recipient, &bound_of(&due.message, &self.limits));
        let message = on_the_wire(&format!("{MARK_FIELD}: {mark}\r\n"), &due.message);
        self.server.take(path, &due.recipient, &message).await
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

/// What the mark binds of the message's Message-ID.
fn bound_of(message: &[u8], limits: &Limits) -> String {
    // What custody wrote is never over these bounds: it has two fields more than a message within them at most.
    let bounds = Bounds {
        fields: limits.mta.header_fields.saturating_mul(2),
        octets: limits.mta.header_octets.saturating_mul(2),
    };
    let block = header::scan(message, bounds);
    let octets = |range: &std::ops::Range<usize>| message.get(range.clone()).unwrap_or_default();
    let named = block.fields.iter().filter(|field| octets(&field.name).eq_ignore_ascii_case(b"Message-ID"));
    bound_id(named.map(|field| octets(&field.value)))
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

/// Whether the settings of `[notices]` can be used, texts included; connects to nothing.
pub fn check(config: &Config, limits: &Limits) -> Result<(), Error> {
    let sender = Sender::from_config(config, limits)?;
    server(config, &sender, limits).map(|_| ())
}

fn server(config: &Config, sender: &Sender, limits: &Limits) -> Result<Server, Error> {
    let (host, port) = config.notices.server()?;
    Ok(Server::new(host, port, &sender.host, limits.outbox.notice_step, limits.outbox.notice_message))
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
        let all: Duration = (1..Limits::default().outbox.notice_tries).map(backoff).sum();
        assert!(all > Duration::from_secs(2 * 86_400) && all < Duration::from_secs(5 * 86_400), "{all:?}");
    }
}
