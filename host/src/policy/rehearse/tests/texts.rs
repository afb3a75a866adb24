//! Texts of `rules` rehearsed: no value that a text can name is missed, and neither is a rule with many conditions.

use super::*;

fn rules(component: &Arc<Component>, lines: &[&str]) -> Subject {
    let lines: Vec<toml::Value> = lines.iter().map(|line| (*line).into()).collect();
    let given = BTreeMap::from([("rules".to_owned(), toml::Value::Array(lines))]);
    component.under("it", component.fit(&given).unwrap()).unwrap()
}

/// The same component as one of which nothing is known: its texts are rehearsed as any policy's settings are.
fn unknown(component: Arc<Component>) -> Arc<Component> {
    let mut component = Arc::into_inner(component).unwrap();
    component.is_rules = false;
    Arc::new(component)
}

/// The changes that a line makes to a policy that accepts everything.
fn changes(component: &Arc<Component>, condition: &str, limits: &Limits) -> Comparison {
    let line = format!("when {condition}: defer");
    let (old, new) = (rules(component, &["otherwise accept"]), rules(component, &[&line, "otherwise accept"]));
    compare(&old, &new, &Samples::default(), limits).unwrap_or_else(|e| panic!("{condition}: {e}"))
}

/// Every fact of the grammar in policies/rules/README.md with values of each shape; `limit` is a reason that no policy is told of.
const VALUES: &[(&str, &str)] = &[
    ("result is", "valid invalid missing none unverified unusable"),
    (
        "why is",
        "wrong expired dns timeout no-proof no-from several-from bad-address several-keys bad-key malformed-header other unknown",
    ),
    ("claim is", "testing some all unknown"),
    ("trail is", "mailing-list forwarded resent automatic bounce none"),
    ("spf is", "pass fail softfail neutral policy temperror permerror none unknown aligned"),
    ("dkim is", "pass fail softfail neutral policy temperror permerror none unknown aligned"),
    ("dmarc is", "pass fail softfail neutral policy temperror permerror none unknown aligned"),
    ("sender is", "a@b.example @b.example *.b.example unknown [a@b.example,@c.example]"),
    ("recipient is", "a@b.example @b.example *.b.example unknown"),
    ("envelope sender is", "a@b.example @b.example *.b.example empty"),
    ("client ip is", "192.0.2.1 192.0.2.0/24 2001:db8::/32 203.0.113.0/24 unknown"),
    ("client name is", "mx.b.example *.b.example localhost unknown"),
    ("helo is", "mx.b.example *.b.example localhost \"[192.0.2.1]\" \"a_b\""),
    ("size", "over_10M under_500K over_1G under_7 over_2000000 under_2M"),
    ("last valid", "within_30_days within_0_days within_400_days"),
    ("", "tls never_valid spf_aligned dkim_aligned dmarc_aligned not_tls size_is_unknown"),
];

#[test]
fn every_value_of_every_fact_that_a_text_can_name_makes_a_difference_that_is_found() {
    let limits = limits();
    let stage = Stage::new(&limits).unwrap();
    let component = shipped(&stage, "rules");
    let mut missed = Vec::new();
    for (fact, values) in VALUES {
        for value in values.split(' ') {
            let condition = format!("{fact} {}", value.replace('_', " ").replace("a b", "a_b"));
            let changes = changes(&component, condition.trim(), &limits);
            if changes.counts.is_empty() {
                missed.push(condition);
            }
        }
    }
    assert!(missed.is_empty(), "{missed:?}");
}

#[test]
fn a_rule_with_seven_conditions_is_found() {
    let limits = limits();
    let stage = Stage::new(&limits).unwrap();
    let component = unknown(shipped(&stage, "rules"));
    let condition = "sender is @a.example and recipient is @b.example and client ip is 10.0.0.0/8 and trail is none and claim is all \
                     and spf aligned and size over 1M";
    let changes = changes(&component, condition, &limits);
    assert!(!changes.extent.probed.is_empty(), "this one is probed: {:?}", changes.extent);
    assert_eq!(changes.changes.len(), 1, "{changes:?}");
}

