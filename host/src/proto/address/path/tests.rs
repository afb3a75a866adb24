use proptest::prelude::*;

use super::*;

fn mailbox(text: &str) -> Reading {
    Reading::Mailbox(Address::parse(text.as_bytes(), true).unwrap())
}

fn of(path: &str) -> Reading {
    Reading::of(path.as_bytes())
}

#[test]
fn every_spelling_of_a_mailbox_by_rfc_822_is_that_mailbox() {
    for path in [
        "<bob@recv.test>",
        "bob@recv.test",
        "<bob@recv.test >",
        "< bob@recv.test>",
        "<bob @recv.test>",
        "<bob@ recv.test>",
        "<bob@recv .test>",
        "<bob@recv. test>",
        "<bob\t@recv.test>",
        "<bob@recv.test(c)>",
        "<(c)bob@recv.test>",
        "<bob(c)@recv.test>",
        "<bob@(c)recv.test>",
        "<bob@recv(c).test>",
        "<bob(a(b)c)@recv.test>",
        "<bob(\\))@recv.test>",
        "<\"bob\"@recv.test>",
        "<bob@\"recv.test\">",
        "<\"bob\"@\"recv.test\">",
        "<bob@recv.\"test\">",
        "<b\\ob@recv.test>",
        "<bob@\\recv.test>",
        "<\"b\\ob\"@recv.test>",
        "<bob@RECV.Test>",
        "<bob@recv.test.>",
        "<@x.test:bob@recv.test>",
        "<@x.test,@y.test:bob@recv.test>",
        "<@[192.0.2.1] , @\"y\" (c) : bob@recv.test>",
        "<bob@ｒｅｃｖ.test>",
        "<bob@recv。test>",
        "<bob@re\u{ad}cv.test>",
    ] {
        assert_eq!(of(path), mailbox("bob@recv.test"), "{path}");
    }
    for (path, address) in [
        ("<a..b@recv.test>", "\"a..b\"@recv.test"),
        ("<.a@recv.test>", "\".a\"@recv.test"),
        ("<a.@recv.test>", "\"a.\"@recv.test"),
        ("<\"a b\"@recv.test>", "\"a b\"@recv.test"),
        ("<\"a\".b@recv.test>", "a.b@recv.test"),
        ("<a.\"b\"@recv.test>", "a.b@recv.test"),
        ("<a . b@recv.test>", "a.b@recv.test"),
        ("<a\\ b@recv.test>", "\"a b\"@recv.test"),
        ("<\"\"@recv.test>", "\"\"@recv.test"),
        ("<BOB@recv.test>", "BOB@recv.test"),
        ("<bob@bücher.example>", "bob@xn--bcher-kva.example"),
        ("<bob@XN--BCHER-KVA.example>", "bob@xn--bcher-kva.example"),
    ] {
        let reading = of(path);
        // An empty local part is none.
        let expected = if address.starts_with("\"\"") { Reading::Unclear } else { mailbox(address) };
        assert_eq!(reading, expected, "{path}");
    }
}

#[test]
fn what_two_mtas_could_read_in_two_ways_is_unclear() {
    for path in [
        "",
        "<>",
        "<",
        ">",
        "<bob>",
        "bob",
        "<boss%recv.test>",
        "<recv.test!boss>",
        "<\"boss@recv.test\">",
        "<boss\\@recv.test>",
        "<<bob@recv.test>>",
        "<Bob <bob@recv.test>>",
        "Bob <bob@recv.test>",
        "<bob@recv.test>x",
        "<bob:bob@recv.test;>",
        "<bob@recv.test,boss@recv.test>",
        "<x:bob@recv.test>",
        "<bob@recv.test@x.test>",
        "<bob@\"recv.test@x.test\">",
        "<bob@>",
        "<@recv.test>",
        "<bob@recv.test..>",
        "<bob@.recv.test>",
        "<bob@recv..test>",
        "<bo b@recv.test>",
        "<bob@recv test>",
        "<\"bob\"x@recv.test>",
        "<\"a\" \"b\"@recv.test>",
        "<bob(@recv.test>",
        "<bob)@recv.test>",
        "<bob\"@recv.test>",
        "<bob@recv.test\\>",
        "<bob@[192.0.2.1>",
        "<bob@recv.test[1]>",
        "<bob@192.0.2.1>",
        "<bob@0x7f>",
        "<@x.test:@y.test:bob@recv.test>",
        "<@:bob@recv.test>",
        "<@x.test,:bob@recv.test>",
        "<x@y.test:bob@recv.test>",
        "<@x.test bob@recv.test>",
        "<a\0b@recv.test>",
        "<a\rb@recv.test>",
        "<bob@recv.te\x7fst>",
        "<(\u{1})bob@recv.test>",
        "<a%b@[192.0.2.1]>",
        "<bob@r\u{202e}ecv.test>",
        "<bob@recv/x.test>",
    ] {
        assert_eq!(of(path), Reading::Unclear, "{path:?}");
    }
    assert_eq!(Reading::of(b"<b\xff@recv.test>"), Reading::Unclear);
}

