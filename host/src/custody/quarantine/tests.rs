//! A kept message against the message as it was sent.

use super::*;
use crate::case::{
    By, Decision, Disposition, Envelope, Found, Head, KeyStatus, Mail, MarkAs, Notify, Reply, ReversePath,
};
use crate::case::{Verdict, Why};
use crate::proto::address::Address;
use crate::proto::header::{Bounds, KEY_FIELD, inject, scan, strip};
use crate::proto::key::AuthKey;

const KEY: &str = "Vb3kQ9w2Zr7tYp0sXn4mLc8dHf1gJa6eUi5oRk2yTq9wEz3xBv7nMs4pDl8hGj0K";
const BOUNDS: Bounds = Bounds { fields: 100, octets: 100_000 };
const STATUS: &str = "INVALIDKEY; address=alice@sender.example; by=mx.home.example; reason=wrong";

/// A message as the door tells it of these octets: cut into fields, folds with LF, keys apart.
fn case(sent: &[u8], owed: Vec<Owed>) -> (Case, Body) {
    let block = scan(sent, BOUNDS);
    let octets = |range: &std::ops::Range<usize>| sent[range.clone()].to_vec();
    let mut fields = Vec::new();
    for span in &block.fields {
        let name = String::from_utf8(octets(&span.name)).unwrap();
        let value = octets(&span.value);
        let lines = value.split(|&o| o == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        fields.push(Field { name, value: lines.collect::<Vec<_>>().join(&b'\n') });
    }
    fields.retain(|field| !field.name.eq_ignore_ascii_case(KEY_FIELD));
    let body = sent[block.end..].strip_prefix(b"\r\n").unwrap_or(&sent[block.end..]).to_vec();
    let address = |text: &str| Address::parse(text.as_bytes(), true).ok();
    let recipient = |text: &str| Recipient::new(format!("<{text}>"));
    let found = Found::bare(KeyStatus::Invalid, Some(Why::Wrong), address("alice@sender.example"));
    let case = Case {
        mail: Mail::new(
            Envelope {
                queue_id: Some("4F1".into()),
                reverse_path: ReversePath::Path(address("bounce@sender.example")),
                recipients: vec![recipient("bob@home.example"), recipient("Carol+x@home.example"), recipient("root")],
                ..Envelope::default()
            },
            Head { fields, keys: vec![AuthKey::parse(KEY.as_bytes()).ok()], ..Head::default() },
        ),
        finding: Finding::Found(found),
        decisions: vec![Decision {
            recipients: vec![0, 1, 2],
            by: By::Site,
            mark: MarkAs::Header,
            policy: "quarantine".into(),
            digest: String::new(),
            disposition: Disposition::Quarantine,
            notify: Notify::default(),
            reason: String::new(),
            fault: None,
            clamped: None,
            passed_over: None,
            rules_unread: None,
            shadow: None,
            facts: Default::default(),
            settings: Default::default(),
        }],
        reply: Reply { owed, ..Reply::bare(Verdict::Discard) },
    };
    (case, Body(body))
}

fn settings() -> Settings {
    let config = Config { hostname: "mx.home.example".into(), ..Config::default() };
    Settings::from_config(&config, &Arc::new(Limits::default()))
}

fn kept(sent: &[u8]) -> Kept {
    let (case, body) = case(sent, vec![Owed::Record, Owed::Quarantine(vec![0, 1, 2])]);
    settings().kept(&case, &body, SystemTime::UNIX_EPOCH).remove(0)
}

#[test]
fn a_kept_message_is_the_original_octet_by_octet_less_its_keys_with_our_status_on_top() {
    let header = "Received: from x\r\n\tby y;\r\n  now\r\nFrom: Alice <alice@sender.example>\r\n";
    let more =
        "Subject: =?utf-8?q?gr=C3=BC=C3=9Fe?=\r\n \t folded  \r\nX-Empty:\r\nx-NoSpace:v\r\n8-Bit: gr\u{fc}\u{df}e\r\n";
    let keys = format!("X-Auth-Key: {KEY}\r\nx-auth-key:\r\n {KEY}\r\n");
    let forged = "X-Auth-Key-Status: VALIDKEY\r\nx-addrauth-mark: v1 1 x\r\n";
    let latin = b"ISO: gr\xfc\xdfe\r\n";
    let bodies: [&[u8]; 9] = [
        b"",
        b"hello\r\n",
        b"no line end",
        b".\r\n..\r\n.x\r\n",
        b"a\nbare\n.\nline feeds\r\n",
        b"\r\n\r\n\r\n",
        b"nul \0 and \xff\xfe\r\n",
        b"a bare \r inside\r\n",
        b"X-Auth-Key: speaks of it\r\n",
    ];
    for body in bodies {
        for extra in [&b""[..], latin] {
            let sent =
                [header.as_bytes(), keys.as_bytes(), extra, more.as_bytes(), forged.as_bytes(), b"\r\n", body].concat();
            let bare = strip(&sent, &[KEY_FIELD, STATUS_FIELD, MARK_FIELD], BOUNDS).unwrap();
            let want = inject(&bare, 0, STATUS_FIELD, format!(" {STATUS}").as_bytes()).unwrap();
            let kept = kept(&sent);
            assert_eq!(kept.message, want, "{:?}", body.escape_ascii().to_string());
            assert!(!kept.message.windows(KEY.len()).any(|window| window == KEY.as_bytes()));
        }
    }
}

#[test]
fn a_copy_carries_the_mark_too_and_stands_beside_what_is_quarantined() {
    let (case, body) = case(b"Subject: x\r\n\r\ny\r\n", vec![Owed::Quarantine(vec![1]), Owed::Copy(vec![0])]);
    let all = settings().kept(&case, &body, SystemTime::UNIX_EPOCH);
    let [quarantined, copy] = &all[..] else { panic!("one of each: {all:?}") };
    assert_eq!((quarantined.copy, copy.copy), (false, true));
    assert_eq!(quarantined.recipients, ["Carol+x@home.example"]);
    assert_eq!(copy.recipients, ["bob@home.example"]);
    let text = String::from_utf8(copy.message.clone()).unwrap();
    assert_eq!(text, format!("X-Auth-Key-Status: {STATUS}\r\nX-Spam-Flag: YES\r\nSubject: x\r\n\r\ny\r\n"));
}

#[test]
fn what_lists_tell_of_it_is_printable_and_bounded() {
    let kept = kept("Subject: caf\u{e9}\r\n \u{1b}[2J\tend\r\n\r\n".as_bytes());
    assert_eq!(kept.subject, "caf? ?[2J end");
    assert_eq!(kept.reason.as_str(), "quarantine: invalid (wrong)");
    assert_eq!(kept.recipients, ["bob@home.example", "Carol+x@home.example", "root"]);
    assert_eq!(
        (kept.reverse_path.as_str(), kept.sender.as_deref()),
        ("bounce@sender.example", Some("alice@sender.example"))
    );
    assert_eq!(printable(&[b'x'; 999], 200).len(), 200);
}

#[test]
fn a13_a_key_that_a_malformed_message_hides_is_not_kept() {
    let sent = format!("Subject: x\r\n\r\nX-Auth-Key: {KEY}\r\nmore\r\n\r\nend\r\n");
    let (mut case, body) = case(sent.as_bytes(), vec![Owed::Quarantine(vec![0])]);
    case.mail = case.mail.altered(|_, head| {
        head.malformed = true;
        head.fields.push(Field { name: "X".into(), value: format!(" a\rX-Auth-Key: {KEY}").into_bytes() });
    });
    let kept = settings().kept(&case, &body, SystemTime::UNIX_EPOCH).remove(0);
    let text = String::from_utf8(kept.message).unwrap();
    assert!(!text.contains(KEY) && text.ends_with("Subject: x\r\n\r\nmore\r\n\r\nend\r\n"), "{text}");
}

#[test]
fn a_value_stays_one_field_whatever_line_breaks_it_has() {
    for (value, want) in [
        (&b" a\n b"[..], &b" a\r\n b"[..]),
        (b" a\r\n\tb", b" a\r\n\tb"),
        (b" a\nX-Auth-Key: b", b" a X-Auth-Key: b"),
        (b" a\n", b" a "),
        (b" a\n\nb", b" a  b"),
        (b"", b""),
    ] {
        let mut octets = Vec::new();
        write_value(&mut octets, value);
        assert_eq!(octets, want);
    }
}

#[test]
fn a_time_that_no_clock_reaches_keeps_for_a_century() {
    let mut settings = settings();
    settings.kept_for = Duration::MAX;
    let (case, body) = case(b"Subject: x\r\n\r\n", vec![Owed::Quarantine(vec![0])]);
    let kept = settings.kept(&case, &body, SystemTime::UNIX_EPOCH).remove(0);
    assert!(kept.expires > SystemTime::UNIX_EPOCH + Duration::from_secs(99 * 365 * 86_400));
}

#[test]
fn a13_a_key_behind_a_bare_cr_is_not_kept_even_where_the_fields_first_line_is_empty() {
    let hidden = |value: &[u8]| {
        let (mut case, body) = case(b"From: a@sender.example\r\n\r\nx\r\n", vec![Owed::Quarantine(vec![0])]);
        case.mail = case.mail.altered(|_, head| {
            head.fields.push(Field { name: "Subject".into(), value: value.to_vec() });
            head.malformed = true;
        });
        let kept = settings().kept(&case, &body, SystemTime::UNIX_EPOCH).remove(0);
        !kept.message.windows(KEY.len()).any(|window| window == KEY.as_bytes())
    };
    assert!(hidden(format!(" foo\rX-Auth-Key: {KEY}").as_bytes()));
    assert!(hidden(format!("\n foo\rX-Auth-Key: {KEY}").as_bytes()));
}

/// A copy of a key, in whatever field or part, is not kept: the rest of the message is, octet by octet.
#[test]
fn a13_copies_of_a_key_are_not_kept() {
    let (begin, end) = KEY.split_at(20);
    let sent = |key: &str, folded: &str| {
        format!(
            "DKIM-Signature: v=1; z=From:=20a|X-Auth-Key:=20{key}|Date:=20x;\r\n\tb=abc\r\nSubject: {key} and more\r\n\
             X-Original-X-Auth-Key: {folded}\r\nFrom: <alice@sender.example>\r\n\r\n\
             Dear bob,\r\n\r\n> X-Auth-Key: {folded}\r\nhttp://x.example/?{key}&x=1\r\n.\r\n"
        )
    };
    let (case, body) = case(sent(KEY, &format!("{begin}\r\n {end}")).as_bytes(), vec![Owed::Quarantine(vec![0])]);
    let kept = settings().kept(&case, &body, SystemTime::UNIX_EPOCH).remove(0);
    let text = String::from_utf8(kept.message).unwrap();
    let removed = crate::proto::redact::REMOVED;
    assert_eq!(text, format!("X-Auth-Key-Status: {STATUS}\r\n{}", sent(removed, removed)));
    assert_eq!(kept.subject, format!("{removed} and more"));
}

/// A line of junk makes a body of what follows: a key field there is not kept, however far behind.
#[test]
fn a13_a_key_line_far_down_in_what_a_line_of_junk_cut_off_is_not_kept() {
    for (lines, malformed) in [(1, true), (10_000, true), (10_000, false)] {
        let filler = "X-Filler: a line that is not empty\r\n".repeat(lines);
        let hidden = format!(
            "junk\r\n{filler}X-New-Auth-Key:\r\n {KEY}\r\nx-auth-key: {KEY}\r\nTo: b\r\n\r\nk={KEY}\r\nend\r\n"
        );
        let (mut case, _) = case(b"Subject: x\r\n\r\n", vec![Owed::Quarantine(vec![0])]);
        case.mail = case.mail.altered(|_, head| (head.malformed, head.keys) = (malformed, Vec::new()));
        let kept = settings().kept(&case, &Body(hidden.into_bytes()), SystemTime::UNIX_EPOCH).remove(0);
        let text = String::from_utf8(kept.message).unwrap();
        assert!(
            !text.contains(KEY) && text.ends_with("not empty\r\nTo: b\r\n\r\nk=[key-removed]\r\nend\r\n"),
            "{lines}"
        );
    }
}

#[test]
fn a13_nothing_is_sent_from_a_reverse_path_that_repeats_a_key() {
    let (mut case, body) = case(b"Subject: x\r\n\r\nx\r\n", vec![Owed::Quarantine(vec![0])]);
    let path = ReversePath::Path(Address::parse(format!("{}@x.example", &KEY[..64]).as_bytes(), false).ok());
    case.mail = case.mail.altered(|envelope, _| envelope.reverse_path = path);
    let kept = settings().kept(&case, &body, SystemTime::UNIX_EPOCH).remove(0);
    assert_eq!(kept.reverse_path, "");
}
