use super::*;
use crate::case::{Decision, Envelope, Field, Finding, Head, Notify, Owed, Recipient, Reply, Verdict};
use crate::proto::address::Address;
use crate::proto::key::AuthKey;

const KEY: &str = "Vb3kQ9w2Zr7tYp0sXn4mLc8dHf1gJa6eUi5oRk2yTq9wEz3xBv7nMs4pDl8hGj0K";

fn field(name: &str, value: &str) -> Field {
    Field { name: name.into(), value: value.as_bytes().to_vec() }
}

fn case(recipient: &str, sender: &str, more: Vec<Field>) -> Case {
    let address = |text: &str| Address::parse(text.as_bytes(), true).ok();
    let mut fields = vec![field("Subject", " Buy http://evil.example now"), field("From", &format!(" <{sender}>"))];
    fields.extend(more);
    let mail = Mail::new(
        Envelope {
            received: UNIX_EPOCH + std::time::Duration::from_secs(1_800_000_000),
            queue_id: Some("4XyZ<http://evil.example>".into()),
            daemon: "smtpd".into(),
            recipients: vec![Recipient::new(format!("<{recipient}>"))],
            ..Envelope::default()
        },
        Head { fields, keys: vec![AuthKey::parse(KEY.as_bytes()).ok()], ..Head::default() },
    );
    let decision = Decision {
        recipients: vec![0],
        policy: "p".into(),
        digest: String::new(),
        disposition: Disposition::Reject,
        notify: Notify { sender: false, recipient: true },
        reason: String::new(),
        fault: None,
        clamped: None,
        passed_over: None,
        rules_unread: None,
        shadow: None,
        by: crate::case::By::Site,
        mark: crate::case::MarkAs::Header,
        facts: Default::default(),
        settings: Default::default(),
    };
    let reply = Reply { owed: vec![Owed::Notice(0)], ..Reply::bare(Verdict::Discard) };
    let finding = Finding::Found(Found::bare(KeyStatus::Invalid, None, address(sender)));
    Case { mail, finding, decisions: vec![decision], reply }
}

fn sender() -> Sender {
    Sender::from_config(&Config { hostname: "mx.example.com".into(), ..Config::default() }, &Limits::default()).unwrap()
}

