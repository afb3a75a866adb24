//! Requests of every shape: each is answered in words, none is lost without them, and no answer holds a key.

use addrauth::config::Limits;
use addrauth::proto::header::{Bounds, Span, scan};
use addrauth_tests::bridge::{Bridge, base64, decoded};
use addrauth_tests::hooks::{Door, open};
use addrauth_tests::http::{Answer, request};
use addrauth_tests::milter::Fake;
use addrauth_tests::world::GOOD;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use serde_json::{Value, json};

use crate::captured::captured;

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

/// Whether an answer is one that a mail server can act upon, and holds no key.
fn is_sound(answer: &Answer) -> Result<(), TestCaseError> {
    prop_assert!(!answer.text().contains(GOOD), "{}", answer.text());
    prop_assert!(matches!(answer.status, 200 | 204), "{answer:?}");
    if answer.status == 204 {
        return Ok(());
    }
    let read: Value = serde_json::from_slice(&answer.content).unwrap();
    if let Some(set) = read["set"].as_array() {
        for one in set.iter().filter(|one| one["path"] == "/rawMessage") {
            let raw = decoded(one["value"].as_str().unwrap()).unwrap();
            prop_assert!(!has_key(&raw), "{}", String::from_utf8_lossy(&raw));
        }
        return Ok(());
    }
    match read["action"].as_str() {
        Some("accept") => {
            let left = read["modifications"].as_array().map_or(0, Vec::len);
            prop_assert!(left > 0 || read.get("modifications").is_none());
        }
        Some("reject") => {
            let response = &read["response"];
            prop_assert!(response["status"].as_u64().is_some_and(|code| (400..600).contains(&code)), "{read}");
            prop_assert!(response["message"].as_str().is_some_and(|words| words.len() > 10), "{read}");
        }
        _ => prop_assert!(read.get("add").is_some() || read.get("delete").is_some(), "{read}"),
    }
    Ok(())
}

/// Whether a field of a message carries a key. A line that is no field ends the header.
fn has_key(raw: &[u8]) -> bool {
    let block = scan(raw, Bounds { fields: usize::MAX, octets: usize::MAX });
    let is_key = |field: &Span| raw[field.name.clone()].eq_ignore_ascii_case(b"X-Auth-Key");
    block.fields.iter().any(is_key)
}

/// A member of a map.
fn under<'a>(map: &'a ciborium::value::Value, name: &str) -> Option<&'a ciborium::value::Value> {
    let (_, value) = map.as_map()?.iter().find(|(known, _)| known.as_text() == Some(name))?;
    Some(value)
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
    let (stalwart, draft) = with_key(captured("stalwart-0.15.5-data"), captured("draft01-bridge-9fcb561-data"));
    let case =
        (any::<bool>(), proptest::collection::vec(twist(), 1..5), any::<Index>(), proptest::option::of(any::<u8>()));
    let mut runner = TestRunner::new(Config { cases: 400, failure_persistence: None, ..Config::default() });
    let outcome = runner.run(&case, |(is_stalwart, twists, at, octet)| {
        let body = twisted(if is_stalwart { stalwart.clone() } else { draft.clone() }, &twists);
        let mut octets = body.to_string().into_bytes();
        if let Some(octet) = octet {
            let at = at.index(octets.len());
            octets[at] = octet;
        }
        is_sound(&runtime.block_on(ask(&door, &bridge, is_stalwart, &octets)))
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
        prop_assert!(matches!(answer.status, 200 | 204), "{answer:?}");
        if answer.status == 200 {
            prop_assert_eq!(answer.field("content-type"), "application/cbor");
            let read: Cbor = ciborium::from_reader(answer.content.as_slice()).unwrap();
            for one in under(&read, "set").and_then(Cbor::as_array).into_iter().flatten() {
                if let Some(raw) = under(one, "value").and_then(Cbor::as_bytes) {
                    prop_assert!(!has_key(raw), "{}", String::from_utf8_lossy(raw));
                }
            }
        }
        Ok(())
    });
    runtime.block_on(door.close());
    outcome.unwrap();
}
