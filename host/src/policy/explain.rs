//! Why a recipient's mail is treated as it is: every level's word, and which of them counts.

use std::fmt;
use std::sync::Arc;

use super::shelf::Shelved;
use super::{Origin, Policies, disposition, notify};
use crate::case::Wish;
use crate::case::{By, Disposition, KeyStatus, MarkAs, Notify, Recipient, Why, restrained};

/// What treats a recipient's mail of one result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explained {
    /// The result.
    pub status: KeyStatus,
    /// The word that counts.
    pub word: LevelChoice,
    /// What other levels say, and so does not count; the strongest first.
    pub lost: Vec<LevelChoice>,
    /// The user's own choice, where it is not open to users for this result.
    pub ignored: Option<String>,
}

/// What one level chooses for one result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LevelChoice {
    /// Whose it is.
    pub by: By,
    /// The policy's id.
    pub policy: String,
    /// Where its component came from.
    pub origin: Origin,
    /// SHA-256 of the component, as hexadecimal digits.
    pub digest: String,
    /// What it does with this result; absent where that depends on the message.
    pub effect: Option<Effect>,
}

/// What a policy does with every message of a result, the host's own restraint included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effect {
    /// What happens.
    pub disposition: Disposition,
    /// Who is told.
    pub notify: Notify,
}

/// How a recipient's marked mail is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MarkExplained {
    /// The word that counts.
    pub mark: (By, MarkAs),
    /// What other levels say; the strongest first.
    pub lost: Vec<(By, MarkAs)>,
    /// Whether the user wants a spam folder, and none has an address.
    pub ignored: bool,
}

impl fmt::Display for Effect {
    /// In an administrator's words, such as "reject, tell the sender".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let told = match (self.notify.sender, self.notify.recipient) {
            (true, true) => ", tell sender and recipient",
            (true, false) => ", tell the sender",
            (false, true) => ", tell the recipient",
            (false, false) if self.disposition == Disposition::Reject => ", tell nobody",
            (false, false) => "",
        };
        write!(f, "{}{told}", self.disposition.word())
    }
}

impl Policies {
    /// What treats this recipient's mail of this result and reason, and what else has a word on it.
    pub fn explain(&self, recipient: &Recipient, status: KeyStatus, why: Option<Why>, wish: &Wish) -> Explained {
        let mailbox = recipient.mailbox();
        let mut words =
            self.bound.claims(mailbox.as_ref(), status, why, wish).map(|(by, policy)| word(by, policy, status, why));
        let word = words.next().unwrap_or_else(|| word(By::Site, self.bound.of_site(status, why), status, why));
        let lost: Vec<LevelChoice> = words.collect();
        let counted = |id: &String| word.by == By::User || lost.iter().any(|l| l.by == By::User && l.policy == *id);
        let ignored = wish.policies.get(&status).filter(|id| !counted(id)).cloned();
        Explained { status, word, lost, ignored }
    }

    /// How this recipient's marked mail is shown, and what else has a word on it.
    pub fn explain_mark(&self, recipient: &Recipient, wish: &Wish) -> MarkExplained {
        let mut marks = self.bound.marks(recipient.mailbox().as_ref(), wish);
        let mark = marks.next().unwrap_or((By::Site, MarkAs::Header));
        let lost: Vec<(By, MarkAs)> = marks.collect();
        let counted = mark.0 == By::User || lost.iter().any(|(by, _)| *by == By::User);
        MarkExplained { mark, lost, ignored: wish.mark.is_some() && !counted }
    }

    /// What the site's policies do that is probably not meant: bindings that keep mail from its recipients for no fault of its
    /// sender. Of a policy that looks into the message nothing is said.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        for (status, why) in [
            (KeyStatus::Valid, "the sender's domain vouches for this mail"),
            (KeyStatus::None, "nearly all of today's mail comes from domains without a server"),
            (KeyStatus::Missing, "forwarded and list mail lost its key on the way"),
        ] {
            let policy = self.bound.of_site(status, None);
            let effect = effect(policy, status, None).map(|effect| effect.disposition);
            if matches!(effect, Some(Disposition::Reject | Disposition::Quarantine)) {
                warnings.push(format!("policy.{} = {:?}: {why}; is that meant?", status.word(), policy.id));
            }
        }
        let refused = |(id, shadowing): (&String, &super::shadow::Shadowing)| {
            let why = shadowing.candidate.as_ref().err()?;
            Some(format!("policies.{id}.shadow = {:?}: it is not asked, since {why}", shadowing.file))
        };
        warnings.extend(self.shadows.iter().filter_map(refused));
        warnings
    }
}

fn word(by: By, policy: &Arc<Shelved>, status: KeyStatus, why: Option<Why>) -> LevelChoice {
    let effect = effect(policy, status, why);
    let (origin, digest) = (policy.origin.clone(), policy.digest.clone());
    LevelChoice { by, policy: policy.id.clone(), origin, digest, effect }
}

/// What a policy does with every message of a result; absent where that depends on the message.
pub(super) fn effect(policy: &Shelved, status: KeyStatus, why: Option<Why>) -> Option<Effect> {
    let decided = &policy.tabled(status)?.decision;
    let (disposition, notify) = (disposition(decided), notify(decided));
    Some(Effect { disposition, notify: restrained(status, why, disposition, notify) })
}
