//! The session, frame by frame.

use super::*;
use crate::case::Verdict;

mod details;
mod stalwart;

const OFFER: [u32; 3] = [6, 0x1ff, 0x1f_ffff];

/// A session after negotiation.
fn session(offer: [u32; 3], limits: Limits) -> Session {
    let mut session = Session::new(Arc::new(limits), false);
    let words = offer.map(u32::to_be_bytes).concat();
    session.take(&Frame::new(b'O', &[&words]), &mut BytesMut::new()).unwrap();
    session
}

/// Takes a frame as the driver would: there is room for every message, all recipients are alike, and nobody wants a body.
fn take(session: &mut Session, command: u8, payload: &[u8]) -> (Act, Vec<u8>) {
    let mut out = BytesMut::new();
    let act = session.take(&Frame::new(command, &[payload]), &mut out).unwrap();
    if matches!(act, Act::Admit) {
        session.admit(SystemTime::UNIX_EPOCH, &mut out).unwrap();
    }
    match act {
        Act::Compare(_) => session.join(true, &mut out).unwrap(),
        Act::Examine(_) => session.read_body(false, &mut out).unwrap(),
        _ => {}
    }
    (act, out.to_vec())
}

fn mail_of(frames: &[(u8, &[u8])], limits: Limits) -> Mail {
    let mut session = session(OFFER, limits);
    take(&mut session, b'M', b"<a@one.example>\0");
    take(&mut session, b'R', b"<b@two.example>\0");
    for (command, payload) in frames {
        take(&mut session, *command, payload);
    }
    take(&mut session, b'N', b"");
    match take(&mut session, b'B', b"hello\r\n") {
        (Act::Examine(mail), out) if out == b"\0\0\0\x01s" => *mail,
        other => panic!("{other:?}"),
    }
}

fn is_later(out: &[u8]) -> bool {
    says(out, "451 4.3.0 ")
}

/// Whether this is a reply that begins so.
fn says(out: &[u8], reply: &str) -> bool {
    out.get(5..).is_some_and(|out| out.starts_with(reply.as_bytes()))
}

#[test]
fn a_whole_message_becomes_a_mail() {
    let mut session = session(OFFER, Limits::default());
    take(&mut session, b'D', b"Cj\0mx\0{daemon_name}\0ORIGINATING\0v\0Postfix 3.7.11\0");
    assert!(take(&mut session, b'C', b"client.example\x004\x9c\x40192.0.2.7\0").1.is_empty());
    take(&mut session, b'D', b"H{tls_version}\0TLSv1.3\0");
    take(&mut session, b'H', b"helo.example\0");
    take(&mut session, b'D', b"M{auth_authen}\0alice\0");
    assert_eq!(take(&mut session, b'M', b"<a@one.example>\0SIZE=42\0SMTPUTF8\0").1, b"\0\0\0\x01c");
    take(&mut session, b'R', b"<b@two.example>\0");
    take(&mut session, b'D', b"Ti\0QID1\0");
    take(&mut session, b'T', b"");
    take(&mut session, b'L', b"From\0 a@one.example\0");
    take(&mut session, b'N', b"");
    let (Act::Answer(Some(mail)), out) = take(&mut session, b'E', b"") else { panic!("no answer due") };
    assert!(out.is_empty());
    assert_eq!((mail.client.ip, mail.client.name.as_deref()), ("192.0.2.7".parse().ok(), Some("client.example")));
    assert_eq!(
        (mail.client.helo.as_str(), mail.client.tls, mail.daemon.as_str(), mail.mta.as_str()),
        ("helo.example", true, "ORIGINATING", "Postfix 3.7.11")
    );
    assert_eq!((mail.login.as_deref(), mail.size, mail.smtputf8), (Some("alice"), Some(42), true));
    assert_eq!((mail.queue_id.as_deref(), mail.recipients[0].path.as_slice()), (Some("QID1"), &b"<b@two.example>"[..]));
    assert_eq!(mail.head().fields[0].value, b" a@one.example");
    let reply = Reply::bare(Verdict::Accept);
    let mut out = BytesMut::new();
    session.answer(&reply, &mail, &mut out).unwrap();
    assert_eq!(out.as_ref(), b"\0\0\0\x01a");
}

