//! What a request tells of a session and an envelope, whatever its dialect, and the message's way through the reception.

use std::sync::Arc;
use std::time::SystemTime;

use tokio::time::Instant;

use super::Fault;
use super::loose::{Loose, Parameters};
use crate::case::{Case, Client, Mail, Means, Recipient};
use crate::config::Limits;
use crate::mta::intake::{Intake, client_ip, client_name, login, text};
use crate::mta::reception::{Admitted, Reception, Seat};
use crate::mta::{Judge, Refused};

/// A path of the envelope: the address as the request has it, without angle brackets.
#[derive(Debug, Default)]
pub(super) struct Path {
    pub(super) address: String,
    pub(super) parameters: Parameters,
}

/// What a request tells of the session and of the envelope.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub(super) ip: Loose,
    pub(super) name: Loose,
    pub(super) helo: Loose,
    pub(super) tls: bool,
    /// What the MTA calls its host, where it tells that.
    pub(super) server: Option<String>,
    /// What the MTA calls itself.
    pub(super) mta: String,
    pub(super) daemon: String,
    pub(super) login: Loose,
    pub(super) queue_id: Loose,
    pub(super) from: Path,
    pub(super) to: Vec<Path>,
    /// The recipients that were left out of `to`, since there are too many.
    pub(super) more: usize,
}

impl Path {
    /// The octets of MAIL or RCPT.
    pub(super) fn octets(&self) -> Vec<u8> {
        [b"<", self.address.as_bytes(), b">"].concat()
    }

    fn recipient(&self, intake: &Intake) -> Result<Recipient, Refused> {
        intake.recipient(&self.octets(), &self.parameters.words(), None)
    }
}

impl Told {
    fn client(&self, limit: usize) -> Client {
        Client {
            ip: client_ip(self.ip.text().as_bytes()),
            name: client_name(self.name.text().as_bytes(), limit),
            helo: text(self.helo.text().as_bytes(), limit).unwrap_or_default(),
            tls: self.tls,
            server: self.server.clone().filter(|name| !name.is_empty() && name.len() <= limit),
        }
    }

    /// The message's intake up to MAIL. `parameters` are added to those of MAIL.
    fn begin(&self, means: Means, parameters: &[&[u8]], limits: &Arc<Limits>) -> Result<Intake, Refused> {
        let limit = limits.mta.text;
        let login = login(self.login.text().as_bytes(), limit)?;
        let mut intake = Intake::new(self.client(limit), self.daemon.clone(), login, Arc::clone(limits));
        intake.taken_by(&self.mta);
        intake.queued_as(&text(self.queue_id.text().as_bytes(), limit).unwrap_or_default());
        intake.received(SystemTime::now());
        intake.by(means);
        let ascii = |path: &Path| path.address.is_ascii();
        let mut words = self.from.parameters.words();
        words.extend(parameters);
        if !(ascii(&self.from) && self.to.iter().all(ascii)) {
            words.push(b"SMTPUTF8");
        }
        intake.begin(&self.from.octets(), &words);
        Ok(intake)
    }

    /// The message's intake up to its header.
    ///
    /// # Errors
    /// The login, a path or the number of recipients is over its limit.
    pub(super) fn intake(&self, means: Means, parameters: &[&[u8]], limits: &Arc<Limits>) -> Result<Intake, Refused> {
        let mut intake = self.begin(means, parameters, limits)?;
        for path in &self.to {
            let recipient = path.recipient(&intake)?;
            intake.join(recipient);
        }
        if self.more > 0 {
            return Err(Refused::Recipients(limits.mta.recipients));
        }
        Ok(intake)
    }

    /// Whether the last recipient, whose RCPT this is, may join the others; what the client is told where it may not.
    pub(super) async fn next<J: Judge>(&self, reception: &Arc<Reception<J>>, seat: &Seat) -> Result<(), &'static str> {
        if !reception.splits() {
            return Ok(());
        }
        let limits = reception.limits();
        let said = |refused: Refused| refused.reply_to_recipient();
        let Some((last, before)) = self.to.split_last() else { return Ok(()) };
        let intake = self.begin(Means::default(), &[], limits).map_err(|refused| refused.reply())?;
        if before.len() >= limits.mta.recipients || self.more > 0 {
            return Err(said(Refused::Recipients(limits.mta.recipients)));
        }
        let next = last.recipient(&intake).map_err(said)?;
        // A user's mail client would show a refusal to its user, and would not bring the message again.
        let Some(first) = before.first().filter(|_| !intake.has_login()) else { return Ok(()) };
        let first = first.recipient(&intake).map_err(said)?;
        let mut admitted = reception.admit(seat).map_err(|refused| refused.reply())?;
        let stays = admitted.alike(&self.client(limits.mta.text), &[first, next], intake.queue_id()).await;
        if stays { Ok(()) } else { Err(crate::mta::ONE_AT_A_TIME) }
    }
}

/// Has a message examined and what it owes kept. The reply of the case is to be said; the message has its room until it is.
///
/// # Errors
/// It is refused; or `can_say` does not know words for its reply, and nothing is owed.
pub(super) async fn judged<J: Judge>(
    mut admitted: Admitted<J>,
    mail: Mail,
    body: &[u8],
    due: Instant,
    can_say: impl FnOnce(&Case) -> Result<(), Fault>,
) -> Result<(Admitted<J>, Case), Fault> {
    let case = admitted.examine(mail, due).await?;
    let case = admitted.keep(case, body, due, can_say).await?;
    Ok((admitted, case))
}
