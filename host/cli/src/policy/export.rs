//! `addrauth policy export`: a policy in the form that a host without components takes.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::named::Workshop;
use super::{Error, join};

/// What says how the core module is used.
const HEADER: &str = include_str!("export/addrauth_policy.h");
/// What decides one message by the JavaScript.
const SCRIPT: &str = include_str!("export/decide.mjs");
const PACKAGE: &str = "{ \"type\": \"module\", \"private\": true }\n";
/// npm's tool that makes JavaScript of a component, and its major version.
const JCO: &str = "@bytecodealliance/jco@1";
/// The contract whose core functions the header describes.
const CONTRACT: &str = "addrauth:policy/policy@0.2.0";

/// The form of an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Form {
    /// JavaScript with a core module beside it, and a script that decides one message.
    Js,
    /// A core module that imports nothing, and a C header for it.
    Core,
}

/// Writes the policy in this form, and says what was written.
pub(super) fn run(
    workshop: &Workshop,
    word: &str,
    form: Form,
    out: Option<PathBuf>,
    json: bool,
) -> Result<bool, Error> {
    let named = workshop.load(word, &[])?;
    let (name, component) = (&named.located.name, &named.component);
    if component.contract() != CONTRACT {
        let text = format!("it keeps to {}, and {CONTRACT} is what can be exported", component.contract());
        return Err(Error::Export { name: name.clone(), text });
    }
    let form_word = if form == Form::Js { "js" } else { "core" };
    let out = out.unwrap_or_else(|| format!("{name}-{form_word}").into());
    if out.exists() {
        return Err(Error::ExportThere(out));
    }
    std::fs::create_dir_all(&out).map_err(|source| Error::Write { path: out.clone(), source })?;
    let files = match form {
        Form::Core => core(name, &named.located.octets, &out)?,
        Form::Js => javascript(&named.located.octets, &out)?,
    };
    match json {
        true => println!("{}", serde_json::json!({ "policy": name, "form": form_word, "dir": out, "files": files })),
        false => println!("{}: {}", out.display(), files.join(", ")),
    }
    Ok(true)
}

fn core(name: &str, component: &[u8], out: &Path) -> Result<Vec<String>, Error> {
    let odd = |odd: join::Odd| Error::Export { name: name.to_owned(), text: odd.to_string() };
    let module = join::one_module(component).map_err(odd)?;
    let file = format!("{name}.core.wasm");
    write(&out.join(&file), &module)?;
    write(&out.join("addrauth_policy.h"), HEADER.as_bytes())?;
    Ok(vec![file, "addrauth_policy.h".into()])
}

fn javascript(component: &[u8], out: &Path) -> Result<Vec<String>, Error> {
    let given = tempfile::Builder::new().suffix(".wasm").tempfile();
    let given = given.map_err(|source| Error::Write { path: std::env::temp_dir(), source })?;
    write(given.path(), component)?;
    let (program, words) = jco();
    let mut command = Command::new(&program);
    command.args(words).arg("transpile").arg(given.path()).args(["--name", "policy", "--quiet", "-o"]).arg(out);
    // What it says of its progress would stand between the lines that this program prints.
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).status();
    let shown = program.display().to_string();
    let status = status.map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => Error::NoNpm { jco: JCO },
        _ => Error::Run { program: shown.clone(), source },
    })?;
    if !status.success() {
        let text = format!("see its messages above, and remove {}", out.display());
        return Err(Error::Failed { program: format!("{shown} ({JCO})"), text });
    }
    write(&out.join("decide.mjs"), SCRIPT.as_bytes())?;
    write(&out.join("package.json"), PACKAGE.as_bytes())?;
    Ok(["policy.js", "policy.core.wasm", "decide.mjs", "package.json"].map(String::from).to_vec())
}

/// The tool of this folder or in PATH, else npm's runner with its name.
fn jco() -> (PathBuf, Vec<&'static str>) {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let beside = std::env::split_paths(&path).map(|dir| dir.join("jco"));
    let own = PathBuf::from("node_modules/.bin/jco");
    match std::iter::once(own).chain(beside).find(|program| program.is_file()) {
        Some(program) => (program, Vec::new()),
        None => ("npx".into(), vec!["--yes", JCO]),
    }
}

fn write(path: &Path, octets: &[u8]) -> Result<(), Error> {
    std::fs::write(path, octets).map_err(|source| Error::Write { path: path.to_owned(), source })
}
