//! What the MTA tells of a client and of a recipient beside the commands' own words.

use crate::case::Client;
use crate::mta::intake::{client_ip, client_name};

/// The macros of one RCPT.
#[derive(Debug, Default)]
pub(super) struct RcptMacros {
    /// `{rcpt_addr}`.
    pub(super) address: Option<Vec<u8>>,
    /// `{rcpt_mailer}`.
    pub(super) mailer: Option<Vec<u8>>,
}

/// What is known of one RCPT before its path is read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rcpt<'a> {
    /// The address for which the MTA takes the path, where it says so.
    pub(super) whom: Option<&'a [u8]>,
    /// Whether the MTA waits for an answer to this recipient, so that it can be refused alone.
    pub(super) alone: bool,
}

impl RcptMacros {
    /// The address for which this MTA takes the path. Absent where it does not say.
    ///
    /// The macros mean that in Postfix alone: Sendmail's `{rcpt_addr}` is what its mailer gets. For a recipient that it
    /// refuses Postfix says `error`. For mail that comes by no smtpd it tells no mailer, since it has not resolved the
    /// address.
    pub(super) fn by(self, mta: &str) -> Option<Vec<u8>> {
        let resolved = self.resolved();
        self.address.filter(|address| is_postfix(mta) && resolved && address.contains(&b'@'))
    }

    /// Whether this MTA says which mailer it would give the recipient to.
    fn resolved(&self) -> bool {
        self.mailer.as_ref().is_some_and(|mailer| !mailer.is_empty() && mailer != b"error")
    }

    /// Whether the recipient may be refused alone.
    ///
    /// A Postfix that tells no mailer may be its cleanup, with mail that comes by no smtpd (`non_smtpd_milters`). To cleanup
    /// a refusal is a "milter configuration error", and it tries the whole message again without end.
    pub(super) fn may_be_refused(&self, mta: &str) -> bool {
        !is_postfix(mta) || self.resolved()
    }
}

/// Whether an MTA that calls itself so is a Postfix.
pub(super) fn is_postfix(mta: &str) -> bool {
    mta == "Postfix" || mta.starts_with("Postfix ")
}

/// The client as CONNECT tells it: name, family, and for an internet family port and address. A part that is not there or
/// cannot be read is a fact that is missing; Postfix says `unknown` for an address that it does not know.
pub(super) fn connected(payload: &[u8], limit: usize) -> Client {
    let Some((name, rest)) = until_nul(payload) else { return Client::default() };
    let ip = match rest.split_first() {
        // A port of two octets goes before the address.
        Some((b'4' | b'6', rest)) => rest.get(2..).and_then(until_nul).and_then(|(address, _)| client_ip(address)),
        _ => None,
    };
    Client { ip, name: client_name(name, limit), ..Client::default() }
}

/// The octets before the first NUL, and those behind it.
fn until_nul(octets: &[u8]) -> Option<(&[u8], &[u8])> {
    let (before, behind) = octets.split_at_checked(octets.iter().position(|octet| *octet == 0)?)?;
    Some((before, behind.get(1..)?))
}
