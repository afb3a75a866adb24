//! One-use links: each for one mailbox and one act, until its time is over or it is used.

use std::time::SystemTime;

use rusqlite::{Connection, Row, params};

use super::{Register, TokenHash};
use crate::store::sqlite::{Fault, Statements as _};
use crate::store::{Error, UnknownWord, seconds};

/// What a link does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LinkAct {
    /// Begins a session of the mailbox.
    Enter,
    /// Delivers a message from quarantine to the mailbox.
    Release,
    /// The same, and its sender's mail is wanted from then on.
    Want,
    /// Deletes a message in quarantine for the mailbox.
    Delete,
}

impl LinkAct {
    const ALL: [LinkAct; 4] = [LinkAct::Enter, LinkAct::Release, LinkAct::Want, LinkAct::Delete];

    /// The word of the table.
    pub fn word(self) -> &'static str {
        match self {
            LinkAct::Enter => "enter",
            LinkAct::Release => "release",
            LinkAct::Want => "want",
            LinkAct::Delete => "delete",
        }
    }

    fn of_word(word: &str) -> Result<LinkAct, UnknownWord> {
        let known = LinkAct::ALL.into_iter().find(|act| act.word() == word);
        known.ok_or_else(|| UnknownWord { what: "act of a link", word: word.to_owned() })
    }
}

/// What a link is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The text of the mailbox that it was mailed to.
    pub mailbox: String,
    /// What it does.
    pub act: LinkAct,
    /// The message in quarantine that it does this to.
    pub quarantine: Option<i64>,
}

/// The columns of a [`Link`], of one that can still be used.
const LINK: &str = "SELECT mailbox, act, quarantine FROM link WHERE token = ? AND used IS NULL AND expires > ?";

impl Register {
    /// Makes links, all of them or none.
    ///
    /// # Errors
    /// The file cannot be written.
    pub async fn make_links(
        &self,
        links: Vec<(TokenHash, Link)>,
        expires: SystemTime,
        now: SystemTime,
    ) -> Result<(), Error> {
        let made = self.0.write(move |work| links.iter().try_for_each(|link| insert(work, link, expires, now)));
        made.await
    }

    /// Makes a link that begins a session, where its mailbox got fewer than `most` of them since `since`; whether it was made.
    ///
    /// # Errors
    /// The file cannot be written.
    pub async fn make_entrance(
        &self,
        token: TokenHash,
        mailbox: &str,
        (most, since): (u32, SystemTime),
        expires: SystemTime,
        now: SystemTime,
    ) -> Result<bool, Error> {
        let link = Link { mailbox: mailbox.to_owned(), act: LinkAct::Enter, quarantine: None };
        let made = self.0.write(move |work| {
            let count: i64 = work.one(
                "SELECT count(*) FROM link WHERE mailbox = ? AND act = ? AND made > ?",
                params![link.mailbox, link.act.word(), seconds(since)],
            )?;
            if count >= i64::from(most) {
                return Ok(false);
            }
            insert(work, &(token, link), expires, now).map(|()| true)
        });
        made.await
    }

    /// What a link is for, where it can still be used.
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn link(&self, token: TokenHash, now: SystemTime) -> Result<Option<Link>, Error> {
        self.0.read(|work| work.first(LINK, params![token, seconds(now)], read))
    }

    /// Uses a link up: what it is for, the first time.
    ///
    /// # Errors
    /// The file cannot be written.
    pub async fn use_link(&self, token: TokenHash, now: SystemTime) -> Result<Option<Link>, Error> {
        let used = self.0.write(move |work| {
            let link = work.first(LINK, params![token, seconds(now)], read)?;
            work.run("UPDATE link SET used = ? WHERE token = ? AND used IS NULL", params![seconds(now), token])?;
            Ok(link)
        });
        used.await
    }

    /// Up to which message of the quarantine this mailbox was told; 0: of none.
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn told_upto(&self, mailbox: &str) -> Result<i64, Error> {
        let upto = self.0.read(|work| work.find("SELECT upto FROM told WHERE mailbox = ?", [mailbox]))?;
        Ok(upto.unwrap_or_default())
    }

    /// Notes that this mailbox was told of the messages up to this number.
    ///
    /// # Errors
    /// The file cannot be written.
    pub async fn note_told(&self, mailbox: &str, upto: i64) -> Result<(), Error> {
        let mailbox = mailbox.to_owned();
        let noted = self.0.write(move |work| {
            work.run("INSERT OR REPLACE INTO told (mailbox, upto) VALUES (?, ?)", params![mailbox, upto])
        });
        noted.await.map(drop)
    }
}

fn insert(
    work: &Connection,
    (token, link): &(TokenHash, Link),
    expires: SystemTime,
    now: SystemTime,
) -> Result<(), Fault> {
    work.run(
        "INSERT INTO link (token, mailbox, act, quarantine, made, expires) VALUES (?, ?, ?, ?, ?, ?)",
        params![token, link.mailbox, link.act.word(), link.quarantine, seconds(now), seconds(expires)],
    )?;
    Ok(())
}

fn read(row: &Row<'_>) -> Result<Link, Fault> {
    let act = LinkAct::of_word(&row.get::<_, String>("act")?)?;
    Ok(Link { mailbox: row.get("mailbox")?, act, quarantine: row.get("quarantine")? })
}
