//! The words of a notice, and the mail that gets none.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use humantime_serde::re::humantime::format_rfc3339_seconds;
use mail_builder::MessageBuilder;
use mail_builder::headers::raw::Raw;

use super::Error;
use crate::case::{Case, Disposition, Finding, Found, KeyStatus, Mail};
use crate::config::Config;
use crate::proto::address::Address;
use crate::store::Draft;

/// Why a recipient gets no notice; the journal says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotOwed {
    /// There is no recipient with this index, or his address is no addr-spec.
    #[error("the recipient has no usable address")]
    NoAddress,
    /// The recipient is a programme, a list's owner, or ourselves.
    #[error("the recipient is an automatic or list address")]
    Automatic,
    /// The message came over a list, in bulk, or from a programme.
    #[error("the message is list, bulk or automatic mail")]
    Bulk,
    /// The system gave no random octets for a Message-ID, or the message could not be written.
    #[error("the notice could not be composed")]
    Failed,
}

/// Who writes our notices.
#[derive(Clone, Debug)]
pub struct Sender {
    from: String,
    host: String,
}

impl Sender {
    /// `notices.from`, or postmaster at the host name; and the host name itself.
    pub fn from_config(config: &Config) -> Result<Sender, Error> {
        let host = match config.hostname.as_str() {
            "" => system_host(),
            named => named.trim_end_matches('.').to_owned(),
        };
        let from = match config.notices.from.as_str() {
            "" => format!("postmaster@{host}"),
            named => Address::parse(named.as_bytes(), false).map_err(|_| Error::From(named.to_owned()))?.to_string(),
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
        if host.is_empty() || host.len() > 253 || !host.chars().all(plain) {
            return Err(Error::From(host));
        }
        Ok(Sender { from, host })
    }

    /// The host name, for Message-IDs and HELO.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The notice to the recipient with this index, or why there is to be none.
    pub fn compose(&self, case: &Case, recipient: usize) -> Result<Draft, NotOwed> {
        let to = case.mail.recipients.get(recipient).and_then(|r| r.address.as_ref()).ok_or(NotOwed::NoAddress)?;
        if is_automatic(to) || to.to_string().eq_ignore_ascii_case(&self.from) {
            return Err(NotOwed::Automatic);
        }
        if is_bulk(&case.mail) {
            return Err(NotOwed::Bulk);
        }
        let found = match &case.finding {
            Finding::Found(found) => Some(found),
            Finding::Passing(_) => None,
        };
        let sender = found.and_then(|found| found.sender.as_ref());
        let mut random = [0; 15];
        getrandom::fill(&mut random).map_err(|_| NotOwed::Failed)?;
        let id = format!("{}@{}", URL_SAFE_NO_PAD.encode(random), self.host);
        let subject = match disposition(case, recipient) {
            Disposition::Accept | Disposition::Mark => "About a message to you: the sender's address is not proved",
            _ => "A message to you was not delivered: the sender's address is not proved",
        };
        let seconds = case.mail.received.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let message = MessageBuilder::new()
            .header("Date", mail_builder::headers::date::Date::new(i64::try_from(seconds).unwrap_or_default()))
            .header("From", Raw::new(format!("Mail system <{}>", self.from)))
            .header("To", Raw::new(format!("<{to}>")))
            .message_id(id.as_str())
            .subject(subject)
            .header("Auto-Submitted", Raw::new("auto-replied"))
            .header("X-Auto-Response-Suppress", Raw::new("All"))
            .text_body(self.text(case, recipient, found))
            .write_to_vec()
            .map_err(|_| NotOwed::Failed)?;
        Ok(Draft {
            recipient: to.to_string(),
            sender: sender.map(Address::to_string).unwrap_or_default(),
            message_id: format!("<{id}>"),
            message,
        })
    }

    fn text(&self, case: &Case, recipient: usize, found: Option<&Found>) -> String {
        let sender = match found.and_then(|found| found.sender.as_ref()) {
            Some(sender) => spelled(&sender.to_string()),
            None => "(no usable address)".to_owned(),
        };
        let fate = match disposition(case, recipient) {
            Disposition::Accept => "It was delivered to you.",
            Disposition::Mark => "It was delivered to you, marked as suspicious.",
            Disposition::Quarantine => "It was kept back and not delivered to you.",
            Disposition::Reject | Disposition::Defer => "It was not delivered to you.",
        };
        let why = match found.map(|found| found.status) {
            Some(KeyStatus::Invalid) => "The message carried a key that does not belong to this address.",
            Some(KeyStatus::Missing) => "The message carried no key, although this address's mail carries one.",
            Some(KeyStatus::Unusable) => {
                "The message names its sender, or carries its key, in a way that cannot be read."
            }
            _ => "Whether the message comes from this address could not be found out.",
        };
        let id = case.mail.queue_id.as_deref().unwrap_or_default();
        let id: String = id.chars().filter(char::is_ascii_alphanumeric).take(64).collect();
        let reference = if id.is_empty() { id } else { format!("\r\nReference: {id}") };
        format!(
            "A message to you came in the name of\r\n\r\n    {sender}\r\n\r\non {when}.\r\n\r\n\
             That this address really wrote it could not be proved.\r\n{why}\r\n{fate}\r\n\r\n\
             You need not do anything. Somebody may have used the address without being\r\n\
             allowed to, as senders of unwanted mail do. If you expected a message from\r\n\
             there, ask the sender in another way than by answering this notice.\r\n\r\n\
             Questions? Write to your postmaster: {from}\r\n{reference}\r\n\
             (The sender's address is spelled out above so that nobody opens it by mistake.)\r\n",
            when = when(case.mail.received),
            from = self.from,
        )
    }
}

/// What was decided for the recipient with this index.
fn disposition(case: &Case, recipient: usize) -> Disposition {
    let decision = case.decisions.iter().find(|decision| decision.recipients.contains(&recipient));
    decision.map_or(Disposition::Reject, |decision| decision.disposition)
}

/// Addresses behind which nobody reads: an answer to them goes in circles (RFC 3834 §2).
fn is_automatic(address: &Address) -> bool {
    let local = address.local().to_ascii_lowercase();
    ["owner-", "bounce-", "bounces-"].iter().any(|begin| local.starts_with(begin))
        || ["-request", "-owner", "-bounces"].iter().any(|end| local.ends_with(end))
        || ["mailer-daemon", "listserv", "majordomo", "noreply", "no-reply"].contains(&local.as_str())
}

/// Mail that came over a list, in bulk, or from a programme (RFC 2369, RFC 2919, RFC 3834 §2).
fn is_bulk(mail: &Mail) -> bool {
    let word = |name: &'static str| {
        mail.named(name)
            .map(|field| String::from_utf8_lossy(&field.value).trim().to_ascii_lowercase())
            .collect::<Vec<_>>()
    };
    let precedence = |value: &String| matches!(value.as_str(), "bulk" | "list" | "junk");
    let automatic = |value: &String| value.split([';', ' ', '\t']).next() != Some("no");
    mail.fields.iter().any(|field| field.name.len() > 5 && field.name.to_ascii_lowercase().starts_with("list-"))
        || word("Precedence").iter().any(precedence)
        || word("Auto-Submitted").iter().any(automatic)
}

/// An address of a stranger's choosing as text that no reader turns into a link.
fn spelled(address: &str) -> String {
    printable(address, 254).replace('@', " [at] ").replace('.', " [dot] ").replace(['/', ':'], "?")
}

/// Printable ASCII, at most `most` characters; anything else becomes a question mark.
fn printable(text: &str, most: usize) -> String {
    text.chars().map(|c| if c.is_ascii_graphic() && !matches!(c, '<' | '>') { c } else { '?' }).take(most).collect()
}

/// A time for people: 2026-01-31 at 12:34 UTC.
fn when(at: SystemTime) -> String {
    let most = UNIX_EPOCH + std::time::Duration::from_secs(253_402_300_799);
    let text = format_rfc3339_seconds(at.clamp(UNIX_EPOCH, most)).to_string();
    let (day, time) = text.split_once('T').unwrap_or((text.as_str(), ""));
    format!("{day} at {} UTC", time.get(..5).unwrap_or_default())
}

/// What the system calls itself.
fn system_host() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").map_or_else(|_| "localhost".into(), |name| name.trim().into())
}

#[cfg(test)]
#[path = "compose/tests.rs"]
mod tests;
