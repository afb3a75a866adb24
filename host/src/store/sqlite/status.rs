//! How the files stand, without making or changing one.

use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use super::opened::{patiently, unopened};
use super::{Fault, Statements as _};
use crate::store::plan::{self, Plan, Stand};
use crate::store::status::{Schema, Status};
use crate::store::{Error, Opening, is_there};

/// How many octets of a file [`check_version`] needs.
pub const HEADER: u64 = 64;

/// Whether this program knows the version in the first [`HEADER`] octets of one of the databases (user_version, offset 60 of
/// SQLite's file format). A version that is in the log alone, as after a crash, is not seen.
///
/// # Errors
/// [`Error::Newer`], as at the start; [`Error::Damaged`] where the octets are too few.
pub fn check_version(path: &Path, begin: &[u8]) -> Result<(), Error> {
    let plans = [plan::FILTER, plan::AUTHORITY, plan::KEYRING];
    let Some(plan) = plans.into_iter().find(|plan| path.ends_with(plan.of)) else { return Ok(()) };
    let Some(version) = begin.get(60..64).and_then(|octets| octets.try_into().ok()) else {
        return Err(Error::Damaged { path: path.to_owned(), text: "its header is cut".to_owned() });
    };
    let found = i64::from(i32::from_be_bytes(version));
    match plan.at(found) {
        Stand::Newer => Err(Error::Newer { path: path.to_owned(), found, known: plan.known() }),
        Stand::Current | Stand::Older(_) => Ok(()),
    }
}

/// How `authority.db` and `keyring.db` in this directory stand.
pub(in crate::store) async fn status(dir: &Path, opening: Opening) -> Result<Status, Error> {
    let authority = [
        "SELECT count(*) FROM settings",
        "SELECT count(*) FROM keys",
        "SELECT count(*) FROM posts WHERE ended IS NULL",
    ];
    let (authority, counts) = look(dir, plan::AUTHORITY, &authority, opening).await?;
    let present = ["SELECT count(*) FROM keyring WHERE sealed IS NOT NULL"];
    let (keyring, present) = look(dir, plan::KEYRING, &present, opening).await?;
    let count = |at: usize| counts.get(at).copied();
    Ok(Status {
        place: format!("SQLite files in {}", dir.display()),
        schemas: vec![authority, keyring],
        rights: None,
        addresses: count(0),
        keys: count(1),
        owed: count(2),
        keyring: present.first().copied(),
    })
}

/// The version of a file, and what it counts where that is the version known.
async fn look(dir: &Path, plan: Plan, counts: &[&'static str], opening: Opening) -> Result<(Schema, Vec<u64>), Error> {
    let path = dir.join(plan.of);
    let known = plan.known();
    let mut schema = Schema { of: plan.of.to_owned(), version: 0, known };
    if !is_there(&path)? {
        return Ok((schema, Vec::new()));
    }
    let read = patiently(opening.busy, || {
        let (path, counts) = (path.clone(), counts.to_vec());
        move || counted(&path, known, &counts, opening)
    });
    let (version, found) = read.await.map_err(|e| unopened(&path, &e, opening.busy))?;
    schema.version = version;
    Ok((schema, found))
}

/// The version of a file that is only read, and what these statements count where that is the version known.
fn counted(path: &Path, known: i64, counts: &[&str], opening: Opening) -> Result<(i64, Vec<u64>), Fault> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(opening.busy)?;
    let version: i64 = connection.one("PRAGMA user_version", ())?;
    let mut found = Vec::new();
    for count in counts.iter().filter(|_| version == known) {
        let count: i64 = connection.one(count, ())?;
        found.push(u64::try_from(count).unwrap_or_default());
    }
    Ok((version, found))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::store::sqlite::Database;

    #[tokio::test]
    async fn the_version_is_read_from_the_header_and_a_newer_one_refused_in_the_words_of_the_start() {
        let opening = Opening { busy: Duration::from_secs(2), readers: 1 };
        for plan in [plan::FILTER, plan::AUTHORITY, plan::KEYRING] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join(plan.of);
            let stands = |version: Option<i64>| {
                let (dir, path) = (dir.path().to_owned(), path.clone());
                async move {
                    let db = Database::open(&dir, plan, opening).await.unwrap();
                    if let Some(version) = version {
                        db.run(&format!("PRAGMA user_version = {version}")).await.unwrap();
                    }
                    db.close().await;
                    let octets = std::fs::read(&path).unwrap();
                    check_version(&path, &octets[..64]).map_err(|e| e.to_string())
                }
            };
            assert_eq!(stands(None).await, Ok(()));
            let said = stands(Some(plan.known() + 1)).await.unwrap_err();
            assert_eq!(said, Database::open(dir.path(), plan, opening).await.unwrap_err().to_string());
            assert!(said.contains("newer addrauth"), "{said}");
            assert!(matches!(check_version(&path, b"SQLite format 3\0"), Err(Error::Damaged { .. })));
        }
    }
}
