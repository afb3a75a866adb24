//! The keys of our own addresses, in passing: who owns a From address, what new keys arrive, what goes out stamped.

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
    /// The sender address, where whoever brought the message owns it: a login of ours, or a submitter that needs none.
    ///
    /// # Errors
    /// It cannot be told now. While observing nobody owns anything then, and the log tells: no mail waits for it.
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

    /// Whether whoever brought the message owns its reverse-path: a login of ours, or a submitter that needs none. What cannot
    /// be looked up is not owned.
    pub(super) async fn owns_path(&self, mail: &Mail) -> bool {
        let Some(path) = mail.reverse_path.address() else { return false };
        let own = trust::own_addresses(&self.config, mail);
        let Some(author) = self.author(mail, &own) else { return false };
        let owns = tokio::time::timeout(self.limits.keyring.owner_message, author.owns_path(path)).await;
        matches!(owns, Ok(Ok(true)))
    }

    /// By whose word a message goes out; `own` is what the client may send as without a login. Absent where it is a stranger's.
    fn author<'a>(&'a self, mail: &'a Mail, own: &'a [&'a Address]) -> Option<Author<'a>> {
        match &mail.login {
            Some(login) => Some(Author::Login(login, self.own_keys.owners())),
            None => trust::submitter(&self.config, mail).map(|_| Author::Client(own)),
        }
    }

    /// What becomes of the key fields of a message that goes out, and what is found for those whose mail ends here.
    ///
    /// # Errors
    /// It cannot be told now who owns the sender address.
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

    /// What the new key is that a message brings, if it brings any: asked at the AS of the address, and never looked up in the
    /// cache, where a revoked key may still be.
    ///
    /// # Errors
    /// Nobody could say: the message is to come again, under `observe` too, since a key that is taken off unproved is lost.
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

    /// Whether the message carries a living key of an address of ours, and comes from outside (attack A14): found valid by an
    /// AS, and brought neither by the owner nor by a server of ours.
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

    /// Writes a proven key into the keyring before the MTA hears of it; where that fails, the message is to come again. What
    /// it is answered may hang on what became of the key.
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

    /// Closes the keyring: what is learned or stamped from then on is put off.
    pub async fn close_keys(&self) {
        self.own_keys.close().await;
    }

    /// The hourly look at the keyring.
    pub async fn look_at_keys(&self) {
        self.own_keys.look(SystemTime::now()).await;
    }
}
