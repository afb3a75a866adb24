//! What cannot be read, what is too much, and who is not understood.

use super::*;

/// The mail of a whole message behind these frames.
fn mail_behind(frames: &[(u8, &[u8])]) -> Mail {
    let mut session = session(OFFER, Limits::default());
    for (command, payload) in frames {
        assert!(matches!(take(&mut session, *command, payload), (Act::Read, _)));
    }
    take(&mut session, b'M', b"<a@one.example>\0");
    take(&mut session, b'R', b"<b@two.example>\0");
    take(&mut session, b'N', b"");
    let (Act::Answer(Some(mail)), _) = take(&mut session, b'E', b"") else { panic!("no answer due") };
    *mail
}

#[test]
fn what_cannot_be_read_of_a_client_is_missing_and_ends_nothing() {
    let long = [&[b'n'; 2_049][..], b"\x004\0\x01192.0.2.7\0"].concat();
    let cases: [(&[u8], Option<&str>, Option<&str>); 20] = [
        (b"mx.one.example\x004\0\x01192.0.2.7\0", Some("mx.one.example"), Some("192.0.2.7")),
        (b"mx.one.example\x006\0\x01IPv6:2001:db8::7\0", Some("mx.one.example"), Some("2001:db8::7")),
        (b"mx.one.example\x006\0\x012001:db8::7\0", Some("mx.one.example"), Some("2001:db8::7")),
        (b"mx.one.example\x006\0\x01IPv6:::ffff:192.0.2.7\0", Some("mx.one.example"), Some("192.0.2.7")),
        // Real Postfix, of a client that is gone already.
        (b"unknown\x004\0\0unknown\0", None, None),
        (b"unknown\x006\0\x01IPv6:fe80::1%eth0\0", None, None),
        (b"mx.one.example\x006\0\x01fe80::1%2\0", Some("mx.one.example"), None),
        (b"mx.one.example\x004\0\x01192.0.2\0", Some("mx.one.example"), None),
        (b"mx.one.example\x004\0\x01192.0.2.7", Some("mx.one.example"), None),
        (b"mx.one.example\x004\0\x01192.0.2.\xff\0", Some("mx.one.example"), None),
        (b"mx.one.example\x004\0\x01\0", Some("mx.one.example"), None),
        (b"mx.one.example\x004\0", Some("mx.one.example"), None),
        (b"mx.one.example\x00L\0\0/run/mx\0", Some("mx.one.example"), None),
        (b"localhost\x00U", Some("localhost"), None),
        (b"localhost\x00?192.0.2.7\0", Some("localhost"), None),
        (b"localhost\0", Some("localhost"), None),
        (b"[192.0.2.7]\x004\0\x01192.0.2.7\0", None, Some("192.0.2.7")),
        (&long, None, Some("192.0.2.7")),
        (b"no end", None, None),
        (b"", None, None),
    ];
    for (payload, name, ip) in cases {
        let mail = mail_behind(&[(b'C', payload)]);
        assert_eq!(mail.client.name.as_deref(), name, "{}", payload.escape_ascii());
        assert_eq!(mail.client.ip, ip.map(|ip| ip.parse().unwrap()), "{}", payload.escape_ascii());
    }
}

#[test]
fn an_odd_helo_or_macro_is_missing_and_ends_nothing() {
    let long = "x".repeat(2_049);
    let helo = [long.as_bytes(), b"\0"].concat();
    for payload in [b"".as_slice(), b"no end", &helo] {
        assert_eq!(mail_behind(&[(b'H', payload)]).client.helo, "");
    }
    let macros = format!("C{{daemon_name}}\0{long}\0v\0{long}\0");
    let mail = mail_behind(&[(b'D', macros.as_bytes()), (b'D', format!("Mi\0{long}\0").as_bytes())]);
    assert_eq!((mail.daemon.as_str(), mail.mta.as_str(), &mail.queue_id), ("", "", &None));
    let mail = mail_behind(&[(b'D', b"C{daemon_name}\0\xff\0v\0\0j\0\xfe\0{}\0\0\0\0")]);
    assert_eq!((mail.daemon.as_str(), mail.mta.as_str()), ("\u{fffd}", ""));
}

