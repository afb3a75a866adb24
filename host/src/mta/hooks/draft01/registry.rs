//! The registrations, in a file of `state_dir` that the filter and `addrauth hooks` share: few, and there after a restart.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

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
    /// Held while the file is read or written: never where mail waits.
    disk: Arc<Mutex<()>>,
}

/// What is known of the file.
#[derive(Debug, Default)]
struct Now {
    book: Book,
    seen: Option<Stamp>,
    /// Whether it was read, or there is none to read.
    known: bool,
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
        Registry { dir, now: Arc::default(), disk: Arc::default() }
    }

    /// All that have not ended.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn list(&self) -> io::Result<Vec<Registration>> {
        self.look()?;
        let (now, at) = (self.locked(), SystemTime::now());
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
        let (is_due, known) = {
            let mut now = self.locked();
            let known = now.known || self.dir.is_none();
            let is_due = !known || now.looked.is_none_or(|looked| looked.elapsed() >= LOOK);
            if is_due {
                now.looked = Some(Instant::now());
            }
            (is_due, known)
        };
        if is_due {
            let registry = self.clone();
            // Before the first reading nobody is known, and none is to be taken for unknown.
            let looking = tokio::task::spawn_blocking(move || if known { registry.glance() } else { registry.look() });
            let looked = if known { timeout(LOOK, looking).await } else { Ok(looking.await) };
            if let Ok(Ok(Err(fault))) = looked {
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

    /// Reads the file where it has changed, unless it is being read or written.
    fn glance(&self) -> io::Result<()> {
        let Ok(_disk) = self.disk.try_lock() else { return Ok(()) };
        self.read()
    }

    /// Reads the file where it has changed.
    fn look(&self) -> io::Result<()> {
        let _disk = self.disk.lock().unwrap_or_else(PoisonError::into_inner);
        self.read()
    }

    /// The same, with `disk` held. What is known is not, while the file is read.
    fn read(&self) -> io::Result<()> {
        let Some(dir) = &self.dir else { return Ok(()) };
        let path = dir.join(FILE);
        let known = {
            let now = self.locked();
            now.seen
        };
        let seen = stamp(&path);
        if seen.is_some() && seen == known {
            return Ok(());
        }
        let book = match files::read(&path, OCTETS) {
            Ok(octets) => serde_json::from_slice(&octets).map_err(io::Error::from)?,
            Err(e) if e.is_absent() => Book::default(),
            Err(e) => return Err(io::Error::from(e)),
        };
        let mut now = self.locked();
        (now.book, now.seen, now.known) = (book, seen, true);
        Ok(())
    }

    /// Changes the file, as no other process does at the same time.
    fn change<T>(&self, change: impl FnOnce(&mut Book, &mut HashMap<String, Instant>) -> T) -> io::Result<T> {
        let _disk = self.disk.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(dir) = &self.dir else {
            let Now { book, used, .. } = &mut *self.locked();
            let done = change(book, used);
            trim(book, used);
            return Ok(done);
        };
        let _lock = lock(dir)?;
        self.read()?;
        let (mut book, mut used) = {
            let now = self.locked();
            (now.book.clone(), now.used.clone())
        };
        let done = change(&mut book, &mut used);
        trim(&mut book, &mut used);
        write(dir, &book)?;
        let mut now = self.locked();
        now.seen = stamp(&dir.join(FILE));
        trim(&mut book, &mut now.used);
        (now.book, now.known) = (book, true);
        Ok(done)
    }
}

/// Forgets what is no more.
fn trim(book: &mut Book, used: &mut HashMap<String, Instant>) {
    let over = book.gone.len().saturating_sub(GONE);
    book.gone.drain(..over);
    used.retain(|id, _| book.registrations.iter().any(|one| one.id == *id));
}

/// Locks the directory's file for this. `hooks revoke` may be root's, and the directory another user's: a link is not followed, and
/// what is not new is left to its owner.
fn lock(dir: &Path) -> io::Result<File> {
    let path = dir.join(LOCK);
    let mut options = File::options();
    options.append(true).mode(0o600).custom_flags(OFlags::NOFOLLOW.bits().cast_signed());
    let lock = match options.clone().create_new(true).open(&path) {
        Ok(made) => {
            files::hand_over(&made, &File::open(dir)?)?;
            made
        }
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => options.open(&path)?,
        Err(e) => return Err(e),
    };
    lock.lock()?;
    Ok(lock)
}

/// Writes the file whole or not at all.
fn write(dir: &Path, book: &Book) -> io::Result<()> {
    // A name of its own, so that none leads elsewhere.
    let mut file = tempfile::NamedTempFile::new_in(dir)?;
    files::hand_over(file.as_file(), &File::open(dir)?)?;
    file.write_all(&serde_json::to_vec(book)?)?;
    file.as_file().sync_all()?;
    file.persist(dir.join(FILE)).map_err(|e| e.error)?;
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
    use std::sync::mpsc::channel;

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
    async fn before_the_first_reading_no_registration_is_unknown() {
        let dir = tempfile::tempdir().unwrap();
        let made = Registry::of(Some(dir.path().to_owned())).add(wanted(), [1; 32], 3).await.unwrap();
        let fresh = Registry::of(Some(dir.path().to_owned()));
        let (disk, (taken, is_taken), (release, released)) = (Arc::clone(&fresh.disk), channel(), channel::<()>());
        let holding = std::thread::spawn(move || {
            let _disk = disk.lock().unwrap();
            taken.send(()).unwrap();
            released.recv().unwrap_err()
        });
        is_taken.recv().unwrap();
        let asking: Vec<_> = (0..2)
            .map(|_| {
                let (fresh, id) = (fresh.clone(), made.id.clone());
                tokio::spawn(async move { is(&fresh, &id, 1).await })
            })
            .collect();
        while fresh.locked().looked.is_none() {
            tokio::task::yield_now().await;
        }
        tokio::task::yield_now().await;
        drop(release);
        holding.join().unwrap();
        for asked in asking {
            assert_eq!(asked.await.unwrap(), "active");
        }
    }

    #[tokio::test]
    async fn a_link_in_the_directory_leads_to_no_other_file() {
        let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let target = other.path().join("shadow");
        fs::write(&target, "theirs").unwrap();
        for name in [LOCK, "hooks.json.new", FILE] {
            let _ = fs::remove_file(dir.path().join(FILE));
            std::os::unix::fs::symlink(&target, dir.path().join(name)).unwrap();
            let registry = Registry::of(Some(dir.path().to_owned()));
            let added = registry.add(wanted(), [1; 32], 3).await;
            assert_eq!(added.is_ok(), name == "hooks.json.new", "{name}");
            assert_eq!(fs::read_to_string(&target).unwrap(), "theirs", "{name}");
            let _ = fs::remove_file(dir.path().join(name));
        }
    }

    #[tokio::test]
    async fn a_message_does_not_wait_for_a_registration_that_waits_for_the_disk() {
        let dir = tempfile::tempdir().unwrap();
        let registry = Registry::of(Some(dir.path().to_owned()));
        let made = registry.add(wanted(), [1; 32], 3).await.unwrap();
        let held = File::options().append(true).open(dir.path().join(LOCK)).unwrap();
        held.lock().unwrap();
        let waiting = tokio::spawn({
            let registry = registry.clone();
            async move { registry.add(wanted(), [1; 32], 3).await.is_ok() }
        });
        while registry.disk.try_lock().is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        registry.locked().looked = None;
        let found = timeout(Duration::from_secs(60), is(&registry, &made.id, 1)).await;
        assert_eq!(found.unwrap(), "active");
        held.unlock().unwrap();
        assert!(waiting.await.unwrap());
        assert_eq!(registry.list().unwrap().len(), 2);
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
