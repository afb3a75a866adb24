use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::space::Space;
use super::*;
use crate::case::Disposition;
use crate::policy::Trial;

mod journal;
mod texts;

/// Numbers that are the same each time (xorshift64).
pub(super) struct Chance(pub(super) u64);

impl Chance {
    pub(super) fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % most.max(1)
    }

    pub(super) fn of<T: Clone>(&mut self, values: &[T]) -> T {
        values[self.below(values.len())].clone()
    }
}

fn limits() -> Arc<Limits> {
    Arc::new(Limits::default().with(|limits| limits.policy.time = std::time::Duration::from_millis(500)))
}

fn root() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn shipped(stage: &Stage, name: &str) -> Arc<Component> {
    let octets = std::fs::read(root().join(format!("policies/{name}/{name}.wasm"))).unwrap();
    Arc::new(stage.load(&octets, &Trial::waived()).unwrap())
}

fn given(settings: &str) -> BTreeMap<String, toml::Value> {
    toml::from_str(settings).unwrap()
}

fn subject(component: &Arc<Component>, settings: &str) -> Subject {
    component.under("it", component.fit(&given(settings)).unwrap()).unwrap()
}

/// A policy that no test machine needs a compiler for, with a space that is gone through quickly.
fn narrow(stage: &Stage) -> (Arc<Component>, Subject) {
    let component = shipped(stage, "mark");
    let subject = subject(&component, "");
    (component, subject)
}

fn no_messages(path: &Path, _: &WrittenFacts) -> Result<WrittenFacts, String> {
    Err(path.display().to_string())
}

fn clause(text: &str) -> Property {
    Property::Never(Clause::read(text).unwrap())
}

#[test]
fn a_policy_that_wants_nothing_is_one_row_and_proved() {
    let limits = limits();
    let stage = Stage::new(&limits).unwrap();
    let (_, mark) = narrow(&stage);
    let table = Table::of(&mark, &Samples::default(), &limits).unwrap();
    assert_eq!((table.extent().rows, table.rows().len(), table.extent().is_exact()), (6, 1, true));
    assert_eq!(table.columns(), ["result"]);
    let proofs = prove(
        &mark,
        &[Property::NeverErrors, clause("reject"), clause("mark when result=valid")],
        &Samples::default(),
        &limits,
    );
    assert!(matches!(proofs[0].outcome, Outcome::Holds) && matches!(proofs[1].outcome, Outcome::Holds));
    let Outcome::Fails(counterexample) = &proofs[2].outcome else { panic!("{proofs:?}") };
    let case = &counterexample.cases[0].0;
    assert!(case.contains("status = \"valid\"") && case.contains("disposition = \"mark\""), "{case}");
}

#[test]
fn a_property_over_facts_that_a_policy_does_not_see_is_told_by_those_facts_too() {
    let limits = limits();
    let stage = Stage::new(&limits).unwrap();
    let (_, mark) = narrow(&stage);
    let proofs = prove(&mark, &[clause("mark when trail=bounce and why=expired")], &Samples::default(), &limits);
    assert!(matches!(proofs[0].outcome, Outcome::Fails(_)), "{proofs:?}");
    let proofs =
        prove(&mark, &[clause("mark when why=dns and claim=all and result=missing")], &Samples::default(), &limits);
    assert!(matches!(proofs[0].outcome, Outcome::Unknown(_)), "dns is no reason of a missing key: {proofs:?}");
}

#[test]
fn a_relation_of_two_policies_is_proved_or_refuted() {
    let limits = limits();
    let stage = Stage::new(&limits).unwrap();
    let [accept, mark] = ["accept", "mark"].map(|name| subject(&shipped(&stage, name), ""));
    let told = |relation, one, other| relate(relation, one, other, &Samples::default(), &limits).outcome;
    assert!(matches!(told(Relation::Equivalent, &mark, &mark), Outcome::Holds));
    assert!(matches!(told(Relation::Equivalent, &accept, &mark), Outcome::Fails(_)));
    assert!(matches!(told(Relation::Implies, &mark, &accept), Outcome::Holds));
    assert!(matches!(told(Relation::Implies, &accept, &mark), Outcome::Fails(_)));
    let changes = compare(&mark, &accept, &Samples::default(), &limits).unwrap();
    assert_eq!((changes.changes.len(), changes.counts.as_slice()), (1, [(Change::Looser, 6)].as_slice()));
}

