//! The gallery of policies to copy: each is there as a text of rules and as a program, and both decide alike whatever the facts are.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use addrauth::config::{self, Limits, Module};
use addrauth::policy::rehearse::{Component, Settings, Stage, Suite, Wanted, WrittenFacts};
use addrauth::policy::{Policies, Proposal, Trial};
use serde::Deserialize;
use serde_json::{Value, json};

/// What the gallery holds; a test below compares it with the folder.
const NAMES: [&str; 5] = ["expired-marked", "named-senders", "soft-on-lists", "tls-expected", "vip-deferred"];
/// Before the configuration of the component, which is a remark in the file.
const COMPONENT: &str = "\n# [policies.";

type Given = BTreeMap<String, toml::Value>;

/// The part of a configuration that the gallery's files hold.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Pasted {
    #[serde(default)]
    policy: config::Policy,
    policies: BTreeMap<String, Module>,
}

fn policies() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../policies")
}

/// The configuration with the text, and the same with the component.
fn pasted(name: &str) -> [Pasted; 2] {
    let file = fs::read_to_string(policies().join("gallery").join(format!("{name}.toml"))).unwrap();
    let as_text: Pasted = toml::from_str(&file).unwrap();
    let start = file.find(COMPONENT).expect("the configuration of the component") + 1;
    let lines = file[start..].lines().map(|line| line.strip_prefix('#').expect("a remark up to the end"));
    let Pasted { policies: components, .. } = toml::from_str(&lines.collect::<Vec<_>>().join("\n")).unwrap();
    let dir = policies().join(name);
    let as_program = Pasted { policy: config::Policy { dir, ..as_text.policy.clone() }, policies: components };
    for pasted in [&as_text, &as_program] {
        assert_eq!(pasted.policies.keys().collect::<Vec<_>>(), [name], "a policy is called as its file");
    }
    assert_eq!(as_text.policies[name].module.as_deref(), Some(Path::new("rules")));
    assert_eq!(as_program.policies[name].module, None);
    [as_text, as_program]
}

/// The settings of the two forms.
fn settings(name: &str) -> [Given; 2] {
    pasted(name).map(|mut pasted| pasted.policies.remove(name).unwrap().settings)
}

/// One form of a policy, ready to be asked.
struct Form {
    component: Arc<Component>,
    settings: Settings,
    wanted: Wanted,
}

impl Form {
    fn of(component: Arc<Component>, given: &Given) -> Form {
        let settings = component.fit(given).unwrap();
        let wanted = component.check(&settings).unwrap_or_else(|why| panic!("{given:?}: {why}"));
        Form { component, settings, wanted }
    }

    fn decide(&self, facts: &WrittenFacts) -> Proposal {
        self.component.decide(facts, &self.settings, &self.wanted).unwrap()
    }
}

/// A busy machine makes a decision slow, and no fault.
fn limits() -> Arc<Limits> {
    Arc::new(Limits::default().with(|limits| limits.policy.time = Duration::from_secs(30)))
}

fn stage() -> Stage {
    Stage::new(&limits()).unwrap()
}

/// The component `rules` for the text, or that of the gallery.
fn load(stage: &Stage, id: &str) -> Arc<Component> {
    let octets = fs::read(policies().join(id).join(format!("{id}.wasm"))).unwrap();
    Arc::new(stage.load(&octets, &Trial::waived()).unwrap())
}

/// The text and the program, as the gallery configures them.
fn forms(name: &str) -> [Form; 2] {
    let (stage, [text, program]) = (stage(), settings(name));
    [Form::of(load(&stage, "rules"), &text), Form::of(load(&stage, name), &program)]
}

/// The words of the list of such a setting, for addresses and networks.
fn words(given: &Given) -> Vec<String> {
    let lists = given.values().filter_map(toml::Value::as_array).flatten();
    lists.filter_map(|value| Some(value.as_str()?.to_owned())).collect()
}

