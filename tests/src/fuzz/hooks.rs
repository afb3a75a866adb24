//! Requests of MTA Hooks to the real door over a pipe: what a mail server says, and an answer that it can act upon.

use std::cell::Cell;
use std::sync::Arc;

use addrauth::case::{Body, Case, Direction, Finding, Mail, Refusal, Reply, Verdict};
use addrauth::config::{Dialect, Limits};
use addrauth::mta::Judge;
use addrauth::mta::hooks::{Access, Conversations, Setting};
use addrauth::mta::reception::Reception;
use addrauth::proto::header::{Bounds, Edit, Span, scan};
use ciborium::value::Value as Cbor;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::bridge::decoded;
use crate::http::{self, Answer};
use crate::world::GOOD;

/// A judge that strikes keys out and remembers nothing; the number of recipients says what else becomes of a message.
struct Striking;

impl Judge for Striking {
    async fn examine(&self, mail: Mail) -> Case {
        let refusal = Refusal { code: 550, status: "5.7.1", text: "no\r\n250 yes".into() };
        let verdict = match mail.recipients.len() % 5 {
            0 => Verdict::Reject(refusal),
            3 => Verdict::Discard,
            4 => Verdict::Hold("looks odd".into()),
            _ => Verdict::Accept,
        };
        let delete = |name: &str, count: usize| {
            let delete = |index| Edit::Delete { name: name.into(), index };
            (1..=u32::try_from(count).unwrap()).rev().map(delete).collect::<Vec<_>>()
        };
        let mut edits = delete("X-Auth-Key", mail.head().keys.len());
        edits.extend(delete("X-New-Auth-Key", mail.head().new_keys.len()));
        edits.push(Edit::Insert { index: 0, name: "X-Judge".into(), value: " was here".into() });
        let removed = if mail.recipients.len() == 2 { vec![1] } else { Vec::new() };
        let reply = Reply { edits, removed, ..Reply::bare(verdict) };
        Case { mail, finding: Finding::Passing(Direction::Relay), decisions: vec![], reply }
    }

    async fn keep(&self, case: Case, _: Option<Body>) -> Case {
        case
    }
}

/// The door, and what asks at it on this thread.
struct Stage {
    runtime: Runtime,
    door: Arc<Conversations<Striking>>,
    registration: String,
    asked: Cell<u64>,
    _judge: watch::Sender<Arc<Striking>>,
}

thread_local! {
    static STAGE: Stage = Stage::set();
}

impl Stage {
    fn set() -> Stage {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (sender, judge) = watch::channel(Arc::new(Striking));
        let dialects = vec![Dialect::Stalwart, Dialect::Draft01];
        let setting = Setting { dialects, access: Access::default(), tls: None, state: None };
        let door = {
            let _within = runtime.enter();
            let reception = Reception::open(judge, Arc::new(Limits::default()), CancellationToken::new());
            Arc::new(Conversations::new(setting, reception))
        };
        let stage = Stage { runtime, door, registration: String::new(), asked: Cell::new(0), _judge: sender };
        let properties =
            ["/stage", "/action", "/rawMessage", "/envelope", "/queue", "/client", "/tls", "/auth", "/server"];
        let wanted = json!({
            "inbound": { "properties": properties, "stages": ["rcpt", "data"] },
            "name": "fuzz",
            "outbound": null,
            "serialization": "json",
            "timeoutMs": 20_000,
            "version": "0.1.0",
        });
        let answer = stage.ask("POST /draft-01/registrations", "application/json", wanted.to_string().as_bytes());
        assert_eq!(answer.status, 201, "{}", answer.text());
        let said: Value = serde_json::from_slice(&answer.content).unwrap();
        Stage { registration: said["registrationId"].as_str().unwrap().to_owned(), ..stage }
    }

    /// The answer to a request; each is another one.
    fn ask(&self, line: &str, kind: &str, content: &[u8]) -> Answer {
        self.asked.set(self.asked.get() + 1);
        let id = format!("00000000-0000-4000-8000-{:012x}", self.asked.get());
        let head = format!(
            "{line} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: {kind}\r\nx-mta-hooks-registration: {}\r\n\
             x-mta-hooks-request-id: {id}\r\ncontent-length: {}\r\n\r\n",
            self.registration,
            content.len()
        );
        let said = [head.as_bytes(), content].concat();
        let heard = self.runtime.block_on(async {
            let (mut near, far) = duplex(said.len().max(1_024));
            let door = Arc::clone(&self.door);
            let serving = tokio::spawn(async move { door.converse(far).await });
            near.write_all(&said).await.unwrap();
            let mut heard = Vec::new();
            near.read_to_end(&mut heard).await.unwrap();
            serving.await.unwrap();
            heard
        });
        http::read(&heard).unwrap_or_else(|| panic!("no answer: {}", heard.escape_ascii()))
    }
}

