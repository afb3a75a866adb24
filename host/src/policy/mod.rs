//! Load components, bind them to results, decide in the sandbox.
//!
//! A policy proposes, this room disposes: whatever goes wrong in a component becomes its configured failure decision,
//! never an acceptance; its words are made safe; and a silent drop is held back where it is not allowed.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;

use crate::case::Wish;
use crate::case::{By, Decision, Disposition, Found, KeyStatus, Mail, MarkAs, Notify, Recipient, Why};
use crate::case::{is_silent_drop, restrained};
use crate::config::{Limits, OnFault};
use crate::proto::reply::words as printable;

mod cases_beside;
mod choose;
mod chosen;
mod error;
mod explain;
mod facts;
mod listed;
mod load;
mod origin;
mod own_rules;
mod pace;
mod prove;
pub mod rehearse;
mod sandbox;
mod shadow;
mod shelf;
mod shipped;
#[cfg(test)]
mod tests;
mod threads;
pub mod trial;
pub mod trust;
mod written_facts;

pub use choose::{Choice, may_be_allowed};
pub use chosen::NotChosen;
pub use error::Error;
pub use explain::{Effect, Explained, LevelChoice, MarkExplained};
pub use listed::{Decider, Listed, ListedShadow};
pub use origin::Origin;
pub use prove::{KeptDecision, Unproved};
pub use sandbox::{Fault, Refused};
pub use shadow::configured as candidate_of;
pub use threads::AT_ONCE;
pub use trial::Trial;

use choose::{Bound, is_denied};
use own_rules::OwnRules;
use sandbox::contract::Facts;
use sandbox::{Sandbox, contract};
use shadow::{Asker, Shadows, Shown};
use shelf::Shelved;
use threads::Threads;
use written_facts::WrittenFacts;

/// What a policy wanted whose sender is told against its will.
const HELD_BACK: &str = "wanted to drop it silently, which is for wrong keys alone";

/// The loaded policies and what each of them treats. A reload makes a new one.
pub struct Policies {
    bound: Bound,
    all: Vec<Arc<Shelved>>,
    /// Absent: users have no rules of their own.
    own: Option<OwnRules>,
    shadows: Shadows,
    /// Absent where there is no candidate. Shared like the threads.
    asker: Option<Arc<Asker>>,
    /// The files that these were loaded from, or would be.
    files: Vec<std::path::PathBuf>,
    /// Shared with the policies of before and after a reload, as the next two are.
    threads: Arc<Threads>,
    sandbox: Arc<Sandbox>,
    /// Held by the thread that loads.
    loading: Arc<Mutex<()>>,
    limits: Arc<Limits>,
}

impl std::fmt::Debug for Policies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.list()).finish()
    }
}

impl Policies {
    /// The policy that treats this recipient's mail of this result, and whose word that is.
    pub fn choose(&self, recipient: &Recipient, status: KeyStatus, why: Option<Why>, wish: &Wish) -> Choice {
        let choice = self.bound.choose(recipient, status, why, wish);
        let own = self.own_rules(choice.by, status, why, wish);
        Choice { own, ..choice }
    }

    /// What a user may choose for this result, by id; nothing for `valid`, and nothing that is dropped silently for `missing`.
    pub fn open_to_users(&self, status: KeyStatus) -> Vec<&str> {
        self.bound.open(status).map(|policy| policy.id.as_str()).collect()
    }

    /// The same by this wish, as it counts for what was found.
    fn chosen(&self, recipient: &Recipient, found: &Found, wish: &Wish) -> Choice {
        // Whose domain says that all its mail has a key is not helped by a list: a forger need only leave the key out.
        if wish.allows && is_denied(found.status, found.why, found.claim) {
            let wish = Wish { allows: false, ..wish.clone() };
            self.choose(recipient, found.status, found.why, &wish)
        } else {
            self.choose(recipient, found.status, found.why, wish)
        }
    }

    /// Decides for every recipient of a message whose mail ends here ([`Found::concerns`]); `wishes` holds one for each of all
    /// of them. Total: what goes wrong is a decision too. A policy is asked once for all recipients that it cannot tell apart.
    pub async fn decide(&self, mail: &Mail, found: &Found, wishes: &[Wish]) -> Vec<Decision> {
        let mut decisions = self.decide_alone(mail, found, wishes).await;
        if !self.shadows.is_empty() {
            let (asker, mut shown) = ((self.asker.as_deref(), &*self.sandbox), Shown::default());
            let is_its_own = |decision: &&mut Decision| {
                // A user's own rules have the id of a policy, and settings of their own.
                let policy = self.all.iter().find(|policy| policy.id == decision.policy);
                policy.is_some_and(|policy| policy.settings_json == decision.settings)
            };
            for decision in decisions.iter_mut().filter(is_its_own) {
                shadow::beside(&self.shadows, asker, (mail, found), decision, &mut shown);
            }
        }
        decisions
    }