/// No address; those that each of these words means; what lies beside them, and what only looks like them.
fn addresses(words: &[String]) -> Vec<Value> {
    let mut found = vec![Value::Null, json!("someone@elsewhere.example"), json!("boss@example")];
    for word in words {
        let (local, domain) = match word.rsplit_once('@') {
            Some(("", domain)) => ("someone", domain),
            Some(pair) => pair,
            None => ("someone", word.trim_start_matches("*.")),
        };
        let above = domain.split_once('.').map_or(domain, |(_, above)| above);
        found.extend([
            json!(format!("{local}@{domain}")),
            json!(format!("{local}@{domain}").to_uppercase()),
            json!(format!("{local}+tag@{domain}")),
            json!(format!("+{local}@{domain}")),
            json!(format!("\"{local}+tag\"@{domain}")),
            json!(format!("{local}.other@{domain}")),
            json!(format!("@{domain}")),
            json!(format!("{local}@below.{domain}")),
            json!(format!("{local}@A.B.{domain}")),
            json!(format!("{local}@{domain}.evil")),
            json!(format!("{local}@evil{domain}")),
            json!(format!("{local}@evil-{domain}")),
            json!(format!("{local}@{above}")),
            json!(format!("{local}@{domain}@elsewhere.example")),
        ]);
    }
    found
}

/// None; with TLS and without, from within these networks and from beside them.
fn clients(words: &[String]) -> Vec<Value> {
    // What no filter tells, too: an address that is none.
    let mut addresses: Vec<String> =
        ["203.0.113.77", "2001:db8::77", "0.0.0.0", "::", "::ffff:10.0.0.1", "", "10.0.0"].map(str::to_owned).into();
    for word in words {
        let (first, length) = word.split_once('/').unwrap_or((word, "128"));
        addresses.push(first.to_owned());
        if let (Ok(first), Ok(length)) = (first.parse::<std::net::Ipv4Addr>(), length.parse::<u32>()) {
            let (first, size) = (first.to_bits(), u32::MAX.checked_shr(length).unwrap_or(0));
            let beside =
                [first.wrapping_add(size / 2), first | size, first.wrapping_sub(1), (first | size).wrapping_add(1)];
            addresses.extend(beside.map(|bits| std::net::Ipv4Addr::from_bits(bits).to_string()));
        }
    }
    let with = |ip: &String| {
        [true, false].map(|tls| json!({ "ip": ip, "name": "mx.sender.example", "helo": "mx", "tls": tls }))
    };
    std::iter::once(Value::Null).chain(addresses.iter().flat_map(with)).collect()
}

/// No mark, and each set of marks of a trail, the empty one too.
fn trails() -> Vec<Value> {
    const MARKS: [&str; 5] = ["mailing-list", "forwarded", "resent", "automatic", "bounce"];
    let set = |bits: u32| MARKS.iter().enumerate().filter(move |(at, _)| bits >> at & 1 == 1).map(|(_, mark)| *mark);
    std::iter::once(Value::Null).chain((0..32).map(|bits| json!(set(bits).collect::<Vec<_>>()))).collect()
}

/// None; aligned or not, which decides alone, with results that go along and results that do not.
fn auths() -> Vec<Value> {
    let mut found = vec![Value::Null];
    for bits in 0..32 {
        let bit = |at: u32| bits >> at & 1 == 1;
        let result = |at| if bit(at) { "pass" } else { "fail" };
        found.push(json!({
            "spf": result(0), "spf-aligned": bit(1), "dkim": result(2), "dkim-aligned": bit(3), "dmarc": result(4),
        }));
    }
    found
}

/// What a fact can be, with samples where that has no end.
fn values(fact: &str, words: &[String]) -> Vec<Value> {
    match fact {
        "status" => ["valid", "invalid", "missing", "none", "unverified", "unusable"].map(Value::from).into(),
        "why" => json!([
            null,
            "wrong",
            "expired",
            "no-from",
            "several-from",
            "bad-address",
            "several-keys",
            "bad-key",
            "malformed-header",
            "dns",
            "timeout",
            "limit",
            "no-proof",
            "other",
        ])
        .as_array()
        .unwrap()
        .clone(),
        "claim" => vec![Value::Null, "testing".into(), "some".into(), "all".into()],
        "trail" => trails(),
        "mail-auth" => auths(),
        "sender" | "recipient" | "envelope-sender" => addresses(words),
        "client" => clients(words),
        other => panic!("no policy of the gallery has asked for `{other}` yet: give samples for it"),
    }
}

