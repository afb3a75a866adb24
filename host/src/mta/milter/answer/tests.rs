use super::*;
use crate::case::{Envelope, Head, Recipient, Redirect};
use crate::mta::Refused;
use crate::mta::milter::frame::{Cutter, Frame};
use crate::proto::address::Address;
use crate::proto::header::Edit;

fn terms(actions: u32, protocol: u32) -> Terms {
    let words = [6, actions, protocol].map(u32::to_be_bytes).concat();
    Terms::agree(&Frame::new(b'O', &[&words]), false, &mut BytesMut::new()).unwrap()
}

fn reply(verdict: Verdict, edits: &[Edit]) -> Reply {
    Reply { edits: edits.to_vec(), ..Reply::bare(verdict) }
}

fn delete(index: u32) -> Edit {
    Edit::Delete { name: "X-Auth-Key".into(), index }
}

fn insert(index: u32, name: &str, value: &str) -> Edit {
    Edit::Insert { index, name: name.into(), value: value.into() }
}

fn refusal(code: u16, status: &'static str, text: &str) -> Refusal {
    Refusal { code, status, text: text.into() }
}

fn said(verdict: Verdict) -> String {
    let frames = frames(&reply(verdict, &[]), &to(&[]), &terms(0x1ff, 0x1f_ffff), 1 << 20).unwrap();
    String::from_utf8(frames[4..].to_vec()).unwrap()
}

#[test]
fn deletions_come_first_in_their_order_then_insertions_then_the_verdict() {
    let edits = [insert(0, "X-Auth-Key-Status", " NOKEY"), delete(2), insert(1, "B", " c"), delete(1)];
    let frames =
        frames(&reply(Verdict::Hold("why".into()), &edits), &to(&[]), &terms(0x1ff, 0x1f_ffff), 1 << 20).unwrap();
    let expected = b"\0\0\0\x11m\0\0\0\x02X-Auth-Key\0\0\0\0\0\x11m\0\0\0\x01X-Auth-Key\0\0\
        \0\0\0\x1ei\0\0\0\0X-Auth-Key-Status\0 NOKEY\0\0\0\0\x0ai\0\0\0\x01B\0 c\0\0\0\0\x05qwhy\0\0\0\0\x01a";
    assert_eq!(frames.as_ref(), expected);
}

#[test]
fn a_key_is_inserted_on_top_and_stands_in_no_debug_text() {
    let key = crate::proto::key::AuthKey::parse(&[b'k'; 22]).unwrap();
    let edits = [insert(0, "X-Auth-Agent", " a"), Edit::InsertKey { key }];
    let reply = reply(Verdict::Accept, &edits);
    assert!(!format!("{reply:?}").contains("kkkk"));
    let frames = frames(&reply, &to(&[]), &terms(0x1ff, 0x1f_ffff), 1 << 20).unwrap();
    assert_eq!(&frames[25..57], b"\0\0\0\x28i\0\0\0\0X-Auth-Key\0 kkkkkkkkkkk");
    assert!(matches!(super::frames(&reply, &to(&[]), &terms(0x1ff & !0x01, 0), 1 << 20), Err(Error::NotOffered(_))));
}

#[test]
fn without_leading_spaces_agreed_the_mta_writes_them() {
    let frames = frames(&reply(Verdict::Accept, &[insert(0, "A", " b")]), &to(&[]), &terms(0x1ff, 0), 1 << 20).unwrap();
    assert_eq!(frames.as_ref(), b"\0\0\0\x09i\0\0\0\0A\0b\0\0\0\0\x01a");
}

#[test]
fn no_message_is_answered_without_what_its_answer_needs() {
    let fails = |verdict: Verdict, edits: &[Edit], actions: u32| {
        matches!(frames(&reply(verdict, edits), &to(&[]), &terms(actions, 0), 1 << 20), Err(Error::NotOffered(_)))
    };
    assert!(fails(Verdict::Accept, &[delete(1)], 0x1ff & !0x10));
    assert!(fails(Verdict::Accept, &[insert(0, "A", " b")], 0x1ff & !0x01));
    assert!(fails(Verdict::Hold(String::new()), &[], 0x1ff & !0x20));
    assert!(!fails(Verdict::Discard, &[delete(1)], 0));
    assert!(!fails(Verdict::Accept, &[], 0));
}

