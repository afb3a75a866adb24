//! The journal's writer: rows on which nothing hangs wait for each other, and are committed together (INVARIANTS §3.5).

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::known;
use crate::case::{Case, Finding, NewKey, NotStamped, Stamp, Submitted, WrittenCase};
use crate::config::{self as settings, Limits};
use crate::store::{self, Columns, Ledger, NewRow, RowResult, RowVerdict};

/// Rows that are committed together.
const BATCH: usize = 256;
/// After a batch that failed: the disk needs a moment, and the log no line for each try.
const RETRY: Duration = Duration::from_secs(5);
/// Between two looks at how many rows there are: so long, or so many rows written.
const SWEEP: Duration = Duration::from_secs(3_600);
const SWEEP_ROWS: usize = 65_536;
/// Between two blocks of rows that an older version wrote, which are packed while mail is taken: a million in half an hour.
const TAKE_OVER: Duration = Duration::from_millis(500);

/// Rows on their way into the journal. Dropping it ends the writer once it has written what waits.
#[derive(Debug)]
pub(super) struct Journal {
    queue: Arc<Queue>,
    over: CancellationToken,
}

/// What [`Journal`] and its writer share.
#[derive(Debug)]
struct Queue {
    ledger: Ledger,
    limits: Arc<Limits>,
    settings: settings::Custody,
    waiting: Mutex<Waiting>,
    arrived: Notify,
    room: Notify,
    /// Held by the one who writes.
    writing: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Waiting {
    rows: VecDeque<Row>,
    octets: usize,
    /// Rows that were written since the last look at how many there are.
    written: usize,
}

/// A row that waits.
#[derive(Clone, Debug)]
struct Row {
    since: Instant,
    row: Arc<NewRow>,
}

impl Journal {
    /// Starts the writer; `settings` say how much the journal may hold.
    pub(super) fn start(ledger: &Ledger, limits: &Arc<Limits>, settings: &settings::Custody) -> Journal {
        let queue = Arc::new(Queue {
            ledger: ledger.clone(),
            limits: Arc::clone(limits),
            settings: settings.clone(),
            waiting: Mutex::default(),
            arrived: Notify::new(),
            room: Notify::new(),
            writing: tokio::sync::Mutex::default(),
        });
        let over = CancellationToken::new();
        tokio::spawn(work(Arc::clone(&queue), over.clone()));
        Journal { queue, over }
    }

    /// Hands over a row. Where as many wait as may, or one has waited for too long since nothing can be written, the caller waits
    /// too, up to `limits.custody.keep`.
    ///
    /// # Errors
    /// In words why the row was not taken: its message must not be taken either.
    pub(super) async fn note(&self, row: NewRow) -> Result<(), String> {
        let row = Row { since: Instant::now(), row: Arc::new(row) };
        let keep = self.queue.limits.custody.keep;
        let taken = tokio::time::timeout(keep, self.queue.push(&row)).await;
        taken.map_err(|_| format!("the journal has taken no row for {keep:?}"))
    }

    /// Hands over a row without waiting. Where it is not taken it is given up: its message comes again.
    pub(super) fn note_now(&self, row: NewRow) {
        let row = Row { since: Instant::now(), row: Arc::new(row) };
        if !self.queue.try_push(&row) {
            let queue_id = row.row.queue_id().unwrap_or_default().escape_default().to_string();
            warn!(queue_id, "the journal takes no more rows: this message, which is deferred, has none");
        }
    }

    /// Writes what waits; the error leaves it waiting. Not to be given up in between: a batch that is committed meanwhile would
    /// be written once more.
    pub(super) fn flush(&self) -> impl Future<Output = Result<(), store::Error>> + Send + 'static {
        let queue = Arc::clone(&self.queue);
        async move { queue.flush().await }
    }

