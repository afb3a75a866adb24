//! The connection to the next hop: commands out, replies in, each in time and within bounds.

use std::io;
use std::pin::Pin;
use std::task::{Context, Waker};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, timeout_at};

use super::dots::{Smuggled, Stuffed};
use super::offers::{Offers, name_and_value};
use super::plan::{Group, To};
use super::reply::{self, Reply};
use crate::config::NextHop;
use crate::mta::listen::Socket;
use crate::mta::{AGENT_AWAY, AGENT_SILENT, FOR_NOW, SMUGGLED};

/// What this side calls itself where it has no name.
pub const LHLO_NAME: &str = "localhost";
/// Octets of one reply line that are read to find its end. [`reply::LINE`] of them are passed on.
const REPLY_LINE: usize = 64 * 1_024;
/// Lines of one reply that are read to find its end. [`reply::LINES`] of them are passed on.
const REPLY_LINES: usize = 1_000;

/// Why the next hop did not take a message, or say what became of it. The MTA keeps it and tries again.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// It cannot be reached.
    #[error("the next hop cannot be reached: {0}")]
    Unreachable(#[source] io::Error),
    /// The connection broke.
    #[error("the connection to the next hop broke: {0}")]
    Broke(#[source] io::Error),
    /// It closed the connection.
    #[error("the next hop closed the connection")]
    Closed,
    /// It took too long.
    #[error("the next hop was silent for too long")]
    Silent,
    /// The program stops.
    #[error("the program stops before the next hop has answered")]
    Stopping,
    /// What it said is no reply of LMTP.
    #[error("the next hop said what is no reply")]
    Nonsense,
    /// It refused LHLO.
    #[error("the next hop refuses to talk: {0}")]
    Unwilling(String),
    /// The message cannot be said behind DATA.
    #[error("the message cannot go on: {0}")]
    Smuggled(#[from] Smuggled),
}

impl Fault {
    /// What the MTA is told of each recipient.
    pub fn reply(&self) -> &'static str {
        match self {
            Fault::Unreachable(_) | Fault::Unwilling(_) => AGENT_AWAY,
            Fault::Broke(_) | Fault::Closed | Fault::Silent | Fault::Nonsense => AGENT_SILENT,
            Fault::Stopping => FOR_NOW,
            Fault::Smuggled(_) => SMUGGLED,
        }
    }

    /// Whether the connection was over before anything was said on it: one that waited for the next message may be.
    fn is_stale(&self) -> bool {
        matches!(self, Fault::Broke(_) | Fault::Closed)
    }
}

/// A connection to the next hop.
#[derive(Debug)]
pub struct Hop {
    socket: Socket,
    heard: Vec<u8>,
    /// What it offers.
    pub offers: Offers,
    /// How long it may take for one thing.
    patience: Duration,
    /// Whether a message was brought on it before.
    used: bool,
}

/// A message that the next hop takes in.
#[derive(Debug)]
pub struct Open {
    /// The recipients that it accepted, in the order of its answers.
    pub to: Vec<To>,
    way: Way,
    /// Whether the copy is larger than the next hop offers to take, and only by what was added here.
    outgrown: bool,
}

#[derive(Debug)]
enum Way {
    Data(Stuffed),
    Chunks,
}

/// What the next hop said to an envelope.
#[derive(Debug)]
pub struct Begun {
    /// The message, where it wants it for somebody.
    pub open: Option<Open>,
    /// Recipients that it refused, and how.
    pub refused: Vec<(To, Reply)>,
}

/// A message's envelope, as the MTA told it.
#[derive(Clone, Copy, Debug)]
pub struct Envelope<'a> {
    /// The path of MAIL with its angle brackets.
    pub path: &'a [u8],
    /// Its parameters.
    pub parameters: &'a [Vec<u8>],
    /// Those of each RCPT, with a blank before each.
    pub wishes: &'a [Vec<u8>],
    /// Whether its body came by BDAT, and so may be what DATA cannot say.
    pub by_chunks: bool,
}

