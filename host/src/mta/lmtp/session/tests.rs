use proptest::prelude::*;

use super::*;
use crate::case::ReversePath;

/// A session that is greeted and offers everything.
fn session(limits: &Limits) -> Session {
    let mut session = Session::new(limits);
    let mut out = Vec::new();
    assert!(matches!(session.take(b"LHLO mx.home.example\r\n", &mut out), (_, Act::Greet)));
    let offers = ["x", "8BITMIME", "CHUNKING", "BINARYMIME", "SMTPUTF8", "SIZE 1000", "DSN"].map(str::as_bytes);
    session.greet("here", &Offers::read(offers), &mut out);
    session
}

/// What came of a conversation: the replies, and each message as header, body and recipients.
#[derive(Debug, Default, PartialEq, Eq)]
struct Heard {
    replies: String,
    messages: Vec<(Vec<u8>, Vec<u8>, usize)>,
    given_up: usize,
}

/// Has a conversation in pieces of these sizes. A message is answered with 250 for each recipient.
fn heard(session: &mut Session, octets: &[u8], sizes: &[usize]) -> Heard {
    let (mut heard, mut out, mut window) = (Heard::default(), Vec::new(), Vec::new());
    let (mut at, mut sizes) = (0, sizes.iter().cycle());
    let mut current: Option<(Vec<u8>, Vec<u8>)> = None;
    let mut failed = false;
    // Each act either reads octets, ends a message or waits: no conversation takes more.
    for _ in 0..octets.len() * 4 + 1_000 {
        let (used, act) = session.take(&window, &mut out);
        assert!(used <= window.len());
        window.drain(..used);
        match act {
            Act::Wait => {
                if at == octets.len() {
                    heard.replies = String::from_utf8_lossy(&out).into_owned();
                    return heard;
                }
                let end = octets.len().min(at + sizes.next().map_or(1, |size| 1 + size % 5_000));
                window.extend_from_slice(&octets[at..end]);
                at = end;
            }
            Act::Said => {}
            Act::Greet => session.greet("here", &Offers::default(), &mut out),
            Act::Admit => session.admit(SystemTime::UNIX_EPOCH, &mut out),
            Act::Examine(mail) => {
                assert_eq!((mail.door, mail.recipients.len()), (Door::Delivery, session.recipients()));
                let cut = session.header().expect("a header");
                current = Some((cut.with(&[]).expect("nothing is changed").to_vec(), session.piece()));
                failed = false;
            }
            Act::Fail(_) => failed = true,
            Act::Piece => {
                let piece = session.piece();
                if let Some((_, body)) = &mut current {
                    body.extend(piece);
                }
            }
            Act::End => {
                let recipients = session.recipients();
                session.answer(std::iter::repeat_n(&b"250 2.0.0 Ok"[..], recipients), &mut out);
                match current.take() {
                    Some((head, body)) => heard.messages.push((head, body, recipients)),
                    None => {
                        assert!(failed, "what comes to its end was examined, or failed before");
                        heard.given_up += 1;
                    }
                }
            }
            Act::Abandon => current = None,
            Act::Quit => {
                heard.replies = String::from_utf8_lossy(&out).into_owned();
                return heard;
            }
        }
    }
    panic!("a conversation of {} octets comes to no end", octets.len());
}

fn codes(replies: &str) -> Vec<&str> {
    replies.lines().filter(|line| line.as_bytes().get(3) != Some(&b'-')).map(|line| &line[..3]).collect()
}

const MESSAGE: &str = "From: Alice <alice@example.com>\r\nX-Auth-Key: k\r\nSubject: x\r\n\r\n..one\r\n.\n\r\nend\r\n";

#[test]
fn a_message_in_one_piece_is_heard_and_each_recipient_is_answered() {
    let said = format!(
        "XFORWARD ADDR=192.0.2.7 IDENT=4XyZ\r\nMAIL FROM:<a@b.example> SIZE=12 BODY=8BITMIME\r\nRCPT TO:<bob@home.example>\r\n\
         RCPT TO:<carol@home.example> NOTIFY=NEVER\r\nDATA\r\n{}.\r\nQUIT\r\n",
        MESSAGE.replace("\r\n.", "\r\n..")
    );
    for size in [0, 3, 70, 4_999] {
        let heard = heard(&mut session(&Limits::default()), said.as_bytes(), &[size]);
        assert_eq!(codes(&heard.replies), ["250", "250", "250", "250", "354", "250", "250", "221"]);
        let (head, body) = MESSAGE.split_at(MESSAGE.find("..one").unwrap());
        assert_eq!(heard.messages, [(head.as_bytes().to_vec(), body.as_bytes().to_vec(), 2)], "{size}");
    }
}