#[test]
fn k6_a_reply_stays_one_line_of_printable_ascii_without_percent() {
    let text = "a\r\n250 b\0c%d\u{e9}e\u{7f}";
    assert_eq!(said(Verdict::Reject(refusal(550, "5.7.1", text))), "y550 5.7.1 a??250 b?c?d?e?\0");
    assert_eq!(said(Verdict::Hold(text.into())), "qa??250 b?c?d?e?\0\0\0\0\x01a");
    assert!(said(Verdict::Reject(refusal(550, "5.7.1", &"x".repeat(5000)))).len() < 500);
}

#[test]
fn k7_code_and_class_are_of_the_verdicts_kind() {
    for (code, status) in
        [(250, "2.0.0"), (451, "4.3.0"), (550, "2.1.1"), (550, "5.7"), (550, "5.7.1\r\n"), (5500, "5.7.1")]
    {
        assert_eq!(said(Verdict::Reject(refusal(code, status, "no"))), "y550 5.7.1 no\0");
    }
    for (code, status) in [(250, "2.0.0"), (550, "5.7.1"), (421, "4.3.2")] {
        assert_eq!(said(Verdict::Defer(refusal(code, status, "no"))), "y451 4.3.0 no\0");
    }
    assert_eq!(said(Verdict::Reject(refusal(554, "5.6.0", "no"))), "y554 5.6.0 no\0");
    assert_eq!(said(Verdict::Defer(refusal(450, "4.7.1", "no"))), "y450 4.7.1 no\0");
}

#[test]
fn k8_an_edit_that_is_no_field_is_no_answer() {
    let bad = [
        insert(0, "A", " b\nBcc: x"),
        insert(0, "A", " b\r\n c"),
        insert(0, "A", " b\0"),
        insert(0, "A", " b\n"),
        insert(0, "A:", " b"),
        insert(0, "", " b"),
        insert(0, "A b", " b"),
        insert(2, "A", " b"),
        delete(0),
    ];
    for edit in bad {
        let said = frames(&reply(Verdict::Accept, std::slice::from_ref(&edit)), &to(&[]), &terms(0x1ff, 0), 1 << 20);
        assert!(matches!(said, Err(Error::Refused(Refused::Edit))), "{edit:?}");
    }
    assert!(frames(&reply(Verdict::Accept, &[insert(0, "A", " b\n\tc")]), &to(&[]), &terms(0x1ff, 0), 1 << 20).is_ok());
}

fn to(paths: &[&str]) -> Mail {
    let recipient = |path: &&str| Recipient::new(path.as_bytes());
    Mail::new(Envelope { recipients: paths.iter().map(recipient).collect(), ..Envelope::default() }, Head::default())
}

fn struck(removed: &[usize], redirected: &[(usize, &str)]) -> Reply {
    let redirect = |(recipient, to): &(usize, &str)| Redirect {
        recipient: *recipient,
        to: Address::parse(to.as_bytes(), false).unwrap(),
    };
    let redirected = redirected.iter().map(redirect).collect();
    Reply { removed: removed.to_vec(), redirected, ..reply(Verdict::Accept, &[]) }
}

/// Command and payload of each frame, but for the last, which accepts the message.
fn changes(reply: &Reply, to: &Mail, actions: u32) -> Result<Vec<String>, Error> {
    let out = frames(reply, to, &terms(actions, 0x1f_ffff), 1 << 20)?;
    let (mut said, mut rest) = (Vec::new(), out.as_ref());
    while let Some(frame) = Cutter::new(1 << 20).next(&mut rest).unwrap() {
        said.push(format!("{}{}", char::from(frame.command), frame.payload.escape_ascii()));
    }
    assert_eq!(said.pop().as_deref(), Some("a"));
    Ok(said)
}

#[test]
fn recipients_are_struck_out_by_the_octets_of_rcpt_before_others_are_added_and_after_the_header_is_edited() {
    let to = to(&["<A@one.example>", "<Bob@Two.Example>", "<c@three.example>", "<A@one.example>"]);
    let mut reply = struck(&[2], &[(1, "Bob+Junk@two.example")]);
    reply.edits = vec![insert(0, "S", " v")];
    let said = changes(&reply, &to, 0x1ff).unwrap();
    let expected = [
        "i\\x00\\x00\\x00\\x00S\\x00 v\\x00",
        "-<Bob@Two.Example>\\x00",
        "-<c@three.example>\\x00",
        "+<Bob+Junk@two.example>\\x00",
    ];
    assert_eq!(said, expected);
}

#[test]
fn a_path_that_came_twice_is_deleted_and_added_once() {
    let to = to(&["<b@two.example>", "<b@two.example>", "<b+x@two.example>"]);
    let folder = "b+Junk@two.example";
    let said = changes(&struck(&[], &[(0, folder), (1, folder), (2, folder)]), &to, 0x1ff).unwrap();
    let expected = ["-<b+x@two.example>\\x00", "-<b@two.example>\\x00", "+<b+Junk@two.example>\\x00"];
    assert_eq!(said, expected);
}

