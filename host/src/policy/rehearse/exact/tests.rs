use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use super::super::super::sandbox::contract::{Address, Facts, KeyStatus, Wanted, Wants};
use super::super::merged::merge;
use super::super::property::{Outcome, Property, Relation, prove, relate};
use super::super::samples::Samples;
use super::super::space::Space;
use super::super::subject::Answer;
use super::super::tests::Chance;
use super::super::{Component, Stage};
use super::*;
use crate::config::Limits;
use crate::policy::Trial;

const TEXTS: usize = 60;
/// Facts in which values are held against the point that stands for them.
const CONTEXTS: usize = 12;

const METHODS: [&str; 3] = ["spf", "dkim", "dmarc"];
const FOUND: [&str; 9] = ["pass", "fail", "softfail", "neutral", "policy", "temperror", "permerror", "none", "unknown"];
/// Addresses that lie in each other's way: one in a domain that is named, below one that is, with the name of a sample.
const ADDRESSES: [&str; 13] = [
    "o'brien@bank.example",
    "someone@bank.example",
    "@bank.example",
    "*.bank.example",
    "@below.bank.example",
    "*.below.bank.example",
    "a'b@x.example",
    "\"a b@x.example\"",
    "Boss@Ours.example",
    "@elsewhere.example",
    "@elsewhere.test",
    "*.elsewhere.invalid",
    "@x.y.ours.example",
];
const NETWORKS: [&str; 10] = [
    "10.0.0.0/8",
    "10.0.0.0/9",
    "10.255.0.0/16",
    "10.128.0.0/9",
    "203.0.113.0/24",
    "198.51.100.0/24",
    "192.0.2.0/24",
    "2001:db8::/32",
    "::1",
    "0.0.0.0/0",
];
const HOSTS: [&str; 16] = [
    "mx.b.example",
    "*.b.example",
    "*.below.b.example",
    "pass",
    "\"[192.0.2.1]\"",
    "\"is: this\"",
    "*.elsewhere.invalid",
    "192.0.2.1",
    "\"u@h.example\"",
    "client",
    "\"is\"",
    "helo",
    "*.2.1",
    "host.elsewhere.example",
    "*.host.elsewhere.example",
    "\"10.0.0.0/8\"",
];

/// A question in the words of the grammar, about anything.
fn question(chance: &mut Chance) -> String {
    let list = |chance: &mut Chance, values: &[&str]| match chance.below(3) {
        0 => format!("in [{}, {}]", chance.of(values), chance.of(values)),
        _ => chance.of(values).to_owned(),
    };
    match chance.below(12) {
        0 => format!("result is {}", chance.of(&["valid", "invalid", "missing", "none", "unverified", "unusable"])),
        1 => format!("claim is {}", chance.of(&["testing", "some", "all", "unknown"])),
        2 => {
            format!("trail is {}", chance.of(&["none", "mailing-list", "forwarded", "resent", "automatic", "bounce"]))
        }
        3 => format!("{} is {}", chance.of(&METHODS), chance.of(&FOUND)),
        4 => format!("{} aligned", chance.of(&METHODS)),
        5 | 6 => {
            let fact = chance.of(&["sender", "recipient", "envelope sender"]);
            format!("{fact} is {}", list(chance, &ADDRESSES))
        }
        7 => format!("client ip is {}", list(chance, &NETWORKS)),
        8 => format!("{} is {}", chance.of(&["client name", "helo"]), list(chance, &HOSTS)),
        9 => format!("size {} {}", chance.of(&["over", "under"]), chance.of(&["4095", "4K", "1M", "0"])),
        10 => chance.of(&["last valid within 30 days", "last valid within 0 days", "never valid"]).to_owned(),
        _ => "tls".into(),
    }
}

fn text(chance: &mut Chance) -> Vec<String> {
    let decisions = ["mark", "defer", "accept", "quarantine \"sender is @no.example\"", "reject, tell the sender"];
    let mut lines: Vec<String> = (0..1 + chance.below(4))
        .map(|_| {
            let joint = chance.of(&[" and ", " or "]);
            let parts: Vec<String> =
                (0..1 + chance.below(3)).map(|_| format!("{}{}", chance.of(&["", "not "]), question(chance))).collect();
            format!("when {}: {}", parts.join(joint), chance.of(&decisions))
        })
        .collect();
    lines.push("otherwise accept".into());
    lines
}

fn toml_of(lines: &[String]) -> BTreeMap<String, toml::Value> {
    let lines = lines.iter().cloned().map(toml::Value::String).collect();
    BTreeMap::from([("rules".to_owned(), toml::Value::Array(lines))])
}

