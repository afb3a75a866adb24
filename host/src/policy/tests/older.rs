//! Components of other versions of the contract: older ones go on as they were, newer ones are told what is offered.

use std::collections::BTreeSet;

use super::sealed::{load_octets, load_written};
use super::written::{Written, shelf_with};
use super::*;
use crate::policy::sandbox::Guest;
use contract::{AuthResult, Claim as Told, KeyStatus as Status, MailAuth, Trail, Value, Wants};

/// A component of commit f2be706, which speaks the first version.
fn old(id: &str) -> Vec<u8> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../tests/fixtures/contract-0.1/{id}.wasm"));
    std::fs::read(file).unwrap()
}

fn guests(sandbox: &Sandbox, id: &str) -> [Guest; 2] {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../policies/{id}/{id}.wasm"));
    let [old, new] = [old(id), std::fs::read(file).unwrap()].map(|octets| sandbox.load(&octets, Size::Small).unwrap());
    assert_eq!(old.interface(), "addrauth:policy/policy@0.1.0");
    assert_eq!(new.interface(), "addrauth:policy/policy@0.2.0");
    assert_eq!(sandbox.describe(&old).unwrap(), sandbox.describe(&new).unwrap(), "{id}");
    [old, new]
}

/// Every fact that missing-direct wants, and none of the others.
fn grid() -> impl Iterator<Item = Facts> {
    let claims = [None, Some(Told::Testing), Some(Told::Some), Some(Told::All)];
    let trails = [None].into_iter().chain((0..32_u32).map(|bits| {
        let words = Trail::WORDS.iter().enumerate().filter(move |(place, _)| bits >> place & 1 == 1);
        Some(words.fold(Trail::empty(), |all, (_, (_, word))| all | *word))
    }));
    let auths = [None].into_iter().chain((0..16_u32).map(|bits| {
        let result = |bit: u32| if bits >> bit & 1 == 1 { AuthResult::Pass } else { AuthResult::None };
        Some(MailAuth {
            spf: result(0),
            spf_aligned: bits >> 1 & 1 == 1,
            dkim: result(2),
            dkim_aligned: bits >> 3 & 1 == 1,
            dmarc: AuthResult::Fail,
        })
    }));
    let (trails, auths): (Vec<_>, Vec<_>) = (trails.collect(), auths.collect());
    let mut all = Vec::new();
    for status in Status::ALL {
        for claim in claims {
            for trail in &trails {
                for mail_auth in &auths {
                    all.push(Facts { claim, trail: *trail, mail_auth: *mail_auth, ..Facts::of(*status) });
                }
            }
        }
    }
    all.into_iter()
}

#[test]
fn the_components_of_the_first_version_load_and_decide_as_those_of_today() {
    let sandbox = Sandbox::new(&limits()).unwrap();
    // The first one has a test of its own, the others are younger.
    for id in shipped::ids().filter(|id| !["missing-direct", "missing-known", "rules"].contains(id)) {
        let [old, new] = guests(&sandbox, id);
        for guest in [&old, &new] {
            assert!(sandbox.check_settings(guest, &[]).unwrap().unwrap().is_nothing(), "{id}");
        }
        for status in Status::ALL {
            for why in std::iter::once(None).chain(contract::Why::ALL.iter().map(|why| Some(*why))) {
                let facts = Facts { why, ..Facts::of(*status) };
                assert_eq!(sandbox.decide(&old, &facts, &[]), sandbox.decide(&new, &facts, &[]), "{id} {facts:?}");
            }
        }
    }
}

#[test]
fn missing_direct_of_the_first_version_decides_as_that_of_today_on_every_fact_that_it_wants() {
    let sandbox = Sandbox::new(&limits()).unwrap();
    let [old, new] = guests(&sandbox, "missing-direct");
    let settings = |then: &str| [Value::Text(then.into()), Value::Text("why not".into())];
    for then in ["mark", "quarantine", "reject"] {
        let [before, after] =
            [&old, &new].map(|guest| sandbox.check_settings(guest, &settings(then)).unwrap().unwrap());
        assert_eq!(before, after);
        assert_eq!(after.facts, Wants::CLAIM | Wants::TRAIL | Wants::MAIL_AUTH);
    }
    let refused = [&old, &new].map(|guest| sandbox.check_settings(guest, &settings("drop")).unwrap().unwrap_err());
    assert_eq!(refused[0], refused[1]);
    let mut seen = BTreeSet::new();
    for facts in grid() {
        let thens = if facts.status == Status::Missing { &["mark", "quarantine", "reject"][..] } else { &["reject"] };
        for then in thens {
            let [before, after] = [&old, &new].map(|guest| sandbox.decide(guest, &facts, &settings(then)).unwrap());
            assert_eq!(before, after, "{facts:?}");
            seen.insert(format!("{:?}", after.disposition));
        }
    }
    assert_eq!(seen.len(), 4, "{seen:?}");
}