    /// How many rows wait.
    pub(super) fn waiting(&self) -> usize {
        self.queue.lock().rows.len()
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.over.cancel();
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Whoever panicked with the lock left a queue that is whole: each change of it is one step.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn try_push(&self, row: &Row) -> bool {
        let (custody, size) = (&self.limits.custody, row.row.memory());
        let mut waiting = self.lock();
        if let Some(first) = waiting.rows.front() {
            let is_full = waiting.rows.len() >= custody.journal_waiting
                || waiting.octets.saturating_add(size) > custody.journal_octets;
            let is_overdue = first.since.elapsed() > custody.journal_batch.saturating_add(custody.journal_overdue);
            if is_full || is_overdue {
                return false;
            }
        }
        waiting.octets = waiting.octets.saturating_add(size);
        waiting.rows.push_back(row.clone());
        // The writer looks again by itself once it has begun to gather: to wake it for each row costs more than the row.
        if matches!(waiting.rows.len(), 1 | BATCH) {
            self.arrived.notify_one();
        }
        true
    }

    async fn push(&self, row: &Row) {
        loop {
            let room = self.room.notified();
            tokio::pin!(room);
            // From here on no sign of room is missed.
            room.as_mut().enable();
            if self.try_push(row) {
                return;
            }
            room.await;
        }
    }

    /// Writes batch after batch until nothing waits. A row leaves the queue when it is committed and not before.
    async fn flush(&self) -> Result<(), store::Error> {
        let _writing = self.writing.lock().await;
        loop {
            let batch: Vec<_> = self.lock().rows.iter().take(BATCH).map(|row| Arc::clone(&row.row)).collect();
            if batch.is_empty() {
                return Ok(());
            }
            let rows = batch.len();
            self.ledger.append(batch).await?;
            let mut waiting = self.lock();
            waiting.rows.drain(..rows);
            waiting.octets = waiting.rows.iter().map(|row| row.row.memory()).sum();
            waiting.written = waiting.written.saturating_add(rows);
            drop(waiting);
            debug!(rows, "journalled");
            self.room.notify_waiters();
        }
    }

    /// Whether a batch is full, so that nobody need wait for more.
    fn is_batch(&self) -> bool {
        self.lock().rows.len() >= BATCH
    }

    /// Whether it is time to look how many rows there are.
    fn is_to_be_swept(&self, swept: Option<Instant>) -> bool {
        swept.is_none_or(|at| at.elapsed() >= SWEEP) || self.lock().written >= SWEEP_ROWS
    }

    async fn sweep(&self) {
        self.lock().written = 0;
        let settings::Custody { journal_rows, journal_mib, journal_kept, .. } = &self.settings;
        let octets = journal_mib.saturating_mul(1024 * 1024);
        match self.ledger.trim(*journal_rows, octets).await {
            Ok(0) => {}
            Ok(rows) => {
                let begins = self.ledger.journal_begins().await.ok().flatten();
                let days = begins.and_then(|at| at.elapsed().ok()).map_or(0, |age| age.as_secs() / 86_400);
                info!(
                    rows,
                    days,
                    "the oldest journal rows deleted, beyond custody.journal_mib or custody.journal_rows: it goes back \
                     {days} days now, where custody.journal_kept allows {}",
                    journal_kept.as_secs() / 86_400
                );
            }
            Err(e) => warn!("journal rows beyond custody.journal_mib and custody.journal_rows are not deleted: {e}"),
        }
        known::forget_old(&self.ledger, &self.settings, &self.limits).await;
    }

    /// Packs rows of an older version; whether there may be more.
    async fn take_over(&self) -> bool {
        match self.ledger.take_over().await {
            Ok(more) => more,
            Err(e) => {
                warn!("journal rows of an older version stay as they are until the next start: {e}");
                false
            }
        }
    }
}

/// Writes what arrives until `over`, and then what still waits.
async fn work(queue: Arc<Queue>, over: CancellationToken) {
    let (mut swept, mut has_old) = (None, true);
    let mut sweeping = tokio::spawn(async {});
    loop {
        tokio::select! {
            () = queue.arrived.notified() => {}
            // Rows that are owed come by another way, and count as well.
            () = tokio::time::sleep(if has_old { TAKE_OVER } else { SWEEP }) => {}
            () = over.cancelled() => break,
        }
        let full = async {
            while !queue.is_batch() {
                queue.arrived.notified().await;
            }
        };
        tokio::select! {
            () = tokio::time::sleep(queue.limits.custody.journal_batch) => {}
            () = full => {}
            () = over.cancelled() => break,
        }
        if let Err(e) = queue.flush().await {
            warn!("journal rows wait, since they cannot be written: {e}");
            tokio::select! {
                () = tokio::time::sleep(RETRY) => queue.arrived.notify_one(),
                () = over.cancelled() => break,
            }
            continue;
        }
        has_old = has_old && queue.take_over().await;
        // Beside the writer: while millions of rows go, those that wait are written.
        if sweeping.is_finished() && queue.is_to_be_swept(swept) {
            swept = Some(Instant::now());
            let queue = Arc::clone(&queue);
            sweeping = tokio::spawn(async move { queue.sweep().await });
        }
    }
    sweeping.abort();
    // What it was writing is done or not at all.
    let _ = sweeping.await;
    if let Err(e) = queue.flush().await {
        let rows = queue.lock().rows.len();
        warn!(rows, "the last journal rows are lost: {e}");
    }
}

/// Whether the row of this case may wait for others (INVARIANTS §3.5): the message is accepted for all as it is or with a mark in
/// its header, or refused or deferred for all; and nothing is kept, sent or learned for it.
pub(super) fn may_wait(case: &Case) -> bool {
    let reply = &case.reply;
    let learns = case.finding.found().is_some_and(|found| matches!(found.new_key, Some(NewKey::Proven(_))));
    reply.owed.is_empty()
        && reply.removed.is_empty()
        && reply.redirected.is_empty()
        && reply.put_off.is_empty()
        && !learns
}

/// The row of this case; absent where the message was not ours to judge, and where one that only goes out is as it should be.
pub(super) fn judged(case: &Case, room: usize, note: &str) -> Option<NewRow> {
    let told = match &case.finding {
        Finding::Found(_) | Finding::Postponed(_) | Finding::Unclear => true,
        Finding::Submitted(submitted) if submitted.inside.is_some() => true,
        Finding::Submitted(submitted) => match submitted.stamp {
            Stamp::Bare(NotStamped::Ended) => true,
            Stamp::Bare(NotStamped::NotOwner) => !case.mail.head().keys.is_empty(),
            _ => false,
        },
        Finding::Passing(_) => false,
    };
    told.then(|| entry(case, room, note.to_owned()))
}

/// The row of this case; its facts are left out where its story would take more than `room` octets.
pub(super) fn entry(case: &Case, room: usize, note: String) -> NewRow {
    let result = match &case.finding {
        Finding::Found(found) => RowResult::Judged(found.status),
        Finding::Submitted(Submitted { inside: Some(found), .. }) => RowResult::Judged(found.status),
        Finding::Passing(_) => RowResult::Passing,
        Finding::Submitted(_) => RowResult::Submitted,
        Finding::Postponed(_) => RowResult::Postponed,
        Finding::Unclear => RowResult::Unclear,
    };
    let redactor = case.mail.redactor();
    let clean = |text: String| redactor.cut_text(&text).into_owned();
    let mut notes = case.finding.notes();
    notes.extend((!note.is_empty()).then_some(note));
    let columns = Columns {
        queue_id: case.mail.queue_id.clone(),
        sender: case.finding.sender().map(|sender| clean(sender.to_string())),
        result,
        verdict: RowVerdict::from(&case.reply.verdict),
        note: clean(notes.join("; ")),
    };
    // Without facts it has no bound of its own: the recipients of one message, each with a decision and its reason, are below a MiB.
    let row = NewRow::of(WrittenCase::of(case), columns, SystemTime::now());
    if row.octets() <= room { row } else { row.without_facts() }
}
