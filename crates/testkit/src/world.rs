//! What survives a crash of the server: its database, the running sandboxes, and time.

use std::sync::Arc;

use crate::clock::SimClock;
use crate::entropy::SeededEntropy;
use crate::fuse::Fuse;
use crate::runtime::{FakeRuntime, Machines};
use crate::store::{FakeStore, Tables};

/// One machine; servers come and go on it.
#[derive(Clone, Debug)]
pub struct World {
    tables: Arc<Tables>,
    machines: Arc<Machines>,
    /// Its clocks.
    pub clock: Arc<SimClock>,
    /// Its randomness.
    pub entropy: Arc<SeededEntropy>,
}

impl World {
    /// An empty machine.
    pub fn new(seed: u64) -> Self {
        Self {
            tables: Arc::default(),
            machines: Arc::default(),
            clock: Arc::default(),
            entropy: Arc::new(SeededEntropy::new(seed)),
        }
    }

    /// The database, through the fuse of one incarnation of the server.
    pub fn store(&self, fuse: &Fuse) -> Arc<FakeStore> {
        Arc::new(FakeStore::new(Arc::clone(&self.tables), fuse.clone()))
    }

    /// The runtime, through the fuse of one incarnation of the server.
    pub fn runtime(&self, fuse: &Fuse) -> Arc<FakeRuntime> {
        Arc::new(FakeRuntime::new(Arc::clone(&self.machines), fuse.clone()))
    }

    /// The same machine after a restart of the host: no process lives, monotonic time begins anew.
    #[must_use]
    pub fn rebooted(&self, boot: &str, off: std::time::Duration) -> Self {
        use mayfly_core::ports::clock::Clock as _;
        self.clock.advance(off);
        self.machines.power_off();
        let clock = Arc::new(SimClock::booted(boot, self.clock.now().wall));
        Self { clock, ..self.clone() }
    }
}
