//! What a component cannot do: hang, grow, remember, see, reach or say more than it may (INVARIANTS §5, attacks K).

use std::time::Instant;

use super::written::{Written, shelf_with};
use super::*;
use crate::case::{AuthResult, MailAuth};
use crate::config::Policy;
use crate::proto::address::Address;
use crate::proto::key::AuthKey;
use crate::proto::record::Claim;

/// Loads these octets as the policy `x`, bound to a missing and an invalid key.
pub(super) fn load_octets(octets: &[u8], limits: Limits) -> Result<Policies, Error> {
    let (_dir, dir) = shelf_with(octets);
    Policies::load(&Policy { dir, ..bindings("x") }, &BTreeMap::new(), &Arc::new(limits), &Trial::waived())
        .map_err(bare)
}

pub(super) fn load_written(written: &Written) -> Result<Policies, Error> {
    load_octets(&written.component(), Limits::clone(&limits()))
}

fn address(text: &str) -> Address {
    Address::parse(text.as_bytes(), false).unwrap()
}

fn mail_to(recipients: &[&str]) -> Mail {
    let recipient = |text: &&str| Recipient::new(format!("<{text}>"));
    mail(0).altered(|envelope, _| envelope.recipients = recipients.iter().map(recipient).collect())
}

#[tokio::test]
async fn a_component_written_as_text_is_a_policy_like_any_other() {
    let policies = load_written(&Written::default()).unwrap();
    let decision = one(&policies, &mail(2), &wrong_key()).await;
    assert_eq!((decision.disposition, decision.fault, decision.recipients), (Disposition::Accept, None, vec![0, 1]));
}

#[tokio::test]
async fn k2_a_table_that_grows_is_stopped_as_a_memory_is() {
    let grow = |elements: u32| Written {
        items: "(table $t 1 funcref)".into(),
        ..Written::deciding(&format!("(drop (table.grow $t (ref.null func) (i32.const {elements}))) (i32.const 128)"))
    };
    let fault = |elements| async move {
        let policies = load_written(&grow(elements)).unwrap();
        one(&policies, &mail(1), &wrong_key()).await.fault
    };
    assert_eq!(fault(1_000).await, None);
    let stopped = fault(30_000).await.unwrap();
    assert!(stopped.contains("wanted more than 20000 table elements"), "{stopped}");
    let born_large = Written { items: "(table 30000 funcref)".into(), ..Written::default() };
    assert!(matches!(load_written(&born_large), Err(Error::Refused { .. })));
    let born_fat = Written { items: "(memory 1024)".into(), ..Written::default() };
    assert!(matches!(load_written(&born_fat), Err(Error::Refused { .. })));
}

#[test]
fn k5_a_policy_that_faults_before_it_is_asked_is_refused() {
    for describe in ["unreachable", "(loop $l (br $l)) (i32.const 64)", "(i32.const -4)"] {
        let refused = load_written(&Written::describing(describe)).unwrap_err();
        assert!(matches!(refused, Error::Fault { during: "describe", .. }), "{describe}: {refused}");
    }
    for start in ["unreachable", "(loop $l (br $l))"] {
        let items = format!("(func $start {start}) (start $start)");
        let refused = load_written(&Written { items, ..Written::default() }).unwrap_err();
        assert!(matches!(refused, Error::Refused { why: Refused::Compile(_), .. }), "{start}: {refused}");
    }
}

#[tokio::test]
async fn k12_the_same_facts_give_the_same_decision() {
    let direct = load(&bindings("missing-direct"), "").unwrap();
    let echo = load_written(&Written::echo()).unwrap();
    for claim in [None, Some(Claim::Some), Some(Claim::All)] {
        let found = Found { claim, ..Found::bare(KeyStatus::Missing, None, None) };
        let mail = mail_to(&["bob@example.com", "carol@example.com"]);
        for policies in [&direct, &echo] {
            let first = policies.decide(&mail, &found, &[]).await;
            for _ in 0..20 {
                assert_eq!(policies.decide(&mail, &found, &[]).await, first);
            }
        }
    }
}