#[test]
fn a1_a2_a3_every_key_field_is_counted_and_none_stays_among_the_fields() {
    let key = b"k".repeat(22);
    let value = [b"x-AUTH-key \0 ", key.as_slice(), b"\0"].concat();
    let frames: [(u8, &[u8]); 5] = [
        (b'L', b"X-Auth-Key\0\n \n short\0"),
        (b'L', &value),
        (b'L', b"X-Auth-Key\0\0"),
        (b'L', b"X-New-Auth-Key\0 secret\0"),
        (b'L', b"Subject\0 s\0"),
    ];
    let mail = mail_of(&frames, Limits::default());
    assert_eq!(mail.head().fields.len(), 1);
    assert_eq!(mail.head().keys.iter().map(Option::is_some).collect::<Vec<_>>(), [false, true, false]);
    assert!(!mail.head().malformed);
}

#[test]
fn a7_beyond_the_limits_key_fields_are_counted_and_nothing_is_stored() {
    let big = [b"Big\0".as_slice(), &[b'x'; 300_000], b"\0"].concat();
    let mail = mail_of(&[(b'L', b"A\0 b\0"), (b'L', &big), (b'L', b"X-Auth-Key\0 k\0")], Limits::default());
    assert_eq!((mail.head().fields.len(), mail.head().keys.len(), mail.head().malformed), (1, 1, true));
}

#[test]
fn a8_a_key_field_below_a_line_of_junk_makes_the_message_malformed() {
    let hidden = format!("junk\r\nX-Auth-Key : {}\r\n\r\n", "k".repeat(64));
    for (body, malformed) in [(hidden.as_str(), true), ("X-Auth-Key: is what we talk about\r\n\r\n", false)] {
        let mut session = session(OFFER, Limits::default());
        take(&mut session, b'M', b"<>\0");
        take(&mut session, b'N', b"");
        let (Act::Examine(mail), _) = take(&mut session, b'B', body.as_bytes()) else { panic!() };
        assert_eq!(mail.head().malformed, malformed, "{body}");
    }
}

#[test]
fn b1_b2_beyond_the_limits_forged_marks_are_remembered_so_that_they_can_be_deleted() {
    let results = b"authentication-results \0 x; x-auth-key=pass\0".as_slice();
    let fields = [(b'L', b"A\0 b\0".as_slice()), (b'L', b"x-auth-key-status\0 VALIDKEY\0"), (b'L', results)];
    let mail = mail_of(&fields, Limits::default().with(|limits| limits.mta.header_fields = 1));
    let names: Vec<&str> = mail.head().fields.iter().map(|field| field.name.as_str()).collect();
    assert_eq!((names, mail.head().malformed), (vec!["A", "X-Auth-Key-Status", "Authentication-Results"], true));
}

#[test]
fn more_key_fields_than_an_mta_should_delete_are_refused_for_good() {
    let mut session = session(OFFER, Limits::default().with(|limits| limits.mta.key_fields = 2));
    take(&mut session, b'M', b"<>\0");
    for _ in 0..3 {
        take(&mut session, b'L', b"X-Auth-Key\0 k\0");
    }
    take(&mut session, b'N', b"");
    let (act, out) = take(&mut session, b'E', b"");
    assert!(matches!(act, Act::Abandon) && says(&out, "554 5.6.0 "));
}

#[test]
fn a_malformed_frame_or_a_wrong_order_inside_a_message_is_451_and_the_next_message_is_well() {
    let cases: [&[(u8, &[u8])]; 5] = [
        &[(b'L', b"A\0b")],
        &[(b'L', b"A\0b\0c\0")],
        &[(b'N', b""), (b'L', b"A\0b\0")],
        &[(b'L', b"A\0b\0"), (b'R', b"<x@y.example>\0")],
        &[(b'R', b"no end")],
    ];
    let mut session = session(OFFER, Limits::default());
    for frames in cases {
        take(&mut session, b'M', b"<>\0");
        for (command, payload) in frames {
            take(&mut session, *command, payload);
        }
        assert!(is_later(&take(&mut session, b'E', b"").1), "{frames:?}");
    }
    assert_eq!(take(&mut session, b'M', b"<>\0").1, b"\0\0\0\x01c");
}

