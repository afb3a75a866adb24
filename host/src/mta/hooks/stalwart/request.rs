//! A request of Stalwart's, version 1: what it tells, in the forms in which it came from 0.9.4 to 0.16.

use serde::Deserialize;
use zeroize::Zeroizing;

use crate::mta::hooks::Fault;
use crate::mta::hooks::loose::{Bounded, Loose, Parameters, Secret};
use crate::mta::hooks::told::{Path, Told};

/// Recipients that are looked at: ten times as many as one message may have.
const MOST_RECIPIENTS: usize = 10_000;
/// Fields that are looked at; a message with more is refused. Beyond `limits.mta.header_fields` they are only counted.
const MOST_FIELDS: usize = 20_000;
/// What stands for an octet that is no UTF-8.
const LOST: char = '\u{fffd}';

/// When a request is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Rcpt,
    Data,
    /// Before RCPT, or a stage that is not known.
    Other,
}

/// A request, read.
#[derive(Debug, Deserialize)]
struct Read {
    context: Context,
    envelope: Option<Envelope>,
    message: Option<Message>,
}

#[derive(Debug, Deserialize)]
struct Context {
    stage: Loose,
    client: Option<Client>,
    sasl: Option<Sasl>,
    tls: Option<Tls>,
    server: Option<Server>,
    queue: Option<Queue>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Client {
    ip: Loose,
    ptr: Loose,
    helo: Loose,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Sasl {
    login: Loose,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Tls {
    version: Loose,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Server {
    name: Loose,
    port: Loose,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Queue {
    id: Loose,
}

#[derive(Debug, Deserialize)]
struct Envelope {
    from: Address,
    to: Bounded<Address, MOST_RECIPIENTS>,
}

#[derive(Debug, Deserialize)]
struct Address {
    address: String,
    #[serde(default)]
    parameters: Parameters,
}

/// A message as a request shows it.
#[derive(Debug, Deserialize)]
pub(super) struct Message {
    /// Names untrimmed, values with their folds and line endings.
    #[serde(rename = "headers")]
    pub(super) fields: Bounded<(String, Secret), MOST_FIELDS>,
    contents: Secret,
    #[serde(default)]
    pub(super) size: Loose,
}

/// A request: what it tells, and the message at DATA.
#[derive(Debug)]
pub(super) struct Request {
    stage: Stage,
    told: Told,
    message: Option<Message>,
}

/// A [`Request`] in its parts.
pub(super) struct Parts {
    pub(super) told: Told,
    pub(super) message: Option<Message>,
}

impl From<Address> for Path {
    fn from(Address { address, parameters }: Address) -> Path {
        Path { address, parameters }
    }
}

impl Request {
    /// Reads a request.
    ///
    /// # Errors
    /// It is no JSON of this form, or shows a message without an envelope.
    pub(super) fn read(octets: &[u8]) -> Result<Request, Fault> {
        // The library's words name a place and a form, and repeat no text of the request but a wrong one.
        let read: Read = serde_json::from_slice(octets).map_err(|fault| {
            Fault::Malformed(format!("line {}, column {}: {:?}", fault.line(), fault.column(), fault.classify()))
        })?;
        let Read { context, envelope, message } = read;
        let stage = match context.stage.text() {
            stage if stage.eq_ignore_ascii_case("rcpt") => Stage::Rcpt,
            stage if stage.eq_ignore_ascii_case("data") => Stage::Data,
            _ => Stage::Other,
        };
        let Client { ip, ptr, helo } = context.client.unwrap_or_default();
        let Server { name, port } = context.server.unwrap_or_default();
        let mut told = Told {
            ip,
            name: ptr,
            helo,
            tls: context.tls.is_some_and(|tls| !tls.version.text().is_empty()),
            server: None,
            // It changes with every version; the port tells mail exchange and submission apart.
            daemon: if port.text().is_empty() { "stalwart".into() } else { format!("stalwart:{}", port.text()) },
            mta: name.0.unwrap_or_else(|| "Stalwart".into()),
            login: context.sasl.map(|sasl| sasl.login).unwrap_or_default(),
            queue_id: context.queue.map(|queue| queue.id).unwrap_or_default(),
            ..Told::default()
        };
        match envelope {
            Some(Envelope { from, to }) => {
                told.from = from.into();
                told.more = to.more;
                told.to = to.list.into_iter().map(Path::from).collect();
            }
            None if message.is_some() => return Err(Fault::Malformed("it shows no envelope".into())),
            None => {}
        }
        Ok(Request { stage, told, message })
    }

    pub(super) fn stage(&self) -> Stage {
        self.stage
    }

    pub(super) fn into_parts(self) -> Parts {
        Parts { told: self.told, message: self.message }
    }
}

impl Message {
    /// Whether an octet of it may be lost: then no copy of it would be the message.
    pub(super) fn is_lossy(&self) -> bool {
        let lost = |text: &str| text.contains(LOST);
        let in_header = || self.fields.list.iter().any(|(name, value)| lost(name) || lost(&value.0));
        lost(&self.contents.0) || in_header()
    }

    /// Whether its header holds letters beyond ASCII as UTF-8, so that it came with SMTPUTF8.
    pub(super) fn is_utf8(&self) -> bool {
        let value = |value: &Secret| !value.0.is_ascii() && !value.0.contains(LOST);
        self.fields.list.iter().any(|(_, of)| value(of))
    }

    /// The body. Stalwart 0.15 cuts its last line ending.
    pub(super) fn body(&self) -> Zeroizing<String> {
        let contents = self.contents.0.as_str();
        let ending = if contents.is_empty() || contents.ends_with('\n') { "" } else { "\r\n" };
        Zeroizing::new([contents, ending].concat())
    }
}

/// A value without its last line ending, folds being LF.
pub(super) fn unfolded(value: &str) -> Zeroizing<Vec<u8>> {
    let value = value.strip_suffix('\n').map_or(value, |value| value.strip_suffix('\r').unwrap_or(value));
    let mut octets = Zeroizing::new(Vec::with_capacity(value.len()));
    let mut pieces = value.split("\r\n").peekable();
    while let Some(piece) = pieces.next() {
        octets.extend_from_slice(piece.as_bytes());
        octets.extend(pieces.peek().map(|_| b'\n'));
    }
    octets
}
