//! A stand-in for the draft-01 bridge before a Postfix: it registers, shows a message as that does, and makes of the answer what
//! that makes. What it does was measured; host/doc/hooks.md has the table.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::http::{self, Answer};
use crate::stalwart::{Brought, Outcome};

/// What its SMTP client reads where the scanner's answer is none.
pub const TROUBLE: &str = "451 4.7.1 Service unavailable - try again later";

/// A bridge that has registered.
#[derive(Debug)]
pub struct Bridge {
    /// Where it asks.
    pub scanner: SocketAddr,
    token: Option<String>,
    /// The id of its registration.
    pub registration: String,
    hook: String,
    farewell: String,
    asked: AtomicUsize,
}

impl Bridge {
    /// Registers, and ends where the answer is not as it has to be.
    pub async fn registered(scanner: SocketAddr, token: Option<&str>, stages: &[&str]) -> Bridge {
        let properties = [
            "/stage",
            "/action",
            "/timestamp",
            "/protocol",
            "/rawMessage",
            "/envelope",
            "/queue",
            "/client",
            "/tls",
            "/auth",
            "/server",
        ];
        let wanted = json!({
            "inbound": { "properties": properties, "stages": stages },
            "name": "postfix-mta-hooks",
            "outbound": null,
            "serialization": "json",
            "timeoutMs": 20000,
            "version": "0.1.0",
        });
        let mut bridge = Bridge {
            scanner,
            token: token.map(|token| format!("Bearer {token}")),
            registration: String::new(),
            hook: String::new(),
            farewell: String::new(),
            asked: AtomicUsize::new(0),
        };
        let answer = bridge.says("POST /draft-01/registrations", &[], wanted.to_string().as_bytes()).await;
        assert_eq!((answer.status, answer.field("content-type")), (201, "application/json"), "{}", answer.text());
        let said: Value = serde_json::from_slice(&answer.content).unwrap();
        assert_eq!((&said["status"], &said["negotiated"]["serialization"]), (&json!("active"), &json!("json")));
        assert_eq!(said["negotiated"]["inbound"]["stages"], json!(stages));
        let confirmed = said["negotiated"]["inbound"]["properties"].as_array().unwrap();
        assert!(confirmed.iter().all(|name| properties.contains(&name.as_str().unwrap())));
        assert!(confirmed.contains(&json!("/stage")) && confirmed.contains(&json!("/action")));
        bridge.registration = said["registrationId"].as_str().unwrap().to_owned();
        assert!((1..=255).contains(&bridge.registration.len()));
        bridge.hook = said["hookEndpoint"].as_str().unwrap().to_owned();
        bridge.farewell = said["endpoints"]["deregistration"].as_str().unwrap().to_owned();
        bridge
    }

    /// Takes the registration back.
    pub async fn farewell(&self) -> u16 {
        let of = [("x-mta-hooks-registration", self.registration.as_str())];
        self.says(&format!("DELETE {}", self.farewell), &of, b"").await.status
    }

    async fn says(&self, line: &str, more: &[(&str, &str)], content: &[u8]) -> Answer {
        let mut fields = vec![("content-type", "application/json"), ("accept", "*/*")];
        fields.extend(self.token.as_deref().map(|shown| ("authorization", shown)));
        fields.extend(more);
        http::request(self.scanner, line, &fields, content).await
    }

    /// Asks with this request id.
    pub async fn asks(&self, id: &str, request: &Value) -> Answer {
        let of = [("x-mta-hooks-registration", self.registration.as_str()), ("x-mta-hooks-request-id", id)];
        self.says(&format!("POST {}", self.hook), &of, request.to_string().as_bytes()).await
    }

    /// A request at a stage about the recipients so far.
    pub fn request(&self, stage: &str, brought: &Brought<'_>, to: &[String]) -> Value {
        let to: Vec<Value> = to.iter().map(|address| json!({ "address": address, "parameters": {} })).collect();
        let auth = brought.login.map(|login| json!({ "login": login, "method": "PLAIN" }));
        let from = (!brought.from.is_empty()).then_some(brought.from);
        json!({
            "action": "accept",
            "auth": auth,
            "client": { "activeConnections": 0, "ehlo": "client.example", "ip": "192.0.2.7", "port": 40000, "ptr": "client.example" },
            "envelope": { "from": { "address": from, "parameters": {} }, "to": to },
            "protocol": { "version": "1.0" },
            "queue": { "id": brought.id },
            "rawMessage": null,
            "server": { "ip": "192.0.2.1", "name": "mx.home.example", "port": 25 },
            "stage": stage,
            "timestamp": "2026-11-29T14:00:00.000Z",
            "tls": null,
        })
    }

