//! Policies in JavaScript and Python: the tools that make components of them, of the folder or in PATH.

use std::path::Path;
use std::process::{Command, Stdio};

use super::super::{Error, join};
use super::{Lang, c};

/// The tool of a language.
pub(in crate::policy) struct Tool {
    program: String,
    words: &'static [&'static str],
    /// What it calls itself.
    pub(in crate::policy) version: String,
}

const JAVASCRIPT: &[&str] =
    &["--wit", "sdk/policy.wit", "--world", "guest", "--js", "policy.js", "--sync", "--opt-size", "--output", MADE];
const PYTHON: &[&str] = &["--quiet", "-d", "sdk", "-w", "guest", "componentize", "--stub-wasi", "policy", "-o", MADE];
/// Where the component is made.
const MADE: &str = "target/policy/policy.wasm";

/// The language of a folder whose policy is in JavaScript or Python.
pub(in crate::policy) fn lang(dir: &Path) -> Option<Lang> {
    let has = |file: &str| dir.join(file).is_file();
    if !has("sdk/policy.wit") || has("Cargo.toml") {
        return None;
    }
    [("policy.js", Lang::Js), ("policy.py", Lang::Python)].into_iter().find(|(file, _)| has(file)).map(|(_, lang)| lang)
}

impl Tool {
    /// The tool in the folder, else in PATH.
    pub(in crate::policy) fn find(lang: Lang, dir: &Path) -> Result<Tool, Error> {
        let (own, name) = match lang {
            Lang::Js => ("node_modules/.bin/componentize-qjs", "componentize-qjs"),
            _ => (".venv/bin/componentize-py", "componentize-py"),
        };
        let own = dir.canonicalize().unwrap_or_else(|_| dir.to_owned()).join(own);
        let path = std::env::var_os("PATH").unwrap_or_default();
        let beside = std::env::split_paths(&path).map(|dir| dir.join(name));
        let found = std::iter::once(own).chain(beside).filter(|program| program.is_file()).find_map(|program| {
            let version = version(lang, &program)?;
            let program = program.display().to_string();
            let (words, version) = match lang {
                Lang::Js => (JAVASCRIPT, format!("{name} {version}")),
                _ => (PYTHON, version),
            };
            Some(Tool { program, words, version })
        });
        let install = || install(lang, &super::quoted(dir));
        found.ok_or_else(|| super::Error::NoTool { name, dir: dir.display().to_string(), install: install() }.into())
    }

    /// The core module of the policy in this folder, with its contract.
    pub(in crate::policy) fn module(&self, dir: &Path) -> Result<Vec<u8>, Error> {
        let made = dir.join(MADE);
        let folder = made.parent().unwrap_or(dir);
        std::fs::create_dir_all(folder).map_err(|source| Error::Write { path: folder.to_owned(), source })?;
        let program = self.program.clone();
        let mut command = Command::new(&self.program);
        // What it says of its progress would stand between the lines that this program prints.
        command.args(self.words).current_dir(dir).stdin(Stdio::null()).stdout(Stdio::null());
        let status = command.status().map_err(|source| Error::Run { program: program.clone(), source })?;
        if !status.success() {
            return Err(Error::Failed { program, text: "see its messages above".into() });
        }
        let octets = std::fs::read(&made).map_err(|source| Error::Read { path: made.clone(), source })?;
        let mut module = join::one_module(&octets).map_err(|odd| Error::Encode {
            name: made.display().to_string(),
            text: format!("{odd}, which {} did not make before: take the version that the folder names", self.version),
        })?;
        c::with_contract(dir, &mut module)?;
        Ok(module)
    }
}

/// The version of a tool, where it runs: npm's say it in their package alone.
fn version(lang: Lang, program: &Path) -> Option<String> {
    match lang {
        Lang::Js => {
            let real = program.canonicalize().ok()?;
            let package = std::fs::read_to_string(real.parent()?.parent()?.join("package.json")).ok()?;
            let package: serde_json::Value = serde_json::from_str(&package).ok()?;
            package["version"].as_str().map(str::to_owned)
        }
        _ => c::ask(&[program.display().to_string(), "--version".into()]),
    }
}

/// How the tool comes into a folder.
pub(super) fn install(lang: Lang, at: &str) -> String {
    match lang {
        Lang::Js => format!("npm --prefix {at} install"),
        _ => format!("python3 -m venv {at}/.venv && {at}/.venv/bin/pip install -r {at}/requirements.txt"),
    }
}
