//! Fields as servers write them, and as nobody should.

use proptest::prelude::*;

use super::*;

/// What was read, in its canonical form.
fn read(value: &str) -> Result<String, Bad> {
    Results::parse(value.as_bytes()).map(|results| results.to_string())
}

#[test]
fn the_examples_of_rfc_8601_are_read() {
    for (value, canonical) in [
        (" example.org 1; none", "example.org; none"),
        (
            " example.com;\r\n      spf=pass smtp.mailfrom=example.net",
            "example.com; spf=pass smtp.mailfrom=example.net",
        ),
        (
            " example.com;\r\n\tauth=pass (cram-md5) smtp.auth=sender@example.net;\r\n\tspf=pass smtp.mailfrom=example.net",
            "example.com; auth=pass smtp.auth=sender@example.net; spf=pass smtp.mailfrom=example.net",
        ),
        (
            " example.com; dkim=pass (good signature) header.d=mail-router.example.net; dkim=fail reason=\"bad signature\"\r\n \
             header.d=newyork.example.com",
            "example.com; dkim=pass header.d=mail-router.example.net; dkim=fail reason=\"bad signature\" \
             header.d=newyork.example.com",
        ),
        (
            " foo.example.net (foobar) 1 (baz); dkim (Because I like it) / 1 (One yay) = (wait for it) fail policy (A dot \
             can go here) . (like that) expired (this surprised me) = (as I wasn't expecting it) 1362471462",
            "foo.example.net; dkim=fail policy.expired=1362471462",
        ),
    ] {
        assert_eq!(read(value).as_deref(), Ok(canonical), "{value:?}");
    }
}

#[test]
fn what_real_servers_write_is_read() {
    for (value, canonical) in [
        (
            " mx.test; dkim=pass header.b=\"ab/c+\" header.i=@a.test;",
            "mx.test; dkim=pass header.b=\"ab/c+\" header.i=@a.test",
        ),
        (" mx.test;; spf=none smtp.mailfrom=", "mx.test; spf=none smtp.mailfrom=\"\""),
        (" mx.test; iprev=pass policy.iprev=2001:db8::1", "mx.test; iprev=pass policy.iprev=\"2001:db8::1\""),
        (" mx.test; spf=pass smtp.mailfrom=b+x=y@a.test", "mx.test; spf=pass smtp.mailfrom=b+x=y@a.test"),
        (" mx.test; spf=pass smtp.mailfrom=<>", "mx.test; spf=pass smtp.mailfrom=\"<>\""),
        (" MX.Test; DKIM=Pass HEADER.D=A.test", "MX.Test; dkim=pass header.d=A.test"),
        (" \"mx\\.test\" 2; x/3=pass", "mx.test 2; x/3=pass"),
        (" mx.test", "mx.test; none"),
    ] {
        assert_eq!(read(value).as_deref(), Ok(canonical), "{value:?}");
    }
    let eight_bit = Results::parse(b" mx.test; spf=pass smtp.mailfrom=\xe9@a.test reason=\xff").unwrap();
    assert_eq!(eight_bit.outcomes[0].values("smtp", "mailfrom").collect::<Vec<_>>(), ["\u{fffd}@a.test"]);
}

#[test]
fn what_is_quoted_or_in_a_comment_ends_nothing_and_begins_nothing() {
    let quoted = "mx.test; spf=fail smtp.mailfrom=\"; dkim=pass header.d=a.test\"@evil.test";
    let results = Results::parse(quoted.as_bytes()).unwrap();
    assert_eq!(results.outcomes.len(), 1);
    let domain = results.outcomes[0].values("smtp", "mailfrom").next().unwrap().rsplit('@').next();
    assert_eq!(domain, Some("evil.test"));
    let comment = "mx.test; spf=fail (a \\) b (c ; dkim=pass) ; x=pass) smtp.mailfrom=evil.test";
    assert_eq!(read(comment).as_deref(), Ok("mx.test; spf=fail smtp.mailfrom=evil.test"));
    let deep = format!("mx.test {}{}; spf=pass", "(".repeat(5_000), ")".repeat(5_000));
    assert_eq!(read(&deep).as_deref(), Ok("mx.test; spf=pass"));
}

#[test]
fn what_is_outside_the_grammar_is_not_read() {
    let long = format!("mx.test; spf=pass ({})", "x".repeat(VALUE_MAX));
    for value in [
        "",
        " ",
        ";",
        "; spf=pass",
        "spf=pass smtp.mailfrom=a.test; dkim=pass",
        "mx.test spf=pass",
        "mx.test 1 2; none",
        "mx.test 99999999999; none",
        "mx.test; none; spf=pass",
        "mx.test; spf=pass; none",
        "mx.test; none; none",
        "mx.test; spf=pass smtp.mailfrom=\"a\0b\"",
        "mx.test; spf=pass reason=\"open",
        "mx.test; spf=pass (open",
        &long,
    ] {
        assert!(Results::parse(value.as_bytes()).is_err(), "{value:?} {:?}", read(value));
    }
}

