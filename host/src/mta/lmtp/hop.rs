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
use crate::config::NextHop;
use crate::mta::listen::Socket;
use crate::mta::{AGENT_AWAY, AGENT_SILENT, FOR_NOW, SMUGGLED, passed_on};

/// What this side calls itself where it has no name.
pub const LHLO_NAME: &str = "localhost";
/// Octets of one reply line: twice what RFC 5321 §4.5.3.1.5 has room for.
const REPLY_LINE: usize = 1_024;
/// Lines of one reply.
const REPLY_LINES: usize = 50;

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

/// One reply of the next hop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Its code.
    pub code: u16,
    /// What stands behind the code on each line.
    pub lines: Vec<Vec<u8>>,
}

impl Reply {
    /// The reply, where it refuses. Any other has no place where this is asked, and must not reach the MTA as if it were the
    /// word about a recipient.
    fn refusal(self) -> Result<Reply, Fault> {
        if self.is(4) || self.is(5) { Ok(self) } else { Err(Fault::Nonsense) }
    }

    /// Whether it is of this class: 2, 3, 4 or 5.
    pub fn is(&self, class: u16) -> bool {
        self.code / 100 == class
    }

    /// The reply as it is passed on, without the last line's ending. See [`passed_on`].
    pub fn line(&self) -> Vec<u8> {
        let code = passed_on(self.code);
        let last = self.lines.len().saturating_sub(1);
        let mut all = Vec::new();
        for (at, line) in self.lines.iter().enumerate() {
            let parts = if at == last { ' ' } else { '-' };
            all.extend_from_slice(format!("{code}{parts}").as_bytes());
            all.extend_from_slice(line);
            all.extend_from_slice(if at == last { b"" } else { b"\r\n" });
        }
        all
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
        let mail = self.mail(envelope, group.grown);
        let (accepted, mut refused) = self.envelope(&mail, envelope.wishes, group).await?;
        self.used = true;
        if accepted.is_empty() {
            self.reset().await?;
            return Ok(Begun { open: None, refused });
        }
        let mut open = if envelope.by_chunks && self.offers.chunking {
            Open { to: accepted, way: Way::Chunks }
        } else {
            self.say(b"DATA\r\n").await?;
            let reply = self.reply().await?;
            if !reply.is(3) {
                let reply = reply.refusal()?;
                refused.extend(accepted.into_iter().map(|to| (to, reply.clone())));
                self.reset().await?;
                return Ok(Begun { open: None, refused });
            }
            Open { to: accepted, way: Way::Data(Stuffed::default()) }
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
        wishes: &[Vec<u8>],
        group: &Group,
    ) -> Result<(Vec<To>, Vec<(To, Reply)>), Fault> {
        self.say(mail).await?;
        let reply = self.reply().await?;
        if !reply.is(2) {
            let reply = reply.refusal()?;
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
            if reply.is(2) { accepted.push(to) } else { refused.push((to, reply.refusal()?)) }
        }
        Ok((accepted, refused))
    }

    async fn recipient(&mut self, path: &[u8], wishes: &[u8]) -> Result<Reply, Fault> {
        self.say(&[b"RCPT TO:", path, wishes, b"\r\n"].concat()).await?;
        self.reply().await
    }

    /// MAIL with the parameters that the MTA gave, the size with what the header has grown by.
    fn mail(&self, envelope: Envelope<'_>, grown: i64) -> Vec<u8> {
        let mut line = [b"MAIL FROM:", envelope.path].concat();
        for parameter in envelope.parameters {
            let (name, value) = name_and_value(parameter);
            let size = std::str::from_utf8(value).ok().and_then(|size| size.parse::<u64>().ok());
            line.push(b' ');
            match (name.as_slice(), size) {
                (b"SIZE", Some(size)) => {
                    line.extend_from_slice(format!("SIZE={}", size.saturating_add_signed(grown)).as_bytes());
                }
                _ => line.extend_from_slice(parameter),
            }
        }
        line.extend_from_slice(b"\r\n");
        line
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

    /// Ends the message: what the next hop says of each recipient, until then.
    ///
    /// # Errors
    /// It does not say, so nobody knows: the MTA brings the message again.
    pub async fn end(&mut self, open: Open, until: Instant) -> Result<Vec<(To, Reply)>, Fault> {
        self.is_owed_nothing()?;
        let mut wire = Vec::new();
        match open.way {
            Way::Data(stuffed) => stuffed.end(&mut wire),
            Way::Chunks => wire.extend_from_slice(b"BDAT 0 LAST\r\n"),
        }
        self.say(&wire).await?;
        let mut said = Vec::with_capacity(open.to.len());
        for to in open.to {
            let reply = self.reply_until(until).await?;
            if reply.is(3) {
                return Err(Fault::Nonsense);
            }
            said.push((to, reply));
        }
        Ok(said)
    }

    /// Says that nothing more comes. What it answers does not matter.
    pub async fn quit(&mut self) {
        let quitting = self.socket.write_all(b"QUIT\r\n");
        let _ = tokio::time::timeout(Duration::from_secs(1), quitting).await;
    }

    async fn say(&mut self, octets: &[u8]) -> Result<(), Fault> {
        let writing = self.socket.write_all(octets);
        timeout_at(Instant::now() + self.patience, writing).await.map_err(|_| Fault::Silent)?.map_err(Fault::Broke)
    }

    async fn reply(&mut self) -> Result<Reply, Fault> {
        self.reply_until(Instant::now() + self.patience).await
    }

    async fn reply_until(&mut self, until: Instant) -> Result<Reply, Fault> {
        timeout_at(until, self.read()).await.map_err(|_| Fault::Silent)?
    }

    async fn read(&mut self) -> Result<Reply, Fault> {
        let mut reply: Option<Reply> = None;
        loop {
            let line = self.read_line().await?;
            let (code, text, last) = parts(&line).ok_or(Fault::Nonsense)?;
            let reply = reply.get_or_insert_with(|| Reply { code, lines: Vec::new() });
            if reply.code != code || reply.lines.len() >= REPLY_LINES {
                return Err(Fault::Nonsense);
            }
            reply.lines.push(text.to_vec());
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
            let mut room = [0; REPLY_LINE];
            match self.socket.read(&mut room).await {
                Ok(0) => return Err(Fault::Closed),
                Ok(read) => self.heard.extend_from_slice(room.get(..read).unwrap_or_default()),
                Err(fault) => return Err(Fault::Broke(fault)),
            }
        }
    }
}

/// The parts of a reply line: code, text, and whether it is the last. Its text has no control octet.
fn parts(line: &[u8]) -> Option<(u16, &[u8], bool)> {
    let (code, rest) = line.split_at_checked(3)?;
    let code: u16 =
        std::str::from_utf8(code).ok().filter(|code| code.bytes().all(|o| o.is_ascii_digit()))?.parse().ok()?;
    let (last, text) = match rest.split_first() {
        None => (true, rest),
        Some((b' ', text)) => (true, text),
        Some((b'-', text)) => (false, text),
        Some(_) => return None,
    };
    let known = (200..600).contains(&code) && line.len() <= REPLY_LINE;
    (known && !text.iter().any(u8::is_ascii_control)).then_some((code, text, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_line_is_a_code_and_printable_text() {
        assert_eq!(parts(b"250-a b"), Some((250, &b"a b"[..], false)));
        assert_eq!(parts(b"250"), Some((250, &b""[..], true)));
        for wrong in [&b"25"[..], b"199 a", b"600 a", b"2x0 a", b"250+a", b"250 a\rb", b"250 \0", b"+50 a"] {
            assert_eq!(parts(wrong), None, "{}", wrong.escape_ascii());
        }
        let long = [b"250 ".as_slice(), &[b'a'; REPLY_LINE]].concat();
        assert_eq!(parts(&long), None);
    }

    #[test]
    fn a_reply_is_passed_on_as_it_came_but_for_one_that_would_end_the_session() {
        let reply = |code| Reply { code, lines: vec![b"5.1.1 no".to_vec(), b"5.1.1 body".to_vec()] };
        assert_eq!(reply(550).line(), b"550-5.1.1 no\r\n550 5.1.1 body");
        assert_eq!(reply(421).line(), b"451-5.1.1 no\r\n451 5.1.1 body");
    }
}
