//! Secrets in files of their own: for their owner alone, whole or not there.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::{Error, rights};
use crate::config::{Config, Limits};
use crate::files;
use crate::proto::seal::{Opener, SealTo};

/// The name of the keyring's secret half, in the state directory and among systemd's credentials.
const KEYRING_KEY: &str = "keyring.key";
/// The name of the secret half that opens new keys for whoever posts them, in the same places.
const POST_KEY: &str = "post.key";
/// The name of its public half, in the state directory.
const POST_PUBLIC: &str = "post.pub";

/// Reads a secret, or makes one where there is no file. Of two processes that start at once both end up with the same.
pub fn read_or_make_secret(
    path: &Path,
    fresh: impl FnOnce() -> Option<Zeroizing<Vec<u8>>>,
) -> Result<Zeroizing<Vec<u8>>, Error> {
    let wrong = |source| Error::SecretFile { path: path.to_owned(), source };
    match read_secret(path) {
        Err(Error::SecretFile { source, .. }) if source.kind() == ErrorKind::NotFound => {
            let fresh = fresh().ok_or_else(|| wrong(std::io::Error::other("no random octets")))?;
            make(path, &fresh).map_err(wrong)?;
            read_secret(path)
        }
        other => other,
    }
}

/// Reads a secret that others must not be able to read; one of systemd's credentials is guarded by systemd.
pub fn read_secret(path: &Path) -> Result<Zeroizing<Vec<u8>>, Error> {
    let wrong = |source| Error::SecretFile { path: path.to_owned(), source };
    let file = files::open(path).map_err(|e| wrong(e.into()))?;
    let guarded = credentials().is_some_and(|dir| path.starts_with(dir));
    if !guarded && file.metadata().map_err(wrong)?.permissions().mode() & 0o077 != 0 {
        return Err(Error::Secret { path: path.to_owned(), what: "may be read by others: chmod 600 it".into() });
    }
    // Room for all of it, so that no half-read copy stays behind where the buffer grew.
    let most = Limits::default().files.secret;
    let mut octets = Zeroizing::new(Vec::with_capacity(usize::try_from(most).unwrap_or_default() + 1));
    files::contents(file, most, &mut octets).map_err(|e| wrong(e.into()))?;
    Ok(octets)
}

/// The secret in a file that somebody wrote by hand, such as a token or a password: its text without the line's end.
pub fn read_secret_line(path: &Path) -> Result<Zeroizing<String>, Error> {
    let octets = read_secret(path)?;
    let text = str::from_utf8(files::without_mark(&octets)).unwrap_or_default().trim();
    match text.is_empty() || text.contains(['\r', '\n']) {
        true => Err(Error::Secret { path: path.to_owned(), what: "must hold one line, the secret itself".into() }),
        false => Ok(Zeroizing::new(text.to_owned())),
    }
}

/// The half that opens what was sealed, from this file; made where there is none.
pub fn read_or_make_opener(path: &Path) -> Result<Opener, Error> {
    let octets = read_or_make_secret(path, || {
        Some(Zeroizing::new(format!("{}\n", Opener::new()?.expose().as_str()).into_bytes()))
    })?;
    opener(path, &octets)
}

/// Where the secret half of the keyring is: `keyring.secret_file`, else among systemd's credentials, else in `state_dir`.
pub fn keyring_key(config: &Config) -> PathBuf {
    if !config.keyring.secret_file.as_os_str().is_empty() {
        return config.keyring.secret_file.clone();
    }
    credential_or(&config.state_dir.0, KEYRING_KEY)
}

/// The half to which keys are sealed: `keyring.seal_to`, else that of the pair here, which is made where there is none.
///
/// A keyring that another host reads, by a database in common or over TLS, is sealed to that host's pair: one made here
/// would open nothing there, so that is an error.
pub fn keyring_seal_to(config: &Config) -> Result<SealTo, Error> {
    let path = keyring_key(config);
    let wrong = |what: String| Error::Secret { path: "keyring.seal_to".into(), what };
    let read_elsewhere = is_read_elsewhere(config);
    match config.keyring.seal_to.as_str() {
        "" if read_elsewhere && !there(&path)? => Err(wrong(format!(
            "is empty, and there is no {}: set it to what `addrauth keyring key` prints on the host that stamps",
            path.display()
        ))),
        "" => Ok(read_or_make_opener(&path)?.seal_to()),
        text => text.parse().map_err(|bad| wrong(format!("is {bad}"))),
    }
}

