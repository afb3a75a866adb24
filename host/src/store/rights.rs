//! Whose the database files are: what root makes in another user's directory becomes his, and whoever may not use a file is told who may.

use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::Error;
use crate::files;

/// Whether there is such a file.
///
/// # Errors
/// [`Error::Denied`] where one may not look, [`Error::Open`] where the system has another reason.
pub fn is_there(path: &Path) -> Result<bool, Error> {
    files::is_there(path).map_err(|e| unopened(path, &e.into()))
}

/// Makes the file, for its owner alone, where it is not there yet. One that root makes in another user's directory is given
/// to that user: the daemon that runs as him could not open it otherwise. SQLite as root lets -wal and -shm follow it.
pub(super) fn prepare_file(path: &Path) -> Result<(), Error> {
    let made = match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(made) => made,
        // A link without a target would be made into a file elsewhere.
        Err(e) if e.kind() == ErrorKind::AlreadyExists => return is_there(path).map(|_| ()),
        Err(e) => return Err(unopened(path, &e)),
    };
    hand_over(&made, path).map_err(|e| {
        // It is empty, and would be in the way of its right owner.
        let _ = std::fs::remove_file(path);
        unopened(path, &e)
    })
}

/// Gives a file that root made in another user's directory to that user.
pub(super) fn hand_over(made: &File, path: &Path) -> std::io::Result<()> {
    match path.parent() {
        Some(dir) => files::hand_over(made, &File::open(dir)?),
        None => Ok(()),
    }
}

/// The system's reason, with the way out where it is one about rights.
fn unopened(path: &Path, error: &std::io::Error) -> Error {
    match error.kind() {
        ErrorKind::PermissionDenied => denied(path),
        _ => Error::Open { path: path.to_owned(), text: error.to_string() },
    }
}

/// Why SQLite did not open it: it has one word for every reason of the system's.
pub(super) fn unusable(path: &Path, text: String) -> Error {
    let path = path.to_owned();
    let barred = ["", "-wal", "-shm"].into_iter().find_map(|end| {
        let mut file = path.clone().into_os_string();
        file.push(end);
        let file = PathBuf::from(file);
        // Only looked at once SQLite has failed: to close a file ends the locks that this process has on it.
        let opened = OpenOptions::new().read(true).write(true).open(&file);
        opened.is_err_and(|e| e.kind() == ErrorKind::PermissionDenied).then_some(file)
    });
    barred.map_or(Error::Open { path, text }, |file| denied(&file))
}

fn denied(path: &Path) -> Error {
    let owner = |path: &Path| std::fs::metadata(path).ok().map(|found| found.uid());
    let daemon = path.file_name().map(|name| name.to_string_lossy().split('.').next().unwrap_or_default().to_owned());
    let daemon = daemon.unwrap_or_default();
    let way = match (path.parent().and_then(owner), owner(path)) {
        (Some(dir), Some(file)) if dir != file => format!(
            "it belongs to {}, and its directory to {}; give it to the user that the {daemon} runs as (chown)",
            user(file),
            user(dir)
        ),
        (Some(dir), _) => format!("run this as root or as the {daemon}'s user ({})", user(dir)),
        _ => format!("run this as root or as the {daemon}'s user"),
    };
    Error::Denied { path: path.to_owned(), way }
}

/// A user's name by /etc/passwd, else his number.
fn user(uid: u32) -> String {
    let known = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let named = known.lines().find_map(|line| {
        let mut parts = line.split(':');
        let name = parts.next()?;
        (parts.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    });
    named.unwrap_or_else(|| uid.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_there_or_not_and_a_path_through_a_file_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("filter.db");
        assert!(!is_there(&file).unwrap());
        prepare_file(&file).unwrap();
        assert!(is_there(&file).unwrap());
        assert!(matches!(is_there(&file.join("x")), Err(Error::Open { .. })));
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(dir.path().join("nowhere"), &link).unwrap();
        assert!(is_there(&link).is_err() && prepare_file(&link).is_err());
        assert!(!dir.path().join("nowhere").exists());
    }

    #[test]
    fn who_may_not_use_a_file_is_told_who_may() {
        let dir = tempfile::tempdir().unwrap();
        let Error::Denied { way, .. } = denied(&dir.path().join("filter.db")) else { panic!("rights") };
        let me = user(std::fs::metadata(dir.path()).unwrap().uid());
        assert_eq!(way, format!("run this as root or as the filter's user ({me})"));
        assert_eq!(user(0), "root");
        assert_eq!(user(3_999_999_999), "3999999999");
    }
}
