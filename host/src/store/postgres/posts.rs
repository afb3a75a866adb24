//! Keys on their way, in PostgreSQL.

use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use sqlx::Row;
use sqlx::postgres::PgRow;

use super::{Fault, Line, PostgresKeys, count};
use crate::proto::address::Mailbox;
use crate::proto::seal::Sealed;
use crate::store::{Error, NewKey, Owing, Post, PostEnd, PostRow, Posts, seconds, time};

/// Posts of dead keys that one transaction ends: a few hundred statements are done in a moment, however many there are.
const ENDED_AT_ONCE: usize = 200;

/// Owes new keys to their addresses.
pub(super) async fn owe(work: &mut Line, owed: &[(&NewKey, i64, &Sealed)]) -> Result<(), Fault> {
    if owed.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO addrauth.posts (address, generation, sealed, created, next_try)
         SELECT address, generation, sealed, created, created
         FROM unnest($1::text[], $2::bigint[], $3::bytea[], $4::bigint[]) t (address, generation, sealed, created)",
    )
    .bind(owed.iter().map(|(key, ..)| key.address.as_str()).collect::<Vec<_>>())
    .bind(owed.iter().map(|(_, generation, _)| *generation).collect::<Vec<_>>())
    .bind(owed.iter().map(|(.., sealed)| sealed.octets()).collect::<Vec<_>>())
    .bind(owed.iter().map(|(key, ..)| seconds(key.created)).collect::<Vec<_>>())
    .execute(&mut **work)
    .await?;
    Ok(())
}

#[async_trait]
impl Posts for PostgresKeys {
    async fn take_post(&self, now: SystemTime, backoff: fn(u32) -> Duration) -> Result<Option<Post>, Error> {
        let due = || async {
            let mut line = self.0.line().await?;
            let due = sqlx::query("SELECT 1 FROM addrauth.posts WHERE ended IS NULL AND next_try <= $1 LIMIT 1")
                .bind(seconds(now))
                .fetch_optional(&mut *line)
                .await?;
            self.0.rest(line);
            Ok(due.is_some())
        };
        // Most turns find nothing, and need no transaction.
        if !self.0.read(due).await? {
            return Ok(None);
        }
        let work = || async {
            let mut work = self.0.begin().await?;
            let taken = take(&mut work, now, backoff).await?;
            self.0.commit(work).await?;
            Ok(taken)
        };
        loop {
            if let Taken::All(post) = self.0.write(work).await? {
                return Ok(post);
            }
        }
    }

    async fn postpone_post(&self, post: &Post, why: &str) -> Result<(), Error> {
        let why = why.replace('\0', "");
        let work = || async {
            let mut work = self.0.begin().await?;
            sqlx::query("UPDATE addrauth.posts SET note = $1 WHERE address = $2 AND generation = $3 AND ended IS NULL")
                .bind(&why)
                .bind(post.address.as_str())
                .bind(post.generation)
                .execute(&mut *work)
                .await?;
            self.0.commit(work).await
        };
        self.0.write(work).await
    }

    async fn end_post(&self, post: &Post, outcome: &PostEnd, now: SystemTime) -> Result<(), Error> {
        let work = || async {
            let mut work = self.0.begin().await?;
            end(&mut work, &post.address, post.generation, outcome, now).await?;
            self.0.commit(work).await
        };
        self.0.write(work).await
    }

    async fn posts_of(&self, address: &Mailbox) -> Result<Vec<PostRow>, Error> {
        let address = address.as_str();
        let read = |row: &PgRow| -> Result<PostRow, sqlx::Error> {
            Ok(PostRow {
                generation: row.try_get("generation")?,
                tries: tries(row)?,
                next_try: time(row.try_get("next_try")?),
                outcome: row.try_get::<Option<&str>, _>("outcome")?.map(PostEnd::of_words),
                note: row.try_get("note")?,
            })
        };
        let work = || async {
            let mut line = self.0.line().await?;
            let rows = sqlx::query(
                "SELECT generation, tries, next_try, outcome, note FROM addrauth.posts WHERE address = $1
                 ORDER BY generation DESC",
            )
            .bind(address)
            .fetch_all(&mut *line)
            .await?;
            self.0.rest(line);
            Ok(rows.iter().map(read).collect::<Result<_, _>>()?)
        };
        self.0.read(work).await
    }

