//! A delivery agent played: an LMTP server on a port of loopback that does as it is told, and tells what it got.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// What the agent does besides taking mail.
#[derive(Clone, Debug, Default)]
pub struct Habits {
    /// The words of its LHLO reply, such as `CHUNKING`.
    pub offers: Vec<&'static str>,
    /// What it says to RCPT of these addresses.
    pub at_rcpt: HashMap<String, String>,
    /// What it says behind the end of the message for these addresses.
    pub at_end: HashMap<String, String>,
    /// What it says to MAIL; empty: it takes it.
    pub at_mail: String,
    /// What it says to DATA instead of taking the message; empty: it takes it.
    pub at_data: String,
    /// What it says to RSET; empty: 250.
    pub at_rset: String,
    /// It says nothing more on a connection once it has so many messages.
    pub silent_after: Option<usize>,
    /// It says nothing more once it has taken a message, not even what became of it.
    pub stands_at_end: bool,
    /// It closes the connection instead of saying what became of a message.
    pub closes_at_end: bool,
    /// It closes the connection once so many octets of a message have come.
    pub closes_after: Option<usize>,
    /// It closes the connection when a message is done.
    pub one_message: bool,
    /// What it says once more so long after what became of a message, before it reads on.
    pub says_again: Option<(Duration, &'static str)>,
}

/// A message that came to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The MAIL command.
    pub mail: String,
    /// The recipients that were accepted, without their brackets.
    pub to: Vec<String>,
    /// What RCPT said of each besides.
    pub wishes: Vec<String>,
    /// The octets.
    pub message: Vec<u8>,
}