#[test]
fn where_only_the_domain_is_certain_that_counts() {
    let domain_of = |reading| {
        if let Reading::Routed { domain, .. } = reading { domain.to_string() } else { format!("{reading:?}") }
    };
    for path in
        ["<boss%x.test@Recv.test.>", "<x.test!boss@recv.test>", "<\"boss@x.test\"@recv.test>", "<a\\@b@recv.test>"]
    {
        assert_eq!(domain_of(of(path)), "recv.test", "{path}");
    }
    let name = |text: &str| Name::read(text).unwrap();
    assert_eq!(name("BOSS"), Name::Loose("boss".into()));
    assert_eq!(name("xn--bcher-kva.example"), Name::Domain("bücher.example".parse().unwrap()));
    let hops = ["boss", "x.test", "xn--bcher-kva.example"].map(name).into();
    let reading = of("<boss%X.test.!bücher.example!%a b@y.test>");
    assert_eq!(reading, Reading::Unclear);
    let reading = of("<boss%X.test.!bücher.example!%@y.test>");
    assert_eq!(reading, Reading::Routed { domain: name("y.test"), hops });
    let domain = |local: &str, domain: &str| Reading::Domain { local: local.into(), domain: name(domain) };
    let long = "a".repeat(65);
    assert_eq!(of(&format!("<{long}@recv.test>")), domain(&long, "recv.test"));
    assert_eq!(of("<bob@Localhost>"), domain("bob", "localhost"));
    assert_eq!(of("<bob@my_host.recv.test>"), domain("bob", "my_host.recv.test"));
    for path in
        ["<postmaster>", "<PostMaster>", "postmaster", "<\"postmaster\">", "<bob@[192.0.2.1]>", "<bob@[IPv6:::1]>"]
    {
        assert_eq!(of(path), Reading::Own(None), "{path}");
    }
}

#[test]
fn the_mtas_word_counts_and_its_last_at_sign_separates() {
    let by = |path: &str, said: &str| Reading::by_mta(path.as_bytes(), said.as_bytes());
    assert_eq!(by("<boss%recv.test>", "boss@recv.test"), mailbox("boss@recv.test"));
    assert_eq!(by("<bob@recv.test@x.test>", "bob@recv.test"), mailbox("bob@recv.test"));
    assert_eq!(by("<\"a b\"@recv.test>", "a b@recv.test"), mailbox("\"a b\"@recv.test"));
    for path in ["<x>", "<x@y.test>", "<a@b@recv.test>"] {
        assert!(matches!(by(path, "a@b@recv.test"), Reading::Routed { .. }), "{path}");
    }
    assert_eq!(by("<x@y.test>", "a\"b@recv.test"), mailbox("\"a\\\"b\"@recv.test"));
    assert_eq!(by("<x@y.test>", "a..b@recv.test."), mailbox("\"a..b\"@recv.test"));
    // Its lower case is no news; another mailbox is.
    assert_eq!(by("<SRS0=Ab@RECV.test>", "srs0=ab@recv.test"), mailbox("SRS0=Ab@recv.test"));
    assert_eq!(by("<Carol@recv.test>", "bob@recv.test"), mailbox("bob@recv.test"));
    // A domain that the MTA put there itself, since the path had none.
    assert_eq!(by("<bob>", "bob@mx.test"), Reading::Own(Address::parse(b"bob@mx.test", true).ok()));
    assert_eq!(by("<bob%x.test>", "bob@x.test"), mailbox("bob@x.test"));
    for (path, said) in [("<bob@[192.0.2.1]>", "bob@[192.0.2.1]"), ("<bob@localhost>", "bob@localhost")] {
        assert_eq!(by(path, said), Reading::Own(None), "{path}");
    }
    for said in ["", "bob", "bob@", "bob@a b", "bob@192.0.2.1"] {
        assert_eq!(by("<bob@recv.test>", said), Reading::Unclear, "{said:?}");
    }
}

/// A word in a spelling that means the same: as it is, quoted, or with an escaped letter.
fn word(word: &'static str) -> impl Strategy<Value = String> {
    let at = 0..word.len();
    prop_oneof![
        Just(word.to_owned()),
        Just(format!("\"{word}\"")),
        at.prop_map(move |at| format!("{}\\{}", &word[..at], &word[at..])),
    ]
}

/// What may stand between two tokens and means nothing.
fn nothing() -> impl Strategy<Value = String> {
    prop_oneof![3 => Just(String::new()), 1 => "[ \t]{1,2}", 1 => Just("(c)".to_owned()), 1 => Just(" ((a)\\)b@x.test) ".to_owned())]
}

fn cased(text: String, upper: u64) -> String {
    let letter = |(at, c): (usize, char)| if upper >> (at % 64) & 1 == 1 { c.to_ascii_uppercase() } else { c };
    text.chars().enumerate().map(letter).collect()
}

prop_compose! {
    /// RFC 822's spellings of bob@recv.test.
    fn spelling()(
        route in prop_oneof![3 => Just(""), 1 => Just("@x.test:"), 1 => Just("@x.test, @[192.0.2.1]:")],
        words in (word("bob"), word("recv"), word("test")),
        gaps in [nothing(), nothing(), nothing(), nothing(), nothing(), nothing(), nothing()],
        dot in prop_oneof![2 => Just(""), 1 => Just(".")],
        upper: u64,
        brackets: bool,
    ) -> String {
        let [a, b, c, d, e, f, g] = gaps;
        let spec = format!("{a}{route}{b}{}{c}@{d}{}{e}.{f}{}{g}{dot}", words.0, cased(words.1, upper), cased(words.2, upper >> 8));
        if brackets { format!("<{spec}>") } else { spec }
    }
}

proptest! {
    #[test]
    fn generated_spellings_are_that_mailbox(path in spelling()) {
        prop_assert_eq!(of(&path), mailbox("bob@recv.test"), "{}", path);
    }

    #[test]
    fn no_octets_panic_and_whoever_is_a_mailbox_is_one_when_spelled_plainly(path: Vec<u8>, more in "[ -~]{0,40}") {
        for path in [path.as_slice(), more.as_bytes()] {
            if let Reading::Mailbox(address) = Reading::of(path) {
                let plain = format!("<{address}>");
                prop_assert_eq!(Reading::of(plain.as_bytes()), Reading::Mailbox(address));
            }
            let _ = Reading::by_mta(path, path);
        }
    }
}
