//! No reference dangles: a section, an attack, a guard or a scenario that code or a document names, a link, a path.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

mod links;

use links::{broken, paths, prose};

/// The documents whose sections are cited, by the word that cites them; their files are `WORD.md`.
const NUMBERED: [&str; 2] = ["SPECIFICATION", "INVARIANTS"];
/// The one of them that has test vectors, and where those are.
const SPECIFIED: &str = NUMBERED[0];
const VECTORS: &str = "tests/vectors/";
/// The one of them that numbers the attacks.
const ATTACKS: &str = NUMBERED[1];
/// Documents of others that are cited by sections, beside RFCs.
const FOREIGN: [&str; 1] = ["X.690"];
/// Folders that hold nothing of ours to read: what is built, what is old on purpose, what is no text.
const LEFT_OUT: [&str; 5] = ["target", ".git", "fixtures", "corpus", "node_modules"];
/// These files are full of references that dangle on purpose.
const OWN: &str = "tests/tests/references/";
/// The proof of VERIFY, and not the first of attacks H.
const PROOF: &str = "h1";

/// What can be named.
#[derive(Debug, Default, PartialEq, Eq)]
struct Paragraphs {
    /// The numbers of the sections of each document in [`NUMBERED`].
    sections: BTreeMap<String, BTreeSet<String>>,
    /// Attacks, such as A1 and O.
    attacks: BTreeSet<String>,
    /// Guards and scenarios, such as `guard B` and `scenario 2`.
    names: BTreeSet<String>,
}

impl Paragraphs {
    fn of(documents: &[(&str, &str)]) -> Paragraphs {
        let mut all = Paragraphs::default();
        for (document, text) in documents {
            let numbers = text.lines().filter_map(number_of_heading);
            all.sections.insert((*document).to_owned(), numbers.collect());
            let cell = |line: &str| line.strip_prefix("| ").and_then(|rest| rest.split(" |").next().map(String::from));
            let rows = text.lines().filter_map(cell).filter(|cell| *document == ATTACKS && is_attack(cell));
            for id in rows {
                assert!(all.attacks.insert(id.clone()), "{id} has two lines");
            }
            let bold = text.split("**").skip(1).step_by(2).map(str::to_ascii_lowercase);
            all.names.extend(bold.filter(|name| name.starts_with("guard ") || name.starts_with("scenario ")));
        }
        all
    }

    /// What is wrong with an attack's id, or the letter of a group of attacks.
    fn attack(&self, id: &str) -> Option<String> {
        let known = self.attacks.contains(id) || (id.len() == 1 && self.attacks.iter().any(|one| one.starts_with(id)));
        (!known).then(|| format!("INVARIANTS §5 has no attack {id}"))
    }

    fn name(&self, kind: &str, which: &str) -> Option<String> {
        let name = format!("{kind} {}", which.to_ascii_lowercase());
        (!self.names.contains(&name)).then(|| format!("INVARIANTS has no paragraph about {name}"))
    }
}

/// The number of a heading such as `### 3.4 Who is told` or `## 3. Several wishes`.
fn number_of_heading(line: &str) -> Option<String> {
    let title = line.starts_with('#').then(|| line.trim_start_matches('#').trim_start())?;
    let number = title.split(' ').next()?.trim_end_matches('.');
    is_number(number).then(|| number.to_owned())
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.split('.').all(|part| !part.is_empty() && part.bytes().all(|o| o.is_ascii_digit()))
}

/// Whether a word has the form of an attack's id: A to O, and a number where the group has several.
fn is_attack(word: &str) -> bool {
    let mut letters = word.bytes();
    let group = letters.next().is_some_and(|letter| (b'A'..=b'O').contains(&letter));
    group && word.len() <= 3 && letters.all(|octet| octet.is_ascii_digit())
}

/// The words of a text with their lines, without the signs that begin a comment or a row of a table.
fn words(text: &str) -> Vec<(usize, &str)> {
    let signs = |word: &&str| !word.bytes().all(|octet| b"/!#*|;-".contains(&octet));
    let lines = text.lines().enumerate();
    lines.flat_map(|(line, text)| text.split_whitespace().filter(signs).map(move |word| (line + 1, word))).collect()
}

