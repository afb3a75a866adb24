//! The draft's dialect: what a bridge and a client in CBOR ask, and what they are answered.

use addrauth::config::Limits;
use addrauth::mta::hooks::Access;
use addrauth_tests::bridge::{Applied, Bridge, base64, decoded};
use addrauth_tests::hooks::{Door, open, open_in};
use addrauth_tests::http::{Answer, request};
use addrauth_tests::milter::Fake;
use addrauth_tests::stalwart::Brought;
use serde_json::{Value, json};

use crate::captured::captured;

const LATER: &str = "451 4.3.0 Temporary failure, please try again later";
const NOT_SET_UP: &str = "451 4.3.5 Address Authentication: this mail server is not set up for its filter";

fn brought(octets: &[u8]) -> Brought<'_> {
    let to = ["b@two.example", "c@two.example"].map(String::from).to_vec();
    Brought { from: "a@one.example", to, login: None, id: "4ZbX2k1mQz", octets }
}

fn about(subject: &str) -> Vec<u8> {
    format!("From: a@one.example\r\nSubject: {subject}\r\nX-Auth-Key: k\r\n\r\nbody\r\n").into_bytes()
}

/// What an SMTP client reads.
fn said(answer: &Answer) -> String {
    match Applied::of(answer, b"\r\n", &mut vec!["b@two.example".into(), "c@two.example".into()]) {
        Err(reply) => reply,
        Ok(Applied::Queued(_)) => "accept".into(),
        Ok(Applied::Held(_)) => "hold".into(),
        Ok(Applied::Dropped) => "discard".into(),
    }
}

async fn ask(bridge: &Bridge, id: &str, subject: &str) -> Answer {
    let octets = about(subject);
    let brought = brought(&octets);
    let mut request = bridge.request("data", &brought, &brought.to);
    request["rawMessage"] = json!(base64(&octets));
    bridge.asks(id, &request).await
}

#[tokio::test]
async fn a_message_is_read_as_the_bridge_shows_it_and_its_octets_stay() {
    let judge = Fake::named("one");
    let door = open(judge.clone(), Limits::default(), Access::default());
    let bridge = Bridge::registered(door.place, None, &["connect", "ehlo", "mail", "rcpt", "data"]).await;
    for stage in ["connect", "ehlo", "mail", "rcpt", "rcpt-second"] {
        let answer = bridge.asks(&bridge.fresh(), &captured(&format!("draft01-bridge-9fcb561-{stage}"))).await;
        assert_eq!((answer.status, answer.content.len()), (204, 0), "{stage}");
    }
    for (name, login) in [("data", None), ("data-submission", Some("alice@recv.test"))] {
        let body = captured(&format!("draft01-bridge-9fcb561-{name}"));
        let raw = decoded(body["rawMessage"].as_str().unwrap()).unwrap();
        let answer = bridge.asks(&bridge.fresh(), &body).await;
        let said: Value = serde_json::from_slice(&answer.content).unwrap();
        assert_eq!(said.as_object().unwrap().len(), 1);
        assert_eq!(said["set"][0]["path"], "/rawMessage");
        let edited = decoded(said["set"][0]["value"].as_str().unwrap()).unwrap();
        let text = String::from_utf8_lossy(&raw).into_owned();
        let keys = ["X-Auth-Key: first\r\n", "x-auth-key: second\r\n", "X-AUTH-KEY:\n\tthird\n  folded\r\n"];
        let left = keys.iter().fold(text, |text, key| text.replace(key, ""));
        assert_eq!(String::from_utf8_lossy(&edited), format!("X-Judge: one\r\n{left}"));
        assert_eq!(edited.iter().filter(|octet| **octet == 0xe9).count(), 2, "8-bit octets stay");
        let mail = judge.kept.lock().unwrap().pop().unwrap();
        assert_eq!((mail.login.as_deref(), mail.queue_id.as_deref()), (login, Some("4ZbX2k1mQz")));
        assert_eq!((mail.head().keys.len(), mail.recipients.len()), (3, 1));
        assert_eq!(mail.mta, "postfix-mta-hooks 0.1.0");
        assert_eq!((mail.client.helo.as_str(), mail.client.tls), ("client.test", login.is_some()));
        assert_eq!(mail.daemon, if login.is_some() { "mx.recv.test:587" } else { "mx.recv.test:25" });
        assert!(mail.means.exact && mail.means.holds);
    }
    assert_eq!((bridge.farewell().await, bridge.farewell().await), (204, 410));
    door.close().await;
}

