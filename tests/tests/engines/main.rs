//! Exported policies decide the same in every engine: as a component in wasmtime, as a core module in wasmi, as JavaScript in V8.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use addrauth::config::Limits;
use addrauth::policy::Trial;
use addrauth::policy::rehearse::{Component, Stage, WrittenFacts};
use addrauth_tests::daemon::binary;
use serde_json::{Value, json};

use interpreter::Core;

mod interpreter;

/// Facts in one table at most; of more, every second, third or so is taken.
const MOST: usize = 1_500;

/// The policies that ship, and two that see what these do not, with settings under which they are looked at.
const POLICIES: [(&str, &[&str]); 12] = [
    ("accept", &[""]),
    ("mark", &[""]),
    ("quarantine", &[""]),
    ("reject-silently", &[""]),
    ("reject-notify-sender", &[""]),
    ("reject-notify-recipient", &[""]),
    ("reject-notify-both", &[""]),
    ("missing-direct", &["", "then = \"quarantine\"", "then = \"reject\"\nreason = \"caf\u{e9}\""]),
    ("missing-known", &["", "days = 3\nthen = \"reject\""]),
    (
        "rules",
        &[
            "rules = [\"when result is invalid and sender is @bank.example: reject, tell the recipient 'no'\", \"when result is \
             unverified and recipient is in ['boss@ours.example', @finance.ours.example]: defer\", \"when client ip is in \
             [192.0.2.0/24, 2001:db8::/48]: accept\", \"when result is invalid and why is wrong and not tls: reject, tell \
             nobody\", \"otherwise accept\"]",
            "rules = [\"when result is missing and last valid within 30 days and trail is none: mark 'it used to have a key'\", \
             \"when result is missing and claim is all and not (spf aligned or dkim aligned): quarantine 'no key'\", \
             \"otherwise accept\"]",
        ],
    ),
    ("tls-expected", &["", "then = \"defer\"\nown = [\"192.0.2.0/24\"]"]),
    ("vip-deferred", &["recipients = [\"boss@ours.example\"]"]),
];

/// A policy with settings, and facts on which it decides.
struct Table {
    name: &'static str,
    /// The settings in their order, as jco takes them.
    settings: Vec<Value>,
    headers: Vec<String>,
    wanted: Vec<&'static str>,
    facts: Vec<Value>,
    /// What it decides in wasmtime.
    decided: Vec<Value>,
}

fn folder(name: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../policies")).join(name)
}

/// All combinations of what a policy wants to see.
fn facts(wanted: &[&str]) -> Vec<Value> {
    let client = |ip: &str, name: Value, tls: bool| json!({ "ip": ip, "name": name, "helo": "h", "tls": tls });
    let auth = |spf: &str, spf_aligned: bool, dkim: &str, dkim_aligned: bool, dmarc: &str| json!({ "spf": spf, "spf-aligned": spf_aligned, "dkim": dkim, "dkim-aligned": dkim_aligned, "dmarc": dmarc });
    let axes: [(&str, Vec<Value>); 10] = [
        ("why", vec![json!("wrong"), json!("expired"), json!("several-keys"), json!("no-proof"), json!("other")]),
        ("sender", vec![json!("info@bank.example"), json!("a.b+c@one.example")]),
        ("recipient", vec![json!("boss@ours.example"), json!("x@finance.ours.example"), json!("y@ours.example")]),
        ("envelope-sender", vec![json!("bounce@one.example")]),
        (
            "client",
            vec![
                client("192.0.2.7", Value::Null, false),
                client("2001:db8::1", json!("mx.one.example"), true),
                client("198.51.100.1", json!("a.example"), false),
            ],
        ),
        ("size", vec![json!(10), json!(1u64 << 40)]),
        ("trail", vec![json!([]), json!(["mailing-list"]), json!(["forwarded", "bounce"])]),
        (
            "mail-auth",
            vec![
                auth("none", false, "none", false, "none"),
                auth("pass", true, "fail", false, "fail"),
                auth("softfail", false, "pass", true, "pass"),
                auth("pass", false, "permerror", false, "temperror"),
            ],
        ),
        ("claim", vec![json!("testing"), json!("some"), json!("all")]),
        ("last-valid", vec![json!(0), json!(3), json!(30), json!(4_000_000_000u32)]),
    ];
    let mut all: Vec<Value> = ["valid", "invalid", "missing", "none", "unverified", "unusable"]
        .iter()
        .map(|status| json!({ "status": status }))
        .collect();
    for (name, values) in axes.iter().filter(|(name, _)| wanted.contains(name)) {
        let with = |facts: &Value, value: &Value| {
            let mut facts = facts.clone();
            facts[*name] = value.clone();
            facts
        };
        all = all
            .iter()
            .flat_map(|facts| std::iter::once(facts.clone()).chain(values.iter().map(move |value| with(facts, value))))
            .collect();
    }
    let step = all.len().div_ceil(MOST);
    all.into_iter().step_by(step).collect()
}

