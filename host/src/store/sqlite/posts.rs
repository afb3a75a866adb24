//! Keys on their way, in SQLite.

use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use rusqlite::{Connection, Row, params};

use super::{Fault, SqliteKeys, Statements as _};
use crate::proto::address::Mailbox;
use crate::proto::seal::Sealed;
use crate::store::{Error, NewKey, Owing, Post, PostEnd, PostRow, Posts, seconds, time};

/// Owes a new key to its address.
pub(super) fn owe(work: &Connection, key: &NewKey, generation: i64, sealed: &Sealed) -> Result<(), Fault> {
    work.run(
        "INSERT INTO posts (address, generation, sealed, created, next_try) VALUES (?1, ?2, ?3, ?4, ?4)",
        params![key.address, generation, sealed.octets(), seconds(key.created)],
    )?;
    Ok(())
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

fn first(work: &Connection, now: SystemTime, backoff: fn(u32) -> Duration) -> Result<First, Fault> {
    let longest = work.first(
        "SELECT p.address, p.generation, p.sealed, p.tries, k.created, k.expires,
           k.revoked IS NOT NULL OR k.expires <= ?1 AS dead
         FROM posts p CROSS JOIN keys k USING (address, generation)
         WHERE p.ended IS NULL AND p.next_try <= ?1 ORDER BY p.next_try, p.address LIMIT 1",
        [seconds(now)],
        |row| if row.get("dead")? { Ok(None) } else { read_post(row).map(Some) },
    )?;
    let Some(living) = longest else { return Ok(First::None) };
    let Some(post) = living else {
        end_dead(work, now)?;
        return Ok(First::Ended);
    };
    let next = seconds(now.checked_add(backoff(post.tries)).unwrap_or(now));
    work.run(
        "UPDATE posts SET tries = ?, next_try = ? WHERE address = ? AND generation = ?",
        params![post.tries, next, post.address.as_str(), post.generation],
    )?;
    Ok(First::Taken(post))
}

/// A post whose turn it is; this try is counted.
fn read_post(row: &Row<'_>) -> Result<Post, Fault> {
    Ok(Post {
        address: Mailbox::parse(&row.get::<_, String>("address")?).ok_or(Fault::Column("an address is none"))?,
        generation: row.get("generation")?,
        sealed: Sealed::from_octets(row.get("sealed")?),
        created: time(row.get("created")?),
        expires: time(row.get("expires")?),
        tries: row.get::<_, u32>("tries")?.saturating_add(1),
    })
}

/// Ends the posts of dead keys among those whose turn has come first.
fn end_dead(work: &Connection, now: SystemTime) -> Result<(), Fault> {
    work.run(
        "UPDATE posts SET ended = ?1, sealed = NULL, note = NULL,
           outcome = CASE WHEN k.revoked IS NULL THEN ?3 ELSE ?4 END
         FROM keys k WHERE k.address = posts.address AND k.generation = posts.generation
           AND (k.revoked IS NOT NULL OR k.expires <= ?1)
           AND (posts.address, posts.generation) IN (
             SELECT address, generation FROM posts WHERE ended IS NULL AND next_try <= ?1
             ORDER BY next_try, address LIMIT ?2)",
        params![seconds(now), ENDED_AT_ONCE, PostEnd::Expired.to_string(), PostEnd::Revoked.to_string()],
    )?;
    Ok(())
}

#[async_trait]
impl Posts for SqliteKeys {
    async fn take_post(&self, now: SystemTime, backoff: fn(u32) -> Duration) -> Result<Option<Post>, Error> {
        self.0.in_place()?;
        let due = "SELECT 1 FROM posts WHERE ended IS NULL AND next_try <= ? LIMIT 1";
        // Most turns find nothing, and need not wait for the writer.
        let any: Option<i64> = self.0.read(|work| work.find(due, [seconds(now)]))?;
        if any.is_none() {
            return Ok(None);
        }
        let taken = loop {
            match self.0.write(move |work| first(work, now, backoff)).await? {
                First::None => break None,
                First::Taken(post) => break Some(post),
                First::Ended => {}
            }
        };
        // A key is sent only where it will be found again.
        self.0.in_place()?;
        Ok(taken)
    }

    async fn postpone_post(&self, post: &Post, why: &str) -> Result<(), Error> {
        let (post, why) = (post.clone(), why.to_owned());
        let noted = self.0.write(move |work| {
            // By the sealed key too: in a backup that was put in place the same generation may be another key's.
            work.run(
                "UPDATE posts SET note = ? WHERE address = ? AND generation = ? AND sealed = ? AND ended IS NULL",
                params![why, post.address.as_str(), post.generation, post.sealed.octets()],
            )
        });
        noted.await.map(|_| ())
    }

    async fn end_post(&self, post: &Post, outcome: &PostEnd, now: SystemTime) -> Result<(), Error> {
        let (post, outcome) = (post.clone(), outcome.to_string());
        let ended = self.0.write(move |work| {
            work.run(
                "UPDATE posts SET ended = ?, outcome = ?, sealed = NULL, note = NULL
                 WHERE address = ? AND generation = ? AND sealed = ? AND ended IS NULL",
                params![seconds(now), outcome, post.address.as_str(), post.generation, post.sealed.octets()],
            )
        });
        ended.await?;
        self.0.in_place()
    }

    async fn forget_ended(&self) {
        self.0.empty_log_later().await;
    }

    async fn posts_of(&self, address: &Mailbox) -> Result<Vec<PostRow>, Error> {
        let of = "SELECT generation, tries, next_try, outcome, note FROM posts WHERE address = ?
                  ORDER BY generation DESC";
        self.0.read(|work| work.all(of, [address.as_str()], read_row))
    }

    async fn owing(&self) -> Result<Owing, Error> {
        let counted = self.0.scan(|work| {
            let owing = work.first("SELECT count(*), min(created) FROM posts WHERE ended IS NULL", (), |row| {
                let (waiting, oldest): (i64, Option<i64>) = (row.get(0)?, row.get(1)?);
                Ok(Owing { waiting: u64::try_from(waiting).unwrap_or_default(), oldest: oldest.map(time) })
            })?;
            owing.ok_or(Fault::Column("nothing was counted"))
        });
        counted.await
    }
}

fn read_row(row: &Row<'_>) -> Result<PostRow, Fault> {
    Ok(PostRow {
        generation: row.get("generation")?,
        tries: row.get("tries")?,
        next_try: time(row.get("next_try")?),
        outcome: row.get::<_, Option<String>>("outcome")?.map(|words| PostEnd::of_words(&words)),
        note: row.get("note")?,
    })
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
