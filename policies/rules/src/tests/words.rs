//! Every word of the grammar, and what it asks.

use super::*;

/// Whether a condition holds: it and its contrary each decide a text of two lines.
pub(super) fn holds(condition: &str, facts: &Facts) -> bool {
    let decided = |condition: &str| {
        decide(&[&format!("when {condition}: mark"), "otherwise accept"], facts).disposition == Disposition::Mark
    };
    let said = decided(condition);
    assert_eq!(decided(&format!("not ({condition})")), !said, "{condition}");
    assert_eq!(decided(&format!("not not ({condition})")), said, "{condition}");
    said
}

#[test]
fn results_reasons_claims_and_trails_are_those_of_the_contract() {
    let results = [
        ("valid", KeyStatus::Valid),
        ("invalid", KeyStatus::Invalid),
        ("missing", KeyStatus::Missing),
        ("none", KeyStatus::None),
        ("unverified", KeyStatus::Unverified),
        ("unusable", KeyStatus::Unusable),
    ];
    for (word, _) in results {
        for (actual, status) in results {
            assert_eq!(holds(&format!("result is {word}"), &Facts::of(status)), word == actual);
            assert_eq!(holds(&format!("result is not in [{word}]"), &Facts::of(status)), word != actual);
        }
    }
    let whys = [
        ("wrong", Why::Wrong),
        ("expired", Why::Expired),
        ("no-from", Why::NoFrom),
        ("several-from", Why::SeveralFrom),
        ("bad-address", Why::BadAddress),
        ("several-keys", Why::SeveralKeys),
        ("bad-key", Why::BadKey),
        ("malformed-header", Why::MalformedHeader),
        ("dns", Why::Dns),
        ("timeout", Why::Timeout),
        ("limit", Why::Limit),
        ("no-proof", Why::NoProof),
        ("other", Why::Other),
    ];
    let claims = [("testing", Claim::Testing), ("some", Claim::Some), ("all", Claim::All)];
    let marks = [
        ("mailing-list", Trail::MAILING_LIST),
        ("forwarded", Trail::FORWARDED),
        ("resent", Trail::RESENT),
        ("automatic", Trail::AUTOMATIC),
        ("bounce", Trail::BOUNCE),
    ];
    let mut facts = full(KeyStatus::Invalid);
    for (actual, why) in whys {
        facts.why = Some(why);
        assert!(whys.iter().all(|(word, _)| holds(&format!("why is {word}"), &facts) == (*word == actual)));
        assert!(!holds("why is unknown", &facts));
    }
    for (actual, claim) in claims {
        facts.claim = Some(claim);
        assert!(claims.iter().all(|(word, _)| holds(&format!("claim is {word}"), &facts) == (*word == actual)));
    }
    for (actual, mark) in marks {
        facts.trail = Some(mark);
        assert!(marks.iter().all(|(word, _)| holds(&format!("trail is {word}"), &facts) == (*word == actual)));
        facts.trail = Some(mark | Trail::RESENT);
        assert!(holds(&format!("trail is {actual} and trail is resent"), &facts));
        assert!(!holds("trail is none", &facts));
    }
    facts.trail = Some(Trail::empty());
    assert!(holds("trail is none", &facts));
}

