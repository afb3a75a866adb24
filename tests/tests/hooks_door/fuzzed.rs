//! Requests of every shape: each is answered in words, none is lost without them, and no answer holds a key.

use addrauth::config::Limits;
use addrauth_tests::bridge::{Bridge, base64};
use addrauth_tests::fuzz::hooks::sound;
use addrauth_tests::hooks::{Door, open};
use addrauth_tests::http::{Answer, request};
use addrauth_tests::milter::Fake;
use addrauth_tests::world::GOOD;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};

use crate::captured::captured;

/// Requests that mail servers sent, but for messages.
const CAPTURED: [&str; 16] = [
    "draft01-bridge-9fcb561-connect",
    "draft01-bridge-9fcb561-data-submission",
    "draft01-bridge-9fcb561-ehlo",
    "draft01-bridge-9fcb561-mail",
    "draft01-bridge-9fcb561-rcpt",
    "draft01-bridge-9fcb561-rcpt-second",
    "stalwart-0.15.5-connect",
    "stalwart-0.15.5-data-login",
    "stalwart-0.15.5-ehlo",
    "stalwart-0.15.5-mail",
    "stalwart-0.15.5-rcpt",
    "stalwart-0.15.5-rcpt-second",
    "stalwart-0.16.19-data",
    "stalwart-0.16.19-rcpt",
    "stalwart-0.16.19-rcpt-second",
    "stalwart-0.9.4-data",
];

/// What is done to one place of a request.
#[derive(Clone, Debug)]
enum Twist {
    Put(Value),
    Gone,
    /// A member that nobody knows.
    More,
    /// Itself, in a list.
    Listed,
}

fn twist() -> impl Strategy<Value = (Index, Twist)> {
    let value = prop_oneof![
        Just(Value::Null),
        any::<i64>().prop_map(|number| json!(number)),
        any::<bool>().prop_map(|truth| json!(truth)),
        ".{0,20}".prop_map(|text| json!(text)),
        Just(json!("\r\nX-Auth-Key: x\r\n\u{fffd}\0")),
        Just(json!([])),
        Just(json!({})),
        Just(json!("x".repeat(5_000))),
        Just(json!("@relay.test:bob@recv.test")),
    ];
    let twist = prop_oneof![6 => value.prop_map(Twist::Put), 2 => Just(Twist::Gone), 1 => Just(Twist::More), 1 => Just(Twist::Listed)];
    (any::<Index>(), twist)
}

/// The JSON Pointers of all places.
fn places(value: &Value, at: &str, all: &mut Vec<String>) {
    all.push(at.to_owned());
    match value {
        Value::Object(map) => map.iter().for_each(|(name, inner)| places(inner, &format!("{at}/{name}"), all)),
        Value::Array(list) => list.iter().enumerate().for_each(|(n, inner)| places(inner, &format!("{at}/{n}"), all)),
        _ => {}
    }
}

fn twisted(mut body: Value, twists: &[(Index, Twist)]) -> Value {
    for (index, twist) in twists {
        let mut all = Vec::new();
        places(&body, "", &mut all);
        let at = index.get(&all).clone();
        let Some(place) = body.pointer_mut(&at) else { continue };
        match twist {
            Twist::Put(value) => *place = value.clone(),
            Twist::Listed => *place = json!([place.clone()]),
            Twist::More => {
                if let Some(map) = place.as_object_mut() {
                    map.insert("more".into(), json!({ "a": [null] }));
                }
            }
            Twist::Gone => {
                let Some((above, name)) = at.rsplit_once('/') else { continue };
                match body.pointer_mut(above) {
                    Some(Value::Object(map)) => drop(map.remove(name)),
                    Some(Value::Array(list)) => drop(list.remove(name.parse().unwrap())),
                    _ => {}
                }
            }
        }
    }
    body
}

