//! The library as other programs take it: what it brings with it, and what is in its package.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

fn cargo(arguments: &[&str]) -> String {
    let out = Command::new(env!("CARGO")).args(arguments).current_dir(root()).stdin(Stdio::null()).output().unwrap();
    assert!(out.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

/// The names of the crates that the library depends on with these features, those of its build and its tests left out. Asked
/// with `-p`, since a build of the workspace unifies features.
fn dependencies(features: &str) -> BTreeSet<String> {
    let fixed = ["tree", "--locked", "--offline", "-p", "addrauth", "--edges", "normal", "--prefix", "none"];
    let tree = cargo(&[&fixed[..], &["--no-default-features", "--features", features]].concat());
    tree.lines().filter_map(|line| Some(line.split_whitespace().next()?.to_owned())).collect()
}

/// The beginnings of the names of what a program that only decides must not be given: SQL, a command line, DNS, mail, HTTP, TLS.
const HEAVY: [&str; 15] = [
    "rusqlite",
    "sqlx",
    "libsqlite3",
    "clap",
    "hickory",
    "lettre",
    "mail-builder",
    "hyper",
    "axum",
    "http",
    "reqwest",
    "rustls",
    "tokio-rustls",
    "hpke",
    "tokio-util",
];

fn heavy(names: &BTreeSet<String>) -> Vec<&String> {
    names.iter().filter(|name| HEAVY.iter().any(|heavy| name.starts_with(heavy))).collect()
}

#[test]
fn without_features_the_library_brings_no_sql_command_line_dns_mail_or_http() {
    let names = dependencies("");
    assert!(names.contains("wasmtime") && names.contains("addrauth"), "{names:?}");
    assert_eq!(heavy(&names), Vec::<&String>::new());
    // The names are those that it would have.
    assert!(heavy(&dependencies("filter,postgres")).len() > 6);
}

#[test]
fn each_feature_brings_what_it_needs_and_not_the_others() {
    let has = |features: &str, name: &str| dependencies(features).contains(name);
    assert!(has("verify", "hickory-resolver") && !has("verify", "sqlx") && !has("verify", "lettre"));
    assert!(has("sqlite", "rusqlite") && !has("sqlite", "sqlx") && !has("sqlite", "hickory-resolver"));
    assert!(has("milter", "tokio-util") && !has("milter", "rusqlite") && !has("milter", "hickory-resolver"));
    assert!(has("hooks", "axum") && !has("hooks", "rusqlite") && !has("hooks", "hickory-resolver"));
    assert!(!has("milter", "axum") && !has("filter", "axum"));
    assert!(has("postgres", "sqlx-postgres") && !has("postgres", "sqlx-sqlite"));
    assert!(has("outbox", "lettre") && !has("outbox", "hickory-resolver"));
}

#[test]
fn the_package_holds_the_components_and_nothing_of_the_program() {
    let list = cargo(&["package", "-p", "addrauth", "--list", "--allow-dirty", "--offline"]);
    let files: BTreeSet<&str> = list.lines().collect();
    assert!(files.contains("shipped/mark.wasm") && files.contains("src/lib.rs"), "{files:?}");
    assert!(!files.iter().any(|file| file.starts_with("cli/") || file.starts_with("lab/")), "{files:?}");
}

#[test]
fn each_shipped_component_in_the_library_is_the_one_beside_its_source() {
    let shipped = root().join("host/shipped");
    let mut count = 0;
    for entry in std::fs::read_dir(&shipped).unwrap() {
        let path = entry.unwrap().path();
        let id = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let beside = root().join("policies").join(&id).join(format!("{id}.wasm"));
        assert_eq!(std::fs::read(&path).unwrap(), std::fs::read(beside).unwrap(), "{id}");
        count += 1;
    }
    assert_eq!(count, 10);
}
