//! The engine as its users hold it.

use std::sync::Arc;

use mayfly_core::Result;
use mayfly_core::access::Caller;
use mayfly_core::ports::clock::Clock;
use mayfly_core::ports::entropy::Entropy;
use mayfly_core::ports::runtime::Runtime;
use mayfly_core::ports::store::Store;

use crate::access::Access;
use crate::reach::Reach;
use crate::sandboxes::Sandboxes;
use crate::settings::Settings;
use crate::snapshots::Snapshots;

/// The use cases of one server; a cheap handle.
#[derive(Clone, Debug)]
pub struct Engine {}

impl Engine {
    /// Loads the platform's state, brings it and the runtime together, and starts the reconcilers.
    pub async fn open(
        store: Arc<dyn Store>,
        runtime: Arc<dyn Runtime>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        settings: Settings,
    ) -> Result<Self> {
        let _ = (store, runtime, clock, entropy, settings);
        Ok(Self {})
    }

    /// Keys and callers.
    pub fn access(&self) -> Access<'_> {
        Access(self)
    }

    /// Sandboxes.
    pub fn sandboxes(&self) -> Sandboxes<'_> {
        Sandboxes(self)
    }

    /// Snapshots.
    pub fn snapshots(&self) -> Snapshots<'_> {
        Snapshots(self)
    }

    /// The inside of a started sandbox; counts as a use of it.
    /// [`mayfly_core::Code::SandboxNotStarted`] with the state when it is not started.
    pub async fn reach(&self, caller: &Caller, id_or_name: &str) -> Result<Reach> {
        let _ = (caller, id_or_name);
        Err(mayfly_core::Error::unsupported("reach"))
    }

    /// Where sandboxes run, for `doctor`.
    pub fn runtime(&self) -> &Arc<dyn Runtime> {
        unreachable!()
    }

    /// Stops the reconcilers, waits for transitions under way, writes down last uses. Sandboxes live on.
    pub async fn shutdown(&self) {}
}
