//! PostgreSQL, the way past one machine: MX, submission server and AS share one database, each with rights of its own.
//!
//! Its verbs mean what SQLite's mean. Daemons never change the schema (`addrauth store migrate` does); they start without a
//! server too, fail each verb while there is none, and go on by themselves when it is back. Nothing is ever half done: what
//! is more than one statement is one transaction, under READ COMMITTED and row locks, taken in the order of addresses.

mod addresses;
mod copy;
mod database;
mod fault;
mod forged;
mod keyring;
mod keys;
mod place;
mod posts;
mod schema;
mod status;

use std::collections::HashMap;
use std::time::Duration;

pub use copy::{Copied, CopiedTable, copy};
use database::{Database, Line};
use fault::Fault;
use place::Place;
pub use schema::Migrated;

use super::status::Status;
use super::{Changes, Error, KeyTable, Opening};
use crate::config::Store;

/// What reads or deletes the rows of a million addresses takes seconds; a server that needs longer is stuck. Also how long
/// the server keeps the locks of a process that vanished.
const SCAN: Duration = Duration::from_secs(60);

/// The AS's table, in PostgreSQL.
#[derive(Clone, Debug)]
pub struct PostgresKeys(Database);

impl PostgresKeys {
    /// Connects where `store` says. Without a server it opens too, and its verbs fail until there is one.
    ///
    /// # Errors
    /// A URL that is none of ours, a schema that is not there or of another version, a login that may not in.
    pub async fn open(store: &Store, opening: Opening) -> Result<PostgresKeys, Error> {
        Ok(PostgresKeys(Database::open(place(store, opening)?, opening).await?))
    }
}

impl KeyTable for PostgresKeys {
    fn log(&self) -> Option<&dyn Changes> {
        None
    }
}

/// The keys that our own addresses' mail is stamped with, in PostgreSQL.
#[derive(Clone, Debug)]
pub struct PostgresKeyring(Database);

impl PostgresKeyring {
    /// Connects where `store` says; as [`PostgresKeys::open`].
    pub async fn open(store: &Store, opening: Opening) -> Result<PostgresKeyring, Error> {
        Ok(PostgresKeyring(Database::open(place(store, opening)?, opening).await?))
    }
}

/// Makes the tables in the database that `store` names, or brings them up to date, and gives the three roles
/// (`addrauth_authority`, `addrauth_learn`, `addrauth_stamp`) their rights; with the rights of the login in the URL.
pub async fn migrate(store: &Store, opening: Opening) -> Result<Migrated, Error> {
    schema::migrate(&place(store, opening)?, opening).await
}

/// How the database that `store` names stands.
pub(super) async fn status(store: &Store, opening: Opening) -> Result<Status, Error> {
    status::status(&place(store, opening)?, opening).await
}

/// Whether `store` can be used; connects to nothing.
pub(super) fn check(store: &Store, opening: Opening) -> Result<(), Error> {
    place(store, opening).map(|_| ())
}

fn place(store: &Store, opening: Opening) -> Result<Place, Error> {
    Place::parse(&store.url, &store.password_file, opening.busy)
}

/// Parts in each of which an address comes but once, sorted by address, so that those who lock rows at the same time
/// lock them in the same order; what comes later of an address is in a later part.
fn rounds<T>(rows: &[T], address: impl Fn(&T) -> &str) -> Vec<Vec<(usize, &T)>> {
    let mut seen: HashMap<&str, usize> = HashMap::with_capacity(rows.len());
    let mut rounds: Vec<Vec<(usize, &T)>> = Vec::new();
    for (at, row) in rows.iter().enumerate() {
        let times = seen.entry(address(row)).or_default();
        if *times == rounds.len() {
            rounds.push(Vec::new());
        }
        if let Some(round) = rounds.get_mut(*times) {
            round.push((at, row));
        }
        *times += 1;
    }
    for round in &mut rounds {
        round.sort_unstable_by(|(_, one), (_, other)| address(one).cmp(address(other)));
    }
    rounds
}

/// A count as PostgreSQL has it.
fn count(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_later_of_an_address_is_in_a_later_round() {
        let rows = ["b", "a", "b", "c", "b", "a"];
        let rounds = rounds(&rows, |row| row);
        let names: Vec<Vec<_>> = rounds.iter().map(|r| r.iter().map(|(at, row)| (*at, **row)).collect()).collect();
        assert_eq!(names, [vec![(1, "a"), (0, "b"), (3, "c")], vec![(5, "a"), (2, "b")], vec![(4, "b")]]);
    }
}
