//! `addrauth policy build`: crates into components, and the record of what they were made from.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::lock::{self, Entry, LOCK_FILE, Lock};
use super::new::c;
use super::new::text::{READER, Text};
use super::new::tool::{self, Tool};
use super::toolchain::Toolchain;
use super::{Error, cases};
use addrauth::config::Limits;
use addrauth::files;
use addrauth::policy::Trial;
use addrauth::policy::rehearse::Lost;

/// A policy's crate, or its folder in another language.
struct Crate {
    dir: PathBuf,
    package: String,
    /// The folder itself, where no workspace is around it.
    workspace: PathBuf,
    /// The SDK's crate, where it is part of the sources.
    sdk: Option<PathBuf>,
}

/// What `--check` found out about one component.
#[derive(Serialize)]
struct Checked {
    policy: String,
    /// Whether the component belongs to its sources.
    good: bool,
    notes: Vec<String>,
}

/// What makes components.
enum Maker {
    Cargo(Toolchain),
    C(c::Compiler),
    Tool(Tool),
}

/// Builds or checks; false where a component does not belong to its sources.
pub(super) fn run(dirs: &[PathBuf], check: bool, json: bool, trial: &Trial) -> Result<bool, Error> {
    let dirs = if dirs.is_empty() { in_policies()? } else { dirs.to_vec() };
    let mut groups = Vec::new();
    let mut crates = Vec::new();
    for dir in &dirs {
        if let Some(text) = Text::read(dir)? {
            nothing_to_build(dir, &text, json);
        } else if c::is_policy(dir) {
            groups.push((vec![Crate::alone(dir)?], c::Compiler::find(dir).map(Maker::C)));
        } else if let Some(lang) = tool::lang(dir) {
            groups.push((vec![Crate::alone(dir)?], Tool::find(lang, dir).map(Maker::Tool)));
        } else {
            crates.push(Crate::read(dir)?);
        }
    }
    if !crates.is_empty() {
        groups.push((crates, Toolchain::find().map(Maker::Cargo)));
    }
    let mut good = true;
    for (policies, maker) in groups {
        if check {
            good &= tell(&checked(&policies, maker, trial)?, json);
        } else {
            build(&policies, &maker?, json)?;
        }
    }
    Ok(good)
}

/// Says what was found out; whether all of it is good.
fn tell(checked: &[Checked], json: bool) -> bool {
    for one in checked {
        match json {
            true => println!("{}", serde_json::to_string(one).unwrap_or_default()),
            false => println!("{}: {}", one.policy, one.notes.join("; ")),
        }
    }
    checked.iter().all(|one| one.good)
}

/// What `--check` finds out: by building again, or without a compiler by what the lock file tells.
fn checked(crates: &[Crate], maker: Result<Maker, Error>, trial: &Trial) -> Result<Vec<Checked>, Error> {
    let Ok(maker) = maker else {
        eprintln!(
            "addrauth: bytes not compared: no compiler for WebAssembly is installed; comparing hashes of sources"
        );
        return crates.iter().map(Crate::recorded).collect();
    };
    let built = maker.components(crates)?;
    let pairs = crates.iter().zip(&built);
    pairs.map(|(policy, octets)| policy.compare(octets, (maker.version(), maker.repeats()), trial)).collect()
}

/// Lines of text are read as they are.
fn nothing_to_build(dir: &Path, text: &Text, json: bool) {
    match json {
        true => println!("{}", serde_json::json!({ "policy": text.name, "file": text.file, "built": false })),
        false => println!(
            "{}: text for the shipped policy `{READER}`, nothing to build; `addrauth policy test {}` decides its cases",
            text.file.display(),
            dir.display()
        ),
    }
}

/// Every crate in ./policies.
fn in_policies() -> Result<Vec<PathBuf>, Error> {
    let found = cases::directories_with("Cargo.toml")?;
    if found.is_empty() { Err(Error::Nothing) } else { Ok(found) }
}

