//! What a notice and a digest say, and the mail that gets none.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use humantime_serde::re::humantime::format_rfc3339_seconds;
use mail_builder::MessageBuilder;
use mail_builder::headers::date::Date;
use mail_builder::headers::raw::Raw;

use super::Error;
use super::texts::Texts;
use crate::case::trail::{Trail, is_automatic};
use crate::case::{Case, Decision, Disposition, Found, KeyStatus, Mail, Recipient};
use crate::config::{Config, Limits};
use crate::proto::text::ascii;
use crate::store::{Collected, Draft, Kind};

/// Why somebody gets no mail of ours; the journal says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
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

/// Who writes our mail, and in which words.
#[derive(Clone, Debug)]
pub struct Sender {
    pub(super) from: String,
    pub(super) host: String,
    pub(super) texts: Texts,
}

impl Sender {
    /// `notices.from`, or postmaster at the host name; the host name itself; the texts of `notices.templates`.
    pub fn from_config(config: &Config, limits: &Limits) -> Result<Sender, Error> {
        let host = match config.hostname.as_str() {
            "" => crate::config::system_hostname(),
            named => named.trim_end_matches('.').to_owned(),
        };
        let from = config.notices.from()?.map_or_else(|| format!("postmaster@{host}"), |named| named.to_string());
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
        if host.is_empty() || host.len() > 253 || !host.chars().all(plain) {
            return Err(Error::Host(host));
        }
        Ok(Sender { from, host, texts: Texts::load(&config.notices, limits)? })
    }

    /// The same by another host name: in the domain of Message-IDs, and of a From address that no setting names.
    pub(super) fn at(&self, host: &str) -> Sender {
        let from = match self.from == format!("postmaster@{}", self.host) {
            true => format!("postmaster@{host}"),
            false => self.from.clone(),
        };
        Sender { from, host: host.to_owned(), texts: self.texts.clone() }
    }

    /// The notice to the recipient with this index, or why there is to be none.
    pub fn compose(&self, case: &Case, recipient: usize) -> Result<Draft, NotOwed> {
        let to = case.mail.recipients.get(recipient).and_then(Recipient::address).ok_or(NotOwed::NoAddress)?;
        if is_automatic(to) || to.to_string().eq_ignore_ascii_case(&self.from) {
            return Err(NotOwed::Automatic);
        }
        if Trail::of(&case.mail, 0).is_bulk() {
            return Err(NotOwed::Bulk);
        }
        let sender = sender(case);
        let text = &self.texts.notice;
        let values = [
            ("sender", sender.as_deref().map_or("(no usable address)".into(), spelled)),
            ("when", when(case.mail.received)),
            ("reason", reason(case).to_owned()),
            ("fate", fate(case, recipient).to_owned()),
            ("reference", reference(&case.mail)),
            ("postmaster", self.from.clone()),
        ];
        let (id, letter) = self.letter(&to.to_string(), seconds(case.mail.received), text.subject(&values))?;
        Ok(Draft {
            kind: Kind::Notice,
            recipient: to.to_string(),
            sender: sender.unwrap_or_default(),
            reverse_path: String::new(),
            message_id: id,
            message: letter.text_body(text.body(&values)).write_to_vec().map_err(|_| NotOwed::Failed)?,
        })
    }

    /// The letter to the recipient with this index, whose own rules cannot be read, or why there is to be none.
    pub fn rules_unread(&self, case: &Case, recipient: usize) -> Result<Draft, NotOwed> {
        let to = case.mail.recipients.get(recipient).and_then(Recipient::address).ok_or(NotOwed::NoAddress)?;
        if is_automatic(to) || to.to_string().eq_ignore_ascii_case(&self.from) {
            return Err(NotOwed::Automatic);
        }
        let why = decision(case, recipient).and_then(|decision| decision.rules_unread.as_deref());
        let text = &self.texts.rules_unread;
        let values = [
            ("address", printable(&to.to_string(), 254)),
            ("why", ascii(case.mail.redactor().cut_text(why.unwrap_or_default()).as_ref(), 400)),
            ("postmaster", self.from.clone()),
        ];
        let (id, letter) = self.letter(&to.to_string(), seconds(case.mail.received), text.subject(&values))?;
        Ok(Draft {
            kind: Kind::RulesUnread,
            recipient: to.to_string(),
            sender: String::new(),
            reverse_path: String::new(),
            message_id: id,
            message: letter.text_body(text.body(&values)).write_to_vec().map_err(|_| NotOwed::Failed)?,
        })
    }

    /// The digest of notices that were held back, naming at most `most` senders.
    pub fn digest(&self, collected: &Collected, most: usize, now: SystemTime) -> Result<Draft, NotOwed> {
        let mut senders: Vec<String> =
            collected.senders.iter().take(most).map(|sender| format!("    {}", spelled(sender))).collect();
        match collected.senders.len() {
            0 => senders.push("    (no usable address)".to_owned()),
            known if known > most => senders.push("    and others".to_owned()),
            _ => {}
        }
        let text = &self.texts.digest;
        let values = [
            ("count", collected.count.to_string()),
            ("when", when(collected.since)),
            ("senders", senders.join("\n")),
            ("postmaster", self.from.clone()),
        ];
        let (id, letter) = self.letter(&collected.recipient, seconds(now), text.subject(&values))?;
        Ok(Draft {
            kind: Kind::Digest,
            recipient: collected.recipient.clone(),
            sender: String::new(),
            reverse_path: String::new(),
            message_id: id,
            message: letter.text_body(text.body(&values)).write_to_vec().map_err(|_| NotOwed::Failed)?,
        })
    }

