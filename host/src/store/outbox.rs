//! The outbox: what is still to be sent, how much of it there may be, and what one recipient is told together later.

use std::time::{Duration, SystemTime};

use rusqlite::{Connection, Row, params};

use super::journal::annotate;
use super::ledger::{AHEAD, capped_as};
use super::sqlite::{Fault, Statements as _};
use super::words::{Kind, Sending};
use super::{Error, Ledger, held, seconds, time};
use crate::proto::address::Mailbox;

/// A mail to be owed.
#[derive(Clone, Debug)]
pub struct Draft {
    /// What it is: the caps differ.
    pub kind: Kind,
    /// Whom it goes to.
    pub recipient: String,
    /// Who claimed to write the message that it is about; empty where nobody could be told. The cap per pair counts by it.
    pub sender: String,
    /// Its reverse-path, without angle brackets; empty is the null one, as all mail of our own writing has it.
    pub reverse_path: String,
    /// Its Message-ID, the same for every try.
    pub message_id: String,
    /// The message, CRLF line endings.
    pub message: Vec<u8>,
}

/// How many mails may be owed.
#[derive(Clone, Copy, Debug)]
pub struct Caps {
    /// Notices to one recipient in an hour.
    pub per_hour: u32,
    /// Between two notices to one recipient about one sender.
    pub pair: Duration,
    /// Mails that may wait to be sent, to whomever.
    pub waiting: u32,
    /// Between two reports to one sender.
    pub report_pair: Duration,
    /// Between two letters to one user about rules that cannot be read.
    pub rules_pair: Duration,
    /// How long a digest is collected.
    pub digest_after: Duration,
    /// Senders that a digest names.
    pub digest_senders: usize,
}

/// The cap that kept a mail back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Withheld {
    /// There was one to this recipient about this sender within the day.
    Pair,
    /// There was a report to this sender within the hour.
    Report,
    /// There was a letter to this user about the rules within the week.
    RulesUnread,
    /// The recipient had as many in this hour as one may have: the next digest counts it.
    Hour,
    /// As many wait to be sent as may.
    Full,
}

impl Withheld {
    /// The words of the journal's note.
    pub fn words(self) -> &'static str {
        match self {
            Withheld::Pair => "one about this sender within a day",
            Withheld::Report => "one report to this sender within an hour",
            Withheld::RulesUnread => "one about the user's own rules within a week",
            Withheld::Hour => "as many within an hour as allowed, the next digest counts it",
            Withheld::Full => "as many waiting to be sent as allowed",
        }
    }
}

/// A mail whose turn it is.
#[derive(Clone, Debug)]
pub struct Due {
    /// Its row in the outbox.
    pub id: i64,
    /// What it is.
    pub kind: Kind,
    /// Its row in the journal.
    pub journal: i64,
    /// Whom it goes to.
    pub recipient: String,
    /// Its reverse-path, without angle brackets; empty: the null one.
    pub reverse_path: String,
    /// Its Message-ID; for a message from quarantine, a name of the row.
    pub message_id: String,
    /// The message, CRLF line endings.
    pub message: Vec<u8>,
    /// Its number in quarantine, where it comes from there.
    pub quarantine: Option<i64>,
    /// How many tries there were, this one included.
    pub tries: u32,
}

/// A row of the outbox, without the message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxRow {
    /// What it is.
    pub kind: Kind,
    /// Whom it goes to.
    pub recipient: String,
    /// Its Message-ID.
    pub message_id: String,
    /// How many tries there were.
    pub tries: u32,
    /// When the next one is, where it is not ended.
    pub next_try: SystemTime,
    /// How it ended; absent while it is still to be sent.
    pub outcome: Option<Sending>,
    /// Why the last try did not succeed, while it is still to be sent.
    pub note: Option<String>,
}

/// Notices to one recipient that were held back by the hourly cap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collected {
    /// Whom it is about, in the first spelling met.
    pub recipient: String,
    /// When the first of them was held back.
    pub since: SystemTime,
    /// How many there are.
    pub count: u64,
    /// Their senders, each once: one more than [`Caps::digest_senders`] at most, so that a reader sees that there are more.
    pub senders: Vec<String>,
}

impl Ledger {
    /// Takes what has waited longest among all whose turn it is, messages from quarantine before mail of our own writing,
    /// and counts the try; the next one is after `backoff(tries)`, unless [`Ledger::end`] comes first. So a try that a crash
    /// cut short is repeated.
    pub async fn take(&self, now: SystemTime, backoff: fn(u32) -> Duration) -> Result<Option<Due>, Error> {
        self.0.in_place()?;
        self.0.write(move |work| take(work, now, backoff)).await
    }

