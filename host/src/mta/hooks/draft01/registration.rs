//! A registration: what a mail server wants to be asked about, and what it is told.

use std::time::{Duration, SystemTime};

use humantime_serde::re::humantime::{format_rfc3339_seconds, parse_rfc3339};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::mta::hooks::loose::{Bounded, Loose};
use crate::proto::text::shown;

/// The stages at which a filter has something to say or nothing.
pub(super) const STAGES: [&str; 6] = ["connect", "ehlo", "auth", "mail", "rcpt", "data"];
/// What a request is read for.
pub(super) const PROPERTIES: [&str; 11] = [
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
/// What an answer may change.
pub(super) const UPDATES: [&str; 4] = ["/action", "/response", "/rawMessage", "/envelope/to"];
/// Letters of a name that are kept.
const NAME: usize = 100;
/// What an answer takes beside finding it: writing it, and the way.
const WAY: Duration = Duration::from_secs(1);
/// The shortest time in which an answer makes sense.
const SHORTEST: Duration = Duration::from_secs(2);

/// A registration as it is asked for.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Wanted {
    name: Loose,
    version: Loose,
    timeout_ms: Loose,
    expires_at: Loose,
    serialization: Loose,
    inbound: Option<Inbound>,
    filter: Option<serde::de::IgnoredAny>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Inbound {
    stages: Bounded<Loose, 32>,
    properties: Option<Bounded<Loose, 64>>,
}

/// A registration that is good.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    /// Its id.
    pub id: String,
    /// What the mail server calls itself, and its version.
    pub name: String,
    /// The version.
    pub version: String,
    /// How long the mail server waits, in milliseconds; 0 where it does not say.
    pub timeout_ms: u64,
    /// `json` or `cbor`.
    pub serialization: String,
    /// When it asks.
    pub stages: Vec<String>,
    /// What it shows.
    pub properties: Vec<String>,
    /// When it was made, in seconds since 1970.
    pub created: u64,
    /// When it ends; absent where it does not.
    pub expires: Option<u64>,
    /// The sum of the credential that it belongs to, in hexadecimal digits.
    pub owner: String,
}

impl Wanted {
    /// A registration without id and owner.
    ///
    /// # Errors
    /// Why there is none, in words for the mail server's log.
    pub(super) fn check(self) -> Result<Registration, &'static str> {
        if self.filter.is_some() {
            return Err("UNSUPPORTED_FILTER: no filter is known here");
        }
        let inbound = self.inbound.ok_or("only inbound is served here")?;
        let stages: Vec<String> = inbound.stages.list.into_iter().filter_map(|stage| stage.0).collect();
        let known = |stage: &String| STAGES.contains(&stage.as_str());
        if inbound.stages.more > 0 || !stages.iter().all(known) || !stages.iter().any(|stage| stage == "data") {
            return Err("inbound.stages must be of connect, ehlo, auth, mail, rcpt and data, with data among them");
        }
        let offered = inbound.properties.map(|list| list.list.into_iter().filter_map(|name| name.0).collect());
        let offered: Vec<String> = offered.unwrap_or_else(|| PROPERTIES.map(String::from).to_vec());
        let properties: Vec<String> = offered.into_iter().filter(|name| PROPERTIES.contains(&name.as_str())).collect();
        for needed in ["/stage", "/action", "/rawMessage", "/envelope"] {
            if !properties.iter().any(|name| name == needed) {
                return Err("inbound.properties must hold /stage, /action, /rawMessage and /envelope");
            }
        }
        let serialization = match self.serialization.text() {
            "" | "json" => "json",
            "cbor" => "cbor",
            _ => return Err("serialization must be json or cbor"),
        };
        let expires = match self.expires_at.0.as_deref().map(parse_rfc3339) {
            None => None,
            Some(Ok(at)) if at > SystemTime::now() => Some(seconds(at)),
            Some(_) => return Err("expiresAt must be a time to come"),
        };
        let timeout_ms = match self.timeout_ms.0.as_deref().map(str::parse::<u64>) {
            None => 0,
            Some(Ok(0..2_000)) => return Err("timeoutMs must be 2000 at least"),
            Some(Ok(timeout)) => timeout,
            Some(Err(_)) => return Err("timeoutMs must be a number"),
        };
        let words = |text: &str| -> String { shown(text).chars().take(NAME).collect() };
        Ok(Registration {
            id: String::new(),
            name: words(self.name.text()),
            version: words(self.version.text()),
            timeout_ms,
            serialization: serialization.to_owned(),
            stages,
            properties,
            created: seconds(SystemTime::now()),
            expires,
            owner: String::new(),
        })
    }
}

impl Registration {
    /// What the mail server calls itself.
    pub fn shown(&self) -> String {
        match (self.name.as_str(), self.version.as_str()) {
            ("", _) => "a mail server".into(),
            (name, "") => name.into(),
            (name, version) => format!("{name} {version}"),
        }
    }

    /// Whether it has ended.
    pub fn has_ended(&self, now: SystemTime) -> bool {
        self.expires.is_some_and(|at| at <= seconds(now))
    }

    /// When an answer is due: before the mail server gives up.
    pub(super) fn due(&self, due: Instant) -> Instant {
        if self.timeout_ms == 0 {
            return due;
        }
        let waits = Duration::from_millis(self.timeout_ms.min(600_000));
        due.min(Instant::now() + waits.saturating_sub(WAY).max(SHORTEST / 2))
    }

    /// What the mail server is told.
    pub(super) fn told(&self, registrations: &str, hook: &str) -> Value {
        let place = format!("{registrations}/{}", self.id);
        let time =
            |seconds: u64| format_rfc3339_seconds(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)).to_string();
        json!({
            "registrationId": self.id,
            "status": "active",
            "createdAt": time(self.created),
            "expiresAt": self.expires.map(time),
            "hookEndpoint": hook,
            "negotiated": {
                "version": "1.0",
                "serialization": self.serialization,
                "timeoutMs": (self.timeout_ms > 0).then_some(self.timeout_ms),
                "inbound": {
                    "stages": self.stages,
                    "properties": self.properties,
                    "updateProperties": UPDATES,
                },
                "outbound": null,
            },
            "endpoints": { "deregistration": place, "status": place },
        })
    }
}

/// Seconds since 1970.
fn seconds(at: SystemTime) -> u64 {
    at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}
