//! How many messages were judged how, so that an observing phase can be weighed.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::SystemTime;

use serde_json::{Value, json};

use super::{Context, Unread, exit, open, shown};
use addrauth::case::{Differs, stamp};
use addrauth::store::{COUNTED_DOMAINS as DOMAINS, Counts, Summary};

/// Columns that a domain may take up; 100 columns are for the whole line.
const WIDTH: usize = 72;
/// Columns of a policy's id.
const POLICY: usize = 19;
/// Counts what was judged since then, or all that there is.
pub(super) async fn summary(since: Option<SystemTime>, context: &Context) -> Result<ExitCode, Unread> {
    let ledger = open(&context.read_config()?).await?;
    let mut summary = Summary::default();
    let scanned = ledger.tally(since, |tally| summary.add(tally)).await;
    ledger.close().await;
    scanned?;
    match context.json {
        true => println!("{}", Printed(&summary).json(since)),
        false => Printed(&summary).lines(since).iter().for_each(|line| println!("{}", shown(line))),
    }
    Ok(if summary.messages == 0 { exit::no() } else { exit::YES })
}

/// A summary as it is printed.
struct Printed<'a>(&'a Summary);

impl Printed<'_> {
    fn json(&self, since: Option<SystemTime>) -> Value {
        let counts = self.0.counts.iter().map(|((result, decision), counts)| {
            json!({ "result": result, "decision": decision, "in_force": counts.in_force, "observed": counts.observed,
                "put_off": counts.put_off })
        });
        let domains = self.0.domains.iter().map(|(result, domains)| {
            let top = domains.top().into_iter().map(|(name, count)| json!({ "domain": name, "messages": count }));
            (result.clone(), json!({ "top": top.collect::<Vec<_>>(), "uncounted": domains.others }))
        });
        json!({ "since": since.map(stamp), "messages": self.0.messages, "unread": self.0.unread,
            "counts": counts.collect::<Vec<_>>(), "domains": domains.collect::<serde_json::Map<_, _>>(),
            "shadows": self.shadows_json() })
    }

    fn shadows_json(&self) -> Vec<Value> {
        let each = |((policy, candidate), counts): (&(String, String), &[u64; Differs::ALL.len()])| {
            let counts = Differs::ALL.iter().zip(counts).map(|(differs, count)| (differs.word(), json!(count)));
            json!({ "policy": policy, "candidate": candidate, "decisions": counts.collect::<BTreeMap<_, _>>() })
        };
        self.0.shadows.iter().map(each).collect()
    }

    /// What candidates decided beside the policies.
    fn shadow_lines(&self, lines: &mut Vec<String>) {
        if self.0.shadows.is_empty() {
            return;
        }
        lines.push(String::new());
        let heads: String =
            Differs::ALL.iter().map(|differs| format!("{:>9}", differs.word().to_uppercase())).collect();
        lines.push(format!("{:<20}{:<26}{heads}", "POLICY", "CANDIDATE"));
        for ((policy, candidate), counts) in &self.0.shadows {
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
        let mut lines = vec![format!("{} messages were judged{}", self.0.messages, from.unwrap_or_default())];
        if self.0.unread > 0 {
            lines.push(format!("{} rows cannot be read, and are left out", self.0.unread));
        }
        if self.0.messages == 0 {
            return lines;
        }
        lines.push(String::new());
        let [result, decided] = ["RESULT", "DECIDED"];
        lines.push(format!("{result:<12}{decided:<12}{:>12}{:>12}{:>12}", "IN FORCE", "OBSERVED", "PUT OFF"));
        for ((result, decision), counts) in self.0.sorted() {
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
        for (result, domains) in &self.0.domains {
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