    /// Notes why a try did not succeed; the next one is when [`Ledger::take`] said.
    pub async fn postpone(&self, due: &Due, why: &str) -> Result<(), Error> {
        let (id, message_id, why) = (due.id, due.message_id.clone(), why.to_owned());
        let noted = self.0.write(move |work| {
            work.run(
                "UPDATE outbox SET note = ? WHERE id = ? AND message_id = ? AND ended IS NULL",
                params![why, id, message_id],
            )
        });
        noted.await.map(|_| ())
    }

    /// Ends a mail: it was sent, or is given up with these words, which the journal notes. A message from quarantine that is
    /// given up is kept there again; one that was sent to the last who waited for it is kept no longer. Nothing is given up
    /// that was taken back meanwhile ([`Ledger::delete_held`]).
    pub async fn end(&self, due: &Due, given_up: Option<&str>, now: SystemTime) -> Result<(), Error> {
        let ended = Ended {
            id: due.id,
            message_id: due.message_id.clone(),
            row: (due.journal, due.quarantine, due.kind),
            recipient: due.recipient.clone(),
            given_up: given_up.map(str::to_owned),
        };
        self.0.write(move |work| ended.write(work, now)).await
    }

    /// The newest mails, newest first.
    pub async fn outbox(&self, most: u32) -> Result<Vec<OutboxRow>, Error> {
        let newest = "SELECT kind, recipient, message_id, tries, next_try, outcome, note FROM outbox
                      ORDER BY id DESC LIMIT ?";
        self.0.scan(move |work| work.all(newest, [most], read_outbox)).await
    }

    /// How many mails are still to be sent.
    pub async fn owed(&self) -> Result<u64, Error> {
        Ok(u64::try_from(self.0.read(waiting)?).unwrap_or_default())
    }

    /// The cap that a report to this sender would be over now, if any.
    pub async fn report_withheld(
        &self,
        sender: &Mailbox,
        caps: Caps,
        now: SystemTime,
    ) -> Result<Option<Withheld>, Error> {
        self.0.read(|work| over_report(work, sender, caps, now))
    }

    /// Makes one digest of what was collected for long enough, in one transaction: the collection is gone and the mail
    /// owed, or neither. Tells whether there was one. It waits while as many mails wait to be sent as may.
    pub async fn bundle(
        &self,
        caps: Caps,
        now: SystemTime,
        mut compose: impl FnMut(&Collected) -> Option<Draft>,
    ) -> Result<bool, Error> {
        loop {
            // Most turns find nothing, and need not wait for the writer.
            let found = self.0.read(|work| {
                let ripe = ripe(work, caps, now)?;
                Ok(if ripe.is_some() && waiting(work)? >= i64::from(caps.waiting) { None } else { ripe })
            })?;
            let Some(ripe) = found else { return Ok(false) };
            let Some(draft) = compose(&ripe.collected) else { return Ok(false) };
            if let Some(bundled) = self.0.write(move |work| ripe.bundle(work, &draft, caps, now)).await? {
                return Ok(bundled);
            }
        }
    }
}

/// A collection whose time has come.
struct Ripe {
    capped_as: String,
    journal: i64,
    collected: Collected,
}

fn ripe(work: &Connection, caps: Caps, now: SystemTime) -> Result<Option<Ripe>, Fault> {
    work.first(
        "SELECT capped_as, recipient, journal, since, count, senders FROM digest
         WHERE since <= ?1 OR since > ?2 ORDER BY since LIMIT 1",
        [seconds(now - caps.digest_after), seconds(now + AHEAD)],
        |row| {
            let (capped_as, journal) = (row.get("capped_as")?, row.get("journal")?);
            Ok(Ripe { capped_as, journal, collected: read_collected(row)? })
        },
    )
}

impl Ripe {
    /// Owes the digest that was composed from it, and forgets the collection. Absent where another notice was collected, or
    /// another process was quicker, since it was read: then it is to be composed anew.
    fn bundle(&self, work: &Connection, draft: &Draft, caps: Caps, now: SystemTime) -> Result<Option<bool>, Fault> {
        match ripe(work, caps, now)? {
            None => return Ok(Some(false)),
            Some(there) if there.capped_as != self.capped_as || there.collected != self.collected => return Ok(None),
            Some(_) if waiting(work)? >= i64::from(caps.waiting) => return Ok(Some(false)),
            Some(_) => {}
        }
        work.run("DELETE FROM digest WHERE capped_as = ?", [&self.capped_as])?;
        owe(work, self.journal, draft, now)?;
        Ok(Some(true))
    }
}