/// The settings in their order, each with its tag.
fn ordered(component: &Component, settings: &Value) -> Vec<Value> {
    let tagged = |value: &Value| {
        let tag = match value {
            Value::String(_) => "text",
            Value::Number(_) => "number",
            Value::Bool(_) => "flag",
            _ => "texts",
        };
        json!({ "tag": tag, "val": value })
    };
    component.settings().iter().map(|setting| tagged(&settings[&setting.name])).collect()
}

fn table(stage: &Stage, name: &'static str, text: &str) -> Table {
    let octets = std::fs::read(folder(name).join(format!("{name}.wasm"))).unwrap();
    let component = stage.load(&octets, &Trial::waived()).unwrap();
    let given: BTreeMap<String, toml::Value> = toml::from_str(text).unwrap();
    let settings = component.fit(&given).unwrap();
    let wanted = component.check(&settings).unwrap();
    // The words of a fact in this order are its names in the facts.
    let names: Vec<&'static str> = wanted.facts();
    let facts = facts(&names);
    let decide = |facts: &Value| {
        let written: WrittenFacts = serde_json::from_value(facts.clone()).unwrap();
        let proposal = component.decide(&written, &settings, &wanted).unwrap();
        json!({
            "disposition": proposal.disposition,
            "notify": { "sender": proposal.notify.sender, "recipient": proposal.notify.recipient },
            "reason": proposal.reason,
        })
    };
    Table {
        name,
        settings: ordered(&component, &component.settings_json(&settings)),
        headers: wanted.headers().to_vec(),
        wanted: names,
        decided: facts.iter().map(decide).collect(),
        facts,
    }
}

fn tables() -> Vec<Table> {
    // A busy machine takes its time for a decision.
    let limits = Limits::default().with(|limits| limits.policy.time = Duration::from_secs(20));
    let stage = Stage::new(&Arc::new(limits)).unwrap();
    let all = POLICIES.iter().flat_map(|(name, texts)| texts.iter().map(|text| (*name, *text)));
    all.map(|(name, text)| table(&stage, name, text)).collect()
}

/// Exports a policy, and where it is then; nothing where the exit code is not 0, with what was said.
fn export(name: &str, form: &str, out: &Path) -> Result<PathBuf, String> {
    let mut command = Command::new(binary());
    command.args(["policy", "export"]).arg(folder(name)).args(["--as", form, "--out"]).arg(out);
    let said = command.stdin(Stdio::null()).output().unwrap();
    match said.status.success() {
        true => Ok(out.to_owned()),
        false => Err(String::from_utf8_lossy(&said.stderr).into_owned()),
    }
}

/// A decision whose reason is made safe, as the host does with each text of a policy.
fn safe(mut decision: Value) -> Value {
    let reason = decision["reason"].as_str().unwrap();
    let reason: String = reason.chars().map(|c| if (' '..='~').contains(&c) { c } else { '?' }).collect();
    decision["reason"] = reason.into();
    decision
}

