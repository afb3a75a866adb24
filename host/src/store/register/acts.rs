//! Who did what in the console.

use std::time::SystemTime;

use rusqlite::{Row, params};

use super::Register;
use crate::store::sqlite::{Fault, Statements as _};
use crate::store::{Error, seconds, time};

/// Something that somebody did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Act {
    /// Who: an account's name, or a mailbox.
    pub who: String,
    /// As what.
    pub role: String,
    /// From where: an address, or `local`.
    pub source: String,
    /// What: a word such as `release`.
    pub act: String,
    /// To what, in words.
    pub about: String,
    /// The message's row in the journal.
    pub journal: Option<i64>,
    /// The message's number in quarantine.
    pub quarantine: Option<i64>,
    /// Whose mail it is about.
    pub mailbox: Option<String>,
    /// What came of it: `done`, or why not.
    pub outcome: String,
}

/// An act as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActRow {
    /// Its number.
    pub id: i64,
    /// When it was done.
    pub at: SystemTime,
    /// What was done.
    pub act: Act,
}

const COLUMNS: &str = "id, at, who, role, source, act, about, journal, quarantine, mailbox, outcome";

impl Register {
    /// Notes an act.
    ///
    /// # Errors
    /// The file cannot be written.
    pub async fn note(&self, act: Act, now: SystemTime) -> Result<(), Error> {
        let noted = self.0.write(move |work| {
            let Act { who, role, source, act, about, journal, quarantine, mailbox, outcome } = &act;
            work.run(
                "INSERT INTO act (at, who, role, source, act, about, journal, quarantine, mailbox, outcome)
                 VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                params![seconds(now), who, role, source, act, about, journal, quarantine, mailbox, outcome],
            )
        });
        noted.await.map(drop)
    }

    /// At most so many of the newest acts below this number, newest first.
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn acts(&self, below: Option<i64>, most: u32) -> Result<Vec<ActRow>, Error> {
        let acts = format!("SELECT {COLUMNS} FROM act WHERE id < ? ORDER BY id DESC LIMIT ?");
        self.0.scan(move |work| work.all(&acts, params![below.unwrap_or(i64::MAX), most], read)).await
    }

    /// What was done to a message: by its row in the journal, or its numbers in quarantine; oldest first.
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn acts_on(&self, journal: i64, quarantine: &[i64], most: u32) -> Result<Vec<ActRow>, Error> {
        let acts = format!(
            "SELECT {COLUMNS} FROM act WHERE journal = ?1 OR quarantine IN (SELECT value FROM json_each(?2))
             ORDER BY id LIMIT ?3"
        );
        let held = serde_json::Value::from(quarantine).to_string();
        self.0.scan(move |work| work.all(&acts, params![journal, held, most], read)).await
    }
}

fn read(row: &Row<'_>) -> Result<ActRow, Fault> {
    let act = Act {
        who: row.get("who")?,
        role: row.get("role")?,
        source: row.get("source")?,
        act: row.get("act")?,
        about: row.get("about")?,
        journal: row.get("journal")?,
        quarantine: row.get("quarantine")?,
        mailbox: row.get("mailbox")?,
        outcome: row.get("outcome")?,
    };
    Ok(ActRow { id: row.get("id")?, at: time(row.get("at")?), act })
}
