//! Reports to senders, guard B, texts of one's own, international addresses, and what a server's refusal at each step means.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use addrauth::case::*;
use addrauth::config::{Config, Limits, StateDir};
use addrauth::custody::Custody;
use addrauth::outbox::Turn;
use addrauth::proto::address::Address;
use addrauth::proto::key::AuthKey;
use addrauth_lab::mailbox::Mailbox;
use addrauth_tests::postfix::{Bed, Kind};
use mail_parser::{MessageParser, MimeHeaders, PartType};

mod texts;

const KEY: &str = "Vb3kQ9w2Zr7tYp0sXn4mLc8dHf1gJa6eUi5oRk2yTq9wEz3xBv7nMs4pDl8hGj0K";

fn config(dir: &Path, via: SocketAddr) -> Config {
    let mut config =
        Config { state_dir: StateDir(dir.to_owned()), hostname: "mx.example.com".into(), ..Config::default() };
    config.notices.notify_via = via.to_string();
    config
}

async fn open(dir: &Path, via: SocketAddr) -> Custody {
    Custody::open(&config(dir, via), &Arc::new(Limits::default())).await.unwrap()
}

fn address(text: &str) -> Address {
    Address::parse(text.as_bytes(), true).unwrap()
}

fn recipient(text: &str) -> Recipient {
    Recipient::new(format!("<{text}>"))
}

fn field(name: &str, value: &str) -> Field {
    Field { name: name.into(), value: value.as_bytes().to_vec() }
}

/// A message from `sender` with the wrong key: the first recipient gets it, the others' refusal is to be told to the sender.
fn case(sender: &str, recipients: &[&str]) -> Case {
    let reported: Vec<usize> = (1..recipients.len()).collect();
    let spf = MailAuth { spf: AuthResult::Pass, spf_of_path: true, ..MailAuth::default() };
    let found =
        Found { mail_auth: Some(spf), ..Found::bare(KeyStatus::Invalid, Some(Why::Wrong), Some(address(sender))) };
    let decision = |recipients: Vec<usize>, disposition, sender| Decision {
        recipients,
        by: By::Site,
        mark: MarkAs::Header,
        policy: "tell-sender".into(),
        digest: "0".repeat(64),
        disposition,
        notify: Notify { sender, recipient: false },
        reason: "the key is wrong".into(),
        fault: None,
        clamped: None,
        passed_over: None,
        rules_unread: None,
        shadow: None,
        facts: serde_json::Value::Null,
        settings: serde_json::Value::Null,
    };
    Case {
        mail: Mail::new(
            Envelope {
                received: UNIX_EPOCH + Duration::from_secs(1_800_000_000),
                queue_id: Some("4XyZ1".into()),
                daemon: "smtpd".into(),
                reverse_path: ReversePath::Path(Some(address(sender))),
                smtputf8: !sender.is_ascii(),
                recipients: recipients.iter().map(|text| recipient(text)).collect(),
                ..Envelope::default()
            },
            Head {
                fields: vec![
                    field("Received", " from x.example\r\n\tby mx.example.com; Fri, 15 Jan 2027 08:00:00 +0000"),
                    field("From", &format!(" <{sender}>")),
                    field("Subject", " hello"),
                    field("Message-ID", " <abc@x.example>"),
                ],
                keys: vec![Some(AuthKey::parse(KEY.as_bytes()).unwrap())],
                ..Head::default()
            },
        ),
        finding: Finding::Found(found),
        decisions: vec![
            decision(vec![0], Disposition::Accept, false),
            decision(reported.clone(), Disposition::Reject, true),
        ],
        reply: Reply {
            removed: reported.clone(),
            owed: vec![Owed::Record, Owed::Report(reported)],
            ..Reply::bare(Verdict::Accept)
        },
    }
}

fn found(case: &Case) -> &Found {
    match &case.finding {
        Finding::Found(found) => found,
        _ => panic!("it was examined"),
    }
}