#[tokio::test]
async fn k12_a_nan_has_one_bit_pattern_on_every_machine() {
    // 0/0 has its sign bit set on x86 and not on ARM; the reason says which.
    let sign = "(i32.store8 (i32.const 2100) (select (i32.const 45) (i32.const 43)
            (i64.lt_s (i64.reinterpret_f64 (f64.div (f64.load (i32.const 200)) (f64.load (i32.const 208)))) (i64.const 0))))
        (i32.store (i32.const 132) (i32.const 2100)) (i32.store (i32.const 136) (i32.const 1)) (i32.const 128)";
    let policies = load_written(&Written::deciding(sign)).unwrap();
    assert_eq!(one(&policies, &mail(1), &wrong_key()).await.reason, "+");
}

#[test]
fn k15_a_component_made_to_be_slow_to_compile_is_given_up() {
    let body = "(local.get $facts) (i32.rotl) (i32.load)".repeat(60_000);
    let bomb = Written::deciding(&format!("(local.get $facts) {body}")).component();
    let limits = Arc::new(Limits::default().with(|limits| limits.policy.compile = Duration::from_millis(100)));
    assert!(bomb.len() < limits.policy.file);
    let sandbox = Sandbox::new(&limits).unwrap();
    let begin = Instant::now();
    let refused = sandbox.load(&bomb, Size::Small).err().unwrap();
    assert!(begin.elapsed() < Duration::from_millis(900), "{:?}", begin.elapsed());
    assert!(matches!(refused, Refused::CompileTime { .. }), "{refused}");
}

#[test]
fn k16_a_component_that_imports_anything_is_refused() {
    let imports = [
        "(import \"wasi:clocks/wall-clock@0.2.0\" (instance))",
        "(import \"log\" (func (param \"text\" string)))",
        "(import \"addrauth:policy/policy@0.1.0\" (instance))",
        "(import \"code\" (core module))",
        "(import \"t\" (type (sub resource)))",
    ];
    for import in imports {
        let octets = wat::parse_str(format!("(component {import})")).unwrap();
        let refused = load_octets(&octets, Limits::default()).unwrap_err();
        let Error::Refused { why: Refused::Imports(names), .. } = &refused else { panic!("{import}: {refused}") };
        assert!(import.contains(names.as_str()), "{import}: {names}");
    }
}

#[test]
fn k9_the_name_of_an_import_cannot_write_a_line_of_its_own() {
    let octets = wat::parse_str("(component (import \"url=<http://x/\\0aFeb 30 policy loaded>\" (func)))").unwrap();
    let said = load_octets(&octets, Limits::default()).unwrap_err().to_string();
    assert!(said.contains("it imports url=<http://x/ Feb 30") && !said.contains('\n'), "{said}");
}

#[tokio::test]
async fn k9_words_of_a_component_stay_one_line_wherever_they_are_shown() {
    let words = "a\\0d\\0a\\1b[2Kpolicy ok %s";
    let text = |at: u32| format!("(i64.store (i32.const {at}) (i64.const {}))", (19_u64 << 32) | 1024);
    let written = Written {
        items: format!("(data (i32.const 1024) \"{words}\")"),
        describe: format!("{} {} {} (i32.const 64)", text(64), text(72), text(80)),
        decide: format!("{} (i32.const 128)", text(132)),
        ..Written::default()
    };
    let policies = load_written(&written).unwrap();
    let listed = policies.list().into_iter().find(|policy| policy.id == "x").unwrap();
    let decision = one(&policies, &mail(1), &wrong_key()).await;
    for shown in [listed.name, listed.version, listed.summary, decision.reason] {
        assert_eq!(shown, "a  ?[2Kpolicy ok ?s");
    }
}

#[tokio::test]
async fn k17_a_component_that_declares_a_key_field_is_refused() {
    for field in ["X-Auth-Key", "x-new-auth-key"] {
        let refused = load_written(&Written::asking_for(field)).unwrap_err();
        assert!(matches!(&refused, Error::AsksForKeys { name, .. } if name == field), "{refused}");
    }
    let harmless = load_written(&Written::asking_for("X-Auth-Keys")).unwrap();
    assert_eq!(one(&harmless, &mail(1), &wrong_key()).await.fault, None);
}

