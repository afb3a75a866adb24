//! An Authentication Server on TLS that misbehaves as told, and remembers what it was asked.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use addrauth::config::Tls;
use addrauth::proto::key::AuthKey;
use addrauth::proto::wire::{self, Credential, Reason, Request, STREAM_MAX, Status};
use addrauth::tls::Acceptor;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// What the server does with a line, or with a connection.
#[derive(Clone, Debug)]
pub enum Does {
    /// Answers with this word, `t=` and `e=`.
    Say(Status, Option<u32>, Option<Reason>),
    /// VALIDKEY for this key, as it is or by proof; INVALIDKEY for any other.
    Check(AuthKey),
    /// Answers with this word to another seq.
    OtherSeq(Status),
    /// Sends exactly this.
    Raw(Vec<u8>),
    /// Does this after a while, and reads on meanwhile.
    Late(Duration, Box<Does>),
    /// All of this, in order.
    All(Vec<Does>),
    /// Nothing, for ever.
    Silence,
    /// Closes the connection.
    Close,
    /// Takes the connection and resets it.
    Reset,
    /// Sends `a` without end, and no line end.
    Endless,
    /// Takes the connection and never shakes hands.
    HalfOpen,
    /// Shakes hands and does not name the protocol.
    NoAlpn,
}

impl Does {
    /// VALIDKEY with `t=3600`.
    pub fn valid() -> Does {
        Does::Say(Status::Valid, Some(3_600), None)
    }

    /// INVALIDKEY.
    pub fn invalid() -> Does {
        Does::Say(Status::Invalid, None, None)
    }
}

/// What server and connections share.
struct Memory {
    lines: Mutex<Vec<String>>,
    connections: AtomicUsize,
    does: Mutex<Does>,
    tls: Tls,
}

/// The server; it ends when dropped.
pub struct StreamAuthority {
    memory: Arc<Memory>,
    task: AbortHandle,
}

impl StreamAuthority {
    /// Starts a server on TCP at this address, which may be that of a server on UDP.
    pub async fn start(address: SocketAddr, tls: &Tls, does: Does) -> std::io::Result<StreamAuthority> {
        let listener = TcpListener::bind(address).await?;
        let (lines, connections) = (Mutex::default(), AtomicUsize::new(0));
        let memory = Arc::new(Memory { lines, connections, does: Mutex::new(does), tls: tls.clone() });
        let task = tokio::spawn(serve(listener, memory.clone())).abort_handle();
        Ok(StreamAuthority { memory, task })
    }

    /// All lines so far.
    pub fn lines(&self) -> Vec<String> {
        self.memory.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many connections so far.
    pub fn connections(&self) -> usize {
        self.memory.connections.load(Ordering::SeqCst)
    }

    /// From now on it does this.
    pub fn now_does(&self, does: Does) {
        *self.memory.does.lock().unwrap_or_else(PoisonError::into_inner) = does;
    }
}

impl Drop for StreamAuthority {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, memory: Arc<Memory>) {
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((tcp, _)) = listener.accept().await {
        memory.connections.fetch_add(1, Ordering::SeqCst);
        connections.spawn(greet(tcp, memory.clone()));
        while connections.try_join_next().is_some() {}
    }
}

async fn greet(tcp: TcpStream, memory: Arc<Memory>) {
    let does = memory.does.lock().unwrap_or_else(PoisonError::into_inner).clone();
    match does {
        Does::HalfOpen => {
            let _tcp = tcp;
            std::future::pending::<()>().await;
        }
        Does::Reset => tcp.set_zero_linger().unwrap(),
        Does::NoAlpn => {
            let chain = CertificateDer::pem_file_iter(&memory.tls.certificate).unwrap().map(Result::unwrap).collect();
            let key = PrivateKeyDer::from_pem_file(&memory.tls.key).unwrap();
            let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap();
            if let Ok(stream) = TlsAcceptor::from(Arc::new(config)).accept(tcp).await {
                converse(stream, memory).await;
            }
        }
        _ => {
            if let Ok(stream) = Acceptor::open(&memory.tls).unwrap().accept(tcp).await {
                converse(stream, memory).await;
            }
        }
    }
}

async fn converse(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, memory: Arc<Memory>) {
    let (reader, writer) = tokio::io::split(stream);
    let (mut reader, writer) = (BufReader::new(reader), Arc::new(tokio::sync::Mutex::new(writer)));
    loop {
        let mut line = Vec::new();
        if reader.read_until(b'\n', &mut line).await.unwrap_or(0) == 0 {
            return;
        }
        memory.lines.lock().unwrap_or_else(PoisonError::into_inner).push(String::from_utf8_lossy(&line).into_owned());
        let does = memory.does.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match does {
            Does::Close => return,
            Does::Late(pause, does) => {
                let writer = writer.clone();
                tokio::spawn(async move {
                    tokio::time::sleep(pause).await;
                    perform(&mut *writer.lock().await, &line, *does).await;
                });
            }
            does => perform(&mut *writer.lock().await, &line, does).await,
        }
    }
}

async fn perform(writer: &mut (impl AsyncWrite + Unpin), line: &[u8], does: Does) {
    let (Request::Asked { seq, address, .. } | Request::Refused { seq, address, .. }) = Request::read(line, STREAM_MAX)
    else {
        return;
    };
    let reply = match does {
        Does::Say(status, t, e) => wire::reply(seq, address, status, t, e, STREAM_MAX),
        Does::Check(key) => check(line, &key),
        Does::OtherSeq(status) => {
            wire::reply(b"0123456789abcdef0123456789abcdef", address, status, None, None, STREAM_MAX)
        }
        Does::Raw(octets) => Some(octets),
        Does::Endless => {
            while writer.write_all(&[b'a'; 4_096]).await.is_ok() {}
            None
        }
        Does::All(all) => {
            for does in all {
                Box::pin(perform(writer, line, does)).await;
            }
            None
        }
        Does::Silence | Does::Late(..) | Does::Close | Does::Reset | Does::HalfOpen | Does::NoAlpn => None,
    };
    let _ = writer.write_all(&reply.unwrap_or_default()).await;
    let _ = writer.flush().await;
}

fn check(line: &[u8], key: &AuthKey) -> Option<Vec<u8>> {
    let Request::Asked { seq, address, credential, tags, .. } = Request::read(line, STREAM_MAX) else { return None };
    let right = match credential {
        Credential::Key(given) => given == *key,
        Credential::Proof(proof) => key.verify_key().checks(proof, seq, address, tags),
    };
    let (status, t) = if right { (Status::Valid, Some(3_600)) } else { (Status::Invalid, None) };
    wire::reply(seq, address, status, t, None, STREAM_MAX)
}
