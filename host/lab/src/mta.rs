//! An MTA played over the real milter socket: the demonstration and the tests drive the daemon with it.
//!
//! It talks as Postfix 3.7 does: the same offer, the same order, macros before each command, values with their leading space
//! and folds as LF, its way of counting when fields are deleted, and recipients deleted by their exact octets alone.

use std::io;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_util::bytes::BytesMut;

use addrauth::config::{Limits, Listen};
use addrauth::mta::milter::frame::{Cutter, Frame, Reader, answer, command, put};
use addrauth::proto::header::{self, Edit};

mod changes;

pub use changes::apply;

use changes::{Change, UNBOUND, read_change, reply_text, told};

/// How long this MTA waits for an answer: Postfix's `milter_command_timeout` as our documentation sets it.
const PATIENCE: Duration = Duration::from_secs(30);
/// A wait that is worth noting: the delayed ACK that two writes meet is 40 ms.
const PAUSE: Duration = Duration::from_millis(25);
/// Octets of body in one frame.
const CHUNK: usize = 65_535;

/// What went wrong between this MTA and its milter.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The milter cannot be reached.
    #[error("cannot connect to {place}: {source}")]
    Connect {
        /// Where it should be.
        place: Listen,
        /// The system's reason.
        source: io::Error,
    },
    /// The connection failed, or a frame is none.
    #[error("the milter's connection failed: {0}")]
    Frames(#[from] addrauth::mta::milter::Error),
    /// The milter closed the connection.
    #[error("the milter closed the connection when {0} was said")]
    Closed(char),
    /// No answer in time.
    #[error("the milter did not answer {0} within {PATIENCE:?}")]
    Silent(char),
    /// An answer that makes no sense there.
    #[error("the milter's answer to {said} makes no sense: {answer:?}")]
    Nonsense {
        /// What was said.
        said: char,
        /// The answer.
        answer: Frame,
    },
}

/// What an MTA knows of a message before its data.
#[derive(Clone, Debug)]
pub struct Envelope {
    /// The client's address.
    pub client: IpAddr,
    /// The client's name; `unknown` where look-ups disagree.
    pub client_name: String,
    /// Its HELO.
    pub helo: String,
    /// Whether it uses TLS.
    pub tls: bool,
    /// Its login.
    pub login: Option<String>,
    /// The MTA's daemon that took it.
    pub daemon: String,
    /// The reverse-path without angle brackets; empty: null.
    pub reverse_path: String,
    /// MAIL's parameters, such as `SMTPUTF8`.
    pub parameters: Vec<String>,
    /// The recipients, without angle brackets.
    pub recipients: Vec<String>,
    /// The MTA's name for it.
    pub queue_id: String,
}

impl Envelope {
    /// A message from outside, from one address to another.
    pub fn inbound(from: &str, to: &str) -> Envelope {
        Envelope {
            client: IpAddr::from([192, 0, 2, 7]),
            client_name: "client.example".into(),
            helo: "client.example".into(),
            tls: false,
            login: None,
            daemon: "mx.example".into(),
            reverse_path: from.into(),
            parameters: Vec::new(),
            recipients: vec![to.into()],
            queue_id: "4EE6EA06124".into(),
        }
    }
}

/// What the MTA tells its client, or does with the message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// 250, and delivered.
    Delivered,
    /// 250, and dropped.
    Discarded,
    /// 250, and held for this reason.
    Held(String),
    /// A refusal: the reply as the client reads it.
    Refused(String),
}

/// What became of a message.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Its fate.
    pub fate: Fate,
    /// The message as it is delivered or held; empty where it is neither.
    pub message: Vec<u8>,
    /// The edits that the milter asked for, in their order.
    pub edits: Vec<Edit>,
    /// Who gets it, without angle brackets: recipients that are left, then added ones. Nobody unless it is delivered or held.
    pub recipients: Vec<String>,
    /// Recipients that the milter refused, and what their sender was told.
    pub refused: Vec<(String, String)>,
    /// Pieces of the body that were said, before the milter had enough of it.
    pub pieces: usize,
    /// The command that was answered with `fate`: `M` for MAIL, `E` for the end of the message.
    pub at: char,
    /// The commands whose answers took longer than 25 ms, and how long.
    pub pauses: Vec<(char, Duration)>,
}