    /// A mail of ours without its body, and its Message-ID in angle brackets; `date` in seconds since 1970.
    pub(super) fn letter(
        &self,
        to: &str,
        date: i64,
        subject: String,
    ) -> Result<(String, MessageBuilder<'static>), NotOwed> {
        let mut random = [0; 15];
        getrandom::fill(&mut random).map_err(|_| NotOwed::Failed)?;
        let id = format!("{}@{}", URL_SAFE_NO_PAD.encode(random), self.host);
        let letter = MessageBuilder::new()
            .header("Date", Date::new(date))
            .header("From", Raw::new(format!("Mail system <{}>", self.from)))
            .header("To", Raw::new(format!("<{to}>")))
            .message_id(id.clone())
            .subject(subject)
            .header("Auto-Submitted", Raw::new("auto-replied"))
            .header("X-Auto-Response-Suppress", Raw::new("All"));
        Ok((format!("<{id}>"), letter))
    }
}

/// What was found, where the message was ours to examine.
pub(super) fn found(case: &Case) -> Option<&Found> {
    case.finding.found()
}

/// The sender address, where there is one, without a copy of a key in it.
pub(super) fn sender(case: &Case) -> Option<String> {
    let sender = found(case)?.sender.as_ref()?.to_string();
    Some(case.mail.redactor().cut_text(&sender).into_owned())
}

/// Why the sender counts as unconfirmed, for a reader who knows nothing of keys.
fn reason(case: &Case) -> &'static str {
    match found(case).map(|found| found.status) {
        Some(KeyStatus::Invalid) => "The message carried a key that does not belong to this address.",
        Some(KeyStatus::Missing) => "The message carried no key, although this address's mail carries one.",
        Some(KeyStatus::Unusable) => "The message names its sender, or carries its key, in a way that cannot be read.",
        _ => "Whether the message comes from this address could not be found out.",
    }
}

/// What became of the message for the recipient with this index.
fn fate(case: &Case, recipient: usize) -> &'static str {
    match disposition(case, recipient) {
        Disposition::Accept => "It was delivered to you.",
        Disposition::Mark => "It was delivered to you, marked as suspicious.",
        Disposition::Quarantine => "It was kept back and not delivered to you.",
        Disposition::Reject | Disposition::Defer => "It was not delivered to you.",
    }
}

/// The MTA's name for the message, with which its log tells more.
pub(super) fn reference(mail: &Mail) -> String {
    let id = mail.queue_id.as_deref().unwrap_or_default();
    let id: String = id.chars().filter(char::is_ascii_alphanumeric).take(64).collect();
    if id.is_empty() { "none".to_owned() } else { id }
}

/// What was decided for the recipient with this index.
fn disposition(case: &Case, recipient: usize) -> Disposition {
    decision(case, recipient).map_or(Disposition::Reject, |decision| decision.disposition)
}

/// The decision about the recipient with this index.
fn decision(case: &Case, recipient: usize) -> Option<&Decision> {
    case.decisions.iter().find(|decision| decision.recipients.contains(&recipient))
}

/// An address of a stranger's choosing as text that no reader turns into a link.
pub(super) fn spelled(address: &str) -> String {
    printable(address, 254).replace('@', " [at] ").replace('.', " [dot] ").replace(['/', ':'], "?")
}

/// Printable ASCII, at most `most` characters; anything else becomes a question mark.
fn printable(text: &str, most: usize) -> String {
    ascii(text, most).replace([' ', '<', '>'], "?")
}

/// An address for a reader who knows it: letters of any script, else as [`printable`].
pub(super) fn letters(address: &str) -> String {
    let good = |c: char| c.is_alphanumeric() || c.is_ascii_graphic() && !matches!(c, '<' | '>' | '/' | ':');
    address.chars().map(|c| if good(c) { c } else { '?' }).take(254).collect()
}

/// Seconds since 1970, as mail-builder counts them.
pub(super) fn seconds(at: SystemTime) -> i64 {
    i64::try_from(at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()).unwrap_or_default()
}

/// A time for people: 2026-01-31 at 12:34 UTC.
pub(super) fn when(at: SystemTime) -> String {
    let most = UNIX_EPOCH + std::time::Duration::from_secs(253_402_300_799);
    let text = format_rfc3339_seconds(at.clamp(UNIX_EPOCH, most)).to_string();
    let (day, time) = text.split_once('T').unwrap_or((text.as_str(), ""));
    format!("{day} at {} UTC", time.get(..5).unwrap_or_default())
}

#[cfg(test)]
#[path = "compose/tests.rs"]
mod tests;