/// What the journal of an installation holds that still runs a component of the first version.
#[test]
fn what_an_old_journal_keeps_is_decided_again_by_the_same_component() {
    let (_dir, dir) = shelf_with(&old("missing-direct"));
    let policies = load(&config::Policy { dir, ..bindings("x") }, "").unwrap();
    let digest = policies.list().into_iter().find(|policy| policy.id == "x").unwrap().digest;
    assert_eq!(digest, "72b0c43ab04a8b3d257baac0864d0446c5ac891a387e941fde430276992d2874");
    let auth = serde_json::json!({
        "spf": "fail", "spf-aligned": false, "dkim": "none", "dkim-aligned": false, "dmarc": "none"
    });
    let facts = serde_json::json!({ "status": "missing", "trail": [], "mail-auth": auth, "claim": "all" });
    let settings = serde_json::json!({ "then": "reject", "reason": "no key, no mail" });
    let again = |facts: &serde_json::Value, settings: &serde_json::Value| {
        policies.recompute(&KeptDecision { policy: "x", digest: &digest, facts, settings })
    };
    let decided = again(&facts, &settings).unwrap();
    assert_eq!((decided.disposition, decided.notify.sender), (Disposition::Reject, true));
    assert_eq!(decided.reason, "no key, no mail");
    let refused = again(&facts, &serde_json::json!({ "then": "drop" })).unwrap_err();
    assert!(matches!(&refused, Unproved::Unreadable(text) if text.contains("write \"mark\"")), "{refused}");
}

#[tokio::test]
async fn a_case_keeps_the_facts_that_a_policy_of_either_version_saw_in_the_same_form() {
    let found = Found { claim: Some(Claim::All), ..Found::bare(KeyStatus::Missing, None, None) };
    let (_dir, dir) = shelf_with(&old("missing-direct"));
    let before = load(&config::Policy { dir, ..bindings("x") }, "").unwrap();
    let after = load(&bindings("missing-direct"), "").unwrap();
    let [before, after] = [one(&before, &mail(1), &found).await, one(&after, &mail(1), &found).await];
    assert_eq!((&before.facts, &before.settings), (&after.facts, &after.settings));
    assert_eq!(before.facts, serde_json::json!({ "status": "missing", "trail": [], "claim": "all" }));
}

#[tokio::test]
async fn a_component_of_the_first_version_is_told_the_facts_of_its_description() {
    // In a description of the first version the facts stand at 24.
    let describe = "(i32.store16 (i32.const 88) (i32.const 4)) (i32.const 64)".to_owned();
    let check = "(i32.const 256)".to_owned();
    let echo = Written { version: "0.1.0", describe, check, ..Written::echo() };
    let decision = one(&load_written(&echo).unwrap(), &mail(1), &wrong_key()).await;
    assert_eq!((decision.reason.as_str(), decision.fault), ("bob", None));
}

#[test]
fn a_component_of_a_version_to_come_is_told_its_own_and_those_on_offer() {
    let refused = |octets: &[u8]| {
        let refused = load_octets(octets, Limits::clone(&limits())).unwrap_err();
        let Error::Refused { why: why @ Refused::Version { .. }, .. } = refused else { panic!("{refused}") };
        why.to_string()
    };
    let speaks = |version| Written { version, ..Written::default() };
    let offered = "and this program offers addrauth:policy/policy@0.2.0 and addrauth:policy/policy@0.1.0: build it \
                   against one of these versions";
    // A later 0.2 has other types too, as far as anybody knows.
    for version in ["0.3.0", "0.2.1", "0.1.7", "1.0.0"] {
        let said = refused(&speaks(version).component());
        assert_eq!(said, format!("it speaks addrauth:policy/policy@{version}, {offered}"));
    }
    let said = refused(&speaks("0.3.0").with(&speaks("0.4.0")));
    assert_eq!(said, format!("it speaks addrauth:policy/policy@0.3.0, addrauth:policy/policy@0.4.0, {offered}"));
}

