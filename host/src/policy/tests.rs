//! What must hold whatever a component does (INVARIANTS §5, attacks K and L).

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::case::{Client, Envelope, Field, Head, Recipient, ReversePath};
use crate::config::{self, Module, Size};
use crate::proto::record::Claim;

mod fresh;
mod interpreter;
mod large;
mod looked;
mod memories;
mod older;
mod own_rules;
mod rules;
mod sealed;
mod shadow;
mod written;

fn mail(recipients: usize) -> Mail {
    let recipient = |_| Recipient::new(b"<bob@example.com>");
    Mail::new(
        Envelope {
            client: Client { ip: Some(IpAddr::V4(Ipv4Addr::LOCALHOST)), ..Client::default() },
            reverse_path: ReversePath::Path(None),
            recipients: (0..recipients).map(recipient).collect(),
            ..Envelope::default()
        },
        Head::default(),
    )
}

fn limits() -> Arc<Limits> {
    Arc::new(Limits::default().with(|limits| {
        limits.policy.time = Duration::from_millis(200);
        limits.policy.threads = 2;
    }))
}

fn bindings(id: &str) -> config::Policy {
    config::Policy { missing: id.into(), invalid: id.into(), ..config::Policy::default() }
}

fn load(bindings: &config::Policy, modules: &str) -> Result<Policies, Error> {
    let modules: BTreeMap<String, Module> = toml::from_str(modules).unwrap();
    Policies::load(bindings, &modules, &limits(), &Trial::waived()).map_err(bare)
}

/// The error itself, without the place in the configuration where it was met.
fn bare(error: Error) -> Error {
    match error {
        Error::At { source, .. } => *source,
        error => error,
    }
}

fn wrong_key() -> Found {
    Found::bare(KeyStatus::Invalid, Some(Why::Wrong), None)
}

async fn one(policies: &Policies, mail: &Mail, found: &Found) -> Decision {
    let mut decisions = policies.decide(mail, found, &[]).await;
    assert_eq!(decisions.len(), 1);
    decisions.remove(0)
}

#[tokio::test]
async fn the_shipped_policies_do_what_their_names_say() {
    let told = |sender, recipient| Notify { sender, recipient };
    let expected = [
        ("accept", Disposition::Accept, told(false, false)),
        ("mark", Disposition::Mark, told(false, false)),
        ("quarantine", Disposition::Quarantine, told(false, false)),
        ("reject-notify-sender", Disposition::Reject, told(true, false)),
        ("reject-notify-recipient", Disposition::Reject, told(false, true)),
        ("reject-notify-both", Disposition::Reject, told(true, true)),
    ];
    for (id, disposition, notify) in expected {
        let policies = load(&bindings(id), "").unwrap();
        let decision = one(&policies, &mail(2), &wrong_key()).await;
        assert_eq!((decision.disposition, decision.notify), (disposition, notify), "{id}");
        assert_eq!((decision.recipients, decision.fault, decision.clamped), (vec![0, 1], None, None), "{id}");
    }
}

#[tokio::test]
async fn a_silent_drop_is_for_wrong_keys_alone() {
    let silent = config::Policy { invalid: "reject-silently".into(), ..config::Policy::default() };
    let policies = load(&silent, "").unwrap();
    let dropped = one(&policies, &mail(1), &wrong_key()).await;
    assert_eq!((dropped.notify, dropped.clamped), (Notify::default(), None));
    let expired = Found::bare(KeyStatus::Invalid, Some(Why::Expired), None);
    let held = one(&policies, &mail(1), &expired).await;
    assert_eq!((held.disposition, held.notify.sender), (Disposition::Reject, true));
    assert!(held.clamped.is_some());
    assert!(matches!(load(&bindings("reject-silently"), ""), Err(Error::SilentDrop { .. })));
}

#[tokio::test]
async fn a_binding_that_keeps_good_mail_back_is_warned_of_by_what_it_does_and_not_by_its_name() {
    let file = |id: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("shipped/{id}.wasm"));
    let modules = format!(
        "[friendly]\nmodule = {:?}\n[reject-nobody]\nmodule = {:?}\n[missing-direct]\nsettings = {{ then = \"reject\" }}",
        file("quarantine"),
        file("accept")
    );
    let warned = |policy: config::Policy| load(&policy, &modules).unwrap().warnings();
    assert_eq!(warned(config::Policy::default()), Vec::<String>::new());
    let told = warned(config::Policy {
        valid: "reject-notify-sender".into(),
        none: "reject-nobody".into(),
        missing: "friendly".into(),
        invalid: "quarantine".into(),
        ..config::Policy::default()
    });
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].starts_with("policy.valid = \"reject-notify-sender\": "), "{told:?}");
    assert!(told[1].starts_with("policy.missing = \"friendly\": "), "{told:?}");
    // What it does hangs on the message.
    let looks = config::Policy { missing: "missing-direct".into(), ..config::Policy::default() };
    assert_eq!(warned(looks), Vec::<String>::new());
}

