//! An Authentication Server that misbehaves as told, and remembers what it was asked.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use addrauth::proto::key::AuthKey;
use addrauth::proto::wire::{self, Credential, DATAGRAM_MAX, Reason, Request, Status};
use tokio::net::UdpSocket;
use tokio::task::{AbortHandle, JoinSet};

/// What the server does with a datagram.
#[derive(Clone, Debug)]
pub enum Act {
    /// Answers with this word, `t=` and `e=`, whatever the proof.
    Say(Status, Option<u32>, Option<Reason>),
    /// Checks the proof: VALIDKEY with `t=3600` for this key, INVALIDKEY for any other.
    Check(AuthKey),
    /// The same, and UNVERIFIED with this reason instead of INVALIDKEY, as a server over its own limit does.
    CheckElse(AuthKey, Reason),
    /// Answers with this word to another seq.
    OtherSeq(Status),
    /// Answers with this word for another address.
    OtherAddress(Status),
    /// Answers with this word from another port.
    OtherPort(Status),
    /// Answers with this word and octets after CRLF.
    Extra(Status),
    /// Answers with this word in a datagram longer than 512 octets.
    Huge(Status),
    /// Sends exactly this.
    Raw(Vec<u8>),
    /// Says nothing.
    Silence,
    /// Does this after a while.
    Late(Duration, Box<Act>),
    /// Does all of this, in order.
    All(Vec<Act>),
}

impl Act {
    /// VALIDKEY with `t=3600`.
    pub fn valid() -> Act {
        Act::Say(Status::Valid, Some(3_600), None)
    }

    /// INVALIDKEY.
    pub fn invalid() -> Act {
        Act::Say(Status::Invalid, None, None)
    }

    /// UNVERIFIED with this reason.
    pub fn unverified(reason: Reason) -> Act {
        Act::Say(Status::Unverified, None, Some(reason))
    }
}

/// A datagram that the server received.
#[derive(Clone, Debug)]
pub struct Received {
    /// When.
    pub at: Instant,
    /// From where.
    pub from: SocketAddr,
    /// The line, CRLF included.
    pub line: String,
}

impl Received {
    /// The words of the line: VERIFY, seq, address, credential, tags.
    pub fn word(&self, index: usize) -> &str {
        self.line.split_ascii_whitespace().nth(index).unwrap_or_default()
    }
}

/// The server; it ends when dropped.
pub struct Authority {
    /// Where it listens.
    pub addr: SocketAddr,
    received: Arc<Mutex<Vec<Received>>>,
    acts: Arc<Mutex<Vec<Act>>>,
    task: AbortHandle,
}

impl Authority {
    /// Starts a server on a free port of 127.0.0.1. The first datagram meets the first act, and so on; the last act stays.
    pub async fn start(acts: impl Into<Vec<Act>>) -> std::io::Result<Authority> {
        let socket = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?);
        let addr = socket.local_addr()?;
        let received = Arc::new(Mutex::new(Vec::new()));
        let acts = Arc::new(Mutex::new(acts.into()));
        let task = tokio::spawn(serve(socket, received.clone(), acts.clone())).abort_handle();
        Ok(Authority { addr, received, acts, task })
    }

    /// All datagrams so far.
    pub fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many datagrams so far.
    pub fn count(&self) -> usize {
        self.received().len()
    }

    /// From now on it does this.
    pub fn now_does(&self, act: Act) {
        *self.acts.lock().unwrap_or_else(PoisonError::into_inner) = vec![act];
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(socket: Arc<UdpSocket>, received: Arc<Mutex<Vec<Received>>>, acts: Arc<Mutex<Vec<Act>>>) {
    let mut buffer = [0; 2_048];
    let mut answers = JoinSet::new();
    while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
        let line = buffer.get(..length).unwrap_or_default().to_vec();
        let text = String::from_utf8_lossy(&line).into_owned();
        received.lock().unwrap_or_else(PoisonError::into_inner).push(Received { at: Instant::now(), from, line: text });
        let act = {
            let mut acts = acts.lock().unwrap_or_else(PoisonError::into_inner);
            if acts.len() > 1 { acts.remove(0) } else { acts.first().cloned().unwrap_or(Act::Silence) }
        };
        answers.spawn(perform(socket.clone(), from, line, act));
        while answers.try_join_next().is_some() {}
    }
}

async fn perform(socket: Arc<UdpSocket>, to: SocketAddr, line: Vec<u8>, act: Act) {
    let (seq, address) = match Request::read(&line, DATAGRAM_MAX) {
        Request::Asked { seq, address, .. } | Request::Refused { seq, address, .. } => (seq, address),
        Request::Silence => return,
    };
    let say = |seq: &[u8], address: &[u8], status| wire::reply(seq, address, status, None, None, DATAGRAM_MAX);
    let reply = match act {
        Act::Silence => None,
        Act::Raw(octets) => Some(octets),
        Act::Say(status, t, e) => wire::reply(seq, address, status, t, e, DATAGRAM_MAX),
        Act::Check(key) => check(&line, &key, None),
        Act::CheckElse(key, reason) => check(&line, &key, Some(reason)),
        Act::OtherSeq(status) => say(b"0123456789abcdef0123456789abcdef", address, status),
        Act::OtherAddress(status) => say(seq, b"mallory@example.com", status),
        Act::Extra(status) => say(seq, address, status).map(|reply| [reply, b"x\r\n".to_vec()].concat()),
        Act::Huge(status) => say(seq, address, status).map(|reply| huge(&reply)),
        Act::OtherPort(status) => {
            if let (Ok(other), Some(reply)) =
                (UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await, say(seq, address, status))
            {
                let _ = other.send_to(&reply, to).await;
            }
            None
        }
        Act::Late(pause, act) => {
            tokio::time::sleep(pause).await;
            return Box::pin(perform(socket, to, line, *act)).await;
        }
        Act::All(acts) => {
            for act in acts {
                Box::pin(perform(socket.clone(), to, line.clone(), act)).await;
            }
            None
        }
    };
    if let Some(reply) = reply {
        let _ = socket.send_to(&reply, to).await;
    }
}

fn check(line: &[u8], key: &AuthKey, instead: Option<Reason>) -> Option<Vec<u8>> {
    let Request::Asked { seq, address, credential, tags, .. } = Request::read(line, DATAGRAM_MAX) else { return None };
    let right = match credential {
        Credential::Key(given) => given == *key,
        Credential::Proof(proof) => key.verify_key().checks(proof, seq, address, tags),
    };
    let (status, t, e) = match (right, instead) {
        (true, _) => (Status::Valid, Some(3_600), None),
        (false, None) => (Status::Invalid, None, None),
        (false, reason) => (Status::Unverified, None, reason),
    };
    wire::reply(seq, address, status, t, e, DATAGRAM_MAX)
}

/// The same reply with tags that fill it beyond a datagram's limit; unknown tags alone would be ignored.
fn huge(reply: &[u8]) -> Vec<u8> {
    let mut long = reply.trim_ascii_end().to_vec();
    for tag in 0..5 {
        long.extend_from_slice(format!(" x{tag}={}", "y".repeat(120)).as_bytes());
    }
    long.extend_from_slice(b"\r\n");
    long
}