/// A word without the punctuation around it.
fn bare(word: &str) -> &str {
    word.trim_matches(|c: char| !c.is_alphanumeric())
}

/// What is wrong with the sections that a text names; `home` is the document that it is itself.
fn sections(text: &str, home: Option<&str>, all: &Paragraphs) -> Vec<(usize, String)> {
    let words = words(text);
    let mut wrong = Vec::new();
    // Where the last one stood, and whose it was; `None`: of somebody else's document.
    let mut last: Option<(usize, Option<&str>)> = None;
    for (at, &(line, word)) in words.iter().enumerate() {
        for (first, after) in word.split('§').skip(1).enumerate() {
            let end = after.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(after.len());
            let number = after[..end].trim_end_matches('.');
            if number.is_empty() {
                continue;
            }
            let before = |n: usize| at.checked_sub(n).map_or("", |at| bare(words[at].1));
            let joined =
                ["and", "or", "to"].contains(&before(1)) || words[at.saturating_sub(1)].1.ends_with([',', '§']);
            let document = match (before(1), last) {
                _ if first > 0 => last.and_then(|(_, whose)| whose),
                (name, _) if NUMBERED.contains(&name) => Some(name),
                (name, _) if FOREIGN.contains(&name) || (is_number(name) && before(2) == "RFC") => None,
                (_, Some((place, whose))) if at - place <= 2 && (joined || at - place == 1) => whose,
                _ if home.is_some() => home,
                (name, _) => {
                    wrong.push((line, format!("{name:?} before §{number} names no document")));
                    continue;
                }
            };
            last = Some((at, document));
            if let Some(document) = document.filter(|name| !all.sections[*name].contains(number)) {
                wrong.push((line, format!("{document} has no §{number}")));
            }
        }
    }
    wrong
}

/// What is wrong with the sections that test vectors hold.
fn sections_of_vectors(text: &str, all: &Paragraphs) -> Vec<(usize, String)> {
    let held = |line: &str| Some(line.split_once("\"section\": \"")?.1.split('"').next()?.to_owned());
    let numbers = text.lines().enumerate().filter_map(|(line, text)| Some((line + 1, held(text)?)));
    let unknown = numbers.filter(|(_, number)| !all.sections[SPECIFIED].contains(number));
    unknown.map(|(line, number)| (line, format!("{SPECIFIED} has no §{number}"))).collect()
}

/// What is wrong with the attacks, guards and scenarios that prose names.
fn named(prose: &str, all: &Paragraphs) -> Vec<(usize, String)> {
    let words = words(prose);
    let mut wrong = Vec::new();
    for (at, &(line, word)) in words.iter().enumerate() {
        let word = bare(word);
        let next = words.get(at + 1).map_or("", |next| bare(next.1));
        let letter = next.len() == 1 && next.bytes().all(|octet| octet.is_ascii_uppercase());
        let fault = match word.to_ascii_lowercase().as_str() {
            "guard" if letter => all.name("guard", next),
            "scenario" if is_number(next) => all.name("scenario", next),
            "attack" | "attacks" if is_attack(next) && letter => all.attack(next),
            _ if is_attack(word) && word.len() > 1 => all.attack(word),
            _ => None,
        };
        wrong.extend(fault.map(|fault| (line, fault)));
    }
    wrong
}

/// What is wrong with the attacks and scenarios in the names of tests.
fn named_by_tests(source: &str, all: &Paragraphs) -> Vec<(usize, String)> {
    let mut wrong = Vec::new();
    for (line, text) in source.lines().enumerate() {
        let Some((_, rest)) = text.split_once("fn ") else { continue };
        let name: Vec<&str> = rest.split(['(', '<']).next().unwrap_or_default().split('_').collect();
        for (at, part) in name.iter().enumerate() {
            let id = part.to_ascii_uppercase();
            let fault = match name.get(at + 1) {
                Some(number) if *part == "scenario" && is_number(number) => all.name("scenario", number),
                // The integers of serde, such as `serialize_i64`.
                _ if at > 0 && matches!(name[at - 1], "serialize" | "visit") => None,
                _ if is_attack(&id) && id.len() > 1 && *part != PROOF => all.attack(&id),
                _ => None,
            };
            wrong.extend(fault.map(|fault| (line + 1, fault)));
        }
    }
    wrong
}

