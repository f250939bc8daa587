//! Listeners: TCP and the unix socket, with bounds on connections, headers and silence.
//!
//! What is no HTTP at all, or has headers over the bound, is answered by hyper itself with 400, 414 or 431 and no body: it
//! offers no hook for these answers, and there is no path yet that could decide their shape.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tower::Service;

use super::again::Again;
use super::gate::Peer;

/// Bounds of a listener.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Connections at once; more wait in the kernel's queue.
    pub(crate) connections: usize,
    /// Longest time until a request's headers are complete; also ends connections that idle.
    pub(crate) header_timeout: Duration,
    /// Most bytes of a request's line and headers.
    pub(crate) header_bytes: usize,
    /// How long requests under way may take once the server stops.
    pub(crate) drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 4096,
            header_timeout: Duration::from_secs(30),
            header_bytes: 64 << 10,
            drain: Duration::from_secs(10),
        }
    }
}

/// Serves TCP connections until `stop` turns true, then drains.
pub(crate) async fn serve_tcp(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    stop: watch::Receiver<bool>,
) {
    let accept = async || {
        let (stream, address) = listener.accept().await?;
        // Answers are small and written whole; waiting for more would only delay them.
        stream.set_nodelay(true)?;
        Ok((stream, Some(Peer::Remote(address))))
    };
    serve(accept, router, limits, stop).await;
}

/// Serves the unix socket until `stop` turns true; only the server's own user and root are let in.
pub(crate) async fn serve_unix(
    listener: UnixListener,
    router: Router,
    limits: Limits,
    stop: watch::Receiver<bool>,
) {
    let own = rustix::process::geteuid().as_raw();
    let accept = async || {
        let (stream, _) = listener.accept().await?;
        let peer = stream.peer_cred()?.uid();
        Ok((stream, (peer == own || peer == 0).then_some(Peer::Vouched)))
    };
    serve(accept, router, limits, stop).await;
}

async fn serve<I, F>(
    accept: impl Fn() -> F,
    router: Router,
    limits: Limits,
    mut stop: watch::Receiver<bool>,
) where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Future<Output = std::io::Result<(I, Option<Peer>)>>,
{
    let slots = Arc::new(Semaphore::new(limits.connections));
    let mut connections = JoinSet::new();
    loop {
        let slot = tokio::select! {
            slot = Arc::clone(&slots).acquire_owned() => {
                slot.expect("nobody closes the semaphore of the listener")
            }
            () = told(&mut stop) => break,
        };
        let accepted = tokio::select! {
            accepted = accept() => accepted,
            () = told(&mut stop) => break,
        };
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok((stream, Some(peer))) => {
                let connection = connection(stream, peer, router.clone(), limits, stop.clone());
                connections.spawn(Again::new(async move {
                    connection.await;
                    drop(slot);
                }));
            }
            Ok((_, None)) => {
                tracing::warn!("a connection of another user was refused on the unix socket");
            }
            Err(error) => {
                // Mostly no descriptors left; trying again at once would spin.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(limits.drain, drained).await.is_err() {
        tracing::warn!("requests were still under way after the drain time and were cut off");
    }
}

/// Waits until the server is to stop.
async fn told(stop: &mut watch::Receiver<bool>) {
    // An error means that whoever could tell is gone, which is the same.
    let _ = stop.wait_for(|stop| *stop).await;
}

async fn connection<I>(
    stream: I,
    peer: Peer,
    router: Router,
    limits: Limits,
    mut stop: watch::Receiver<bool>,
) where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(peer);
        let mut router = router.clone();
        async move {
            Ok::<Response, Infallible>(
                router.call(request).await.unwrap_or_else(|never| match never {}),
            )
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_buf_size(limits.header_bytes.max(8 << 10))
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = told(&mut stop) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        // Clients leave when they like; that is no fault of the server.
        tracing::debug!(%error, "a connection ended early");
    }
}
