//! The addresses that get keys in time, in SQLite.

use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::SqliteKeys;
use crate::store::{Addresses, Error, SettingsRow, seconds, time};

/// Rows written by one statement: the document that carries them stays small.
const ROWS_AT_ONCE: usize = 1_000;

#[async_trait]
impl Addresses for SqliteKeys {
    async fn enlist(&self, rows: &[SettingsRow], progress: &mut (dyn FnMut(usize) + Send)) -> Result<u64, Error> {
        let failed = |e| self.0.failed(e);
        let mut work = self.0.writer().begin_with("BEGIN IMMEDIATE").await.map_err(failed)?;
        let count = "SELECT count(*) FROM settings";
        let before: i64 = sqlx::query_scalar(count).fetch_one(&mut *work).await.map_err(failed)?;
        let mut written = 0;
        for part in rows.chunks(ROWS_AT_ONCE) {
            // `WHERE true`: without it SQLite would read ON CONFLICT as the ON of a join.
            sqlx::query(
                "INSERT INTO settings (address, domain, agi, avt, created, due)
                 SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5
                 FROM json_each(?) WHERE true
                 ON CONFLICT (address) DO UPDATE SET
                   due = CASE WHEN excluded.agi IS NULL OR excluded.agi IS agi THEN due ELSE excluded.due END,
                   agi = coalesce(excluded.agi, agi),
                   avt = coalesce(excluded.avt, avt)",
            )
            .bind(document(part))
            .execute(&mut *work)
            .await
            .map_err(failed)?;
            written += part.len();
            progress(written);
        }
        let after: i64 = sqlx::query_scalar(count).fetch_one(&mut *work).await.map_err(failed)?;
        work.commit().await.map_err(failed)?;
        self.0.in_place()?;
        Ok(u64::try_from(after - before).unwrap_or_default())
    }

    async fn set(&self, row: &SettingsRow) -> Result<bool, Error> {
        let done = sqlx::query("UPDATE settings SET agi = ?, avt = ?, due = ? WHERE address = ?")
            .bind(row.agi.map(whole))
            .bind(row.avt.map(whole))
            .bind(seconds(row.due))
            .bind(&row.address)
            .execute(self.0.writer())
            .await
            .map_err(|e| self.0.failed(e))?;
        self.0.in_place()?;
        Ok(done.rows_affected() > 0)
    }

    async fn strike(&self, addresses: &[String], at: SystemTime) -> Result<u64, Error> {
        let failed = |e| self.0.failed(e);
        let mut work = self.0.writer().begin_with("BEGIN IMMEDIATE").await.map_err(failed)?;
        let mut ended = 0;
        for address in addresses {
            let struck = sqlx::query("DELETE FROM settings WHERE address = ?").bind(address);
            if struck.execute(&mut *work).await.map_err(failed)?.rows_affected() == 0 {
                return Err(Error::NotEnlisted { address: address.clone() });
            }
            ended +=
                sqlx::query("UPDATE keys SET revoked = ?1 WHERE address = ?2 AND revoked IS NULL AND expires > ?1")
                    .bind(seconds(at))
                    .bind(address)
                    .execute(&mut *work)
                    .await
                    .map_err(failed)?
                    .rows_affected();
        }
        work.commit().await.map_err(failed)?;
        self.0.in_place()?;
        Ok(ended)
    }

    async fn settings(&self, address: &str) -> Result<Option<SettingsRow>, Error> {
        self.0.in_place()?;
        sqlx::query("SELECT address, agi, avt, created, due FROM settings WHERE address = ?")
            .bind(address)
            .fetch_optional(self.0.readers())
            .await
            .and_then(|row| row.as_ref().map(read).transpose())
            .map_err(|e| self.0.failed(e))
    }

    async fn enlisted(&self, domain: Option<&str>) -> Result<Vec<SettingsRow>, Error> {
        sqlx::query(
            "SELECT address, agi, avt, created, due FROM settings WHERE ?1 IS NULL OR domain = ?1
             ORDER BY domain, address",
        )
        .bind(domain)
        .fetch_all(self.0.readers())
        .await
        .and_then(|rows| rows.iter().map(read).collect())
        .map_err(|e| self.0.failed(e))
    }

