//! Fetching keys from our own AS over TLS, for a token: where one administrator runs both, no key mail is needed.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use quick_cache::sync::Cache;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;
use tracing::warn;
use zeroize::Zeroizing;

use super::{Error, Source};
use crate::config::{Config, Limits};
use crate::proto::address::{Address, Mailbox};
use crate::proto::fetch::{self, Reply};
use crate::proto::key::AuthKey;
use crate::proto::seal::Opener;
use crate::proto::wire::STREAM_MAX;
use crate::store;
use crate::tls::{self, Connector};

/// Keys that the AS hands over, kept in memory for a while.
pub struct Fetched {
    from: String,
    host: String,
    token: Zeroizing<String>,
    opener: Opener,
    connector: Connector,
    kept: Cache<Mailbox, Kept>,
    /// The connection, for one question at a time; a broken one is never put back.
    connection: tokio::sync::Mutex<Option<TlsStream<TcpStream>>>,
    /// When fetching failed last, and why: nobody waits for a dead AS again at once.
    failed: Mutex<Option<(Instant, String)>>,
    limits: Arc<Limits>,
}

/// What the AS said of an address. A key is wiped from memory when it is dropped.
#[derive(Clone)]
struct Kept {
    newest: Option<(AuthKey, SystemTime)>,
    fetched: Instant,
}

impl fmt::Debug for Fetched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fetched(from {})", self.from)
    }
}

impl Fetched {
    /// Fetches from `keyring.fetch_from`, and opens with this half what is sealed.
    ///
    /// # Errors
    /// The place is no HOST:PORT, the token or the root certificates cannot be read.
    pub fn new(config: &Config, opener: Opener, limits: &Arc<Limits>) -> Result<Fetched, Error> {
        let (from, path) = (config.keyring.fetch_from.clone(), &config.keyring.fetch_token_file);
        let wrong = |what: String| Error::FetchSetup { what };
        let host = match from.rsplit_once(':').map(|(host, port)| (host, port.parse::<u16>())) {
            Some((host, Ok(1..))) if !host.is_empty() => host.trim_matches(['[', ']']).to_owned(),
            _ => return Err(wrong(format!("fetch_from = {from:?} is no place, write as.example.com:4410"))),
        };
        let token = store::read_secret_line(path)?;
        if !fetch::is_token(token.as_bytes()) {
            return Err(wrong(format!(
                "fetch_token_file: {} holds no token, 32 to 128 characters without spaces",
                path.display()
            )));
        }
        let connector = Connector::new(&config.verify.tls_roots)
            .map_err(|e| wrong(format!("fetch_from needs root certificates, and verify.tls_roots is wrong: {e}")))?;
        Ok(Fetched {
            from,
            host,
            token,
            opener,
            connector,
            kept: Cache::new(limits.keyring.fetch_addresses),
            connection: tokio::sync::Mutex::default(),
            failed: Mutex::default(),
            limits: limits.clone(),
        })
    }

    /// What is remembered of an address and young enough to be taken for what the AS would say.
    fn fresh(&self, address: &Mailbox) -> Option<Kept> {
        let kept = self.kept.get(address)?;
        let lifetime = match &kept.newest {
            Some((_, expires)) if *expires <= SystemTime::now() => return None,
            Some(_) => self.limits.keyring.fetch_kept,
            None => self.limits.keyring.fetch_absence_kept,
        };
        (kept.fetched.elapsed() < lifetime).then_some(kept)
    }

    /// A key that still lives and was fetched not too long ago: used while the AS cannot be reached.
    fn stale(&self, address: &Mailbox) -> Option<Kept> {
        let kept = self.kept.get(address)?;
        let lives = kept.newest.as_ref().is_some_and(|(_, expires)| *expires > SystemTime::now());
        (lives && kept.fetched.elapsed() < self.limits.keyring.fetch_stale).then_some(kept)
    }