#[test]
fn rows_that_are_printed_as_cases_are_read_again_and_pass() {
    let limits = limits();
    let stage = Stage::new(&limits).unwrap();
    for name in ["accept", "mark", "quarantine", "reject-silently", "reject-notify-both"] {
        let component = shipped(&stage, name);
        let covered = coverage(None, &component, &BTreeMap::new(), &no_messages, &limits).unwrap();
        assert_eq!((covered.len(), covered[0].reached()), (1, 0));
        let text: String = covered[0].missing.iter().map(|missing| missing.case.0.as_str()).collect();
        let suite = Suite::read(&text, Path::new("cases.toml")).unwrap();
        let ran = suite.run(&component, &BTreeMap::new(), &no_messages);
        assert!(ran.iter().all(|ran| ran.passed), "{ran:?}");
        let covered = coverage(Some(&suite), &component, &BTreeMap::new(), &no_messages, &limits).unwrap();
        assert_eq!(covered[0].reached(), covered[0].rows, "{covered:?}");
    }
}

#[test]
fn the_cases_of_each_shipped_policy_reach_every_row_of_its_table() {
    // All combinations of what missing-direct wants are gone through by the program: here a probe has to do, since a test is not optimised.
    let limits = Arc::new(Limits::default().with(|limits| {
        limits.policy.time = std::time::Duration::from_millis(500);
        limits.policy.rows = 50_000;
    }));
    let stage = Stage::new(&limits).unwrap();
    let mut tried = 0;
    for entry in std::fs::read_dir(root().join("policies")).unwrap() {
        let dir = entry.unwrap().path();
        // The table of rules is that of the text which somebody writes.
        if dir.ends_with("rules") {
            continue;
        }
        let cases = dir.join("cases.toml");
        let Ok(text) = std::fs::read_to_string(&cases) else { continue };
        let component = shipped(&stage, &dir.file_name().unwrap().to_string_lossy());
        let suite = Suite::read(&text, &cases).unwrap();
        for covered in coverage(Some(&suite), &component, &BTreeMap::new(), &no_messages, &limits).unwrap() {
            assert!(covered.missing.is_empty(), "{}: {covered:#?}", dir.display());
        }
        tried += 1;
    }
    assert!(tried >= 9);
}

#[test]
fn a_space_that_is_probed_says_so_and_has_the_rows_of_the_whole_one() {
    let limits = Arc::new(Limits::default().with(|limits| {
        limits.policy.time = std::time::Duration::from_millis(500);
        limits.policy.rows = 50_000;
    }));
    let stage = Stage::new(&limits).unwrap();
    let component = shipped(&stage, "missing-direct");
    let table = Table::of(&subject(&component, ""), &Samples::default(), &limits).unwrap();
    let extent = table.extent();
    assert!(!extent.is_exact() && !extent.probed.is_empty(), "{extent:?}");
    let rows: Vec<String> = (table.rows().iter())
        .map(|row| {
            let words = row.facts.iter().map(|word| word.clone().unwrap_or("*".into())).collect::<Vec<_>>();
            format!("{} {}", words.join(" / "), row.decision)
        })
        .collect();
    assert_eq!(
        rows,
        [
            "all but missing / * / * / * / * accept",
            "missing / testing or some / * / * / * accept",
            "missing / all / none / unsaid / * mark: this domain sends no mail without a key",
            "missing / all / none / aligned / * accept",
            "missing / all / none / all but unsaid and aligned / aligned accept",
            "missing / all / none / all but unsaid and aligned / all but unsaid and aligned mark: this domain sends no mail without \
             a key",
            "missing / all / any mark / * / * accept",
        ],
        "{:?}",
        table.columns()
    );
}

