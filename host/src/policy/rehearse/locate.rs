//! A policy by the name that a person gives it: an id, a directory, a file, or how a digest begins.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::super::shipped::SHIPPED;
use super::super::{Error, Origin, shelf};
use crate::config::{self, Limits, Module, Size};
use crate::files;

/// Digits of a digest that name a component, at least.
const DIGITS: usize = 6;
/// Files of `policy.dir` whose digests are looked at.
const FILES: usize = 1_000;

/// A component that was found by its name.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Located {
    /// Its id, or its file's name.
    pub name: String,
    /// The component.
    pub octets: Vec<u8>,
    /// Its SHA-256, as hexadecimal digits.
    pub digest: String,
    /// Where it comes from.
    pub origin: Origin,
    /// The cases beside it; absent where there are none.
    pub cases: Option<PathBuf>,
    /// The settings of the configuration; none where it was named by its place.
    pub settings: BTreeMap<String, toml::Value>,
    /// The class that the configuration has it in. Where it was named by its place, the one whose files are as large.
    pub size: Size,
}

/// Why no component is found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Lost {
    /// As at the start of the filter.
    #[error("{0}")]
    Policy(#[from] Error),
    /// A directory without its component.
    #[error("there is no component {0}: `addrauth policy build` makes it")]
    NotBuilt(PathBuf),
    /// Nothing has this name.
    #[error(
        "`{word}` names no policy: it is no directory, no file, no id (shipped: {shipped}{configured}), and no digest begins so"
    )]
    Unknown {
        /// The name.
        word: String,
        /// The ids that ship.
        shipped: String,
        /// Those of the configuration.
        configured: String,
    },
    /// Several digests begin so.
    #[error("`{word}` begins the digests of {}: write more digits of it", .ids.join(" and "))]
    Several {
        /// The name.
        word: String,
        /// The components.
        ids: Vec<String>,
    },
}

/// The cases beside a policy.
const CASES: &str = "cases.toml";

/// Where the cases of a component may stand, the first that is there counts: `ID.cases.toml` beside `ID.wasm`, or `cases.toml` in
/// a folder that is the policy's own.
pub fn cases_of(component: &Path) -> Vec<PathBuf> {
    let Some(stem) = component.file_stem() else { return Vec::new() };
    let beside = component.with_file_name(format!("{}.cases.toml", stem.to_string_lossy()));
    let is_own = component.parent().and_then(Path::file_name) == Some(stem);
    [Some(beside), is_own.then(|| component.with_file_name(CASES))].into_iter().flatten().collect()
}

/// What a path names, where it names a component or its directory; none where nothing is there.
///
/// # Errors
/// It cannot be read, or the directory has no component.
pub fn locate_path(path: &Path, limits: &Limits) -> Result<Option<Located>, Lost> {
    let file = if path.is_dir() { component_of(path) } else { path.to_owned() };
    let spelt = path.extension().is_some_and(|end| end == "wasm") || path.components().count() > 1;
    match files::is_there(&file) {
        Ok(true) => {}
        // A bare word may be the id of something else.
        Ok(false) if !spelt => return Ok(None),
        Ok(false) if path.is_dir() => return Err(Lost::NotBuilt(file)),
        Ok(false) | Err(_) => {}
    }
    let octets = shelf::read(&file, &limits.of(Size::Large))?;
    let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let size = limits.size_for(octets.len());
    Ok(Some(Located { size, ..Located::new(name, octets, Origin::File(file), BTreeMap::new()) }))
}

/// Where the component of a directory lies.
fn component_of(dir: &Path) -> PathBuf {
    let name = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    dir.join(format!("{}.wasm", name.file_name().unwrap_or_default().to_string_lossy()))
}

