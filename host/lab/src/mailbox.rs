//! A small SMTP server that takes mail into memory, on loopback: where the notices of the demonstration and of tests arrive.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// A message as the mailbox took it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// The reverse-path, with its angle brackets.
    pub from: String,
    /// The recipients, with their angle brackets.
    pub to: Vec<String>,
    /// The message as it came, dots unstuffed.
    pub text: String,
}

impl Taken {
    /// The value of the first field of this name, unfolded.
    pub fn field(&self, name: &str) -> Option<String> {
        let header = self.text.split("\r\n\r\n").next()?.replace("\r\n ", " ").replace("\r\n\t", " ");
        header.split("\r\n").find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        })
    }
}

#[derive(Debug, Default)]
struct State {
    taken: Vec<Taken>,
    refuse: Option<String>,
}

/// The server; it lives as long as the process.
#[derive(Debug)]
pub struct Mailbox {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl Mailbox {
    /// Starts a mailbox on a free port of loopback.
    pub fn start() -> io::Result<Mailbox> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let mailbox = Mailbox { address: listener.local_addr()?, state: Arc::default() };
        let state = mailbox.state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A session that breaks off has left what it finished; the next one is served all the same.
                let _ = session(stream, &state);
            }
        });
        Ok(mailbox)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on the end of DATA is answered with this line; `None`: with 250.
    pub fn refuse(&self, line: Option<&str>) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).refuse = line.map(str::to_owned);
    }

    /// What it took so far, or was offered while it refused.
    pub fn taken(&self) -> Vec<Taken> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).taken.clone()
    }
}

fn session(stream: TcpStream, state: &Mutex<State>) -> io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut out = stream.try_clone()?;
    let mut lines = BufReader::new(stream);
    let (mut from, mut to) = (String::new(), Vec::new());
    out.write_all(b"220 mailbox.test ESMTP\r\n")?;
    loop {
        let mut line = String::new();
        if lines.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let line = line.trim_end();
        let verb = line.to_ascii_uppercase();
        let path = |prefix: usize| line.get(prefix..).and_then(|rest| rest.split(' ').next()).unwrap_or_default();
        let answer = if verb.starts_with("EHLO") {
            "250-mailbox.test\r\n250 8BITMIME".to_owned()
        } else if verb.starts_with("MAIL FROM:") {
            from = path(10).to_owned();
            "250 ok".to_owned()
        } else if verb.starts_with("RCPT TO:") {
            to.push(path(8).to_owned());
            "250 ok".to_owned()
        } else if verb == "DATA" {
            out.write_all(b"354 go\r\n")?;
            let text = read_data(&mut lines)?;
            let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
            state.taken.push(Taken { from: from.clone(), to: std::mem::take(&mut to), text });
            state.refuse.clone().unwrap_or_else(|| "250 taken".to_owned())
        } else if verb == "QUIT" {
            out.write_all(b"221 bye\r\n")?;
            return Ok(());
        } else {
            "250 ok".to_owned()
        };
        out.write_all(format!("{answer}\r\n").as_bytes())?;
    }
}

fn read_data(lines: &mut impl BufRead) -> io::Result<String> {
    let mut text = String::new();
    loop {
        let mut line = String::new();
        if lines.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match line.as_str() {
            ".\r\n" => return Ok(text),
            line => text.push_str(line.strip_prefix('.').unwrap_or(line)),
        }
    }
}