/// The text as a subject; none where the grammar does not take it, such as a line that stands twice.
fn subject(component: &Arc<Component>, lines: &[String]) -> Option<Subject> {
    component.under("text", component.fit(&toml_of(lines)).ok()?).ok()
}

fn shipped() -> (Arc<Component>, Arc<Limits>) {
    let limits = Arc::new(Limits::default().with(|limits| {
        limits.policy.time = std::time::Duration::from_millis(500);
        limits.policy.samples = 200;
    }));
    let octets = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("shipped/rules.wasm")).unwrap();
    let component = Stage::new(&limits).unwrap().load(&octets, &Trial::waived()).unwrap();
    assert!(component.is_rules);
    (Arc::new(component), limits)
}

/// Values that the axis may not have: near to what texts name, and far from it.
fn strange(kind: &Kind) -> Vec<Aspect> {
    let address = |text: &str| {
        let (local, domain) = text.rsplit_once('@').unwrap();
        Some(Address { local: local.into(), domain: domain.into() })
    };
    let addresses = [
        "someone@bank.example",
        "SOMEONE@BANK.example",
        "x@bank.example",
        "*@bank.example",
        "x@below.bank.example",
        "x@other.bank.example",
        "x@deep.below.bank.example",
        "b@x.example",
        "a'b@x.example",
        "a b@x.example",
        "boss+tag@ours.example",
        "boss@ours.example",
        "someone@ours.example",
        "x@elsewhere.example",
        "x@a.elsewhere.invalid",
        "q@z.x.y.ours.example",
        "q@nowhere.org",
    ];
    let hosts = [
        "mx.b.example",
        "MX.b.example.",
        ".b.example",
        "a.b.example",
        "a.below.b.example",
        "pass",
        "[192.0.2.1]",
        "is: this",
        "fail",
        "192.0.2.1",
        "u@h.example",
        "client",
        "is",
        "helo",
        "host.elsewhere.example",
        "a.host.elsewhere.example",
        "10.0.0.0/8",
        "mx.other.org",
    ];
    match kind {
        Kind::Sender => addresses.map(|text| Aspect::Sender(address(text))).into(),
        Kind::Recipient => addresses.map(|text| Aspect::Recipient(address(text))).into(),
        Kind::EnvelopeSender => addresses.map(|text| Aspect::EnvelopeSender(address(text))).into(),
        Kind::Ip => {
            let ips = [
                "10.0.0.1",
                "10.100.0.1",
                "10.200.0.1",
                "10.255.1.1",
                "11.0.0.1",
                "203.0.113.9",
                "198.51.100.9",
                "192.0.2.9",
                "2001:db8::9",
                "::1",
                "fe80::1",
                "255.255.255.255",
                "unknown",
            ];
            ips.map(|ip| Aspect::Ip(Some(ip.into()))).into()
        }
        Kind::ClientName => hosts.map(|name| Aspect::ClientName(Some(name.into()))).into(),
        Kind::Helo => hosts.map(|name| Aspect::Helo(name.into())).into(),
        Kind::Size => {
            [0, 1, 4_094, 4_095, 4_096, 4_097, 1 << 20, (1 << 20) + 1, u64::MAX].map(|n| Aspect::Size(Some(n))).into()
        }
        Kind::LastValid => [0, 1, 29, 30, 31, 5_000, u32::MAX].map(|n| Aspect::LastValid(Some(n))).into(),
        _ => Vec::new(),
    }
}

/// The values of one case, which is of no shape that texts have.
fn of_a_case(chance: &mut Chance) -> Samples {
    let kinds = [Kind::Sender, Kind::Recipient, Kind::EnvelopeSender, Kind::Ip, Kind::ClientName, Kind::Helo];
    let aspects: Vec<Aspect> = kinds.iter().map(|kind| chance.of(&strange(kind))).collect();
    let mut samples = Samples::default();
    samples.tell(&facts(aspects.iter()), &Wanted { facts: Wants::all(), headers: Vec::new() });
    samples
}

fn facts<'a>(aspects: impl Iterator<Item = &'a Aspect>) -> Facts {
    let mut facts = Facts::of(KeyStatus::Valid);
    aspects.for_each(|aspect| aspect.write(&mut facts));
    facts
}

