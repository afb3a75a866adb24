//! Answers, and the fields that every answer has.

use axum::body::Body;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue, LOCATION, REFERRER_POLICY,
    SET_COOKIE, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::http::{Response, StatusCode};
use maud::Markup;

use crate::secret::Secret;

/// Nothing is fetched from elsewhere, nothing inline runs, no form goes elsewhere, and nobody frames it.
const POLICY: &str =
    "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'";

/// What a page says.
#[derive(Debug)]
pub(crate) enum Answer {
    /// A whole page, with this status.
    Page(StatusCode, Markup),
    /// A part of one, for a script of ours.
    Part(Markup),
    /// A file of ours.
    File(&'static str, &'static [u8]),
    /// To another page.
    To(String),
    /// The same, the browser being given another cookie.
    Enter(Secret, String),
    /// The same, its cookie taken away.
    Leave(String),
}

/// The name of the cookie; one that only this host may set where it is reached by HTTPS.
pub(crate) fn cookie_name(secure: bool) -> &'static str {
    if secure { "__Host-addrauth" } else { "addrauth" }
}

fn cookie(secret: Option<&Secret>, secure: bool) -> String {
    let (value, age) = secret.map_or(("", "; Max-Age=0"), |secret| (secret.expose(), ""));
    let is_secure = if secure { "; Secure" } else { "" };
    format!("{}={value}; Path=/; HttpOnly; SameSite=Strict{age}{is_secure}", cookie_name(secure))
}

/// The answer as it is sent; `fresh` is a cookie for a browser that has none yet.
pub(crate) fn sent(answer: Answer, fresh: Option<&Secret>, secure: bool) -> Response<Body> {
    let mut cookies: Vec<String> = Vec::new();
    let (status, kind, body, to) = match answer {
        Answer::Page(status, page) => {
            cookies.extend(fresh.map(|secret| cookie(Some(secret), secure)));
            (status, "text/html; charset=utf-8", Body::from(page.into_string()), None)
        }
        Answer::Part(part) => (StatusCode::OK, "text/html; charset=utf-8", Body::from(part.into_string()), None),
        Answer::File(kind, octets) => (StatusCode::OK, kind, Body::from(octets), None),
        Answer::To(to) => (StatusCode::SEE_OTHER, "text/plain", Body::empty(), Some(to)),
        Answer::Enter(secret, to) => {
            cookies.push(cookie(Some(&secret), secure));
            (StatusCode::SEE_OTHER, "text/plain", Body::empty(), Some(to))
        }
        Answer::Leave(to) => {
            cookies.push(cookie(None, secure));
            (StatusCode::SEE_OTHER, "text/plain", Body::empty(), Some(to))
        }
    };
    let is_file = !kind.starts_with("text/html") && to.is_none();
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    let fixed: [(HeaderName, &'static str); 7] = [
        (CONTENT_TYPE, kind),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        (REFERRER_POLICY, "same-origin"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (CACHE_CONTROL, if is_file { "max-age=3600" } else { "no-store" }),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if let Some(Ok(to)) = to.map(HeaderValue::try_from) {
        headers.insert(LOCATION, to);
    }
    for cookie in cookies.into_iter().filter_map(|cookie| HeaderValue::try_from(cookie).ok()) {
        headers.append(SET_COOKIE, cookie);
    }
    response
}
