//! A Stalwart as 0.15.5 was seen to speak: the header comes trimmed, and again as the beginning of the body.

use proptest::prelude::*;

use super::*;
use crate::mta::UNFIT;
use crate::proto::header::{Bounds, deletions, inject, strip};

const KEY: &str = "Vb3kQ9w2Zr7tYp0sXn4mLc8dHf1gJa6eUi5oRk2yTq9wEz3xBv7nMs4pDl8hGj0K";
const STATUS: &str = "UNUSABLE; address=alice@one.example; by=mx.recv.test";
const UNBOUND: Bounds = Bounds { fields: usize::MAX, octets: usize::MAX };
/// What Stalwart offers.
const STALWART: [u32; 3] = [6, 0xff, 0x42];

/// A field's name and value, as they came.
type Spelled = (Vec<u8>, Vec<u8>);

/// The fields that Stalwart knows of a message, each with its spelling and its value's octets, and the body.
fn known(raw: &[u8]) -> (Vec<Spelled>, Vec<u8>) {
    let (mut fields, mut rest) = (Vec::<Spelled>::new(), raw);
    loop {
        let end = rest.iter().position(|octet| *octet == b'\n').map_or(rest.len(), |end| end + 1);
        let (line, below) = rest.split_at(end);
        if matches!(line, b"" | b"\r\n" | b"\n") {
            return (fields, below.to_vec());
        }
        rest = below;
        if matches!(line[0], b' ' | b'\t') {
            let Some(field) = fields.last_mut() else { continue };
            field.1.extend(line);
        } else if fields.last().is_some_and(|(name, value)| name == b"Date" && value.ends_with(b" Z\r\n")) {
            // It takes the line below such a date for a part of it.
            fields.last_mut().unwrap().1.extend(line);
        } else if let Some(colon) = colon(line) {
            fields.push((line[..colon].to_vec(), line[colon + 1..].to_vec()));
        }
    }
}

/// Where a name ends: colons in front of it are a part of it to Stalwart.
fn colon(line: &[u8]) -> Option<usize> {
    let begin = line.iter().position(|octet| *octet != b':' && !octet.is_ascii_whitespace())?;
    line.iter().skip(begin).position(|octet| *octet == b':').map(|colon| begin + colon)
}

fn trimmed(octets: &[u8]) -> &[u8] {
    std::str::from_utf8(octets).unwrap_or_default().trim().as_bytes()
}

/// Brings a message as Stalwart does, its body in pieces of this size: the mail or what is refused, and the body.
fn bring(session: &mut Session, raw: &[u8], piece: usize) -> Result<(Mail, Vec<u8>), String> {
    take(session, b'D', b"C{daemon_name}\0Stalwart v0.15.5\0j\0mx.recv.test\0{client_ptr}\0unknown\0");
    take(session, b'C', b"client.test\x004\x9c@192.0.2.10\0");
    take(session, b'M', b"<alice@one.example>\0");
    take(session, b'R', b"<bob@recv.test>\0");
    take(session, b'T', b"");
    for (name, value) in known(raw).0 {
        take(session, b'L', &[trimmed(&name), b"\0", trimmed(&value), b"\0"].concat());
    }
    take(session, b'N', b"");
    let (mut examined, mut body) = (None, Vec::new());
    for piece in raw.chunks(piece) {
        let mut out = BytesMut::new();
        match session.take(&Frame::new(b'B', &[piece]), &mut out).unwrap() {
            Act::Examine(mail) => {
                examined = Some(*mail);
                body.extend_from_slice(&piece[session.body_at()..]);
                session.read_body(true, &mut out).unwrap();
            }
            Act::Collect => {
                body.extend_from_slice(&piece[session.body_at()..]);
                session.read_body(true, &mut out).unwrap();
            }
            Act::Read | Act::Abandon => {}
            other => panic!("{other:?}"),
        }
        assert!(!out.is_empty(), "each piece of a body is answered");
    }
    match take(session, b'E', b"") {
        (Act::Answer(late), _) => Ok((late.map(|mail| *mail).or(examined).unwrap(), body)),
        (_, out) => Err(String::from_utf8_lossy(&out[5..]).into_owned()),
    }
}

fn brought(raw: &[u8]) -> Result<(Mail, Vec<u8>), String> {
    bring(&mut session(STALWART, Limits::default()), raw, 65_535)
}

