use proptest::prelude::*;

use super::*;

const KEY: &[u8] = b"Vb3kQ9w2Zr7tYp0sXn4mLc8dHf1gJa6eUi5oRk2yTq9wEz3xBv7nMs4pDl8hGj0K";
const SEQ: &str = "00112233445566778899aabbccddeeff";
const PROOF: &str = "h1._rAsoD7yZ6cqlf4q2GMiPXaF0RJlCyb0VlTrPCC084U";

fn question(address: &str, from: &str) -> Question {
    let address = Address::parse(address.as_bytes(), true).unwrap();
    Question::new(SEQ.into(), &address, &AuthKey::parse(KEY).unwrap(), from)
}

fn refusal(line: &[u8]) -> Option<Reason> {
    match Request::read(line, DATAGRAM_MAX) {
        Request::Refused { reason, .. } => Some(reason),
        _ => None,
    }
}

/// `VERIFY 1 a@b.test` and what follows.
fn after_address(rest: &str) -> Vec<u8> {
    format!("VERIFY 1 a@b.test{rest}").into_bytes()
}

#[test]
fn the_published_question_is_written_and_read() {
    let line = question("alice@example.com", "example.net").line(DATAGRAM_MAX).unwrap();
    assert_eq!(line, format!("VERIFY {SEQ} alice@example.com {PROOF} v=1 from=example.net\r\n").into_bytes());
    let Request::Asked { seq, address, decoded, credential, tags } = Request::read(&line, DATAGRAM_MAX) else {
        panic!("not read")
    };
    assert_eq!((seq, address, decoded.as_str()), (SEQ.as_bytes(), &b"alice@example.com"[..], "alice@example.com"));
    assert_eq!((credential, tags), (Credential::Proof(PROOF.as_bytes()), &b"v=1 from=example.net"[..]));
}

#[test]
fn what_does_not_parse_up_to_the_address_is_not_answered() {
    let long = format!("VERIFY 1 {}@b.test\r\n", "a".repeat(248));
    for line in [
        "",
        "VERIFY",
        "VERIFY ",
        "VERIFY 1",
        "VERIFY 1 ",
        "VERIFY 1 \r\n",
        "VERIFY  1 a@b.test x\r\n",
        "VERIFY 1  a@b.test x\r\n",
        "verify 1 a@b.test x\r\n",
        "VERIFY g a@b.test x\r\n",
        "VERIFY 000000000000000000000000000000001 a@b.test x\r\n",
        "VERIFY 1 a%4@b.test x\r\n",
        "VERIFY 1 a%zz@b.test x\r\n",
        "VERIFY 1 a%ff@b.test x\r\n",
        "VERIFY 1 a\t@b.test x\r\n",
        "VERIFY 1 a\x7f@b.test x\r\n",
        "VERIFY_REPLY 1 a@b.test VALIDKEY\r\n",
        &long,
    ] {
        assert_eq!(Request::read(line.as_bytes(), DATAGRAM_MAX), Request::Silence, "{line:?}");
    }
    assert_eq!(Request::read(b"VERIFY 1 a\xff@b.test x\r\n", DATAGRAM_MAX), Request::Silence);
    let line = question("alice@example.com", "").line(DATAGRAM_MAX).unwrap();
    assert_eq!(Request::read(&line, line.len() - 1), Request::Silence);
    assert_ne!(Request::read(&line, line.len()), Request::Silence);
}

#[test]
fn another_version_is_named_whatever_else_is_wrong() {
    for rest in [" v=2\r\n", " ??? v=2 v=1 \x01", " x v=", " v=2", " x  v=11\n", " v=1 v=2\r\nVERIFY"] {
        assert_eq!(refusal(&after_address(rest)), Some(Reason::Version), "{rest:?}");
    }
    for rest in [" x\r\n v=2", " xv=2\r\n", " V=2\r\n", "\rv=2\r\n"] {
        assert_eq!(refusal(&after_address(rest)), Some(Reason::Syntax), "{rest:?}");
    }
}

#[test]
fn everything_else_that_is_no_request_line_is_a_syntax_error() {
    let nine: String = (1..=9).map(|n| format!(" a{n}=")).collect();
    for rest in [
        "".to_owned(),
        "\r\n".to_owned(),
        " \r\n".to_owned(),
        " short\r\n".to_owned(),
        format!(" {PROOF}"),
        format!(" {PROOF}\n"),
        format!(" {PROOF}\r"),
        format!(" {PROOF}\r\n\r\n"),
        format!(" {PROOF}\r\nx"),
        format!(" {PROOF} \r\n"),
        format!(" {PROOF}  v=1\r\n"),
        format!("  {PROOF}\r\n"),
        format!(" {PROOF}x\r\n"),
        format!(" h2.{}\r\n", "a".repeat(43)),
        format!(" {}\r\n", "a".repeat(129)),
        format!(" {PROOF} v=1 v=1\r\n"),
        format!(" {PROOF} a=1 a=2\r\n"),
        format!(" {PROOF} 1a=1\r\n"),
        format!(" {PROOF} abcdefghijklmnopq=1\r\n"),
        format!(" {PROOF} a\r\n"),
        format!(" {PROOF} a={}\r\n", "x".repeat(129)),
        format!(" {PROOF} a=\u{e9}\r\n"),
        format!(" {PROOF}{nine}\r\n"),
    ] {
        assert_eq!(refusal(&after_address(&rest)), Some(Reason::Syntax), "{rest:?}");
    }
}

