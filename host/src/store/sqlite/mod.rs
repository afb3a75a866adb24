//! SQLite, the embedded default: a file for each role that has rights of its own.

mod addresses;
mod changes;
mod connections;
mod database;
mod fault;
mod forged;
mod keyring;
mod keys;
mod log_index;
mod opened;
mod posts;
mod statements;
mod status;

use std::path::Path;

pub(super) use database::Database;
pub use database::prepare_dir;
pub(super) use fault::Fault;
pub(super) use statements::Statements;
pub(super) use status::status;
pub use status::{HEADER, check_version};

use super::{Changes, Error, KeyTable, Opening, plan};

/// The AS's table, `authority.db`.
#[derive(Clone, Debug)]
pub struct SqliteKeys(Database);

impl SqliteKeys {
    /// Opens the table in this directory, and makes it where there is none.
    pub async fn open(dir: &Path, opening: Opening) -> Result<SqliteKeys, Error> {
        Ok(SqliteKeys(Database::open(dir, plan::AUTHORITY, opening).await?))
    }
}

impl KeyTable for SqliteKeys {
    fn log(&self) -> Option<&dyn Changes> {
        Some(self)
    }
}

/// The keys that our own addresses' mail is stamped with, `keyring.db`.
#[derive(Clone, Debug)]
pub struct SqliteKeyring(Database);

impl SqliteKeyring {
    /// Opens the keyring in this directory, and makes it where there is none.
    pub async fn open(dir: &Path, opening: Opening) -> Result<SqliteKeyring, Error> {
        Ok(SqliteKeyring(Database::open(dir, plan::KEYRING, opening).await?))
    }
}
