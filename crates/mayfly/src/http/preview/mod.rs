//! Previews: services inside sandboxes as web pages, by host name and, on a listener of its own, by path.
//!
//! ```text
//! {port}-{sandbox id}.{domain}   private with a token, or public     routed before any path of the API
//! {port}-{signed token}.{domain} one port, for a time
//! 2280-{sandbox id}.{domain}     the sandbox's toolbox, with a token
//! /{sandbox id}/{port}/...       the same as the first, where such names do not resolve
//! ```

mod address;
mod guard;
mod headers;
mod link;
mod links;
mod pool;
mod relay;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{
    ACCEPT, HOST, HeaderMap, HeaderValue, LOCATION, REFERRER_POLICY, SET_COOKIE,
};
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use hyper::client::conn::http1::SendRequest;
use mayfly_core::access::{Caller, Permission};
use mayfly_core::id::SandboxId;
use mayfly_engine::Refusal;
use tower::ServiceExt as _;

use super::app::{App, Who};
use super::counters::Class;
use super::fault::{Answer, Fault, Origin};
use super::gate::{self, Admitted, Peer};
use super::older;
use super::pass::Pass;
use super::shape;
use address::{Address, Named};
use guard::Passed;
use headers::Names;

pub(crate) use address::{port, without_port};
pub(crate) use headers::upgrade;
pub(crate) use links::router as links;
pub(crate) use pool::{Pool, stream};
pub(crate) use relay::unreached;

/// Between two looks for connections that nobody used for long.
const SWEEP: Duration = Duration::from_secs(5);

#[derive(Clone, Debug)]
struct Front {
    app: App,
    /// Everything that is no preview.
    inner: Router,
}

/// Puts previews in front of the API: hosts are looked at before paths.
pub(crate) fn in_front_of(inner: Router, app: App) -> Router {
    Router::new().fallback(by_host).with_state(Front { app, inner })
}

/// The path form alone.
pub(crate) fn paths(app: App) -> Router {
    Router::new().fallback(by_path).with_state(app)
}

async fn by_host(State(front): State<Front>, request: Request) -> Response {
    let Some(domain) = front.app.options.proxy_domain.as_deref() else {
        return pass_on(front.inner, request).await;
    };
    match named_by(&request, domain) {
        None => pass_on(front.inner, request).await,
        Some(address) => {
            let (app, method) = (front.app.clone(), request.method().clone());
            let work = async move {
                let (address, host) = address?;
                visit(&front, address, host, request).await
            };
            answered(&app, &method, work).await
        }
    }
}

async fn by_path(State(app): State<App>, request: Request) -> Response {
    let method = request.method().clone();
    let work = async {
        let (address, length) = address::of_path(request.uri().path())?;
        let host = request.headers().get(HOST).and_then(|host| host.to_str().ok());
        let names = Names {
            outside: host.unwrap_or_default().to_owned(),
            inside: format!("localhost:{}", address.port),
            prefix: request.uri().path()[..length].to_owned(),
            visitor: visitor(&request),
            scheme: scheme(&request),
        };
        if address.port == guard::TOOLBOX {
            return Err(Fault::bad_request(
                "port: the toolbox has no preview by path; it is at /toolbox",
            ));
        }
        enter(&app, &address, names, request).await
    };
    let mut response = answered(&app, &method, work).await;
    // Also what this server itself says there.
    if !response.headers().contains_key(axum::http::header::CONTENT_SECURITY_POLICY) {
        let sandbox = HeaderValue::from_static("sandbox");
        response.headers_mut().insert(axum::http::header::CONTENT_SECURITY_POLICY, sandbox);
    }
    response
}

async fn pass_on(inner: Router, mut request: Request) -> Response {
    older::renew(&mut request);
    inner.oneshot(request).await.unwrap_or_else(|never| match never {})
}

/// The preview that a request's host names, and that host. Every host that it gives counts: where one is a
/// preview's, all must be the same, so that nothing before or behind us can understand another one.
fn named_by(request: &Request, domain: &str) -> Option<Answer<(Address, String)>> {
    let of_uri = request.uri().authority().map(|authority| authority.as_str().as_bytes());
    let mut hosts = request.headers().get_all(HOST).iter().map(HeaderValue::as_bytes).chain(of_uri);
    let text = |host: &[u8]| String::from_utf8_lossy(host).into_owned();
    let first = text(hosts.next()?);
    let others: Vec<String> = hosts.map(text).collect();
    let named =
        std::iter::once(&first).chain(&others).find_map(|host| address::of_host(host, domain))?;
    if others.iter().any(|other| !other.eq_ignore_ascii_case(&first)) {
        return Some(Err(Fault::bad_request("the request names several hosts")));
    }
    Some(named.map(|address| (address, first)))
}

