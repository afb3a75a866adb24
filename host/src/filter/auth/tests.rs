//! Whose words are believed, and which of them.

use super::*;
use crate::case::{Envelope, Field, Head, ReversePath};

fn mail(values: &[&str]) -> Mail {
    let field = |value: &&str| Field { name: "authentication-RESULTS".into(), value: value.as_bytes().to_vec() };
    Mail::new(
        Envelope {
            reverse_path: ReversePath::Path(Address::parse(b"bounces@news.example.com", false).ok()),
            ..Envelope::default()
        },
        Head { fields: values.iter().map(field).collect(), ..Head::default() },
    )
}

fn trusting(ids: &[&str]) -> Config {
    Config {
        hostname: "mx.home.example".into(),
        trusted_authserv_ids: ids.iter().map(|id| (*id).to_owned()).collect(),
        ..Config::default()
    }
}

/// What is believed of these fields about mail from alice@example.com, where mx.home.example and one more are trusted.
fn believed_of(values: &[&str]) -> Option<MailAuth> {
    let alice = Address::parse(b"alice@example.com", false).ok();
    mail_auth(&mail(values), alice.as_ref(), &trusting(&["mx.home.example", "Filter.home.example"]))
}

const GOOD: &str = " mx.home.example; spf=pass smtp.mailfrom=x@news.example.com; dkim=pass header.d=example.com; \
                    dmarc=pass header.from=example.com";

#[test]
fn nobody_is_believed_unless_named() {
    let alice = Address::parse(b"alice@example.com", false).ok();
    assert_eq!(mail_auth(&mail(&[GOOD]), alice.as_ref(), &trusting(&[])), None);
    for stranger in [" elsewhere.example; dkim=pass header.d=example.com", "dkim=pass header.d=example.com", ""] {
        assert_eq!(believed_of(&[stranger]), None, "{stranger:?}");
    }
    let all = MailAuth {
        spf: AuthResult::Pass,
        spf_aligned: true,
        spf_of_path: true,
        dkim: AuthResult::Pass,
        dkim_aligned: true,
        dmarc: AuthResult::Pass,
    };
    assert_eq!(believed_of(&[GOOD]), Some(all));
    let without_sender = MailAuth { spf_aligned: false, dkim_aligned: false, ..all };
    assert_eq!(mail_auth(&mail(&[GOOD]), None, &trusting(&["MX.home.example."])), Some(without_sender));
}

#[test]
fn where_the_header_shows_only_what_its_sender_wrote_nobody_is_believed() {
    use crate::case::Means;
    let shown = |results| mail(&[GOOD]).altered(|envelope, _| envelope.means = Means { results, ..Means::default() });
    let config = trusting(&["mx.home.example"]);
    assert!(mail_auth(&shown(true), None, &config).is_some() && mail_auth(&shown(false), None, &config).is_none());
}

#[test]
fn where_nobody_writes_before_us_our_own_name_is_not_believed() {
    let config = Config { first_in_chain: true, ..trusting(&["mx.home.example", "filter.home.example"]) };
    assert_eq!(mail_auth(&mail(&[GOOD]), None, &config), None);
    let other = " filter.home.example; dmarc=fail";
    assert_eq!(mail_auth(&mail(&[GOOD, other]), None, &config).map(|auth| auth.dmarc), Some(AuthResult::Fail));
}

#[test]
fn of_each_method_the_top_field_alone_counts() {
    let auth = believed_of(&[
        " filter.home.example; dmarc=fail",
        " stranger.example; spf=fail",
        " mx.home.example; spf=softfail smtp.mailfrom=example.com; dmarc=pass",
        GOOD,
    ])
    .unwrap();
    assert_eq!((auth.spf, auth.spf_aligned, auth.spf_of_path), (AuthResult::Softfail, false, false));
    assert_eq!((auth.dkim, auth.dkim_aligned, auth.dmarc), (AuthResult::Pass, true, AuthResult::Fail));
}

#[test]
fn below_a_trusted_field_that_cannot_be_understood_nothing_is_believed() {
    for top in [" mx.home.example; spf=fail (open", " mx.home.example 2; spf=fail", " mx.home.example; =pass"] {
        assert_eq!(believed_of(&[top, GOOD]), None, "{top:?}");
    }
    assert!(believed_of(&[" stranger.example; spf=fail (open", GOOD]).is_some());
}

