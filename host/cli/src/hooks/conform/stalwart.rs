//! An answer to Stalwart: what it would not decode, and what it would make something else of.

use serde_json::{Map, Value};

use crate::hooks::brought::{Brought, cut};
use crate::hooks::client::Exchange;

/// What does not conform of an answer about this message.
pub(in crate::hooks) fn findings(exchange: &Exchange, brought: &Brought) -> Vec<String> {
    let mut found = Vec::new();
    if exchange.status / 100 != 2 {
        found.push(format!("status {}: Stalwart refuses for now, or goes on without the scanner", exchange.status));
        return found;
    }
    let Ok(Value::Object(answer)) = serde_json::from_slice::<Value>(&exchange.said) else {
        found.push("the answer is no JSON object: Stalwart refuses for now, or goes on without the scanner".into());
        return found;
    };
    action(&answer, &mut found);
    response(&answer, &mut found);
    match answer.get("modifications") {
        None => {}
        Some(Value::Array(list)) => Made::on(brought, list, &mut found),
        Some(_) => found.push(
            "modifications is no list: the whole answer cannot be decoded; leave it out where there is none".into(),
        ),
    }
    found
}

fn action(answer: &Map<String, Value>, found: &mut Vec<String>) {
    match answer.get("action").and_then(Value::as_str) {
        Some("accept" | "discard" | "reject") => {}
        Some("quarantine") => {
            found.push("quarantine at DATA answers 250 and loses the message: accept it with a mark, or keep it".into())
        }
        Some(other) => {
            found.push(format!("action {other:?} is none of accept, discard, reject, quarantine, in lower case"))
        }
        None => found.push("action is missing".into()),
    }
}

fn response(answer: &Map<String, Value>, found: &mut Vec<String>) {
    let rejects = answer.get("action").and_then(Value::as_str) == Some("reject");
    let Some(response) = answer.get("response").filter(|response| !response.is_null()) else {
        if rejects {
            found.push("reject without response is 503 5.5.3: give status, enhanced_status and message".into());
        }
        return;
    };
    let status = response.get("status").and_then(Value::as_u64);
    let message = response.get("message").and_then(Value::as_str);
    if rejects && (status.is_none() || message.is_none()) {
        found.push(
            "reject needs both response.status, a number, and response.message: it is 503 5.5.3 otherwise".into(),
        );
    }
    if rejects && status.is_some_and(|status| !(400..600).contains(&status)) {
        found.push("reject with a response.status outside of 400 to 599".into());
    }
    let has = |name: &str| response.get(name).is_some();
    if has("enhancedStatus") && !has("enhanced_status") {
        found.push("response.enhancedStatus is documented and not read: give enhanced_status as well".into());
    }
    if response.get("disconnect").is_some_and(|disconnect| !disconnect.is_boolean()) {
        found.push("response.disconnect is no truth value: the whole answer cannot be decoded".into());
    }
    if message.is_some_and(breaks) {
        found.push("response.message holds a line ending: the client reads what follows as a reply of its own".into());
    }
}

fn breaks(text: &str) -> bool {
    text.contains(['\r', '\n', '\0'])
}

/// The message as the modifications so far left it.
struct Made {
    names: Vec<String>,
    /// Those that were inserted.
    ours: Vec<bool>,
    to: Vec<String>,
}

impl Made {
    fn on(brought: &Brought, list: &[Value], found: &mut Vec<String>) {
        let (fields, _) = cut(&brought.octets);
        let names: Vec<String> = fields.iter().map(|(name, _)| String::from_utf8_lossy(name).into_owned()).collect();
        let to = brought.to.iter().map(|to| to.to_lowercase()).collect();
        let mut made = Made { ours: vec![false; names.len()], names, to };
        let doomed: Vec<(String, u64)> = list
            .iter()
            .filter(|one| one.get("type").and_then(Value::as_str) == Some("deleteHeader"))
            .filter_map(|one| Some((one.get("name")?.as_str()?.to_ascii_lowercase(), one.get("index")?.as_u64()?)))
            .collect();
        let climbs = |pair: &[(String, u64)]| matches!(pair, [(a, x), (b, y)] if a == b && y > x);
        if doomed.windows(2).any(climbs) {
            found.push("deleteHeader goes up among fields of one name: the list shrinks, so some are missed; go from the last one down".into());
        }
        for one in list {
            made.one(one, found);
        }
        if made.to.is_empty() {
            found.push("all recipients are deleted: 250, nobody gets it, and nobody is told".into());
        }
    }

