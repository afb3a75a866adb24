//! The addresses that get keys in time, in PostgreSQL.

use std::collections::HashSet;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use sqlx::Row;
use sqlx::postgres::PgRow;

use super::database::{CONFLICTS, Database};
use super::keys::lock_settings;
use super::{Fault, Line, PostgresKeys, SCAN, rounds};
use crate::store::{Addresses, Error, SettingsRow, seconds, time};

/// Rows written by one statement: a message of some 500 KB.
const ROWS_AT_ONCE: usize = 5_000;

#[async_trait]
impl Addresses for PostgresKeys {
    async fn enlist(&self, rows: &[SettingsRow], progress: &mut (dyn FnMut(usize) + Send)) -> Result<u64, Error> {
        for _ in 1..CONFLICTS {
            match put_all_in(&self.0, rows, progress).await {
                Err(fault) if fault.is_conflict() => {}
                other => return other.map_err(|fault| fault.told(self.0.name())),
            }
        }
        put_all_in(&self.0, rows, progress).await.map_err(|fault| fault.told(self.0.name()))
    }

    async fn set(&self, row: &SettingsRow) -> Result<bool, Error> {
        let work = || async {
            let mut work = self.0.begin().await?;
            let done = sqlx::query("UPDATE addrauth.settings SET agi = $1, avt = $2, due = $3 WHERE address = $4")
                .bind(row.agi.map(whole))
                .bind(row.avt.map(whole))
                .bind(seconds(row.due))
                .bind(&row.address)
                .execute(&mut *work)
                .await?;
            self.0.commit(work).await?;
            Ok(done.rows_affected() > 0)
        };
        self.0.write(work).await
    }

    async fn strike(&self, addresses: &[String], at: SystemTime) -> Result<u64, Error> {
        let names: Vec<&str> = addresses.iter().map(String::as_str).collect();
        let work = || async {
            let mut work = self.0.begin().await?;
            let mut there: HashSet<String> = lock_settings(&mut work, &names).await?.into_iter().collect();
            if let Some(address) = addresses.iter().find(|address| !there.remove(*address)) {
                return Err(Fault::Known(Error::NotEnlisted { address: address.clone() }));
            }
            sqlx::query("DELETE FROM addrauth.settings WHERE address = ANY ($1)")
                .bind(&names)
                .execute(&mut *work)
                .await?;
            let ended = sqlx::query(
                "UPDATE addrauth.keys SET revoked = $1 WHERE address = ANY ($2) AND revoked IS NULL AND expires > $1",
            )
            .bind(seconds(at))
            .bind(&names)
            .execute(&mut *work)
            .await?
            .rows_affected();
            self.0.commit(work).await?;
            Ok(ended)
        };
        self.0.sweep(work).await
    }

    async fn settings(&self, address: &str) -> Result<Option<SettingsRow>, Error> {
        let work = || async {
            let mut line = self.0.line().await?;
            let row = sqlx::query("SELECT address, agi, avt, created, due FROM addrauth.settings WHERE address = $1")
                .bind(address)
                .fetch_optional(&mut *line)
                .await?;
            self.0.rest(line);
            Ok(row.as_ref().map(read).transpose()?)
        };
        self.0.read(work).await
    }

    async fn enlisted(&self, domain: Option<&str>) -> Result<Vec<SettingsRow>, Error> {
        let work = || async {
            let mut line = self.0.line().await?;
            let rows = sqlx::query(
                "SELECT address, agi, avt, created, due FROM addrauth.settings WHERE $1::text IS NULL OR domain = $1
                 ORDER BY domain, address",
            )
            .bind(domain)
            .fetch_all(&mut *line)
            .await?;
            self.0.rest(line);
            Ok(rows.iter().map(read).collect::<Result<_, _>>()?)
        };
        self.0.scan(work).await
    }

