//! Stalwart played: one request at DATA, version 1 of its hooks.

use serde_json::{Value, json};

use super::brought::{Brought, Trial, cut};
use super::client::Client;
use super::conform::stalwart::findings;

/// Shows the message at DATA.
pub(super) async fn played(client: &Client, brought: &Brought) -> Result<Trial, String> {
    let content = request(brought).to_string().into_bytes();
    let fields = [("content-type", "application/json")];
    let exchange = client.ask("POST", client.path(), &fields, content).await?;
    let findings = findings(&exchange, brought);
    Ok(Trial { exchanges: vec![exchange], findings })
}

/// The request of a Stalwart 0.16.
fn request(brought: &Brought) -> Value {
    let (fields, body) = cut(&brought.octets);
    let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
    let shown: Vec<Value> = fields.iter().map(|(name, value)| json!([text(name), text(value)])).collect();
    let to: Vec<Value> = brought.to.iter().map(|to| json!({ "address": to.to_lowercase() })).collect();
    let mut context = json!({
        "stage": "data",
        "client": { "ip": "192.0.2.10", "port": 40_000, "ptr": null, "helo": "client.test", "activeConnections": 1 },
        "server": { "name": "Stalwart v0.16.19", "port": 25, "ip": "192.0.2.1" },
        "queue": { "id": "4be8277a363f000" },
        "protocol": { "version": 1 },
    });
    if let (Some(login), Some(context)) = (&brought.login, context.as_object_mut()) {
        context.insert("sasl".into(), json!({ "login": login }));
    }
    json!({
        "context": context,
        "envelope": { "from": { "address": brought.from.to_lowercase() }, "to": to },
        "message": { "headers": shown, "contents": text(body), "size": brought.octets.len() },
    })
}
