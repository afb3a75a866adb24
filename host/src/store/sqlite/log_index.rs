//! Whether anybody committed to a database since one looked: told without a statement.

use std::collections::BTreeMap;
use std::fs::{File, Metadata};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use crate::store::commits::{Commits, HEAD, Identity};

/// The index of a write-ahead log, open for as long as the process lives.
#[derive(Clone, Copy, Debug)]
pub(super) struct LogIndex {
    identity: Identity,
    file: &'static File,
}

/// None is ever closed: to close a descriptor ends all locks that the process has on its file, those of
/// SQLite's own descriptors as well.
static OPEN: Mutex<BTreeMap<Identity, LogIndex>> = Mutex::new(BTreeMap::new());

impl LogIndex {
    /// The one at this path, whose database is connected to; absent where it cannot be opened.
    pub(super) fn at(path: &Path) -> Option<LogIndex> {
        let identity = |found: &Metadata| (found.dev(), found.ino());
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(index) = open.get(&identity(&std::fs::metadata(path).ok()?)) {
            return Some(*index);
        }
        let file: &'static File = Box::leak(Box::new(File::open(path).ok()?));
        let identity = identity(&file.metadata().ok()?);
        Some(*open.entry(identity).or_insert(LogIndex { identity, file }))
    }

    /// How the database stands now; absent where that cannot be read.
    pub(super) fn look(self) -> Option<Commits> {
        let mut head = [0; HEAD];
        self.file.read_exact_at(&mut head, 0).ok()?;
        Some(Commits { file: self.identity, head })
    }
}