    fn one(&mut self, one: &Value, found: &mut Vec<String>) {
        let text = |name: &str| one.get(name).and_then(Value::as_str).unwrap_or_default();
        let index = one.get("index").and_then(Value::as_u64).unwrap_or_default();
        match one.get("type").and_then(Value::as_str).unwrap_or_default() {
            "deleteHeader" | "changeHeader" => {
                let of_name = |(_, name): &(usize, &String)| name.eq_ignore_ascii_case(text("name"));
                let place = usize::try_from(index).ok().and_then(|index| index.checked_sub(1));
                let at = place.and_then(|nth| self.names.iter().enumerate().filter(of_name).nth(nth)).map(|(at, _)| at);
                match at {
                    None => found.push(format!(
                        "there is no field {:?} number {index}: names count as they came, blanks and all",
                        text("name")
                    )),
                    Some(at) if self.ours.get(at) == Some(&true) => found.push(format!(
                        "{:?} number {index} is the field that was just added: delete first",
                        text("name")
                    )),
                    Some(at) if text("type") == "deleteHeader" => {
                        self.names.remove(at);
                        self.ours.remove(at);
                    }
                    Some(_) => {}
                }
                if breaks_field(text("value")) {
                    found.push(format!("the value of {:?} makes a second field", text("name")));
                }
            }
            "addHeader" | "insertHeader" => {
                let name = text("name");
                if name.is_empty() || !name.bytes().all(|octet| octet.is_ascii_graphic() && octet != b':') {
                    found.push(format!("{name:?} is no name of a field"));
                }
                if breaks_field(text("value")) {
                    found.push(format!("the value of {name:?} makes a second field"));
                }
                self.names.insert(0, name.to_owned());
                self.ours.insert(0, true);
            }
            "deleteRecipient" => {
                let path = text("value").trim_start_matches('<').trim_end_matches('>');
                let before = self.to.len();
                self.to.retain(|to| to != path);
                if self.to.len() == before {
                    found.push(format!("{path:?} is no recipient, in lower case: nothing is deleted, silently"));
                }
            }
            "addRecipient" if text("value").contains('@') => self.to.push(text("value").to_lowercase()),
            "addRecipient" => found.push(format!("{:?} is no address: nobody is added, silently", text("value"))),
            "changeFrom" => {}
            "replaceContents" => found
                .push("replaceContents: what a request shows of a body is lossy, so 8-bit octets are destroyed".into()),
            other => found.push(format!("modification {other:?} is not known: the whole answer cannot be decoded")),
        }
        if one.get("parameters").is_some_and(|parameters| !parameters.is_object()) {
            found.push("parameters is no object: the whole answer cannot be decoded".into());
        }
    }
}

/// Whether a value is more than one field: a line ending that folds nothing.
fn breaks_field(value: &str) -> bool {
    let folded = value.replace("\r\n", "\n");
    let inner = folded.strip_suffix('\n').unwrap_or(&folded);
    inner.contains(['\r', '\0']) || inner.split('\n').skip(1).any(|line| !line.starts_with([' ', '\t']))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;

    fn found(status: u16, said: &str) -> Vec<String> {
        let octets = b"X-Auth-Key : a\r\nX-Auth-Key: b\r\nx-auth-key: c\r\nSubject: s\r\n\r\nbody\r\n".to_vec();
        let to = vec!["Bob@recv.test".into(), "carol@recv.test".into()];
        let brought = Brought { from: String::new(), to, login: None, octets };
        let exchange = Exchange {
            line: "POST /".into(),
            asked: Vec::new(),
            status,
            kind: "application/json".into(),
            said: said.as_bytes().to_vec(),
            took: Duration::ZERO,
        };
        findings(&exchange, &brought)
    }

    #[test]
    fn what_stalwart_makes_something_else_of_is_found() {
        let made = |list: Value| json!({ "action": "accept", "modifications": list }).to_string();
        let delete = |index: u32, name: &str| json!({ "type": "deleteHeader", "index": index, "name": name });
        for (said, count) in [
            (r#"{"action":"accept"}"#.to_owned(), 0),
            (r#"{"action":"discard"}"#.into(), 0),
            (r#"{"action":"Accept"}"#.into(), 1),
            ("{}".into(), 1),
            ("[]".into(), 1),
            ("".into(), 1),
            (r#"{"action":"quarantine"}"#.into(), 1),
            (r#"{"action":"accept","modifications":null}"#.into(), 1),
            (r#"{"action":"reject"}"#.into(), 1),
            (r#"{"action":"reject","response":{"status":550,"enhanced_status":"5.7.1","message":"no"}}"#.into(), 0),
            (r#"{"action":"reject","response":{"status":550,"enhancedStatus":"5.7.1","message":"no"}}"#.into(), 1),
            (r#"{"action":"reject","response":{"status":250,"message":"no"}}"#.into(), 1),
            (r#"{"action":"reject","response":{"status":550,"message":"no\r\n250 yes","disconnect":null}}"#.into(), 2),
            (made(json!([delete(2, "X-Auth-Key"), delete(1, "x-auth-key"), delete(1, "X-Auth-Key ")])), 0),
            (made(json!([delete(1, "X-Auth-Key"), delete(2, "X-Auth-Key")])), 2),
            (made(json!([delete(3, "X-Auth-Key")])), 1),
            (made(json!([{ "type": "addHeader", "name": "Subject", "value": "x" }, delete(1, "Subject")])), 1),
            (made(json!([{ "type": "addHeader", "name": "A", "value": "x\r\nEvil: y" }])), 1),
            (made(json!([{ "type": "addHeader", "name": "A", "value": "x\r\n\ty\r\n" }])), 0),
            (made(json!([{ "type": "addHeader", "name": "A B", "value": "" }])), 1),
            (made(json!([{ "type": "deleteRecipient", "value": "bob@recv.test" }])), 0),
            (made(json!([{ "type": "deleteRecipient", "value": "Bob@recv.test" }])), 1),
            (
                made(
                    json!([{ "type": "deleteRecipient", "value": "bob@recv.test" }, { "type": "deleteRecipient", "value": "<carol@recv.test>" }]),
                ),
                1,
            ),
            (made(json!([{ "type": "replaceContents", "value": "" }])), 1),
            (made(json!([{ "type": "addRecipient", "value": "x@y", "parameters": null }])), 1),
            (made(json!([{ "type": "nonsense" }])), 1),
        ] {
            assert_eq!(found(200, &said).len(), count, "{said} {:?}", found(200, &said));
        }
        assert_eq!(found(500, r#"{"action":"accept"}"#).len(), 1);
    }
}
