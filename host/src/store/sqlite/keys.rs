//! The AS's keys in SQLite.

use std::time::SystemTime;

use async_trait::async_trait;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};

use super::{SqliteKeys, posts};
use crate::proto::key::VerifyKey;
use crate::store::{Added, Error, KeyRow, Keys, NewKey, RunningOut, folded, seconds, time};

#[async_trait]
impl Keys for SqliteKeys {
    async fn add_all(&self, keys: &[NewKey], most: usize) -> Result<Vec<Added>, Error> {
        let failed = |e| self.0.failed(e);
        let mut work = self.0.writer().begin_with("BEGIN IMMEDIATE").await.map_err(failed)?;
        let mut added = Vec::with_capacity(keys.len());
        for key in keys {
            added.push(add_one(&mut work, key, most).await.map_err(failed)?);
        }
        work.commit().await.map_err(failed)?;
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
        work.commit().await.map_err(failed)
    }

    async fn of(&self, address: &str) -> Result<Vec<KeyRow>, Error> {
        sqlx::query(
            "SELECT address, generation, k, created, expires, revoked FROM keys WHERE address = ?
             ORDER BY generation DESC",
        )
        .bind(folded(address).unwrap_or_default())
        .fetch_all(self.0.readers())
        .await
        .and_then(|rows| rows.iter().map(read).collect())
        .map_err(|e| self.0.failed(e))
    }

    async fn revoke(&self, address: &str, generations: &[i64], at: SystemTime) -> Result<u64, Error> {
        let address = folded(address).unwrap_or_default();
        let failed = |e| self.0.failed(e);
        let mut work = self.0.writer().begin_with("BEGIN IMMEDIATE").await.map_err(failed)?;
        let mut marked = 0;
        for generation in generations {
            marked +=
                sqlx::query("UPDATE keys SET revoked = ? WHERE address = ? AND generation = ? AND revoked IS NULL")
                    .bind(seconds(at))
                    .bind(&address)
                    .bind(generation)
                    .execute(&mut *work)
                    .await
                    .map_err(failed)?
                    .rows_affected();
        }
        work.commit().await.map_err(failed)?;
        Ok(marked)
    }

    async fn running_out(&self, now: SystemTime, soon: SystemTime) -> Result<RunningOut, Error> {
        let row = sqlx::query(
            "SELECT count(*), coalesce(sum(ends <= ?1), 0), coalesce(sum(ends > ?1 AND ends <= ?2), 0) FROM
             (SELECT coalesce(max(expires), 0) AS ends FROM addresses
              LEFT JOIN keys ON keys.address = addresses.address AND revoked IS NULL GROUP BY addresses.address)",
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
        sqlx::query("UPDATE keys SET expires = ?1 WHERE address = ?2 AND revoked IS NULL AND expires > ?1")
            .bind(seconds(end))
            .bind(&key.address)
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::store::Opening;

    const OPENING: Opening = Opening { busy: Duration::from_secs(2), readers: 2 };

    fn at(seconds: i64) -> SystemTime {
        time(seconds)
    }

    #[tokio::test]
    async fn addresses_whose_keys_run_out_are_counted() {
        let dir = tempfile::tempdir().unwrap();
        let table = SqliteKeys::open(dir.path(), OPENING).await.unwrap();
        let at = |seconds: u64| time(1_000_000 + i64::try_from(seconds).unwrap());
        let none = table.running_out(at(0), at(100)).await.unwrap();
        assert_eq!(none, RunningOut { addresses: 0, without: 0, soon: 0 });
        let k = VerifyKey::from_octets([7; 32]);
        for (address, ends) in
            [("a@x.test", 50), ("b@x.test", 500), ("b@x.test", 60), ("c@x.test", 5), ("d@x.test", 500)]
        {
            table.add(address, &k, at(0), at(ends), 64).await.unwrap();
        }
        table.revoke("d@x.test", &[1], at(1)).await.unwrap();
        let found = table.running_out(at(10), at(100)).await.unwrap();
        assert_eq!(found, RunningOut { addresses: 4, without: 2, soon: 1 });
    }

    #[tokio::test]
    async fn generations_go_on_counting_after_a_sweep() {
        let dir = tempfile::tempdir().unwrap();
        let table = SqliteKeys::open(dir.path(), OPENING).await.unwrap();
        let k = VerifyKey::from_octets([7; 32]);
        assert_eq!(table.add("Alice+x@Example.com", &k, at(100), at(200), 4).await.unwrap(), 1);
        assert_eq!(table.add("alice@example.com", &k, at(150), at(250), 4).await.unwrap(), 2);
        assert_eq!(table.sweep(at(200)).await.unwrap(), 0);
        assert_eq!(table.sweep(at(201)).await.unwrap(), 1);
        assert_eq!(table.sweep(at(900)).await.unwrap(), 1);
        assert!(table.of("alice@example.com").await.unwrap().is_empty());
        assert_eq!(table.add("ALICE@example.com", &k, at(900), at(999), 4).await.unwrap(), 3);
        let rows = table.of("alice+y@example.com").await.unwrap();
        assert_eq!((rows.len(), rows[0].generation, rows[0].expires), (1, 3, at(999)));
        assert!(rows[0].k == k);
    }

    #[tokio::test]
    async fn living_keys_are_bounded_and_revoking_makes_room() {
        let dir = tempfile::tempdir().unwrap();
        let table = SqliteKeys::open(dir.path(), OPENING).await.unwrap();
        let k = VerifyKey::from_octets([7; 32]);
        for _ in 0..3 {
            table.add("a@example.com", &k, at(100), at(200), 3).await.unwrap();
        }
        let error = table.add("a@example.com", &k, at(100), at(200), 3).await.unwrap_err();
        assert!(matches!(error, Error::TooManyKeys { count: 3, .. }), "{error}");
        assert_eq!(table.revoke("a@example.com", &[2, 9], at(110)).await.unwrap(), 1);
        assert_eq!(table.revoke("a@example.com", &[2], at(120)).await.unwrap(), 0);
        assert_eq!(table.of("a@example.com").await.unwrap()[1].revoked, Some(at(110)));
        table.add("a@example.com", &k, at(120), at(200), 3).await.unwrap();
    }

    #[tokio::test]
    async fn a_closed_table_is_an_error_and_no_panic() {
        let dir = tempfile::tempdir().unwrap();
        let table = SqliteKeys::open(dir.path(), OPENING).await.unwrap();
        table.close().await;
        assert!(table.of("a@example.com").await.is_err());
    }
}
