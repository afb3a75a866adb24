//! `addrauth policy build`: crates into components, and the record of what they were made from.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use sha2::{Digest, Sha256};

use super::lock::{self, Entry, LOCK_FILE, Lock};
use super::toolchain::Toolchain;
use super::{Error, cases};

/// A policy's crate.
struct Crate {
    dir: PathBuf,
    package: String,
    workspace: PathBuf,
    /// The SDK's crate, where it is part of the sources.
    sdk: Option<PathBuf>,
}

/// Builds or checks; false where a component does not belong to its sources.
pub(super) fn run(dirs: &[PathBuf], check: bool) -> Result<bool, Error> {
    let dirs = if dirs.is_empty() { in_policies()? } else { dirs.to_vec() };
    let crates: Vec<Crate> = dirs.iter().map(|dir| Crate::read(dir)).collect::<Result<_, _>>()?;
    match (Toolchain::find(), check) {
        (Ok(toolchain), false) => build(&crates, &toolchain).map(|()| true),
        (Ok(toolchain), true) => compare(&crates, &toolchain),
        (Err(e), false) => Err(e),
        (Err(_), true) => {
            println!("octets not compared: no compiler for WebAssembly is installed; comparing the sources' hashes");
            crates.iter().try_fold(true, |good, policy| Ok(policy.is_recorded()? && good))
        }
    }
}

/// Every crate in ./policies.
fn in_policies() -> Result<Vec<PathBuf>, Error> {
    let found = cases::directories_with("Cargo.toml")?;
    if found.is_empty() { Err(Error::Nothing) } else { Ok(found) }
}

fn build(crates: &[Crate], toolchain: &Toolchain) -> Result<(), Error> {
    let built = components(crates, toolchain)?;
    for (policy, octets) in crates.iter().zip(built) {
        let (name, path) = (policy.name(), policy.component());
        std::fs::write(&path, &octets).map_err(|source| Error::Write { path: path.clone(), source })?;
        let digest = lock::hex(&Sha256::digest(&octets));
        println!("{} {} octets, SHA-256 {digest}", path.display(), octets.len());
        let entry = Entry { source: policy.source_hash()?, digest, compiler: toolchain.version.clone() };
        let mut lock = lock::read(&policy.lock_file())?;
        lock.insert(name, entry);
        lock::write(&policy.lock_file(), &lock)?;
    }
    Ok(())
}

/// Compares what a build gives with what is there.
fn compare(crates: &[Crate], toolchain: &Toolchain) -> Result<bool, Error> {
    let built = components(crates, toolchain)?;
    let mut good = true;
    for (policy, octets) in crates.iter().zip(built) {
        good &= policy.is_recorded()?;
        let (name, path) = (policy.name(), policy.component());
        let old = std::fs::read(&path).map_err(|source| Error::Read { path: path.clone(), source })?;
        let recorded: Lock = lock::read(&policy.lock_file())?;
        if recorded.get(&name).is_some_and(|entry| entry.compiler == toolchain.version) {
            let same = old == octets;
            println!("{name}: {}", if same { "the same octets" } else { "OTHER OCTETS from the same compiler" });
            good &= same;
        } else {
            println!("{name}: octets not compared: {}", toolchain.version);
            let file = policy.dir.join(cases::CASES_FILE);
            for (what, octets) in [("the component there", &old), ("the rebuilt one", &octets)] {
                let failed = cases::run_one(&path, octets, &file)?.iter().filter(|result| !result.passed()).count();
                println!("{name}: {what} fails {failed} of its cases");
                good &= failed == 0;
            }
        }
    }
    Ok(good)
}

/// The components of these crates, in their order; one cargo call for each workspace.
fn components(crates: &[Crate], toolchain: &Toolchain) -> Result<Vec<Vec<u8>>, Error> {
    let mut workspaces: BTreeMap<&Path, Vec<String>> = BTreeMap::new();
    for policy in crates {
        workspaces.entry(&policy.workspace).or_default().push(policy.package.clone());
    }
    let mut modules = BTreeMap::new();
    for (workspace, packages) in workspaces {
        modules.insert(workspace, toolchain.build(workspace, &packages)?);
    }
    let component = |policy: &Crate| {
        let dir = modules.get(policy.workspace.as_path()).cloned().unwrap_or_default();
        let path = dir.join(format!("{}.wasm", policy.package.replace('-', "_")));
        let module = std::fs::read(&path).map_err(|source| Error::Read { path, source })?;
        encode(&policy.package, &module)
    };
    crates.iter().map(component).collect()
}

