//! Threads of the event loop's own pool that wait for helpers and disks, a bounded number of them.

use std::sync::Arc;

use mayfly_core::{Error, Result};
use tokio::sync::Semaphore;

/// Short calls at once, over all sandboxes.
const QUICK: usize = 48;
/// Long ones.
const LONG: usize = 16;

/// Threads for both kinds of calls, so that searches in many sandboxes keep no small read waiting.
#[derive(Clone, Debug)]
pub(super) struct Threads {
    pub(super) quick: Share,
    pub(super) long: Share,
}

/// A number of threads.
#[derive(Clone, Debug)]
pub(super) struct Share(Arc<Semaphore>);

impl Default for Threads {
    fn default() -> Self {
        let share = |count| Share(Arc::new(Semaphore::new(count)));
        Self { quick: share(QUICK), long: share(LONG) }
    }
}

impl Share {
    /// Runs `work` on a thread that may wait. Work that was begun ends also when the caller leaves.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let thread = Arc::clone(&self.0).acquire_owned().await;
        let thread = thread.map_err(|closed| Error::internal("file calls have ended", closed))?;
        let ran = tokio::task::spawn_blocking(move || {
            let done = work();
            drop(thread);
            done
        });
        ran.await.unwrap_or_else(|lost| Err(Error::internal("a file call broke off", lost)))
    }
}
