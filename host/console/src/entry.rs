//! The one way to every page: who asks, whether he may, whether the form is ours; then the page, in time.

use std::net::{IpAddr, Ipv6Addr};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use addrauth::proto::address::Address;
use addrauth::store::{Role, Session};
use axum::Router;
use axum::body::Body;
use axum::extract::{FromRequestParts as _, RawPathParams};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Request, Response, StatusCode, header};
use axum::routing::{MethodFilter, on};
use futures_util::FutureExt as _;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use crate::answer::{self, Answer, cookie_name};
use crate::desk::{Current, Desk};
use crate::door::Peer;
use crate::fault::Fault;
use crate::form::Form;
use crate::pages;
use crate::secret::Secret;
use crate::table::{Page, Row, TABLE, Way};
use crate::visit::{TOKEN, Visit};
use crate::who::Who;

/// All pages of the table.
pub(crate) fn router(desk: &Arc<Desk>) -> Router {
    let mut router = Router::new();
    for row in TABLE {
        let desk = Arc::clone(desk);
        let method = match row.way {
            Way::Get => MethodFilter::GET,
            Way::Post => MethodFilter::POST,
        };
        let enter = move |request: Request<Body>| {
            let desk = Arc::clone(&desk);
            async move { answered(desk, row, request).await }
        };
        router = router.route(row.path, on(method, enter));
    }
    let lost = Arc::clone(desk);
    router.fallback(move |request: Request<Body>| {
        let desk = Arc::clone(&lost);
        async move {
            let secure = is_secure(&desk.current());
            let secret = held(request.headers(), secure).unwrap_or_else(Secret::fresh);
            let page = pages::fault(None, &secret, &Fault::NotFound);
            answer::sent(Answer::Page(StatusCode::NOT_FOUND, page), None, secure)
        }
    })
}

fn is_secure(current: &Current) -> bool {
    let console = &current.config.console;
    // Behind a proxy that says nothing else, browsers speak TLS.
    console.url.starts_with("https://") || console.url.is_empty() && !console.trusted_proxy.is_empty()
}

/// What the browser holds.
fn held(headers: &HeaderMap, secure: bool) -> Option<Secret> {
    let name = cookie_name(secure);
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = cookies.flat_map(|cookies| cookies.split(';')).filter_map(|pair| pair.trim().split_once('='));
    Secret::shown(pairs.find(|(known, _)| *known == name)?.1)
}

async fn answered(desk: Arc<Desk>, row: &'static Row, request: Request<Body>) -> Response<Body> {
    let secure = is_secure(&desk.current());
    let shown = held(request.headers(), secure);
    let is_fresh = shown.is_none();
    let secret = shown.unwrap_or_else(Secret::fresh);
    let (parts, body) = request.into_parts();
    let place = parts.uri.path_and_query().map_or("/", |place| place.as_str()).to_owned();
    let is_from_elsewhere = parts.headers.get("sec-fetch-site").is_some_and(|site| site == "cross-site");
    if row.way == Way::Get && is_fresh && is_from_elsewhere {
        // A link in a mail or on another site: the browser keeps its cookie back, and a new one would take its place.
        return answer::sent(Answer::Page(StatusCode::OK, pages::again(&place)), None, secure);
    }
    let work = AssertUnwindSafe(admitted(Arc::clone(&desk), row, (parts, body), secret.clone())).catch_unwind();
    // What was begun by a form comes to its end, its record too, though the browser goes away.
    let answering = async move {
        match row.way {
            Way::Get => work.await.ok(),
            Way::Post => tokio::spawn(work).await.ok().and_then(Result::ok),
        }
    };
    let limit = desk.limits.console.request.saturating_mul(2);
    let (who, answered) = match timeout(limit, answering).await {
        Ok(Some(done)) => done,
        Ok(None) => (None, Err(Fault::Trouble(format!("{:?} panicked", row.page)))),
        Err(_) => (None, Err(Fault::Late)),
    };
    let answer = answered.unwrap_or_else(|fault| {
        fault.log();
        if matches!(fault, Fault::SignIn) && row.way == Way::Get {
            let next = crate::form::query(&[("next", &place)]);
            return Answer::To(format!("/login?{next}"));
        }
        let status = StatusCode::from_u16(fault.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Answer::Page(status, pages::fault(who.as_ref(), &secret, &fault))
    });
    // A form of another site comes without the cookie: it must not get another one in its place.
    let fresh = is_fresh && row.way == Way::Get;
    answer::sent(answer, fresh.then_some(&secret), secure)
}

/// Who asks, and what he is answered.
async fn admitted(
    desk: Arc<Desk>,
    row: &'static Row,
    (mut parts, body): (Parts, Body),
    secret: Secret,
) -> (Option<Who>, Result<Answer, Fault>) {
    let current = desk.current();
    let peer = parts.extensions.get::<Peer>().copied();
    let is_proxy = peer.is_some_and(|peer| peer.is_proxy);
    let source = source(peer, &parts.headers);
    let header = parts.headers.get(current.config.console.user_header.as_str());
    let by_proxy = is_proxy && header.is_some_and(|name| !name.is_empty());
    let who = match who(&desk, &current, is_proxy, &parts.headers, &secret).await {
        Ok(who) => who,
        Err(fault) => return (None, Err(fault)),
    };
    if !row.may.includes(who.as_ref().map(|who| who.role)) {
        let fault = if who.is_some() { Fault::Denied } else { Fault::SignIn };
        return (who, Err(fault));
    }
    let path = RawPathParams::from_request_parts(&mut parts, &()).await;
    let path = path.map(|params| params.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect());
    let form = match row.way {
        Way::Get => Ok((Form::default(), None)),
        Way::Post => form(&desk, row, &parts.headers, body, &secret).await,
    };
    let (Ok(parts_of_path), Some(query)) = (path, Form::read(parts.uri.query().unwrap_or_default().as_bytes())) else {
        return (who, Err(Fault::NotFound));
    };
    // The room of an upload is given back with its answer.
    let (form, _room) = match form {
        Ok(form) => form,
        Err(fault) => return (who, Err(fault)),
    };
    let place = parts.uri.path_and_query().map_or("/", |place| place.as_str()).to_owned();
    let visit =
        Visit { desk, current, who: who.clone(), source, secret, by_proxy, parts: parts_of_path, query, form, place };
    (who, pages::of(row.page, &visit).await)
}

/// From where: the client of the proxy that is believed, the address of a connection, or `local`.
fn source(peer: Option<Peer>, headers: &HeaderMap) -> String {
    match peer {
        Some(Peer { is_proxy: true, .. }) => {
            let last = headers.get_all("x-forwarded-for").iter().next_back().and_then(|value| value.to_str().ok());
            let last = last.and_then(|list| list.rsplit(',').next()).map(str::trim);
            let address = last.and_then(|text| text.parse::<IpAddr>().ok());
            address.map_or_else(|| "proxy".into(), network)
        }
        Some(Peer { address: Some(address), .. }) => network(address),
        _ => "local".into(),
    }
}

/// An address; of IPv6 the network of 64 bits that one client has at least.
fn network(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => {
            let network = Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX));
            format!("{network}/64")
        }
    }
}

