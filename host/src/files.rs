//! Files that others wrote: opened by their type, read within a bound, and absent only where the system says so.
//!
//! A path in a configuration may lead to a FIFO, a device or a directory: opening a FIFO waits for a writer, `/dev/zero` never
//! ends. Only a regular file is read here, and no more of it than the caller's bound. Reading still takes as long as the disk
//! does, so a daemon calls this off its event loop.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
#[cfg(any(feature = "hooks", feature = "sqlite"))]
use std::os::unix::fs::{MetadataExt as _, fchown};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

/// The byte order mark that some editors put before UTF-8.
const MARK: &[u8] = "\u{feff}".as_bytes();

/// Why a file cannot be used. The text says what the file is; the caller names it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The system's reason. Nothing is there where its kind is [`ErrorKind::NotFound`], and only then.
    #[error(transparent)]
    System(io::Error),
    /// A symbolic link on the way has no target: somebody meant a file to be here.
    #[error("{0} is a link that leads nowhere")]
    Dangling(PathBuf),
    /// It is no regular file.
    #[error("it is {0}, and not a regular file")]
    Kind(&'static str),
    /// It is longer than it may be.
    #[error("it is longer than {0} octets")]
    Long(u64),
    /// It holds octets that are no UTF-8.
    #[error("it is not text in UTF-8")]
    NotText,
}

impl Error {
    /// Whether there is nothing of this name.
    pub fn is_absent(&self) -> bool {
        matches!(self, Error::System(source) if source.kind() == ErrorKind::NotFound)
    }
}

impl From<Error> for io::Error {
    /// Keeps the kind of the system's own errors; of the others none is [`ErrorKind::NotFound`].
    fn from(error: Error) -> io::Error {
        match error {
            Error::System(source) => source,
            other => io::Error::other(other),
        }
    }
}

/// Whether there is anything of this name, of whatever type.
///
/// # Errors
/// Not to be allowed to look is an error, and so is a link without a target: neither means that nothing is there.
pub fn is_there(path: &Path) -> Result<bool, Error> {
    match fs::metadata(path) {
        Ok(_) => Ok(true),
        Err(source) => match explained(path, source) {
            error if error.is_absent() => Ok(false),
            error => Err(error),
        },
    }
}

/// Opens a regular file for reading. It never waits, whatever the path leads to.
///
/// # Errors
/// Each variant of [`Error`] but `Long` and `NotText`.
pub fn open(path: &Path) -> Result<File, Error> {
    open_with(path, OpenOptions::new().read(true))
}

/// Opens a regular file with these options; it never waits, whatever the path leads to.
///
/// # Errors
/// As [`open`].
pub fn open_with(path: &Path, options: &mut OpenOptions) -> Result<File, Error> {
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = options.custom_flags(flags.bits().cast_signed()).open(path).map_err(|source| explained(path, source))?;
    let kind = kind(&file.metadata().map_err(Error::System)?);
    kind.map_or(Ok(file), |kind| Err(Error::Kind(kind)))
}

/// Gives a file that root made in another user's directory to that user.
#[cfg(any(feature = "hooks", feature = "sqlite"))]
pub(crate) fn hand_over(made: &File, dir: &File) -> io::Result<()> {
    let dir = dir.metadata()?;
    match made.metadata()?.uid() {
        0 if dir.uid() != 0 => fchown(made, Some(dir.uid()), Some(dir.gid())),
        _ => Ok(()),
    }
}

/// The octets of a regular file, `most` of them at most.
///
/// # Errors
/// Each variant of [`Error`] but `NotText`.
pub fn read(path: &Path, most: u64) -> Result<Vec<u8>, Error> {
    let mut octets = Vec::new();
    contents(&open(path)?, most, &mut octets)?;
    Ok(octets)
}

/// The text of a regular file without its byte order mark, `most` octets at most.
///
/// # Errors
/// Each variant of [`Error`].
pub fn read_text(path: &Path, most: u64) -> Result<String, Error> {
    text(read(path, most)?)
}

/// The octets of what a person named on a command line: a regular file; or standard input, as `-` or `/dev/stdin`, or another
/// descriptor that the shell opened (`/dev/fd/63`). Waits for standard input to end.
///
/// # Errors
/// Each variant of [`Error`] but `NotText`.
pub fn read_given(path: &Path, most: u64) -> Result<Vec<u8>, Error> {
    let mut octets = Vec::new();
    if path == Path::new("-") || path == Path::new("/dev/stdin") {
        contents(io::stdin().lock(), most, &mut octets)?;
    } else if path.starts_with("/dev/fd") || path.starts_with("/proc/self/fd") {
        contents(File::open(path).map_err(Error::System)?, most, &mut octets)?;
    } else {
        contents(&open(path)?, most, &mut octets)?;
    }
    Ok(octets)
}

/// Reads to the end, `most` octets at most. With room for one octet more than `most` in `octets`, no copy is left behind.
///
/// # Errors
/// [`Error::System`] and [`Error::Long`].
pub fn contents(source: impl Read, most: u64, octets: &mut Vec<u8>) -> Result<(), Error> {
    let read = source.take(most.saturating_add(1)).read_to_end(octets).map_err(Error::System)?;
    if u64::try_from(read).is_ok_and(|read| read <= most) { Ok(()) } else { Err(Error::Long(most)) }
}

/// Octets as text, without the byte order mark.
///
/// # Errors
/// [`Error::NotText`].
pub fn text(octets: Vec<u8>) -> Result<String, Error> {
    let mut text = String::from_utf8(octets).map_err(|_| Error::NotText)?;
    if text.starts_with('\u{feff}') {
        text.drain(..MARK.len());
    }
    Ok(text)
}

/// The octets behind the byte order mark, where there is one.
pub fn without_mark(octets: &[u8]) -> &[u8] {
    octets.strip_prefix(MARK).unwrap_or(octets)
}

/// What a path leads to, where that is no regular file.
fn kind(found: &Metadata) -> Option<&'static str> {
    let kind = found.file_type();
    match () {
        () if kind.is_file() => None,
        () if kind.is_dir() => Some("a directory"),
        () if kind.is_fifo() => Some("a FIFO"),
        () if kind.is_socket() => Some("a socket"),
        () if kind.is_char_device() || kind.is_block_device() => Some("a device"),
        () => Some("something else"),
    }
}

/// Tells a link without a target from nothing at all, and names what cannot be opened by its type: a socket cannot.
fn explained(path: &Path, source: io::Error) -> Error {
    if source.kind() != ErrorKind::NotFound {
        let kind = fs::metadata(path).ok().and_then(|found| kind(&found));
        return kind.map_or(Error::System(source), Error::Kind);
    }
    // The first part of the path that is there at all: a link, where following it failed.
    for part in path.ancestors().filter(|part| !part.as_os_str().is_empty()) {
        match fs::symlink_metadata(part) {
            Ok(found) if found.is_symlink() && fs::metadata(part).is_err() => return Error::Dangling(part.to_owned()),
            Ok(_) => break,
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(e) => return Error::System(e),
        }
    }
    Error::System(source)
}

#[cfg(test)]
mod tests;