impl Hop {
    /// Connects and says LHLO.
    ///
    /// # Errors
    /// It cannot be reached, or does not want to talk.
    pub async fn connect(next: &NextHop, name: &str, patience: Duration) -> Result<Hop, Fault> {
        let connecting = async {
            Ok::<Socket, io::Error>(match next {
                NextHop::Inet(host, port) => {
                    let stream = TcpStream::connect((host.as_str(), *port)).await?;
                    stream.set_nodelay(true)?;
                    Socket::Tcp(stream)
                }
                NextHop::Unix(path) => Socket::Unix(UnixStream::connect(path).await?),
            })
        };
        let connected = timeout_at(Instant::now() + patience, connecting).await.map_err(|_| Fault::Silent)?;
        let socket = connected.map_err(Fault::Unreachable)?;
        let mut hop = Hop { socket, heard: Vec::new(), offers: Offers::default(), patience, used: false };
        let greeting = hop.reply().await?;
        if !greeting.is(2) {
            return Err(Fault::Unwilling(String::from_utf8_lossy(&greeting.line()).escape_debug().to_string()));
        }
        hop.say(format!("LHLO {name}\r\n").as_bytes()).await?;
        let offers = hop.reply().await?;
        if !offers.is(2) {
            return Err(Fault::Unwilling(String::from_utf8_lossy(&offers.line()).escape_debug().to_string()));
        }
        hop.offers = Offers::read(offers.lines.iter().map(Vec::as_slice));
        Ok(hop)
    }

    /// Whether a fault of a message's beginning may be that this connection had ended before: then another one is worth a try.
    pub fn was_stale(&self, fault: &Fault) -> bool {
        self.used && fault.is_stale()
    }

    /// Whether a message was brought on it before.
    pub fn is_used(&self) -> bool {
        self.used
    }

    /// Whether the next hop has said nothing that it was not asked for: a word too many would be taken for the next reply.
    pub fn is_quiet(&mut self) -> bool {
        let mut room = [0; 1];
        let mut room = ReadBuf::new(&mut room);
        let mut context = Context::from_waker(Waker::noop());
        self.heard.is_empty() && Pin::new(&mut self.socket).poll_read(&mut context, &mut room).is_pending()
    }

    /// Brings the envelope of a group, and its header where the next hop wants the message.
    ///
    /// # Errors
    /// The connection is of no use any more.
    pub async fn begin(&mut self, envelope: Envelope<'_>, group: &Group) -> Result<Begun, Fault> {
        // What came with the greeting is no reply to MAIL.
        self.is_owed_nothing()?;
        let (mail, outgrown) = mail(envelope, group.grown, self.offers.size.flatten());
        let (accepted, mut refused) = self.envelope(&mail, outgrown, envelope.wishes, group).await?;
        self.used = true;
        if accepted.is_empty() {
            self.reset().await?;
            return Ok(Begun { open: None, refused });
        }
        let mut open = if envelope.by_chunks && self.offers.chunking {
            Open { to: accepted, way: Way::Chunks, outgrown }
        } else {
            self.say(b"DATA\r\n").await?;
            let reply = self.reply().await?;
            if !reply.is(3) {
                let reply = reply.refusal().ok_or(Fault::Nonsense)?.of(outgrown);
                refused.extend(accepted.into_iter().map(|to| (to, reply.clone())));
                self.reset().await?;
                return Ok(Begun { open: None, refused });
            }
            Open { to: accepted, way: Way::Data(Stuffed::default()), outgrown }
        };
        self.piece(&mut open, &group.header).await?;
        Ok(Begun { open: Some(open), refused })
    }

    async fn reset(&mut self) -> Result<(), Fault> {
        self.say(b"RSET\r\n").await?;
        if self.reply().await?.is(2) { Ok(()) } else { Err(Fault::Nonsense) }
    }

    fn is_owed_nothing(&self) -> Result<(), Fault> {
        if self.heard.is_empty() { Ok(()) } else { Err(Fault::Nonsense) }
    }

