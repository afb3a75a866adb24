use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::space::Space;
use super::*;
use crate::case::Disposition;
use crate::policy::Trial;

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
    assert!(matches!(proofs[0].outcome, Outcome::Holds), "dns is no reason of a missing key: {proofs:?}");
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

/// A row of a message with this result, on which `policy` decided by these facts.
fn recorded(policy: &str, status: KeyStatus, facts: &str, disposition: Disposition) -> crate::case::WrittenCase {
    use crate::case::{Case as Whole, Envelope, Finding as FoundOf, Head, Recipient, Reply, Verdict};
    let sender = crate::proto::address::Address::parse(b"alice@sender.example", true).ok();
    let found = Found { claim: Some(crate::proto::record::Claim::All), ..Found::bare(status, None, sender) };
    let recipients = vec![Recipient::new("<bob@home.example>"), Recipient::new("<eve@home.example>")];
    let mail = Mail::new(Envelope { recipients, ..Envelope::default() }, Head::default());
    let proposal = Proposal { disposition, notify: Default::default(), reason: "then".into() };
    let told = (serde_json::from_str(facts).unwrap(), serde_json::json!({}));
    let decisions = vec![decision(&proposal, (policy, "digest"), &found, told, vec![0, 1])];
    let finding = FoundOf::Found(found);
    crate::case::WrittenCase::of(&Whole { mail, finding, decisions, reply: Reply::bare(Verdict::Accept) })
}

#[test]
fn recorded_mail_is_decided_again_and_a_fact_that_a_row_lacks_is_named() {
    let limits = limits();
    let stage = Stage::new(&limits).unwrap();
    let component = shipped(&stage, "missing-direct");
    let candidate = subject(&component, "then = \"reject\"");
    let mut replay = Replay::of(&candidate);
    let told = r#"{"status":"missing","claim":"all","trail":[]}"#;
    replay.see(7, &recorded("accept", KeyStatus::Missing, told, Disposition::Accept));
    replay.see(
        8,
        &recorded("accept", KeyStatus::Missing, r#"{"status":"missing","trail":["bounce"]}"#, Disposition::Accept),
    );
    replay.see(9, &recorded("accept", KeyStatus::Missing, r#"{"status":"missing"}"#, Disposition::Accept));
    replay.see(
        10,
        &recorded("mark", KeyStatus::Missing, r#"{"status":"missing","trail":["bounce"]}"#, Disposition::Mark),
    );
    replay.unreadable();
    let report = replay.report();
    assert_eq!((report.messages, report.decisions, report.same, report.unknown()), (4, 4, 1, 2), "{report:?}");
    assert_eq!(report.lacking.get("trail"), Some(&1), "the claim stands in the finding, and the trail nowhere");
    let moved = report.moved();
    assert_eq!(moved.len(), 2, "{moved:?}");
    assert_eq!(
        (moved[0].change, moved[0].new.as_str()),
        (Change::Stricter, "reject, tell the sender"),
        "the worst first"
    );
    assert_eq!((moved[0].recipients, moved[0].domains), (2, 1));
    assert_eq!(moved[0].examples, [(7, "alice@sender.example".to_owned())]);
    assert_eq!((moved[1].change, moved[1].old.as_str(), moved[1].new.as_str()), (Change::Looser, "mark", "accept"));
}

#[test]
fn a_fact_that_was_asked_for_and_was_not_there_is_known() {
    let limits = limits();
    let stage = Stage::new(&limits).unwrap();
    let component = shipped(&stage, "missing-direct");
    let candidate = subject(&component, "");
    let mut replay = Replay::of(&candidate);
    replay.knows("digest", &component);
    replay.see(1, &recorded("missing-direct", KeyStatus::Missing, r#"{"status":"missing"}"#, Disposition::Accept));
    assert_eq!((replay.report().same, replay.report().unknown()), (1, 0), "{:?}", replay.report());
}
