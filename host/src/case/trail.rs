//! The signs that a message came by a way that loses keys: a list, a forwarder, a machine.

use super::{Field, Mail, ReversePath};
use crate::proto::address::Address;

/// What a message's header and envelope say of its way.
///
/// The sender writes most of these signs, so they prove nothing: one of them weakens a suspicion, or keeps a report or notice
/// of ours from going out. A strict policy does not ask for them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trail {
    /// A field that begins `List-` (RFC 2369, RFC 2919), Mailing-List, X-Mailing-List or X-BeenThere; Precedence: list; a
    /// reverse-path or Sender that is a list's (see [`is_list`]).
    pub mailing_list: bool,
    /// A field X-Forwarded-To, X-Forwarded-For or ARC-Seal (RFC 8617), or a Delivered-To that no server of ours wrote.
    pub forwarded: bool,
    /// A field Resent-From, Resent-Sender, Resent-To or Resent-Date (RFC 5322 §3.6.6).
    pub resent: bool,
    /// Auto-Submitted other than `no` (RFC 3834 §5), Precedence: bulk, junk or auto_reply, or a delivery report.
    pub automatic: bool,
    /// The null reverse-path, or a delivery report: multipart/report with report-type delivery-status (RFC 6522, RFC 3464).
    pub bounce: bool,
}

impl Trail {
    /// The trail of a message. Our own servers wrote its first `own_fields` fields (see [`super::Found::own_fields`]): a
    /// Delivered-To among them is of our own delivery, and no sign.
    pub fn of(mail: &Mail, own_fields: usize) -> Trail {
        let any = |names: &[&str]| names.iter().any(|name| mail.named(name).next().is_some());
        let says = |name: &str, words: &[&str]| mail.named(name).any(|f| words.contains(&word(f).as_str()));
        let begins = |field: &Field| field.name.get(..5).is_some_and(|begin| begin.eq_ignore_ascii_case("List-"));
        let below = mail.head().fields.get(own_fields..).unwrap_or_default();
        let delivered = below.iter().any(|field| field.name.eq_ignore_ascii_case("Delivered-To"));
        let sender = |field: &Field| Address::from_field(&field.value, mail.smtputf8).is_ok_and(|from| is_list(&from));
        let report = mail.named("Content-Type").any(is_delivery_report);
        Trail {
            mailing_list: mail.head().fields.iter().any(begins)
                || any(&["Mailing-List", "X-Mailing-List", "X-BeenThere"])
                || says("Precedence", &["list"])
                || mail.reverse_path.address().is_some_and(is_list)
                || mail.named("Sender").any(sender),
            forwarded: delivered || any(&["X-Forwarded-To", "X-Forwarded-For", "ARC-Seal"]),
            resent: any(&["Resent-From", "Resent-Sender", "Resent-To", "Resent-Date"]),
            automatic: report
                || says("Precedence", &["bulk", "junk", "auto_reply"])
                || mail.named("Auto-Submitted").any(|field| word(field) != "no"),
            bounce: report || mail.reverse_path == ReversePath::Null,
        }
    }

    /// Whether the message came over a list, in bulk, or from a machine: then no answer or notice may follow from it
    /// (RFC 3834 §2).
    pub fn is_bulk(self) -> bool {
        self.mailing_list || self.automatic
    }
}

/// Whether lists send from such an address: owner-*, *-owner, *-bounce, *-bounces, *-errors, *-request, *-return-*. What
/// follows a `+` is the subscriber, as a list writes it there (VERP).
pub fn is_list(address: &Address) -> bool {
    let local = address.local().to_ascii_lowercase();
    let list = local.split_once('+').map_or(local.as_str(), |(list, _)| list);
    let role = list.rsplit_once('-').filter(|(name, _)| !name.is_empty()).map(|(_, role)| role);
    list.starts_with("owner-")
        || role.is_some_and(|role| ["owner", "bounce", "bounces", "errors", "request"].contains(&role))
        || local.split_once("-return-").is_some_and(|(name, rest)| !name.is_empty() && !rest.is_empty())
}

/// Whether nobody reads what is sent to an address: an answer to it goes in circles (RFC 3834 §2).
pub fn is_automatic(address: &Address) -> bool {
    let local = address.local().to_ascii_lowercase();
    is_list(address)
        || ["bounce-", "bounces-"].iter().any(|begin| local.starts_with(begin))
        || ["mailer-daemon", "listserv", "majordomo", "noreply", "no-reply"].contains(&local.as_str())
}

/// The first word of a field's value, in lower case.
fn word(field: &Field) -> String {
    let text = String::from_utf8_lossy(&field.value);
    let ends = |c: char| c.is_ascii_whitespace() || matches!(c, ';' | '(');
    text.split(ends).find(|word| !word.is_empty()).unwrap_or_default().to_ascii_lowercase()
}

/// Whether a Content-Type is that of a delivery report.
fn is_delivery_report(field: &Field) -> bool {
    let text = String::from_utf8_lossy(&field.value).to_ascii_lowercase();
    let mut parts = text.split(';').map(str::trim);
    let report_type = |parameter: &str| {
        let (name, value) = parameter.split_once('=')?;
        (name.trim() == "report-type").then(|| value.trim().trim_matches('"').to_owned())
    };
    parts.next() == Some("multipart/report") && parts.filter_map(report_type).any(|value| value == "delivery-status")
}

#[cfg(test)]
mod tests;
