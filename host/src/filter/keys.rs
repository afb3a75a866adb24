//! The keys of our own addresses as mail passes: which login owns a From address, which new keys arrive, what is stamped.

use std::time::SystemTime;

use super::{Filter, trust};
use crate::case::{
    Case, Direction, Finding, Found, KeyStatus, Mail, NewKey, NotLearned, NotStamped, Postponed, Stamp, Submitted,
    Unreported, Verdict,
};
use crate::keyring::learn::{candidate, weigh};
use crate::keyring::stamp::Author;
use crate::proto::address::Address;
use crate::settle::{Permits, settle};
use crate::{keyring, verify};

impl Filter {
    /// The sender address, where the login of ours that brought the message, or a submitter that needs none, owns it.
    ///
    /// # Errors
    /// The owner cannot be looked up now. With `observe = true` the address counts as not owned then, and the log says so: no
    /// mail waits for it.
    pub(super) async fn own_sender(&self, mail: &Mail) -> Result<Option<Address>, Postponed> {
        if let Some(sender) = trust::submitter(&self.config, mail) {
            return Ok(Some(sender));
        }
        let (Some(login), Ok(sender)) = (&mail.login, mail.sender()) else { return Ok(None) };
        let limit = self.limits.keyring.owner_message;
        let owns = tokio::time::timeout(limit, self.own_keys.owners().owns(login, sender)).await;
        match owns.unwrap_or(Err(keyring::Error::LateOwners(limit))) {
            Ok(owns) => Ok(owns.then(|| sender.clone())),
            Err(error) if self.config.observe.0 => {
                if self.warned.is_due("owners") {
                    let until = "until they can, mail of logins is treated as anybody's";
                    tracing::warn!("{error}; {until}, and without `observe` it would be deferred");
                }
                Ok(None)
            }
            Err(error) => Err(Postponed::Owners(error.to_string())),
        }
    }

    /// Whether the login of ours that brought the message, or a submitter that needs none, owns its reverse-path. A path that
    /// cannot be looked up counts as not owned.
    pub(super) async fn owns_path(&self, mail: &Mail) -> bool {
        let Some(path) = mail.reverse_path.address() else { return false };
        let own = trust::own_addresses(&self.config, mail);
        let Some(author) = self.author(mail, &own) else { return false };
        let owns = tokio::time::timeout(self.limits.keyring.owner_message, author.owns_path(path)).await;
        matches!(owns, Ok(Ok(true)))
    }