/// The colon in quotes hides the rest from those who read its words.
const HIDDEN: &str = "helo is not 'a: b' and sender is x@a.example and recipient is y@b.example and client ip is 10.0.0.0/8 and trail is \
                      bounce and claim is testing and spf is softfail and dkim is neutral and size over 1M";

#[test]
fn what_a_probe_does_not_find_is_not_told_and_the_facts_of_a_case_are_always_tried() {
    let limits = limits();
    let stage = Stage::new(&limits).unwrap();
    let component = unknown(shipped(&stage, "rules"));
    let line = &format!("when {HIDDEN}: defer");
    let (old, new) = (rules(&component, &["otherwise accept"]), rules(&component, &[line, "otherwise accept"]));
    let hidden = compare(&old, &new, &Samples::default(), &limits).unwrap();
    assert!(hidden.counts.is_empty() && hidden.doubt().unwrap().contains("probe"), "{hidden:?}");
    let proof =
        |property: &str, samples: &Samples| prove(&new, &[clause(property)], samples, &limits).remove(0).outcome;
    assert!(matches!(proof("defer", &Samples::default()), Outcome::Unknown(_)));
    let relation = relate(Relation::Equivalent, &old, &new, &Samples::default(), &limits).outcome;
    assert!(matches!(relation, Outcome::Unknown(_)), "{relation:?}");
    let case = toml::toml! {
        status = "invalid"
        why = "wrong"
        sender = "x@a.example"
        recipient = "y@b.example"
        client = { ip = "10.1.2.3" }
        trail = ["bounce"]
        claim = "testing"
        mail-auth = { spf = "softfail", dkim = "neutral" }
        size = 2_000_000
    };
    let facts: WrittenFacts = case.try_into().unwrap();
    let mut samples = Samples::default();
    samples.tell(&facts.facts(new.wanted()).unwrap(), new.wanted());
    assert!(!compare(&old, &new, &samples, &limits).unwrap().counts.is_empty());
    assert!(matches!(proof("defer", &samples), Outcome::Fails(_)));
}

#[test]
fn a_change_is_told_by_bounds_and_marks_and_not_by_samples() {
    let limits = limits();
    let stage = Stage::new(&limits).unwrap();
    let component = shipped(&stage, "rules");
    for (condition, words) in [
        ("last valid within 90 days", "last-valid at most 90 days ago"),
        ("not last valid within 90 days and not never valid", "last-valid more than 90 days ago"),
        ("never valid", "last-valid never"),
        ("size over 10M", "size more than 10485760 octets"),
        ("size under 10M or size is unknown", "size not said or at most 10485759 octets"),
        ("last valid within 90 days and not last valid within 30 days", "last-valid 31 to 90 days ago"),
        ("trail is not none and trail is not mailing-list", "any mark, but no mailing-list"),
        ("trail is in [forwarded, resent] and trail is not bounce", "forwarded or resent, but no bounce"),
    ] {
        let changes = changes(&component, condition, &limits);
        let told: Vec<&str> = changes.changes.iter().map(|changed| changed.when.as_str()).collect();
        assert!(told.iter().any(|told| told.contains(words)), "{condition}: {told:?}");
    }
}

#[test]
fn what_no_reader_of_words_finds_is_found_by_the_classes_of_a_text() {
    let limits = limits();
    let stage = Stage::new(&limits).unwrap();
    let component = shipped(&stage, "rules");
    let changes = changes(&component, HIDDEN, &limits);
    assert!(changes.changes.len() == 1 && changes.doubt().is_none(), "{changes:?}");
}

