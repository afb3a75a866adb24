//! How many messages were judged how, so that an observing phase can be weighed.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::process::ExitCode;
use std::time::SystemTime;

use serde_json::{Value, json};

use super::{Context, Unread, exit, open, shown, story};
use addrauth::case::{Decision, Disposition, KeyStatus, Owed, WrittenCase, WrittenFinding, WrittenVerdict, stamp};
use addrauth::proto::header::SPAM_FIELD;
use addrauth::store::{JournalRow, RowResult, Search};

/// Domains that are counted singly, of each result. Anybody can invent more of them in From: those that come later, of older
/// messages, are counted together.
const DOMAINS: usize = 10_000;
/// Domains that are shown of each result.
const TOP: usize = 10;
/// Columns that a domain may take up; 100 columns are for the whole line.
const WIDTH: usize = 72;
/// Whose senders are of no interest: nothing is wrong with them, or nothing can be.
const QUIET: [RowResult; 2] = [RowResult::Judged(KeyStatus::Valid), RowResult::Judged(KeyStatus::None)];

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

/// What a decision came to for a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    InForce,
    Observed,
    PutOff,
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
    /// Rows that this version cannot read.
    unread: u64,
}

/// Counts what was judged since then, or all that there is.
pub(super) async fn summary(since: Option<SystemTime>, context: &Context) -> Result<ExitCode, Unread> {
    let ledger = open(&context.read_config()?).await?;
    let mut summary = Summary::default();
    let search = Search { since, ..Search::default() };
    let count = |row: JournalRow| {
        summary.add(&row);
        true
    };
    let scanned = ledger.scan(&search, count).await;
    ledger.close().await;
    scanned?;
    match context.json {
        true => println!("{}", summary.json(since)),
        false => summary.lines(since).iter().for_each(|line| println!("{}", shown(line))),
    }
    Ok(if summary.messages == 0 { exit::no() } else { exit::YES })
}

impl Summary {
    fn add(&mut self, row: &JournalRow) {
        let Ok(story) = story(row) else {
            // What stands in for the row of a message that was in quarantine for longer than the journal is kept was no
            // message of its own.
            self.unread += u64::from(row.entry.result != RowResult::Quarantined);
            return;
        };
        self.messages += 1;
        let result = row.entry.result.word();
        for (word, fate) in fates(&story) {
            let counts = self.counts.entry((result.to_owned(), word)).or_default();
            match fate {
                Fate::InForce => counts.in_force += 1,
                Fate::Observed => counts.observed += 1,
                Fate::PutOff => counts.put_off += 1,
            }
        }
        if !QUIET.contains(&row.entry.result) {
            self.domains.entry(result.to_owned()).or_default().add(domain(&story));
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
            "counts": counts.collect::<Vec<_>>(), "domains": domains.collect::<serde_json::Map<_, _>>() })
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
    fn add(&mut self, domain: String) {
        if self.single.len() < DOMAINS || self.single.contains_key(&domain) {
            *self.single.entry(domain).or_default() += 1;
        } else {
            self.others += 1;
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

/// The domain in From.
fn domain(story: &WrittenCase) -> String {
    let sender = match &story.finding {
        WrittenFinding::Found(found) => found.sender.as_deref(),
        WrittenFinding::Submitted(submitted) => submitted.sender.as_deref(),
        WrittenFinding::Passing(_) | WrittenFinding::Postponed(_) | WrittenFinding::Unclear => None,
    };
    let domain = sender.and_then(|sender| sender.rsplit_once('@')).map(|(_, domain)| domain.to_lowercase());
    domain.unwrap_or_else(|| "(no single usable address)".into())
}

/// What was decided about a message, each decision once for each fate.
fn fates(story: &WrittenCase) -> BTreeSet<(&'static str, Fate)> {
    let each = |decision: &Decision| {
        let fate = |&index: &usize| (decision.disposition.word(), fate(story, decision.disposition, index));
        decision.recipients.iter().map(fate).collect::<Vec<_>>()
    };
    match story.decisions.as_slice() {
        [] if matches!(story.reply.verdict, WrittenVerdict::Defer(_)) => [("nothing", Fate::PutOff)].into(),
        [] => [("nothing", Fate::InForce)].into(),
        decisions => decisions.iter().flat_map(each).collect(),
    }
}

fn fate(story: &WrittenCase, decided: Disposition, recipient: usize) -> Fate {
    let reply = &story.reply;
    // A copy apart is the message as it is: whoever is to get another one is observed alone.
    let apart = |owed: &Owed| matches!(owed, Owed::Apart(who) if who.contains(&recipient));
    let untouched = reply.verdict == WrittenVerdict::Accept
        && (!reply.removed.contains(&recipient) || reply.owed.iter().any(apart))
        && !reply.redirected.iter().any(|redirect| redirect.recipient == recipient);
    let marked = reply.added.iter().any(|name| name == SPAM_FIELD);
    match (decided, &reply.verdict) {
        (Disposition::Accept, WrittenVerdict::Accept) => Fate::InForce,
        (Disposition::Mark, _) if untouched && marked => Fate::InForce,
        _ if untouched => Fate::Observed,
        (Disposition::Defer, _) => Fate::InForce,
        (_, WrittenVerdict::Defer(_)) => Fate::PutOff,
        _ => Fate::InForce,
    }
}

/// A name cut to its column.
fn fitting(name: &str) -> String {
    match name.chars().count() > WIDTH {
        true => name.chars().take(WIDTH - 1).chain(['…']).collect(),
        false => name.to_owned(),
    }
}

#[cfg(test)]
mod tests;