#[test]
fn j3_a_notice_names_the_claimed_sender_and_nothing_of_the_message() {
    let draft = sender().compose(&case("bob@example.com", "eve@x.example", vec![]), 0).unwrap();
    let text = String::from_utf8(draft.message.clone()).unwrap();
    for part in [
        "From: Mail system <postmaster@mx.example.com>\r\n",
        "To: <bob@example.com>\r\n",
        "Auto-Submitted: auto-replied\r\n",
        "eve [at] x [dot] example",
        "2027-01-15 at 08:00 UTC",
        "not delivered",
        "postmaster@mx.example.com",
        &format!("Message-ID: {}\r\n", draft.message_id),
    ] {
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
    for part in ["Buy", "evil.", "http:", KEY] {
        assert!(!text.contains(part), "{part:?} is in {text}");
    }
    assert!(text.is_ascii() && text.lines().all(|line| line.len() < 100), "{text}");
    assert_eq!((draft.recipient.as_str(), draft.sender.as_str()), ("bob@example.com", "eve@x.example"));
}

#[test]
fn j3_an_address_cannot_be_a_link_or_another_line() {
    assert_eq!(
        spelled("\"http://evil.example/ x\"@x.example"),
        "\"http???evil [dot] example??x\" [at] x [dot] example"
    );
    assert_eq!(spelled("a\r\nBcc: b@x.example"), "a??Bcc??b [at] x [dot] example");
    assert_eq!(spelled("pаypal@x.example"), "p?ypal [at] x [dot] example");
}

#[test]
fn automatic_recipients_get_no_notice() {
    for recipient in [
        "owner-list@example.com",
        "List-Request@example.com",
        "MAILER-DAEMON@example.com",
        "list-owner@example.com",
        "postmaster@mx.example.com",
        "Postmaster@mx.example.com",
    ] {
        let composed = sender().compose(&case(recipient, "eve@x.example", vec![]), 0);
        assert_eq!(composed.unwrap_err(), NotOwed::Automatic, "{recipient}");
    }
    assert_eq!(sender().compose(&case("nobody", "eve@x.example", vec![]), 0).unwrap_err(), NotOwed::NoAddress);
    assert_eq!(sender().compose(&case("bob@example.com", "", vec![]), 7).unwrap_err(), NotOwed::NoAddress);
}

#[test]
fn list_bulk_and_automatic_mail_makes_no_notice() {
    for (name, value) in [
        ("List-Id", " <x.example>"),
        ("list-unsubscribe", " <mailto:x@x.example>"),
        ("Precedence", " Bulk"),
        ("Precedence", " list "),
        ("Auto-Submitted", " auto-generated"),
        ("auto-submitted", " auto-replied; x=y"),
    ] {
        let composed = sender().compose(&case("bob@example.com", "eve@x.example", vec![field(name, value)]), 0);
        assert_eq!(composed.unwrap_err(), NotOwed::Bulk, "{name}:{value}");
    }
    for (name, value) in [("Auto-Submitted", " No"), ("Precedence", " first-class"), ("Listen", " x")] {
        assert!(sender().compose(&case("bob@example.com", "eve@x.example", vec![field(name, value)]), 0).is_ok());
    }
}

#[test]
fn j2_our_own_notice_makes_no_notice_at_another_server() {
    let notice = sender().compose(&case("bob@example.com", "eve@x.example", vec![]), 0).unwrap().message;
    let header = String::from_utf8(notice).unwrap();
    let fields = header.split("\r\n\r\n").next().unwrap().lines().filter_map(|line| line.split_once(':'));
    let fields = fields.map(|(name, value)| field(name, value)).collect();
    let composed = sender().compose(&case("bob@example.com", "postmaster@mx.example.com", fields), 0);
    assert_eq!(composed.unwrap_err(), NotOwed::Bulk);
}

#[test]
fn a_from_that_is_no_address_is_refused_with_the_way_out() {
    let mut config = Config { hostname: "mx.example.com".into(), ..Config::default() };
    config.notices.from = "x\r\nBcc: y@z.example".into();
    assert!(Sender::from_config(&config, &Limits::default()).unwrap_err().to_string().contains("notices.from"));
    config.notices.from = String::new();
    config.hostname = "mx example".into();
    assert!(Sender::from_config(&config, &Limits::default()).unwrap_err().to_string().contains("hostname"));
}

fn collected(senders: usize) -> Collected {
    Collected {
        recipient: "bob@example.com".into(),
        since: UNIX_EPOCH + std::time::Duration::from_secs(1_800_000_000),
        count: 9_995,
        senders: (0..senders).map(|n| format!("eve{n}@x.example")).collect(),
    }
}

#[test]
fn a_digest_counts_and_names_as_many_senders_as_it_may() {
    let now = UNIX_EPOCH + std::time::Duration::from_secs(1_800_003_600);
    let draft = sender().digest(&collected(4), 3, now).unwrap();
    let text = String::from_utf8(draft.message).unwrap();
    for part in [
        "Subject: 9995 more messages to you",
        "To: <bob@example.com>\r\n",
        "Auto-Submitted: auto-replied\r\n",
        "9995 more messages",
        "2027-01-15 at 08:00 UTC",
        "    eve0 [at] x [dot] example\r\n",
        "    eve2 [at] x [dot] example\r\n    and others\r\n",
    ] {
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
    assert!(!text.contains("eve3"), "{text}");
    assert_eq!((draft.kind, draft.recipient.as_str()), (Kind::Digest, "bob@example.com"));
    let all = String::from_utf8(sender().digest(&collected(3), 3, now).unwrap().message).unwrap();
    assert!(all.contains("eve2") && !all.contains("others"), "{all}");
    let nobody = String::from_utf8(sender().digest(&collected(0), 3, now).unwrap().message).unwrap();
    assert!(nobody.contains("(no usable address)"), "{nobody}");
}

#[test]
fn the_letter_about_rules_says_where_they_are_at_fault_and_holds_no_key() {
    let mut case = case("bob@example.com", "eve@x.example", vec![]);
    case.decisions[0].rules_unread = Some(format!("line 2, column 5: `{KEY}` \u{fc}"));
    let draft = sender().rules_unread(&case, 0).unwrap();
    let text = String::from_utf8(draft.message).unwrap();
    for part in
        ["To: <bob@example.com>\r\n", "Auto-Submitted: auto-replied\r\n", "line 2, column 5: ", "bob@example.com has"]
    {
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
    assert!(text.is_ascii() && !text.contains(KEY), "{text}");
    assert_eq!((draft.kind, draft.recipient.as_str()), (Kind::RulesUnread, "bob@example.com"));
    assert_eq!(sender().rules_unread(&case, 1).unwrap_err(), NotOwed::NoAddress);
}

#[test]
fn texts_of_ones_own_may_be_in_any_language() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("notice.txt"), "Subject: Grüße von {sender}\n\nÜber {sender}: {fate}\n").unwrap();
    let mut config = Config { hostname: "mx.example.com".into(), ..Config::default() };
    config.notices.templates = dir.path().to_owned();
    let own = Sender::from_config(&config, &Limits::default()).unwrap();
    let draft = own.compose(&case("bob@example.com", "eve@x.example", vec![]), 0).unwrap();
    let text = String::from_utf8(draft.message).unwrap();
    assert!(text.is_ascii(), "encoded: {text}");
    assert!(text.contains("=?utf-8?") && text.contains("=C3=9Cber eve [at] x [dot] example"), "{text}");
}
