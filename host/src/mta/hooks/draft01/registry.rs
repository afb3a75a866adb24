//! The registrations, in a file of `state_dir` that the filter and `addrauth hooks` share: few, and there after a restart.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use serde::{Deserialize, Serialize};

use super::registration::Registration;
use crate::files;

/// The file in `state_dir`.
const FILE: &str = "hooks.json";
/// The file that is locked while the other one changes.
const LOCK: &str = "hooks.lock";
/// Octets of the file: a hundred registrations have some 60 KB.
const OCTETS: u64 = 4 * 1024 * 1024;
/// Registrations taken back that are told apart from those that never were.
const GONE: usize = 100;
/// How often the file is looked at, at most: `addrauth hooks revoke` counts after this.
const LOOK: Duration = Duration::from_secs(1);

/// The registrations.
#[derive(Clone, Debug)]
pub struct Registry {
    /// The directory; without one they are kept in memory.
    dir: Option<PathBuf>,
    now: Arc<Mutex<Now>>,
}

/// What is known of the file.
#[derive(Debug, Default)]
struct Now {
    book: Book,
    seen: Option<Stamp>,
    looked: Option<Instant>,
    /// When each was used last.
    used: HashMap<String, Instant>,
}

/// The file.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Book {
    registrations: Vec<Registration>,
    /// The ids of those that were taken back, the latest last.
    gone: Vec<String>,
}

type Stamp = (u64, u64, i64, i64);

/// What an id is.
#[derive(Debug)]
pub(super) enum Standing {
    Active(Registration),
    /// Another credential's.
    Foreign,
    /// Taken back, or ended.
    Gone,
    Unknown,
}

impl Registry {
    /// The registrations of this directory.
    pub fn of(dir: Option<PathBuf>) -> Registry {
        Registry { dir, now: Arc::default() }
    }

    /// All that have not ended.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn list(&self) -> io::Result<Vec<Registration>> {
        let mut now = self.locked();
        self.look(&mut now, true)?;
        let at = SystemTime::now();
        Ok(now.book.registrations.iter().filter(|one| !one.has_ended(at)).cloned().collect())
    }

    /// Takes one back; whether it was there. A mail server registers again at its next message.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub fn revoke(&self, id: &str) -> io::Result<bool> {
        self.change(|book, _| {
            let before = book.registrations.len();
            book.registrations.retain(|one| one.id != id);
            let was_there = book.registrations.len() < before;
            book.gone.extend(was_there.then(|| id.to_owned()));
            was_there
        })
    }

    /// Adds one; where there are `most`, the one that was not used for longest makes room. Its mail server would register again.
    pub(super) async fn add(&self, wanted: Registration, owner: [u8; 32], most: usize) -> io::Result<Registration> {
        let registry = self.clone();
        let adding = move || {
            let made = Registration { id: id()?, owner: digits(&owner), ..wanted };
            let added = made.clone();
            registry.change(move |book, used| {
                let at = SystemTime::now();
                book.registrations.retain(|one| !one.has_ended(at));
                while book.registrations.len() >= most.max(1) {
                    let latest = |one: &Registration| used.get(&one.id).copied();
                    let oldest = (0..book.registrations.len())
                        .min_by_key(|at| book.registrations.get(*at).map(|one| (latest(one), one.created)));
                    let removed = book.registrations.remove(oldest.unwrap_or_default());
                    book.gone.push(removed.id);
                }
                book.registrations.push(added);
            })?;
            Ok(made)
        };
        tokio::task::spawn_blocking(adding).await.map_err(io::Error::other)?
    }

    pub(super) async fn remove(&self, id: &str) -> io::Result<bool> {
        let (registry, id) = (self.clone(), id.to_owned());
        tokio::task::spawn_blocking(move || registry.revoke(&id)).await.map_err(io::Error::other)?
    }

    /// What this id is to who shows this credential.
    pub(super) async fn find(&self, id: &str, owner: [u8; 32]) -> Standing {
        let is_due = self.locked().looked.is_none_or(|looked| looked.elapsed() >= LOOK);
        if is_due {
            let registry = self.clone();
            let looking = tokio::task::spawn_blocking(move || registry.look(&mut registry.locked(), false));
            if let Ok(Err(fault)) = looking.await {
                tracing::warn!("the registrations that were read before stay in use: {fault}");
            }
        }
        let mut now = self.locked();
        let found = now.book.registrations.iter().find(|one| one.id == id).cloned();
        match found {
            Some(one) if one.owner != digits(&owner) => Standing::Foreign,
            Some(one) if one.has_ended(SystemTime::now()) => Standing::Gone,
            Some(one) => {
                now.used.insert(one.id.clone(), Instant::now());
                Standing::Active(one)
            }
            None if now.book.gone.iter().any(|gone| gone == id) => Standing::Gone,
            None => Standing::Unknown,
        }
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the file where it has changed.
    fn look(&self, now: &mut Now, always: bool) -> io::Result<()> {
        let Some(dir) = &self.dir else { return Ok(()) };
        now.looked = Some(Instant::now());
        let path = dir.join(FILE);
        let seen = stamp(&path);
        if !always && seen == now.seen {
            return Ok(());
        }
        now.book = match files::read(&path, OCTETS) {
            Ok(octets) => serde_json::from_slice(&octets).map_err(io::Error::from)?,
            Err(e) if e.is_absent() => Book::default(),
            Err(e) => return Err(io::Error::from(e)),
        };
        now.seen = seen;
        Ok(())
    }

    /// Changes the file, as no other process does at the same time.
    fn change<T>(&self, change: impl FnOnce(&mut Book, &mut HashMap<String, Instant>) -> T) -> io::Result<T> {
        let mut now = self.locked();
        let Some(dir) = &self.dir else {
            let Now { book, used, .. } = &mut *now;
            let done = change(book, used);
            trim(book, used);
            return Ok(done);
        };
        let lock = File::options().create(true).append(true).mode(0o600).open(dir.join(LOCK))?;
        // `hooks revoke` may be root's.
        files::hand_over(&lock, &File::open(dir)?)?;
        lock.lock()?;
        self.look(&mut now, true)?;
        let mut book = now.book.clone();
        let done = change(&mut book, &mut now.used);
        trim(&mut book, &mut now.used);
        write(dir, &book)?;
        now.seen = stamp(&dir.join(FILE));
        now.book = book;
        Ok(done)
    }
}