#[test]
fn what_a_text_does_not_tell_apart_is_one_and_nothing_else_is() {
    let (component, limits) = shipped();
    let mut chance = Chance(0x1234_5678_9abc_def1);
    let (mut texts, mut merged, mut held) = (0, 0, 0);
    while texts < TEXTS {
        let lines = text(&mut chance);
        let Some(subject) = subject(&component, &lines) else { continue };
        texts += 1;
        let nothing = Wanted { facts: Wants::empty(), headers: Vec::new() };
        // Cases name values of any shape.
        let more = if texts % 2 == 0 { of_a_case(&mut chance) } else { Samples::default() };
        let (axes, wanted) = Space::wide(&[&subject], &more, &nothing, &limits);
        assert!(axes.iter().all(|axis| axis.closed && !axis.is_probed()), "{lines:?}");
        let row = |chance: &mut Chance| -> Vec<Aspect> {
            let value = |axis: &Axis, chance: &mut Chance| {
                let strange = strange(&axis.kind);
                let any = chance.below(axis.points.len() + strange.len());
                strange.get(any).cloned().unwrap_or_else(|| axis.points[any - strange.len()].aspect.clone())
            };
            axes.iter().map(|axis| value(axis, chance)).collect()
        };
        let contexts: Vec<Vec<Aspect>> = (0..CONTEXTS).map(|_| row(&mut chance)).collect();
        let answers = |place: usize, value: &Aspect| -> Vec<Answer> {
            let answer = |context: &Vec<Aspect>| {
                let with =
                    context.iter().enumerate().map(|(other, aspect)| if other == place { value } else { aspect });
                subject.answer(&facts(with), &wanted.headers)
            };
            contexts.iter().map(answer).collect()
        };
        for (place, axis) in axes.iter().enumerate() {
            let told: Vec<Vec<Answer>> = axis.points.iter().map(|point| answers(place, &point.aspect)).collect();
            for class in &axis.classes {
                merged += class.len() - 1;
                let alike = class.iter().all(|point| told[*point] == told[class[0]]);
                assert!(alike, "{lines:?}: {} is not one class in {:?}", axis.kind.word(), class);
            }
            // The filter tells of no client whose address cannot be read.
            let unread = |value: &Aspect| matches!(value, Aspect::Ip(Some(ip)) if ip.parse::<IpAddr>().is_err());
            for value in strange(&axis.kind).into_iter().filter(|value| !unread(value)) {
                held += 1;
                let value_told = answers(place, &value);
                assert!(told.contains(&value_told), "{lines:?}: {} {} has no class", axis.kind.word(), value.word());
            }
        }
    }
    assert!(merged > 1_000 && held > 500, "{merged} {held}");
}

#[test]
fn a_text_over_many_facts_is_proved_by_the_classes_that_its_constants_make() {
    let (component, limits) = shipped();
    let lines = [
        "when result is invalid and sender is @bank.example: reject, tell the recipient",
        "when result is missing and claim is all and trail is none and not (spf aligned or dkim aligned): quarantine",
        "when result is unverified and recipient is in [boss@ours.example, @finance.ours.example]: defer",
        "when client ip is in [10.0.0.0/8, 192.0.2.0/24] and size over 10M: mark",
        "otherwise accept",
    ];
    let subject = subject(&component, &lines.map(str::to_owned)).unwrap();
    let words = |text: &str| text.split('|').map(str::to_owned).collect::<Vec<_>>();
    let properties = |text: &str| Property::read(&words(text)).unwrap();
    for proof in
        prove(&subject, &properties("never-errors|never|reject when result=valid"), &Samples::default(), &limits)
    {
        assert!(matches!(proof.outcome, Outcome::Holds) && proof.extent.is_exact(), "{proof:?}");
    }
    let refuted = prove(&subject, &properties("never|reject when sender=x@bank.example"), &Samples::default(), &limits);
    assert!(matches!(refuted[0].outcome, Outcome::Fails(_)), "{refuted:?}");
    // What the property names is told apart, though the text does not.
    let lines = [lines[0], lines[1], "when client ip is 10.0.0.0/8: mark", lines[4]].map(str::to_owned);
    let subject = self::subject(&component, &lines).unwrap();
    let named =
        prove(&subject, &properties("never|mark when spf=softfail and client=11.0.0.1"), &Samples::default(), &limits);
    assert!(matches!(named[0].outcome, Outcome::Holds) && named[0].extent.is_exact(), "{named:?}");
}

/// A text with one line before `otherwise accept`.
fn one_line(component: &Arc<Component>, line: &str) -> Subject {
    subject(component, &[line.to_owned(), "otherwise accept".to_owned()]).unwrap_or_else(|| panic!("{line}"))
}