/// Who asks: whom the proxy names, or who holds the session.
async fn who(
    desk: &Desk,
    current: &Current,
    is_proxy: bool,
    headers: &HeaderMap,
    secret: &Secret,
) -> Result<Option<Who>, Fault> {
    if is_proxy {
        let mut named = headers.get_all(current.config.console.user_header.as_str()).iter();
        return match (named.next(), named.next()) {
            (Some(name), None) if name.is_empty() => in_session(desk, secret).await,
            (Some(name), None) => named_by_proxy(desk, current, name.to_str().unwrap_or_default().trim()).await,
            // Two of them: the proxy did not take the client's own away.
            (Some(_), Some(_)) => Err(Fault::Denied),
            (None, _) => in_session(desk, secret).await,
        };
    }
    in_session(desk, secret).await
}

/// Who holds the session of this cookie.
async fn in_session(desk: &Desk, secret: &Secret) -> Result<Option<Who>, Fault> {
    let bounds = &desk.limits.console;
    let spans: (Duration, Duration) = (bounds.session_idle, bounds.session);
    Ok(desk.register.session(secret.hash(), spans, SystemTime::now()).await?.and_then(Who::of))
}

async fn named_by_proxy(desk: &Desk, current: &Current, name: &str) -> Result<Option<Who>, Fault> {
    if let Some(account) = desk.register.account(name).await? {
        return Ok(Who::of(Session { who: account.name, role: account.role, scope: account.scope }));
    }
    let address = Address::parse(name.as_bytes(), true).ok();
    let own = address.filter(|address| current.config.final_domains.contains(address.domain()));
    let session = own.map(|address| {
        let mailbox = String::from(address.mailbox());
        Session { who: mailbox.clone(), role: Role::User, scope: vec![mailbox] }
    });
    Ok(session.and_then(Who::of))
}

/// The form of a request, whole and ours, and the room that it takes where it may be large.
async fn form(
    desk: &Desk,
    row: &Row,
    headers: &HeaderMap,
    body: Body,
    secret: &Secret,
) -> Result<(Form, Option<OwnedSemaphorePermit>), Fault> {
    let word = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if word("sec-fetch-site").is_some_and(|site| !matches!(site, "same-origin" | "none")) {
        return Err(Fault::Form);
    }
    let bounds = &desk.limits.console;
    let parts = word("content-type").filter(|kind| kind.starts_with("multipart/form-data"));
    // Who is not signed in takes no room that others need.
    let (most, room) = if matches!(row.page, Page::TryMessage | Page::CandidatePut) {
        let room = timeout(bounds.request, Arc::clone(&desk.uploads).acquire_owned()).await;
        // In a text each octet may be written as three; a file comes as it is.
        let most =
            if parts.is_some() { bounds.upload.saturating_add(bounds.form) } else { bounds.upload.saturating_mul(3) };
        (most, room.map_err(|_| Fault::TooMany)?.ok())
    } else {
        (bounds.form, None)
    };
    let read = match timeout(bounds.request, Limited::new(body, most).collect()).await {
        Err(_) => return Err(Fault::Late),
        Ok(Err(fault)) if fault.is::<LengthLimitError>() => return Err(Fault::TooLarge),
        Ok(Err(_)) => return Err(Fault::Form),
        Ok(Ok(read)) => read.to_bytes(),
    };
    let form = match parts.filter(|_| room.is_some()) {
        Some(kind) => Form::read_parts(read, kind).await,
        None => Form::read(&read),
    };
    let form = form.ok_or(Fault::Form)?;
    if secret.is_form_token(form.raw(TOKEN)) { Ok((form, room)) } else { Err(Fault::Form) }
}
