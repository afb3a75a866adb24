//! TLS connections to Authentication Servers: one for each, shared by the questions of the moment, and kept for the next ones.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::io::{AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_rustls::client::TlsStream;
use tokio_util::bytes::BytesMut;
use tokio_util::codec::{Decoder, FramedRead};
use tracing::debug;
use zeroize::Zeroizing;

use super::locate::Endpoint;
use crate::config::Limits;
use crate::proto::wire::{Answer, Question, STREAM_MAX};
use crate::tls::Connector;

/// How long taking leave may take.
const FAREWELL: Duration = Duration::from_secs(1);

/// A question on its way.
struct Asked {
    question: Arc<Question>,
    line: Zeroizing<Vec<u8>>,
    tell: oneshot::Sender<Answer>,
}

/// All connections.
pub(super) struct Streams {
    connector: Arc<Connector>,
    /// By address and name: a certificate is checked against a name.
    live: Mutex<HashMap<(SocketAddr, String), mpsc::Sender<Asked>>>,
    /// Those that wait for a next question.
    kept: Arc<Semaphore>,
    limits: Arc<Limits>,
}

impl Streams {
    pub(super) fn new(connector: Connector, limits: &Arc<Limits>) -> Streams {
        Streams {
            connector: Arc::new(connector),
            live: Mutex::default(),
            kept: Arc::new(Semaphore::new(limits.verify.streams_kept)),
            limits: limits.clone(),
        }
    }

    /// The answer to this question; absent where the connection cannot be made or breaks. The caller sets the bound.
    pub(super) async fn ask(
        &self,
        endpoint: &Endpoint,
        question: Arc<Question>,
        line: Zeroizing<Vec<u8>>,
    ) -> Option<Answer> {
        loop {
            let (connection, is_new) = self.connection(endpoint);
            let (tell, told) = oneshot::channel();
            let sent = connection.send(Asked { question: question.clone(), line: line.clone(), tell }).await;
            match (sent, told.await) {
                (Ok(()), Ok(answer)) => return Some(answer),
                _ if is_new => return None,
                // One that was kept may end as it is asked, through no fault of anybody's: once more, on a new one.
                _ => {}
            }
        }
    }

    /// The connection to this endpoint, and whether it was begun for this question.
    fn connection(&self, endpoint: &Endpoint) -> (mpsc::Sender<Asked>, bool) {
        let place = (endpoint.address, endpoint.host().to_owned());
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(connection) = live.get(&place).filter(|connection| !connection.is_closed()) {
            return (connection.clone(), false);
        }
        live.retain(|_, connection| !connection.is_closed());
        let (connection, questions) = mpsc::channel(self.limits.verify.questions_per_endpoint_most.max(1));
        live.insert(place.clone(), connection.clone());
        let (connector, kept, limits) = (self.connector.clone(), self.kept.clone(), self.limits.clone());
        tokio::spawn(async move {
            let (address, host) = place;
            match timeout(limits.verify.stream_try, connector.connect(&host, address)).await {
                Ok(Ok(stream)) => Connection::new(stream, questions, kept, limits).serve().await,
                Ok(Err(e)) => debug!(%host, %address, "not asked over TLS: {e}"),
                Err(_) => debug!(%host, %address, "not asked over TLS: connecting takes too long"),
            }
        });
        (connection, true)
    }
}

/// Lines of at most [`STREAM_MAX`] octets, as they stand.
struct Lines;

impl Decoder for Lines {
    type Item = BytesMut;
    type Error = io::Error;

    fn decode(&mut self, read: &mut BytesMut) -> Result<Option<BytesMut>, io::Error> {
        match read.iter().take(STREAM_MAX).position(|&octet| octet == b'\n') {
            Some(at) => Ok(Some(read.split_to(at + 1))),
            None if read.len() >= STREAM_MAX => Err(io::ErrorKind::InvalidData.into()),
            None => Ok(None),
        }
    }
}

/// One connection, and who waits for what.
struct Connection {
    questions: mpsc::Receiver<Asked>,
    lines: FramedRead<ReadHalf<TlsStream<TcpStream>>, Lines>,
    writer: WriteHalf<TlsStream<TcpStream>>,
    waiting: Vec<Asked>,
    /// Lines that answered nothing.
    strays: usize,
    kept: Arc<Semaphore>,
    /// The right to stay without a question.
    leave: Option<OwnedSemaphorePermit>,
    limits: Arc<Limits>,
}

impl Connection {
    fn new(
        stream: TlsStream<TcpStream>,
        questions: mpsc::Receiver<Asked>,
        kept: Arc<Semaphore>,
        limits: Arc<Limits>,
    ) -> Connection {
        let (reader, writer) = tokio::io::split(stream);
        let lines = FramedRead::with_capacity(reader, Lines, STREAM_MAX);
        Connection { questions, lines, writer, waiting: Vec::new(), strays: 0, kept, leave: None, limits }
    }

    /// Asks and hears, until nobody asks any more or the other side is of no use. Whoever still waits learns that by the
    /// end of this.
    async fn serve(mut self) {
        let (mut open, mut heard) = (true, Instant::now());
        while open || !self.waiting.is_empty() {
            let patience = if self.waiting.is_empty() {
                self.limits.verify.stream_kept_for
            } else {
                self.limits.verify.stream_try
            };
            tokio::select! {
                asked = self.questions.recv(), if open => match asked {
                    Some(asked) => {
                        if self.waiting.is_empty() {
                            heard = Instant::now();
                        }
                        if !self.put(asked).await {
                            break;
                        }
                    }
                    None => open = false,
                },
                line = self.lines.next() => match line {
                    Some(Ok(line)) if self.hear(&line) => heard = Instant::now(),
                    _ => break,
                },
                () = sleep_until(heard + patience) => break,
            }
            if !self.may_stay() {
                break;
            }
        }
        // Whoever waits, or has just queued up, asks elsewhere at once and not after the farewell.
        let Connection { questions, waiting, mut writer, .. } = self;
        drop((questions, waiting));
        let _ = timeout(FAREWELL, writer.shutdown()).await;
    }

    /// Whether somebody waits, or it is one of the few that are kept for the next question.
    fn may_stay(&mut self) -> bool {
        if self.waiting.is_empty() && self.leave.is_none() {
            self.leave = self.kept.clone().try_acquire_owned().ok();
        }
        !self.waiting.is_empty() || self.leave.is_some()
    }

    /// Sends a question; whether the connection is still good.
    async fn put(&mut self, asked: Asked) -> bool {
        // Those who gave up do not wait any more.
        self.waiting.retain(|asked| !asked.tell.is_closed());
        if asked.tell.is_closed() {
            return true;
        }
        self.leave = None;
        let write = async {
            self.writer.write_all(&asked.line).await?;
            self.writer.flush().await
        };
        let written = matches!(timeout(self.limits.verify.stream_try, write).await, Ok(Ok(())));
        self.waiting.push(asked);
        written
    }

    /// Takes a line in; whether the connection is still good. What answers no question is ignored, within bounds.
    fn hear(&mut self, line: &[u8]) -> bool {
        let answer = Answer::parse(line);
        let mut to = |answer: &Answer| {
            let at = self.waiting.iter().position(|asked| asked.question.is_answered_by(answer))?;
            Some(self.waiting.swap_remove(at))
        };
        match answer.and_then(|answer| Some((to(&answer)?, answer))) {
            Some((asked, answer)) => drop(asked.tell.send(answer)),
            None => self.strays += 1,
        }
        self.strays < self.limits.verify.stream_strays
    }
}
