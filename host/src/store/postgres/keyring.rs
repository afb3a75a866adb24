//! The keyring in PostgreSQL. What learns never reads what is sealed: its role may not.

use std::time::SystemTime;

use async_trait::async_trait;
use sqlx::Row;
use sqlx::postgres::PgRow;

use super::{Fault, Line, PostgresKeyring};
use crate::proto::address::Mailbox;
use crate::proto::seal::Sealed;
use crate::store::{Error, KeyAges, Keyring, KeyringRow, Learned, NewestKey, seconds, time};

#[async_trait]
impl Keyring for PostgresKeyring {
    async fn learn(&self, key: &NewestKey) -> Result<Learned, Error> {
        let work = || async {
            let mut work = self.0.begin().await?;
            let learned = learn(&mut work, key).await?;
            self.0.commit(work).await?;
            Ok(learned)
        };
        self.0.write(work).await
    }

    async fn newest(&self, address: &Mailbox) -> Result<Option<NewestKey>, Error> {
        let address = address.as_str();
        let read = |row: PgRow| -> Result<NewestKey, sqlx::Error> {
            Ok(NewestKey {
                address: row.try_get("address")?,
                fingerprint: row.try_get("fingerprint")?,
                sealed: Sealed::from_octets(row.try_get("sealed")?),
                learned: time(row.try_get("learned")?),
                expires: time(row.try_get("expires")?),
            })
        };
        let work = || async {
            let mut line = self.0.line().await?;
            let row = sqlx::query(
                "SELECT address, fingerprint, sealed, learned, expires FROM addrauth.keyring WHERE address = $1 AND present",
            )
            .bind(address)
            .fetch_optional(&mut *line)
            .await?;
            self.0.rest(line);
            Ok(row.map(read).transpose()?)
        };
        self.0.read(work).await
    }

    async fn rows(&self, domain: Option<&str>) -> Result<Vec<KeyringRow>, Error> {
        let work = || async {
            let mut line = self.0.line().await?;
            let rows = sqlx::query(
                "SELECT address, fingerprint, learned, expires FROM addrauth.keyring
                 WHERE present AND ($1::text IS NULL OR right(address, char_length($1) + 1) = '@' || $1) ORDER BY address",
            )
            .bind(domain)
            .fetch_all(&mut *line)
            .await?;
            self.0.rest(line);
            Ok(rows.iter().map(row).collect::<Result<_, _>>()?)
        };
        self.0.scan(work).await
    }

    async fn ending(&self, before: SystemTime, most: u32) -> Result<Vec<KeyringRow>, Error> {
        let work = || async {
            let mut line = self.0.line().await?;
            let rows = sqlx::query(
                "SELECT address, fingerprint, learned, expires FROM addrauth.keyring
                 WHERE present AND expires < $1 ORDER BY expires, address LIMIT $2",
            )
            .bind(seconds(before))
            .bind(i64::from(most))
            .fetch_all(&mut *line)
            .await?;
            self.0.rest(line);
            Ok(rows.iter().map(row).collect::<Result<_, _>>()?)
        };
        self.0.scan(work).await
    }

    async fn ages(&self, now: SystemTime) -> Result<Vec<KeyAges>, Error> {
        let work = || async {
            let mut line = self.0.line().await?;
            let rows = sqlx::query(
                "SELECT substring(address from '[^@]*$') COLLATE \"C\" AS domain, count(*) AS addresses,
                 count(*) FILTER (WHERE expires <= $1) AS ended, min(learned) FILTER (WHERE expires > $1) AS oldest
                 FROM addrauth.keyring WHERE present GROUP BY 1 ORDER BY 1",
            )
            .bind(seconds(now))
            .fetch_all(&mut *line)
            .await?;
            self.0.rest(line);
            Ok(rows.iter().map(ages).collect::<Result<_, _>>()?)
        };
        self.0.scan(work).await
    }

