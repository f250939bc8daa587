//! Crash points: after so many steps nothing moves any more, as after kill -9.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;

/// Shared by the ports of one incarnation of a server. Each port call takes two steps, one before it acts
/// and one before it answers; at the step that is one too many the call never returns, nor does any later.
#[derive(Clone, Debug)]
pub struct Fuse(Arc<State>);

#[derive(Debug)]
struct State {
    limit: u64,
    used: AtomicU64,
    blown: watch::Sender<bool>,
}

impl Fuse {
    /// Blows after this many steps.
    pub fn after(steps: u64) -> Self {
        let blown = watch::Sender::new(false);
        Self(Arc::new(State { limit: steps, used: AtomicU64::new(0), blown }))
    }

    /// Never blows.
    pub fn never() -> Self {
        Self::after(u64::MAX)
    }

    /// Steps taken so far.
    pub fn used(&self) -> u64 {
        self.0.used.load(Ordering::SeqCst)
    }

    /// Takes a step; never returns once it has blown.
    pub async fn step(&self) {
        if self.0.used.fetch_add(1, Ordering::SeqCst) >= self.0.limit {
            self.0.blown.send_replace(true);
            std::future::pending::<()>().await;
        }
    }

    /// Resolves when it has blown.
    pub async fn blown(&self) {
        // The sender lives as long as this handle, so waiting cannot fail.
        let _ = self.0.blown.subscribe().wait_for(|blown| *blown).await;
    }
}