/// Any octets as a request of Stalwart's: an answer that it can act upon, in time, and no key in it.
pub fn stalwart(octets: &[u8]) {
    STAGE.with(|stage| {
        let answer = stage.ask("POST /stalwart", "application/json", octets);
        assert_eq!(answer.status, 200, "{answer:?}");
        sound(&answer);
    });
}

/// The same of draft-01 in JSON.
pub fn draft01_json(octets: &[u8]) {
    STAGE.with(|stage| sound(&stage.ask("POST /draft-01/hook", "application/json", octets)));
}

/// The same of draft-01 in CBOR.
pub fn draft01_cbor(octets: &[u8]) {
    STAGE.with(|stage| sound(&stage.ask("POST /draft-01/hook", "application/cbor", octets)));
}

/// What must hold of any answer: a mail server can act upon it, and it holds no key.
pub fn sound(answer: &Answer) {
    assert!(matches!(answer.status, 200 | 204), "{answer:?}");
    if answer.status == 204 {
        assert!(answer.content.is_empty());
        return;
    }
    match answer.field("content-type") {
        "application/json" => {
            // A whole message in it is base64.
            assert!(!answer.text().contains(GOOD), "{}", answer.text());
            sound_json(&serde_json::from_slice(&answer.content).expect("JSON"));
        }
        "application/cbor" => sound_cbor(&ciborium::from_reader(answer.content.as_slice()).expect("CBOR")),
        other => panic!("an answer of the kind {other:?}"),
    }
}

fn sound_json(read: &Value) {
    let operations = ["set", "add", "delete"].map(|name| read[name].as_array().map_or(0, Vec::len));
    let Some(action) = read["action"].as_str() else {
        // Of draft-01.
        assert!(operations.iter().sum::<usize>() > 0, "{read}");
        let set = |path: &str| read["set"].as_array().into_iter().flatten().find(|one| one["path"] == path).cloned();
        if let Some(one) = set("/rawMessage") {
            let raw = decoded(one["value"].as_str().unwrap()).expect("base64");
            assert!(!has_key(&raw), "{}", raw.escape_ascii());
        }
        if let Some(one) = set("/response") {
            refuses(&one["value"]["code"], &one["value"]["message"]);
        }
        return;
    };
    match action {
        "accept" => {
            assert!(read.get("modifications").is_none_or(|all| all.as_array().is_some_and(|all| !all.is_empty())))
        }
        "discard" => assert_eq!(read, &json!({ "action": "discard" })),
        "reject" => refuses(&read["response"]["status"], &read["response"]["message"]),
        other => panic!("an action {other:?}"),
    }
}

fn sound_cbor(read: &Cbor) {
    let list = |name: &str| under(read, name).and_then(Cbor::as_array).cloned().unwrap_or_default();
    assert!(["set", "add", "delete"].iter().any(|name| !list(name).is_empty()), "{read:?}");
    for one in list("set") {
        let (path, value) = (under(&one, "path").and_then(Cbor::as_text), under(&one, "value"));
        match (path, value) {
            (Some("/rawMessage"), Some(value)) => {
                let raw = value.as_bytes().expect("octets");
                assert!(!has_key(raw), "{}", raw.escape_ascii());
            }
            (Some("/response"), Some(value)) => {
                let code = under(value, "code").and_then(Cbor::as_integer).and_then(|code| u64::try_from(code).ok());
                let words = under(value, "message").and_then(Cbor::as_text);
                refuses(&json!(code), &json!(words));
            }
            _ => {}
        }
    }
}

/// A refusal has a code of one, and words.
fn refuses(code: &Value, words: &Value) {
    assert!(code.as_u64().is_some_and(|code| (400..600).contains(&code)), "{code} {words}");
    let words = words.as_str().unwrap_or_default();
    assert!(!words.is_empty() && !words.contains(['\r', '\n']), "{code} {words:?}");
}

/// A member of a map.
fn under<'a>(map: &'a Cbor, name: &str) -> Option<&'a Cbor> {
    let (_, value) = map.as_map()?.iter().find(|(known, _)| known.as_text() == Some(name))?;
    Some(value)
}

/// Whether a field of a message carries a key. A line that is no field ends the header.
fn has_key(raw: &[u8]) -> bool {
    let block = scan(raw, Bounds { fields: usize::MAX, octets: usize::MAX });
    let is_key = |field: &Span| {
        let name = raw[field.name.clone()].trim_ascii_end();
        name.eq_ignore_ascii_case(b"X-Auth-Key") || name.eq_ignore_ascii_case(b"X-New-Auth-Key")
    };
    block.fields.iter().any(is_key)
}