#[tokio::test]
async fn of_several_versions_that_a_component_exports_the_newest_on_offer_counts() {
    let marks = |version| Written {
        version,
        ..Written::deciding("(i32.store8 (i32.const 128) (i32.const 1)) (i32.const 128)")
    };
    let accepts = |version| Written { version, ..Written::default() };
    for (octets, expected) in [
        (marks("0.2.0").with(&accepts("0.1.0")), Disposition::Mark),
        (accepts("0.1.0").with(&marks("0.2.0")), Disposition::Mark),
        (accepts("0.2.0").with(&marks("0.1.0")), Disposition::Accept),
        (accepts("0.3.0").with(&marks("0.2.0")), Disposition::Mark),
        (accepts("0.3.0").with(&marks("0.1.0")), Disposition::Mark),
    ] {
        let policies = load_octets(&octets, Limits::clone(&limits())).unwrap();
        assert_eq!(one(&policies, &mail(1), &wrong_key()).await.disposition, expected);
    }
}

#[test]
fn a_component_with_the_name_of_a_version_and_the_types_of_another_is_refused() {
    let octets = Written { version: "0.9.0", ..Written::default() }.component();
    let newest = b"policy@0.9.0";
    let mut renamed = octets.clone();
    for at in 0..octets.len() - newest.len() {
        if octets[at..].starts_with(newest) {
            renamed[at..at + newest.len()].copy_from_slice(b"policy@0.1.0");
        }
    }
    let refused = load_octets(&renamed, Limits::clone(&limits())).unwrap_err();
    assert!(matches!(refused, Error::Refused { why: Refused::Types { name: "describe", .. }, .. }), "{refused}");
}

/// A component with the setting `wants`, a number; it wants the facts of these bits.
fn wanting_what_its_setting_says() -> Written {
    let store = |at: u32, value: u32| format!("(i32.store (i32.const {at}) (i32.const {value}))");
    Written {
        items: "(data (i32.const 1024) \"wants\")".into(),
        // Canonical ABI: the settings are at 24 in a description; in a setting the name is at 0, the kind at 16 (1 is a number),
        // whether there is a default at 24, and the default at 32.
        describe: [store(512, 1024), store(516, 5), store(528, 1), store(536, 1), store(88, 512), store(92, 1)]
            .concat()
            + "(i32.const 64)",
        // A value's own number is at 8.
        check: "(i32.store16 (i32.const 260) (i32.load16_u (i32.add (local.get 0) (i32.const 8)))) (i32.const 256)"
            .into(),
        ..Written::default()
    }
}

#[tokio::test]
async fn what_a_policy_is_told_follows_from_its_settings() {
    let (_dir, dir) = shelf_with(&wanting_what_its_setting_says().component());
    let bindings = config::Policy { dir, ..bindings("x") };
    let told = async |modules: &str| {
        let policies = load(&bindings, modules).unwrap();
        let decision = one(&policies, &mail(1), &wrong_key()).await;
        let policy = policies.all.iter().find(|policy| policy.id == "x").unwrap();
        (decision.facts, policy.tabled(KeyStatus::Invalid).is_some())
    };
    assert_eq!(told("").await, (serde_json::json!({ "status": "invalid" }), true));
    assert_eq!(
        told("[x]\nsettings = { wants = 5 }").await,
        (serde_json::json!({ "status": "invalid", "why": "wrong", "recipient": "bob@example.com" }), false)
    );
}

#[test]
fn a_decision_is_made_again_with_the_facts_that_its_own_settings_want() {
    // It says whether it was told a size: an option at 104 in the facts.
    let written = Written { decide: Written::telling(0, 104, 1).decide, ..wanting_what_its_setting_says() };
    let (_dir, dir) = shelf_with(&written.component());
    let policies = load(&config::Policy { dir, ..bindings("x") }, "").unwrap();
    let digest = policies.list().into_iter().find(|policy| policy.id == "x").unwrap().digest;
    let facts = serde_json::json!({ "status": "invalid", "size": 4711 });
    for (wants, reason) in [(32, "1"), (0, "0")] {
        let settings = serde_json::json!({ "wants": wants });
        let kept = KeptDecision { policy: "x", digest: &digest, facts: &facts, settings: &settings };
        assert_eq!(policies.recompute(&kept).unwrap().reason, reason);
    }
}