#[test]
fn chunks_are_octets_and_their_end_is_a_number() {
    let said = format!(
        "MAIL FROM:<> BODY=BINARYMIME\r\nRCPT TO:<bob@home.example>\r\nBDAT {}\r\n{MESSAGE}BDAT 7 LAST\r\n\r\n.\r\n\0\nQUIT\r\n",
        MESSAGE.len()
    );
    for size in [0, 9, 4_999] {
        let heard = heard(&mut session(&Limits::default()), said.as_bytes(), &[size]);
        assert_eq!(codes(&heard.replies), ["250", "250", "250", "250", "221"], "{}", heard.replies);
        let (head, body) = MESSAGE.split_at(MESSAGE.find("..one").unwrap());
        let body = [body.as_bytes(), b"\r\n.\r\n\0\n"].concat();
        assert_eq!(heard.messages, [(head.as_bytes().to_vec(), body, 1)]);
    }
}

#[test]
fn what_smugglers_write_is_text_of_one_message() {
    for line in ["\n.\n", "\r\n.\n", "\n.\r\n", "\r.\r", "\r\n.\r", "\0\r\n.\0\r\n", "\n\n.\n\n"] {
        let smuggled = format!("{line}MAIL FROM:<x@y>\r\nRCPT TO:<carol@home.example>\r\nDATA\r\nSubject: two\r\n\r\n");
        let said = format!(
            "MAIL FROM:<>\r\nRCPT TO:<bob@home.example>\r\nDATA\r\nSubject: one\r\n\r\na{smuggled}.\r\nQUIT\r\n"
        );
        let heard = heard(&mut session(&Limits::default()), said.as_bytes(), &[4]);
        assert_eq!(codes(&heard.replies), ["250", "250", "354", "250", "221"], "{line:?}");
        assert_eq!(heard.messages.len(), 1);
    }
}

#[test]
fn commands_have_an_order_and_a_length_and_there_are_so_many_in_a_row() {
    for (said, expected) in [
        ("RCPT TO:<a@b>\r\nDATA\r\nBDAT 3 LAST\r\nabcNOOP\r\n", vec!["503", "503", "503", "250"]),
        ("MAIL FROM:<>\r\nMAIL FROM:<>\r\nDATA\r\nRSET\r\nDATA\r\n", vec!["250", "503", "503", "250", "503"]),
        ("MAIL FROM:<> X=1\r\nRCPT TO:<a@b>\r\nDATA\r\n", vec!["555", "555", "555"]),
        ("EHLO a\r\nVRFY a\r\nMAIL FROM:a\r\nNOOP\n.\r\n", vec!["500", "252", "451", "501"]),
        ("MAIL FROM:<>\r\nRCPT TO:<>\r\nRCPT TO:<a> X\r\nRCPT TO:<a>\r\n", vec!["250", "451", "555", "250"]),
        // A stranger's address that cannot be read waits in the queue, with all that is sent along.
        ("MAIL FROM:<a\tb>\r\nRCPT TO:<a>\r\nDATA\r\nRSET\r\nDATA\r\n", vec!["451", "451", "451", "250", "503"]),
    ] {
        assert_eq!(codes(&heard(&mut session(&Limits::default()), said.as_bytes(), &[1]).replies), expected, "{said}");
    }
    let long = format!("NOOP {}\r\nNOOP\r\n", "x".repeat(10_000));
    assert_eq!(codes(&heard(&mut session(&Limits::default()), long.as_bytes(), &[700]).replies), ["500", "250"]);
    for (verb, code) in [("MAIL FROM:<", "451"), ("RCPT TO:<", "451"), ("NOOP ", "500")] {
        let long = format!("{verb}{}\nNOOP\r\rNOOP\r\nNOOP\r\n", "x".repeat(10_000));
        for size in [1, 700, 4_999] {
            let heard = heard(&mut session(&Limits::default()), long.as_bytes(), &[size]);
            assert_eq!(codes(&heard.replies), [code, "250"], "{verb}");
        }
    }
    let many = heard(&mut session(&Limits::default()), "NOOP\r\n".repeat(500).as_bytes(), &[700]);
    assert_eq!(codes(&many.replies).last(), Some(&"421"));
    let fresh = heard(&mut Session::new(&Limits::default()), b"MAIL FROM:<>\r\nLHLO\r\n", &[700]);
    assert_eq!(codes(&fresh.replies), ["503", "501"]);
}

