//! What goes wrong: each request is answered in time, in words that refuse for now.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use addrauth::config::Limits;
use addrauth::mta::hooks::Access;
use addrauth_tests::hooks::{Door, open};
use addrauth_tests::http::{Answer, exchange, request};
use addrauth_tests::milter::{Fake, SLOW};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::captured::{ask, captured, fields};

const LATER: &str = "451 4.3.0 Temporary failure, please try again later";
const FULL: &str = "451 4.3.2 Too many messages at once, please try again later";
const NOT_SET_UP: &str = "451 4.3.5 Address Authentication: this mail server is not set up for its filter";

/// What the SMTP client reads.
fn said(answer: &Answer) -> String {
    assert_eq!(answer.status, 200, "{answer:?}");
    let read: Value = serde_json::from_slice(&answer.content).unwrap();
    match read["action"].as_str().unwrap() {
        "reject" => {
            let response = &read["response"];
            assert_eq!(response["enhanced_status"], response["enhancedStatus"]);
            assert_eq!(response["disconnect"], false);
            let text = |name: &str| response[name].as_str().unwrap().to_owned();
            format!("{} {} {}", response["status"], text("enhanced_status"), text("message"))
        }
        action => action.to_owned(),
    }
}

fn about(subject: &str) -> Value {
    let mut body = captured("stalwart-0.15.5-data");
    body["message"]["headers"][2][1] = json!(format!(" {subject}\r\n"));
    body
}

async fn says(door: &Door<Fake>, subject: &str) -> String {
    said(&ask(door, &about(subject)).await)
}

#[tokio::test]
async fn a_panicking_judge_and_a_late_one_are_451_and_the_next_message_is_well() {
    let short = Duration::from_millis(200);
    for (subject, limits) in [
        ("panic", Limits::default()),
        ("panic in keep", Limits::default()),
        ("never", Limits::default().with(|limits| limits.mta.examine = short)),
        ("never", Limits::default().with(|limits| limits.hooks.answer = short)),
        ("never kept", Limits::default().with(|limits| limits.hooks.answer = short)),
    ] {
        let door = open(Fake::named("one"), limits, Access::default());
        assert_eq!(says(&door, subject).await, LATER, "{subject}");
        assert_eq!(says(&door, "fine").await, "accept", "after {subject}");
        door.close().await;
    }
}

#[tokio::test]
async fn verdicts_are_said_and_what_stalwart_would_lose_is_not() {
    let door = open(Fake::named("one"), Limits::default(), Access::default());
    for (subject, words) in
        [("reject", "550 5.7.1 no??250 yes"), ("discard", "discard"), ("hold", LATER), ("fine", "accept")]
    {
        assert_eq!(says(&door, subject).await, words, "{subject}");
    }
    door.close().await;
}

