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
            sqlx::query(
                "UPDATE posts SET ended = ?1, sealed = NULL, note = NULL,
                   outcome = CASE WHEN k.revoked IS NULL THEN 'expired' ELSE 'revoked' END
                 FROM keys k WHERE k.address = posts.address AND k.generation = posts.generation
                   AND posts.ended IS NULL AND posts.next_try <= ?1 AND (k.revoked IS NOT NULL OR k.expires <= ?1)",
            )
            .bind(seconds(now))
            .execute(&mut *work)
            .await?;
            let row = sqlx::query(
                "SELECT p.address, p.generation, p.sealed, p.tries, k.created, k.expires
                 FROM posts p JOIN keys k USING (address, generation)
                 WHERE p.ended IS NULL AND p.next_try <= ? ORDER BY p.next_try, p.address LIMIT 1",
            )
            .bind(seconds(now))
            .fetch_optional(&mut *work)
            .await?;
            let Some(row) = row else {
                work.commit().await?;
                return Ok(None);
            };
            let tries = row.try_get::<u32, _>("tries")?.saturating_add(1);
            let post = Post {
                address: row.try_get("address")?,
                generation: row.try_get("generation")?,
                sealed: Sealed::from_octets(row.try_get("sealed")?),
                created: time(row.try_get("created")?),
                expires: time(row.try_get("expires")?),
                tries,
            };
            sqlx::query("UPDATE posts SET tries = ?, next_try = ? WHERE address = ? AND generation = ?")
                .bind(tries)
                .bind(seconds(now + backoff(tries)))
                .bind(&post.address)
                .bind(post.generation)
                .execute(&mut *work)
                .await?;
            work.commit().await?;
            Ok(Some(post))
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
        sqlx::query(
            "UPDATE posts SET ended = ?, outcome = ?, sealed = NULL, note = NULL
             WHERE address = ? AND generation = ? AND ended IS NULL",
        )
        .bind(seconds(now))
        .bind(outcome)
        .bind(&post.address)
        .bind(post.generation)
        .execute(self.0.writer())
        .await
        .map(|_| ())
        .map_err(|e| self.0.failed(e))
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