/// The comments of a source, each on its line, by what begins one; everything else is blank.
fn comments(text: &str, sign: &str) -> String {
    let comment = |line: &str| {
        let begins = line.trim_start().starts_with(sign);
        let at = if begins { line.find(sign) } else { line.find(&format!(" {sign} ")) };
        at.map_or(String::new(), |at| line[at..].to_owned())
    };
    text.lines().map(comment).collect::<Vec<_>>().join("\n")
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

/// All texts of the repository by their paths in it.
fn texts() -> BTreeMap<String, String> {
    let root = root();
    let mut found = BTreeMap::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_symlink() || LEFT_OUT.contains(&name.as_str()) {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else if let Ok(text) = fs::read_to_string(&path) {
                found.insert(path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned(), text);
            }
        }
    }
    found
}

fn known(texts: &BTreeMap<String, String>) -> Paragraphs {
    Paragraphs::of(&NUMBERED.map(|name| (name, texts[&format!("{name}.md")].as_str())))
}

/// `path:line: fault` for everything that is wrong with one text.
fn faults(path: &str, text: &str, all: &Paragraphs) -> Vec<String> {
    // The vectors belong to the specification.
    let vector = path.starts_with(VECTORS).then_some(SPECIFIED);
    let home = NUMBERED.into_iter().find(|name| *path == format!("{name}.md")).or(vector);
    let mut wrong = sections(text, home, all);
    match path.rsplit_once('.').map_or("", |(_, ending)| ending) {
        "rs" => {
            wrong.extend(named(&comments(text, "//"), all));
            wrong.extend(named_by_tests(text, all));
        }
        "wit" | "c" => wrong.extend(named(&comments(text, "//"), all)),
        "json" if vector.is_some() => wrong.extend(sections_of_vectors(text, all)),
        "toml" | "tsv" | "py" | "sh" => wrong.extend(named(&comments(text, "#"), all)),
        // The specification has other names of this form: its endpoints are E1 to E4.
        "md" if home != Some(SPECIFIED) => wrong.extend(named(&prose(text, false), all)),
        _ => {}
    }
    wrong.into_iter().map(|(line, fault)| format!("{path}:{line}: {fault}")).collect()
}