/// The message after our answer, changed and written as Stalwart does both.
fn applied(session: &mut Session, mail: &Mail, reply: &Reply, raw: &[u8]) -> Vec<u8> {
    let mut out = BytesMut::new();
    session.answer(reply, mail, &mut out).unwrap();
    let (mut fields, body) = known(raw);
    let mut rest = out.as_ref();
    while let Some(frame) = crate::mta::milter::frame::Cutter::new(1 << 20).next(&mut rest).unwrap() {
        let Some((index, words)) = frame.payload.split_first_chunk::<4>() else { continue };
        let index = u32::from_be_bytes(*index) as usize;
        let &[name, value] = strings(words).unwrap().as_slice() else { panic!() };
        match frame.command {
            b'm' => {
                let mut same = fields.iter().enumerate().filter(|(_, field)| field.0.eq_ignore_ascii_case(name));
                let found = same.nth(index - 1).map(|(at, _)| at);
                drop(same);
                fields.remove(found.expect("the field is there by this spelling"));
            }
            b'i' => fields.insert(0, (name.to_vec(), [value, b"\r\n"].concat())),
            other => panic!("{}", other.escape_ascii()),
        }
    }
    let mut written = Vec::new();
    for (name, value) in fields {
        written.extend(name);
        written.extend(if value[0].is_ascii_whitespace() { &b":"[..] } else { b": " });
        written.extend(value);
    }
    [written.as_slice(), b"\r\n", &body].concat()
}

/// What the judge answers to each: keys and statuses go, a status comes on top.
fn cleaning(mail: &Mail) -> Reply {
    let mut edits = deletions(vec!["X-Auth-Key"; mail.head().keys.len()], |_, _| true);
    edits.extend(deletions(vec!["X-New-Auth-Key"; mail.head().new_keys.len()], |_, _| true));
    edits.extend(deletions(vec!["X-Auth-Key-Status"; mail.named("X-Auth-Key-Status").count()], |_, _| true));
    let (name, value) = ("X-Auth-Key-Status".into(), format!(" {STATUS}"));
    edits.push(crate::proto::header::Edit::Insert { index: 0, name, value });
    Reply { edits, ..Reply::bare(Verdict::Accept) }
}

/// The message as it should arrive, by the octets that were sent.
fn reference(raw: &[u8]) -> Vec<u8> {
    let bare = strip(raw, &["X-Auth-Key", "X-New-Auth-Key", "X-Auth-Key-Status"], UNBOUND).unwrap();
    inject(&bare, 0, "X-Auth-Key-Status", format!(" {STATUS}").as_bytes()).unwrap()
}

#[test]
fn the_header_is_read_as_it_was_sent_and_the_body_begins_below_it() {
    let raw = format!(
        "From: Alice <alice@one.example>\r\nTo: x@recv.test\r\nSubject:  two  \r\n\tok\r\nX-Auth-Key : {KEY}\r\n\
         X-AUTH-KEY:\r\n {KEY}\r\nX-Auth-Key-Status\t: VALIDKEY; by=mx.recv.test\r\n\r\n..\r\nX: body\r\n"
    );
    for piece in [1, 7, 100, 65_535] {
        let mut session = session(STALWART, Limits::default());
        let (mail, body) = bring(&mut session, raw.as_bytes(), piece).unwrap();
        assert_eq!(body, b"..\r\nX: body\r\n", "{piece}");
        assert_eq!((mail.head().keys.len(), mail.head().malformed, mail.queue_id.as_deref()), (2, false, None));
        assert!(mail.key().unwrap().is_some());
        assert_eq!((mail.daemon.as_str(), mail.mta.as_str()), ("Stalwart", "Stalwart v0.15.5"));
        let subject = mail.named("Subject").next().unwrap();
        assert_eq!(subject.value, b"  two  \n\tok");
        assert_eq!(mail.head().spelled, ["X-Auth-Key ", "X-AUTH-KEY", "X-Auth-Key-Status\t"]);
        let reply = cleaning(&mail);
        assert_eq!(applied(&mut session, &mail, &reply, raw.as_bytes()), reference(raw.as_bytes()));
    }
}

