//! The text of the policy `rules`.

use addrauth_policy::{
    Address, AuthResult, Claim, Client, Facts, KeyStatus, MailAuth, Policy, Settings, Trail, Value, Wants, Why,
};
use policy_rules::Rules;

/// Any text is read or refused with its place; one that is taken decides on the facts that it names, and on no others.
pub fn rules(octets: &[u8]) {
    let text = String::from_utf8_lossy(octets);
    let lines: Vec<String> = text.split('\n').map(str::to_owned).collect();
    let most = lines.len();
    let settings = Settings::default().with("rules", Value::Texts(lines));
    let all = [facts(KeyStatus::Invalid), facts(KeyStatus::Missing), Facts::of(KeyStatus::None)];
    let decisions = all.each_ref().map(|facts| Rules::decide(facts, &settings));
    for decision in &decisions {
        assert!(decision.reason.len() <= 400 && decision.reason.bytes().all(|octet| matches!(octet, b' '..=b'~')));
    }
    match Rules::check_settings(&settings) {
        Ok(wanted) => {
            for (facts, decision) in all.iter().zip(&decisions) {
                assert_ne!(decision.reason, "the rules of this site cannot be read");
                assert_eq!(&Rules::decide(&seen(facts, &wanted), &settings), decision);
            }
        }
        Err(refusal) => {
            assert!(refusal.starts_with("rules") && refusal.len() <= 400, "{refusal}");
            let line = refusal.strip_prefix("rules, line ").and_then(|rest| rest.split([',', ':']).next());
            assert!(line.is_none_or(|line| (1..=most).contains(&line.parse().unwrap())), "{refusal}");
        }
    }
}

fn facts(status: KeyStatus) -> Facts {
    let address = |local: &str, domain: &str| Some(Address { local: local.into(), domain: domain.into() });
    let mut facts = Facts::of(status);
    facts.why = (status == KeyStatus::Invalid).then_some(Why::Wrong);
    facts.sender = address("a", "b.example");
    facts.recipient = address("c+d", "ours.example");
    facts.envelope_sender = address("x", "list.b.example");
    facts.client = Some(Client {
        ip: "192.0.2.1".into(),
        name: Some("mx.b.example".into()),
        helo: "mx.b.example".into(),
        tls: true,
    });
    facts.size = Some(10_000);
    facts.trail = Some(Trail::FORWARDED);
    facts.mail_auth = Some(MailAuth {
        spf: AuthResult::Pass,
        spf_aligned: true,
        dkim: AuthResult::Fail,
        dkim_aligned: false,
        dmarc: AuthResult::None,
    });
    facts.claim = Some(Claim::All);
    facts.last_valid = Some(3);
    facts
}

/// What the host would tell of these facts.
fn seen(facts: &Facts, wanted: &addrauth_policy::Wanted) -> Facts {
    let wants = |fact: Wants| *wanted == wanted.clone().and(fact);
    let mut seen = Facts::of(facts.status);
    seen.why = facts.why.filter(|_| wants(Wants::WHY));
    seen.sender = facts.sender.clone().filter(|_| wants(Wants::SENDER));
    seen.recipient = facts.recipient.clone().filter(|_| wants(Wants::RECIPIENT));
    seen.envelope_sender = facts.envelope_sender.clone().filter(|_| wants(Wants::ENVELOPE_SENDER));
    seen.client = facts.client.clone().filter(|_| wants(Wants::CLIENT));
    seen.size = facts.size.filter(|_| wants(Wants::SIZE));
    seen.trail = facts.trail.filter(|_| wants(Wants::TRAIL));
    seen.mail_auth = facts.mail_auth.filter(|_| wants(Wants::MAIL_AUTH));
    seen.claim = facts.claim.filter(|_| wants(Wants::CLAIM));
    seen.last_valid = facts.last_valid.filter(|_| wants(Wants::LAST_VALID));
    seen
}
