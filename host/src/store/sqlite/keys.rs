//! The AS's keys in SQLite.

use std::time::SystemTime;

use async_trait::async_trait;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};

use super::{SqliteKeys, posts};
use crate::proto::address::Mailbox;
use crate::proto::key::VerifyKey;
use crate::store::{Added, Error, KeyRow, Keys, NewKey, RunningOut, seconds, time};

#[async_trait]
impl Keys for SqliteKeys {
    async fn add_all(&self, keys: &[NewKey], most: usize) -> Result<Vec<Added>, Error> {
        self.0.in_place()?;
        let failed = |e| self.0.failed(e);
        let mut work = self.0.writer().begin_with("BEGIN IMMEDIATE").await.map_err(failed)?;
        let mut added = Vec::with_capacity(keys.len());
        for key in keys {
            added.push(add_one(&mut work, key, most).await.map_err(failed)?);
        }
        work.commit().await.map_err(failed)?;
        self.0.in_place()?;
        Ok(added)
    }

    async fn take_back(&self, keys: &[(String, i64)], at: SystemTime) -> Result<(), Error> {
        let failed = |e| self.0.failed(e);
        let mut work = self.0.writer().begin_with("BEGIN IMMEDIATE").await.map_err(failed)?;
        for (address, generation) in keys {
            sqlx::query("UPDATE keys SET revoked = ? WHERE address = ? AND generation = ? AND revoked IS NULL")
                .bind(seconds(at))
                .bind(address)
                .bind(generation)
                .execute(&mut *work)
                .await
                .map_err(failed)?;
            sqlx::query("UPDATE settings SET due = min(due, ?) WHERE address = ?")
                .bind(seconds(at))
                .bind(address)
                .execute(&mut *work)
                .await
                .map_err(failed)?;
        }
        work.commit().await.map_err(failed)?;
        self.0.in_place()
    }

    async fn of_all(&self, addresses: &[String]) -> Result<Vec<KeyRow>, Error> {
        self.0.in_place()?;
        sqlx::query(
            "SELECT address, generation, k, created, expires, revoked FROM keys
             WHERE address IN (SELECT value FROM json_each(?)) ORDER BY address, generation DESC",
        )
        .bind(serde_json::Value::from(addresses).to_string())
        .fetch_all(self.0.readers())
        .await
        .and_then(|rows| rows.iter().map(read).collect())
        .map_err(|e| self.0.failed(e))
    }

    async fn revoke(&self, address: &Mailbox, generations: &[i64], at: SystemTime) -> Result<u64, Error> {
        self.0.in_place()?;
        let address = address.as_str();
        let failed = |e| self.0.failed(e);
        let mut work = self.0.writer().begin_with("BEGIN IMMEDIATE").await.map_err(failed)?;
        let mut marked = 0;
        for generation in generations {
            marked +=
                sqlx::query("UPDATE keys SET revoked = ? WHERE address = ? AND generation = ? AND revoked IS NULL")
                    .bind(seconds(at))
                    .bind(address)
                    .bind(generation)
                    .execute(&mut *work)
                    .await
                    .map_err(failed)?
                    .rows_affected();
        }
        if marked > 0 {
            sqlx::query(
                "UPDATE settings SET due = min(due, ?1) WHERE address = ?2 AND NOT EXISTS
                 (SELECT 1 FROM keys WHERE keys.address = ?2 AND revoked IS NULL AND expires > ?1)",
            )
            .bind(seconds(at))
            .bind(address)
            .execute(&mut *work)
            .await
            .map_err(failed)?;
        }
        work.commit().await.map_err(failed)?;
        self.0.in_place()?;
        Ok(marked)
    }