    /// The same without the candidates that decide beside the policies.
    pub async fn decide_alone(&self, mail: &Mail, found: &Found, wishes: &[Wish]) -> Vec<Decision> {
        match self.looked_up(mail, found, wishes) {
            Some(decision) => vec![decision],
            None => self.worked_out(mail, found, wishes).await,
        }
    }

    /// Waits until the candidates beside these decisions have decided as well, for `limits.policy.shadow` at most. What comes
    /// later is not told.
    pub async fn hear_shadows(&self, decisions: &[Decision]) {
        if decisions.iter().any(|decision| decision.shadow.is_some()) {
            shadow::hear(&self.shadows, decisions, self.limits.policy.shadow).await;
        }
    }

    /// The files that these policies and their candidates were loaded from, or would be where they are put there; cases and
    /// signatures beside them as well.
    pub fn files(&self) -> &[std::path::PathBuf] {
        &self.files
    }

    /// The decision for a message's only recipient by a policy that sees the result alone, as nearly all mail has it.
    fn looked_up(&self, mail: &Mail, found: &Found, wishes: &[Wish]) -> Option<Decision> {
        let [recipient] = mail.recipients.as_slice() else { return None };
        if !found.concerns(0) {
            return None;
        }
        let nothing = Wish::default();
        let choice = self.chosen(recipient, found, wishes.first().unwrap_or(&nothing));
        if choice.has_own_rules() {
            return None;
        }
        let tabled = choice.policy.tabled(found.status)?;
        let decision = self.settled(&choice.policy, found, tabled.facts_json.clone(), &tabled.decision, vec![0]);
        Some(Decision { by: choice.by, mark: choice.mark, ..decision })
    }

    async fn worked_out(&self, mail: &Mail, found: &Found, wishes: &[Wish]) -> Vec<Decision> {
        let choices = self.choices(mail, found, wishes);
        let deadline = Instant::now() + self.limits.policy.message;
        let mut decisions = Vec::new();
        let have_none = |index: &usize| choices.get(*index).is_some_and(|choice| !choice.has_own_rules());
        let theirs = (0..choices.len()).filter(|index| found.concerns(*index)).filter(have_none);
        for (policy, members) in by_policy(&choices, theirs) {
            for decision in self.decide_by(policy, mail, found, members, deadline).await {
                split(decision, &choices, &mut decisions);
            }
        }
        // Last, so that no user's text takes the time of other recipients.
        decisions.extend(self.by_their_own_rules(mail, found, &choices, deadline).await);
        decisions
    }

    /// Whether a policy that will be asked about this message wants to see [`Found::last_valid`]: then that is to be looked up, and
    /// without it there is no decision.
    pub fn want_last_valid(&self, mail: &Mail, found: &Found, wishes: &[Wish]) -> bool {
        let wants = |policy: &Shelved| policy.wanted.has(contract::Wants::LAST_VALID);
        // Nearly always none does, and nobody need be asked for.
        self.all.iter().any(|policy| wants(policy))
            && self.is_any_asked(mail, found, wishes, |choice| wants(&choice.policy))
    }

    /// Whether a candidate beside them wants it, or a recipient's own rules may: without it these are not asked.
    pub fn others_want_last_valid(&self, mail: &Mail, found: &Found, wishes: &[Wish]) -> bool {
        let wants = |policy: &Shelved| policy.wanted.has(contract::Wants::LAST_VALID);
        let have_rules = self.own.is_some() && wishes.iter().any(|wish| wish.rules.is_some());
        // Nearly always none does, and nobody need be asked for.
        let may = have_rules || self.shadows.values().any(|one| one.candidate.as_ref().is_ok_and(|one| wants(one)));
        may && self.is_any_asked(mail, found, wishes, |choice| {
            let candidate = self.shadows.get(&choice.policy.id).and_then(|shadowing| shadowing.of(mail));
            choice.has_own_rules() || candidate.is_some_and(|one| wants(one))
        })
    }