#[test]
fn every_form_of_the_grammar_is_a_question() {
    let eight: String = (1..=8).map(|n| format!(" a{n}=")).collect();
    for rest in [
        format!(" {PROOF}\r\n"),
        format!(" {}\r\n", "a".repeat(22)),
        format!(" {} v=1\r\n", "a".repeat(128)),
        format!(" {PROOF}{eight}\r\n"),
        format!(" {PROOF} abcdefghijklmnop={}\r\n", "~".repeat(128)),
        format!(" {PROOF} a==b A=b\r\n"),
    ] {
        assert!(matches!(Request::read(&after_address(&rest), DATAGRAM_MAX), Request::Asked { .. }), "{rest:?}");
    }
    let line = format!("VERIFY aF %61%C3%a9\u{e9}%0d%25@b.test {PROOF}\r\n");
    let Request::Asked { decoded, .. } = Request::read(line.as_bytes(), DATAGRAM_MAX) else { panic!("not read") };
    assert_eq!(decoded, "a\u{e9}\u{e9}\r%@b.test");
}

#[test]
fn a11_a_request_with_a_bare_key_prints_no_key() {
    let key = std::str::from_utf8(KEY).unwrap();
    for rest in [format!(" {key}\r\n"), format!(" {key} v=2\r\n"), format!(" {key}\n")] {
        let line = after_address(&rest);
        assert!(!format!("{:?}", Request::read(&line, DATAGRAM_MAX)).contains(&key[..8]), "{rest:?}");
    }
}

#[test]
fn d2_a_bad_reply_line_is_no_answer() {
    for line in [
        "VERIFY_REPLY 1 a@b.test VALIDKEY",
        "VERIFY_REPLY 1 a@b.test VALIDKEY\n",
        "VERIFY_REPLY 1 a@b.test VALIDKEY\r\nx",
        "VERIFY_REPLY 1 a@b.test VALIDKEY\r\n\r\n",
        "VERIFY_REPLY 1 a@b.test VALIDKEY \r\n",
        "VERIFY_REPLY 1 a@b.test\r\n",
        "VERIFY_REPLY 1 a@b.test VALID-KEY\r\n",
        "VERIFY_REPLY 1  VALIDKEY\r\n",
        "VERIFY_REPLY x a@b.test VALIDKEY\r\n",
        "VERIFY_REPLY 1 a@b.test VALIDKEY t=1 t=2\r\n",
        "VERIFY_REPLY 1 a@b.test VALIDKEY t\r\n",
        "VERIFY_REPLY 1 a@b\0.test VALIDKEY\r\n",
        "verify_reply 1 a@b.test VALIDKEY\r\n",
    ] {
        assert_eq!(Answer::parse(line.as_bytes()), None, "{line:?}");
    }
}

#[test]
fn d9_unknown_words_and_versions_read_as_unverified() {
    let read = |rest: &str| {
        let answer = Answer::parse(format!("VERIFY_REPLY 1 a@b.test {rest}\r\n").as_bytes()).unwrap();
        (answer.status, answer.valid_for, answer.reason)
    };
    assert_eq!(read("VALIDKEY t=431999"), (Status::Valid, Some(431_999), None));
    assert_eq!(read("VALIDKEY v=1 x=y t=9999999"), (Status::Valid, Some(9_999_999), None));
    for malformed in ["t=10000000", "t=", "t=+1", "t=-1", "t=1s", "t=0x1"] {
        assert_eq!(read(&format!("VALIDKEY {malformed}")), (Status::Valid, None, None), "{malformed}");
    }
    assert_eq!(read("INVALIDKEY e=expired"), (Status::Invalid, None, Some(Reason::Expired)));
    assert_eq!(read("VALIDKEY v=2 t=5"), (Status::Unverified, None, None));
    assert_eq!(read("INVALIDKEY v="), (Status::Unverified, None, None));
    for word in ["validkey", "GREYKEY", "UNVERIFIED", "VALIDKEYS"] {
        assert_eq!(read(&format!("{word} e=soon")), (Status::Unverified, None, Some(Reason::Other)), "{word}");
    }
}

