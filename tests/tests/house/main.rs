//! The house rules, held against the sources: who may name whom, where the big dependencies live, how long a file may be.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

mod circles;
mod deferrals;

use circles::Arrows;

/// Crates that have one room each, with the beginnings of the paths below host/src that may name them.
const ONE_ROOM: [(&str, &[&str]); 12] = [
    ("axum", &["mta/hooks"]),
    ("hyper", &["mta/hooks", "daemon/pages"]),
    ("prometheus_client", &["daemon/"]),
    ("wasmtime", &["policy/sandbox"]),
    ("hickory_resolver", &["verify/locate"]),
    ("hickory_proto", &["verify/locate"]),
    ("resolv_conf", &["verify/locate"]),
    ("rusqlite", &["store/"]),
    ("sqlx", &["store/postgres"]),
    ("lettre", &["outbox/"]),
    ("mail_builder", &["outbox/"]),
    ("mail_parser", &["proto/address"]),
];
/// Names that say nothing of what is inside.
const EMPTY_NAMES: [&str; 10] =
    ["common", "util", "utils", "helper", "helpers", "manager", "service", "handler", "engine", "core"];
/// A file of 300 lines is long.
const LINES: usize = 500;

/// For each room the rooms that it may name; `None`: anything.
type Table = BTreeMap<String, Option<BTreeSet<String>>>;

/// The import table in the doc comment of `lib.rs`.
fn table(lib: &str) -> Table {
    let mut table = Table::new();
    for line in lib.lines().filter_map(|line| line.strip_prefix("//! | [`")) {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [room, _, names, ..] = cells[..] else { panic!("not a row of three cells: {line}") };
        let above = || table.keys().cloned();
        let may = match names {
            "anything" => None,
            "nothing" => Some(BTreeSet::new()),
            _ => Some(match names.strip_prefix("all of the above but ") {
                Some(but) => above().filter(|room| room != but).collect(),
                None => names.split(", ").map(String::from).collect(),
            }),
        };
        table.insert(room.trim_end_matches("`]").to_owned(), may);
    }
    table
}

/// The source in words and signs, without comments, strings and character literals. `::` is one sign.
fn tokens(source: &str) -> Vec<String> {
    let mut out = Vec::new();
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let length = skipped(rest).unwrap_or_else(|| {
            let word: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            let token = match word.is_empty() {
                false => word,
                true if rest.starts_with("::") => "::".to_owned(),
                true => first.to_string(),
            };
            let length = token.len();
            if !first.is_whitespace() {
                out.push(token);
            }
            length
        });
        rest = &rest[length..];
    }
    out
}

/// The length of the comment or literal that begins here, where one does.
fn skipped(rest: &str) -> Option<usize> {
    let until = |from: usize, end: &str| rest[from..].find(end).map_or(rest.len(), |at| from + at + end.len());
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        return Some(until(2, "*/"));
    }
    let raw = rest.strip_prefix('b').unwrap_or(rest);
    if let Some(after) = raw.strip_prefix('r') {
        let hashes = after.len() - after.trim_start_matches('#').len();
        if after[hashes..].starts_with('"') {
            let open = rest.len() - after.len() + hashes + 1;
            return Some(until(open, &format!("\"{}", "#".repeat(hashes))));
        }
    }
    let quote = raw.chars().next()?;
    let literal = quote == '"' || (quote == '\'' && is_character(raw));
    literal.then(|| {
        let open = rest.len() - raw.len() + 1;
        let mut escaped = false;
        let end = rest[open..].char_indices().find(|&(_, c)| {
            let ends = c == quote && !escaped;
            escaped = c == '\\' && !escaped;
            ends
        });
        end.map_or(rest.len(), |(at, _)| open + at + 1)
    })
}

/// Whether a quote opens a character and not a lifetime.
fn is_character(rest: &str) -> bool {
    let mut after = rest.chars().skip(1);
    after.next() == Some('\\') || after.next() == Some('\'')
}

