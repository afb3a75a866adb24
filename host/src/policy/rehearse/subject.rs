//! What is rehearsed: one component under its settings, or all that a site binds for one recipient.

use std::sync::{Arc, LazyLock};

use sha2::{Digest as _, Sha256};

use super::super::own_rules::{Standing, is_stricter};
use super::super::sandbox::contract::{Claim, Facts, KeyStatus, Value, Wanted, Wants, Why};
use super::super::shelf::{self, Shelved};
use super::super::shipped;
use super::super::{Effect, Policies, Proposal, disposition, drops_silently, notify};
use super::{Component, Settings, Undecided, WrittenFacts};
use crate::case::{self, Disposition, Notify, Recipient, Wish, is_silent_drop, restrained};
use crate::config::{OnFault, Size};
use crate::proto::record;

/// What is rehearsed.
pub struct Subject {
    /// How it is called in what is printed.
    pub name: String,
    wanted: Wanted,
    kind: Kind,
}

enum Kind {
    One {
        component: Arc<Component>,
        settings: Settings,
    },
    /// Last are the recipient's own rules.
    Site {
        policies: Arc<Policies>,
        recipient: Recipient,
        wish: Wish,
        own: Option<Arc<Shelved>>,
    },
}

/// What a subject answers to one set of facts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Answer {
    /// What is decided; of a site, its failure decision where the component failed. Absent where a component fails by itself.
    pub decision: Option<Proposal>,
    /// How the component failed.
    pub fault: Option<String>,
}

impl Answer {
    /// The answer in words, such as `reject, tell the sender: no key, no mail`.
    pub fn words(&self) -> String {
        match (&self.decision, &self.fault) {
            (Some(decision), None) => decision.to_string(),
            (Some(decision), Some(fault)) => format!("{decision} (it failed: {fault})"),
            (None, fault) => format!("fault: {}", fault.as_deref().unwrap_or("no answer")),
        }
    }
}

impl Component {
    /// This component under these settings.
    ///
    /// # Errors
    /// As [`Component::check`].
    pub fn under(self: &Arc<Self>, name: &str, settings: Settings) -> Result<Subject, Undecided> {
        let wanted = self.check(&settings)?.0;
        Ok(Subject { name: name.into(), wanted, kind: Kind::One { component: Arc::clone(self), settings } })
    }
}

impl Subject {
    /// All that treats the mail of this recipient who wishes this: for each result the policy that is bound to it, the host's own
    /// restraint and the failure decision included.
    pub fn site(name: &str, policies: &Arc<Policies>, recipient: Recipient, wish: Wish) -> Subject {
        let (mut wanted, mut own) = (Wanted { facts: Wants::WHY, headers: Vec::new() }, None);
        for (status, why) in bindable() {
            let choice = policies.choose(&recipient, status, why, &wish);
            wanted = both(&wanted, &choice.policy.wanted);
            if let Some(Ok(policy)) = choice.own.as_ref().and_then(|text| policies.own_policy(text)) {
                wanted = both(&wanted, &policy.wanted);
                // It bounds what a user's own rules may decide.
                wanted.facts |= Wants::CLAIM;
                own = Some(policy);
            }
        }
        Subject { name: name.into(), wanted, kind: Kind::Site { policies: Arc::clone(policies), recipient, wish, own } }
    }

    /// Its class; of a site large where any of its policies is.
    pub fn size(&self) -> Size {
        match &self.kind {
            Kind::One { component, .. } => component.size(),
            Kind::Site { policies, .. } => {
                let large = policies.all.iter().any(|policy| policy.guest.size() == Size::Large);
                if large { Size::Large } else { Size::Small }
            }
        }
    }

    /// What it wants to see.
    pub(super) fn wanted(&self) -> &Wanted {
        &self.wanted
    }