#[test]
fn a_command_without_its_message_ends_the_connection() {
    for command in *b"RTLNBEOZ" {
        let mut session = session(OFFER, Limits::default());
        assert!(session.take(&Frame::new(command, &[]), &mut BytesMut::new()).is_err());
    }
}

#[test]
fn an_old_mta_hears_an_answer_to_every_command_and_gets_its_spaces_back() {
    let mut session = session([2, 0x3f, 0], Limits::default());
    for (command, payload) in
        [(b'H', b"h\0".as_slice()), (b'M', b"<>\0"), (b'R', b"<b@c.example>\0"), (b'L', b"A\0b\0")]
    {
        assert_eq!(take(&mut session, command, payload).1, b"\0\0\0\x01c");
    }
    take(&mut session, b'N', b"");
    let (Act::Examine(mail), out) = take(&mut session, b'B', b"x") else { panic!() };
    assert_eq!((mail.head().fields[0].value.as_slice(), out.as_slice()), (b" b".as_slice(), b"\0\0\0\x01c".as_slice()));
}

#[test]
fn a_login_is_the_messages_own() {
    let mut session = session(OFFER, Limits::default());
    take(&mut session, b'D', b"M{auth_authen}\0alice\0");
    take(&mut session, b'M', b"<>\0");
    take(&mut session, b'A', b"");
    take(&mut session, b'D', b"M");
    take(&mut session, b'M', b"<>\0");
    take(&mut session, b'N', b"");
    let (Act::Answer(Some(mail)), _) = take(&mut session, b'E', b"") else { panic!() };
    assert_eq!(mail.login, None);
}

#[test]
fn b1_forged_status_fields_are_found_even_beyond_the_limits() {
    let big = [b"Big\0".as_slice(), &[b'x'; 300_000], b"\0"].concat();
    let forged = (b'L', b"x-auth-key-STATUS\0 VALIDKEY\0".as_slice());
    let mail = mail_of(&[forged, (b'L', &big), forged, (b'L', b"X-Addrauth-Mark\0 m\0")], Limits::default());
    assert_eq!((mail.named("X-Auth-Key-Status").count(), mail.named("X-Addrauth-Mark").count()), (2, 1));
    assert!(mail.head().malformed);
}

#[test]
fn more_fields_to_delete_than_an_mta_should_are_refused_for_good_whichever_they_are() {
    let mut session = session(
        OFFER,
        Limits::default().with(|limits| {
            limits.mta.key_fields = 2;
            limits.mta.header_fields = 1;
        }),
    );
    take(&mut session, b'M', b"<>\0");
    for name in [b"X-Auth-Key\0\0".as_slice(), b"X-Auth-Key-Status\0\0", b"X-Addrauth-Mark\0\0"] {
        take(&mut session, b'L', name);
    }
    take(&mut session, b'N', b"");
    assert!(says(&take(&mut session, b'E', b"").1, "554 5.6.0 "));
}

#[test]
fn a6_a_value_whose_lines_do_not_fold_makes_the_message_malformed() {
    for value in
        [b"A\0 b\nX-Auth-Key: k\0".as_slice(), b"A\0 b\n\nX-Auth-Key: k\0", b"A\0 b\rX-Auth-Key: k\0", b"A\0 b\n\0"]
    {
        assert!(mail_of(&[(b'L', value)], Limits::default()).head().malformed, "{}", value.escape_ascii());
    }
    for value in [b"A\0\n b\n\tX-Auth-Key: k\0".as_slice(), b"A\0 b\n \n c\0", b"A\0 b\rc\0"] {
        assert!(!mail_of(&[(b'L', value)], Limits::default()).head().malformed, "{}", value.escape_ascii());
    }
}

