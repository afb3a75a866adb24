//! Components in the interpreter: the same decisions, and the same bounds (INVARIANTS §5, attacks K).

use super::*;

/// The bindings with all results bound to this policy, in the interpreter.
fn interpreted(id: &str) -> config::Policy {
    config::Policy { interpreter: true, ..bindings(id) }
}

#[tokio::test]
async fn the_interpreter_decides_as_machine_code_does() {
    let rules = "[rules]\nsettings.rules = [\"when result is invalid: mark 'a wrong key'\", \"otherwise quarantine\"]\n\
                 [missing-direct]\nsettings.then = \"reject\"\n";
    let found = [wrong_key(), Found { claim: Some(Claim::All), ..Found::bare(KeyStatus::Missing, None, None) }];
    let ids = ["accept", "mark", "quarantine", "reject-notify-sender", "missing-direct", "missing-known", "rules"];
    for id in ids {
        let (compiled, interpreted) = (load(&bindings(id), rules).unwrap(), load(&interpreted(id), rules).unwrap());
        for found in &found {
            let expected = one(&compiled, &mail(2), found).await;
            assert_eq!((one(&interpreted, &mail(2), found).await, &expected.fault), (expected.clone(), &None), "{id}");
        }
    }
}

#[tokio::test]
async fn k1_to_k5_hold_in_the_interpreter() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/hostile/hostile.wasm").display().to_string();
    for (does, words) in [
        ("loop", "ran longer than 200 ms"),
        ("grow", "wanted more than 16 MiB of memory"),
        ("recurse", ""),
        ("huge", "handed back more than 65536 octets"),
        ("trap", "trapped"),
    ] {
        let policies =
            load(&interpreted("hostile"), &format!("[hostile]\nmodule = '{file}'\nsettings.does = '{does}'")).unwrap();
        for _ in 0..2 {
            let decision = one(&policies, &mail(1), &wrong_key()).await;
            let fault = decision.fault.unwrap_or_default();
            assert!(!fault.is_empty() && fault.contains(words), "{does}: {fault}");
            assert_eq!(decision.disposition, Disposition::Defer, "{does}");
        }
    }
}

#[tokio::test]
async fn a_reload_does_not_change_the_engine() {
    for interpreter in [false, true] {
        let with = |interpreter| config::Policy { interpreter, ..bindings("mark") };
        let (policies, trial) = (load(&with(interpreter), "").unwrap(), Trial::waived());
        policies.reload_apart(&with(interpreter), &BTreeMap::new(), &trial).await.unwrap();
        let refused = policies.reload_apart(&with(!interpreter), &BTreeMap::new(), &trial).await.unwrap_err();
        assert!(matches!(refused, Error::Engine { now } if now == interpreter), "{refused}");
    }
}