#[test]
fn a_failing_policy_is_found_out_with_the_facts_that_make_it_fail() {
    let limits = Arc::new(Limits::default());
    let stage = Stage::new(&limits).unwrap();
    let octets = std::fs::read(root().join("tests/hostile/hostile.wasm")).unwrap();
    let hostile = Arc::new(stage.load(&octets, &Trial::waived()).unwrap());
    let acts = hostile.settings();
    let setting = acts.iter().find(|setting| setting.default.is_null()).unwrap();
    let act = given(&format!("{} = \"trap\"", setting.name));
    let Ok(subject) = hostile.under("hostile", hostile.fit(&act).unwrap()) else { panic!("{acts:?}") };
    let proofs = prove(&subject, &[Property::NeverErrors], &Samples::default(), &limits);
    assert!(matches!(proofs[0].outcome, Outcome::Fails(_)), "{proofs:?}");
    let found = odd(&hostile, Ok(&subject), &Samples::default(), &limits);
    assert!(found.iter().any(|odd| odd.id == "P003" && odd.wrong && odd.example.is_some()), "{found:?}");
}

#[test]
fn single_changes_tell_what_counted() {
    let limits = limits();
    let stage = Stage::new(&limits).unwrap();
    let subject = subject(&shipped(&stage, "missing-direct"), "then = \"reject\"");
    let facts: WrittenFacts = toml::from_str("status = \"missing\"\nclaim = \"all\"\ntrail = []").unwrap();
    let reasons = reasons(&subject, &facts, &Samples::default(), &limits).unwrap();
    assert!(reasons.decision.starts_with("reject, tell the sender"), "{reasons:?}");
    let counted = |fact: &str| reasons.flips.iter().any(|flip| flip.fact == fact && flip.decision == "accept");
    assert!(counted("claim") && counted("trail") && counted("result"), "{reasons:?}");
    assert_eq!(reasons.idle, ["dkim", "dmarc"], "no trusted server said anything, so SPF comes first");
}

#[test]
fn cases_of_any_shape_are_errors_with_a_line_or_run() {
    for (text, line, word) in [
        ("", 1, "no [[case]]"),
        ("\n\n[[case]]\nname = \"a\"\nfact = 1", 5, "unknown field `fact`"),
        ("[[case]]\nname = \"a\"\nfacts = { status = \"valid\", wy = \"x\" }\nexpect = {}", 3, "unknown field `wy`"),
        ("[[case]]\nname = \"a\"\nfacts = { status = \"good\" }\nexpect = {}", 3, "good"),
        ("[[case]]\nname = \"a\"\nfacts = { status = \"valid\" }\n\nexpect = {}", 5, "write disposition"),
        ("[[case]]\nname = \"a\"\nfacts = { status = \"valid\" }\nexpect = { disposition = \"drop\" }", 4, "drop"),
        (
            "[[case]]\nname = \"a\"\nfacts = { status = \"valid\" }\nexpect = { disposition = \"mark\", notify = [\"me\"] }",
            4,
            "me",
        ),
        (
            "[[case]]\nname = \"a\"\nfacts = { status = \"valid\", trail = [\"x\"] }\nexpect = { disposition = \"mark\" }",
            2,
            "trail",
        ),
        (
            "[[case]]\nname = \"a\"\nfacts = { status = \"valid\", sender = \"x\" }\nexpect = { disposition = \"mark\" }",
            2,
            "address",
        ),
        (
            "[[case]]\nname = \"a\"\nfacts = { status = \"valid\" }\nexpect = { disposition = \"mark\" }\n[[cse]]",
            5,
            "cse",
        ),
    ] {
        let bad = Suite::read(text, Path::new("c.toml")).unwrap_err();
        assert!(bad.line == line && bad.text.contains(word), "{text}: {bad}");
    }
    let one = "[[case]]\nname = \"a\"\nfacts = { status = \"valid\" }\nexpect = { disposition = \"mark\" }\n";
    let twice = format!("{one}{one}");
    assert_eq!(Suite::read(&twice, Path::new("c.toml")).unwrap_err().line, 6);
}

#[test]
fn a_case_that_gives_a_fact_which_nobody_looks_at_fails() {
    let limits = limits();
    let stage = Stage::new(&limits).unwrap();
    let (component, _) = narrow(&stage);
    for fact in ["why = \"wrong\"", "trail = []", "headers = { Subject = [\"x\"] }", "client = { ip = \"::1\" }"] {
        let text = format!(
            "[[case]]\nname = \"a\"\nfacts = {{ status = \"invalid\", {fact} }}\nexpect = {{ disposition = \"mark\" }}"
        );
        let ran = Suite::read(&text, Path::new("c.toml")).unwrap().run(&component, &BTreeMap::new(), &no_messages);
        assert!(!ran[0].passed && ran[0].wrong.as_ref().unwrap().contains("tests nothing"), "{ran:?}");
    }
}

