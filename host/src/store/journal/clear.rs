//! The journal bounded: rows that are too old or too many go, block by block, so that mail is written in between.

use std::time::SystemTime;

use rusqlite::{Connection, OptionalExtension as _, params};

use super::write::survey;
use crate::store::block::{ROWS, of_row};
use crate::store::sqlite::{Fault, Statements as _};
use crate::store::{Error, Ledger, seconds};

/// Octets of what is known of a block beside its rows.
const OF_BLOCK: u64 = 3_072;
/// Octets of a row that an older version wrote: what they took in the mean.
const OF_OLD_ROW: u64 = 1_100;

/// Which rows go.
#[derive(Clone, Copy, Debug)]
enum Goes {
    /// Those written before this time, in seconds since 1970.
    Before(i64),
    /// Those up to this number.
    UpTo(i64),
}

impl Ledger {
    /// Deletes journal rows older than `before`, and their notices where those have ended; returns how many.
    pub async fn sweep(&self, before: SystemTime) -> Result<u64, Error> {
        self.clear(Goes::Before(seconds(before))).await
    }

    /// Deletes the oldest rows beyond so many, or beyond so many octets, but none that something unsent hangs on; returns how
    /// many went.
    pub async fn trim(&self, rows: u64, octets: u64) -> Result<u64, Error> {
        match self.0.scan(move |work| beyond(work, rows, octets)).await? {
            Some(newest) => self.clear(Goes::UpTo(newest)).await,
            None => Ok(0),
        }
    }

    /// When the oldest row was written; absent where there is none.
    pub async fn journal_begins(&self) -> Result<Option<SystemTime>, Error> {
        let oldest = "SELECT min(oldest) FROM block";
        let oldest: Option<Option<i64>> = self.0.scan(move |work| work.find(oldest, ())).await?;
        Ok(oldest.flatten().map(crate::store::time))
    }

    /// Packs the newest 256 rows of those that an older version wrote, and counts them; whether there were any.
    pub async fn take_over(&self) -> Result<bool, Error> {
        let newest = self.0.read(newest_in_no_block)?;
        if newest.is_none() {
            return Ok(false);
        }
        let taken = self.0.write(|work| match newest_in_no_block(work)? {
            Some(id) => survey(work, of_row(id)).map(|()| true),
            None => Ok(false),
        });
        taken.await
    }

    /// A transaction for each block: what wants to write meanwhile gets its turn.
    async fn clear(&self, goes: Goes) -> Result<u64, Error> {
        let mut cleared = 0;
        for number in self.0.scan(move |work| concerned(work, goes)).await? {
            cleared += self.0.write(move |work| clear(work, number, goes)).await?;
        }
        Ok(cleared)
    }
}

/// The number below which rows are in no block.
fn floor(work: &Connection) -> Result<i64, Fault> {
    let lowest: Option<Option<i64>> = work.find("SELECT min(block) FROM block", ())?;
    Ok(lowest.flatten().map_or(i64::MAX, |number| number.saturating_mul(ROWS)))
}

fn newest_in_no_block(work: &Connection) -> Result<Option<i64>, Fault> {
    let newest: Option<Option<i64>> = work.find("SELECT max(id) FROM journal WHERE id < ?", [floor(work)?])?;
    Ok(newest.flatten())
}

/// The blocks that have such rows, the oldest first.
fn concerned(work: &Connection, goes: Goes) -> Result<Vec<i64>, Fault> {
    let (statement, bound) = match goes {
        Goes::Before(at) => (
            "SELECT block FROM block WHERE oldest < ?1
             UNION SELECT DISTINCT id / 256 FROM journal WHERE id < ?2 AND at < ?1 ORDER BY 1",
            at,
        ),
        Goes::UpTo(id) => (
            "SELECT block FROM block WHERE block <= ?1 / 256
             UNION SELECT DISTINCT id / 256 FROM journal WHERE id < ?2 AND id <= ?1 ORDER BY 1",
            id,
        ),
    };
    work.all(statement, [bound, floor(work)?], |row| Ok(row.get(0)?))
}

/// Deletes the rows of a block that go and that nothing hangs on: what is unsent, what the caps still count (a day, a week of letters about rules), a digest to
/// come.
fn clear(work: &Connection, number: i64, goes: Goes) -> Result<u64, Fault> {
    let (condition, bound) = match goes {
        Goes::Before(at) => ("at < ?2", at),
        Goes::UpTo(id) => ("id <= ?2", id),
    };
    let some = format!(
        "DELETE FROM journal WHERE id >= ?1 AND id < ?1 + 256 AND {condition}
         AND NOT EXISTS (SELECT 1 FROM outbox WHERE outbox.journal = journal.id
             AND (ended IS NULL OR created > unixepoch() - iif(kind = 'rules-unread', 604800, 86400)))
         AND NOT EXISTS (SELECT 1 FROM digest WHERE digest.journal = journal.id)"
    );
    let cleared = work.run(&some, params![number * ROWS, bound])?;
    let is_block: bool = work.one("SELECT EXISTS (SELECT 1 FROM block WHERE block = ?)", [number])?;
    if cleared > 0 && is_block {
        survey(work, number)?;
    }
    Ok(cleared)
}

/// The newest row that is too many.
fn beyond(work: &Connection, most: u64, octets: u64) -> Result<Option<i64>, Fault> {
    let mut left = (most, octets);
    let mut blocks = work.prepare_cached("SELECT block, rows, octets FROM block ORDER BY block DESC")?;
    let mut blocks = blocks.query(())?;
    while let Some(row) = blocks.next()? {
        let number: i64 = row.get(0)?;
        let (rows, octets) = (row.get::<_, i64>(1)?.unsigned_abs(), row.get::<_, i64>(2)?.unsigned_abs());
        if rows > left.0 {
            let begin = number.saturating_mul(ROWS);
            return nth(work, (begin, begin.saturating_add(ROWS)), left.0);
        }
        match left.1.checked_sub(octets.saturating_add(OF_BLOCK)) {
            Some(rest) => left = (left.0 - rows, rest),
            None => return Ok(Some(number.saturating_mul(ROWS).saturating_add(ROWS - 1))),
        }
    }
    nth(work, (i64::MIN, floor(work)?), left.0.min(left.1 / OF_OLD_ROW))
}

/// The row of these numbers before which there are so many newer ones.
fn nth(work: &Connection, (begin, end): (i64, i64), newer: u64) -> Result<Option<i64>, Fault> {
    let nth = "SELECT id FROM journal WHERE id >= ? AND id < ? ORDER BY id DESC LIMIT 1 OFFSET ?";
    let newer = i64::try_from(newer).unwrap_or(i64::MAX);
    Ok(work.query_row(nth, [begin, end, newer], |row| row.get(0)).optional()?)
}
