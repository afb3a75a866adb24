//! A stand-in for Stalwart 0.15.5 and the hook that it asks at DATA and at RCPT: it shows a message as that does, and makes of
//! the answer what that makes. What it does was measured; host/doc/hooks.md has the table.

use std::net::SocketAddr;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::http;

/// What an MTA does with a message in the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What the SMTP client reads.
    pub reply: String,
    /// Who gets it.
    pub gets: Vec<String>,
    /// What they get: header and body, CRLF line endings.
    pub message: Vec<u8>,
}

/// A Stalwart.
#[derive(Clone, Debug)]
pub struct Stalwart {
    /// Where it asks.
    pub hook: SocketAddr,
    /// The field Authorization, where it has one.
    pub authorization: Option<String>,
    /// Whether it cuts the last line ending of a body, as 0.15.5 does and 0.16.19 does not.
    pub cuts: bool,
}

/// A message that a client brings.
#[derive(Clone, Debug)]
pub struct Brought<'a> {
    /// The reverse-path, without angle brackets.
    pub from: &'a str,
    /// The recipients.
    pub to: Vec<String>,
    /// The login.
    pub login: Option<&'a str>,
    /// The queue id.
    pub id: &'a str,
    /// The message as it came.
    pub octets: &'a [u8],
}

/// A header field as Stalwart cuts it: the name untrimmed, the value with its folds and its line ending.
type Field = (Vec<u8>, Vec<u8>);

#[derive(Debug, Deserialize)]
struct Answer {
    action: Action,
    #[serde(default)]
    response: Option<Response>,
    #[serde(default)]
    modifications: Vec<Modification>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Action {
    Accept,
    Discard,
    Reject,
    Quarantine,
}

#[derive(Debug, Deserialize)]
struct Response {
    status: Option<u16>,
    enhanced_status: Option<String>,
    message: Option<String>,
    #[serde(default)]
    disconnect: bool,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase")]
enum Modification {
    ChangeFrom { value: String },
    AddRecipient { value: String },
    DeleteRecipient { value: String },
    ReplaceContents { value: String },
    AddHeader { name: String, value: String },
    InsertHeader { index: u32, name: String, value: String },
    ChangeHeader { index: u32, name: String, value: String },
    DeleteHeader { index: u32, name: String },
}

impl Stalwart {
    /// One that asks there, without credentials.
    pub fn asking(hook: SocketAddr) -> Stalwart {
        Stalwart { hook, authorization: None, cuts: true }
    }

    /// What becomes of a message: each recipient is asked about where `at_rcpt`, then the message.
    pub async fn takes(&self, brought: &Brought<'_>, at_rcpt: bool) -> Outcome {
        let refused = |reply: String| Outcome { reply, gets: Vec::new(), message: Vec::new() };
        let (mut to, mut said) = (Vec::<String>::new(), String::new());
        for recipient in &brought.to {
            to.push(recipient.to_lowercase());
            if at_rcpt && let Err(reply) = self.ask(&self.request("rcpt", brought, &to)).await {
                to.pop();
                said = reply;
            }
        }
        if to.is_empty() {
            return refused(said);
        }
        let mut request = self.request("data", brought, &to);
        let (fields, body) = cut(brought.octets);
        let body = if self.cuts { body.strip_suffix(b"\r\n").unwrap_or(body) } else { body };
        let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
        let shown: Vec<Value> = fields.iter().map(|(name, value)| json!([text(name), text(value)])).collect();
        request["context"]["queue"] = json!({ "id": brought.id });
        request["message"] = json!({ "headers": shown, "contents": text(body), "size": brought.octets.len() });
        match self.ask(&request).await {
            Err(reply) => refused(reply),
            Ok(changes) => {
                let whole =
                    if changes.is_empty() { brought.octets.to_vec() } else { changed(fields, body, &changes, &mut to) };
                Outcome { reply: "250 2.0.0 Message queued".into(), gets: to, message: whole }
            }
        }
    }

    fn request(&self, stage: &str, brought: &Brought<'_>, to: &[String]) -> Value {
        let to: Vec<Value> = to.iter().map(|address| json!({ "address": address })).collect();
        let mut context = json!({
            "stage": stage,
            "client": { "ip": "192.0.2.7", "port": 40_000, "ptr": "client.example", "helo": "client.example", "activeConnections": 1 },
            "server": { "name": "Stalwart v0.15.5", "port": 25, "ip": "192.0.2.1" },
            "protocol": { "version": 1 },
        });
        if let Some(login) = brought.login {
            context["sasl"] = json!({ "login": login });
        }
        json!({ "context": context, "envelope": { "from": { "address": brought.from.to_lowercase() }, "to": to } })
    }

