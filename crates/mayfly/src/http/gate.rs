//! What every request passes: host, key, rate; and what every answer passes: error shape, panic.

use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{AUTHORIZATION, HOST, HeaderMap, ORIGIN};
use axum::http::{Method, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use mayfly_core::Kind;
use mayfly_core::access::Caller;
use mayfly_engine::{Access, Refusal};

use super::app::{App, Who};
use super::audit_line::{Line, Made};
use super::cors;
use super::counters::Class;
use super::fault::{Answer, Fault};
use super::leftover::Leftover;
use super::pass::{self, Pass};
use super::shape;

/// Header in which whoever needs no key names the organization to act in.
const ORGANIZATION: &str = "x-daytona-organization-id";

/// Where a connection comes from; set by the listener.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Peer {
    /// Over TCP.
    Remote(SocketAddr),
    /// Over the unix socket, from the server's own user or root, as the kernel says.
    Vouched,
}

impl Peer {
    /// Whether the other end is this host.
    pub(crate) fn is_local(self) -> bool {
        match self {
            Self::Remote(address) => address.ip().is_loopback(),
            Self::Vouched => true,
        }
    }
}

/// A caller whom this server has admitted before the request came here; only its own code can say so.
#[derive(Clone, Debug)]
pub(crate) struct Admitted(pub(crate) Who);

/// The one layer around all handlers.
pub(crate) async fn pass(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let began = std::time::Instant::now();
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let foreign = cors::foreign(&app, request.headers());
    if let Some(answer) = cors::preflight(foreign.as_ref(), &request) {
        return answer;
    }
    let route = request.extensions().get::<MatchedPath>().cloned();
    let from = origin(&request);
    let mut line = Line::new(&app, &method, uri.path(), route.as_ref(), &from);
    let mut who = None;
    let leftover = Leftover::of(&mut request);
    let run = async {
        match admit(&app, &mut request, &from).await {
            Ok(admitted) => {
                line.caller(admitted.as_ref());
                who = admitted;
                next.run(request).await
            }
            Err(fault) => fault.into_response(),
        }
    };
    let response = AssertUnwindSafe(run).catch_unwind().await.unwrap_or_else(|_| {
        Fault::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the server made a mistake on this request; its log has the details",
        )
        .into_response()
    });
    let made = response.extensions().get::<Made>().cloned();
    line.answered(response.status(), made).await;
    let mut response = if response.status().as_u16() >= 400 {
        if let Some(leftover) = leftover {
            leftover.take().await;
        }
        if response.status() == StatusCode::UNAUTHORIZED {
            // Only counted: the answer is a refusal already.
            let _ = app.strangers.take(&from, app.clock.now().mono);
        }
        if let Some(rule) = rule(response.status()) {
            app.counters.refused(rule);
            let route = route.as_ref().map_or("an unknown path", MatchedPath::as_str);
            let refusal = Refusal {
                organization: who.map(|Who(caller)| caller.organization),
                sandbox: None,
                rule,
                target: format!("{method} {route} from {from}"),
            };
            app.engine.refused(refusal, named(uri.path()));
        }
        shaped(&app, response, &method, &uri)
    } else {
        response
    };
    let class = Class::of(&method, route.as_ref().map(MatchedPath::as_str));
    app.counters.answered(class, response.status(), began.elapsed());
    cors::allow(&app, foreign, &mut response);
    response
}

fn shaped(app: &App, mut response: Response, method: &Method, uri: &Uri) -> Response {
    let fault = response.extensions_mut().remove::<Arc<Fault>>().unwrap_or_else(|| {
        let status = response.status();
        let reason = status.canonical_reason().unwrap_or("error").to_ascii_lowercase();
        Arc::new(Fault::new(
            status,
            format!("the request is not what this endpoint takes: {reason}"),
        ))
    });
    if matches!(fault.status.as_u16(), 500 | 502) {
        let cause = fault.cause.as_deref().map(|error| error as &dyn std::error::Error);
        tracing::error!(%method, path = uri.path(), error = cause, "{}", fault.message);
    }
    let mut answer = shape::answer(&fault, method, uri.path(), app.now());
    for (name, value) in response.headers() {
        if name != axum::http::header::CONTENT_LENGTH && !answer.headers().contains_key(name) {
            answer.headers_mut().insert(name, value.clone());
        }
    }
    answer
}

/// The rule that a refusal is audited under; `None` = no refusal, but a mistake or a missing thing.
pub(super) fn rule(status: StatusCode) -> Option<&'static str> {
    match status.as_u16() {
        401 => Some("authentication"),
        403 => Some("permission"),
        409 => Some("state"),
        429 => Some("limit"),
        503 => Some("room"),
        _ => None,
    }
}

/// The sandbox that a path is about, as the caller names it.
pub(super) fn named(path: &str) -> Option<&str> {
    let rest = path.strip_prefix("/api/sandbox/").or_else(|| path.strip_prefix("/toolbox/"))?;
    rest.split('/').next()
}

/// Where a request comes from, as far as limits tell callers without a key apart.
pub(super) fn origin(request: &Request) -> String {
    address(request.extensions().get::<Peer>().copied())
}

/// The same of a peer.
pub(super) fn address(peer: Option<Peer>) -> String {
    match peer {
        Some(Peer::Remote(address)) => address.ip().to_string(),
        Some(Peer::Vouched) => "the unix socket".to_owned(),
        None => "nowhere".to_owned(),
    }
}