#[tokio::test]
async fn verdicts_are_said_and_the_connection_is_never_ended() {
    let door = open(Fake::named("one"), Limits::default(), Access::default());
    let bridge = Bridge::registered(door.place, None, &["data"]).await;
    for (subject, words) in [
        ("reject", "550 5.7.1 no??250 yes"),
        ("discard", "discard"),
        ("hold", "hold"),
        ("fine", "accept"),
        ("panic", LATER),
        ("panic in keep", LATER),
    ] {
        assert_eq!(said(&ask(&bridge, &bridge.fresh(), subject).await), words, "{subject}");
    }
    let gets = |subject: &'static str| {
        let bridge = &bridge;
        async move { bridge.takes(&brought(&about(subject)), true).await.gets }
    };
    assert_eq!(gets("remove 0").await, ["c@two.example"]);
    assert_eq!(gets("remove 1").await, ["b@two.example"]);
    assert_eq!(gets("redirect b+Junk@two.example").await, ["c@two.example", "b+Junk@two.example"]);
    door.close().await;
}

#[tokio::test]
async fn the_same_request_is_answered_once_also_after_a_restart_and_by_another_registration() {
    let dir = tempfile::tempdir().unwrap();
    let judge = Fake::named("one");
    let door = open_in(judge.clone(), Limits::default(), Access::default(), Some(dir.path().to_owned()));
    let bridge = Bridge::registered(door.place, None, &["data"]).await;
    let kept = || judge.kept.lock().unwrap().len();
    let first = ask(&bridge, "one", "body").await;
    let second = ask(&bridge, "one", "body").await;
    assert_eq!((first.content == second.content, kept()), (true, 1));
    assert_eq!(ask(&bridge, "one", "fine").await.status, 409);
    // Its time alone is another.
    let octets = about("body");
    let mut later = bridge.request("data", &brought(&octets), &brought(&octets).to);
    later["rawMessage"] = json!(base64(&octets));
    later["timestamp"] = json!("2026-11-29T14:00:01.000Z");
    let third = bridge.asks("one", &later).await;
    assert_eq!((first.content == third.content, kept()), (true, 1));
    door.close().await;

    let door = open_in(judge.clone(), Limits::default(), Access::default(), Some(dir.path().to_owned()));
    let mut bridge = bridge;
    bridge.scanner = door.place;
    assert_eq!(ask(&bridge, "one", "body").await.content, first.content);
    assert_eq!(bridge.farewell().await, 204, "a registration is there after a restart");
    assert_eq!(ask(&bridge, "one", "body").await.status, 410);
    let bridge = Bridge::registered(door.place, None, &["data"]).await;
    assert_eq!(ask(&bridge, "one", "body").await.content, first.content);
    assert_eq!(kept(), 1);
    let on_disk = std::fs::read_to_string(dir.path().join("hooks-answers.jsonl")).unwrap();
    assert!(on_disk.lines().count() == 1 && !on_disk.contains("body"), "{on_disk}");
    door.close().await;
}

#[tokio::test]
async fn two_tries_at_once_are_one() {
    let judge = Fake::named("one");
    let door = open(judge.clone(), Limits::default(), Access::default());
    let bridge = Bridge::registered(door.place, None, &["data"]).await;
    let (first, second) = tokio::join!(ask(&bridge, "one", "body slowly"), ask(&bridge, "one", "body slowly"));
    assert_eq!(first.content, second.content);
    assert_eq!(judge.kept.lock().unwrap().len(), 1);
    door.close().await;
}

