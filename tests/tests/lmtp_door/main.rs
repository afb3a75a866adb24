//! The LMTP door between an MTA and a delivery agent, both played: what each recipient is answered, and what is delivered.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use addrauth::case::{
    Body, Case, Direction, Door, Finding, Mail, Owed, PutOff, Redirect, Refusal, Reply, Variant, Verdict,
};
use addrauth::config::{Limits, Listen, Lmtp, NextHop};
use addrauth::mta::lmtp::{self, Settings};
use addrauth::mta::reception::Reception;
use addrauth::mta::{Judge, Lanes};
use addrauth::proto::address::Address;
use addrauth::proto::header::Edit;
use addrauth_tests::agent::{Agent, Client, Habits};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

mod spare;

/// A judge that gives every message the same reply.
struct Told {
    reply: Reply,
    /// The reply that keeping makes of it.
    kept: Option<Reply>,
    /// The bodies that came to be kept.
    bodies: Mutex<Vec<Option<Body>>>,
    /// How many deliveries the agent had seen each time.
    seen: Mutex<Vec<usize>>,
    agent: Arc<Agent>,
}

impl Judge for Told {
    async fn examine(&self, mail: Mail) -> Case {
        assert_eq!(mail.door, Door::Delivery);
        let finding = Finding::Passing(Direction::Inbound);
        Case { mail, finding, decisions: Vec::new(), reply: self.reply.clone() }
    }

    async fn keep(&self, case: Case, body: Option<Body>) -> Case {
        self.bodies.lock().unwrap().push(body);
        self.seen.lock().unwrap().push(self.agent.delivered());
        Case { reply: self.kept.clone().unwrap_or(case.reply.clone()), ..case }
    }
}

/// The door with an agent behind it.
struct Stage {
    judge: Arc<Told>,
    agent: Arc<Agent>,
    place: SocketAddr,
    stop: CancellationToken,
    serving: tokio::task::JoinHandle<()>,
    _spool: tempfile::TempDir,
}

impl Stage {
    async fn set(reply: Reply, habits: Habits) -> Stage {
        Stage::with(reply, None, habits, Limits::default()).await
    }

    async fn with(reply: Reply, kept: Option<Reply>, habits: Habits, limits: Limits) -> Stage {
        let agent = Arc::new(Agent::start(habits).await);
        let spool = tempfile::tempdir().unwrap();
        let judge =
            Arc::new(Told { reply, kept, bodies: Mutex::default(), seen: Mutex::default(), agent: Arc::clone(&agent) });
        let next = NextHop::Inet(agent.address.ip().to_string(), agent.address.port());
        let settings = Settings { next, name: "mx.home.example".into(), spool: spool.path().to_owned() };
        let (place, stop, serving) = open(Arc::clone(&judge), settings, limits);
        Stage { judge, agent, place, stop, serving, _spool: spool }
    }

    async fn bring(&self, to: &[&str], message: &[u8]) -> Vec<String> {
        let to: Vec<String> = to.iter().map(|to| (*to).to_owned()).collect();
        Client::open(self.place).await.0.bring("alice@example.com", &to, message).await
    }

    async fn close(self) {
        self.stop.cancel();
        self.serving.await.unwrap();
    }
}

fn open(
    judge: Arc<Told>,
    settings: Settings,
    limits: Limits,
) -> (SocketAddr, CancellationToken, tokio::task::JoinHandle<()>) {
    let places = Lmtp { listen: vec!["inet:127.0.0.1:0".parse().unwrap()], ..Lmtp::default() };
    let listeners = lmtp::bind(&places).unwrap();
    let Listen::Inet(place) = listeners[0].local() else { panic!("not inet") };
    let (sender, heard) = watch::channel(judge);
    let stop = CancellationToken::new();
    let reception = Reception::open(heard, Arc::new(limits), stop.clone());
    let serving = tokio::spawn(async move {
        lmtp::serve(listeners, reception, Lanes::here(), settings).await;
        drop(sender);
    });
    (place, stop, serving)
}

fn insert(name: &str, value: &str) -> Edit {
    Edit::Insert { index: 0, name: name.into(), value: value.into() }
}

fn accepted() -> Reply {
    let edits = vec![Edit::Delete { name: "X-Auth-Key".into(), index: 1 }, insert("X-Auth-Key-Status", " INVALIDKEY")];
    Reply { edits, ..Reply::bare(Verdict::Accept) }
}