/// Whether [`keyring_seal_to`] would find the half that it needs; makes nothing.
pub fn check_keyring_seal_to(config: &Config) -> Result<(), Error> {
    let path = keyring_key(config);
    match config.keyring.seal_to.is_empty() && there(&path)? {
        true => opener(&path, &read_secret(&path)?).map(|_| ()),
        // With no file the pair is made where that makes sense; here it is not.
        false if config.keyring.seal_to.is_empty() && !is_read_elsewhere(config) => Ok(()),
        false => keyring_seal_to(config).map(|_| ()),
    }
}

/// Whether [`post_opener`] would find a pair that it can use, or may make one.
pub fn check_post_key(dir: &Path) -> Result<(), Error> {
    let path = credential_or(dir, POST_KEY);
    match there(&path)? {
        true => opener(&path, &read_secret(&path)?).map(|_| ()),
        false => Ok(()),
    }
}

/// Whether another host reads the keyring, by a database in common or over TLS.
fn is_read_elsewhere(config: &Config) -> bool {
    !config.store.url.is_empty() || !config.authority.fetch_token_file.as_os_str().is_empty()
}

/// The half that opens new keys, for whoever posts them: among systemd's credentials, else in this state directory, where a
/// pair is made when there is none. Its other half is written beside it, so that issuing keys takes no secret.
pub fn post_opener(dir: &Path) -> Result<Opener, Error> {
    super::prepare_dir(dir)?;
    let opener = read_or_make_opener(&credential_or(dir, POST_KEY))?;
    let (path, text) = (dir.join(POST_PUBLIC), format!("{}\n", opener.seal_to()));
    if public_half(&path).ok().as_ref() != Some(&text) {
        publish(&path, text.as_bytes()).map_err(|source| Error::SecretFile { path, source })?;
    }
    Ok(opener)
}

/// The half to which new keys are sealed until they are posted, from this state directory; a pair is made where there is none,
/// unless the table is `shared` with other hosts: who posts is one of those, and has a pair already.
pub fn post_seal_to(dir: &Path, shared: bool) -> Result<SealTo, Error> {
    let path = dir.join(POST_PUBLIC);
    match public_half(&path) {
        Ok(text) => text.parse().map_err(|bad| Error::Secret {
            path,
            what: format!("is {bad}: remove it, and `addrauth authority` writes it again when it starts"),
        }),
        Err(source) if source.kind() == ErrorKind::NotFound && shared => Err(Error::Secret {
            path,
            what: "is not here, and who posts keys from the database of store.url would not open what is sealed to another \
                   pair: do this on the host of `addrauth authority`, whose first start makes it, or copy it from there"
                .into(),
        }),
        Err(source) if source.kind() == ErrorKind::NotFound => Ok(post_opener(dir)?.seal_to()),
        Err(source) => Err(Error::SecretFile { path, source }),
    }
}

/// Where a secret of this name is: among systemd's credentials, else in this directory.
/// One that cannot be looked at counts as there: reading it says why, and no other secret takes its place.
fn credential_or(dir: &Path, name: &str) -> PathBuf {
    let credential = credentials().map(|dir| dir.join(name));
    credential.filter(|path| files::is_there(path).unwrap_or(true)).unwrap_or_else(|| dir.join(name))
}

/// Whether there is such a file. One that cannot be looked at must not be taken for absent: another pair would be made.
fn there(path: &Path) -> Result<bool, Error> {
    files::is_there(path).map_err(|e| Error::SecretFile { path: path.to_owned(), source: e.into() })
}

fn public_half(path: &Path) -> std::io::Result<String> {
    Ok(files::read_text(path, Limits::default().files.secret)?)
}

fn opener(path: &Path, octets: &[u8]) -> Result<Opener, Error> {
    let wrong = |what: String| Error::Secret { path: path.to_owned(), what };
    Opener::parse(str::from_utf8(files::without_mark(octets)).unwrap_or_default())
        .map_err(|bad| wrong(format!("is {bad}")))
}

/// Where systemd puts what `LoadCredential=` names.
fn credentials() -> Option<PathBuf> {
    std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from).filter(|dir| dir.is_absolute())
}

/// Written beside, synced, and linked to its name only when whole; a file that is there by then stays.
fn make(path: &Path, octets: &[u8]) -> std::io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(dir)?; // mode 0600
    file.write_all(octets)?;
    rights::hand_over(file.as_file(), path)?;
    file.as_file().sync_all()?;
    match file.persist_noclobber(path) {
        Err(e) if e.error.kind() != ErrorKind::AlreadyExists => return Err(e.error),
        _ => {}
    }
    File::open(dir)?.sync_all()
}

