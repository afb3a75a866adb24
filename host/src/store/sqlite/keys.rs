//! The AS's keys in SQLite.

use std::time::SystemTime;

use async_trait::async_trait;
use rusqlite::{Connection, Row, params};

use super::{Fault, SqliteKeys, Statements as _, posts};
use crate::proto::address::Mailbox;
use crate::proto::key::VerifyKey;
use crate::store::{Added, Error, KeyRow, Keys, NewKey, RunningOut, seconds, time};

/// Takes one key back; those that were revoked before stay as they are.
const REVOKE: &str = "UPDATE keys SET revoked = ? WHERE address = ? AND generation = ? AND revoked IS NULL";

#[async_trait]
impl Keys for SqliteKeys {
    async fn add_all(&self, keys: &[NewKey], most: usize) -> Result<Vec<Added>, Error> {
        self.0.in_place()?;
        let keys = keys.to_vec();
        let added = self.0.write(move |work| keys.iter().map(|key| add_one(work, key, most)).collect()).await?;
        self.0.in_place()?;
        Ok(added)
    }

    async fn take_back(&self, keys: &[(String, i64)], at: SystemTime) -> Result<(), Error> {
        let keys = keys.to_vec();
        let taken = self.0.write(move |work| {
            for (address, generation) in &keys {
                work.run(REVOKE, params![seconds(at), address, generation])?;
                work.run("UPDATE settings SET due = min(due, ?) WHERE address = ?", params![seconds(at), address])?;
            }
            Ok(())
        });
        taken.await?;
        self.0.in_place()
    }

    async fn of_all(&self, addresses: &[String]) -> Result<Vec<KeyRow>, Error> {
        self.0.in_place()?;
        let asked = serde_json::Value::from(addresses).to_string();
        let of = "SELECT address, generation, k, created, expires, revoked FROM keys
                  WHERE address IN (SELECT value FROM json_each(?)) ORDER BY address, generation DESC";
        self.0.read(|work| work.all(of, [asked], read))
    }

    async fn revoke(&self, address: &Mailbox, generations: &[i64], at: SystemTime) -> Result<u64, Error> {
        self.0.in_place()?;
        let (address, generations) = (address.clone(), generations.to_vec());
        let revoked = self.0.write(move |work| {
            let mut marked = 0;
            for generation in generations {
                marked += work.run(REVOKE, params![seconds(at), address.as_str(), generation])?;
            }
            if marked > 0 {
                work.run(
                    "UPDATE settings SET due = min(due, ?1) WHERE address = ?2 AND NOT EXISTS
                     (SELECT 1 FROM keys WHERE keys.address = ?2 AND revoked IS NULL AND expires > ?1)",
                    params![seconds(at), address.as_str()],
                )?;
            }
            Ok(marked)
        });
        let marked = revoked.await?;
        self.0.in_place()?;
        Ok(marked)
    }

    async fn running_out(&self, now: SystemTime, soon: SystemTime) -> Result<RunningOut, Error> {
        let counted = self.0.scan(move |work| {
            let found = work.first(
                "SELECT count(*), coalesce(sum(ends <= ?1), 0), coalesce(sum(ends > ?1 AND ends <= ?2), 0) FROM
                 (SELECT coalesce(max(expires), 0) AS ends FROM addresses
                  LEFT JOIN keys ON keys.address = addresses.address AND revoked IS NULL GROUP BY addresses.address
                  HAVING ends > ?1 OR EXISTS (SELECT 1 FROM settings WHERE settings.address = addresses.address))",
                [seconds(now), seconds(soon)],
                |row| {
                    let number = |at: usize| row.get::<_, i64>(at).map(|n| u64::try_from(n).unwrap_or_default());
                    Ok(RunningOut { addresses: number(0)?, without: number(1)?, soon: number(2)? })
                },
            )?;
            found.ok_or(Fault::Column("nothing was counted"))
        });
        counted.await
    }

    async fn sweep(&self, before: SystemTime) -> Result<u64, Error> {
        let gone = "DELETE FROM keys WHERE min(expires, coalesce(revoked, expires)) < ?";
        self.0.write(move |work| work.run(gone, [seconds(before)])).await
    }

    async fn close(&self) {
        self.0.close().await;
    }
}

fn add_one(work: &Connection, key: &NewKey, most: usize) -> Result<Added, Fault> {
    let created = seconds(key.created);
    if let Some(turn) = key.turn {
        let moved = work.run(
            "UPDATE settings SET due = ?1 WHERE address = ?2 AND (due <= ?3 OR NOT ?4)",
            params![seconds(turn), key.address, created, key.only_due],
        )?;
        if key.only_due && moved == 0 {
            return Ok(Added::NotDue);
        }
    }
    let living: i64 = work.one(
        "SELECT count(*) FROM keys WHERE address = ? AND revoked IS NULL AND expires > ?",
        params![key.address, created],
    )?;
    let living = usize::try_from(living).unwrap_or(usize::MAX);
    if living >= most {
        return Ok(Added::Full(living));
    }
    if let Some(end) = key.others_end {
        work.run(
            "UPDATE keys SET expires = ?1 WHERE address = ?2 AND revoked IS NULL AND expires > ?1 AND expires <= ?3",
            params![seconds(end), key.address, seconds(key.outlived())],
        )?;
    }
    let generation: i64 = work.one(
        "INSERT INTO addresses (address, generation) VALUES (?, 1)
         ON CONFLICT (address) DO UPDATE SET generation = generation + 1 RETURNING generation",
        [&key.address],
    )?;
    work.run(
        "INSERT INTO keys (address, generation, k, created, expires) VALUES (?, ?, ?, ?, ?)",
        params![key.address, generation, key.k.octets().as_slice(), created, seconds(key.expires)],
    )?;
    if let Some(sealed) = &key.post {
        posts::owe(work, key, generation, sealed)?;
    }
    Ok(Added::Generation(generation))
}

fn read(row: &Row<'_>) -> Result<KeyRow, Fault> {
    let k: [u8; 32] = row.get_ref("k")?.as_blob().ok().and_then(|k| k.try_into().ok()).ok_or(NOT_K)?;
    Ok(KeyRow {
        address: row.get("address")?,
        generation: row.get("generation")?,
        k: VerifyKey::from_octets(k),
        created: time(row.get("created")?),
        expires: time(row.get("expires")?),
        revoked: row.get::<_, Option<i64>>("revoked")?.map(time),
    })
}

const NOT_K: Fault = Fault::Column("a K has not 32 octets");