/// What a policy sees, it could tell; what it saw, the journal keeps.
#[tokio::test]
async fn k10_a_policy_that_asks_for_a_field_sees_it_without_a_copy_of_the_key() {
    let key = "Vb3kQ9w2Zr7tYp0sXn4mLc8dHf1gJa6eUi5oRk2yTq9wEz3xBv7nMs4pDl8hGj0K";
    let removed = crate::proto::redact::REMOVED;
    for (name, value, seen) in [
        (
            "DKIM-Signature",
            format!(" v=1; z=X-Auth-Key:=20{key}|D:x;\n b=a"),
            format!("v=1; z=X-Auth-Key:=20{removed}|D:x; b=a"),
        ),
        ("Subject", format!(" a {}\n {} b", &key[..20], &key[20..]), format!("a {removed} b")),
        ("Old-X-Auth-Key", format!(" {}", "Junk".repeat(9)), removed.to_owned()),
        ("Subject", " as it is".to_owned(), "as it is".to_owned()),
    ] {
        let policies = load_written(&Written::asking_for(name)).unwrap();
        let mail = mail(1).altered(|_, head| {
            head.keys = vec![AuthKey::parse(key.as_bytes()).ok()];
            head.fields.push(Field { name: name.into(), value: value.into_bytes() });
        });
        let decision = one(&policies, &mail, &wrong_key()).await;
        assert_eq!(decision.facts["headers"][name][0], seen);
    }
}

/// A message of which every fact is known, and a key.
/// Each member another word, so that none can stand for another.
const MAIL_AUTH: MailAuth = MailAuth {
    spf: AuthResult::Softfail,
    spf_aligned: false,
    spf_of_path: true,
    dkim: AuthResult::Pass,
    dkim_aligned: true,
    dmarc: AuthResult::Permerror,
};

fn telling() -> (Mail, Found) {
    let mail = mail_to(&["bob@example.com"]).altered(|envelope, head| {
        envelope.client.helo = "client.example".into();
        envelope.reverse_path = ReversePath::Path(Some(address("env@example.org")));
        envelope.size = Some(4711);
        head.fields = vec![Field { name: "Subject".into(), value: b" hidden".to_vec() }];
        head.keys = vec![AuthKey::parse(b"0123456789ABCDEFGHIJKLMNOPQRSTUV").ok()];
    });
    let mut found = Found::bare(KeyStatus::Invalid, Some(Why::Wrong), Some(address("alice@example.org")));
    found.claim = Some(Claim::All);
    found.mail_auth = Some(MAIL_AUTH);
    found.last_valid = Some(3);
    (mail, found)
}

#[test]
fn k10_a_policy_is_told_what_it_declared_and_nothing_else() {
    let (mail, found) = telling();
    let told = |facts, headers: &[&str]| {
        let wanted = contract::Wanted { facts, headers: headers.iter().map(ToString::to_string).collect() };
        let mut groups: Vec<_> = facts::gather(&mail, &found, &wanted, vec![0]).collect();
        assert_eq!(groups.len(), 1);
        groups.remove(0).0
    };
    let silent = Facts::of(contract::KeyStatus::Invalid);
    assert_eq!(told(contract::Wants::default(), &[]), silent);
    for (word, wants) in contract::Wants::WORDS {
        let mut facts = told(wants, &[]);
        let mut given = 0;
        macro_rules! take { ($($fact:ident)*) => { $(given += usize::from(facts.$fact.take().is_some());)* } }
        take!(why sender recipient envelope_sender client size trail mail_auth claim last_valid);
        assert_eq!((given, &facts), (1, &silent), "{word}");
    }
    let headers = told(contract::Wants::default(), &["subject", "To"]).headers;
    assert_eq!(headers, [vec!["hidden".to_owned()], vec![]]);
}

