//! The outbox: what is still to be sent, how much of it there may be, and what one recipient is told together later.

use std::time::{Duration, SystemTime};

use sqlx::sqlite::{Sqlite, SqliteConnection, SqliteRow};
use sqlx::{Row, Transaction};

use super::journal::annotate;
use super::ledger::{AHEAD, capped_as};
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
        let taken = async {
            let mut work = self.0.writer().begin_with("BEGIN IMMEDIATE").await?;
            let row = sqlx::query(
                "SELECT o.id, o.kind, o.journal, o.recipient, o.reverse_path, o.message_id, o.quarantine, o.tries,
                     coalesce(q.message, o.message) AS message
                 FROM outbox o LEFT JOIN quarantine q ON q.id = o.quarantine
                 WHERE o.id = (SELECT id FROM outbox WHERE ended IS NULL AND (next_try <= ?1 OR next_try > ?2)
                         AND kind IN (SELECT value FROM json_each(?3))
                     ORDER BY quarantine IS NULL, next_try, id LIMIT 1)",
            )
            .bind(seconds(now))
            .bind(seconds(now + AHEAD))
            // What another version of this program calls otherwise waits for that version, and holds nothing else up.
            .bind(serde_json::json!(Kind::ALL.map(Kind::word)).to_string())
            .fetch_optional(&mut *work)
            .await?;
            let Some(row) = row else { return Ok(None) };
            let due = read_due(&row)?;
            sqlx::query("UPDATE outbox SET tries = ?, next_try = ? WHERE id = ?")
                .bind(due.tries)
                .bind(seconds(now + backoff(due.tries)))
                .bind(due.id)
                .execute(&mut *work)
                .await?;
            work.commit().await?;
            Ok(Some(due))
        };
        taken.await.map_err(|e| self.0.failed(e))
    }

    /// Notes why a try did not succeed; the next one is when [`Ledger::take`] said.
    pub async fn postpone(&self, due: &Due, why: &str) -> Result<(), Error> {
        let noted = sqlx::query("UPDATE outbox SET note = ? WHERE id = ? AND message_id = ? AND ended IS NULL");
        let noted = noted.bind(why).bind(due.id).bind(&due.message_id);
        noted.execute(self.0.writer()).await.map(|_| ()).map_err(|e| self.0.failed(e))
    }

    /// Ends a mail: it was sent, or is given up with these words, which the journal notes. A message from quarantine that is
    /// given up is kept there again; one that was sent to the last who waited for it is kept no longer. Nothing is given up
    /// that was taken back meanwhile ([`Ledger::delete_held`]).
    pub async fn end(&self, due: &Due, given_up: Option<&str>, now: SystemTime) -> Result<(), Error> {
        let ended = async {
            let mut work = self.0.writer().begin_with("BEGIN IMMEDIATE").await?;
            // The text is not needed any more; the row stays for the caps. By its Message-ID too: in a backup that was put
            // in place meanwhile the same number may be another mail's.
            let ended = sqlx::query(
                "UPDATE outbox SET ended = ?1, outcome = coalesce(?2, 'sent'), note = NULL, message = x'', quarantine = NULL
                 WHERE id = ?3 AND message_id = ?4 AND (ended IS NULL OR ?2 IS NULL)",
            );
            let ended = ended.bind(seconds(now)).bind(given_up).bind(due.id).bind(&due.message_id);
            let ended = ended.execute(&mut *work).await?;
            if ended.rows_affected() == 0 {
                return Ok(());
            }
            match (due.quarantine, given_up) {
                (Some(id), given_up) => {
                    let row = (due.journal, id, due.kind);
                    held::ended(&mut work, row, &due.recipient, given_up, now).await?;
                }
                (None, Some(why)) => {
                    let words = format!("{} to {} given up: {why}", due.kind.word(), due.recipient);
                    annotate(&mut work, due.journal, &words).await?;
                }
                (None, None) => {}
            }
            work.commit().await
        };
        ended.await.map_err(|e| self.0.failed(e))
    }

    /// The newest mails, newest first.
    pub async fn outbox(&self, most: u32) -> Result<Vec<OutboxRow>, Error> {
        sqlx::query(
            "SELECT kind, recipient, message_id, tries, next_try, outcome, note FROM outbox ORDER BY id DESC LIMIT ?",
        )
        .bind(most)
        .fetch_all(self.0.readers())
        .await
        .and_then(|rows| rows.iter().map(read_outbox).collect())
        .map_err(|e| self.0.failed(e))
    }

    /// The cap that a report to this sender would be over now, if any.
    pub async fn report_withheld(
        &self,
        sender: &Mailbox,
        caps: Caps,
        now: SystemTime,
    ) -> Result<Option<Withheld>, Error> {
        let asked = async {
            let mut reader = self.0.readers().acquire().await?;
            over_report(&mut reader, sender, caps, now).await
        };
        asked.await.map_err(|e| self.0.failed(e))
    }

    /// Makes one digest of what was collected for long enough, in one transaction: the collection is gone and the mail
    /// owed, or neither. Tells whether there was one. It waits while as many mails wait to be sent as may.
    pub async fn bundle(
        &self,
        caps: Caps,
        now: SystemTime,
        compose: impl FnOnce(&Collected) -> Option<Draft>,
    ) -> Result<bool, Error> {
        let bundled = async {
            let ripe = "SELECT capped_as, recipient, journal, since, count, senders FROM digest
                        WHERE since <= ?1 OR since > ?2 ORDER BY since LIMIT 1";
            let (before, ahead) = (seconds(now - caps.digest_after), seconds(now + AHEAD));
            // Most turns find nothing, and need not wait for the writer.
            if sqlx::query(ripe).bind(before).bind(ahead).fetch_optional(self.0.readers()).await?.is_none() {
                return Ok(false);
            }
            let mut work = self.0.writer().begin_with("BEGIN IMMEDIATE").await?;
            let Some(row) = sqlx::query(ripe).bind(before).bind(ahead).fetch_optional(&mut *work).await? else {
                return Ok(false);
            };
            if waiting(&mut work).await? >= i64::from(caps.waiting) {
                return Ok(false);
            }
            let Some(draft) = compose(&read_collected(&row)?) else { return Ok(false) };
            let (capped_as, journal): (String, i64) = (row.try_get("capped_as")?, row.try_get("journal")?);
            sqlx::query("DELETE FROM digest WHERE capped_as = ?").bind(capped_as).execute(&mut *work).await?;
            owe(&mut work, journal, &draft, now).await?;
            work.commit().await?;
            Ok(true)
        };
        bundled.await.map_err(|e| self.0.failed(e))
    }
}

