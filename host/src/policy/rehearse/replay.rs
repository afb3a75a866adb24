//! Recorded mail decided again by a candidate: what would have become of it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::{Value, json};

use super::super::{Proposal, shelf};
use super::order::Change;
use super::subject::{Answer, Subject};
use super::{Component, Settings, Wanted, WrittenFacts};
use crate::case::{Decision, Why, WrittenCase, WrittenFound, restrained};

/// Answers that are remembered by their facts.
const REMEMBERED: usize = 50_000;
/// Domains of one change that are counted apart; beyond it they are `more`.
const DOMAINS: usize = 10_000;
/// Examples that are kept of each change.
const EXAMPLES: usize = 3;

/// A candidate that recorded decisions are made again by.
pub struct Replay<'a> {
    candidate: &'a Subject,
    /// Instead of what was decided then.
    former: Option<&'a Subject>,
    /// Components that are at hand, by digest: what they were told is known from their settings.
    known: Vec<(String, &'a Component, Option<Settings>)>,
    asked: HashMap<(String, String), Option<Wanted>>,
    remembered: HashMap<String, [Option<Answer>; 2]>,
    report: Report,
}

/// What came out.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct Report {
    /// Messages that were looked at.
    pub messages: usize,
    /// Decisions on them, each for one or several recipients.
    pub decisions: usize,
    /// Decisions that would be the same.
    pub same: usize,
    /// The changes.
    #[serde(skip)]
    matrix: BTreeMap<(String, String), Moved>,
    /// Decisions that could not be made again, by the fact that the row does not have, or by the reason.
    pub lacking: BTreeMap<String, usize>,
}

/// Decisions that would go from one to another.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Moved {
    /// How they would change.
    pub change: Change,
    /// What was decided.
    pub old: String,
    /// What would be.
    pub new: String,
    /// How many decisions.
    pub decisions: usize,
    /// For how many recipients.
    pub recipients: usize,
    /// How many domains of senders; many are counted as that many.
    pub domains: usize,
    /// Numbers of rows, and whose mail that was.
    pub examples: Vec<(i64, String)>,
    #[serde(skip)]
    seen: BTreeSet<String>,
    #[serde(skip)]
    weight: (u8, u8),
}

impl Report {
    /// The changes, the worst first: from accept to reject, then what is less strict than that; then the looser ones.
    pub fn moved(&self) -> Vec<&Moved> {
        let mut moved: Vec<&Moved> = self.matrix.values().collect();
        moved.sort_by_key(|moved| (moved.weight, std::cmp::Reverse(moved.decisions)));
        moved
    }

    /// Decisions that could not be made again.
    pub fn unknown(&self) -> usize {
        self.lacking.values().sum()
    }
}