#[tokio::test]
async fn what_other_servers_found_reaches_the_policy_that_wants_it_and_no_other() {
    let (mail, found) = telling();
    for (word, wants) in [("mail-auth", "130117"), ("trail", "000000")] {
        let bits = contract::Wants::WORDS.iter().position(|(known, _)| *known == word).unwrap();
        let policies = load_written(&Written::telling_mail_auth(1 << bits)).unwrap();
        assert_eq!(one(&policies, &mail, &found).await.reason, wants, "{word}");
    }
    let nothing = Found { mail_auth: None, ..found };
    let policies = load_written(&Written::telling_mail_auth(1 << 7)).unwrap();
    assert_eq!(one(&policies, &mail, &nothing).await.reason, "000000");
}

#[tokio::test]
async fn k11_a_policy_sees_one_recipient_at_a_time_and_is_asked_once_for_equal_ones() {
    let policies = load_written(&Written::echo()).unwrap();
    let mail = mail_to(&["bob@example.com", "carol@example.com", "bob@EXAMPLE.com", "Bob@example.com"]);
    let decisions = policies.decide(&mail, &wrong_key(), &[]).await;
    let told: Vec<_> = decisions.iter().map(|d| (d.reason.as_str(), d.recipients.as_slice())).collect();
    assert_eq!(told, [("bob", &[0, 2][..]), ("carol", &[1]), ("Bob", &[3])]);
    assert!(policies.decide(&mail_to(&[]), &wrong_key(), &[]).await.is_empty());
}

/// The hostile component that never ends, under these limits.
fn endless(limits: Limits) -> Policies {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/hostile/hostile.wasm").display().to_string();
    let modules = format!("[hostile]\nmodule = '{file}'\nsettings = {{ does = 'loop' }}\non_fault = 'quarantine'");
    let modules: BTreeMap<String, Module> = toml::from_str(&modules).unwrap();
    Policies::load(&bindings("hostile"), &modules, &Arc::new(limits), &Trial::waived()).unwrap()
}

#[tokio::test]
async fn a_full_queue_is_the_failure_decision_at_once() {
    let slow = Duration::from_millis(300);
    let limits = Limits::default().with(|limits| {
        limits.policy.time = slow;
        limits.policy.threads = 1;
        limits.policy.queue = 1;
    });
    let policies = Arc::new(endless(limits));
    let decide = || {
        let policies = Arc::clone(&policies);
        tokio::spawn(async move { (one(&policies, &mail(1), &wrong_key()).await, Instant::now()) })
    };
    let begin = Instant::now();
    let running: Vec<_> = (0..8).map(|_| decide()).collect();
    let (mut refused, mut ran) = (0, 0);
    for task in running {
        let (decision, end) = task.await.unwrap();
        assert_eq!(decision.disposition, Disposition::Quarantine);
        let fault = decision.fault.unwrap();
        if fault.contains("too many decisions are waiting") {
            refused += 1;
            assert!(end.duration_since(begin) < slow, "{:?}", end.duration_since(begin));
        } else {
            ran += 1;
            assert!(fault.contains("ran longer than 300 ms"), "{fault}");
        }
    }
    assert!(refused >= 6 && ran >= 1 && refused + ran == 8, "{refused} refused, {ran} ran");
}

#[tokio::test]
async fn decisions_that_take_too_long_together_are_the_failure_decision() {
    let (time, message) = (Duration::from_secs(2), Duration::from_millis(100));
    let limits = Limits::default().with(|limits| {
        limits.policy.time = time;
        limits.policy.message = message;
        limits.policy.threads = 1;
    });
    let policies = endless(limits);
    let begin = Instant::now();
    let decision = one(&policies, &mail(1), &wrong_key()).await;
    assert!(begin.elapsed() < time, "{:?}", begin.elapsed());
    assert_eq!(decision.fault.as_deref(), Some("did not decide within 0.1 s"));
    assert_eq!(decision.disposition, Disposition::Quarantine);
}

#[test]
fn every_shipped_policy_stands_with_no_import_at_all() {
    let sandbox = Sandbox::new(&limits()).unwrap();
    let ids: Vec<_> = shipped::ids().collect();
    assert_eq!(ids.len(), 10);
    for id in ids {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../policies/{id}/{id}.wasm"));
        let guest =
            sandbox.load(&std::fs::read(file).unwrap(), Size::Small).map_err(|why| format!("{id}: {why}")).unwrap();
        assert_eq!(sandbox.describe(&guest).unwrap().name, id);
    }
}