#[tokio::test]
async fn direct_mail_without_a_key_is_told_from_list_mail_by_its_trail() {
    let policies = load(&bindings("missing-direct"), "[missing-direct]\nsettings = { then = \"reject\" }").unwrap();
    let mut found = Found::bare(KeyStatus::Missing, None, None);
    found.claim = Some(Claim::All);
    assert_eq!(one(&policies, &mail(1), &found).await.disposition, Disposition::Reject);
    let field = Field { name: "list-id".into(), value: b" <x.example>".to_vec() };
    let list = mail(1).altered(|_, head| head.fields.push(field));
    assert_eq!(one(&policies, &list, &found).await.disposition, Disposition::Accept);
}

#[test]
fn settings_that_do_not_fit_are_refused_at_load() {
    let said = |modules: &str| load(&bindings("missing-direct"), modules).unwrap_err().to_string();
    assert!(said("[missing-direct]\nsettings = { when = 1 }").contains("there is no setting `when`"));
    assert!(said("[missing-direct]\nsettings = { then = 1 }").contains("`then` must be a text"));
    assert!(said("[missing-direct]\nsettings = { then = \"drop\" }").contains("write \"mark\""));
    assert!(said("[missing-direct]\nsha256 = \"00\"").contains("has SHA-256"));
    let unknown = load(&bindings("nobody"), "").unwrap_err().to_string();
    assert!(unknown.contains("there is no policy `nobody`"), "{unknown}");
    assert!(matches!(load(&bindings("../etc/passwd"), ""), Err(Error::Id(_))));
}

#[test]
fn k14_a_file_that_is_no_policy_is_refused_and_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let refused = |octets: &[u8]| {
        std::fs::write(dir.path().join("x.wasm"), octets).unwrap();
        let bindings = config::Policy { dir: dir.path().into(), ..bindings("x") };
        load(&bindings, "").unwrap_err().to_string()
    };
    let good = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../policies/mark/mark.wasm")).unwrap();
    assert!(refused(&good[..good.len() / 2]).contains("no component"));
    assert!(refused(b"").contains("no component"));
    assert!(refused(&vec![0; 4 * 1024 * 1024 + 1]).contains("larger than 4 MiB"));
    let empty_component = b"\0asm\x0d\0\x01\0";
    assert!(refused(empty_component).contains("does not export addrauth:policy/policy@0.2.0"));
}

#[test]
fn k6_words_become_one_safe_line() {
    assert_eq!(printable("a\r\nRCPT TO:<x>%s \u{e9}\0z", 400), "a  RCPT TO:<x>?s ??z");
    assert_eq!(printable(&"x".repeat(1000), 400).len(), 400);
}

/// The hostile component with this misdeed.
fn hostile(does: &str, on_fault: &str) -> Result<Policies, Error> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/hostile/hostile.wasm").display().to_string();
    let module = format!("[hostile]\nmodule = '{file}'\nsettings = {{ does = '{does}' }}\non_fault = '{on_fault}'");
    load(&bindings("hostile"), &module)
}

#[tokio::test]
async fn k1_to_k5_a_fault_is_the_configured_decision_and_never_accept() {
    let misdeeds = [
        ("loop", "ran longer than 200 ms"),
        ("grow", "wanted more than 16 MiB of memory"),
        ("recurse", ""),
        ("huge", "handed back more than 65536 octets"),
        ("trap", "trapped"),
    ];
    for (does, words) in misdeeds {
        let policies = hostile(does, "defer").unwrap();
        for _ in 0..2 {
            let decision = one(&policies, &mail(1), &wrong_key()).await;
            let fault = decision.fault.unwrap_or_default();
            assert!(!fault.is_empty() && fault.contains(words), "{does}: {fault}");
            assert_eq!(decision.disposition, Disposition::Defer, "{does}");
        }
        let missing = Found::bare(KeyStatus::None, None, None);
        assert_eq!(one(&policies, &mail(1), &missing).await.disposition, Disposition::Accept);
    }
    let rejected = one(&hostile("trap", "reject").unwrap(), &mail(1), &wrong_key()).await;
    assert_eq!((rejected.disposition, rejected.notify.sender), (Disposition::Reject, true));
    let kept = one(&hostile("trap", "quarantine").unwrap(), &mail(1), &wrong_key()).await;
    assert_eq!(kept.disposition, Disposition::Quarantine);
    assert!(matches!(hostile("trap-in-check", "defer"), Err(Error::Fault { during: "check-settings", .. })));
}

