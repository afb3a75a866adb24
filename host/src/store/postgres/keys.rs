//! The AS's keys in PostgreSQL.

use std::collections::{BTreeSet, HashMap};
use std::time::SystemTime;

use async_trait::async_trait;
use sqlx::Row;
use sqlx::postgres::PgRow;

use super::{Fault, Line, PostgresKeys, count, posts, rounds};
use crate::proto::address::Mailbox;
use crate::proto::key::VerifyKey;
use crate::store::{Added, Error, KeyRow, Keys, NewKey, RunningOut, seconds, time};

#[async_trait]
impl Keys for PostgresKeys {
    async fn add_all(&self, keys: &[NewKey], most: usize) -> Result<Vec<Added>, Error> {
        let work = || async {
            let mut added = vec![Added::NotDue; keys.len()];
            let mut work = self.0.begin().await?;
            for round in rounds(keys, |key| &key.address) {
                add_round(&mut work, &round, most, &mut added).await?;
            }
            self.0.commit(work).await?;
            Ok(added)
        };
        self.0.write(work).await
    }

    async fn take_back(&self, keys: &[(String, i64)], at: SystemTime) -> Result<(), Error> {
        let addresses: Vec<&str> = keys.iter().map(|(address, _)| address.as_str()).collect();
        let generations: Vec<i64> = keys.iter().map(|(_, generation)| *generation).collect();
        let work = || async {
            let mut work = self.0.begin().await?;
            lock_settings(&mut work, &addresses).await?;
            sqlx::query(
                "UPDATE addrauth.keys k SET revoked = $1 FROM unnest($2::text[], $3::bigint[]) t (address, generation)
                 WHERE k.address = t.address AND k.generation = t.generation AND k.revoked IS NULL",
            )
            .bind(seconds(at))
            .bind(&addresses)
            .bind(&generations)
            .execute(&mut *work)
            .await?;
            sqlx::query("UPDATE addrauth.settings SET due = least(due, $1) WHERE address = ANY ($2)")
                .bind(seconds(at))
                .bind(&addresses)
                .execute(&mut *work)
                .await?;
            self.0.commit(work).await
        };
        self.0.write(work).await
    }

    async fn of_all(&self, addresses: &[String]) -> Result<Vec<KeyRow>, Error> {
        // PostgreSQL's texts hold no NUL, and refuse a question that does: no address in the table has one.
        let addresses: Vec<&str> =
            addresses.iter().map(String::as_str).filter(|address| !address.contains('\0')).collect();
        let rows = || async {
            let mut line = self.0.line().await?;
            let rows = match keys_of(&mut line, &addresses).await {
                Err(fault) if fault.is_data() => keys_of_each(&mut line, &addresses).await,
                other => other,
            }?;
            self.0.rest(line);
            Ok(rows)
        };
        self.0.read(rows).await
    }

    async fn revoke(&self, address: &Mailbox, generations: &[i64], at: SystemTime) -> Result<u64, Error> {
        let address = address.as_str();
        let work = || async {
            let mut work = self.0.begin().await?;
            lock_settings(&mut work, &[address]).await?;
            let marked = sqlx::query(
                "UPDATE addrauth.keys SET revoked = $1
                 WHERE address = $2 AND generation = ANY ($3) AND revoked IS NULL",
            )
            .bind(seconds(at))
            .bind(address)
            .bind(generations)
            .execute(&mut *work)
            .await?
            .rows_affected();
            if marked > 0 {
                sqlx::query(
                    "UPDATE addrauth.settings SET due = least(due, $1) WHERE address = $2 AND NOT EXISTS
                     (SELECT 1 FROM addrauth.keys k WHERE k.address = $2 AND k.revoked IS NULL AND k.expires > $1)",
                )
                .bind(seconds(at))
                .bind(address)
                .execute(&mut *work)
                .await?;
            }
            self.0.commit(work).await?;
            Ok(marked)
        };
        self.0.write(work).await
    }

    async fn running_out(&self, now: SystemTime, soon: SystemTime) -> Result<RunningOut, Error> {
        let work = || async {
            let mut line = self.0.line().await?;
            // A row of generation 0 stands for an address that was looked at, and had no key.
            let row = sqlx::query(
                "SELECT count(*), count(*) FILTER (WHERE ends <= $1), count(*) FILTER (WHERE ends > $1 AND ends <= $2)
                 FROM (SELECT coalesce(max(k.expires), 0) AS ends FROM addrauth.addresses a
                   LEFT JOIN addrauth.keys k ON k.address = a.address AND k.revoked IS NULL
                   WHERE a.generation > 0 GROUP BY a.address
                   HAVING max(k.expires) > $1 OR EXISTS (SELECT 1 FROM addrauth.settings s WHERE s.address = a.address)
                 ) of_each",
            )
            .bind(seconds(now))
            .bind(seconds(soon))
            .fetch_one(&mut *line)
            .await?;
            self.0.rest(line);
            let number = |index: usize| row.try_get::<i64, _>(index).map(count);
            Ok(RunningOut { addresses: number(0)?, without: number(1)?, soon: number(2)? })
        };
        self.0.scan(work).await
    }