    async fn running_out(&self, now: SystemTime, soon: SystemTime) -> Result<RunningOut, Error> {
        let row = sqlx::query(
            "SELECT count(*), coalesce(sum(ends <= ?1), 0), coalesce(sum(ends > ?1 AND ends <= ?2), 0) FROM
             (SELECT coalesce(max(expires), 0) AS ends FROM addresses
              LEFT JOIN keys ON keys.address = addresses.address AND revoked IS NULL GROUP BY addresses.address
              HAVING ends > ?1 OR EXISTS (SELECT 1 FROM settings WHERE settings.address = addresses.address))",
        )
        .bind(seconds(now))
        .bind(seconds(soon))
        .fetch_one(self.0.readers())
        .await
        .map_err(|e| self.0.failed(e))?;
        let number = |index: usize| row.try_get::<i64, _>(index).map(|n| u64::try_from(n).unwrap_or_default());
        let read = || Ok(RunningOut { addresses: number(0)?, without: number(1)?, soon: number(2)? });
        read().map_err(|e| self.0.failed(e))
    }

    async fn sweep(&self, before: SystemTime) -> Result<u64, Error> {
        sqlx::query("DELETE FROM keys WHERE min(expires, coalesce(revoked, expires)) < ?")
            .bind(seconds(before))
            .execute(self.0.writer())
            .await
            .map(|done| done.rows_affected())
            .map_err(|e| self.0.failed(e))
    }

    async fn close(&self) {
        self.0.close().await;
    }
}

async fn add_one(work: &mut SqliteConnection, key: &NewKey, most: usize) -> Result<Added, sqlx::Error> {
    let created = seconds(key.created);
    if let Some(turn) = key.turn {
        let moved = sqlx::query("UPDATE settings SET due = ?1 WHERE address = ?2 AND (due <= ?3 OR NOT ?4)")
            .bind(seconds(turn))
            .bind(&key.address)
            .bind(created)
            .bind(key.only_due)
            .execute(&mut *work)
            .await?;
        if key.only_due && moved.rows_affected() == 0 {
            return Ok(Added::NotDue);
        }
    }
    let living: i64 =
        sqlx::query_scalar("SELECT count(*) FROM keys WHERE address = ? AND revoked IS NULL AND expires > ?")
            .bind(&key.address)
            .bind(created)
            .fetch_one(&mut *work)
            .await?;
    let living = usize::try_from(living).unwrap_or(usize::MAX);
    if living >= most {
        return Ok(Added::Full(living));
    }
    if let Some(end) = key.others_end {
        sqlx::query(
            "UPDATE keys SET expires = ?1 WHERE address = ?2 AND revoked IS NULL AND expires > ?1 AND expires <= ?3",
        )
        .bind(seconds(end))
        .bind(&key.address)
        .bind(seconds(key.outlived()))
        .execute(&mut *work)
        .await?;
    }
    let generation: i64 = sqlx::query_scalar(
        "INSERT INTO addresses (address, generation) VALUES (?, 1)
         ON CONFLICT (address) DO UPDATE SET generation = generation + 1 RETURNING generation",
    )
    .bind(&key.address)
    .fetch_one(&mut *work)
    .await?;
    sqlx::query("INSERT INTO keys (address, generation, k, created, expires) VALUES (?, ?, ?, ?, ?)")
        .bind(&key.address)
        .bind(generation)
        .bind(key.k.octets().as_slice())
        .bind(created)
        .bind(seconds(key.expires))
        .execute(&mut *work)
        .await?;
    if let Some(sealed) = &key.post {
        posts::owe(work, key, generation, sealed).await?;
    }
    Ok(Added::Generation(generation))
}

fn read(row: &SqliteRow) -> Result<KeyRow, sqlx::Error> {
    let k: Vec<u8> = row.try_get("k")?;
    let k: [u8; 32] =
        k.try_into().map_err(|_| sqlx::Error::ColumnDecode { index: "k".into(), source: "not 32 octets".into() })?;
    Ok(KeyRow {
        address: row.try_get("address")?,
        generation: row.try_get("generation")?,
        k: VerifyKey::from_octets(k),
        created: time(row.try_get("created")?),
        expires: time(row.try_get("expires")?),
        revoked: row.try_get::<Option<i64>, _>("revoked")?.map(time),
    })
}
