//! The keyring in SQLite.

use std::time::SystemTime;

use async_trait::async_trait;
use rusqlite::{Connection, Row, params};

use super::{Fault, SqliteKeyring, Statements as _};
use crate::proto::address::Mailbox;
use crate::proto::seal::Sealed;
use crate::store::{Error, KeyAges, Keyring, KeyringRow, Learned, NewestKey, seconds, time};

#[async_trait]
impl Keyring for SqliteKeyring {
    async fn learn(&self, key: &NewestKey) -> Result<Learned, Error> {
        self.0.in_place()?;
        let key = key.clone();
        let learned = self.0.write(move |work| learn(work, &key)).await?;
        // The mail that brought the key ends where it is learned.
        self.0.in_place()?;
        Ok(learned)
    }

    async fn newest(&self, address: &Mailbox) -> Result<Option<NewestKey>, Error> {
        self.0.in_place()?;
        let present = "SELECT address, fingerprint, sealed, learned, expires FROM keyring
                       WHERE address = ? AND sealed IS NOT NULL";
        self.0.read(|work| work.first(present, [address.as_str()], newest))
    }

    async fn rows(&self, domain: Option<&str>) -> Result<Vec<KeyringRow>, Error> {
        let domain = domain.map(str::to_owned);
        let rows = self.0.scan(move |work| {
            work.all(
                "SELECT address, fingerprint, learned, expires FROM keyring WHERE sealed IS NOT NULL
                 AND (?1 IS NULL OR substr(address, -length(?1) - 1) = '@' || ?1) ORDER BY address",
                [domain],
                row,
            )
        });
        rows.await
    }

    async fn ending(&self, before: SystemTime, most: u32) -> Result<Vec<KeyringRow>, Error> {
        let rows = self.0.scan(move |work| {
            work.all(
                "SELECT address, fingerprint, learned, expires FROM keyring
                 WHERE sealed IS NOT NULL AND expires < ? ORDER BY expires, address LIMIT ?",
                params![seconds(before), most],
                row,
            )
        });
        rows.await
    }

    async fn ages(&self, now: SystemTime) -> Result<Vec<KeyAges>, Error> {
        let now = seconds(now);
        // What is left of a text without its end is that without any sign but @: the domain is what stands behind the last @.
        let ages = self.0.scan(move |work| {
            work.all(
                "SELECT replace(address, rtrim(address, replace(address, '@', '')), '') AS domain, count(*) AS addresses,
                 sum(expires <= ?1) AS ended, min(CASE WHEN expires > ?1 THEN learned END) AS oldest
                 FROM keyring WHERE sealed IS NOT NULL GROUP BY domain ORDER BY domain",
                [now],
                ages,
            )
        });
        ages.await
    }

    async fn supersede(&self, address: &Mailbox, fingerprints: &[String]) -> Result<bool, Error> {
        let (address, fingerprints) = (address.clone(), serde_json::Value::from(fingerprints).to_string());
        let gone = self.0.write(move |work| {
            work.run(
                "UPDATE keyring SET sealed = NULL WHERE address = ? AND sealed IS NOT NULL
                 AND fingerprint IN (SELECT value FROM json_each(?))",
                [address.as_str(), &fingerprints],
            )
        });
        Ok(gone.await? > 0)
    }

    async fn forget(&self, address: &Mailbox) -> Result<bool, Error> {
        let address = address.clone();
        let gone = self.0.write(move |work| work.run("DELETE FROM keyring WHERE address = ?", [address.as_str()]));
        Ok(gone.await? > 0)
    }

    async fn sweep(&self, before: SystemTime) -> Result<u64, Error> {
        let swept =
            self.0.write(move |work| work.run("DELETE FROM keyring WHERE expires < ?", [seconds(before)])).await;
        // Superseded keys are to be in no log either, and this is not on the way of mail.
        self.0.empty_log_later().await;
        swept
    }

    async fn close(&self) {
        self.0.close().await;
    }
}

fn learn(work: &Connection, key: &NewestKey) -> Result<Learned, Fault> {
    let known = "SELECT sealed IS NOT NULL FROM keyring WHERE address = ? AND fingerprint = ?";
    match work.find(known, [&key.address, &key.fingerprint])? {
        Some(true) => return Ok(Learned::Known),
        Some(false) => return Ok(Learned::Superseded),
        None => {}
    }
    let present = "SELECT expires FROM keyring WHERE address = ? AND sealed IS NOT NULL";
    let present: Option<i64> = work.find(present, [&key.address])?;
    if present.is_some_and(|expires| expires >= seconds(key.expires)) {
        return Ok(Learned::Shorter);
    }
    work.run("UPDATE keyring SET sealed = NULL WHERE address = ? AND sealed IS NOT NULL", [&key.address])?;
    work.run(
        "INSERT INTO keyring (address, fingerprint, sealed, learned, expires) VALUES (?, ?, ?, ?, ?)",
        params![key.address, key.fingerprint, key.sealed.octets(), seconds(key.learned), seconds(key.expires)],
    )?;
    Ok(Learned::Newest)
}

fn newest(row: &Row<'_>) -> Result<NewestKey, Fault> {
    Ok(NewestKey {
        address: row.get("address")?,
        fingerprint: row.get("fingerprint")?,
        sealed: Sealed::from_octets(row.get("sealed")?),
        learned: time(row.get("learned")?),
        expires: time(row.get("expires")?),
    })
}

fn ages(row: &Row<'_>) -> Result<KeyAges, Fault> {
    let count = |name| Ok::<u64, Fault>(u64::try_from(row.get::<_, i64>(name)?).unwrap_or_default());
    let oldest: Option<i64> = row.get("oldest")?;
    Ok(KeyAges {
        domain: row.get("domain")?,
        addresses: count("addresses")?,
        ended: count("ended")?,
        oldest: oldest.map(time),
    })
}

fn row(row: &Row<'_>) -> Result<KeyringRow, Fault> {
    Ok(KeyringRow {
        address: row.get("address")?,
        fingerprint: row.get("fingerprint")?,
        learned: time(row.get("learned")?),
        expires: time(row.get("expires")?),
    })
}
