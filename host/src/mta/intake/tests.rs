//! What is read of a message, and what its limits do.

use super::*;

const KEY: &str = "Vb3kQ9w2Zr7tYp0sXn4mLc8dHf1gJa6eUi5oRk2yTq9wEz3xBv7nMs4pDl8hGj0K";

fn begun(limits: Limits) -> Intake {
    Intake::new(Client::default(), String::new(), None, Arc::new(limits))
}

#[test]
fn no_report_is_wanted_where_notify_names_no_failure() {
    let cases: [(&[&[u8]], bool); 12] = [
        (&[], false),
        (&[b"NOTIFY=NEVER"], true),
        (&[b"notify=never"], true),
        (&[b"NOTIFY=SUCCESS,DELAY"], true),
        (&[b"NOTIFY=SUCCESS,FAILURE"], false),
        (&[b"Notify=Failure"], false),
        (&[b"NOTIFY=FAILURES"], true),
        (&[b"NOTIFY="], true),
        (&[b"NOTIFY"], false),
        (&[b"XNOTIFY=NEVER"], false),
        (&[b"ORCPT=rfc822;NOTIFY=NEVER"], false),
        (&[b"ORCPT=rfc822;b@two.example", b"NOTIFY=NEVER"], true),
    ];
    for (parameters, never) in cases {
        let recipient = begun(Limits::default()).recipient(b"<b@two.example>", parameters, None).unwrap();
        assert_eq!(recipient.path, b"<b@two.example>");
        assert_eq!(recipient.never_notify, never, "{parameters:?}");
    }
}

#[test]
fn a_recipient_keeps_the_octets_of_its_path_whether_it_is_an_address_or_not() {
    let mut intake = begun(Limits::default().with(|limits| {
        limits.mta.recipients = 1;
        limits.mta.text = 20;
    }));
    assert!(matches!(intake.recipient(&[b'x'; 21], &[], None), Err(Refused::Path(20))));
    for (path, address) in [(&b"<Bob@Two.Example>"[..], true), (b"postmaster", false), (b"<b\xff@c>", false)] {
        let recipient = intake.recipient(path, &[], None).unwrap();
        assert_eq!((recipient.path.as_slice(), recipient.address().is_some()), (path, address));
    }
    let first = intake.recipient(b"<b@c.example>", &[], None).unwrap();
    intake.join(first.clone());
    assert_eq!(intake.first(), Some(&first));
    assert!(matches!(intake.recipient(b"<b@c.example>", &[], None), Err(Refused::Recipients(1))));
}

#[test]
fn a13_a_key_where_the_mta_sees_no_field_is_cut_out_of_all_that_is_told() {
    let limits = || Limits::default().with(|limits| limits.mta.header_fields = 2);
    let (old, named) = (("X-Old", format!(" {KEY}")), ("X-Auth-Key", format!(" {KEY}")));
    let bare = ("X", format!(" a\rX-New-Auth-Key: {KEY}"));
    for (fields, body) in [
        (vec![old.clone()], format!("junk\r\nX-Auth-Key: {KEY}\r\n\r\n")),
        (vec![old.clone()], format!("junk\r\nx-new-auth-key:\r\n {KEY}\r\n\r\n")),
        (vec![old.clone(), bare], String::new()),
        (vec![old, ("A", " b".into()), named], String::new()),
    ] {
        let mut intake = begun(limits());
        for (name, value) in &fields {
            intake.field(name.as_bytes(), value.as_bytes(), true).unwrap();
        }
        let mail = intake.finish(body.as_bytes()).unwrap();
        assert!(mail.head().malformed && mail.head().keys.iter().chain(&mail.head().new_keys).all(Option::is_none));
        assert!(!mail.redactor().cut_text(&format!("old {KEY}")).contains(KEY), "{fields:?}{body}");
    }
    let many: String = (0..1_000).map(|n| format!("X-Auth-Key: {n:0>40}\r\n")).collect();
    let mail = begun(limits()).finish(many.as_bytes()).unwrap();
    assert!((1..100).contains(&mail.head().hidden.len()), "{}", mail.head().hidden.len());
    assert!(!mail.redactor().cut_text(&format!("a {KEY}")).contains(KEY), "too many keys: whatever may be one");
}