/// How the last try of a mail ended.
struct Ended {
    id: i64,
    message_id: String,
    /// Its row in the journal, its number in quarantine, and what it is.
    row: (i64, Option<i64>, Kind),
    recipient: String,
    given_up: Option<String>,
}

impl Ended {
    fn write(&self, work: &Connection, now: SystemTime) -> Result<(), Fault> {
        let given_up = self.given_up.as_deref();
        // The text is not needed any more; the row stays for the caps. By its Message-ID too: in a backup that was put
        // in place meanwhile the same number may be another mail's.
        let ended = work.run(
            "UPDATE outbox SET ended = ?1, outcome = coalesce(?2, ?5), note = NULL, message = x'', quarantine = NULL
             WHERE id = ?3 AND message_id = ?4 AND (ended IS NULL OR ?2 IS NULL)",
            params![seconds(now), given_up, self.id, self.message_id, Sending::Sent.words()],
        )?;
        if ended == 0 {
            return Ok(());
        }
        let (journal, quarantine, kind) = self.row;
        match (quarantine, given_up) {
            (Some(id), given_up) => held::ended(work, (journal, id, kind), &self.recipient, given_up, now),
            (None, Some(why)) => {
                annotate(work, journal, &format!("{} to {} given up: {why}", kind.word(), self.recipient))
            }
            (None, None) => Ok(()),
        }
    }
}

fn take(work: &Connection, now: SystemTime, backoff: fn(u32) -> Duration) -> Result<Option<Due>, Fault> {
    // What another version of this program calls otherwise waits for that version, and holds nothing else up.
    let kinds = serde_json::json!(Kind::ALL.map(Kind::word)).to_string();
    let due = work.first(
        "SELECT o.id, o.kind, o.journal, o.recipient, o.reverse_path, o.message_id, o.quarantine, o.tries,
             coalesce(q.message, o.message) AS message
         FROM outbox o LEFT JOIN quarantine q ON q.id = o.quarantine
         WHERE o.id = (SELECT id FROM outbox WHERE ended IS NULL AND (next_try <= ?1 OR next_try > ?2)
                 AND kind IN (SELECT value FROM json_each(?3))
             ORDER BY quarantine IS NULL, next_try, id LIMIT 1)",
        params![seconds(now), seconds(now + AHEAD), kinds],
        read_due,
    )?;
    if let Some(due) = &due {
        work.run(
            "UPDATE outbox SET tries = ?, next_try = ? WHERE id = ?",
            params![due.tries, seconds(now + backoff(due.tries)), due.id],
        )?;
    }
    Ok(due)
}

/// Owes this mail, or tells the cap that keeps it back; a notice over the hourly one is collected for a digest.
pub(super) fn admit(
    work: &Connection,
    journal: i64,
    draft: &Draft,
    caps: Caps,
    now: SystemTime,
) -> Result<Option<Withheld>, Fault> {
    let cap = match draft.kind {
        Kind::Notice => over_notice(work, draft, caps, now)?,
        Kind::Report => over_report(work, &capped_as(&draft.recipient), caps, now)?,
        Kind::RulesUnread => over_rules(work, &capped_as(&draft.recipient), caps, now)?,
        // What became of a message hangs on these: no cap keeps them back. Digests have theirs where they are bundled.
        Kind::Digest | Kind::Release | Kind::Copy => None,
    };
    match cap {
        None => owe(work, journal, draft, now)?,
        Some(Withheld::Hour) => collect(work, journal, draft, caps, now)?,
        Some(_) => {}
    }
    Ok(cap)
}

fn over_notice(work: &Connection, draft: &Draft, caps: Caps, now: SystemTime) -> Result<Option<Withheld>, Fault> {
    let recipient = capped_as(&draft.recipient);
    let pair: i64 = work.one(
        "SELECT count(*) FROM outbox
         WHERE capped_as = ? AND created > ? AND created <= ? AND sender = ? AND kind = ?",
        params![
            recipient,
            seconds(now - caps.pair),
            seconds(now + AHEAD),
            capped_as(&draft.sender),
            Kind::Notice.word()
        ],
    )?;
    if pair > 0 {
        return Ok(Some(Withheld::Pair));
    }
    if sent_since(work, Kind::Notice, &recipient, now - Duration::from_secs(3_600), now)? >= caps.per_hour.into() {
        return Ok(Some(Withheld::Hour));
    }
    Ok((waiting(work)? >= i64::from(caps.waiting)).then_some(Withheld::Full))
}

