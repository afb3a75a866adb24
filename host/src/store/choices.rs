//! What users chose for their own mail, and whose mail they want.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::SystemTime;

use rusqlite::{Row, params};

use super::commits::Commits;
use super::remembered::Chosen;
use super::sqlite::{Fault, Statements as _};
use super::{Error, Ledger, seconds};
use crate::case::{KeyStatus, MarkAs, Wish};
use crate::proto::address::{Address, Domain, Mailbox};

/// A user with choices of his own, as a list shows him.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserRow {
    /// His address, folded.
    pub address: String,
    /// How many choices he made.
    pub choices: u32,
    /// How many senders he wants mail from.
    pub allowed: u32,
}

/// The form in which a list of wanted senders keeps an address, or a whole domain written as `@example.com`: letter case
/// and +tag do not matter, a domain's subdomains are others. Absent where the text is neither.
pub fn wanted(sender: &str) -> Option<String> {
    match sender.strip_prefix('@') {
        Some(domain) => Some(format!("@{}", Domain::parse_full(domain).ok()?)),
        None => Some(Address::parse(sender.as_bytes(), true).ok()?.mailbox().into()),
    }
}

/// All choices of these mailboxes, and of the senders that each wants one more than is remembered. The mailboxes travel as one JSON
/// array: as many of them as a message may have, in one bound value. A bound LIMIT would have SQLite prepare the statement anew
/// each time, since the plan may hang on it.
const CHOSEN: &str = "SELECT address, name, value FROM choice WHERE address IN (SELECT value FROM json_each(?1))
     UNION ALL SELECT allowed.address, NULL, allowed.sender FROM json_each(?1) AS asked
     JOIN allowed ON allowed.address = asked.value
     WHERE allowed.sender IN (SELECT one.sender FROM allowed AS one WHERE one.address = asked.value LIMIT 101)";

/// The name under which a user's own rules stand among the choices.
pub const OWN_RULES: &str = "rules";

impl Ledger {
    /// The wishes of these recipients about mail from this sender, in their order. What was read before is remembered until
    /// somebody changes a choice, in this process or another one; the next call sees the change. A row that a later version
    /// wrote is passed over.
    pub async fn wishes(&self, recipients: &[Option<Mailbox>], sender: Option<&Mailbox>) -> Result<Vec<Wish>, Error> {
        self.0.in_place()?;
        let commits = self.0.commits();
        let chosen = match commits.and_then(|now| self.1.all(now, recipients)) {
            Some(chosen) => chosen,
            None => self.read_chosen(commits, recipients)?,
        };
        let domain = sender.and_then(|sender| Some(format!("@{}", sender.rsplit_once('@')?.1)));
        let senders = [sender.map(Mailbox::as_str), domain.as_deref()];
        let wish = |(mailbox, chosen): (&Option<Mailbox>, Option<Arc<Chosen>>)| {
            let (Some(mailbox), Some(chosen)) = (mailbox, chosen) else { return Ok(Wish::default()) };
            let listed = || chosen.senders.iter().any(|listed| senders.contains(&Some(listed)));
            let allows = if chosen.is_cut() { self.is_allowed(mailbox, senders)? } else { listed() };
            Ok(Wish { allows, ..chosen.wish.clone() })
        };
        recipients.iter().zip(chosen).map(wish).collect()
    }

    /// How many mailboxes' choices are remembered, and how often these were enough, and were not.
    pub fn remembered(&self) -> (usize, [u64; 2]) {
        (self.1.mailboxes(), self.1.asked())
    }

    /// Reads what these mailboxes chose, and remembers it where it can be told later whether it still holds.
    fn read_chosen(
        &self,
        commits: Option<Commits>,
        recipients: &[Option<Mailbox>],
    ) -> Result<Vec<Option<Arc<Chosen>>>, Error> {
        let asked: Vec<&str> = recipients.iter().flatten().map(Mailbox::as_str).collect();
        let mut read: HashMap<String, Chosen> =
            asked.iter().map(|asked| ((*asked).to_owned(), Chosen::default())).collect();
        let asked = serde_json::Value::from(asked).to_string();
        let (changed, rows) = self.0.read(|work| {
            // Both at one moment.
            let moment = work.unchecked_transaction()?;
            let changed: i64 = moment.one("SELECT times FROM choices_changed", ())?;
            Ok((changed, moment.all(CHOSEN, [asked], read_row)?))
        })?;
        for (address, name, value) in rows {
            learn(read.entry(address).or_default(), name.as_deref(), value);
        }
        let read: HashMap<String, Arc<Chosen>> = read.into_iter().map(|(of, chosen)| (of, Arc::new(chosen))).collect();
        if let Some(commits) = commits {
            self.1.learn(commits, changed, &read);
        }
        let of = |mailbox: &Option<Mailbox>| read.get(mailbox.as_ref()?.as_str()).cloned();
        Ok(recipients.iter().map(of).collect())
    }

    /// Whether one of these is on the mailbox's list of wanted senders.
    fn is_allowed(&self, mailbox: &Mailbox, [sender, domain]: [Option<&str>; 2]) -> Result<bool, Error> {
        let listed = "SELECT EXISTS (SELECT 1 FROM allowed WHERE address = ? AND sender IN (?, ?))";
        self.0.read(|work| work.one(listed, params![mailbox.as_str(), sender, domain]))
    }

    /// Writes down what this mailbox chose: `name` is a result's word, `mark` or [`OWN_RULES`]. It replaces what was chosen before.
    /// Whether the choice is open to users is the caller's to see to.
    pub async fn choose(&self, mailbox: &Mailbox, name: &str, value: &str) -> Result<(), Error> {
        self.choose_all(mailbox, &[(name, value)]).await
    }

