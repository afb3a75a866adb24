//! Taking one address out of the journal, however it is spelled there.

use rusqlite::{Connection, params};

use super::block::of_row;
use super::journal::{COLUMNS, Columns, Entry, JournalRow, NewRow, names_address, octets, read, survey};
use super::scrub::{remarked, without, without_in_json};
use super::sqlite::{Fault, Statements as _};
use super::{Error, Ledger};
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
    /// Where the address still stands, since that is not the journal's to forget.
    pub still_named: StillNamed,
}

/// Where an address still stands, once it is out of the journal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StillNamed {
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
    pub async fn erase(&self, mailbox: &Mailbox) -> Result<Erased, Error> {
        let mut erased = Erased::default();
        let mut below = Some(i64::MAX);
        while let Some(upto) = below {
            let target = mailbox.clone();
            let rows = self.0.scan(move |work| naming(work, &target, upto)).await?;
            below = rows.last().copied();
            for block in rows.chunk_by(|one, next| of_row(*one) == of_row(*next)) {
                let (block, target) = (block.to_owned(), mailbox.clone());
                erased.rows += self.0.write(move |work| erase_rows(work, &block, &target)).await?;
            }
        }
        let target = mailbox.clone();
        (erased.ended, erased.unsent) = self.0.write(move |work| erase_notices(work, &target)).await?;
        // The write-ahead log still has the pages as they were.
        self.0.empty_log().await?;
        let target = mailbox.clone();
        let (still_named, collected) = self.0.scan(move |work| still_named(work, &target)).await?;
        erased.still_named = still_named;
        erased.unsent += collected;
        Ok(erased)
    }
}

/// Counts what holds it besides: a choice is its user's to take back, a message somebody's to release or delete. And how many
/// digests do.
fn still_named(work: &Connection, target: &str) -> Result<(StillNamed, u64), Fault> {
    let count = |statement| work.one(statement, [target]).map(i64::unsigned_abs);
    let holds = |texts: &[&str]| texts.iter().any(|text| without(text, target) != *text);
    let domain = format!("%@{}%", escaped(target.rsplit_once('@').map_or("", |(_, domain)| domain)));
    let kept = work.all(
        "SELECT EXISTS (SELECT 1 FROM held WHERE quarantine = q.id AND folded = ?1), coalesce(sender, ''), reverse_path
         FROM quarantine q WHERE sender LIKE ?2 ESCAPE '\\' OR reverse_path LIKE ?2 ESCAPE '\\'
         OR EXISTS (SELECT 1 FROM held WHERE quarantine = q.id AND folded = ?1)",
        [target, &domain],
        |row| {
            let (is_for, sender, path): (bool, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
            Ok(is_for || holds(&[&sender, &path]))
        },
    )?;
    let collected = work.all("SELECT recipient, senders FROM digest", (), |row| {
        let (recipient, senders): (String, String) = (row.get(0)?, row.get(1)?);
        Ok(holds(&[&recipient, &senders]))
    })?;
    let many = |found: &[bool]| found.iter().filter(|holds| **holds).count() as u64;
    let still_named = StillNamed {
        choices: count("SELECT count(*) FROM choice WHERE address = ?")?,
        allowed: count("SELECT count(*) FROM allowed WHERE address = ?")?,
        listed: count("SELECT count(*) FROM allowed WHERE sender = ?")?,
        quarantined: many(&kept),
    };
    Ok((still_named, many(&collected)))
}

/// The newest 256 rows below this number that may hold an address of this mailbox anywhere.
fn naming(work: &Connection, target: &str, below: i64) -> Result<Vec<i64>, Fault> {
    let (local, domain) = target.rsplit_once('@').unwrap_or(("", target));
    let (domain, mut found) = (format!("@{domain}"), Vec::new());
    let mut rows =
        work.prepare_cached("SELECT id, sender, entry, note, story FROM journal WHERE id < ? ORDER BY id DESC")?;
    let mut rows = rows.query([below])?;
    while found.len() < 256
        && let Some(row) = rows.next()?
    {
        for at in 1..=4 {
            if names_address(octets(row.get_ref(at)?), local, &domain, usize::MAX) {
                found.push(row.get(0)?);
                break;
            }
        }
    }
    Ok(found)
}

/// Takes it out of rows of one block, and out of what is known of them; in how many it was.
fn erase_rows(work: &Connection, rows: &[i64], target: &str) -> Result<u64, Fault> {
    let mut erased = 0;
    for id in rows {
        erased += u64::from(erase_row(work, *id, target)?);
    }
    let Some(number) = rows.first().map(|id| of_row(*id)) else { return Ok(0) };
    let is_block: bool = work.one("SELECT EXISTS (SELECT 1 FROM block WHERE block = ?)", [number])?;
    if erased > 0 && is_block {
        survey(work, number)?;
    }
    Ok(erased)
}

/// Takes it out of one row, read again under the lock: a note may have been added since; whether it was there.
fn erase_row(work: &Connection, id: i64, target: &str) -> Result<bool, Fault> {
    let row = work.first(&format!("SELECT {COLUMNS} FROM journal WHERE id = ?"), [id], read)?;
    let Some(JournalRow { at, entry: old, .. }) = row else { return Ok(false) };
    let sender = old.sender.as_deref().map(|sender| without(sender, target));
    let (json, note) = (without_in_json(&old.json, target), without(&old.note, target));
    if (&sender, &json, &note) == (&old.sender, &old.json, &old.note) {
        return Ok(false);
    }
    // Whatever of the row held it: a later note must not bring it back.
    let new = NewRow::again(Entry { sender, json: remarked(&json), note, ..old }, at);
    let ((text, story), Columns { sender, note, .. }) = (new.stored.columns(), &new.columns);
    work.run(
        "UPDATE journal SET sender = ?, entry = ?, story = ?, note = ? WHERE id = ?",
        params![sender, text, story, note, id],
    )?;
    Ok(true)
}

/// Takes it out of the ended notices; how many held it, and how many unsent ones do.
fn erase_notices(work: &Connection, target: &str) -> Result<(u64, u64), Fault> {
    let rows =
        work.all("SELECT id, ended IS NULL, recipient, sender, reverse_path, outcome FROM outbox", (), |row| {
            let text = |at: usize| row.get::<_, Option<String>>(at).map(Option::unwrap_or_default);
            let old = [text(2)?, text(3)?, text(4)?, text(5)?];
            let new = old.clone().map(|text| without(&text, target));
            Ok((new != old).then_some((row.get::<_, i64>(0)?, row.get::<_, bool>(1)?, new)))
        })?;
    let (mut ended, mut unsent) = (0, 0);
    for (id, is_unsent, [recipient, sender, reverse_path, outcome]) in rows.into_iter().flatten() {
        if is_unsent {
            unsent += 1;
            continue;
        }
        work.run(
            "UPDATE outbox SET recipient = ?1, capped_as = CASE recipient WHEN ?1 THEN capped_as ELSE ?1 END,
             sender = ?2, reverse_path = ?3, outcome = ?4 WHERE id = ?5",
            params![recipient, sender, reverse_path, outcome, id],
        )?;
        ended += 1;
    }
    Ok((ended, unsent))
}

/// Words as a pattern of LIKE that means themselves alone.
fn escaped(words: &str) -> String {
    words.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_")
}