fn over_report(work: &Connection, sender: &str, caps: Caps, now: SystemTime) -> Result<Option<Withheld>, Fault> {
    if sent_since(work, Kind::Report, sender, now - caps.report_pair, now)? > 0 {
        return Ok(Some(Withheld::Report));
    }
    Ok((waiting(work)? >= i64::from(caps.waiting)).then_some(Withheld::Full))
}

fn over_rules(work: &Connection, user: &str, caps: Caps, now: SystemTime) -> Result<Option<Withheld>, Fault> {
    if sent_since(work, Kind::RulesUnread, user, now - caps.rules_pair, now)? > 0 {
        return Ok(Some(Withheld::RulesUnread));
    }
    // Nothing hangs on this one, and many may come at once after an update: they leave room for what tells of messages.
    Ok((waiting(work)? >= i64::from(caps.waiting / 4)).then_some(Withheld::Full))
}

/// How many mails of this kind this recipient was owed after that time.
fn sent_since(
    work: &Connection,
    kind: Kind,
    capped_as: &str,
    after: SystemTime,
    now: SystemTime,
) -> Result<i64, Fault> {
    work.one(
        "SELECT count(*) FROM outbox WHERE capped_as = ? AND created > ? AND created <= ? AND kind = ?",
        params![capped_as, seconds(after), seconds(now + AHEAD), kind.word()],
    )
}

fn waiting(work: &Connection) -> Result<i64, Fault> {
    work.one("SELECT count(*) FROM outbox WHERE ended IS NULL", ())
}

/// Counts a notice into the recipient's digest. There are never many digests: each has an hour's worth of notices before it.
fn collect(work: &Connection, journal: i64, draft: &Draft, caps: Caps, now: SystemTime) -> Result<(), Fault> {
    let recipient = capped_as(&draft.recipient);
    let so_far: Option<String> = work.find("SELECT senders FROM digest WHERE capped_as = ?", [&recipient])?;
    let mut senders = so_far.unwrap_or_default();
    let known = senders.lines().any(|sender| capped_as(sender) == capped_as(&draft.sender));
    if !draft.sender.is_empty() && !known && senders.lines().count() <= caps.digest_senders {
        senders += &format!("{}\n", draft.sender.replace(['\r', '\n'], "?"));
    }
    work.run(
        "INSERT INTO digest (capped_as, recipient, journal, since, count, senders) VALUES (?, ?, ?, ?, 1, ?)
         ON CONFLICT (capped_as) DO UPDATE
         SET count = count + 1, journal = excluded.journal, senders = excluded.senders",
        params![recipient, draft.recipient, journal, seconds(now), senders],
    )?;
    Ok(())
}

fn owe(work: &Connection, journal: i64, draft: &Draft, now: SystemTime) -> Result<(), Fault> {
    let Draft { kind, recipient, sender, reverse_path, message_id, message } = draft;
    let (kind, now) = (kind.word(), seconds(now));
    work.run(
        "INSERT INTO outbox
         (kind, journal, recipient, capped_as, sender, reverse_path, message_id, message, created, next_try)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?9)",
        params![
            kind,
            journal,
            recipient,
            capped_as(recipient),
            capped_as(sender),
            reverse_path,
            message_id,
            message,
            now
        ],
    )?;
    Ok(())
}

fn read_due(row: &Row<'_>) -> Result<Due, Fault> {
    Ok(Due {
        id: row.get("id")?,
        kind: Kind::of_word(&row.get::<_, String>("kind")?)?,
        journal: row.get("journal")?,
        recipient: row.get("recipient")?,
        reverse_path: row.get("reverse_path")?,
        quarantine: row.get("quarantine")?,
        message_id: row.get("message_id")?,
        message: row.get("message")?,
        tries: row.get::<_, u32>("tries")?.saturating_add(1),
    })
}

pub(super) fn read_outbox(row: &Row<'_>) -> Result<OutboxRow, Fault> {
    Ok(OutboxRow {
        kind: Kind::of_word(&row.get::<_, String>("kind")?)?,
        recipient: row.get("recipient")?,
        message_id: row.get("message_id")?,
        tries: row.get("tries")?,
        next_try: time(row.get("next_try")?),
        outcome: row.get::<_, Option<String>>("outcome")?.map(Sending::of_words),
        note: row.get("note")?,
    })
}

fn read_collected(row: &Row<'_>) -> Result<Collected, Fault> {
    Ok(Collected {
        recipient: row.get("recipient")?,
        since: time(row.get("since")?),
        count: u64::try_from(row.get::<_, i64>("count")?).unwrap_or_default(),
        senders: row.get::<_, String>("senders")?.lines().map(str::to_owned).collect(),
    })
}

#[cfg(test)]
#[path = "outbox/tests.rs"]
mod tests;
