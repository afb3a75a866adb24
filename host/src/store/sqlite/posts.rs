//! Keys on their way, in SQLite.

use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use sqlx::{Row, SqliteConnection};

use super::SqliteKeys;
use crate::proto::address::Mailbox;
use crate::proto::seal::Sealed;
use crate::store::{Error, NewKey, Owing, Post, PostEnd, PostRow, Posts, seconds, time};

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

/// Posts that end without being sent in one transaction: after a long standstill there are many, and others want to write.
const ENDED_AT_ONCE: u32 = 1_000;

/// What the longest waiting post came to.
enum First {
    None,
    /// Its key ended or was revoked, and so its post ended, with others of that kind.
    Ended,
    Taken(Post),
}

async fn first(
    work: &mut SqliteConnection,
    now: SystemTime,
    backoff: fn(u32) -> Duration,
) -> Result<First, sqlx::Error> {
    let row = sqlx::query(
        "SELECT p.address, p.generation, p.sealed, p.tries, k.created, k.expires,
           k.revoked IS NOT NULL OR k.expires <= ?1 AS dead
         FROM posts p CROSS JOIN keys k USING (address, generation)
         WHERE p.ended IS NULL AND p.next_try <= ?1 ORDER BY p.next_try, p.address LIMIT 1",
    )
    .bind(seconds(now))
    .fetch_optional(&mut *work)
    .await?;
    let Some(row) = row else { return Ok(First::None) };
    if row.try_get("dead")? {
        end_dead(work, now).await?;
        return Ok(First::Ended);
    }
    let tries = row.try_get::<u32, _>("tries")?.saturating_add(1);
    let post = Post {
        address: mailbox(row.try_get("address")?)?,
        generation: row.try_get("generation")?,
        sealed: Sealed::from_octets(row.try_get("sealed")?),
        created: time(row.try_get("created")?),
        expires: time(row.try_get("expires")?),
        tries,
    };
    sqlx::query("UPDATE posts SET tries = ?, next_try = ? WHERE address = ? AND generation = ?")
        .bind(tries)
        .bind(seconds(now.checked_add(backoff(tries)).unwrap_or(now)))
        .bind(post.address.as_str())
        .bind(post.generation)
        .execute(work)
        .await?;
    Ok(First::Taken(post))
}

fn mailbox(address: &str) -> Result<Mailbox, sqlx::Error> {
    Mailbox::parse(address).ok_or_else(|| sqlx::Error::Decode("an address is none".into()))
}

/// Ends the posts of dead keys among those whose turn has come first.
async fn end_dead(work: &mut SqliteConnection, now: SystemTime) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE posts SET ended = ?1, sealed = NULL, note = NULL,
           outcome = CASE WHEN k.revoked IS NULL THEN 'expired' ELSE 'revoked' END
         FROM keys k WHERE k.address = posts.address AND k.generation = posts.generation
           AND (k.revoked IS NOT NULL OR k.expires <= ?1)
           AND (posts.address, posts.generation) IN (
             SELECT address, generation FROM posts WHERE ended IS NULL AND next_try <= ?1
             ORDER BY next_try, address LIMIT ?2)",
    )
    .bind(seconds(now))
    .bind(ENDED_AT_ONCE)
    .execute(work)
    .await
    .map(|_| ())
}

#[async_trait]
impl Posts for SqliteKeys {
    async fn take_post(&self, now: SystemTime, backoff: fn(u32) -> Duration) -> Result<Option<Post>, Error> {
        self.0.in_place()?;
        let taken = async {
            let due = "SELECT 1 FROM posts WHERE ended IS NULL AND next_try <= ? LIMIT 1";
            // Most turns find nothing, and need not wait for the writer.
            if sqlx::query(due).bind(seconds(now)).fetch_optional(self.0.readers()).await?.is_none() {
                return Ok(None);
            }
            loop {
                let mut work = self.0.writer().begin_with("BEGIN IMMEDIATE").await?;
                let found = first(&mut work, now, backoff).await?;
                work.commit().await?;
                match found {
                    First::None => return Ok(None),
                    First::Taken(post) => return Ok(Some(post)),
                    First::Ended => {}
                }
            }
        };
        let taken = taken.await.map_err(|e| self.0.failed(e))?;
        // A key is sent only where it will be found again.
        self.0.in_place()?;
        Ok(taken)
    }