#[test]
fn macros_are_welcome_anywhere_and_a_cut_one_ends_the_connection() {
    let mut session = session(OFFER, Limits::default());
    for before in *b"CHMRTLNBEAZ\0" {
        let payload = [&[before][..], b"i\0QID9\0{auth_authen}\0bob\0{}\0\0unheard of\0x\0"].concat();
        assert!(matches!(take(&mut session, b'D', &payload), (Act::Read, out) if out.is_empty()));
    }
    for payload in [b"".as_slice(), b"Mi", b"Mi\0", b"Mi\0v\0j\0"] {
        let mut out = BytesMut::new();
        assert!(session.take(&Frame::new(b'D', &[payload]), &mut out).is_err(), "{}", payload.escape_ascii());
    }
}

#[test]
fn a_login_told_too_late_is_of_no_message() {
    let mut session = session(OFFER, Limits::default());
    let mut logins = Vec::new();
    for _ in 0..2 {
        take(&mut session, b'D', b"M");
        take(&mut session, b'M', b"<>\0");
        take(&mut session, b'D', b"R{auth_authen}\0alice\0");
        take(&mut session, b'R', b"<b@two.example>\0");
        take(&mut session, b'N', b"");
        take(&mut session, b'D', b"E{auth_authen}\0alice\0");
        let (Act::Answer(Some(mail)), _) = take(&mut session, b'E', b"") else { panic!() };
        logins.push(mail.login.clone());
    }
    assert_eq!(logins, [None, None]);
}

#[test]
fn nothing_is_said_to_the_first_piece_of_a_body_before_it_is_known_whether_it_is_wanted() {
    for (offer, unwanted) in [(OFFER, b"\0\0\0\x01s"), ([6, 0x1ff, 0x1f_ffff & !0x400], b"\0\0\0\x01c")] {
        for wanted in [true, false] {
            let mut session = session(offer, Limits::default());
            take(&mut session, b'M', b"<>\0");
            take(&mut session, b'N', b"");
            let mut out = BytesMut::new();
            assert!(matches!(session.take(&Frame::new(b'B', &[b"x"]), &mut out).unwrap(), Act::Examine(_)));
            assert!(out.is_empty());
            session.read_body(wanted, &mut out).unwrap();
            assert_eq!(out.as_ref(), if wanted { b"\0\0\0\x01c" } else { unwanted });
            out.clear();
            let act = session.take(&Frame::new(b'B', &[b"y"]), &mut out).unwrap();
            match wanted {
                true => assert!(matches!(act, Act::Collect) && out.is_empty()),
                false => assert!(matches!(act, Act::Read) && out.as_ref() == unwanted),
            }
            if wanted {
                session.read_body(true, &mut out).unwrap();
            }
            out.clear();
            assert!(matches!(session.take(&Frame::new(b'E', &[b"z"]), &mut out).unwrap(), Act::Answer(None)));
            assert!(out.is_empty());
        }
    }
}

#[test]
fn a_message_refused_in_its_body_is_451_there_and_at_its_end_and_no_more_is_taken_of_it() {
    let mut session = session(OFFER, Limits::default());
    take(&mut session, b'M', b"<>\0");
    take(&mut session, b'N', b"");
    let mut out = BytesMut::new();
    session.take(&Frame::new(b'B', &[b"x"]), &mut out).unwrap();
    session.refuse(Refused::Body(1).into(), &mut out);
    assert!(says(&out, "552 5.3.4 "));
    for command in *b"BE" {
        let (act, out) = take(&mut session, command, b"y");
        assert!(matches!(act, Act::Read | Act::Abandon) && says(&out, "552 5.3.4 "), "{}", char::from(command));
    }
    assert_eq!(take(&mut session, b'M', b"<>\0").1, b"\0\0\0\x01c");
}