    /// Whether this holds of what treats some recipient of this message.
    fn is_any_asked(&self, mail: &Mail, found: &Found, wishes: &[Wish], holds: impl Fn(&Choice) -> bool) -> bool {
        let choices = self.choices(mail, found, wishes);
        choices.iter().enumerate().any(|(index, choice)| found.concerns(index) && holds(choice))
    }

    /// What treats each recipient of the message.
    fn choices(&self, mail: &Mail, found: &Found, wishes: &[Wish]) -> Vec<Choice> {
        let nothing = Wish::default();
        let choose = |(index, recipient)| self.chosen(recipient, found, wishes.get(index).unwrap_or(&nothing));
        mail.recipients.iter().enumerate().map(choose).collect()
    }

    async fn decide_by(
        &self,
        policy: &Arc<Shelved>,
        mail: &Mail,
        found: &Found,
        members: Vec<usize>,
        deadline: Instant,
    ) -> Vec<Decision> {
        if let Some(tabled) = policy.tabled(found.status) {
            return vec![self.settled(policy, found, tabled.facts_json.clone(), &tabled.decision, members)];
        }
        let mut decisions = Vec::new();
        let mut told = 0_usize;
        let mut turn = Instant::now();
        for (facts, recipients) in facts::gather(mail, found, &policy.wanted, members) {
            let late = || Err(Fault(format!("did not decide within {}", seconds(self.limits.policy.message))));
            let decided = match Instant::now() {
                // One that decides at once would not see it.
                now if now >= deadline => late(),
                now => {
                    if now.duration_since(turn) >= AT_ONCE {
                        // Many recipients take their time: other messages on this thread get their turn meanwhile.
                        tokio::task::yield_now().await;
                        turn = Instant::now();
                    }
                    let deciding = self.threads.decide(policy, &facts);
                    tokio::time::timeout_at(deadline, deciding).await.unwrap_or_else(|_| late())
                }
            };
            let mut decision = self.total(policy, found, &facts, decided, recipients);
            told = told.saturating_add(facts.headers.iter().flatten().map(String::len).sum());
            if told > self.limits.custody.journal_row {
                // No journal row has room for them, and a thousand copies of a long header no memory.
                decision.facts = serde_json::Value::Null;
            }
            decisions.push(decision);
        }
        decisions
    }

    /// The same in the sandbox on the calling thread, by the site's policy, without table, queue and bound for the whole
    /// message: what a bench compares the others with. It holds its thread for up to `policy_time` per decision, so never on
    /// the mail path.
    pub fn decide_here(&self, mail: &Mail, found: &Found) -> Vec<Decision> {
        let policy = self.bound.of_site(found.status, found.why);
        let decide = |(facts, recipients)| {
            let decided = self.sandbox.decide(&policy.guest, &facts, &policy.settings);
            self.total(policy, found, &facts, decided, recipients)
        };
        let all = (0..mail.recipients.len()).collect();
        facts::gather(mail, found, &policy.wanted, all).map(decide).collect()
    }

    /// A decision whatever happened.
    fn total(
        &self,
        policy: &Shelved,
        found: &Found,
        facts: &Facts,
        decided: Result<contract::Decision, Fault>,
        recipients: Vec<usize>,
    ) -> Decision {
        match decided {
            Ok(decision) => self.settled(policy, found, facts_json(policy, facts), &decision, recipients),
            Err(fault) => failed(policy, facts, fault, recipients),
        }
    }

    /// The policy's decision with safe words, held back where it asks for what is not allowed.
    fn settled(
        &self,
        policy: &Shelved,
        found: &Found,
        facts_json: serde_json::Value,
        decided: &contract::Decision,
        recipients: Vec<usize>,
    ) -> Decision {
        let (disposition, wished) = (disposition(decided), notify(decided));
        let notify = restrained(found.status, found.why, disposition, wished);
        let clamped = (notify != wished).then(|| HELD_BACK.to_owned());
        Decision {
            disposition,
            notify,
            reason: printable(&decided.reason, self.limits.policy.text),
            clamped,
            ..undecided(policy, facts_json, recipients)
        }
    }
}

/// What a component decides, its words made safe. The host's own restraint (see [`Decision::clamped`]) is not in it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Proposal {
    /// What happens.
    pub disposition: Disposition,
    /// Who is told.
    pub notify: Notify,
    /// The policy's own words, made safe.
    pub reason: String,
}

