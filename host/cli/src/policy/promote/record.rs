//! What a candidate has decided beside its policy, and whether that is good enough.

use std::collections::BTreeMap;

use addrauth::case::{Differs, Disposition, Opinion, WrittenCase};
use addrauth::policy::{Decider, Effect};
use serde_json::json;

/// Examples that are kept of each change.
const EXAMPLES: usize = 3;
/// Decisions of a hundred that may have come too late.
const LATE: u64 = 1;

/// What is asked of a record.
pub(super) struct Gates<'a> {
    pub(super) max_change: f64,
    pub(super) never: &'a [(Disposition, Disposition)],
    pub(super) at_least: u64,
}

/// The decisions that a candidate made beside the policy in force, both of them exactly those of now.
#[derive(Debug, Default)]
pub(super) struct Record {
    same: u64,
    faults: u64,
    late: u64,
    /// Rows that this version cannot read.
    pub(super) unreadable: u64,
    /// By what was decided and what would have been.
    changed: BTreeMap<(String, String), Changed>,
    /// Examples of failures.
    failed: Vec<(i64, String, String)>,
}

/// Decisions that would go from one to another.
#[derive(Clone, Debug)]
struct Changed {
    differs: Differs,
    from: Disposition,
    to: Disposition,
    decisions: u64,
    recipients: usize,
    /// Numbers of rows, and the domains of their senders.
    examples: Vec<(i64, String)>,
}

impl Record {
    /// Takes a row in.
    pub(super) fn see(&mut self, row: i64, story: &WrittenCase, id: &str, (old, new): (&Decider, &Decider)) {
        for decision in story.decisions.iter().filter(|decision| decision.policy == id) {
            let Some(shadow) = &decision.shadow else { continue };
            if !old.is(&decision.digest, &decision.settings) || !new.is(&shadow.digest, &shadow.settings) {
                continue;
            }
            for compared in decision.compared() {
                match (compared.differs, compared.opinion) {
                    (Differs::Same, _) => self.same += 1,
                    (Differs::Late, _) | (_, None) => self.late += 1,
                    (_, Some(Opinion { disposition: Some(to), notify, .. })) => {
                        let words = |disposition, notify| Effect { disposition, notify }.to_string();
                        let key = (words(decision.disposition, decision.notify), words(*to, *notify));
                        let (differs, from, to) = (compared.differs, decision.disposition, *to);
                        let nothing = Changed { differs, from, to, decisions: 0, recipients: 0, examples: Vec::new() };
                        let changed = self.changed.entry(key).or_insert(nothing);
                        changed.decisions += 1;
                        changed.recipients += compared.recipients;
                        if changed.examples.len() < EXAMPLES {
                            changed.examples.push((row, story.sender_domain()));
                        }
                    }
                    (_, Some(opinion)) => {
                        self.faults += 1;
                        if self.failed.len() < EXAMPLES {
                            let fault = opinion.fault.clone().unwrap_or_default();
                            self.failed.push((row, story.sender_domain(), fault));
                        }
                    }
                }
            }
        }
    }

    fn changes(&self) -> u64 {
        self.changed.values().map(|changed| changed.decisions).sum()
    }

    /// Decisions that both made.
    fn decisions(&self) -> u64 {
        self.same + self.changes()
    }

    /// What speaks against it.
    pub(super) fn against(&self, gates: &Gates<'_>) -> Vec<String> {
        let (decisions, changes) = (self.decisions(), self.changes());
        let mut against = Vec::new();
        if decisions < gates.at_least {
            against
                .push(format!("{decisions} decisions are recorded, and {} are asked for (--at-least)", gates.at_least));
        }
        if changes as f64 > gates.max_change * decisions as f64 {
            let share = changes as f64 * 100.0 / decisions as f64;
            against.push(format!(
                "{changes} of {decisions} decisions change, {share:.3}%, and {}% may (--max-change)",
                (gates.max_change * 1e8).round() / 1e6
            ));
        }
        for (from, to) in gates.never {
            let of = |changed: &&Changed| (changed.from, changed.to) == (*from, *to);
            let count: u64 = self.changed.values().filter(of).map(|changed| changed.decisions).sum();
            if count > 0 {
                against.push(format!(
                    "{count} decisions go from {} to {}, which none may (--never)",
                    from.word(),
                    to.word()
                ));
            }
        }
        if self.faults > 0 {
            against.push(format!("the candidate failed {} times", self.faults));
        }
        if self.unreadable > 0 {
            against.push(format!("{} rows cannot be read, and nobody knows what they say", self.unreadable));
        }
        if self.late * 100 > LATE * (decisions + self.late) {
            against.push(format!(
                "{} decisions of the candidate came too late, of {}",
                self.late,
                decisions + self.late
            ));
        }
        against
    }