#[test]
fn clauses_of_any_shape_are_read_or_tell_what_to_write() {
    for text in [
        "reject when result=valid",
        "reject or error",
        "accept, tell nobody when why!=wrong and trail=none|bounce",
        "mark when last-valid>=30 and size<1000",
        "defer when sender=@bank.example and client=192.0.2.0/24",
    ] {
        assert!(Clause::read(text).is_ok(), "{text}");
    }
    for (text, word) in [
        ("", "no decision"),
        ("drop", "no decision"),
        ("reject, tell me", "tell nobody"),
        ("reject when", "no decision"),
        ("reject when x", "no condition"),
        ("reject when x=1", "no fact"),
        ("reject when result=good", "unverified"),
        ("reject when result<valid", "last-valid"),
        ("reject when size=big", "number"),
        ("reject when client=x", "value"),
        ("reject when tls=maybe", "yes, no"),
        ("reject when :=x", "no fact"),
        ("mark when dmarc=aligned", "pass"),
        ("mark when sender=bank.example", "@b.example for a domain"),
        ("mark when last-valid>=none", "one number"),
        ("mark when size<1|2", "one number"),
    ] {
        let said = Clause::read(text).unwrap_err().to_string();
        assert!(said.contains(word), "{text}: {said}");
    }
    for words in [&["never"][..], &["only", "reject"], &["ever"], &["never-errors", "only"]] {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        assert!(Property::read(&words).is_err(), "{words:?}");
    }
}

#[test]
fn what_the_filter_never_finds_is_in_no_row() {
    let all = contract::Wanted { facts: Wants::WHY | Wants::CLAIM | Wants::SENDER, headers: Vec::new() };
    let stage = Stage::new(&limits()).unwrap();
    let (_, mark) = narrow(&stage);
    let space = Space::over(&[&mark], &Samples::default(), &all, &Limits::default()).unwrap();
    for row in 0..space.len() {
        let facts = space.facts(space.row(row));
        let status = facts.status;
        let text = format!("{facts:?}");
        use contract::{KeyStatus, Why};
        assert!(!(facts.claim.is_some() && status == KeyStatus::None), "{text}");
        assert!(facts.claim.is_some() || !matches!(status, KeyStatus::Missing | KeyStatus::Invalid), "{text}");
        assert!(facts.sender.is_some() || status == KeyStatus::Unusable, "{text}");
        assert_eq!(
            facts.why == Some(Why::Wrong),
            facts.why == Some(Why::Wrong) && status == KeyStatus::Invalid,
            "{text}"
        );
        assert!(facts.why != Some(Why::NoFrom) || facts.sender.is_none(), "{text}");
    }
    let count = |status| (0..space.len()).filter(|row| space.facts(space.row(*row)).status == status).count();
    // One sample of a sender: four claims, or two reasons with three claims each.
    assert_eq!(count(contract::KeyStatus::Valid), 4);
    assert_eq!(count(contract::KeyStatus::Invalid), 6);
    assert_eq!(count(contract::KeyStatus::None), 1);
}

#[test]
fn the_orders_are_those_that_are_written_down() {
    let answer = |disposition, reason: &str| Answer {
        decision: Some(Proposal { disposition, notify: Default::default(), reason: reason.into() }),
        fault: None,
    };
    let failed = Answer { decision: None, fault: Some("trapped".into()) };
    use Disposition::{Accept, Defer, Mark, Quarantine, Reject};
    let ladder = [Accept, Mark, Quarantine, Reject];
    for (low, one) in ladder.iter().enumerate() {
        for (high, other) in ladder.iter().enumerate() {
            let change = Change::between(&answer(*one, ""), &answer(*other, ""));
            let expected = match low.cmp(&high) {
                std::cmp::Ordering::Less => Some(Change::Stricter),
                std::cmp::Ordering::Greater => Some(Change::Looser),
                std::cmp::Ordering::Equal => None,
            };
            assert_eq!(change, expected, "{one:?} {other:?}");
        }
        assert_eq!(Change::between(&answer(*one, ""), &answer(Defer, "")), Some(Change::Sideways));
        assert_eq!(Change::between(&failed, &answer(*one, "")), Some(Change::Sideways));
        assert_eq!(Change::between(&answer(*one, "a"), &answer(*one, "b")), Some(Change::Reworded));
    }
}