/// The facts that either wants, with the result.
fn wanted(forms: &[Form; 2]) -> Vec<&'static str> {
    let mut facts = vec!["status"];
    for fact in forms.iter().flat_map(|form| form.wanted.facts()) {
        if !facts.contains(&fact) {
            facts.push(fact);
        }
    }
    assert!(forms.iter().all(|form| form.wanted.headers().is_empty()));
    facts
}

/// How many facts were gone through, and the first ones that the two decide in different ways. `stride` leaves so many out.
fn compared(forms: &[Form; 2], words: &[String], stride: usize) -> (usize, Option<String>) {
    let axes: Vec<(&str, Vec<Value>)> = wanted(forms).into_iter().map(|fact| (fact, values(fact, words))).collect();
    let all: usize = axes.iter().map(|(_, values)| values.len()).product();
    let mut count = 0;
    for row in (0..all).step_by(stride) {
        let mut rest = row;
        let mut facts = serde_json::Map::new();
        for (fact, values) in &axes {
            facts.insert((*fact).to_owned(), values[rest % values.len()].clone());
            rest /= values.len();
        }
        let told: WrittenFacts = serde_json::from_value(Value::Object(facts.clone())).unwrap();
        let [text, program] = forms.each_ref().map(|form| form.decide(&told));
        count += 1;
        if text != program {
            let facts = Value::Object(facts);
            return (count, Some(format!("{facts}: the text decides {text}, the program {program}")));
        }
    }
    (count, None)
}

/// The two forms decide alike over the whole product of facts, which has so many rows.
fn alike(name: &str, rows: usize) {
    let forms = forms(name);
    let [text, program] = forms.each_ref().map(|form| form.wanted.facts());
    assert_eq!(text, program, "both see the same facts, and no more");
    let (count, difference) = compared(&forms, &words(&settings(name)[1]), 1);
    assert_eq!(difference, None);
    assert!(count >= rows, "{count} rows");
}

#[test]
fn named_senders_are_treated_alike_by_text_and_program() {
    alike("named-senders", 6 * 45);
}

#[test]
fn lists_and_direct_mail_are_treated_alike_by_text_and_program() {
    alike("soft-on-lists", 6 * 33 * 4 * 33);
}

#[test]
fn expired_and_wrong_keys_are_treated_alike_by_text_and_program() {
    alike("expired-marked", 6 * 14);
}

#[test]
fn doubtful_mail_of_a_vip_is_treated_alike_by_text_and_program() {
    alike("vip-deferred", 6 * 14 * 31);
}

#[test]
fn mail_without_tls_is_treated_alike_by_text_and_program() {
    alike("tls-expected", 6 * 33 * 4 * 27);
}

/// A number without a common divisor with the axes, so that each value comes with each other one.
const STRIDE: usize = 101;

#[test]
fn another_word_for_what_happens_is_the_same_change_in_the_text() {
    let changes = [
        ("named-senders", "quarantine", "reject, tell the recipient 'mail", "quarantine, tell the recipient 'mail"),
        ("soft-on-lists", "quarantine", "reject, tell the sender", "quarantine"),
        ("tls-expected", "quarantine", "mark 'it came", "quarantine 'it came"),
        ("tls-expected", "reject", "mark 'it came", "reject, tell the sender 'it came"),
        ("tls-expected", "defer", "mark 'it came", "defer 'it came"),
    ];
    let stage = stage();
    for (name, then, old, new) in changes {
        let [mut text, mut program] = settings(name);
        let words = words(&program);
        let lines = text["rules"].as_array().unwrap().iter().map(|line| line.as_str().unwrap().replace(old, new));
        text = Given::from([("rules".to_owned(), toml::Value::Array(lines.map(toml::Value::from).collect()))]);
        program.insert("then".into(), then.into());
        let forms = [Form::of(load(&stage, "rules"), &text), Form::of(load(&stage, name), &program)];
        let stride = if name == "named-senders" { 1 } else { STRIDE };
        assert_eq!(compared(&forms, &words, stride).1, None, "{name} {then}");
    }
}

