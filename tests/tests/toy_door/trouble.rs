//! What goes wrong, and what is too much: the toy door ends as the milter does, and neither knows how.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use addrauth::case::Mail;
use addrauth::config::{Limits, Listen};
use addrauth::mta::listen::{Listener, Places};
use addrauth_lab::mta::{Envelope, Fate, Mta};
use addrauth_tests::milter::{Fake, open_with};
use addrauth_tests::toy::Toy;
use addrauth_tests::world::{GOOD, JUNK};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// A toy door before a judge that does what the Subject says.
struct Bed {
    judge: Arc<Fake>,
    stop: CancellationToken,
    toy: Arc<Toy<Fake>>,
    sender: watch::Sender<Arc<Fake>>,
}

impl Bed {
    fn open(limits: Limits, judge: Arc<Fake>) -> Bed {
        let (sender, receiver) = watch::channel(judge.clone());
        let stop = CancellationToken::new();
        let toy = Arc::new(Toy::open(receiver, Arc::new(limits), stop.clone()));
        Bed { judge, stop, toy, sender }
    }

    /// The first line of what is said to a message with this Subject.
    async fn says(&self, subject: &str) -> String {
        self.hears(&format!("mail <a@one.example>\nrcpt <b@two.example>\nfield Subject: {subject}\n\nbody\n")).await
    }

    /// Waits until an examination was begun.
    async fn begun(&self) {
        while self.judge.begun.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
    }

    async fn hears(&self, octets: &str) -> String {
        let said = self.toy.converse(octets.as_bytes()).await.expect("a place");
        String::from_utf8(said).unwrap().lines().next().unwrap().to_owned()
    }
}

#[tokio::test]
async fn a_panicking_judge_and_a_late_one_are_451_and_the_next_message_is_well() {
    let short = Duration::from_millis(200);
    for (subject, limits) in [
        ("panic", Limits::default()),
        ("panic in keep", Limits::default()),
        ("never", Limits::default().with(|limits| limits.mta.examine = short)),
        ("never", Limits::default().with(|limits| limits.mta.answer = short)),
        ("never kept", Limits::default().with(|limits| limits.mta.answer = short)),
    ] {
        let bed = Bed::open(limits, Fake::named("one"));
        assert_eq!(bed.says(subject).await, "451 4.3.0 Temporary failure, please try again later", "{subject}");
        assert_eq!(bed.says("fine").await, "250 2.0.0 delivered", "after {subject}");
        assert_eq!(bed.judge.kept.lock().unwrap().len(), 1, "{subject}");
    }
}

#[tokio::test]
async fn a_message_keeps_its_judge_and_the_next_one_has_the_new_one() {
    let bed = Arc::new(Bed::open(Limits::default(), Fake::named("one")));
    let message = |subject: &str| format!("mail <>\nrcpt <b@two.example>\nfield Subject: {subject}\n\n");
    let first = tokio::spawn({
        let (bed, message) = (Arc::clone(&bed), message("slow"));
        async move { bed.toy.converse(message.as_bytes()).await.unwrap() }
    });
    bed.begun().await;
    bed.sender.send(Fake::named("two")).unwrap();
    let second = bed.toy.converse(message("fine").as_bytes()).await.unwrap();
    for (said, judge) in [(first.await.unwrap(), "one"), (second, "two")] {
        assert!(String::from_utf8(said).unwrap().contains(&format!("\nX-Judge: {judge}\n")), "{judge}");
    }
}