/// A word with a capital behind each hyphen in its place, as JavaScript names things.
fn camel(name: &str) -> String {
    let mut parts = name.split('-');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |all, part| all + &part[..1].to_ascii_uppercase() + &part[1..])
}

/// Facts as JavaScript takes them; `n:` begins a BigInt.
fn for_javascript(facts: &Value, headers: &[String]) -> Value {
    let address = |text: &str| {
        let (local, domain) = text.rsplit_once('@').unwrap();
        json!({ "local": local, "domain": domain })
    };
    let mut given = json!({ "headers": headers.iter().map(|_| Vec::<String>::new()).collect::<Vec<_>>() });
    for (name, value) in facts.as_object().unwrap() {
        given[camel(name)] = match name.as_str() {
            "sender" | "recipient" | "envelope-sender" => address(value.as_str().unwrap()),
            "size" => json!(format!("n:{value}")),
            "trail" => {
                value.as_array().unwrap().iter().map(|word| (camel(word.as_str().unwrap()), json!(true))).collect()
            }
            "mail-auth" => {
                value.as_object().unwrap().iter().map(|(name, value)| (camel(name), value.clone())).collect()
            }
            "client" => {
                let named = |(_, value): &(&String, &Value)| !value.is_null();
                value
                    .as_object()
                    .unwrap()
                    .iter()
                    .filter(named)
                    .map(|(name, value)| (name.clone(), value.clone()))
                    .collect()
            }
            _ => value.clone(),
        };
    }
    given
}

#[test]
fn each_table_is_the_same_in_wasmtime_and_in_wasmi() {
    let dir = tempfile::tempdir().unwrap();
    let mut cores: BTreeMap<&str, Core> = BTreeMap::new();
    let mut words = std::collections::BTreeSet::new();
    for table in tables() {
        let core = cores.entry(table.name).or_insert_with(|| {
            let out = export(table.name, "core", &dir.path().join(table.name)).unwrap();
            assert!(out.join("addrauth_policy.h").is_file());
            Core::new(&std::fs::read(out.join(format!("{}.core.wasm", table.name))).unwrap())
        });
        let bits = core.check(&table.settings).unwrap();
        assert_eq!(bits.count_ones() as usize, table.wanted.len(), "{}: {:?}", table.name, table.wanted);
        assert!(table.facts.len() >= 6);
        for (facts, decided) in table.facts.iter().zip(&table.decided) {
            let said = safe(core.decide(facts, &table.headers, &table.settings));
            assert_eq!(&said, decided, "{}: {facts}", table.name);
            words.insert(decided["disposition"].to_string());
        }
    }
    assert_eq!(words.len(), 5, "{words:?}");
    // A setting that is not taken is refused with the policy's words.
    let nowhere = [json!({ "tag": "text", "val": "nowhere" }), json!({ "tag": "text", "val": "" })];
    assert!(cores["missing-direct"].check(&nowhere).unwrap_err().contains("then"));
}