    /// The same for several names, all or none of them.
    pub async fn choose_all(&self, mailbox: &Mailbox, choices: &[(&str, &str)]) -> Result<(), Error> {
        let choices: Vec<_> = choices.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let mailbox = mailbox.clone();
        let written = self.0.write(move |work| {
            for (name, value) in choices {
                work.run(
                    "INSERT OR REPLACE INTO choice (address, name, value, at) VALUES (?, ?, ?, ?)",
                    params![mailbox.as_str(), name, value, seconds(SystemTime::now())],
                )?;
            }
            Ok(())
        });
        written.await
    }

    /// Takes back what this mailbox chose, for one name or for all; returns how many choices went.
    pub async fn unchoose(&self, mailbox: &Mailbox, name: Option<&str>) -> Result<u64, Error> {
        let (mailbox, name) = (mailbox.clone(), name.map(str::to_owned));
        let gone = self.0.write(move |work| {
            work.run(
                "DELETE FROM choice WHERE address = ?1 AND (?2 IS NULL OR name = ?2)",
                params![mailbox.as_str(), name],
            )
        });
        gone.await
    }

    /// What this mailbox chose, as it is written: by name, what a later version wrote included.
    pub async fn choices(&self, mailbox: &Mailbox) -> Result<BTreeMap<String, String>, Error> {
        let chosen = "SELECT name, value FROM choice WHERE address = ?";
        let rows = self.0.read(|work| work.all(chosen, [mailbox.as_str()], |row| Ok((row.get(0)?, row.get(1)?))))?;
        Ok(rows.into_iter().collect())
    }

    /// Puts a sender, in the form of [`wanted`], on this mailbox's list of wanted ones, which may have `most` entries.
    /// Whether he was not there before.
    pub async fn allow(&self, mailbox: &Mailbox, sender: &str, most: u32) -> Result<bool, Error> {
        let (address, sender) = (String::from(mailbox.clone()), sender.to_owned());
        let added = self.0.write(move |work| {
            let added = work.run(
                "INSERT OR IGNORE INTO allowed (address, sender, at) VALUES (?, ?, ?)",
                params![address, sender, seconds(SystemTime::now())],
            )?;
            let count: i64 = work.one("SELECT count(*) FROM allowed WHERE address = ?", [&address])?;
            if added > 0 && count > i64::from(most) {
                return Err(Error::TooManyAllowed { address, most }.into());
            }
            Ok(added > 0)
        });
        added.await
    }

    /// Takes a sender, in the form of [`wanted`], off the list; whether he was on it.
    pub async fn disallow(&self, mailbox: &Mailbox, sender: &str) -> Result<bool, Error> {
        let (mailbox, sender) = (mailbox.clone(), sender.to_owned());
        let gone = "DELETE FROM allowed WHERE address = ? AND sender = ?";
        Ok(self.0.write(move |work| work.run(gone, [mailbox.as_str(), &sender])).await? > 0)
    }

    /// Takes all senders off the list; returns how many there were.
    pub async fn disallow_all(&self, mailbox: &Mailbox) -> Result<u64, Error> {
        let mailbox = mailbox.clone();
        self.0.write(move |work| work.run("DELETE FROM allowed WHERE address = ?", [mailbox.as_str()])).await
    }

    /// The senders whose mail this mailbox wants, in alphabetical order.
    pub async fn allowed(&self, mailbox: &Mailbox) -> Result<Vec<String>, Error> {
        let wanted = "SELECT sender FROM allowed WHERE address = ? ORDER BY sender";
        self.0.read(|work| work.all(wanted, [mailbox.as_str()], |row| Ok(row.get(0)?)))
    }

    /// At most so many users who chose something or want somebody's mail, in alphabetical order, beginning behind `after`.
    pub async fn users(&self, after: &str, most: u32) -> Result<Vec<UserRow>, Error> {
        let after = after.to_owned();
        let users = self.0.scan(move |work| {
            work.all(
                "SELECT address, sum(chosen) AS choices, sum(1 - chosen) AS allowed FROM
                 (SELECT address, 1 AS chosen FROM choice WHERE address > ?1
                  UNION ALL SELECT address, 0 FROM allowed WHERE address > ?1)
                 GROUP BY address ORDER BY address LIMIT ?2",
                params![after, most],
                read_user,
            )
        });
        users.await
    }
}

/// Takes one row into what a mailbox chose; without a name it is a sender on the list of wanted ones.
fn learn(chosen: &mut Chosen, name: Option<&str>, value: String) {
    let result = |name| KeyStatus::ALL.into_iter().find(|status| status.word() == name);
    match (name, value.as_str()) {
        (None, _) => chosen.senders.push(value),
        (Some("mark"), "header") => chosen.wish.mark = Some(MarkAs::Header),
        (Some("mark"), "folder") => chosen.wish.mark = Some(MarkAs::Folder),
        (Some(OWN_RULES), _) => chosen.wish.rules = Some(value.into()),
        (Some(name), _) => match result(name) {
            Some(status) => _ = chosen.wish.policies.insert(status, value),
            None => tracing::debug!(name, value, "a user's choice is unknown to this version, and passed over"),
        },
    }
}

fn read_row(row: &Row<'_>) -> Result<(String, Option<String>, String), Fault> {
    Ok((row.get(0)?, row.get(1)?, row.get(2)?))
}

fn read_user(row: &Row<'_>) -> Result<UserRow, Fault> {
    Ok(UserRow { address: row.get("address")?, choices: row.get("choices")?, allowed: row.get("allowed")? })
}

#[cfg(test)]
mod tests;