    async fn postpone_post(&self, post: &Post, why: &str) -> Result<(), Error> {
        // By the sealed key too: in a backup that was put in place the same generation may be another key's.
        sqlx::query("UPDATE posts SET note = ? WHERE address = ? AND generation = ? AND sealed = ? AND ended IS NULL")
            .bind(why)
            .bind(post.address.as_str())
            .bind(post.generation)
            .bind(post.sealed.octets())
            .execute(self.0.writer())
            .await
            .map(|_| ())
            .map_err(|e| self.0.failed(e))
    }

    async fn end_post(&self, post: &Post, outcome: &PostEnd, now: SystemTime) -> Result<(), Error> {
        sqlx::query(
            "UPDATE posts SET ended = ?, outcome = ?, sealed = NULL, note = NULL
             WHERE address = ? AND generation = ? AND sealed = ? AND ended IS NULL",
        )
        .bind(seconds(now))
        .bind(outcome.to_string())
        .bind(post.address.as_str())
        .bind(post.generation)
        .bind(post.sealed.octets())
        .execute(self.0.writer())
        .await
        .map_err(|e| self.0.failed(e))?;
        self.0.in_place()
    }

    async fn forget_ended(&self) {
        self.0.empty_log().await;
    }

    async fn posts_of(&self, address: &Mailbox) -> Result<Vec<PostRow>, Error> {
        let read = |row: &sqlx::sqlite::SqliteRow| {
            Ok(PostRow {
                generation: row.try_get("generation")?,
                tries: row.try_get("tries")?,
                next_try: time(row.try_get("next_try")?),
                outcome: row.try_get::<Option<&str>, _>("outcome")?.map(PostEnd::of_words),
                note: row.try_get("note")?,
            })
        };
        sqlx::query(
            "SELECT generation, tries, next_try, outcome, note FROM posts WHERE address = ? ORDER BY generation DESC",
        )
        .bind(address.as_str())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::key::VerifyKey;
    use crate::store::{Addresses as _, Forgeries as _, Keys, Opening, SettingsRow};

    fn named(address: &str) -> Mailbox {
        Mailbox::parse(address).unwrap()
    }

    const OPENING: Opening = Opening { busy: Duration::from_secs(2), readers: 2 };

    fn owed(n: u64, created: i64, expires: i64) -> NewKey {
        NewKey {
            address: format!("user{n}@example.com"),
            k: VerifyKey::from_octets([7; 32]),
            created: time(created),
            expires: time(expires),
            others_end: None,
            turn: None,
            only_due: false,
            post: Some(Sealed::from_octets(vec![1; 112])),
        }
    }

    #[tokio::test]
    async fn the_dead_end_in_lots_and_the_living_behind_them_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let table = SqliteKeys::open(dir.path(), OPENING).await.unwrap();
        let mut keys: Vec<_> = (0..2_500).map(|n| owed(n, 100, 200)).collect();
        keys.extend([owed(5_000, 150, 900), owed(5_001, 160, 900), owed(5_002, 140, 900)]);
        table.add_all(&keys, 4).await.unwrap();
        table.revoke(&named("user5002@example.com"), &[1], time(170)).await.unwrap();
        let minute = |_| Duration::from_secs(60);
        let post = table.take_post(time(300), minute).await.unwrap().unwrap();
        assert_eq!((post.address.as_str(), post.tries), ("user5000@example.com", 1));
        let owing = table.owing().await.unwrap();
        assert_eq!((owing.waiting, owing.oldest), (2, Some(time(150))));
        for (address, outcome) in [("user7@example.com", PostEnd::Expired), ("user5002@example.com", PostEnd::Revoked)]
        {
            assert_eq!(table.posts_of(&named(address)).await.unwrap()[0].outcome, Some(outcome));
        }
        assert_eq!(table.take_post(time(300), minute).await.unwrap().unwrap().address.as_str(), "user5001@example.com");
        assert!(table.take_post(time(300), minute).await.unwrap().is_none());
        let again = table.take_post(time(360), minute).await.unwrap().unwrap();
        assert_eq!((again.address.as_str(), again.tries), ("user5000@example.com", 2));
    }

