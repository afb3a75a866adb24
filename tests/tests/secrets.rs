//! A11: no log line, no error and no `Debug` text holds a key, whatever is done with it.

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use addrauth::authority::Authority;
use addrauth::case::*;
use addrauth::config::{Config, Limits, StateDir, Where};
use addrauth::custody::Custody;
use addrauth::outbox::Turn;
use addrauth::proto::address::Address;
use addrauth::proto::key::AuthKey;
use addrauth::proto::wire::{DATAGRAM_MAX, Question, Request};
use addrauth_lab::mailbox::Mailbox;
use addrauth_lab::mta::{Envelope, Fate};
use addrauth_lab::zone::{Records, Zone};
use addrauth_tests::keys::{House, mailbox};
use addrauth_tests::world::{LOOPBACK, mail, verifier};
use tokio::net::UdpSocket;
use tokio_util::sync::CancellationToken;

/// Where all log lines go.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, octets: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(octets);
        Ok(octets.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The spellings under which a key, or its K, could be written.
fn spellings(key: &AuthKey) -> Vec<String> {
    let k = key.verify_key();
    let lower: String = k.octets()[..8].iter().map(|octet| format!("{octet:02x}")).collect();
    let list = k.octets()[..6].iter().map(u8::to_string).collect::<Vec<_>>().join(", ");
    let bytes = key.expose().as_bytes()[..6].iter().map(u8::to_string).collect::<Vec<_>>().join(", ");
    // A part of the key is as bad as the whole of it.
    vec![key.expose()[..16].to_owned(), key.expose()[48..].to_owned(), lower.to_ascii_uppercase(), lower, list, bytes]
}

fn expect_none_in(text: &str, keys: &[&AuthKey], what: &str) {
    for spelling in keys.iter().flat_map(|key| spellings(key)) {
        if let Some(at) = text.find(&spelling) {
            let line = text[..at].rfind('\n').map_or(0, |end| end + 1);
            panic!("{what} holds a key: {}…", &text[line..at]);
        }
    }
}

fn configured(dir: &std::path::Path, mailbox: &Mailbox) -> Config {
    let mut config =
        Config { state_dir: StateDir(dir.to_owned()), hostname: "mx.example.net".into(), ..Config::default() };
    config.authority.domains = vec!["example.com".parse().unwrap()];
    config.authority.listen = vec![(LOOPBACK, 0).into()];
    config.notices.notify_via = mailbox.address().to_string();
    config
}

/// The message, refused for this result, of which its recipient is to be told.
fn case(mail: Mail, found: Found) -> Case {
    let mail = mail.altered(|envelope, _| envelope.recipients = vec![Recipient::new(b"<bob@example.net>")]);
    let reply = Reply { owed: vec![Owed::Record, Owed::Notice(0)], ..Reply::bare(Verdict::Discard) };
    Case { mail, finding: Finding::Found(found), decisions: Vec::new(), reply }
}

/// Lines that hold the key itself, right ones and such as are no request.
async fn send_raw_keys(server: std::net::SocketAddr, key: &AuthKey) {
    let socket = UdpSocket::bind((LOOPBACK, 0)).await.unwrap();
    let key = key.expose();
    for line in [
        format!("VERIFY 1 alice@example.com {key}\r\n"),
        format!("VERIFY 1 alice@example.com {key} v=2\r\n"),
        format!("VERIFY 1 alice@example.com {key}.\n"),
        format!("VERIFY 1 nobody@example.com {key} x={key}\r\n"),
        format!("X-Auth-Key: {key}\r\n"),
    ] {
        socket.send_to(line.as_bytes(), server).await.unwrap();
        let _ = tokio::time::timeout(Duration::from_millis(100), socket.recv(&mut [0; 600])).await;
    }
}

/// A key of ours on its whole way: learned from its mail, stamped, seen again from outside; one that is not learned, and one that
/// cannot be. Returns them, and what was written down meanwhile.
async fn learn_and_stamp() -> (Vec<AuthKey>, String) {
    let house = House::build(|config| {
        config.keyring.learn = Where::All(true);
        config.keyring.stamp = Where::All(true);
    })
    .await;
    let (alice, carol) = ("alice@home.example", "carol@elsewhere.example");
    let key = house.issue(alice).await;
    let wrong = AuthKey::parse(&[b"Junk".as_slice(); 16].concat()).unwrap();
    let mut told = String::new();
    for (login, to, text, fate) in [
        (None, alice, format!("To: {alice}\nX-New-Auth-Key: {}", key.expose()), Fate::Discarded),
        (None, alice, format!("To: {alice}\nX-New-Auth-Key: {}", wrong.expose()), Fate::Delivered),
        (Some(alice), carol, "To: x".to_owned(), Fate::Delivered),
        (Some(alice), carol, format!("X-Auth-Key: {}\nX-Auth-Key: {}", wrong.expose(), key.expose()), Fate::Delivered),
        (None, "bob@home.example", format!("X-Auth-Key: {}", key.expose()), Fate::Delivered),
    ] {
        let message = format!("From: {alice}\n{text}\n\nbody\n");
        let envelope = Envelope { login: login.map(String::from), ..Envelope::inbound(alice, to) };
        let outcome = house.send(&envelope, &message).await;
        assert_eq!(outcome.fate, fate, "{envelope:?}");
        // The same again without a socket, for what the parts of a case say of themselves.
        let keys = |name: &str| {
            let value = |line: &str| AuthKey::parse(line.strip_prefix(name)?.trim().as_bytes()).ok();
            text.lines().filter_map(value).map(Some).collect::<Vec<_>>()
        };
        let mail = mail(&[" alice@home.example"], &[]).altered(|envelope, head| {
            head.fields.push(Field { name: "To".into(), value: format!(" {to}").into_bytes() });
            envelope.recipients = vec![Recipient::new(format!("<{to}>"))];
            envelope.login = login.map(String::from);
            (head.keys, head.new_keys) = (keys("X-Auth-Key:"), keys("X-New-Auth-Key:"));
        });
        let case = house.filter.keep(house.filter.examine(mail).await, None).await;
        told += &format!("{case:?} {} {}\n", case.line(), serde_json::to_string(&case).unwrap());
    }
    for row in house.journal().await {
        told += &format!("{row:?}\n");
    }
    told += &format!("{:?} {:?}", house.keyring().await.newest(&mailbox(alice)).await.unwrap(), house.opener());
    assert!(told.contains("InsertKey") && told.contains("Proven") && told.contains("came in from outside"), "{told}");
    assert!(!house.octets().windows(16).any(|part| part == &key.expose().as_bytes()[..16]), "a file holds a key");
    (vec![key, wrong], told)
}

#[tokio::test]
async fn a11_no_log_line_and_no_debug_text_holds_a_key() {
    let log = Log::default();
    let writer = log.clone();
    tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .init();
    let (dir, mailbox) = (tempfile::tempdir().unwrap(), Mailbox::start().unwrap());
    let (config, limits) = (configured(dir.path(), &mailbox), Arc::new(Limits::default()));

    let authority = Arc::new(Authority::open(&config, &limits).await.unwrap());
    let alice = Address::parse(b"alice@example.com", false).unwrap();
    let issued = authority.issue(&alice).await.unwrap();
    let wrong = AuthKey::parse(&[b"WrOnG".as_slice(); 13].concat()).unwrap();
    let keys = [&issued.key, &wrong];
    let sockets = authority.bind().unwrap();
    let server = sockets[0].local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let serving = tokio::spawn(authority.clone().serve(sockets, shutdown.clone()));

    let records = Records::default()
        .txt("example.com", &format!("AS=as.example.com:{}", server.port()))
        .address("as.example.com", LOOPBACK);
    let zone = Zone::start(records).await.unwrap();
    let verifier = verifier(&addrauth_tests::world::config(&zone));
    let custody = Custody::open(&config, &limits).await.unwrap();
    for (key, status) in [(&issued.key, KeyStatus::Valid), (&wrong, KeyStatus::Invalid)] {
        let mail = mail(&[" <alice@example.com>"], &[key.expose()]);
        let found = verifier.verify(&mail).await.unwrap();
        assert_eq!(found.status, status);
        let confirmed = verifier.confirm(&mail, &found).await.unwrap();
        let kept = custody.keep(case(mail, confirmed), None).await;
        assert_eq!(kept.reply.verdict, Verdict::Discard);
        expect_none_in(&format!("{kept:?} {found:?} {}", kept.line()), &keys, "a case");
        expect_none_in(&serde_json::to_string(&kept).unwrap(), &keys, "a case's JSON");
    }
    send_raw_keys(server, &issued.key).await;
    assert_eq!(custody.outbox().turn(SystemTime::now()).await.unwrap(), Turn::Sent);
    custody.close().await;
    let mail = mail(&[" <alice@example.com>"], &[issued.key.expose()]);
    let deferred = custody.keep(case(mail, Found::bare(KeyStatus::Invalid, None, None)), None).await;
    assert!(matches!(deferred.reply.verdict, Verdict::Defer(_)));

    let question = Question::new("1".into(), &alice, &issued.key, "mx.example.net");
    let raw = format!("VERIFY 1 alice@example.com {}\r\n", issued.key.expose());
    let request = Request::read(raw.as_bytes(), DATAGRAM_MAX);
    let listed = authority.list(&alice).await.unwrap();
    let debug = format!("{issued:?} {question:?} {request:?} {listed:?} {authority:?} {:?}", issued.key.verify_key());
    expect_none_in(&debug, &keys, "a Debug text");
    shutdown.cancel();
    serving.await.unwrap();

    let (learned, told) = learn_and_stamp().await;
    let keys: Vec<&AuthKey> = keys.into_iter().chain(&learned).collect();
    expect_none_in(&told, &keys, "what is told of a key of ours");

    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    for part in [
        "stamped=",
        "new-key=learned",
        "new-key-refused=wrong",
        "came in from outside",
        "answered",
        "journalled",
        "notice sent",
        "cannot be made durable",
    ] {
        assert!(log.contains(part), "the log tells of it: {part}");
    }
    expect_none_in(&log, &keys, "the log");
}
