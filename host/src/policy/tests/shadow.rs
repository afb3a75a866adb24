//! A candidate decides beside its policy, whatever it does, and changes nothing.

use std::time::Instant;

use serde_json::json;

use super::*;
use crate::case::Differs;

fn file(of: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(of).display().to_string()
}

/// `accept`, with this candidate beside it.
fn beside_accept(shadow: &str) -> Result<Policies, Error> {
    load(&bindings("accept"), &format!("[accept]\nshadow = '{shadow}'\n"))
}

/// The decision, after its candidate was waited for; and how that differs.
async fn heard(policies: &Policies, found: &Found) -> (Decision, Vec<Differs>) {
    let decision = one(policies, &mail(1), found).await;
    policies.hear_shadows(std::slice::from_ref(&decision)).await;
    let differs = decision.compared().iter().map(|compared| compared.differs).collect();
    (decision, differs)
}

async fn plain(found: &Found) -> Decision {
    one(&load(&bindings("accept"), "").unwrap(), &mail(1), found).await
}

#[tokio::test]
async fn what_a_candidate_decides_stands_beside_a_decision_that_is_the_same_without_it() {
    let policies = beside_accept(&file("shipped/mark.wasm")).unwrap();
    let (decision, differs) = heard(&policies, &wrong_key()).await;
    assert_eq!(differs, [Differs::Stricter]);
    assert_eq!(Decision { shadow: None, ..decision.clone() }, plain(&wrong_key()).await);
    let told = serde_json::to_value(&decision).unwrap();
    assert_eq!(told["shadow"]["decisions"][0]["disposition"], "mark", "{told}");
    let read: Decision = serde_json::from_value(told).unwrap();
    assert_eq!(read, decision);
    // A row without one says nothing of it.
    assert!(serde_json::to_value(plain(&wrong_key()).await).unwrap().get("shadow").is_none());
    let same = beside_accept(&file("shipped/accept.wasm")).unwrap();
    assert_eq!(heard(&same, &wrong_key()).await.1, [Differs::Same]);
}

#[tokio::test]
async fn the_facts_that_a_candidate_asks_for_are_kept_with_its_decision() {
    let policies = beside_accept(&file("shipped/missing-direct.wasm")).unwrap();
    let found = Found { claim: Some(Claim::All), ..Found::bare(KeyStatus::Missing, None, None) };
    let (decision, differs) = heard(&policies, &found).await;
    assert_eq!(differs, [Differs::Stricter]);
    assert_eq!(decision.facts, json!({ "status": "missing" }));
    let facts = &decision.shadow.unwrap().facts;
    assert_eq!((&facts["claim"], &facts["trail"]), (&json!("all"), &json!([])), "{facts}");
}

#[tokio::test]
async fn a_candidate_in_a_loop_a_bomb_and_a_trap_change_nothing_and_are_soon_not_waited_for() {
    let hostile = file("../tests/hostile/hostile.wasm");
    let dir = tempfile::tempdir().unwrap();
    for does in ["loop", "grow", "trap", "huge", "recurse"] {
        let text = dir.path().join(format!("{does}.toml"));
        let section = format!("[policies.accept]\nmodule = '{hostile}'\nsettings = {{ does = '{does}' }}\n");
        std::fs::write(&text, section).unwrap();
        let policies = beside_accept(&text.display().to_string()).unwrap();
        for number in 0..5 {
            let begin = Instant::now();
            let (decision, differs) = heard(&policies, &wrong_key()).await;
            assert!(begin.elapsed() < Duration::from_secs(10), "{does} {number}: {:?}", begin.elapsed());
            assert!(matches!(differs[..], [Differs::Fault | Differs::Late]), "{does} {number}: {differs:?}");
            assert_eq!(Decision { shadow: None, ..decision }, plain(&wrong_key()).await, "{does}");
        }
        if does == "loop" {
            assert!(policies.shadows["accept"].pace.takes_time(), "a fourth one would wait again");
        }
    }
}