#[test]
fn a_recipient_who_does_not_join_is_told_to_come_alone_and_is_none_of_the_message() {
    let mut session = Session::new(Arc::new(Limits::default()), true);
    let words = OFFER.map(u32::to_be_bytes).concat();
    session.take(&Frame::new(b'O', &[&words]), &mut BytesMut::new()).unwrap();
    take(&mut session, b'M', b"<>\0");
    assert_eq!(take(&mut session, b'R', b"<a@one.example>\0").1, b"\0\0\0\x01c");
    for (next, stays) in [("<b@two.example>", false), ("<c@three.example>", true)] {
        let mut out = BytesMut::new();
        let frame = Frame::new(b'R', &[next.as_bytes(), b"\0"]);
        let Act::Compare(both) = session.take(&frame, &mut out).unwrap() else { panic!() };
        assert_eq!(both.map(|recipient| recipient.path), [b"<a@one.example>", next.as_bytes()]);
        assert!(out.is_empty());
        session.join(stays, &mut out).unwrap();
        assert_eq!(out[4..].starts_with(b"y452 4.5.3 "), !stays);
        // Asked once, answered once.
        assert!(session.join(true, &mut out).is_err());
    }
    take(&mut session, b'N', b"");
    let (Act::Answer(Some(mail)), _) = take(&mut session, b'E', b"") else { panic!() };
    let paths: Vec<&[u8]> = mail.recipients.iter().map(|recipient| recipient.path.as_slice()).collect();
    assert_eq!(paths, [&b"<a@one.example>"[..], b"<c@three.example>"]);
}

#[test]
fn new_keys_leave_the_header_at_the_door_in_every_spelling_and_count_among_what_may_be_deleted() {
    let key = "k".repeat(64);
    let good = format!("X-New-Auth-Key\0 {key}\0");
    let folded = format!("x-new-auth-KEY \0\n\t{key} \0");
    let frames: Vec<(u8, &[u8])> = vec![
        (b'L', b"From\0 a@one.example\0"),
        (b'L', good.as_bytes()),
        (b'L', folded.as_bytes()),
        (b'L', b"X-NEW-AUTH-KEY\0 no key\0"),
        (b'L', b"X-Auth-Key\0 no key\0"),
    ];
    let mail = mail_of(&frames, Limits::default());
    assert_eq!(mail.head().new_keys.iter().map(Option::is_some).collect::<Vec<_>>(), [true, true, false]);
    assert_eq!((mail.head().keys.len(), mail.head().fields.len(), mail.head().malformed), (1, 1, false));
    assert!(!format!("{mail:?}").contains("kkkkkkkk"));
    // Beyond the limits of a header they are still counted, since they have to be deleted.
    let over = mail_of(&frames, Limits::default().with(|limits| limits.mta.header_fields = 1));
    assert_eq!(
        (over.head().new_keys.len(), over.head().keys.len(), over.head().fields.len(), over.head().malformed),
        (3, 1, 1, true)
    );
    assert!(over.head().new_keys.iter().all(Option::is_none));

    let mut session = session(OFFER, Limits::default().with(|limits| limits.mta.key_fields = 1));
    take(&mut session, b'M', b"<a@one.example>\0");
    take(&mut session, b'R', b"<b@two.example>\0");
    take(&mut session, b'L', good.as_bytes());
    take(&mut session, b'L', good.as_bytes());
    assert!(says(&take(&mut session, b'E', b"").1, "554 5.6.0 "));
}

/// The readings of recipients, each with the macros before it, by an MTA that calls itself so.
fn readings(mta: &str, said: &[(&[(&str, &str)], &str)]) -> Vec<Option<String>> {
    let mut session = session(OFFER, Limits::default());
    take(&mut session, b'D', format!("Cj\0mx\0v\0{mta}\0").as_bytes());
    take(&mut session, b'M', b"<>\0");
    for (macros, path) in said {
        if !macros.is_empty() {
            let macros: String = macros.iter().map(|(name, value)| format!("{name}\0{value}\0")).collect();
            take(&mut session, b'D', format!("R{macros}").as_bytes());
        }
        take(&mut session, b'R', format!("{path}\0").as_bytes());
    }
    take(&mut session, b'N', b"");
    let (Act::Answer(Some(mail)), _) = take(&mut session, b'E', b"") else { panic!("no answer due") };
    mail.recipients.iter().map(|recipient| recipient.address().map(ToString::to_string)).collect()
}

