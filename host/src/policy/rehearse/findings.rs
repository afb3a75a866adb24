//! What is odd about a policy, each kind with an id and a page that explains it.

use super::case_text::{CaseText, case_text};
use super::property::{Outcome, Property, settled};
use super::samples::Samples;
use super::subject::Subject;
use super::table::Table;
use super::{Clause, Component, Undecided};
use crate::case::Disposition;
use crate::config::Limits;

/// A kind of finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Finding {
    /// The component is refused.
    Refused,
    /// It does not take its own defaults.
    Defaults,
    /// It fails on some facts.
    Fails,
    /// It tells somebody of a message that is delivered or comes again.
    TellsInVain,
    /// It tells the sender of a quarantine.
    TellsOfQuarantine,
    /// It wants to drop silently what the host does not let it.
    HeldBack,
    /// It keeps mail with a valid key back.
    KeepsValid,
    /// It treats a worse result less strictly.
    Backwards,
    /// It asks for a fact that changes nothing.
    Idle,
    /// It refuses or keeps back and says no reason.
    Wordless,
    /// It speaks an older version of the contract.
    Older,
    /// It defers what will not become another.
    Forever,
    /// It cannot be gone through.
    Wide,
    /// Not all of it was looked at.
    Unseen,
}

/// A finding about one policy.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Odd {
    /// Its id.
    pub id: &'static str,
    /// Whether it is to be put right; else it is to be known.
    pub wrong: bool,
    /// What was found.
    pub text: String,
    /// Facts for which it shows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub example: Option<CaseText>,
}

impl Finding {
    /// All of them.
    pub const ALL: [Finding; 14] = [
        Finding::Refused,
        Finding::Defaults,
        Finding::Fails,
        Finding::TellsInVain,
        Finding::TellsOfQuarantine,
        Finding::HeldBack,
        Finding::KeepsValid,
        Finding::Backwards,
        Finding::Idle,
        Finding::Wordless,
        Finding::Older,
        Finding::Forever,
        Finding::Wide,
        Finding::Unseen,
    ];

    /// The finding of this id, in letters of either case.
    pub fn by_id(id: &str) -> Option<Finding> {
        Finding::ALL.into_iter().find(|finding| finding.id().eq_ignore_ascii_case(id))
    }

    /// The id, which stays the same for ever.
    pub fn id(self) -> &'static str {
        match self {
            Finding::Refused => "P001",
            Finding::Defaults => "P002",
            Finding::Fails => "P003",
            Finding::TellsInVain => "P004",
            Finding::TellsOfQuarantine => "P005",
            Finding::HeldBack => "P006",
            Finding::KeepsValid => "P007",
            Finding::Backwards => "P008",
            Finding::Idle => "P009",
            Finding::Wordless => "P010",
            Finding::Older => "P011",
            Finding::Forever => "P012",
            Finding::Wide => "P013",
            Finding::Unseen => "P014",
        }
    }

    /// Whether it is to be put right. The others are to be known: a policy that rejects everything is a good one for `invalid`.
    pub fn is_wrong(self) -> bool {
        match self {
            Finding::Refused
            | Finding::Defaults
            | Finding::Fails
            | Finding::TellsInVain
            | Finding::TellsOfQuarantine
            | Finding::Idle => true,
            Finding::HeldBack
            | Finding::KeepsValid
            | Finding::Backwards
            | Finding::Wordless
            | Finding::Older
            | Finding::Forever
            | Finding::Wide
            | Finding::Unseen => false,
        }
    }

    /// The page: a title, the cause, an example, the way out.
    pub fn page(self) -> &'static str {
        match self {
            Finding::Refused => include_str!("pages/P001.txt"),
            Finding::Defaults => include_str!("pages/P002.txt"),
            Finding::Fails => include_str!("pages/P003.txt"),
            Finding::TellsInVain => include_str!("pages/P004.txt"),
            Finding::TellsOfQuarantine => include_str!("pages/P005.txt"),
            Finding::HeldBack => include_str!("pages/P006.txt"),
            Finding::KeepsValid => include_str!("pages/P007.txt"),
            Finding::Backwards => include_str!("pages/P008.txt"),
            Finding::Idle => include_str!("pages/P009.txt"),
            Finding::Wordless => include_str!("pages/P010.txt"),
            Finding::Older => include_str!("pages/P011.txt"),
            Finding::Forever => include_str!("pages/P012.txt"),
            Finding::Wide => include_str!("pages/P013.txt"),
            Finding::Unseen => include_str!("pages/P014.txt"),
        }
    }

    /// The page's title.
    pub fn title(self) -> &'static str {
        self.page().lines().next().and_then(|line| line.split_once(' ')).map_or("", |(_, title)| title)
    }

    /// A finding with these words.
    pub fn says(self, text: impl Into<String>) -> Odd {
        Odd { id: self.id(), wrong: self.is_wrong(), text: text.into(), example: None }
    }
}

