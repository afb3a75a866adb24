//! Files put in their places whole, and components kept by their digests.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

use addrauth::config::{Limits, Size};
use addrauth::files;
use addrauth::policy::rehearse::{self, cases_of};
use addrauth::policy::trust::signature_of;
use addrauth::policy::{Decider, Origin};

use super::super::Error;

/// Digits of a digest in a file's name.
const DIGITS: usize = 12;

/// A file that is to be there.
#[derive(Clone, Debug)]
pub(in crate::policy) struct Put {
    pub(in crate::policy) path: PathBuf,
    pub(in crate::policy) octets: Vec<u8>,
    /// The file whose owner and mode it gets.
    pub(in crate::policy) like: Option<PathBuf>,
}

/// Puts a file in its place, whole or not at all, also where the power fails: written beside it, and renamed.
pub(in crate::policy) fn put(file: &Put) -> Result<(), Error> {
    let failed = |source| Error::Write { path: file.path.clone(), source };
    write(file).map_err(failed)
}

fn write(Put { path, octets, like }: &Put) -> std::io::Result<()> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let fresh = dir.join(format!(".{name}.{}", std::process::id()));
    let like = like.as_ref().map(fs::metadata).transpose()?;
    let written = (|| {
        // What a run that was killed has left.
        let _ = fs::remove_file(&fresh);
        let mut file = File::options().write(true).create_new(true).mode(0o600).open(&fresh)?;
        file.write_all(octets)?;
        let mode = like.as_ref().map_or(0o644, |like| like.mode() & 0o7777);
        if let Some(like) = &like
            && (like.uid(), like.gid()) != (file.metadata()?.uid(), file.metadata()?.gid())
        {
            fchown(&file, Some(like.uid()), Some(like.gid()))?;
        }
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.sync_all()?;
        fs::rename(&fresh, path)
    })();
    if written.is_err() {
        // Nothing names it.
        let _ = fs::remove_file(&fresh);
    }
    written?;
    File::open(dir)?.sync_all()
}

/// Where the components of a policy are kept: `ID.DIGEST.wasm` in `policy.dir`, or where there is none beside each.
pub(super) struct Kept<'a> {
    id: &'a str,
    dir: &'a Path,
}

impl<'a> Kept<'a> {
    pub(super) fn of(id: &'a str, dir: &'a Path) -> Kept<'a> {
        Kept { id, dir }
    }

    /// What `policies.ID.module` says for a component of this digest, which lies there now.
    pub(super) fn named(&self, now: &Path, digest: &str) -> PathBuf {
        let name = format!("{}.{}.wasm", self.id, digest.get(..DIGITS).unwrap_or(digest));
        if self.dir.as_os_str().is_empty() { now.with_file_name(name) } else { PathBuf::from(name) }
    }

    /// The files that a component takes there: itself, its signature, and its cases, which are the first that stand beside one of these
    /// files or beside itself. Nothing of one that ships.
    pub(super) fn component(&self, decider: &Decider, beside: &[&Path]) -> Result<Vec<Put>, Error> {
        let Origin::File(now) = &decider.origin else { return Ok(Vec::new()) };
        let place = self.dir.join(self.named(now, &decider.digest));
        let limits = Limits::default();
        // The class is looked at where it is loaded.
        let octets = rehearse::read(now, &limits.of(Size::Large))?;
        let mut puts = vec![Put { path: place.clone(), octets, like: Some(now.clone()) }];
        let mut put = |from: PathBuf, to: PathBuf, most: u64| -> Result<bool, Error> {
            let unread = |e: files::Error| Error::Read { path: from.clone(), source: e.into() };
            let is_there = files::is_there(&from).map_err(unread)?;
            if is_there && from != to {
                puts.push(Put {
                    path: to,
                    octets: files::read(&from, most).map_err(unread)?,
                    like: Some(from.clone()),
                });
            }
            Ok(is_there)
        };
        put(signature_of(now), signature_of(&place), limits.policy.signature)?;
        for cases in beside.iter().copied().chain([now.as_path()]).flat_map(cases_of) {
            if put(cases, place.with_extension("cases.toml"), limits.policy.cases_octets)? {
                break;
            }
        }
        puts.retain(|put| put.path != *now);
        Ok(puts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_keeps_its_mode() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.toml");
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        put(&Put { path: path.clone(), octets: b"new".to_vec(), like: Some(path.clone()) }).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o640);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing else is left");
        let nowhere = dir.path().join("nowhere/a.toml");
        assert!(put(&Put { path: nowhere, octets: Vec::new(), like: None }).is_err());
    }

    #[test]
    fn a_component_is_kept_by_its_digest_with_its_signature_and_cases() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("next.wasm");
        for (name, text) in [("next.wasm", "a"), ("next.wasm.minisig", "b"), ("next.cases.toml", "c")] {
            fs::write(dir.path().join(name), text).unwrap();
        }
        let digest = "0123456789abcdef".repeat(4);
        let decider = Decider { digest, settings: serde_json::Value::Null, origin: Origin::File(file) };
        let kept = Kept::of("ours", dir.path());
        let puts = kept.component(&decider, &[]).unwrap();
        let names: Vec<_> = puts.iter().map(|put| put.path.file_name().unwrap().to_str().unwrap()).collect();
        assert_eq!(names, ["ours.0123456789ab.wasm", "ours.0123456789ab.wasm.minisig", "ours.0123456789ab.cases.toml"]);
        // Without cases of its own it takes those of the policy in force.
        fs::rename(dir.path().join("next.cases.toml"), dir.path().join("ours.cases.toml")).unwrap();
        let old = dir.path().join("ours.wasm");
        let puts = kept.component(&decider, &[&old]).unwrap();
        assert_eq!(puts.last().unwrap().path, dir.path().join("ours.0123456789ab.cases.toml"));
        assert_eq!(kept.component(&decider, &[]).unwrap().len(), 2);
        let elsewhere = Kept::of("ours", Path::new("")).named(Path::new("/p/next.wasm"), "0123456789abcdef");
        assert_eq!(elsewhere, Path::new("/p/ours.0123456789ab.wasm"));
    }
}