#[test]
fn a_component_whose_settings_are_refused_has_no_coverage_and_what_is_not_whole_says_so() {
    let stage = Stage::new(&limits()).unwrap();
    let refused = coverage(None, &shipped(&stage, "rules"), &BTreeMap::new(), &no_messages, &limits()).unwrap_err();
    assert!(matches!(&refused, Uncountable::Settings(_)) && refused.to_string().contains("--set"), "{refused}");
    let mark = shipped(&stage, "mark");
    let late = limits().as_ref().clone().with(|limits| limits.policy.rehearsal = std::time::Duration::ZERO);
    let covered = coverage(None, &mark, &BTreeMap::new(), &no_messages, &late).unwrap();
    assert!(!covered[0].is_whole() && covered[0].unasked == 6, "{covered:?}");
    let cut = limits().as_ref().clone().with(|limits| limits.policy.merged = 0);
    let covered = coverage(None, &mark, &BTreeMap::new(), &no_messages, &cut).unwrap();
    assert!(!covered[0].is_whole() && covered[0].cut, "{covered:?}");
}

#[test]
fn a_case_whose_message_cannot_be_read_is_none_whose_facts_the_filter_never_finds() {
    let stage = Stage::new(&limits()).unwrap();
    let known = shipped(&stage, "missing-known");
    let case = |name: &str, rest: &str| {
        format!("[[case]]\nname = \"{name}\"\n{rest}\nexpect = {{ disposition = \"accept\" }}\n")
    };
    let text = case("lost", "message = \"lost.eml\"\nfacts = { status = \"missing\", claim = \"some\" }")
        + &case("odd", "facts = { status = \"none\", claim = \"all\" }");
    let suite = Suite::read(&text, Path::new("c.toml")).unwrap();
    let few = limits().as_ref().clone().with(|limits| limits.policy.rows = 50_000);
    let covered = coverage(Some(&suite), &known, &BTreeMap::new(), &no_messages, &few).unwrap();
    assert_eq!(
        (&covered[0].impossible[..], &covered[0].untold[..]),
        (&["odd".to_owned()][..], &["lost".to_owned()][..])
    );
}

#[test]
fn a_check_says_where_it_could_not_look() {
    let stage = Stage::new(&limits()).unwrap();
    let direct = shipped(&stage, "missing-direct");
    let subject = subject(&direct, "");
    let unseen = |limits: &Limits| {
        let odd = odd(&direct, Ok(&subject), &Samples::default(), limits);
        odd.into_iter().find(|odd| odd.id == "P014").map(|odd| odd.text)
    };
    let probed = limits().as_ref().clone().with(|limits| limits.policy.rows = 50_000);
    assert!(unseen(&probed).unwrap().contains("probe"));
    let (_, mark) = narrow(&stage);
    let late = limits().as_ref().clone().with(|limits| limits.policy.rehearsal = std::time::Duration::ZERO);
    let late = odd(&direct, Ok(&mark), &Samples::default(), &late);
    assert!(late.iter().any(|odd| odd.id == "P014" && odd.text.contains("in time")), "{late:?}");
    assert!(!odd(&direct, Ok(&mark), &Samples::default(), &limits()).iter().any(|odd| odd.id == "P014"));
}

#[test]
fn facts_that_the_filter_never_finds_together_are_known() {
    for (facts, can) in [
        ("status = \"missing\"", false),
        ("status = \"missing\"\nclaim = \"all\"\nsender = \"a@b.example\"", true),
        ("status = \"invalid\"\nclaim = \"all\"\nsender = \"a@b.example\"", false),
        ("status = \"none\"\nclaim = \"all\"\nsender = \"a@b.example\"", false),
        ("status = \"unusable\"\nwhy = \"no-from\"", true),
        ("status = \"valid\"\nwhy = \"wrong\"\nsender = \"a@b.example\"", false),
    ] {
        assert_eq!(can_be(&toml::from_str(facts).unwrap()), can, "{facts}");
    }
    use crate::case::Why;
    assert_eq!(reasons_of(KeyStatus::Missing), [None]);
    assert_eq!(reasons_of(KeyStatus::Invalid), [Some(Why::Wrong), Some(Why::Expired)]);
    assert!(!reasons_of(KeyStatus::Unusable).contains(&None));
}
