//! Keys on their way, in SQLite.

use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use sqlx::{Row, SqliteConnection};

use super::SqliteKeys;
use crate::proto::seal::Sealed;
use crate::store::{Error, NewKey, Owing, Post, PostRow, Posts, folded, seconds, time};

/// Owes a new key to its address.
pub(super) async fn owe(
    work: &mut SqliteConnection,
    key: &NewKey,
    generation: i64,
    sealed: &Sealed,
) -> Result<(), sqlx::Error> {
    sqlx::query("INSERT INTO posts (address, generation, sealed, created, next_try) VALUES (?1, ?2, ?3, ?4, ?4)")
        .bind(&key.address)
        .bind(generation)
        .bind(sealed.octets())
        .bind(seconds(key.created))
        .execute(work)
        .await
        .map(|_| ())
}

#[async_trait]
impl Posts for SqliteKeys {
    async fn take_post(&self, now: SystemTime, backoff: fn(u32) -> Duration) -> Result<Option<Post>, Error> {
        let taken = async {
            let due = "SELECT 1 FROM posts WHERE ended IS NULL AND next_try <= ? LIMIT 1";
            // Most turns find nothing, and need not wait for the writer.
            if sqlx::query(due).bind(seconds(now)).fetch_optional(self.0.readers()).await?.is_none() {
                return Ok(None);
            }
            let mut work = self.0.writer().begin_with("BEGIN IMMEDIATE").await?;
            let post = take(&mut work, now, backoff).await?;
            work.commit().await?;
            Ok(post)
        };
        taken.await.map_err(|e| self.0.failed(e))
    }

    async fn postpone_post(&self, post: &Post, why: &str) -> Result<(), Error> {
        sqlx::query("UPDATE posts SET note = ? WHERE address = ? AND generation = ? AND ended IS NULL")
            .bind(why)
            .bind(&post.address)
            .bind(post.generation)
            .execute(self.0.writer())
            .await
            .map(|_| ())
            .map_err(|e| self.0.failed(e))
    }

    async fn end_post(&self, post: &Post, outcome: &str, now: SystemTime) -> Result<(), Error> {
        let ended = async {
            let mut line = self.0.writer().acquire().await?;
            end(&mut line, &post.address, post.generation, outcome, now).await
        };
        ended.await.map_err(|e| self.0.failed(e))
    }

    async fn posts_of(&self, address: &str) -> Result<Vec<PostRow>, Error> {
        let read = |row: &sqlx::sqlite::SqliteRow| {
            Ok(PostRow {
                generation: row.try_get("generation")?,
                tries: row.try_get("tries")?,
                next_try: time(row.try_get("next_try")?),
                outcome: row.try_get("outcome")?,
                note: row.try_get("note")?,
            })
        };
        sqlx::query(
            "SELECT generation, tries, next_try, outcome, note FROM posts WHERE address = ? ORDER BY generation DESC",
        )
        .bind(folded(address).unwrap_or_default())
        .fetch_all(self.0.readers())
        .await
        .and_then(|rows| rows.iter().map(read).collect())
        .map_err(|e| self.0.failed(e))
    }

    async fn owing(&self) -> Result<Owing, Error> {
        let read = |row: sqlx::sqlite::SqliteRow| {
            let waiting: i64 = row.try_get(0)?;
            let oldest: Option<i64> = row.try_get(1)?;
            Ok(Owing { waiting: u64::try_from(waiting).unwrap_or_default(), oldest: oldest.map(time) })
        };
        sqlx::query("SELECT count(*), min(created) FROM posts WHERE ended IS NULL")
            .fetch_one(self.0.readers())
            .await
            .and_then(read)
            .map_err(|e| self.0.failed(e))
    }
}

/// The next post of a key that lives; those before it whose keys were revoked or ended, end.
async fn take(
    work: &mut SqliteConnection,
    now: SystemTime,
    backoff: fn(u32) -> Duration,
) -> Result<Option<Post>, sqlx::Error> {
    loop {
        let row = sqlx::query(
            "SELECT p.address, p.generation, p.sealed, p.tries, k.created, k.expires, k.revoked
             FROM posts p JOIN keys k USING (address, generation)
             WHERE p.ended IS NULL AND p.next_try <= ? ORDER BY p.next_try, p.address, p.generation LIMIT 1",
        )
        .bind(seconds(now))
        .fetch_optional(&mut *work)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let address: String = row.try_get("address")?;
        let generation: i64 = row.try_get("generation")?;
        let expires: i64 = row.try_get("expires")?;
        let dead = match row.try_get::<Option<i64>, _>("revoked")? {
            Some(_) => Some("revoked"),
            None => (expires <= seconds(now)).then_some("expired"),
        };
        if let Some(outcome) = dead {
            end(work, &address, generation, outcome, now).await?;
            continue;
        }
        let tries = row.try_get::<u32, _>("tries")?.saturating_add(1);
        sqlx::query("UPDATE posts SET tries = ?, next_try = ? WHERE address = ? AND generation = ?")
            .bind(tries)
            .bind(seconds(now.checked_add(backoff(tries)).unwrap_or(now)))
            .bind(&address)
            .bind(generation)
            .execute(&mut *work)
            .await?;
        let sealed = Sealed::from_octets(row.try_get("sealed")?);
        let created = time(row.try_get("created")?);
        return Ok(Some(Post { address, generation, sealed, created, expires: time(expires), tries }));
    }
}

async fn end(
    work: &mut SqliteConnection,
    address: &str,
    generation: i64,
    outcome: &str,
    now: SystemTime,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE posts SET ended = ?, outcome = ?, sealed = NULL, note = NULL
         WHERE address = ? AND generation = ? AND ended IS NULL",
    )
    .bind(seconds(now))
    .bind(outcome)
    .bind(address)
    .bind(generation)
    .execute(work)
    .await
    .map(|_| ())
}
