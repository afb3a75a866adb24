//! What we took responsibility for, durable before the MTA hears of it.

mod journal;
mod known;
mod letters;
mod quarantine;

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};
use zeroize::Zeroizing;

use crate::case::Wish;
use crate::case::{Body, Case, Found, Mail, Owed, Recipient, Unreported};
use crate::config::{Config, Limits};
use crate::outbox::{self, Outbox};
use crate::proto::address::{Address, Mailbox};
use crate::proto::mark::MarkKey;
use crate::settle;
use crate::store::{self, Held, JournalRow, Kept, Ledger, Opening, Recorded};

use journal::Journal;

/// What can go wrong when custody begins. Later failures turn into a 451.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The database.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The settings of the notices.
    #[error(transparent)]
    Outbox(#[from] outbox::Error),
}

/// Journal, quarantine and outbox of the filter.
#[derive(Debug)]
pub struct Custody {
    ledger: Ledger,
    outbox: Outbox,
    journal: Journal,
    mark: MarkKey,
    limits: Arc<Limits>,
    settings: quarantine::Settings,
    known_days: u32,
    letters: letters::Letters,
    /// Where it was opened: what has to come to an end whatever becomes of a message runs there.
    runtime: Handle,
    /// What is being written there, and taken back where it comes too late.
    writing: TaskTracker,
}

impl Custody {
    /// Opens `filter.db` and `mark.key` in `state_dir`; makes what is not there.
    pub async fn open(config: &Config, limits: &Arc<Limits>) -> Result<Custody, Error> {
        let dir = &config.state_dir.0;
        store::prepare_dir(dir)?;
        let mark = mark_key(&dir.join("mark.key"))?;
        let opening = Opening { busy: limits.store.busy, readers: limits.store.readers };
        let ledger = Ledger::open(dir, opening).await?;
        let outbox = Outbox::open(config, limits, ledger.clone(), mark.clone())?;
        let settings = quarantine::Settings::from_config(config, limits);
        let journal = Journal::start(&ledger, limits, &config.custody);
        Ok(Custody {
            ledger,
            outbox,
            journal,
            mark,
            limits: limits.clone(),
            settings,
            known_days: known::days(&config.custody),
            letters: letters::Letters::default(),
            runtime: Handle::current(),
            writing: TaskTracker::new(),
        })
    }

    /// Whether one opened custody serves both configurations.
    pub fn opens_alike(one: &Config, other: &Config) -> bool {
        let parts = |config: &Config| {
            let Config { state_dir, notices, custody, hostname, first_in_chain, .. } = config.clone();
            (state_dir, notices, custody, hostname, first_in_chain)
        };
        parts(one) == parts(other)
    }

    /// The secret of this installation's marks.
    pub fn mark(&self) -> &MarkKey {
        &self.mark
    }

    /// Makes what the reply owes durable: one transaction with the journal row, the notices, the report, and the messages
    /// that are quarantined or go out as copies of some recipients' own, for which the body is needed. Where that fails, or takes longer than
    /// `limits.custody.keep`, the reply becomes a 451 that edits nothing and owes nothing. So it does where a row that may wait
    /// (INVARIANTS §3.5) cannot even be handed over. Mail that only passes has no row.
    ///
    /// A transaction that is committed after the time limit is taken back; only where the program ends before that does
    /// what it owes go out although the message comes again.
    ///
    /// A letter about a user's own rules is no reason to put mail off: where it cannot be made durable in
    /// `limits.custody.letter`, it is left to the next message.
    pub async fn keep(&self, mut case: Case, body: Option<Body>) -> Case {
        let pair = self.limits.outbox.rules_pair;
        self.letters.take_out(&mut case, pair);
        if letters::are_all(&case) && journal::may_wait(&letters::without(case.clone())) {
            let owing = Arc::new(case);
            let written = tokio::time::timeout(self.limits.custody.letter, self.record(&owing, None)).await;
            case = Arc::unwrap_or_clone(owing);
            if matches!(written, Ok(Ok(()))) {
                self.letters.remember(&case, pair);
                return case;
            }
            case = letters::without(case);
        }
        if journal::may_wait(&case) {
            let Some(mut entry) = journal::judged(&case, self.limits.custody.journal_row, "") else { return case };
            entry.known = self.newly_known(&case);
            return match self.journal.note(entry).await {
                Ok(()) => case,
                Err(failure) => self.deferred(case, &failure),
            };
        }
        if case.reply.wants_body() && (body.is_none() || !case.mail.can_be_copied()) {
            return self.deferred(case, "the message is not whole, so no copy of it can be");
        }
        let case = Arc::new(case);
        let recorded = self.record(&case, body).await;
        let case = Arc::unwrap_or_clone(case);
        match recorded {
            Ok(()) => {
                self.letters.remember(&case, pair);
                case
            }
            Err(failure) => self.deferred(case, &failure),
        }
    }

