//! How the AS's table and the keyring stand, wherever they are.

use serde::Serialize;

/// Where the tables are, which version they have, and what is in them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Status {
    /// Which database or directory, without a password.
    pub place: String,
    /// The parts that have a version of their own.
    pub schemas: Vec<Schema>,
    /// What the login may do: `authority`, `learn`, `stamp`, `own`; absent where the rights are those of files.
    pub rights: Option<Vec<&'static str>>,
    /// Addresses that get keys in time; absent: not there, or not to be seen with these rights.
    pub addresses: Option<u64>,
    /// Keys of theirs, ended ones too, until they are swept.
    pub keys: Option<u64>,
    /// Keys that are still to be sent to their addresses.
    pub owed: Option<u64>,
    /// Present keys in the keyring.
    pub keyring: Option<u64>,
}

/// The version of a part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Schema {
    /// What has it.
    pub of: String,
    /// The version; 0: it is not there.
    pub version: i64,
    /// The version that this program knows.
    pub known: i64,
}

impl Status {
    /// Whether the daemons can work with it: SQLite's files are made and brought up to date when they are opened, tables in
    /// PostgreSQL by `addrauth store migrate` alone.
    pub fn is_usable(&self) -> bool {
        match self.rights {
            None => self.schemas.iter().all(|schema| schema.version <= schema.known),
            Some(_) => self.schemas.iter().all(|schema| schema.version == schema.known),
        }
    }
}