#[test]
fn a_detail_of_a_trusted_field_that_cannot_be_read_is_missing_and_the_other_facts_stand() {
    let top = " mx.home.example; dkim=pass x-bits=2048 header.d=example.com; spf=pass smtp.mailfrom=news.example.com";
    let auth = believed_of(&[top, " filter.home.example; dmarc=fail"]).unwrap();
    assert_eq!((auth.spf, auth.spf_aligned, auth.spf_of_path), (AuthResult::Pass, true, true));
    assert_eq!((auth.dkim, auth.dkim_aligned, auth.dmarc), (AuthResult::Pass, true, AuthResult::Fail));
    // Whose properties cannot be read, passes for nobody; and a lower field is not asked about that method.
    for odd in
        ["spf=pass smtp.mailfrom=a@example.com(x)@evil.test", "spf=pass smtp.mailfrom=example.com @", "spf", "spf="]
    {
        let auth = believed_of(&[&format!(" filter.home.example; {odd}"), GOOD]).unwrap();
        assert!(!auth.spf_aligned && !auth.spf_of_path && auth.spf == AuthResult::None, "{odd}: {auth:?}");
        assert_eq!((auth.dkim_aligned, auth.dmarc), (true, AuthResult::Pass), "{odd}");
    }
    // What may be any method's is the last word; what stands beside it counts.
    let auth = believed_of(&[" filter.home.example; dmarc=fail; \"spf\"=fail", GOOD]).unwrap();
    assert_eq!((auth.dmarc, auth.spf, auth.dkim), (AuthResult::Fail, AuthResult::None, AuthResult::None));
}

#[test]
fn the_best_signature_counts_and_only_one_that_passed_is_aligned() {
    for (outcomes, result, aligned) in [
        ("dkim=none", AuthResult::None, false),
        ("dkim=temperror header.d=example.com", AuthResult::Temperror, false),
        ("dkim=temperror; dkim=permerror", AuthResult::Permerror, false),
        ("dkim=permerror; dkim=fail header.d=example.com", AuthResult::Fail, false),
        ("dkim=neutral; dkim=fail", AuthResult::Neutral, false),
        ("dkim=policy; dkim=neutral", AuthResult::Policy, false),
        ("dkim=fail header.d=example.com; dkim=pass header.d=list.example", AuthResult::Pass, false),
        ("dkim=pass header.d=list.example; dkim=pass header.d=Example.COM.", AuthResult::Pass, true),
        ("dkim=pass header.i=@mail.example.com", AuthResult::Pass, true),
        ("dkim=pass header.i=alice@com", AuthResult::Pass, false),
        ("dkim/2=pass header.d=example.com", AuthResult::None, false),
        ("dkim=splendid header.d=example.com", AuthResult::None, false),
    ] {
        let auth = believed_of(&[&format!(" mx.home.example; {outcomes}")]).unwrap();
        assert_eq!((auth.dkim, auth.dkim_aligned), (result, aligned), "{outcomes}");
    }
}

#[test]
fn spf_counts_for_the_reverse_path_alone() {
    for (outcome, result, aligned, of_path) in [
        ("spf=pass smtp.helo=example.com", AuthResult::None, false, false),
        ("spf=pass", AuthResult::None, false, false),
        ("spf=pass smtp.helo=a.test; spf=fail smtp.mailfrom=example.com", AuthResult::Fail, false, false),
        ("spf=pass smtp.mailfrom=news.example.com", AuthResult::Pass, true, true),
        ("spf=pass smtp.mailfrom=example.com", AuthResult::Pass, true, false),
        ("spf=pass smtp.mailfrom=\"alice@example.com\"@evil.test", AuthResult::Pass, false, false),
        ("spf=pass smtp.mailfrom=", AuthResult::Pass, false, false),
        ("spf=pass smtp.mailfrom=<>", AuthResult::Pass, false, false),
        ("spf=hardfail smtp.mailfrom=news.example.com", AuthResult::Fail, false, false),
    ] {
        let auth = believed_of(&[&format!(" mx.home.example; {outcome}")]).unwrap();
        assert_eq!((auth.spf, auth.spf_aligned, auth.spf_of_path), (result, aligned, of_path), "{outcome}");
    }
    let bounce = mail(&[GOOD]).altered(|envelope, _| envelope.reverse_path = ReversePath::Null);
    assert!(!mail_auth(&bounce, None, &trusting(&["mx.home.example"])).unwrap().spf_of_path);
}

#[test]
fn relatives_are_above_or_below() {
    let is_relative = |one: &str, other: &str| is_relative(&one.parse().unwrap(), &other.parse().unwrap());
    for (one, other) in [("a.example", "a.example"), ("b.a.example", "a.example"), ("c.b.a.example", "a.example")] {
        assert!(is_relative(one, other) && is_relative(other, one), "{one} {other}");
    }
    for (one, other) in [("b.a.example", "c.a.example"), ("ba.example", "a.example")] {
        assert!(!is_relative(one, other) && !is_relative(other, one), "{one} {other}");
    }
}