/// The first recipient gets a mark, the others none.
fn mixed() -> Reply {
    let mut edits = accepted().edits;
    edits.insert(1, insert("X-Spam-Flag", " YES"));
    Reply { variants: vec![Variant { recipients: vec![0], edits }], ..accepted() }
}

const MESSAGE: &[u8] = b"Received: a\r\nX-Auth-Key: k\r\nFrom: alice@example.com\r\n\r\n.\r\n..two\r\n\0\xff\r\n";
const PLAIN: &[u8] =
    b"X-Auth-Key-Status: INVALIDKEY\r\nReceived: a\r\nFrom: alice@example.com\r\n\r\n.\r\n..two\r\n\0\xff\r\n";
const MARKED: &[u8] =
    b"X-Auth-Key-Status: INVALIDKEY\r\nX-Spam-Flag: YES\r\nReceived: a\r\nFrom: alice@example.com\r\n\r\n.\r\n..two\r\n\0\xff\r\n";
const BOTH: [&str; 2] = ["bob@home.example", "carol@home.example"];

fn habits_at_end(address: &str, reply: &str) -> Habits {
    Habits { at_end: HashMap::from([(address.into(), reply.into())]), ..Habits::default() }
}

#[tokio::test]
async fn recipients_with_one_header_are_one_transaction_and_the_body_keeps_its_octets() {
    let stage = Stage::set(accepted(), Habits::default()).await;
    assert_eq!(stage.bring(&BOTH, MESSAGE).await, ["250 2.0.0 Saved", "250 2.0.0 Saved"]);
    let got = stage.agent.take();
    assert_eq!((got.len(), &got[0].to[..], &got[0].message[..]), (1, &BOTH.map(String::from)[..], PLAIN));
    assert_eq!(got[0].mail, "MAIL FROM:<alice@example.com>");
    stage.close().await;
}

#[tokio::test]
async fn each_header_is_a_transaction_of_its_own_and_a_long_body_waits_in_a_file() {
    let stage = Stage::set(mixed(), Habits::default()).await;
    let long = [MESSAGE, &b"0123456789\r\n".repeat(400_000)].concat();
    for (message, length) in [(MESSAGE.to_vec(), 0), (long, 4_800_000)] {
        assert_eq!(stage.bring(&BOTH, &message).await, ["250 2.0.0 Saved", "250 2.0.0 Saved"]);
        let mut got = stage.agent.take();
        got.sort_by(|one, other| one.to.cmp(&other.to));
        for (delivery, (to, begins)) in got.iter().zip([(BOTH[0], MARKED), (BOTH[1], PLAIN)]) {
            assert_eq!(delivery.to, [to]);
            assert!(delivery.message.starts_with(begins) && delivery.message.len() == begins.len() + length);
            assert!(delivery.message[begins.len()..].chunks(12).all(|line| line == b"0123456789\r\n"));
        }
        assert_eq!(got.len(), 2);
    }
    stage.close().await;
}

#[tokio::test]
async fn a_body_that_may_not_wait_any_longer_is_refused_for_those_it_waits_for_alone() {
    let limits = Limits::default().with(|limits| (limits.mta.spool_memory, limits.mta.spool_octets) = (100, 1_000));
    let stage = Stage::with(mixed(), None, Habits::default(), limits).await;
    let long = [MESSAGE, &b"0123456789\r\n".repeat(40_000)].concat();
    let mut answers = stage.bring(&BOTH, &long).await;
    answers.sort();
    assert_eq!((answers[0].as_str(), &answers[1][..4]), ("250 2.0.0 Saved", "452 "));
    assert_eq!(stage.agent.take().len(), 1);
    stage.close().await;
}

#[tokio::test]
async fn where_the_agent_is_down_each_recipient_is_put_off() {
    let (judge, nobody) = (Stage::set(accepted(), Habits::default()).await, "unix:/nonexistent/lmtp");
    let settings = Settings { next: nobody.parse().unwrap(), name: "mx".into(), spool: std::env::temp_dir() };
    let (place, stop, serving) = open(Arc::clone(&judge.judge), settings, Limits::default());
    let (mut mta, offers) = Client::open(place).await;
    let down = "451 4.4.1 The delivery agent cannot be reached";
    // Were it offered nothing, the MTA would bounce what needs an extension.
    assert_eq!(offers, [down]);
    for line in ["MAIL FROM:<a@b> SMTPUTF8", "RCPT TO:<a@b>", "RCPT TO:<c@d>", "DATA", "MAIL FROM:<>", "LHLO a"] {
        assert_eq!(mta.say(line).await, [down]);
    }
    mta.say("RSET").await;
    assert_eq!(mta.say("MAIL FROM:<>").await, [down]);
    stop.cancel();
    serving.await.unwrap();
    judge.close().await;
}