#[test]
fn a_recipient_too_many_and_a_header_too_long_are_refused_for_now() {
    let limits = Limits::default().with(|limits| (limits.mta.recipients, limits.mta.lmtp_header) = (1, 20_000));
    let long = format!(
        "MAIL FROM:<>\r\nRCPT TO:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n{}\r\nx\r\n.\r\nNOOP\r\n",
        "Subject: x\r\n".repeat(3_000)
    );
    let heard = heard(&mut session(&limits), long.as_bytes(), &[999]);
    assert_eq!((heard.messages.len(), heard.given_up), (0, 1));
    assert_eq!(codes(&heard.replies), ["250", "250", "452", "354", "250", "250"]);
}

#[test]
fn the_envelope_is_what_the_mta_said() {
    let mut session = session(&Limits::default());
    let said = "XFORWARD NAME=mail.example ADDR=192.0.2.7 HELO=h IDENT=4XyZ\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<bob>\r\nDATA\r\n\
                From: c@d.example\r\n\r\n.\r\n";
    let (mut octets, mut out) = (said.as_bytes(), Vec::new());
    let mail = loop {
        let (used, act) = session.take(octets, &mut out);
        octets = &octets[used..];
        match act {
            Act::Admit => session.admit(SystemTime::UNIX_EPOCH, &mut out),
            Act::Examine(mail) => break mail,
            _ => {}
        }
    };
    let client = &mail.client;
    assert_eq!(client.ip.map(|ip| ip.to_string()).as_deref(), Some("192.0.2.7"));
    assert_eq!((client.name.as_deref(), client.server.as_deref()), (Some("mail.example"), Some("mx.home.example")));
    assert_eq!((mail.queue_id.as_deref(), mail.daemon.as_str(), mail.login.as_deref()), (Some("4XyZ"), "lmtp", None));
    assert!(matches!(&mail.reverse_path, ReversePath::Path(Some(path)) if path.to_string() == "a@b.example"));
    assert_eq!(mail.recipients[0].path, b"<bob>");
    assert_eq!(session.wishes(), [b"".to_vec()]);
}

/// Words of which conversations are made, good ones and bad ones.
fn words() -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![
        Just(b"MAIL FROM:<a@b.example>\r\n".to_vec()),
        Just(b"RCPT TO:<bob@home.example>\r\n".to_vec()),
        Just(b"DATA\r\n".to_vec()),
        Just(b"From: a@b.example\r\nX-Auth-Key: k\r\n\r\nbody\r\n".to_vec()),
        Just(b".\r\n".to_vec()),
        Just(b"\r\n.\r\n".to_vec()),
        Just(b"\n.\n".to_vec()),
        Just(b"BDAT 5\r\n12345".to_vec()),
        Just(b"BDAT 0 LAST\r\n".to_vec()),
        Just(b"BDAT 3 LAST\r\n.\r\n".to_vec()),
        Just(b"RSET\r\n".to_vec()),
        Just(b"LHLO x\r\n".to_vec()),
        Just(b"XFORWARD ADDR=1.2.3.4\r\n".to_vec()),
        prop::collection::vec(any::<u8>(), 0..40),
    ];
    prop::collection::vec(word, 0..40).prop_map(|words| words.concat())
}

proptest! {
    #[test]
    fn any_octets_in_any_pieces_are_one_conversation(said in words(), sizes in prop::collection::vec(any::<usize>(), 1..9)) {
        let whole = heard(&mut session(&Limits::default()), &said, &[4_999]);
        let pieces = heard(&mut session(&Limits::default()), &said, &sizes);
        prop_assert_eq!(&pieces, &whole);
        let answers: usize = whole.messages.iter().map(|(.., recipients)| recipients).sum();
        prop_assert!(whole.replies.matches("250 2.0.0 Ok\r\n").count() >= answers);
    }

    #[test]
    fn a_body_of_any_octets_comes_through_as_it_is(body in prop::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'.'), any::<u8>()], 0..300), size: usize) {
        let message = [b"From: a@b.example\r\n\r\n".as_slice(), &body, b"\r\n"].concat();
        let mut wire = b"MAIL FROM:<>\r\nRCPT TO:<b@c>\r\nDATA\r\n".to_vec();
        let mut last: &[u8] = b"\r\n";
        for at in 0..message.len() {
            if message[at] == b'.' && last.ends_with(b"\r\n") {
                wire.push(b'.');
            }
            wire.push(message[at]);
            last = &message[..=at];
        }
        wire.extend_from_slice(b".\r\nQUIT\r\n");
        let heard = heard(&mut session(&Limits::default()), &wire, &[size]);
        let expected = [body.as_slice(), b"\r\n"].concat();
        prop_assert_eq!(heard.messages, vec![(b"From: a@b.example\r\n\r\n".to_vec(), expected, 1)]);
    }
}
