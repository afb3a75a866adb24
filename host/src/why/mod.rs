//! Why a message was treated as it was: an account in plain words, and whether its decisions come out the same again.

mod keys;
mod proof;
mod text;
mod words;

use std::time::SystemTime;

use crate::case::WrittenCase;
use crate::config::Config;
use crate::policy::{self, Policies, Trial};
use crate::store::{self, JournalRow, Ledger, Traces};

pub use proof::{Proof, policies};
pub use text::Line;

/// Why nothing can be told of a row.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The journal.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// What the row tells is not understood.
    #[error("row {id} cannot be read: {text}. It may be of a newer addrauth")]
    Unread {
        /// The row's number.
        id: i64,
        /// Why.
        text: String,
    },
}

/// All that is to be told of one message.
#[derive(Clone, Debug)]
pub struct Account {
    /// The number of its row in the journal.
    pub id: i64,
    /// When the row was written.
    pub at: SystemTime,
    /// What was found, decided and answered.
    pub story: WrittenCase,
    /// What was noted beside it since.
    pub note: String,
    /// What became of its notices and kept copies.
    pub traces: Traces,
    /// One for each decision.
    pub proofs: Vec<Proof>,
}

/// The accounts of these rows, every decision made again by today's policies. Policies that cannot be loaded make every proof
/// impossible, and no more.
///
/// # Errors
/// A row cannot be read.
pub async fn tell(
    config: &Config,
    ledger: &Ledger,
    rows: Vec<JournalRow>,
    trial: &Trial,
) -> Result<Vec<Account>, Error> {
    let mut accounts = Vec::new();
    for row in rows {
        accounts.push(Account::of(ledger, row).await?);
    }
    let stories: Vec<&WrittenCase> = accounts.iter().map(|account| &account.story).collect();
    let policies = policies(config, &stories, trial);
    for account in &mut accounts {
        account.prove(policies.as_ref());
    }
    Ok(accounts)
}

/// What a row tells.
///
/// # Errors
/// It is not understood.
pub fn story(row: &JournalRow) -> Result<WrittenCase, Error> {
    WrittenCase::read(&row.entry.json).map_err(|text| Error::Unread { id: row.id, text })
}

impl Account {
    /// The account of a row, nothing proved yet.
    ///
    /// # Errors
    /// The row cannot be read.
    pub async fn of(ledger: &Ledger, row: JournalRow) -> Result<Account, Error> {
        let (story, traces) = (story(&row)?, ledger.traces(row.id).await?);
        Ok(Account { id: row.id, at: row.at, story, note: row.entry.note, traces, proofs: Vec::new() })
    }

    /// Makes every decision again by these policies.
    pub fn prove(&mut self, policies: Result<&Policies, &policy::Error>) {
        let prove = |decision| match policies {
            Ok(policies) => proof::prove(policies, &self.story, decision),
            Err(error) => Proof::Impossible(format!("today's policies cannot be loaded: {error}")),
        };
        self.proofs = self.story.decisions.iter().map(prove).collect();
    }

    /// In plain words, lines of at most 100 columns but where one word is longer.
    pub fn text(&self) -> String {
        text::folded(&self.lines())
    }

    /// The same line by line, each as long as its words.
    pub fn lines(&self) -> Vec<Line> {
        text::of(self)
    }
}