/// The agent.
#[derive(Debug)]
pub struct Agent {
    /// Where it listens.
    pub address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
    task: tokio::task::JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Seen {
    deliveries: Vec<Delivery>,
    connections: usize,
    cut_short: usize,
}

impl Agent {
    /// Starts it.
    pub async fn start(habits: Habits) -> Agent {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let (address, seen) = (listener.local_addr().unwrap(), Arc::<Mutex<Seen>>::default());
        let shared = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                stream.set_nodelay(true).unwrap();
                shared.lock().unwrap_or_else(PoisonError::into_inner).connections += 1;
                let (habits, seen) = (habits.clone(), Arc::clone(&shared));
                tokio::spawn(async move { drop(converse(stream, &habits, &seen).await) });
            }
        });
        Agent { address, seen, task }
    }

    /// What it got since this was asked last.
    pub fn take(&self) -> Vec<Delivery> {
        std::mem::take(&mut self.seen().deliveries)
    }

    /// How many messages it has got that were not taken.
    pub fn delivered(&self) -> usize {
        self.seen().deliveries.len()
    }

    /// How often it was connected to.
    pub fn connections(&self) -> usize {
        self.seen().connections
    }

    /// How many messages began and had no end.
    pub fn cut_short(&self) -> usize {
        self.seen().cut_short
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn converse(stream: TcpStream, habits: &Habits, seen: &Mutex<Seen>) -> std::io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    writer.write_all(b"220 agent LMTP\r\n").await?;
    let (mut mail, mut to, mut chunks) = (String::new(), Vec::<String>::new(), Vec::new());
    let mut wishes = Vec::new();
    let (mut line, mut done) = (Vec::new(), 0);
    loop {
        line.clear();
        if reader.read_until(b'\n', &mut line).await? == 0 {
            return Ok(());
        }
        if habits.silent_after.is_some_and(|most| done >= most) {
            std::future::pending::<()>().await;
        }
        let text = String::from_utf8_lossy(&line).trim_end().to_owned();
        let (verb, rest) = text.split_once(' ').unwrap_or((&text, ""));
        let mut replies = Vec::new();
        match verb.to_ascii_uppercase().as_str() {
            "LHLO" => {
                let words = [&["agent"], habits.offers.as_slice()].concat();
                let last = words.len() - 1;
                let line = |(at, word): (usize, &&str)| format!("250{}{word}", if at == last { ' ' } else { '-' });
                replies.extend(words.iter().enumerate().map(line));
            }
            "MAIL" if !habits.at_mail.is_empty() => replies.push(habits.at_mail.clone()),
            "MAIL" => {
                (mail, to, chunks, wishes) = (text.clone(), Vec::new(), Vec::new(), Vec::new());
                replies.push("250 2.1.0 OK".into());
            }
            "RCPT" => {
                let (path, more) = rest.trim_start_matches("TO:").split_once(' ').unwrap_or((&rest[3..], ""));
                let address = path.trim_start_matches('<').trim_end_matches('>').to_owned();
                match habits.at_rcpt.get(&address) {
                    Some(reply) => replies.push(reply.clone()),
                    None => {
                        to.push(address);
                        wishes.push(more.to_owned());
                        replies.push("250 2.1.5 OK".into());
                    }
                }
            }
            "DATA" if to.is_empty() => replies.push("503 5.5.1 No recipients".into()),
            "DATA" if !habits.at_data.is_empty() => {
                to.clear();
                replies.push(habits.at_data.clone());
            }
            "DATA" => {
                writer.write_all(b"354 Go on\r\n").await?;
                let Some(message) = data(&mut reader, habits).await? else {
                    seen.lock().unwrap_or_else(PoisonError::into_inner).cut_short += 1;
                    return Ok(());
                };
                replies = ended(habits, seen, (&mail, &wishes), &to, message);
            }
            "BDAT" => {
                let mut words = rest.split(' ');
                let size = words.next().and_then(|size| size.parse().ok()).unwrap_or(0);
                let mut chunk = vec![0; size];
                reader.read_exact(&mut chunk).await?;
                chunks.extend(chunk);
                match words.next() {
                    Some(_) => replies = ended(habits, seen, (&mail, &wishes), &to, std::mem::take(&mut chunks)),
                    None => replies.push("250 2.0.0 chunk".into()),
                }
            }
            "QUIT" => replies.push("221 2.0.0 Bye".into()),
            "RSET" if !habits.at_rset.is_empty() => replies.push(habits.at_rset.clone()),
            "RSET" => replies.push("250 2.0.0 OK".into()),
            _ => replies.push("500 5.5.1 What?".into()),
        }
        let over = matches!(verb, "DATA" | "BDAT") && replies.len() == to.len() && !to.is_empty();
        done += usize::from(over);
        if over && habits.stands_at_end {
            std::future::pending::<()>().await;
        }
        if over && habits.closes_at_end {
            return Ok(());
        }
        let said: String = replies.iter().map(|reply| format!("{reply}\r\n")).collect();
        writer.write_all(said.as_bytes()).await?;
        let is_end = over && (verb == "DATA" || rest.ends_with("LAST"));
        if let (true, Some((later, words))) = (is_end, habits.says_again) {
            tokio::time::sleep(later).await;
            writer.write_all(format!("{words}\r\n").as_bytes()).await?;
        }
        if verb == "QUIT" || is_end && habits.one_message {
            return Ok(());
        }
    }
}

/// Reads what follows DATA, as strictly as RFC 5321 has it. None where the connection ended before.
async fn data(reader: &mut (impl AsyncBufRead + Unpin), habits: &Habits) -> std::io::Result<Option<Vec<u8>>> {
    let (mut wire, mut octet) = (b"\r\n".to_vec(), [0]);
    while !wire.ends_with(b"\r\n.\r\n") {
        if habits.closes_after.is_some_and(|most| wire.len() > most) || reader.read(&mut octet).await? == 0 {
            return Ok(None);
        }
        wire.push(octet[0]);
    }
    wire.truncate(wire.len() - 3);
    let (mut message, mut at) = (Vec::new(), 0);
    while at < wire.len() {
        // A dot at the beginning of a line is one too many.
        if wire[at] == b'.' && wire[..at].ends_with(b"\r\n") {
            at += 1;
        }
        message.extend(wire.get(at));
        at += 1;
    }
    Ok(Some(message[2..].to_vec()))
}

