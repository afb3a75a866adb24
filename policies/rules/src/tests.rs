//! What a text may say, what is refused and in which words.

use addrauth_policy::{
    Address, AuthResult, Claim, Client, Decision, Disposition, Facts, KeyStatus, MailAuth, Notify, Policy, Settings,
    Trail, Value, Wants, Why,
};

use super::*;

mod documents;
mod errors;
mod generated;
mod hostile;
mod words;

fn lines(lines: &[&str]) -> Vec<String> {
    lines.iter().map(|line| line.to_string()).collect()
}

fn settings(lines: &[&str]) -> Settings {
    Settings::default().with("rules", Value::Texts(self::lines(lines)))
}

/// The decision of a text that is taken.
fn decide(text: &[&str], facts: &Facts) -> Decision {
    assert!(Rules::check_settings(&settings(text)).is_ok(), "{:?}", Rules::check_settings(&settings(text)));
    Rules::decide(facts, &settings(text))
}

fn refused(text: &[&str]) -> String {
    Rules::check_settings(&settings(text)).unwrap_err()
}

fn address(text: &str) -> Address {
    let (local, domain) = text.rsplit_once('@').unwrap();
    Address { local: local.into(), domain: domain.into() }
}

/// Facts of which every one is there.
fn full(status: KeyStatus) -> Facts {
    let mut facts = Facts::of(status);
    facts.why = Some(Why::Other);
    facts.sender = Some(address("alice@bank.example"));
    facts.recipient = Some(address("bob@ours.example"));
    facts.envelope_sender = Some(address("bounces@list.example"));
    facts.client = Some(Client {
        ip: "192.0.2.7".into(),
        name: Some("mx.bank.example".into()),
        helo: "mx.bank.example".into(),
        tls: true,
    });
    facts.size = Some(4096);
    facts.trail = Some(Trail::empty());
    facts.mail_auth = Some(MailAuth {
        spf: AuthResult::Pass,
        spf_aligned: true,
        dkim: AuthResult::None,
        dkim_aligned: false,
        dmarc: AuthResult::Pass,
    });
    facts.claim = Some(Claim::All);
    facts.last_valid = Some(30);
    facts
}

#[test]
fn the_first_line_that_matches_decides() {
    let text = [
        "# what our bank sends",
        "when result is invalid and sender is @bank.example: reject, tell the recipient \"not from the bank\"",
        "",
        "when result is in [invalid, unusable]: mark   # all others",
        "otherwise accept",
    ];
    let said = |facts: &Facts| {
        let Decision { disposition, notify, reason } = decide(&text, facts);
        (disposition, notify, reason)
    };
    let bank = full(KeyStatus::Invalid);
    assert_eq!(said(&bank), (Disposition::Reject, Notify::RECIPIENT, "not from the bank".into()));
    let other = Facts::of(KeyStatus::Invalid);
    assert_eq!(said(&other), (Disposition::Mark, Notify::empty(), "line 4 of the rules".into()));
    assert_eq!(said(&full(KeyStatus::Valid)), (Disposition::Accept, Notify::empty(), String::new()));
}

#[test]
fn a_text_wants_the_facts_that_it_names_and_no_others() {
    let wants = |text: &[&str]| Rules::check_settings(&settings(text)).unwrap();
    assert_eq!(wants(&["when result is invalid: mark", "otherwise accept"]), Wanted::nothing());
    for (condition, fact) in [
        ("why is wrong", Wants::WHY),
        ("not why is unknown", Wants::WHY),
        ("claim is all", Wants::CLAIM),
        ("trail is none", Wants::TRAIL),
        ("dkim aligned", Wants::MAIL_AUTH),
        ("dmarc is fail", Wants::MAIL_AUTH),
        ("client ip is 192.0.2.1", Wants::CLIENT),
        ("client name is unknown", Wants::CLIENT),
        ("helo is mx.example", Wants::CLIENT),
        ("tls", Wants::CLIENT),
        ("sender is a@b.example", Wants::SENDER),
        ("recipient is @b.example", Wants::RECIPIENT),
        ("envelope sender is empty", Wants::ENVELOPE_SENDER),
        ("size over 1M", Wants::SIZE),
        ("last valid within 3 days", Wants::LAST_VALID),
        ("never valid", Wants::LAST_VALID),
    ] {
        let line = format!("when result is valid or (result is invalid and ({condition})): mark");
        assert_eq!(wants(&[&line, "otherwise accept"]), Wanted::facts(fact), "{condition}");
    }
    let both = wants(&["when tls: mark", "when claim is all: mark", "otherwise accept"]);
    assert_eq!(both, Wanted::facts(Wants::CLIENT | Wants::CLAIM));
}

