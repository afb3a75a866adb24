//! A request about a message: what it tells, and what tells it from another.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{Deserialize, Deserializer, Visitor};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::form::Form;
use super::registration::Registration;
use crate::case::{Mail, Means, Recipient};
use crate::config::Limits;
use crate::mta::Refused;
use crate::mta::hooks::Fault;
use crate::mta::hooks::loose::{Bounded, Loose, Parameters};
use crate::mta::hooks::octets::Room;
use crate::mta::hooks::told::{Path, Told};
use crate::proto::header::{Bounds, scan};

/// Recipients that are looked at: ten times as many as one message may have.
const MOST_RECIPIENTS: usize = 10_000;

/// When a request is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Rcpt,
    Data,
    /// Before RCPT, or a stage that is not known.
    Other,
}

/// A request, read.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) stage: Stage,
    pub(super) told: Told,
    pub(super) raw: Raw,
    /// A sum of all that counts in it: not of its time, which another try of the same request has anew.
    pub(super) digest: [u8; 32],
    /// The room of the request.
    pub(super) room: Room,
}

/// A message: base64 in JSON, octets in CBOR. It does not print, and is wiped.
#[derive(Default)]
pub(super) struct Raw(pub(super) Zeroizing<Vec<u8>>);

#[derive(Debug, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Read {
    stage: Loose,
    #[serde(default)]
    queue: Option<Queue>,
    #[serde(default)]
    envelope: Option<Envelope>,
    #[serde(default)]
    client: Option<Client>,
    #[serde(default)]
    server: Option<Server>,
    #[serde(default)]
    tls: Option<Tls>,
    #[serde(default)]
    auth: Option<Auth>,
    #[serde(default)]
    raw_message: Option<Raw>,
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
struct Queue {
    id: Loose,
}

#[derive(Debug, serde::Deserialize)]
struct Envelope {
    #[serde(default)]
    from: Option<Sender>,
    to: Bounded<To, MOST_RECIPIENTS>,
}

/// The sender: the address is null where the path is.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
struct Sender {
    address: Option<String>,
    parameters: Parameters,
}

#[derive(Debug, serde::Deserialize)]
struct To {
    address: String,
    #[serde(default)]
    parameters: Parameters,
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
struct Client {
    ip: Loose,
    ptr: Loose,
    ehlo: Loose,
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
struct Server {
    name: Loose,
    port: Loose,
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
struct Tls {
    version: Loose,
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
struct Auth {
    login: Loose,
}

impl std::fmt::Debug for Raw {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Raw({} octets)", self.0.len())
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a message in base64")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Raw, E> {
        let decoded = STANDARD.decode(text).map_err(|_| E::custom("no base64"))?;
        Ok(Raw(Zeroizing::new(decoded)))
    }

    fn visit_bytes<E>(self, octets: &[u8]) -> Result<Raw, E> {
        Ok(Raw(Zeroizing::new(octets.to_vec())))
    }