#[test]
fn a_message_is_truncated_exactly_where_its_header_is_over_the_limits() {
    let fields = |fields: &[(&str, &str)]| {
        let mut intake = begun(Limits::default().with(|limits| {
            limits.mta.header_fields = 2;
            limits.mta.header_octets = 20;
        }));
        fields.iter().for_each(|(name, value)| intake.field(name.as_bytes(), value.as_bytes(), true).unwrap());
        let mail = intake.finish(b"").unwrap();
        (mail.head().truncated, mail.head().malformed, mail.head().fields.len())
    };
    assert_eq!(fields(&[("A", " b"), ("C", " d")]), (false, false, 2));
    assert_eq!(fields(&[("A", " b"), ("C", " d"), ("E", " f")]), (true, true, 2));
    assert_eq!(fields(&[("A", " 345678901234567")]), (false, false, 1));
    assert_eq!(fields(&[("A", " 3456789012345678")]), (true, true, 0));
    // Malformed for another reason: the header is all there.
    assert_eq!(fields(&[("A", " b\nc")]), (false, true, 1));
}

#[test]
fn a_field_that_may_have_to_be_deleted_counts_whatever_the_limits_say() {
    let mut intake = begun(Limits::default().with(|limits| {
        limits.mta.header_fields = 0;
        limits.mta.key_fields = 4;
    }));
    for name in ["X-Auth-Key", "x-new-auth-key ", "x-auth-key-status", "Authentication-Results"] {
        intake.field(name.as_bytes(), format!(" {KEY}").as_bytes(), true).unwrap();
    }
    assert!(matches!(intake.field(b"X-Auth-Key", b"", true), Err(Refused::KeyFields(4))));
    intake.field(b"Subject", b" s", true).unwrap();
    let mail = intake.finish(b"").unwrap();
    let Head { keys, new_keys, hidden, .. } = mail.head();
    assert_eq!((keys, new_keys, hidden.len()), (&vec![None], &vec![None], 2));
    let names: Vec<&str> = mail.head().fields.iter().map(|field| field.name.as_str()).collect();
    assert_eq!((names, mail.head().truncated), (vec!["X-Auth-Key-Status", "Authentication-Results"], true));
}

#[test]
fn a_value_gets_its_space_where_the_mta_took_it_away() {
    for (value, spaced, stored) in [
        (&b"b"[..], false, &b" b"[..]),
        (b"\tb", false, b"\tb"),
        (b"\n b", false, b"\n b"),
        (b"", false, b""),
        (b"b", true, b"b"),
    ] {
        let mut intake = begun(Limits::default());
        intake.field(b"A", value, spaced).unwrap();
        assert_eq!(intake.finish(b"").unwrap().head().fields[0].value, stored);
    }
}

#[test]
fn a_login_that_is_too_long_is_refused_and_other_texts_are_missing() {
    assert!(matches!(login(b"abc", 2), Err(Refused::Login(2))));
    assert!(matches!((login(b"", 2), login(b"ab", 2)), (Ok(None), Ok(Some(name))) if name == "ab"));
    assert_eq!((text(b"abc", 2), text(b"a\xff", 2).as_deref()), (None, Some("a\u{fffd}")));
    for (name, known) in [("mx.one.example", true), ("unknown", false), ("[192.0.2.7]", false), ("", false)] {
        assert_eq!(client_name(name.as_bytes(), 100).is_some(), known, "{name}");
    }
    for (octets, ip) in [("IPv6:::ffff:192.0.2.7", Some("192.0.2.7")), ("fe80::1%2", None), ("", None)] {
        assert_eq!(client_ip(octets.as_bytes()), ip.map(|ip| ip.parse().unwrap()), "{octets}");
    }
}