/// Each line, and whether it decides where the fact is absent: by itself, against an `otherwise` that is milder, and one
/// that is sterner.
#[test]
fn what_is_absent_neither_holds_nor_does_its_contrary_help_a_message() {
    let bare = Facts::of(KeyStatus::Missing);
    let decided = |line: &str, otherwise: &str| decide(&[line, otherwise], &bare).disposition;
    for condition in [
        "why is wrong",
        "claim is all",
        "trail is none",
        "spf is pass",
        "spf aligned",
        "client ip is 0.0.0.0/0",
        "client name is *.b.example",
        "helo is b.example",
        "tls",
        "sender is @b.example",
        "recipient is @b.example",
        "size over 1",
        "last valid within 3000 days",
    ] {
        let [held, contrary] = [format!("when {condition}"), format!("when not ({condition})")];
        // The condition never holds, whichever decision that is to the advantage of.
        assert_eq!(decided(&format!("{held}: accept"), "otherwise quarantine"), Disposition::Quarantine);
        assert_eq!(decided(&format!("{held}: quarantine"), "otherwise accept"), Disposition::Accept);
        // Its contrary stays open, and the sterner of both decisions counts.
        assert_eq!(decided(&format!("{contrary}: accept"), "otherwise quarantine"), Disposition::Quarantine);
        assert_eq!(decided(&format!("{contrary}: quarantine"), "otherwise accept"), Disposition::Quarantine);
        assert_eq!(decided(&format!("{contrary}: mark"), "otherwise defer"), Disposition::Defer);
    }
    // An empty reverse-path is a fact.
    assert_eq!(decided("when not envelope sender is @b.example: accept", "otherwise quarantine"), Disposition::Accept);
    assert_eq!(decided("when envelope sender is empty: accept", "otherwise quarantine"), Disposition::Accept);
}

#[test]
fn an_open_line_holds_against_every_later_one_that_is_milder() {
    let text = [
        "when result is missing and not spf aligned: quarantine \"first\"",
        "when not dkim aligned: reject, tell the sender \"second\"",
        "when size over 100: quarantine \"third\"",
        "otherwise accept",
    ];
    let mut facts = Facts::of(KeyStatus::Missing);
    assert_eq!(decide(&text, &facts).reason, "second");
    facts.size = Some(1000);
    assert_eq!(decide(&text, &facts).reason, "second");
    assert_eq!(decide(&[text[0], text[2], text[3]], &facts).reason, "first");
    facts.mail_auth = full(KeyStatus::Missing).mail_auth;
    assert_eq!(decide(&[text[0], text[2], text[3]], &facts).reason, "third");
}

/// `missing-direct` as a text.
#[test]
fn a_domain_that_claims_all_is_taken_at_its_word_for_direct_mail() {
    let text = [
        "when result is missing and claim is all and trail is none and not (spf aligned or dkim aligned): mark",
        "otherwise accept",
    ];
    let mut facts = Facts::of(KeyStatus::Missing);
    (facts.claim, facts.trail) = (Some(Claim::All), Some(Trail::empty()));
    assert_eq!(decide(&text, &facts).disposition, Disposition::Mark);
    facts.mail_auth = full(KeyStatus::Missing).mail_auth;
    assert_eq!(decide(&text, &facts).disposition, Disposition::Accept);
    facts.mail_auth = None;
    facts.trail = None;
    assert_eq!(decide(&text, &facts).disposition, Disposition::Accept);
}

#[test]
fn decisions_are_written_in_these_ways() {
    let facts = Facts::of(KeyStatus::Invalid);
    let (nobody, both) = (Notify::empty(), Notify::SENDER | Notify::RECIPIENT);
    for (text, disposition, notify, reason) in [
        ("accept", Disposition::Accept, nobody, ""),
        ("accept \"a friend\"", Disposition::Accept, nobody, "a friend"),
        ("mark", Disposition::Mark, nobody, "line 1 of the rules"),
        ("mark 'it''s'", Disposition::Mark, nobody, "!"),
        ("mark, \"so\"", Disposition::Mark, nobody, "so"),
        ("quarantine", Disposition::Quarantine, nobody, "line 1 of the rules"),
        ("quarantine, tell the recipient", Disposition::Quarantine, Notify::RECIPIENT, "line 1 of the rules"),
        ("quarantine tell nobody 'x'", Disposition::Quarantine, nobody, "x"),
        ("reject, tell sender", Disposition::Reject, Notify::SENDER, "line 1 of the rules"),
        ("reject, tell the recipient, \"no\"", Disposition::Reject, Notify::RECIPIENT, "no"),
        ("reject, tell both \"no: not, ever # said\" # a remark", Disposition::Reject, both, "no: not, ever # said"),
        ("defer \"later\"", Disposition::Defer, nobody, "later"),
    ] {
        if reason == "!" {
            assert!(refused(&[&format!("otherwise {text}")]).contains("nothing follows a reason"));
            continue;
        }
        for line in [format!("otherwise {text}"), format!("otherwise: {text}"), format!("  otherwise\t:  {text} ")] {
            let expected = Decision { disposition, notify, reason: reason.into() };
            assert_eq!(decide(&[&line], &facts), expected, "{line}");
        }
    }
    let silent = "when result is invalid and why is wrong: reject, tell nobody";
    assert_eq!(decide(&[silent, "otherwise accept"], &full(KeyStatus::Invalid)).disposition, Disposition::Accept);
}

#[test]
fn a_text_that_was_never_checked_defers() {
    for text in [&["when"][..], &[], &["when result is valid: accept"], &["otherwise"]] {
        assert_eq!(Rules::decide(&Facts::of(KeyStatus::None), &settings(text)).disposition, Disposition::Defer);
    }
    assert_eq!(Rules::decide(&Facts::of(KeyStatus::None), &Settings::default()).disposition, Disposition::Defer);
}