    /// What becomes of a message: each recipient is asked about where `at_rcpt`, then the message.
    pub async fn takes(&self, brought: &Brought<'_>, at_rcpt: bool) -> Outcome {
        let refused = |reply: String| Outcome { reply, gets: Vec::new(), message: Vec::new() };
        let (mut to, mut said) = (Vec::<String>::new(), String::new());
        for recipient in &brought.to {
            to.push(recipient.clone());
            if at_rcpt {
                let answer = self.asks(&self.fresh(), &self.request("rcpt", brought, &to)).await;
                if let Err(reply) = Applied::of(&answer, b"", &mut Vec::new()) {
                    to.pop();
                    said = reply;
                }
            }
        }
        if to.is_empty() {
            return refused(said);
        }
        let shown = shown(brought.octets);
        let mut request = self.request("data", brought, &to);
        request["rawMessage"] = json!(base64(&shown));
        let answer = self.asks(&self.fresh(), &request).await;
        match Applied::of(&answer, &shown, &mut to) {
            Err(reply) => refused(reply),
            Ok(Applied::Dropped) => refused("250 2.0.0 Ok: dropped".into()),
            Ok(Applied::Held(message)) => Outcome { reply: "250 2.0.0 Ok: held".into(), gets: to, message },
            Ok(Applied::Queued(message)) => Outcome { reply: "250 2.0.0 Ok: queued".into(), gets: to, message },
        }
    }

    /// A request id that was not used.
    pub fn fresh(&self) -> String {
        format!("00000000-0000-4000-8000-{:012}", self.asked.fetch_add(1, Ordering::SeqCst))
    }
}

/// What becomes of a message by an answer.
pub enum Applied {
    /// It goes on in this form.
    Queued(Vec<u8>),
    /// It goes into the hold queue in this form.
    Held(Vec<u8>),
    /// 250, and nobody gets it.
    Dropped,
}

impl Applied {
    /// Applies an answer: set, add, delete. Where one operation is not as it has to be, none counts.
    pub fn of(answer: &Answer, shown: &[u8], to: &mut Vec<String>) -> Result<Applied, String> {
        Applied::read(answer, shown, to).unwrap_or_else(|| Err(TROUBLE.into()))
    }

    fn read(answer: &Answer, shown: &[u8], to: &mut Vec<String>) -> Option<Result<Applied, String>> {
        let json = match (answer.status, answer.field("content-type")) {
            (204, _) => json!({}),
            (200, "application/json") => serde_json::from_slice(&answer.content).ok()?,
            _ => return None,
        };
        let object = json.as_object()?;
        assert!(object.keys().all(|name| ["set", "add", "delete"].contains(&name.as_str())), "{json}");
        let list = |name: &str| -> Vec<Value> { json.get(name).and_then(Value::as_array).cloned().unwrap_or_default() };
        let (mut action, mut reply, mut message) = ("accept".to_owned(), None, None);
        for one in list("set") {
            match one["path"].as_str()? {
                "/action" => action = one["value"].as_str()?.to_owned(),
                "/response" => {
                    let (code, enhanced) = (one["value"]["code"].as_u64()?, one["value"]["enhancedCode"].as_str()?);
                    let text = one["value"]["message"].as_str()?;
                    let fits = enhanced.as_bytes().first() == code.to_string().as_bytes().first()
                        && (400..600).contains(&code);
                    if !fits || text.contains(['\r', '\n', '%']) {
                        return None;
                    }
                    reply = Some(format!("{code} {enhanced} {text}"));
                }
                "/rawMessage" if message.is_none() => {
                    let raw = decoded(one["value"].as_str()?)?;
                    message = Some(written(shown, &raw)?);
                }
                _ => return None,
            }
        }
        let mut recipients = to.clone();
        for one in list("add") {
            (one["path"] == "/envelope/to" && one["value"]["parameters"].is_object()).then_some(())?;
            recipients.push(one["value"]["address"].as_str()?.to_owned());
        }
        for one in list("delete") {
            let index: usize = one["path"].as_str()?.strip_prefix("/envelope/to/")?.parse().ok()?;
            let known = recipients.get(index)?;
            // Postfix takes a source route off, and finds nobody by it later.
            assert!(!known.starts_with('@'), "nobody would be struck out by {known}");
            recipients.remove(index);
        }
        let message = message.unwrap_or_else(|| shown.to_vec());
        Some(match action.as_str() {
            "reject" => Err(reply.unwrap_or_else(|| "550 5.7.1 Rejected by policy".into())),
            _ if reply.is_some() => return None,
            "discard" => Ok(Applied::Dropped),
            "disconnect" => panic!("a scanner that says disconnect at DATA loses the message"),
            "accept" | "quarantine" => {
                *to = recipients;
                Ok(if action == "accept" { Applied::Queued(message) } else { Applied::Held(message) })
            }
            _ => return None,
        })
    }
}