    /// The facts besides the result that it asks for, by their words.
    pub fn facts(&self) -> Vec<&'static str> {
        self.wanted.facts.words()
    }

    /// The names of the header fields that it asks for.
    pub fn headers(&self) -> &[String] {
        &self.wanted.headers
    }

    /// Whether it is a text for the `rules` that ship.
    pub(super) fn is_rules(&self) -> bool {
        matches!(&self.kind, Kind::One { component, .. } if component.is_rules)
    }

    /// The values of its settings, where the constants of a policy are found, and whether each is a text for the `rules` that ship.
    pub(super) fn settings(&self) -> Vec<(&Value, bool)> {
        match &self.kind {
            Kind::One { settings, .. } => settings.0.iter().map(|value| (value, self.is_rules())).collect(),
            Kind::Site { policies, own, .. } => {
                let all = policies.all.iter().chain(own).map(|policy| (policy, is_shipped_rules(policy)));
                all.flat_map(|(policy, is_rules)| policy.settings.iter().map(move |value| (value, is_rules))).collect()
            }
        }
    }

    /// Its settings by name; of a site none.
    pub fn settings_json(&self) -> serde_json::Value {
        match &self.kind {
            Kind::One { component, settings } => component.settings_json(settings),
            Kind::Site { .. } => serde_json::Value::Null,
        }
    }

    /// The settings that a case of it has to name: see [`Component::changed`].
    pub fn settings_changed(&self) -> toml::Table {
        match &self.kind {
            Kind::One { component, settings } => component.changed(settings),
            Kind::Site { .. } => toml::Table::new(),
        }
    }

    /// What it answers to facts that somebody wrote down.
    ///
    /// # Errors
    /// What was written is no fact.
    pub fn decide(&self, written: &WrittenFacts) -> Result<Answer, Undecided> {
        let facts = written.facts(&self.wanted).map_err(Undecided::Facts)?;
        Ok(self.answer(&facts, &self.wanted.headers))
    }

    /// What it answers; it sees those of the facts that it asked for. `headers` names those of the facts.
    pub(super) fn answer(&self, facts: &Facts, headers: &[String]) -> Answer {
        match &self.kind {
            Kind::One { component, settings } => {
                match component.proposal(&seen(facts, headers, &self.wanted), settings) {
                    Ok(decision) => Answer { decision: Some(decision), fault: None },
                    Err(fault) => Answer { decision: None, fault: Some(without_prefix(&fault)) },
                }
            }
            Kind::Site { policies, recipient, wish, .. } => answer_of_site(policies, recipient, wish, facts, headers),
        }
    }
}

fn without_prefix(fault: &Undecided) -> String {
    let text = fault.to_string();
    text.strip_prefix("fault: ").map(str::to_owned).unwrap_or(text)
}

fn answer_of_site(
    policies: &Policies,
    recipient: &Recipient,
    wish: &Wish,
    facts: &Facts,
    headers: &[String],
) -> Answer {
    let (status, why) = (result(facts.status), facts.why.map(reason));
    let choice = policies.choose(recipient, status, why, wish);
    let without = || answer_by(policies, &choice.policy, (status, why), facts, headers);
    let Some(Ok(own)) = choice.own.as_ref().and_then(|text| policies.own_policy(text)) else { return without() };
    let own = answer_by(policies, &own, (status, why), facts, headers);
    let (Some(decision), None) = (&own.decision, &own.fault) else {
        // It is told, so that one that a busy machine gave no time is asked again.
        return Answer { fault: own.fault, ..without() };
    };
    let is_silent = is_silent_drop(decision.disposition, decision.notify);
    let effect = Effect { disposition: decision.disposition, notify: decision.notify };
    match policies.standing((status, why, facts.claim.map(claim)), effect, is_silent) {
        Standing::Counts => own,
        Standing::NotOpen => without(),
        Standing::IfStricter => {
            let without = without();
            let wins = |than: &Proposal| is_stricter(decision.disposition, than.disposition);
            if without.decision.as_ref().is_some_and(wins) { own } else { without }
        }
    }
}

/// What one of a site's policies answers, the host's own restraint and the failure decision included.
fn answer_by(
    policies: &Policies,
    policy: &Shelved,
    (status, why): (case::KeyStatus, Option<case::Why>),
    facts: &Facts,
    headers: &[String],
) -> Answer {
    let decided = policies.sandbox.decide(&policy.guest, &seen(facts, headers, &policy.wanted), &policy.settings);
    match decided {
        Ok(decided) => {
            let (disposition, wished) = (disposition(&decided), notify(&decided));
            let held_back = drops_silently(&decided);
            let notify = if held_back { restrained(status, why, disposition, wished) } else { wished };
            Answer {
                decision: Some(Proposal { disposition, notify, ..Proposal::of(&decided, &policies.limits) }),
                fault: None,
            }
        }
        Err(fault) => {
            let (disposition, sender) = match policy.on_fault {
                OnFault::Defer => (Disposition::Defer, false),
                OnFault::Quarantine => (Disposition::Quarantine, false),
                OnFault::Reject => (Disposition::Reject, true),
            };
            let notify = Notify { sender, recipient: false };
            let reason = "the delivery policy failed".into();
            let decision = Some(Proposal { disposition, notify, reason });
            Answer { decision, fault: Some(format!("{} {fault}", policy.id)) }
        }
    }
}

