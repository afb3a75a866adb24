//! What the console keeps for itself, in `console.db`: accounts, sessions, one-use links, and who did what.

mod accounts;
mod acts;
mod links;
mod sessions;

use std::path::Path;
use std::time::SystemTime;

use super::sqlite::{Database, Statements as _};
use super::{Error, Opening, UnknownWord, plan, seconds};

pub use accounts::AccountRow;
pub use acts::{Act, ActRow};
pub use links::{Link, LinkAct};
pub use sessions::{Holder, Session};

/// The SHA-256 of a secret that a browser or a mail holds: what is read in a backup opens nothing.
pub type TokenHash = [u8; 32];

/// What somebody may do in the console.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Role {
    /// Everything.
    Admin,
    /// Mail of some domains.
    Domain,
    /// To look at everything but what messages in quarantine say, and to change nothing.
    Reader,
    /// His own mail.
    User,
}

impl Role {
    /// All roles.
    pub const ALL: [Role; 4] = [Role::Admin, Role::Domain, Role::Reader, Role::User];

    /// The word of the table, of the command line and of pages.
    pub fn word(self) -> &'static str {
        match self {
            Role::Admin => "admin",
            Role::Domain => "domain",
            Role::Reader => "reader",
            Role::User => "user",
        }
    }

    /// What a word means.
    ///
    /// # Errors
    /// It is none of them.
    pub fn of_word(word: &str) -> Result<Role, UnknownWord> {
        let known = Role::ALL.into_iter().find(|role| role.word() == word);
        known.ok_or_else(|| UnknownWord { what: "role", word: word.to_owned() })
    }
}

/// What the console keeps for itself, `console.db`.
#[derive(Clone, Debug)]
pub struct Register(Database);

impl Register {
    /// Opens the file in this directory, and makes it where there is none.
    ///
    /// # Errors
    /// It cannot be opened.
    pub async fn open(dir: &Path, opening: Opening) -> Result<Register, Error> {
        Ok(Register(Database::open(dir, plan::CONSOLE, opening).await?))
    }

    /// Closes the file; every later verb fails.
    pub async fn close(&self) {
        self.0.close().await;
    }

    /// Forgets sessions that nobody used since `seen`, links that ended before `now`, and acts from before `acts`.
    ///
    /// # Errors
    /// The file cannot be written.
    pub async fn sweep(&self, now: SystemTime, seen: SystemTime, acts: SystemTime) -> Result<(), Error> {
        let swept = self.0.write(move |work| {
            work.run("DELETE FROM session WHERE seen < ?", [seconds(seen)])?;
            // An hour longer, since as many may be asked for within one.
            work.run("DELETE FROM link WHERE expires < ?", [seconds(now) - 3_600])?;
            work.run("DELETE FROM act WHERE at < ?", [seconds(acts)])
        });
        swept.await.map(drop)
    }
}

#[cfg(test)]
#[path = "register/tests.rs"]
mod tests;