#[test]
fn what_is_no_utf_8_is_read_from_the_body() {
    let raw = b"From: J\xfcrgen <alice@one.example>\r\nX-Auth-Key: \xff\r\nSubject: gr\xfc\xdfe\r\n\r\nx";
    let (mail, body) = brought(raw).unwrap();
    assert_eq!(mail.sender().unwrap().to_string(), "alice@one.example");
    assert_eq!(
        (mail.named("Subject").next().unwrap().value.as_slice(), body.as_slice()),
        (&b" gr\xfc\xdfe"[..], &b"x"[..])
    );
    assert_eq!(mail.head().keys, [None]);
    // A name that is none, and one with a NUL behind it.
    let (mail, _) = brought(b"From: a@b.example\r\nN\xe4me: x\r\nX-Nul: a\0b\r\nTo: c\r\n\r\n").unwrap();
    let names: Vec<&str> = mail.head().fields.iter().map(|field| field.name.as_str()).collect();
    assert_eq!(names, ["From", "X-Nul", "To"]);
}

#[test]
fn a_message_without_a_body_ends_its_header_where_it_ends() {
    for raw in [
        "From: a@b.example\r\nSubject: s\r\n\r\n",
        "From: a@b.example\r\nSubject: s\r\n",
        "From: a@b.example\r\nSubject: s",
    ] {
        for piece in [1, 100] {
            let (mail, body) = bring(&mut session(STALWART, Limits::default()), raw.as_bytes(), piece).unwrap();
            assert_eq!((mail.head().fields.len(), body.len()), (2, 0), "{raw:?}");
        }
    }
}

#[test]
fn lines_that_are_no_fields_to_stalwart_are_read_and_harm_no_message() {
    let key = format!("X-Auth-Key: {KEY}\r\n");
    let date = "Date: Mon, 30 Nov 2026 12:00:00 Z\r\n";
    for (header, fields) in [
        (format!("{date}From: a@b.example\r\nSubject: s\r\n"), 3),
        ("From: a@b.example\r\njunk\r\nSubject: s\r\n".to_owned(), 2),
        ("From b@c Mon Nov 30 12:00:00 2026\r\nFrom: a@b.example\r\nSubject: s\r\n".to_owned(), 2),
    ] {
        let (mail, _) = brought(format!("{header}\r\nbody\r\n").as_bytes()).unwrap();
        let head = mail.head();
        assert_eq!((head.malformed, head.fields.len(), head.keys.len()), (false, fields, 0), "{header}");
        assert_eq!(mail.sender().unwrap().to_string(), "a@b.example", "{header}");
    }
    // A key field behind a line of junk is one that it knows.
    let raw = format!("From: a@b.example\r\njunk\r\n{key}Subject: s\r\n\r\nbody\r\n");
    let mut session = session(STALWART, Limits::default());
    let (mail, _) = bring(&mut session, raw.as_bytes(), 65_535).unwrap();
    assert_eq!((mail.head().keys.len(), mail.head().malformed), (1, false));
    let reply = cleaning(&mail);
    let arrived = applied(&mut session, &mail, &reply, raw.as_bytes());
    assert_eq!(arrived, reference(raw.replace("junk\r\n", "").as_bytes()));
}

#[test]
fn a_field_that_stalwart_cannot_delete_refuses_the_message_whatever_takes_its_place() {
    let status = "VALIDKEY; address=ceo@bank.example; by=mx.recv.test";
    let dates = [&b"Date: Mon, 30 Nov 2026 12:00:00 Z\r\n"[..], b"Date: \xff Mon, 30 Nov 2026 12:00:00 Z\r\n"];
    for date in dates {
        for (name, value) in [("X-Auth-Key-Status", status), ("X-Auth-Key", KEY), ("X-New-Auth-Key", KEY)] {
            for hidden in ["", " ", "\t"] {
                let line = |blank: &str| format!("{name}{blank}: {value}\r\n");
                // Alone, and with the field that Stalwart knows below it, which is told by the same octets.
                for lines in [line(hidden), line(hidden) + &line(""), line(hidden) + "Subject: s\r\n" + &line(" ")] {
                    let raw = [b"From: ceo@bank.example\r\n", date, lines.as_bytes(), b"\r\nbody\r\n"].concat();
                    let said = brought(&raw).map(|(mail, _)| mail.head().malformed);
                    assert!(said.as_ref().is_err_and(|said| said.starts_with("554 5.6.0 ")), "{said:?} {lines:?}");
                }
            }
        }
    }
}

