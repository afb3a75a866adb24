//! The addresses that get keys in time, in SQLite.

use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use rusqlite::{Row, params};
use tokio::sync::mpsc;

use super::{Fault, SqliteKeys, Statements as _};
use crate::store::{Addresses, Error, SettingsRow, seconds, time};

/// Rows written by one statement: the document that carries them stays small.
const ROWS_AT_ONCE: usize = 1_000;

#[async_trait]
impl Addresses for SqliteKeys {
    async fn enlist(&self, rows: &[SettingsRow], progress: &mut (dyn FnMut(usize) + Send)) -> Result<u64, Error> {
        // A million rows are not in memory twice: their documents are made while others are written.
        let (ready, mut documents) = mpsc::channel::<Option<String>>(1);
        let writing = self.0.write(move |work| {
            let count = "SELECT count(*) FROM settings";
            let before: i64 = work.one(count, ())?;
            // What ends without a word is not whole: its caller has given it up.
            while let Some(document) = documents.blocking_recv().ok_or(Fault::GivenUp)? {
                put_in(work, &document)?;
            }
            let after: i64 = work.one(count, ())?;
            Ok(u64::try_from(after - before).unwrap_or_default())
        });
        let bringing = async {
            let mut written = 0;
            for part in rows.chunks(ROWS_AT_ONCE) {
                // Where nobody takes it, the writing has failed, and says why.
                if ready.send(Some(document(part))).await.is_err() {
                    return;
                }
                written += part.len();
                progress(written);
            }
            let _ = ready.send(None).await;
        };
        let (new, ()) = tokio::join!(writing, bringing);
        let new = new?;
        self.0.in_place()?;
        Ok(new)
    }

    async fn set(&self, row: &SettingsRow) -> Result<bool, Error> {
        let row = row.clone();
        let set = self.0.write(move |work| {
            work.run(
                "UPDATE settings SET agi = ?, avt = ?, due = ? WHERE address = ?",
                params![row.agi.map(whole), row.avt.map(whole), seconds(row.due), row.address],
            )
        });
        let set = set.await?;
        self.0.in_place()?;
        Ok(set > 0)
    }

    async fn strike(&self, addresses: &[String], at: SystemTime) -> Result<u64, Error> {
        let addresses = addresses.to_vec();
        let struck = self.0.write(move |work| {
            let mut ended = 0;
            for address in addresses {
                if work.run("DELETE FROM settings WHERE address = ?", [&address])? == 0 {
                    return Err(Error::NotEnlisted { address }.into());
                }
                ended += work.run(
                    "UPDATE keys SET revoked = ?1 WHERE address = ?2 AND revoked IS NULL AND expires > ?1",
                    params![seconds(at), address],
                )?;
            }
            Ok(ended)
        });
        let ended = struck.await?;
        self.0.in_place()?;
        Ok(ended)
    }

    async fn settings(&self, address: &str) -> Result<Option<SettingsRow>, Error> {
        self.0.in_place()?;
        let asked = "SELECT address, agi, avt, created, due FROM settings WHERE address = ?";
        self.0.read(|work| work.first(asked, [address], read))
    }

    async fn enlisted(&self, domain: Option<&str>) -> Result<Vec<SettingsRow>, Error> {
        let domain = domain.map(str::to_owned);
        let all = self.0.scan(move |work| {
            work.all(
                "SELECT address, agi, avt, created, due FROM settings WHERE ?1 IS NULL OR domain = ?1
                 ORDER BY domain, address",
                [domain],
                read,
            )
        });
        all.await
    }

    async fn due(&self, domains: &[String], now: SystemTime, most: u32) -> Result<Vec<SettingsRow>, Error> {
        let domains = serde_json::Value::from(domains).to_string();
        let due = self.0.scan(move |work| {
            // `+`: the index by turn is the one to use, however few domains there are.
            work.all(
                "SELECT address, agi, avt, created, due FROM settings
                 WHERE due <= ? AND +domain IN (SELECT value FROM json_each(?)) ORDER BY due, address LIMIT ?",
                params![seconds(now), domains, most],
                read,
            )
        });
        due.await
    }

    async fn turns_per_second(&self, agi: Duration) -> Result<f64, Error> {
        let rate = "SELECT coalesce(sum(1.0 / max(1, coalesce(agi, ?))), 0.0) FROM settings";
        self.0.scan(move |work| work.one(rate, [whole(agi)])).await
    }
}

/// Writes the rows of a document; those that are in already keep what it does not name.
fn put_in(work: &rusqlite::Connection, document: &str) -> Result<u64, Fault> {
    // `WHERE true`: without it SQLite would read ON CONFLICT as the ON of a join.
    work.run(
        "INSERT INTO settings (address, domain, agi, avt, created, due)
         SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5
         FROM json_each(?) WHERE true
         ON CONFLICT (address) DO UPDATE SET
           due = CASE WHEN excluded.agi IS NULL OR excluded.agi IS agi THEN due ELSE excluded.due END,
           agi = coalesce(excluded.agi, agi),
           avt = coalesce(excluded.avt, avt)",
        [document],
    )
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

fn read(row: &Row<'_>) -> Result<SettingsRow, Fault> {
    let duration = |name| -> Result<Option<Duration>, Fault> {
        let seconds: Option<i64> = row.get(name)?;
        Ok(seconds.map(|seconds| Duration::from_secs(u64::try_from(seconds).unwrap_or_default())))
    };
    Ok(SettingsRow {
        address: row.get("address")?,
        agi: duration("agi")?,
        avt: duration("avt")?,
        created: time(row.get("created")?),
        due: time(row.get("due")?),
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
        old.run(
            "INSERT INTO addresses VALUES ('a@example.com', 3);
             INSERT INTO keys VALUES ('a@example.com', 3, zeroblob(32), 100, 900, NULL)",
        )
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
