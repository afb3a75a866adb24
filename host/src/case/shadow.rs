//! What a candidate decides beside the policy in force (`policies.ID.shadow`): it is recorded, and never carried out.

use std::cmp::Ordering;
use std::fmt::Write as _;
use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

use super::{Decision, Disposition, Notify};

/// Digits of a digest by which a candidate is told.
const DIGITS: usize = 12;

/// What a candidate decided about the recipients of the decision that it stands beside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shadow {
    /// SHA-256 of the candidate's component, as hexadecimal digits.
    pub digest: String,
    /// The candidate's settings, as [`Decision::settings`] has them.
    pub settings: serde_json::Value,
    /// The facts that the candidate saw beyond those of the decision.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub facts: serde_json::Value,
    /// What it decided.
    pub decisions: Opinions,
}

/// A candidate's decisions, each for a group of recipients that it can tell apart. None: it did not decide in time.
///
/// They are made beside the message, and whoever reads them sees what is there by then.
#[derive(Clone, Debug, Default)]
pub struct Opinions(Arc<OnceLock<Vec<Opinion>>>);

/// What a candidate decided for a group of recipients.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opinion {
    /// Indices of the recipients, where it decided otherwise for others; none: those of the decision that it stands beside.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recipients: Vec<usize>,
    /// What would happen; absent where it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disposition: Option<Disposition>,
    /// Who would be told, the host's own restraint included.
    #[serde(default)]
    pub notify: Notify,
    /// Its own words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// How it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
}

/// How a candidate's decision differs from the one that was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Differs {
    /// It does not, but for the words.
    Same,
    /// It would let less through.
    Stricter,
    /// It would let more through.
    Looser,
    /// Neither: a deferral or a failure stands on one side, or others would be told.
    Sideways,
    /// The candidate failed.
    Fault,
    /// It did not decide in time.
    Late,
}

/// A candidate's decision beside the one that was made, for the same recipients.
#[derive(Clone, Debug)]
pub struct Compared<'a> {
    /// How it differs.
    pub differs: Differs,
    /// For how many recipients.
    pub recipients: usize,
    /// What it decided; absent where it was late.
    pub opinion: Option<&'a Opinion>,
}

impl Differs {
    /// Every kind, the order of counts.
    pub const ALL: [Differs; 6] =
        [Differs::Same, Differs::Stricter, Differs::Looser, Differs::Sideways, Differs::Fault, Differs::Late];

    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Differs::Same => "same",
            Differs::Stricter => "stricter",
            Differs::Looser => "looser",
            Differs::Sideways => "sideways",
            Differs::Fault => "fault",
            Differs::Late => "late",
        }
    }
}

impl Disposition {
    /// How little it lets through: accept < mark < quarantine < reject. None for a deferral, which is beside all of them: the
    /// message comes again, and nobody knows what then.
    pub fn strictness(self) -> Option<u8> {
        match self {
            Disposition::Accept => Some(0),
            Disposition::Mark => Some(1),
            Disposition::Quarantine => Some(2),
            Disposition::Reject => Some(3),
            Disposition::Defer => None,
        }
    }
}

impl Opinions {
    /// Decisions that are made.
    pub fn made(opinions: Vec<Opinion>) -> Opinions {
        Opinions(Arc::new(OnceLock::from(opinions)))
    }

    /// Tells what was decided. What was told first counts; nothing is told where it comes too late.
    pub fn make(&self, opinions: Vec<Opinion>) {
        let _ = self.0.set(opinions);
    }

    /// What comes from now on comes too late.
    pub fn close(&self) {
        self.make(Vec::new());
    }

    /// Whether they are still to come.
    pub fn are_open(&self) -> bool {
        self.0.get().is_none()
    }

    /// Whether somebody else still has them.
    pub fn are_wanted(&self) -> bool {
        self.are_open() && Arc::strong_count(&self.0) > 1
    }

    /// Those that are there.
    pub fn all(&self) -> &[Opinion] {
        self.0.get().map(Vec::as_slice).unwrap_or_default()
    }
}

impl PartialEq for Opinions {
    fn eq(&self, other: &Opinions) -> bool {
        self.all() == other.all()
    }
}

impl Eq for Opinions {}

impl Serialize for Opinions {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.all().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Opinions {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Opinions, D::Error> {
        Vec::deserialize(deserializer).map(Opinions::made)
    }
}

impl Shadow {
    /// The candidate in few digits: how the SHA-256 of its component begins, a dot, and how that of its settings does. Rules of
    /// two texts share a component.
    pub fn candidate(&self) -> String {
        candidate(&self.digest, &self.settings)
    }

    /// The same with other words: texts go through `clean`.
    pub(super) fn told(&self, clean: impl Fn(&str) -> String) -> Shadow {
        let opinion = |opinion: &Opinion| Opinion {
            reason: clean(&opinion.reason),
            fault: opinion.fault.as_deref().map(&clean),
            ..opinion.clone()
        };
        let decisions = Opinions::made(self.decisions.all().iter().map(opinion).collect());
        Shadow { decisions, ..self.clone() }
    }
}

/// See [`Shadow::candidate`].
pub fn candidate(digest: &str, settings: &serde_json::Value) -> String {
    let mut settings_digest = String::new();
    for octet in Sha256::digest(settings.to_string()).iter().take(DIGITS / 2) {
        // A string takes all.
        let _ = write!(settings_digest, "{octet:02x}");
    }
    format!("{}.{settings_digest}", digest.get(..DIGITS).unwrap_or(digest))
}

impl Decision {
    /// Forgets the facts that it, and a candidate beside it, was made of.
    pub fn forget_facts(&mut self) {
        self.facts = serde_json::Value::Null;
        if let Some(shadow) = &mut self.shadow {
            shadow.facts = serde_json::Value::Null;
        }
    }

    /// What the candidate beside it decided, by groups of its recipients; nothing where there is none.
    pub fn compared(&self) -> Vec<Compared<'_>> {
        let Some(shadow) = &self.shadow else { return Vec::new() };
        if shadow.decisions.all().is_empty() {
            return vec![Compared { differs: Differs::Late, recipients: self.recipients.len(), opinion: None }];
        }
        let compared = shadow.decisions.all().iter().map(|opinion| {
            let count = match opinion.recipients.as_slice() {
                [] => self.recipients.len(),
                // The decision may have been split since.
                some => some.iter().filter(|index| self.recipients.contains(index)).count(),
            };
            Compared { differs: self.differs(opinion), recipients: count, opinion: Some(opinion) }
        });
        compared.filter(|compared| compared.recipients > 0).collect()
    }

    fn differs(&self, opinion: &Opinion) -> Differs {
        let Some(disposition) = opinion.disposition else { return Differs::Fault };
        let strict = self.disposition.strictness().zip(disposition.strictness());
        match strict.map(|(old, new)| new.cmp(&old)) {
            // The configuration decided where the policy failed.
            _ if self.fault.is_some() => Differs::Sideways,
            Some(Ordering::Greater) => Differs::Stricter,
            Some(Ordering::Less) => Differs::Looser,
            _ if disposition == self.disposition && opinion.notify == self.notify => Differs::Same,
            _ => Differs::Sideways,
        }
    }
}
