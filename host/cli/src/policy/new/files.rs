//! The files that a new policy begins with, by what it is written in; the SDK and the contract are those of this program.

use super::Lang;

/// What the folder of the SDK holds.
pub(super) const SDK: &str = "the SDK and the contract, as this addrauth has them";

/// A file of a new policy.
pub(super) struct File {
    /// Where it lies in the folder.
    pub(super) path: String,
    /// What is in it.
    pub(super) text: String,
    /// What it is, in a few words.
    pub(super) what: &'static str,
}

impl File {
    /// Whether it is not the author's to change.
    pub(super) fn is_sdk(&self) -> bool {
        self.path.starts_with("sdk/")
    }
}

macro_rules! template {
    ($path:literal) => {
        include_str!(concat!("template/", $path))
    };
}

/// The Rust SDK's files, as they stand in the sources of this program.
macro_rules! sdk {
    ($($path:literal)*) => {
        &[$((concat!("sdk/", $path), include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../guest/", $path)))),*]
    };
}

/// The contract of policies.
pub(super) const CONTRACT: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../wit/policy.wit"));

const RUST_SDK: &[(&str, &str)] = sdk! {
    "README.md" "src/arena.rs" "src/decision.rs" "src/description.rs" "src/facts.rs" "src/lib.rs" "src/settings.rs" "src/tests.rs"
    "src/wanted.rs"
};

const CASES: &str = template!("cases.toml");
const CASES_OF_SETTINGS: &str = template!("settings.toml");
const WHAT_CASES: &str = "facts, and the decisions that must follow";
const WHAT_README: &str = "how to try it, change it and put it in force";

/// The files of a new policy of this name.
pub(super) fn of(lang: Lang, name: &str) -> Vec<File> {
    // What fills a template in is an id: no letter in it means anything to TOML, Rust or C.
    let filled = |text: &str| text.replace("{{name}}", name);
    let own = |path: &str, text: &str, what| File { path: filled(path), text: filled(text), what };
    let sdk = |path: &str, text: &str| File { path: path.to_owned(), text: text.to_owned(), what: SDK };
    let cases = [CASES, CASES_OF_SETTINGS].concat();
    match lang {
        Lang::Rules => vec![
            own("{{name}}.toml", template!("rules/policy.toml"), "the rules, as they stand in the configuration"),
            own("cases.toml", CASES, WHAT_CASES),
            own("README.md", template!("rules/README.md"), WHAT_README),
        ],
        Lang::Rust => {
            let mut files = vec![
                own("src/lib.rs", template!("rust/src/lib.rs"), "the policy, with unit tests"),
                own("cases.toml", &cases, WHAT_CASES),
                own("README.md", template!("rust/README.md"), WHAT_README),
                own("Cargo.toml", template!("rust/Cargo.toml"), "what cargo builds it by"),
                own(".gitignore", "/target\n", "what a build leaves behind"),
                sdk("sdk/Cargo.toml", template!("rust/sdk.toml")),
                sdk("sdk/wit/policy.wit", CONTRACT),
            ];
            files.extend(RUST_SDK.iter().map(|(path, text)| sdk(path, text)));
            files
        }
        Lang::C => vec![
            own("policy.c", template!("c/policy.c"), "the policy"),
            own("cases.toml", &cases, WHAT_CASES),
            own("README.md", template!("c/README.md"), WHAT_README),
            own(".gitignore", "/target\n/.venv\n", "what a build leaves behind"),
            sdk("sdk/addrauth.h", template!("c/addrauth.h")),
            sdk("sdk/addrauth.c", template!("c/addrauth.c")),
            sdk("sdk/policy.wit", CONTRACT),
        ],
        Lang::Js => vec![
            own("policy.js", template!("js/policy.js"), "the policy"),
            own("cases.toml", &cases, WHAT_CASES),
            own("README.md", template!("js/README.md"), WHAT_README),
            own("package.json", template!("js/package.json"), "the tool that makes the component"),
            own(".gitignore", "/target\n/node_modules\n", "what a build leaves behind"),
            sdk("sdk/policy.wit", CONTRACT),
        ],
        Lang::Python => vec![
            own("policy.py", template!("python/policy.py"), "the policy"),
            own("cases.toml", &cases, WHAT_CASES),
            own("README.md", template!("python/README.md"), WHAT_README),
            own("requirements.txt", template!("python/requirements.txt"), "the tool that makes the component"),
            own(".gitignore", "/target\n/.venv\n__pycache__\n", "what a build leaves behind"),
            sdk("sdk/policy.wit", CONTRACT),
        ],
    }
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;

    use super::*;

    #[test]
    fn nothing_is_left_to_fill_in_and_no_file_is_empty_or_named_twice() {
        for lang in Lang::value_variants() {
            let files = of(*lang, "ours");
            for file in &files {
                assert!(!file.text.contains("{{") && !file.text.is_empty(), "{lang:?}: {}", file.path);
                assert_eq!(files.iter().filter(|other| other.path == file.path).count(), 1, "{lang:?}: {}", file.path);
            }
        }
    }

    #[test]
    fn the_sdk_is_whole_and_its_manifest_says_what_the_original_says() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../guest");
        let named: Vec<String> = std::fs::read_dir(root.join("src"))
            .unwrap()
            .map(|entry| format!("sdk/src/{}", entry.unwrap().file_name().to_str().unwrap()))
            .collect();
        for name in &named {
            assert!(RUST_SDK.iter().any(|(path, _)| path == name), "{name} is not in the list of files.rs");
        }
        assert_eq!(RUST_SDK.len(), named.len() + 1);
        let table = |text: &str| text.parse::<toml::Table>().unwrap();
        let ours = table(template!("rust/sdk.toml"));
        let original = table(&std::fs::read_to_string(root.join("Cargo.toml")).unwrap());
        assert_eq!(ours["dependencies"], original["dependencies"]);
        for key in ["name", "version", "description", "readme"] {
            assert_eq!(ours["package"][key], original["package"][key], "{key}");
        }
        let workspace = table(&std::fs::read_to_string(root.join("../Cargo.toml")).unwrap());
        for key in ["edition", "rust-version", "license"] {
            assert_eq!(ours["package"][key], workspace["workspace"]["package"][key], "{key}");
        }
    }
}