#[tokio::test]
async fn who_may_not_ask_is_told_so_in_the_words_of_http() {
    let (one, other) = ("0123456789abcdef", "fedcba9876543210");
    let access = Access::default();
    access.token(one).unwrap();
    access.token(other).unwrap();
    let door = open(Fake::named("one"), Limits::default(), access);
    let wanted = captured("draft01-bridge-9fcb561-register").to_string();
    let json = ("content-type", "application/json");
    let bearer = |token: &str| format!("Bearer {token}");
    let none = request(door.place, "POST /draft-01/registrations", &[json], wanted.as_bytes()).await;
    assert_eq!((none.status, none.field("content-type")), (401, "application/problem+json"));
    assert!(none.field("www-authenticate").starts_with("Bearer "));
    let bridge = Bridge::registered(door.place, Some(one), &["data"]).await;
    let hook = |shown: Option<String>, id: String| {
        let place = door.place;
        async move {
            let mut fields = vec![json, ("x-mta-hooks-registration", id.as_str()), ("x-mta-hooks-request-id", "1")];
            fields.extend(shown.as_deref().map(|shown| ("authorization", shown)));
            request(place, "POST /draft-01/hook", &fields, b"{}").await.status
        }
    };
    let id = || bridge.registration.clone();
    assert_eq!(hook(None, id()).await, 401);
    assert_eq!(hook(Some(bearer("wrong-wrong-wrong")), id()).await, 401);
    assert_eq!(hook(Some(bearer(other)), id()).await, 403);
    assert_eq!(hook(Some(bearer(one)), "nothing".into()).await, 404);
    assert_eq!(hook(Some(bearer(one)), String::new()).await, 404);
    let looks = |token: &'static str| {
        let line = format!("GET /draft-01/registrations/{}", bridge.registration);
        let place = door.place;
        async move { request(place, &line, &[("authorization", &format!("Bearer {token}"))], b"").await }
    };
    assert_eq!(looks(other).await.status, 403);
    let told: Value = serde_json::from_slice(&looks(one).await.content).unwrap();
    assert_eq!((&told["status"], &told["registrationId"]), (&json!("active"), &json!(bridge.registration)));
    door.close().await;
}

#[tokio::test]
async fn a_registration_that_cannot_be_kept_to_is_refused_and_there_are_never_too_many() {
    let limits = Limits::default().with(|limits| limits.hooks.registrations = 2);
    let door = open(Fake::named("one"), limits, Access::default());
    let register = |body: Value| {
        let place = door.place;
        async move {
            let fields = [("content-type", "application/json")];
            request(place, "POST /draft-01/registrations", &fields, body.to_string().as_bytes()).await.status
        }
    };
    let with = |change: &dyn Fn(&mut Value)| {
        let mut body = captured("draft01-bridge-9fcb561-register");
        change(&mut body);
        body
    };
    for (body, status) in [
        (with(&|_| {}), 201),
        (with(&|body| body["expiresAt"] = json!("2999-01-01T00:00:00.000Z")), 201),
        (with(&|body| body["inbound"]["properties"] = Value::Null), 201),
        (with(&|body| body["expiresAt"] = json!("2001-01-01T00:00:00Z")), 422),
        (with(&|body| body["filter"] = json!({})), 422),
        (with(&|body| body["inbound"] = Value::Null), 422),
        (with(&|body| body["inbound"]["stages"] = json!(["rcpt"])), 422),
        (with(&|body| body["inbound"]["stages"] = json!(["data", "nonsense"])), 422),
        (with(&|body| body["inbound"]["properties"] = json!(["/stage", "/action"])), 422),
        (with(&|body| body["serialization"] = json!("xml")), 422),
        (with(&|body| body["timeoutMs"] = json!(100)), 422),
        (json!([]), 422),
        (json!("x".repeat(100_000)), 413),
    ] {
        assert_eq!(register(body.clone()).await, status, "{}", &body.to_string()[..20]);
    }
    let first = Bridge::registered(door.place, None, &["data"]).await;
    for _ in 0..2 {
        assert_eq!(register(with(&|_| {})).await, 201);
    }
    assert_eq!(ask(&first, "1", "fine").await.status, 410, "the one that was not used made room");
    let plain = request(door.place, "POST /draft-01/registrations", &[("content-type", "text/plain")], b"{}").await;
    assert_eq!(plain.status, 415);
    door.close().await;
}

#[tokio::test]
async fn what_is_no_request_is_refused_for_now_in_words() {
    let limits = Limits::default().with(|limits| limits.hooks.request = 100_000);
    let judge = Fake::named("one");
    let door = open(judge.clone(), limits, Access::default());
    let bridge = Bridge::registered(door.place, None, &["data"]).await;
    let body = captured("draft01-bridge-9fcb561-data");
    let with = |change: &dyn Fn(&mut Value)| {
        let mut body = body.clone();
        change(&mut body);
        body
    };
    for body in [
        json!(null),
        json!({}),
        json!([]),
        with(&|body| body["envelope"] = Value::Null),
        with(&|body| body["rawMessage"] = Value::Null),
        with(&|body| body["rawMessage"] = json!("no base64!")),
        with(&|body| body["rawMessage"] = json!([1, 2, 3])),
        with(&|body| body["envelope"]["to"][0] = json!("bob")),
    ] {
        assert_eq!(said(&bridge.asks(&bridge.fresh(), &body).await), NOT_SET_UP, "{body}");
    }
    assert_eq!(said(&bridge.asks("", &body).await), NOT_SET_UP, "without an id no answer could be given again");
    let large = with(&|body| body["rawMessage"] = json!("A".repeat(100_000)));
    assert_eq!(said(&bridge.asks("1", &large).await), "552 5.3.4 The message is too large to be examined");
    assert!(judge.kept.lock().unwrap().is_empty());
    door.close().await;
}

