//! Users' own rules: texts for the policy `rules`, which decide within what is open to users.

use std::collections::BTreeMap;
use std::sync::Arc;

use quick_cache::Weighter;
use quick_cache::sync::Cache;
use tokio::time::Instant;

use super::sandbox::Sandbox;
use super::shelf::{Component, Read};
use super::{Choice, Error, Policies, seconds};
use crate::case::{By, Decision, Disposition, Found, KeyStatus, Mail, Why, Wish, is_silent_drop};
use crate::config::{Limits, OnFault};
use crate::proto::record::Claim;

/// The policy whose texts users write.
pub(super) const RULES: &str = "rules";
/// Octets that a text takes besides its own.
const BESIDE: u64 = 1_024;

/// The component that reads users' texts, and those that it has read.
pub(super) struct OwnRules {
    component: Component,
    read: Cache<Arc<str>, Read, Octets>,
}

#[derive(Clone)]
struct Octets;

impl Weighter<Arc<str>, Read> for Octets {
    fn weight(&self, text: &Arc<str>, _: &Read) -> u64 {
        u64::try_from(text.len()).unwrap_or(u64::MAX).saturating_mul(2).saturating_add(BESIDE)
    }
}

/// What is made of a decision by a user's own rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It counts.
    Counts,
    /// It counts where it is sterner than what treats the message without them.
    IfSterner,
    /// It does not count: no policy that is open to users does so for this result.
    NotOpen,
}

impl OwnRules {
    /// With a component that takes a list of lines as `rules`, as the shipped one does.
    pub(super) fn new(component: Component, sandbox: &Sandbox, limits: &Limits) -> Result<OwnRules, Error> {
        component.fitted(sandbox, RULES, &lines("otherwise accept"), limits)?;
        let texts = usize::try_from(limits.policy.own_rules_held / (2 * BESIDE)).unwrap_or(usize::MAX);
        Ok(OwnRules { component, read: Cache::with_weighter(texts, limits.policy.own_rules_held, Octets) })
    }

    /// The component's digest.
    pub(super) fn component(&self) -> &Component {
        &self.component
    }

    /// The policy that this text makes; it was made before, or is made now, which takes as long as a decision. Why it makes none
    /// is told with line and column.
    pub(super) fn read(&self, text: &Arc<str>, sandbox: &Sandbox, limits: &Limits) -> Read {
        if let Some(known) = self.read.get(text) {
            return known;
        }
        if text.len() > limits.policy.own_rules {
            return Err(format!("they are longer than {} KiB", limits.policy.own_rules >> 10));
        }
        let made = match self.component.fitted(sandbox, RULES, &lines(text), limits) {
            Ok((settings, wanted)) => {
                Ok(Arc::new(self.component.shelved(RULES, settings, wanted, OnFault::Defer, None)))
            }
            Err(Error::Settings { text, .. }) => Err(text),
            // Another time it may have the time that it lacked.
            Err(error) => return Err(error.to_string()),
        };
        self.read.insert(Arc::clone(text), made.clone());
        made
    }
}

/// The setting that a text is.
fn lines(text: &str) -> BTreeMap<String, toml::Value> {
    let lines = text.lines().map(toml::Value::from).collect();
    BTreeMap::from([(RULES.to_owned(), toml::Value::Array(lines))])
}

/// Whether the sender's own domain says that he did not write this message: a wrong key, or none where all its mail has one.
pub(super) fn is_denied(status: KeyStatus, why: Option<Why>, claim: Option<Claim>) -> bool {
    match status {
        KeyStatus::Invalid => why != Some(Why::Expired),
        KeyStatus::Missing => claim == Some(Claim::All),
        _ => false,
    }
}

/// How stern a decision is: accept, mark, defer, quarantine, reject, as in a text where several lines may count.
pub(super) fn sternness(disposition: Disposition) -> u8 {
    match disposition {
        Disposition::Accept => 0,
        Disposition::Mark => 1,
        Disposition::Defer => 2,
        Disposition::Quarantine => 3,
        Disposition::Reject => 4,
    }
}

