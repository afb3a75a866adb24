//! The Authentication Server behind its doors.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinHandle};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{info, warn};

use super::ask::Asking;
#[cfg(feature = "metrics")]
use super::telling::{OfAuthority, Telling};
use super::watchdog::Health;
use crate::authority::{self, Authority, Poster, Streams};
use crate::config::{Concern, Config, Limits};
use crate::daemon;

/// Why the Authentication Server does not start, or ends.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// What it needs cannot be opened.
    #[error(transparent)]
    Authority(#[from] authority::Error),
    /// A place of `metrics.listen` cannot be bound.
    #[cfg(feature = "metrics")]
    #[error(transparent)]
    Metrics(#[from] crate::mta::listen::Error),
    /// The system does not say where a socket listens.
    #[error("cannot tell where a socket listens: {0}")]
    Place(std::io::Error),
    /// A part of it panicked, or the runtime ends.
    #[error(transparent)]
    Panic(#[from] JoinError),
}

/// Runs the Authentication Server as `config` says until `shutdown`; questions at hand still get their answer then. It reads
/// its certificate again at each `renew`.
///
/// # Errors
/// It does not start, or a part of it panicked.
pub async fn run(config: Config, mut renew: mpsc::Receiver<()>, shutdown: CancellationToken) -> Result<(), Error> {
    let mut running = tokio::select! {
        () = shutdown.cancelled() => return Ok(()),
        running = Running::start(config, Arc::new(Limits::default())) => running?,
    };
    loop {
        tokio::select! {
            () = shutdown.cancelled() => break,
            Some(()) = renew.recv() => tokio::select! {
                () = shutdown.cancelled() => break,
                () = running.renew() => {}
            },
            () = running.ended() => break,
        }
    }
    running.stop().await
}

/// A server that answers, for a program that has more to tell it, or to hear of it, than [`run`] has.
pub struct Running {
    authority: Arc<Authority>,
    streams: Option<Arc<Streams>>,
    health: Arc<Health>,
    places: Vec<SocketAddr>,
    #[cfg(feature = "metrics")]
    telling: Telling,
    /// Dropped, it stops what was begun.
    stop: DropGuard,
    serving: JoinHandle<()>,
    streaming: Option<JoinHandle<()>>,
    ended: CancellationToken,
}

/// What is open before anything is served.
struct Opened {
    authority: Arc<Authority>,
    poster: Option<Poster>,
    sockets: Vec<UdpSocket>,
    streams: Option<Arc<Streams>>,
}

async fn open(config: Config, limits: Arc<Limits>) -> Result<Opened, Error> {
    for warning in config.warnings().into_iter().filter(|warning| warning.concerns() != Concern::Filter) {
        warn!("{warning}");
    }
    let authority = Arc::new(Authority::open(&config, &limits).await?);
    let poster = Poster::open(&config, authority.clone(), Arc::new(Asking::new(&config, &limits))).await?;
    let sockets = authority.bind()?;
    let streams = authority.bind_streams(&config, &sockets).await?;
    Ok(Opened { authority, poster, sockets, streams })
}

impl Running {
    /// Opens all that the configuration names, and answers. It may be dropped while it opens.
    ///
    /// # Errors
    /// See [`Error`]: then nothing listens.
    pub async fn start(config: Config, limits: Arc<Limits>) -> Result<Running, Error> {
        #[cfg(feature = "metrics")]
        let telling = Telling::bind(&config.metrics)?;
        let Opened { authority, poster, sockets, streams } = daemon::apart(open(config, Arc::clone(&limits))).await??;
        let places: Result<Vec<SocketAddr>, _> = sockets.iter().map(UdpSocket::local_addr).collect();
        let places = places.map_err(Error::Place)?;
        let over = if streams.is_some() { "UDP and TLS" } else { "UDP" };
        let told = places.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        info!("authority started: answers VERIFY for {} on {over} {told}", authority.domains().join(", "));
        let of = |octets: u64| octets.div_ceil(1024 * 1024);
        info!(
            "keys of addresses that are asked about stay in memory: at most {} MiB, and {} MiB for addresses without a key",
            of(limits.authority.asked_octets),
            of(limits.authority.asked_unknown_octets)
        );
        let doors = streams.iter().flat_map(|streams| streams.pulses());
        let pulses = authority.pulses().into_iter().chain(doors).collect();
        // There are no messages here that could be overdue.
        let health = Health::new(pulses, || false);
        let (stop, ended) = (CancellationToken::new(), CancellationToken::new());
        #[cfg(feature = "metrics")]
        let telling = telling.serve(OfAuthority::new(&authority, &health, &limits), &limits, &stop);
        let serving = {
            let (authority, stop, ended) = (authority.clone(), stop.clone(), ended.clone().drop_guard());
            tokio::spawn(async move {
                let _ended = ended;
                let posting = async {
                    match &poster {
                        Some(poster) => poster.run(stop.clone()).await,
                        None => info!("authority.deliver = \"nobody\": no keys are made in time, and none are posted"),
                    }
                };
                tokio::join!(authority.serve(sockets, stop.clone()), posting);
            })
        };
        let streaming =
            streams.clone().map(|streams| tokio::spawn(authority.clone().serve_streams(streams, stop.clone())));
        let stop = stop.drop_guard();
        Ok(Running {
            authority,
            streams,
            health,
            places,
            #[cfg(feature = "metrics")]
            telling,
            stop,
            serving,
            streaming,
            ended,
        })
    }

    /// The places where it answers over UDP, and over TLS on TCP where that is on, with the ports that the system chose.
    pub fn listening(&self) -> &[SocketAddr] {
        &self.places
    }

    /// The places where figures are to be had, with the ports that the system chose.
    #[cfg(feature = "metrics")]
    pub fn telling(&self) -> &[crate::config::Listen] {
        self.telling.places()
    }

    /// Whether it answers, for a watchdog.
    pub fn health(&self) -> Arc<Health> {
        Arc::clone(&self.health)
    }

    /// Reads the certificate again. Where it cannot be used, the old one stays in use. It may be dropped.
    pub async fn renew(&self) {
        if let Some(streams) = self.streams.clone() {
            // A panic in there leaves the old certificate in use.
            let _ = daemon::apart(async move { streams.renew() }).await;
        }
    }

    /// Waits until it has ended by itself, which it does by a panic alone.
    pub async fn ended(&mut self) {
        self.ended.cancelled().await;
    }

    /// Ends it: it answers the questions at hand, writes its counts down, and closes what is open.
    ///
    /// # Errors
    /// A part of it panicked.
    pub async fn stop(self) -> Result<(), Error> {
        self.health.stops_taking();
        drop(self.stop);
        self.serving.await?;
        if let Some(streaming) = self.streaming {
            streaming.await?;
        }
        self.authority.close().await;
        Ok(())
    }
}
