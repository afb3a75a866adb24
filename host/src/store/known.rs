//! Known senders: on which day an address was last found valid here. A row has the number that stands for the address, and no
//! address.

use std::collections::BTreeMap;
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
/// Where there are too many, one in so many goes besides.
const SLACK: u64 = 50;

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

    /// Forgets senders who were last valid more than `days` days before this time, or that long after it, and the oldest beyond so
    /// many; returns how many went. Without days all are forgotten.
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

/// How many rows of which days go.
#[derive(Clone, Debug)]
struct Goes(BTreeMap<i64, u64>);

impl Goes {
    /// What goes now; absent where nothing does. A day that is still to come is no reason to forget: the clock of today may be the
    /// wrong one. Only beyond so many days it is one that nobody waits for. Where there are too many, it goes first.
    fn now(work: &Connection, today: i64, days: u32, most: u64) -> Result<Option<Goes>, Fault> {
        let of_days = "SELECT day, senders FROM known_days WHERE senders > 0 ORDER BY day > ?1 + 1, day DESC";
        let of_days = work.all(of_days, [today], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?.unsigned_abs())))?;
        let days = i64::from(days);
        let times = today.saturating_sub(days)..=today.saturating_add(days.max(1));
        let in_time = |day: &i64| days > 0 && times.contains(day);
        let all: u64 = of_days.iter().filter(|(day, _)| in_time(day)).map(|(_, senders)| senders).sum();
        // With room for the next ones: not each look goes through all rows for the sake of a few.
        let mut room = if all > most { most - most / SLACK } else { most };
        let mut goes = BTreeMap::new();
        for (day, senders) in of_days {
            let kept = if in_time(&day) { senders.min(room) } else { 0 };
            room -= kept;
            if kept < senders {
                goes.insert(day, senders - kept);
            }
        }
        Ok((!goes.is_empty()).then_some(Goes(goes)))
    }

    /// Whether a row of this day goes; those that go are counted.
    fn takes(&mut self, day: i64) -> bool {
        let Some(left) = self.0.get_mut(&day).filter(|left| **left > 0) else { return false };
        *left -= 1;
        true
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