impl Policies {
    /// The recipient's own rules, where they have a word on this result: no stronger one chose the policy, and a user has a say.
    pub(super) fn own_rules(&self, by: By, status: KeyStatus, why: Option<Why>, wish: &Wish) -> Option<Read> {
        let weaker = matches!(by, By::Domain | By::Site);
        let asked = weaker && status != KeyStatus::Valid && why != Some(Why::NoAddress);
        let text = wish.rules.as_ref().filter(|_| asked)?;
        Some(self.own.as_ref()?.read(text, &self.sandbox, &self.limits))
    }

    /// Whether users' own rules count here, and this text makes a policy.
    ///
    /// # Errors
    /// It makes none; the text names line and column.
    pub fn read_own_rules(&self, text: &str) -> Option<Result<(), String>> {
        Some(self.own.as_ref()?.read(&text.into(), &self.sandbox, &self.limits).map(drop))
    }

    /// What is made of such a decision by a user's own rules.
    pub(super) fn standing(
        &self,
        (status, why, claim): (KeyStatus, Option<Why>, Option<Claim>),
        disposition: Disposition,
        is_silent: bool,
    ) -> Standing {
        let lets = |effect: super::Effect| {
            effect.disposition == disposition && (!is_silent || is_silent_drop(effect.disposition, effect.notify))
        };
        let mut open = self.bound.open(status).filter_map(|policy| super::explain::effect(policy, status, why));
        match open.any(lets) {
            false => Standing::NotOpen,
            true if is_denied(status, why, claim) => Standing::IfSterner,
            true => Standing::Counts,
        }
    }

    /// The decision for a recipient with rules of their own: by these as far as they count, else by what treats the message
    /// without them. It is never a deferral for want of a readable text.
    pub(super) async fn by_own_rules(
        &self,
        mail: &Mail,
        found: &Found,
        (index, choice): (usize, &Choice),
        own: &Read,
        deadline: Instant,
    ) -> Vec<Decision> {
        let (own, passed_over) = match self.asked_own(mail, found, index, own, deadline).await {
            Ok((own, Standing::Counts)) => return vec![as_users(own, choice)],
            Ok((own, _)) => (Some(own), "the message is denied by its sender's domain, and they are no sterner".into()),
            Err(why) => (None, why),
        };
        let mut decisions = self.decide_by(&choice.policy, mail, found, vec![index], deadline).await;
        for decision in &mut decisions {
            match &own {
                Some(own) if sternness(own.disposition) > sternness(decision.disposition) => {
                    *decision = as_users(own.clone(), choice);
                }
                _ => {
                    (decision.by, decision.mark) = (choice.by, choice.mark);
                    decision.passed_over = Some(passed_over.clone());
                }
            }
        }
        decisions
    }

    /// What the recipient's own rules decide and how that stands, or why it cannot count.
    async fn asked_own(
        &self,
        mail: &Mail,
        found: &Found,
        index: usize,
        own: &Read,
        deadline: Instant,
    ) -> Result<(Decision, Standing), String> {
        let own = own.as_ref().map_err(|why| format!("they are no rules: {why}"))?;
        let mut decided = self.decide_by(own, mail, found, vec![index], deadline).await;
        let late = || format!("they did not decide within {}", seconds(self.limits.policy.message));
        let decision = decided.pop().ok_or_else(late)?;
        if let Some(fault) = &decision.fault {
            return Err(format!("they failed: {fault}"));
        }
        let is_silent = is_silent_drop(decision.disposition, decision.notify);
        match self.standing((found.status, found.why, found.claim), decision.disposition, is_silent) {
            Standing::NotOpen => {
                let wanted = super::Effect { disposition: decision.disposition, notify: decision.notify };
                Err(format!("they say {wanted}, which is not open to users for this result"))
            }
            standing => Ok((decision, standing)),
        }
    }
}

fn as_users(decision: Decision, choice: &Choice) -> Decision {
    Decision { by: By::User, mark: choice.mark, ..decision }
}
