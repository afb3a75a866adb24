//! How the files stand, without making or changing one.

use std::path::Path;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{Connection as _, SqliteConnection};

use super::opened::{patiently, unopened};
use crate::store::plan::{self, Plan};
use crate::store::status::{Schema, Status};
use crate::store::{Error, Opening, is_there};

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
    let options = SqliteConnectOptions::new().filename(&path).read_only(true).busy_timeout(opening.busy);
    let read = || async {
        let mut connection = SqliteConnection::connect_with(&options).await?;
        let version: i64 = sqlx::query_scalar("PRAGMA user_version").fetch_one(&mut connection).await?;
        let mut found = Vec::new();
        for count in counts.iter().filter(|_| version == known) {
            let count: i64 = sqlx::query_scalar(*count).fetch_one(&mut connection).await?;
            found.push(u64::try_from(count).unwrap_or_default());
        }
        connection.close().await?;
        Ok((version, found))
    };
    let read = patiently(opening.busy, read).await;
    let (version, found) = read.map_err(|e| unopened(&path, &e, opening.busy))?;
    schema.version = version;
    Ok((schema, found))
}
