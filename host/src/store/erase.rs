//! Taking one address out of the journal, however it is spelled there.

use sqlx::Row as _;

use super::journal::escaped;
use super::scrub::{remarked, without, without_in_json};
use super::{Error, Ledger, Search};
use crate::proto::address::Mailbox;

/// What taking an address out came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Erased {
    /// Journal rows that held it.
    pub rows: u64,
    /// Ended notices that held it.
    pub ended: u64,
    /// Notices still to be sent that hold it until they are; those collected for a digest count too.
    pub unsent: u64,
    /// Where it remains, since that is not the journal's to forget.
    pub remains: Remains,
}

/// Where an address still stands, once it is out of the journal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Remains {
    /// Choices that its user made.
    pub choices: u64,
    /// Entries of its user's own list of wanted senders.
    pub allowed: u64,
    /// Lists of other users that name it.
    pub listed: u64,
    /// Messages in quarantine that are for it, or from it.
    pub quarantined: u64,
}

impl Ledger {
    /// Takes a mailbox out of every journal row and every ended notice, however its address is spelled there. What is deleted
    /// is overwritten in the file. What users chose, and messages in quarantine, are counted and stay.
    pub async fn erase(&self, target: &Mailbox) -> Result<Erased, Error> {
        let mut erased = Erased::default();
        let (domain, mut below) = (target.rsplit_once('@').map_or("", |(_, domain)| domain), None);
        let search = Search { holds: Some(format!("@{domain}")), ..Search::default() };
        loop {
            let rows = self.page(&search, below, 256).await?;
            let Some(last) = rows.last() else { break };
            below = Some(last.id);
            for row in &rows {
                erased.rows += u64::from(self.erase_row(row.id, target).await.map_err(|e| self.0.failed(e))?);
            }
        }
        self.erase_notices(target, &mut erased).await.map_err(|e| self.0.failed(e))?;
        self.count_remains(target, &mut erased).await.map_err(|e| self.0.failed(e))?;
        Ok(erased)
    }

    /// Counts what holds it besides: a choice is its user's to take back, a message somebody's to release or delete.
    async fn count_remains(&self, target: &str, erased: &mut Erased) -> Result<(), sqlx::Error> {
        let mut reader = self.0.readers().acquire().await?;
        let counts = [
            ("SELECT count(*) FROM choice WHERE address = ?", &mut erased.remains.choices),
            ("SELECT count(*) FROM allowed WHERE address = ?", &mut erased.remains.allowed),
            ("SELECT count(*) FROM allowed WHERE sender = ?", &mut erased.remains.listed),
        ];
        for (statement, count) in counts {
            let counted: i64 = sqlx::query_scalar(statement).bind(target).fetch_one(&mut *reader).await?;
            *count = counted.unsigned_abs();
        }
        let holds = |texts: &[String]| texts.iter().any(|text| without(text, target) != *text);
        let domain = format!("%@{}%", escaped(target.rsplit_once('@').map_or("", |(_, domain)| domain)));
        let kept: Vec<(bool, String, String)> = sqlx::query_as(
            "SELECT EXISTS (SELECT 1 FROM held WHERE quarantine = q.id AND folded = ?1), coalesce(sender, ''), reverse_path
             FROM quarantine q WHERE sender LIKE ?2 ESCAPE '\\' OR reverse_path LIKE ?2 ESCAPE '\\'
             OR EXISTS (SELECT 1 FROM held WHERE quarantine = q.id AND folded = ?1)",
        )
        .bind(target)
        .bind(domain)
        .fetch_all(&mut *reader)
        .await?;
        let counts =
            |(is_for, sender, path): &(bool, String, String)| *is_for || holds(&[sender.clone(), path.clone()]);
        erased.remains.quarantined = kept.iter().filter(|row| counts(row)).count() as u64;
        let collected: Vec<(String, String)> =
            sqlx::query_as("SELECT recipient, senders FROM digest").fetch_all(&mut *reader).await?;
        erased.unsent += collected.iter().filter(|(to, senders)| holds(&[to.clone(), senders.clone()])).count() as u64;
        Ok(())
    }

    /// Takes it out of one row, read again under the lock: a note may have been added since; whether it was there.
    async fn erase_row(&self, id: i64, target: &str) -> Result<bool, sqlx::Error> {
        let mut work = self.0.writer().begin_with("BEGIN IMMEDIATE").await?;
        let row = sqlx::query("SELECT sender, entry, note FROM journal WHERE id = ?").bind(id);
        let Some(row) = row.fetch_optional(&mut *work).await? else { return Ok(false) };
        let sender: Option<String> = row.try_get("sender")?;
        let (entry, note): (String, String) = (row.try_get("entry")?, row.try_get("note")?);
        let new_sender = sender.as_deref().map(|sender| without(sender, target));
        let (new_entry, new_note) = (without_in_json(&entry, target), without(&note, target));
        if (&new_sender, &new_entry, &new_note) == (&sender, &entry, &note) {
            return Ok(false);
        }
        // Whatever of the row held it: a later note must not bring it back.
        let new_entry = remarked(&new_entry);
        sqlx::query("UPDATE journal SET sender = ?, entry = ?, note = ? WHERE id = ?")
            .bind(new_sender)
            .bind(new_entry)
            .bind(new_note)
            .bind(id)
            .execute(&mut *work)
            .await?;
        work.commit().await?;
        Ok(true)
    }

    async fn erase_notices(&self, target: &str, erased: &mut Erased) -> Result<(), sqlx::Error> {
        let mut work = self.0.writer().begin_with("BEGIN IMMEDIATE").await?;
        let rows = sqlx::query("SELECT id, recipient, sender, reverse_path, outcome, ended FROM outbox")
            .fetch_all(&mut *work)
            .await?;
        for row in rows {
            let text = |name| row.try_get::<Option<String>, _>(name).map(Option::unwrap_or_default);
            let old = [text("recipient")?, text("sender")?, text("reverse_path")?, text("outcome")?];
            let new = old.clone().map(|text| without(&text, target));
            if new == old {
                continue;
            }
            if row.try_get::<Option<i64>, _>("ended")?.is_none() {
                erased.unsent += 1;
                continue;
            }
            let [recipient, sender, reverse_path, outcome] = new;
            let id: i64 = row.try_get("id")?;
            sqlx::query(
                "UPDATE outbox SET recipient = ?1, capped_as = CASE recipient WHEN ?1 THEN capped_as ELSE ?1 END,
                 sender = ?2, reverse_path = ?3, outcome = ?4 WHERE id = ?5",
            )
            .bind(recipient)
            .bind(sender)
            .bind(reverse_path)
            .bind(outcome)
            .bind(id)
            .execute(&mut *work)
            .await?;
            erased.ended += 1;
        }
        work.commit().await?;
        // The write-ahead log still has the pages as they were.
        sqlx::raw_sql("PRAGMA wal_checkpoint(TRUNCATE)").execute(self.0.writer()).await.map(|_| ())
    }
}
