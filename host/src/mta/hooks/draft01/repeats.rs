//! The answers of the last ten minutes, so that another try of a request does nothing twice: there after a restart where
//! something was done.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use tokio::sync::OwnedMutexGuard;

use super::plan::Plan;
use super::registry::digits;
use crate::files;

/// The file in `state_dir`.
const FILE: &str = "hooks-answers.jsonl";
/// How long an answer is kept, in seconds.
const KEPT: u64 = 600;
/// Answers that did nothing beside: to examine such a message again is no harm.
const PLAIN: usize = 10_000;
/// Answers with which something was done: 80 a second for ten minutes. Some 500 octets each.
const DONE: usize = 50_000;
/// Octets of the file that are read.
const OCTETS: u64 = 256 * 1024 * 1024;
/// Lines beyond the ones that count, after which the file is written anew.
const SPARE: usize = 5_000;

/// Who asked, as a sum of the credential, and the name of the request.
pub(super) type Key = ([u8; 32], String);

/// An answer, and the request that it was to.
#[derive(Clone, Debug)]
struct Answered {
    at: u64,
    digest: [u8; 32],
    plan: Plan,
}

/// The answers that are known.
#[derive(Debug)]
pub(in crate::mta::hooks) struct Repeats {
    dir: Option<PathBuf>,
    slots: Mutex<Slots>,
    file: Arc<Mutex<Written>>,
}

type Slot = Arc<tokio::sync::Mutex<Option<Answered>>>;

#[derive(Debug, Default)]
struct Slots {
    all: HashMap<Key, Slot>,
    plain: VecDeque<(u64, Key)>,
    done: VecDeque<(u64, Key)>,
}

/// The file as far as it is written.
#[derive(Debug, Default)]
struct Written {
    file: Option<File>,
    lines: usize,
    /// When the first line that counts was written.
    oldest: u64,
}

/// A line of the file.
#[derive(Debug, Serialize, Deserialize)]
struct Line {
    at: u64,
    owner: String,
    id: String,
    digest: String,
    plan: Plan,
}

/// The turn of one request: no other try of it is answered meanwhile.
pub(super) struct Turn<'a> {
    repeats: &'a Repeats,
    key: Key,
    slot: Option<OwnedMutexGuard<Option<Answered>>>,
}

/// What is known of a request.
pub(super) enum Known {
    Nothing,
    /// Another request had its name.
    Other,
    /// It was answered by this.
    Same(Plan),
}

impl Repeats {
    /// The answers of this directory; a line that is cut or is no line is left out.
    pub(in crate::mta::hooks) fn of(dir: Option<PathBuf>) -> Repeats {
        let repeats = Repeats { dir, slots: Mutex::default(), file: Arc::default() };
        let Some(path) = repeats.dir.as_ref().map(|dir| dir.join(FILE)) else { return repeats };
        match files::read(&path, OCTETS) {
            Ok(octets) => {
                let lines = octets.split(|octet| *octet == b'\n').filter_map(|line| serde_json::from_slice(line).ok());
                let mut slots = repeats.slots.lock().unwrap_or_else(PoisonError::into_inner);
                lines.for_each(|line: Line| slots.read(line));
            }
            Err(e) if e.is_absent() => {}
            Err(e) => tracing::warn!(
                "{}: {e}: another try of a request from before the start may be treated anew",
                path.display()
            ),
        }
        repeats
    }

    /// Waits until no other try of this request is being answered.
    pub(super) async fn turn(&self, key: Key) -> Turn<'_> {
        let slot = {
            let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
            slots.forget(now());
            Arc::clone(slots.all.entry(key.clone()).or_default())
        };
        Turn { repeats: self, key, slot: Some(slot.lock_owned().await) }
    }

    /// Writes a line, and the whole file anew where most of it counts no more.
    async fn write(&self, line: Line) {
        let Some(dir) = self.dir.clone() else { return };
        let live = {
            let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
            slots.done.len()
        };
        let file = Arc::clone(&self.file);
        let writing = tokio::task::spawn_blocking(move || {
            let mut written = file.lock().unwrap_or_else(PoisonError::into_inner);
            written.append(&dir, &line, live)
        });
        // What was done is done: to refuse the message now would make its sender bring it once more.
        match writing.await.map_err(io::Error::other) {
            Ok(Ok(())) => {}
            Ok(Err(fault)) | Err(fault) => {
                tracing::warn!(
                    "an answer is not written down, so another try after a restart would be treated anew: {fault}"
                );
            }
        }
    }
}

