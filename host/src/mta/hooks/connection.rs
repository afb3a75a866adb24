//! One connection: TLS where it is set, and HTTP/1.1 until one side closes or the program stops.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use super::Door;
use super::patient::Patient;
use crate::mta::Judge;
use crate::mta::listen::Socket;
use crate::mta::reception::Seat;

/// How long a mail server may take to read the last answers once the program stops.
const FAREWELL: Duration = Duration::from_secs(5);
/// Octets that are read ahead of one request; its head fits into that.
const HEAD: usize = 64 * 1024;

/// Serves a connection to its end; from a standing place every message gets 451.
pub(super) async fn run<J: Judge>(socket: Socket, paths: Router, door: Arc<Door<J>>, seat: Seat) {
    let limits = Arc::clone(door.reception.limits());
    match &door.setting.tls {
        None => converse(socket, paths, &door, seat).await,
        Some(tls) => match timeout(limits.mta.greeting, tls.accept(socket)).await {
            Ok(Ok(stream)) => converse(stream, paths, &door, seat).await,
            Ok(Err(refused)) => tracing::debug!("a connection of hooks is closed: {refused}"),
            Err(_) => tracing::debug!("a connection of hooks is closed: no TLS handshake in {:?}", limits.mta.greeting),
        },
    }
}

/// Serves a connection in plain HTTP to its end.
pub(super) async fn converse<J: Judge>(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    paths: Router,
    door: &Arc<Door<J>>,
    seat: Seat,
) {
    let seat = Arc::new(seat);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(Arc::clone(&seat));
        // A router is always ready.
        TowerToHyperService::new(paths.clone()).call(request.map(Body::new))
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(door.reception.limits().hooks.idle)
        .max_buf_size(HEAD)
        .serve_connection(TokioIo::new(Patient::new(stream, door.reception.limits().mta.write)), service);
    tokio::pin!(serving);
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        () = door.reception.closing().cancelled() => {
            serving.as_mut().graceful_shutdown();
            tokio::select! {
                ended = serving.as_mut() => ended,
                // What is in flight is refused now; the answer still has to be read.
                () = async { door.reception.closed().cancelled().await; tokio::time::sleep(FAREWELL).await } => Ok(()),
            }
        }
    };
    if let Err(fault) = ended {
        tracing::debug!("a connection of hooks ended: {fault}");
    }
}
