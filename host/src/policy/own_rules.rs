//! Users' own rules: texts for the policy `rules`, which decide within what is open to users.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use quick_cache::Weighter;
use quick_cache::sync::Cache;
use tokio::time::Instant;

use super::choose::is_denied;
use super::sandbox::Sandbox;
use super::shelf::{Component, Shelved};
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
    /// How often a text was known, and how often it was to be read.
    asked: [AtomicU64; 2],
}

/// The policy that a text makes, or why it makes none.
pub(super) type Read = Result<Arc<Shelved>, Unread>;

/// Why a text makes no policy.
#[derive(Clone, Debug)]
pub(super) enum Unread {
    /// What is wrong with the text, with line and column.
    Text(String),
    /// The component failed: another time it may read the text.
    Component(String),
}

impl Unread {
    fn into_words(self) -> String {
        match self {
            Unread::Text(why) | Unread::Component(why) => why,
        }
    }
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
const NO_STRICTER: &str = "the message is denied by its sender's domain, and they are no stricter";

/// Why a recipient's own rules do not count, and what they decided where that counts if it is stricter.
#[derive(Clone)]
struct Fallen {
    own: Option<Arc<Decision>>,
    why: Lapse,
}

/// Why such rules do not count, and why they cannot be read, where that is the reason.
#[derive(Clone, PartialEq, Eq)]
struct Lapse {
    why: Arc<str>,
    unread: Option<Arc<str>>,
}

impl From<Arc<str>> for Lapse {
    fn from(why: Arc<str>) -> Lapse {
        Lapse { why, unread: None }
    }
}

/// A stricter decision by such rules, or why they do not count.
type Word = Result<Arc<Decision>, Lapse>;

/// What is made of a decision by a user's own rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It counts.
    Counts,
    /// It counts where it is stricter than what treats the message without them.
    IfStricter,
    /// It does not count: no policy that is open to users does so for this result.
    NotOpen,
}

impl OwnRules {
    /// With a component that takes a list of lines as `rules`, as the shipped one does.
    pub(super) fn load(
        component: Result<Component, Error>,
        sandbox: &Sandbox,
        limits: &Limits,
    ) -> Result<OwnRules, Error> {
        let wrong = |e| Error::At { place: "policy.user_rules".into(), source: Box::new(e) };
        let component = component.map_err(wrong)?;
        component.fitted(sandbox, RULES, &lines("otherwise accept"), limits).map_err(wrong)?;
        let texts = usize::try_from(limits.policy.own_rules_held / (2 * BESIDE)).unwrap_or(usize::MAX);
        let read = Cache::with_weighter(texts, limits.policy.own_rules_held, Octets);
        Ok(OwnRules { component, read, reading: Mutex::default(), asked: Default::default() })
    }

    /// The component that reads the texts.
    pub(super) fn component(&self) -> &Component {
        &self.component
    }