#[test]
fn every_section_attack_guard_and_scenario_that_is_named_has_its_paragraph() {
    let texts = texts();
    let all = known(&texts);
    assert!(all.sections.values().all(|numbers| numbers.len() >= 4) && all.attacks.len() > 50, "{all:?}");
    let read = texts.iter().filter(|(path, _)| !path.starts_with(OWN));
    let wrong: Vec<String> = read.flat_map(|(path, text)| faults(path, text, &all)).collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn the_groups_of_attacks_that_the_promises_name_exist() {
    let texts = texts();
    let all = known(&texts);
    let lists = texts["SECURITY.md"].split('(').skip(1).filter_map(|rest| rest.split_once(')')).map(|(list, _)| list);
    let lists: Vec<Vec<&str>> = lists.map(|list| list.split(',').map(str::trim).collect()).collect();
    let lists: Vec<&Vec<&str>> = lists.iter().filter(|list| list.iter().all(|id| is_attack(id))).collect();
    assert!(lists.len() > 5, "{lists:?}");
    let wrong: Vec<String> = lists.into_iter().flatten().filter_map(|id| all.attack(id)).collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn every_link_and_every_path_in_a_document_leads_somewhere() {
    let (root, texts) = (root(), texts());
    let documents: Vec<&String> = texts.keys().filter(|path| path.ends_with(".md")).collect();
    assert!(documents.len() > 8, "{documents:?}");
    let mut wrong = Vec::new();
    for path in documents {
        let mut bad = broken(path, &texts, &|to| root.join(to).exists());
        // What changed once may be gone since.
        if path != "CHANGELOG.md" {
            let gone = paths(&texts[path]).into_iter().filter(|(_, named)| !root.join(named).exists());
            bad.extend(gone.map(|(line, named)| (line, format!("there is no {named}"))));
        }
        wrong.extend(bad.into_iter().map(|(line, fault)| format!("{path}:{line}: {fault}")));
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

const SPECIFICATION: &str = "# VERIFY\n## 1. Lines\n### 1.1 Grammar\n## 2. The server\n";
const INVARIANTS: &str = "# Invariants\n## 1. Sender\n### 1.1 One\n## 5. Attacks\n| A1 | twice | gone |\n| O | shown | §1.1 |\n**Guard B** is it.\n| **Scenario 2** | mark |\n";

fn sample() -> Paragraphs {
    Paragraphs::of(&[("SPECIFICATION", SPECIFICATION), ("INVARIANTS", INVARIANTS)])
}

#[test]
fn a_reference_that_dangles_is_found() {
    for (path, text) in [
        ("x.rs", "//! Lines (SPECIFICATION §3)."),
        ("x.rs", "//! Lines (SPECIFICATION §1 and §7)."),
        ("x.rs", "/// Lines (SPECIFICATION\n/// §1.2)."),
        ("x.rs", "/// The server (VERIFY §2)."),
        ("x.rs", "/// The six (invariants §1)."),
        ("x.rs", "/// As §1 has it."),
        ("x.rs", "/// RFC 5321 §4.1 beside INVARIANTS §9"),
        ("x.json", "{\"section\": \"SPECIFICATION §4\"}"),
        ("x.rs", "// Keys leak (attack A2)."),
        ("x.rs", "//! A11: no log line"),
        ("x.rs", "let x = 1; // as attack B does"),
        ("x.rs", "/// Goes (guard C)."),
        ("x.rs", "/// Shown (scenario 7)."),
        ("x.rs", "async fn a1_a3_no_key_passes() {}"),
        ("x.rs", "    fn scenario_4_refuses() {}"),
        ("x.tsv", "# scenario 5 of them"),
        ("x.md", "An attack (K6) on it."),
        ("SPECIFICATION.md", "As §1.3 has it."),
        ("tests/vectors/README.md", "As §1.3 has it."),
        ("tests/vectors/as.json", "    {\"name\": \"x\", \"section\": \"1.3\"}"),
        ("INVARIANTS.md", "As §2 has it."),
    ] {
        assert_eq!(faults(path, text, &sample()).len(), 1, "{path}: {text}");
    }
}

#[test]
fn a_reference_that_leads_somewhere_is_no_fault_and_neither_is_what_only_looks_like_one() {
    for (path, text) in [
        ("x.rs", "//! Lines (SPECIFICATION §1 and §1.1), INVARIANTS §1.1."),
        ("x.rs", "/// (RFC 5321\n/// §4.5.3.1.10). (RFC 6891 §7, §6.1.3). DER (X.690 §8)."),
        ("x.rs", "//! Attacks A and O, A1; guard B, Guard B; scenario 2."),
        ("x.rs", "const H1: &str = \"A7\"; // the scenario of a guard"),
        ("x.rs", "fn h1_is_a_proof() { let c = \"=C3=9C scenario 9\"; }"),
        ("x.rs", "fn a1_to_a1_and_run_scenario_2_marks() {}"),
        ("tests/vectors/as.json", "{\"name\": \"x\",\n \"section\": \"1.1\"}"),
        ("SPECIFICATION.md", "As §1.1 has it; E1 to E4; RFC 4648 §5; INVARIANTS §5."),
        ("x.md", "As SPECIFICATION §2 and `A7` have it.\n```\nscenario 9\n```\n"),
    ] {
        assert_eq!(faults(path, text, &sample()), Vec::<String>::new(), "{path}: {text}");
    }
}
