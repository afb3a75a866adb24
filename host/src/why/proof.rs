//! Decisions made again: whether a component still says what the journal says it said.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::case::{Decision, Notify, WrittenCase};
use crate::config::{Config, Limits, Module};
use crate::policy::{self, KeptDecision, Policies, Proposal, Trial, Unproved};

/// What making one decision again came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// The same decision.
    Same,
    /// It asked for the same again, and would be held back again.
    SameHeldBack,
    /// The policy failed then, and fails again.
    FailsAgain(String),
    /// The policy failed then, and decides now.
    FailedThen(Proposal),
    /// Another decision.
    Differs(Proposal),
    /// It cannot be made again; the words say why.
    Impossible(String),
}

impl Proof {
    /// The word of `--json`.
    pub fn word(&self) -> &'static str {
        match self {
            Proof::Same | Proof::SameHeldBack | Proof::FailsAgain(_) => "same",
            Proof::Differs(_) => "differs",
            Proof::FailedThen(_) | Proof::Impossible(_) => "unknown",
        }
    }
}

/// The configured policies, and those that these stories name besides, where they can be had: a policy that nothing is bound
/// to any more can still show what it did.
///
/// # Errors
/// Not even the configured ones can be loaded.
pub fn policies(config: &Config, stories: &[&WrittenCase], trial: &Trial) -> Result<Policies, policy::Error> {
    let limits = Arc::new(Limits::default());
    let mut modules: BTreeMap<String, Module> = config.policies.clone();
    for decision in stories.iter().flat_map(|story| &story.decisions) {
        modules.entry(decision.policy.clone()).or_default();
    }
    Policies::load(&config.policy, &modules, &limits, trial)
        .or_else(|_| Policies::load(&config.policy, &config.policies, &limits, trial))
}

/// Makes one decision of this story again.
pub(super) fn prove(policies: &Policies, story: &WrittenCase, decision: &Decision) -> Proof {
    if story.shortened {
        return Proof::Impossible("the facts that the policy saw were too large to keep".into());
    }
    let kept = KeptDecision {
        policy: &decision.policy,
        digest: &decision.digest,
        facts: &decision.facts,
        settings: &decision.settings,
    };
    let erased = || Proof::Impossible("an address that the policy may have looked at was erased since".into());
    match (policies.recompute(&kept), &decision.fault) {
        (Err(Unproved::Fault(fault)), Some(_)) => Proof::FailsAgain(fault.to_string()),
        (Ok(now), Some(_)) => Proof::FailedThen(now),
        (Ok(now), None) => match compare(&now, decision) {
            Proof::Differs(_) if story.erased => erased(),
            proof => proof,
        },
        (Err(Unproved::Fault(_) | Unproved::Unreadable(_)), None) if story.erased => erased(),
        (Err(why), _) => Proof::Impossible(why.to_string()),
    }
}

fn compare(now: &Proposal, decision: &Decision) -> Proof {
    let held_back = decision.clamped.is_some();
    // The host's restraint adds that the sender is told.
    let wished = Notify { sender: decision.notify.sender && !held_back, ..decision.notify };
    let same = now.disposition == decision.disposition && now.notify == wished && now.reason == decision.reason;
    match (same, held_back) {
        (true, false) => Proof::Same,
        (true, true) => Proof::SameHeldBack,
        (false, _) => Proof::Differs(now.clone()),
    }
}