impl Slots {
    fn read(&mut self, line: Line) {
        let (Some(owner), Some(digest)) = (octets(&line.owner), octets(&line.digest)) else { return };
        let key = (owner, line.id);
        let answered = Answered { at: line.at, digest, plan: line.plan };
        self.done.push_back((answered.at, key.clone()));
        self.all.insert(key, Arc::new(tokio::sync::Mutex::new(Some(answered))));
        self.forget(now());
    }

    /// Forgets what is too old or too much.
    fn forget(&mut self, now: u64) {
        let Slots { all, plain, done } = self;
        for (list, most) in [(plain, PLAIN), (done, DONE)] {
            while list.front().is_some_and(|(at, _)| at.saturating_add(KEPT) < now) || list.len() > most {
                let Some((at, key)) = list.front() else { break };
                let answered = match all.get(key).map(|slot| slot.try_lock()) {
                    // Another try of it is being answered: it is forgotten later.
                    Some(Err(_)) => break,
                    Some(Ok(slot)) => slot.as_ref().map(|answered| answered.at),
                    None => None,
                };
                // Not one of the same name that came later.
                if answered == Some(*at) {
                    all.remove(key);
                }
                list.pop_front();
            }
        }
    }
}

impl Written {
    fn append(&mut self, dir: &std::path::Path, line: &Line, live: usize) -> io::Result<()> {
        let path = dir.join(FILE);
        let is_old = self.lines > 0 && self.oldest.saturating_add(2 * KEPT) < now();
        if self.file.is_none() || is_old || self.lines > live.saturating_add(SPARE) {
            // Those that still count are copied; a crash meanwhile leaves the old file.
            let kept: Vec<Line> = match files::read(&path, OCTETS) {
                Ok(octets) => octets
                    .split(|octet| *octet == b'\n')
                    .filter_map(|line| serde_json::from_slice(line).ok())
                    .filter(|line: &Line| line.at.saturating_add(KEPT) >= now())
                    .collect(),
                Err(_) => Vec::new(),
            };
            let fresh = dir.join(format!("{FILE}.new"));
            let mut file = File::options().create(true).truncate(true).write(true).mode(0o600).open(&fresh)?;
            for line in &kept {
                write_line(&mut file, line)?;
            }
            file.sync_all()?;
            std::fs::rename(&fresh, &path)?;
            File::open(dir)?.sync_all()?;
            (self.file, self.lines) = (Some(file), kept.len());
            self.oldest = kept.first().map_or(line.at, |line| line.at);
        }
        let Some(file) = &mut self.file else { return Ok(()) };
        write_line(file, line)?;
        self.lines += 1;
        file.sync_data()
    }
}

fn write_line(file: &mut File, line: &Line) -> io::Result<()> {
    let mut octets = serde_json::to_vec(line)?;
    octets.push(b'\n');
    file.write_all(&octets)
}

