//! How a database stands: told by it without a statement, and compared by whoever remembers what was read.

/// Octets of what the index of a write-ahead log begins with: in two copies how many transactions there were, where the log ends,
/// and its checksum (<https://sqlite.org/walformat.html>, "WAL-Index File Format").
pub(super) const HEAD: usize = 96;

/// Device and inode.
pub(super) type Identity = (u64, u64);

/// How a database stood at one moment: two that are equal have no commit between them, of this process or of another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Commits {
    pub(super) file: Identity,
    pub(super) head: [u8; HEAD],
}

impl Commits {
    /// Whether both are of the same file.
    pub(super) fn is_same_file(&self, other: &Commits) -> bool {
        self.file == other.file
    }
}