#[test]
fn what_the_component_tells_apart_is_never_proved_alike() {
    let (component, limits) = shipped();
    for (one, other) in [
        ("sender is o'brien@bank.example: mark", "sender is @bank.example: mark"),
        ("helo is 192.0.2.1: mark", "helo is unknown: mark"),
        ("helo is \"u@h.example\": mark", "helo is unknown: mark"),
        ("helo is client: mark", "helo is unknown: mark"),
        ("helo is *.2.1: mark", "helo is unknown: mark"),
        ("client ip is 10.0.0.0/008: mark", "client ip is 192.0.2.1: mark"),
        (
            "client name is not in [host.elsewhere.example, *.host.elsewhere.example]: mark",
            "client name is unknown: accept",
        ),
    ] {
        let texts = [one, other].map(|line| one_line(&component, &format!("when {line}")));
        let proof = relate(Relation::Equivalent, &texts[0], &texts[1], &Samples::default(), &limits);
        assert!(!(matches!(proof.outcome, Outcome::Holds) && proof.extent.is_exact()), "{one} / {other}: {proof:?}");
    }
}

#[test]
fn a_property_reads_addresses_and_hosts_as_the_text_does() {
    let (component, limits) = shipped();
    for (line, property, holds) in [
        ("recipient is boss@ours.example: defer", "only|defer when recipient=boss@ours.example", true),
        ("recipient is boss@ours.example: defer", "never|defer when recipient=Boss@ours.example", false),
        ("recipient is boss@ours.example: defer", "never|defer when recipient=boss+x@ours.example", false),
        ("helo is mx.b.example: defer", "never|defer when helo=MX.b.example.", false),
        ("client ip is 2001:db8::/32: defer", "only|defer when client=2001:db8::", false),
        ("client ip is 2001:db8::/32: defer", "only|defer when client=2001:db8::/32", true),
    ] {
        let words: Vec<String> = property.split('|').map(str::to_owned).collect();
        let properties = Property::read(&words).unwrap();
        let subject = one_line(&component, &format!("when {line}"));
        let proof = prove(&subject, &properties, &Samples::default(), &limits).remove(0);
        assert_eq!(matches!(proof.outcome, Outcome::Holds), holds, "{line} / {property}: {proof:?}");
    }
}

#[test]
fn each_combination_stands_in_the_table_once_whatever_its_lines_are_merged_with() {
    let (component, limits) = shipped();
    let mut chance = Chance(0x0fed_cba9_8765_4321);
    let mut texts = vec![
        [
            "when result is valid: accept",
            "when result is unverified: defer",
            "when why is in [several-keys, bad-key, malformed-header]: reject, tell the sender",
            "when trail is mailing-list: mark",
            "when claim is all and trail is none: quarantine",
            "otherwise accept",
        ]
        .map(str::to_owned)
        .to_vec(),
    ];
    texts.extend((0..TEXTS).map(|_| text(&mut chance)));
    let mut looked = 0;
    for lines in &texts {
        let Some(subject) = subject(&component, lines) else { continue };
        let nothing = Wanted { facts: Wants::empty(), headers: Vec::new() };
        let Ok(space) = Space::over(&[&subject], &Samples::default(), &nothing, &limits) else { continue };
        if space.len() > 5_000 {
            continue;
        }
        let answers = space.ask(&subject, &limits);
        let (merged, cut) = merge(&space, &|row| answers.number(row), answers.distinct.len(), 10_000);
        assert!(!cut);
        for row in 0..space.len() {
            let holders: Vec<u32> =
                merged.iter().filter(|merged| merged.holds(space.row(row))).map(|merged| merged.answer).collect();
            assert_eq!(holders, [answers.number(row).unwrap()], "{lines:?}: row {row}");
        }
        looked += 1;
    }
    assert!(looked > 20, "{looked}");
}

#[test]
fn another_component_with_the_same_setting_proves_nothing_by_its_words() {
    let (component, limits) = shipped();
    let lines = ["when sender is @bank.example: mark".to_owned(), "otherwise accept".to_owned()];
    let text = subject(&component, &lines).unwrap();
    let mut other = Component {
        sandbox: Arc::clone(&component.sandbox),
        guest: Arc::clone(&component.guest),
        description: component.description.clone(),
        is_rules: false,
        assumed: BTreeMap::new(),
    };
    other.description.name = "other".into();
    let other = Arc::new(other);
    let other = other.under("other", other.fit(&toml_of(&lines)).unwrap()).unwrap();
    assert!(Vocabulary::of(&[&text]).is_some() && Vocabulary::of(&[&text, &other]).is_none());
    let proofs = prove(&other, &[Property::NeverErrors], &Samples::default(), &limits);
    assert!(!proofs[0].extent.is_exact());
    // Nor does a network whose address has two spellings.
    let mapped = ["when client ip is ::ffff:10.0.0.0/104: mark".to_owned(), "otherwise accept".to_owned()];
    if let Some(mapped) = subject(&component, &mapped) {
        assert!(Vocabulary::of(&[&mapped]).is_none());
    }
}