async fn visit(
    front: &Front,
    address: Address,
    host: String,
    request: Request,
) -> Answer<Response> {
    let app = &front.app;
    let names = Names {
        outside: host,
        // Completed once the sandbox is known.
        inside: String::new(),
        prefix: String::new(),
        visitor: visitor(&request),
        scheme: scheme(&request),
    };
    if address.port == guard::TOOLBOX {
        return toolbox(front, &address, request).await;
    }
    enter(app, &address, names, request).await
}

/// Judges a request and sends it inside.
async fn enter(
    app: &App,
    address: &Address,
    mut names: Names,
    request: Request,
) -> Answer<Response> {
    let (passed, request) = judged(app, address, request, !names.prefix.is_empty()).await?;
    if let Some(redirect) = with_cookie(&request, passed, &names) {
        return redirect;
    }
    if request.method() == Method::CONNECT {
        return Err(Fault::new(StatusCode::METHOD_NOT_ALLOWED, "a preview is no proxy"));
    }
    if names.inside.is_empty() {
        names.inside = match &address.named {
            Named::Sandbox(_) => names.outside.clone(),
            Named::Signed(_) => {
                let domain = names.outside.split_once('.').map_or("", |(_, domain)| domain);
                format!("{}-{}.{domain}", address.port, passed.sandbox)
            }
        };
    }
    let uri = inside_uri(request.uri(), names.prefix.len())?;
    let cookie = (passed.by_query && passed.may_set_cookie).then(|| cookie(&request)).flatten();
    let reach = app.engine.enter(passed.sandbox)?;
    let way = relay::Way { app, reach, port: address.port, names };
    let mut response = relay::pass(way, request, uri).await?;
    if let Some(cookie) = cookie {
        response.headers_mut().append(SET_COOKIE, cookie);
    }
    Ok(response)
}

async fn judged(
    app: &App,
    address: &Address,
    request: Request,
    by_path: bool,
) -> Answer<(Passed, Request)> {
    let now = app.clock.now().mono;
    app.counters.arrived(now);
    let from = gate::origin(&request);
    app.rate.take(&from, now).map_err(gate::too_many(
        "this address sends more requests per second than the server allows",
    ))?;
    let (parts, body) = request.into_parts();
    let judged = guard::judge(app, address, &parts, by_path).await;
    if judged.as_ref().is_err_and(|fault| fault.status == StatusCode::UNAUTHORIZED) {
        note(app, address, &from);
        app.strangers.take(&from, now).map_err(gate::too_many(
            "too many attempts without a valid token come from this address",
        ))?;
    }
    Ok((judged?, Request::from_parts(parts, body)))
}

/// Counts a refused visit as one of the sandbox, where the address names one.
fn note(app: &App, address: &Address, from: &str) {
    let Named::Sandbox(sandbox) = &address.named else { return };
    let refusal = Refusal {
        organization: app.engine.owner(*sandbox).ok(),
        sandbox: None,
        rule: "preview",
        target: format!("port {} from {from}", address.port),
    };
    app.engine.refused(refusal, Some(&sandbox.to_string()));
}

/// The sandbox's toolbox, as a caller who may use that one sandbox only.
async fn toolbox(front: &Front, address: &Address, request: Request) -> Answer<Response> {
    let (passed, mut request) = judged(&front.app, address, request, false).await?;
    let organization = front.app.engine.owner(passed.sandbox)?;
    let permissions = [Permission::WriteSandboxes].into();
    let caller = Caller { organization, permissions, key: None, operator: false };
    let rest = inside_uri(request.uri(), 0)?;
    let rest = rest.path_and_query().map_or("/", |rest| rest.as_str());
    let uri = format!("/toolbox/{}{rest}", passed.sandbox);
    *request.uri_mut() = uri.parse().map_err(|_| Fault::bad_request("the path is no path"))?;
    request.headers_mut().remove(axum::http::header::AUTHORIZATION);
    request.extensions_mut().insert(Admitted(Who(Arc::new(caller))));
    request.extensions_mut().insert(Pass::Preview(passed.sandbox));
    request.headers_mut().insert(HOST, HeaderValue::from_static("localhost"));
    Ok(pass_on(front.inner.clone(), request).await)
}

