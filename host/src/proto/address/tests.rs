use proptest::prelude::*;

use super::*;

fn read(text: &str) -> Option<String> {
    Address::parse(text.as_bytes(), true).ok().map(|a| a.to_string())
}

fn from(value: &str) -> Result<String, BadFrom> {
    Address::from_field(value.as_bytes(), true).map(|a| a.to_string())
}

#[test]
fn g1_every_spelling_of_an_address_is_one_address() {
    for spelling in ["alice@example.com", "\"alice\"@EXAMPLE.com", "\"\\a\\lice\"@Example.Com"] {
        assert_eq!(read(spelling).as_deref(), Some("alice@example.com"), "{spelling}");
    }
    assert_eq!(read("u@b\u{fc}cher.example").as_deref(), Some("u@xn--bcher-kva.example"));
    assert_eq!(read("u@BU\u{308}CHER.example").as_deref(), Some("u@xn--bcher-kva.example"));
    assert_eq!(read("u@fa\u{df}.example").as_deref(), Some("u@xn--fa-hia.example"), "non-transitional");
    assert_eq!(read("e\u{301}@example.com"), read("\u{e9}@example.com"));
    assert_eq!(read("\"e\\\u{301}\"@example.com"), read("\u{e9}@example.com"));
    assert_ne!(read("Alice@example.com"), read("alice@example.com"), "the local part's case is the AS's affair");
}

