//! The contract is in `wit/` and in both packages that speak it, and the SDK is a package that stands alone.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The contracts below a directory, by their paths in it.
fn contracts(dir: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(next) = dirs.pop() {
        for entry in fs::read_dir(&next).unwrap_or_else(|e| panic!("{}: {e}", next.display())) {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.extension().is_some_and(|end| end == "wit") {
                found.insert(path.strip_prefix(dir).unwrap().to_owned(), fs::read_to_string(&path).unwrap());
            }
        }
    }
    found
}

#[test]
fn both_packages_hold_the_contract_as_it_is_in_wit() {
    let published = contracts(&root().join("wit"));
    assert_eq!(published.keys().collect::<Vec<_>>(), [Path::new("0.1/policy.wit"), Path::new("policy.wit")]);
    for package in ["host/wit", "guest/wit"] {
        assert_eq!(contracts(&root().join(package)), published, "{package}");
    }
}

#[test]
fn each_contract_is_the_version_that_its_place_says() {
    let published = contracts(&root().join("wit"));
    for (path, version) in [("policy.wit", "0.2.0"), ("0.1/policy.wit", "0.1.0")] {
        let text = &published[Path::new(path)];
        assert!(text.lines().any(|line| line == format!("package addrauth:policy@{version};")), "{path}");
    }
}

#[test]
fn the_sdk_is_a_package_with_the_contract_inside_and_a_line_for_its_version() {
    let dir = tempfile::tempdir().unwrap();
    let said = Command::new(env!("CARGO"))
        .args(["package", "-p", "addrauth-policy", "--no-verify", "--offline", "--allow-dirty", "--target-dir"])
        .arg(dir.path())
        .current_dir(root())
        .output()
        .unwrap();
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    let version = sdk_version();
    let archive = dir.path().join(format!("package/addrauth-policy-{version}.crate"));
    let unpacked = Command::new("tar").arg("xzf").arg(&archive).arg("-C").arg(dir.path()).status().unwrap();
    assert!(unpacked.success());
    let package = dir.path().join(format!("addrauth-policy-{version}"));
    assert_eq!(contracts(&package.join("wit")), contracts(&root().join("wit")));
    for file in ["README.md", "LICENSE-MIT", "LICENSE-APACHE"] {
        assert!(package.join(file).is_file(), "{file}");
    }
    let manifest = fs::read_to_string(package.join("Cargo.toml")).unwrap();
    assert!(!manifest.contains("path = \"..") && !manifest.contains("publish = false"), "{manifest}");
    let minor = version.rsplit_once('.').unwrap().0;
    let line = format!("| {minor} | `addrauth:policy@{minor}.0` |");
    assert!(fs::read_to_string(package.join("README.md")).unwrap().contains(&line), "README.md has no line {line}");
}

/// The version in the SDK's manifest.
fn sdk_version() -> String {
    let manifest: toml::Table = toml::from_str(&fs::read_to_string(root().join("guest/Cargo.toml")).unwrap()).unwrap();
    manifest["package"]["version"].as_str().unwrap().to_owned()
}
