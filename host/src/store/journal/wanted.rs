//! The rows that somebody asks for, and whether a row is one of them; a page of them at a time.

use std::time::SystemTime;

use super::look::Sought;
use super::{JournalRow, Ledger, Search};
use crate::case::WrittenCase;
use crate::proto::whom::Whom;
use crate::store::block::ROWS;
use crate::store::{Error, RowResult, RowVerdict};

/// Which messages are wanted; what is absent does not matter.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wanted {
    /// From this sender, by the From field or the envelope.
    pub sender: Option<Whom>,
    /// To this recipient.
    pub recipient: Option<Whom>,
    /// To one of these as well; empty: to anybody.
    pub recipients: Vec<Whom>,
    /// With this result.
    pub result: Option<RowResult>,
    /// Where the mail server was told this.
    pub verdict: Option<RowVerdict>,
    /// Where a policy decided this, carried out or observed.
    pub decision: Option<String>,
    /// Where this policy decided.
    pub policy: Option<String>,
    /// Written at this time or later.
    pub since: Option<SystemTime>,
}

/// A page of rows, the newest first.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// The rows.
    pub rows: Vec<JournalRow>,
    /// Below which number older ones are looked for; absent: there are none.
    pub next: Option<i64>,
}

impl Wanted {
    /// Whether every row is wanted.
    pub fn is_all(&self) -> bool {
        *self == Wanted::default()
    }

    /// What the database looks for: as much as it can tell of a row. [`Wanted::fits`] tells the rest.
    pub fn search(&self) -> Search {
        Search {
            result: self.result.clone(),
            verdict: self.verdict.clone(),
            since: self.since,
            sender: self.sender.as_ref().map(Whom::sought),
            recipient: self.recipient.as_ref().map(Whom::sought),
            recipients: self.recipients.iter().map(Whom::sought).collect(),
            decision: self.decision.clone(),
            policy: self.policy.clone(),
        }
    }

    /// Whether a row that [`Wanted::search`] found is wanted.
    pub fn fits(&self, row: &JournalRow) -> bool {
        let is_anybody = self.sender.is_none() && self.recipient.is_none() && self.recipients.is_empty();
        if is_anybody && self.decision.is_none() && self.policy.is_none() {
            return true;
        }
        WrittenCase::read(&row.entry.json).is_ok_and(|story| self.fits_story(&story))
    }

    fn fits_story(&self, story: &WrittenCase) -> bool {
        let senders = || story.author().into_iter().chain(story.reverse_path.as_deref());
        let is_sender = |whom: &Whom| senders().any(|address| whom.includes(bare(address)));
        let is_recipient = |whom: &Whom| story.recipients.iter().any(|address| whom.includes(bare(address)));
        self.sender.as_ref().is_none_or(is_sender)
            && self.recipient.as_ref().is_none_or(is_recipient)
            && (self.recipients.is_empty() || self.recipients.iter().any(is_recipient))
            && self.is_decided(story)
    }

    /// Whether one of its decisions is of the kind that is wanted.
    fn is_decided(&self, story: &WrittenCase) -> bool {
        if self.decision.is_none() && self.policy.is_none() {
            return true;
        }
        story.decisions.iter().any(|decision| {
            self.decision.as_ref().is_none_or(|word| decision.disposition.word() == word)
                && self.policy.as_ref().is_none_or(|id| *id == decision.policy)
        })
    }
}

/// A path without its angle brackets.
fn bare(path: &str) -> &str {
    path.trim_start_matches('<').trim_end_matches('>')
}

impl Ledger {
    /// At most `most` of the newest rows below this number that are wanted and that `fits` accepts. It looks at `looked` rows at
    /// most, and into as many blocks of rows as have ten times as many: where few of many fit, a page may be short, or empty, and
    /// still have a next one.
    pub async fn wanted(
        &self,
        wanted: &Wanted,
        below: Option<i64>,
        (most, looked): (usize, usize),
        mut fits: impl FnMut(&JournalRow) -> bool,
    ) -> Result<Found, Error> {
        let rows_of_a_block = usize::try_from(ROWS).unwrap_or(usize::MAX);
        let blocks = looked.saturating_mul(10).div_ceil(rows_of_a_block).max(1);
        let chunk = u32::try_from(most.saturating_add(1)).unwrap_or(u32::MAX);
        let (mut found, mut below, mut seen) = (Found::default(), below, 0);
        loop {
            let sought = Sought::new(wanted.search());
            let from = below.unwrap_or(i64::MAX);
            let page = self.0.scan(move |work| sought.page_within(work, from, chunk, blocks)).await?;
            let (rows, reached) = page;
            let is_last = rows.len() < most.saturating_add(1);
            for row in rows {
                if found.rows.len() >= most || seen >= looked {
                    found.next = below;
                    return Ok(found);
                }
                below = Some(row.id);
                seen += 1;
                if wanted.fits(&row) && fits(&row) {
                    found.rows.push(row);
                }
            }
            if is_last {
                found.next = reached;
                return Ok(found);
            }
        }
    }
}
