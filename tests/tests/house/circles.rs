//! Which module names which, and that none of them does so in a circle.
//!
//! A module is a file. A module that is given its parent's items names its parent and not its siblings: what counts are arrows
//! between modules of which neither holds the other. A name that a parent takes from one of its children is the child's.

use std::collections::{BTreeMap, BTreeSet};

/// A module's path from the root of its crate; the root's own is empty.
type Path = Vec<String>;

/// The arrows between the modules of one crate.
pub struct Arrows {
    /// From a module to what it names, with the file that does.
    pub all: BTreeSet<(Path, Path)>,
}

/// The module that a file below `src` is.
fn module(file: &str) -> Path {
    let mut path: Path = file.trim_end_matches(".rs").split('/').map(String::from).collect();
    if matches!(path.last().map(String::as_str), Some("mod" | "lib" | "main")) {
        path.pop();
    }
    path
}

/// The tokens outside of modules for tests.
fn without_tests(tokens: &[String]) -> Vec<String> {
    let (mut kept, mut at) = (Vec::new(), 0);
    while at < tokens.len() {
        let opens = tokens[at] == "mod" && tokens.get(at + 1).is_some_and(|name| name == "tests");
        if opens && tokens.get(at + 2).is_some_and(|token| token == "{") {
            let mut depth = 0;
            at += 2;
            loop {
                match tokens.get(at).map(String::as_str) {
                    Some("{") => depth += 1,
                    Some("}") => depth -= 1,
                    None => break,
                    Some(_) => {}
                }
                at += 1;
                if depth == 0 {
                    break;
                }
            }
            continue;
        }
        kept.push(tokens[at].clone());
        at += 1;
    }
    kept
}

/// All paths of a tree such as `a::{b, c::{D, e}}` that begins at `at`.
fn tree(tokens: &[String], mut at: usize, path: &mut Path, out: &mut Vec<Path>) -> usize {
    let begin = path.len();
    loop {
        match tokens.get(at).map(String::as_str) {
            Some("{") => {
                at += 1;
                while tokens.get(at).is_some_and(|token| token != "}") {
                    let before = at;
                    at = tree(tokens, at, path, out);
                    while tokens.get(at).is_some_and(|token| token != "," && token != "}") {
                        at += 1;
                    }
                    at += usize::from(tokens.get(at).is_some_and(|token| token == ","));
                    assert!(at > before, "{:?}", &tokens[before..]);
                }
                path.truncate(begin);
                return at + 1;
            }
            Some(word) if word.chars().all(|c| c.is_alphanumeric() || c == '_') || word == "*" => {
                if word != "self" {
                    path.push(word.to_owned());
                }
                at += 1;
            }
            _ => break,
        }
        if tokens.get(at).map(String::as_str) != Some("::") {
            break;
        }
        at += 1;
    }
    out.push(path.clone());
    path.truncate(begin);
    at
}

/// The paths from the crate's root that a module names by `crate::`, `super::` and `self::`.
fn named(tokens: &[String], module: &Path) -> Vec<Path> {
    let mut out = Vec::new();
    for at in 0..tokens.len() {
        let follows = at > 0 && tokens[at - 1] == "::";
        let leads = tokens.get(at + 1).is_some_and(|token| token == "::");
        if follows || !leads {
            continue;
        }
        match tokens[at].as_str() {
            "crate" => _ = tree(tokens, at + 2, &mut Path::new(), &mut out),
            "self" => _ = tree(tokens, at + 2, &mut module.clone(), &mut out),
            "super" => {
                let count = (0..).take_while(|n| tokens.get(at + 2 * n).is_some_and(|token| token == "super")).count();
                let mut path = module[..module.len().saturating_sub(count)].to_vec();
                tree(tokens, at + 2 * count, &mut path, &mut out);
            }
            _ => {}
        }
    }
    out
}

/// What a module takes from its children, by name: `pub use child::{A, B};` and `use child::A;`.
fn taken(tokens: &[String], module: &Path, modules: &BTreeSet<Path>) -> BTreeMap<String, Path> {
    let mut taken = BTreeMap::new();
    for at in 0..tokens.len() {
        if tokens[at] != "use" || tokens.get(at + 2).is_none_or(|token| token != "::") {
            continue;
        }
        let mut paths = Vec::new();
        tree(tokens, at + 1, &mut module.clone(), &mut paths);
        for path in paths {
            let child = &path[..(module.len() + 1).min(path.len())];
            if let (Some(name), true) = (path.last(), modules.contains(child)) {
                taken.insert(name.clone(), child.to_vec());
            }
        }
    }
    taken
}

impl Arrows {
    /// Of files below `src` with their tokens; modules for tests are left out.
    pub fn of(files: &[(String, Vec<String>)]) -> Arrows {
        let own = |file: &str| !file.split('/').any(|part| part == "tests" || part == "tests.rs");
        let files: Vec<(Path, Vec<String>)> = files
            .iter()
            .filter(|(file, _)| own(file))
            .map(|(file, tokens)| (module(file), without_tests(tokens)))
            .collect();
        let modules: BTreeSet<Path> = files.iter().map(|(module, _)| module.clone()).collect();
        let takes: BTreeMap<&Path, BTreeMap<String, Path>> =
            files.iter().map(|(module, tokens)| (module, taken(tokens, module, &modules))).collect();
        let home = |path: &Path| -> Path {
            let mut length = path.len();
            while length > 0 && !modules.contains(&path[..length]) {
                length -= 1;
            }
            let found = path[..length].to_vec();
            let item = path.get(length);
            match item.and_then(|item| takes.get(&found)?.get(item)) {
                Some(child) => child.clone(),
                None => found,
            }
        };
        let mut all = BTreeSet::new();
        for (module, tokens) in &files {
            for path in named(tokens, module) {
                let to = home(&path);
                if !to.starts_with(module) && !module.starts_with(&to) {
                    all.insert((module.clone(), to));
                }
            }
        }
        Arrows { all }
    }

    /// The circles among the children of each module: each as the names on its way.
    pub fn circles(&self) -> Vec<String> {
        let mut below: BTreeMap<Path, BTreeMap<String, BTreeSet<String>>> = BTreeMap::new();
        for (from, to) in &self.all {
            let common = from.iter().zip(to).take_while(|(one, other)| one == other).count();
            let names = below.entry(from[..common].to_vec()).or_default();
            names.entry(from[common].clone()).or_default().insert(to[common].clone());
        }
        let mut circles = Vec::new();
        for (parent, names) in &below {
            for (name, nexts) in names {
                for next in nexts {
                    if reaches(names, next, name) && name < next {
                        circles.push(format!("{}: {name} and {next}", parent.join("::")));
                    } else if reaches(names, next, name) && !reaches(names, name, next) {
                        circles.push(format!("{}: {name}", parent.join("::")));
                    }
                }
            }
        }
        circles
    }
}

/// Whether the arrows lead from one name to another.
fn reaches(names: &BTreeMap<String, BTreeSet<String>>, from: &str, to: &str) -> bool {
    let (mut seen, mut open) = (BTreeSet::new(), vec![from]);
    while let Some(next) = open.pop() {
        if next == to {
            return true;
        }
        if seen.insert(next) {
            open.extend(names.get(next).into_iter().flatten().map(String::as_str));
        }
    }
    false
}