/// What a word names: a place, else an id of the configuration or a shipped one, else how a digest begins.
///
/// # Errors
/// Nothing is named so, or several are; or what is named cannot be read.
pub fn locate(
    word: &str,
    bindings: &config::Policy,
    modules: &BTreeMap<String, Module>,
    limits: &Limits,
) -> Result<Located, Lost> {
    if let Some(located) = locate_path(Path::new(word), limits)? {
        return Ok(located);
    }
    let found = |id: &str| {
        let located = locate_id(id, bindings, modules, limits)?;
        // Nothing reads a component of the configuration that nobody vouches for.
        shelf::signed(id, &located.octets, &located.origin, bindings, limits)?;
        Ok::<_, Lost>(located)
    };
    match found(word) {
        Err(Lost::Policy(Error::Unknown { .. } | Error::Id(_))) => {}
        found => return found,
    }
    let is_digest = word.len() >= DIGITS && word.bytes().all(|octet| octet.is_ascii_hexdigit());
    let mut same: Vec<Located> = Vec::new();
    if is_digest {
        let begin = word.to_ascii_lowercase();
        for id in ids(bindings, modules) {
            // One that cannot be read is not the one that is meant.
            let Ok(located) = found(&id) else { continue };
            if located.digest.starts_with(&begin) && !same.iter().any(|known| known.digest == located.digest) {
                same.push(located);
            }
        }
    }
    let dir = Path::new(word);
    match same.len() {
        0 if dir.is_dir() => Err(Lost::NotBuilt(component_of(dir))),
        1 => same.pop().ok_or_else(|| unknown(word, modules)),
        0 => Err(unknown(word, modules)),
        _ => Err(Lost::Several { word: word.to_owned(), ids: same.into_iter().map(|located| located.name).collect() }),
    }
}

/// The policy of an id of the configuration, or of a shipped one, whoever signed its component or nobody.
///
/// # Errors
/// There is none, or it cannot be read.
pub fn locate_id(
    id: &str,
    bindings: &config::Policy,
    modules: &BTreeMap<String, Module>,
    limits: &Limits,
) -> Result<Located, Error> {
    shelf::check_id(id)?;
    let (octets, origin) = shelf::find(id, &bindings.dir, modules.get(id), None, limits)?;
    let module = modules.get(id).cloned().unwrap_or_default();
    Ok(Located { size: module.size, ..Located::new(id.to_owned(), octets, origin, module.settings) })
}

/// A policy that ships, under its id; none where none of this id ships.
pub fn locate_shipped(id: &str) -> Option<Located> {
    let (_, octets) = SHIPPED.iter().find(|(known, _)| *known == id)?;
    Some(Located::new(id.to_owned(), octets.to_vec(), Origin::Shipped, BTreeMap::new()))
}

fn unknown(word: &str, modules: &BTreeMap<String, Module>) -> Lost {
    let shipped = SHIPPED.iter().map(|(id, _)| *id).collect::<Vec<_>>().join(", ");
    let own: Vec<&str> = modules.keys().map(String::as_str).collect();
    let configured = if own.is_empty() { String::new() } else { format!("; of the configuration: {}", own.join(", ")) };
    Lost::Unknown { word: word.to_owned(), shipped, configured }
}

/// Every id that a component can be found by.
fn ids(bindings: &config::Policy, modules: &BTreeMap<String, Module>) -> Vec<String> {
    let mut ids: Vec<String> = modules.keys().cloned().collect();
    let stem = |entry: std::io::Result<std::fs::DirEntry>| {
        let path = entry.ok()?.path();
        let wasm = path.extension().is_some_and(|end| end == "wasm");
        wasm.then(|| path.file_stem().unwrap_or_default().to_string_lossy().into_owned())
    };
    if !bindings.dir.as_os_str().is_empty() {
        // A directory that cannot be read has no component that could be meant.
        ids.extend(std::fs::read_dir(&bindings.dir).into_iter().flatten().take(FILES).filter_map(stem));
    }
    ids.extend(SHIPPED.iter().map(|(id, _)| (*id).to_owned()));
    ids.sort();
    ids.dedup();
    ids
}

impl Located {
    fn new(name: String, octets: Vec<u8>, origin: Origin, settings: BTreeMap<String, toml::Value>) -> Located {
        let cases = match &origin {
            Origin::File(path) => {
                let own = cases_of(path).into_iter().chain([path.with_file_name(CASES)]);
                own.into_iter().find(|cases| cases.is_file())
            }
            Origin::Shipped => None,
        };
        let digest = shelf::hex(&Sha256::digest(&octets));
        Located { name, octets, digest, origin, cases, settings, size: Size::Small }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases_stand_beside_their_component_or_in_a_folder_of_its_own() {
        let of = |path: &str| cases_of(Path::new(path)).iter().map(|p| p.display().to_string()).collect::<Vec<_>>();
        assert_eq!(of("/p/mine.wasm"), ["/p/mine.cases.toml"]);
        assert_eq!(of("/p/mine/mine.wasm"), ["/p/mine/mine.cases.toml", "/p/mine/cases.toml"]);
        assert!(of("/").is_empty());
    }
}
