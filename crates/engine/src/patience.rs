//! How long a caller waits: until the transition ended, or for a while, whichever comes first.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use mayfly_core::Result;
use mayfly_core::sandbox::Sandbox;
use tokio::time::timeout;

use crate::house::House;
use crate::living::Live;

/// Shared by a caller and the work it waits for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Promise(Arc<State>);

#[derive(Debug, Default)]
struct State {
    written: OnceLock<Arc<Live>>,
    answered: AtomicBool,
}

impl Promise {
    /// From here on the caller may be answered with the record as it then is.
    pub(crate) fn written(&self, live: &Arc<Live>) {
        // Set once: a piece of work begins one transition.
        let _ = self.0.written.set(Arc::clone(live));
    }

    /// Whether the caller was answered before the work ended.
    pub(crate) fn answered(&self) -> bool {
        self.0.answered.load(Ordering::Acquire)
    }

    fn early(&self) -> Option<Sandbox> {
        let live = self.0.written.get()?;
        self.0.answered.store(true, Ordering::Release);
        Some(live.shown())
    }
}

/// Waits for the work, but once its first record is written at most `Settings::patience`; the work itself
/// always goes on to its end.
pub(crate) async fn wait(
    house: &House,
    promise: &Promise,
    work: impl Future<Output = Result<Sandbox>> + Send + 'static,
) -> Result<Sandbox> {
    let mut work = house.tasks.adopt(work);
    loop {
        if let Ok(outcome) = timeout(house.settings.patience, &mut work).await {
            return outcome;
        }
        if let Some(sandbox) = promise.early() {
            return Ok(sandbox);
        }
    }
}