    /// The login or the submitter that a message goes out for; `own` are the addresses that the client may send as without a
    /// login. Absent for a stranger's message.
    fn author<'a>(&'a self, mail: &'a Mail, own: &'a [&'a Address]) -> Option<Author<'a>> {
        match &mail.login {
            Some(login) => Some(Author::Login(login, self.own_keys.owners())),
            None => trust::submitter(&self.config, mail).map(|_| Author::Client(own)),
        }
    }

    /// What becomes of the key fields of a message that goes out, and what is found for the recipients whose mail ends here.
    ///
    /// # Errors
    /// The owner of the sender address cannot be looked up now.
    pub(super) async fn outbound(&self, mail: &Mail, elsewhere: Vec<usize>) -> Result<Finding, Postponed> {
        let sender = mail.sender().ok().cloned();
        let own = trust::own_addresses(&self.config, mail);
        let Some(author) = self.author(mail, &own) else { return Ok(Finding::Passing(Direction::Outbound)) };
        let stays = elsewhere.len() < mail.recipients.len();
        let stamped = async {
            match self.own_keys.stamper(&mail.daemon) {
                Some(stamper) => stamper.stamp(mail, sender, &author, SystemTime::now()).await,
                None if !stays => Finding::Passing(Direction::Outbound),
                None => Finding::Submitted(Submitted { sender, stamp: Stamp::Bare(NotStamped::NotHere), inside: None }),
            }
        };
        if !stays {
            return Ok(stamped.await);
        }
        // Both may take as long as a message may.
        match tokio::join!(stamped, self.inbound(mail, elsewhere)) {
            (Finding::Submitted(submitted), found) => {
                Ok(Finding::Submitted(Submitted { inside: Some(found?), ..submitted }))
            }
            (other, _) => Ok(other),
        }
    }

    /// Whether new keys that a message brings are learned here.
    pub(super) fn learns_from(&self, mail: &Mail) -> bool {
        !mail.head().new_keys.is_empty() && self.own_keys.learner(&mail.daemon).is_some()
    }

    /// The new key that a message brings, where it brings one. The AS of the address is asked; the cache, where a revoked key
    /// may still be, is not.
    ///
    /// # Errors
    /// No AS decided. The message is to come again, with `observe = true` too, since a key that is taken off unproved is
    /// lost.
    pub(super) async fn new_key(&self, mail: &Mail) -> Result<Option<NewKey>, Postponed> {
        if mail.head().new_keys.is_empty() {
            return Ok(None);
        }
        if self.own_keys.learner(&mail.daemon).is_none() {
            return Ok(Some(NewKey::Refused(NotLearned::NotHere)));
        }
        match candidate(mail, &self.config.final_domains) {
            Ok((address, key)) => {
                let Some(verifier) = &self.verifier else {
                    return Err(Postponed::Keyring("nobody can be asked whether a new key is right".into()));
                };
                let bringer = verify::Bringer::of(mail);
                let proof = verifier.prove(&address, key, &bringer).await;
                let (found, valid_for) = proof.map_err(|later| later.postponed())?;
                weigh(address, key, &found, valid_for, SystemTime::now()).map(Some)
            }
            Err(why) => Ok(Some(NewKey::Refused(why))),
        }
    }

    /// Whether the message carries a living key of an address of ours and comes from outside (attack A14): an AS called the
    /// key valid, and neither the address's owner nor a server of ours brought it.
    pub(super) fn is_own_key(&self, mail: &Mail, found: &Found, by_owner: bool) -> bool {
        let Some(sender) = &found.sender else { return false };
        let ours = self.config.final_domains.contains(sender.domain());
        let seen = ours && found.status == KeyStatus::Valid && !by_owner && !trust::is_hop(&self.config, mail);
        if seen && self.warned.is_due(&sender.to_string()) {
            let key =
                mail.head().keys.iter().flatten().next().map(|key| key.verify_key().fingerprint()).unwrap_or_default();
            tracing::warn!(
                "a living key of {sender} came in from outside: somebody elsewhere has it; `addrauth key rotate {sender}`, and \
                 once the new one is learned, `addrauth key revoke {sender} --only {key}`, or it stays good until it ends"
            );
        }
        seen
    }

    /// Writes a proven key into the keyring before the MTA is answered. Where that fails, the message is to come again. The
    /// reply is settled anew, since it may hang on what became of the key.
    pub(super) async fn learn(&self, case: Case) -> Case {
        let Case { mail, mut finding, decisions, reply } = case;
        let proven = match &mut finding {
            Finding::Found(Found { new_key: Some(NewKey::Proven(proven)), .. }) => proven,
            _ => return Case { mail, finding, decisions, reply },
        };
        let learner = self.own_keys.learner(&mail.daemon);
        let (Some(learner), Verdict::Accept | Verdict::Discard) = (learner, &reply.verdict) else {
            return Case { mail, finding, decisions, reply };
        };
        match learner.learn(proven, SystemTime::now()).await {
            Ok(learned) => proven.learned = Some(learned),
            Err(error) => {
                tracing::warn!("a new key of {} is not recorded, its mail is to come again: {error}", proven.address);
                finding = Finding::Postponed(Postponed::Keyring(error.to_string()));
            }
        }
        let permits = Permits { report: Err(Unreported::Undecided), refuse: true };
        let (mail, rules) = self.by_name(mail);
        let reply = settle(&mail, &finding, &decisions, &rules, &permits);
        Case { mail, finding, decisions, reply }
    }

    /// Closes the keyring. Mail to be learned from or stamped is put off from then on.
    pub async fn close_keys(&self) {
        self.own_keys.close().await;
    }

    /// The hourly look at the keyring.
    pub async fn look_at_keys(&self) {
        self.own_keys.look(SystemTime::now()).await;
    }
}
