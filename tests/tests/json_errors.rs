//! What a verb prints with `--json` where it cannot be carried out: an object with the error, beside the words on standard error.

use std::fs;
use std::process::{Command, Stdio};

use addrauth_tests::daemon::binary;

/// A verb, and its exit code.
const VERBS: &[(&str, i32)] = &[
    ("config check", 1),
    ("config show", 1),
    ("journal list", 2),
    ("journal summary", 2),
    ("journal show 1", 2),
    ("policy table ours", 2),
    ("policy table nothing-of-that-name", 2),
    ("policy prove ours", 2),
    ("policy run ours mail.eml", 2),
    ("policy test nothing-of-that-name", 2),
    ("policy diff mark ours", 2),
    ("policy replay mark", 2),
    ("policy pin --all", 2),
    ("policy promote ours", 2),
    ("policy rollback ours", 2),
    ("policy verify ours", 2),
    ("user show bob@home.example", 2),
    ("user rules bob@home.example rules.txt", 2),
    ("user allow bob@home.example alice@b.example", 2),
    ("quarantine list", 2),
    ("record sender.example", 2),
    ("ask alice@sender.example --key-file nowhere", 2),
    ("report sender.example", 2),
    ("address list", 2),
    ("keyring list", 2),
    ("key show alice@sender.example", 2),
    ("why 1", 2),
    ("store status", 2),
    ("hooks list", 2),
];

#[test]
fn each_verb_that_is_not_carried_out_says_so_in_json_too() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("addrauth.toml"), "final_domains = [\"home.example\"\n").unwrap();
    fs::write(dir.path().join("mail.eml"), "From: a@b.example\n\nx\n").unwrap();
    let mut wrong = Vec::new();
    for (words, code) in VERBS {
        let mut command = Command::new(binary());
        command.current_dir(dir.path()).args(["-c", "addrauth.toml", "--json"]).args(words.split(' '));
        let out = command.stdin(Stdio::null()).output().unwrap();
        let (said, told) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
        let json: serde_json::Value = serde_json::from_str(&said).unwrap_or_default();
        let error = json["error"].as_str().unwrap_or_default();
        if json["ok"] != false || error.is_empty() || !told.contains(error.lines().next().unwrap_or_default()) {
            wrong.push(format!("{words}: {said} {told}"));
        }
        if out.status.code() != Some(*code) {
            wrong.push(format!("{words}: {:?}, {code} expected: {told}", out.status.code()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