/// What is no secret: readable by all who may enter the directory, whole or as it was.
fn publish(path: &Path, octets: &[u8]) -> std::io::Result<()> {
    let mut file = tempfile::NamedTempFile::new_in(path.parent().unwrap_or(Path::new(".")))?;
    file.write_all(octets)?;
    file.as_file().set_permissions(PermissionsExt::from_mode(0o644))?;
    rights::hand_over(file.as_file(), path)?;
    file.as_file().sync_all()?;
    file.persist(path).map(|_| ()).map_err(|e| e.error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_is_made_once_and_for_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("post.key");
        let first = read_or_make_opener(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(first.seal_to(), read_or_make_opener(&path).unwrap().seal_to());
        let other = tempfile::tempdir().unwrap();
        assert_ne!(first.seal_to(), read_or_make_opener(&other.path().join("post.key")).unwrap().seal_to());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn what_root_makes_in_another_users_directory_is_that_users() {
        use std::os::unix::fs::{MetadataExt, chown};
        let dir = tempfile::tempdir().unwrap();
        if chown(dir.path(), Some(65_534), None).is_err() {
            println!("skipped: only root can give a directory away");
            return;
        }
        let path = dir.path().join("keyring.key");
        read_or_make_opener(&path).unwrap();
        let found = std::fs::metadata(&path).unwrap();
        assert_eq!((found.uid(), found.permissions().mode() & 0o777), (65_534, 0o600));
    }

    #[test]
    fn a_file_that_others_can_read_or_that_is_none_of_ours_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("post.key");
        read_or_make_opener(&path).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).unwrap();
        assert!(read_or_make_opener(&path).unwrap_err().to_string().contains("chmod 600"));
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        std::fs::write(&path, "open1.short\n").unwrap();
        assert!(read_or_make_opener(&path).unwrap_err().to_string().contains("43 characters"));
    }

    #[test]
    fn issuing_takes_the_public_half_alone_and_it_follows_the_secret_one() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        let made = post_seal_to(&state, false).unwrap();
        assert_eq!(post_opener(&state).unwrap().seal_to(), made);
        let mode = |name| std::fs::metadata(state.join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("post.key"), mode("post.pub")), (0o600, 0o644));
        std::fs::remove_file(state.join("post.key")).unwrap();
        assert_eq!(post_seal_to(&state, false).unwrap(), made, "no secret is needed, or made");
        assert!(!state.join("post.key").exists());
        let other = post_opener(&state).unwrap();
        assert_ne!(other.seal_to(), made);
        assert_eq!(post_seal_to(&state, false).unwrap(), other.seal_to(), "the public half follows");
        std::fs::write(state.join("post.pub"), "seal1.short").unwrap();
        assert!(post_seal_to(&state, false).unwrap_err().to_string().contains("remove it"));
    }

    #[test]
    fn where_several_hosts_share_the_table_only_who_posts_makes_the_pair() {
        let dir = tempfile::tempdir().unwrap();
        let error = post_seal_to(dir.path(), true).unwrap_err().to_string();
        assert!(error.contains("post.pub") && error.contains("`addrauth authority`"), "{error}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is made");
        let made = post_opener(dir.path()).unwrap().seal_to();
        assert_eq!(post_seal_to(dir.path(), true).unwrap(), made);
    }

    #[test]
    fn a_keyring_that_others_read_needs_to_know_whom_to_seal_to() {
        let dir = tempfile::tempdir().unwrap();
        let alone = Config { state_dir: crate::config::StateDir(dir.path().to_owned()), ..Config::default() };
        let mut shared = alone.clone();
        shared.store.url = "postgres://as@db.example.com/addrauth".into();
        let mut fetched = alone.clone();
        fetched.authority.fetch_token_file = "/etc/addrauth/token".into();
        for config in [&shared, &fetched] {
            let error = keyring_seal_to(config).unwrap_err().to_string();
            assert!(
                error.starts_with("keyring.seal_to is empty") && error.contains("`addrauth keyring key`"),
                "{error}"
            );
            assert!(!dir.path().join("keyring.key").exists());
        }
        let made = keyring_seal_to(&alone).unwrap();
        assert_eq!(keyring_seal_to(&shared).unwrap(), made, "the pair is here");
        shared.keyring.seal_to = "seal1.x".into();
        assert!(keyring_seal_to(&shared).unwrap_err().to_string().contains("43 characters"));
    }

    #[test]
    fn a_secret_written_by_hand_is_one_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        for (text, good) in [("secret\n", true), ("secret", true), ("", false), ("\n", false), ("one\ntwo\n", false)] {
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
            let read = read_secret_line(&path);
            assert_eq!(read.as_ref().map(|secret| secret.as_str()).ok(), good.then_some("secret"), "{text:?}");
        }
    }
}