    /// The counts in a line.
    pub(super) fn summary(&self) -> String {
        let counts = |kind| -> u64 {
            self.changed.values().filter(|changed| changed.differs == kind).map(|changed| changed.decisions).sum()
        };
        let [stricter, looser, sideways] = [Differs::Stricter, Differs::Looser, Differs::Sideways].map(counts);
        format!(
            "{} decisions of both: {} the same, {stricter} stricter, {looser} looser, {sideways} sideways; {} failures, {} late",
            self.decisions(),
            self.same,
            self.faults,
            self.late
        )
    }

    pub(super) fn print(&self, id: &str, against: &[String]) {
        println!("{}", self.summary());
        for ((old, new), changed) in self.sorted() {
            println!("{:<9} {old} -> {new}", changed.differs.word());
            println!("  {} decisions for {} recipients", changed.decisions, changed.recipients);
            for (row, domain) in &changed.examples {
                println!("  e.g. row {row} of {domain}");
            }
        }
        for (row, domain, fault) in &self.failed {
            println!("fault     it {fault}\n  e.g. row {row} of {domain}");
        }
        if self.unreadable > 0 {
            println!("{} rows cannot be read, and are left out", self.unreadable);
        }
        for reason in against {
            println!("NOT PROMOTED: {reason}");
        }
        println!("{id}: nothing was changed");
    }

    /// What would be stricter first, the most frequent of it first.
    fn sorted(&self) -> Vec<(&(String, String), &Changed)> {
        let mut all: Vec<_> = self.changed.iter().collect();
        all.sort_by_key(|(_, changed)| (changed.differs, std::cmp::Reverse(changed.decisions)));
        all
    }

    pub(super) fn json(&self, against: &[String]) -> serde_json::Value {
        let changed = |((old, new), changed): (&(String, String), &Changed)| {
            json!({ "change": changed.differs, "old": old, "new": new, "decisions": changed.decisions,
                "recipients": changed.recipients, "examples": changed.examples })
        };
        json!({ "decisions": self.decisions(), "same": self.same, "faults": self.faults, "late": self.late,
            "unreadable": self.unreadable, "changes": self.sorted().into_iter().map(changed).collect::<Vec<_>>(),
            "failed": self.failed, "against": against })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(same: u64, changes: &[(Disposition, Disposition, u64)]) -> Record {
        let changed = |(from, to, decisions): &(Disposition, Disposition, u64)| {
            let (from, to, decisions) = (*from, *to, *decisions);
            let changed =
                Changed { differs: Differs::Stricter, from, to, decisions, recipients: 1, examples: Vec::new() };
            ((from.word().to_owned(), to.word().to_owned()), changed)
        };
        Record { same, changed: changes.iter().map(changed).collect(), ..Record::default() }
    }

    #[test]
    fn a_candidate_passes_with_enough_decisions_few_changes_and_no_failure() {
        use Disposition::{Accept, Mark, Reject};
        let never = [(Accept, Reject)];
        let gates = Gates { max_change: 0.001, never: &never, at_least: 1_000 };
        let against = |record: &Record| record.against(&gates).len();
        assert_eq!(against(&record(1_000, &[])), 0);
        assert_eq!(against(&record(999, &[])), 1);
        assert_eq!(against(&record(999, &[(Accept, Mark, 1)])), 0, "one of a thousand may");
        assert_eq!(against(&record(998, &[(Accept, Mark, 2)])), 1);
        assert_eq!(against(&record(1_999, &[(Accept, Reject, 1)])), 1, "few enough, and never");
        assert_eq!(against(&record(0, &[])), 1);
        assert_eq!(against(&Record { faults: 1, ..record(5_000, &[]) }), 1);
        assert_eq!(against(&Record { late: 10, ..record(990, &[(Accept, Mark, 0)]) }), 1, "990 are too few");
        assert_eq!(against(&Record { late: 10, ..record(1_000, &[]) }), 0);
        assert_eq!(against(&Record { late: 11, ..record(1_000, &[]) }), 1);
    }
}