#[test]
fn a_probe_ends_with_its_time() {
    let limits = Arc::new(Limits::default().with(|limits| {
        limits.policy.rehearsal = std::time::Duration::ZERO;
        limits.policy.rows = 10_000;
    }));
    let stage = Stage::new(&limits).unwrap();
    let missing = subject(&shipped(&stage, "missing-direct"), "");
    assert!(matches!(Table::of(&missing, &Samples::default(), &limits), Err(TooWide::Time(_))));
    let proofs = prove(&missing, &[Property::NeverErrors], &Samples::default(), &limits);
    assert!(matches!(&proofs[0].outcome, Outcome::Unknown(why) if why.contains("within 0 s")), "{proofs:?}");
}

#[test]
fn a_condition_finds_its_own_values_and_one_that_nothing_meets_proves_nothing() {
    let limits = limits();
    let stage = Stage::new(&limits).unwrap();
    let (_, mark) = narrow(&stage);
    let outcome = |text: &str| prove(&mark, &[clause(text)], &Samples::default(), &limits).remove(0).outcome;
    for met in [
        "mark when Subject:=URGENT",
        "mark when Subject:=none",
        "mark when helo=localhost",
        "mark when helo=none",
        "mark when client-name=mx.b.example",
        "mark when sender=@bank.example",
        "mark when recipient=root@localhost",
        "mark when envelope-sender=none",
        "mark when client=192.0.2.0/24",
        "mark when size=7",
        "mark when size<7",
        "mark when last-valid>10001",
        "mark when last-valid>=30 and size<1000 and helo=x.y",
        "mark when dmarc=pass",
    ] {
        assert!(matches!(outcome(met), Outcome::Fails(_)), "{met}: {:?}", outcome(met));
    }
    for unmet in ["mark when result=valid and why=wrong", "mark when result=none and claim=all", "mark when size<0"] {
        let outcome = outcome(unmet);
        assert!(matches!(&outcome, Outcome::Unknown(why) if why.contains("no combination")), "{unmet}: {outcome:?}");
    }
    let many: Vec<String> = (0..40).map(|number| format!("x{number}@b.example")).collect();
    let outcome = outcome(&format!("reject when sender={}", many.join("|")));
    assert!(matches!(&outcome, Outcome::Unknown(why) if why.contains("left out")), "{outcome:?}");
}

#[test]
fn a_property_is_read_back_as_it_is_printed() {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    for given in [
        &["never-errors", "monotone"][..],
        &["never", "reject when result=valid", "only", "defer or error when result=unverified"],
        &["always", "accept when Subject:=\"x\""],
        &["never \"reject when result=valid\""],
        &["never reject when result=valid"],
    ] {
        let printed = |properties: &[Property]| properties.iter().map(Property::to_string).collect::<Vec<_>>();
        let first = printed(&Property::read(&words(given)).unwrap());
        assert_eq!(first, printed(&Property::read(&first).unwrap()));
    }
    let standard: Vec<String> = Property::standard().iter().map(Property::to_string).collect();
    assert_eq!(standard, Property::read(&standard).unwrap().iter().map(Property::to_string).collect::<Vec<_>>());
    assert!(Property::read(&words(&["never \"drop\""])).is_err());
}

#[test]
fn header_fields_of_cases_go_by_their_names() {
    let limits = limits();
    let stage = Stage::new(&limits).unwrap();
    let (_, mark) = narrow(&stage);
    let wanted = |names: &[&str]| contract::Wanted {
        facts: Wants::empty(),
        headers: names.iter().map(|name| (*name).to_owned()).collect(),
    };
    let told: WrittenFacts = toml::from_str("status = \"valid\"\nheaders = { Subject = [\"x\"] }").unwrap();
    let mut samples = Samples::default();
    samples.tell(&told.facts(&wanted(&["subject"])).unwrap(), &wanted(&["subject"]));
    let (axes, _) = Space::wide(&[&mark], &samples, &wanted(&["List-Id", "Subject"]), &limits);
    let has = |field: &str| {
        let axis = axes.iter().find(|axis| axis.kind.word() == field).unwrap();
        axis.points.iter().any(|point| point.label == "\"x\"")
    };
    assert!(has("Subject") && !has("List-Id"));
}

