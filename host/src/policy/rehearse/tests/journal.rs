//! Recorded mail decided again.

use super::*;

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
    replay.knows("digest", &component, None);
    replay.see(1, &recorded("missing-direct", KeyStatus::Missing, r#"{"status":"missing"}"#, Disposition::Accept));
    assert_eq!((replay.report().same, replay.report().unknown()), (1, 0), "{:?}", replay.report());
}

#[test]
fn a_policy_that_failed_then_and_fails_now_does_the_same() {
    let limits = limits();
    let stage = Stage::new(&limits).unwrap();
    let octets = std::fs::read(root().join("tests/hostile/hostile.wasm")).unwrap();
    let hostile = Arc::new(stage.load(&octets, &Trial::waived()).unwrap());
    let setting = hostile.settings().into_iter().find(|setting| setting.default.is_null()).unwrap();
    let candidate = subject(&hostile, &format!("{} = \"trap\"", setting.name));
    let mut replay = Replay::of(&candidate);
    replay.knows("digest", &hostile, None);
    let mut row = recorded("hostile", KeyStatus::Missing, r#"{"status":"missing"}"#, Disposition::Defer);
    row.decisions[0].fault = Some("trapped: unreachable".into());
    replay.see(1, &row);
    let (report, lacking) = (replay.report(), &replay.report().lacking);
    assert_eq!((report.same, report.moved().len()), (1, 0), "{report:?} {lacking:?}");
}

#[test]
fn of_settings_that_stand_in_a_row_by_their_digest_those_of_the_configuration_tell_what_was_asked_for() {
    let limits = limits();
    let stage = Stage::new(&limits).unwrap();
    let component = shipped(&stage, "rules");
    let long = "x".repeat(300);
    let text = |word: &str| {
        let line = format!("when trail is none and last valid within 3 days: {word} '{long}'");
        given(&format!("rules = [\"{line}\", \"otherwise accept\"]"))
    };
    let fitted = |word: &str| component.fit(&text(word)).unwrap();
    let candidate = component.under("new", fitted("defer")).unwrap();
    let mut row = recorded("ours", KeyStatus::Missing, r#"{"status":"missing","trail":[]}"#, Disposition::Accept);
    row.decisions[0].settings = shelf::told_settings(component.settings_json(&fitted("mark")));
    assert!(row.decisions[0].settings.is_string());
    for (settings, unknown) in [(None, 1), (Some(fitted("quarantine")), 1), (Some(fitted("mark")), 0)] {
        let mut replay = Replay::of(&candidate);
        replay.knows("digest", &component, settings);
        replay.see(1, &row);
        assert_eq!(
            replay.report().unknown(),
            unknown,
            "that it never was valid is known by the settings: {:?}",
            replay.report()
        );
    }
}