#[tokio::test]
async fn a_full_house_is_451_until_there_is_room_and_without_a_place_there_is_no_conversation() {
    const FULL: &str = "451 4.3.2 Too many messages at once, please try again later";
    for limits in [
        Limits::default().with(|limits| limits.mta.messages_in_flight = 1),
        Limits::default().with(|limits| limits.mta.connections = 1),
    ] {
        let bed = Arc::new(Bed::open(limits, Fake::named("one")));
        let first = tokio::spawn({
            let bed = Arc::clone(&bed);
            async move { bed.says("never").await }
        });
        bed.begun().await;
        assert_eq!(bed.says("fine").await, FULL);
        first.abort();
        assert!(first.await.unwrap_err().is_cancelled());
        assert_eq!(bed.says("fine").await, "250 2.0.0 delivered", "its room is given back");
    }
    let bed = Bed::open(Limits::default().with(|limits| limits.mta.connections = 0), Fake::named("one"));
    assert!(bed.toy.converse(b"mail <>\n\n").await.is_none());
}

#[tokio::test]
async fn a_body_that_is_wanted_is_kept_within_its_limits_and_all_bodies_within_theirs() {
    for (limits, said) in [
        (
            Limits::default().with(|limits| {
                limits.custody.body_octets = 5;
                limits.custody.bodies_octets = 5;
            }),
            "250 2.0.0 delivered",
        ),
        (
            Limits::default().with(|limits| limits.custody.body_octets = 4),
            "552 5.3.4 The message is too large to be kept for its recipients",
        ),
        (
            Limits::default().with(|limits| limits.custody.bodies_octets = 4),
            "451 4.3.2 Too many messages at once, please try again later",
        ),
    ] {
        let bed = Bed::open(limits, Fake::named("one"));
        for _ in 0..2 {
            assert_eq!(bed.says("body").await, said);
        }
        let bodies = bed.judge.bodies.lock().unwrap();
        let kept = bodies.iter().flatten().all(|body| body.0 == b"body\n");
        assert!(kept && bodies.len() == if said.starts_with("250") { 2 } else { 0 });
    }
}

#[tokio::test]
async fn when_the_program_stops_messages_in_flight_have_their_time_and_then_451() {
    let drain = Duration::from_millis(200);
    for (subject, limits, said) in [
        ("slow", Limits::default(), "250 2.0.0 delivered"),
        (
            "never",
            Limits::default().with(|limits| limits.mta.drain = drain),
            "451 4.3.0 Temporary failure, please try again later",
        ),
    ] {
        let bed = Arc::new(Bed::open(limits, Fake::named("one")));
        let conversation = tokio::spawn({
            let bed = Arc::clone(&bed);
            async move { bed.says(subject).await }
        });
        bed.begun().await;
        bed.stop.cancel();
        bed.toy.drain().await;
        assert_eq!(bed.judge.over.load(Ordering::SeqCst), 1, "the drain waits for the conversation");
        assert_eq!(conversation.await.unwrap(), said);
    }
}

#[tokio::test]
async fn recipients_who_differ_or_are_too_many_are_refused_alone() {
    let bed = Bed::open(Limits::default().with(|limits| limits.mta.recipients = 2), Fake::splitting());
    let said = bed
        .toy
        .converse(
            b"mail <a@one.example>\nrcpt <b@two.example>\nrcpt <c@three.example>\nrcpt <d@two.example>\n\
              rcpt <e@two.example>\nfield Subject: s\n\nbody\n",
        )
        .await
        .unwrap();
    let said = String::from_utf8(said).unwrap();
    let lines: Vec<&str> = said.lines().take(5).collect();
    assert_eq!(
        lines,
        [
            "rcpt <c@three.example> 452 4.5.3 One recipient at a time here, please send to this one again",
            "rcpt <e@two.example> 452 4.5.3 Too many recipients in one message, please send to this one again",
            "250 2.0.0 delivered",
            "to <b@two.example>",
            "to <d@two.example>",
        ]
    );
}

