//! How many messages were judged how, so that an observing phase can be weighed.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::process::ExitCode;
use std::time::SystemTime;

use serde_json::{Value, json};

use super::{Context, Unread, exit, open, shown};
use addrauth::case::{Carried, Differs, KeyStatus, stamp};
use addrauth::store::Tally;

/// Domains that are counted singly, of each result. Anybody can invent more of them in From: those that come later, of older
/// messages, are counted together.
const DOMAINS: usize = 10_000;
/// Candidates that are counted; a site tries some.
const CANDIDATES: usize = 1_000;
/// Domains that are shown of each result.
const TOP: usize = 10;
/// Columns that a domain may take up; 100 columns are for the whole line.
const WIDTH: usize = 72;
/// Columns of a policy's id.
const POLICY: usize = 19;
/// How many messages were decided in one way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    /// It was carried out.
    in_force: u64,
    /// `observe = true`: it was decided, and the message was delivered all the same.
    observed: u64,
    /// The message was put off, on account of another recipient or of trouble here.
    put_off: u64,
}

/// The domains of one result's senders.
#[derive(Debug, Default)]
struct Domains {
    single: HashMap<String, u64>,
    /// Messages of all the others.
    others: u64,
}

/// What is counted of all rows; its size is bounded by the words that there are and by [`DOMAINS`].
#[derive(Debug, Default)]
struct Summary {
    messages: u64,
    /// By result and decision.
    counts: BTreeMap<(String, &'static str), Counts>,
    /// By result.
    domains: BTreeMap<String, Domains>,
    /// By policy and candidate: how many decisions were the same, stricter, and so on, in the order of [`Differs::ALL`].
    shadows: BTreeMap<(String, String), [u64; Differs::ALL.len()]>,
    /// Rows that this version cannot read.
    unread: u64,
}

/// Counts what was judged since then, or all that there is.
pub(super) async fn summary(since: Option<SystemTime>, context: &Context) -> Result<ExitCode, Unread> {
    let ledger = open(&context.read_config()?).await?;
    let mut summary = Summary::default();
    let scanned = ledger.tally(since, |tally| summary.add(tally)).await;
    ledger.close().await;
    scanned?;
    match context.json {
        true => println!("{}", summary.json(since)),
        false => summary.lines(since).iter().for_each(|line| println!("{}", shown(line))),
    }
    Ok(if summary.messages == 0 { exit::no() } else { exit::YES })
}

impl Summary {
    fn add(&mut self, tally: Tally) {
        self.messages += tally.messages;
        self.unread += tally.unread;
        for (result, word, carried, count) in tally.counts {
            let counts = self.counts.entry((result.word().to_owned(), word)).or_default();
            match carried {
                Carried::InForce => counts.in_force += count,
                Carried::Observed => counts.observed += count,
                Carried::PutOff => counts.put_off += count,
            }
        }
        for (result, domain, count) in tally.domains {
            self.domains.entry(result.word().to_owned()).or_default().add(domain, count);
        }
        for (policy, candidate, differs, count) in tally.shadows {
            if self.shadows.len() >= CANDIDATES && !self.shadows.contains_key(&(policy.clone(), candidate.clone())) {
                continue;
            }
            let counts = self.shadows.entry((policy, candidate)).or_default();
            let all = Differs::ALL.iter().zip(counts);
            all.filter(|(known, _)| **known == differs).for_each(|(_, sum)| *sum += count);
        }
    }

    fn json(&self, since: Option<SystemTime>) -> Value {
        let counts = self.counts.iter().map(|((result, decision), counts)| {
            json!({ "result": result, "decision": decision, "in_force": counts.in_force, "observed": counts.observed,
                "put_off": counts.put_off })
        });
        let domains = self.domains.iter().map(|(result, domains)| {
            let top = domains.top().into_iter().map(|(name, count)| json!({ "domain": name, "messages": count }));
            (result.clone(), json!({ "top": top.collect::<Vec<_>>(), "uncounted": domains.others }))
        });
        json!({ "since": since.map(stamp), "messages": self.messages, "unread": self.unread,
            "counts": counts.collect::<Vec<_>>(), "domains": domains.collect::<serde_json::Map<_, _>>(),
            "shadows": self.shadows_json() })
    }