    /// The policy that this text makes; it was made before, or is made now, which takes as long as a decision. Why it makes none
    /// is told with line and column.
    pub(super) fn read(&self, text: &Arc<str>, sandbox: &Sandbox, limits: &Limits) -> Read {
        let known = || self.read.get(text).filter(|(_, until)| until.is_none_or(|until| Instant::now() < until));
        let [remembered, read] = &self.asked;
        if let Some((known, _)) = known() {
            remembered.fetch_add(1, Ordering::Relaxed);
            return known;
        }
        read.fetch_add(1, Ordering::Relaxed);
        let _alone = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, _)) = known() {
            return known;
        }
        if text.len() > limits.policy.own_rules {
            return Err(Unread::Text(format!("they are longer than {} KiB", limits.policy.own_rules >> 10)));
        }
        let mut until = None;
        let made = match self.component.fitted(sandbox, RULES, &lines(text), limits) {
            Ok((settings, wanted)) => {
                Ok(Arc::new(self.component.shelved(RULES, settings, wanted, OnFault::Defer, None)))
            }
            Err(Error::Settings { text, .. }) => Err(Unread::Text(text)),
            // Another time it may have the time that it lacked.
            Err(error) => {
                until = Some(Instant::now() + AGAIN);
                Err(Unread::Component(error.to_string()))
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

/// Whether one disposition lets less through than another. A deferral is beside all of them, so it never does.
pub(super) fn is_stricter(one: Disposition, other: Disposition) -> bool {
    one.strictness().zip(other.strictness()).is_some_and(|(one, other)| one > other)
}

impl Policies {
    /// The recipient's own rules, where they have a word on this result: no stronger one chose the policy, and a user has a say.
    pub(super) fn own_rules(&self, by: By, status: KeyStatus, why: Option<Why>, wish: &Wish) -> Option<Arc<str>> {
        let weaker = matches!(by, By::Domain | By::Site);
        let asked = self.own.is_some() && weaker && status != KeyStatus::Valid && why != Some(Why::NoAddress);
        wish.rules.clone().filter(|_| asked)
    }

    /// How many texts of users are remembered as policies, and how often one was, and was not; nothing where users have no rules.
    pub fn own_rules_remembered(&self) -> Option<(usize, [u64; 2])> {
        let own = self.own.as_ref()?;
        Some((own.read.len(), own.asked.each_ref().map(|count| count.load(Ordering::Relaxed))))
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
        Some(self.own_policy(&text.into())?.map(drop).map_err(Unread::into_words))
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
            true if is_denied(status, why, claim) => Standing::IfStricter,
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
        let begin = Instant::now();
        let (mut decisions, mut fallen, mut turn) = (Vec::new(), BTreeMap::new(), begin);
        // The other half of the time is for what takes their place.
        let half = begin + deadline.saturating_duration_since(begin) / 2;
        for (text, members) in by_text(choices, found) {
            match self.own_policy(text) {
                Some(Ok(own)) => {
                    for decision in self.decide_by(&own, mail, found, members, half).await {
                        self.stand(found, decision, choices, &mut decisions, &mut fallen);
                    }
                }
                unread => {
                    let unread = match unread {
                        Some(Err(Unread::Text(why))) => Some(why.into()),
                        _ => None,
                    };
                    let falls = Fallen { own: None, why: Lapse { why: UNREAD.into(), unread } };
                    fallen.extend(members.into_iter().map(|index| (index, falls.clone())));
                }
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
        fallen: &mut BTreeMap<usize, Fallen>,
    ) {
        let is_silent = is_silent_drop(decision.disposition, decision.notify);
        let effect = Effect { disposition: decision.disposition, notify: decision.notify };
        let standing = match decision.fault {
            Some(_) => None,
            None => Some(self.standing((found.status, found.why, found.claim), effect, is_silent)),
        };
        let why: Arc<str> = match standing {
            Some(Standing::Counts) => {
                let mut of_users = Vec::new();
                super::split(decision, choices, &mut of_users);
                decisions.extend(of_users.into_iter().map(|decision| Decision { by: By::User, ..decision }));
                return;
            }
            Some(Standing::IfStricter) => NO_STRICTER.into(),
            Some(Standing::NotOpen) => format!("they say {effect}, which is not open to users for this result").into(),
            None => FAILED.into(),
        };
        let own = (standing == Some(Standing::IfStricter)).then(|| Arc::new(decision.clone()));
        let falls = Fallen { own, why: why.into() };
        fallen.extend(decision.recipients.into_iter().map(|index| (index, falls.clone())));
    }

    /// The decisions for recipients whose rules do not count, or only where they are stricter.
    async fn without(
        &self,
        mail: &Mail,
        found: &Found,
        choices: &[Choice],
        fallen: BTreeMap<usize, Fallen>,
        deadline: Instant,
    ) -> Vec<Decision> {
        let mut decisions = Vec::new();
        for (policy, members) in super::by_policy(choices, fallen.keys().copied()) {
            for decision in self.decide_by(policy, mail, found, members, deadline).await {
                for (word, recipients) in by_word(&decision, &fallen) {
                    let mut split = Vec::new();
                    match word {
                        Ok(own) => {
                            super::split(Decision { recipients, ..Decision::clone(&own) }, choices, &mut split);
                            split.iter_mut().for_each(|decision| decision.by = By::User);
                        }
                        Err(Lapse { why, unread }) => {
                            let passed_over = Some(why.as_ref().to_owned());
                            let rules_unread = unread.as_deref().map(str::to_owned);
                            let decision = Decision { recipients, passed_over, rules_unread, ..decision.clone() };
                            super::split(decision, choices, &mut split);
                        }
                    }
                    decisions.extend(split);
                }
            }
        }
        decisions
    }
}

/// The texts of recipients whose mail ends here, each with those who have it; long ones that begin alike are not compared with each
/// other.
fn by_text<'a>(choices: &'a [Choice], found: &Found) -> Vec<(&'a Arc<str>, Vec<usize>)> {
    let mut texts: Vec<(&Arc<str>, Vec<usize>)> = Vec::new();
    let mut places: HashMap<&str, usize> = HashMap::new();
    for (index, choice) in choices.iter().enumerate().filter(|(index, _)| found.concerns(*index)) {
        let Some(text) = &choice.own else { continue };
        let place = *places.entry(text).or_insert(texts.len());
        match texts.get_mut(place) {
            Some((_, members)) => members.push(index),
            None => texts.push((text, vec![index])),
        }
    }
    texts
}

/// Whose word counts beside this decision: its recipients by what their own rules say, or by why these do not count.
fn by_word(decision: &Decision, fallen: &BTreeMap<usize, Fallen>) -> Vec<(Word, Vec<usize>)> {
    let mut groups: Vec<(Word, Vec<usize>)> = Vec::new();
    for index in &decision.recipients {
        let Some(Fallen { own, why }) = fallen.get(index) else { continue };
        let wins = |own: &&Arc<Decision>| is_stricter(own.disposition, decision.disposition);
        let word = own.as_ref().filter(wins).map_or_else(|| Err(why.clone()), |own| Ok(Arc::clone(own)));
        match groups.iter_mut().find(|(known, _)| is_same(known, &word)) {
            Some((_, members)) => members.push(*index),
            None => groups.push((word, vec![*index])),
        }
    }
    groups
}

fn is_same(one: &Word, other: &Word) -> bool {
    match (one, other) {
        (Ok(one), Ok(other)) => Arc::ptr_eq(one, other),
        (Err(one), Err(other)) => one == other,
        _ => false,
    }
}