#[tokio::test]
async fn one_message_with_many_recipients_is_not_most_of_a_record() {
    let dir = tempfile::tempdir().unwrap();
    let text = dir.path().join("next.toml");
    let rules = |word: &str| {
        format!(
            "module = 'rules'\nsettings.rules = [\"when recipient is u1@example.com: {word}\", \"otherwise accept\"]\n"
        )
    };
    std::fs::write(&text, format!("[policies.ours]\n{}", rules("mark"))).unwrap();
    let section = format!("[ours]\n{}shadow = '{}'\n", rules("quarantine"), text.display());
    let policies = load(&bindings("ours"), &section).unwrap();
    let recipients = (0..20).map(|n| Recipient::new(format!("<u{n}@example.com>"))).collect();
    let mail = Mail::new(Envelope { recipients, ..Envelope::default() }, Head::default());
    let decided = policies.decide(&mail, &wrong_key(), &[]).await;
    policies.hear_shadows(&decided).await;
    let beside = decided.iter().filter(|decision| decision.shadow.is_some()).count();
    assert_eq!((decided.len(), beside), (20, crate::policy::shadow::JOBS));
    assert_eq!(decided[1].disposition, Disposition::Quarantine);
}

#[tokio::test]
async fn a_candidate_that_cannot_be_loaded_is_told_and_the_policy_decides_without_it() {
    let dir = tempfile::tempdir().unwrap();
    let text = dir.path().join("other.toml");
    std::fs::write(&text, "[policies.mark]\n").unwrap();
    let hostile = file("../tests/hostile/hostile.wasm");
    for (shadow, words) in [
        ("/nowhere/at/all.wasm", "at/all.wasm"),
        ("next.wasm", "policy.dir"),
        (&text.display().to_string(), "has no [policies.accept]"),
        // It wants a setting that the policy in force does not have.
        (&hostile, "`does` must be set"),
    ] {
        let policies = beside_accept(shadow).unwrap();
        let listed = policies.list().into_iter().find(|listed| listed.id == "accept").unwrap();
        let refused = listed.shadow.clone().and_then(|shadow| shadow.refused).unwrap_or_default();
        assert!(refused.contains(words), "{shadow}: {refused}");
        assert!(listed.to_string().contains("NO candidate"), "{listed}");
        assert!(policies.warnings().iter().any(|warning| warning.contains(words)), "{:?}", policies.warnings());
        assert_eq!(heard(&policies, &wrong_key()).await, (plain(&wrong_key()).await, Vec::new()));
    }
}

#[test]
fn the_cases_beside_a_component_are_run_before_it_decides() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::copy(file("shipped/mark.wasm"), dir.path().join("ours.wasm")).unwrap();
    let bindings = config::Policy { dir: dir.path().to_owned(), ..bindings("ours") };
    let case = |name: &str, expect: &str| {
        format!(
            "[[case]]\nname = \"{name}\"\nfacts = {{ status = \"invalid\" }}\nexpect = {{ disposition = \"{expect}\" }}\n"
        )
    };
    let with = |cases: &str| {
        std::fs::write(dir.path().join("ours.cases.toml"), cases).unwrap();
        load(&bindings, "")
    };
    with(&case("good", "mark")).unwrap();
    let message = case("a message", "reject").replace("facts", "message = \"gone.eml\"\nfacts");
    with(&(case("good", "mark") + &message)).unwrap();
    let said = with(&(case("good", "mark") + &case("bad", "reject"))).unwrap_err().to_string();
    assert!(said.contains("\"bad\"") && said.contains("ours.cases.toml:8") && said.contains("but got mark"), "{said}");
    let said = with("[[case]]\nname = 1\n").unwrap_err().to_string();
    assert!(said.contains("ours.cases.toml:2"), "{said}");
    // Those of another policy are not its own.
    std::fs::rename(dir.path().join("ours.cases.toml"), dir.path().join("cases.toml")).unwrap();
    load(&bindings, "").unwrap();
}
