//! The keyring in SQLite.

use std::time::SystemTime;

use async_trait::async_trait;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::SqliteKeyring;
use crate::proto::address::Mailbox;
use crate::proto::seal::Sealed;
use crate::store::{Error, Keyring, KeyringRow, Learned, NewestKey, seconds, time};

#[async_trait]
impl Keyring for SqliteKeyring {
    async fn learn(&self, key: &NewestKey) -> Result<Learned, Error> {
        self.0.in_place()?;
        let learned = async {
            let mut work = self.0.writer().begin_with("BEGIN IMMEDIATE").await?;
            let known: Option<bool> =
                sqlx::query_scalar("SELECT sealed IS NOT NULL FROM keyring WHERE address = ? AND fingerprint = ?")
                    .bind(&key.address)
                    .bind(&key.fingerprint)
                    .fetch_optional(&mut *work)
                    .await?;
            match known {
                Some(true) => return Ok(Learned::Known),
                Some(false) => return Ok(Learned::Superseded),
                None => {}
            }
            let present: Option<i64> =
                sqlx::query_scalar("SELECT expires FROM keyring WHERE address = ? AND sealed IS NOT NULL")
                    .bind(&key.address)
                    .fetch_optional(&mut *work)
                    .await?;
            if present.is_some_and(|expires| expires >= seconds(key.expires)) {
                return Ok(Learned::Shorter);
            }
            sqlx::query("UPDATE keyring SET sealed = NULL WHERE address = ? AND sealed IS NOT NULL")
                .bind(&key.address)
                .execute(&mut *work)
                .await?;
            sqlx::query("INSERT INTO keyring (address, fingerprint, sealed, learned, expires) VALUES (?, ?, ?, ?, ?)")
                .bind(&key.address)
                .bind(&key.fingerprint)
                .bind(key.sealed.octets())
                .bind(seconds(key.learned))
                .bind(seconds(key.expires))
                .execute(&mut *work)
                .await?;
            work.commit().await?;
            Ok(Learned::Newest)
        };
        let learned = learned.await.map_err(|e| self.0.failed(e))?;
        // The mail that brought the key ends where it is learned.
        self.0.in_place()?;
        Ok(learned)
    }

    async fn newest(&self, address: &Mailbox) -> Result<Option<NewestKey>, Error> {
        self.0.in_place()?;
        let read = |row: &SqliteRow| {
            Ok(NewestKey {
                address: row.try_get("address")?,
                fingerprint: row.try_get("fingerprint")?,
                sealed: Sealed::from_octets(row.try_get("sealed")?),
                learned: time(row.try_get("learned")?),
                expires: time(row.try_get("expires")?),
            })
        };
        sqlx::query(
            "SELECT address, fingerprint, sealed, learned, expires FROM keyring WHERE address = ? AND sealed IS NOT NULL",
        )
        .bind(address.as_str())
        .fetch_optional(self.0.readers())
        .await
        .and_then(|row| row.as_ref().map(read).transpose())
        .map_err(|e| self.0.failed(e))
    }

    async fn rows(&self, domain: Option<&str>) -> Result<Vec<KeyringRow>, Error> {
        sqlx::query(
            "SELECT address, fingerprint, learned, expires FROM keyring
             WHERE sealed IS NOT NULL AND (?1 IS NULL OR substr(address, -length(?1) - 1) = '@' || ?1) ORDER BY address",
        )
        .bind(domain)
        .fetch_all(self.0.readers())
        .await
        .and_then(|rows| rows.iter().map(row).collect())
        .map_err(|e| self.0.failed(e))
    }

    async fn ending(&self, before: SystemTime, most: u32) -> Result<Vec<KeyringRow>, Error> {
        sqlx::query(
            "SELECT address, fingerprint, learned, expires FROM keyring
             WHERE sealed IS NOT NULL AND expires < ? ORDER BY expires, address LIMIT ?",
        )
        .bind(seconds(before))
        .bind(most)
        .fetch_all(self.0.readers())
        .await
        .and_then(|rows| rows.iter().map(row).collect())
        .map_err(|e| self.0.failed(e))
    }

    async fn supersede(&self, address: &Mailbox, fingerprints: &[String]) -> Result<bool, Error> {
        sqlx::query(
            "UPDATE keyring SET sealed = NULL WHERE address = ? AND sealed IS NOT NULL
             AND fingerprint IN (SELECT value FROM json_each(?))",
        )
        .bind(address.as_str())
        .bind(serde_json::Value::from(fingerprints).to_string())
        .execute(self.0.writer())
        .await
        .map(|done| done.rows_affected() > 0)
        .map_err(|e| self.0.failed(e))
    }

    async fn forget(&self, address: &Mailbox) -> Result<bool, Error> {
        sqlx::query("DELETE FROM keyring WHERE address = ?")
            .bind(address.as_str())
            .execute(self.0.writer())
            .await
            .map(|done| done.rows_affected() > 0)
            .map_err(|e| self.0.failed(e))
    }

    async fn sweep(&self, before: SystemTime) -> Result<u64, Error> {
        let swept =
            sqlx::query("DELETE FROM keyring WHERE expires < ?").bind(seconds(before)).execute(self.0.writer()).await;
        // Superseded keys are to be in no log either, and this is not on the way of mail.
        self.0.empty_log().await;
        swept.map(|done| done.rows_affected()).map_err(|e| self.0.failed(e))
    }

    async fn close(&self) {
        self.0.close().await;
    }
}

fn row(row: &SqliteRow) -> Result<KeyringRow, sqlx::Error> {
    Ok(KeyringRow {
        address: row.try_get("address")?,
        fingerprint: row.try_get("fingerprint")?,
        learned: time(row.try_get("learned")?),
        expires: time(row.try_get("expires")?),
    })
}