/// The items of the crate's root that a file names; `depth` is the length of its module path.
fn named(tokens: &[String], depth: usize) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    // For each open brace, whether it opens a module.
    let mut braces: Vec<bool> = Vec::new();
    let word = |at: usize| tokens.get(at).map_or("", String::as_str);
    for at in 0..tokens.len() {
        match word(at) {
            "{" => braces.push(at >= 2 && word(at - 2) == "mod"),
            "}" => {
                braces.pop();
            }
            "crate" if word(at + 1) == "::" => first_words(tokens, at + 2, &mut names),
            "super" if word(at + 1) == "::" && (at == 0 || word(at - 1) != "::") => {
                let count = (0..).take_while(|n| word(at + 2 * n) == "super").count();
                if count == depth + braces.iter().filter(|module| **module).count() {
                    first_words(tokens, at + 2 * count, &mut names);
                }
            }
            _ => {}
        }
    }
    names
}

/// The first word of a path, or of each path of a group in braces.
fn first_words(tokens: &[String], at: usize, names: &mut BTreeSet<String>) {
    if tokens.get(at).map(String::as_str) != Some("{") {
        names.extend(tokens.get(at).cloned());
        return;
    }
    let (mut depth, mut fresh) = (0, false);
    for token in &tokens[at..] {
        match token.as_str() {
            "{" => (depth, fresh) = (depth + 1, depth == 0),
            "}" if depth == 1 => return,
            "}" => depth -= 1,
            "," if depth == 1 => fresh = true,
            _ if fresh => {
                names.insert(token.clone());
                fresh = false;
            }
            _ => {}
        }
    }
}

/// What is wrong with one file, by its path below host/src.
fn faults(path: &str, source: &str, table: &Table) -> Vec<String> {
    let parts: Vec<&str> = path.trim_end_matches(".rs").split('/').collect();
    let (room, stem) = (parts[0], parts[parts.len() - 1]);
    let depth = if stem == "mod" { parts.len() - 1 } else { parts.len() };
    let tokens = tokens(source);
    let mut faults = Vec::new();
    if !["main", "lib"].contains(&room) {
        match table.get(room) {
            None => faults.push(format!("{path}: the map in lib.rs has no row for `{room}`")),
            Some(None) => {}
            Some(Some(may)) => {
                let rooms = named(&tokens, depth).into_iter().filter(|name| table.contains_key(name) || name == "*");
                let others = rooms.filter(|name| name != room && !may.contains(name));
                faults.extend(others.map(|name| format!("{path}: `{room}` may not name `{name}`")));
            }
        }
    }
    for (dependency, places) in ONE_ROOM {
        let at_home = places.iter().any(|place| path.starts_with(place));
        if !at_home
            && tokens.windows(2).any(|pair| pair[0] == dependency || (pair[0] == "use" && pair[1] == dependency))
        {
            faults.push(format!("{path}: `{dependency}` lives in {} alone", places.join(" and ")));
        }
    }
    // A `tests` module says by its name what it is.
    if stem != "tests" && !source.starts_with("//! ") {
        faults.push(format!("{path}: a file opens with one `//!` sentence"));
    }
    faults.extend(
        tokens
            .windows(2)
            .filter(|pair| pair[0] == "fn" && pair[1].starts_with("get_"))
            .map(|pair| format!("{path}: `{}` says nothing that `{}` does not", pair[1], &pair[1][4..])),
    );
    faults
}

