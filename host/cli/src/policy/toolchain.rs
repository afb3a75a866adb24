//! Which compiler makes WebAssembly here, and how it is called so that equal sources give equal octets.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::Error;

const TARGET: &str = "wasm32-unknown-unknown";
/// Where Debian's packages put the compiler whose standard library can be built from source.
const DEBIAN: [&str; 2] = ["/usr/bin/rustc", "/usr/bin/cargo"];

/// A compiler for WebAssembly.
pub(super) struct Toolchain {
    rustc: PathBuf,
    cargo: PathBuf,
    /// What `rustc -V` says: the same words, the same octets.
    pub(super) version: String,
    /// Where the standard library's sources are, if it must be built from them.
    std_source: Option<PathBuf>,
}

impl Toolchain {
    /// The compiler with the target installed, else Debian's.
    pub(super) fn find() -> Result<Toolchain, Error> {
        let (rustc, cargo) = (PathBuf::from("rustc"), PathBuf::from("cargo"));
        let installed = ask(&rustc, &["--print", "target-libdir", "--target", TARGET]);
        if installed.is_some_and(|dir| Path::new(&dir).is_dir())
            && let Some(version) = ask(&rustc, &["-V"])
        {
            return Ok(Toolchain { rustc, cargo, version, std_source: None });
        }
        let [rustc, cargo] = DEBIAN.map(PathBuf::from);
        let source = ask(&rustc, &["--print", "sysroot"]).map(|root| Path::new(&root).join("lib/rustlib/src/rust"));
        match (source.filter(|dir| dir.join("library/std").is_dir()), ask(&rustc, &["-V"])) {
            (Some(source), Some(version)) => Ok(Toolchain { rustc, cargo, version, std_source: Some(source) }),
            _ => Err(Error::NoToolchain),
        }
    }

    /// Builds these packages of a workspace in one call; the core modules are in the directory that it returns.
    pub(super) fn build(&self, workspace: &Path, packages: &[String]) -> Result<PathBuf, Error> {
        let target_dir = workspace.join("target/policy");
        let mut cargo = Command::new(&self.cargo);
        cargo.arg("build").arg("--manifest-path").arg(workspace.join("Cargo.toml"));
        cargo.args(["--profile", "policy", "--target", TARGET, "--target-dir"]).arg(&target_dir);
        for setting in PROFILE {
            cargo.args(["--config", &format!("profile.policy.{setting}")]);
        }
        if self.std_source.is_some() {
            cargo.arg("-Zbuild-std=std,panic_abort");
        }
        for package in packages {
            cargo.args(["-p", package]);
        }
        cargo.env("RUSTC", &self.rustc).env("RUSTC_BOOTSTRAP", "1");
        cargo.env("CARGO_ENCODED_RUSTFLAGS", self.flags(workspace).join("\x1f"));
        cargo.env_remove("RUSTFLAGS").env_remove("CARGO_TARGET_DIR").stdin(Stdio::null());
        let program = self.cargo.display().to_string();
        let status = cargo.status().map_err(|source| Error::Run { program: program.clone(), source })?;
        if !status.success() {
            return Err(Error::Failed { program, text: "see its messages above".into() });
        }
        Ok(target_dir.join(TARGET).join("policy"))
    }

    /// A small stack, so that a fresh instance has little memory to clear; and nothing of this machine in the octets.
    fn flags(&self, workspace: &Path) -> Vec<String> {
        let mut flags = vec!["-Clink-arg=-zstack-size=16384".to_owned(), "-Zlocation-detail=none".to_owned()];
        let mut remap = |from: &Path, to: &str| flags.push(format!("--remap-path-prefix={}={to}", from.display()));
        if let Some(home) = cargo_home() {
            remap(&home, "cargo");
        }
        if let Some(source) = &self.std_source {
            if let Ok(real) = source.canonicalize() {
                remap(&real, "rust");
            }
            remap(source, "rust");
        }
        remap(workspace, ".");
        flags
    }
}

/// The profile, spelled out for authors whose workspace has none of this name.
const PROFILE: [&str; 7] = [
    "inherits=\"release\"",
    "opt-level=\"s\"",
    "lto=true",
    "panic=\"abort\"",
    "strip=true",
    "codegen-units=1",
    "overflow-checks=false",
];

fn cargo_home() -> Option<PathBuf> {
    std::env::var_os("CARGO_HOME").map(PathBuf::from).or_else(|| Some(std::env::home_dir()?.join(".cargo")))
}

/// What a program says, where it runs and succeeds.
fn ask(program: &Path, args: &[&str]) -> Option<String> {
    let said = Command::new(program).args(args).stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8(said.stdout).ok().filter(|_| said.status.success())?;
    Some(text.trim().to_owned())
}
