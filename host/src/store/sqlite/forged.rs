//! INVALIDKEY answers, counted in SQLite.

use std::time::SystemTime;

use async_trait::async_trait;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::SqliteKeys;
use crate::store::{Error, ForgedRow, Forgeries, seconds, time};

/// A day of the table, in seconds.
const DAY: i64 = 86_400;
/// Rows written by one statement.
const ROWS_AT_ONCE: usize = 1_000;

#[async_trait]
impl Forgeries for SqliteKeys {
    async fn count_forged(&self, rows: &[ForgedRow], most: u64) -> Result<(), Error> {
        let failed = |e| self.0.failed(e);
        let mut work = self.0.writer().begin_with("BEGIN IMMEDIATE").await.map_err(failed)?;
        for part in rows.chunks(ROWS_AT_ONCE) {
            let held: i64 =
                sqlx::query_scalar("SELECT count(*) FROM forged").fetch_one(&mut *work).await.map_err(failed)?;
            let room = most.saturating_sub(u64::try_from(held).unwrap_or_default());
            let full = u64::try_from(part.len()).is_ok_and(|rows| rows > room);
            sqlx::query(
                "WITH new AS (
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
                   last = max(last, excluded.last)",
            )
            .bind(document(part))
            .bind(full)
            .execute(&mut *work)
            .await
            .map_err(failed)?;
        }
        work.commit().await.map_err(failed)?;
        self.0.in_place()
    }

    async fn forged(&self, domain: Option<&str>, since: SystemTime) -> Result<Vec<ForgedRow>, Error> {
        sqlx::query(
            "SELECT domain, address, verifier, network, sum(answers) AS answers, min(first) AS first, max(last) AS last
             FROM forged WHERE day >= ?1 AND last >= ?2 AND (?3 IS NULL OR domain = ?3)
             GROUP BY domain, address, verifier, network ORDER BY sum(answers) DESC, domain, address, verifier, network",
        )
        .bind(seconds(since) / DAY)
        .bind(seconds(since))
        .bind(domain)
        .fetch_all(self.0.readers())
        .await
        .and_then(|rows| rows.iter().map(read).collect())
        .map_err(|e| self.0.failed(e))
    }

    async fn sweep_forged(&self, before: SystemTime) -> Result<u64, Error> {
        sqlx::query("DELETE FROM forged WHERE day < ?")
            .bind(seconds(before) / DAY)
            .execute(self.0.writer())
            .await
            .map(|done| done.rows_affected())
            .map_err(|e| self.0.failed(e))
    }
}

/// Rows as one JSON document.
fn document(rows: &[ForgedRow]) -> String {
    let row = |row: &ForgedRow| {
        let (first, last) = (seconds(row.first), seconds(row.last));
        let answers = i64::try_from(row.answers).unwrap_or(i64::MAX);
        serde_json::json!([row.domain, last / DAY, row.address, row.verifier, row.network, answers, first, last])
    };
    serde_json::Value::Array(rows.iter().map(row).collect()).to_string()
}

fn read(row: &SqliteRow) -> Result<ForgedRow, sqlx::Error> {
    Ok(ForgedRow {
        domain: row.try_get("domain")?,
        address: row.try_get("address")?,
        verifier: row.try_get("verifier")?,
        network: row.try_get("network")?,
        answers: u64::try_from(row.try_get::<i64, _>("answers")?).unwrap_or_default(),
        first: time(row.try_get("first")?),
        last: time(row.try_get("last")?),
    })
}
