//! A standard output that is full ends each verb with exit code 2, and says so.

use std::fs;
use std::process::Stdio;

use crate::bed::Bed;

#[tokio::test]
async fn a_full_standard_output_is_never_success() {
    let bed = Bed::new();
    let mut filter = bed.filter();
    bed.until_it_listens();
    bed.send("4W1").await;
    filter.signal("TERM");
    filter.end();
    let domains = "[authority]\ndomains = [\"home.example\"]\nlisten = [\"192.0.2.1:4410\"]\n";
    bed.write(&format!("{}{domains}", bed.text()));
    for words in ["key issue alice@home.example", "address add alice@home.example", "keyring key"] {
        let (code, out, err) = bed.run(&words.split(' ').collect::<Vec<_>>());
        assert_eq!(code, Some(0), "{words}: {out}{err}");
    }
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../policies/mark");
    let (folder, component) = (root.display().to_string(), root.join("mark.wasm").display().to_string());
    let verbs = [
        "--help",
        "--version",
        "help filter",
        "config check",
        "config show",
        "config show --changed",
        "config explain bob@home.example",
        "journal list",
        "journal summary",
        "journal show 1",
        "why 4W1",
        "quarantine list",
        "quarantine show 1",
        "quarantine show 1 --raw",
        "user show bob@home.example",
        "user set bob@home.example invalid=mark",
        "user list",
        "record home.example",
        "key show alice@home.example",
        "address list",
        "keyring key",
        "keyring list",
        "report home.example",
        "store status",
        &format!("policy check {component}"),
        &format!("policy test {folder}"),
    ];
    let mut wrong = Vec::new();
    for words in verbs {
        for json in [false, true] {
            let mut verb: Vec<&str> = words.split(' ').collect();
            if json {
                verb.push("--json");
            }
            // Only what says something at all can fail.
            let (usual, out, _) = bed.run(&verb);
            if out.is_empty() {
                continue;
            }
            let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
            let told = bed.command(&verb).stdout(full).stderr(Stdio::piped()).output().unwrap();
            let err = String::from_utf8_lossy(&told.stderr).into_owned();
            if told.status.code() != Some(2) || !err.contains("No space left") || err.contains("panicked") {
                wrong.push(format!("{verb:?} (usually {usual:?}): {} {err}", told.status));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_reader_that_went_away_ends_a_verb_quietly() {
    let bed = Bed::new();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let told = bed.command(&["config", "show"]).stdout(writer).stderr(Stdio::piped()).output().unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&told.status), Some(13), "{told:?}");
    assert!(told.stderr.is_empty(), "{told:?}");
}
