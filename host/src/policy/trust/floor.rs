//! The floor of each signed policy: the version that was in force last, below which none is taken, a restart later too.
//!
//! It is kept in the file `signed.toml` of the state directory and not in the filter's database: who moves a damaged database away
//! must not take older components again by it, and the verbs look at the floor without opening a database. Each host has its
//! own. A file is replaced whole; who writes holds a lock on the directory.

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

use super::{InForce, Version};
use crate::config::{Config, Limits};
use crate::files;

/// The name of the file.
pub const FILE: &str = "signed.toml";
/// How long another process that writes is waited for: it takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(5);

/// How the file begins.
const HEAD: &str = "# Written by addrauth: the version of each signed policy that was in force last. None below it is taken; without this\n\
                    # file any version is, once. `addrauth policy rollback` goes back.\n";

/// Why a signed component may not be in force here. What is in force stays.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A newer one was in force.
    #[error(
        "the component of policy `{policy}` is version {version}, and {last} was in force here: bring a newer one, or take \
         its promotion back by `addrauth policy rollback`"
    )]
    Older {
        /// The policy, as it was signed.
        policy: String,
        /// Its version.
        version: Version,
        /// The version that was in force.
        last: Version,
    },
    /// Another one of the same version was in force: nobody can tell which is older.
    #[error(
        "the component of policy `{policy}` is another one than that of version {version} which was in force here: raise its version, \
         and sign it again"
    )]
    Other {
        /// The policy, as it was signed.
        policy: String,
        /// Its version.
        version: Version,
    },
    /// Two of them at once.
    #[error("two different components are signed as the policy `{policy}`: one of them needs a name of its own")]
    Twice {
        /// The policy, as it was signed.
        policy: String,
    },
    /// The file cannot be read.
    #[error("cannot read {path}, the versions that were in force: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The file holds something else.
    #[error("{path} is damaged: {text}. Restore it; without it any signed version is taken, once")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        text: String,
    },
    /// The file cannot be written.
    #[error("cannot write {path}, which keeps the version in force: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
}

/// What was in force of one policy.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Last {
    version: Version,
    sha256: String,
    /// The component that may come next whatever its version is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    allowed: Option<String>,
}

type Floor = BTreeMap<String, Last>;

/// Where a filter of this configuration keeps its floor; one without `final_domains` has none.
pub fn place(config: &Config) -> Option<&Path> {
    (!config.final_domains.is_empty()).then_some(config.state_dir.0.as_path())
}

/// Whether these may be in force here; nothing is changed.
///
/// # Errors
/// One of them may not, or that cannot be told.
pub fn check(state_dir: &Path, in_force: &[InForce]) -> Result<(), Error> {
    if in_force.is_empty() { Ok(()) } else { taken(&read(state_dir)?, in_force).map(drop) }
}

/// Prepares that these are the floor; [`Raise::commit`] does it, when nothing else can fail any more. It waits for a lock and for the
/// disk.
///
/// # Errors
/// One of them may not be in force, or the file cannot be used.
pub fn raise(state_dir: &Path, in_force: &[InForce]) -> Result<Raise, Error> {
    if in_force.is_empty() {
        return Ok(Raise(None));
    }
    change(state_dir, |floor| taken(floor, in_force))
}

/// Lets the component of this SHA-256 be the next one in force of this policy ([`super::policy_of`] its file), although it is older:
/// what a rollback does before it puts the files in place. It counts once. Another component that is new enough ends it as well, and so
/// does nothing in the digest's place.
///
/// # Errors
/// The file cannot be used.
pub fn allow(state_dir: &Path, policy: &str, digest: Option<&str>) -> Result<(), Error> {
    let allowed = |floor: &Floor| {
        let mut floor = floor.clone();
        if let Some(last) = floor.get_mut(policy) {
            last.allowed = digest.filter(|digest| *digest != last.sha256).map(str::to_owned);
        }
        Ok(floor)
    };
    change(state_dir, allowed)?.commit()
}