#[test]
fn a_parameter_of_mail_or_rcpt_that_is_not_known_says_nothing() {
    let mut session = session(OFFER, Limits::default());
    let parameters = "SIZE=\0SIZE=-1\0SIZE=99999999999999999999999\0size=x\0BODY=\0\0=\0X-ODD=\u{ff}\0RET\0";
    take(&mut session, b'M', format!("<a@one.example>\0{parameters}").as_bytes());
    take(&mut session, b'R', b"<b@two.example>\0NOTIFY\0ORCPT=\0\0X=\xff\0");
    take(&mut session, b'N', b"");
    let (Act::Answer(Some(mail)), _) = take(&mut session, b'E', b"") else { panic!("no answer due") };
    assert_eq!((mail.size, mail.smtputf8, mail.recipients[0].never_notify), (None, false, false));
    // A reverse-path that is no address is one that nobody can be told at.
    let long = ["<", &"x".repeat(2_047), "@one.example>\0"].concat();
    for path in [long.as_bytes(), b"<a@one.example\0", b"<@>\0", b"<\xff>\0"] {
        take(&mut session, b'M', path);
        take(&mut session, b'N', b"");
        let (Act::Answer(Some(mail)), _) = take(&mut session, b'E', b"") else { panic!("no answer due") };
        assert_eq!(mail.reverse_path, crate::case::ReversePath::Path(None), "{}", path.escape_ascii());
    }
}

#[test]
fn a_login_that_is_too_long_to_be_known_makes_nobodys_message_but_none() {
    let mut session = session(OFFER, Limits::default());
    let login = |length: usize| format!("M{{auth_authen}}\0{}\0", "x".repeat(length));
    for (length, reply) in [(2_048, None), (2_049, Some("554 5.7.0 ")), (100_000, Some("554 5.7.0 ")), (0, None)] {
        take(&mut session, b'A', b"");
        take(&mut session, b'D', login(length).as_bytes());
        let (act, out) = take(&mut session, b'M', b"<>\0");
        let Some(reply) = reply else {
            assert!(matches!(act, Act::Admit), "{length}");
            continue;
        };
        assert!(matches!(act, Act::Abandon) && says(&out, reply), "{length}");
        take(&mut session, b'R', b"<b@two.example>\0");
        take(&mut session, b'N', b"");
        assert!(says(&take(&mut session, b'E', b"").1, reply));
    }
}

#[test]
fn too_many_recipients_are_told_to_come_again_where_rcpt_is_answered_and_refused_for_good_where_it_is_not() {
    let limits = Limits::default().with(|limits| {
        limits.mta.recipients = 2;
        limits.mta.text = 30;
    });
    let long = "<".to_owned() + &"x".repeat(40) + "@two.example>\0";
    for (rcpt, reply) in [("<e@two.example>\0", "554 5.5.3 "), (long.as_str(), "554 5.1.3 ")] {
        let mut quiet = session(OFFER, limits.clone());
        take(&mut quiet, b'M', b"<>\0");
        for rcpt in ["<c@two.example>\0", "<d@two.example>\0", rcpt, "<f@two.example>\0"] {
            assert!(take(&mut quiet, b'R', rcpt.as_bytes()).1.is_empty());
        }
        take(&mut quiet, b'N', b"");
        assert!(says(&take(&mut quiet, b'E', b"").1, reply));
    }
    let mut answered = session([6, 0x1ff, 0x1f_ffff & !0x8000], limits);
    take(&mut answered, b'M', b"<>\0");
    for (rcpt, reply) in [
        ("<c@two.example>\0", None),
        (long.as_str(), Some("554 5.1.3 ")),
        ("<d@two.example>\0", None),
        ("<e@two.example>\0", Some("452 4.5.3 ")),
        ("<f@two.example>\0", Some("452 4.5.3 ")),
    ] {
        let (_, out) = take(&mut answered, b'R', rcpt.as_bytes());
        assert!(reply.map_or(out == b"\0\0\0\x01c", |reply| says(&out, reply)), "{rcpt}");
    }
    take(&mut answered, b'N', b"");
    let (Act::Answer(Some(mail)), _) = take(&mut answered, b'E', b"") else { panic!("no answer due") };
    assert_eq!(mail.recipients.len(), 2);
}

