//! `addrauth ask --adapter`: the real verifier answers the test vectors' questions (`tests/vectors/README.md`), one JSON object a
//! line, each by a verifier of its own that remembers nothing but what the question tells it.

use std::io::{self, BufRead as _, Read as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::exit;
use addrauth::case::{Envelope, Field, Found, Head, Mail, ReversePath};
use addrauth::config::{self, Limits};
use addrauth::proto::address::{Address, Domain};
use addrauth::proto::header::key_value;
use addrauth::proto::key::AuthKey;
use addrauth::proto::wire::Answer;
use addrauth::verify::{Published, Verifier};

/// Octets of a question: a message's From and key fields, and a cache of a few entries.
const QUESTION_MAX: u64 = 1024 * 1024;

#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Question {
    Verify(Box<Message>),
    Locate(Place),
}

/// What is there to be found out about this message?
#[derive(Deserialize)]
struct Message {
    #[serde(flatten)]
    around: Around,
    from: Vec<String>,
    keys: Vec<String>,
    smtputf8: bool,
    reverse_path: String,
    confirm: bool,
    hostname: String,
    now: u64,
    cache: Vec<Heard>,
}

/// What does DNS say of this domain?
#[derive(Deserialize)]
struct Place {
    #[serde(flatten)]
    around: Around,
    domain: Domain,
}

/// Whom the verifier may ask.
#[derive(Deserialize)]
struct Around {
    dns: SocketAddr,
    allow: Vec<String>,
    #[serde(default)]
    roots: PathBuf,
}

/// What an AS said before the question.
#[derive(Deserialize)]
struct Heard {
    at: u64,
    address: String,
    key: String,
    said: String,
}

/// Answers questions until standard input ends.
pub(super) async fn run() -> ExitCode {
    loop {
        let line = match tokio::task::spawn_blocking(read_line).await {
            Ok(Ok(line)) if line.is_empty() => return exit::YES,
            Ok(Ok(line)) => line,
            Ok(Err(e)) => {
                eprintln!("addrauth ask --adapter: cannot read standard input: {e}");
                return exit::unknown();
            }
            Err(_) => return exit::unknown(),
        };
        let asked: Value = serde_json::from_slice(&line).unwrap_or_default();
        let mut said = match serde_json::from_value(asked.clone()).map_err(|e| e.to_string()) {
            Ok(question) => answer(question).await.unwrap_or_else(|error| json!({ "error": error })),
            Err(error) => json!({ "error": error }),
        };
        if let Some(said) = said.as_object_mut() {
            said.insert("id".into(), asked.get("id").cloned().unwrap_or_default());
        }
        println!("{said}");
    }
}

/// The next line of standard input; empty at its end.
fn read_line() -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    io::stdin().lock().take(QUESTION_MAX).read_until(b'\n', &mut line)?;
    Ok(line)
}

async fn answer(question: Question) -> Result<Value, String> {
    match question {
        Question::Verify(message) => verify(*message).await,
        Question::Locate(place) => locate(place).await,
    }
}

async fn verify(message: Message) -> Result<Value, String> {
    let verifier = message.around.verifier(&message.hostname)?;
    for heard in &message.cache {
        heard.remind(&verifier, message.now)?;
    }
    let mail = message.mail();
    let found = match verifier.verify(&mail).await {
        Ok(found) if message.confirm => verifier.confirm(&mail, &found).await,
        found => found,
    };
    Ok(found.map_or_else(|later| outcome("deferred", &later.found), |found| outcome(found.status.word(), &found)))
}

fn outcome(result: &str, found: &Found) -> Value {
    json!({
        "result": result,
        "why": found.why.map(|why| why.word()),
        "address": found.sender.as_ref().map(ToString::to_string),
        "claim": found.claim.map(|claim| claim.word()),
    })
}

async fn locate(place: Place) -> Result<Value, String> {
    let (published, endpoints) = place.around.verifier("")?.locate(&place.domain).await;
    Ok(match published {
        Published::Nothing => json!({ "result": "none" }),
        Published::Records(records) if !endpoints.usable.is_empty() => json!({
            "result": "located",
            "name": records.name,
            "claim": records.claim.word(),
            "endpoints": endpoints.usable.iter().map(|endpoint| endpoint.address.to_string()).collect::<Vec<_>>(),
        }),
        _ => json!({ "result": "unverified" }),
    })
}

impl Around {
    fn verifier(&self, hostname: &str) -> Result<Verifier, String> {
        let mut allowed = Vec::with_capacity(self.allow.len());
        for network in &self.allow {
            allowed.push(network.parse().map_err(|_| format!("`{network}` is no network"))?);
        }
        let config = config::Verify {
            dns: vec![self.dns],
            allow_targets: allowed,
            tls_roots: self.roots.clone(),
            ..config::Verify::default()
        };
        Verifier::new(&config, hostname, &Arc::new(Limits::default())).map_err(|e| e.to_string())
    }
}

impl Heard {
    fn remind(&self, verifier: &Verifier, now: u64) -> Result<(), String> {
        let wrong = || "the cache holds what no AS says".to_owned();
        let address = Address::parse(self.address.as_bytes(), true).map_err(|_| wrong())?;
        let key = AuthKey::parse(self.key.as_bytes()).map_err(|_| wrong())?;
        let line = format!("VERIFY_REPLY 0 {} {}\r\n", address.wire(), self.said);
        let answer = Answer::parse(line.as_bytes()).ok_or_else(wrong)?;
        let ago = now.checked_sub(self.at).ok_or_else(wrong)?;
        verifier.remember(&address, &key, &answer, Duration::from_secs(ago));
        Ok(())
    }
}

impl Message {
    /// The message as a door would tell it.
    fn mail(&self) -> Mail {
        let from = |value: &String| Field { name: "From".into(), value: value.clone().into_bytes() };
        let reverse_path = match self.reverse_path.as_bytes() {
            [] => ReversePath::Null,
            path => ReversePath::Path(Address::parse(path, self.smtputf8).ok()),
        };
        let envelope = Envelope { reverse_path, smtputf8: self.smtputf8, ..Envelope::default() };
        let key = |value: &String| AuthKey::parse(key_value(value.as_bytes())).ok();
        let (fields, keys) = (self.from.iter().map(from).collect(), self.keys.iter().map(key).collect());
        Mail::new(envelope, Head { fields, keys, ..Head::default() })
    }
}
