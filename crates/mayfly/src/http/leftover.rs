//! What is left of the body of a refused request: taken before the answer, so that its connection can be kept.
//!
//! A connection with unread bytes in it is closed after the answer, and a client that keeps its connections may
//! have sent the next request by then.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::extract::Request;
use axum::http::header::EXPECT;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Limited};
use hyper::body::{Frame, SizeHint};

/// Most bytes that are taken.
const MOST: usize = 64 << 10;
/// Longest wait for them.
const TIME: Duration = Duration::from_secs(1);

/// The other end of a request's body.
#[derive(Debug)]
pub(super) struct Leftover(Arc<Mutex<Body>>);

/// The body as its handler reads it.
struct Shared(Arc<Mutex<Body>>);

impl Leftover {
    /// Keeps hold of a body. Nothing where there is none, or where its client waits to be told that it may send it.
    pub(super) fn of(request: &mut Request) -> Option<Self> {
        if request.body().is_end_stream() || request.headers().contains_key(EXPECT) {
            return None;
        }
        let body = Arc::new(Mutex::new(std::mem::take(request.body_mut())));
        *request.body_mut() = Body::new(Shared(Arc::clone(&body)));
        Some(Self(body))
    }

    /// Takes what is left within the bounds; nothing where somebody still reads it.
    pub(super) async fn take(self) {
        let Some(body) = Arc::into_inner(self.0) else { return };
        let body = body.into_inner().unwrap_or_else(PoisonError::into_inner);
        if body.size_hint().lower() <= MOST as u64 {
            // What is not taken costs the connection, no more.
            let _ = tokio::time::timeout(TIME, Limited::new(body, MOST).collect()).await;
        }
    }
}

impl HttpBody for Shared {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let mut body = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Pin::new(&mut *body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).size_hint()
    }
}