    /// MAIL and RCPT: who is accepted, and who is not. Where MAIL is refused, nobody is.
    async fn envelope(
        &mut self,
        mail: &[u8],
        outgrown: bool,
        wishes: &[Vec<u8>],
        group: &Group,
    ) -> Result<(Vec<To>, Vec<(To, Reply)>), Fault> {
        self.say(mail).await?;
        let reply = self.reply().await?;
        if !reply.is(2) {
            let reply = reply.refusal().ok_or(Fault::Nonsense)?.of(outgrown);
            return Ok((Vec::new(), group.to.iter().map(|to| (to.clone(), reply.clone())).collect()));
        }
        let (mut accepted, mut refused) = (Vec::new(), Vec::new());
        for to in &group.to {
            let wishes = wishes.get(to.recipient).map_or(&b""[..], Vec::as_slice);
            let mut reply = self.recipient(&to.path, wishes).await?;
            let mut to = to.clone();
            // The address of a spam folder is our choice: what the next hop says of it is no word about the recipient.
            if let (Some(own), false) = (&to.own, reply.is(2)) {
                tracing::warn!(
                    "the delivery agent does not take a spam folder's address ({}): see policy.spam_folder",
                    reply.code
                );
                reply = self.recipient(own, wishes).await?;
                to = To { path: own.clone(), own: None, recipient: to.recipient };
            }
            if reply.is(2) { accepted.push(to) } else { refused.push((to, reply.refusal().ok_or(Fault::Nonsense)?)) }
        }
        Ok((accepted, refused))
    }

    async fn recipient(&mut self, path: &[u8], wishes: &[u8]) -> Result<Reply, Fault> {
        self.say(&[b"RCPT TO:", path, wishes, b"\r\n"].concat()).await?;
        self.reply().await
    }

    /// Brings a piece of the message.
    ///
    /// # Errors
    /// The connection is of no use any more: what was brought of the message has no end, and so is none.
    pub async fn piece(&mut self, open: &mut Open, piece: &[u8]) -> Result<(), Fault> {
        if piece.is_empty() {
            return Ok(());
        }
        match &mut open.way {
            Way::Data(stuffed) => {
                let mut wire = zeroize::Zeroizing::new(Vec::with_capacity(piece.len() * 2 + 8));
                stuffed.write(piece, &mut wire)?;
                self.say(&wire).await
            }
            Way::Chunks => {
                self.say(format!("BDAT {}\r\n", piece.len()).as_bytes()).await?;
                self.say(piece).await?;
                if self.reply().await?.is(2) { Ok(()) } else { Err(Fault::Nonsense) }
            }
        }
    }

    /// Ends the message: what the next hop says of each recipient is in `said`, as soon as it is heard, until then.
    ///
    /// # Errors
    /// It does not say of the others, so nobody knows: the MTA brings the message again for them.
    pub async fn end(&mut self, open: Open, until: Instant, said: &mut Vec<(To, Reply)>) -> Result<(), Fault> {
        if !self.is_quiet() {
            return Err(Fault::Nonsense);
        }
        let mut wire = Vec::new();
        match open.way {
            Way::Data(stuffed) => stuffed.end(&mut wire),
            Way::Chunks => wire.extend_from_slice(b"BDAT 0 LAST\r\n"),
        }
        if Instant::now() >= until {
            return Err(Fault::Silent);
        }
        self.say_until(&wire, until).await?;
        for to in open.to {
            let reply = self.reply_until(until).await?;
            if reply.is(3) {
                return Err(Fault::Nonsense);
            }
            said.push((to, reply.of(open.outgrown)));
        }
        Ok(())
    }

    /// Says that nothing more comes. What it answers does not matter.
    pub async fn quit(&mut self) {
        let quitting = self.socket.write_all(b"QUIT\r\n");
        let _ = tokio::time::timeout(Duration::from_secs(1), quitting).await;
    }

    async fn say(&mut self, octets: &[u8]) -> Result<(), Fault> {
        self.say_until(octets, Instant::now() + self.patience).await
    }

