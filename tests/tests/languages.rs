//! The policy that `policy new` begins, in each of its languages: the components decide alike, a filter takes them, and what each costs.
//! Rust needs a compiler that may take minutes to be ready, JavaScript and Python need npm and PyPI: `ADDRAUTH_LONG=1` has them built.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use addrauth::case::{Disposition, Envelope, Field, Found, Head, KeyStatus, Mail, Recipient, Why};
use addrauth::config::{Config, Limits};
use addrauth::policy::{Policies, Trial};
use addrauth_tests::daemon::binary;

/// The languages, and the commands that get their tools into the folder.
const LANGUAGES: [(&str, &[&[&str]]); 5] = [
    ("rules", &[]),
    ("c", &[]),
    ("rust", &[]),
    ("js", &[&["npm", "--prefix", "in-js", "install", "--silent"]]),
    (
        "python",
        &[
            &["python3", "-m", "venv", "in-python/.venv"],
            &[
                "in-python/.venv/bin/pip",
                "install",
                "-q",
                "--disable-pip-version-check",
                "-r",
                "in-python/requirements.txt",
            ],
        ],
    ),
];

/// The folder of a language: the name of one alone may be that of a policy which ships.
fn named(lang: &str) -> String {
    format!("in-{lang}")
}

fn is_long() -> bool {
    std::env::var_os("ADDRAUTH_LONG").is_some()
}

fn command(dir: &Path, program: impl AsRef<std::ffi::OsStr>, words: &[&str]) -> (i32, String, String) {
    let said = Command::new(program).args(words).current_dir(dir).stdin(Stdio::null()).output().unwrap();
    let text = |octets| String::from_utf8(octets).unwrap();
    (said.status.code().unwrap_or(-1), text(said.stdout), text(said.stderr))
}

fn addrauth(dir: &Path, words: &[&str]) -> String {
    let (code, out, err) = command(dir, binary(), words);
    assert_eq!(code, 0, "{words:?}: {out}{err}");
    out
}

/// Makes the policy; false where its compiler is not there, and this is no long run.
fn made(dir: &Path, lang: &str, install: &[&[&str]]) -> bool {
    let name = named(lang);
    addrauth(dir, &["policy", "new", &name, "--lang", lang]);
    for words in install {
        // A tool of the folder is named by its path from here.
        let program = dir.join(words[0]);
        let program = if program.exists() { program } else { words[0].into() };
        let (code, out, err) = command(dir, program, &words[1..]);
        assert_eq!(code, 0, "{words:?}: {out}{err}");
    }
    let (code, out, err) = command(dir, binary(), &["policy", "build", &name]);
    if code == 2 && err.contains("no compiler for") && !is_long() {
        eprintln!("not built: {}", err.trim());
        return false;
    }
    assert_eq!(code, 0, "{out}{err}");
    assert_eq!(err.contains("needs size = \"large\""), lang == "python", "{err}");
    true
}

/// The tools of a language that takes long to get are asked for in a long run alone.
fn languages(dir: &Path) -> Vec<&'static str> {
    let wanted = LANGUAGES.iter().filter(|(lang, _)| is_long() || matches!(*lang, "rules" | "c"));
    wanted.filter(|(lang, install)| made(dir, lang, install)).map(|(lang, _)| *lang).collect()
}

/// A row of the table: octets, milliseconds to load, microseconds of a decision, MiB.
fn row(dir: &Path, lang: &str) -> String {
    let (code, out, err) = command(dir, binary(), &["--json", "policy", "bench", &named(lang)]);
    // A decision may take longer than its limit where the machine does much else: that is told, and nothing to fail by.
    let told: serde_json::Value = serde_json::from_str(&out).unwrap_or_else(|_| panic!("{code}: {out}{err}"));
    let number = |key: &str| told[key].as_f64().unwrap();
    format!(
        "| {lang} | {} | {} | {:.0} | {:.1} | {:.1} | {:.1} |",
        told["size"].as_str().unwrap(),
        told["octets"],
        number("load_ms"),
        number("median_us"),
        number("p99_us"),
        number("memory_octets") / f64::from(1 << 20)
    )
}

fn mail(from: &str) -> Mail {
    let from = Field { name: "From".into(), value: format!(" {from}").into_bytes() };
    let envelope = Envelope { recipients: vec![Recipient::new(b"<bob@ours.example>")], ..Envelope::default() };
    Mail::new(envelope, Head { fields: vec![from], keys: vec![None], ..Head::default() })
}

