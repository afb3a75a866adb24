//! A raw SMTP client: every octet goes out as it was written, every reply comes back whole.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::{Duration, Instant};

/// How long one reply may take: longer than Postfix waits for a milter (30 s).
const PATIENCE: Duration = Duration::from_secs(45);

/// One reply of the server (RFC 5321 §4.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The code, such as 250.
    pub code: u16,
    /// The lines behind the code, joined by a line feed.
    pub text: String,
}

/// A session with a server on loopback.
#[derive(Debug)]
pub struct Session {
    reader: BufReader<TcpStream>,
}

impl Session {
    /// Connects, reads the greeting and says EHLO.
    pub fn open(port: u16) -> Session {
        let begin = Instant::now();
        let stream = loop {
            match TcpStream::connect((Ipv4Addr::LOCALHOST, port)) {
                Ok(stream) => break stream,
                Err(e) if begin.elapsed() > Duration::from_secs(60) => panic!("no SMTP server on port {port}: {e}"),
                Err(_) => std::thread::sleep(Duration::from_millis(50)),
            }
        };
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        let mut session = Session { reader: BufReader::new(stream) };
        let greeting = session.reply();
        assert_eq!(greeting.code, 220, "{greeting:?}");
        assert_eq!(session.say("EHLO client.test").code, 250);
        session
    }

    /// Sends one command line and reads its reply.
    pub fn say(&mut self, line: &str) -> Reply {
        self.write(format!("{line}\r\n").as_bytes());
        self.reply()
    }

    /// Sends octets as they are and waits for nothing.
    pub fn write(&mut self, octets: &[u8]) {
        self.reader.get_mut().write_all(octets).unwrap();
    }

    /// Reads one reply, all of its lines.
    pub fn reply(&mut self) -> Reply {
        let mut text = String::new();
        loop {
            let mut line = String::new();
            self.reader.read_line(&mut line).expect("the server answers within the time");
            let line = line.trim_end();
            assert!(line.len() >= 3, "the server closed, or said `{line}`");
            text.push_str(line.get(4..).unwrap_or(""));
            if line.as_bytes().get(3) == Some(&b'-') {
                text.push('\n');
                continue;
            }
            return Reply { code: line[..3].parse().unwrap(), text };
        }
    }

    /// Logs in by AUTH PLAIN; `blob` is the base64 of NUL, name, NUL, password.
    pub fn log_in(&mut self, blob: &str) {
        let reply = self.say(&format!("AUTH PLAIN {blob}"));
        assert_eq!(reply.code, 235, "{reply:?}");
    }

    /// One message: its envelope, then its octets with dots stuffed. Returns the reply that ended it: the first
    /// refusal of MAIL or DATA or of the last recipient, or the reply to the final dot.
    pub fn deliver(&mut self, from: &str, to: &[&str], message: &[u8]) -> Reply {
        let reply = self.say(&format!("MAIL FROM:<{from}>"));
        if reply.code != 250 {
            return self.rset(reply);
        }
        let replies: Vec<Reply> = to.iter().map(|address| self.say(&format!("RCPT TO:<{address}>"))).collect();
        if let Some(refused) = replies.iter().find(|_| replies.iter().all(|r| r.code >= 400)) {
            return self.rset(refused.clone());
        }
        let reply = self.say("DATA");
        if reply.code != 354 {
            return self.rset(reply);
        }
        self.write(&stuffed(message));
        self.write(b".\r\n");
        self.reply()
    }

    fn rset(&mut self, reply: Reply) -> Reply {
        self.say("RSET");
        reply
    }
}

/// The message with a dot doubled wherever it begins a line (RFC 5321 §4.5.2). A message must end a line.
pub fn stuffed(message: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(message.len() + 8);
    for line in message.split_inclusive(|&b| b == b'\n') {
        if line.first() == Some(&b'.') {
            out.push(b'.');
        }
        out.extend_from_slice(line);
    }
    out
}

/// What AUTH PLAIN wants: the base64 of NUL, name, NUL, password (RFC 4616 §2).
pub fn plain(name: &str, password: &str) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let octets = format!("\0{name}\0{password}").into_bytes();
    let mut text = String::new();
    for three in octets.chunks(3) {
        let number = (0..3).fold(0, |number, at| number << 8 | usize::from(three.get(at).copied().unwrap_or(0)));
        let sign = |at: usize| char::from(ALPHABET[number >> (18 - 6 * at) & 63]);
        text.extend((0..4).map(|at| if at <= three.len() { sign(at) } else { '=' }));
    }
    text
}

/// One message on a connection of its own.
pub fn send(port: u16, from: &str, to: &[&str], message: &[u8]) -> Reply {
    Session::open(port).deliver(from, to, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_and_its_password_are_what_the_bed_knows_already() {
        assert_eq!(plain("alice@send.test", "secret"), crate::postfix::ALICE);
        assert_eq!(plain("a", "bc"), "AGEAYmM=");
        assert_eq!(plain("a", "bcd"), "AGEAYmNk");
    }

    #[test]
    fn a_dot_is_doubled_at_the_beginning_of_a_line_alone() {
        assert_eq!(stuffed(b"a.b\r\n.\r\n..c\r\n"), b"a.b\r\n..\r\n...c\r\n");
    }
}