#[tokio::test]
async fn what_this_is_stands_at_a_known_place() {
    let door = open(Fake::named("one"), Limits::default(), Access::default());
    let answer = request(door.place, "GET /.well-known/mta-hooks", &[], b"").await;
    let told: Value = serde_json::from_slice(&answer.content).unwrap();
    assert_eq!((answer.status, &told["version"]), (200, &json!("1.0")));
    assert_eq!(told["endpoints"]["registration"], "/draft-01/registrations");
    assert_eq!(told["serialization"], json!(["json", "cbor"]));
    assert_eq!(told["capabilities"]["inbound"]["actions"], json!(["accept", "reject", "discard", "quarantine"]));
    assert!(told["limits"]["maxMessageSize"].as_u64().unwrap() > 25_000_000);
    door.close().await;
}

#[tokio::test]
async fn recipients_are_told_apart_at_rcpt() {
    let door = open(Fake::splitting(), Limits::default(), Access::default());
    let bridge = Bridge::registered(door.place, None, &["rcpt", "data"]).await;
    let octets = about("fine");
    let to = ["b@two.example", "c@three.example", "d@two.example"].map(String::from).to_vec();
    let outcome = bridge.takes(&Brought { to, ..brought(&octets) }, true).await;
    assert_eq!(outcome.gets, ["b@two.example", "d@two.example"]);
    door.close().await;
}

#[tokio::test]
async fn a_request_in_cbor_is_answered_in_cbor() {
    use ciborium::value::Value as Cbor;
    let judge = Fake::named("one");
    let door: Door<Fake> = open(judge.clone(), Limits::default(), Access::default());
    let bridge = Bridge::registered(door.place, None, &["data"]).await;
    let octets = about("remove 0");
    let brought = brought(&octets);
    let request_json = bridge.request("data", &brought, &brought.to);
    let Cbor::Map(mut map) = Cbor::serialized(&request_json).unwrap() else { panic!("no map") };
    map.iter_mut()
        .filter(|(name, _)| name.as_text() == Some("rawMessage"))
        .for_each(|(_, raw)| *raw = Cbor::Bytes(octets.clone()));
    let mut content = Vec::new();
    ciborium::into_writer(&Cbor::Map(map), &mut content).unwrap();
    let fields = [
        ("content-type", "application/cbor"),
        ("x-mta-hooks-registration", bridge.registration.as_str()),
        ("x-mta-hooks-request-id", "1"),
    ];
    let answer = request(door.place, "POST /draft-01/hook", &fields, &content).await;
    assert_eq!((answer.status, answer.field("content-type")), (200, "application/cbor"));
    let read: Cbor = ciborium::from_reader(answer.content.as_slice()).unwrap();
    let under = |map: &Cbor, name: &str| {
        let found = map.as_map().unwrap().iter().find(|(known, _)| known.as_text() == Some(name));
        found.map(|(_, value)| value.clone()).unwrap()
    };
    let set = under(&read, "set").as_array().unwrap()[0].clone();
    let raw = under(&set, "value").as_bytes().unwrap().clone();
    assert_eq!(
        String::from_utf8(raw).unwrap(),
        "X-Judge: one\r\nFrom: a@one.example\r\nSubject: remove 0\r\n\r\nbody\r\n"
    );
    assert_eq!(under(&under(&read, "delete").as_array().unwrap()[0], "path").as_text(), Some("/envelope/to/0"));
    for broken in [&content[..content.len() - 1], b"", b"\xff", b"\x9f\x9f", &[content.as_slice(), b"\0"].concat()] {
        let mut fields = fields;
        fields[2].1 = "2";
        let answer = request(door.place, "POST /draft-01/hook", &fields, broken).await;
        let read: Cbor = ciborium::from_reader(answer.content.as_slice()).unwrap();
        let response = under(&under(&read, "set").as_array().unwrap()[1], "value");
        assert_eq!(under(&response, "code").as_integer().map(i128::from), Some(451));
    }
    door.close().await;
}
