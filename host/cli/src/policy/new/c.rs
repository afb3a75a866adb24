//! Which compiler makes WebAssembly of C here, and how the folder of a policy in C becomes a module.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::super::Error;
use addrauth::config::Limits;
use addrauth::files;

/// What makes a folder one of a policy in C.
const SOURCE: &str = "policy.c";
const HEADER: &str = "sdk/addrauth.h";
const GLUE: &str = "sdk/addrauth.c";
const CONTRACT: &str = "sdk/policy.wit";

/// No C library, nothing of the machine in the octets, warnings as an author wants them.
const COMPILE: [&str; 9] =
    ["-c", "-std=c11", "-Os", "-ffreestanding", "-fno-builtin", "-g0", "-Wall", "-Wextra", "-Wno-unused-parameter"];
/// A small stack, so that a fresh instance has little memory to clear; below everything else, so that its overflow is a fault.
const LINK: [&str; 5] = ["--no-entry", "--stack-first", "-z", "stack-size=16384", "--strip-all"];
/// Debian's names of clang and its linker: plain, and by version.
const VERSIONS: std::ops::RangeInclusive<u32> = 14..=30;

/// A compiler of C for WebAssembly, and its linker.
pub(in crate::policy) struct Compiler {
    compile: Vec<String>,
    link: Vec<String>,
    /// What it calls itself: the same words, the same octets.
    pub(in crate::policy) version: String,
}

/// Whether this is the folder of a policy in C.
pub(in crate::policy) fn is_policy(dir: &Path) -> bool {
    !dir.join("Cargo.toml").exists() && dir.join(SOURCE).is_file() && dir.join(HEADER).is_file()
}

impl Compiler {
    /// The folder's own zig, else one that is installed, else clang with its linker.
    pub(in crate::policy) fn find(dir: &Path) -> Result<Compiler, Error> {
        let own = dir.canonicalize().unwrap_or_else(|_| dir.to_owned()).join(".venv/bin/python");
        let own = own.to_string_lossy().into_owned();
        let zigs = [&[own.as_str(), "-m", "ziglang"][..], &["zig"], &["python3", "-m", "ziglang"]];
        zigs.into_iter().find_map(Compiler::zig).or_else(Compiler::clang).ok_or_else(|| {
            let dir = dir.display().to_string();
            super::Error::NoC { dir }.into()
        })
    }

    fn zig(program: &[&str]) -> Option<Compiler> {
        let with =
            |words: &[&str]| -> Vec<String> { [program, words].concat().into_iter().map(str::to_owned).collect() };
        let version = ask(&with(&["version"]))?;
        let compile = with(&["cc", "-target", "wasm32-freestanding"]);
        Some(Compiler { compile, link: with(&["wasm-ld"]), version: format!("zig {version}") })
    }

    fn clang() -> Option<Compiler> {
        let named = |name: &'static str| {
            let numbered = VERSIONS.rev().map(move |number| format!("{name}-{number}"));
            std::iter::once(name.to_owned()).chain(numbered)
        };
        let able =
            |clang: &String| ask(&[clang.clone(), "--print-targets".into()]).is_some_and(|all| all.contains("wasm32"));
        let version = |program: &String| {
            let said = ask(&[program.clone(), "--version".into()])?;
            Some((program.clone(), said.lines().next()?.to_owned()))
        };
        let (clang, said) = named("clang").filter(able).find_map(|name| version(&name))?;
        let (linker, linked_by) = named("wasm-ld").find_map(|name| version(&name))?;
        let compile = vec![clang, "--target=wasm32".into()];
        Some(Compiler { compile, link: vec![linker], version: format!("{said}, {linked_by}") })
    }

    /// The core module of a policy, with its contract in it.
    pub(in crate::policy) fn module(&self, dir: &Path) -> Result<Vec<u8>, Error> {
        let made = dir.join("target/policy");
        std::fs::create_dir_all(&made).map_err(|source| Error::Write { path: made.clone(), source })?;
        let mut objects = Vec::new();
        for source in sources(dir)? {
            let object = made.join(source.replace('/', "-")).with_extension("o");
            let map = format!("-ffile-prefix-map={}=.", dir.display());
            // A name that begins with a dash would be an option.
            let output = ["-o".into(), object.display().to_string(), format!("./{source}")];
            self.run(&self.compile, dir, COMPILE.iter().map(|word| (*word).to_owned()).chain([map]).chain(output))?;
            objects.push(object.display().to_string());
        }
        let module = made.join("policy.wasm");
        let output = ["-o".to_owned(), module.display().to_string()];
        self.run(&self.link, dir, LINK.iter().map(|word| (*word).to_owned()).chain(output).chain(objects))?;
        let mut octets = std::fs::read(&module).map_err(|source| Error::Read { path: module, source })?;
        with_contract(dir, &mut octets)?;
        Ok(octets)
    }

    fn run(&self, program: &[String], dir: &Path, words: impl Iterator<Item = String>) -> Result<(), Error> {
        let shown = program.join(" ");
        let Some((first, rest)) = program.split_first() else { return Ok(()) };
        let status = Command::new(first).args(rest).args(words).current_dir(dir).stdin(Stdio::null()).status();
        let status = status.map_err(|source| Error::Run { program: shown.clone(), source })?;
        if status.success() {
            return Ok(());
        }
        Err(Error::Failed { program: shown, text: "see its messages above".into() })
    }
}

/// The sources beside each other, and the SDK's.
fn sources(dir: &Path) -> Result<Vec<String>, Error> {
    let failed = |source| Error::Read { path: dir.to_owned(), source };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(failed)? {
        let path = PathBuf::from(entry.map_err(failed)?.file_name());
        if path.extension().is_some_and(|end| end == "c") {
            found.push(path.to_string_lossy().into_owned());
        }
    }
    found.sort();
    found.push(GLUE.to_owned());
    Ok(found)
}

/// Puts the contract of the folder into the module: it is what the header was written for.
pub(super) fn with_contract(dir: &Path, module: &mut Vec<u8>) -> Result<(), Error> {
    let path = dir.join(CONTRACT);
    let text = files::read_text(&path, Limits::default().policy.cases_octets)
        .map_err(|e| Error::Read { path: path.clone(), source: e.into() })?;
    let wrong = |e: &dyn std::fmt::Display| Error::Syntax { path: path.clone(), text: format!("{e:#}") };
    let mut contract = wit_parser::Resolve::default();
    let package = contract.push_source("policy.wit", &text).map_err(|e| wrong(&e))?;
    let world = contract.select_world(&[package], None).map_err(|e| wrong(&e))?;
    wit_component::embed_component_metadata(module, &contract, world, wit_component::StringEncoding::UTF8, false)
        .map_err(|e| wrong(&e))
}

/// What a program says, where it runs and succeeds.
pub(super) fn ask(words: &[String]) -> Option<String> {
    let (program, rest) = words.split_first()?;
    let said = Command::new(program).args(rest).stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8(said.stdout).ok().filter(|_| said.status.success())?;
    Some(text.trim().to_owned())
}