#[tokio::test]
async fn edits_and_recipients_are_the_judges() {
    let bed = Bed::open(Limits::default(), Fake::named("one"));
    let begin =
        format!("mail <a@one.example>\nrcpt <b@two.example>\nrcpt <c@two.example>\nfield X-Auth-Key : {GOOD}\n");
    for (subject, to) in [
        ("remove 0", "to <c@two.example>\n"),
        ("redirect b+Junk@two.example", "to <c@two.example>\nto <b+Junk@two.example>\n"),
    ] {
        let octets = format!("{begin}field Subject: {subject}\nfield x-auth-key:\n\tsecond\n\nbody");
        let said = String::from_utf8(bed.toy.converse(octets.as_bytes()).await.unwrap()).unwrap();
        assert_eq!(said, format!("250 2.0.0 delivered\n{to}\nX-Judge: one\nSubject: {subject}\n\nbody"));
    }
}

/// What is known of a message by its header.
fn header(mail: &Mail) -> impl PartialEq + std::fmt::Debug + use<> {
    let keys = |keys: &[Option<addrauth::proto::key::AuthKey>]| -> Vec<Option<String>> {
        keys.iter().map(|key| key.as_ref().map(|key| key.expose().to_owned())).collect()
    };
    let fields: Vec<(String, Vec<u8>)> = mail.head().fields.iter().map(|f| (f.name.clone(), f.value.clone())).collect();
    let hidden: Vec<String> = mail.head().hidden.iter().map(|key| key.expose().to_owned()).collect();
    (fields, keys(&mail.head().keys), keys(&mail.head().new_keys), hidden, mail.head().malformed, mail.head().truncated)
}

#[tokio::test]
async fn a_header_over_its_limits_or_with_a_hidden_key_is_read_alike_at_both_doors() {
    let limits = Limits::default().with(|limits| {
        limits.mta.header_fields = 4;
        limits.mta.header_octets = 400;
        limits.mta.key_fields = 3;
    });
    let (milter, bed) = (Fake::named("one"), Bed::open(limits.clone(), Fake::named("one")));
    let daemon = open_with(milter.clone(), "inet:127.0.0.1:0", limits);
    let mut mta = Mta::connect(&daemon.place).await.unwrap();
    let key = format!("X-Auth-Key: {GOOD}\n");
    let wide = format!("Subject: {}\n", "x".repeat(500));
    let cases = [
        (key.clone(), "", Ok((false, false))),
        (format!("A: b\nC: d\nE: f\nG: h\nI: j\n{key}x-auth-key-status: VALIDKEY\n"), "", Ok((true, true))),
        (format!("{wide}{key}X-New-Auth-Key: {JUNK}\n"), "", Ok((true, true))),
        (format!("A: b\n\tc\n{key}"), "junk\r\nX-Auth-Key: hidden-hidden-hidden-hidden\r\n\r\n", Ok((true, false))),
        (key.repeat(4), "", Err("554 5.6.0 Too many header fields that tell of authentication")),
    ];
    for (fields, body, read) in cases {
        let field = |line: &str| if line.starts_with('\t') { format!("{line}\n") } else { format!("field {line}\n") };
        let lines: String = fields.lines().map(field).collect();
        let said = bed.hears(&format!("mail <a@one.example>\nrcpt <b@two.example>\n{lines}\n{body}")).await;
        let message = format!("{fields}\n").replace('\n', "\r\n") + body;
        let told = mta.send(&Envelope::inbound("a@one.example", "b@two.example"), message.as_bytes()).await.unwrap();
        let (toys, milters) = (bed.judge.kept.lock().unwrap().pop(), milter.kept.lock().unwrap().pop());
        match read {
            Ok(read) => {
                let (toys, milters) = (toys.unwrap(), milters.unwrap());
                assert_eq!((said.as_str(), told.fate), ("250 2.0.0 delivered", Fate::Delivered), "{fields}");
                assert_eq!((toys.head().malformed, toys.head().truncated), read, "{fields}");
                assert_eq!(header(&toys), header(&milters), "{fields}");
            }
            Err(reply) => {
                assert!(toys.is_none() && milters.is_none(), "{fields}");
                assert_eq!((said.as_str(), told.fate), (reply, Fate::Refused(reply.into())), "{fields}");
            }
        }
    }
}

