//! What users chose for their own mail, and whose mail they want.

use std::collections::{BTreeMap, HashMap};
use std::time::SystemTime;

use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::{Error, Ledger, seconds};
use crate::case::{KeyStatus, MarkAs, Wish};
use crate::proto::address::{Address, Mailbox};

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
        Some(domain) => {
            let domain = domain.strip_suffix('.').unwrap_or(domain);
            let address = Address::parse(format!("x@{domain}").as_bytes(), true).ok()?;
            // A text with an "@" of its own would be read with another domain than it seems to have.
            (!domain.contains('@')).then(|| format!("@{}", address.domain()))
        }
        None => Some(Address::parse(sender.as_bytes(), true).ok()?.mailbox().into()),
    }
}

/// All rows about these mailboxes (?1) and this sender, as an address (?2) and as a domain (?3). The mailboxes travel as one
/// JSON array: as many of them as a message may have, in one bound value.
const WISHES: &str = "SELECT address, name, value FROM choice WHERE address IN (SELECT value FROM json_each(?1))
     UNION ALL SELECT address, NULL, sender FROM allowed
     WHERE address IN (SELECT value FROM json_each(?1)) AND sender IN (?2, ?3)";

impl Ledger {
    /// The wishes of these recipients about mail from this sender, in their order. One statement, whatever
    /// their number. A row that a later version wrote is passed over.
    pub async fn wishes(&self, recipients: &[Option<Mailbox>], sender: Option<&Mailbox>) -> Result<Vec<Wish>, Error> {
        self.0.in_place()?;
        let asked: Vec<&str> = recipients.iter().flatten().map(Mailbox::as_str).collect();
        let mut known: HashMap<String, Wish> = HashMap::new();
        if !asked.is_empty() {
            let domain = sender.and_then(|sender| Some(format!("@{}", sender.rsplit_once('@')?.1)));
            let rows = sqlx::query(WISHES)
                .bind(serde_json::Value::from_iter(asked).to_string())
                .bind(sender.map(Mailbox::as_str))
                .bind(domain)
                .fetch_all(self.0.readers())
                .await
                .map_err(|e| self.0.failed(e))?;
            for row in &rows {
                let (address, name, value) = read(row).map_err(|e| self.0.failed(e))?;
                learn(known.entry(address).or_default(), name.as_deref(), &value);
            }
        }
        let wish =
            |mailbox: &Option<Mailbox>| mailbox.as_ref().and_then(|mailbox| known.get(mailbox.as_str())).cloned();
        Ok(recipients.iter().map(|mailbox| wish(mailbox).unwrap_or_default()).collect())
    }

    /// Writes down what this mailbox chose: `name` is a result's word or `mark`. It replaces what was chosen
    /// before. Whether the choice is open to users is the caller's to see to.
    pub async fn choose(&self, mailbox: &Mailbox, name: &str, value: &str) -> Result<(), Error> {
        self.choose_all(mailbox, &[(name, value)]).await
    }

    /// The same for several names, all or none of them.
    pub async fn choose_all(&self, mailbox: &Mailbox, choices: &[(&str, &str)]) -> Result<(), Error> {
        let written = async {
            let mut work = self.0.writer().begin_with("BEGIN IMMEDIATE").await?;
            for (name, value) in choices {
                sqlx::query("INSERT OR REPLACE INTO choice (address, name, value, at) VALUES (?, ?, ?, ?)")
                    .bind(mailbox.as_str())
                    .bind(name)
                    .bind(value)
                    .bind(seconds(SystemTime::now()))
                    .execute(&mut *work)
                    .await?;
            }
            work.commit().await
        };
        written.await.map_err(|e| self.0.failed(e))
    }

    /// Takes back what this mailbox chose, for one name or for all; returns how many choices went.
    pub async fn unchoose(&self, mailbox: &Mailbox, name: Option<&str>) -> Result<u64, Error> {
        sqlx::query("DELETE FROM choice WHERE address = ?1 AND (?2 IS NULL OR name = ?2)")
            .bind(mailbox.as_str())
            .bind(name)
            .execute(self.0.writer())
            .await
            .map(|done| done.rows_affected())
            .map_err(|e| self.0.failed(e))
    }

    /// What this mailbox chose, as it is written: by name, what a later version wrote included.
    pub async fn choices(&self, mailbox: &Mailbox) -> Result<BTreeMap<String, String>, Error> {
        sqlx::query("SELECT address, name, value FROM choice WHERE address = ?")
            .bind(mailbox.as_str())
            .fetch_all(self.0.readers())
            .await
            .and_then(|rows| rows.iter().map(|row| Ok((row.try_get("name")?, row.try_get("value")?))).collect())
            .map_err(|e| self.0.failed(e))
    }