fn ended(
    habits: &Habits,
    seen: &Mutex<Seen>,
    (mail, wishes): (&str, &[String]),
    to: &[String],
    message: Vec<u8>,
) -> Vec<String> {
    let reply = |address: &String| habits.at_end.get(address).cloned().unwrap_or_else(|| "250 2.0.0 Saved".into());
    let replies: Vec<String> = to.iter().map(reply).collect();
    let got: Vec<String> = to.iter().filter(|to| !habits.at_end.contains_key(*to)).cloned().collect();
    let delivery = Delivery { mail: mail.to_owned(), to: got, wishes: wishes.to_vec(), message };
    seen.lock().unwrap_or_else(PoisonError::into_inner).deliveries.push(delivery);
    replies
}

/// An MTA played: an LMTP client that says what it is told and hears every reply whole.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    /// Connects, and says LHLO: what is offered.
    pub async fn open(address: SocketAddr) -> (Client, Vec<String>) {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let mut client = Client { stream: BufReader::new(stream) };
        assert!(client.reply().await[0].starts_with("220 "));
        let offers = client.say("LHLO mx.home.example").await;
        (client, offers)
    }

    /// Says a line and hears the reply.
    pub async fn say(&mut self, line: &str) -> Vec<String> {
        self.write(format!("{line}\r\n").as_bytes()).await;
        self.reply().await
    }

    /// Hears octets until the connection ends.
    pub async fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        let _ = self.stream.read_to_end(&mut rest).await;
        rest
    }

    /// Writes octets.
    pub async fn write(&mut self, octets: &[u8]) {
        self.stream.get_mut().write_all(octets).await.unwrap();
    }

    /// Hears one reply: its lines; none where the connection has ended.
    pub async fn reply(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            if self.stream.read_line(&mut line).await.unwrap_or(0) == 0 {
                return lines;
            }
            let last = line.as_bytes().get(3) != Some(&b'-');
            lines.push(line.trim_end().to_owned());
            if last {
                return lines;
            }
        }
    }

    /// Brings a message in one piece, commands and all: the answers behind its end, one line for each recipient that was
    /// accepted; else the first refusal.
    pub async fn bring(&mut self, from: &str, to: &[String], message: &[u8]) -> Vec<String> {
        let mut said = format!("MAIL FROM:<{from}>\r\n");
        to.iter().for_each(|to| said += &format!("RCPT TO:<{to}>\r\n"));
        self.write(format!("{said}DATA\r\n").as_bytes()).await;
        let mut accepted = 0;
        for at in 0..to.len() + 2 {
            let reply = self.reply().await.concat();
            match reply.get(..1) {
                Some("2") if at > 0 => accepted += 1,
                Some("2" | "3") => {}
                _ if at == 0 || at == to.len() + 1 => {
                    for _ in at..to.len() + 1 {
                        self.reply().await;
                    }
                    return vec![reply];
                }
                _ => {}
            }
        }
        self.write(&stuffed(message)).await;
        let mut replies = Vec::new();
        for _ in 0..accepted {
            replies.push(self.reply().await.join("\n"));
        }
        replies
    }
}

/// A message as it goes over the wire behind DATA: it ends with CRLF.
pub fn stuffed(message: &[u8]) -> Vec<u8> {
    let mut wire = Vec::new();
    let mut before: &[u8] = b"\r\n";
    for at in 0..message.len() {
        if message[at] == b'.' && before.ends_with(b"\r\n") {
            wire.push(b'.');
        }
        wire.push(message[at]);
        before = &message[..=at];
    }
    wire.extend_from_slice(b".\r\n");
    wire
}