#[test]
fn the_other_methods_are_asked_by_their_results_and_by_alignment() {
    let results = [
        ("none", AuthResult::None),
        ("pass", AuthResult::Pass),
        ("fail", AuthResult::Fail),
        ("softfail", AuthResult::Softfail),
        ("neutral", AuthResult::Neutral),
        ("policy", AuthResult::Policy),
        ("temperror", AuthResult::Temperror),
        ("permerror", AuthResult::Permerror),
    ];
    let none = MailAuth {
        spf: AuthResult::None,
        spf_aligned: false,
        dkim: AuthResult::None,
        dkim_aligned: false,
        dmarc: AuthResult::None,
    };
    let mut facts = full(KeyStatus::Missing);
    for (word, result) in results {
        for (method, auth) in [
            ("spf", MailAuth { spf: result, ..none }),
            ("dkim", MailAuth { dkim: result, ..none }),
            ("dmarc", MailAuth { dmarc: result, ..none }),
        ] {
            facts.mail_auth = Some(auth);
            for (other, _) in results {
                assert_eq!(holds(&format!("{method} is {other}"), &facts), other == word, "{method} {word} {other}");
            }
            for other in ["spf", "dkim", "dmarc"].into_iter().filter(|other| *other != method) {
                assert!(holds(&format!("{other} is none"), &facts));
            }
        }
    }
    for (text, spf_aligned, dkim_aligned) in [("spf", true, false), ("dkim", false, true)] {
        facts.mail_auth = Some(MailAuth { spf_aligned, dkim_aligned, ..none });
        assert_eq!(holds("spf aligned", &facts), text == "spf");
        assert_eq!(holds("dkim aligned", &facts), text == "dkim");
        assert_eq!(holds("dkim is aligned", &facts), text == "dkim");
        assert!(!holds("dmarc aligned", &facts));
    }
    facts.mail_auth = Some(MailAuth { dmarc: AuthResult::Pass, ..none });
    assert!(holds("dmarc aligned", &facts));
}

#[test]
fn addresses_are_compared_whatever_their_letter_case() {
    let facts = full(KeyStatus::Missing);
    for (condition, expected) in [
        ("sender is alice@bank.example", true),
        ("sender is ALICE@Bank.Example", true),
        ("sender is \"alice@bank.example\"", true),
        ("sender is alic@bank.example", false),
        ("sender is alice@bank.exampl", false),
        ("sender is @bank.example", true),
        ("sender is @BANK.example", true),
        ("sender is @ank.example", false),
        ("sender is *.bank.example", false),
        ("sender is in [x@y.example, @bank.example]", true),
        ("sender is not in [x@y.example, @y.example]", true),
        ("sender is in x@y.example", false),
        ("recipient is bob@ours.example", true),
        ("envelope sender is bounces@list.example", true),
        ("envelope sender is empty", false),
    ] {
        assert_eq!(holds(condition, &facts), expected, "{condition}");
    }
    let with = |sender: &str, recipient: &str| {
        let mut facts = full(KeyStatus::Missing);
        (facts.sender, facts.recipient) = (Some(address(sender)), Some(address(recipient)));
        facts
    };
    let below = with("alice@mail.sub.bank.example", "BOB+Lists@ours.example");
    for (condition, expected) in [
        ("sender is *.bank.example", true),
        ("sender is *.sub.bank.example", true),
        ("sender is *.ub.bank.example", false),
        ("sender is *.mail.sub.bank.example", false),
        ("sender is @bank.example", false),
        ("recipient is bob@ours.example", true),
        ("recipient is bo@ours.example", false),
    ] {
        assert_eq!(holds(condition, &below), expected, "{condition}");
    }
    let tagged = with("alice+x@bank.example", "+bob@ours.example");
    assert!(!holds("sender is alice@bank.example", &tagged));
    assert!(holds("sender is alice+x@bank.example", &tagged));
    assert!(holds("recipient is +bob@ours.example", &tagged));
    let odd = with("o'neil@bank.example", "\"a b+c\"@ours.example");
    assert!(holds("sender is o'neil@bank.example", &odd));
    assert!(holds("recipient is '\"a b+c\"@ours.example'", &odd));
}