impl<'a> Replay<'a> {
    /// Recorded decisions against those of a candidate.
    pub fn of(candidate: &'a Subject) -> Replay<'a> {
        Replay {
            candidate,
            former: None,
            known: Vec::new(),
            asked: HashMap::new(),
            remembered: HashMap::new(),
            report: Report::default(),
        }
    }

    /// The decisions of this policy against those of the candidate, on recorded facts.
    #[must_use]
    pub fn against(self, former: &'a Subject) -> Replay<'a> {
        Replay { former: Some(former), ..self }
    }

    /// Tells which facts a component asks for whose decisions are recorded by this digest: one that it asked for and that is not
    /// in a row was not there. `settings` are those of the configuration: a row keeps of long ones their digest alone.
    pub fn knows(&mut self, digest: &str, component: &'a Component, settings: Option<Settings>) {
        self.known.push((digest.to_owned(), component, settings));
    }

    /// What came out so far.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// Decides a recorded message again.
    pub fn see(&mut self, row: i64, case: &WrittenCase) {
        let Some(found) = case.finding.found() else { return };
        if case.decisions.is_empty() {
            return;
        }
        self.report.messages += 1;
        let sender = found.sender.as_deref().unwrap_or_default();
        for decision in &case.decisions {
            // A candidate that sees recipients may treat them differently.
            let groups: Vec<Vec<usize>> = match self.wants("recipient") {
                true => decision.recipients.iter().map(|index| vec![*index]).collect(),
                false => vec![decision.recipients.clone()],
            };
            for recipients in groups {
                self.report.decisions += 1;
                match self.again(case, decision, &recipients) {
                    Ok((old, new)) => self.count(row, sender, recipients.len(), &old, &new),
                    Err(lacking) => *self.report.lacking.entry(lacking).or_default() += 1,
                }
            }
        }
    }

    fn wants(&self, fact: &str) -> bool {
        [Some(self.candidate), self.former].into_iter().flatten().any(|subject| subject.facts().contains(&fact))
    }

    /// What was decided, or the former decides, and what the candidate does; the error is what cannot be known.
    fn again(&mut self, case: &WrittenCase, decision: &Decision, to: &[usize]) -> Result<(Answer, Answer), String> {
        let facts = self.facts(case, decision, to)?;
        let [old, new] = self.answers(&facts);
        let unreadable = || "facts that can be read".to_owned();
        let old = if self.former.is_some() { old.ok_or_else(unreadable)? } else { recorded(decision) };
        let held = |answer: Answer| held_back(answer, case);
        Ok((held(old), held(new.ok_or_else(unreadable)?)))
    }

    /// Counts a row that cannot be read.
    pub fn unreadable(&mut self) {
        *self.report.lacking.entry("a row that can be read".into()).or_default() += 1;
    }

    fn answers(&mut self, facts: &Value) -> [Option<Answer>; 2] {
        let key = facts.to_string();
        if let Some(known) = self.remembered.get(&key) {
            return known.clone();
        }
        let written: Option<WrittenFacts> = serde_json::from_value(facts.clone()).ok();
        let answer = |subject: &Subject| written.as_ref().and_then(|written| subject.decide(written).ok());
        let answers = [self.former.and_then(answer), answer(self.candidate)];
        if self.remembered.len() >= REMEMBERED {
            self.remembered.clear();
        }
        self.remembered.insert(key, answers.clone());
        answers
    }

    /// The facts of a recorded decision, as far as they are wanted; the error is one that nobody knows any more.
    fn facts(&mut self, case: &WrittenCase, decision: &Decision, to: &[usize]) -> Result<Value, String> {
        let found = case.finding.found().ok_or("a result")?;
        let told = match &decision.facts {
            Value::Object(told) if !case.shortened => told,
            _ => return Err("facts, which were too large to keep".into()),
        };
        if case.erased {
            return Err("an address that was erased".into());
        }
        let mut facts = serde_json::Map::from_iter([("status".to_owned(), Value::from(found.status.word()))]);
        let facts_wanted = ALL.into_iter().filter(|fact| self.wants(fact)).collect::<Vec<_>>();
        for fact in facts_wanted {
            let beside = || decision.shadow.as_ref().and_then(|shadow| shadow.facts.get(fact));
            let known = match told.get(fact).or_else(beside) {
                Some(value) => Some(Some(value.clone())),
                None => elsewhere(fact, case, found, to),
            };
            match known {
                Some(value) => facts.extend(value.map(|value| (fact.to_owned(), value))),
                None if self.was_asked(decision, |wanted| wanted.facts().contains(&fact)) => {}
                None => return Err(fact.to_owned()),
            }
        }
        let subjects = [Some(self.candidate), self.former].into_iter().flatten();
        let names: BTreeSet<String> = subjects.flat_map(|subject| subject.headers().to_vec()).collect();
        let beside = decision.shadow.as_ref().and_then(|shadow| shadow.facts.get("headers"));
        let kept: Vec<_> = [told.get("headers"), beside].into_iter().flatten().filter_map(Value::as_object).collect();
        let mut headers = serde_json::Map::new();
        for name in names {
            let value = kept.iter().copied().flatten().find(|(known, _)| known.eq_ignore_ascii_case(&name));
            let asked = |wanted: &Wanted| wanted.headers().iter().any(|known| known.eq_ignore_ascii_case(&name));
            match value {
                Some((_, value)) => _ = headers.insert(name, value.clone()),
                None if self.was_asked(decision, asked) => {}
                None => return Err(format!("the field {name}")),
            }
        }
        if !headers.is_empty() {
            facts.insert("headers".into(), headers.into());
        }
        Ok(facts.into())
    }

    /// Whether the component that decided then, or the candidate beside it, had asked for something, as far as they are at hand.
    fn was_asked(&mut self, decision: &Decision, asked: impl Fn(&Wanted) -> bool) -> bool {
        let beside = decision.shadow.as_ref().map(|shadow| (&shadow.digest, &shadow.settings));
        let mut all = [Some((&decision.digest, &decision.settings)), beside].into_iter().flatten();
        all.any(|(digest, settings)| self.wanted(digest, settings).is_some_and(&asked))
    }

    /// What a component of this digest wants under these settings, where it is at hand.
    fn wanted(&mut self, digest: &str, settings: &Value) -> Option<&Wanted> {
        let key = (digest.to_owned(), settings.to_string());
        let known = &self.known;
        let wanted = self.asked.entry(key).or_insert_with(|| {
            let mut same = known.iter().filter(|(known, ..)| known == digest);
            if let Value::String(_) = settings {
                let (component, settings) = same.find_map(|(_, component, given)| {
                    let given = given.as_ref()?;
                    let told = shelf::told_settings(component.settings_json(given));
                    (told == *settings).then_some((component, given))
                })?;
                return component.check(settings).ok();
            }
            let (_, component, _) = same.next()?;
            let given: BTreeMap<String, toml::Value> = serde_json::from_value(settings.clone()).ok()?;
            component.check(&component.fit(&given).ok()?).ok()
        });
        wanted.as_ref()
    }

    fn count(&mut self, row: i64, sender: &str, recipients: usize, old: &Answer, new: &Answer) {
        let (old_words, new_words) = (brief(old), brief(new));
        let Some(change) = Change::between(old, new).filter(|_| old_words != new_words) else {
            self.report.same += 1;
            return;
        };
        let moved = self.report.matrix.entry((old_words.clone(), new_words.clone())).or_insert_with(|| Moved {
            change,
            old: old_words,
            new: new_words,
            decisions: 0,
            recipients: 0,
            domains: 0,
            examples: Vec::new(),
            seen: BTreeSet::new(),
            weight: weight(change, old, new),
        });
        moved.decisions += 1;
        moved.recipients += recipients;
        if moved.examples.len() < EXAMPLES {
            moved.examples.push((row, sender.to_owned()));
        }
        let domain = sender.rsplit_once('@').map_or("", |(_, domain)| domain);
        if moved.seen.len() < DOMAINS && moved.seen.insert(domain.to_owned()) {
            moved.domains = moved.seen.len();
        }
    }
}

/// The facts that a policy can ask for, but for header fields.
const ALL: [&str; 10] =
    ["why", "sender", "recipient", "envelope-sender", "client", "size", "trail", "mail-auth", "claim", "last-valid"];

/// What the rest of a row says of a fact: none where it says nothing, no value where there was none.
fn elsewhere(fact: &str, case: &WrittenCase, found: &WrittenFound, to: &[usize]) -> Option<Option<Value>> {
    let bare = |path: &String| {
        let inner = path.strip_prefix('<').and_then(|path| path.strip_suffix('>')).unwrap_or(path);
        inner.contains('@').then(|| Value::from(inner))
    };
    Some(match fact {
        // The contract has no word for this one.
        "why" => found.why.map(|why| if why == Why::NoAddress { "other".into() } else { why.word().into() }),
        "sender" => found.sender.as_ref().and_then(bare),
        "recipient" => case.recipients.get(*to.first()?).and_then(bare),
        "envelope-sender" => case.reverse_path.as_ref().and_then(bare),
        "client" => {
            let client = &case.client;
            client.ip.map(|ip| {
                let ip = ip.to_canonical().to_string();
                json!({ "ip": ip, "name": client.name, "helo": client.helo, "tls": client.tls })
            })
        }
        "size" => case.size.map(Value::from),
        "mail-auth" => found.mail_auth.map(|auth| {
            json!({
                "spf": auth.spf, "spf-aligned": auth.spf_aligned, "dkim": auth.dkim, "dkim-aligned": auth.dkim_aligned,
                "dmarc": auth.dmarc,
            })
        }),
        "claim" => found.claim.map(|claim| claim.word().into()),
        _ => return None,
    })
}

/// What was decided then.
fn recorded(decision: &Decision) -> Answer {
    let Decision { disposition, notify, reason, fault, .. } = decision;
    let proposal = Proposal { disposition: *disposition, notify: *notify, reason: reason.clone() };
    // Where the policy failed, what was decided then is the configuration's word.
    Answer { decision: fault.is_none().then_some(proposal), fault: fault.clone() }
}

/// The answer with the host's own restraint.
fn held_back(mut answer: Answer, case: &WrittenCase) -> Answer {
    if let (Some(found), Some(decision)) = (case.finding.found(), &mut answer.decision) {
        decision.notify = restrained(found.status, found.why, decision.disposition, decision.notify);
    }
    answer
}

/// An answer without its reason, which names single messages.
fn brief(answer: &Answer) -> String {
    match (&answer.decision, &answer.fault) {
        (Some(decision), _) => Proposal { reason: String::new(), ..decision.clone() }.to_string(),
        (None, _) => "a failure".into(),
    }
}

/// The most harm first: mail that would be lost, by how far; then what would be let through; then the rest.
fn weight(change: Change, old: &Answer, new: &Answer) -> (u8, u8) {
    let strict = |answer: &Answer| answer.decision.as_ref().and_then(|decision| decision.disposition.strictness());
    let far = strict(old).zip(strict(new)).map_or(0, |(old, new)| old.abs_diff(new));
    let kind = match change {
        Change::Stricter => 0,
        Change::Looser => 1,
        Change::Sideways => 2,
        Change::Reworded => 3,
    };
    (kind, u8::MAX - far)
}