#[tokio::test]
async fn what_the_toy_does_not_understand_is_refused_and_examined_by_nobody() {
    let bed = Bed::open(Limits::default(), Fake::named("one"));
    for octets in
        ["", "\n\n", "rcpt <b@two.example>\n\n", "mail <>\nmail <>\n\n", "mail <>\nfield no colon\n\n", "hello\n\n"]
    {
        assert_eq!(bed.hears(octets).await, "500 5.5.2 What is that?", "{octets:?}");
    }
    assert_eq!(bed.judge.begun.load(Ordering::SeqCst), 0);
}

/// A listener on a port of its own, and where it is.
fn listener() -> (Vec<Listener>, std::net::SocketAddr) {
    let any = [Listen::Inet(([127, 0, 0, 1], 0).into())];
    let listeners = Listener::bind(Places { section: "toy", listen: &any, group: "" }).unwrap();
    let Listen::Inet(place) = listeners[0].local() else { panic!("not inet") };
    (listeners, place)
}

/// Says something whole, and what the door says to that.
async fn exchange(mut stream: TcpStream, octets: &[u8]) -> String {
    stream.write_all(octets).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut said = String::new();
    stream.read_to_string(&mut said).await.unwrap();
    said.lines().next().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn a_door_that_listens_has_seats_standing_places_and_its_drain_from_the_house() {
    let message = |subject: &str| format!("mail <>\nrcpt <b@two.example>\nfield Subject: {subject}\n\n").into_bytes();
    let limits = Limits::default().with(|limits| {
        limits.mta.connections = 1;
        limits.mta.drain = Duration::from_millis(200);
    });
    let bed = Bed::open(limits, Fake::named("one"));
    let (listeners, place) = listener();
    let serving = tokio::spawn(Arc::clone(&bed.toy).serve(listeners));
    let (first, octets) = (TcpStream::connect(place).await.unwrap(), message("never"));
    let first = tokio::spawn(async move { exchange(first, &octets).await });
    bed.begun().await;
    let standing = TcpStream::connect(place).await.unwrap();
    let mut closed = TcpStream::connect(place).await.unwrap();
    assert_eq!(closed.read(&mut [0]).await.unwrap(), 0, "beyond the standing places a connection is closed");
    assert_eq!(
        exchange(standing, &message("fine")).await,
        "451 4.3.2 Too many messages at once, please try again later"
    );
    bed.stop.cancel();
    serving.await.unwrap();
    assert_eq!(first.await.unwrap(), "451 4.3.0 Temporary failure, please try again later", "after its time to end");
    assert!(TcpStream::connect(place).await.is_err(), "the place is given back");
}

#[tokio::test]
async fn a_connection_that_is_silent_too_long_is_told_so_and_one_that_says_nothing_more_at_the_end_is_closed() {
    let short = Duration::from_millis(50);
    let bed = Bed::open(Limits::default().with(|limits| limits.mta.idle = short), Fake::named("one"));
    let (listeners, place) = listener();
    let serving = tokio::spawn(Arc::clone(&bed.toy).serve(listeners));
    let mut said = String::new();
    TcpStream::connect(place).await.unwrap().read_to_string(&mut said).await.unwrap();
    assert_eq!(said, "451 4.3.0 Temporary failure, please try again later\n");
    bed.stop.cancel();
    serving.await.unwrap();

    let bed = Bed::open(Limits::default(), Fake::named("one"));
    let (listeners, place) = listener();
    let serving = tokio::spawn(Arc::clone(&bed.toy).serve(listeners));
    let mut idle = TcpStream::connect(place).await.unwrap();
    let fine = TcpStream::connect(place).await.unwrap();
    assert_eq!(exchange(fine, b"mail <>\nrcpt <b@two.example>\nfield Subject: fine\n\n").await, "250 2.0.0 delivered");
    bed.stop.cancel();
    assert_eq!(idle.read(&mut [0]).await.unwrap(), 0, "nothing is in flight on it");
    serving.await.unwrap();
}