#[tokio::test]
async fn the_agents_own_words_about_a_recipient_are_passed_on() {
    let refused = "550-5.1.1 no such\r\n550 5.1.1 mailbox";
    let habits = Habits {
        at_rcpt: HashMap::from([(BOTH[0].into(), refused.into())]),
        at_end: HashMap::from([("dave@home.example".into(), "452 4.2.2 full".into())]),
        ..Habits::default()
    };
    let stage = Stage::set(accepted(), habits).await;
    let answers = stage.bring(&[BOTH[0], BOTH[1], "dave@home.example"], MESSAGE).await;
    assert_eq!(answers, ["550-5.1.1 no such\n550 5.1.1 mailbox", "250 2.0.0 Saved", "452 4.2.2 full"]);
    assert_eq!(stage.bring(&[BOTH[0]], MESSAGE).await, ["550-5.1.1 no such\n550 5.1.1 mailbox"]);
    stage.close().await;
    let habits = Habits { at_mail: "421 4.3.2 going down".into(), ..Habits::default() };
    let stage = Stage::set(accepted(), habits).await;
    assert_eq!(stage.bring(&BOTH, MESSAGE).await, ["451 4.3.2 going down", "451 4.3.2 going down"]);
    stage.close().await;
}

#[tokio::test]
async fn what_the_agent_does_not_say_is_no_delivery() {
    for habits in [
        Habits { closes_at_end: true, ..Habits::default() },
        Habits { closes_after: Some(100), ..Habits::default() },
        habits_at_end(BOTH[0], "no reply at all"),
        habits_at_end(BOTH[0], "354 again?"),
    ] {
        let stage = Stage::set(accepted(), habits.clone()).await;
        let answers = stage.bring(&BOTH, &[MESSAGE, &[b'x'; 100_000], b"\r\n"].concat()).await;
        assert!(
            answers.len() == 2 && answers.iter().all(|answer| answer.starts_with("451 4.4.2 ")),
            "{habits:?} {answers:?}"
        );
        stage.close().await;
    }
}

#[tokio::test]
async fn what_the_agent_has_said_stands_where_it_says_no_more() {
    let stage = Stage::set(accepted(), habits_at_end(BOTH[1], "no reply at all")).await;
    assert_eq!(stage.bring(&BOTH, MESSAGE).await, ["250 2.0.0 Saved", "451 4.4.2 The delivery agent did not answer"]);
    stage.close().await;
    let habits = Habits {
        at_end: HashMap::from([
            (BOTH[0].into(), "250 2.0.0\tSaved".into()),
            (BOTH[1].into(), format!("250 {}", "x".repeat(5_000))),
        ]),
        ..Habits::default()
    };
    let stage = Stage::set(accepted(), habits).await;
    let answers = stage.bring(&BOTH, MESSAGE).await;
    assert_eq!((&answers[0][..], &answers[1][..8], answers[1].len()), ("250 2.0.0 Saved", "250 xxxx", 1_028));
    stage.close().await;
}

#[tokio::test]
async fn a_message_that_is_too_large_by_what_we_added_waits() {
    let offer = || vec!["SIZE 100"];
    let too_large = "552 5.3.4 too large";
    let at_end = habits_at_end(BOTH[0], too_large);
    let at_mail = Habits { at_mail: too_large.into(), ..Habits::default() };
    for (habits, size, code) in
        [(&at_end, 100, "452"), (&at_mail, 100, "452"), (&at_mail, 101, "552"), (&at_end, 9, "552")]
    {
        let stage = Stage::set(accepted_and_grown(), Habits { offers: offer(), ..habits.clone() }).await;
        let (mut mta, _) = Client::open(stage.place).await;
        mta.say(&format!("MAIL FROM:<a@b> SIZE={size}")).await;
        mta.say("RCPT TO:<bob@home.example>").await;
        mta.say("DATA").await;
        mta.write(&addrauth_tests::agent::stuffed(MESSAGE)).await;
        assert!(mta.reply().await[0].starts_with(code), "{size} {habits:?}");
        stage.close().await;
    }
}

fn accepted_and_grown() -> Reply {
    Reply { edits: vec![insert("X-Spam-Flag", " YES")], ..Reply::bare(Verdict::Accept) }
}