    /// Says it by then, and within its patience. What was said in part is no end of a message.
    async fn say_until(&mut self, octets: &[u8], until: Instant) -> Result<(), Fault> {
        let until = until.min(Instant::now() + self.patience);
        timeout_at(until, self.socket.write_all(octets)).await.map_err(|_| Fault::Silent)?.map_err(Fault::Broke)
    }

    async fn reply(&mut self) -> Result<Reply, Fault> {
        self.reply_until(Instant::now() + self.patience).await
    }

    async fn reply_until(&mut self, until: Instant) -> Result<Reply, Fault> {
        timeout_at(until, self.read()).await.map_err(|_| Fault::Silent)?
    }

    async fn read(&mut self) -> Result<Reply, Fault> {
        let (mut reply, mut lines) = (None::<Reply>, 0);
        loop {
            let line = self.read_line().await?;
            let (code, text, last) = reply::parts(&line).ok_or(Fault::Nonsense)?;
            let reply = reply.get_or_insert_with(|| Reply { code, lines: Vec::new() });
            lines += 1;
            if reply.code != code || lines > REPLY_LINES {
                return Err(Fault::Nonsense);
            }
            if reply.lines.len() < reply::LINES {
                reply.lines.push(text);
            }
            if last {
                return Ok(reply.clone());
            }
        }
    }

    async fn read_line(&mut self) -> Result<Vec<u8>, Fault> {
        loop {
            if let Some(end) = self.heard.iter().position(|octet| *octet == b'\n') {
                let line: Vec<u8> = self.heard.drain(..=end).collect();
                let line = line.strip_suffix(b"\n").unwrap_or(&line);
                return Ok(line.strip_suffix(b"\r").unwrap_or(line).to_vec());
            }
            if self.heard.len() > REPLY_LINE {
                return Err(Fault::Nonsense);
            }
            let mut room = [0; 1_024];
            match self.socket.read(&mut room).await {
                Ok(0) => return Err(Fault::Closed),
                Ok(read) => self.heard.extend_from_slice(room.get(..read).unwrap_or_default()),
                Err(fault) => return Err(Fault::Broke(fault)),
            }
        }
    }
}

/// MAIL with the parameters that the MTA gave, the size with what the header has grown by; and whether the message is larger by
/// that alone than the next hop offers to take. Then it is asked for as much as it takes.
fn mail(envelope: Envelope<'_>, grown: i64, offered: Option<u64>) -> (Vec<u8>, bool) {
    let mut line = [b"MAIL FROM:", envelope.path].concat();
    let mut outgrown = false;
    for parameter in envelope.parameters {
        let (name, value) = name_and_value(parameter);
        let size = std::str::from_utf8(value).ok().and_then(|size| size.parse::<u64>().ok());
        line.push(b' ');
        match (name.as_slice(), size) {
            (b"SIZE", Some(size)) => {
                let now = size.saturating_add_signed(grown);
                let most = offered.filter(|most| (size..now).contains(most));
                outgrown |= most.is_some();
                line.extend_from_slice(format!("SIZE={}", most.unwrap_or(now)).as_bytes());
            }
            _ => line.extend_from_slice(parameter),
        }
    }
    line.extend_from_slice(b"\r\n");
    (line, outgrown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_that_we_made_too_large_is_said_as_what_is_offered() {
        let parameters = [b"SIZE=100".to_vec()];
        let envelope = Envelope { path: b"<>", parameters: &parameters, wishes: &[], by_chunks: false };
        for (grown, offered, size, outgrown) in [
            (9, None, 109, false),
            (9, Some(109), 109, false),
            (9, Some(108), 108, true),
            (9, Some(100), 100, true),
            (9, Some(99), 109, false),
            (-9, Some(95), 91, false),
        ] {
            let line = format!("MAIL FROM:<> SIZE={size}\r\n").into_bytes();
            assert_eq!(mail(envelope, grown, offered), (line, outgrown), "{grown} {offered:?}");
        }
    }
}
