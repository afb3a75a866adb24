//! `[metrics]`: `/metrics`, `/healthz` and `/readyz` over HTTP, for this host alone.

use std::sync::Arc;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::watchdog::Health;
use crate::config::{Limits, Listen, Metrics};
use crate::mta::listen::{Error, Listener, Places};

/// What a collector is told that the text is.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const PLAIN: &str = "text/plain; charset=utf-8";

/// What a daemon tells of itself.
pub(super) trait Told: Send + Sync + 'static {
    /// Its figures as text.
    fn figures(&self) -> impl Future<Output = String> + Send;
    /// Why it cannot do its work now, where that is so.
    fn trouble(&self) -> impl Future<Output = Option<String>> + Send;
    /// Whether its loops turn.
    fn health(&self) -> &Health;
}

/// Binds every place of the section; to be called inside the runtime that serves.
///
/// # Errors
/// A place cannot be bound.
pub(super) fn bind(metrics: &Metrics) -> Result<Vec<Listener>, Error> {
    Listener::bind(Places { section: "metrics", listen: &metrics.listen, group: &metrics.group })
}

/// The places, with the ports that the system chose.
pub(super) fn places(listeners: &[Listener]) -> Vec<Listen> {
    listeners.iter().map(Listener::local).collect()
}

/// Serves the pages until `stop`.
pub(super) async fn serve<T: Told>(
    listeners: Vec<Listener>,
    told: Arc<T>,
    limits: Arc<Limits>,
    stop: CancellationToken,
) {
    let seats = Arc::new(Semaphore::new(limits.metrics.connections));
    let accepting = listeners.into_iter().map(|listener| {
        let (told, limits, stop, seats) = (Arc::clone(&told), Arc::clone(&limits), stop.clone(), Arc::clone(&seats));
        async move { stop.run_until_cancelled(accept(&listener, &told, &limits, &seats)).await }
    });
    futures_util::future::join_all(accepting).await;
}

async fn accept<T: Told>(listener: &Listener, told: &Arc<T>, limits: &Arc<Limits>, seats: &Arc<Semaphore>) {
    loop {
        let Ok(socket) = listener.accept().await else {
            // No descriptor is left, for instance: others may give one back.
            tokio::time::sleep(limits.metrics.ready).await;
            continue;
        };
        // Beyond the bound a connection is closed at once.
        let Ok(seat) = Arc::clone(seats).try_acquire_owned() else { continue };
        let (told, limits) = (Arc::clone(told), Arc::clone(limits));
        tokio::spawn(async move {
            let _seat = seat;
            let most = limits.metrics.connection;
            let bounds = Arc::clone(&limits);
            let service = service_fn(move |request| answer(Arc::clone(&told), Arc::clone(&bounds), request));
            let serving = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(limits.metrics.head)
                .serve_connection(TokioIo::new(socket), service);
            // What goes wrong with it is the other side's to notice.
            let _ = timeout(most, serving).await;
        });
    }
}

async fn answer<T: Told>(
    told: Arc<T>,
    limits: Arc<Limits>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, std::convert::Infallible> {
    let patience = limits.metrics.ready;
    let late = || Some(format!("it could not be told within {} s", patience.as_secs()));
    let page = match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/metrics") => match timeout(patience, told.figures()).await {
            Ok(text) => page(StatusCode::OK, OPEN_METRICS, text),
            Err(_) => page(StatusCode::SERVICE_UNAVAILABLE, PLAIN, "the figures could not be read in time\n".into()),
        },
        (&Method::GET | &Method::HEAD, "/healthz") => state(told.health().trouble(patience).await.map(str::to_owned)),
        (&Method::GET | &Method::HEAD, "/readyz") => {
            state(timeout(patience, told.trouble()).await.unwrap_or_else(|_| late()))
        }
        (_, "/metrics" | "/healthz" | "/readyz") => {
            let mut refused = page(StatusCode::METHOD_NOT_ALLOWED, PLAIN, "GET alone\n".into());
            refused.headers_mut().insert(ALLOW, hyper::header::HeaderValue::from_static("GET, HEAD"));
            refused
        }
        _ => page(StatusCode::NOT_FOUND, PLAIN, "/metrics, /healthz or /readyz\n".into()),
    };
    Ok(page)
}

/// 200 `ok`, or 503 with what is wrong.
fn state(trouble: Option<String>) -> Response<Full<Bytes>> {
    match trouble {
        None => page(StatusCode::OK, PLAIN, "ok\n".into()),
        Some(trouble) => page(StatusCode::SERVICE_UNAVAILABLE, PLAIN, format!("{trouble}\n")),
    }
}

fn page(status: StatusCode, kind: &'static str, text: String) -> Response<Full<Bytes>> {
    let mut page = Response::new(Full::new(Bytes::from(text)));
    *page.status_mut() = status;
    page.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(kind));
    page
}