    fn shadows_json(&self) -> Vec<Value> {
        let each = |((policy, candidate), counts): (&(String, String), &[u64; Differs::ALL.len()])| {
            let counts = Differs::ALL.iter().zip(counts).map(|(differs, count)| (differs.word(), json!(count)));
            json!({ "policy": policy, "candidate": candidate, "decisions": counts.collect::<BTreeMap<_, _>>() })
        };
        self.shadows.iter().map(each).collect()
    }

    /// What candidates decided beside the policies.
    fn shadow_lines(&self, lines: &mut Vec<String>) {
        if self.shadows.is_empty() {
            return;
        }
        lines.push(String::new());
        let heads: String =
            Differs::ALL.iter().map(|differs| format!("{:>9}", differs.word().to_uppercase())).collect();
        lines.push(format!("{:<20}{:<26}{heads}", "POLICY", "CANDIDATE"));
        for ((policy, candidate), counts) in &self.shadows {
            let counts: String = counts.iter().map(|count| format!("{count:>9}")).collect();
            let policy = cut(policy, POLICY);
            lines.push(format!("{policy:<20}{candidate:<26}{counts}"));
        }
        lines.push(
            "(What policies.ID.shadow decided beside the policy, and what was only recorded. CANDIDATE: how the".into(),
        );
        lines.push("SHA-256 of its component begins, and that of its settings.)".into());
    }

    fn lines(&self, since: Option<SystemTime>) -> Vec<String> {
        let from =
            since.map(stamp).and_then(|at| at.get(..16).map(|at| format!(" since {} UTC", at.replace('T', " "))));
        let mut lines = vec![format!("{} messages were judged{}", self.messages, from.unwrap_or_default())];
        if self.unread > 0 {
            lines.push(format!("{} rows cannot be read, and are left out", self.unread));
        }
        if self.messages == 0 {
            return lines;
        }
        lines.push(String::new());
        let [result, decided] = ["RESULT", "DECIDED"];
        lines.push(format!("{result:<12}{decided:<12}{:>12}{:>12}{:>12}", "IN FORCE", "OBSERVED", "PUT OFF"));
        for ((result, decision), counts) in self.sorted() {
            let Counts { in_force, observed, put_off } = counts;
            lines.push(format!("{result:<12}{decision:<12}{in_force:>12}{observed:>12}{put_off:>12}"));
        }
        lines.push(
            "(OBSERVED: decided and not carried out, since `observe = true` was in force; `accept` comes to the".into(),
        );
        lines.push(
            "same either way. A message whose recipients were treated differently counts in several lines.)".into(),
        );
        self.shadow_lines(&mut lines);
        for (result, domains) in &self.domains {
            lines.push(String::new());
            lines.push(format!("Senders' domains of the result {result}"));
            for (name, count) in domains.top() {
                lines.push(format!("{count:>12}  {}", fitting(name)));
            }
            if domains.others > 0 {
                lines.push(format!("{:>12}  of more domains than are counted singly ({DOMAINS})", domains.others));
            }
        }
        lines
    }

    /// The counts in the order of the results, and of the decisions from the mildest on.
    fn sorted(&self) -> Vec<(&(String, &'static str), &Counts)> {
        let result = |word: &str| KeyStatus::ALL.iter().position(|status| status.word() == word);
        let decisions = ["accept", "mark", "quarantine", "reject", "defer"];
        let decision = |word: &str| decisions.iter().position(|known| *known == word);
        let mut all: Vec<_> = self.counts.iter().collect();
        all.sort_by_key(|((of, decided), _)| (result(of), decision(decided)));
        all
    }
}

impl Domains {
    fn add(&mut self, domain: String, messages: u64) {
        if self.single.len() < DOMAINS || self.single.contains_key(&domain) {
            *self.single.entry(domain).or_default() += messages;
        } else {
            self.others += messages;
        }
    }

    /// The most frequent, then by name.
    fn top(&self) -> Vec<(&str, u64)> {
        let mut all: Vec<_> = self.single.iter().map(|(name, count)| (name.as_str(), *count)).collect();
        all.sort_by_key(|(name, count)| (Reverse(*count), *name));
        all.truncate(TOP);
        all
    }
}

/// A name cut to its column.
fn fitting(name: &str) -> String {
    cut(name, WIDTH)
}

fn cut(name: &str, width: usize) -> String {
    match name.chars().count() > width {
        true => name.chars().take(width - 1).chain(['…']).collect(),
        false => name.to_owned(),
    }
}

#[cfg(test)]
mod tests;
