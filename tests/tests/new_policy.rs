//! `addrauth policy new`: each language's folder is written whole, passes its cases, and is built where a compiler is.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use addrauth_tests::daemon::binary;

/// All that is written for each language, for a policy called ours; the SDK's sources are counted by their own test.
const FILES: [(&str, &[&str]); 5] = [
    ("rules", &["README.md", "cases.toml", "ours.toml"]),
    (
        "rust",
        &[
            ".gitignore",
            "Cargo.toml",
            "README.md",
            "cases.toml",
            "sdk/Cargo.toml",
            "sdk/README.md",
            "sdk/src/arena.rs",
            "sdk/src/decision.rs",
            "sdk/src/description.rs",
            "sdk/src/facts.rs",
            "sdk/src/lib.rs",
            "sdk/src/settings.rs",
            "sdk/src/tests.rs",
            "sdk/src/wanted.rs",
            "sdk/wit/policy.wit",
            "src/lib.rs",
        ],
    ),
    ("c", &[".gitignore", "README.md", "cases.toml", "policy.c", "sdk/addrauth.c", "sdk/addrauth.h", "sdk/policy.wit"]),
    ("js", &[".gitignore", "README.md", "cases.toml", "package.json", "policy.js", "sdk/policy.wit"]),
    ("python", &[".gitignore", "README.md", "cases.toml", "policy.py", "requirements.txt", "sdk/policy.wit"]),
];

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// Runs `addrauth` in a folder: its exit code, standard output and standard error.
fn addrauth(dir: &Path, words: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(binary());
    let Output { status, stdout, stderr } = command.args(words).current_dir(dir).stdin(Stdio::null()).output().unwrap();
    let text = |octets| String::from_utf8(octets).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

fn new(dir: &Path, name: &str, lang: &str) {
    let (code, out, err) = addrauth(dir, &["policy", "new", name, "--lang", lang]);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
}

/// The files below a folder, by their paths in it.
fn files(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push(path.strip_prefix(dir).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

/// What `policy build` says where the compiler is missing: the test cannot go on, and says why.
fn built(dir: &Path, name: &str) -> bool {
    let (code, out, err) = addrauth(dir, &["policy", "build", name]);
    if code == 2 && err.contains("no compiler for") {
        assert!(std::env::var_os("ADDRAUTH_LONG").is_none(), "{err}");
        eprintln!("not built: {}", err.trim());
        return false;
    }
    assert_eq!(code, 0, "{out}{err}");
    true
}

fn passes_its_cases(dir: &Path, name: &str, cases: usize) {
    let (code, out, err) = addrauth(dir, &["policy", "test", name]);
    assert!(code == 0 && out.ends_with(&format!("{cases} passed, 0 failed\n")), "{out}{err}");
}

#[test]
fn each_language_has_its_files_and_json_names_them_all() {
    for (lang, listed) in FILES {
        let dir = tempfile::tempdir().unwrap();
        let (code, out, err) = addrauth(dir.path(), &["--json", "policy", "new", "ours", "--lang", lang]);
        assert_eq!((code, err.as_str()), (0, ""), "{lang}");
        assert_eq!(files(&dir.path().join("ours")), listed, "{lang}");
        let told: serde_json::Value = serde_json::from_str(&out).unwrap();
        let mut named: Vec<&str> =
            told["files"].as_array().unwrap().iter().map(|file| file.as_str().unwrap()).collect();
        named.sort_unstable();
        assert_eq!(named, listed, "{lang}");
        assert_eq!((&told["policy"], &told["lang"]), (&"ours".into(), &lang.into()));
        assert_eq!(told["next"].as_array().unwrap().len(), 3, "{told}");
    }
}

#[test]
fn rules_pass_their_cases_at_once_and_a_changed_text_fails_them() {
    let dir = tempfile::tempdir().unwrap();
    let (code, out, _) = addrauth(dir.path(), &["policy", "new", "ours", "--lang", "rules"]);
    assert!(code == 0 && out.contains("addrauth policy test ours") && out.contains("systemctl reload"), "{out}");
    passes_its_cases(dir.path(), "ours", 9);
    // By its path, and where one stands in it.
    passes_its_cases(&dir.path().join("ours"), ".", 9);
    let file = dir.path().join("ours/ours.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let (changed, broken) =
        (text.replace("quarantine 'no", "mark 'no"), text.replace("result is missing", "result is mising"));
    std::fs::write(&file, &changed).unwrap();
    let (code, out, _) = addrauth(dir.path(), &["policy", "test", "ours"]);
    assert!(code == 1 && changed != text && out.contains("8 passed, 1 failed"), "{out}");
    std::fs::write(&file, broken).unwrap();
    let (code, out, _) = addrauth(dir.path(), &["policy", "test", "ours"]);
    assert!(code == 1 && out.contains("line 2, column 16") && out.contains("did you mean `missing`?"), "{out}");
    std::fs::write(&file, text.replace("[policies.ours]", "[policies.other]")).unwrap();
    let (code, _, err) = addrauth(dir.path(), &["policy", "test", "ours"]);
    assert!(code == 2 && err.contains("no [policies.ours]"), "{err}");
}

#[test]
fn the_text_of_rules_is_taken_by_a_configuration_as_its_readme_says() {
    let dir = tempfile::tempdir().unwrap();
    new(dir.path(), "ours", "rules");
    let text = std::fs::read_to_string(dir.path().join("ours/ours.toml")).unwrap();
    let bound = "[policy]\ninvalid = \"ours\"\nmissing = \"ours\"\n";
    assert!(bound.lines().all(|line| text.contains(line)), "{text}");
    let config = dir.path().join("addrauth.toml");
    std::fs::write(&config, format!("state_dir = {:?}\n{bound}\n{text}", dir.path())).unwrap();
    let (code, out, err) =
        addrauth(dir.path(), &["--config", config.to_str().unwrap(), "config", "explain", "bob@ours.example"]);
    assert!(code == 0 && out.contains("ours"), "{out}{err}");
}

#[test]
fn rules_have_nothing_to_build() {
    let dir = tempfile::tempdir().unwrap();
    new(dir.path(), "ours", "rules");
    for words in [&["policy", "build", "ours"][..], &["policy", "build", "--check", "ours"]] {
        let (code, out, err) = addrauth(dir.path(), words);
        assert!(code == 0 && out.contains("nothing to build"), "{out}{err}");
    }
    assert_eq!(files(&dir.path().join("ours")).len(), 3);
}

#[test]
fn the_sdk_beside_a_policy_in_rust_is_the_one_that_the_shipped_policies_are_built_with() {
    let dir = tempfile::tempdir().unwrap();
    new(dir.path(), "ours", "rust");
    let sdk = dir.path().join("ours/sdk");
    let mut compared = 0;
    for name in files(&sdk) {
        // Its manifest says the same without a workspace: the program's own test compares.
        if name == "Cargo.toml" {
            continue;
        }
        let original = std::fs::read(root().join("guest").join(&name)).unwrap();
        assert!(std::fs::read(sdk.join(&name)).unwrap() == original, "{name}");
        compared += 1;
    }
    assert_eq!(compared, 10);
}

#[test]
fn a_policy_in_rust_is_built_and_passes_its_cases_outside_of_these_sources() {
    if std::env::var_os("ADDRAUTH_LONG").is_none() {
        eprintln!("not built: it takes minutes where the standard library is built too; ADDRAUTH_LONG=1 does it");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    new(dir.path(), "ours", "rust");
    if !built(dir.path(), "ours") {
        return;
    }
    passes_its_cases(dir.path(), "ours", 11);
    let (code, out, err) = addrauth(dir.path(), &["policy", "check", "ours"]);
    assert!(code == 0 && out.contains("no imports") && out.contains("sender, trail"), "{out}{err}");
    let (code, out, err) = addrauth(dir.path(), &["policy", "build", "--check", "ours"]);
    assert!(code == 0 && out.contains("the same bytes"), "{out}{err}");
    // All that was made is in its own folder.
    let beside: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(beside, ["ours"]);
}

#[test]
fn a_policy_in_c_is_built_and_passes_the_cases_of_the_one_in_rust() {
    let dir = tempfile::tempdir().unwrap();
    new(dir.path(), "ours", "c");
    let contract = std::fs::read(dir.path().join("ours/sdk/policy.wit")).unwrap();
    assert!(contract == std::fs::read(root().join("wit/policy.wit")).unwrap());
    if !built(dir.path(), "ours") {
        return;
    }
    passes_its_cases(dir.path(), "ours", 11);
    let (code, out, err) = addrauth(dir.path(), &["policy", "check", "ours"]);
    assert!(code == 0 && out.contains("no imports") && out.contains("sender, trail"), "{out}{err}");
    let octets = std::fs::read(dir.path().join("ours/ours.wasm")).unwrap();
    assert!(octets.len() < 16_384, "{}", octets.len());
    let (code, out, err) = addrauth(dir.path(), &["policy", "build", "--check", "ours"]);
    assert!(code == 0 && out.contains("the same bytes"), "{out}{err}");
    // What the same policy as text decides.
    new(dir.path(), "text", "rules");
    let (code, out, err) = addrauth(dir.path(), &["policy", "prove", "equivalent", "ours", "text"]);
    assert!(code == 0 && out.contains("holds"), "{out}{err}");
    // A source that does not compile is an error, and the component stays.
    std::fs::write(dir.path().join("ours/more.c"), "int x = ;").unwrap();
    let (code, _, err) = addrauth(dir.path(), &["policy", "build", "ours"]);
    assert!(code == 2 && err.contains("failed"), "{err}");
    assert!(std::fs::read(dir.path().join("ours/ours.wasm")).unwrap() == octets);
}

#[test]
fn languages_whose_tool_is_missing_say_in_one_line_how_it_is_had() {
    for (lang, install) in
        [("js", "npm --prefix ours install"), ("python", "ours/.venv/bin/pip install -r ours/requirements.txt")]
    {
        let dir = tempfile::tempdir().unwrap();
        let (code, out, _) = addrauth(dir.path(), &["policy", "new", "ours", "--lang", lang]);
        assert!(code == 0 && out.contains(install) && out.contains("addrauth policy test ours"), "{out}");
        assert_eq!(out.contains("size = \"large\""), lang == "python", "{out}");
        let readme = std::fs::read_to_string(dir.path().join("ours/README.md")).unwrap();
        assert_eq!(readme.contains("[policies.ours]\nsize = \"large\"\n"), lang == "python", "{readme}");
        let mut command = Command::new(binary());
        command.args(["policy", "build", "ours"]).current_dir(dir.path()).env("PATH", dir.path()).stdin(Stdio::null());
        let said = command.output().unwrap();
        let err = String::from_utf8(said.stderr).unwrap();
        assert!(said.status.code() == Some(2) && err.contains(install) && err.lines().count() == 1, "{err}");
    }
}

#[test]
fn without_a_compiler_the_ways_to_get_one_are_told_in_one_message() {
    let dir = tempfile::tempdir().unwrap();
    new(dir.path(), "ours", "c");
    let mut command = Command::new(binary());
    command.args(["policy", "build", "ours"]).current_dir(dir.path()).env("PATH", dir.path()).stdin(Stdio::null());
    let said = command.output().unwrap();
    let err = String::from_utf8(said.stderr).unwrap();
    assert!(said.status.code() == Some(2) && err.contains("ours/.venv/bin/pip install ziglang"), "{err}");
    assert!(err.contains("apt-get install clang lld") && err.lines().count() == 1, "{err}");
}

#[test]
fn a_name_that_is_no_id_or_ships_is_refused_and_nothing_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let long = "x".repeat(65);
    for name in ["Ours", "our_s", "ours.wasm", "über", "..", "a b", "", &long, "mark", "rules"] {
        let (code, out, err) = addrauth(dir.path(), &["policy", "new", name, "--lang", "rules"]);
        assert!(code == 2 && out.is_empty() && !err.is_empty(), "{name:?}: {code} {out}{err}");
        assert_eq!(files(dir.path()), Vec::<String>::new(), "{name:?}");
    }
    let (_, _, err) = addrauth(dir.path(), &["policy", "new", "Ours", "--lang", "rust"]);
    assert!(err.contains("write a-z, 0-9 and - alone"), "{err}");
    let (_, _, err) = addrauth(dir.path(), &["policy", "new", "mark", "--lang", "rust"]);
    assert!(err.contains("choose another name"), "{err}");
    let (code, _, err) = addrauth(dir.path(), &["policy", "new", "ours", "--lang", "cobol"]);
    assert!(code == 2 && err.contains("possible values: rules, rust, c, js, python"), "{err}");
}

#[test]
fn a_folder_that_is_there_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("ours")).unwrap();
    std::fs::write(dir.path().join("file"), "mine").unwrap();
    for name in ["ours", "file"] {
        let (code, out, err) = addrauth(dir.path(), &["policy", "new", name, "--lang", "rules"]);
        assert!(code == 2 && out.is_empty() && err.contains("is there already"), "{err}");
    }
    assert_eq!(files(dir.path()), ["file"]);
    assert_eq!(std::fs::read_to_string(dir.path().join("file")).unwrap(), "mine");
}

#[test]
fn a_place_that_cannot_be_written_is_told_with_the_way_out() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("file"), "").unwrap();
    for name in ["file/ours", "nowhere/ours"] {
        let (code, out, err) = addrauth(dir.path(), &["policy", "new", name, "--lang", "rules"]);
        assert!(code == 2 && out.is_empty() && err.contains(name) && err.contains("can be written"), "{err}");
    }
    assert_eq!(files(dir.path()), ["file"]);
    // A path whose last part is the id.
    std::fs::create_dir(dir.path().join("policies")).unwrap();
    new(dir.path(), "policies/ours", "rules");
    passes_its_cases(dir.path(), "policies/ours", 9);
}