/// Forgets what is no more.
fn trim(book: &mut Book, used: &mut HashMap<String, Instant>) {
    let over = book.gone.len().saturating_sub(GONE);
    book.gone.drain(..over);
    used.retain(|id, _| book.registrations.iter().any(|one| one.id == *id));
}

/// Writes the file whole or not at all.
fn write(dir: &Path, book: &Book) -> io::Result<()> {
    let (path, fresh) = (dir.join(FILE), dir.join(format!("{FILE}.new")));
    let mut file = File::options().create(true).truncate(true).write(true).mode(0o600).open(&fresh)?;
    files::hand_over(&file, &File::open(dir)?)?;
    file.write_all(&serde_json::to_vec(book)?)?;
    file.sync_all()?;
    fs::rename(&fresh, &path)?;
    File::open(dir)?.sync_all()
}

fn stamp(path: &Path) -> Option<Stamp> {
    let about = fs::metadata(path).ok()?;
    Some((about.ino(), about.len(), about.mtime(), about.mtime_nsec()))
}

/// A fresh id: 16 octets from the system, in hexadecimal digits.
fn id() -> io::Result<String> {
    let mut octets = [0; 16];
    getrandom::fill(&mut octets).map_err(io::Error::other)?;
    Ok(digits(&octets))
}

/// Octets in hexadecimal digits.
pub(super) fn digits(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::super::registration::Wanted;
    use super::*;

    fn wanted() -> Registration {
        let text =
            r#"{"name":"m","version":"1","timeoutMs":20000,"serialization":"json","inbound":{"stages":["data"]}}"#;
        serde_json::from_str::<Wanted>(text).unwrap().check().unwrap()
    }

    async fn is(registry: &Registry, id: &str, owner: u8) -> &'static str {
        match registry.find(id, [owner; 32]).await {
            Standing::Active(_) => "active",
            Standing::Foreign => "foreign",
            Standing::Gone => "gone",
            Standing::Unknown => "unknown",
        }
    }

    #[tokio::test]
    async fn a_registration_outlives_a_restart_and_belongs_to_its_credential() {
        let dir = tempfile::tempdir().unwrap();
        let place = || Some(dir.path().to_owned());
        let first = Registry::of(place());
        let made = first.add(wanted(), [1; 32], 10).await.unwrap();
        let second = Registry::of(place());
        assert_eq!(is(&second, &made.id, 1).await, "active");
        assert_eq!(is(&second, &made.id, 2).await, "foreign");
        assert_eq!(is(&second, "other", 1).await, "unknown");
        assert!(second.revoke(&made.id).unwrap() && !second.revoke(&made.id).unwrap());
        assert_eq!(is(&second, &made.id, 1).await, "gone");
        assert_eq!(first.list().unwrap(), []);
        assert_eq!(is(&first, &made.id, 1).await, "gone");
        assert_eq!(is(&Registry::of(place()), &made.id, 1).await, "gone");
    }

    #[tokio::test]
    async fn there_are_never_too_many_and_the_one_that_is_not_used_makes_room() {
        let dir = tempfile::tempdir().unwrap();
        for registry in [Registry::of(Some(dir.path().to_owned())), Registry::of(None)] {
            let mut made = Vec::new();
            for _ in 0..3 {
                made.push(registry.add(wanted(), [1; 32], 3).await.unwrap().id);
            }
            for id in [&made[0], &made[2]] {
                assert_eq!(is(&registry, id, 1).await, "active");
            }
            registry.add(wanted(), [1; 32], 3).await.unwrap();
            let standing =
                [is(&registry, &made[0], 1).await, is(&registry, &made[1], 1).await, is(&registry, &made[2], 1).await];
            assert_eq!(standing, ["active", "gone", "active"]);
            assert_eq!(registry.list().unwrap().len(), 3);
        }
    }

    #[tokio::test]
    async fn one_that_has_ended_is_gone_and_a_file_that_is_none_leaves_all_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let registry = Registry::of(Some(dir.path().to_owned()));
        let ended = Registration { expires: Some(1), ..wanted() };
        let ended = registry.add(ended, [1; 32], 3).await.unwrap();
        assert_eq!(is(&registry, &ended.id, 1).await, "gone");
        let made = registry.add(wanted(), [1; 32], 3).await.unwrap();
        fs::write(dir.path().join(FILE), "{").unwrap();
        assert!(registry.add(wanted(), [1; 32], 3).await.is_err() && registry.list().is_err());
        assert_eq!(is(&registry, &made.id, 1).await, "active");
    }
}
