//! `addrauth policy new`: begins a policy of one's own, outside of addrauth's sources.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use addrauth::policy::rehearse;
use clap::ValueEnum;

pub(super) mod c;
mod files;
pub(super) mod text;
pub(super) mod tool;

/// What is begun, and in what it is written.
#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// The policy's id, and the folder that is made: a-z, 0-9 and -. A path names a folder elsewhere by its last part.
    #[arg(value_name = "NAME")]
    name: PathBuf,
    /// What the policy is written in.
    #[arg(long, value_enum)]
    lang: Lang,
}

/// What a policy is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Lang {
    /// Lines of text, read by the shipped policy `rules`: no compiler is needed.
    Rules,
    /// Rust, with the SDK beside it.
    Rust,
    /// C, with a header of the contract's types beside it and no C library.
    C,
    /// JavaScript, by QuickJS in the component.
    Js,
    /// Python; the component brings its language along and needs size = "large".
    Python,
}

/// Why no policy is begun, or one is not built.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("{0:?} is no name for a policy: write a-z, 0-9 and - alone, at most 64 of them")]
    Name(String),
    #[error("`{0}` ships with addrauth, and a policy of that name would take its place: choose another name")]
    Shipped(String),
    #[error("{0} is there already: choose another name, or remove it first. Nothing was written")]
    There(PathBuf),
    #[error("cannot make {path}: {source}. Nothing is left of it; choose a folder that can be written")]
    Write { path: PathBuf, source: io::Error },
    #[error(
        "no compiler for C that makes WebAssembly is installed (zig, python3 -m ziglang, clang with wasm-ld). Either \
         `python3 -m venv {dir}/.venv && {dir}/.venv/bin/pip install ziglang`, or on Debian `apt-get install clang lld`"
    )]
    NoC { dir: String },
    #[error("{name} is neither in {dir} nor in PATH, and it makes the component. To get it: `{install}`")]
    NoTool { name: &'static str, dir: String, install: String },
    #[error("cannot make {path}: {source}; what was written of it could not be removed: {left}")]
    Left { path: PathBuf, source: io::Error, left: io::Error },
}

impl Lang {
    fn word(self) -> &'static str {
        match self {
            Lang::Rules => "rules",
            Lang::Rust => "rust",
            Lang::C => "c",
            Lang::Js => "js",
            Lang::Python => "python",
        }
    }

    /// What has to be known of this language before it is chosen.
    fn note(self) -> Option<&'static str> {
        match self {
            Lang::Rules | Lang::Rust | Lang::C | Lang::Js => None,
            Lang::Python => Some(
                "a component in Python has some 17 MB: write size = \"large\" into its section of the configuration, as README.md shows",
            ),
        }
    }

    /// The commands that come next, and what each of them is for.
    fn next(self, dir: &Path) -> Vec<(String, &'static str)> {
        let at = quoted(dir);
        let test = (format!("addrauth policy test {at}"), "decides the cases in the sandbox");
        match self {
            Lang::Rules => {
                let file = quoted(&dir.join(format!("{}.toml", id(dir).unwrap_or_default())));
                let add = format!("cat {file} >>/etc/addrauth/addrauth.toml");
                vec![
                    test,
                    (add, "then name it in the section [policy] there, as README.md shows"),
                    ("addrauth config check && systemctl reload addrauth-filter".into(), "puts it in force"),
                ]
            }
            Lang::Rust => vec![
                (format!("cargo test --manifest-path {at}/Cargo.toml"), "its unit tests"),
                (format!("addrauth policy build {at}"), "makes the component"),
                test,
            ],
            Lang::C => vec![
                (format!("addrauth policy build {at}"), "makes the component"),
                test,
                (format!("addrauth policy check {at}"), "says what it is, and that it imports nothing"),
            ],
            Lang::Js | Lang::Python => vec![
                (tool::install(self, &at), "the tool that makes the component"),
                (format!("addrauth policy build {at}"), "makes the component"),
                test,
            ],
        }
    }
}

