//! Known senders: on which day an address was last found valid here. A row has the number that stands for the address, and no
//! address.

use std::time::SystemTime;

use rusqlite::{Connection, params};

use super::noted::{KnownSender, day_of};
use super::sqlite::{Fault, Statements as _};
use super::{Error, Ledger};
use crate::proto::mark::Pseudonym;

/// Rows that one read goes through where many are looked at: some ten milliseconds.
const PAGE: u32 = 50_000;
/// Rows that one transaction deletes: what wants to write meanwhile gets its turn.
const AT_ONCE: usize = 1_000;

impl Ledger {
    /// Whether this sender need not be written down: it was, by this process and for this day.
    pub fn is_noted(&self, known: KnownSender) -> bool {
        self.2.holds(known)
    }

    /// How many days before this time an AS last vouched for a sender; absent where it never did, or nobody remembers.
    ///
    /// # Errors
    /// It cannot be read, which tells nothing about the sender.
    pub async fn last_valid(&self, sender: Pseudonym, now: SystemTime) -> Result<Option<u32>, Error> {
        self.0.in_place()?;
        let day = "SELECT day FROM known WHERE sender = ?";
        let day: Option<i64> = self.0.read(|work| work.find(day, [sender.number()]))?;
        let ago = day.map(|day| day_of(now).saturating_sub(day));
        // A day that is still to come was written by a clock that was wrong.
        Ok(ago.filter(|ago| *ago >= -1).map(|ago| u32::try_from(ago.max(0)).unwrap_or(u32::MAX)))
    }

    /// Forgets a sender; whether it was known. A process that noted it today writes it down again tomorrow at the earliest.
    pub async fn forget(&self, sender: Pseudonym) -> Result<bool, Error> {
        let forgotten = self.0.write(move |work| work.run("DELETE FROM known WHERE sender = ?", [sender.number()]));
        Ok(forgotten.await? > 0)
    }

    /// Forgets senders who were last valid more than `days` days before this time, and the oldest beyond so many; returns how many
    /// went. Without days, and in a day that is still to come, all are forgotten.
    pub async fn forget_old(&self, now: SystemTime, days: u32, most: u64) -> Result<u64, Error> {
        let today = day_of(now);
        let Some(mut goes) = self.0.scan(move |work| Goes::now(work, today, days, most)).await? else { return Ok(0) };
        let (mut forgotten, mut next) = (0, Some(i64::MIN));
        while let Some(from) = next {
            let rows = self.0.scan(move |work| page(work, from)).await?;
            next = rows.last().and_then(|(last, _)| last.checked_add(1));
            let rows: Vec<(i64, i64)> = rows.into_iter().filter(|(_, day)| goes.takes(*day)).collect();
            for some in rows.chunks(AT_ONCE) {
                let some = some.to_vec();
                forgotten += self.0.write(move |work| delete(work, &some)).await?;
            }
        }
        self.0.write(|work| work.run("DELETE FROM known_days WHERE senders <= 0", ())).await?;
        Ok(forgotten)
    }
}

/// Which rows go.
#[derive(Clone, Copy, Debug)]
struct Goes {
    /// Those of days before this one.
    before: i64,
    /// Those of days after this one.
    after: i64,
    /// So many of the first day that is not before.
    more: u64,
}

impl Goes {
    /// What goes now; absent where nothing does.
    fn now(work: &Connection, today: i64, days: u32, most: u64) -> Result<Option<Goes>, Fault> {
        let known_days = "SELECT day, senders FROM known_days WHERE senders > 0 ORDER BY day DESC";
        let known_days = work.all(known_days, (), |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)))?;
        let oldest = if days == 0 { i64::MAX } else { today.saturating_sub(i64::from(days)) };
        let mut goes = Goes { before: oldest, after: today.saturating_add(1), more: 0 };
        let mut left = most;
        for (day, senders) in known_days.iter().filter(|(day, _)| goes.keeps(*day)).copied().collect::<Vec<_>>() {
            let senders = senders.unsigned_abs();
            match left.checked_sub(senders) {
                Some(rest) => left = rest,
                None => {
                    (goes.before, goes.more) = (day, senders - left);
                    break;
                }
            }
        }
        let any = goes.more > 0 || known_days.iter().any(|(day, _)| !goes.keeps(*day));
        Ok(any.then_some(goes))
    }

    fn keeps(&self, day: i64) -> bool {
        (self.before..=self.after).contains(&day)
    }

    /// Whether a row of this day goes; one of those that are too many is counted.
    fn takes(&mut self, day: i64) -> bool {
        if !self.keeps(day) {
            return true;
        }
        let too_many = day == self.before && self.more > 0;
        self.more -= u64::from(too_many);
        too_many
    }
}

fn page(work: &Connection, from: i64) -> Result<Vec<(i64, i64)>, Fault> {
    let page = "SELECT sender, day FROM known WHERE sender >= ? ORDER BY sender LIMIT ?";
    work.all(page, params![from, PAGE], |row| Ok((row.get(0)?, row.get(1)?)))
}

/// Deletes rows that have not changed since they were looked at.
fn delete(work: &Connection, rows: &[(i64, i64)]) -> Result<u64, Fault> {
    rows.iter()
        .try_fold(0, |gone, row| Ok(gone + work.run("DELETE FROM known WHERE sender = ? AND day = ?", [row.0, row.1])?))
}

/// Writes down senders, in the transaction of the rows of their messages. A day that is still to come was written by a clock that
/// was wrong, and gives way.
pub(super) fn note(work: &Connection, known: impl IntoIterator<Item = KnownSender>) -> Result<(), Fault> {
    for KnownSender { sender, day } in known {
        work.run(
            "INSERT INTO known (sender, day) VALUES (?1, ?2) ON CONFLICT (sender) DO UPDATE SET day = excluded.day
             WHERE day < excluded.day OR day > excluded.day + 1",
            [sender.number(), day],
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
