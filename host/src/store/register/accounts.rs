//! Accounts: a name, a role, what it is for, and a password's hash.

use std::time::SystemTime;

use rusqlite::{Row, params};

use super::{Register, Role};
use crate::store::sqlite::{Fault, Statements as _};
use crate::store::{Error, seconds};

/// Somebody who may use the console.
#[derive(Clone, PartialEq, Eq)]
pub struct AccountRow {
    /// His name.
    pub name: String,
    /// What he may do.
    pub role: Role,
    /// For which domains, or for which address.
    pub scope: Vec<String>,
    /// His password as Argon2id's string.
    pub password: String,
}

impl std::fmt::Debug for AccountRow {
    /// Without the password's hash: it can be guessed at.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let AccountRow { name, role, scope, .. } = self;
        f.debug_struct("AccountRow")
            .field("name", name)
            .field("role", role)
            .field("scope", scope)
            .finish_non_exhaustive()
    }
}

impl Register {
    /// Adds an account; whether its name was free.
    ///
    /// # Errors
    /// The file cannot be written.
    pub async fn add_account(&self, account: &AccountRow, now: SystemTime) -> Result<bool, Error> {
        let AccountRow { name, role, scope, password } = account.clone();
        let added = self.0.write(move |work| {
            work.run(
                "INSERT OR IGNORE INTO account (name, role, scope, password, changed) VALUES (?, ?, ?, ?, ?)",
                params![name, role.word(), scope.join("\n"), password, seconds(now)],
            )
        });
        Ok(added.await? > 0)
    }

    /// The account of this name.
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn account(&self, name: &str) -> Result<Option<AccountRow>, Error> {
        let one = "SELECT name, role, scope, password FROM account WHERE name = ?";
        self.0.read(|work| work.first(one, [name], read))
    }

    /// All accounts, by name.
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn accounts(&self) -> Result<Vec<AccountRow>, Error> {
        self.0.read(|work| work.all("SELECT name, role, scope, password FROM account ORDER BY name", (), read))
    }

    /// Sets another password, and ends the sessions of before; whether there is such an account.
    ///
    /// # Errors
    /// The file cannot be written.
    pub async fn set_password(&self, name: &str, password: &str, now: SystemTime) -> Result<bool, Error> {
        let (name, password) = (name.to_owned(), password.to_owned());
        let changed = self.0.write(move |work| {
            work.run("DELETE FROM session WHERE account = ?", [&name])?;
            work.run(
                "UPDATE account SET password = ?, changed = ? WHERE name = ?",
                params![password, seconds(now), name],
            )
        });
        Ok(changed.await? > 0)
    }

    /// Removes an account and ends its sessions; whether there was one.
    ///
    /// # Errors
    /// The file cannot be written.
    pub async fn remove_account(&self, name: &str) -> Result<bool, Error> {
        let name = name.to_owned();
        let removed = self.0.write(move |work| {
            work.run("DELETE FROM session WHERE account = ?", [&name])?;
            work.run("DELETE FROM account WHERE name = ?", [&name])
        });
        Ok(removed.await? > 0)
    }
}

fn read(row: &Row<'_>) -> Result<AccountRow, Fault> {
    let scope: String = row.get("scope")?;
    Ok(AccountRow {
        name: row.get("name")?,
        role: Role::of_word(&row.get::<_, String>("role")?)?,
        scope: scope.lines().map(str::to_owned).collect(),
        password: row.get("password")?,
    })
}