impl Proposal {
    fn of(decided: &contract::Decision, limits: &Limits) -> Proposal {
        Proposal {
            disposition: disposition(decided),
            notify: notify(decided),
            reason: printable(&decided.reason, limits.policy.text),
        }
    }
}

impl std::fmt::Display for Proposal {
    /// In an administrator's words, such as `reject, tell the sender: no key, no mail`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let colon = if self.reason.is_empty() { "" } else { ": " };
        write!(f, "{}{colon}{}", Effect { disposition: self.disposition, notify: self.notify }, self.reason)
    }
}

/// The facts that a policy saw, as a decision tells them.
fn facts_json(policy: &Shelved, facts: &Facts) -> serde_json::Value {
    WrittenFacts::of(facts, &policy.wanted).json()
}

/// What is the same in every decision of this policy on these facts.
fn undecided(policy: &Shelved, facts: serde_json::Value, recipients: Vec<usize>) -> Decision {
    Decision {
        recipients,
        by: By::Site,
        mark: MarkAs::Header,
        policy: policy.id.clone(),
        digest: policy.digest.clone(),
        disposition: Disposition::Defer,
        notify: Notify::default(),
        reason: String::new(),
        fault: None,
        clamped: None,
        passed_over: None,
        rules_unread: None,
        shadow: None,
        facts,
        settings: policy.settings_json.clone(),
    }
}

/// These recipients by the policies that treat them, each policy once.
fn by_policy(choices: &[Choice], members: impl Iterator<Item = usize>) -> Vec<(&Arc<Shelved>, Vec<usize>)> {
    let mut policies: Vec<(&Arc<Shelved>, Vec<usize>)> = Vec::new();
    for index in members {
        let Some(choice) = choices.get(index) else { continue };
        match policies.iter_mut().find(|(policy, _)| policy.id == choice.policy.id) {
            Some((_, members)) => members.push(index),
            None => policies.push((&choice.policy, vec![index])),
        }
    }
    policies
}

/// One decision for each group of its recipients that came to it by the same word and see a mark in the same way.
fn split(decision: Decision, choices: &[Choice], out: &mut Vec<Decision>) {
    let mut groups: Vec<((By, MarkAs), Vec<usize>)> = Vec::new();
    for index in &decision.recipients {
        let Some(choice) = choices.get(*index) else { continue };
        let key = (choice.by, choice.mark);
        match groups.iter_mut().find(|(known, _)| *known == key) {
            Some((_, members)) => members.push(*index),
            None => groups.push((key, vec![*index])),
        }
    }
    // Nearly always there is one.
    let last = groups.pop();
    let of = |decision, ((by, mark), recipients)| Decision { recipients, by, mark, ..decision };
    out.extend(groups.into_iter().map(|group| of(decision.clone(), group)));
    out.extend(last.map(|group| of(decision, group)));
}

/// The configured failure decision.
fn failed(policy: &Shelved, facts: &Facts, fault: Fault, recipients: Vec<usize>) -> Decision {
    let (disposition, sender) = match policy.on_fault {
        OnFault::Defer => (Disposition::Defer, false),
        OnFault::Quarantine => (Disposition::Quarantine, false),
        OnFault::Reject => (Disposition::Reject, true),
    };
    tracing::warn!(policy = policy.id, digest = policy.digest, %fault, "the policy failed");
    Decision {
        disposition,
        notify: Notify { sender, recipient: false },
        reason: "the delivery policy failed".into(),
        fault: Some(fault.to_string()),
        ..undecided(policy, facts_json(policy, facts), recipients)
    }
}

/// Whether a component's decision is to drop the message and tell nobody.
fn drops_silently(decision: &contract::Decision) -> bool {
    is_silent_drop(disposition(decision), notify(decision))
}

fn disposition(decision: &contract::Decision) -> Disposition {
    match decision.disposition {
        contract::Disposition::Accept => Disposition::Accept,
        contract::Disposition::Mark => Disposition::Mark,
        contract::Disposition::Quarantine => Disposition::Quarantine,
        contract::Disposition::Reject => Disposition::Reject,
        contract::Disposition::Defer => Disposition::Defer,
    }
}

fn notify(decision: &contract::Decision) -> Notify {
    let told = |who| decision.notify.contains(who);
    Notify { sender: told(contract::Notify::SENDER), recipient: told(contract::Notify::RECIPIENT) }
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}