/// Facts that the filter can find, by chance.
fn facts(axes: &[axis::Axis], chance: &mut Chance) -> Vec<axis::Aspect> {
    let mut row: Vec<usize> = Vec::new();
    while row.len() < axes.len() {
        let count = axes[row.len()].points.len();
        let first = chance.below(count);
        let fits = (0..count).map(|step| (first + step) % count).find(|point| {
            let begin: Vec<usize> = row.iter().copied().chain([*point]).collect();
            Space::plain(axes).allows(&begin)
        });
        match fits {
            Some(point) => row.push(point),
            None => row.clear(),
        }
    }
    axes.iter().zip(row).map(|(axis, point)| axis.points[point].aspect.clone()).collect()
}

/// What is said of this address.
fn mailbox(address: &contract::Address, chance: &mut Chance) -> String {
    let domain = &address.domain;
    let below = domain.split_once('.').map_or(domain.as_str(), |(_, rest)| rest);
    let bank = if domain == "b.example" { "is @b.example" } else { "is not @b.example" };
    let one = format!("is {}@{domain}", address.local);
    let list = format!("is in [nobody@nowhere.test, @{domain}]");
    let up = if below.contains('.') { format!("is *.{below}") } else { format!("is not *.{domain}") };
    [one, format!("is @{domain}"), bank.to_owned(), list, up][chance.below(5)].clone()
}

/// What is said of this host.
fn host(name: &str) -> &'static str {
    if name == "mx.b.example" { "is mx.b.example" } else { "is not mx.b.example" }
}

/// What is said of what SPF or DKIM found.
fn method(method: &str, result: &str, aligned: bool, chance: &mut Chance) -> String {
    if aligned {
        return format!("{method} aligned");
    }
    let other = if result == "fail" { "pass" } else { "fail" };
    let forms = [format!("{method} is {result}"), format!("{method} is not {other}"), format!("not {method} aligned")];
    forms[chance.below(3)].clone()
}

/// A condition that holds of this value, in one of several forms; none where the grammar has none.
fn condition(aspect: &axis::Aspect, chance: &mut Chance) -> Option<String> {
    use axis::Aspect;
    Some(match aspect {
        Aspect::Result(status, None) => format!("result is {}", status.word()),
        Aspect::Result(_, Some(why)) => format!("why is {}", why.word()),
        Aspect::Claim(None) => "claim is unknown".into(),
        Aspect::Claim(Some(claim)) if chance.below(2) == 0 => format!("claim is {}", claim.word()),
        Aspect::Claim(Some(contract::Claim::All)) => "claim is not testing".into(),
        Aspect::Claim(Some(_)) => "not claim is all".into(),
        Aspect::LastValid(None) => "never valid".into(),
        Aspect::LastValid(Some(days)) if *days <= 30 => "last valid within 30 days".into(),
        Aspect::LastValid(Some(_)) => "not last valid within 30 days".into(),
        Aspect::Sender(None) => "sender is unknown".into(),
        Aspect::Sender(Some(address)) => format!("sender {}", mailbox(address, chance)),
        Aspect::Recipient(None) => "recipient is unknown".into(),
        Aspect::Recipient(Some(address)) => format!("recipient {}", mailbox(address, chance)),
        Aspect::EnvelopeSender(None) => "envelope sender is empty".into(),
        Aspect::EnvelopeSender(Some(address)) => format!("envelope sender {}", mailbox(address, chance)),
        Aspect::Ip(None) => "client ip is unknown".into(),
        Aspect::Ip(Some(ip)) if ip.starts_with("10.") => {
            chance.of(&["client ip is 10.0.0.0/8", "client ip is not ::/0"]).into()
        }
        Aspect::Ip(Some(_)) => "client ip is not in [10.0.0.0/8, 192.168.0.0/16]".into(),
        Aspect::Tls(true) => "tls".into(),
        Aspect::Tls(false) => "not tls".into(),
        Aspect::ClientName(None) => "client name is unknown".into(),
        Aspect::ClientName(Some(name)) => format!("client name {}", host(name)),
        Aspect::Helo(name) if name.is_empty() => return None,
        Aspect::Helo(name) => format!("helo {}", host(name)),
        Aspect::Size(None) => "size is unknown".into(),
        Aspect::Size(Some(size)) if *size > 1 << 20 => chance.of(&["size over 1M", "not size under 9K"]).into(),
        Aspect::Size(Some(size)) if *size < 9 << 10 => "size under 9K".into(),
        Aspect::Size(Some(_)) => "not size over 1M".into(),
        Aspect::Trail(trail) if *trail == contract::Trail::empty() => "trail is none".into(),
        Aspect::Trail(trail) => {
            let (word, mark) = contract::Trail::WORDS[chance.below(5)];
            if trail.contains(mark) { format!("trail is {word}") } else { format!("trail is not {word}") }
        }
        Aspect::Spf(None) => "spf is unknown".into(),
        Aspect::Dkim(None) => "dkim is unknown".into(),
        Aspect::Dmarc(None) => "dmarc is unknown".into(),
        Aspect::Spf(Some((result, aligned))) => method("spf", result.word(), *aligned, chance),
        Aspect::Dkim(Some((result, aligned))) => method("dkim", result.word(), *aligned, chance),
        Aspect::Dmarc(Some(result)) => format!("dmarc is {}", result.word()),
        Aspect::Header(..) => return None,
    })
}