fn build(crates: &[Crate], maker: &Maker, json: bool) -> Result<(), Error> {
    let built = maker.components(crates)?;
    for (policy, octets) in crates.iter().zip(built) {
        let (name, path) = (policy.name(), policy.component());
        std::fs::write(&path, &octets).map_err(|source| Error::Write { path: path.clone(), source })?;
        let (digest, compiler) = (lock::hex(&Sha256::digest(&octets)), maker.version().to_owned());
        match json {
            true => println!(
                "{}",
                serde_json::json!({
                    "policy": name, "file": path, "octets": octets.len(), "digest": digest, "compiler": compiler,
                })
            ),
            false => println!("{}: {} octets, SHA-256 {digest}", path.display(), octets.len()),
        }
        if octets.len() > Limits::default().policy.file {
            eprintln!("note: {} needs size = \"large\" in the section [policies.{name}]", path.display());
        }
        let entry = Entry { source: policy.source_hash()?, digest, compiler };
        let mut lock = lock::read(&policy.lock_file())?;
        lock.insert(name, entry);
        lock::write(&policy.lock_file(), &lock)?;
    }
    Ok(())
}

impl Maker {
    /// What the compiler calls itself.
    fn version(&self) -> &str {
        match self {
            Maker::Cargo(toolchain) => &toolchain.version,
            Maker::C(compiler) => &compiler.version,
            Maker::Tool(tool) => &tool.version,
        }
    }

    /// Whether equal sources give equal octets: a tool that keeps a language's memory keeps seeds of its hash tables in it.
    fn repeats(&self) -> bool {
        !matches!(self, Maker::Tool(_))
    }

    /// The components of these policies, in their order.
    fn components(&self, crates: &[Crate]) -> Result<Vec<Vec<u8>>, Error> {
        match self {
            Maker::Cargo(toolchain) => of_crates(crates, toolchain),
            Maker::C(compiler) => {
                crates.iter().map(|policy| encode(&policy.package, &compiler.module(&policy.dir)?)).collect()
            }
            Maker::Tool(tool) => {
                crates.iter().map(|policy| encode(&policy.package, &tool.module(&policy.dir)?)).collect()
            }
        }
    }
}