#[test]
fn quotes_keep_only_the_escapes_they_need() {
    assert_eq!(read(r#""a\ b\"c\\d"@example.com"#).as_deref(), Some(r#""a b\"c\\d"@example.com"#));
    assert_eq!(read(r#""a@b"@example.com"#).as_deref(), Some(r#""a@b"@example.com"#));
    assert_eq!(read(r#"""@example.com"#).as_deref(), Some(r#"""@example.com"#));
}

#[test]
fn raw_utf8_needs_smtputf8() {
    assert!(Address::parse("\u{e9}@example.com".as_bytes(), false).is_err());
    assert!(Address::parse("e@b\u{fc}cher.example".as_bytes(), false).is_err());
    assert!(Address::parse(b"e@xn--bcher-kva.example", false).is_ok());
    assert!(Address::parse(b"\xe9@example.com", true).is_err());
}

#[test]
fn composition_makes_no_address_of_what_is_none() {
    assert_eq!(read("a<\u{338}b@example.com"), None, "composes to an atom, but is none as written");
    assert_eq!(read("a\u{37e}b@example.com"), None, "an atom as written, but means a semicolon");
    assert_eq!(read("\"a\u{37e}b\"@example.com").as_deref(), Some("\"a;b\"@example.com"));
    assert_eq!(read("\u{338}a@example.com"), None);
}

#[test]
fn parts_end_at_their_limits() {
    let label = "d".repeat(63);
    let domain = format!("{label}.{label}.{label}");
    assert!(read(&format!("{}@example.com", "l".repeat(64))).is_some());
    assert!(read(&format!("{}@example.com", "l".repeat(65))).is_none());
    assert!(read(&format!("{}@{domain}", "l".repeat(62))).is_some());
    assert!(read(&format!("{}@{domain}", "l".repeat(63))).is_none(), "255 octets");
    assert!(read(&format!("a@{label}d.example")).is_none());
}

#[test]
fn the_wire_form_encodes_space_and_percent_alone() {
    let wire = |text: &str| Address::parse(text.as_bytes(), true).unwrap().wire();
    assert_eq!(wire("a%b@example.com"), "a%25b@example.com");
    assert_eq!(wire("\"a b\"@example.com"), "\"a%20b\"@example.com");
    assert_eq!(wire("\u{e9}@example.com"), "\u{e9}@example.com");
}

#[test]
fn ordinary_from_fields_are_read() {
    for value in [
        " alice@example.com",
        " <alice@example.com>",
        " Alice <alice@example.com>\r\n",
        " \"Alice, the first\" <alice@example.com>",
        " \"eve@evil.test\" <alice@example.com>",
        " Alice Q. Public <alice@example.com> (home)",
        " alice@example.com (Alice)",
        " Alice (home) Public <alice@example.com> (work)",
        " =?utf-8?Q?Al=C3=ADce?= <alice@example.com>",
        " Al\u{ed}ce <alice@example.com>",
        " Alice with a long name\r\n <alice@example.com>",
        "\n\talice@example.com",
        " \"Alice\"\n\t<alice@example.com>",
        " \"Alice \\\"Al\\\" Public\" <alice@example.com>",
        " \"Al\u{ed}ce\" <alice@example.com>",
        " alice@example.com <alice@example.com>",
        " alice@example.com <alice@Example.com> (Alice)",
        " <\"alice\"@Example.com>",
    ] {
        assert_eq!(from(value).as_deref(), Ok("alice@example.com"), "{value:?}");
    }
}

#[test]
fn several_mailboxes_and_groups_are_told_apart_from_bad_ones() {
    for value in ["a@x.test, b@y.test", "A <a@x.test>, B <b@y.test>", "Us: a@x.test;", "none:;", "Doe, J <a@x.test>"] {
        assert_eq!(from(value), Err(BadFrom::Several), "{value:?}");
    }
    for value in
        ["", " ", "Alice", " <>", " \"\" <>", " MAILER-DAEMON", " Mail System <MAILER-DAEMON>", " a.b.test", "\t"]
    {
        assert_eq!(from(value), Err(BadFrom::Nobody), "{value:?}");
    }
    for value in [
        "\"a@one.test\"@two.test",
        "a(@evil)@one.test",
        "<a@x.test> <b@y.test>",
        "<<a@x.test>>",
        "a@x.test <b@y.test>",
        "a@x.test b@y.test",
        "<@r.test:a@x.test>",
        "<a@x.test",
        "\"Alice <a@x.test>",
        "(Alice <a@x.test>",
        "A\r\nB: <a@x.test>",
        "A\r <a@x.test>",
        "A\r\n \r\n <a@x.test>",
        "A\0 <a@x.test>",
        "A\u{2028} <a@x.test>",
        "=?utf-8?Q?a?=@x.test",
        "<=?utf-8?Q?a?=@x.test>",
        "a@[127.0.0.1]",
        "a@127.0.0.1",
        "a@localhost",
        "a.@x.test",
        "a@x.test.",
    ] {
        assert_eq!(from(value), Err(BadFrom::Bad), "{value:?}");
    }
    // What a reader could decode to an address, or draw as one.
    for value in ["=?utf-8?Q?a=40x.test?=", "=?utf-8?Q?a=40x.test?= <>", "a\u{ff20}x.test", "a\u{ff20}x.test <>"] {
        assert_eq!(from(value), Err(BadFrom::Bad), "{value:?}");
    }
    assert_eq!(Address::from_field("<\u{e9}@x.test>".as_bytes(), false), Err(BadFrom::Bad));
    assert_eq!(from(&format!("{} <a@x.test>", "x ".repeat(FROM_MAX))), Err(BadFrom::Bad));
}

/// Each kind that some reader shows as another address (measured on sixteen of them), with blanks, folds and neighbours.
#[test]
fn o_what_some_reader_shows_otherwise_is_refused() {
    let inside = ["< a@x.test>", "<a@x.test >", "<\ta@x.test>", "<a@x.test\n >", "A <a @x.test>", "<\"a b\"@x.test>"];
    let folded = ["\"A\n B\" <a@x.test>", "A (b\n c) <a@x.test>", "a@x.test (b\r\n\tc)", "\"A\r\n\t\" B <a@x.test>"];
    let comments: Vec<String> = "<>,;:@\"\\("
        .chars()
        .flat_map(|c| [format!("a@x.test (b{c}c)"), format!("A (b{c}) <a@x.test>"), format!("<a@x.test> ({c}b)")])
        .collect();
    let beside =
        ["\"A\" \u{e9} <a@x.test>", "\u{e9} \"A\" <a@x.test>", "\"A\" <a@x.test> (\u{e9})", "\"A\"\u{e9} <a@x.test>"];
    let dots = [".A <a@x.test>", ". <a@x.test>", "..A B <a@x.test>", ".A@x.test <a@x.test>"];
    let glued = ["a@x.test(A)", "(A)a@x.test", "(A) a@x.test", "a@x.test\t(A)", "a@x.test\n\t(A)", "A(b) <a@x.test>"];
    let quoted = [
        "\"A\"\"e@y.test\" <a@x.test>",
        "A\"e@y.test\" <a@x.test>",
        "A \"e@y.test\" <a@x.test>",
        "\"A\" \"<e@y.test>\" <a@x.test>",
        "(b) \"e@y.test\" <a@x.test>",
        "\"e@y.test\\\\\" <a@x.test>",
        "\"A\\B\" <a@x.test>",
        "<\"<\"@x.test>",
        "<\"a,b\"@x.test>",
        "<\"a\\\"b\"@x.test>",
    ];
    let other =
        ["b@x.test <a@x.test>", "'a@x.test' <a@x.test>", "A a@x.test <a@x.test>", "\"a\"@x.test <\"a\"@x.test>"];
    let all = [&inside[..], &folded, &beside, &dots, &glued, &quoted, &other].concat();
    for value in all.into_iter().map(String::from).chain(comments) {
        for value in [value.clone(), format!(" {value}"), format!("\r\n\t{value}\r\n")] {
            assert_eq!(from(&value), Err(BadFrom::Bad), "{value:?}");
        }
    }
}

/// What charset a display name is in is not told; its ASCII octets stay where they are, but for halves of letters.
#[test]
fn o_a_display_name_that_is_no_utf8_harms_no_ascii_address() {
    let read = |value: &[u8]| Address::from_field(value, false).map(|address| address.to_string());
    for value in [
        &b" J\xfcrgen <a@x.test>"[..],
        b" \"Nils O. Sel\xe5sdal\" <a@x.test>",
        b" \xb1\xb3\xc0\xb0\xc6\xc0 <a@x.test>",
        b" \xb1\xb8\xb1\xb3\xc7\xd0<a@x.test>",
        b" \"Jos\xe9 (home) @ work\" <a@x.test>",
        b" a@x.test (J\xfcrgen)",
    ] {
        assert_eq!(read(value).as_deref(), Ok("a@x.test"), "{}", value.escape_ascii());
    }
    for value in [
        &b" \x95\\\x8e\xa6 <a@x.test>"[..],
        b" \"\x95\\\x8e\xa6\" <a@x.test>",
        b" \"\x81@\x81@\" <a@x.test>",
        b" \"\x83<\x83\" <a@x.test>",
        b" \"\x83\\\" <a@x.test>",
        b" \"\x81@\" <a@x.test>",
        b" \"J\xfcrgen\" \xe9 <a@x.test>",
        b" \xa4p\xa7d@x.test",
        b" <\xa4p@x.test>",
        b" a@x.t\xe9st",
    ] {
        assert_eq!(read(value), Err(BadFrom::Bad), "{}", value.escape_ascii());
    }
}

proptest! {
    #[test]
    fn what_is_printed_reads_the_same(text in "[\"\\\\ -~\u{e9}e\u{301}\u{37e}<@.]{1,12}@[a-zA-Z0-9\u{fc}\u{df}-]{1,6}\\.[a-z]{2,4}") {
        if let Ok(address) = Address::parse(text.as_bytes(), true) {
            prop_assert_eq!(Address::parse(address.to_string().as_bytes(), true), Ok(address.clone()));
            prop_assert!(address.wire().bytes().all(|o| o > b' ' && o != 0x7f));
        }
    }

    #[test]
    fn quoted_local_parts_survive_printing(local in "[ -~\u{e9}\u{301}]{0,20}") {
        let escaped = local.replace('\\', "\\\\").replace('"', "\\\"");
        if let Ok(address) = Address::parse(format!("\"{escaped}\"@example.com").as_bytes(), true) {
            prop_assert_eq!(Address::parse(address.to_string().as_bytes(), true), Ok(address));
        } else {
            let accent_first = local.starts_with('\u{301}');
            prop_assert!(accent_first || escaped.len() > 50);
        }
    }

    #[test]
    fn no_octets_upset_a_reader(octets in prop::collection::vec(any::<u8>(), 0..300), utf8: bool) {
        let _ = Address::parse(&octets, utf8);
        let _ = Address::from_field(&octets, utf8);
    }

    #[test]
    fn a_from_field_that_is_read_names_its_address(value in "[ab\"\\\\(),:;<>@. \r\n\t=?\u{e9}]{0,24}") {
        if let Ok(address) = Address::from_field(value.as_bytes(), true) {
            prop_assert!(value.to_ascii_lowercase().contains(address.domain().as_str()));
        }
    }
}

#[test]
fn an_address_is_looked_up_without_case_and_tag() {
    let cases = [
        ("Alice@Example.COM", Some("alice@example.com")),
        ("alice+news+x@example.com", Some("alice@example.com")),
        ("+alice@example.com", Some("+alice@example.com")),
        ("+alice+news@example.com", Some("+alice@example.com")),
        ("\"A+b\"@example.com", Some("\"a+b\"@example.com")),
        ("\"a@b\"@Example.com.", Some("\"a@b\"@example.com")),
        ("Ü+x@example.com", Some("Ü@example.com")),
        ("nobody", None),
        ("@example.com", None),
        ("a@", None),
        ("", None),
    ];
    for (address, want) in cases {
        assert_eq!(folded(address).as_deref(), want, "{address}");
    }
}
