//! A preview's request on its way inside, and the answer on its way out.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, Method, StatusCode, Uri, Version};
use axum::response::Response;
use bytes::Bytes;
use hyper::body::{Body as _, Frame, Incoming, SizeHint};
use hyper::client::conn::http1::SendRequest;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use mayfly_core::id::SandboxId;
use mayfly_core::{Error, Kind};
use mayfly_engine::{Busy, Reach};

use super::headers::{self, Names};
use super::pool::{self, Guest};
use crate::http::app::App;
use crate::http::fault::{Answer, Fault, Origin};
use crate::splice::splice;

/// How often a request is tried: kept connections may have been closed by the service inside meanwhile.
const TRIES: u32 = 4;

/// Where a request goes.
#[derive(Debug)]
pub(crate) struct Way<'a> {
    pub(crate) app: &'a App,
    pub(crate) reach: Reach,
    pub(crate) port: u16,
    pub(crate) names: Names,
}

/// Sends a request inside and gives its answer, whose body streams. `uri` is what the service inside shall see.
pub(crate) async fn pass(way: Way<'_>, mut request: Request, uri: Uri) -> Answer<Response> {
    let Way { app, reach, port, names } = way;
    let guest = app.previews.guest(reach.id())?;
    let busy = reach.busy();
    let protocol = headers::upgrade(request.headers());
    let visitor = protocol.is_some().then(|| hyper::upgrade::on(&mut request));
    let (given, body) = request.into_parts();
    let method = given.method;
    let mut inward = headers::inward(&given.headers, &names);
    let is_upgrade = protocol.is_some();
    if let Some(protocol) = protocol {
        headers::set_upgrade(&mut inward, protocol);
    }
    let inside = made(&method, &uri, inward, body);
    let sending = send(app, &reach, port, inside, is_upgrade);
    let (answer, sender) = tokio::time::timeout(app.options.execute_timeout, sending)
        .await
        .map_err(|_| bad_gateway("the service inside did not answer in time"))??;
    let status = answer.status();
    if status == StatusCode::SWITCHING_PROTOCOLS {
        let Some(visitor) = visitor else {
            return Err(bad_gateway(
                "the service inside changed a protocol that nobody asked to change",
            ));
        };
        return switch(reach, (visitor, answer), &names, guest);
    }
    let (answered, body) = answer.into_parts();
    let bodiless = method == Method::HEAD || status == StatusCode::NOT_MODIFIED;
    let (mut parts, ()) = Response::new(()).into_parts();
    parts.status = status;
    parts.headers = headers::outward(&answered.headers, &names, bodiless);
    let line =
        Line { app: app.clone(), key: (reach.id(), port), sender, _guest: guest, _busy: busy };
    Ok(Response::from_parts(parts, Body::new(Held { body, ended: false, line: Some(line) })))
}

fn made(method: &Method, uri: &Uri, headers: HeaderMap, body: Body) -> Request {
    let mut request = Request::new(body);
    *request.method_mut() = method.clone();
    *request.uri_mut() = uri.clone();
    *request.version_mut() = Version::HTTP_11;
    *request.headers_mut() = headers;
    request
}

/// Sends it, on a kept connection where there is one. What a kept connection did not take is sent again.
async fn send(
    app: &App,
    reach: &Reach,
    port: u16,
    request: Request,
    alone: bool,
) -> Answer<(hyper::Response<Incoming>, SendRequest<Body>)> {
    let key = (reach.id(), port);
    let mut request = request;
    for attempt in 1..=TRIES {
        let kept =
            (!alone && attempt < TRIES).then(|| app.previews.take(key, app.clock.now().mono));
        let (mut sender, is_fresh) = match kept.flatten() {
            Some(sender) => (sender, false),
            None => (pool::open(reach, port).await.map_err(unreached)?, true),
        };
        if sender.ready().await.is_err() && !is_fresh {
            continue;
        }
        let again = (!is_fresh).then(|| repeatable(&request)).flatten();
        let failed = match sender.try_send_request(request).await {
            Ok(answer) => return Ok((answer, sender)),
            Err(failed) => failed,
        };
        let mut failed = failed;
        request = match failed.take_message().filter(|_| !is_fresh).or(again) {
            Some(unsent) => unsent,
            None => return Err(broke_off(failed.error())),
        };
    }
    Err(bad_gateway("the service inside closes its connections without an answer"))
}

/// The same request once more, if it has no body and may be made twice.
fn repeatable(request: &Request) -> Option<Request> {
    let safe = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    (safe && request.body().is_end_stream()).then(|| {
        let headers = request.headers().clone();
        made(request.method(), request.uri(), headers, Body::empty())
    })
}

/// Answers that the protocol changes, and passes bytes from then on.
fn switch(
    reach: Reach,
    (visitor, mut answer): (OnUpgrade, hyper::Response<Incoming>),
    names: &Names,
    guest: Guest,
) -> Answer<Response> {
    let protocol = headers::upgrade(answer.headers())
        .ok_or_else(|| bad_gateway("the service inside changed to a protocol without a name"))?;
    let inside = hyper::upgrade::on(&mut answer);
    let (mut parts, ()) = Response::new(()).into_parts();
    parts.status = StatusCode::SWITCHING_PROTOCOLS;
    parts.headers = headers::outward(answer.headers(), names, false);
    headers::set_upgrade(&mut parts.headers, protocol);
    // Ends with either end: the service's with its sandbox, the visitor's with the server.
    tokio::spawn(async move {
        let _guest = guest;
        if let (Ok(visitor), Ok(inside)) = tokio::join!(visitor, inside) {
            let _ = splice(&reach, TokioIo::new(visitor), TokioIo::new(inside)).await;
        }
    });
    Ok(Response::from_parts(parts, Body::empty()))
}

/// A connection in use by one request.
#[derive(Debug)]
struct Line {
    app: App,
    key: (SandboxId, u16),
    sender: SendRequest<Body>,
    _guest: Guest,
    _busy: Busy,
}

/// The body of an answer; gives the connection back once it was read to its end.
#[derive(Debug)]
struct Held {
    body: Incoming,
    ended: bool,
    line: Option<Line>,
}

impl hyper::body::Body for Held {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(None) = polled {
            self.ended = true;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let whole = self.ended || self.body.is_end_stream();
        if let Some(Line { app, key, sender, .. }) = self.line.take().filter(|_| whole) {
            super::keep(&app, key, sender);
        }
    }
}

/// A service that cannot be reached is the way's fault, a sandbox that is not started a state.
pub(crate) fn unreached(error: Error) -> Fault {
    if error.kind() != Kind::Unavailable {
        return error.into();
    }
    let mut fault = Fault::from(error);
    fault.status = StatusCode::BAD_GATEWAY;
    fault.code = "BAD_GATEWAY";
    fault.origin = Origin::Proxy;
    fault.retry_after = None;
    fault
}

fn broke_off(error: &hyper::Error) -> Fault {
    tracing::debug!(%error, "a service inside a sandbox gave no answer");
    bad_gateway("the service inside gave no answer that is HTTP")
}

fn bad_gateway(message: &str) -> Fault {
    let mut fault = Fault::new(StatusCode::BAD_GATEWAY, message);
    fault.origin = Origin::Proxy;
    fault
}
