//! The verbs of the policy workshop as somebody types them: what they print, and their exit codes.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use addrauth_tests::daemon::{binary, component};

/// A directory with a configuration, a message and a policy's copy.
struct Bench(tempfile::TempDir);

const CONFIG: &str = r#"
hostname = "mx.home.example"
final_domains = ["home.example"]
trusted_authserv_ids = ["mx.home.example"]
[policy]
invalid = "reject-silently"
unusable = "reject-silently"
[policies.mark]
[policy.recipient."boss@home.example"]
invalid = "quarantine"
"#;

const MAIL: &str = "Return-Path: <alice@sender.example>\r\nDelivered-To: bob@home.example\r\nFrom: Alice <alice@sender.example>\r\n\
                    Subject: hello\r\n\r\nbody\r\n";

impl Bench {
    fn new() -> Bench {
        let bench = Bench(tempfile::tempdir().unwrap());
        fs::write(bench.path("addrauth.toml"), CONFIG).unwrap();
        fs::write(bench.path("mail.eml"), MAIL).unwrap();
        fs::create_dir(bench.path("mine")).unwrap();
        fs::write(bench.path("mine/mine.wasm"), component("mark")).unwrap();
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The exit code, and what was said on both streams.
    fn says(&self, words: &[&str]) -> (i32, String) {
        let mut command = Command::new(binary());
        command.current_dir(self.0.path()).env("COLUMNS", "200").args(["-c", "addrauth.toml", "policy"]).args(words);
        let out = command.output().unwrap();
        let said = String::from_utf8(out.stdout).unwrap() + &String::from_utf8(out.stderr).unwrap();
        (out.status.code().unwrap(), said)
    }
}

#[test]
fn a_policy_is_named_by_directory_file_id_and_digest() {
    let bench = Bench::new();
    fs::create_dir(bench.path("bare")).unwrap();
    let (code, check) = bench.says(&["check", "mine"]);
    assert_eq!(code, 0, "{check}");
    let digest = check.split("SHA-256").nth(1).unwrap().trim().get(..10).unwrap().to_owned();
    for name in ["mine", "./mine", "mine/mine.wasm", "mark", &digest] {
        let (code, said) = bench.says(&["table", name]);
        assert!(code == 0 && said.contains("mark: the sender's domain"), "{name}: {said}");
    }
    for (name, way) in [
        ("nothing", "shipped: accept"),
        ("./nothing.wasm", "No such file"),
        ("mail.eml", "refused"),
        ("0000000000", "digest"),
        ("bare", "no component bare/bare.wasm"),
    ] {
        let (code, said) = bench.says(&["table", name]);
        assert!(code == 2 && said.contains(way), "{name}: {said}");
    }
}

#[test]
fn a_table_comes_for_people_and_for_programs() {
    let bench = Bench::new();
    assert!(
        bench
            .says(&["table", "accept", "--markdown"])
            .1
            .starts_with("| result | decision |\n| --- | --- |\n|  | accept |")
    );
    assert_eq!(bench.says(&["table", "accept", "--csv"]).1, "result,decision\nany,accept\n");
    for words in [&["table", "accept", "--csv"][..], &["table", "accept", "--markdown"], &["test", "mine", "--tap"]] {
        let (code, said) = bench.says(&[&["--json"], words].concat());
        assert!(code == 2 && said.contains("--json is one form"), "{words:?}: {said}");
    }
    let (_, said) = bench.says(&["--json", "table", "accept"]);
    let json: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!((&json["exact"], &json["rows"][0]["decision"]), (&true.into(), &"accept".into()));
    let (_, site) = bench.says(&["table", "--bindings", "--csv"]);
    assert!(site.contains("invalid (wrong),\"reject, tell nobody") && site.contains("invalid (expired)"), "{site}");
    let (_, boss) = bench.says(&["table", "--bindings", "boss@home.example", "--csv"]);
    assert!(boss.contains("invalid,quarantine"), "{boss}");
}

#[test]
fn a_counterexample_is_a_case_that_the_cases_take() {
    let bench = Bench::new();
    let (code, said) = bench.says(&["prove", "mine", "never", "mark when result=valid", "never-errors"]);
    assert!(code == 1 && said.contains("FAILS") && said.contains("proved   never-errors"), "{said}");
    let case: String = said
        .lines()
        .filter_map(|line| line.strip_prefix("  "))
        .filter(|line| !line.contains("as a case"))
        .map(|line| format!("{line}\n"))
        .collect();
    fs::write(bench.path("mine/cases.toml"), case).unwrap();
    let (code, said) = bench.says(&["test", "mine", "--coverage"]);
    assert!(code == 0 && said.contains("1 passed, 0 failed") && said.contains("1 of 1 rows reached"), "{said}");
    for (words, code, way) in [
        (&["prove", "equivalent", "mark", "mine"][..], 0, "proved"),
        (&["prove", "implies", "mark", "accept"], 0, "proved"),
        (&["prove", "implies", "accept", "mark"], 1, "FAILS"),
        (&["prove", "--bindings", "--", "never", "reject, tell nobody when why!=wrong"], 0, "proved"),
        (
            &["prove", "--bindings", "boss@home.example", "--", "never", "quarantine when result=invalid"],
            1,
            "quarantine",
        ),
        (&["prove", "mark", "ever"], 2, "no property"),
        (&["prove", "mark", "never", "reject when x=1"], 2, "no fact"),
        (&["prove"], 2, "--bindings"),
        (&["prove", "mark", "never \"reject when result=valid\""], 0, "proved   never \"reject when result=valid\""),
        (&["prove", "mark", "never", "mark when result=valid and why=wrong"], 2, "no combination of facts"),
        (&["prove", "mark", "never", "mark when dmarc=aligned"], 2, "no value of that fact"),
        (&["prove", "mark", "never", "mark when Subject:=URGENT"], 1, "URGENT"),
        (&["prove", "--bindings", "monotone"], 2, "--bindings -- PROPERTY"),
        (&["prove", "--bindings", "--set", "x=1", "--", "monotone"], 2, "cannot be used with"),
        (&["table", "--bindings", "bob"], 2, "--bindings=LOCAL@DOMAIN"),
        (&["table", "--bindings", "--set", "x=1"], 2, "cannot be used with"),
    ] {
        let (got, said) = bench.says(words);
        assert!(got == code && said.contains(way), "{words:?}: {got} {said}");
    }
}

#[test]
fn a_change_is_stricter_or_looser_and_fails_where_that_is_asked() {
    let bench = Bench::new();
    for (words, code, word) in [
        (&["diff", "mark", "mine"][..], 0, "nothing changes"),
        (&["diff", "accept", "mark"], 1, "6 stricter"),
        (&["diff", "accept", "mark", "--fail-on", "looser"], 0, "6 stricter"),
        (&["diff", "mark", "accept", "--fail-on", "looser"], 1, "LOOSER"),
        (&["diff", "reject-notify-sender", "reject-silently"], 1, "6 sideways"),
    ] {
        let (got, said) = bench.says(words);
        assert!(got == code && said.contains(word), "{words:?}: {got} {said}");
    }
}

/// Seven conditions in one line, which nobody meets by chance.
const SEVEN: &str = "when sender is @a.example and recipient is @b.example and client ip is 10.0.0.0/8 and trail is none and claim is \
                     all and spf aligned and size over 1M: defer";

#[test]
fn a_rule_of_many_conditions_is_a_change_and_what_is_not_found_is_not_told() {
    let bench = Bench::new();
    let text = |name: &str, line: &str| {
        fs::create_dir(bench.path(name)).unwrap();
        let text = format!("[policies.{name}]\nmodule = \"rules\"\nsettings.rules = [{line}\"otherwise accept\"]\n");
        fs::write(bench.path(&format!("{name}/{name}.toml")), text).unwrap();
    };
    text("plain", "");
    text("seven", &format!("\"{SEVEN}\", "));
    let (code, said) = bench.says(&["diff", "plain", "seven"]);
    assert!(code == 1 && said.contains("now defer"), "{said}");
    let (code, said) = bench.says(&["diff", "plain", "seven", "--fail-on", "looser"]);
    assert!(code == 0 && said.contains("sideways") && said.contains("exact: "), "{said}");
    let (code, said) = bench.says(&["prove", "seven", "never", "reject"]);
    assert!(code == 0 && said.contains("proved   never \"reject\""), "{said}");
    // Of a component only a probe knows which of so many values make no difference.
    let (code, said) = bench.says(&["prove", "missing-known", "never", "reject"]);
    assert!(code == 2 && said.contains("UNKNOWN  never \"reject\"") && said.contains("a probe found alike"), "{said}");
    let (code, said) = bench.says(&["check", "missing-known"]);
    assert!(code == 0 && said.contains("note P014"), "{said}");
}

#[test]
fn coverage_of_nothing_is_no_coverage() {
    let bench = Bench::new();
    for words in [&["rules"][..], &["rules", "--threshold", "0"]] {
        let (code, said) = bench.says(&[&["test", "--coverage"], words].concat());
        assert!(code == 2 && said.contains("no settings are taken") && said.contains("--set"), "{said}");
    }
    assert_eq!(bench.says(&["test", "mine", "--coverage", "--threshold", "101"]).0, 2);
}

#[test]
fn cases_fail_with_expected_and_actual_and_reports_tell_the_same() {
    let bench = Bench::new();
    let cases = "[[case]]\nname = \"one\"\nfacts = { status = \"valid\" }\nexpect = { disposition = \"accept\" }\n\n[[case]]\nname = \
                 \"mail\"\nmessage = \"../mail.eml\"\nfacts = { status = \"missing\" }\nexpect = { disposition = \"mark\" }\n";
    fs::write(bench.path("mine/cases.toml"), cases).unwrap();
    let (code, said) = bench.says(&["test", "mine", "--junit", "report.xml"]);
    assert_eq!(code, 1);
    assert!(said.contains("cases.toml:4\n  expected: accept\n  actual:   mark: the sender's"), "{said}");
    assert!(said.contains("pass mine: mail") && said.contains("1 passed, 1 failed"), "{said}");
    let report = fs::read_to_string(bench.path("report.xml")).unwrap();
    assert!(
        report.contains("tests=\"2\" failures=\"1\"") && report.contains("expected accept, but got mark"),
        "{report}"
    );
    assert!(bench.says(&["test", "mine", "--tap"]).1.contains("1..2\nnot ok 1 - mine: one"));
    assert_eq!(bench.says(&["test", "mine", "--only", "mail"]).0, 0);
    assert_eq!(bench.says(&["test", "mine", "--only", "nobody"]).0, 2);
    fs::write(bench.path("mine/cases.toml"), cases.replace("facts", "fact")).unwrap();
    let (code, said) = bench.says(&["test", "mine"]);
    assert!(code == 2 && said.contains("cases.toml:3: unknown field `fact`"), "{said}");
}

#[test]
fn a_message_in_a_file_is_decided_and_answered() {
    let bench = Bench::new();
    let (code, said) = bench.says(&["run", "reject-notify-sender", "mail.eml", "--result", "invalid", "--explain"]);
    assert_eq!(code, 0, "{said}");
    for line in [
        "result    invalid (wrong)",
        "from      alice@sender.example",
        "to        bob@home.example",
        "decides   reject, tell the sender: ",
        "counted   nothing by itself: no single change flips it",
        "note      the filter never finds these facts together",
        "milter    550 5.7.1 Address Authentication: ",
        "note      `observe = true`",
    ] {
        assert!(said.contains(line), "{line}: {said}");
    }
    let (code, said) = bench.says(&["run", "accept", "mail.eml"]);
    assert!(code == 2 && said.contains("--result valid"), "{said}");
    let (_, said) =
        bench.says(&["--json", "run", "quarantine", "mail.eml", "--result", "missing", "--to", "a@home.example"]);
    let json: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(json["groups"][0]["recipients"][0], "a@home.example");
    assert_eq!(json["groups"][0]["decision"]["disposition"], "quarantine");
    let (_, said) = bench.says(&["run", "accept", "mail.eml", "--result", "missing", "--claim", "some"]);
    assert!(said.contains("milter    accepts") && !said.contains("never finds"), "{said}");
    fs::write(bench.path("nofrom.eml"), "Subject: hello\r\n\r\nbody\r\n").unwrap();
    for (words, code, word) in [
        (&["nofrom.eml", "--result", "valid"][..], 2, "unusable by itself (no-from)"),
        (&["nofrom.eml", "--result", "unusable:bad-key"], 2, "unusable by itself (no-from)"),
        (&["nofrom.eml", "--result", "unusable"], 0, "unusable (no-from)"),
        (&["nofrom.eml"], 0, "unusable (no-from)"),
        (&["mail.eml", "--result", "unusable"], 2, "unusable:REASON"),
        (&["mail.eml", "--result", "missing:wrong"], 2, "missing has no reason"),
        (&["mail.eml", "--result", "invalid:dns"], 2, "invalid:wrong, invalid:expired"),
        (&["mail.eml", "--result", "none", "--tls"], 2, "--client"),
        (&["mail.eml", "--result", "none", "--helo", "x"], 2, "--client"),
        (&["mail.eml", "--result", "none", "--to", "bob"], 2, "LOCAL@DOMAIN"),
        (&["mail.eml", "--result", "none", "--client", "192.0.2.1", "--tls", "--helo", "x"], 0, "decides   accept"),
    ] {
        let (got, said) = bench.says(&[&["run", "accept"], words].concat());
        assert!(got == code && said.contains(word), "{words:?}: {got} {said}");
    }
    fs::write(bench.path("empty.eml"), "\r\n").unwrap();
    assert!(bench.says(&["run", "accept", "empty.eml", "--result", "none"]).1.contains("is it a message"));
}

#[test]
fn every_finding_is_explained() {
    let bench = Bench::new();
    let (code, said) = bench.says(&["explain"]);
    assert!(code == 0 && said.lines().count() >= 13, "{said}");
    for id in said.lines().filter_map(|line| line.split(' ').next()) {
        let (code, page) = bench.says(&["explain", id]);
        assert!(code == 0 && page.starts_with(id) && page.contains("Way out:"), "{page}");
    }
    assert_eq!(bench.says(&["explain", "P999"]).0, 2);
    let (code, said) = bench.says(&["check", "mail.eml"]);
    assert!(code == 1 && said.contains("P001"), "{said}");
    let (code, said) = bench.says(&["check", "reject-silently"]);
    assert!(code == 0 && said.contains("note P006"), "what is to be known is no fault: {said}");
}

#[test]
fn decisions_are_timed_and_a_journal_that_is_not_there_is_told() {
    let bench = Bench::new();
    let (code, said) = bench.says(&["bench", "mark", "--decisions", "50"]);
    assert!(code < 2 && said.contains("of 50 decisions") && said.contains("looks the decision up"), "{said}");
    for number in ["0", "1000001", "18446744073709551615", "99999999999999999999"] {
        let (code, said) = bench.says(&["bench", "mark", "--decisions", number]);
        assert!(code == 2 && said.contains("from 1 to 1000000"), "{number}: {said}");
    }
    for words in [&["--fail-on", "reworded"][..], &["--may-lack", "101"]] {
        assert_eq!(bench.says(&[&["replay", "mark"], words].concat()).0, 2, "{words:?}");
    }
    assert!(bench.says(&["replay", "mark", "--fail-on", "reworded"]).1.contains("compares no reasons"));
    let config = format!("state_dir = {:?}\n{CONFIG}", bench.path("state"));
    fs::write(bench.path("addrauth.toml"), config).unwrap();
    let (code, said) = bench.says(&["replay", "mark"]);
    assert!(code == 2 && said.contains("there is no journal"), "{said}");
}