    async fn sweep(&self, before: SystemTime) -> Result<u64, Error> {
        let work = || async {
            let mut work = self.0.begin().await?;
            let swept = sqlx::query("DELETE FROM addrauth.keys WHERE least(expires, coalesce(revoked, expires)) < $1")
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

/// Locks the settings of addresses until the transaction ends, in the order of addresses: whoever changes turns does so
/// first, and nobody waits in a circle.
pub(super) async fn lock_settings(work: &mut Line, addresses: &[&str]) -> Result<Vec<String>, Fault> {
    Ok(sqlx::query_scalar("SELECT address FROM addrauth.settings WHERE address = ANY ($1) ORDER BY address FOR UPDATE")
        .bind(addresses)
        .fetch_all(&mut **work)
        .await?)
}

/// All keys of these addresses, those of each newest first.
async fn keys_of(line: &mut Line, addresses: &[&str]) -> Result<Vec<KeyRow>, Fault> {
    let rows = sqlx::query(
        "SELECT address, generation, k, created, expires, revoked FROM addrauth.keys
         WHERE address = ANY($1) ORDER BY address, generation DESC",
    )
    .bind(addresses)
    .fetch_all(&mut **line)
    .await?;
    Ok(rows.iter().map(read).collect::<Result<_, _>>()?)
}

/// The same one by one, where one that the database's encoding has no place for would spoil the others' answer: such an
/// address is in no row. They are as many as `limits.authority.answers_together` at most.
async fn keys_of_each(line: &mut Line, addresses: &[&str]) -> Result<Vec<KeyRow>, Fault> {
    let each: BTreeSet<&str> = addresses.iter().copied().collect();
    let mut rows = Vec::new();
    for address in each {
        match keys_of(line, &[address]).await {
            Ok(found) => rows.extend(found),
            Err(fault) if fault.is_data() => {}
            Err(fault) => return Err(fault),
        }
    }
    Ok(rows)
}

/// Adds keys of different addresses. Whoever else adds keys to one of them waits from the first lock on, and sees what was
/// done here after it: each statement looks at what is committed by then.
async fn add_round(work: &mut Line, round: &[(usize, &NewKey)], most: usize, added: &mut [Added]) -> Result<(), Fault> {
    let mut tell = |at: usize, what: Added| added.get_mut(at).map(|place| *place = what);
    let moved = take_turns(work, round).await?;
    let mut wanted: Vec<(usize, &NewKey)> = Vec::with_capacity(round.len());
    for (at, key) in round {
        match key.turn.is_some() && key.only_due && !moved.contains_key(&key.address) {
            true => tell(*at, Added::NotDue),
            false => {
                wanted.push((*at, key));
                None
            }
        };
    }
    let living = lock_and_count(work, &wanted).await?;
    wanted.retain(|(at, key)| {
        let living = living.get(&key.address).copied().unwrap_or_default();
        let room = living < most;
        if !room {
            tell(*at, Added::Full(living));
        }
        room
    });
    let generations = insert(work, &wanted).await?;
    let mut owed = Vec::new();
    for (at, key) in wanted {
        // Every address is in the table: it was put in when it was locked.
        let generation = generations.get(&key.address).copied().ok_or(sqlx::Error::RowNotFound)?;
        tell(at, Added::Generation(generation));
        if let Some(sealed) = &key.post {
            owed.push((key, generation, sealed));
        }
    }
    posts::owe(work, &owed).await
}

/// Moves the turns of addresses on; those whose turn was moved.
async fn take_turns(work: &mut Line, round: &[(usize, &NewKey)]) -> Result<HashMap<String, ()>, Fault> {
    let with_turn: Vec<(&NewKey, i64)> =
        round.iter().filter_map(|(_, key)| key.turn.map(|turn| (*key, seconds(turn)))).collect();
    if with_turn.is_empty() {
        return Ok(HashMap::new());
    }
    let addresses: Vec<&str> = with_turn.iter().map(|(key, _)| key.address.as_str()).collect();
    lock_settings(work, &addresses).await?;
    let moved: Vec<String> = sqlx::query_scalar(
        "UPDATE addrauth.settings s SET due = t.turn
         FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bool[]) t (address, turn, created, only_due)
         WHERE s.address = t.address AND (s.due <= t.created OR NOT t.only_due) RETURNING s.address",
    )
    .bind(&addresses)
    .bind(with_turn.iter().map(|(_, turn)| *turn).collect::<Vec<_>>())
    .bind(with_turn.iter().map(|(key, _)| seconds(key.created)).collect::<Vec<_>>())
    .bind(with_turn.iter().map(|(key, _)| key.only_due).collect::<Vec<_>>())
    .fetch_all(&mut **work)
    .await?;
    Ok(moved.into_iter().map(|address| (address, ())).collect())
}

/// Locks addresses, and counts their living keys.
async fn lock_and_count(work: &mut Line, wanted: &[(usize, &NewKey)]) -> Result<HashMap<String, usize>, Fault> {
    let addresses: Vec<&str> = wanted.iter().map(|(_, key)| key.address.as_str()).collect();
    let created: Vec<i64> = wanted.iter().map(|(_, key)| seconds(key.created)).collect();
    // An address that is new gets its row here: there is nothing else yet that could be locked.
    sqlx::query(
        "INSERT INTO addrauth.addresses (address, generation) SELECT address, 0 FROM unnest($1::text[]) t (address)
         ORDER BY address COLLATE \"C\" ON CONFLICT (address) DO NOTHING",
    )
    .bind(&addresses)
    .execute(&mut **work)
    .await?;
    sqlx::query("SELECT 1 FROM addrauth.addresses WHERE address = ANY ($1) ORDER BY address FOR UPDATE")
        .bind(&addresses)
        .execute(&mut **work)
        .await?;
    let rows = sqlx::query(
        "SELECT k.address, count(*) FROM addrauth.keys k
         JOIN unnest($1::text[], $2::bigint[]) t (address, created) ON k.address = t.address
         WHERE k.revoked IS NULL AND k.expires > t.created GROUP BY k.address",
    )
    .bind(&addresses)
    .bind(&created)
    .fetch_all(&mut **work)
    .await?;
    let read = |row: &PgRow| {
        let living = usize::try_from(row.try_get::<i64, _>(1)?).unwrap_or(usize::MAX);
        Ok((row.try_get(0)?, living))
    };
    Ok(rows.iter().map(read).collect::<Result<_, sqlx::Error>>()?)
}

/// Ends older keys where that is wanted, and puts the new ones in; the generation of each.
async fn insert(work: &mut Line, wanted: &[(usize, &NewKey)]) -> Result<HashMap<String, i64>, Fault> {
    let ending: Vec<(&str, i64, i64)> = wanted
        .iter()
        .filter_map(|(_, key)| Some((key.address.as_str(), seconds(key.others_end?), seconds(key.outlived()))))
        .collect();
    if !ending.is_empty() {
        sqlx::query(
            "UPDATE addrauth.keys k SET expires = t.ends
             FROM unnest($1::text[], $2::bigint[], $3::bigint[]) t (address, ends, most)
             WHERE k.address = t.address AND k.revoked IS NULL AND k.expires > t.ends AND k.expires <= t.most",
        )
        .bind(ending.iter().map(|(address, ..)| *address).collect::<Vec<_>>())
        .bind(ending.iter().map(|(_, end, _)| *end).collect::<Vec<_>>())
        .bind(ending.iter().map(|(.., most)| *most).collect::<Vec<_>>())
        .execute(&mut **work)
        .await?;
    }
    let rows = sqlx::query(
        "WITH t AS (SELECT * FROM unnest($1::text[], $2::bytea[], $3::bigint[], $4::bigint[]) t (address, k, created, expires)),
         counted AS (UPDATE addrauth.addresses a SET generation = a.generation + 1 FROM t WHERE a.address = t.address
           RETURNING a.address, a.generation)
         INSERT INTO addrauth.keys (address, generation, k, created, expires)
         SELECT t.address, counted.generation, t.k, t.created, t.expires FROM t JOIN counted USING (address)
         RETURNING address, generation",
    )
    .bind(wanted.iter().map(|(_, key)| key.address.as_str()).collect::<Vec<_>>())
    .bind(wanted.iter().map(|(_, key)| key.k.octets().as_slice()).collect::<Vec<_>>())
    .bind(wanted.iter().map(|(_, key)| seconds(key.created)).collect::<Vec<_>>())
    .bind(wanted.iter().map(|(_, key)| seconds(key.expires)).collect::<Vec<_>>())
    .fetch_all(&mut **work)
    .await?;
    let read = |row: &PgRow| Ok((row.try_get(0)?, row.try_get(1)?));
    Ok(rows.iter().map(read).collect::<Result<_, sqlx::Error>>()?)
}

fn read(row: &PgRow) -> Result<KeyRow, sqlx::Error> {
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