fn with_key(mut stalwart: Value, mut draft: Value) -> (Value, Value) {
    let raw = format!("From: a@one.example\r\nX-Auth-Key: {GOOD}\r\nx-auth-key:\n\t{GOOD}\r\n\r\nbody\r\n");
    draft["rawMessage"] = json!(base64(raw.as_bytes()));
    for at in 3..6 {
        stalwart["message"]["headers"][at][1] = json!(format!(" {GOOD}\r\n"));
    }
    (stalwart, draft)
}

/// Asks in both dialects, JSON as octets.
async fn ask(door: &Door<Fake>, bridge: &Bridge, stalwart: bool, octets: &[u8]) -> Answer {
    let id = bridge.fresh();
    let fields = [
        ("content-type", "application/json"),
        ("x-mta-hooks-registration", bridge.registration.as_str()),
        ("x-mta-hooks-request-id", id.as_str()),
    ];
    request(door.place, if stalwart { "POST /stalwart" } else { "POST /draft-01/hook" }, &fields, octets).await
}

#[test]
fn a_request_of_any_shape_is_answered_and_no_answer_holds_its_key() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let _within = runtime.enter();
    let door = open(Fake::named("one"), Limits::default(), Default::default());
    let bridge = runtime.block_on(Bridge::registered(door.place, None, &["data"]));
    let (data, draft) = with_key(captured("stalwart-0.15.5-data"), captured("draft01-bridge-9fcb561-data"));
    // Half of all are messages with keys, the others any request that was captured.
    let others = CAPTURED.map(|name| (name.starts_with("stalwart"), captured(name)));
    let all: Vec<(bool, Value)> = others.into_iter().collect();
    let request = prop_oneof![
        Just((true, data)),
        Just((false, draft)),
        proptest::sample::select(all.clone()),
        proptest::sample::select(all),
    ];
    let case = (request, proptest::collection::vec(twist(), 1..5), any::<Index>(), proptest::option::of(any::<u8>()));
    let mut runner = TestRunner::new(Config { cases: 600, failure_persistence: None, ..Config::default() });
    let outcome = runner.run(&case, |((is_stalwart, body), twists, at, octet)| {
        let body = twisted(body, &twists);
        let mut octets = body.to_string().into_bytes();
        if let Some(octet) = octet {
            let at = at.index(octets.len());
            octets[at] = octet;
        }
        sound(&runtime.block_on(ask(&door, &bridge, is_stalwart, &octets)));
        Ok(())
    });
    runtime.block_on(door.close());
    outcome.unwrap();
}

#[test]
fn cbor_of_any_shape_is_answered_and_no_answer_holds_its_key() {
    use ciborium::value::Value as Cbor;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let _within = runtime.enter();
    let door = open(Fake::named("one"), Limits::default(), Default::default());
    let bridge = runtime.block_on(Bridge::registered(door.place, None, &["data"]));
    let (_, draft) = with_key(captured("stalwart-0.15.5-data"), captured("draft01-bridge-9fcb561-data"));
    let mut whole = Vec::new();
    ciborium::into_writer(&Cbor::serialized(&draft).unwrap(), &mut whole).unwrap();
    let change = (any::<Index>(), any::<u8>());
    let case = (proptest::collection::vec(change, 0..6), any::<Index>());
    let mut runner = TestRunner::new(Config { cases: 300, failure_persistence: None, ..Config::default() });
    let outcome = runner.run(&case, |(changes, end)| {
        let mut octets = whole.clone();
        for (at, octet) in &changes {
            *octets.get_mut(at.index(whole.len())).unwrap() = *octet;
        }
        if changes.len() % 2 == 1 {
            octets.truncate(end.index(octets.len()));
        }
        let id = bridge.fresh();
        let fields = [
            ("content-type", "application/cbor"),
            ("x-mta-hooks-registration", bridge.registration.as_str()),
            ("x-mta-hooks-request-id", id.as_str()),
        ];
        let answer = runtime.block_on(request(door.place, "POST /draft-01/hook", &fields, &octets));
        sound(&answer);
        assert!(answer.status == 204 || answer.field("content-type") == "application/cbor", "{answer:?}");
        Ok(())
    });
    runtime.block_on(door.close());
    outcome.unwrap();
}
