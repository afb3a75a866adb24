//! A message, a zone and servers: the small world that the verifier is tested in.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::SystemTime;

use addrauth::case::{Envelope, Field, Found, Head, KeyStatus, Mail, Why};
use addrauth::config::{Limits, Verify};
use addrauth::proto::key::AuthKey;
use addrauth::verify::Verifier;
use addrauth_lab::zone::{Records, Zone};

use crate::authority::{Act, Authority};

/// The key that servers of these tests know.
pub const GOOD: &str = "Vb3kQ9w2Zr7tYp0sXn4mLc8dHf1gJa6eUi5oRk2yTq9wEz3xBv7nMs4pDl8hGj0K";
/// A key that nobody knows.
pub const JUNK: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
/// The sender of most messages.
pub const ALICE: &str = " Alice <alice@example.com>";
/// Where the servers are.
pub const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A key that is within the grammar.
pub fn key(text: &str) -> AuthKey {
    AuthKey::parse(text.as_bytes()).unwrap()
}

/// A message with these From fields and key fields.
pub fn mail(from: &[&str], keys: &[&str]) -> Mail {
    let field = |value: &&str| Field { name: "From".into(), value: value.as_bytes().to_vec() };
    Mail::new(
        Envelope { received: SystemTime::now(), ..Envelope::default() },
        Head {
            fields: from.iter().map(field).collect(),
            keys: keys.iter().map(|text| AuthKey::parse(text.as_bytes()).ok()).collect(),
            ..Head::default()
        },
    )
}

/// A key that nobody knows, another for each number.
pub fn junk(number: usize) -> String {
    format!("{number:0>64}")
}

/// Records that lead example.com to these servers, in order of priority.
pub fn leading_to(servers: &[&Authority], rest: &str) -> Records {
    servers.iter().enumerate().fold(Records::default(), |records, (index, server)| {
        let host = format!("as{index}.example.com");
        let text = format!("AS={host}:{}; p={index}{rest}", server.addr.port());
        records.txt("example.com", &text).address(&host, LOOPBACK)
    })
}

/// A configuration that asks this zone and permits servers on loopback.
pub fn config(zone: &Zone) -> Verify {
    Verify { dns: vec![zone.addr], allow_targets: vec!["127.0.0.0/8".parse().unwrap()], ..Verify::default() }
}

/// A verifier with the usual limits.
pub fn verifier(config: &Verify) -> Verifier {
    Verifier::new(config, "mx.example.net", &Arc::new(Limits::default())).unwrap()
}

/// A zone that leads to these servers, and a verifier that asks it.
pub async fn world(servers: &[&Authority], rest: &str) -> (Zone, Verifier) {
    let zone = Zone::start(leading_to(servers, rest)).await.unwrap();
    let verifier = verifier(&config(&zone));
    (zone, verifier)
}

/// A server that always does this.
pub async fn saying(act: Act) -> Authority {
    Authority::start([act]).await.unwrap()
}

/// What matters most of what was found.
pub fn result(found: &Found) -> (KeyStatus, Option<Why>) {
    (found.status, found.why)
}