/// The comparison sees each line of each text: without it, or with another decision, the tables differ.
#[test]
fn a_text_with_one_line_less_or_another_decision_is_found_to_differ() {
    let stage = stage();
    for name in NAMES {
        let [text, program] = settings(name);
        let rules: Vec<String> =
            text["rules"].as_array().unwrap().iter().map(|line| line.as_str().unwrap().to_owned()).collect();
        let program_words = words(&program);
        let rules_component = load(&stage, "rules");
        let own = load(&stage, name);
        let differs = |rules: Vec<String>| {
            let given = Given::from([(
                "rules".to_owned(),
                toml::Value::Array(rules.into_iter().map(toml::Value::from).collect()),
            )]);
            let forms = [Form::of(rules_component.clone(), &given), Form::of(own.clone(), &program)];
            compared(&forms, &program_words, 1).1.is_some()
        };
        for at in 0..rules.len() {
            let mut without = rules.clone();
            without.remove(at);
            if at + 1 < rules.len() {
                assert!(differs(without), "{name}, without line {}", at + 1);
            }
            let mut other = rules.clone();
            let condition = rules[at].rsplit_once(": ").map_or("otherwise", |(condition, _)| condition);
            let colon = if condition == "otherwise" { "" } else { ":" };
            other[at] = format!("{condition}{colon} quarantine 'another decision'");
            assert!(differs(other), "{name}, line {} with another decision", at + 1);
        }
    }
}

#[test]
fn the_gallery_holds_a_text_a_program_and_cases_for_each_policy() {
    let named = |folder: &Path| {
        let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let mut names: Vec<String> = entries
            .filter(|path| path.extension().is_some_and(|end| end == "toml"))
            .map(|path| path.file_stem().unwrap().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    };
    assert_eq!(named(&policies().join("gallery")), NAMES);
    let page = fs::read_to_string(policies().join("gallery/README.md")).unwrap();
    for name in NAMES {
        assert!(
            page.contains(&format!("]({name}.toml)")) && page.contains(&format!("](../{name}/src/lib.rs)")),
            "{name}"
        );
    }
}

#[test]
fn each_file_is_a_configuration_as_text_and_as_program() {
    for name in NAMES {
        for Pasted { policy, policies } in pasted(name) {
            let loaded = Policies::load(&policy, &policies, &limits(), &Trial::waived()).unwrap();
            let treats = loaded.list().into_iter().find(|listed| listed.id == name).unwrap().bound;
            assert!(!treats.is_empty(), "{name} is bound to a result");
        }
    }
}

#[test]
fn both_forms_pass_the_cases() {
    let stage = stage();
    for name in NAMES {
        let path = policies().join(name).join("cases.toml");
        let suite = Suite::read(&fs::read_to_string(&path).unwrap(), &path).unwrap();
        let no_message = |path: &Path, _: &WrittenFacts| Err(format!("{}: no message", path.display()));
        let [text, program] = settings(name);
        let component = load(&stage, name);
        for ran in suite.run(&component, &Given::new(), &no_message) {
            assert!(ran.passed, "{name}: {ran:?}");
        }
        // Those of the gallery's own settings are the text's too.
        let all = |given: &Given| component.settings_json(&component.fit(given).unwrap());
        let same = |given: &Given| component.fit(given).is_ok() && all(given) == all(&program);
        let cases = suite.cases.iter().filter(|case| same(&case.settings)).cloned();
        let cases = cases.map(|mut case| {
            case.settings = Given::new();
            case
        });
        let suite = Suite { cases: cases.collect(), path };
        assert!(suite.cases.len() >= 6, "{name}: {} cases", suite.cases.len());
        for ran in suite.run(&load(&stage, "rules"), &text, &no_message) {
            assert!(ran.passed, "{name} as text: {ran:?}");
        }
    }
}