#[tokio::test]
async fn all_copies_together_have_one_time() {
    let limits = Limits::default().with(|limits| limits.mta.next_hop_end = Duration::from_secs(6));
    let habits = Habits { silent_after: Some(1), ..Habits::default() };
    let stage = Stage::with(mixed(), None, habits, limits).await;
    let answers = tokio::time::timeout(Duration::from_secs(60), stage.bring(&BOTH, MESSAGE)).await;
    let mut answers =
        answers.expect("answers in time, not when the agent has been silent for as long as for one reply");
    answers.sort();
    assert_eq!(answers, ["250 2.0.0 Saved", "451 4.4.2 The delivery agent did not answer"]);
    stage.close().await;
}

#[tokio::test]
async fn a_word_of_the_agent_in_the_wrong_place_is_no_word_about_a_recipient() {
    let said = |reply: &str| reply.to_owned();
    for habits in [
        Habits { at_data: said("250 2.0.0 Saved"), ..Habits::default() },
        Habits { at_mail: said("354 Go on"), ..Habits::default() },
        Habits { at_rcpt: HashMap::from([(BOTH[0].into(), said("354 Go on"))]), ..Habits::default() },
        Habits { at_mail: said("550 5.1.0 no"), at_rset: said("354 Go on"), ..Habits::default() },
    ] {
        let stage = Stage::set(accepted(), habits.clone()).await;
        let answers = stage.bring(&[BOTH[0]], MESSAGE).await;
        assert_eq!(answers, ["451 4.4.2 The delivery agent did not answer"], "{habits:?}");
        assert_eq!(stage.agent.take(), []);
        stage.close().await;
    }
}

#[tokio::test]
async fn a_reply_too_many_is_not_taken_for_one_to_the_next_message() {
    let stage = Stage::set(accepted(), habits_at_end(BOTH[0], "250 2.0.0 Saved\r\n250 2.0.0 Saved")).await;
    let (mut mta, _) = Client::open(stage.place).await;
    for _ in 0..3 {
        assert_eq!(mta.bring("a@b", &[BOTH[0].to_owned()], MESSAGE).await, ["250 2.0.0 Saved"]);
    }
    assert_eq!((stage.agent.take().len(), stage.agent.connections()), (3, 3));
    stage.close().await;
}

#[tokio::test]
async fn what_an_mta_did_not_read_in_time_is_not_said_again() {
    let to: Vec<String> = (0..200).map(|at| format!("u{at}@home.example")).collect();
    let long = |to: &String| (to.clone(), format!("{}250 {to}", format!("250-{}\r\n", "x".repeat(900)).repeat(45)));
    let habits = Habits { at_end: to.iter().map(long).collect(), ..Habits::default() };
    let expected: String = to.iter().map(|to| format!("{}\r\n", habits.at_end[to])).collect();
    let limits = Limits::default().with(|limits| limits.mta.write = Duration::from_millis(500));
    let stage = Stage::with(accepted(), None, habits, limits).await;
    let (mut mta, _) = Client::open(stage.place).await;
    assert!(mta.say("MAIL FROM:<>").await[0].starts_with("250"));
    for to in &to {
        assert!(mta.say(&format!("RCPT TO:<{to}>")).await[0].starts_with("250"));
    }
    mta.say("DATA").await;
    mta.write(&[addrauth_tests::agent::stuffed(MESSAGE), b"QUIT\r\n".to_vec()].concat()).await;
    while stage.agent.delivered() == 0 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let heard = String::from_utf8(mta.rest().await).unwrap();
    assert!(format!("{expected}221 2.0.0 Bye\r\n").starts_with(&heard), "{} of {}", heard.len(), expected.len());
    stage.close().await;
}

#[tokio::test]
async fn an_agent_that_ends_its_connections_is_connected_to_again() {
    let stage = Stage::set(accepted(), Habits { one_message: true, ..Habits::default() }).await;
    let (mut mta, _) = Client::open(stage.place).await;
    for _ in 0..3 {
        assert_eq!(mta.bring("a@b", &[BOTH[0].to_owned()], MESSAGE).await, ["250 2.0.0 Saved"]);
    }
    assert_eq!((stage.agent.take().len(), stage.agent.connections()), (3, 3));
    stage.close().await;
}