#[test]
fn clients_are_asked_by_network_name_helo_and_tls() {
    let mut facts = full(KeyStatus::Missing);
    for (condition, expected) in [
        ("client ip is 192.0.2.7", true),
        ("client ip is in 192.0.2.0/24", true),
        ("client ip is in [10.0.0.0/8, 192.0.2.0/29]", true),
        ("client ip is not in [10.0.0.0/8, 2001:db8::/32]", true),
        ("client ip is ::/0", false),
        ("client name is mx.bank.example", true),
        ("client name is *.bank.example", true),
        ("client name is MX.bank.EXAMPLE", true),
        ("client name is unknown", false),
        ("helo is \"mx.bank.example\"", true),
        ("helo is localhost", false),
        ("tls", true),
    ] {
        assert_eq!(holds(condition, &facts), expected, "{condition}");
    }
    facts.client = Some(Client { ip: "2001:db8::1".into(), name: None, helo: "[192.0.2.1]".into(), tls: false });
    for (condition, expected) in [
        ("client ip is 2001:db8::1", true),
        ("client ip is 2001:db8::/32", true),
        ("client ip is \"2001:db8::\"", false),
        ("client ip is in [::1, 2001:db8::/127]", true),
        ("client ip is 0.0.0.0/0", false),
        ("client name is unknown", true),
        ("client ip is unknown", false),
        ("helo is \"[192.0.2.1]\"", true),
        ("not tls", true),
    ] {
        assert_eq!(holds(condition, &facts), expected, "{condition}");
    }
    facts.client = Some(Client { ip: "192.0.2.7".into(), name: None, helo: "mx.b.example.".into(), tls: false });
    assert!(holds("helo is mx.b.example and helo is *.b.example", &facts));
    // The first colon that is followed by a blank ends the condition.
    let text = ["when client ip is 2001:db8::: mark", "otherwise accept"];
    facts.client = Some(Client { ip: "2001:db8::".into(), name: None, helo: String::new(), tls: false });
    assert_eq!(decide(&text, &facts).disposition, Disposition::Mark);
}

#[test]
fn sizes_and_days_have_bounds() {
    let mut facts = full(KeyStatus::Missing);
    for (condition, size, expected) in [
        ("size over 1000", 1000, false),
        ("size over 1000", 1001, true),
        ("size under 1000", 1000, false),
        ("size under 1000", 999, true),
        ("size is over 1K", 1025, true),
        ("size is not over 1k", 1024, true),
        ("size is over 10M", 10 * 1024 * 1024, false),
        ("size is over 10m", 10 * 1024 * 1024 + 1, true),
        ("size under 2G", u64::MAX, false),
        ("size under 18446744073709551615", u64::MAX - 1, true),
    ] {
        facts.size = Some(size);
        assert_eq!(holds(condition, &facts), expected, "{condition} {size}");
    }
    for (condition, days, expected) in [
        ("last valid within 30 days", 30, true),
        ("last valid within 30 days", 31, false),
        ("last valid within 0 days", 0, true),
        ("last valid within 1 day", 1, true),
        ("never valid", 5, false),
    ] {
        facts.last_valid = Some(days);
        assert_eq!(holds(condition, &facts), expected, "{condition} {days}");
    }
    facts.last_valid = None;
    assert!(holds("never valid", &facts));
}

#[test]
fn and_or_not_and_brackets_mean_what_they_say() {
    let mut facts = full(KeyStatus::Missing);
    let (yes, no) = ("result is missing", "result is valid");
    for (condition, expected) in [
        (format!("{yes} and {yes} and {no}"), false),
        (format!("{no} or {no} or {yes}"), true),
        (format!("({no} and {yes}) or {yes}"), true),
        (format!("({no} or {yes}) and {no}"), false),
        (format!("not ({no} or {no}) and {yes}"), true),
        (format!("not {no} and not {yes}"), false),
        (format!("not ({yes} and not ({no} or {yes}))"), true),
        (format!("(((({yes}))))"), true),
        (format!("({no} and ({yes} or {yes})) or ({yes} and tls)"), true),
        (format!("not({no})and({yes})"), true),
    ] {
        assert_eq!(words_hold(&condition, &facts), expected, "{condition}");
    }
    facts.client = None;
    assert!(!words_hold(&format!("{yes} and tls"), &facts));
}

/// Not every contrary can stand in a text, where the check sees that it can never hold: this asks the condition alone.
fn words_hold(condition: &str, facts: &Facts) -> bool {
    let text = [format!("when {condition}: mark"), "otherwise accept".into()];
    Rules::decide(facts, &Settings::default().with("rules", Value::Texts(text.into()))).disposition == Disposition::Mark
}
