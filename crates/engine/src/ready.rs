//! Where to look for image-warm sandboxes.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use mayfly_core::id::SnapshotId;

use crate::living::Live;

/// Ready sandboxes in memory, by snapshot; the rows decide, this only says where to look.
#[derive(Debug, Default)]
pub(crate) struct Ready(Mutex<HashMap<SnapshotId, VecDeque<Arc<Live>>>>);

impl Ready {
    /// Adds one, to be taken after those that are here.
    pub(crate) fn put(&self, live: Arc<Live>) {
        let snapshot = live.record().snapshot;
        let mut ready = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ready.entry(snapshot).or_default().push_back(live);
    }

    /// Takes the one that was put first.
    pub(crate) fn take(&self, snapshot: SnapshotId) -> Option<Arc<Live>> {
        let mut ready = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ready.get_mut(&snapshot)?.pop_front()
    }
}