#[tokio::test]
async fn a_full_house_is_451_and_its_room_is_given_back() {
    for limits in [
        Limits::default().with(|limits| limits.mta.messages_in_flight = 1),
        Limits::default().with(|limits| limits.hooks.connections = 1),
        Limits::default().with(|limits| limits.hooks.requests_octets = 1_200),
    ] {
        let judge = Fake::named("one");
        let door = Arc::new(open(judge.clone(), limits, Access::default()));
        let first = tokio::spawn({
            let door = Arc::clone(&door);
            async move { says(&door, "never").await }
        });
        while judge.begun.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(says(&door, "fine").await, FULL);
        // The mail server has gone: its seat is given back a moment later.
        first.abort();
        while says(&door, "fine").await != "accept" {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn what_is_no_request_is_refused_for_now_in_words() {
    let limits = Limits::default().with(|limits| limits.hooks.request = 100_000);
    let judge = Fake::named("one");
    let door = open(judge.clone(), limits, Access::default());
    let with = |change: &dyn Fn(&mut Value)| {
        let mut body = captured("stalwart-0.15.5-data");
        change(&mut body);
        body.to_string()
    };
    for body in [
        String::new(),
        "null".into(),
        "{}".into(),
        "[]".into(),
        "{\"context\":".into(),
        "\u{feff}{}".into(),
        with(&|body| body["envelope"] = Value::Null),
        with(&|body| body["message"] = Value::Null),
        with(&|body| body["message"]["headers"] = json!({})),
        with(&|body| body["message"]["headers"][0] = json!(["From"])),
        with(&|body| body["message"]["contents"] = Value::Null),
        with(&|body| body["envelope"]["to"][0] = json!("bob@recv.test")),
        "[".repeat(50_000),
    ] {
        let answer = request(door.place, "POST /stalwart", &fields(), body.as_bytes()).await;
        assert_eq!(said(&answer), NOT_SET_UP, "{}", &body[..body.len().min(100)]);
    }
    let large = with(&|body| body["message"]["contents"] = json!("x".repeat(100_000)));
    let answer = request(door.place, "POST /stalwart", &fields(), large.as_bytes()).await;
    assert_eq!(said(&answer), "552 5.3.4 The message is too large to be examined");
    let packed = [("content-encoding", "gzip"), ("content-type", "application/json")];
    let answer = request(door.place, "POST /stalwart", &packed, about("fine").to_string().as_bytes()).await;
    assert_eq!(said(&answer), NOT_SET_UP);
    assert_eq!(judge.begun.load(Ordering::SeqCst), 0);
    // A stage that nobody knows, or in capitals, is no way around the filter.
    for stage in ["DATA", "eod", ""] {
        let body = with(&|body| body["context"]["stage"] = json!(stage));
        let answer = request(door.place, "POST /stalwart", &fields(), body.as_bytes()).await;
        let read: Value = serde_json::from_slice(&answer.content).unwrap();
        assert_eq!(read["modifications"].as_array().unwrap().len(), 4, "{stage}");
    }
    door.close().await;
}

#[tokio::test]
async fn who_shows_no_credential_is_refused_for_now_and_examined_by_nobody() {
    let access = Access::default();
    access.token("0123456789abcdef").unwrap();
    access.basic("stalwart:correct horse").unwrap();
    let judge = Fake::named("one");
    let door = open(judge.clone(), Limits::default(), access);
    let body = about("fine").to_string();
    for shown in [None, Some("Bearer 0123456789abcdeX"), Some("Basic c3RhbHdhcnQ6d3Jvbmc=")] {
        let fields: Vec<(&str, &str)> = shown.map(|shown| ("authorization", shown)).into_iter().collect();
        let answer = request(door.place, "POST /stalwart", &fields, body.as_bytes()).await;
        assert_eq!(said(&answer), NOT_SET_UP, "{shown:?}");
    }
    assert_eq!(judge.begun.load(Ordering::SeqCst), 0);
    for shown in ["Bearer 0123456789abcdef", "Basic c3RhbHdhcnQ6Y29ycmVjdCBob3JzZQ=="] {
        let answer = request(door.place, "POST /stalwart", &[("authorization", shown)], body.as_bytes()).await;
        assert_eq!(said(&answer), "accept", "{shown}");
    }
    door.close().await;
}

#[tokio::test]
async fn other_paths_and_methods_are_answered_in_words() {
    let door = open(Fake::named("one"), Limits::default(), Access::default());
    for (line, status) in [
        ("GET /", 200),
        ("GET /stalwart", 405),
        ("DELETE /stalwart", 405),
        ("POST /", 405),
        ("POST /hook", 404),
        ("POST /stalwart/", 404),
    ] {
        let answer = request(door.place, line, &[], b"{}").await;
        assert_eq!(answer.status, status, "{line}");
        assert!(answer.text().trim_end().len() > 20, "{line}");
    }
    let nonsense = exchange(door.place, b"EHLO there\r\n\r\n").await;
    assert_eq!(nonsense.status, 400);
    door.close().await;
}

/// Less than the 30 s after which hyper by itself closes a connection that says nothing.
const SOON: Duration = Duration::from_secs(20);

/// What is said until the connection is closed.
async fn until_closed(stream: &mut TcpStream) -> String {
    let mut heard = Vec::new();
    let closed = tokio::time::timeout(SOON, stream.read_to_end(&mut heard)).await;
    closed.expect("the connection is closed").expect("in good order");
    String::from_utf8(heard).unwrap()
}

#[tokio::test]
async fn a_connection_that_says_nothing_is_closed_and_one_that_waits_for_its_answer_is_not() {
    let idle = Duration::from_millis(100);
    let limits = Limits::default().with(|limits| limits.hooks.idle = idle);
    let door = open(Fake::named("one"), limits, Access::default());
    let connect = async || TcpStream::connect(door.place).await.unwrap();
    let body = about("slow").to_string();
    let head = "POST /stalwart HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n";
    let whole = format!("{head}content-length: {}\r\n\r\n{body}", body.len());
    // Nothing, the half of a head, and a head that comes in drops: one time for all of it.
    assert_eq!(until_closed(&mut connect().await).await, "");
    let mut half = connect().await;
    half.write_all(head.as_bytes()).await.unwrap();
    until_closed(&mut half).await;
    let mut drops = connect().await;
    let begin = Instant::now();
    while drops.write_all(b"x").await.is_ok() && begin.elapsed() < SOON {
        tokio::time::sleep(idle / 4).await;
    }
    assert!(begin.elapsed() < SOON, "a drop now and then keeps a connection for ever");
    // The judge takes longer than that, and the answer is whole; what follows it is nothing again.
    assert!(SLOW > idle);
    let mut asks = connect().await;
    asks.write_all(whole.as_bytes()).await.unwrap();
    let heard = until_closed(&mut asks).await;
    assert!(heard.starts_with("HTTP/1.1 200 ") && heard.ends_with("}"), "{heard}");
    assert_eq!(heard.matches("HTTP/1.1 ").count(), 1, "{heard}");
    door.close().await;
}

#[tokio::test]
async fn when_the_program_stops_messages_in_flight_have_their_time_and_then_451() {
    let drain = Duration::from_millis(200);
    for (subject, limits, words) in [
        ("slow", Limits::default(), "accept"),
        ("never", Limits::default().with(|limits| limits.mta.drain = drain), LATER),
    ] {
        let judge = Fake::named("one");
        let door = Arc::new(open(judge.clone(), limits, Access::default()));
        let asked = tokio::spawn({
            let door = Arc::clone(&door);
            async move { says(&door, subject).await }
        });
        while judge.begun.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        door.stop();
        assert_eq!(asked.await.unwrap(), words);
        Arc::into_inner(door).unwrap().close().await;
    }
}
