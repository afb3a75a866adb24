//! Users' own rules: texts for the policy `rules`, which decide within what is open to users.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use quick_cache::Weighter;
use quick_cache::sync::Cache;
use tokio::time::Instant;

use super::sandbox::Sandbox;
use super::shelf::{Component, Read, Shelved};
use super::{AT_ONCE, Choice, Effect, Error, Policies};
use crate::case::{By, Decision, Disposition, Found, KeyStatus, Mail, Why, Wish, is_silent_drop};
use crate::config::{Limits, OnFault};
use crate::proto::record::Claim;

/// The policy whose texts users write.
pub(super) const RULES: &str = "rules";
/// Octets that a text takes besides its own.
const BESIDE: u64 = 1_024;
/// After how long a text that the component failed on is read again.
const AGAIN: Duration = Duration::from_secs(10);

/// The component that reads users' texts, and those that it has read.
pub(super) struct OwnRules {
    component: Component,
    read: Cache<Arc<str>, Known, Octets>,
    /// Held by whoever reads one: the sandbox has an instance for that, and no more.
    reading: Mutex<()>,
}

/// What was read of a text; where the component failed, until when that is believed.
type Known = (Read, Option<Instant>);

#[derive(Clone)]
struct Octets;

impl Weighter<Arc<str>, Known> for Octets {
    fn weight(&self, text: &Arc<str>, _: &Known) -> u64 {
        u64::try_from(text.len()).unwrap_or(u64::MAX).saturating_mul(2).saturating_add(BESIDE)
    }
}

/// Why such rules did not decide, as the case tells it.
const UNREAD: &str = "they cannot be read (`addrauth user show` says why)";
const FAILED: &str = "they failed, or did not decide in time";
const MILDER: &str = "the message is denied by its sender's domain, and they are no sterner";

/// A recipient whose own rules do not count, or only where they are sterner.
struct Fallen {
    index: usize,
    own: Option<Arc<Decision>>,
    why: String,
}

