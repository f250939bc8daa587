//! What the server counts about its requests.

use std::sync::atomic::{AtomicU64, Ordering};

use axum::http::StatusCode;
use mayfly_core::time::Monotonic;

/// Counters since the start of the server.
#[derive(Debug)]
pub(crate) struct Counters {
    /// Answers by hundreds of their status, from 1xx.
    answers: [AtomicU64; 5],
    last_request: AtomicU64,
}

impl Counters {
    /// All zero.
    pub(crate) fn new(now: Monotonic) -> Self {
        Self { answers: Default::default(), last_request: AtomicU64::new(now.0) }
    }

    /// Marks the arrival of a request.
    pub(crate) fn arrived(&self, now: Monotonic) {
        self.last_request.store(now.0, Ordering::Relaxed);
    }

    /// When the last one arrived.
    pub(crate) fn last_request(&self) -> Monotonic {
        Monotonic(self.last_request.load(Ordering::Relaxed))
    }

    /// Answers so far by class of their status, from 1xx.
    pub(crate) fn answers(&self) -> impl Iterator<Item = u64> {
        self.answers.iter().map(|count| count.load(Ordering::Relaxed))
    }

    /// Counts an answer.
    pub(crate) fn answered(&self, status: StatusCode) {
        let class = usize::from(status.as_u16() / 100).clamp(1, 5) - 1;
        self.answers[class].fetch_add(1, Ordering::Relaxed);
    }
}