/// The id that a folder's name is.
fn id(dir: &Path) -> Option<&str> {
    dir.file_name()?.to_str()
}

/// A path as a shell takes it.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    // An option otherwise, in quotes too.
    let text = if text.starts_with('-') { format!("./{text}") } else { text };
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '-' | '_' | '+' | ',' | ':' | '@');
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

/// Makes the folder, and says what comes next.
pub(super) fn run(options: &Options, json: bool) -> Result<bool, super::Error> {
    let (dir, lang) = (&options.name, options.lang);
    let shown = || Error::Name(dir.display().to_string());
    let name = id(dir).ok_or_else(shown)?;
    rehearse::check_id(name).map_err(|_| shown())?;
    if rehearse::locate_shipped(name).is_some() {
        return Err(Error::Shipped(name.to_owned()).into());
    }
    let files = files::of(lang, name);
    write(dir, &files)?;
    let next = lang.next(dir);
    if json {
        let files: Vec<&str> = files.iter().map(|file| file.path.as_str()).collect();
        let next: Vec<&str> = next.iter().map(|(command, _)| command.as_str()).collect();
        let told = serde_json::json!({ "policy": name, "lang": lang.word(), "folder": dir, "files": files, "next": next, "note": lang.note() });
        println!("{told}");
        return Ok(true);
    }
    println!("{}: a policy in {}", dir.display(), lang.word());
    for file in files.iter().filter(|file| !file.is_sdk()) {
        println!("  {:<16} {}", file.path, file.what);
    }
    if files.iter().any(files::File::is_sdk) {
        println!("  {:<16} {}", "sdk/", files::SDK);
    }
    if let Some(note) = lang.note() {
        println!("note: {note}");
    }
    println!("next:");
    let width = next.iter().map(|(command, _)| command.len()).max().unwrap_or_default();
    for (command, what) in next {
        println!("  {command:<width$}   # {what}");
    }
    Ok(true)
}

/// Writes all files into a folder that is not there yet; where one cannot be written, nothing stays.
fn write(dir: &Path, files: &[files::File]) -> Result<(), Error> {
    match DirBuilder::new().create(dir) {
        Ok(()) => {}
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => return Err(Error::There(dir.to_owned())),
        Err(source) => return Err(Error::Write { path: dir.to_owned(), source }),
    }
    for file in files {
        let path = dir.join(&file.path);
        if let Err(source) = write_one(&path, &file.text) {
            // Made just now, by us alone.
            return Err(match fs::remove_dir_all(dir) {
                Ok(()) => Error::Write { path, source },
                Err(left) => Error::Left { path, source, left },
            });
        }
    }
    Ok(())
}

fn write_one(path: &Path, text: &str) -> io::Result<()> {
    path.parent().map_or(Ok(()), fs::create_dir_all)?;
    OpenOptions::new().write(true).create_new(true).open(path)?.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_spelt_as_a_shell_takes_it() {
        assert_eq!(quoted(Path::new("policies/ours")), "policies/ours");
        assert_eq!(quoted(Path::new("it's/ours")), r"'it'\''s/ours'");
        assert_eq!(quoted(Path::new("a b/$x")), "'a b/$x'");
    }

    #[test]
    fn a_file_that_cannot_be_written_leaves_no_folder() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("ours");
        let file = |path: &str| files::File { path: path.into(), text: "x".into(), what: "" };
        // The second cannot be: the first is no folder.
        let said = write(&dir, &[file("a"), file("a/b")]);
        assert!(matches!(said, Err(Error::Write { ref path, .. }) if path.ends_with("a/b")), "{said:?}");
        assert!(!dir.exists());
        write(&dir, &[file("a"), file("b/c")]).unwrap();
        assert!(matches!(write(&dir, &[file("a")]), Err(Error::There(_))));
        assert_eq!(fs::read_to_string(dir.join("b/c")).unwrap(), "x");
    }
}