/// Owes this mail, or tells the cap that keeps it back; a notice over the hourly one is collected for a digest.
pub(super) async fn admit(
    work: &mut Transaction<'_, Sqlite>,
    journal: i64,
    draft: &Draft,
    caps: Caps,
    now: SystemTime,
) -> Result<Option<Withheld>, sqlx::Error> {
    let cap = match draft.kind {
        Kind::Notice => over_notice(work, draft, caps, now).await?,
        Kind::Report => over_report(work, &capped_as(&draft.recipient), caps, now).await?,
        // What became of a message hangs on these: no cap keeps them back. Digests have theirs where they are bundled.
        Kind::Digest | Kind::Release | Kind::Copy => None,
    };
    match cap {
        None => owe(work, journal, draft, now).await?,
        Some(Withheld::Hour) => collect(work, journal, draft, caps, now).await?,
        Some(_) => {}
    }
    Ok(cap)
}

async fn over_notice(
    work: &mut SqliteConnection,
    draft: &Draft,
    caps: Caps,
    now: SystemTime,
) -> Result<Option<Withheld>, sqlx::Error> {
    let recipient = capped_as(&draft.recipient);
    let pair: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM outbox
         WHERE capped_as = ? AND created > ? AND created <= ? AND sender = ? AND kind = 'notice'",
    )
    .bind(&recipient)
    .bind(seconds(now - caps.pair))
    .bind(seconds(now + AHEAD))
    .bind(capped_as(&draft.sender))
    .fetch_one(&mut *work)
    .await?;
    if pair > 0 {
        return Ok(Some(Withheld::Pair));
    }
    if sent_since(work, Kind::Notice, &recipient, now - Duration::from_secs(3_600), now).await? >= caps.per_hour.into()
    {
        return Ok(Some(Withheld::Hour));
    }
    Ok((waiting(work).await? >= i64::from(caps.waiting)).then_some(Withheld::Full))
}

async fn over_report(
    work: &mut SqliteConnection,
    sender: &str,
    caps: Caps,
    now: SystemTime,
) -> Result<Option<Withheld>, sqlx::Error> {
    if sent_since(work, Kind::Report, sender, now - caps.report_pair, now).await? > 0 {
        return Ok(Some(Withheld::Report));
    }
    Ok((waiting(work).await? >= i64::from(caps.waiting)).then_some(Withheld::Full))
}

