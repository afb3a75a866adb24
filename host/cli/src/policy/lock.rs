//! `components.lock`: which sources and which compiler each component was made from.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Error;
use addrauth::config::Limits;
use addrauth::files;

/// The name of the file: beside the policies' directories, or in that of a policy which stands alone.
pub(super) const LOCK_FILE: &str = "components.lock";

/// What is recorded of one component.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Entry {
    /// SHA-256 over the sources that matter: the policy's, and the SDK's with the contract in it.
    pub(super) source: String,
    /// SHA-256 of the component.
    pub(super) digest: String,
    /// What the compiler calls itself.
    pub(super) compiler: String,
}

/// The entries by component name.
pub(super) type Lock = BTreeMap<String, Entry>;

/// Reads a lock file; an absent one is empty.
pub(super) fn read(path: &Path) -> Result<Lock, Error> {
    match files::read_text(path, Limits::default().policy.cases_octets) {
        Ok(text) => {
            toml::from_str(&text).map_err(|e| Error::Syntax { path: path.to_owned(), text: e.message().to_owned() })
        }
        Err(e) if e.is_absent() => Ok(Lock::new()),
        Err(e) => Err(Error::Read { path: path.to_owned(), source: e.into() }),
    }
}

/// Writes a lock file.
pub(super) fn write(path: &Path, lock: &Lock) -> Result<(), Error> {
    let mut text = String::from("# Written by `addrauth policy build`: what each component was made from.\n");
    for (name, entry) in lock {
        // Names and digests need no escapes; the compiler's words are quoted by the writer of TOML.
        let Entry { source, digest, compiler } = entry;
        let compiler = toml::Value::String(compiler.clone());
        text += &format!("\n[{name}]\nsource = \"{source}\"\ndigest = \"{digest}\"\ncompiler = {compiler}\n");
    }
    std::fs::write(path, text).map_err(|source| Error::Write { path: path.to_owned(), source })
}

/// SHA-256 over the manifests and sources of these directories: names relative to each, and contents.
pub(super) fn source_hash(dirs: &[&Path]) -> Result<String, Error> {
    let mut hash = Sha256::new();
    for dir in dirs {
        let mut found = Vec::new();
        gather(dir, 0, &mut found)?;
        found.sort();
        for file in found {
            let octets = files::read(&file, Limits::default().policy.cases_octets)
                .map_err(|e| Error::Read { path: file.clone(), source: e.into() })?;
            let name = file.strip_prefix(dir).unwrap_or(&file).to_string_lossy().into_owned();
            hash.update(name.as_bytes());
            hash.update([0]);
            hash.update(Sha256::digest(&octets));
        }
    }
    Ok(hex(&hash.finalize()))
}

/// Octets as hexadecimal digits.
pub(super) fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

/// Sources of each language, manifests and contracts, at most eight folders deep; not what a build leaves behind or a compiler lies in.
fn gather(dir: &Path, depth: u32, files: &mut Vec<PathBuf>) -> Result<(), Error> {
    let failed = |source| Error::Read { path: dir.to_owned(), source };
    for entry in std::fs::read_dir(dir).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.is_dir() {
            if depth < 8 && path.file_name().is_some_and(is_source) {
                gather(&path, depth + 1, files)?;
            }
        } else if path.file_name().is_some_and(|name| name == "Cargo.toml")
            || path
                .extension()
                .and_then(|end| end.to_str())
                .is_some_and(|end| ["rs", "wit", "c", "h", "js", "py"].contains(&end))
        {
            files.push(path);
        }
    }
    Ok(())
}

/// Whether a folder of this name holds sources.
fn is_source(folder: &std::ffi::OsStr) -> bool {
    folder != "target" && folder != "node_modules" && !folder.as_encoded_bytes().starts_with(b".")
}
