//! Answering VERIFY over TLS (SPECIFICATION §1 and §2.4), on the addresses and ports of UDP.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesOrdered;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};
use zeroize::Zeroizing;

use super::fetch::{Fetch, Spoken};
use super::hold::Hold;
use super::seats::{Seat, Seats, room_for};
use super::{Authority, Error};
use crate::config::Config;
use crate::proto::wire::STREAM_MAX;
use crate::pulse::Pulse;
use crate::tls::Acceptor;

/// How long taking leave may take: whoever does not listen any more misses nothing.
const FAREWELL: Duration = Duration::from_secs(1);
/// How long accepting rests when there are no descriptors left: it must not spin.
const BREATH: Duration = Duration::from_millis(100);

/// The doors of TLS, and who sits behind them.
#[derive(Debug)]
pub struct Streams {
    listeners: Vec<(TcpListener, Arc<Pulse>)>,
    acceptor: Acceptor,
    pub(super) fetch: Option<Fetch>,
    seats: Seats,
}

impl Streams {
    /// Reads the certificate again if its files changed.
    pub fn renew(&self) {
        self.acceptor.renew();
    }

    /// What tells of each door whether its loop waits for connections.
    pub fn pulses(&self) -> Vec<Arc<Pulse>> {
        self.listeners.iter().map(|(_, pulse)| Arc::clone(pulse)).collect()
    }
}

impl Authority {
    /// Opens TCP on the addresses and ports of these sockets, where `[authority.tls]` is set.
    ///
    /// # Errors
    /// A file of the certificate or of the token cannot be used, the keyring cannot be opened, or a port is taken.
    pub async fn bind_streams(&self, config: &Config, sockets: &[UdpSocket]) -> Result<Option<Arc<Streams>>, Error> {
        if !config.authority.tls.is_on() {
            return Ok(None);
        }
        let acceptor = Acceptor::open(&config.authority.tls)?;
        let fetch = Fetch::open(config, &self.limits).await?;
        let mut listeners = Vec::with_capacity(sockets.len());
        for (socket, address) in sockets.iter().zip(&self.listen) {
            let failed = |source| Error::ListenTls { address: *address, source };
            let place = socket.local_addr().map_err(failed)?;
            listeners.push((TcpListener::bind(place).await.map_err(failed)?, Arc::default()));
        }
        let seats = Seats::new(room_for(self.limits.authority.streams), self.limits.authority.streams_per_network);
        Ok(Some(Arc::new(Streams { listeners, acceptor, fetch, seats })))
    }

    /// Answers on these doors until `shutdown`; what was asked by then is answered.
    pub async fn serve_streams(self: Arc<Self>, streams: Arc<Streams>, shutdown: CancellationToken) {
        let tasks = TaskTracker::new();
        let doors = (0..streams.listeners.len())
            .map(|door| self.clone().take_in(streams.clone(), door, tasks.clone(), shutdown.clone()));
        futures_util::future::join_all(doors).await;
        tasks.close();
        tasks.wait().await;
        if let Some(fetch) = &streams.fetch {
            fetch.close().await;
        }
    }

    async fn take_in(
        self: Arc<Self>,
        streams: Arc<Streams>,
        door: usize,
        tasks: TaskTracker,
        shutdown: CancellationToken,
    ) {
        let Some((listener, pulse)) = streams.listeners.get(door) else { return };
        let mut troubled = false;
        loop {
            let accepted = tokio::select! {
                () = shutdown.cancelled() => return,
                never = pulse.answer() => match never {},
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((tcp, peer)) => {
                    troubled = false;
                    // At once, and without a word: the verifier has UDP to go back to.
                    let Some(seat) = streams.seats.take(peer.ip()) else {
                        debug!(%peer, "too many TLS connections: closed");
                        continue;
                    };
                    tasks.spawn(self.clone().converse(streams.clone(), tcp, peer, seat, shutdown.clone()));
                }
                Err(e) => {
                    if !std::mem::replace(&mut troubled, true) {
                        warn!("cannot take TLS connections: {e}");
                    }
                    tokio::time::sleep(BREATH).await;
                }
            }
        }
    }

