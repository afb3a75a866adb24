//! Sessions: who holds which cookie. What an account may do is read anew each time, so that a change counts at once.

use std::time::{Duration, SystemTime};

use rusqlite::{Row, params};

use super::{Register, Role, TokenHash};
use crate::proto::address::Mailbox;
use crate::store::sqlite::{Fault, Statements as _};
use crate::store::{Error, seconds, time};

/// How often it is noted that a session is used.
const NOTED: Duration = Duration::from_secs(60);

/// Who holds a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// The account of this name.
    Account(String),
    /// Whoever reads the mail of this mailbox.
    Mailbox(Mailbox),
}

/// A session that lasts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Who holds it.
    pub who: String,
    /// What he may do now.
    pub role: Role,
    /// For which domains, or for which address.
    pub scope: Vec<String>,
}

impl Register {
    /// Begins a session. A holder has so many at most: the one that was not used for longest makes room.
    ///
    /// # Errors
    /// The file cannot be written.
    pub async fn begin(&self, token: TokenHash, holder: &Holder, most: u32, now: SystemTime) -> Result<(), Error> {
        let (account, mailbox) = match holder.clone() {
            Holder::Account(name) => (Some(name), None),
            Holder::Mailbox(mailbox) => (None, Some(String::from(mailbox))),
        };
        let begun = self.0.write(move |work| {
            work.run(
                "DELETE FROM session WHERE token IN (SELECT token FROM session WHERE account IS ?1 AND mailbox IS ?2
                 ORDER BY seen DESC LIMIT -1 OFFSET ?3)",
                params![account, mailbox, most.saturating_sub(1)],
            )?;
            work.run(
                "INSERT INTO session (token, account, mailbox, begun, seen) VALUES (?1, ?2, ?3, ?4, ?4)",
                params![token, account, mailbox, seconds(now)],
            )
        });
        begun.await.map(drop)
    }

    /// The session of this cookie, where it began less than `longest` ago and was used less than `idle` ago.
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn session(
        &self,
        token: TokenHash,
        (idle, longest): (Duration, Duration),
        now: SystemTime,
    ) -> Result<Option<Session>, Error> {
        let one = "SELECT s.account, s.mailbox, s.begun, s.seen, a.role, a.scope FROM session s
                   LEFT JOIN account a ON a.name = s.account WHERE s.token = ?";
        let Some((session, begun, seen)) = self.0.read(|work| work.first(one, [token], read))? else {
            return Ok(None);
        };
        let within = |at: SystemTime, span: Duration| now.duration_since(at).unwrap_or_default() < span;
        if !within(begun, longest) || !within(seen, idle) {
            return Ok(None);
        }
        if !within(seen, NOTED) {
            let noted = self.0.write(move |work| {
                work.run("UPDATE session SET seen = ? WHERE token = ?", params![seconds(now), token])
            });
            noted.await?;
        }
        Ok(Some(session))
    }

    /// Ends a session.
    ///
    /// # Errors
    /// The file cannot be written.
    pub async fn end_session(&self, token: TokenHash) -> Result<(), Error> {
        self.0.write(move |work| work.run("DELETE FROM session WHERE token = ?", [token])).await.map(drop)
    }
}

fn read(row: &Row<'_>) -> Result<(Session, SystemTime, SystemTime), Fault> {
    let (begun, seen) = (time(row.get("begun")?), time(row.get("seen")?));
    let mailbox: Option<String> = row.get("mailbox")?;
    let session = match mailbox {
        Some(mailbox) => Session { who: mailbox.clone(), role: Role::User, scope: vec![mailbox] },
        None => {
            let scope: String = row.get("scope")?;
            Session {
                who: row.get("account")?,
                role: Role::of_word(&row.get::<_, String>("role")?)?,
                scope: scope.lines().map(str::to_owned).collect(),
            }
        }
    };
    Ok((session, begun, seen))
}