/// A floor that is written beside the one that counts.
#[derive(Debug)]
#[must_use]
pub struct Raise(Option<Prepared>);

#[derive(Debug)]
struct Prepared {
    file: NamedTempFile,
    path: PathBuf,
    /// Locked until this is dropped.
    dir: File,
}

impl Raise {
    /// Makes it count, durably.
    ///
    /// # Errors
    /// [`Error::Write`]: it is not known which of the two lasts.
    pub fn commit(self) -> Result<(), Error> {
        let Some(Prepared { file, path, dir }) = self.0 else { return Ok(()) };
        let wrong = |source| Error::Write { path: path.clone(), source };
        file.persist(&path).map_err(|e| wrong(e.error))?;
        dir.sync_all().map_err(wrong)
    }
}

/// The floor after these are in force.
fn taken(floor: &Floor, in_force: &[InForce]) -> Result<Floor, Error> {
    let mut next = floor.clone();
    for InForce { signed, digest } in in_force {
        let (policy, version) = (signed.policy.clone(), signed.version.clone());
        let others = in_force.iter().filter(|other| other.signed.policy == policy);
        if others.into_iter().any(|other| other.digest != *digest) {
            return Err(Error::Twice { policy });
        }
        match floor.get(&policy) {
            Some(last) if last.sha256 == *digest => continue,
            Some(last) if last.allowed.as_ref() == Some(digest) => {}
            Some(last) if version < last.version => {
                return Err(Error::Older { policy, version, last: last.version.clone() });
            }
            Some(last) if version == last.version => return Err(Error::Other { policy, version }),
            _ => {}
        }
        next.insert(policy, Last { version, sha256: digest.clone(), allowed: None });
    }
    Ok(next)
}

fn read(state_dir: &Path) -> Result<Floor, Error> {
    let path = state_dir.join(FILE);
    let text = match files::read_text(&path, Limits::default().policy.floor) {
        Err(e) if e.is_absent() => return Ok(Floor::new()),
        Err(e) => return Err(Error::Read { path, source: e.into() }),
        Ok(text) => text,
    };
    toml::from_str(&text).map_err(|e| Error::Damaged { path, text: e.message().to_owned() })
}

/// The floor that follows from the one that counts, written beside it. Nobody else writes until it counts or is given up.
fn change(state_dir: &Path, next: impl FnOnce(&Floor) -> Result<Floor, Error>) -> Result<Raise, Error> {
    let path = state_dir.join(FILE);
    let wrong = |source| Error::Write { path: path.clone(), source };
    let dir = locked(state_dir).map_err(wrong)?;
    let floor = read(state_dir)?;
    let next = next(&floor)?;
    if next == floor {
        return Ok(Raise(None));
    }
    let text = toml::to_string(&next).map_err(|e| wrong(std::io::Error::other(e)))?;
    let written = NamedTempFile::new_in(state_dir).and_then(|mut file| {
        file.write_all(HEAD.as_bytes())?;
        file.write_all(text.as_bytes())?;
        files::hand_over(file.as_file(), &dir)?;
        file.as_file().sync_all()?;
        Ok(file)
    });
    Ok(Raise(Some(Prepared { file: written.map_err(wrong)?, path: path.clone(), dir })))
}

/// The directory, locked against others that write the floor.
fn locked(state_dir: &Path) -> std::io::Result<File> {
    let dir = File::open(state_dir)?;
    let begin = Instant::now();
    loop {
        match dir.try_lock() {
            Ok(()) => return Ok(dir),
            Err(TryLockError::Error(e)) => return Err(e),
            Err(TryLockError::WouldBlock) if begin.elapsed() < PATIENCE => std::thread::sleep(PAUSE),
            Err(TryLockError::WouldBlock) => {
                return Err(std::io::Error::new(ErrorKind::WouldBlock, "another process has locked the directory"));
            }
        }
    }
}
