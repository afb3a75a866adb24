//! Policies that are written as text: how they are named, checked and kept.

use super::*;
use crate::proto::address::Address;

const TEXT: &str = r#"[ours]
module = "rules"
settings.rules = [
  "when result is invalid and sender is @bank.example: reject, tell both 'not from the bank'",
  "when result is invalid: mark",
  "when result is missing and claim is all and not (spf aligned or dkim aligned): quarantine 'this domain signs all its mail'",
  "otherwise accept",
]
[plain]
module = "rules"
settings.rules = ["when result is invalid: mark", "otherwise accept"]"#;

fn ours() -> config::Policy {
    config::Policy { unverified: "plain".into(), ..bindings("ours") }
}

fn of_bank(sender: &str) -> Found {
    Found { sender: Address::parse(sender.as_bytes(), false).ok(), ..wrong_key() }
}

#[tokio::test]
async fn several_ids_share_the_shipped_component_with_a_text_each() {
    let policies = load(&ours(), TEXT).unwrap();
    let bank = one(&policies, &mail(1), &of_bank("alice@bank.example")).await;
    assert_eq!((bank.disposition, bank.notify), (Disposition::Reject, Notify { sender: true, recipient: true }));
    assert_eq!((bank.policy.as_str(), bank.reason.as_str(), &bank.fault), ("ours", "not from the bank", &None));
    let other = one(&policies, &mail(1), &of_bank("alice@shop.example")).await;
    assert_eq!((other.disposition, other.reason.as_str()), (Disposition::Mark, "line 2 of the rules"));
    let listed = policies.list();
    let of = |id: &str| listed.iter().find(|policy| policy.id == id).unwrap();
    assert_eq!((&of("ours").digest, &of("ours").origin), (&of("plain").digest, &Origin::Shipped));
    // A file of the directory goes before the shipped component, as it does for an id.
    let dir = tempfile::tempdir().unwrap();
    let mark = Path::new(env!("CARGO_MANIFEST_DIR")).join("shipped/mark.wasm");
    std::fs::copy(mark, dir.path().join("rules.wasm")).unwrap();
    let bindings = config::Policy { dir: dir.path().into(), ..bindings("ours") };
    assert!(load(&bindings, TEXT).unwrap_err().to_string().contains("there is no setting `rules`"));
}

#[tokio::test]
async fn a_text_sees_what_it_names_and_one_over_the_result_alone_is_a_table() {
    let policies = load(&ours(), TEXT).unwrap();
    let bank = one(&policies, &mail(1), &of_bank("alice@bank.example")).await;
    assert_eq!(bank.facts, serde_json::json!({ "status": "invalid", "sender": "alice@bank.example" }));
    let plain = policies.all.iter().find(|policy| policy.id == "plain").unwrap();
    for status in KeyStatus::ALL {
        let marked = status == KeyStatus::Invalid;
        let decision = &plain.tabled(status).unwrap().decision;
        assert_eq!(disposition(decision), if marked { Disposition::Mark } else { Disposition::Accept });
    }
    let ours = policies.all.iter().find(|policy| policy.id == "ours").unwrap();
    assert!(ours.tabled(KeyStatus::None).is_none());
}

#[test]
fn a_text_that_cannot_be_read_is_refused_with_its_place() {
    let said =
        |text: &str| load(&bindings("ours"), &format!("[ours]\nmodule = \"rules\"\n{text}")).unwrap_err().to_string();
    assert_eq!(
        said("settings.rules = [\"when result is mising: mark\", \"otherwise accept\"]"),
        "policies.ours.settings: rules, line 1, column 16: `mising` is no result; did you mean `missing`? Possible here: \
         valid, invalid, missing, none, unverified, unusable"
    );
    assert!(said("").contains("`rules` must be set to a list of texts"), "{}", said(""));
    assert!(said("settings.rules = \"otherwise accept\"").contains("`rules` must be a list of texts"));
    assert!(said("settings.rules = []").contains("the last line must say what happens to all other mail"));
    let silent = "settings.rules = [\"when result is missing: reject, tell nobody\", \"otherwise accept\"]";
    assert!(said(silent).contains("`tell nobody` is for wrong keys alone"));
}

/// A journal row repeats the settings of its decision, so long ones are kept by their digest.
#[tokio::test]
async fn long_settings_are_told_by_their_digest_and_decide_again_while_they_are_the_same() {
    let policies = load(&ours(), TEXT).unwrap();
    let decided = one(&policies, &mail(1), &of_bank("alice@bank.example")).await;
    assert_eq!(decided.settings.as_str().map(str::len), Some(64));
    let kept =
        KeptDecision { policy: "ours", digest: &decided.digest, facts: &decided.facts, settings: &decided.settings };
    let again = policies.recompute(&kept).unwrap();
    assert_eq!((again.disposition, again.reason), (Disposition::Reject, decided.reason.clone()));
    let changed = load(&ours(), &TEXT.replace("not from", "nothing of")).unwrap();
    assert_eq!(changed.recompute(&kept), Err(Unproved::OtherSettings));
    let short = KeptDecision { policy: "plain", settings: &serde_json::json!({ "rules": ["otherwise mark"] }), ..kept };
    let facts = serde_json::json!({ "status": "none" });
    assert_eq!(policies.recompute(&KeptDecision { facts: &facts, ..short }).unwrap().disposition, Disposition::Mark);
}

/// The longest text that is taken decides within the time that a message's own thread has for it.
#[tokio::test]
async fn two_hundred_lines_are_no_fault() {
    let lines: Vec<String> = (1..200)
        .map(|n| format!("when result is invalid and sender is b{n}@bank.example: mark"))
        .map(|line| format!("{line:?}"))
        .collect();
    let text = format!("[ours]\nmodule = \"rules\"\nsettings.rules = [{}, \"otherwise accept\"]", lines.join(", "));
    let policies = load(&bindings("ours"), &text).unwrap();
    let last = one(&policies, &mail(1), &of_bank("b199@bank.example")).await;
    assert_eq!((last.disposition, last.fault), (Disposition::Mark, None));
    let none = one(&policies, &mail(1), &of_bank("x@bank.example")).await;
    assert_eq!((none.disposition, none.fault), (Disposition::Accept, None));
}
