//! The log of changes in SQLite. There is one writer at a time, so the numbers of rows are in the order of the commits. Where nobody
//! committed anything since, it need not be asked.

use async_trait::async_trait;
use rusqlite::Connection;

use super::{Fault, SqliteKeys, Statements as _};
use crate::store::changes::CHANGES_MOST;
use crate::store::{Changed, Changes, Error, LogPlace, Look};

/// Two more than are told of: the row before them, and one that shows that there are too many. A bound LIMIT would have SQLite
/// prepare the statement anew each time, since the plan may hang on it.
const LATER: &str = "SELECT seq, mark, address FROM changes WHERE seq >= ? ORDER BY seq LIMIT 1002";

#[async_trait]
impl Changes for SqliteKeys {
    async fn changes(&self, since: Option<&LogPlace>) -> Result<Look, Error> {
        self.0.in_place()?;
        let commits = self.0.commits();
        if let Some(since) = since.filter(|since| since.commits.is_some() && since.commits == commits) {
            return Ok(Look { place: since.clone(), changed: Changed::Of(Vec::new()) });
        }
        let mut look = self.0.read(|work| match since {
            Some(since) => after(work, since),
            None => anew(work),
        })?;
        look.place.commits = commits;
        Ok(look)
    }

    async fn trim_changes(&self, most: u64) -> Result<u64, Error> {
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let trimmed = self.0.write(move |work| {
            let ends: Option<(i64, i64)> = work
                .first("SELECT min(seq), max(seq) FROM changes", (), |row| Ok((row.get::<_, i64>(0)?, row.get(1)?)))?;
            match ends {
                Some((oldest, newest)) if newest.saturating_sub(oldest) >= most => {
                    work.run("DELETE FROM changes WHERE seq < ?", [newest.saturating_sub(most / 2)])
                }
                _ => Ok(0),
            }
        });
        trimmed.await
    }
}

/// What follows the row that was the newest one. Where that is gone, or another one has its number, nothing is known.
fn after(work: &Connection, since: &LogPlace) -> Result<Look, Fault> {
    let rows = work.all(LATER, [since.newest.0], |row| Ok(((row.get(0)?, row.get(1)?), row.get::<_, String>(2)?)))?;
    match rows.split_first() {
        Some(((first, _), later)) if *first == since.newest && later.len() <= CHANGES_MOST => {
            let newest = later.last().map_or(since.newest, |(newest, _)| *newest);
            let changed = Changed::Of(later.iter().map(|(_, address)| address.clone()).collect());
            Ok(Look { place: LogPlace { newest, commits: None }, changed })
        }
        _ => anew(work),
    }
}

fn anew(work: &Connection) -> Result<Look, Fault> {
    let newest = "SELECT seq, mark FROM changes ORDER BY seq DESC LIMIT 1";
    let newest = work.first(newest, (), |row| Ok((row.get(0)?, row.get(1)?)))?;
    let newest = newest.ok_or(Fault::Column("the log of changes is empty"))?;
    Ok(Look { place: LogPlace { newest, commits: None }, changed: Changed::Anybodys })
}

#[cfg(test)]
mod tests {
    use rusqlite::StatementStatus;

    use super::*;

    #[test]
    fn a_look_at_the_log_is_prepared_once() {
        let work = Connection::open_in_memory().unwrap();
        work.execute_batch("CREATE TABLE changes (seq INTEGER PRIMARY KEY AUTOINCREMENT, address TEXT, mark INTEGER)")
            .unwrap();
        for turn in 0..10 {
            work.run("INSERT INTO changes (address, mark) VALUES ('a', 1)", ()).unwrap();
            let place = anew(&work).unwrap().place;
            assert_eq!(after(&work, &place).unwrap(), Look { place, changed: Changed::Of(Vec::new()) }, "{turn}");
        }
        assert_eq!(work.prepare_cached(LATER).unwrap().get_status(StatementStatus::RePrepare), 0);
        assert!(LATER.ends_with(&format!("LIMIT {}", CHANGES_MOST + 2)));
    }
}