#[test]
fn postfix_says_who_a_recipient_is_for_that_recipient_alone() {
    let bob: &[(&str, &str)] = &[("i", "Q"), ("{rcpt_addr}", "bob@recv.test"), ("{rcpt_mailer}", "virtual")];
    let said = [(bob, "<bob%recv.test>"), (&[], "<carol%recv.test>"), (&[("i", "Q")], "<dave>"), (bob, "<bob>")];
    let who = |bob: &str| Some(bob.to_owned());
    assert_eq!(readings("Postfix 3.7.11", &said), [who("bob@recv.test"), None, None, who("bob@recv.test")]);
    let alone: &[(&str, &str)] = &[("{rcpt_addr}", "bob@recv.test")];
    let nobody: &[(&str, &str)] = &[("{rcpt_addr}", "bob@recv.test"), ("{rcpt_mailer}", "error")];
    let local: &[(&str, &str)] = &[("{rcpt_addr}", "bob"), ("{rcpt_mailer}", "virtual")];
    let empty: &[(&str, &str)] = &[("{rcpt_addr}", "bob@recv.test"), ("{rcpt_mailer}", "")];
    let said = [alone, nobody, local, empty].map(|macros| (macros, "<bob%recv.test>"));
    assert_eq!(readings("Postfix 3.7.11", &said), [None, None, None, None]);
    for mta in ["", "8.17.1", "Postfixed 1", "Exim"] {
        assert_eq!(readings(mta, &[(bob, "<bob%recv.test>")]), [None], "{mta}");
    }
    assert_eq!(readings("Postfix", &[(bob, "<x>")]), [who("bob@recv.test")]);
}

#[test]
fn what_sendmail_says_of_a_recipient_is_not_whom_it_takes_him_for() {
    // A transcript of 8.17.1, FEATURE(virtusertable) without a row for bob: the address is what the mailer gets.
    let local: &[(&str, &str)] = &[("{rcpt_mailer}", "local"), ("{rcpt_host}", ""), ("{rcpt_addr}", "bob")];
    let relay: &[(&str, &str)] =
        &[("{rcpt_mailer}", "esmtp"), ("{rcpt_host}", "x.test."), ("{rcpt_addr}", "carol@x.test")];
    let said = [(local, "<bob@recv.test>"), (relay, "<dave@recv.test>"), (relay, "<carol%x.test@recv.test>")];
    let who = |address: &str| Some(address.to_owned());
    assert_eq!(readings("8.17.1", &said), [who("bob@recv.test"), who("dave@recv.test"), None]);
}

#[test]
fn macros_of_a_recipient_do_not_outlive_another_command_nor_come_with_one() {
    let mut session = session(OFFER, Limits::default());
    take(&mut session, b'D', b"Cv\0Postfix 3.7.11\0");
    let macros = b"{rcpt_addr}\0eve@recv.test\0{rcpt_mailer}\0virtual\0";
    take(&mut session, b'D', &[b"M", &macros[..]].concat());
    take(&mut session, b'M', b"<>\0");
    take(&mut session, b'R', b"<x%recv.test>\0");
    take(&mut session, b'D', &[b"R", &macros[..]].concat());
    take(&mut session, b'D', b"Ti\0Q\0");
    take(&mut session, b'R', b"<x%recv.test>\0");
    take(&mut session, b'D', &[b"R", &macros[..]].concat());
    take(&mut session, b'A', b"");
    take(&mut session, b'M', b"<>\0");
    take(&mut session, b'R', b"<x%recv.test>\0");
    take(&mut session, b'N', b"");
    let (Act::Answer(Some(mail)), _) = take(&mut session, b'E', b"") else { panic!("no answer due") };
    assert!(mail.recipients.iter().all(|recipient| recipient.address().is_none()), "{:?}", mail.recipients);
}