#[test]
fn a_detail_that_is_not_known_or_not_readable_is_left_out_and_voids_nothing_else() {
    use LeftOut::{Details, Method};
    for (odd, read, left_out) in [
        ("spf=pass x-bits=2048 smtp.mailfrom=a.test", "spf=pass smtp.mailfrom=a.test", Details),
        ("spf=pass action=none", "spf=pass", Details),
        ("spf=pass x-bits=\"20;48\" (;) x_y=", "spf=pass", Details),
        // What stands before an odd part may be the beginning of a longer value: no property is believed then.
        ("spf=pass smtp.mailfrom=a@b.test(x)@c.test", "spf=pass", Details),
        ("spf=pass smtp.mailfrom=a.test odd", "spf=pass", Details),
        ("spf=pass smtp.mailfrom=a.test @=x", "spf=pass", Details),
        ("spf=pass smtp.mailfrom=a.test smtp.=x reason=r", "spf=pass", Details),
        ("spf=pass reason=r )", "spf=pass", Details),
        ("spf=pass smtp.mailfrom \"; dkim=pass\" (; dkim=pass)", "spf=pass", Details),
        ("spf=\"pass\"", "spf=", Details),
        ("spf", "spf=", Details),
        ("spf/x=pass", "spf/0=", Details),
        ("=pass", "", Method),
        ("\"spf\"=pass smtp.mailfrom=a.test", "", Method),
        ("@ \"; dkim=pass\" (; dkim=pass)", "", Method),
    ] {
        for (before, after) in [("", ""), ("arc=fail; ", ""), ("", "; arc=fail"), ("iprev=pass;", ";;arc=fail")] {
            let value = format!("mx.test; {before}{odd}{after}");
            let found = Results::parse(value.as_bytes()).unwrap_or_else(|bad| panic!("{value:?}: {bad}"));
            let part = |text: &str| text.trim_matches([';', ' ']).to_owned();
            let parts = [before, read, after].map(part);
            let expected: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
            let expected = if expected.is_empty() { "none".to_owned() } else { expected.join("; ") };
            assert_eq!((found.to_string(), found.left_out), (format!("mx.test; {expected}"), left_out), "{value:?}");
        }
    }
    let both = Results::parse(b"mx.test; =x; spf=pass x=y").unwrap();
    assert_eq!((both.left_out, both.outcomes.len()), (Method, 1));
}

#[test]
fn b2_an_id_is_read_in_every_dress_and_whatever_follows() {
    for value in [
        " mx.test; spf=pass",
        "MX.TEST.;;;(",
        "\r\n\t mx.test\r\n 1; \"",
        "(a (b) \\( c) mx.test(x); =",
        " \"mx.test\" 1",
        " \"m\\x.test\"; none",
        " mx.test",
    ] {
        let id = authserv_id(value.as_bytes());
        assert!(id.as_deref().is_some_and(|id| same_id(id, "mx.test")), "{value:?} {id:?}");
    }
    for value in ["mx.test.evil; none", "a.mx.test; none", "(mx.test)", "mx.test=pass", "", "\"mx.test", "(mx.test"] {
        let id = authserv_id(value.as_bytes());
        assert!(!id.is_some_and(|id| same_id(&id, "mx.test")), "{value:?}");
    }
}

#[test]
fn b2_our_method_is_seen_in_every_dress_and_in_what_cannot_be_read() {
    for value in [
        "mx.test; x-auth-key=pass",
        "mx.test; spf=pass; X-AUTH-Key (c) / 1 =\r\n pass",
        "mx.test; X-Auth-Key",
        "x-auth-key=pass",
        "mx.test; spf=pass \"x-auth-key=pass",
        "mx.test; spf=pass x-auth-key=pass",
        "mx.test; spf=pass odd (x-auth-key=pass)",
        "mx.test; \"x-auth-key\"=pass",
    ] {
        assert!(carries(value.as_bytes(), METHOD), "{value:?}");
    }
    for value in
        ["mx.test; spf=pass", "mx.test; spf=pass (no x-auth-key=pass)", "mx.test; x-auth-keys=pass", "mx.test; spf"]
    {
        assert!(!carries(value.as_bytes(), METHOD), "{value:?}");
    }
}

#[test]
fn no_control_character_is_ever_written() {
    let property = Property { ptype: "header".into(), name: "from".into(), value: "\"a\r\nX: \t\0\"@a.test".into() };
    let outcome = Outcome {
        method: METHOD.into(),
        version: 1,
        result: "pass".into(),
        reason: Some("a\nb".into()),
        properties: vec![property],
    };
    let results =
        Results { authserv_id: "mx\r\n.test".into(), version: 1, outcomes: vec![outcome], left_out: LeftOut::Nothing };
    assert_eq!(results.to_string(), "\"mx.test\"; x-auth-key=pass reason=\"ab\" header.from=\"\\\"aX: \t\\\"@a.test\"");
}

proptest! {
    #[test]
    fn what_is_printed_reads_the_same(value in "[a-z]{1,8}( 1)?(; ?[a-z-]{1,4}(/2)? ?= ?[a-z]{1,4}( reason=(\"[ -~]{0,9}\"|[a-z]{1,5}))?( [a-z]{1,3}\\.[a-z]{1,3}=[!-~]{0,12}){0,2}){0,3}") {
        if let Ok(results) = Results::parse(value.as_bytes()) && results.left_out == LeftOut::Nothing {
            prop_assert_eq!(Results::parse(results.to_string().as_bytes()), Ok(results));
        }
    }

    #[test]
    fn no_octets_upset_the_reader(octets in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Results::parse(&octets);
        let whole = [b"mx.test; ".as_slice(), &octets].concat();
        let _ = (Results::parse(&whole), carries(&whole, METHOD));
        prop_assert_eq!(authserv_id(&whole), Some("mx.test".to_owned()));
    }
}