    /// The case as a 451 that edits nothing and owes nothing; the journal tells why, as soon as it can be written.
    fn deferred(&self, case: Case, failure: &str) -> Case {
        let queue_id = case.mail.queue_id.as_deref().unwrap_or_default().escape_default().to_string();
        if case.reply.owes_report() {
            self.outbox.give_back(&case.mail);
        }
        warn!(queue_id, "what is owed cannot be made durable, so the message is deferred: {failure}");
        let case = Case { reply: settle::deferred(), ..case };
        let note = format!("deferred, since what was owed could not be made durable: {failure}");
        if let Some(entry) = journal::judged(&case, self.limits.custody.journal_row, &note) {
            self.journal.note_now(entry);
        }
        case
    }

    /// Writes what is owed, or says why not.
    async fn record(&self, case: &Arc<Case>, body: Option<Body>) -> Result<(), String> {
        let now = SystemTime::now();
        let kept = match body {
            Some(body) => self.copies(case, body, now).await?,
            None => Vec::new(),
        };
        let (mut drafts, mut notes) = (Vec::new(), Vec::new());
        for owed in &case.reply.owed {
            match owed {
                Owed::Notice(recipient) => match self.outbox.compose(case, *recipient) {
                    Ok(draft) => drafts.push(draft),
                    Err(why) => notes.push(format!("no notice to recipient {recipient}: {why}")),
                },
                Owed::RulesUnread(recipient) => match self.outbox.rules_unread(case, *recipient) {
                    Ok(draft) => drafts.push(draft),
                    Err(why) => notes.push(format!("no letter about its rules to recipient {recipient}: {why}")),
                },
                Owed::Report(recipients) => {
                    drafts.push(self.outbox.report(case, recipients).map_err(|e| e.to_string())?);
                }
                Owed::Record | Owed::Quarantine(_) | Owed::Copy(_) | Owed::Apart(_) | Owed::Folder(_) => {}
            }
        }
        notes.extend(case.reply.unreported.map(Unreported::note));
        if settle::is_marked_instead(case) {
            notes.push(
                "delivered with the mark instead of kept, since the mail server does not show the message's own octets"
                    .into(),
            );
        }
        let mut entry = journal::entry(case, self.limits.custody.journal_row, notes.join("; "));
        entry.known = self.newly_known(case);
        let copies = kept.iter().any(|message| message.copy);
        let (ledger, caps, most) = (self.ledger.clone(), self.outbox.caps(), self.settings.most());
        let writing = async move { ledger.record_and_keep(entry, drafts, (kept, most), caps, now).await };
        let Recorded { journal, owed, withheld, kept } = self.in_time(writing).await?;
        debug!(row = journal, owed, withheld = withheld.len(), ?kept, "journalled");
        if owed > 0 || copies {
            self.outbox.wake();
        }
        Ok(())
    }

    /// The messages that are kept, made where a large body blocks nobody, within `limits.custody.keep`.
    async fn copies(&self, case: &Arc<Case>, body: Body, now: SystemTime) -> Result<Vec<Kept>, String> {
        let (settings, case) = (self.settings.clone(), Arc::clone(case));
        let making = tokio::task::spawn_blocking(move || settings.kept(&case, &body, now));
        match tokio::time::timeout(self.limits.custody.keep, making).await {
            Ok(made) => made.map_err(|e| e.to_string()),
            Err(_) => Err(format!("copies not made within {:?}", self.limits.custody.keep)),
        }
    }

    /// What is written within `limits.custody.keep`. A transaction cannot be called back: what is committed and not taken by the caller,
    /// since the time was over or the caller itself was given up, is taken back: the MTA heard 451, and the message comes again.
    async fn in_time(
        &self,
        writing: impl Future<Output = Result<Recorded, store::Error>> + Send + 'static,
    ) -> Result<Recorded, String> {
        let (told, heard) = oneshot::channel();
        let ledger = self.ledger.clone();
        let writing = async move {
            let written = writing.await;
            let row = written.as_ref().ok().map(|recorded| recorded.journal);
            // Where nobody takes what is told, what would say so is dropped with it.
            let (taken, is_taken) = oneshot::channel();
            let _ = told.send((written, taken));
            if let (Err(_), Some(row)) = (is_taken.await, row)
                && let Err(e) = ledger.take_back(row).await
            {
                warn!(row, "what was written too late is owed all the same: {e}");
            }
        };
        // Not on the runtime of the message's connection, which may end before this has.
        self.writing.spawn_on(writing, &self.runtime);
        match tokio::time::timeout(self.limits.custody.keep, heard).await {
            Ok(Ok((written, taken))) => {
                let _ = taken.send(());
                written.map_err(|e| e.to_string())
            }
            Ok(Err(_)) => Err("the task that writes it ended".into()),
            Err(_) => Err(format!("not done within {:?}", self.limits.custody.keep)),
        }
    }

    /// What these recipients chose for themselves, as far as it concerns mail from this sender; in their order.
    pub async fn wishes(&self, recipients: &[&Recipient], sender: Option<&Address>) -> Result<Vec<Wish>, Error> {
        let mailboxes: Vec<Option<Mailbox>> = recipients.iter().map(|recipient| recipient.mailbox()).collect();
        Ok(self.ledger.wishes(&mailboxes, sender.map(Address::mailbox).as_ref()).await?)
    }