    /// Puts a sender, in the form of [`wanted`], on this mailbox's list of wanted ones, which may have `most` entries.
    /// Whether he was not there before.
    pub async fn allow(&self, mailbox: &Mailbox, sender: &str, most: u32) -> Result<bool, Error> {
        let address = String::from(mailbox.clone());
        let failed = |e| self.0.failed(e);
        let mut work = self.0.writer().begin_with("BEGIN IMMEDIATE").await.map_err(failed)?;
        let added = sqlx::query("INSERT OR IGNORE INTO allowed (address, sender, at) VALUES (?, ?, ?)")
            .bind(&address)
            .bind(sender)
            .bind(seconds(SystemTime::now()))
            .execute(&mut *work)
            .await
            .map_err(failed)?
            .rows_affected();
        let count: i64 = sqlx::query_scalar("SELECT count(*) FROM allowed WHERE address = ?")
            .bind(&address)
            .fetch_one(&mut *work)
            .await
            .map_err(failed)?;
        // Without a commit the transaction is undone.
        if added > 0 && count > i64::from(most) {
            return Err(Error::TooManyAllowed { address, most });
        }
        work.commit().await.map_err(failed)?;
        Ok(added > 0)
    }

    /// Takes a sender, in the form of [`wanted`], off the list; whether he was on it.
    pub async fn disallow(&self, mailbox: &Mailbox, sender: &str) -> Result<bool, Error> {
        sqlx::query("DELETE FROM allowed WHERE address = ? AND sender = ?")
            .bind(mailbox.as_str())
            .bind(sender)
            .execute(self.0.writer())
            .await
            .map(|done| done.rows_affected() > 0)
            .map_err(|e| self.0.failed(e))
    }

    /// Takes all senders off the list; returns how many there were.
    pub async fn disallow_all(&self, mailbox: &Mailbox) -> Result<u64, Error> {
        sqlx::query("DELETE FROM allowed WHERE address = ?")
            .bind(mailbox.as_str())
            .execute(self.0.writer())
            .await
            .map(|done| done.rows_affected())
            .map_err(|e| self.0.failed(e))
    }

    /// The senders whose mail this mailbox wants, in alphabetical order.
    pub async fn allowed(&self, mailbox: &Mailbox) -> Result<Vec<String>, Error> {
        sqlx::query_scalar("SELECT sender FROM allowed WHERE address = ? ORDER BY sender")
            .bind(mailbox.as_str())
            .fetch_all(self.0.readers())
            .await
            .map_err(|e| self.0.failed(e))
    }

    /// At most so many users who chose something or want somebody's mail, in alphabetical order, beginning behind `after`.
    pub async fn users(&self, after: &str, most: u32) -> Result<Vec<UserRow>, Error> {
        sqlx::query(
            "SELECT address, sum(chosen) AS choices, sum(1 - chosen) AS allowed FROM
             (SELECT address, 1 AS chosen FROM choice WHERE address > ?1
              UNION ALL SELECT address, 0 FROM allowed WHERE address > ?1)
             GROUP BY address ORDER BY address LIMIT ?2",
        )
        .bind(after)
        .bind(most)
        .fetch_all(self.0.readers())
        .await
        .and_then(|rows| rows.iter().map(read_user).collect())
        .map_err(|e| self.0.failed(e))
    }
}

/// Takes one row into a wish; without a name it is the sender on the list of wanted ones.
fn learn(wish: &mut Wish, name: Option<&str>, value: &str) {
    let result = |name| KeyStatus::ALL.into_iter().find(|status| status.word() == name);
    match (name, value) {
        (None, _) => wish.allows = true,
        (Some("mark"), "header") => wish.mark = Some(MarkAs::Header),
        (Some("mark"), "folder") => wish.mark = Some(MarkAs::Folder),
        (Some(name), _) => match result(name) {
            Some(status) => _ = wish.policies.insert(status, value.to_owned()),
            None => tracing::debug!(name, value, "a user's choice is unknown to this version, and passed over"),
        },
    }
}

fn read(row: &SqliteRow) -> Result<(String, Option<String>, String), sqlx::Error> {
    Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?))
}

fn read_user(row: &SqliteRow) -> Result<UserRow, sqlx::Error> {
    Ok(UserRow { address: row.try_get("address")?, choices: row.try_get("choices")?, allowed: row.try_get("allowed")? })
}

#[cfg(test)]
mod tests;
