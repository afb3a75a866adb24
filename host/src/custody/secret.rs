//! The file of the mark's key: made at the first start, for its owner alone.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use zeroize::Zeroizing;

use super::Error;
use crate::proto::mark::MarkKey;

/// Reads the key, or makes one where there is no file. Of two processes that start at once both end up with the same.
pub(super) fn read_or_make(path: &Path) -> Result<MarkKey, Error> {
    let wrong = |source| Error::MarkFile { path: path.to_owned(), source };
    match File::open(path) {
        Ok(file) => read(file, path),
        Err(e) if e.kind() == ErrorKind::NotFound => {
            make(path).map_err(wrong)?;
            read(File::open(path).map_err(wrong)?, path)
        }
        Err(e) => Err(wrong(e)),
    }
}

fn read(file: File, path: &Path) -> Result<MarkKey, Error> {
    let wrong = |source| Error::MarkFile { path: path.to_owned(), source };
    let bad = |what| Error::MarkKey { path: path.to_owned(), what };
    if file.metadata().map_err(wrong)?.permissions().mode() & 0o077 != 0 {
        return Err(bad(
            "may be read by others, so anybody could write our mark: chmod 600 it, or remove it for a new one",
        ));
    }
    let mut octets = Zeroizing::new(Vec::with_capacity(64));
    file.take(33).read_to_end(&mut octets).map_err(wrong)?;
    let octets: [u8; 32] = octets
        .as_slice()
        .try_into()
        .map_err(|_| bad("does not hold 32 octets: remove it, and a new one is made at the next start"))?;
    Ok(MarkKey::from_octets(octets))
}

/// Written beside, synced, and linked to its name only when whole; a file that is there by then stays.
fn make(path: &Path) -> std::io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    let mut octets = Zeroizing::new([0; 32]);
    getrandom::fill(octets.as_mut_slice()).map_err(std::io::Error::other)?;
    let mut file = tempfile::NamedTempFile::new_in(dir)?; // mode 0600
    file.write_all(octets.as_slice())?;
    file.as_file().sync_all()?;
    match file.persist_noclobber(path) {
        Err(e) if e.error.kind() != ErrorKind::AlreadyExists => return Err(e.error),
        _ => {}
    }
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn the_key_is_made_once_and_for_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mark.key");
        let mark = |key: &MarkKey| key.write(UNIX_EPOCH, "", "bob@example.com", "<1@mx>");
        let first = read_or_make(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(mark(&first), mark(&read_or_make(&path).unwrap()));
        let other = tempfile::tempdir().unwrap();
        assert_ne!(mark(&first), mark(&read_or_make(&other.path().join("mark.key")).unwrap()));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn a_file_that_others_can_read_or_that_is_cut_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mark.key");
        read_or_make(&path).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).unwrap();
        assert!(read_or_make(&path).unwrap_err().to_string().contains("chmod 600"));
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        std::fs::write(&path, [1; 31]).unwrap();
        assert!(read_or_make(&path).unwrap_err().to_string().contains("32 octets"));
        std::fs::write(&path, [1; 33]).unwrap();
        assert!(read_or_make(&path).is_err());
    }
}