/// Whether its component is the `rules` that ships.
pub(super) fn is_shipped_rules(policy: &Shelved) -> bool {
    static SHIPPED: LazyLock<Option<String>> =
        LazyLock::new(|| shipped::rules().map(|octets| shelf::hex(&Sha256::digest(octets))));
    SHIPPED.as_ref() == Some(&policy.digest)
}

/// What one of several wants of the facts that all of them are told.
fn seen(facts: &Facts, headers: &[String], wanted: &Wanted) -> Facts {
    let wants = |fact| wanted.has(fact);
    let field = |name: &String| {
        let place = headers.iter().position(|known| known.eq_ignore_ascii_case(name));
        place.and_then(|place| facts.headers.get(place)).cloned().unwrap_or_default()
    };
    Facts {
        status: facts.status,
        why: facts.why.filter(|_| wants(Wants::WHY)),
        sender: facts.sender.clone().filter(|_| wants(Wants::SENDER)),
        recipient: facts.recipient.clone().filter(|_| wants(Wants::RECIPIENT)),
        envelope_sender: facts.envelope_sender.clone().filter(|_| wants(Wants::ENVELOPE_SENDER)),
        client: facts.client.clone().filter(|_| wants(Wants::CLIENT)),
        size: facts.size.filter(|_| wants(Wants::SIZE)),
        trail: facts.trail.filter(|_| wants(Wants::TRAIL)),
        mail_auth: facts.mail_auth.filter(|_| wants(Wants::MAIL_AUTH)),
        claim: facts.claim.filter(|_| wants(Wants::CLAIM)),
        last_valid: facts.last_valid.filter(|_| wants(Wants::LAST_VALID)),
        headers: wanted.headers.iter().map(field).collect(),
    }
}

/// What either wants.
pub(super) fn both(one: &Wanted, other: &Wanted) -> Wanted {
    let mut headers = one.headers.clone();
    for name in &other.headers {
        if !headers.iter().any(|known| known.eq_ignore_ascii_case(name)) {
            headers.push(name.clone());
        }
    }
    Wanted { facts: one.facts | other.facts, headers }
}

/// Each result that has a binding of its own.
fn bindable() -> impl Iterator<Item = (case::KeyStatus, Option<case::Why>)> {
    let bounce = (case::KeyStatus::Unusable, Some(case::Why::NoAddress));
    case::KeyStatus::ALL.into_iter().map(|status| (status, None)).chain([bounce])
}

/// The host's word for a result of the contract.
pub(super) fn result(status: KeyStatus) -> case::KeyStatus {
    match status {
        KeyStatus::Valid => case::KeyStatus::Valid,
        KeyStatus::Invalid => case::KeyStatus::Invalid,
        KeyStatus::Missing => case::KeyStatus::Missing,
        KeyStatus::None => case::KeyStatus::None,
        KeyStatus::Unverified => case::KeyStatus::Unverified,
        KeyStatus::Unusable => case::KeyStatus::Unusable,
    }
}

/// The host's word for a claim of the contract.
fn claim(claim: Claim) -> record::Claim {
    match claim {
        Claim::Testing => record::Claim::Testing,
        Claim::Some => record::Claim::Some,
        Claim::All => record::Claim::All,
    }
}

/// The host's word for a reason of the contract; `other` is the one that the contract has no word for.
pub(super) fn reason(why: Why) -> case::Why {
    match why {
        Why::Wrong => case::Why::Wrong,
        Why::Expired => case::Why::Expired,
        Why::NoFrom => case::Why::NoFrom,
        Why::SeveralFrom => case::Why::SeveralFrom,
        Why::BadAddress => case::Why::BadAddress,
        Why::SeveralKeys => case::Why::SeveralKeys,
        Why::BadKey => case::Why::BadKey,
        Why::MalformedHeader => case::Why::MalformedHeader,
        Why::Dns => case::Why::Dns,
        Why::Timeout => case::Why::Timeout,
        Why::Limit => case::Why::Limit,
        Why::NoProof => case::Why::NoProof,
        Why::Other => case::Why::NoAddress,
    }
}