#[tokio::test]
async fn k6_no_line_ending_percent_or_eight_bit_octet_passes() {
    let decision = one(&hostile("words", "defer").unwrap(), &mail(1), &wrong_key()).await;
    assert_eq!((decision.reason.as_str(), decision.fault), ("a  250 OK ?s ??z", None));
}

#[tokio::test]
async fn k13_an_instance_remembers_nothing_of_the_one_before() {
    let policies = hostile("state", "defer").unwrap();
    for _ in 0..50 {
        assert_eq!(one(&policies, &mail(1), &wrong_key()).await.reason, "0");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l_every_message_is_decided_by_exactly_one_version_while_versions_change() {
    let version = |id: &str| Arc::new(load(&bindings(id), "").unwrap());
    let versions = [version("mark"), version("quarantine")];
    let live = Arc::new(std::sync::RwLock::new(Arc::clone(&versions[0])));
    let seen = Arc::clone(&live);
    let traffic = tokio::spawn(async move {
        let mut decided = [0_u32; 2];
        for _ in 0..20_000 {
            let policies = Arc::clone(&seen.read().unwrap());
            let decision = one(&policies, &mail(3), &wrong_key()).await;
            let place = match (decision.policy.as_str(), decision.disposition) {
                ("mark", Disposition::Mark) => 0,
                ("quarantine", Disposition::Quarantine) => 1,
                mixed => panic!("{mixed:?}"),
            };
            assert_eq!(decision.recipients, [0, 1, 2]);
            decided[place] += 1;
            tokio::task::yield_now().await;
        }
        decided
    });
    let mut swaps = 0;
    while !traffic.is_finished() {
        swaps += 1;
        *live.write().unwrap() = Arc::clone(&versions[swaps % 2]);
        tokio::task::yield_now().await;
    }
    let decided = traffic.await.unwrap();
    assert!(swaps > 10 && decided.iter().all(|n| *n > 0), "{swaps} swaps, {decided:?}");
}

#[test]
fn k17_a_policy_that_asks_for_a_key_field_is_refused() {
    let asks = |name: &str| {
        let headers = vec!["Subject".into(), name.into()];
        shelf::check_wanted("x", &contract::Wanted { headers, ..contract::Wanted::nothing() }, &limits())
    };
    for name in ["X-Auth-Key", "x-auth-KEY", "X-New-Auth-Key"] {
        assert!(matches!(asks(name), Err(Error::AsksForKeys { .. })), "{name}");
    }
    for name in ["", "a b", "a:b", "a\r\nb", "\u{e9}"] {
        assert!(matches!(asks(name), Err(Error::FieldName { .. })), "{name:?}");
    }
    assert!(asks("X-Spam-Flag").is_ok());
}

#[test]
fn a_rehearsed_component_wants_what_its_settings_say() {
    let stage = rehearse::Stage::new(&limits()).unwrap();
    let file = |name: &str| std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name)).unwrap();
    let component = |name: &str| stage.load(&file(name), &Trial::waived()).unwrap();
    let direct = component("policies/missing-direct/missing-direct.wasm");
    let wanted = direct.check(&direct.fit(&BTreeMap::new()).unwrap()).unwrap();
    assert_eq!(wanted.facts(), ["trail", "mail-auth", "claim"]);
    assert!(wanted.headers().is_empty() && !wanted.is_nothing());
    let given = BTreeMap::from([("then".to_owned(), toml::Value::String("drop".into()))]);
    let refused = direct.check(&direct.fit(&given).unwrap()).err().unwrap();
    assert!(matches!(&refused, rehearse::Undecided::Settings(text) if text.contains("drop")), "{refused}");
    let mark = component("policies/mark/mark.wasm");
    assert!(mark.check(&mark.fit(&BTreeMap::new()).unwrap()).unwrap().is_nothing());
    assert!(component("tests/hostile/hostile.wasm").fit(&BTreeMap::new()).is_err());
}