    #[tokio::test]
    async fn a_post_ends_no_other_of_the_same_generation() {
        let (dir, restored) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let table = SqliteKeys::open(dir.path(), OPENING).await.unwrap();
        table.add_all(&[owed(1, 100, 900)], 4).await.unwrap();
        let post = table.take_post(time(200), |_| Duration::from_secs(60)).await.unwrap().unwrap();
        let other = SqliteKeys::open(restored.path(), OPENING).await.unwrap();
        let key = NewKey { post: Some(Sealed::from_octets(vec![2; 112])), ..owed(1, 100, 900) };
        other.add_all(&[key], 4).await.unwrap();
        other.postpone_post(&post, "later").await.unwrap();
        other.end_post(&post, &PostEnd::Sent, time(200)).await.unwrap();
        let row = &other.posts_of(&named("user1@example.com")).await.unwrap()[0];
        assert_eq!((row.generation, &row.outcome, &row.note), (post.generation, &None, &None));
        table.end_post(&post, &PostEnd::Sent, time(200)).await.unwrap();
        assert_eq!(table.posts_of(&named("user1@example.com")).await.unwrap()[0].outcome, Some(PostEnd::Sent));
    }

    #[tokio::test]
    async fn what_is_written_to_a_file_that_was_removed_is_no_success() {
        let now = time(200);
        for verb in 0..8 {
            let dir = tempfile::tempdir().unwrap();
            let table = SqliteKeys::open(dir.path(), OPENING).await.unwrap();
            table.add_all(&[owed(1, 100, 900)], 4).await.unwrap();
            let address = "user1@example.com".to_owned();
            let row = SettingsRow { address: address.clone(), agi: None, avt: None, created: now, due: now };
            table.enlist(std::slice::from_ref(&row), &mut |_| ()).await.unwrap();
            let post = table.take_post(now, |_| Duration::ZERO).await.unwrap().unwrap();
            std::fs::remove_file(dir.path().join("authority.db")).unwrap();
            let answer = match verb {
                0 => table.take_post(now, |_| Duration::ZERO).await.map(drop),
                1 => table.end_post(&post, &PostEnd::Sent, now).await,
                2 => table.enlist(std::slice::from_ref(&row), &mut |_| ()).await.map(drop),
                3 => table.set(&row).await.map(drop),
                4 => table.strike(std::slice::from_ref(&address), now).await.map(drop),
                5 => table.take_back(&[(address, 1)], now).await,
                6 => table.settings(&address).await.map(drop),
                _ => table.count_forged(&[], 9).await,
            };
            assert!(matches!(answer, Err(Error::Moved { .. })), "{verb}: {answer:?}");
        }
    }

    #[tokio::test]
    async fn the_sealed_key_of_an_ended_post_is_in_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let table = SqliteKeys::open(dir.path(), OPENING).await.unwrap();
        let sealed: Vec<u8> = (0..112).map(|n| n ^ 0x5a).collect();
        let key = NewKey { post: Some(Sealed::from_octets(sealed.clone())), ..owed(1, 100, 900) };
        table.add_all(&[key], 4).await.unwrap();
        let holds = || {
            let files = std::fs::read_dir(dir.path()).unwrap().map(|file| std::fs::read(file.unwrap().path()).unwrap());
            files.into_iter().any(|octets| octets.windows(sealed.len()).any(|part| part == sealed))
        };
        assert!(holds());
        let post = table.take_post(time(200), |_| Duration::from_secs(60)).await.unwrap().unwrap();
        table.end_post(&post, &PostEnd::Sent, time(200)).await.unwrap();
        table.forget_ended().await;
        assert!(!holds());
    }
}