#[test]
fn a_path_that_would_be_deleted_and_added_is_no_answer() {
    let to = to(&["<b@two.example>", "<b+Junk@two.example>", "<c@three.example>"]);
    for reply in
        [struck(&[1], &[(0, "b+Junk@two.example")]), struck(&[], &[(0, "b+Junk@two.example"), (1, "d@two.example")])]
    {
        assert!(matches!(changes(&reply, &to, 0x1ff), Err(Error::Refused(Refused::Recipient))), "{reply:?}");
    }
}

#[test]
fn whoever_is_sent_where_he_is_already_stays_there() {
    let to = to(&["<b+Junk@two.example>"]);
    assert!(changes(&struck(&[], &[(0, "b+Junk@two.example")]), &to, 0).unwrap().is_empty());
}

#[test]
fn an_answer_that_strikes_out_all_or_nobody_or_one_who_stays_is_none() {
    let to = to(&["<a@one.example>", "<b@two.example>", "<a@one.example>"]);
    let wrong = [
        struck(&[0, 1, 2], &[]),
        struck(&[3], &[]),
        struck(&[], &[(3, "c@two.example")]),
        struck(&[0], &[]),
        struck(&[1], &[(1, "c@two.example")]),
    ];
    for reply in wrong {
        assert!(matches!(changes(&reply, &to, 0x1ff), Err(Error::Refused(Refused::Recipient))), "{reply:?}");
    }
    assert_eq!(changes(&struck(&[0, 2], &[]), &to, 0x1ff).unwrap(), ["-<a@one.example>\\x00"]);
    assert_eq!(changes(&struck(&[0, 2], &[(1, "c@two.example")]), &to, 0x1ff).unwrap().len(), 3);
}

#[test]
fn an_mta_that_lets_a_milter_change_no_recipients_hears_no_half_of_it() {
    let to = to(&["<a@one.example>", "<b@two.example>"]);
    for (lacking, reply, fails) in [
        (0x08, struck(&[0], &[]), true),
        (0x04, struck(&[0], &[]), false),
        (0x04, struck(&[], &[(0, "c@two.example")]), true),
        (0x08, struck(&[], &[(0, "c@two.example")]), true),
        (0x0c, struck(&[], &[]), false),
    ] {
        let said = changes(&reply, &to, 0x1ff & !lacking);
        assert_eq!(matches!(said, Err(Error::NotOffered(_))), fails, "{lacking:#x} {said:?}");
    }
}

#[test]
fn a_stalwart_hears_of_each_field_by_its_spelling_and_of_folds_by_crlf() {
    let spelled = ["x-auth-key ", "X-Auth-Key", "X-AUTH-KEY", "x-auth-key "].map(String::from).to_vec();
    let to = to(&["<b@two.example>"]).altered(|_, head| head.spelled = spelled);
    let edits = [delete(4), delete(3), delete(2), delete(1), insert(0, "A", " b\n\tc")];
    let terms = terms(0x1ff, 0x42).with_stalwart();
    let out = frames(&reply(Verdict::Accept, &edits), &to, &terms, 1 << 20).unwrap();
    let expected = b"\0\0\0\x12m\0\0\0\x02x-auth-key \0\0\0\0\0\x11m\0\0\0\x02X-AUTH-KEY\0\0\
        \0\0\0\x11m\0\0\0\x01X-Auth-Key\0\0\0\0\0\x12m\0\0\0\x01x-auth-key \0\0\
        \0\0\0\x0di\0\0\0\0A\0b\r\n\tc\0\0\0\0\x01a";
    assert_eq!(out.escape_ascii().to_string(), expected.escape_ascii().to_string());
}

#[test]
fn a_stalwart_is_told_nothing_that_it_does_in_another_way() {
    let to = to(&["<b@two.example>", "<c@two.example>"]);
    let terms = terms(0x1ff, 0x42).with_stalwart();
    let fails = |reply: &Reply| matches!(frames(reply, &to, &terms, 1 << 20), Err(Error::NotOffered(_)));
    assert!(fails(&reply(Verdict::Hold("why".into()), &[])), "it delivers what is to be held");
    assert!(fails(&struck(&[], &[(0, "b+Junk@two.example")])), "it returns mail to a spam folder's address");
    assert!(!fails(&struck(&[0], &[])) && !fails(&reply(Verdict::Discard, &[])));
}