    async fn owing(&self) -> Result<Owing, Error> {
        let work = || async {
            let mut line = self.0.line().await?;
            let row = sqlx::query("SELECT count(*), min(created) FROM addrauth.posts WHERE ended IS NULL")
                .fetch_one(&mut *line)
                .await?;
            self.0.rest(line);
            let oldest: Option<i64> = row.try_get(1)?;
            Ok(Owing { waiting: count(row.try_get(0)?), oldest: oldest.map(time) })
        };
        self.0.scan(work).await
    }
}

/// What came of looking for a post.
enum Taken {
    /// The post, if there is any.
    All(Option<Post>),
    /// Dead ones alone so far, and there may be more behind them.
    DeadOnes,
}

/// The next post of a key that lives; those before it whose keys were revoked or ended, end. What another process has its
/// hand on is passed over.
async fn take(work: &mut Line, now: SystemTime, backoff: fn(u32) -> Duration) -> Result<Taken, Fault> {
    for _ in 0..ENDED_AT_ONCE {
        let row = sqlx::query(
            "SELECT p.address, p.generation, p.sealed, p.tries, k.created, k.expires, k.revoked
             FROM addrauth.posts p JOIN addrauth.keys k USING (address, generation)
             WHERE p.ended IS NULL AND p.next_try <= $1 ORDER BY p.next_try, p.address, p.generation LIMIT 1 FOR UPDATE OF p SKIP LOCKED",
        )
        .bind(seconds(now))
        .fetch_optional(&mut **work)
        .await?;
        let Some(row) = row else { return Ok(Taken::All(None)) };
        let address: String = row.try_get("address")?;
        let generation: i64 = row.try_get("generation")?;
        let expires: i64 = row.try_get("expires")?;
        let dead = match row.try_get::<Option<i64>, _>("revoked")? {
            Some(_) => Some(PostEnd::Revoked),
            None => (expires <= seconds(now)).then_some(PostEnd::Expired),
        };
        if let Some(outcome) = dead {
            end(work, &address, generation, &outcome, now).await?;
            continue;
        }
        let tries = tries(&row)?.saturating_add(1);
        let next = now.checked_add(backoff(tries)).unwrap_or(now);
        sqlx::query("UPDATE addrauth.posts SET tries = $1, next_try = $2 WHERE address = $3 AND generation = $4")
            .bind(i64::from(tries))
            .bind(seconds(next))
            .bind(&address)
            .bind(generation)
            .execute(&mut **work)
            .await?;
        let sealed = Sealed::from_octets(row.try_get("sealed")?);
        let created = time(row.try_get("created")?);
        let address = Mailbox::parse(&address).ok_or_else(|| sqlx::Error::Decode("an address is none".into()))?;
        let post = Post { address, generation, sealed, created, expires: time(expires), tries };
        return Ok(Taken::All(Some(post)));
    }
    Ok(Taken::DeadOnes)
}

async fn end(work: &mut Line, address: &str, generation: i64, outcome: &PostEnd, now: SystemTime) -> Result<(), Fault> {
    sqlx::query(
        "UPDATE addrauth.posts SET ended = $1, outcome = $2, sealed = NULL, note = NULL
         WHERE address = $3 AND generation = $4 AND ended IS NULL",
    )
    .bind(seconds(now))
    // PostgreSQL keeps no NUL.
    .bind(outcome.to_string().replace('\0', ""))
    .bind(address)
    .bind(generation)
    .execute(&mut **work)
    .await?;
    Ok(())
}

fn tries(row: &PgRow) -> Result<u32, sqlx::Error> {
    Ok(u32::try_from(row.try_get::<i64, _>("tries")?).unwrap_or(u32::MAX))
}