#[test]
fn an_answer_is_to_its_own_question_alone() {
    let question = question("Alice@example.com", "");
    let answer = |seq: &str, address: &str| {
        Answer::parse(&reply(seq.as_bytes(), address.as_bytes(), Status::Valid, None, None, 512).unwrap()).unwrap()
    };
    assert!(question.is_answered_by(&answer(SEQ, "Alice@example.com")));
    assert!(!question.is_answered_by(&answer(SEQ, "alice@example.com")));
    assert!(!question.is_answered_by(&answer(&SEQ.to_uppercase(), "Alice@example.com")));
}

#[test]
fn a_reply_gives_up_its_tags_before_it_is_too_long() {
    let line = |room| reply(b"1", b"a@b.test", Status::Valid, Some(u32::MAX), Some(Reason::Temp), room);
    let text = |room| String::from_utf8(line(room).unwrap()).unwrap();
    assert_eq!(text(512), "VERIFY_REPLY 1 a@b.test VALIDKEY t=9999999 e=temp\r\n");
    assert_eq!(text(50), "VERIFY_REPLY 1 a@b.test VALIDKEY e=temp\r\n");
    assert_eq!(text(40), "VERIFY_REPLY 1 a@b.test VALIDKEY\r\n");
    assert_eq!(line(33), None);
}

#[test]
fn a_question_that_finds_no_room_is_not_written() {
    let question = question("alice@example.com", &"x".repeat(200));
    assert_eq!(question.tags, "v=1", "a claim that no tag can hold is left out");
    let length = question.line(DATAGRAM_MAX).unwrap().len();
    assert!(question.line(length).is_some());
    assert_eq!(question.line(length - 1), None);
}

proptest! {
    #[test]
    fn the_as_reads_what_the_verifier_wrote(local in "[ -~\u{e9}]{1,30}", from in "[a-z.]{0,20}") {
        let text = format!("\"{}\"@example.com", local.replace('\\', "\\\\").replace('"', "\\\""));
        let Ok(address) = Address::parse(text.as_bytes(), true) else { return Ok(()) };
        let key = AuthKey::parse(KEY).unwrap();
        let asked = Question::new(SEQ.into(), &address, &key, &from);
        let line = asked.line(DATAGRAM_MAX).unwrap();
        let Request::Asked { seq, address: wire, decoded, credential: Credential::Proof(proof), tags } =
            Request::read(&line, DATAGRAM_MAX)
        else {
            return Err(TestCaseError::fail("not read"));
        };
        prop_assert_eq!(decoded, address.to_string());
        prop_assert!(key.verify_key().checks(proof, seq, wire, tags));
        let answer = reply(seq, wire, Status::Invalid, None, Some(Reason::Expired), line.len()).unwrap();
        prop_assert!(asked.is_answered_by(&Answer::parse(&answer).unwrap()));
    }

    #[test]
    fn the_verifier_reads_what_the_as_wrote(status in 0..3, t in proptest::option::of(0..=VALID_FOR_MAX), e in 0..9) {
        let status = [Status::Valid, Status::Invalid, Status::Unverified][status as usize];
        let reasons = ["expired", "stream", "limit", "temp", "domain", "version", "syntax"];
        let reason = reasons.get(e as usize).map(|word| Reason::of(word.as_bytes()));
        let answer = Answer::parse(&reply(b"0f", b"a%20b", status, t, reason, 512).unwrap()).unwrap();
        let t = t.filter(|_| status == Status::Valid);
        prop_assert_eq!(answer, Answer { seq: "0f".into(), address: "a%20b".into(), status, valid_for: t, reason });
    }

    #[test]
    fn no_line_upsets_either_side(octets in prop::collection::vec(any::<u8>(), 0..600), room in 0..600_usize) {
        let _ = Answer::parse(&octets);
        if let Request::Refused { seq, address, reason } = Request::read(&octets, room) {
            let line = reply(seq, address, Status::Unverified, None, Some(reason), octets.len());
            prop_assert!(line.is_none_or(|line| line.len() <= octets.len()));
        }
    }

    #[test]
    fn a_line_near_the_grammar_is_answered_within_its_length(rest in "( (v=1|v=2|h1\\.[a-z]{43}|[a-z]{22}|t=[0-9]{1,8}|\u{e9}))*[ \r\n]{0,3}") {
        let line = after_address(&rest);
        let _ = Answer::parse(format!("VERIFY_REPLY 1 a@b.test VALIDKEY{rest}").as_bytes());
        let (seq, address, reason) = match Request::read(&line, DATAGRAM_MAX) {
            Request::Refused { seq, address, reason } => (seq, address, reason),
            Request::Asked { seq, address, .. } => (seq, address, Reason::Domain),
            Request::Silence => return Ok(()),
        };
        prop_assert_eq!((seq, address), (&b"1"[..], &b"a@b.test"[..]));
        if let Some(answer) = reply(seq, address, Status::Unverified, None, Some(reason), line.len()) {
            prop_assert!(answer.len() <= line.len());
            prop_assert_eq!(Answer::parse(&answer).unwrap().status, Status::Unverified);
        }
    }
}