#[test]
fn a_name_that_stalwart_reads_more_loosely_than_we_is_no_way_past_us() {
    let lines = |line: &str| format!("From: a@b.example\r\n{line}\r\nSubject: s\r\n\r\nbody\r\n");
    for line in [
        "Fr om: \"CEO\" <ceo@bank.example>",
        ": From: ceo@bank.example",
        ":From: ceo@bank.example",
        ": : F\tROM : ceo@bank.example",
        ": Sender: ceo@bank.example",
        "Send er: ceo@bank.example",
    ] {
        let (mail, _) = brought(lines(line).as_bytes()).unwrap();
        assert!(mail.head().malformed, "{line}");
    }
    for line in
        [": X-Auth-Key-Status: VALIDKEY", "X-Auth- Key: k", "::X-New-Auth-Key : k", ": Authentication-Results: x"]
    {
        let said = brought(lines(line).as_bytes()).map(|(mail, _)| mail.head().malformed);
        assert!(said.as_ref().is_err_and(|said| said.starts_with("554 5.6.0 ")), "{said:?} {line}");
    }
    for line in ["Fro me: x", ": Subject: x", "Words with From: x", "Re ply-To: x", "From", ":"] {
        assert!(!brought(lines(line).as_bytes()).unwrap().0.head().malformed, "{line}");
    }
}

#[test]
fn a_value_is_found_whatever_white_space_it_begins_with() {
    for blank in ["\u{3000}", "\u{a0}", " \u{2003}\u{85}", "\r\n \u{3000} ", ""] {
        for value in ["お知らせ", "s", ""] {
            let raw =
                format!("From: a@b.example\r\nSubject:{blank}{value}{blank}\r\nX-Auth-Key: {KEY}\r\n\r\nbody\r\n");
            let (mail, _) = brought(raw.as_bytes()).unwrap_or_else(|said| panic!("{said} {blank:?}"));
            assert_eq!((mail.head().keys.len(), mail.head().malformed), (1, false), "{blank:?}");
            let whole = format!("{blank}{value}{blank}").replace("\r\n", "\n");
            assert_eq!(mail.named("Subject").next().unwrap().value, whole.as_bytes());
        }
    }
}

#[test]
fn a_body_that_does_not_begin_with_the_header_is_refused_and_so_is_one_that_differs_where_that_matters() {
    let tell = |body: &[u8], fields: &[&[u8]]| {
        let mut session = session(STALWART, Limits::default());
        take(&mut session, b'D', b"C{daemon_name}\0Stalwart v0.17.0\0");
        take(&mut session, b'M', b"<>\0");
        fields.iter().for_each(|field| _ = take(&mut session, b'L', field));
        take(&mut session, b'N', b"");
        let mut out = BytesMut::new();
        let act = session.take(&Frame::new(b'B', &[body]), &mut out).unwrap();
        (matches!(act, Act::Examine(_)), out.get(5..).map(|out| String::from_utf8_lossy(out).into_owned()))
    };
    let fields: [&[u8]; 2] = [b"From\0a@b.example\0", b"Subject\0s\0"];
    let (_, said) = tell(b"hello\r\n\r\n", &fields);
    assert!(said.unwrap().starts_with("451 4.3.5 "));
    // Not all of the header is there yet.
    assert_eq!(tell(b"hello\r\n", &fields), (false, Some(String::new())));
    assert!(tell(b"From: a@b.example\r\nSubject: t\r\n\r\nx", &fields).0, "no field of it may have to be deleted");
    let fields: [&[u8]; 2] = [b"From\0a@b.example\0", b"X-Auth-Key\0s\0"];
    let (_, said) = tell(b"From: a@b.example\r\nX-Auth-Key: t\r\n\r\nx", &fields);
    assert!(said.unwrap().starts_with("554 5.6.0 "));
}

#[test]
fn a_header_beyond_all_bounds_is_refused_for_good() {
    let limits = || Limits::default().with(|limits| limits.mta.header_octets = 200);
    let raw = |octets: usize| format!("From: a@b.example\r\nX: {}\r\n\r\nbody\r\n", "x".repeat(octets));
    let (mail, body) = bring(&mut session(STALWART, limits()), raw(250).as_bytes(), 10).unwrap();
    assert_eq!((mail.head().truncated, body.as_slice()), (true, &b"body\r\n"[..]));
    let refused = bring(&mut session(STALWART, limits()), raw(500).as_bytes(), 10).unwrap_err();
    assert!(refused.starts_with("552 5.3.4 "), "{refused}");
}