#[test]
fn a_rule_of_many_conditions_is_found_whatever_they_are() {
    let limits = Arc::new(Limits::default().with(|limits| {
        limits.policy.time = std::time::Duration::from_millis(500);
        limits.policy.rows = 10_000;
    }));
    let stage = Stage::new(&limits).unwrap();
    let component = shipped(&stage, "rules");
    let all = rules(
        &component,
        &[
            "when sender is a@b.example and recipient is *.c.example and envelope sender is d@e.test and client ip is 10.0.0.0/8: mark",
            "when client name is mx.b.example or helo is mx.b.example or size over 9M or last valid within 3 days: mark",
            "when why is wrong or claim is all or trail is none or spf aligned: mark",
            "otherwise accept",
        ],
    );
    let (axes, _) = Space::wide(&[&all], &Samples::default(), &contract::Wanted::nothing(), &limits);
    let mut chance = Chance(0x5eed_0123_4567_89ab);
    let accepts = rules(&component, &["otherwise accept"]);
    let (mut tried, mut found, mut missed) = (0, 0, Vec::new());
    while tried < 24 {
        let mut facts = facts(&axes, &mut chance);
        let count = 5 + chance.below(4);
        let mut conditions = Vec::new();
        while conditions.len() < count && !facts.is_empty() {
            let aspect = facts.swap_remove(chance.below(facts.len()));
            conditions.extend(condition(&aspect, &mut chance));
        }
        let line = format!("when {}: defer", conditions.join(" and "));
        let settings =
            BTreeMap::from([("rules".to_owned(), toml::Value::from(vec![line.as_str(), "otherwise accept"]))]);
        // A text whose results and reasons exclude each other is none.
        let Ok(subject) = component.under("it", component.fit(&settings).unwrap()) else { continue };
        tried += 1;
        match compare(&accepts, &subject, &Samples::default(), &limits) {
            Ok(changes) if changes.counts.is_empty() => missed.push(line),
            Ok(_) => found += 1,
            // With so few rows some are too wide, and that is told.
            Err(_) => {}
        }
    }
    assert!(missed.is_empty() && found * 2 > tried, "missed: {missed:#?}, found {found} of {tried}");
}