#[tokio::test]
async fn what_is_owed_is_durable_before_the_agent_hears_the_end() {
    let owed = vec![Owed::Record, Owed::Quarantine(vec![1])];
    let reply = Reply { removed: vec![1], owed, ..accepted() };
    let stage = Stage::set(reply.clone(), Habits::default()).await;
    assert_eq!(stage.bring(&BOTH, MESSAGE).await, ["250 2.0.0 Saved", "250 2.0.0 Ok"]);
    let body = MESSAGE.split_at(MESSAGE.windows(4).position(|end| end == b"\r\n\r\n").unwrap() + 4).1;
    assert_eq!(*stage.judge.bodies.lock().unwrap(), [Some(Body(body.to_vec()))]);
    assert_eq!(*stage.judge.seen.lock().unwrap(), [0]);
    assert_eq!(stage.agent.take()[0].to, [BOTH[0]]);
    stage.close().await;
    let deferred = Reply::bare(Verdict::Defer(Refusal { code: 451, status: "4.3.0", text: "Local trouble".into() }));
    let stage = Stage::with(reply, Some(deferred), Habits::default(), Limits::default()).await;
    assert_eq!(stage.bring(&BOTH, MESSAGE).await, ["451 4.3.0 Local trouble", "451 4.3.0 Local trouble"]);
    assert_eq!(stage.agent.take(), []);
    stage.close().await;
}

#[tokio::test]
async fn who_gets_nothing_is_answered_and_the_agent_hears_nothing() {
    let stage = Stage::set(Reply::bare(Verdict::Discard), Habits::default()).await;
    assert_eq!(stage.bring(&BOTH, MESSAGE).await, ["250 2.0.0 Ok", "250 2.0.0 Ok"]);
    assert_eq!(stage.agent.take(), []);
    stage.close().await;
    let refusal = Refusal { code: 451, status: "4.7.1", text: "later".into() };
    let reply = Reply { put_off: vec![PutOff { recipient: 1, refusal }], ..accepted() };
    let stage = Stage::set(reply, Habits::default()).await;
    assert_eq!(stage.bring(&BOTH, MESSAGE).await, ["250 2.0.0 Saved", "451 4.7.1 later"]);
    assert_eq!(stage.agent.take()[0].to, [BOTH[0]]);
    stage.close().await;
    // Settling says neither here; were it to, nobody is refused for good.
    let refusal = Refusal { code: 550, status: "5.7.1", text: "no".into() };
    for verdict in [Verdict::Reject(refusal), Verdict::Hold("no".into())] {
        let stage = Stage::set(Reply::bare(verdict), Habits::default()).await;
        assert!(stage.bring(&BOTH, MESSAGE).await.iter().all(|answer| answer.starts_with("451 4.3.0 ")));
        stage.close().await;
    }
}

#[tokio::test]
async fn a_spam_folder_that_the_agent_does_not_know_gives_way_to_the_recipient_with_the_mark() {
    let to = Address::parse(b"bob+Junk@home.example", false).unwrap();
    let marked = mixed().variants[0].edits.clone();
    let reply =
        Reply { redirected: vec![Redirect { recipient: 0, to }], edits: marked, ..Reply::bare(Verdict::Accept) };
    for (habits, path) in [
        (Habits::default(), "bob+Junk@home.example"),
        (
            Habits {
                at_rcpt: HashMap::from([("bob+Junk@home.example".into(), "550 5.1.1 no".into())]),
                ..Habits::default()
            },
            BOTH[0],
        ),
    ] {
        let stage = Stage::set(reply.clone(), habits).await;
        assert_eq!(stage.bring(&[BOTH[0]], MESSAGE).await, ["250 2.0.0 Saved"]);
        let got = stage.agent.take();
        assert_eq!((&got[0].to[..], &got[0].message[..]), (&[path.to_owned()][..], MARKED));
        stage.close().await;
    }
}