    /// Asks the AS, one question after another: whoever waited for the same answer finds it remembered.
    async fn ask(&self, address: &Mailbox, wire: &Address) -> Result<Kept, Error> {
        let mut connection = self.connection.lock().await;
        if let Some(kept) = self.fresh(address) {
            return Ok(kept);
        }
        let failed = |text: String| Error::Fetch { address: address.to_string(), from: self.from.clone(), text };
        let resting =
            |(at, text): &(Instant, String)| (at.elapsed() < self.limits.keyring.fetch_rest).then(|| text.clone());
        if let Some(text) = self.failed.lock().unwrap_or_else(PoisonError::into_inner).as_ref().and_then(resting) {
            return Err(failed(text));
        }
        let reply = match timeout(self.limits.verify.stream_try, self.exchange(&mut connection, wire)).await {
            Ok(reply) => reply,
            Err(_) => Err(format!("no answer within {:?}", self.limits.verify.stream_try)),
        };
        let (sealed, expires) = match reply {
            Ok(Reply::Key { expires, sealed }) => {
                (sealed, UNIX_EPOCH.checked_add(std::time::Duration::from_secs(expires)))
            }
            Ok(Reply::NoKey) => return Ok(Kept { newest: None, fetched: Instant::now() }),
            Ok(Reply::Refused) => return Err(self.rest(failed, REFUSED.to_owned())),
            Err(text) => return Err(self.rest(failed, text)),
        };
        let Some(expires) = expires else { return Err(failed("it named an end beyond all time".into())) };
        let key = self.opener.open(address, &sealed).map_err(|_| Error::Shut { address: address.to_string() })?;
        Ok(Kept { newest: Some((key, expires)), fetched: Instant::now() })
    }

    fn rest(&self, failed: impl Fn(String) -> Error, text: String) -> Error {
        warn!("keys cannot be fetched from {}: {text}", self.from);
        *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), text.clone()));
        failed(text)
    }

    /// One line there and one back; on a new connection where the kept one has ended meanwhile.
    async fn exchange(&self, kept: &mut Option<TlsStream<TcpStream>>, address: &Address) -> Result<Reply, String> {
        let seq = format!("{:032x}", rand::random::<u128>());
        let line = fetch::request(&seq, address, &self.token).ok_or("the address is too long for a line")?;
        // Taken out, so that a connection on which something is still awaited is dropped with this future.
        if let Some(mut stream) = kept.take()
            && let Ok(reply) = say(&mut stream, &line, &seq, address).await
        {
            *kept = Some(stream).filter(|_| reply != Reply::Refused);
            return Ok(reply);
        }
        let mut stream = self.connect().await?;
        let reply = say(&mut stream, &line, &seq, address).await.map_err(|e| match e.kind() {
            io::ErrorKind::UnexpectedEof => {
                "it closed the connection: does it have authority.fetch_token_file, and no trouble of its own?"
                    .to_owned()
            }
            _ => e.to_string(),
        })?;
        *kept = Some(stream).filter(|_| reply != Reply::Refused);
        Ok(reply)
    }

    async fn connect(&self) -> Result<TlsStream<TcpStream>, String> {
        let places = tokio::net::lookup_host(&self.from).await.map_err(|e| format!("its name is not found: {e}"))?;
        let mut last = "its name has no address".to_owned();
        for place in places {
            match self.connector.connect(&self.host, place).await {
                Ok(stream) => return Ok(stream),
                Err(e @ tls::Failed::Connect(_)) => last = format!("{place}: {e}"),
                Err(e) => return Err(format!("{place}: {e}")),
            }
        }
        Err(last)
    }
}

/// What is told of a token that is not the one.
const REFUSED: &str =
    "it refuses the token: keyring.fetch_token_file must hold what authority.fetch_token_file holds there";

#[async_trait]
impl Source for Fetched {
    async fn newest(&self, address: &Address) -> Result<Option<(AuthKey, SystemTime)>, Error> {
        let mailbox = address.mailbox();
        if let Some(kept) = self.fresh(&mailbox) {
            return Ok(kept.newest);
        }
        match self.ask(&mailbox, address).await {
            Ok(kept) => {
                self.kept.insert(mailbox, kept.clone());
                Ok(kept.newest)
            }
            // What cannot be opened is no outage: the other half of the pair has to be found.
            Err(error @ Error::Shut { .. }) => Err(error),
            Err(error) => self.stale(&mailbox).map(|kept| kept.newest).ok_or(error),
        }
    }
}

/// Sends the line and reads the reply; a line that is none breaks the connection.
async fn say(stream: &mut TlsStream<TcpStream>, line: &[u8], seq: &str, address: &Address) -> io::Result<Reply> {
    stream.write_all(line).await?;
    stream.flush().await?;
    let mut read = Vec::with_capacity(STREAM_MAX);
    while !read.ends_with(b"\n") {
        if read.len() >= STREAM_MAX {
            return Err(io::Error::other("it said more than a line may hold"));
        }
        if stream.read_buf(&mut read).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Reply::read(&read, seq, address).ok_or_else(|| io::Error::other("what it said is no reply to a FETCH"))
}