    /// Whether a report about this message may go to its reverse-path (guard B); see [`Outbox::permit`].
    pub async fn permit(&self, mail: &Mail, found: &Found) -> Result<(), Unreported> {
        self.outbox.permit(mail, found, SystemTime::now()).await
    }

    /// Gives back the report that was permitted, and is not owed after all.
    pub fn give_back(&self, mail: &Mail) {
        self.outbox.give_back(mail);
    }

    /// Reads the texts of our mail again, where nothing else of the settings has changed.
    pub fn reload(&self, config: &Config) -> Result<(), Error> {
        Ok(self.outbox.reload(config)?)
    }

    /// Sends what is owed until `shutdown`, and then writes the journal rows that wait. Messages that are still in flight
    /// may bring more: [`Custody::close`] writes those.
    pub async fn run(&self, shutdown: CancellationToken) {
        self.outbox.run(shutdown).await;
        self.flush().await;
    }

    /// Writes the journal rows that wait, within `limits.custody.keep`.
    pub async fn flush(&self) {
        let flushing = self.runtime.spawn(self.journal.flush());
        let failure = match tokio::time::timeout(self.limits.custody.keep, flushing).await {
            Ok(Ok(Ok(()))) => return,
            Ok(Ok(Err(e))) => e.to_string(),
            Ok(Err(e)) => e.to_string(),
            Err(_) => format!("not done within {:?}", self.limits.custody.keep),
        };
        warn!(rows = self.journal.waiting(), "journal rows wait, since they cannot be written: {failure}");
    }

    /// The newest journal rows, newest first.
    pub async fn journal(&self, most: u32) -> Result<Vec<JournalRow>, Error> {
        Ok(self.ledger.journal(most).await?)
    }

    /// The messages in quarantine that wait for a word about them, newest first.
    pub async fn held(&self, recipient: Option<&str>) -> Result<Vec<Held>, Error> {
        Ok(self.ledger.held(recipient, self.limits.custody.quarantine_listed).await?)
    }

    /// Messages in quarantine, their octets, and mails that are still to be sent.
    pub async fn standing(&self) -> Result<(u64, u64, u64), Error> {
        let ((messages, octets), mails) = (self.ledger.kept().await?, self.ledger.owed().await?);
        Ok((messages, octets, mails))
    }

    /// How many mailboxes' choices are remembered, and how often these were enough, and were not.
    pub fn choices_remembered(&self) -> (usize, [u64; 2]) {
        self.ledger.remembered()
    }

    /// The outbox, for those who drive it by a clock of their own.
    pub fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    /// Writes the journal rows that wait, and closes the files; from then on what is owed is deferred.
    pub async fn close(&self) {
        self.flush().await;
        self.writing.close();
        if tokio::time::timeout(self.limits.custody.keep, self.writing.wait()).await.is_err() {
            warn!("what is still being written may be owed, although its message was deferred");
        }
        self.ledger.close().await;
    }
}

/// Whether what lies in the state directory can be used; makes and opens nothing.
pub fn check(dir: &Path) -> Result<(), Error> {
    read_mark(dir).map(|_| ())
}

/// The secret of this installation's marks; absent where none was made yet. It makes and opens nothing.
///
/// # Errors
/// It is there, and cannot be read.
pub fn read_mark(dir: &Path) -> Result<Option<MarkKey>, Error> {
    match mark_key_of(&dir.join("mark.key"), store::read_secret) {
        Err(Error::Store(store::Error::SecretFile { source, .. })) if source.kind() == ErrorKind::NotFound => Ok(None),
        read => read.map(Some),
    }
}

/// The mark's key, made at the first start.
fn mark_key(path: &Path) -> Result<MarkKey, Error> {
    let fresh = || {
        let mut octets = Zeroizing::new(vec![0; 32]);
        getrandom::fill(octets.as_mut_slice()).ok()?;
        Some(octets)
    };
    mark_key_of(path, |path| store::read_or_make_secret(path, fresh))
}

fn mark_key_of(
    path: &Path,
    read: impl FnOnce(&Path) -> Result<Zeroizing<Vec<u8>>, store::Error>,
) -> Result<MarkKey, Error> {
    let octets = read(path)?;
    let octets: [u8; 32] = octets.as_slice().try_into().map_err(|_| store::Error::Secret {
        path: path.to_owned(),
        what: "does not hold 32 octets: remove it, and a new one is made at the next start".into(),
    })?;
    Ok(MarkKey::from_octets(octets))
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn the_marks_key_is_made_once_and_a_cut_one_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mark.key");
        let mark = |key: &MarkKey| key.write(UNIX_EPOCH, "", "bob@example.com", "<1@mx>");
        let first = mark_key(&path).unwrap();
        assert_eq!(mark(&first), mark(&mark_key(&path).unwrap()));
        let other = tempfile::tempdir().unwrap();
        assert_ne!(mark(&first), mark(&mark_key(&other.path().join("mark.key")).unwrap()));
        for length in [0, 31, 33] {
            std::fs::write(&path, vec![1; length]).unwrap();
            assert!(mark_key(&path).unwrap_err().to_string().contains("32 octets"), "{length}");
        }
    }
}
