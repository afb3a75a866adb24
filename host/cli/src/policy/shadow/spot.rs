//! Where the files of a candidate go, and whether whoever runs this may put them there.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use addrauth::policy::Policies;
use addrauth::policy::rehearse::cases_of;
use addrauth::policy::trust::signature_of;
use rustix::fs::{Access, access};
use serde_json::json;

use super::super::Error;
use super::super::promote::{Configured, RELOAD};
use super::Unput;
use super::given::Kind;

/// Where a candidate goes.
pub(super) struct Place {
    /// As `policies.ID.shadow` names it.
    pub(super) named: PathBuf,
    pub(super) path: PathBuf,
    /// Whether the configuration names it already, so that it need not be edited.
    pub(super) is_named: bool,
}

impl Place {
    /// The file that the configuration names, where it is of this kind; else ID.next.wasm or ID.next.toml in `policy.dir`.
    pub(super) fn of(configured: &Configured, id: &str, kind: Kind) -> Result<Place, Error> {
        let dir = &configured.config.policy.dir;
        let has_dir = !dir.as_os_str().is_empty();
        let fits =
            |file: &PathBuf| file.extension().is_some_and(|end| end == kind.end()) && (file.is_absolute() || has_dir);
        let named = configured.module(id).shadow.filter(fits);
        if named.is_none() && !has_dir {
            return Err(Unput::NoDir(id.to_owned()).into());
        }
        let is_named = named.is_some();
        let named = named.unwrap_or_else(|| format!("{id}.next.{}", kind.end()).into());
        Ok(Place { path: dir.join(&named), named, is_named })
    }

    /// Whether its files may be put there, and the configuration edited where that is needed; in words why not.
    fn rights(&self, configured: &Configured) -> Result<(), String> {
        may_write(parent(&self.path))?;
        if self.is_named { Ok(()) } else { check_config(configured) }
    }

    /// The same as an error that names the command.
    pub(super) fn check_rights(&self, configured: &Configured, id: &str) -> Result<(), Error> {
        let denied = |why| Unput::MayNot { why, command: command(configured, id, "FILE") };
        Ok(self.rights(configured).map_err(denied)?)
    }

    /// Whether nothing else lies there: no policy in force, none that would be, no other candidate and nothing beside these, and no
    /// part of the configuration. `loaded` are the policies without what lies there now.
    pub(super) fn check_free(&self, loaded: &Policies, configured: &Configured, id: &str) -> Result<(), Error> {
        let taken = |path: &Path| Err(Unput::InUse { id: id.to_owned(), path: path.to_owned() }.into());
        let ours = cases_of(&self.path).into_iter().chain([self.path.clone(), signature_of(&self.path)]);
        let others: Vec<PathBuf> = {
            let configuration = configured.sources.files().map(|(path, _)| path.to_owned());
            configuration
                .chain([configured.path.clone()])
                .chain(loaded.files().to_vec())
                .map(|path| whole(&path))
                .collect()
        };
        for path in ours {
            let is_something = fs::symlink_metadata(&path).is_ok_and(|found| !found.is_file());
            if is_something || others.contains(&whole(&path)) {
                return taken(&path);
            }
        }
        Ok(())
    }
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A path without links and dots in its directory.
fn whole(path: &Path) -> PathBuf {
    let dir = parent(path).canonicalize().unwrap_or_else(|_| parent(path).to_owned());
    dir.join(path.file_name().unwrap_or_default())
}

/// Whether files may be made in this directory; in words why not.
fn may_write(dir: &Path) -> Result<(), String> {
    let way = Access::WRITE_OK | Access::EXEC_OK;
    access(dir, way).map_err(|e| format!("{} may not be written to ({e})", dir.display()))
}

/// Whether the configuration may be replaced, which keeps its owner; in words why not.
pub(super) fn check_config(configured: &Configured) -> Result<(), String> {
    let path = &configured.path;
    may_write(parent(path))?;
    let me = rustix::process::geteuid();
    let owner = fs::metadata(path).map_err(|e| format!("{}: {e}", path.display()))?.uid();
    if me.is_root() || owner == me.as_raw() {
        Ok(())
    } else {
        Err(format!("{} belongs to somebody else", path.display()))
    }
}

/// The command that puts a candidate, for somebody who may.
pub(super) fn command(configured: &Configured, id: &str, what: &str) -> String {
    format!("addrauth --config {} policy shadow {id} {what}", configured.sources.main().0.display())
}

/// Says where candidates go, and whether whoever runs this may put them there.
pub(super) fn tell(configured: &Configured, id: &str, json: bool) {
    let kinds = [("component", Kind::Component), ("text", Kind::Text)].map(|(word, kind)| {
        let place = Place::of(configured, id, kind);
        let why = match &place {
            Ok(place) => place.rights(configured).err(),
            Err(e) => Some(e.to_string()),
        };
        (word, place.ok().map(|place| place.path), why)
    });
    let commands = [command(configured, id, "FILE --cases CASES"), RELOAD.to_owned()];
    let dir = &configured.config.policy.dir;
    let keeps = if dir.as_os_str().is_empty() { Ok(()) } else { may_write(dir) };
    let promotes = keeps.and_then(|()| check_config(configured));
    let candidate = configured.module(id).shadow;
    if json {
        let kind = |(word, path, why): &(&str, Option<PathBuf>, Option<String>)| {
            ((*word).to_owned(), json!({ "file": path, "may": why.is_none(), "why": why }))
        };
        let mut told: serde_json::Map<String, serde_json::Value> = kinds.iter().map(kind).collect();
        told.insert("policy".into(), id.into());
        told.insert("candidate".into(), json!(candidate));
        told.insert("promotes".into(), json!({ "may": promotes.is_ok(), "why": promotes.err() }));
        told.insert("commands".into(), json!(commands));
        println!("{:#}", serde_json::Value::from(told));
        return;
    }
    for (word, path, why) in kinds {
        let place = path.map_or_else(|| "nowhere".to_owned(), |path| path.display().to_string());
        println!("{word:<10} {place}{}", why.map(|why| format!(": {why}")).unwrap_or_default());
    }
    commands.iter().for_each(|command| println!("command    {command}"));
}