/// The components of these crates, in their order; one cargo call for each workspace.
fn of_crates(crates: &[Crate], toolchain: &Toolchain) -> Result<Vec<Vec<u8>>, Error> {
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
            return Err(match text.contains("find a workspace root") {
                true => Error::NoWorkspace { dir, text },
                false => Error::Failed { program: "cargo metadata".into(), text },
            });
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

    /// A folder that is no crate, and stands alone.
    fn alone(dir: &Path) -> Result<Crate, Error> {
        let dir = dir.canonicalize().map_err(|source| Error::Read { path: dir.to_owned(), source })?;
        let package = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Crate { package, workspace: dir.clone(), sdk: None, dir })
    }

    /// The component's name: the directory's.
    fn name(&self) -> String {
        self.dir.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    fn component(&self) -> PathBuf {
        self.dir.join(format!("{}.wasm", self.name()))
    }

    fn lock_file(&self) -> PathBuf {
        // Beside the policies of a workspace; in the folder of one that stands alone, which owns nothing around it.
        let alone = self.workspace == self.dir;
        let dir = if alone { &self.dir } else { self.dir.parent().unwrap_or(&self.dir) };
        dir.join(LOCK_FILE)
    }

    fn source_hash(&self) -> Result<String, Error> {
        let dirs: Vec<&Path> =
            [Some(&self.dir), self.sdk.as_ref()].into_iter().flatten().map(PathBuf::as_path).collect();
        lock::source_hash(&dirs)
    }

    /// Whether the lock file tells of these sources and this component.
    fn recorded(&self) -> Result<Checked, Error> {
        let (name, octets) = (self.name(), self.octets()?);
        let Some(entry) = lock::read(&self.lock_file())?.remove(&name) else {
            let notes = vec![format!("not in {LOCK_FILE}: `addrauth policy build` puts it there")];
            return Ok(Checked { policy: name, good: false, notes });
        };
        let mut notes = Vec::new();
        if entry.source != self.source_hash()? {
            notes.push("its sources have changed since it was built".to_owned());
        }
        if entry.digest != lock::hex(&Sha256::digest(&octets)) {
            notes.push(format!("the component is not the one in {LOCK_FILE}"));
        }
        let good = notes.is_empty();
        if good {
            notes.push(format!("sources and component are those in {LOCK_FILE}"));
        }
        Ok(Checked { policy: name, good, notes })
    }

    /// Compares what a build gave with what is there: the octets, where the same compiler made both, else what they decide.
    fn compare(&self, built: &[u8], (compiler, repeats): (&str, bool), trial: &Trial) -> Result<Checked, Error> {
        let mut checked = self.recorded()?;
        let (path, old) = (self.component(), self.octets()?);
        let recorded: Lock = lock::read(&self.lock_file())?;
        if repeats && recorded.get(&self.name()).is_some_and(|entry| entry.compiler == compiler) {
            let same = old == built;
            checked.good &= same;
            checked.notes.push(if same {
                "the same bytes".into()
            } else {
                "OTHER BYTES from the same compiler".into()
            });
            return Ok(checked);
        }
        let each = if repeats { "" } else { " makes others each time" };
        checked.notes.push(format!("bytes not compared: {compiler}{each}"));
        let file = self.dir.join(cases::CASES_FILE);
        for (what, octets) in [("the component there", old.as_slice()), ("the rebuilt one", built)] {
            let outcomes = cases::run_one(&path, octets, &file, trial)?;
            let passed = outcomes.iter().filter(|outcome| outcome.passed).count();
            checked.good &= passed == outcomes.len();
            checked.notes.push(format!("{what} passes {passed} of {} cases", outcomes.len()));
        }
        Ok(checked)
    }

    fn octets(&self) -> Result<Vec<u8>, Error> {
        let most = u64::try_from(Limits::default().policy.other.file).unwrap_or(u64::MAX);
        match files::read(&self.component(), most) {
            Ok(octets) => Ok(octets),
            Err(e) if e.is_absent() => Err(Lost::NotBuilt(self.component()).into()),
            Err(e) => Err(Error::Read { path: self.component(), source: e.into() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shipped() -> Vec<PathBuf> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../policies");
        let entries = std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path());
        entries.filter(|dir| dir.join("Cargo.toml").is_file()).collect()
    }

    #[test]
    fn every_shipped_component_was_made_from_the_sources_beside_it() {
        let dirs = shipped();
        assert!(dirs.len() >= 8, "{dirs:?}");
        for dir in dirs {
            let checked = Crate::read(&dir).unwrap().recorded().unwrap();
            assert!(checked.good, "{}: {:?}; run `addrauth policy build`", dir.display(), checked.notes);
        }
    }

    #[test]
    fn the_hostile_component_was_made_from_the_sources_beside_it() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/hostile");
        let checked = Crate::read(&dir).unwrap().recorded().unwrap();
        assert!(checked.good, "{:?}; run `addrauth policy build tests/hostile`", checked.notes);
    }

    #[test]
    fn a_component_that_differs_from_its_record_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let policy = dir.path().join("own");
        std::fs::create_dir(&policy).unwrap();
        let write = |name: &str, text: &str| std::fs::write(policy.join(name), text).unwrap();
        write("Cargo.toml", "[package]\nname = \"own\"\nedition = \"2024\"\n[lib]\npath = \"lib.rs\"\n[workspace]\n");
        write("lib.rs", "");
        let own = Crate::read(&policy).unwrap();
        assert!(matches!(own.recorded(), Err(Error::Lost(Lost::NotBuilt(_)))));
        write("own.wasm", "octets");
        assert_eq!(own.recorded().unwrap().notes.len(), 1);
        let digest = lock::hex(&Sha256::digest("octets"));
        let entry = Entry { source: own.source_hash().unwrap(), digest, compiler: "rustc 1".into() };
        lock::write(&own.lock_file(), &Lock::from([("own".to_owned(), entry)])).unwrap();
        assert!(own.recorded().unwrap().good);
        let same = own.compare(b"octets", ("rustc 1", true), &Trial::waived()).unwrap();
        assert!(same.good && same.notes.contains(&"the same bytes".to_owned()), "{:?}", same.notes);
        assert!(!own.compare(b"others", ("rustc 1", true), &Trial::waived()).unwrap().good);
        write("lib.rs", "fn more() {}");
        assert_eq!(own.recorded().unwrap().notes, ["its sources have changed since it was built"]);
        write("own.wasm", "others");
        assert!(!own.recorded().unwrap().good && own.recorded().unwrap().notes.len() == 2);
    }

    #[test]
    fn a_component_of_another_compiler_is_held_to_its_cases() {
        let policy = tempfile::tempdir().unwrap();
        let dir = policy.path().join("mark");
        std::fs::create_dir(&dir).unwrap();
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../policies/mark");
        std::fs::copy(shipped.join("cases.toml"), dir.join("cases.toml")).unwrap();
        std::fs::copy(shipped.join("mark.wasm"), dir.join("mark.wasm")).unwrap();
        let other = Crate { dir: dir.clone(), package: "mark".into(), workspace: dir, sdk: None };
        let octets = other.octets().unwrap();
        let digest = lock::hex(&Sha256::digest(&octets));
        let entry = Entry { source: other.source_hash().unwrap(), digest, compiler: "rustc 1".into() };
        lock::write(&other.lock_file(), &Lock::from([("mark".to_owned(), entry)])).unwrap();
        let checked = other.compare(&octets, ("rustc 2", true), &Trial::waived()).unwrap();
        assert!(
            checked.good && checked.notes.contains(&"bytes not compared: rustc 2".to_owned()),
            "{:?}",
            checked.notes
        );
        let accepts = std::fs::read(shipped.join("../accept/accept.wasm")).unwrap();
        assert!(
            !other.compare(&accepts, ("rustc 2", true), &Trial::waived()).unwrap().good,
            "a rebuilt one that decides otherwise is no match"
        );
    }

    #[test]
    fn a_crate_that_lost_its_workspace_is_told_what_to_write() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("Cargo.toml"), "[package]\nname = \"x\"\nversion.workspace = true\n").unwrap();
        let said = Crate::read(dir.path()).err().unwrap().to_string();
        assert!(said.contains("no workspace around it") && said.contains("addrauth-policy = { path"), "{said}");
    }

    /// Words that tell where a component was built.
    fn traces(octets: &[u8]) -> Vec<&'static str> {
        let text: String = octets.iter().map(|o| if (32..127).contains(o) { char::from(*o) } else { '\n' }).collect();
        let words = ["/root", "/home", "/usr", "/tmp", "/work", "registry", "index.crates", ".cargo", ".rs"];
        words.into_iter().filter(|word| text.contains(word)).collect()
    }

    #[test]
    fn no_shipped_component_tells_where_it_was_built() {
        for dir in shipped() {
            let octets = Crate::read(&dir).unwrap().octets().unwrap();
            assert_eq!(traces(&octets), Vec::<&str>::new(), "{}", dir.display());
            let told = [octets.as_slice(), b"\0/home/x/.cargo/lib.rs\0"].concat();
            assert_eq!(traces(&told), ["/home", ".cargo", ".rs"]);
        }
    }

    #[test]
    fn every_shipped_component_passes_its_cases() {
        for dir in shipped() {
            let octets = Crate::read(&dir).unwrap().octets().unwrap();
            let ran = cases::run_one(&dir, &octets, &dir.join(cases::CASES_FILE), &Trial::waived()).unwrap();
            assert!(!ran.is_empty() && ran.iter().all(|ran| ran.passed), "{ran:?}");
        }
    }
}
