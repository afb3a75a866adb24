//! Stamp the mail that our logins send with the newest key of their address, where it is theirs (INVARIANTS §4.1).

use std::sync::Arc;
use std::time::SystemTime;

use super::owner::Owners;
use super::{Error, RecentWarnings, Source};
use crate::case::{Finding, Mail, NotStamped, Postponed, ReversePath, Stamp, Submitted};
use crate::config::Limits;
use crate::proto::address::Address;

/// By whose word a message goes out, and so which addresses are its sender's.
#[derive(Debug)]
#[non_exhaustive]
pub enum Author<'a> {
    /// A login's.
    Login(&'a str, &'a Owners),
    /// A client's that needs none: these addresses (`trusted_submitters`).
    Client(&'a [&'a Address]),
}

impl Author<'_> {
    /// Whether an address is his.
    pub async fn owns(&self, address: &Address) -> Result<bool, Error> {
        match self {
            Author::Login(login, owners) => owners.owns(login, address).await,
            Author::Client(own) => Ok(self.lists(own, address)),
        }
    }

    /// Whether a reverse-path is his.
    pub async fn owns_path(&self, path: &Address) -> Result<bool, Error> {
        match self {
            Author::Login(login, owners) => owners.owns_path(login, path).await,
            Author::Client(own) => Ok(self.lists(own, path)),
        }
    }

    fn lists(&self, own: &[&Address], address: &Address) -> bool {
        let wanted = address.mailbox();
        own.iter().any(|own| own.mailbox() == wanted)
    }
}

/// Puts keys into mail that goes out.
#[derive(Debug)]
pub struct Stamper {
    source: Arc<dyn Source>,
    told: RecentWarnings,
    limits: Arc<Limits>,
}

impl Stamper {
    /// Stamps with the keys of this source.
    pub fn new(source: Arc<dyn Source>, limits: &Arc<Limits>) -> Stamper {
        Stamper { source, told: RecentWarnings::new(limits), limits: Arc::clone(limits) }
    }

    /// What becomes of a message that this author sends; `sender` is its one From address. Total.
    pub async fn stamp(&self, mail: &Mail, sender: Option<Address>, author: &Author<'_>, now: SystemTime) -> Finding {
        let limit = self.limits.keyring.owner_message;
        let weighed = tokio::time::timeout(limit, self.weigh(mail, sender.as_ref(), author, now)).await;
        match weighed.unwrap_or_else(|_| Err(Postponed::Owners(Error::LateOwners(limit).to_string()))) {
            Ok(stamp) => Finding::Submitted(Submitted { sender, stamp, inside: None }),
            Err(postponed) => {
                // Whoever sends hears a 451; whoever can mend it reads the log.
                if self.told.is_due(postponed.word()) {
                    tracing::warn!("what our users send is deferred: {}", postponed.text());
                }
                Finding::Postponed(postponed)
            }
        }
    }

    async fn weigh(
        &self,
        mail: &Mail,
        sender: Option<&Address>,
        author: &Author<'_>,
        now: SystemTime,
    ) -> Result<Stamp, Postponed> {
        let unread = |error: Error| Postponed::Owners(error.to_string());
        let bare = |why| Ok(Stamp::Bare(why));
        let Some(sender) = sender else { return bare(NotStamped::NoSender) };
        if mail.head().malformed {
            return bare(NotStamped::Malformed);
        }
        // Whoever sends on what he got says so in his own name; else anybody's key could go out like that.
        if let Some(why) = passed_on(mail) {
            let names = [Some(sender.clone()), named(mail, "Resent-From"), named(mail, "Sender")];
            let good = mail.head().keys.is_empty() || owns_any(author, names).await.map_err(unread)?;
            return bare(if good { why } else { NotStamped::NotOwner });
        }
        let is_owner = author.owns(sender).await.map_err(unread)?;
        if is_resent(mail) {
            let by_owner = is_owner || owns_any(author, [named(mail, "Resent-From")]).await.map_err(unread)?;
            return bare(if by_owner { NotStamped::Resent } else { NotStamped::NotOwner });
        }
        if !is_owner {
            return bare(NotStamped::NotOwner);
        }
        if let [Some(_)] = mail.head().keys.as_slice() {
            return Ok(Stamp::Client);
        }
        let returns_here = match &mail.reverse_path {
            ReversePath::Null => true,
            ReversePath::Path(Some(path)) => author.owns_path(path).await.map_err(unread)?,
            ReversePath::Path(None) => false,
        };
        if !returns_here {
            return bare(NotStamped::OtherPath);
        }
        self.newest(sender, now).await
    }