#[test]
fn each_table_is_the_same_in_wasmtime_and_in_v8() {
    let dir = tempfile::tempdir().unwrap();
    let there = |program: &str| Command::new(program).arg("--version").stdin(Stdio::null()).output().is_ok();
    if !(there("node") && there("npx")) {
        eprintln!("not tried in V8: node and npx are not installed");
        return;
    }
    let script = "import fs from 'node:fs'; const { policy } = await import(process.argv[2]); const bigs = (_, v) => \
         typeof v === 'string' && /^n:-?\\d+$/.test(v) ? BigInt(v.slice(2)) : v; const [settings, facts] = \
         JSON.parse(fs.readFileSync(0), bigs); policy.checkSettings(settings); \
         console.log(JSON.stringify(facts.map((one) => policy.decide(one, settings))));";
    let judge = dir.path().join("judge.mjs");
    std::fs::write(&judge, script).unwrap();
    let mut exported: BTreeMap<&str, PathBuf> = BTreeMap::new();
    for table in tables() {
        if !exported.contains_key(table.name) {
            match export(table.name, "js", &dir.path().join(table.name)) {
                Ok(out) => drop(exported.insert(table.name, out)),
                Err(said) if exported.is_empty() => {
                    eprintln!("not tried in V8: npx cannot run jco here: {said}");
                    return;
                }
                Err(said) => panic!("{said}"),
            }
        }
        let facts: Vec<Value> = table.facts.iter().map(|facts| for_javascript(facts, &table.headers)).collect();
        let whole_numbers = |setting: &Value| match setting["tag"].as_str() {
            Some("number") => json!({ "tag": "number", "val": format!("n:{}", setting["val"]) }),
            _ => setting.clone(),
        };
        let settings: Vec<Value> = table.settings.iter().map(whole_numbers).collect();
        let given = dir.path().join("given.json");
        std::fs::write(&given, json!([settings, facts]).to_string()).unwrap();
        let mut node = Command::new("node");
        node.arg(&judge).arg(exported[table.name].join("policy.js")).stdin(std::fs::File::open(&given).unwrap());
        let said = node.output().unwrap();
        assert!(said.status.success(), "{}: {}", table.name, String::from_utf8_lossy(&said.stderr));
        let decided: Vec<Value> = serde_json::from_slice(&said.stdout).unwrap();
        assert_eq!(decided.len(), table.decided.len());
        for ((facts, one), other) in table.facts.iter().zip(&decided).zip(&table.decided) {
            assert_eq!(&safe(one.clone()), other, "{}: {facts}", table.name);
        }
    }
    // The script that comes with it decides one message, by the defaults where no settings are given, and what cannot be meant is
    // no decision.
    let script = |name: &str, words: &[&str]| {
        let mut node = Command::new("node");
        let said = node.arg(exported[name].join("decide.mjs")).args(words).stdin(Stdio::null()).output().unwrap();
        (said.status.code(), String::from_utf8_lossy(&said.stdout).into_owned(), format!("{said:?}"))
    };
    let direct = r#"{"status":"missing","claim":"all","trail":{},"sender":"a@b.example"}"#;
    let held = r#"[{"tag":"text","val":"quarantine"},{"tag":"text","val":"no key"}]"#;
    for (name, words, disposition) in [
        ("mark", &[][..], "mark"),
        ("missing-direct", &[direct], "mark"),
        ("missing-direct", &[direct, held], "quarantine"),
    ] {
        let (code, out, said) = script(name, words);
        assert!(
            code == Some(0) && out.starts_with(&format!("{{\"disposition\":\"{disposition}\"")),
            "{words:?} {said}"
        );
    }
    for words in [
        &[r#"{"status":"invalid","sneder":{"local":"a","domain":"b.example"}}"#][..],
        &[r#"{"status":"invalid","trail":{"bounced":true}}"#],
        &[r#"{"sender":"a@b.example"}"#],
        &[r#"{"status":"valid","sender":"a"}"#],
        &[r#"{"status":"odd"}"#],
        &["{"],
        &["null"],
        &[direct, "[]"],
        &[direct, "{}"],
        &[direct, r#"[{"tag":"text","val":"mark"}]"#],
        &[direct, r#"[{"tag":"flag","val":true},{"tag":"text","val":"no key"}]"#],
        &[direct, r#"[{"tag":"text","val":"drop"},{"tag":"text","val":"no key"}]"#],
    ] {
        let (code, out, said) = script("missing-direct", words);
        assert!(code == Some(2) && out.is_empty() && said.contains("decide.mjs: "), "{words:?} {said}");
    }
    let (code, _, said) = script("rules", &[]);
    assert!(code == Some(2) && said.contains("rules must be set"), "{said}");
}