/// How many mails of this kind this recipient was owed after that time.
async fn sent_since(
    work: &mut SqliteConnection,
    kind: Kind,
    capped_as: &str,
    after: SystemTime,
    now: SystemTime,
) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("SELECT count(*) FROM outbox WHERE capped_as = ? AND created > ? AND created <= ? AND kind = ?")
        .bind(capped_as)
        .bind(seconds(after))
        .bind(seconds(now + AHEAD))
        .bind(kind.word())
        .fetch_one(work)
        .await
}

async fn waiting(work: &mut SqliteConnection) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("SELECT count(*) FROM outbox WHERE ended IS NULL").fetch_one(work).await
}

/// Counts a notice into the recipient's digest. There are never many digests: each has an hour's worth of notices before it.
async fn collect(
    work: &mut SqliteConnection,
    journal: i64,
    draft: &Draft,
    caps: Caps,
    now: SystemTime,
) -> Result<(), sqlx::Error> {
    let recipient = capped_as(&draft.recipient);
    let so_far: Option<String> = sqlx::query_scalar("SELECT senders FROM digest WHERE capped_as = ?")
        .bind(&recipient)
        .fetch_optional(&mut *work)
        .await?;
    let mut senders = so_far.unwrap_or_default();
    let known = senders.lines().any(|sender| capped_as(sender) == capped_as(&draft.sender));
    if !draft.sender.is_empty() && !known && senders.lines().count() <= caps.digest_senders {
        senders += &format!("{}\n", draft.sender.replace(['\r', '\n'], "?"));
    }
    sqlx::query(
        "INSERT INTO digest (capped_as, recipient, journal, since, count, senders) VALUES (?, ?, ?, ?, 1, ?)
         ON CONFLICT (capped_as) DO UPDATE
         SET count = count + 1, journal = excluded.journal, senders = excluded.senders",
    )
    .bind(recipient)
    .bind(&draft.recipient)
    .bind(journal)
    .bind(seconds(now))
    .bind(senders)
    .execute(work)
    .await
    .map(|_| ())
}

async fn owe(work: &mut SqliteConnection, journal: i64, draft: &Draft, now: SystemTime) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO outbox
         (kind, journal, recipient, capped_as, sender, reverse_path, message_id, message, created, next_try)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(draft.kind.word())
    .bind(journal)
    .bind(&draft.recipient)
    .bind(capped_as(&draft.recipient))
    .bind(capped_as(&draft.sender))
    .bind(&draft.reverse_path)
    .bind(&draft.message_id)
    .bind(&draft.message)
    .bind(seconds(now))
    .bind(seconds(now))
    .execute(work)
    .await
    .map(|_| ())
}

fn read_due(row: &SqliteRow) -> Result<Due, sqlx::Error> {
    Ok(Due {
        id: row.try_get("id")?,
        kind: Kind::of_word(row.try_get("kind")?)?,
        journal: row.try_get("journal")?,
        recipient: row.try_get("recipient")?,
        reverse_path: row.try_get("reverse_path")?,
        quarantine: row.try_get("quarantine")?,
        message_id: row.try_get("message_id")?,
        message: row.try_get("message")?,
        tries: row.try_get::<u32, _>("tries")?.saturating_add(1),
    })
}

pub(super) fn read_outbox(row: &SqliteRow) -> Result<OutboxRow, sqlx::Error> {
    Ok(OutboxRow {
        kind: Kind::of_word(row.try_get("kind")?)?,
        recipient: row.try_get("recipient")?,
        message_id: row.try_get("message_id")?,
        tries: row.try_get("tries")?,
        next_try: time(row.try_get("next_try")?),
        outcome: row.try_get::<Option<String>, _>("outcome")?.map(Sending::of_words),
        note: row.try_get("note")?,
    })
}

fn read_collected(row: &SqliteRow) -> Result<Collected, sqlx::Error> {
    Ok(Collected {
        recipient: row.try_get("recipient")?,
        since: time(row.try_get("since")?),
        count: u64::try_from(row.try_get::<i64, _>("count")?).unwrap_or_default(),
        senders: row.try_get::<String, _>("senders")?.lines().map(str::to_owned).collect(),
    })
}

#[cfg(test)]
#[path = "outbox/tests.rs"]
mod tests;
