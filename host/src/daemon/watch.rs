//! Notices changed component files (`policy.watch`), once they rest.
//!
//! It looks at a few dozen files once a second. That works alike for files that are written in place, renamed, or behind links and
//! mounts of any kind, cannot lose an event, and needs no library: what inotify would spare is some microseconds a second.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::daemon;

/// How much earlier than the clock a file system may stamp a change.
const STEP: Duration = Duration::from_millis(20);

/// A file as it is seen from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    /// Device and inode.
    file: (u64, u64),
    size: u64,
    /// Seconds and nanoseconds of the last change, of what is in it and of anything else.
    written: (i64, i64),
    changed: (i64, i64),
}

/// How files are seen: those that are not there, or cannot be looked at, have no stamp.
type Seen = BTreeMap<PathBuf, Option<Stamp>>;

/// Files, and how they were when they were read.
#[derive(Debug)]
pub(super) struct Watch {
    every: Duration,
    known: Seen,
    /// How they were at the last look.
    last: Seen,
}

impl Watch {
    /// For files that were read since `begun`. It looks once in `every`.
    pub(super) fn of(files: &[PathBuf], begun: SystemTime, every: Duration) -> Watch {
        let last = look(files.to_vec());
        let mut known = last.clone();
        // What changed since then may have been read before or after.
        let begun = since_1970(begun.checked_sub(STEP).unwrap_or(UNIX_EPOCH));
        let now = since_1970(SystemTime::now());
        known.retain(|_, stamp| stamp.is_none_or(|stamp| !is_between(begun, stamp.changed, now)));
        Watch { every, known, last }
    }

    /// The same for other files.
    pub(super) fn goes_on_with(&mut self, files: &[PathBuf], begun: SystemTime) {
        *self = Watch::of(files, begun, self.every);
    }

    /// Waits until some have changed and were the same in two looks; these. It may be dropped.
    pub(super) async fn changed(&mut self) -> Vec<PathBuf> {
        loop {
            tokio::time::sleep(self.every).await;
            let files: Vec<PathBuf> = self.last.keys().cloned().collect();
            // A panic in there is no change.
            let Ok(now) = daemon::apart(async move { look(files) }).await else { continue };
            let changed = self.rested(now);
            if !changed.is_empty() {
                return changed;
            }
        }
    }

    /// What has changed and rests, by one look more. Each change is told once, whatever comes of it.
    fn rested(&mut self, now: Seen) -> Vec<PathBuf> {
        let rests = now == self.last;
        self.last = now;
        if !rests {
            return Vec::new();
        }
        let is_new = |(file, stamp): &(&PathBuf, &Option<Stamp>)| self.known.get(*file) != Some(*stamp);
        let changed = self.last.iter().filter(is_new).map(|(file, _)| file.clone()).collect();
        self.known = self.last.clone();
        changed
    }
}

/// Whether a change may be one of while the files were read. One from the future is none: the clock went back, or another machine's is
/// ahead, and it would be news again at each look.
fn is_between(begun: (i64, i64), changed: (i64, i64), now: (i64, i64)) -> bool {
    begun <= changed && changed <= now
}

/// A moment as a stamp has it.
fn since_1970(at: SystemTime) -> (i64, i64) {
    let at = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    (i64::try_from(at.as_secs()).unwrap_or(i64::MAX), i64::from(at.subsec_nanos()))
}

fn look(files: Vec<PathBuf>) -> Seen {
    let stamp = |file: &PathBuf| {
        let found = std::fs::metadata(file).ok()?;
        Some(Stamp {
            file: (found.dev(), found.ino()),
            size: found.size(),
            written: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        })
    };
    files.into_iter().map(|file| (file.clone(), stamp(&file))).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn after_a_while() -> SystemTime {
        SystemTime::now() + Duration::from_secs(60)
    }

    #[test]
    fn a_change_is_told_once_and_only_when_it_rests() {
        let dir = tempfile::tempdir().unwrap();
        let [one, other] = ["one", "other"].map(|name| dir.path().join(name));
        fs::write(&one, "a").unwrap();
        let files = [one.clone(), other.clone()];
        let mut watch = Watch::of(&files, after_a_while(), Duration::from_secs(1));
        let mut rested = || watch.rested(look(files.to_vec()));
        assert!(rested().is_empty() && rested().is_empty());
        // Written in pieces.
        for text in ["b", "bc", "bcd"] {
            fs::write(&one, text).unwrap();
            assert!(rested().is_empty(), "{text}");
        }
        assert_eq!(rested(), std::slice::from_ref(&one));
        assert!(rested().is_empty());
        // A file that comes, and one that goes.
        fs::write(dir.path().join("new"), "x").unwrap();
        fs::rename(dir.path().join("new"), &other).unwrap();
        fs::remove_file(&one).unwrap();
        assert!(rested().is_empty());
        assert_eq!(rested(), [one, other]);
    }

    #[test]
    fn a_stamp_from_the_future_is_not_news_for_ever() {
        let (begun, now) = ((100, 5), (107, 0));
        for (changed, is_news) in [
            ((99, 999_999_999), false),
            ((100, 4), false),
            ((100, 5), true),
            ((103, 0), true),
            ((107, 0), true),
            ((107, 1), false),
            ((i64::MAX, 0), false),
        ] {
            assert_eq!(is_between(begun, changed, now), is_news, "{changed:?}");
        }
    }

    #[test]
    fn what_changed_while_it_was_read_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("one");
        let begun = SystemTime::now();
        fs::write(&file, "a").unwrap();
        let mut watch = Watch::of(std::slice::from_ref(&file), begun, Duration::from_secs(1));
        assert_eq!(watch.rested(look(vec![file.clone()])), [file]);
    }
}
