//! What the host's binary is made of may be used by anyone: no dependency binds its users by copyleft.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, PackageId};

/// Licences that ask for no more than a notice.
const PERMISSIVE: [&str; 14] = [
    "0BSD",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unicode-DFS-2016",
    "Unlicense",
    "Zlib",
];

/// Whether the SPDX expression can be met with permissive licences alone. AND binds tighter than OR; a `/` is an old OR.
fn is_permissive(expression: &str) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut at = 0;
    let met = either(&words, &mut at);
    met && at == words.len()
}

fn either(words: &[&str], at: &mut usize) -> bool {
    let mut met = both(words, at);
    while words.get(*at) == Some(&"OR") {
        *at += 1;
        met |= both(words, at);
    }
    met
}

fn both(words: &[&str], at: &mut usize) -> bool {
    let mut met = one(words, at);
    while words.get(*at) == Some(&"AND") {
        *at += 1;
        met &= one(words, at);
    }
    met
}

fn one(words: &[&str], at: &mut usize) -> bool {
    let word = words.get(*at).copied().unwrap_or_default();
    *at += 1;
    if word == "(" {
        let met = either(words, at);
        let closed = words.get(*at) == Some(&")");
        *at += 1;
        return met && closed;
    }
    // An exception only adds permissions.
    if words.get(*at) == Some(&"WITH") {
        *at += 2;
    }
    PERMISSIVE.contains(&word)
}

/// The packages that the build of `root` needs, itself included: normal and build dependencies of this platform.
fn needed<'a>(metadata: &'a Metadata, root: &str) -> BTreeSet<&'a PackageId> {
    let nodes: BTreeMap<_, _> = metadata.resolve.as_ref().unwrap().nodes.iter().map(|node| (&node.id, node)).collect();
    let package = metadata.packages.iter().find(|p| p.name.as_str() == root).expect("the package is in the workspace");
    let mut found = BTreeSet::new();
    let mut open = vec![&package.id];
    while let Some(id) = open.pop() {
        if found.insert(id) {
            let deps = nodes[id].deps.iter();
            let ours = deps.filter(|dep| dep.dep_kinds.iter().any(|kind| kind.kind != DependencyKind::Development));
            open.extend(ours.map(|dep| &dep.pkg));
        }
    }
    found
}

/// This machine's platform, so that nothing is fetched for others.
fn platform() -> String {
    let out = Command::new(env!("CARGO").replace("cargo", "rustc")).arg("-vV").output();
    let out = out.or_else(|_| Command::new("rustc").arg("-vV").output()).unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    text.lines().find_map(|line| line.strip_prefix("host: ")).expect("rustc names its host").to_owned()
}

#[test]
fn no_dependency_of_the_host_binds_its_users() {
    let options = ["--locked".to_owned(), "--filter-platform".to_owned(), platform()];
    let metadata = MetadataCommand::new().other_options(options).exec().unwrap();
    let needed = needed(&metadata, "addrauth");
    assert!(needed.len() > 50, "only {} packages: the tree was not read", needed.len());
    let packages = metadata.packages.iter().filter(|package| needed.contains(&package.id));
    let bad: Vec<String> = packages
        .filter(|package| !package.license.as_deref().is_some_and(is_permissive))
        .map(|package| {
            format!("{} {}: {}", package.name, package.version, package.license.as_deref().unwrap_or("none"))
        })
        .collect();
    assert!(bad.is_empty(), "not permissive, or not stated as SPDX:\n{}", bad.join("\n"));
}

#[test]
fn copyleft_without_an_alternative_is_found() {
    for bad in [
        "GPL-3.0",
        "AGPL-3.0-only",
        "LGPL-2.1-or-later",
        "SSPL-1.0",
        "MIT AND GPL-2.0",
        "(MIT OR GPL-2.0) AND LGPL-3.0",
        "GPL-2.0 WITH Classpath-exception-2.0",
        "",
        "(MIT",
        "MIT MIT",
    ] {
        assert!(!is_permissive(bad), "{bad}");
    }
    for good in [
        "MIT",
        "MIT OR GPL-3.0",
        "MIT/Apache-2.0",
        "Apache-2.0 WITH LLVM-exception OR MIT",
        "(MIT OR Apache-2.0) AND Unicode-3.0",
        "Apache-2.0 AND ISC",
        "LGPL-2.1 OR (MIT AND BSD-3-Clause)",
    ] {
        assert!(is_permissive(good), "{good}");
    }
}
