//! A decision made again from what a case kept of it.

use std::collections::BTreeMap;

use super::own_rules::{OwnRules, RULES};
use super::written_facts::WrittenFacts;
use super::{Fault, Policies, Proposal, printable, shelf};

/// A decision as a case keeps it: what making it again needs.
#[derive(Clone, Copy, Debug)]
pub struct KeptDecision<'a> {
    /// The policy's id.
    pub policy: &'a str,
    /// The component's SHA-256.
    pub digest: &'a str,
    /// The facts that it saw.
    pub facts: &'a serde_json::Value,
    /// Its settings, or the SHA-256 of long ones.
    pub settings: &'a serde_json::Value,
}

/// Why a decision cannot be made again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unproved {
    /// No policy of this id is loaded.
    #[error("no policy of that name is in force any more")]
    Gone,
    /// The component was replaced since.
    #[error("the component was replaced since: the one in force has SHA-256 {digest}")]
    Other {
        /// The digest of the one in force.
        digest: String,
    },
    /// The settings were changed since, and were too long to be kept.
    #[error("its settings were changed since, and of settings as long as those the journal keeps the SHA-256 alone")]
    OtherSettings,
    /// What was kept cannot be read by the loaded policy.
    #[error("what was kept does not fit the policy: {0}")]
    Unreadable(String),
    /// The policy failed.
    #[error("the policy {0}")]
    Fault(Fault),
}

impl Policies {
    /// Decides again on the facts and settings that a case kept, by the loaded policy of this id: the decision's words, or
    /// why it cannot be had. It is on nobody's way, so the policy may take its time.
    pub fn recompute(&self, kept: &KeptDecision<'_>) -> Result<Proposal, Unproved> {
        let bound = self.all.iter().find(|policy| policy.id == kept.policy);
        // Users' own rules are bound to nothing.
        let own = self.own.as_ref().map(OwnRules::component).filter(|_| kept.policy == RULES);
        let (digest, guest, description) = match (bound, own) {
            (Some(policy), _) => (&policy.digest, &policy.guest, &policy.description),
            (None, Some(own)) => (&own.digest, &own.guest, &own.description),
            (None, None) => return Err(Unproved::Gone),
        };
        if *digest != kept.digest {
            return Err(Unproved::Other { digest: digest.clone() });
        }
        let odd = |text: String| Unproved::Unreadable(text);
        let told: WrittenFacts = serde_json::from_value(kept.facts.clone()).map_err(|e| odd(e.to_string()))?;
        let settings = match kept.settings {
            of_now if bound.is_some_and(|policy| *of_now == policy.settings_json) => {
                bound.map(|policy| policy.settings.clone()).unwrap_or_default()
            }
            serde_json::Value::String(_) => return Err(Unproved::OtherSettings),
            others => {
                let given: BTreeMap<String, toml::Value> =
                    serde_json::from_value(others.clone()).map_err(|e| odd(e.to_string()))?;
                shelf::fit(description, &given).map_err(odd)?
            }
        };
        // The settings of then may have wanted other facts than those of now.
        let said = self.sandbox.check_settings(guest, &settings).map_err(Unproved::Fault)?;
        let wanted = said.map_err(|text| odd(printable(&text, self.limits.policy.text)))?;
        let facts = told.facts(&wanted).map_err(odd)?;
        let decided = self.sandbox.decide(guest, &facts, &settings).map_err(Unproved::Fault)?;
        Ok(Proposal::of(&decided, &self.limits))
    }
}