    async fn converse(
        self: Arc<Self>,
        streams: Arc<Streams>,
        tcp: TcpStream,
        peer: SocketAddr,
        seat: Seat,
        shutdown: CancellationToken,
    ) {
        // Replies are written whole, so that nothing is gained by waiting for more.
        if tcp.set_nodelay(true).is_err() {
            return;
        }
        let greeting = timeout(self.limits.authority.stream_handshake, streams.acceptor.accept(tcp));
        let greeted = tokio::select! {
            () = shutdown.cancelled() => return,
            () = seat.leave.cancelled() => return,
            greeted = greeting => greeted,
        };
        let mut stream = match greeted {
            Ok(Ok(stream)) => stream,
            Ok(Err(e)) => return debug!(%peer, "closed: {e}"),
            Err(_) => return debug!(%peer, "closed: the TLS handshake takes too long"),
        };
        let why = tokio::select! {
            why = self.answer_lines(&mut stream, &streams, peer, &seat, &shutdown) => why,
            () = seat.leave.cancelled() => "its place was needed, and it was silent longest",
        };
        debug!(%peer, "closed: {why}");
        let _ = timeout(FAREWELL, stream.shutdown()).await;
    }

    /// Reads lines and answers them, as many as have come together, until one of several ends; which.
    async fn answer_lines(
        &self,
        stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
        streams: &Streams,
        peer: SocketAddr,
        seat: &Seat,
        shutdown: &CancellationToken,
    ) -> &'static str {
        let mut room = Zeroizing::new(vec![0; self.limits.authority.stream_octets.max(STREAM_MAX)]);
        let (mut filled, mut since) = (0, Instant::now());
        let (oldest, hold) = (since + self.limits.authority.stream_age, Hold::new(self.limits.authority.answer_after));
        loop {
            let begins = filled == 0;
            let patience = if begins { self.limits.authority.stream_idle } else { self.limits.authority.stream_line };
            let free = room.get_mut(filled..).unwrap_or_default();
            let read = tokio::select! {
                () = shutdown.cancelled() => return "this server stops",
                read = timeout_at(oldest.min(since + patience), stream.read(free)) => read,
            };
            match read {
                Ok(Ok(0)) => return "the other side closed it",
                Ok(Ok(count)) => filled += count,
                Ok(Err(_)) => return "it broke",
                Err(_) => return "the other side is too slow, or connected for long enough",
            }
            let lines = room.get(..filled).unwrap_or_default();
            let whole = lines.iter().rposition(|&octet| octet == b'\n').map_or(0, |at| at + 1);
            let goes_on = match lines.get(..whole).filter(|lines| !lines.is_empty()) {
                Some(lines) => self.answer_all(lines, stream, streams, peer, &hold).await,
                None => true,
            };
            if !goes_on {
                return "what came was no question, or nobody reads the replies";
            }
            if filled - whole >= STREAM_MAX {
                return "a line is too long";
            }
            // A line has its time from its first octet on.
            if whole > 0 {
                seat.speaks();
            }
            if whole > 0 || begins {
                since = Instant::now();
            }
            room.copy_within(whole..filled, 0);
            filled -= whole;
        }
    }

    /// Answers whole lines in one write; whether the connection goes on.
    async fn answer_all(
        &self,
        lines: &[u8],
        stream: &mut (impl AsyncWrite + Unpin),
        streams: &Streams,
        peer: SocketAddr,
        hold: &Hold,
    ) -> bool {
        let (begin, mut count) = (Instant::now(), 0);
        let mut lines = lines.split_inclusive(|&octet| octet == b'\n');
        let mut under_way = FuturesOrdered::new();
        let (mut replies, mut goes_on) = (Vec::new(), true);
        while goes_on {
            while under_way.len() < self.limits.authority.stream_lines.max(1)
                && let Some(line) = lines.next()
            {
                count += 1;
                under_way.push_back(self.speak(line, streams, peer));
            }
            let Some(Spoken { reply, goes_on: next }) = under_way.next().await else { break };
            replies.extend(reply.unwrap_or_default());
            goes_on = next;
        }
        hold.until_even(begin, count).await;
        let write = async {
            stream.write_all(&replies).await?;
            stream.flush().await
        };
        matches!(timeout(self.limits.authority.stream_write, write).await, Ok(Ok(()))) && goes_on
    }

    async fn speak(&self, line: &[u8], streams: &Streams, peer: SocketAddr) -> Spoken {
        if let Some(fetch) = &streams.fetch
            && line.starts_with(b"FETCH ")
        {
            return self.hand_out(fetch, line, peer).await;
        }
        let reply = self.answer_line(line, peer).await;
        Spoken { goes_on: reply.is_some(), reply }
    }
}