    async fn newest(&self, sender: &Address, now: SystemTime) -> Result<Stamp, Postponed> {
        let address = sender.to_string();
        let newest = tokio::time::timeout(self.limits.custody.keep, self.source.newest(sender)).await;
        let newest = newest.unwrap_or(Err(Error::Late(self.limits.custody.keep)));
        let why = match newest.map_err(|error| Postponed::Keyring(error.to_string()))? {
            Some((key, ends)) if now < ends => {
                self.alarm(&address, ends, now);
                return Ok(Stamp::Newest(key));
            }
            Some(_) => NotStamped::Ended,
            None => NotStamped::NoKey,
        };
        if self.told.is_due(&address) {
            let way = "see whether its Authentication Server makes keys for it, and whether they arrive here";
            tracing::warn!("mail from {address} goes out without a key, since {}: {way}", why.text());
        }
        Ok(Stamp::Bare(why))
    }

    /// Warns where the newest key of an address ends so soon that its AS makes no others: with fetched keys nobody else looks.
    fn alarm(&self, address: &str, ends: SystemTime, now: SystemTime) {
        let soon = ends.duration_since(now).is_ok_and(|left| left <= self.limits.keyring.alarm);
        if soon && self.told.is_due(&format!("{address} ends")) {
            let way = "its Authentication Server should have made another one long before";
            tracing::warn!("the newest key of {address} ends within a day: {way}");
        }
    }
}

/// The signs that a message is passed on and not sent: a list, an automatic forwarder, a bounce.
///
/// * a list, or bulk mail: List-Id (RFC 2919), List-Post (RFC 2369), Precedence list, bulk or junk;
/// * forwarded: Delivered-To, X-Forwarded-To, X-Forwarded-For, ARC-Seal (RFC 8617), Auto-Submitted: auto-forwarded;
/// * a bounce: multipart/report (RFC 6522) from the null reverse-path.
fn passed_on(mail: &Mail) -> Option<NotStamped> {
    let any = |names: &[&str]| names.iter().any(|name| mail.named(name).next().is_some());
    let says = |name: &str, words: &[&str]| mail.named(name).any(|field| words.contains(&word(&field.value).as_str()));
    if any(&["List-Id", "List-Post"]) || says("Precedence", &["list", "bulk", "junk"]) {
        return Some(NotStamped::List);
    }
    let forwarded = any(&["Delivered-To", "X-Forwarded-To", "X-Forwarded-For", "ARC-Seal"]);
    if forwarded || says("Auto-Submitted", &["auto-forwarded"]) {
        return Some(NotStamped::Forwarded);
    }
    let bounces = mail.reverse_path == ReversePath::Null && says("Content-Type", &["multipart/report"]);
    bounces.then_some(NotStamped::Bounce)
}

/// The first word of a field's value, in lower case.
fn word(value: &[u8]) -> String {
    let text = String::from_utf8_lossy(value);
    let ends = |c: char| c.is_ascii_whitespace() || matches!(c, ';' | '(');
    text.split(ends).find(|word| !word.is_empty()).unwrap_or_default().to_ascii_lowercase()
}

/// Whether somebody sends on by hand what he got (RFC 5322 §3.6.6).
fn is_resent(mail: &Mail) -> bool {
    const NAMES: [&str; 7] =
        ["Resent-From", "Resent-Sender", "Resent-To", "Resent-Cc", "Resent-Bcc", "Resent-Date", "Resent-Message-ID"];
    NAMES.iter().any(|name| mail.named(name).next().is_some())
}

/// The address of the top field of this name: of Resent-From, who did so last.
fn named(mail: &Mail, name: &str) -> Option<Address> {
    Address::from_field(&mail.named(name).next()?.value, mail.smtputf8).ok()
}

/// Whether one of these is the author's own.
async fn owns_any(author: &Author<'_>, names: impl IntoIterator<Item = Option<Address>>) -> Result<bool, Error> {
    for name in names.into_iter().flatten() {
        if author.owns(&name).await? {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests;