    fn visit_byte_buf<E>(self, octets: Vec<u8>) -> Result<Raw, E> {
        Ok(Raw(Zeroizing::new(octets)))
    }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Raw, D::Error> {
        if deserializer.is_human_readable() {
            deserializer.deserialize_str(RawVisitor)
        } else {
            deserializer.deserialize_any(RawVisitor)
        }
    }
}

impl Asked {
    /// Reads a request of this registration.
    ///
    /// # Errors
    /// It is none, or shows at DATA no envelope or no message.
    pub(super) fn read(form: Form, octets: &[u8], registration: &Registration) -> Result<Asked, Fault> {
        let Read { stage, queue, envelope, client, server, tls, auth, raw_message } = form.read(octets)?;
        let stage = match (stage.text(), &raw_message) {
            // Whatever a stage is called, a message that is shown is examined.
            (_, Some(_)) | ("data", None) => Stage::Data,
            ("rcpt", None) => Stage::Rcpt,
            _ => Stage::Other,
        };
        let (Some(envelope), raw) = (envelope, raw_message) else {
            return match stage {
                Stage::Data => Err(Fault::Malformed("it shows no envelope".into())),
                _ => Ok(Asked {
                    stage: Stage::Other,
                    told: Told::default(),
                    raw: Raw::default(),
                    digest: [0; 32],
                    room: None,
                }),
            };
        };
        if stage == Stage::Data && raw.is_none() {
            return Err(Fault::Malformed("it shows no rawMessage".into()));
        }
        let Client { ip, ptr, ehlo } = client.unwrap_or_default();
        let Server { name, port } = server.unwrap_or_default();
        let Sender { address, parameters } = envelope.from.unwrap_or_default();
        // Mail exchange and submission of one host have one name, and two ports.
        let daemon = match (name.text(), port.text()) {
            (name, "") => name.to_owned(),
            (name, port) => format!("{name}:{port}"),
        };
        let told = Told {
            ip,
            name: ptr,
            helo: ehlo,
            tls: tls.is_some_and(|tls| !tls.version.text().is_empty()),
            server: name.0,
            mta: registration.shown(),
            daemon,
            login: auth.map(|auth| auth.login).unwrap_or_default(),
            queue_id: queue.map(|queue| queue.id).unwrap_or_default(),
            from: Path { address: address.unwrap_or_default(), parameters },
            more: envelope.to.more,
            to: envelope.to.list.into_iter().map(|To { address, parameters }| Path { address, parameters }).collect(),
        };
        let raw = raw.unwrap_or_default();
        let digest = digest(&told, &raw.0);
        Ok(Asked { stage, told, raw, digest, room: None })
    }

    /// The message.
    ///
    /// # Errors
    /// It is over its limits.
    pub(super) fn mail(&self, means: Means, limits: &Arc<Limits>) -> Result<Mail, Refused> {
        let mut intake = self.told.intake(means, &[], limits)?;
        let block = scan(&self.raw.0, Bounds { fields: usize::MAX, octets: usize::MAX });
        let part = |range: &std::ops::Range<usize>| self.raw.0.get(range.clone()).unwrap_or_default();
        for field in &block.fields {
            intake.field(part(&field.name), &unfolded(part(&field.value)), true)?;
        }
        intake.finish(self.body())
    }

    /// What follows the header and its empty line.
    pub(super) fn body(&self) -> &[u8] {
        let block = scan(&self.raw.0, Bounds { fields: usize::MAX, octets: usize::MAX });
        let rest = self.raw.0.get(block.end..).unwrap_or_default();
        rest.strip_prefix(b"\r\n").or(rest.strip_prefix(b"\n")).unwrap_or(rest)
    }

    /// The recipients, as they are in the message.
    pub(super) fn recipients(&self) -> Vec<Recipient> {
        self.told.to.iter().map(|path| Recipient::new(path.octets())).collect()
    }
}

/// Which of these names is the `index`th of this name, letter case ignored.
pub(super) fn position<'a>(names: impl Iterator<Item = &'a [u8]>, name: &str, index: u32) -> Option<usize> {
    let mut of_name = names.enumerate().filter(|(_, known)| known.eq_ignore_ascii_case(name.as_bytes()));
    of_name.nth(usize::try_from(index.checked_sub(1)?).ok()?).map(|(at, _)| at)
}

/// A sum of what a request tells and shows.
fn digest(told: &Told, raw: &[u8]) -> [u8; 32] {
    let mut sum = Sha256::new();
    // Each part with its length, so that no two rows of parts are one.
    let mut part = |octets: &[u8]| {
        sum.update(octets.len().to_be_bytes());
        sum.update(octets);
    };
    for text in [&told.ip, &told.name, &told.helo, &told.login, &told.queue_id] {
        part(text.text().as_bytes());
    }
    part(told.daemon.as_bytes());
    part(&[u8::from(told.tls)]);
    for path in std::iter::once(&told.from).chain(&told.to) {
        part(path.address.as_bytes());
        path.parameters.0.iter().for_each(|word| part(word));
        part(b"");
    }
    part(raw);
    sum.finalize().into()
}

/// A value with LF for CRLF; a bare CR stays.
fn unfolded(value: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut octets = Zeroizing::new(Vec::with_capacity(value.len()));
    for (at, octet) in value.iter().enumerate() {
        if !(*octet == b'\r' && value.get(at + 1) == Some(&b'\n')) {
            octets.push(*octet);
        }
    }
    octets
}