/// A browser that came with a token in the address is sent to the address without it, where the cookie opens; the
/// token then stands in no history and is told to no other site.
fn with_cookie(request: &Request, passed: Passed, names: &Names) -> Option<Answer<Response>> {
    let page = request.headers().get(ACCEPT).and_then(|accept| accept.to_str().ok());
    let is_page =
        request.method() == Method::GET && page.is_some_and(|page| page.contains("text/html"));
    if !(passed.by_query && passed.may_set_cookie && is_page) {
        return None;
    }
    let mut to = request.uri().path().to_owned();
    if let Some(query) = request.uri().query().and_then(headers::without_token) {
        to.push('?');
        to.push_str(&query);
    }
    // A path that begins with two slashes would be taken for a host.
    let to = format!("{}://{}{to}", names.scheme, names.outside);
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::FOUND;
    let headers = response.headers_mut();
    headers.insert(LOCATION, HeaderValue::from_str(&to).ok()?);
    headers.insert(SET_COOKIE, cookie(request)?);
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    Some(Ok(response))
}

/// The token of the query as a cookie of this host alone, out of reach of the page's scripts.
fn cookie(request: &Request) -> Option<HeaderValue> {
    let query = super::input::Params::parse(request.uri().query()?).ok()?;
    let token = query.get(headers::PARAMETER)?;
    let secure = if scheme(request) == "https" { "; Secure" } else { "" };
    let name = headers::COOKIE_NAME;
    HeaderValue::from_str(&format!("{name}={token}; Path=/; HttpOnly; SameSite=Lax{secure}")).ok()
}

/// What the service inside sees of the address: no host, no token, nothing of a prefix.
fn inside_uri(uri: &Uri, prefix: usize) -> Answer<Uri> {
    let path = uri.path().get(prefix..).unwrap_or_default();
    let mut text = if path.is_empty() { "/".to_owned() } else { path.to_owned() };
    if let Some(query) = uri.query() {
        let had = query.split('&').any(headers::is_token_pair);
        let query = if had { headers::without_token(query) } else { Some(query.to_owned()) };
        if let Some(query) = query {
            text.push('?');
            text.push_str(&query);
        }
    }
    text.parse().map_err(|_| Fault::bad_request("the path is no path"))
}

fn visitor(request: &Request) -> String {
    let before = || forwarded(request.headers(), "x-forwarded-for");
    match request.extensions().get::<Peer>() {
        // A proxy on this host knows who came to it; anybody else may claim what he likes.
        Some(peer) if peer.is_local() => match (before(), peer) {
            (Some(before), Peer::Remote(address)) => format!("{before}, {}", address.ip()),
            (Some(before), Peer::Vouched) => before.to_owned(),
            (None, Peer::Remote(address)) => address.ip().to_string(),
            (None, Peer::Vouched) => "127.0.0.1".to_owned(),
        },
        Some(Peer::Remote(address)) => address.ip().to_string(),
        _ => "unknown".to_owned(),
    }
}

fn scheme(request: &Request) -> String {
    let local = request.extensions().get::<Peer>().is_some_and(|peer| peer.is_local());
    let claimed = forwarded(request.headers(), "x-forwarded-proto").filter(|_| local);
    if claimed == Some("https") { "https".to_owned() } else { "http".to_owned() }
}

fn forwarded<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// Gives the answer; a refusal of ours is told apart from the service's own answers by its source.
async fn answered(
    app: &App,
    method: &Method,
    work: impl Future<Output = Answer<Response>>,
) -> Response {
    let began = std::time::Instant::now();
    let response = match work.await {
        Ok(response) => response,
        Err(mut fault) => {
            fault.origin = Origin::Proxy;
            shape::answer(&fault, method, "/", app.now())
        }
    };
    app.counters.answered(Class::Preview, response.status(), began.elapsed());
    response.into_response()
}

/// Keeps a connection for the next request, and sees to it that it is closed when none comes.
fn keep(app: &App, key: (SandboxId, u16), sender: SendRequest<Body>) {
    app.previews.give(key, sender, app.clock.now().mono);
    if app.previews.begin_sweeping() {
        let app = app.clone();
        // Ends when nothing is kept any more.
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(SWEEP).await;
                if !app.previews.sweep(app.clock.now().mono) {
                    return;
                }
            }
        });
    }
}
