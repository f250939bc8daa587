//! Snapshots seen since the start.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use mayfly_core::id::SnapshotId;
use mayfly_core::ports::store::Store;
use mayfly_core::snapshot::Snapshot;
use mayfly_core::time::Timestamp;
use mayfly_core::{Error, Kind, Result};

/// Snapshots in memory; they never change once made, except `host` at start.
#[derive(Debug, Default)]
pub(crate) struct SnapshotCache {
    kept: RwLock<HashMap<SnapshotId, Arc<Snapshot>>>,
    /// Last uses since the start, and whether they are written down.
    uses: Mutex<HashMap<SnapshotId, (Timestamp, bool)>>,
}

impl SnapshotCache {
    /// The snapshot of this id, whoever owns it.
    pub(crate) async fn by_id(&self, store: &dyn Store, id: SnapshotId) -> Result<Arc<Snapshot>> {
        if let Some(snapshot) = self.look(|snapshot| snapshot.id == id) {
            return Ok(snapshot);
        }
        let snapshot = store.snapshot(id).await?.ok_or_else(|| {
            Error::new(Kind::Internal, format!("snapshot {id} of a sandbox is gone"))
        })?;
        Ok(self.keep(snapshot))
    }

    /// Those kept at the moment.
    pub(crate) fn all(&self) -> Vec<Arc<Snapshot>> {
        self.kept.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Keeps one, in place of an older one of its id.
    pub(crate) fn keep(&self, snapshot: Snapshot) -> Arc<Snapshot> {
        let snapshot = Arc::new(snapshot);
        let mut kept = self.kept.write().unwrap_or_else(PoisonError::into_inner);
        kept.insert(snapshot.id, Arc::clone(&snapshot));
        snapshot
    }

    /// A sandbox is made from it; written down every few seconds and at shutdown.
    pub(crate) fn note_use(&self, id: SnapshotId, at: Timestamp) {
        self.uses.lock().unwrap_or_else(PoisonError::into_inner).insert(id, (at, false));
    }

    /// Uses that are to be written down now.
    pub(crate) fn take_uses(&self) -> Vec<(SnapshotId, Timestamp)> {
        let mut uses = self.uses.lock().unwrap_or_else(PoisonError::into_inner);
        let new = uses.iter_mut().filter(|(_, (_, written))| !written);
        new.map(|(id, (at, written))| {
            *written = true;
            (*id, *at)
        })
        .collect()
    }

    /// Completes a record by a use that is newer than it.
    pub(crate) fn show_use(&self, snapshot: &mut Snapshot) {
        let uses = self.uses.lock().unwrap_or_else(PoisonError::into_inner);
        let used = uses.get(&snapshot.id).map(|(at, _)| *at);
        snapshot.last_used_at = snapshot.last_used_at.max(used);
    }

    /// A kept one that fits.
    pub(crate) fn look(&self, fits: impl Fn(&Snapshot) -> bool) -> Option<Arc<Snapshot>> {
        let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
        kept.values().find(|snapshot| fits(snapshot)).cloned()
    }
}