#[tokio::test]
async fn a_dot_that_another_reader_could_take_for_the_end_goes_on_by_chunks_alone() {
    for end in ["\n.\n", "\r.\r", "\n.\r\n"] {
        let smuggled = format!("From: alice@example.com\r\n\r\na{end}MAIL FROM:<x@y>\r\n");
        let stage = Stage::set(Reply::bare(Verdict::Accept), Habits::default()).await;
        let answers = stage.bring(&BOTH, smuggled.as_bytes()).await;
        assert!(answers.iter().all(|answer| answer.starts_with("451 4.6.0 ")), "{answers:?}");
        assert_eq!(stage.agent.take(), []);
        stage.close().await;
        let habits = Habits { offers: vec!["CHUNKING", "BINARYMIME"], ..Habits::default() };
        let stage = Stage::set(Reply::bare(Verdict::Accept), habits).await;
        let (mut mta, offers) = Client::open(stage.place).await;
        assert!(offers.contains(&"250-CHUNKING".to_owned()));
        for line in ["MAIL FROM:<> BODY=BINARYMIME", "RCPT TO:<bob@home.example>"] {
            assert!(mta.say(line).await[0].starts_with("250"));
        }
        mta.write(format!("BDAT 5\r\nFrom:BDAT {} LAST\r\n{}", smuggled.len() - 5, &smuggled[5..]).as_bytes()).await;
        assert!(mta.reply().await[0].starts_with("250 2.0.0 5 "));
        assert_eq!(mta.reply().await, ["250 2.0.0 Saved"]);
        assert_eq!(stage.agent.take()[0].message, smuggled.as_bytes());
        stage.close().await;
    }
}

#[tokio::test]
async fn what_the_agent_offers_is_offered_and_what_the_mta_asks_for_reaches_it() {
    let habits = Habits { offers: vec!["SIZE 5000", "DSN", "8BITMIME", "VRFY"], ..Habits::default() };
    let stage = Stage::set(accepted(), habits).await;
    let (mut mta, offers) = Client::open(stage.place).await;
    let expected = ["250-mx.home.example", "250-PIPELINING", "250-8BITMIME", "250-DSN", "250-SIZE 5000"];
    assert_eq!(offers[..5], expected);
    assert!(mta.say("MAIL FROM:<a@b> SMTPUTF8").await[0].starts_with("555 "));
    mta.say("MAIL FROM:<a@b> SIZE=100 BODY=8BITMIME RET=HDRS").await;
    mta.say("RCPT TO:<bob@home.example> NOTIFY=NEVER ORCPT=rfc822;bob@home.example").await;
    mta.say("DATA").await;
    mta.write(&addrauth_tests::agent::stuffed(MESSAGE)).await;
    assert_eq!(mta.reply().await, ["250 2.0.0 Saved"]);
    let got = stage.agent.take();
    // The size is that of the message as it goes on.
    let size = 100 + PLAIN.len() - MESSAGE.len();
    assert_eq!(got[0].mail, format!("MAIL FROM:<a@b> SIZE={size} BODY=8BITMIME RET=HDRS"));
    assert_eq!(got[0].wishes, ["NOTIFY=NEVER ORCPT=rfc822;bob@home.example"]);
    stage.close().await;
}

#[tokio::test]
async fn a_message_in_flight_ends_well_when_the_program_stops_and_a_silent_mta_is_told() {
    let stage = Stage::set(accepted(), Habits::default()).await;
    let (mut mta, _) = Client::open(stage.place).await;
    let (mut idle, _) = Client::open(stage.place).await;
    mta.say("MAIL FROM:<>").await;
    mta.say("RCPT TO:<bob@home.example>").await;
    assert!(mta.say("DATA").await[0].starts_with("354"));
    stage.stop.cancel();
    assert_eq!(idle.reply().await, ["421 4.3.2 The filter stops"]);
    mta.write(b"From: a@b\r\n\r\n.\r\n").await;
    assert_eq!(mta.reply().await, ["250 2.0.0 Saved"]);
    assert!(mta.reply().await.concat().starts_with("421 4.3.2"));
    stage.close().await;
    let limits = Limits::default().with(|limits| limits.mta.idle = Duration::from_millis(50));
    let stage = Stage::with(accepted(), None, Habits::default(), limits).await;
    let (mut silent, _) = Client::open(stage.place).await;
    assert_eq!(silent.reply().await, ["421 4.3.2 Please try again later"]);
    stage.close().await;
}

#[tokio::test]
async fn a_message_that_does_not_come_to_its_end_is_delivered_to_nobody() {
    let stage = Stage::set(accepted(), Habits::default()).await;
    let (mut mta, _) = Client::open(stage.place).await;
    mta.say("MAIL FROM:<>").await;
    mta.say("RCPT TO:<bob@home.example>").await;
    mta.say("DATA").await;
    mta.write(&[b"From: a@b\r\n\r\n".to_vec(), b"0123456789\r\n".repeat(100_000)].concat()).await;
    drop(mta);
    stage.stop.cancel();
    let Stage { agent, serving, .. } = stage;
    serving.await.unwrap();
    for _ in 0..600 {
        if agent.cut_short() == 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!((agent.cut_short(), agent.take()), (1, vec![]));
}
