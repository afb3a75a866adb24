//! An MTA at the milter door: it brings one message, and writes down all that it is told to do with it.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Longer than Postfix waits: an answer after its 30 s would be none.
const PATIENCE: Duration = Duration::from_secs(60);
/// What Postfix 3.7 offers: version, actions, protocol.
pub const OFFER: [u32; 3] = [6, 0x1ff, 0x1f_ffff];

/// A message with its envelope.
#[derive(Clone, Debug, Default)]
pub struct Parcel {
    /// The MTA's name for it.
    pub queue_id: String,
    /// The reverse-path without angle brackets.
    pub from: String,
    /// The recipients without angle brackets.
    pub to: Vec<String>,
    /// Names and values, without the space between.
    pub fields: Vec<(String, String)>,
    /// What follows the header.
    pub body: Vec<u8>,
}

/// How it ends for the MTA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// 250, and delivered to whoever is left.
    Deliver,
    /// 250, and dropped.
    Drop,
    /// 250, and held.
    Hold,
    /// This reply, to the whole message.
    Reply(String),
    /// The door closed without an answer: the MTA says 451 by itself (`milter_default_action = tempfail`).
    Gone,
    /// No answer in time: the same.
    Silent,
}

/// All that the MTA was told about one message.
#[derive(Clone, Debug)]
pub struct Told {
    /// How it ends.
    pub answer: Answer,
    /// The recipients that are struck out.
    pub removed: Vec<String>,
    /// The recipients that are put in.
    pub added: Vec<String>,
    /// The fields that are put in.
    pub inserted: Vec<(String, String)>,
    /// The names of the fields that are taken out.
    pub deleted: Vec<String>,
}

impl Told {
    /// A value that is put in under this name.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.inserted.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// A connection to the door.
#[derive(Debug)]
pub struct Courier {
    stream: TcpStream,
    protocol: u32,
}

impl Courier {
    /// Connects and negotiates.
    pub async fn connect(door: SocketAddr) -> io::Result<Courier> {
        let mut courier = Courier { stream: TcpStream::connect(door).await?, protocol: 0 };
        courier.say(b'O', &[&OFFER.map(u32::to_be_bytes).concat()]).await?;
        let (_, terms) = courier.hear().await?;
        let word = terms.get(8..12).and_then(|word| word.try_into().ok()).ok_or(io::ErrorKind::InvalidData)?;
        courier.protocol = u32::from_be_bytes(word);
        Ok(courier)
    }

    /// Brings a message, and hears what is to become of it.
    pub async fn bring(&mut self, parcel: &Parcel) -> Told {
        let mut told = Told {
            answer: Answer::Silent,
            removed: Vec::new(),
            added: Vec::new(),
            inserted: Vec::new(),
            deleted: Vec::new(),
        };
        told.answer = match timeout(PATIENCE, self.carry(parcel, &mut told)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Answer::Gone,
            Err(_) => Answer::Silent,
        };
        told
    }

    async fn carry(&mut self, parcel: &Parcel, told: &mut Told) -> io::Result<Answer> {
        let id = format!("i\0{}\0", parcel.queue_id);
        let macros: [(u8, &str); 5] =
            [(b'C', "j\0mx.home.example\0"), (b'H', ""), (b'M', &id), (b'R', &id), (b'T', &id)];
        let path = |address: &str| format!("<{address}>\0").into_bytes();
        let mut said: Vec<(u8, Vec<u8>)> = vec![
            (b'C', b"client.example\x004\x9c\x40192.0.2.7\0".to_vec()),
            (b'H', b"client.example\0".to_vec()),
            (b'M', path(&parcel.from)),
        ];
        said.extend(parcel.to.iter().map(|to| (b'R', path(to))));
        said.push((b'T', Vec::new()));
        said.extend(parcel.fields.iter().map(|(name, value)| (b'L', format!("{name}\0 {value}\0").into_bytes())));
        said.push((b'N', Vec::new()));
        said.push((b'B', parcel.body.clone()));
        for (command, octets) in &said {
            if let Some((_, macros)) = macros.iter().find(|(before, _)| before == command) {
                self.say(b'D', &[&[*command], macros.as_bytes()]).await?;
            }
            self.say(*command, &[octets]).await?;
            if !self.answers(*command) {
                continue;
            }
            match self.hear().await? {
                (b'c' | b's', _) => {}
                (b'y', reply) => {
                    self.say(b'A', &[]).await?;
                    return Ok(Answer::Reply(text(&reply)));
                }
                (other, _) => return Ok(Answer::Reply(format!("{} to {}", char::from(other), char::from(*command)))),
            }
        }
        self.say(b'E', &[]).await?;
        self.hear_end(told).await
    }

    /// Whether this command is answered by what was agreed.
    fn answers(&self, command: u8) -> bool {
        let silent = match command {
            b'L' => 0x80,
            b'C' => 0x1000,
            b'H' => 0x2000,
            b'M' => 0x4000,
            b'R' => 0x8000,
            b'T' => 0x1_0000,
            b'N' => 0x4_0000,
            b'B' => 0x8_0000,
            _ => 0,
        };
        self.protocol & silent == 0
    }

    /// Changes until the verdict.
    async fn hear_end(&mut self, told: &mut Told) -> io::Result<Answer> {
        let mut held = false;
        loop {
            let (command, octets) = self.hear().await?;
            let words = |octets: &[u8]| octets.split(|o| *o == 0).map(text).collect::<Vec<_>>();
            match command {
                b'm' => told.deleted.extend(words(octets.get(4..).unwrap_or_default()).into_iter().next()),
                b'i' => {
                    let words = words(octets.get(4..).unwrap_or_default());
                    told.inserted.push((words[0].clone(), words.get(1).cloned().unwrap_or_default()));
                }
                b'-' => told.removed.push(text(&octets)),
                b'+' => told.added.push(text(&octets)),
                b'q' => held = true,
                b'a' | b'c' if held => return Ok(Answer::Hold),
                b'a' | b'c' => return Ok(Answer::Deliver),
                b'd' => return Ok(Answer::Drop),
                b'y' => return Ok(Answer::Reply(text(&octets))),
                other => return Ok(Answer::Reply(format!("frame {}", char::from(other)))),
            }
        }
    }

    async fn say(&mut self, command: u8, parts: &[&[u8]]) -> io::Result<()> {
        let octets = parts.concat();
        let length = u32::try_from(octets.len() + 1).map_err(io::Error::other)?;
        self.stream.write_all(&[&length.to_be_bytes()[..], &[command], &octets].concat()).await
    }

    async fn hear(&mut self) -> io::Result<(u8, Vec<u8>)> {
        let length = usize::try_from(self.stream.read_u32().await?).unwrap_or(usize::MAX);
        if length == 0 || length > 1 << 20 {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut frame = vec![0; length];
        self.stream.read_exact(&mut frame).await?;
        Ok((frame[0], frame[1..].to_vec()))
    }
}

fn text(octets: &[u8]) -> String {
    String::from_utf8_lossy(octets.strip_suffix(b"\0").unwrap_or(octets)).into_owned()
}
