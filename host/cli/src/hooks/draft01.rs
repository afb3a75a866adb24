//! A mail server of draft-01 played: discovery, registration, a request twice, and the farewell.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::brought::{Brought, Trial};
use super::client::{Client, Exchange};
use super::conform::draft01::{Shown, answer, discovery, registration};

/// Where a scanner tells what it is.
const DISCOVERY: &str = "/.well-known/mta-hooks";
/// The field that names a registration.
const REGISTRATION: &str = "x-mta-hooks-registration";
/// The field that names a request.
const REQUEST: &str = "x-mta-hooks-request-id";

/// Plays it from its beginning to its end.
pub(super) async fn played(client: &Client, brought: &Brought) -> Result<Trial, String> {
    let mut trial = Trial::default();
    let Some(place) = place(client, &mut trial).await? else { return Ok(trial) };
    let wanted = json!({
        "name": "addrauth-hooks-try",
        "version": env!("CARGO_PKG_VERSION"),
        "timeoutMs": 20_000,
        "serialization": "json",
        "inbound": { "stages": ["data"], "properties": Shown::PROPERTIES },
        "outbound": null,
    });
    let fields = [("content-type", "application/json")];
    let exchange = client.ask("POST", &place, &fields, wanted.to_string().into_bytes()).await?;
    trial.findings.extend(registration(&exchange, client));
    let read: Option<Value> = serde_json::from_slice(&exchange.said).ok();
    trial.exchanges.push(exchange);
    let text = |name: &str| read.as_ref().and_then(|read| read.get(name)).and_then(Value::as_str);
    let (Some(id), Some(hook)) = (text("registrationId"), text("hookEndpoint").and_then(|hook| client.within(hook)))
    else {
        trial.findings.push("without registrationId and hookEndpoint no message can be asked about".into());
        return Ok(trial);
    };
    asked(client, brought, id, &hook, &mut trial).await?;
    let named = read.as_ref().and_then(|read| read.pointer("/endpoints/deregistration")).and_then(Value::as_str);
    let farewell = named.and_then(|named| client.within(named)).unwrap_or_else(|| format!("{place}/{id}"));
    let exchange = client.ask("DELETE", &farewell, &[(REGISTRATION, id)], Vec::new()).await?;
    if !matches!(exchange.status, 200 | 204) {
        trial.findings.push(format!("DELETE of the registration is answered {}, not 200 or 204", exchange.status));
    }
    trial.exchanges.push(exchange);
    Ok(trial)
}

/// Where registrations are made: the URL, or where it has no path, what is told at the known place.
async fn place(client: &Client, trial: &mut Trial) -> Result<Option<String>, String> {
    if !matches!(client.path(), "" | "/") {
        return Ok(Some(client.path().to_owned()));
    }
    let exchange = client.ask("GET", DISCOVERY, &[], Vec::new()).await?;
    let found = discovery(&exchange, client);
    trial.exchanges.push(exchange);
    Ok(found.unwrap_or_else(|findings| {
        trial.findings.extend(findings);
        None
    }))
}

async fn asked(client: &Client, brought: &Brought, id: &str, hook: &str, trial: &mut Trial) -> Result<(), String> {
    let request = request(brought).to_string().into_bytes();
    let number = format!("{:032x}", rand::random::<u128>());
    let fields = [("content-type", "application/json"), (REGISTRATION, id), (REQUEST, number.as_str())];
    let first = client.ask("POST", hook, &fields, request.clone()).await?;
    let shown = Shown { octets: &brought.octets, to: &brought.to };
    trial.findings.extend(answer(&first, &shown));
    let second = client.ask("POST", hook, &fields, request).await?;
    let same = |one: &Exchange| (one.status, serde_json::from_slice::<Value>(&one.said).ok());
    if same(&first) != same(&second) {
        trial.findings.push("another try with the same request id is answered otherwise".into());
    }
    trial.exchanges.extend([first, second]);
    Ok(())
}

fn request(brought: &Brought) -> Value {
    let to: Vec<Value> = brought.to.iter().map(|to| json!({ "address": to, "parameters": {} })).collect();
    let from = (!brought.from.is_empty()).then_some(&brought.from);
    let auth = brought.login.as_ref().map(|login| json!({ "login": login, "method": "PLAIN" }));
    json!({
        "stage": "data",
        "action": "accept",
        "timestamp": "2026-11-29T14:00:00.000Z",
        "protocol": { "version": "1.0" },
        "queue": { "id": "4ZbX2k1mQz" },
        "envelope": { "from": { "address": from, "parameters": {} }, "to": to },
        "rawMessage": STANDARD.encode(&brought.octets),
        "client": { "ip": "192.0.2.10", "port": 40_000, "ptr": "client.test", "ehlo": "client.test", "activeConnections": 0 },
        "server": { "name": "mx.recv.test", "ip": "192.0.2.1", "port": 25 },
        "tls": null,
        "auth": auth,
    })
}