#[test]
fn a_postfix_that_names_no_mailer_of_a_recipient_hears_no_refusal_of_him() {
    let limits = Limits::default().with(|limits| {
        limits.mta.recipients = 2;
        limits.mta.text = 30;
    });
    let long = "<".to_owned() + &"x".repeat(40) + "@two.example>\0";
    let mailer: &[u8] = b"R{rcpt_mailer}\0virtual\0";
    for (mta, macros, alone) in [
        ("Postfix 3.7.11", None, false),
        ("Postfix 3.7.11", Some(&b"Ri\0Q\0"[..]), false),
        ("Postfix 3.7.11", Some(b"R{rcpt_addr}\0e@two.example\0"), false),
        ("Postfix 3.7.11", Some(b"R{rcpt_mailer}\0\0"), false),
        ("Postfix 3.7.11", Some(mailer), true),
        ("8.17.1", None, true),
        ("", None, true),
    ] {
        for (odd, at_once, at_end) in
            [("<e@two.example>\0", "452 4.5.3 ", "554 5.5.3 "), (&long, "554 5.1.3 ", "554 5.1.3 ")]
        {
            let mut session = session([6, 0x1ff, 0x1f_ffff & !0x8000], limits.clone());
            take(&mut session, b'D', format!("Cv\0{mta}\0").as_bytes());
            take(&mut session, b'M', b"<>\0");
            // What is told of one recipient is not told of the next.
            for rcpt in ["<c@two.example>\0", "<d@two.example>\0"] {
                take(&mut session, b'D', mailer);
                assert_eq!(take(&mut session, b'R', rcpt.as_bytes()).1, b"\0\0\0\x01c");
            }
            for _ in 0..2 {
                if let Some(macros) = macros {
                    take(&mut session, b'D', macros);
                }
                let (act, out) = take(&mut session, b'R', odd.as_bytes());
                assert!(!matches!(act, Act::Compare(_)));
                assert!(if alone { says(&out, at_once) } else { out == b"\0\0\0\x01c" }, "{mta} {macros:?}");
            }
            take(&mut session, b'N', b"");
            let (act, out) = take(&mut session, b'E', b"");
            assert_eq!((matches!(act, Act::Answer(_)), says(&out, at_end)), (alone, !alone), "{mta} {macros:?}");
        }
    }
    // Nor is he compared with the first.
    let mut session = session([6, 0x1ff, 0x1f_ffff & !0x8000], Limits::default());
    take(&mut session, b'D', b"Cv\0Postfix 3.7.11\0");
    take(&mut session, b'M', b"<>\0");
    for (mailer, compared) in [(true, false), (false, false), (true, true)] {
        if mailer {
            take(&mut session, b'D', b"R{rcpt_mailer}\0virtual\0");
        }
        let (act, out) = take(&mut session, b'R', b"<c@two.example>\0");
        assert_eq!((matches!(act, Act::Compare(_)), out.as_slice()), (compared, &b"\0\0\0\x01c"[..]));
    }
}

#[test]
fn a_body_that_begins_with_the_header_is_none() {
    let words = "451 4.3.5 ";
    let fields: [(u8, &[u8]); 3] =
        [(b'L', b"From\0 a@one.example\0"), (b'L', b"X-Auth-Key\0 k\0"), (b'L', b"Subject\0 s\n t\0")];
    let again = "FROM:a@one.example\r\nX-Auth-Key : k\r\nSubject: s\r\n t\r\n\r\nhello\r\n";
    for (body, refused) in [
        (again, true),
        (&again.replace("\r\n", "\n"), true),
        (&again.replace(": s", ": another"), false),
        (&again.replace("X-Auth", "Auth"), false),
        ("From: a@one.example\r\nX-Auth-Key: k\r\n\r\nhello\r\n", false),
        ("hello\r\n", false),
        ("", false),
    ] {
        for command in *b"BE" {
            let mut session = session(OFFER, Limits::default());
            take(&mut session, b'M', b"<>\0");
            for (command, payload) in fields {
                take(&mut session, command, payload);
            }
            take(&mut session, b'N', b"");
            let (act, out) = take(&mut session, command, body.as_bytes());
            assert_eq!(says(&out, words), refused, "{body}");
            assert_eq!(matches!(act, Act::Abandon), refused, "{body}");
            if command == b'B' {
                assert_eq!(says(&take(&mut session, b'E', b"").1, words), refused, "{body}");
            }
            // Whoever writes a message can make it look so: the session's other mail does not wait for that.
            assert!(matches!(take(&mut session, b'M', b"<>\0").0, Act::Admit), "{body}");
        }
    }
    // The milter of a Postfix is known, whatever its users write.
    for (mta, refused) in [("Postfix 3.7.11", false), ("Postfix", false), ("Postfixed 1", true), ("8.17.1", true)] {
        let mut session = session(OFFER, Limits::default());
        take(&mut session, b'D', format!("Cv\0{mta}\0").as_bytes());
        take(&mut session, b'M', b"<>\0");
        for (command, payload) in fields {
            take(&mut session, command, payload);
        }
        take(&mut session, b'N', b"");
        assert_eq!(says(&take(&mut session, b'B', again.as_bytes()).1, words), refused, "{mta}");
    }
    // A message of two fields is too little to go by.
    let mut session = session(OFFER, Limits::default());
    take(&mut session, b'M', b"<>\0");
    take(&mut session, b'L', b"A\0 b\0");
    take(&mut session, b'L', b"C\0 d\0");
    take(&mut session, b'N', b"");
    assert!(matches!(take(&mut session, b'B', b"A: b\r\nC: d\r\n\r\n").0, Act::Examine(_)));
}
