//! The schema in PostgreSQL: made and brought up to date by a command alone, looked at by everybody.

use serde::Serialize;
use sqlx::{Connection as _, PgConnection};

use super::Place;
use super::fault::Fault;
use crate::store::plan::{POSTGRES, Stand};
use crate::store::{Error, Opening};

/// The roles that logins are made members of.
const ROLES: &str = include_str!("../schema/postgres.roles.sql");
/// What each of them may do.
const GRANTS: &str = include_str!("../schema/postgres.grants.sql");
/// What those who migrate at once wait for, one for another: any number that nobody else takes ("addrauth" in ASCII).
const LOCK: i64 = 0x6164_6472_6175_7468;

/// What a migration did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Migrated {
    /// Which database, without a password.
    pub place: String,
    /// The version that was found; 0: there was nothing.
    pub found: i64,
    /// The version that it has now.
    pub version: i64,
    /// Statements for somebody who may make roles and give rights, where this login may not.
    pub left: Option<String>,
}

/// Looks whether the schema is the one that this program knows.
pub(super) async fn check(connection: &mut PgConnection, place: &str) -> Result<(), Fault> {
    let found = version(connection).await?;
    let known = POSTGRES.known();
    match POSTGRES.at(found) {
        Stand::Current => Ok(()),
        Stand::Older(_) => Err(Fault::Known(Error::OldSchema { place: place.to_owned(), found, known })),
        Stand::Newer => Err(Fault::Known(Error::Newer { path: place.into(), found, known })),
    }
}

/// The version of the schema; 0 where there is none.
pub(super) async fn version(connection: &mut PgConnection) -> Result<i64, Fault> {
    match sqlx::query_scalar("SELECT version FROM addrauth.version")
        .fetch_optional(connection)
        .await
        .map_err(Fault::from)
    {
        Ok(found) => Ok(found.unwrap_or_default()),
        Err(fault) if fault.is_missing() => Ok(0),
        Err(fault) => Err(fault),
    }
}

/// Makes the schema, or brings it up to date, and gives the roles their rights.
pub(super) async fn migrate(place: &Place, opening: Opening) -> Result<Migrated, Error> {
    let work = async {
        let mut connection = PgConnection::connect_with(&place.options).await?;
        let found = step(&mut connection, &place.name).await?;
        let left = grant(&mut connection).await?;
        // Not an error of ours to report: everything is committed.
        let _ = connection.close().await;
        Ok(Migrated { place: place.name.clone(), found, version: POSTGRES.known(), left })
    };
    // Making tables is quick; who waits is waiting for another migration, and the server ends that by itself.
    match tokio::time::timeout(super::SCAN + opening.busy, work).await {
        Ok(done) => done.map_err(|fault: Fault| fault.told(&place.name)),
        Err(_) => Err(Error::Unreachable { place: place.name.clone(), text: "no answer".into() }),
    }
}

/// All steps that are missing, in one transaction; the version that was found.
async fn step(connection: &mut PgConnection, place: &str) -> Result<i64, Fault> {
    let encoding: String = sqlx::query_scalar("SHOW server_encoding").fetch_one(&mut *connection).await?;
    if encoding != "UTF8" {
        return Err(Fault::Known(Error::Encoding { place: place.to_owned(), encoding }));
    }
    let mut work = connection.begin().await?;
    sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(LOCK).execute(&mut *work).await?;
    let there: bool =
        sqlx::query_scalar("SELECT to_regclass('addrauth.version') IS NOT NULL").fetch_one(&mut *work).await?;
    if !there {
        sqlx::raw_sql(
            "CREATE SCHEMA IF NOT EXISTS addrauth;
             CREATE TABLE addrauth.version (version bigint NOT NULL);
             INSERT INTO addrauth.version VALUES (0)",
        )
        .execute(&mut *work)
        .await?;
    }
    let found = version(&mut work).await?;
    let missing = match POSTGRES.at(found) {
        Stand::Current => return Ok(found),
        Stand::Older(missing) => missing,
        Stand::Newer => {
            return Err(Fault::Known(Error::Newer { path: place.into(), found, known: POSTGRES.known() }));
        }
    };
    for step in missing {
        sqlx::raw_sql(*step).execute(&mut *work).await?;
    }
    sqlx::query("UPDATE addrauth.version SET version = $1").bind(POSTGRES.known()).execute(&mut *work).await?;
    work.commit().await?;
    Ok(found)
}

/// Makes the roles and gives them their rights; the statements that somebody else has to run, where we may not.
async fn grant(connection: &mut PgConnection) -> Result<Option<String>, Fault> {
    // Roles belong to the whole cluster: another database's migration may make them at the same time.
    let mut denied = false;
    for role in ROLES.lines().filter(|line| line.starts_with("CREATE ROLE")) {
        let name = role.split_whitespace().nth(2).unwrap_or_default();
        let there = "SELECT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = $1)";
        if sqlx::query_scalar(there).bind(name).fetch_one(&mut *connection).await? {
            continue;
        }
        match sqlx::raw_sql(role).execute(&mut *connection).await.map_err(Fault::from) {
            Err(fault) if fault.is_denied() => denied = true,
            Err(fault) if !fault.is_taken() => return Err(fault),
            _ => {}
        }
    }
    let statements = || Some(format!("{ROLES}\n{GRANTS}"));
    if denied {
        return Ok(statements());
    }
    let mut work = connection.begin().await?;
    sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(LOCK).execute(&mut *work).await?;
    match sqlx::raw_sql(GRANTS).execute(&mut *work).await.map_err(Fault::from) {
        Ok(_) => work.commit().await?,
        Err(fault) if fault.is_denied() => return Ok(statements()),
        Err(fault) => return Err(fault),
    }
    Ok(None)
}