    async fn supersede(&self, address: &Mailbox, fingerprints: &[String]) -> Result<bool, Error> {
        let address = address.as_str();
        let work = || async {
            let mut work = self.0.begin().await?;
            let done = sqlx::query(
                "UPDATE addrauth.keyring SET sealed = NULL, present = false
                 WHERE address = $1 AND present AND fingerprint = ANY ($2)",
            )
            .bind(address)
            .bind(fingerprints)
            .execute(&mut *work)
            .await?;
            self.0.commit(work).await?;
            Ok(done.rows_affected() > 0)
        };
        self.0.write(work).await
    }

    async fn forget(&self, address: &Mailbox) -> Result<bool, Error> {
        let address = address.as_str();
        let work = || async {
            let mut work = self.0.begin().await?;
            let done = sqlx::query("DELETE FROM addrauth.keyring WHERE address = $1")
                .bind(address)
                .execute(&mut *work)
                .await?;
            self.0.commit(work).await?;
            Ok(done.rows_affected() > 0)
        };
        self.0.write(work).await
    }

    async fn sweep(&self, before: SystemTime) -> Result<u64, Error> {
        let work = || async {
            let mut work = self.0.begin().await?;
            let swept = sqlx::query("DELETE FROM addrauth.keyring WHERE expires < $1")
                .bind(seconds(before))
                .execute(&mut *work)
                .await?
                .rows_affected();
            self.0.commit(work).await?;
            Ok(swept)
        };
        self.0.sweep(work).await
    }

    async fn close(&self) {
        self.0.close().await;
    }
}

/// Two who learn for one address at once meet in the index of present keys: one of them is taken back, and begins anew with
/// what the other one wrote before its eyes.
async fn learn(work: &mut Line, key: &NewestKey) -> Result<Learned, Fault> {
    let known: Option<bool> =
        sqlx::query_scalar("SELECT present FROM addrauth.keyring WHERE address = $1 AND fingerprint = $2")
            .bind(&key.address)
            .bind(&key.fingerprint)
            .fetch_optional(&mut **work)
            .await?;
    match known {
        Some(true) => return Ok(Learned::Known),
        Some(false) => return Ok(Learned::Superseded),
        None => {}
    }
    let present: Option<i64> =
        sqlx::query_scalar("SELECT expires FROM addrauth.keyring WHERE address = $1 AND present")
            .bind(&key.address)
            .fetch_optional(&mut **work)
            .await?;
    if present.is_some_and(|expires| expires >= seconds(key.expires)) {
        return Ok(Learned::Shorter);
    }
    // Looked at once more: a longer-lived one may have come between, and must not go.
    sqlx::query(
        "UPDATE addrauth.keyring SET sealed = NULL, present = false WHERE address = $1 AND present AND expires < $2",
    )
    .bind(&key.address)
    .bind(seconds(key.expires))
    .execute(&mut **work)
    .await?;
    sqlx::query(
        "INSERT INTO addrauth.keyring (address, fingerprint, sealed, present, learned, expires)
         VALUES ($1, $2, $3, true, $4, $5)",
    )
    .bind(&key.address)
    .bind(&key.fingerprint)
    .bind(key.sealed.octets())
    .bind(seconds(key.learned))
    .bind(seconds(key.expires))
    .execute(&mut **work)
    .await?;
    Ok(Learned::Newest)
}

fn ages(row: &PgRow) -> Result<KeyAges, sqlx::Error> {
    let count = |name| Ok::<u64, sqlx::Error>(u64::try_from(row.try_get::<i64, _>(name)?).unwrap_or_default());
    let oldest: Option<i64> = row.try_get("oldest")?;
    Ok(KeyAges {
        domain: row.try_get("domain")?,
        addresses: count("addresses")?,
        ended: count("ended")?,
        oldest: oldest.map(time),
    })
}

fn row(row: &PgRow) -> Result<KeyringRow, sqlx::Error> {
    Ok(KeyringRow {
        address: row.try_get("address")?,
        fingerprint: row.try_get("fingerprint")?,
        learned: time(row.try_get("learned")?),
        expires: time(row.try_get("expires")?),
    })
}