#[test]
fn only_the_daemons_own_name_makes_a_stalwart() {
    let mut session = session(STALWART, Limits::default());
    for (macros, is_one) in [
        ("C{daemon_name}\0Stalwart v0.15.5\0", true),
        ("C{daemon_name}\0Stalwart Mail Server v0.9.4\0", true),
        ("C{daemon_name}\0Stalwart\0v\0Postfix 3.7.11\0", false),
        ("Cv\0Postfix 3.7.11\0{daemon_name}\0Stalwart\0", false),
        ("C{daemon_name}\0smtp stalwart\0", false),
        ("C", false),
    ] {
        take(&mut session, b'A', b"");
        take(&mut session, b'K', b"");
        take(&mut session, b'D', macros.as_bytes());
        assert_eq!(session.peer().is_some(), is_one, "{macros}");
    }
    assert!(UNFIT.starts_with("451 4.3.5 "));
}

/// Fields of many spellings, no two lines of which Stalwart takes for one.
fn field() -> impl Strategy<Value = Vec<u8>> {
    let name = prop::sample::select(vec![
        "X-Auth-Key",
        "x-auth-key",
        "X-New-Auth-Key",
        "X-Auth-Key-Status",
        "X-AUTH-KEY-STATUS",
        "Subject",
        "X-Other",
        "Authentication-Results",
    ]);
    let blank = prop::sample::select(vec!["", "", " ", "\t", "  "]);
    let value = prop::sample::select(vec![
        &b""[..],
        b"a",
        b" a",
        b"  a  ",
        b" a\r\n b",
        b"\r\n a",
        b" a\r\n \r\n\tb",
        b" J\xfcrgen",
        b" \xc3\xbc",
        b" a:b",
        b" Vb3kQ9w2Zr7tYp0sXn4mLc8dHf1gJa6eUi5oRk2yTq9wEz3xBv7nMs4pDl8hGj0K",
    ]);
    (name, blank, value)
        .prop_map(|(name, blank, value)| [name.as_bytes(), blank.as_bytes(), b":", value, b"\r\n"].concat())
}

proptest! {
    /// What arrives behind a Stalwart that does what we answer is the message that was sent, less keys and forged statuses.
    #[test]
    fn our_answer_applied_by_stalwart_is_the_reference(
        fields in prop::collection::vec(field(), 0..12), body in prop::sample::select(vec![&b""[..], b"x", b"a\r\n\r\n.b\r\n", b"X-Auth-Key-Status: x\r\n"]), piece in 1..80usize,
    ) {
        let raw = [b"From: alice@one.example\r\n", fields.concat().as_slice(), b"\r\n", body].concat();
        let mut session = session(STALWART, Limits::default());
        let (mail, told) = bring(&mut session, &raw, piece).unwrap();
        prop_assert_eq!(told, body);
        let reply = cleaning(&mail);
        let arrived = applied(&mut session, &mail, &reply, &raw);
        let wanted = reference(&raw);
        // Stalwart writes a space where a value has none.
        let spaced = |octets: &[u8]| {
            let (fields, body) = known(octets);
            let fields: Vec<_> = fields.into_iter().map(|(name, value)| (name, value.trim_ascii_start().to_vec())).collect();
            (fields, body)
        };
        prop_assert_eq!(spaced(&arrived), spaced(&wanted));
    }

    /// Whatever octets come, a message is a mail without a key among its fields, or is refused with words.
    #[test]
    fn any_octets_are_a_mail_or_a_refusal(raw in prop::collection::vec(prop::sample::select(b"\r\n\t :XxAa-\0\xffZ".to_vec()), 0..200), piece in 1..50usize) {
        match bring(&mut session(STALWART, Limits::default()), &raw, piece) {
            Ok((mail, _)) => prop_assert!(mail.named("X-Auth-Key").next().is_none()),
            Err(said) => prop_assert!(said.starts_with("451 ") || said.starts_with("55"), "{}", said),
        }
    }
}