impl Turn<'_> {
    /// What is known of the request with this sum.
    pub(super) fn known(&self, digest: &[u8; 32]) -> Known {
        match self.slot.as_deref() {
            Some(Some(answered)) if answered.digest == *digest => Known::Same(answered.plan.clone()),
            Some(Some(_)) => Known::Other,
            Some(None) | None => Known::Nothing,
        }
    }

    /// Keeps the answer; on disk where something was `done` with it.
    pub(super) async fn keep(&mut self, digest: &[u8; 32], plan: Plan, done: bool) {
        let at = now();
        if let Some(slot) = self.slot.as_deref_mut() {
            *slot = Some(Answered { at, digest: *digest, plan: plan.clone() });
        }
        {
            let mut slots = self.repeats.slots.lock().unwrap_or_else(PoisonError::into_inner);
            let list = if done { &mut slots.done } else { &mut slots.plain };
            list.push_back((at, self.key.clone()));
        }
        if done {
            let (owner, id) = &self.key;
            let line = Line { at, owner: digits(owner), id: id.clone(), digest: digits(digest), plan };
            self.repeats.write(line).await;
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        // A request without an answer leaves nothing, unless another try waits.
        let unanswered = self.slot.take().is_some_and(|slot| slot.is_none());
        if unanswered {
            let mut slots = self.repeats.slots.lock().unwrap_or_else(PoisonError::into_inner);
            if slots.all.get(&self.key).is_some_and(|slot| Arc::strong_count(slot) == 1) {
                slots.all.remove(&self.key);
            }
        }
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Hexadecimal digits as octets.
fn octets(digits: &str) -> Option<[u8; 32]> {
    let mut out = [0; 32];
    if digits.len() != 64 || !digits.is_ascii() {
        return None;
    }
    for (at, octet) in out.iter_mut().enumerate() {
        *octet = u8::from_str_radix(digits.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::{Reply, Verdict};

    fn plan() -> Plan {
        Plan::of(&Reply { removed: vec![1], ..Reply::bare(Verdict::Accept) })
    }

    async fn known(repeats: &Repeats, id: &str, digest: u8) -> &'static str {
        match repeats.turn(([1; 32], id.into())).await.known(&[digest; 32]) {
            Known::Nothing => "nothing",
            Known::Other => "other",
            Known::Same(same) => {
                assert_eq!(same, plan());
                "same"
            }
        }
    }

    #[tokio::test]
    async fn what_was_done_is_known_after_a_restart_and_the_rest_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let place = || Some(dir.path().to_owned());
        let repeats = Repeats::of(place());
        for (id, done) in [("plain", false), ("done", true)] {
            repeats.turn(([1; 32], id.into())).await.keep(&[7; 32], plan(), done).await;
            assert_eq!([known(&repeats, id, 7).await, known(&repeats, id, 8).await], ["same", "other"]);
        }
        assert_eq!(known(&repeats, "new", 7).await, "nothing");
        assert_eq!(repeats.slots.lock().unwrap().all.len(), 2, "a question leaves nothing");
        let again = Repeats::of(place());
        assert_eq!([known(&again, "done", 7).await, known(&again, "plain", 7).await], ["same", "nothing"]);
        again.turn(([1; 32], "later".into())).await.keep(&[7; 32], plan(), true).await;
        let third = Repeats::of(place());
        assert_eq!([known(&third, "done", 7).await, known(&third, "later", 7).await], ["same", "same"]);
    }

    #[tokio::test]
    async fn another_try_waits_and_a_cut_file_is_read_as_far_as_it_goes() {
        let dir = tempfile::tempdir().unwrap();
        let repeats = Arc::new(Repeats::of(Some(dir.path().to_owned())));
        let mut first = repeats.turn(([1; 32], "id".into())).await;
        let second = tokio::spawn({
            let repeats = Arc::clone(&repeats);
            async move { known(&repeats, "id", 7).await }
        });
        tokio::task::yield_now().await;
        first.keep(&[7; 32], plan(), true).await;
        drop(first);
        assert_eq!(second.await.unwrap(), "same");
        let path = dir.path().join(FILE);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, format!("{text}{}", &text[..text.len() / 2])).unwrap();
        assert_eq!(known(&Repeats::of(Some(dir.path().to_owned())), "id", 7).await, "same");
    }

    #[tokio::test]
    async fn an_answer_that_is_asked_for_again_as_its_time_ends_is_forgotten_later() {
        let repeats = Repeats::of(None);
        let key = || ([1; 32], "id".to_owned());
        repeats.turn(key()).await.keep(&[7; 32], plan(), false).await;
        let asked = repeats.turn(key()).await;
        let forget = || {
            let mut slots = repeats.slots.lock().unwrap();
            slots.forget(now() + KEPT + 10);
            slots.all.len()
        };
        assert_eq!(forget(), 1);
        drop(asked);
        assert_eq!(forget(), 0);
    }

    #[tokio::test]
    async fn lines_that_count_no_more_do_not_stay_on_the_disk() {
        let dir = tempfile::tempdir().unwrap();
        let line =
            |id: &str, at| Line { at, owner: digits(&[1; 32]), id: id.into(), digest: digits(&[7; 32]), plan: plan() };
        let mut written = Written::default();
        written.append(dir.path(), &line("early", now() - 3 * KEPT), 1).unwrap();
        written.append(dir.path(), &line("late", now()), 2).unwrap();
        let text = std::fs::read_to_string(dir.path().join(FILE)).unwrap();
        assert!(text.contains("late") && !text.contains("early"), "{text}");
    }

    #[test]
    fn answers_are_forgotten_after_their_time_and_beyond_their_number() {
        let mut slots = Slots::default();
        for n in 0..u64::try_from(DONE).unwrap() + 10 {
            let digest = digits(&[0; 32]);
            slots.read(Line {
                at: now() + n / 1_000_000,
                owner: digest.clone(),
                id: n.to_string(),
                digest,
                plan: plan(),
            });
        }
        slots.forget(now());
        assert_eq!((slots.all.len(), slots.done.len()), (DONE, DONE));
        slots.forget(now() + KEPT + 10);
        assert_eq!((slots.all.len(), slots.done.len()), (0, 0));
    }
}