    /// The changes that the hook asks for, or the reply that ends it.
    async fn ask(&self, request: &Value) -> Result<Vec<Modification>, String> {
        const TROUBLE: &str = "451 4.3.5 Unable to accept message at this time.";
        let mut fields = vec![("content-type", "application/json"), ("accept", "*/*")];
        fields.extend(self.authorization.as_deref().map(|shown| ("authorization", shown)));
        let answer = http::request(self.hook, "POST /stalwart", &fields, request.to_string().as_bytes()).await;
        let read: Option<Answer> = serde_json::from_slice(&answer.content).ok().filter(|_| answer.status / 100 == 2);
        let Some(Answer { action, response, modifications }) = read else { return Err(TROUBLE.into()) };
        let plain = match action {
            Action::Accept => return Ok(modifications),
            Action::Discard => "250 2.0.0 Message queued for delivery.",
            Action::Quarantine => panic!("a hook that says quarantine at DATA loses the message"),
            Action::Reject => "503 5.5.3 Message rejected.",
        };
        let Some(Response { status, enhanced_status, message, disconnect }) = response else {
            return Err(plain.into());
        };
        assert!(!disconnect, "nothing here ends a session");
        match (status, enhanced_status, message) {
            (Some(status), Some(enhanced), Some(text)) => Err(format!("{status} {enhanced} {text}")),
            (Some(status), None, Some(text)) => Err(format!("{status} {text}")),
            _ => Err(plain.into()),
        }
    }
}

/// Cuts a message into its fields and its body. A line without a colon that folds nothing is no field to Stalwart.
fn cut(octets: &[u8]) -> (Vec<Field>, &[u8]) {
    let end = octets.windows(4).position(|four| four == b"\r\n\r\n").map_or(octets.len(), |at| at + 2);
    let mut fields: Vec<Field> = Vec::new();
    for line in octets[..end].split_inclusive(|octet| *octet == b'\n') {
        match (line.iter().position(|octet| *octet == b':'), fields.last_mut()) {
            (_, Some((_, value))) if matches!(line.first(), Some(b' ' | b'\t')) => value.extend(line),
            (Some(colon), _) => fields.push((line[..colon].to_vec(), line[colon + 1..].to_vec())),
            (None, _) => {}
        }
    }
    (fields, octets.get(end + 2..).unwrap_or_default())
}

/// The message with these changes, made one by one.
fn changed(mut fields: Vec<Field>, body: &[u8], changes: &[Modification], to: &mut Vec<String>) -> Vec<u8> {
    let mut body = body.to_vec();
    let bare = |path: &str| path.trim_start_matches('<').trim_end_matches('>').to_owned();
    for change in changes {
        let place = |fields: &[Field], name: &str, index: u32| {
            let mut of_name =
                fields.iter().enumerate().filter(|(_, (known, _))| known.eq_ignore_ascii_case(name.as_bytes()));
            of_name.nth((index as usize).checked_sub(1)?).map(|(at, _)| at)
        };
        match change {
            Modification::DeleteHeader { index, name } => {
                place(&fields, name, *index).map(|at| fields.remove(at));
            }
            Modification::ChangeHeader { index, name, value } => {
                if let Some(at) = place(&fields, name, *index) {
                    fields[at].1 = value.clone().into_bytes();
                }
            }
            Modification::InsertHeader { index, name, value } => {
                let at = place(&fields, name, *index).unwrap_or_default();
                fields.insert(at, (name.clone().into_bytes(), value.clone().into_bytes()));
            }
            Modification::AddHeader { name, value } => {
                fields.insert(0, (name.clone().into_bytes(), value.clone().into_bytes()));
            }
            Modification::DeleteRecipient { value } => to.retain(|known| *known != bare(value)),
            Modification::AddRecipient { value } => {
                if value.contains('@') && !to.contains(&bare(value).to_lowercase()) {
                    to.push(bare(value).to_lowercase());
                }
            }
            Modification::ReplaceContents { value } => body = value.clone().into_bytes(),
            Modification::ChangeFrom { value } => panic!("nobody asks to send it from {value}"),
        }
    }
    let mut whole = Vec::new();
    for (name, value) in fields {
        let colon: &[u8] = if value.first().is_some_and(u8::is_ascii_whitespace) { b":" } else { b": " };
        let ending: &[u8] = if value.ends_with(b"\n") { b"" } else { b"\r\n" };
        whole.extend([&name, colon, &value, ending].concat());
    }
    whole.extend(b"\r\n");
    whole.extend(body);
    whole
}
