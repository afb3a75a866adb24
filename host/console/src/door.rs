//! Connections: taken within bounds, read in time, and ended in time.

use std::net::IpAddr;
use std::sync::Arc;

use addrauth::mta::listen::{Listener, Socket};
use axum::Router;
use axum::body::Body;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::desk::Desk;

/// Octets that are read ahead of one request; its head fits into that.
const HEAD: usize = 32 * 1024;
/// How long to wait when the system has no more descriptors.
const NO_DESCRIPTORS: std::time::Duration = std::time::Duration::from_millis(200);

/// Whence a connection comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    /// The address, where it came over TCP.
    pub(crate) address: Option<IpAddr>,
    /// Whether it came to a socket of a proxy that is believed.
    pub(crate) is_proxy: bool,
}

/// Takes connections until it is told to stop, and lets those that are under way come to their end.
pub(crate) async fn serve(listeners: Vec<(Listener, bool)>, pages: Router, desk: Arc<Desk>, stop: CancellationToken) {
    let seats = Arc::new(Semaphore::new(desk.limits.console.connections));
    let tasks = TaskTracker::new();
    for (listener, is_proxy) in listeners {
        let (pages, desk, stop, seats, own) =
            (pages.clone(), Arc::clone(&desk), stop.clone(), Arc::clone(&seats), tasks.clone());
        tasks.spawn(async move {
            loop {
                let accepted = tokio::select! {
                    biased;
                    () = stop.cancelled() => return,
                    accepted = listener.accept() => accepted,
                };
                let socket = match accepted {
                    Ok(socket) => socket,
                    Err(fault) => {
                        tracing::warn!("cannot accept a connection on {}: {fault}", listener.local());
                        sleep(NO_DESCRIPTORS).await;
                        continue;
                    }
                };
                let Ok(seat) = Arc::clone(&seats).try_acquire_owned() else {
                    tracing::debug!("too many connections on {}: a new one is closed", listener.local());
                    continue;
                };
                let (pages, desk, stop) = (pages.clone(), Arc::clone(&desk), stop.clone());
                own.spawn(async move {
                    converse(socket, is_proxy, pages, &desk, stop).await;
                    drop(seat);
                });
            }
        });
    }
    tasks.close();
    tasks.wait().await;
}

async fn converse(socket: Socket, is_proxy: bool, pages: Router, desk: &Desk, stop: CancellationToken) {
    let address = match &socket {
        Socket::Tcp(stream) => stream.peer_addr().ok().map(|peer| peer.ip().to_canonical()),
        Socket::Unix(_) => None,
    };
    let peer = Peer { address, is_proxy };
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer);
        // A router is always ready.
        TowerToHyperService::new(pages.clone()).call(request.map(Body::new))
    });
    let bounds = &desk.limits.console;
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(bounds.head)
        .max_buf_size(HEAD)
        .serve_connection(TokioIo::new(socket), service);
    tokio::pin!(serving);
    let ended = timeout(bounds.connection, async {
        tokio::select! {
            ended = serving.as_mut() => ended,
            () = stop.cancelled() => {
                serving.as_mut().graceful_shutdown();
                timeout(bounds.request, serving.as_mut()).await.unwrap_or(Ok(()))
            }
        }
    });
    match ended.await {
        Ok(Err(fault)) => tracing::debug!("a connection ended: {fault}"),
        Ok(Ok(())) => {}
        Err(_) => tracing::debug!("a connection lasted too long, and is closed"),
    }
}