/// What is wrong with a file whatever its place: its name and its length.
fn outward_faults(path: &str, source: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if path.trim_end_matches(".rs").split('/').any(|part| EMPTY_NAMES.contains(&part)) {
        faults.push(format!("{path}: the name says nothing of what is inside"));
    }
    let lines = source.lines().count();
    if lines > LINES {
        faults.push(format!("{path}: {lines} lines; over {LINES} it is two files"));
    }
    faults
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

/// The Rust files below a folder with their paths from it, built ones left out.
fn sources(folder: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
                folders.push(path);
            } else if path.extension().is_some_and(|ext| ext == "rs") {
                let name = path.strip_prefix(folder).unwrap().display().to_string();
                found.push((name, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

#[test]
fn every_file_of_the_host_keeps_the_house_rules() {
    let folder = root().join("host/src");
    let table = table(&fs::read_to_string(folder.join("lib.rs")).unwrap());
    let faults: Vec<String> = sources(&folder).iter().flat_map(|(path, text)| faults(path, text, &table)).collect();
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn the_library_and_what_plays_the_world_know_nothing_of_the_program() {
    for crates in ["host/Cargo.toml", "host/lab/Cargo.toml", "guest/Cargo.toml"] {
        let manifest = fs::read_to_string(root().join(crates)).unwrap();
        assert!(!manifest.contains("addrauth-cli") && !manifest.contains("clap"), "{crates}");
    }
}

/// The files of a crate's sources by their tokens.
fn read(folder: &str) -> Vec<(String, Vec<String>)> {
    let files = sources(&root().join(folder)).into_iter();
    files.map(|(path, text)| (path, tokens(&text))).collect()
}

#[test]
fn no_modules_name_each_other_in_a_circle() {
    for folder in ["host/src", "host/cli/src", "host/console/src", "host/lab/src", "guest/src", "tests/src"] {
        assert_eq!(Arrows::of(&read(folder)).circles(), Vec::<String>::new(), "{folder}");
    }
}

#[test]
fn the_map_allows_no_arrow_that_nobody_uses() {
    let table = table(&fs::read_to_string(root().join("host/src/lib.rs")).unwrap());
    let arrows = Arrows::of(&read("host/src"));
    let used: BTreeSet<(&str, &str)> = arrows
        .all
        .iter()
        .filter(|(from, to)| !from.is_empty() && !to.is_empty())
        .map(|(from, to)| (from[0].as_str(), to[0].as_str()))
        .collect();
    let mut unused = Vec::new();
    for (room, may) in &table {
        let may = may.iter().flatten().filter(|name| !used.contains(&(room.as_str(), name.as_str())));
        unused.extend(may.map(|name| format!("{room} names {name} nowhere")));
    }
    assert_eq!(unused, Vec::<String>::new());
}

#[test]
fn a_circle_is_found_however_it_is_spelt() {
    let arrows = |files: &[(&str, &str)]| {
        let files: Vec<_> = files.iter().map(|(path, text)| (path.to_string(), tokens(text))).collect();
        Arrows::of(&files).circles()
    };
    let found = [
        vec![("a.rs", "use crate::b::X;"), ("b.rs", "fn f() { super::a::y() }")],
        vec![("r/mod.rs", "mod a; mod b; use b::X;"), ("r/a.rs", "use super::X;"), ("r/b.rs", "use super::a::Y;")],
        vec![
            ("r.rs", "pub use b::{c::X as Z, W};"),
            ("r/a.rs", "use crate::r::{W, q};"),
            ("r/b.rs", "use super::{a, q};"),
        ],
        vec![("a.rs", "use crate::b::X;"), ("b.rs", "use crate::c::d::X;"), ("c/d.rs", "use crate::a;")],
    ];
    for files in found {
        assert!(!arrows(&files).is_empty(), "{files:?}");
    }
    let none = [
        vec![("r/mod.rs", "mod a; use a::X;"), ("r/a.rs", "use super::Y; use crate::r::X;")],
        vec![("a.rs", "use crate::b::X;"), ("b.rs", "mod tests { use crate::a::Y; }"), ("b/tests.rs", "use crate::a;")],
        vec![("a.rs", "use crate::b::X; // crate::c"), ("b.rs", "let x = \"crate::a\";")],
    ];
    for files in none {
        assert_eq!(arrows(&files), Vec::<String>::new(), "{files:?}");
    }
}

#[test]
fn every_file_has_a_telling_name_and_a_bearable_length() {
    let folders = ["host", "guest", "policies", "tests"];
    let files = folders.iter().flat_map(|folder| {
        let below = sources(&root().join(folder)).into_iter();
        below.map(move |(path, text)| (format!("{folder}/{path}"), text))
    });
    let faults: Vec<String> = files.flat_map(|(path, text)| outward_faults(&path, &text)).collect();
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn the_map_has_a_row_for_each_room_and_no_other() {
    let lib = fs::read_to_string(root().join("host/src/lib.rs")).unwrap();
    let modules: BTreeSet<String> =
        lib.lines().filter_map(|line| Some(line.strip_prefix("pub mod ")?.trim_end_matches(';').to_owned())).collect();
    assert_eq!(table(&lib).into_keys().collect::<BTreeSet<_>>(), modules);
}

const SAMPLE: &str = "//! | room | what | may name |\n//! | [`proto`] | bytes | nothing |\n//! | [`case`] | nouns | proto |\n\
     //! | [`verify`] | asks | proto, case |\n//! | [`filter`] | judges | all of the above but verify |\n\
     //! | [`cli`] | verbs | anything |\n";

#[test]
fn a_room_that_names_another_is_found_however_it_is_spelt() {
    let table = table(SAMPLE);
    let bad = [
        ("proto/key.rs", "//! x\nuse crate::case::Mail;"),
        ("verify/mod.rs", "//! x\nuse crate::{proto::key, filter::Filter};"),
        ("verify/mod.rs", "//! x\nfn f() { super::filter::run() }"),
        ("verify/ask.rs", "//! x\nmod tests { use super::super::super::filter::X; }"),
        ("filter.rs", "//! x\nuse crate::verify;"),
        ("case.rs", "//! x\nuse crate::*;"),
        ("case.rs", "//! x\nlet c = '\"'; let d: crate::cli::Context;"),
        ("nowhere.rs", "//! x\n"),
    ];
    for (path, source) in bad {
        assert_eq!(faults(path, source, &table).len(), 1, "{path}: {source}");
    }
}

#[test]
fn what_is_allowed_or_only_spoken_of_is_no_fault() {
    let table = table(SAMPLE);
    let good = [
        ("case.rs", "//! x\nuse crate::proto::key;\nuse crate::case::X;"),
        ("verify/ask.rs", "//! x\nuse super::filter; // crate::filter\n/* crate::cli */"),
        (
            "verify/ask.rs",
            "//! x\nlet s = \"crate::filter\"; let r = r#\"crate::cli \" \"#; let e = \"\\\" crate::cli\";",
        ),
        ("filter.rs", "//! x\nfn f<'a>(x: &'a str) { crate::case::y(x) }"),
        ("cli/run.rs", "//! x\nuse crate::{filter, verify};"),
        ("main.rs", "//! x\nuse addrauth::cli;"),
    ];
    for (path, source) in good {
        assert_eq!(faults(path, source, &table), Vec::<String>::new(), "{source}");
    }
}

#[test]
fn a_big_dependency_outside_of_its_room_is_found() {
    let table = table(SAMPLE);
    for (path, source) in [
        ("verify/ask.rs", "//! x\nuse wasmtime::Engine;"),
        ("cli/run.rs", "//! x\nfn f() { sqlx::query(\"\"); }"),
        ("verify/mod.rs", "//! x\nuse hickory_proto::rr::Name;"),
        ("filter.rs", "//! x\nuse {lettre::Address};"),
    ] {
        assert_eq!(faults(path, source, &table).len(), 1, "{source}");
    }
    assert!(faults("verify/locate.rs", "//! x\nuse hickory_proto::rr::Name;", &table).is_empty());
}

#[test]
fn a_missing_sentence_an_empty_name_a_long_file_and_a_get_are_found() {
    let table = table(SAMPLE);
    assert_eq!(faults("case.rs", "use std::fmt;", &table).len(), 1);
    assert!(faults("case/tests.rs", "use super::*;", &table).is_empty());
    assert_eq!(faults("case.rs", "//! x\npub fn get_key() {}", &table).len(), 1);
    assert_eq!(outward_faults("host/src/util.rs", "").len(), 1);
    assert_eq!(outward_faults("host/src/core/mod.rs", "").len(), 1);
    assert_eq!(outward_faults("host/src/case.rs", &"\n".repeat(LINES + 1)).len(), 1);
    assert!(outward_faults("host/src/case.rs", &"\n".repeat(LINES)).is_empty());
}

#[test]
fn what_the_verbs_print_goes_through_one_place() {
    let cli = Path::new(env!("CARGO_MANIFEST_DIR")).join("../host/cli/src");
    let (mut folders, mut seen) = (vec![cli.clone()], 0);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let place = path.strip_prefix(&cli).unwrap().display().to_string();
            // The daemons' log ends there; a count of addresses that moves on has nothing of a stranger's.
            let own = ["output.rs", "daemon/log.rs"].contains(&place.as_str());
            if own || place.ends_with("tests.rs") {
                continue;
            }
            let words = tokens(&fs::read_to_string(&path).unwrap());
            let past = |w: &[String]| {
                let stream = w[0] == "::" && matches!(w[1].as_str(), "stdout" | "stderr") && w[2] == "(" && w[3] == ")";
                stream && w[5] != "is_terminal"
            };
            let count = words.windows(6).filter(|w| past(w)).count();
            assert_eq!(count, usize::from(place == "address.rs"), "{place} writes to a standard stream past output.rs");
            seen += usize::from(words.iter().any(|word| word == "println"));
        }
    }
    let own = fs::read_to_string(cli.join("main.rs")).unwrap();
    assert!(
        seen > 3 && ["println", "print", "eprintln"].iter().all(|name| own.contains(&format!("macro_rules! {name} ")))
    );
}