/// The one mail that was sent for this case.
async fn sent(case: Case) -> (String, Vec<String>, String) {
    let (dir, server) = (tempfile::tempdir().unwrap(), Script::default().start());
    let custody = open(dir.path(), server.address).await;
    assert_eq!(custody.keep(case, None).await.reply.verdict, Verdict::Accept);
    assert_eq!(custody.outbox().turn(SystemTime::now()).await.unwrap(), Turn::Sent);
    let said = server.said();
    let text = server.text();
    for file in std::fs::read_dir(dir.path()).unwrap() {
        let octets = std::fs::read(file.unwrap().path()).unwrap();
        assert!(!octets.windows(16).any(|window| window == &KEY.as_bytes()[..16]), "a key is kept");
    }
    (said.iter().find(|line| line.starts_with("RCPT")).unwrap().clone(), said, text)
}

/// What a server answers at each step; empty: as usual.
#[derive(Clone, Default)]
struct Script {
    greeting: &'static str,
    extensions: Option<&'static str>,
    mail: &'static str,
    rcpt: &'static str,
    data: &'static str,
    end: &'static str,
}

/// A server that follows a script, on loopback; it lives as long as the process.
struct Server {
    address: SocketAddr,
    heard: Arc<Mutex<(Vec<String>, String)>>,
}

impl Script {
    fn start(self) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Server { address: listener.local_addr().unwrap(), heard: Arc::default() };
        let heard = server.heard.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A client that goes away in the middle ends its session, nothing else.
                let _ = self.follow(stream, &heard);
            }
        });
        server
    }

    fn follow(&self, stream: TcpStream, heard: &Mutex<(Vec<String>, String)>) -> std::io::Result<()> {
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        let mut out = stream.try_clone()?;
        let or = |line: &str, usual: &str| format!("{}\r\n", if line.is_empty() { usual } else { line });
        out.write_all(or(self.greeting, "220 script.test ESMTP").as_bytes())?;
        let mut in_data = false;
        for line in BufReader::new(stream).lines() {
            let line = line?;
            let answer = match line.split([' ', ':']).next().unwrap_or_default() {
                "." if in_data => {
                    in_data = false;
                    or(self.end, "250 taken")
                }
                _ if in_data => {
                    let text = line.strip_prefix('.').unwrap_or(&line);
                    heard.lock().unwrap().1 += &format!("{text}\r\n");
                    continue;
                }
                "EHLO" => {
                    let extensions = self.extensions.unwrap_or("250-SMTPUTF8\r\n250 8BITMIME\r\n");
                    format!("250-script.test\r\n{extensions}")
                }
                "MAIL" => or(self.mail, "250 ok"),
                "RCPT" => or(self.rcpt, "250 ok"),
                "DATA" => {
                    in_data = self.data.is_empty();
                    or(self.data, "354 go")
                }
                _ => "250 ok\r\n".to_owned(),
            };
            heard.lock().unwrap().0.push(line);
            out.write_all(answer.as_bytes())?;
        }
        Ok(())
    }
}

impl Server {
    /// The command lines so far.
    fn said(&self) -> Vec<String> {
        self.heard.lock().unwrap().0.clone()
    }

    /// The messages so far.
    fn text(&self) -> String {
        self.heard.lock().unwrap().1.clone()
    }
}

/// The fields of a part for machines, a group each, unfolded.
fn groups(part: &[u8]) -> Vec<Vec<(String, String)>> {
    let text = String::from_utf8(part.to_vec()).unwrap();
    let group = |group: &str| {
        let fields = group.lines().map(|line| line.split_once(": ").unwrap_or_else(|| panic!("no field: {line}")));
        fields.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    };
    text.trim_end().split("\r\n\r\n").map(group).collect()
}

fn octets(part: &mail_parser::MessagePart<'_>) -> Vec<u8> {
    part.contents().to_vec()
}

fn kind(part: &mail_parser::MessagePart<'_>) -> String {
    let kind = part.content_type().unwrap();
    format!("{}/{}", kind.ctype(), kind.subtype().unwrap_or_default())
}