/// What is odd about a component under these settings, or why there are none of it.
pub fn odd(
    component: &Component,
    subject: Result<&Subject, &Undecided>,
    samples: &Samples,
    limits: &Limits,
) -> Vec<Odd> {
    let mut found = Vec::new();
    if let Some(newest) = component.is_older() {
        let spoken = component.contract();
        found.push(Finding::Older.says(format!("it speaks {spoken}; the newest version is {newest}")));
    }
    let subject = match subject {
        Ok(subject) => subject,
        Err(why) => {
            found.push(Finding::Defaults.says(why.to_string()));
            return found;
        }
    };
    let table = match Table::of(subject, samples, limits) {
        Ok(table) => table,
        Err(wide) => {
            found.push(Finding::Wide.says(wide.to_string()));
            return found;
        }
    };
    found.extend(table.odd(subject));
    for (finding, property) in sought(subject) {
        match settled(&property, subject, &table.space, &table.answers) {
            Outcome::Fails(counterexample) => {
                let example = counterexample.cases.into_iter().next_back();
                found.push(Odd { example, ..finding.says(counterexample.text) });
            }
            // Where the table is not whole that is told already; a condition that nothing meets has nothing odd in it.
            Outcome::Holds | Outcome::Unknown(_) => {}
        }
    }
    let unseen = table.unseen();
    if !unseen.is_empty() {
        found.push(Finding::Unseen.says(unseen.join("; ")));
    }
    found.sort_by_key(|odd| odd.id);
    found
}

/// The findings that are properties, over the facts that the subject sees.
fn sought(subject: &Subject) -> Vec<(Finding, Property)> {
    let never = |text| Clause::read(text).ok().map(Property::Never);
    let keeps = never("reject or quarantine when result=valid").map(|property| (Finding::KeepsValid, property));
    let lasting = "defer when result=valid|invalid|missing|none|unusable";
    let forever = never(lasting).map(|property| (Finding::Forever, property));
    // One that does not see the reason decides the same for others than `wrong`.
    let sees_why = subject.facts().contains(&"why");
    let silent = if sees_why { "reject, tell nobody when why!=wrong" } else { "reject, tell nobody" };
    let held = never(silent).map(|property| (Finding::HeldBack, property));
    keeps.into_iter().chain(forever).chain(held).chain([(Finding::Backwards, Property::Monotone)]).collect()
}

impl Table {
    /// Where nothing odd could be found although there might be.
    fn unseen(&self) -> Vec<String> {
        let mut unseen = Vec::new();
        if self.unasked() > 0 {
            unseen.push(format!(
                "{} of {} combinations were not asked about in time",
                self.unasked(),
                self.space.len()
            ));
        }
        if self.cut {
            unseen.push("its table has too many rows to tell which facts make no difference".into());
        }
        unseen.extend(self.extent().doubt().map(|doubt| format!("what was found may not be all: {doubt}")));
        unseen
    }

    /// What is odd about single answers, and about facts that make no difference.
    fn odd(&self, subject: &Subject) -> Vec<Odd> {
        let mut found: Vec<Odd> = Vec::new();
        for (number, answer) in self.answers.distinct.iter().enumerate() {
            let number = u32::try_from(number).ok();
            let example = || {
                let row = (0..self.space.len()).find(|row| self.answers.number(*row) == number)?;
                Some(case_text(subject, &self.space.written(row, subject), answer))
            };
            let mut add = |finding: Finding| {
                if !found.iter().any(|odd| odd.id == finding.id()) {
                    found.push(Odd { example: example(), ..finding.says(format!("it decides {}", answer.words())) });
                }
            };
            if answer.fault.is_some() {
                add(Finding::Fails);
            }
            let Some(decision) = &answer.decision else { continue };
            let told = decision.notify.sender || decision.notify.recipient;
            match decision.disposition {
                Disposition::Accept | Disposition::Mark | Disposition::Defer if told => add(Finding::TellsInVain),
                Disposition::Quarantine if decision.notify.sender => add(Finding::TellsOfQuarantine),
                Disposition::Reject | Disposition::Quarantine if decision.reason.is_empty() => add(Finding::Wordless),
                _ => {}
            }
        }
        let extent = self.extent();
        // Of samples nothing is said, and of probes neither.
        let used = self.columns();
        let idle = extent.exact.iter().filter(|fact| *fact != "result" && !used.contains(fact));
        let idle: Vec<String> = idle.filter(|fact| !alike(fact, &used)).cloned().collect();
        if !idle.is_empty() && extent.probed.is_empty() && !self.cut {
            let facts = idle.join(", ");
            found.push(Finding::Idle.says(format!("it asks for {facts}, and that never changes a decision")));
        }
        found
    }
}

/// Facts that can only be asked for together: one of them that counts is a reason to ask.
fn alike(fact: &str, used: &[String]) -> bool {
    let groups: [&[&str]; 2] = [&["spf", "dkim", "dmarc"], &["client", "tls", "client-name", "helo"]];
    let group = groups.into_iter().find(|group| group.contains(&fact));
    group.is_some_and(|group| used.iter().any(|used| group.contains(&used.as_str())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_finding_has_a_page_of_its_own_and_every_page_a_finding() {
        let mut ids: Vec<&str> = Finding::ALL.iter().map(|finding| finding.id()).collect();
        for finding in Finding::ALL {
            let page = finding.page();
            assert!(page.starts_with(&format!("{} ", finding.id())), "{page}");
            for part in ["Cause:", "Example:", "Way out:"] {
                assert!(page.contains(part), "{} has no {part}", finding.id());
            }
            assert!(!finding.title().is_empty() && page.lines().all(|line| line.chars().count() <= 110));
            assert_eq!(Finding::by_id(&finding.id().to_ascii_lowercase()), Some(finding));
        }
        let pages = concat!(env!("CARGO_MANIFEST_DIR"), "/src/policy/rehearse/pages");
        let mut files: Vec<String> = (std::fs::read_dir(pages).unwrap())
            .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
            .collect();
        files.sort();
        ids.sort_unstable();
        assert_eq!(ids, files);
        ids.dedup();
        assert_eq!(ids.len(), Finding::ALL.len());
    }
}
