//! Snapshots seen since the start.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use mayfly_core::id::SnapshotId;
use mayfly_core::ports::store::Store;
use mayfly_core::snapshot::Snapshot;
use mayfly_core::{Error, Kind, Result};

/// Snapshots in memory; they never change once made, except `host` at start.
#[derive(Debug, Default)]
pub(crate) struct SnapshotCache(RwLock<HashMap<SnapshotId, Arc<Snapshot>>>);

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
        self.0.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Keeps one, in place of an older one of its id.
    pub(crate) fn keep(&self, snapshot: Snapshot) -> Arc<Snapshot> {
        let snapshot = Arc::new(snapshot);
        let mut kept = self.0.write().unwrap_or_else(PoisonError::into_inner);
        kept.insert(snapshot.id, Arc::clone(&snapshot));
        snapshot
    }

    /// A kept one that fits.
    pub(crate) fn look(&self, fits: impl Fn(&Snapshot) -> bool) -> Option<Arc<Snapshot>> {
        let kept = self.0.read().unwrap_or_else(PoisonError::into_inner);
        kept.values().find(|snapshot| fits(snapshot)).cloned()
    }
}
