//! Answers of a scanner of draft-01: what its text does not allow, and what the bridge before a Postfix makes something else of.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::hooks::client::{Client, Exchange};

/// What a request showed.
pub(in crate::hooks) struct Shown<'a> {
    pub(in crate::hooks) octets: &'a [u8],
    pub(in crate::hooks) to: &'a [String],
}

impl Shown<'_> {
    /// What is offered.
    pub(in crate::hooks) const PROPERTIES: [&'static str; 11] = [
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
}

fn read(exchange: &Exchange) -> Option<Value> {
    serde_json::from_slice(&exchange.said).ok()
}

/// Where registrations are made, by what is told at the known place.
pub(in crate::hooks) fn discovery(exchange: &Exchange, client: &Client) -> Result<Option<String>, Vec<String>> {
    let mut found = Vec::new();
    if exchange.status != 200 {
        return Err(vec![format!(
            "discovery is answered {}: give the URL where registrations are made",
            exchange.status
        )]);
    }
    let Some(told) = read(exchange) else { return Err(vec!["what discovery tells is no JSON".into()]) };
    if told.get("version").and_then(Value::as_str) != Some("1.0") {
        found.push("discovery: version is not \"1.0\"".into());
    }
    let place = told.pointer("/endpoints/registration").and_then(Value::as_str).and_then(|place| client.within(place));
    if place.is_none() {
        found.push("discovery: endpoints.registration is missing, or of another origin".into());
    }
    if found.is_empty() { Ok(place) } else { Err(found) }
}