/// What the MTA offers its milters.
#[derive(Clone, Copy, Debug)]
pub struct Offer {
    /// The protocol's version.
    pub version: u32,
    /// What milters may do.
    pub actions: u32,
    /// What they may ask of the protocol.
    pub protocol: u32,
}

impl Default for Offer {
    /// Postfix 3.7.
    fn default() -> Offer {
        Offer { version: 6, actions: 0x1ff, protocol: 0x1f_ffff }
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A connection to a milter, kept over many messages.
pub struct Mta {
    frames: Reader<Box<dyn Stream>>,
    protocol: u32,
    /// Whether messages come by sendmail(1).
    picked_up: bool,
    pauses: Vec<(char, Duration)>,
    /// Of the message under way, as in [`Outcome`].
    recipients: Vec<String>,
    refused: Vec<(String, String)>,
    pieces: usize,
}

impl Mta {
    /// Connects and negotiates as Postfix 3.7 does.
    pub async fn connect(place: &Listen) -> Result<Mta, Error> {
        Mta::connect_offering(place, Offer::default()).await
    }

    /// Connects and negotiates with another offer.
    pub async fn connect_offering(place: &Listen, offer: Offer) -> Result<Mta, Error> {
        let wrong = |source| Error::Connect { place: place.clone(), source };
        let stream: Box<dyn Stream> = match place {
            Listen::Inet(address) => Box::new(TcpStream::connect(address).await.map_err(wrong)?),
            Listen::Unix(path) => Box::new(UnixStream::connect(path).await.map_err(wrong)?),
        };
        let cutter = Cutter::new(Limits::default().mta.frame);
        let mut mta = Mta {
            frames: Reader::new(stream, cutter),
            protocol: 0,
            picked_up: false,
            pauses: Vec::new(),
            recipients: Vec::new(),
            refused: Vec::new(),
            pieces: 0,
        };
        let words = [offer.version, offer.actions, offer.protocol].map(u32::to_be_bytes).concat();
        mta.say(command::OPTIONS, &[&words]).await?;
        let answer = mta.hear(command::OPTIONS).await?;
        let word = |at: usize| answer.payload.get(at..at + 4)?.try_into().ok().map(u32::from_be_bytes);
        match (answer.command, word(0), word(4), word(8)) {
            (answer::OPTIONS, Some(version), Some(actions), Some(protocol))
                if version <= offer.version && actions & !offer.actions == 0 && protocol & !offer.protocol == 0 =>
            {
                mta.protocol = protocol;
                Ok(mta)
            }
            _ => Err(nonsense(command::OPTIONS, answer)),
        }
    }

    /// From now on the messages come by sendmail(1) (`non_smtpd_milters`): Postfix's cleanup says paths without brackets, names no
    /// mailer of a recipient, and leaves a message where it was if the milter refuses one, to try it again (3.7.11, measured).
    pub fn picks_up(&mut self) {
        self.picked_up = true;
    }

    /// One message from CONNECT to our answer. The connection stays open.
    pub async fn send(&mut self, envelope: &Envelope, message: &[u8]) -> Result<Outcome, Error> {
        self.pauses.clear();
        self.recipients.clear();
        self.refused.clear();
        self.pieces = 0;
        let refused = match self.say_envelope(envelope).await? {
            None => self.say_message(envelope, message).await?,
            refused => refused,
        };
        if let Some((at, reply)) = refused {
            self.say(command::ABORT, &[]).await?;
            self.recipients.clear();
            return Ok(self.outcome(Fate::Refused(reply), at, Vec::new(), Vec::new()));
        }
        self.macros(command::END, &[("i", &envelope.queue_id)]).await?;
        self.say(command::END, &[]).await?;
        let (fate, edits) = self.hear_end().await?;
        let delivered = match fate {
            Fate::Delivered | Fate::Held(_) => apply(message, &edits),
            Fate::Discarded | Fate::Refused(_) => Vec::new(),
        };
        if matches!(fate, Fate::Discarded | Fate::Refused(_)) {
            self.recipients.clear();
        }
        self.say(command::ABORT, &[]).await?;
        Ok(self.outcome(fate, command::END.into(), delivered, edits))
    }

    /// Ends the connection.
    pub async fn quit(mut self) -> Result<(), Error> {
        self.say(command::QUIT, &[]).await
    }

    fn outcome(&mut self, fate: Fate, at: char, message: Vec<u8>, edits: Vec<Edit>) -> Outcome {
        let (recipients, refused) = (std::mem::take(&mut self.recipients), std::mem::take(&mut self.refused));
        let pauses = std::mem::take(&mut self.pauses);
        Outcome { fate, message, edits, recipients, refused, pieces: self.pieces, at, pauses }
    }

    async fn say_envelope(&mut self, envelope: &Envelope) -> Result<Option<(char, String)>, Error> {
        self.macros(
            command::CONNECT,
            &[("j", "mx.example"), ("{daemon_name}", &envelope.daemon), ("v", "Postfix 3.7.11")],
        )
        .await?;
        let (family, address) = match envelope.client {
            IpAddr::V4(address) => (b"4", address.to_string()),
            IpAddr::V6(address) => (b"6", format!("IPv6:{address}")),
        };
        let name = envelope.client_name.as_bytes();
        let parts: [&[u8]; 6] = [name, b"\0", family, &40_000u16.to_be_bytes(), address.as_bytes(), b"\0"];
        let connect = self.ask(command::CONNECT, &parts).await?;
        let tls: &[(&str, &str)] = if envelope.tls { &[("{tls_version}", "TLSv1.3")] } else { &[] };
        self.macros(command::HELO, tls).await?;
        let helo = self.ask(command::HELO, &[envelope.helo.as_bytes(), b"\0"]).await?;
        let login: Vec<(&str, &str)> = envelope.login.iter().map(|login| ("{auth_authen}", login.as_str())).collect();
        self.macros(command::MAIL, &login).await?;
        let parameters: String = envelope.parameters.iter().map(|parameter| format!("{parameter}\0")).collect();
        let path = format!("<{}>\0{parameters}", envelope.reverse_path);
        let mail = self.ask(command::MAIL, &[path.as_bytes()]).await?;
        if let Some(refused) = connect.or(helo).or(mail) {
            return Ok(Some(refused));
        }
        for recipient in &envelope.recipients {
            // Postfix opens its queue file at the first accepted recipient.
            let id = (!self.recipients.is_empty()).then_some(("i", envelope.queue_id.as_str()));
            let path = if self.picked_up { format!("{recipient}\0") } else { format!("<{recipient}>\0") };
            // Its `{rcpt_addr}` is left out: the addresses that are played read as they are.
            let mailer = (!self.picked_up).then_some(("{rcpt_mailer}", "virtual"));
            self.macros(command::RCPT, &id.into_iter().chain(mailer).collect::<Vec<_>>()).await?;
            match self.ask(command::RCPT, &[path.as_bytes()]).await? {
                Some((at, _)) if self.picked_up => {
                    return Ok(Some((at, "451 4.3.5 Server configuration error".to_owned())));
                }
                Some((_, reply)) => self.refused.push((recipient.clone(), reply)),
                None => self.recipients.push(recipient.clone()),
            }
        }
        if let (true, Some((_, reply))) = (self.recipients.is_empty(), self.refused.first()) {
            return Ok(Some((command::RCPT.into(), reply.clone())));
        }
        self.macros(command::DATA, &[("i", &envelope.queue_id)]).await?;
        self.ask(command::DATA, &[]).await
    }

    async fn say_message(&mut self, envelope: &Envelope, message: &[u8]) -> Result<Option<(char, String)>, Error> {
        let block = header::scan(message, UNBOUND);
        for field in &block.fields {
            let name = message.get(field.name.clone()).unwrap_or_default();
            let value = told(message.get(field.value.clone()).unwrap_or_default(), self.keeps_spaces());
            self.macros(command::HEADER, &[("i", &envelope.queue_id)]).await?;
            if let Some(refused) = self.ask(command::HEADER, &[name, b"\0", &value, b"\0"]).await? {
                return Ok(Some(refused));
            }
        }
        if let Some(refused) = self.ask(command::END_OF_HEADER, &[]).await? {
            return Ok(Some(refused));
        }
        let rest = message.get(block.end..).unwrap_or_default();
        let rest = rest.strip_prefix(b"\r\n").or(rest.strip_prefix(b"\n")).unwrap_or(rest);
        for chunk in rest.chunks(CHUNK) {
            self.say(command::BODY, &[chunk]).await?;
            self.pieces += 1;
            let answer = self.hear(command::BODY).await?;
            match answer.command {
                answer::CONTINUE => {}
                answer::SKIP => break,
                answer::REPLY => return Ok(Some((command::BODY.into(), reply_text(&answer)))),
                _ => return Err(nonsense(command::BODY, answer)),
            }
        }
        Ok(None)
    }

    /// Changes until the verdict; those of the recipients are made at once.
    async fn hear_end(&mut self) -> Result<(Fate, Vec<Edit>), Error> {
        let (mut edits, mut held) = (Vec::new(), None);
        loop {
            let answer = self.hear(command::END).await?;
            let fate = match answer.command {
                answer::CHANGE | answer::INSERT | answer::DELETE_RECIPIENT | answer::ADD_RECIPIENT => {
                    match read_change(&answer, self.keeps_spaces()).ok_or_else(|| nonsense(command::END, answer))? {
                        Change::Header(edit) => edits.push(edit),
                        Change::Less(path) => self.recipients.retain(|recipient| path != format!("<{recipient}>")),
                        Change::More(path) => {
                            self.recipients.push(path.trim_start_matches('<').trim_end_matches('>').to_owned());
                        }
                    }
                    continue;
                }
                answer::QUARANTINE => {
                    held = Some(reply_text(&answer));
                    continue;
                }
                answer::ACCEPT | answer::CONTINUE => held.map_or(Fate::Delivered, Fate::Held),
                answer::DISCARD => Fate::Discarded,
                answer::REPLY => Fate::Refused(reply_text(&answer)),
                _ => return Err(nonsense(command::END, answer)),
            };
            return Ok((fate, edits));
        }
    }

    fn keeps_spaces(&self) -> bool {
        self.protocol & 0x10_0000 != 0
    }

    /// Says a command and hears its answer where one was agreed; a refusal and its command, if it is one.
    async fn ask(&mut self, command: u8, parts: &[&[u8]]) -> Result<Option<(char, String)>, Error> {
        self.say(command, parts).await?;
        let silent = match command {
            command::CONNECT => 0x1000,
            command::HELO => 0x2000,
            command::MAIL => 0x4000,
            command::RCPT => 0x8000,
            command::DATA => 0x1_0000,
            command::HEADER => 0x80,
            command::END_OF_HEADER => 0x4_0000,
            _ => 0,
        };
        if self.protocol & silent != 0 {
            return Ok(None);
        }
        let answer = self.hear(command).await?;
        match answer.command {
            answer::CONTINUE => Ok(None),
            answer::REPLY => Ok(Some((command.into(), reply_text(&answer)))),
            _ => Err(nonsense(command, answer)),
        }
    }

    async fn macros(&mut self, command: u8, macros: &[(&str, &str)]) -> Result<(), Error> {
        let macros: String = macros.iter().map(|(name, value)| format!("{name}\0{value}\0")).collect();
        self.say(command::MACROS, &[&[command], macros.as_bytes()]).await
    }

    async fn say(&mut self, command: u8, parts: &[&[u8]]) -> Result<(), Error> {
        let mut out = BytesMut::new();
        put(&mut out, command, parts, Limits::default().mta.frame)?;
        let written = self.frames.socket().write_all(&out).await;
        Ok(written.map_err(addrauth::mta::milter::Error::Io)?)
    }

    async fn hear(&mut self, said: u8) -> Result<Frame, Error> {
        let since = Instant::now();
        let answer = timeout(PATIENCE, self.frames.next()).await;
        if since.elapsed() > PAUSE {
            self.pauses.push((said.into(), since.elapsed()));
        }
        let answer = answer.map_err(|_| Error::Silent(said.into()))?;
        answer?.ok_or(Error::Closed(said.into()))
    }
}

fn nonsense(said: u8, answer: Frame) -> Error {
    Error::Nonsense { said: said.into(), answer }
}