/// A value of each fact that names a place, in each spelling of it, and the condition of a text that means the same.
const SPELT: &[(&str, &str, &[&str])] = &[
    (
        "sender",
        "sender",
        &["@b.example", "@B.Example", "@b\u{fc}cher.example", "*.b.example", "a@b.example", "o'brien@b.example"],
    ),
    ("sender", "sender", &["\"a b\"@b.example", "list=bob@b.example", "a|b@b.example", "{a}@b.example"]),
    ("recipient", "recipient", &["@b.example", "*.b.example", "o'brien@b.example", "A@b.example"]),
    ("envelope-sender", "envelope sender", &["@b.example", "*.b.example", "list=bob@b.example"]),
    ("helo", "helo", &["mx.b.example", "*.b.example", "MX.B.example.", "1.2", "10.0.0.1", "[192.0.2.1]", "localhost"]),
    ("client-name", "client name", &["mx.b.example", "*.b.example", "10.0.0.1"]),
];

/// The value as a text for `rules` has it.
fn in_rules(value: &str) -> String {
    let value = value.strip_suffix('.').unwrap_or(value).replace("b\u{fc}cher", "xn--bcher-kva");
    if value.contains('"') { format!("'{value}'") } else { format!("\"{value}\"") }
}

#[test]
fn a_property_is_refuted_by_the_mail_that_it_means_however_its_value_is_spelt() {
    let limits = limits();
    let stage = Stage::new(&limits).unwrap();
    for component in [shipped(&stage, "rules"), unknown(shipped(&stage, "rules"))] {
        for (fact, asked, values) in SPELT {
            // `|` parts the values of a condition.
            for value in values.iter().filter(|value| !value.contains('|')) {
                let line = format!("when {asked} is {}: mark", in_rules(value));
                let it = rules(&component, &[&line, "otherwise accept"]);
                let property = clause(&format!("mark when {fact}={value}"));
                let outcome = prove(&it, &[property], &Samples::default(), &limits).remove(0).outcome;
                assert!(matches!(outcome, Outcome::Fails(_)), "{fact}={value} by {line}: {outcome:?}");
                // And what settings name is found without a word about it; a blank within words of which nothing is known ends one.
                if value.contains(' ') && !component.is_rules {
                    continue;
                }
                let outcome = prove(&it, &[clause("mark")], &Samples::default(), &limits).remove(0).outcome;
                assert!(matches!(outcome, Outcome::Fails(_)), "{line}: {outcome:?}");
            }
        }
    }
}

#[test]
fn the_values_within_a_pattern_of_a_property_that_a_text_does_not_name_are_looked_at_too() {
    let limits = limits();
    let stage = Stage::new(&limits).unwrap();
    for component in [shipped(&stage, "rules"), unknown(shipped(&stage, "rules"))] {
        for (fact, asked, text, pattern) in [
            ("sender", "sender", "[someone@b.example]", "@b.example"),
            ("sender", "sender", "[@below.b.example]", "*.b.example"),
            ("helo", "helo", "[below.b.example]", "*.b.example"),
            ("client-name", "client name", "[below.b.example, below2.b.example]", "*.b.example"),
        ] {
            let it = rules(&component, &[&format!("when {asked} is in {text}: mark"), "otherwise accept"]);
            let property = clause(&format!("accept when {fact}={pattern}"));
            let outcome = prove(&it, &[property], &Samples::default(), &limits).remove(0).outcome;
            assert!(matches!(outcome, Outcome::Fails(_)), "{fact}={pattern} by {text}: {outcome:?}");
        }
    }
}

#[test]
fn a_value_that_no_mail_has_is_refused() {
    for value in [
        "*@b.example",
        "@*.b.example",
        "*.@b.example",
        "@b.example.",
        "<x@b.example>",
        "\"x@b.example\"",
        "@",
        "a@",
        "a b@c.example",
    ] {
        for fact in ["sender", "recipient", "envelope-sender"] {
            let said = Clause::read(&format!("mark when {fact}={value}")).unwrap_err().to_string();
            assert!(said.contains("*.b.example"), "{fact}={value}: {said}");
        }
    }
    for value in ["\"mx.b.example\"", "mx.*.example", "*.", "<mx.b.example>", "@b.example", "'mx'"] {
        for fact in ["helo", "client-name"] {
            assert!(Clause::read(&format!("mark when {fact}={value}")).is_err(), "{fact}={value}");
        }
    }
}
