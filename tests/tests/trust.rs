//! Components pinned and signed, by the verbs as somebody types them, by minisign's own tool, and before the daemon.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use addrauth::policy::trust::floor;
use addrauth_tests::daemon::{Daemon, binary, component};
use minisign::{KeyPair, SecretKeyBox, sign};

/// How long a daemon on a busy machine may take to say something.
const PATIENCE: Duration = Duration::from_secs(120);

/// The component `mark` that calls itself this version.
fn mark(version: &str) -> Vec<u8> {
    let mut octets = component("mark");
    let places: Vec<usize> = (0..octets.len() - 5).filter(|at| &octets[*at..*at + 5] == b"0.1.0").collect();
    assert!(!places.is_empty() && version.len() == 5);
    places.into_iter().for_each(|at| octets[at..at + 5].copy_from_slice(version.as_bytes()));
    octets
}

/// A configuration, a directory of components, and a key.
struct Site(tempfile::TempDir);

impl Site {
    fn new() -> Site {
        let site = Site(tempfile::tempdir().unwrap());
        fs::create_dir(site.path("policies")).unwrap();
        fs::create_dir(site.path("new")).unwrap();
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    fn put(&self, name: &str, octets: &[u8]) {
        fs::write(self.path(name), octets).unwrap();
    }

    /// Exit code and words of `addrauth -c addrauth.toml …`.
    fn says(&self, words: &[&str]) -> (i32, String) {
        let mut command = Command::new(binary());
        command.current_dir(self.0.path()).args(["-c", "addrauth.toml"]).args(words).stdin(Stdio::null());
        let out = command.env("COLUMNS", "200").output().unwrap();
        let said = String::from_utf8(out.stdout).unwrap() + &String::from_utf8(out.stderr).unwrap();
        (out.status.code().unwrap(), said)
    }

    /// The same, where the exit code is this one.
    fn must(&self, code: i32, words: &[&str]) -> String {
        let (found, said) = self.says(words);
        assert_eq!(found, code, "{words:?}: {said}");
        said
    }

    /// A key without a password, by the program; its public half.
    fn key(&self) -> String {
        self.must(0, &["policy", "keygen", "ours.key", "--no-password"]);
        self.read("ours.key.pub").lines().nth(1).unwrap().to_owned()
    }

    fn configure(&self, policy: &str) {
        let text = format!(
            "hostname = \"mx.home.example\"\nfinal_domains = [\"home.example\"]\nstate_dir = {:?}\n[milter]\n\
             listen = [\"inet:127.0.0.1:0\"]\n[policy]\ndir = {:?}\ninvalid = \"strict\"\n{policy}",
            self.path("state"),
            self.path("policies")
        );
        self.put("addrauth.toml", text.as_bytes());
    }

    /// `new/VERSION/strict.wasm` of this version, signed by `ours.key`.
    fn make(&self, version: &str) {
        fs::create_dir(self.path(&format!("new/{version}"))).unwrap();
        let file = format!("new/{version}/strict.wasm");
        self.put(&file, &mark(version));
        self.must(0, &["policy", "sign", &file, "--key", "ours.key"]);
    }

    /// Puts one of its two files into force's place, whole.
    fn install(&self, version: &str, name: &str) {
        fs::copy(self.path(&format!("new/{version}/{name}")), self.path("arriving")).unwrap();
        fs::rename(self.path("arriving"), self.path(&format!("policies/{name}"))).unwrap();
    }

    fn install_both(&self, version: &str) {
        self.install(version, "strict.wasm");
        self.install(version, "strict.wasm.minisig");
    }
}

/// minisign's own tool; none where it is not installed.
fn minisign(dir: &Path, words: &[&str]) -> Option<bool> {
    let ran = Command::new("minisign").args(words).current_dir(dir).stdin(Stdio::null()).output();
    match ran {
        Ok(out) => Some(out.status.success()),
        Err(_) => {
            println!("skipped: minisign is not installed");
            None
        }
    }
}

fn until_said(daemon: &Daemon, beyond: u64, words: &str) {
    let begin = Instant::now();
    while !daemon.log_beyond(beyond).contains(words) {
        assert!(begin.elapsed() < PATIENCE, "{words}: {}", daemon.log_beyond(beyond));
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Reloads, and waits for what it comes to.
fn reload(daemon: &Daemon, words: &str) {
    let beyond = daemon.log_length();
    daemon.signal("HUP");
    until_said(daemon, beyond, words);
}

#[test]
fn a_component_is_signed_by_a_new_key_and_verified() {
    let site = Site::new();
    site.put("addrauth.toml", b"");
    let key = site.key();
    assert_eq!(fs::metadata(site.path("ours.key")).unwrap().permissions().mode() & 0o777, 0o600);
    site.put("mine.wasm", &mark("1.2.3"));
    let said = site.must(0, &["policy", "sign", "mine.wasm", "--key", "ours.key", "--version", "1.2.3"]);
    assert!(said.contains("policy mine, version 1.2.3") && said.contains(&key), "{said}");
    assert_eq!(
        site.read("mine.wasm.minisig").lines().nth(2).unwrap(),
        "trusted comment: addrauth policy=mine version=1.2.3"
    );
    let said = site.must(0, &["policy", "verify", "mine.wasm", "--key", "ours.key.pub"]);
    assert!(said.starts_with("good") && said.contains(&key), "{said}");
    site.must(0, &["--json", "policy", "verify", "mine.wasm", "--key", &key]);
    // Nobody is trusted; another key; a changed component; no signature; nothing there.
    assert!(site.must(2, &["policy", "verify", "mine.wasm"]).contains("policy.trusted_keys"));
    site.must(0, &["policy", "keygen", "other.key", "--no-password"]);
    assert!(site.must(1, &["policy", "verify", "mine.wasm", "--key", "other.key.pub"]).starts_with("REFUSED"));
    site.put("mine.wasm", &mark("1.2.4"));
    assert!(site.must(1, &["policy", "verify", "mine.wasm", "--key", &key]).contains("does not fit"));
    fs::remove_file(site.path("mine.wasm.minisig")).unwrap();
    assert!(site.must(1, &["policy", "verify", "mine.wasm", "--key", &key]).contains("no signature"));
    site.must(2, &["policy", "verify", "nothing.wasm", "--key", &key]);
    assert!(site.must(0, &["policy", "verify", "accept"]).contains("ships"));
}

#[test]
fn what_cannot_be_signed_is_refused_with_the_reason_and_nothing_is_written() {
    let site = Site::new();
    site.put("addrauth.toml", b"");
    site.key();
    for (file, octets, more, words) in [
        ("mine.wasm", mark("1.2.3"), &["--version", "1.2.4"][..], "--version says 1.2.4"),
        ("mine.wasm", mark("1.2-a"), &[], "no version that can be compared"),
        ("My.wasm", mark("1.2.3"), &[], "no policy id"),
        ("mine.wasm", b"\0asm junk".to_vec(), &[], "mine.wasm"),
    ] {
        site.put(file, &octets);
        let said = site.must(2, &[&["policy", "sign", file, "--key", "ours.key"][..], more].concat());
        assert!(said.contains(words), "{said}");
        assert!(!site.path(&format!("{file}.minisig")).exists());
    }
    assert!(site.must(2, &["policy", "sign", "mark", "--key", "ours.key"]).contains("ships"));
    site.put("mine.wasm", &mark("1.2.3"));
    assert!(site.must(2, &["policy", "sign", "mine.wasm", "--key", "ours.key.pub"]).contains("chmod 600"));
    fs::set_permissions(site.path("ours.key.pub"), fs::Permissions::from_mode(0o600)).unwrap();
    assert!(site.must(2, &["policy", "sign", "mine.wasm", "--key", "ours.key.pub"]).contains("no minisign secret key"));
    assert!(site.must(2, &["policy", "keygen", "ours.key", "--no-password"]).contains("is there already"));
}

#[test]
fn a_password_comes_from_a_file_or_the_terminal_and_from_nowhere_else() {
    let site = Site::new();
    site.put("addrauth.toml", b"");
    for (file, text) in [("right", "correct horse\n"), ("wrong", "battery\n")] {
        site.put(file, text.as_bytes());
        fs::set_permissions(site.path(file), fs::Permissions::from_mode(0o600)).unwrap();
    }
    site.must(0, &["policy", "keygen", "ours.key", "--password-file", "right"]);
    site.put("mine.wasm", &mark("1.2.3"));
    let sign = |more: &[&str]| site.says(&[&["policy", "sign", "mine.wasm", "--key", "ours.key"][..], more].concat());
    let (code, said) = sign(&["--password-file", "wrong"]);
    assert!(code == 2 && said.contains("Wrong password"), "{said}");
    assert!(!site.path("mine.wasm.minisig").exists());
    let (code, said) = sign(&["--password-file", "right"]);
    assert_eq!(code, 0, "{said}");
    site.must(0, &["policy", "verify", "mine.wasm", "--key", "ours.key.pub"]);
    let (code, said) = sign(&["--password", "correct horse"]);
    assert!(code == 2 && said.contains("unexpected argument"), "{said}");
    // In a session without a terminal there is nobody to ask.
    let alone = Command::new("setsid")
        .args(["-w"])
        .arg(binary())
        .args(["policy", "sign", "mine.wasm", "--key", "ours.key"])
        .current_dir(site.0.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&alone.stderr).into_owned();
    assert!(alone.status.code() == Some(2) && said.contains("--password-file"), "{said}");
}

#[test]
fn minisigns_own_tool_and_ours_take_what_the_other_makes() {
    let site = Site::new();
    let dir = site.0.path().to_owned();
    if minisign(&dir, &["-G", "-W", "-f", "-p", "theirs.pub", "-s", "theirs.key"]).is_none() {
        return;
    }
    let theirs = site.read("theirs.pub").lines().nth(1).unwrap().to_owned();
    site.configure(&format!("trusted_keys = [\"{theirs}\"]\nrequire_signature = true\n"));
    site.put("policies/strict.wasm", &mark("1.2.3"));
    assert!(site.must(1, &["config", "check"]).contains("there is no signature"));
    let file = "policies/strict.wasm";
    let comment = "addrauth policy=strict version=1.2.3";
    let sign = |more: &[&str]| {
        assert_eq!(minisign(&dir, &[&["-S", "-W", "-s", "theirs.key", "-m", file][..], more].concat()), Some(true));
    };
    sign(&["-t", comment]);
    site.must(0, &["config", "check"]);
    site.must(0, &["policy", "verify", "strict"]);
    // Other comments, and a true signature of the legacy kind.
    sign(&[]);
    assert!(site.must(1, &["config", "check"]).contains("trusted comment"));
    sign(&["-t", comment, "-c", "by Alice"]);
    assert!(site.must(1, &["config", "check"]).contains("first line"));
    sign(&["-l", "-t", comment]);
    assert_eq!(minisign(&dir, &["-V", "-p", "theirs.pub", "-m", file]), Some(true), "minisign itself takes it");
    assert!(site.must(1, &["config", "check"]).contains("legacy"));
    // Our verb with their key, their tool with our signature and key.
    site.must(0, &["policy", "sign", "strict", "--key", "theirs.key"]);
    site.must(0, &["config", "check"]);
    assert_eq!(minisign(&dir, &["-V", "-p", "theirs.pub", "-m", file]), Some(true));
    site.key();
    site.put("mine.wasm", &mark("1.2.3"));
    assert_eq!(
        minisign(&dir, &["-S", "-W", "-s", "ours.key", "-m", "mine.wasm", "-t", "addrauth policy=mine version=1.2.3"]),
        Some(true)
    );
    assert_eq!(minisign(&dir, &["-V", "-p", "ours.key.pub", "-m", "mine.wasm"]), Some(true));
    site.must(0, &["policy", "verify", "mine.wasm", "--key", "ours.key.pub"]);
}

#[test]
fn a_pin_is_written_into_the_configuration_and_nothing_else_is() {
    let site = Site::new();
    site.configure("# the strict one\n[policies.strict]   # ours\non_fault = \"reject\"\n\n# the end\n");
    site.put("policies/strict.wasm", &mark("1.2.3"));
    site.put("policies/other.wasm", &mark("1.0.0"));
    fs::set_permissions(site.path("addrauth.toml"), fs::Permissions::from_mode(0o640)).unwrap();
    let before = site.read("addrauth.toml");
    assert!(site.must(1, &["policy", "pin", "--all", "--check"]).contains("differs"));
    assert_eq!(site.read("addrauth.toml"), before);
    let said = site.must(0, &["policy", "pin", "strict"]);
    let digest = said.split("new ").nth(1).unwrap().trim().to_owned();
    assert!(said.contains("old none") && digest.len() == 64, "{said}");
    let pinned = site.read("addrauth.toml");
    assert_eq!(
        pinned,
        before.replace("on_fault = \"reject\"\n", &format!("on_fault = \"reject\"\nsha256 = \"{digest}\"\n"))
    );
    assert_eq!(fs::metadata(site.path("addrauth.toml")).unwrap().mode() & 0o777, 0o640);
    site.must(0, &["policy", "pin", "--all", "--check"]);
    // Another component: refused, until it is pinned.
    site.put("policies/strict.wasm", &mark("1.2.4"));
    assert!(site.must(1, &["config", "check"]).contains("sha256"));
    let said = site.must(1, &["policy", "pin", "strict", "--check"]);
    assert!(said.contains(&digest), "{said}");
    // One that would not load is not pinned, and neither is anything while another pin does not hold.
    site.put("policies/strict.wasm", b"\0asm junk");
    site.must(2, &["policy", "pin", "strict"]);
    assert!(site.must(2, &["policy", "pin", "other"]).contains("sha256"));
    assert_eq!(site.read("addrauth.toml"), pinned);
    site.put("policies/strict.wasm", &mark("1.2.4"));
    let said = site.must(0, &["policy", "pin", "strict", "other"]);
    assert!(said.contains(&format!("old {digest}")), "{said}");
    assert!(site.read("addrauth.toml").contains("[policies.other]\nsha256 = "));
    site.must(0, &["config", "check"]);
    site.must(0, &["policy", "pin", "--all", "--check"]);
    assert!(site.must(2, &["policy", "pin", "mark"]).contains("ships"));
    site.must(2, &["policy", "pin", "nothing"]);
}

#[test]
fn what_reads_users_rules_is_pinned_like_a_policy_and_needs_no_settings_for_that() {
    let site = Site::new();
    let rules = component("rules");
    site.put("policies/strict.wasm", &mark("1.0.0"));
    site.put("policies/rules.wasm", &rules);
    site.configure("user_rules = true\nuser_may = [\"mark\"]\n");
    assert!(site.must(1, &["policy", "pin", "--all", "--check"]).contains("rules"));
    site.must(0, &["policy", "pin", "rules", "strict"]);
    assert!(site.read("addrauth.toml").contains("[policies.rules]\nsha256 = "));
    site.must(0, &["policy", "pin", "--all", "--check"]);
    site.must(0, &["config", "check"]);
    let mut other = rules;
    let place = other.len() - 9;
    other[place] ^= 1;
    site.put("policies/rules.wasm", &other);
    assert!(site.must(1, &["config", "check"]).contains("sha256"));
    // As a policy that treats mail it needs its settings all the same.
    site.put("policies/rules.wasm", &component("rules"));
    let text = site.read("addrauth.toml").replacen("user_may", "missing = \"rules\"\nuser_may", 1);
    site.put("addrauth.toml", text.as_bytes());
    assert!(site.must(1, &["config", "check"]).contains("policies.rules.settings"));
}

#[test]
fn k18_a_running_filter_takes_new_pairs_alone_and_a_restarted_one_too() {
    let site = Site::new();
    let key = {
        site.put("addrauth.toml", b"");
        site.key()
    };
    site.configure(&format!("trusted_keys = [\"{key}\"]\nrequire_signature = true\n"));
    for version in ["1.0.0", "1.1.0", "1.2.0"] {
        site.make(version);
    }
    site.install_both("1.1.0");
    let config = site.path("addrauth.toml");
    let daemon = Daemon::start("filter", &config);
    until_said(&daemon, 0, "listening on");
    // A filter that somebody starts beside it changes nothing of what was in force.
    site.install_both("1.2.0");
    let out = Command::new(binary()).arg("filter").arg("--config").arg(&config).stdin(Stdio::null()).output().unwrap();
    assert!(!out.status.success() && String::from_utf8_lossy(&out.stderr).contains("another"), "{out:?}");
    site.install_both("1.1.0");
    reload(&daemon, "version 1.1.0 signed by");
    // An older pair, and one of the two files of a newer one.
    site.install_both("1.0.0");
    reload(&daemon, "1.1.0 was in force");
    assert!(site.must(1, &["config", "check"]).contains("1.1.0 was in force"));
    assert!(site.must(1, &["policy", "verify", "strict"]).contains("1.1.0 was in force"));
    site.install_both("1.1.0");
    site.install("1.2.0", "strict.wasm");
    reload(&daemon, "does not fit");
    site.install("1.2.0", "strict.wasm.minisig");
    reload(&daemon, "version 1.2.0 signed by");
    daemon.kill();
    // A restart forgets nothing.
    site.install_both("1.1.0");
    let out = Command::new(binary()).arg("filter").arg("--config").arg(&config).stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(out.status.code() == Some(2) && said.contains("1.2.0 was in force") && said.contains("rollback"), "{said}");
    // What a rollback does.
    let digest = {
        let listed = site.must(0, &["--json", "policy", "check", "policies/strict.wasm"]);
        listed.split("\"digest\":\"").nth(1).unwrap().split('"').next().unwrap().to_owned()
    };
    floor::allow(&site.path("state"), "strict", Some(&digest)).unwrap();
    let beyond = fs::metadata(site.path("addrauth.log")).unwrap().len();
    let daemon = Daemon::start("filter", &config);
    until_said(&daemon, beyond, "version 1.1.0 signed by");
    site.must(0, &["config", "check"]);
    site.install_both("1.0.0");
    reload(&daemon, "1.1.0 was in force");
    // Unsigned, tampered with, by a stranger: what is in force stays.
    site.install_both("1.2.0");
    fs::remove_file(site.path("policies/strict.wasm.minisig")).unwrap();
    reload(&daemon, "there is no signature");
    let stranger = KeyPair::generate_unencrypted_keypair().unwrap();
    let stranger =
        SecretKeyBox::from(stranger.sk.to_box(None).unwrap().into_string()).into_unencrypted_secret_key().unwrap();
    let words = Some("signature from minisign secret key");
    let forged =
        sign(None, &stranger, &mark("1.2.0")[..], Some("addrauth policy=strict version=1.2.0"), words).unwrap();
    site.put("policies/strict.wasm.minisig", forged.into_string().as_bytes());
    reload(&daemon, "none of policy.trusted_keys");
    site.install_both("1.2.0");
    reload(&daemon, "version 1.2.0 signed by");
}

#[test]
fn k18_a_rollback_alone_goes_back_to_an_older_version() {
    let site = Site::new();
    site.put("addrauth.toml", b"");
    let key = site.key();
    let section = "[policies.strict]\nmodule = \"strict.wasm\"\nshadow = \"strict.next.wasm\"\n";
    site.configure(&format!("trusted_keys = [\"{key}\"]\nrequire_signature = true\n{section}"));
    for version in ["1.0.0", "1.1.0", "1.2.0"] {
        site.make(version);
    }
    let candidate = |version: &str| {
        for ending in ["wasm", "wasm.minisig"] {
            let made = site.path(&format!("new/{version}/strict.{ending}"));
            fs::copy(made, site.path(&format!("policies/strict.next.{ending}"))).unwrap();
        }
    };
    site.install_both("1.1.0");
    candidate("1.0.0");
    let daemon = Daemon::start("filter", &site.path("addrauth.toml"));
    until_said(&daemon, 0, "listening on");
    let promote = ["policy", "promote", "strict", "--at-least", "0"];
    let before = site.read("addrauth.toml");
    let said = site.must(2, &promote);
    assert!(said.contains("1.1.0 was in force") && site.read("addrauth.toml") == before, "{said}");
    candidate("1.2.0");
    site.must(0, &promote);
    reload(&daemon, "version 1.2.0 signed by");
    let said = site.must(0, &["policy", "rollback", "strict"]);
    assert!(said.contains("rolled back"), "{said}");
    reload(&daemon, "version 1.1.0 signed by");
    // That counted once: what was rolled back comes again by a promotion, and what is older does not.
    site.must(0, &promote);
    reload(&daemon, "version 1.2.0 signed by");
    site.install_both("1.0.0");
    site.put("addrauth.toml", before.as_bytes());
    reload(&daemon, "1.2.0 was in force");
    // A folder of that name is looked at in its place, and that is said.
    fs::create_dir(site.path("strict")).unwrap();
    site.put("strict/strict.wasm", &mark("9.9.9"));
    assert!(site.says(&["policy", "verify", "strict"]).1.contains("`strict` is the folder here"));
}

#[test]
fn k18_a_promotion_ends_what_a_rollback_allowed_although_no_filter_read_it_between_the_two() {
    let site = Site::new();
    site.put("addrauth.toml", b"");
    let key = site.key();
    let section = "[policies.strict]\nmodule = \"strict.wasm\"\nshadow = \"strict.next.wasm\"\n";
    site.configure(&format!("trusted_keys = [\"{key}\"]\nrequire_signature = true\n{section}"));
    for version in ["1.1.0", "1.2.0"] {
        site.make(version);
    }
    site.install_both("1.1.0");
    for ending in ["wasm", "wasm.minisig"] {
        let made = site.path(&format!("new/1.2.0/strict.{ending}"));
        fs::copy(made, site.path(&format!("policies/strict.next.{ending}"))).unwrap();
    }
    let before = site.read("addrauth.toml");
    let daemon = Daemon::start("filter", &site.path("addrauth.toml"));
    until_said(&daemon, 0, "listening on");
    let promote = ["policy", "promote", "strict", "--at-least", "0"];
    site.must(0, &promote);
    reload(&daemon, "version 1.2.0 signed by");
    site.must(0, &["policy", "rollback", "strict"]);
    assert!(site.read("state/signed.toml").contains("allowed"));
    site.must(0, &promote);
    assert!(!site.read("state/signed.toml").contains("allowed"));
    site.install_both("1.1.0");
    site.put("addrauth.toml", before.as_bytes());
    reload(&daemon, "1.2.0 was in force");
}