/// A sterner decision by such rules, or why they do not count.
type Word<'a> = Result<Arc<Decision>, &'a str>;

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
        let read = Cache::with_weighter(texts, limits.policy.own_rules_held, Octets);
        Ok(OwnRules { component, read, reading: Mutex::default() })
    }

    /// The component's digest.
    pub(super) fn component(&self) -> &Component {
        &self.component
    }

    /// The policy that this text makes; it was made before, or is made now, which takes as long as a decision. Why it makes none
    /// is told with line and column.
    pub(super) fn read(&self, text: &Arc<str>, sandbox: &Sandbox, limits: &Limits) -> Read {
        let known = || self.read.get(text).filter(|(_, until)| until.is_none_or(|until| Instant::now() < until));
        if let Some((known, _)) = known() {
            return known;
        }
        let _alone = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, _)) = known() {
            return known;
        }
        if text.len() > limits.policy.own_rules {
            return Err(format!("they are longer than {} KiB", limits.policy.own_rules >> 10));
        }
        let mut until = None;
        let made = match self.component.fitted(sandbox, RULES, &lines(text), limits) {
            Ok((settings, wanted)) => {
                Ok(Arc::new(self.component.shelved(RULES, settings, wanted, OnFault::Defer, None)))
            }
            Err(Error::Settings { text, .. }) => Err(text),
            // Another time it may have the time that it lacked.
            Err(error) => {
                until = Some(Instant::now() + AGAIN);
                Err(error.to_string())
            }
        };
        self.read.insert(Arc::clone(text), (made.clone(), until));
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
    pub(super) fn own_rules(&self, by: By, status: KeyStatus, why: Option<Why>, wish: &Wish) -> Option<Arc<str>> {
        let weaker = matches!(by, By::Domain | By::Site);
        let asked = self.own.is_some() && weaker && status != KeyStatus::Valid && why != Some(Why::NoAddress);
        wish.rules.clone().filter(|_| asked)
    }

    /// The policy that this text of a user makes, or why it makes none; nothing where users have no rules.
    pub(super) fn own_policy(&self, text: &Arc<str>) -> Option<Read> {
        Some(self.own.as_ref()?.read(text, &self.sandbox, &self.limits))
    }

    /// Whether users' own rules count here, and this text makes a policy.
    ///
    /// # Errors
    /// It makes none; the text names line and column.
    pub fn read_own_rules(&self, text: &str) -> Option<Result<(), String>> {
        Some(self.own_policy(&text.into())?.map(drop))
    }

    /// What is made of such a decision by a user's own rules.
    pub(super) fn standing(
        &self,
        (status, why, claim): (KeyStatus, Option<Why>, Option<Claim>),
        said: Effect,
        is_silent: bool,
    ) -> Standing {
        let lets = |effect: Effect| {
            // Nobody is told whom no policy that is open tells.
            let tells = effect.notify.sender >= said.notify.sender && effect.notify.recipient >= said.notify.recipient;
            let silent = !is_silent || is_silent_drop(effect.disposition, effect.notify);
            effect.disposition == said.disposition && tells && silent
        };
        let mut open = self.bound.open(status).filter_map(|policy| super::explain::effect(policy, status, why));
        match open.any(lets) {
            false => Standing::NotOpen,
            true if is_denied(status, why, claim) => Standing::IfSterner,
            true => Standing::Counts,
        }
    }

    /// The decisions for the recipients with rules of their own: by these as far as they count, else by what treats the message
    /// without them. A text is asked once for all recipients who have it, and what takes its place as well.
    pub(super) async fn by_their_own_rules(
        &self,
        mail: &Mail,
        found: &Found,
        choices: &[Choice],
        deadline: Instant,
    ) -> Vec<Decision> {
        let mut texts: Vec<(&Arc<str>, Vec<usize>)> = Vec::new();
        for (index, choice) in choices.iter().enumerate().filter(|(index, _)| found.concerns(*index)) {
            let Some(text) = &choice.own else { continue };
            match texts.iter_mut().find(|(known, _)| *known == text) {
                Some((_, members)) => members.push(index),
                None => texts.push((text, vec![index])),
            }
        }
        let (mut decisions, mut fallen, mut turn) = (Vec::new(), Vec::new(), Instant::now());
        // The other half of the time is for what takes their place.
        let begin = Instant::now();
        let half = begin + deadline.saturating_duration_since(begin) / 2;
        for (text, members) in texts {
            match self.own_policy(text) {
                Some(Ok(own)) => {
                    for decision in self.decide_by(&own, mail, found, members, half).await {
                        self.stand(found, decision, choices, &mut decisions, &mut fallen);
                    }
                }
                _ => fallen.extend(members.into_iter().map(|index| Fallen { index, own: None, why: UNREAD.into() })),
            }
            if turn.elapsed() >= AT_ONCE {
                // Other messages on this thread get their turn meanwhile.
                tokio::task::yield_now().await;
                turn = Instant::now();
            }
        }
        decisions.extend(self.without(mail, found, choices, fallen, deadline).await);
        decisions
    }

    /// Puts what such rules decided where it belongs: among the decisions, or to what falls to others.
    fn stand(
        &self,
        found: &Found,
        decision: Decision,
        choices: &[Choice],
        decisions: &mut Vec<Decision>,
        fallen: &mut Vec<Fallen>,
    ) {
        let is_silent = is_silent_drop(decision.disposition, decision.notify);
        let effect = Effect { disposition: decision.disposition, notify: decision.notify };
        let standing = match decision.fault {
            Some(_) => None,
            None => Some(self.standing((found.status, found.why, found.claim), effect, is_silent)),
        };
        let why = match standing {
            Some(Standing::Counts) => {
                let mut of_users = Vec::new();
                super::split(decision, choices, &mut of_users);
                decisions.extend(of_users.into_iter().map(|decision| Decision { by: By::User, ..decision }));
                return;
            }
            Some(Standing::IfSterner) => MILDER.to_owned(),
            Some(Standing::NotOpen) => format!("they say {effect}, which is not open to users for this result"),
            None => FAILED.to_owned(),
        };
        let own = (standing == Some(Standing::IfSterner)).then(|| Arc::new(decision.clone()));
        let falls = |index| Fallen { index, own: own.clone(), why: why.clone() };
        fallen.extend(decision.recipients.into_iter().map(falls));
    }

    /// The decisions for recipients whose rules do not count, or only where they are sterner.
    async fn without(
        &self,
        mail: &Mail,
        found: &Found,
        choices: &[Choice],
        fallen: Vec<Fallen>,
        deadline: Instant,
    ) -> Vec<Decision> {
        let mut policies: Vec<(&Arc<Shelved>, Vec<usize>)> = Vec::new();
        for Fallen { index, .. } in &fallen {
            let Some(choice) = choices.get(*index) else { continue };
            match policies.iter_mut().find(|(policy, _)| policy.id == choice.policy.id) {
                Some((_, members)) => members.push(*index),
                None => policies.push((&choice.policy, vec![*index])),
            }
        }
        let mut decisions = Vec::new();
        for (policy, members) in policies {
            for decision in self.decide_by(policy, mail, found, members, deadline).await {
                // Few, since the reasons are few and the sterner ones are counted by what they say.
                let mut groups: Vec<(Word<'_>, Vec<usize>)> = Vec::new();
                for index in &decision.recipients {
                    let Some(fallen) = fallen.iter().find(|fallen| fallen.index == *index) else { continue };
                    let is_sterner =
                        |own: &&Arc<Decision>| sternness(own.disposition) > sternness(decision.disposition);
                    let word = match fallen.own.as_ref().filter(is_sterner) {
                        Some(own) => Ok(Arc::clone(own)),
                        None => Err(fallen.why.as_str()),
                    };
                    match groups.iter_mut().find(|(known, _)| is_same(known, &word)) {
                        Some((_, members)) => members.push(*index),
                        None => groups.push((word, vec![*index])),
                    }
                }
                for (word, recipients) in groups {
                    let mut split = Vec::new();
                    match word {
                        Ok(own) => {
                            super::split(Decision { recipients, ..Decision::clone(&own) }, choices, &mut split);
                            split.iter_mut().for_each(|decision| decision.by = By::User);
                        }
                        Err(why) => {
                            let passed_over = Some(why.to_owned());
                            super::split(Decision { recipients, passed_over, ..decision.clone() }, choices, &mut split);
                        }
                    }
                    decisions.extend(split);
                }
            }
        }
        decisions
    }
}

fn is_same(one: &Word<'_>, other: &Word<'_>) -> bool {
    match (one, other) {
        (Ok(one), Ok(other)) => Arc::ptr_eq(one, other),
        (Err(one), Err(other)) => one == other,
        _ => false,
    }
}