/// What the bridge shows of a message: folds with LF alone, names without blanks behind them.
pub fn shown(octets: &[u8]) -> Vec<u8> {
    let end = octets.windows(4).position(|four| four == b"\r\n\r\n").map_or(octets.len(), |at| at + 2);
    let mut out = Vec::new();
    for line in octets[..end].split_inclusive(|octet| *octet == b'\n') {
        if matches!(line.first(), Some(b' ' | b'\t')) {
            // A fold: the line before ends with LF.
            if out.ends_with(b"\r\n") {
                out.truncate(out.len() - 2);
                out.push(b'\n');
            }
            out.extend(line);
            continue;
        }
        match line.iter().position(|octet| *octet == b':') {
            Some(colon) => out.extend([line[..colon].trim_ascii_end(), &line[colon..]].concat()),
            None => out.extend(line),
        }
    }
    out.extend(&octets[end..]);
    out
}

/// What Postfix delivers of a message that the scanner wrote anew: fields that it knew before stay as they were, so a fold that
/// is written otherwise is a changed field. None where it cannot be taken.
fn written(before: &[u8], after: &[u8]) -> Option<Vec<u8>> {
    let end = after.windows(4).position(|four| four == b"\r\n\r\n")?;
    let known: Vec<Vec<u8>> = fields(before);
    for field in fields(&after[..end + 2]) {
        let is_new = !known.contains(&field);
        // An inserted field has to be UTF-8, and a CR inside it would be a stray one.
        if is_new && (std::str::from_utf8(&field).is_err() || field[..field.len().saturating_sub(2)].contains(&b'\r')) {
            return None;
        }
    }
    Some(after.to_vec())
}

/// The fields of a header, whole.
fn fields(octets: &[u8]) -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = Vec::new();
    for line in octets.split_inclusive(|octet| *octet == b'\n') {
        match all.last_mut() {
            Some(last) if matches!(line.first(), Some(b' ' | b'\t')) => last.extend(line),
            _ if line == b"\r\n" || line == b"\n" => break,
            _ => all.push(line.to_vec()),
        }
    }
    all
}

const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Octets in base64 (RFC 4648 §4).
pub fn base64(octets: &[u8]) -> String {
    let mut out = String::new();
    for three in octets.chunks(3) {
        let bits = three.iter().fold(0_u32, |bits, octet| bits << 8 | u32::from(*octet)) << (8 * (3 - three.len()));
        for at in 0..4 {
            let letter = LETTERS[(bits >> (18 - 6 * at)) as usize & 63];
            out.push(if at <= three.len() { letter as char } else { '=' });
        }
    }
    out
}

/// Base64 as octets.
pub fn decoded(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    for four in text.as_bytes().chunks(4) {
        let bare: Vec<u8> = four.iter().copied().filter(|letter| *letter != b'=').collect();
        let value = |letter: &u8| LETTERS.iter().position(|known| known == letter);
        let bits =
            bare.iter().try_fold(0_usize, |bits, letter| Some(bits << 6 | value(letter)?))? << (6 * (4 - bare.len()));
        let octets = [(bits >> 16) as u8, (bits >> 8) as u8, bits as u8];
        out.extend(&octets[..bare.len().checked_sub(1)?]);
    }
    text.len().is_multiple_of(4).then_some(out)
}