    async fn due(&self, domains: &[String], now: SystemTime, most: u32) -> Result<Vec<SettingsRow>, Error> {
        // `+`: the index by turn is the one to use, however few domains there are.
        sqlx::query(
            "SELECT address, agi, avt, created, due FROM settings
             WHERE due <= ? AND +domain IN (SELECT value FROM json_each(?)) ORDER BY due, address LIMIT ?",
        )
        .bind(seconds(now))
        .bind(serde_json::Value::from(domains).to_string())
        .bind(most)
        .fetch_all(self.0.readers())
        .await
        .and_then(|rows| rows.iter().map(read).collect())
        .map_err(|e| self.0.failed(e))
    }

    async fn turns_per_second(&self, agi: Duration) -> Result<f64, Error> {
        sqlx::query_scalar("SELECT coalesce(sum(1.0 / max(1, coalesce(agi, ?))), 0.0) FROM settings")
            .bind(whole(agi))
            .fetch_one(self.0.readers())
            .await
            .map_err(|e| self.0.failed(e))
    }
}

/// Rows as one JSON document: one statement then writes them all.
fn document(rows: &[SettingsRow]) -> String {
    let row = |row: &SettingsRow| {
        let domain = row.address.rsplit_once('@').map_or("", |(_, domain)| domain);
        serde_json::json!([
            row.address,
            domain,
            row.agi.map(whole),
            row.avt.map(whole),
            seconds(row.created),
            seconds(row.due)
        ])
    };
    serde_json::Value::Array(rows.iter().map(row).collect()).to_string()
}

/// A duration in whole seconds.
fn whole(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

fn read(row: &SqliteRow) -> Result<SettingsRow, sqlx::Error> {
    let duration = |name| -> Result<Option<Duration>, sqlx::Error> {
        let seconds: Option<i64> = row.try_get(name)?;
        Ok(seconds.map(|seconds| Duration::from_secs(u64::try_from(seconds).unwrap_or_default())))
    };
    Ok(SettingsRow {
        address: row.try_get("address")?,
        agi: duration("agi")?,
        avt: duration("avt")?,
        created: time(row.try_get("created")?),
        due: time(row.try_get("due")?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::address::Mailbox;
    use crate::store::plan::{self, Plan};
    use crate::store::{Keys, Opening};

    fn named(address: &str) -> Mailbox {
        Mailbox::parse(address).unwrap()
    }

    const OPENING: Opening = Opening { busy: Duration::from_secs(2), readers: 2 };

    fn row(address: &str, agi: Option<u64>, due: i64) -> SettingsRow {
        let agi = agi.map(Duration::from_secs);
        SettingsRow { address: address.into(), agi, avt: None, created: time(100), due: time(due) }
    }

    #[tokio::test]
    async fn a_database_of_the_first_version_keeps_its_keys() {
        let dir = tempfile::tempdir().unwrap();
        let first = Plan { steps: &[include_str!("../schema/authority.1.sql")], ..plan::AUTHORITY };
        let old = super::super::Database::open(dir.path(), first, OPENING).await.unwrap();
        sqlx::raw_sql(
            "INSERT INTO addresses VALUES ('a@example.com', 3);
             INSERT INTO keys VALUES ('a@example.com', 3, zeroblob(32), 100, 900, NULL)",
        )
        .execute(old.writer())
        .await
        .unwrap();
        old.close().await;
        let table = SqliteKeys::open(dir.path(), OPENING).await.unwrap();
        let rows = table.of(&named("a@example.com")).await.unwrap();
        assert_eq!((rows.len(), rows[0].generation, rows[0].expires), (1, 3, time(900)));
        assert!(table.enlisted(None).await.unwrap().is_empty());
        assert_eq!(table.enlist(&[row("a@example.com", None, 300)], &mut |_| {}).await.unwrap(), 1);
        assert_eq!(table.add(&named("a@example.com"), &rows[0].k, time(200), time(950), 4).await.unwrap(), 4);
    }
}