pub(super) fn too_many(message: &'static str) -> impl FnOnce(u64) -> Fault {
    move |seconds| {
        let mut fault = Fault::new(StatusCode::TOO_MANY_REQUESTS, message);
        fault.retry_after = Some(seconds);
        fault
    }
}

/// Finds out who calls and refuses who may not; `None` = nobody in particular, where that is allowed.
async fn admit(app: &App, request: &mut Request, from: &str) -> Answer<Option<Who>> {
    let now = app.clock.now().mono;
    app.counters.arrived(now);
    let headers = request.headers();
    if let Some(Admitted(who)) = request.extensions().get::<Admitted>().cloned() {
        request.extensions_mut().insert(who.clone());
        return Ok(Some(who));
    }
    check_host(app, headers)?;
    let path = request.uri().path();
    let peer = request.extensions().get::<Peer>().copied();
    let access = app.engine.access();
    let stranger = too_many("too many attempts without a valid API key come from this address");
    let busy = "this caller sends more requests per second than the server allows";
    let (caller, pass) = match bearer(headers) {
        Ok(Some(key)) => {
            // Guesses are not even looked up once an address made too many.
            if !access.knows(key) {
                app.strangers.check(from, now).map_err(stranger)?;
            }
            let key = key.to_owned();
            let caller = match access.authenticate(&key).await {
                // What needs no key does not judge one either.
                Err(error) if is_open(path) && error.kind() == Kind::Unauthenticated => {
                    app.rate.take(from, now).map_err(too_many(busy))?;
                    return Ok(None);
                }
                caller => caller?,
            };
            app.rate.take(&key, now).map_err(too_many(busy))?;
            (caller, Pass::Key(key.into()))
        }
        Ok(None) if matches!(peer, Some(Peer::Vouched)) || !app.options.dev_hosts.is_empty() => {
            app.rate.take(from, now).map_err(too_many(busy))?;
            (operator(access, headers)?, Pass::Way)
        }
        Ok(None) | Err(_) if is_open(path) => {
            app.rate.take(from, now).map_err(too_many(busy))?;
            return Ok(None);
        }
        other => {
            app.strangers.check(from, now).map_err(stranger)?;
            let carries =
                is_signed(request.method(), request.uri()) || pass::may_carry_token(request);
            if other?.is_none() && carries {
                app.rate.take(from, now).map_err(too_many(busy))?;
                return Ok(None);
            }
            return Err(Fault::unauthenticated(
                "an API key is needed: send `Authorization: Bearer <key>`",
            ));
        }
    };
    let who = Who(Arc::new(caller));
    request.extensions_mut().insert(who.clone());
    request.extensions_mut().insert(pass);
    Ok(Some(who))
}

/// Whoever the operating system vouches for, in the organization that the request names, else the server's own.
/// A key decides the organization by itself.
fn operator(access: Access<'_>, headers: &HeaderMap) -> Answer<Caller> {
    let Some(named) = headers.get(ORGANIZATION) else { return Ok(access.administrator()) };
    let named = named.to_str().map_err(|_| {
        Fault::bad_request(format!("{ORGANIZATION}: expected the id or name of an organization"))
    })?;
    Ok(access.administrator_of(named)?)
}

/// Endpoints that answer without a key, or ask for it themselves.
fn is_open(path: &str) -> bool {
    matches!(
        path,
        "/" | "/health"
            | "/health/ready"
            | "/api/health"
            | "/api/health/ready"
            | "/api/config"
            | "/api/openapi.json"
            | "/metrics"
            | "/api/socket.io"
            | "/api/socket.io/"
    )
}

/// File transfers may carry a signature instead of a key; their handlers check it. Other methods than the
/// two that can be signed are refused with the key that is missing.
fn is_signed(method: &Method, uri: &Uri) -> bool {
    let path = uri.path();
    let transfer = (method == Method::GET && path.ends_with("/files/download"))
        || (method == Method::POST && path.ends_with("/files/upload-v2"));
    transfer
        && path.starts_with("/toolbox/")
        && uri.query().is_some_and(|query| query.contains("signature="))
}

fn bearer(headers: &HeaderMap) -> Answer<Option<&str>> {
    let Some(value) = headers.get(AUTHORIZATION) else { return Ok(None) };
    let key = value.to_str().ok().and_then(|value| {
        let (scheme, key) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| key.trim()).filter(|key| !key.is_empty())
    });
    key.map(Some)
        .ok_or_else(|| Fault::unauthenticated("the Authorization header must read `Bearer <key>`"))
}

/// Keyless mode answers only to its own name, so that no web page can reach it through a browser.
fn check_host(app: &App, headers: &HeaderMap) -> Answer<()> {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    if app.options.dev_hosts.is_empty() {
        return Ok(());
    }
    let own = |name: &str| app.options.dev_hosts.iter().any(|own| own.eq_ignore_ascii_case(name));
    let origin_is_own = headers.get(ORIGIN).is_none_or(|origin| {
        origin.to_str().ok().and_then(|origin| origin.strip_prefix("http://")).is_some_and(own)
    });
    if own(host) && origin_is_own {
        return Ok(());
    }
    Err(Fault::new(
        StatusCode::FORBIDDEN,
        format!(
            "a server started with --dev answers only to its own Host and Origin: use http://{}",
            app.options.dev_hosts.first().map_or("127.0.0.1", String::as_str)
        ),
    ))
}