    async fn due(&self, domains: &[String], now: SystemTime, most: u32) -> Result<Vec<SettingsRow>, Error> {
        let work = || async {
            let mut line = self.0.line().await?;
            let rows = sqlx::query(
                "SELECT address, agi, avt, created, due FROM addrauth.settings WHERE due <= $1 AND domain = ANY ($3)
                 ORDER BY due, address LIMIT $2",
            )
            .bind(seconds(now))
            .bind(i64::from(most))
            .bind(domains)
            .fetch_all(&mut *line)
            .await?;
            self.0.rest(line);
            Ok(rows.iter().map(read).collect::<Result<_, _>>()?)
        };
        self.0.read(work).await
    }

    async fn turns_per_second(&self, agi: Duration) -> Result<f64, Error> {
        let work = || async {
            let mut line = self.0.line().await?;
            let rate = sqlx::query_scalar(
                "SELECT coalesce(sum(1.0::float8 / greatest(1, coalesce(agi, $1))), 0.0::float8) FROM addrauth.settings",
            )
            .bind(whole(agi))
            .fetch_one(&mut *line)
            .await?;
            self.0.rest(line);
            Ok(rate)
        };
        self.0.scan(work).await
    }
}

/// Puts in all addresses, or none; how many are new. Each statement has its own time: a million rows take as long as they
/// take.
async fn put_all_in(
    database: &Database,
    rows: &[SettingsRow],
    progress: &mut (dyn FnMut(usize) + Send),
) -> Result<u64, Fault> {
    let (mut new, mut written) = (0, 0);
    let mut work = database.part(database.busy(), database.begin()).await?;
    for round in rounds(rows, |row| &row.address) {
        for part in round.chunks(ROWS_AT_ONCE) {
            new += database.part(SCAN, put_in(&mut work, part)).await?;
            written += part.len();
            progress(written);
        }
    }
    database.part(SCAN, database.commit(work)).await?;
    Ok(new)
}

/// Puts in addresses that differ; how many are new. Those that are in already get what their rows name.
async fn put_in(work: &mut Line, part: &[(usize, &SettingsRow)]) -> Result<u64, Fault> {
    let rows = || part.iter().map(|(_, row)| *row);
    let domain =
        |row: &SettingsRow| row.address.rsplit_once('@').map(|(_, domain)| domain.to_owned()).unwrap_or_default();
    let addresses: Vec<&str> = rows().map(|row| row.address.as_str()).collect();
    let agis: Vec<Option<i64>> = rows().map(|row| row.agi.map(whole)).collect();
    let avts: Vec<Option<i64>> = rows().map(|row| row.avt.map(whole)).collect();
    let dues: Vec<i64> = rows().map(|row| seconds(row.due)).collect();
    let new = sqlx::query(
        "INSERT INTO addrauth.settings (address, domain, agi, avt, created, due)
         SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[])
         ON CONFLICT (address) DO NOTHING",
    )
    .bind(&addresses)
    .bind(rows().map(domain).collect::<Vec<_>>())
    .bind(&agis)
    .bind(&avts)
    .bind(rows().map(|row| seconds(row.created)).collect::<Vec<_>>())
    .bind(&dues)
    .execute(&mut **work)
    .await?
    .rows_affected();
    let named = agis.iter().chain(&avts).any(Option::is_some);
    if named && usize::try_from(new).is_ok_and(|new| new < part.len()) {
        lock_settings(work, &addresses).await?;
        // For a row that was put in just now nothing changes.
        sqlx::query(
            "UPDATE addrauth.settings s SET
               due = CASE WHEN t.agi IS NULL OR t.agi IS NOT DISTINCT FROM s.agi THEN s.due ELSE t.due END,
               agi = coalesce(t.agi, s.agi), avt = coalesce(t.avt, s.avt)
             FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[]) t (address, agi, avt, due)
             WHERE s.address = t.address
               AND (s.agi, s.avt) IS DISTINCT FROM (coalesce(t.agi, s.agi), coalesce(t.avt, s.avt))",
        )
        .bind(&addresses)
        .bind(&agis)
        .bind(&avts)
        .bind(&dues)
        .execute(&mut **work)
        .await?;
    }
    Ok(new)
}

/// A duration in whole seconds.
fn whole(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

fn read(row: &PgRow) -> Result<SettingsRow, sqlx::Error> {
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