/// A core module with its embedded contract becomes a component.
fn encode(name: &str, module: &[u8]) -> Result<Vec<u8>, Error> {
    let failed = |text: String| Error::Encode { name: name.to_owned(), text };
    let mut encoder = wit_component::ComponentEncoder::default();
    encoder.validate(true).module(module).map_err(|e| failed(format!("{e:#}")))?;
    encoder.encode().map_err(|e| failed(format!("{e:#}")))
}

impl Crate {
    fn read(dir: &Path) -> Result<Crate, Error> {
        let no_crate = || Error::NoCrate(dir.to_owned());
        let dir = dir.canonicalize().map_err(|_| no_crate())?;
        let manifest = dir.join("Cargo.toml");
        let said = Command::new("cargo")
            .args(["metadata", "--format-version=1", "--no-deps", "--manifest-path"])
            .arg(&manifest)
            .stdin(Stdio::null())
            .output()
            .map_err(|source| Error::Run { program: "cargo".into(), source })?;
        if !said.status.success() {
            let text = String::from_utf8_lossy(&said.stderr).trim().to_owned();
            return Err(Error::Failed { program: "cargo metadata".into(), text });
        }
        let told: serde_json::Value = serde_json::from_slice(&said.stdout).map_err(|_| no_crate())?;
        let packages = told["packages"].as_array().ok_or_else(no_crate)?;
        let here = |package: &&serde_json::Value| package["manifest_path"].as_str().map(Path::new) == Some(&manifest);
        let package = packages.iter().find(here).ok_or_else(no_crate)?;
        let dependencies = package["dependencies"].as_array().into_iter().flatten();
        let sdk = dependencies.filter(|d| d["name"] == "addrauth-policy").find_map(|d| d["path"].as_str());
        Ok(Crate {
            package: package["name"].as_str().ok_or_else(no_crate)?.to_owned(),
            workspace: told["workspace_root"].as_str().ok_or_else(no_crate)?.into(),
            sdk: sdk.map(PathBuf::from),
            dir,
        })
    }

    /// The component's name: the directory's.
    fn name(&self) -> String {
        self.dir.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    fn component(&self) -> PathBuf {
        self.dir.join(format!("{}.wasm", self.name()))
    }

    fn lock_file(&self) -> PathBuf {
        self.dir.parent().unwrap_or(&self.dir).join(LOCK_FILE)
    }

    fn source_hash(&self) -> Result<String, Error> {
        let wit = self.sdk.as_ref().and_then(|sdk| Some(sdk.parent()?.join("wit")));
        let dirs: Vec<&Path> =
            [Some(&self.dir), self.sdk.as_ref(), wit.as_ref()].into_iter().flatten().map(PathBuf::as_path).collect();
        lock::source_hash(&dirs)
    }

    /// Whether the lock file tells of these sources and this component.
    fn is_recorded(&self) -> Result<bool, Error> {
        let (name, path) = (self.name(), self.component());
        let octets = std::fs::read(&path).map_err(|source| Error::Read { path: path.clone(), source })?;
        let Some(entry) = lock::read(&self.lock_file())?.remove(&name) else {
            println!("{name}: not in {LOCK_FILE}: build it");
            return Ok(false);
        };
        let source = entry.source == self.source_hash()?;
        let component = entry.digest == lock::hex(&Sha256::digest(&octets));
        if !source {
            println!("{name}: its sources have changed since it was built");
        }
        if !component {
            println!("{name}: the component is not the one in {LOCK_FILE}");
        }
        Ok(source && component)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shipped() -> Vec<PathBuf> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../policies");
        let entries = std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path());
        entries.filter(|dir| dir.join("Cargo.toml").is_file()).collect()
    }

    #[test]
    fn every_shipped_component_was_made_from_the_sources_beside_it() {
        let dirs = shipped();
        assert!(dirs.len() >= 8, "{dirs:?}");
        for dir in dirs {
            assert!(
                Crate::read(&dir).unwrap().is_recorded().unwrap(),
                "{}: run `addrauth policy build`",
                dir.display()
            );
        }
    }

    #[test]
    fn no_shipped_component_tells_where_it_was_built() {
        for dir in shipped() {
            let octets = std::fs::read(Crate::read(&dir).unwrap().component()).unwrap();
            let text: String =
                octets.iter().map(|o| if (32..127).contains(o) { char::from(*o) } else { '\n' }).collect();
            for word in ["/root", "/home", "/usr", "/tmp", "/work", "registry", "index.crates", ".cargo", ".rs"] {
                assert!(!text.contains(word), "{}: {word}", dir.display());
            }
        }
    }

    #[test]
    fn every_shipped_component_passes_its_cases() {
        assert!(cases::run(&shipped(), false).unwrap());
    }
}
