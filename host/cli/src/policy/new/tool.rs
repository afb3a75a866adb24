//! Policies in JavaScript and Python: the tools that make components of them, of the folder or in PATH.

use std::path::Path;
use std::process::{Command, Stdio};

use super::super::Error;
use super::{Lang, c};

/// The tool of a language.
pub(in crate::policy) struct Tool {
    program: String,
    words: &'static [&'static str],
    /// What it calls itself.
    pub(in crate::policy) version: String,
}

/// All that a JavaScript engine would import is switched off: a policy imports nothing.
const JAVASCRIPT: &[&str] = &[
    "policy.js",
    "--wit",
    "sdk/policy.wit",
    "--world-name",
    "guest",
    "--out",
    MADE,
    "--disable",
    "stdio",
    "random",
    "clocks",
    "http",
    "fetch-event",
];
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
        let (own, name, words) = match lang {
            Lang::Js => ("node_modules/.bin/componentize-js", "componentize-js", JAVASCRIPT),
            _ => (".venv/bin/componentize-py", "componentize-py", PYTHON),
        };
        let own = dir.canonicalize().unwrap_or_else(|_| dir.to_owned()).join(own).display().to_string();
        for program in [own, name.to_owned()] {
            if let Some(version) = c::ask(&[program.clone(), "--version".into()]) {
                let version = if version.starts_with(name) { version } else { format!("{name} {version}") };
                return Ok(Tool { program, words, version });
            }
        }
        Err(super::Error::NoTool { name, dir: dir.display().to_string(), install: install(lang, &super::quoted(dir)) }
            .into())
    }

    /// The component of the policy in this folder.
    pub(in crate::policy) fn component(&self, dir: &Path) -> Result<Vec<u8>, Error> {
        let made = dir.join(MADE);
        let folder = made.parent().unwrap_or(dir);
        std::fs::create_dir_all(folder).map_err(|source| Error::Write { path: folder.to_owned(), source })?;
        let program = self.program.clone();
        let status = Command::new(&self.program).args(self.words).current_dir(dir).stdin(Stdio::null()).status();
        let status = status.map_err(|source| Error::Run { program: program.clone(), source })?;
        if !status.success() {
            return Err(Error::Failed { program, text: "see its messages above".into() });
        }
        std::fs::read(&made).map_err(|source| Error::Read { path: made, source })
    }
}

/// How the tool comes into a folder.
pub(super) fn install(lang: Lang, at: &str) -> String {
    match lang {
        Lang::Js => format!("npm --prefix {at} install"),
        _ => format!("python3 -m venv {at}/.venv && {at}/.venv/bin/pip install -r {at}/requirements.txt"),
    }
}