/// A configuration with every policy: the first is bound, the others are there.
fn config(dir: &Path, languages: &[&str]) -> String {
    let built = languages.iter().filter(|lang| **lang != "rules");
    let mut text = format!("state_dir = {:?}\n[policy]\ndir = {:?}\n", dir.join("state"), dir.join("shelf"));
    std::fs::create_dir_all(dir.join("shelf")).unwrap();
    for lang in built {
        std::fs::copy(dir.join(named(lang)).join(format!("in-{lang}.wasm")), dir.join(format!("shelf/in-{lang}.wasm")))
            .unwrap();
        let size = if *lang == "python" { "large" } else { "small" };
        text += &format!("[policies.in-{lang}]\nsize = \"{size}\"\nsettings.protected = [\"@bank.example\"]\n");
    }
    text
}

/// A filter's own load, with the trial by the program, and a decision of each policy on one message.
fn decided(text: &str, languages: &[&str]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let limits = Arc::new(Limits::default().with(|limits| {
        // On a machine that does much else, and by a program that is not optimised.
        limits.policy.time = Duration::from_secs(5);
        limits.policy.other.time = Duration::from_secs(5);
        limits.policy.compile = Duration::from_secs(600);
        limits.policy.other.compile = Duration::from_secs(1_200);
    }));
    let trial = Trial::by(binary(), ["try-component"]).with("MIMALLOC_ARENA_RESERVE", "0");
    for lang in languages.iter().filter(|lang| **lang != "rules") {
        let text = text.replace("[policy]\n", &format!("[policy]\ninvalid = \"in-{lang}\"\n"));
        let mut config = Config::parse(&text, Path::new("x.toml")).unwrap();
        config.policies.retain(|id, _| id == &format!("in-{lang}"));
        let begin = Instant::now();
        let policies = Policies::load(&config.policy, &config.policies, &limits, &trial).unwrap();
        println!("{lang}: a filter has it after {:.1} s", begin.elapsed().as_secs_f64());
        let mail = mail("alice@bank.example");
        let found = Found::bare(KeyStatus::Invalid, Some(Why::Wrong), mail.sender().ok().cloned());
        for _ in 0..100 {
            let decisions = runtime.block_on(policies.decide(&mail, &found, &[]));
            let [decision] = decisions.as_slice() else { panic!("{decisions:?}") };
            let told = (decision.disposition, decision.notify.recipient, decision.fault.as_deref());
            assert_eq!(told, (Disposition::Reject, true, None), "{lang}");
            assert_eq!(decision.reason, "a wrong key in a protected name", "{lang}");
        }
    }
}

#[test]
fn the_same_policy_in_each_language_decides_alike_and_a_filter_takes_it() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let languages = languages(dir);
    if languages.len() < 2 {
        eprintln!("skipped: there is no compiler but for text, and nothing to compare it with");
        return;
    }
    for lang in &languages {
        let passed = addrauth(dir, &["policy", "test", &named(lang)]);
        assert!(
            passed.ends_with(if *lang == "rules" { "9 passed, 0 failed\n" } else { "11 passed, 0 failed\n" }),
            "{passed}"
        );
        let same = addrauth(dir, &["policy", "prove", "equivalent", &named(lang), "in-rules"]);
        // Of a text all is known; of a component its samples.
        assert!(same.contains(if *lang == "rules" { "proved" } else { "holds" }), "{lang}: {same}");
        let diff = addrauth(dir, &["policy", "diff", "in-rules", &named(lang)]);
        let same = ["nothing changes", "no change was found"].iter().any(|words| diff.contains(words));
        assert!(same, "{lang}: {diff}");
    }
    let text = config(dir, &languages);
    std::fs::write(dir.join("addrauth.toml"), &text).unwrap();
    addrauth(dir, &["--config", "addrauth.toml", "config", "check"]);
    decided(&text, &languages);
    if languages.contains(&"python") {
        let refused = text.replace("size = \"large\"", "size = \"small\"");
        std::fs::write(dir.join("addrauth.toml"), refused).unwrap();
        let (code, out, err) = command(dir, binary(), &["--config", "addrauth.toml", "config", "check"]);
        assert!(code != 0 && format!("{out}{err}").contains("size = \"large\" into its [policies.ID]"), "{out}{err}");
    }
    println!(
        "| language | class | octets | ms to load | us p50 | us p99 | MiB |\n| --- | --- | --- | --- | --- | --- | --- |"
    );
    languages.iter().for_each(|lang| println!("{}", row(dir, lang)));
}