#[tokio::test]
async fn a_report_has_the_three_parts_of_rfc_3464() {
    let mut case = case("alice@x.example", &["bob@example.com", "carol@example.com", "dave@example.com"]);
    case.decisions[1].recipients = vec![1];
    let other = Decision { recipients: vec![2], reason: String::new(), ..case.decisions[1].clone() };
    case.decisions.push(other);
    let forged = [field("X-Auth-Key-Status", " VALIDKEY; forged"), field("x-addrauth-mark", " v1 0 forged")];
    case.mail = case.mail.altered(|_, head| head.fields.extend(forged));
    let (rcpt, said, text) = sent(case).await;
    assert!(rcpt.starts_with("RCPT TO:<alice@x.example>"), "{rcpt}");
    assert!(said.iter().any(|line| line == "MAIL FROM:<>"), "{said:?}");
    let report = MessageParser::new().parse(text.as_bytes()).unwrap();
    let kind_of_all = report.content_type().unwrap();
    assert_eq!((kind_of_all.ctype(), kind_of_all.subtype()), ("multipart", Some("report")));
    assert_eq!(kind_of_all.attribute("report-type"), Some("delivery-status"));
    assert_eq!(report.header_raw("Auto-Submitted").unwrap().trim(), "auto-replied");
    assert_eq!(report.header_raw("In-Reply-To").unwrap().trim(), "<abc@x.example>");
    assert_eq!(report.header_raw("To").unwrap().trim(), "<alice@x.example>");
    assert!(report.message_id().unwrap().ends_with("@mx.example.com"));
    let PartType::Multipart(parts) = &report.parts[0].body else { panic!("not of several parts") };
    let parts: Vec<_> = parts.iter().map(|index| &report.parts[*index as usize]).collect();
    let kinds: Vec<String> = parts.iter().map(|part| kind(part)).collect();
    assert_eq!(kinds, ["text/plain", "message/delivery-status", "text/rfc822-headers"]);

    let words = String::from_utf8(octets(parts[0])).unwrap();
    for part in ["carol@example.com", "dave@example.com", "the key is wrong", "2027-01-15 at 08:00 UTC", "4XyZ1"] {
        assert!(words.contains(part), "{part} is not in {words}");
    }
    let groups = groups(&octets(parts[1]));
    let expected = |recipient: &str, reason: &str| {
        [
            ("Final-Recipient", format!("rfc822; {recipient}")),
            ("Action", "failed".to_owned()),
            ("Status", "5.7.1".to_owned()),
            ("Diagnostic-Code", format!("smtp; 550 5.7.1 Address Authentication: {reason}")),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec()
    };
    assert_eq!(groups[0][0], ("Reporting-MTA".to_owned(), "dns; mx.example.com".to_owned()));
    assert_eq!(groups[0][1], ("Arrival-Date".to_owned(), "Fri, 15 Jan 2027 08:00:00 +0000".to_owned()));
    assert_eq!(groups[1], expected("carol@example.com", "the key is wrong"));
    assert_eq!(groups[2], expected("dave@example.com", "invalid"));
    assert_eq!(groups.len(), 3);
    let header = String::from_utf8(octets(parts[2])).unwrap();
    assert_eq!(
        header.trim_end(),
        "Received: from x.example\r\n\tby mx.example.com; Fri, 15 Jan 2027 08:00:00 +0000\r\n\
         From: <alice@x.example>\r\nSubject: hello\r\nMessage-ID: <abc@x.example>"
    );
    assert!(!text.contains("bob@example.com") && !text.contains("forged"), "{text}");
}

#[tokio::test]
async fn a12_no_report_holds_a_key_wherever_the_header_repeats_it() {
    let mut leaky = case("alice@x.example", &["bob@example.com", "carol@example.com"]);
    let folded = format!("{}\r\n\t{}", &KEY[..30], &KEY[30..]);
    for (name, value) in [
        ("DKIM-Signature", format!(" v=1; z=From:x|X-Auth-Key:{folded}|Subject:y")),
        ("X-Copy", format!(" {KEY}")),
        ("X-AUTH-KEY", format!(" {KEY}")),
        ("X-Auth-Key ", format!(" {KEY}")),
        ("X-New-Auth-Key", " another".to_owned()),
        ("X-Last", " kept".to_owned()),
    ] {
        leaky.mail = leaky.mail.altered(|_, head| head.fields.push(field(name, &value)));
    }
    let id = field("Message-ID", &format!(" <{KEY}@x.example>"));
    leaky.mail = leaky.mail.altered(|_, head| head.fields[3] = id);
    let (_, said, text) = sent(leaky.clone()).await;
    assert!(text.contains("X-Last: kept"), "{text}");
    let dense = text.replace(['\r', '\n', '\t', ' '], "");
    for part in [&KEY[..16], &KEY[48..], "another"] {
        assert!(!dense.contains(part) && !said.concat().contains(part), "{part} is in {text}");
    }
    leaky.mail = leaky.mail.altered(|_, head| head.malformed = true);
    let (_, _, text) = sent(leaky).await;
    assert!(!text.contains("rfc822-headers") && text.contains("message/delivery-status"), "{text}");
    assert!(!text.contains("X-Last"), "a header that may hide a key does not go along");
}

#[tokio::test]
async fn a_report_about_an_international_address_is_a_global_one() {
    let mut case = case("alice@x.example", &["bob@example.com", "jürgen@example.com"]);
    case.mail = case.mail.altered(|_, head| head.fields[2] = field("Subject", " Grüße"));
    let (_, said, text) = sent(case).await;
    let mail = said.iter().find(|line| line.starts_with("MAIL")).unwrap();
    assert_eq!(mail, "MAIL FROM:<> BODY=8BITMIME", "its own address is ASCII");
    let report = MessageParser::new().parse(text.as_bytes()).unwrap();
    let PartType::Multipart(parts) = &report.parts[0].body else { panic!("not of several parts") };
    let parts: Vec<_> = parts.iter().map(|index| &report.parts[*index as usize]).collect();
    let kinds: Vec<String> = parts.iter().map(|part| kind(part)).collect();
    assert_eq!(kinds, ["text/plain", "message/global-delivery-status", "message/global-headers"]);
    assert!(text.contains("Final-Recipient: utf-8; jürgen@example.com\r\n"), "{text}");
    assert!(text.contains("Subject: Grüße\r\n"), "{text}");
}

#[tokio::test]
async fn a_real_postfix_takes_a_report_and_delivers_it_whole() {
    let Some(bed) = Bed::shared() else { return };
    let (dir, door) = (tempfile::tempdir().unwrap(), bed.door(Kind::Bare));
    let mut case = case(&door.address("bob"), &["bob@example.com", "jürgen@example.com"]);
    case.mail = case.mail.altered(|_, head| head.fields[2] = field("Subject", " Grüße"));
    let custody = open(dir.path(), SocketAddr::from(([127, 0, 0, 1], door.port))).await;
    custody.keep(case, None).await;
    assert_eq!(custody.outbox().turn(SystemTime::now()).await.unwrap(), Turn::Sent);
    let file = door.delivered("bob", 1).pop().unwrap();
    assert!(file.starts_with(b"Return-Path: <>\n"));
    let text = String::from_utf8(file).unwrap();
    assert!(
        text.contains("Final-Recipient: utf-8; jürgen@example.com\n") && text.contains("Subject: Grüße\n"),
        "{text}"
    );
}

#[tokio::test]
async fn a_header_with_octets_of_no_charset_or_long_lines_is_encoded() {
    for value in [b" caf\xe9".to_vec(), [b" ".as_slice(), &[b'x'; 5_000]].concat()] {
        let mut case = case("alice@x.example", &["bob@example.com", "carol@example.com"]);
        case.mail = case.mail.altered(|_, head| head.fields[2].value = value.clone());
        let (_, said, text) = sent(case).await;
        assert!(said.contains(&"MAIL FROM:<>".to_owned()) && text.is_ascii(), "{said:?}");
        assert!(text.lines().all(|line| line.len() <= 998), "{text}");
        let report = MessageParser::new().parse(text.as_bytes()).unwrap();
        let header = report.parts.last().unwrap();
        assert_eq!(kind(header), "text/rfc822-headers");
        let encoded = header.headers.iter().any(|field| field.name() == "Content-Transfer-Encoding");
        assert!(encoded && text.contains("quoted-printable"), "{text}");
    }
}

#[tokio::test]
async fn a_mail_to_an_international_address_goes_with_smtputf8_or_is_given_up_with_a_note() {
    let (rcpt, said, text) = sent(case("jürgen@x.example", &["bob@example.com", "carol@example.com"])).await;
    assert_eq!(rcpt, "RCPT TO:<jürgen@x.example>");
    assert!(said.contains(&"MAIL FROM:<> SMTPUTF8 BODY=8BITMIME".to_owned()), "{said:?}");
    assert!(text.contains("To: <jürgen@x.example>\r\n"), "{text}");

    let server = Script { extensions: Some("250 8BITMIME\r\n"), ..Script::default() }.start();
    let dir = tempfile::tempdir().unwrap();
    let custody = open(dir.path(), server.address).await;
    let mut notice = case("alice@x.example", &["jürgen@example.com"]);
    notice.reply.owed = vec![Owed::Record, Owed::Notice(0)];
    custody.keep(notice, None).await;
    let turn = custody.outbox().turn(SystemTime::now()).await.unwrap();
    assert!(matches!(&turn, Turn::GivenUp(why) if why.contains("SMTPUTF8")), "{turn:?}");
    assert!(!server.said().iter().any(|line| line.starts_with("MAIL")), "{:?}", server.said());
    let note = custody.journal(1).await.unwrap()[0].entry.note.clone();
    assert!(note.contains("notice to jürgen@example.com given up") && note.contains("SMTPUTF8"), "{note}");
}

#[tokio::test]
async fn only_a_refusal_at_rcpt_or_data_ends_the_tries() {
    let usual = Script::default;
    for (script, lasting, reply) in [
        (Script { greeting: "554 no service", ..usual() }, false, "554 no service"),
        (Script { extensions: Some("550 go away\r\n"), ..usual() }, false, ""),
        (Script { mail: "550 5.7.1 not from you", ..usual() }, false, "550 5.7.1 not from you"),
        (Script { mail: "451 later", ..usual() }, false, "451 later"),
        (Script { rcpt: "451 later", ..usual() }, false, "451 later"),
        (Script { data: "451 later", ..usual() }, false, "451 later"),
        (Script { end: "451 later", ..usual() }, false, "451 later"),
        (Script { rcpt: "550 5.1.1 nobody", ..usual() }, true, "550 5.1.1 nobody"),
        (Script { data: "554 5.5.1 no", ..usual() }, true, "554 5.5.1 no"),
        (Script { end: "554 5.7.1 no", ..usual() }, true, "554 5.7.1 no"),
    ] {
        let told = [script.greeting, script.extensions.unwrap_or_default(), script.mail, script.rcpt, script.data]
            .concat()
            + script.end;
        let (dir, server) = (tempfile::tempdir().unwrap(), script.start());
        let custody = open(dir.path(), server.address).await;
        custody.keep(case("alice@x.example", &["bob@example.com", "carol@example.com"]), None).await;
        let turn = custody.outbox().turn(SystemTime::now()).await.unwrap();
        assert_eq!(matches!(turn, Turn::GivenUp(_)), lasting, "{told}: {turn:?}");
        assert_eq!(matches!(turn, Turn::Postponed(_)), !lasting, "{told}: {turn:?}");
        // The server's own words, once, behind the step that failed; a reply to EHLO that is half a refusal is none.
        let (Turn::GivenUp(text) | Turn::Postponed(text)) = turn else { panic!("{told}") };
        let once = text.ends_with(&format!(": {reply}")) && text.matches(reply).count() == 1;
        assert!(reply.is_empty() || once && !text.contains("error") && !text.contains('"'), "{text}");
        if lasting {
            let note = custody.journal(1).await.unwrap()[0].entry.note.clone();
            assert_eq!(note.matches(reply).count(), 1, "{note}");
        }
    }
}

#[tokio::test]
async fn of_many_messages_at_the_same_moment_one_gets_a_permit() {
    let (dir, mailbox) = (tempfile::tempdir().unwrap(), Mailbox::start().unwrap());
    let custody = open(dir.path(), mailbox.address()).await;
    let owing = case("alice@x.example", &["bob@example.com", "carol@example.com"]);
    let spellings = ["alice@x.example", "Alice@x.example", "alice+1@x.example", "ALICE+2@x.example"];
    let tasks = (0..40).map(|n| {
        let path = ReversePath::Path(Some(address(spellings[n % 4])));
        let mail = owing.mail.clone().altered(|envelope, _| envelope.reverse_path = path);
        let (outbox, found) = (custody.outbox(), found(&owing));
        async move { outbox.permit(&mail, found, SystemTime::now()).await }
    });
    let mut permits = Vec::new();
    let mut running: Vec<_> = tasks.map(Box::pin).collect();
    // All of them are begun before any is waited for.
    std::future::poll_fn(|context| {
        running.retain_mut(|task| match task.as_mut().poll(context) {
            std::task::Poll::Ready(permit) => {
                permits.push(permit);
                false
            }
            std::task::Poll::Pending => true,
        });
        if running.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    assert_eq!(permits.len(), 40);
    assert_eq!(permits.iter().filter(|permit| permit.is_ok()).count(), 1, "{permits:?}");
    let other = case("dave@x.example", &["bob@example.com", "carol@example.com"]);
    assert_eq!(custody.permit(&other.mail, found(&other)).await, Ok(()), "another sender has one of his own");
}

#[tokio::test]
async fn j4_a_report_is_remembered_over_a_restart() {
    let (dir, mailbox) = (tempfile::tempdir().unwrap(), Mailbox::start().unwrap());
    let custody = open(dir.path(), mailbox.address()).await;
    let owing = case("alice@x.example", &["bob@example.com", "carol@example.com"]);
    assert_eq!(custody.permit(&owing.mail, found(&owing)).await, Ok(()));
    custody.keep(owing.clone(), None).await;
    custody.close().await;
    let custody = open(dir.path(), mailbox.address()).await;
    let now = SystemTime::now();
    let outbox = custody.outbox();
    assert_eq!(outbox.permit(&owing.mail, found(&owing), now).await, Err(Unreported::Recent));
    let hour = now + Duration::from_secs(3_602);
    assert_eq!(outbox.permit(&owing.mail, found(&owing), hour).await, Ok(()));
}

#[tokio::test]
async fn a_report_over_its_cap_defers_the_message_and_is_never_dropped() {
    let (dir, mailbox) = (tempfile::tempdir().unwrap(), Mailbox::start().unwrap());
    let custody = open(dir.path(), mailbox.address()).await;
    let owing = case("alice@x.example", &["bob@example.com", "carol@example.com"]);
    assert_eq!(custody.keep(owing.clone(), None).await.reply.verdict, Verdict::Accept);
    let second = custody.keep(owing, None).await;
    assert!(matches!(second.reply.verdict, Verdict::Defer(Refusal { code: 451, .. })), "{:?}", second.reply);
    assert!(second.reply.removed.is_empty() && second.reply.owed.is_empty());
    assert_eq!(custody.journal(9).await.unwrap().len(), 1, "nothing of it is written");
}

#[tokio::test]
async fn a_full_outbox_permits_no_report_and_the_journal_says_why() {
    let (dir, mailbox) = (tempfile::tempdir().unwrap(), Mailbox::start().unwrap());
    let limits = Arc::new(Limits::default().with(|limits| limits.outbox.notices_waiting = 1));
    let custody = Custody::open(&config(dir.path(), mailbox.address()), &limits).await.unwrap();
    custody.keep(case("alice@x.example", &["bob@example.com", "carol@example.com"]), None).await;
    let mut other = case("dave@x.example", &["bob@example.com", "carol@example.com"]);
    assert_eq!(custody.permit(&other.mail, found(&other)).await, Err(Unreported::Full));
    other.reply.owed = vec![Owed::Record];
    other.reply.unreported = Some(Unreported::Full);
    custody.keep(other, None).await;
    let note = custody.journal(1).await.unwrap()[0].entry.note.clone();
    assert_eq!(note, "no report to the sender: as many mails wait to be sent as may");
}
