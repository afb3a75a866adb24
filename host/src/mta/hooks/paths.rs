//! The paths: which dialect is spoken where, and what is said of any other.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_ENCODING;
use axum::response::Response;
use axum::routing::{get, post};
use futures_util::FutureExt as _;
use tokio::time::Instant;

use super::octets::{self, Bounds, Received};
use super::{Door, Fault, draft01, stalwart};
use crate::config::Dialect;
use crate::mta::reception::Seat;
use crate::mta::{Judge, Refused};

/// The path of Stalwart's dialect.
const STALWART: &str = "/stalwart";

/// The paths of the dialects that this door speaks.
pub(super) fn router<J: Judge>(door: &Arc<Door<J>>) -> Router {
    let mut router = Router::new().route("/", get(about));
    if door.setting.dialects.contains(&Dialect::Stalwart) {
        router = router.route(STALWART, post(ask_stalwart::<J>));
    }
    if door.setting.dialects.contains(&Dialect::Draft01) {
        let one = get(draft01::status::<J>).delete(draft01::deregister::<J>);
        router = router
            .route(draft01::DISCOVERY, get(draft01::discover::<J>))
            .route(draft01::REGISTRATION, post(draft01::register::<J>))
            .route(draft01::ONE_REGISTRATION, one)
            .route(draft01::HOOK, post(draft01::hook::<J>));
    }
    router.fallback(nowhere).method_not_allowed_fallback(not_so).with_state(Arc::clone(door))
}

async fn about() -> Response {
    octets::words(StatusCode::OK, "This is addrauth. Mail servers ask it here by MTA Hooks.")
}

async fn nowhere() -> Response {
    octets::words(StatusCode::NOT_FOUND, "Nobody asks here: see hooks.dialects of addrauth")
}

async fn not_so() -> Response {
    octets::words(StatusCode::METHOD_NOT_ALLOWED, "This path is for another method")
}

/// Stalwart does not tell an error apart: it refuses for now, or goes on without its filter. So each answer is 200, and what goes
/// wrong is a refusal for now inside.
async fn ask_stalwart<J: Judge>(State(door): State<Arc<Door<J>>>, request: Request) -> Response {
    let due = door.due();
    let answered = async {
        let (received, seat) = received(&door, request, due).await?;
        stalwart::answer(&door, &seat, received, due).await
    };
    let answered = AssertUnwindSafe(answered).catch_unwind().await.unwrap_or(Err(Fault::Panicked));
    let octets = answered.unwrap_or_else(|fault| {
        door.tell(&fault);
        stalwart::refusal(fault.reply())
    });
    octets::answer(StatusCode::OK, "application/json", octets)
}

/// A request that may be asked, whole, and the seat of its connection.
async fn received<J: Judge>(
    door: &Door<J>,
    mut request: Request,
    due: Instant,
) -> Result<(Received, Arc<Seat>), Fault> {
    let seat = request.extensions_mut().remove::<Arc<Seat>>().ok_or(Refused::Full("connections"))?;
    let (head, body) = request.into_parts();
    let limits = door.reception.limits();
    let may = door.setting.access.of(&head.headers).is_some();
    // It is read to its end even so, since many a mail server reads no answer before.
    let octets = if may { limits.hooks.request } else { 0 };
    let received = Received::of(body, &Bounds { room: &door.room, octets, due }).await;
    if !may {
        return Err(Fault::Denied);
    }
    if head.headers.get(CONTENT_ENCODING).is_some_and(|coding| coding != "identity") {
        return Err(Fault::Malformed("its content is encoded".into()));
    }
    Ok((received?, seat))
}
