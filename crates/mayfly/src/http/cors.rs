//! Pages of other origins in a browser: only those that the operator named may read answers.

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD,
    HeaderMap, HeaderValue, ORIGIN, VARY,
};
use axum::http::{Method, StatusCode};
use axum::response::Response;

use super::app::App;

/// Methods that pages may use.
const METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE";
/// Seconds for which a browser may remember an answer to its question.
const REMEMBER: &str = "600";
/// Most headers that one question may name.
const MOST_HEADERS: usize = 32;

/// The origin of a page that the operator named.
pub(super) fn foreign(app: &App, headers: &HeaderMap) -> Option<HeaderValue> {
    let origin = headers.get(ORIGIN)?;
    let named = app.options.cors_origins.iter().any(|named| named.as_bytes() == origin.as_bytes());
    named.then(|| origin.clone())
}

/// The answer to a browser that asks whether a page may send a request.
pub(super) fn preflight(foreign: Option<&HeaderValue>, request: &Request) -> Option<Response> {
    let headers = request.headers();
    let asks =
        *request.method() == Method::OPTIONS && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD);
    let origin = foreign.filter(|_| asks)?;
    let asked = headers.get(ACCESS_CONTROL_REQUEST_HEADERS).and_then(|list| list.to_str().ok());
    let allowed: Vec<String> = asked
        .unwrap_or_default()
        .split(',')
        .map(|name| name.trim().to_ascii_lowercase())
        .filter(|name| may_send(name))
        .take(MOST_HEADERS)
        .collect();
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let answer = response.headers_mut();
    answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    answer.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(METHODS));
    answer.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(REMEMBER));
    answer.insert(VARY, HeaderValue::from_static("origin"));
    if let Ok(allowed) = HeaderValue::from_str(&allowed.join(", ")) {
        answer.insert(ACCESS_CONTROL_ALLOW_HEADERS, allowed);
    }
    Some(response)
}

/// Lets a page of that origin read the answer.
pub(super) fn allow(app: &App, foreign: Option<HeaderValue>, response: &mut Response) {
    if !app.options.cors_origins.is_empty() {
        response.headers_mut().append(VARY, HeaderValue::from_static("origin"));
    }
    if let Some(origin) = foreign {
        response.headers_mut().insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    }
}

/// Headers of the contract; nothing that only this server's own pages would send.
fn may_send(name: &str) -> bool {
    matches!(name, "authorization" | "content-type" | "idempotency-key")
        || name.strip_prefix("x-daytona-").is_some_and(|rest| {
            rest.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        })
}