/// What does not conform of a registration's answer.
pub(in crate::hooks) fn registration(exchange: &Exchange, client: &Client) -> Vec<String> {
    let mut found = Vec::new();
    if exchange.status != 201 {
        found.push(format!("a registration is answered {}, not 201: the mail server does not start", exchange.status));
    }
    if exchange.status / 100 != 2 {
        return found;
    }
    let Some(told) = read(exchange) else {
        found.push("a registration is answered by no JSON".into());
        return found;
    };
    let text = |name: &str| told.get(name).and_then(Value::as_str);
    let id = text("registrationId").unwrap_or_default();
    let good = |octet: u8| octet.is_ascii_alphanumeric() || b"-_:".contains(&octet);
    if !(1..=255).contains(&id.len()) || !id.bytes().all(good) {
        found.push("registrationId is not 1 to 255 of A-Z, a-z, 0-9, -, _ and :".into());
    }
    if text("status") != Some("active") {
        found.push("status is not active: the mail server does not start".into());
    }
    if text("hookEndpoint").and_then(|hook| client.within(hook)).is_none() {
        found.push("hookEndpoint is missing, or of another origin than the registration".into());
    }
    let negotiated = |name: &str| told.pointer(&format!("/negotiated/{name}"));
    if negotiated("serialization").and_then(Value::as_str) != Some("json") {
        found.push("negotiated.serialization is not the json that was asked for".into());
    }
    if negotiated("inbound/stages") != Some(&serde_json::json!(["data"])) {
        found.push("negotiated.inbound.stages is not what was asked for".into());
    }
    let names: Vec<&str> = negotiated("inbound/properties")
        .and_then(Value::as_array)
        .map(|list| list.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default();
    if !names.iter().all(|name| Shown::PROPERTIES.contains(name)) {
        found.push("negotiated.inbound.properties holds one that was not offered".into());
    }
    if !(names.contains(&"/stage") && names.contains(&"/action")) {
        found.push("negotiated.inbound.properties has to hold /stage and /action".into());
    }
    found
}

/// What does not conform of the answer about a message.
pub(in crate::hooks) fn answer(exchange: &Exchange, shown: &Shown<'_>) -> Vec<String> {
    let mut found = Vec::new();
    match exchange.status {
        204 => {
            if !exchange.said.is_empty() {
                found.push("204 with a content".into());
            }
            return found;
        }
        200 => {}
        other => {
            found.push(format!(
                "a request is answered {other}: the mail server refuses for now, or goes on without the scanner"
            ));
            return found;
        }
    }
    if exchange.kind.split(';').next().map(str::trim) != Some("application/json") {
        found.push(format!("the answer's type is {:?}, not application/json", exchange.kind));
    }
    let Some(Value::Object(told)) = read(exchange) else {
        found.push("the answer is no JSON object".into());
        return found;
    };
    for name in told.keys().filter(|name| !["set", "add", "delete"].contains(&name.as_str())) {
        found.push(format!("member {name:?} is not known: the whole answer counts as malformed"));
    }
    let mut lists: [Vec<Value>; 3] = Default::default();
    for (list, name) in lists.iter_mut().zip(["set", "add", "delete"]) {
        match told.get(name) {
            None | Some(Value::Null) => {}
            Some(Value::Array(all)) => *list = all.clone(),
            Some(_) => found.push(format!("{name} is no list")),
        }
    }
    let [set, add, delete] = lists;
    if set.len() + add.len() + delete.len() > 1_000 {
        found.push("more than 1000 operations: the whole answer counts as malformed".into());
    }
    sets(&set, shown, &mut found);
    for one in &add {
        if path(one) != "/envelope/to" && !path(one).starts_with("/message/headers") {
            found.push(format!("add at {:?}: the bridge does not know it", path(one)));
        }
    }
    deletes(&delete, add.len(), shown, &mut found);
    found
}

fn path(one: &Value) -> &str {
    one.get("path").and_then(Value::as_str).unwrap_or_default()
}

fn sets(set: &[Value], shown: &Shown<'_>, found: &mut Vec<String>) {
    let mut action = "accept";
    let mut response = false;
    let raw = set.iter().filter(|one| path(one) == "/rawMessage").count();
    if raw > 1 {
        found.push("/rawMessage is set more than once".into());
    }
    for one in set {
        let value = one.get("value").unwrap_or(&Value::Null);
        match path(one) {
            "/action" => action = value.as_str().unwrap_or_default(),
            "/response" => {
                response = true;
                reply(value, found);
            }
            "/response/code" | "/response/enhancedCode" | "/response/message" => response = true,
            "/rawMessage" => match value.as_str().and_then(|text| STANDARD.decode(text).ok()) {
                None => found.push("/rawMessage is no base64 (RFC 4648 §4)".into()),
                Some(octets) => message(&octets, shown, found),
            },
            "/envelope/from" => {}
            other if other.starts_with("/message/headers/") => {}
            other => found.push(format!("set at {other:?}: the bridge does not know it")),
        }
    }
    match action {
        "accept" | "reject" | "discard" | "quarantine" => {}
        "disconnect" => found.push("disconnect at DATA: Postfix answers 250, and the message is gone".into()),
        other => found.push(format!("action {other:?} is none that the bridge knows")),
    }
    if response && action != "reject" {
        found.push("a response without the action reject".into());
    }
}

fn reply(value: &Value, found: &mut Vec<String>) {
    let code = value.get("code").and_then(Value::as_u64).unwrap_or_default();
    if !(400..600).contains(&code) {
        found.push("response.code is no number from 400 to 599".into());
    }
    let enhanced = value.get("enhancedCode").and_then(Value::as_str);
    if enhanced.is_some_and(|enhanced| enhanced.as_bytes().first() != code.to_string().as_bytes().first()) {
        found.push("response.enhancedCode is not of the class of response.code".into());
    }
    let message = value.get("message").and_then(Value::as_str).unwrap_or_default();
    if message.contains(['\r', '\n', '\0']) {
        found.push("response.message holds a line ending".into());
    }
}

fn message(octets: &[u8], shown: &Shown<'_>, found: &mut Vec<String>) {
    let ends = |octets: &[u8]| {
        octets.windows(4).any(|four| four == b"\r\n\r\n") || octets.windows(2).any(|two| two == b"\n\n")
    };
    if !ends(octets) {
        found.push("/rawMessage has no empty line behind its header".into());
    }
    let body = |octets: &[u8]| {
        octets.windows(4).position(|four| four == b"\r\n\r\n").map(|at| octets.get(at..).unwrap_or_default().to_vec())
    };
    if body(octets) != body(shown.octets) {
        found.push("/rawMessage has another body: is that meant?".into());
    }
}

fn deletes(delete: &[Value], added: usize, shown: &Shown<'_>, found: &mut Vec<String>) {
    let mut left: Vec<&str> = shown.to.iter().map(String::as_str).chain(std::iter::repeat_n("", added)).collect();
    let mut before: Option<usize> = None;
    for one in delete {
        let Some(index) = path(one).strip_prefix("/envelope/to/").map(|index| index.parse::<usize>().ok()) else {
            if !path(one).starts_with("/message/headers/") {
                found.push(format!("delete at {:?}: the bridge does not know it", path(one)));
            }
            continue;
        };
        match index.filter(|index| *index < left.len()) {
            None => {
                found.push(format!("there is no recipient at {:?}: the list shrinks with each deletion", path(one)))
            }
            Some(index) => {
                if before.is_some_and(|before| index >= before) {
                    found.push("recipients are deleted upwards: the list shrinks, so others than meant may go".into());
                }
                before = Some(index);
                if left.remove(index).starts_with('@') {
                    found
                        .push("a recipient with a source route is deleted: Postfix delivers to it all the same".into());
                }
            }
        }
    }
    if left.is_empty() {
        found.push("all recipients are deleted: 250, and nobody gets it".into());
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;

    fn exchange(status: u16, kind: &str, said: &str) -> Exchange {
        let (line, kind, said) = ("POST /".into(), kind.into(), said.as_bytes().to_vec());
        Exchange { line, asked: Vec::new(), status, kind, said, took: Duration::ZERO }
    }

    #[test]
    fn what_a_mail_server_makes_something_else_of_is_found() {
        let to = ["bob@recv.test".to_owned(), "@a:carol@recv.test".into(), "dave@recv.test".into()];
        let shown = Shown { octets: b"A: b\r\n\r\nbody\r\n", to: &to };
        let set = |path: &str, value: Value| json!({ "set": [{ "path": path, "value": value }] });
        let reject = |code: Value, enhanced: &str, message: &str| {
            let response = json!({ "code": code, "enhancedCode": enhanced, "message": message });
            json!({ "set": [{ "path": "/action", "value": "reject" }, { "path": "/response", "value": response }] })
        };
        let delete = |all: &[usize]| {
            let list: Vec<Value> = all.iter().map(|at| json!({ "path": format!("/envelope/to/{at}") })).collect();
            json!({ "delete": list })
        };
        for (said, count) in [
            (json!({}), 0),
            (json!([]), 1),
            (json!({ "sets": [] }), 1),
            (reject(json!(550), "5.7.1", "no"), 0),
            (reject(json!(550), "4.7.1", "no"), 1),
            (reject(json!("550"), "5.7.1", "no\r\n"), 3),
            (set("/action", json!("discard")), 0),
            (set("/action", json!("disconnect")), 1),
            (set("/action", json!("continue")), 1),
            (set("/response", json!({ "code": 550 })), 1),
            (set("/rawMessage", json!(STANDARD.encode("X: y\r\nA: b\r\n\r\nbody\r\n"))), 0),
            (set("/rawMessage", json!(STANDARD.encode("X: y\r\n"))), 2),
            (set("/rawMessage", json!("%")), 1),
            (set("/subject", json!("x")), 1),
            (delete(&[2, 0]), 0),
            (delete(&[0, 1]), 1),
            (delete(&[1]), 1),
            (delete(&[3]), 1),
            (delete(&[2, 1, 0]), 2),
        ] {
            let found = answer(&exchange(200, "application/json", &said.to_string()), &shown);
            assert_eq!(found.len(), count, "{said} {found:?}");
        }
        for (status, kind, said, count) in [
            (204, "", "", 0),
            (204, "", "x", 1),
            (500, "application/json", "{}", 1),
            (200, "text/html", "{}", 1),
            (200, "application/json", "", 1),
        ] {
            assert_eq!(answer(&exchange(status, kind, said), &shown).len(), count, "{status} {said:?}");
        }
    }
}
