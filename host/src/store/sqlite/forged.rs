//! INVALIDKEY answers, counted in SQLite.

use std::time::SystemTime;

use async_trait::async_trait;
use rusqlite::{Row, params};

use super::{Fault, SqliteKeys, Statements as _};
use crate::store::{Error, ForgedRow, Forgeries, seconds, time};

/// A day of the table, in seconds.
const DAY: i64 = 86_400;
/// Rows written by one statement.
const ROWS_AT_ONCE: usize = 1_000;

#[async_trait]
impl Forgeries for SqliteKeys {
    async fn count_forged(&self, rows: &[ForgedRow], most: u64) -> Result<(), Error> {
        let parts: Vec<_> = rows.chunks(ROWS_AT_ONCE).map(|part| (part.len(), document(part))).collect();
        let counted = self.0.write(move |work| {
            for (rows, document) in parts {
                let held: i64 = work.one("SELECT count(*) FROM forged", ())?;
                let room = most.saturating_sub(u64::try_from(held).unwrap_or_default());
                let full = u64::try_from(rows).is_ok_and(|rows| rows > room);
                work.run(COUNT, params![document, full])?;
            }
            Ok(())
        });
        counted.await?;
        self.0.in_place()
    }

    async fn forged(&self, domain: Option<&str>, since: SystemTime) -> Result<Vec<ForgedRow>, Error> {
        let domain = domain.map(str::to_owned);
        let counted = self.0.scan(move |work| {
            work.all(
                "SELECT domain, address, verifier, network, sum(answers) AS answers, min(first) AS first,
                   max(last) AS last
                 FROM forged WHERE day >= ?1 AND last >= ?2 AND (?3 IS NULL OR domain = ?3)
                 GROUP BY domain, address, verifier, network
                 ORDER BY sum(answers) DESC, domain, address, verifier, network",
                params![seconds(since) / DAY, seconds(since), domain],
                read,
            )
        });
        counted.await
    }

    async fn sweep_forged(&self, before: SystemTime) -> Result<u64, Error> {
        self.0.write(move |work| work.run("DELETE FROM forged WHERE day < ?", [seconds(before) / DAY])).await
    }
}

/// Counts the rows of a document (?1); where the table is full (?2), what has no row yet counts for its domain alone.
const COUNT: &str = "WITH new AS (
       SELECT value ->> 0 AS domain, value ->> 1 AS day, value ->> 2 AS address, value ->> 3 AS verifier,
         value ->> 4 AS network, value ->> 5 AS answers, value ->> 6 AS first, value ->> 7 AS last
       FROM json_each(?1)),
     placed AS (
       SELECT new.*, NOT ?2 OR EXISTS (
         SELECT 1 FROM forged f WHERE f.domain = new.domain AND f.day = new.day AND f.address = new.address
           AND f.verifier = new.verifier AND f.network = new.network) AS told
       FROM new)
     INSERT INTO forged (domain, day, address, verifier, network, answers, first, last)
     SELECT domain, day, iif(told, address, ''), iif(told, verifier, ''), iif(told, network, ''), answers,
       first, last FROM placed WHERE true
     ON CONFLICT DO UPDATE SET answers = answers + excluded.answers, first = min(first, excluded.first),
       last = max(last, excluded.last)";

/// Rows as one JSON document.
fn document(rows: &[ForgedRow]) -> String {
    let row = |row: &ForgedRow| {
        let (first, last) = (seconds(row.first), seconds(row.last));
        let answers = i64::try_from(row.answers).unwrap_or(i64::MAX);
        serde_json::json!([row.domain, last / DAY, row.address, row.verifier, row.network, answers, first, last])
    };
    serde_json::Value::Array(rows.iter().map(row).collect()).to_string()
}

fn read(row: &Row<'_>) -> Result<ForgedRow, Fault> {
    Ok(ForgedRow {
        domain: row.get("domain")?,
        address: row.get("address")?,
        verifier: row.get("verifier")?,
        network: row.get("network")?,
        answers: u64::try_from(row.get::<_, i64>("answers")?).unwrap_or_default(),
        first: time(row.get("first")?),
        last: time(row.get("last")?),
    })
}
