//! The log of changes in PostgreSQL. Transactions commit in another order than that of the numbers that their rows got, so a
//! look also tells of rows with lower numbers that the snapshot of the look before did not see.

use async_trait::async_trait;
use sqlx::Row;
use sqlx::postgres::PgRow;

use super::{Fault, PostgresKeys};
use crate::store::changes::TOLD;
use crate::store::{Changed, Changes, Error, LogPlace, Look};

/// One row where nothing changed, and one for each address otherwise; all of it by one snapshot, which it tells.
const LOOK: &str = "
    WITH here AS (
        SELECT pg_current_snapshot()::text AS snapshot, seq, mark,
               (SELECT min(seq) FROM addrauth.changes) AS oldest,
               EXISTS (SELECT 1 FROM addrauth.changes WHERE seq = $1 AND mark = $2) AS goes_on
        FROM addrauth.changes ORDER BY seq DESC LIMIT 1)
    SELECT here.*, later.address FROM here LEFT JOIN (
        SELECT address FROM addrauth.changes
        WHERE seq > $1 OR (made_by >= pg_snapshot_xmin($3::pg_snapshot)
                           AND NOT pg_visible_in_snapshot(made_by, $3::pg_snapshot))
        LIMIT $4) later ON here.goes_on";
/// What every transaction of a cluster comes after: where there was no look before.
const BEFORE_ALL: &str = "3:3:";

#[async_trait]
impl Changes for PostgresKeys {
    fn reads_at_once(&self) -> bool {
        false
    }

    async fn changes(&self, since: Option<&LogPlace>) -> Result<Look, Error> {
        let look = || async {
            let mut line = self.0.line().await?;
            let (seq, mark) = since.map_or((i64::MAX, 0), |since| since.newest);
            let rows = sqlx::query(LOOK)
                .bind(seq)
                .bind(mark)
                .bind(since.map_or(BEFORE_ALL, |since| since.snapshot.as_str()))
                .bind(i64::try_from(TOLD + 1).unwrap_or(i64::MAX))
                .fetch_all(&mut *line)
                .await?;
            self.0.rest(line);
            read(since, &rows)
        };
        self.0.read(look).await
    }

    async fn trim_changes(&self, most: u64) -> Result<u64, Error> {
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let work = || async {
            let mut work = self.0.begin().await?;
            let trimmed = sqlx::query(
                "DELETE FROM addrauth.changes WHERE seq < (SELECT max(seq) - $1 / 2 FROM addrauth.changes
                 HAVING max(seq) - min(seq) >= $1)",
            )
            .bind(most)
            .execute(&mut *work)
            .await?
            .rows_affected();
            self.0.commit(work).await?;
            Ok(trimmed)
        };
        self.0.sweep(work).await
    }
}

fn read(since: Option<&LogPlace>, rows: &[PgRow]) -> Result<Look, Fault> {
    let here = rows.first().ok_or(sqlx::Error::RowNotFound)?;
    let place = LogPlace {
        newest: (here.try_get("seq")?, here.try_get("mark")?),
        oldest: here.try_get("oldest")?,
        snapshot: here.try_get("snapshot")?,
        commits: None,
    };
    // Where old rows were deleted since, one that was committed late may have been among them.
    let goes_on = here.try_get("goes_on")? && since.is_some_and(|since| since.oldest == place.oldest);
    let mut addresses = Vec::new();
    for row in rows {
        addresses.extend(row.try_get::<Option<String>, _>("address")?);
    }
    let changed = if goes_on && addresses.len() <= TOLD { Changed::Of(addresses) } else { Changed::Anybodys };
    Ok(Look { place, changed })
}
