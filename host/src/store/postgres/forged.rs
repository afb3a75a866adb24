//! INVALIDKEY answers, counted in PostgreSQL.

use std::time::SystemTime;

use async_trait::async_trait;
use sqlx::Row;
use sqlx::postgres::PgRow;

use super::{Fault, Line, PostgresKeys, count};
use crate::store::{Error, ForgedRow, Forgeries, seconds, time};

/// A day of the table, in seconds.
const DAY: i64 = 86_400;
/// Rows written by one statement.
const ROWS_AT_ONCE: usize = 1_000;

#[async_trait]
impl Forgeries for PostgresKeys {
    async fn count_forged(&self, rows: &[ForgedRow], most: u64) -> Result<(), Error> {
        let work = || async {
            let mut work = self.0.begin().await?;
            for part in rows.chunks(ROWS_AT_ONCE) {
                let held: i64 =
                    sqlx::query_scalar("SELECT count(*) FROM addrauth.forged").fetch_one(&mut *work).await?;
                let full = u64::try_from(part.len()).is_ok_and(|rows| rows > most.saturating_sub(count(held)));
                add(&mut work, part, full).await?;
            }
            self.0.commit(work).await
        };
        self.0.sweep(work).await
    }

    async fn forged(&self, domain: Option<&str>, since: SystemTime) -> Result<Vec<ForgedRow>, Error> {
        let work = || async {
            let mut line = self.0.line().await?;
            let rows = sqlx::query(
                "SELECT domain, address, verifier, network, sum(answers)::bigint AS answers, min(first) AS first,
                   max(last) AS last
                 FROM addrauth.forged WHERE day >= $1 AND last >= $2 AND ($3::text IS NULL OR domain = $3)
                 GROUP BY domain, address, verifier, network
                 ORDER BY sum(answers) DESC, domain, address, verifier, network",
            )
            .bind(seconds(since) / DAY)
            .bind(seconds(since))
            .bind(domain)
            .fetch_all(&mut *line)
            .await?;
            self.0.rest(line);
            Ok(rows.iter().map(read).collect::<Result<_, _>>()?)
        };
        self.0.scan(work).await
    }

    async fn sweep_forged(&self, before: SystemTime) -> Result<u64, Error> {
        let work = || async {
            let mut work = self.0.begin().await?;
            let swept = sqlx::query("DELETE FROM addrauth.forged WHERE day < $1")
                .bind(seconds(before) / DAY)
                .execute(&mut *work)
                .await?
                .rows_affected();
            self.0.commit(work).await?;
            Ok(swept)
        };
        self.0.sweep(work).await
    }
}

/// Adds rows to their days; `full`: those that have no row yet are counted for their domain alone.
async fn add(work: &mut Line, part: &[ForgedRow], full: bool) -> Result<(), Fault> {
    // A verifier says of itself what it likes, and PostgreSQL keeps no NUL.
    let text = |text: &str| text.replace('\0', "");
    let texts = |field: fn(&ForgedRow) -> &str| part.iter().map(|row| text(field(row))).collect::<Vec<_>>();
    let numbers = |field: fn(&ForgedRow) -> i64| part.iter().map(field).collect::<Vec<_>>();
    sqlx::query(
        "WITH new AS (
           SELECT * FROM unnest($1::text[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::bigint[],
             $8::bigint[]) t (domain, day, address, verifier, network, answers, first, last)),
         placed AS (
           SELECT new.*, NOT $9 OR EXISTS (
             SELECT 1 FROM addrauth.forged f WHERE f.domain = new.domain AND f.day = new.day AND f.address = new.address
               AND f.verifier = new.verifier AND f.network = new.network) AS told
           FROM new),
         named AS (
           SELECT domain, day, CASE WHEN told THEN address ELSE '' END AS address,
             CASE WHEN told THEN verifier ELSE '' END AS verifier, CASE WHEN told THEN network ELSE '' END AS network,
             answers, first, last FROM placed)
         INSERT INTO addrauth.forged (domain, day, address, verifier, network, answers, first, last)
         SELECT domain, day, address, verifier, network, sum(answers)::bigint, min(first), max(last) FROM named
         GROUP BY domain, day, address, verifier, network
         ORDER BY domain COLLATE \"C\", day, address COLLATE \"C\", verifier COLLATE \"C\", network COLLATE \"C\"
         ON CONFLICT (domain, day, address, verifier, network) DO UPDATE SET
           answers = forged.answers + excluded.answers, first = least(forged.first, excluded.first),
           last = greatest(forged.last, excluded.last)",
    )
    .bind(texts(|row| &row.domain))
    .bind(numbers(|row| seconds(row.last) / DAY))
    .bind(texts(|row| &row.address))
    .bind(texts(|row| &row.verifier))
    .bind(texts(|row| &row.network))
    .bind(numbers(|row| i64::try_from(row.answers).unwrap_or(i64::MAX)))
    .bind(numbers(|row| seconds(row.first)))
    .bind(numbers(|row| seconds(row.last)))
    .bind(full)
    .execute(&mut **work)
    .await?;
    Ok(())
}

fn read(row: &PgRow) -> Result<ForgedRow, sqlx::Error> {
    Ok(ForgedRow {
        domain: row.try_get("domain")?,
        address: row.try_get("address")?,
        verifier: row.try_get("verifier")?,
        network: row.try_get("network")?,
        answers: count(row.try_get("answers")?),
        first: time(row.try_get("first")?),
        last: time(row.try_get("last")?),
    })
}
