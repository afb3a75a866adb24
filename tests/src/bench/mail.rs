//! Mail for a bench: clients that bring one message after the other, and how long each took.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::smtp::{Session, stuffed};

/// Clients at once.
pub const SESSIONS: usize = 8;
/// The sender of all messages, whose key they carry.
pub const SENDER: &str = "alice@send.test";
/// Their recipient; Postfix discards what is for it.
pub const RECIPIENT: &str = "box@bench.test";

/// How messages come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// [`SESSIONS`] clients, a connection a message.
    Fresh,
    /// [`SESSIONS`] clients, each on one connection.
    Reused,
    /// One client on one connection: what a message takes when no other waits.
    Alone,
}

impl Way {
    /// All of them.
    pub const ALL: [Way; 3] = [Way::Fresh, Way::Reused, Way::Alone];

    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Way::Fresh => "a connection a message",
            Way::Reused => "connections reused",
            Way::Alone => "one client alone",
        }
    }

    fn clients(self) -> usize {
        if self == Way::Alone { 1 } else { SESSIONS }
    }
}

/// How one rush went.
#[derive(Clone, Debug)]
pub struct Rush {
    /// From its begin until the last client was done.
    pub took: Duration,
    /// Each message, from before its connection (where it has one of its own) or its MAIL until the reply to its end.
    pub latencies: Vec<Duration>,
}

/// A message of this many octets, header included, with this key.
pub fn message(key: &str, size: usize) -> Vec<u8> {
    let head = format!("From: {SENDER}\r\nTo: {RECIPIENT}\r\nSubject: a bench\r\nX-Auth-Key: {key}\r\n\r\n");
    let line = "A line of text as there are many.\r\n";
    let body = line.repeat(size.saturating_sub(head.len()) / line.len());
    (head + &body).into_bytes()
}

/// Brings so many messages to this port, and waits for each reply.
pub fn rush(port: u16, way: Way, count: usize, message: &[u8]) -> Rush {
    let octets = [&stuffed(message)[..], b".\r\n"].concat();
    let (next, octets) = (AtomicUsize::new(0), &octets);
    let client = || {
        let (mut session, mut latencies) = (None, Vec::new());
        while next.fetch_add(1, Ordering::Relaxed) < count {
            let begin = Instant::now();
            let open = session.get_or_insert_with(|| Session::open(port));
            bring(open, octets);
            latencies.push(begin.elapsed());
            if way == Way::Fresh {
                open.say("QUIT");
                session = None;
            }
        }
        latencies
    };
    let begin = Instant::now();
    let latencies = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..way.clients()).map(|_| scope.spawn(client)).collect();
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    });
    Rush { took: begin.elapsed(), latencies }
}

fn bring(session: &mut Session, octets: &[u8]) {
    let mail = session.say(&format!("MAIL FROM:<{SENDER}>"));
    assert_eq!(mail.code, 250, "{mail:?}");
    let rcpt = session.say(&format!("RCPT TO:<{RECIPIENT}>"));
    assert_eq!(rcpt.code, 250, "{rcpt:?}");
    let data = session.say("DATA");
    assert_eq!(data.code, 354, "{data:?}");
    session.write(octets);
    let end = session.reply();
    assert_eq!(end.code, 250, "{end:?}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_about_as_long_as_it_is_to_be_and_ends_a_line() {
        let message = message("k", 4096);
        assert!((4050..=4096).contains(&message.len()), "{}", message.len());
        assert!(message.ends_with(b"\r\n"));
    }
}
