//! Keys that were used since the start.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use mayfly_core::access::ApiKey;
use mayfly_core::time::Timestamp;

/// Most keys kept in memory; beyond that the memory starts over.
const MAX_CACHED: usize = 10_000;
/// No use since the last look.
const UNUSED: i64 = i64::MIN;

/// Keys in memory, by hash; the store decides, this only saves asking it. Uses are noted here and written down together.
#[derive(Debug, Default)]
pub(crate) struct KeyCache(RwLock<Inside>);

#[derive(Debug, Default)]
struct Inside {
    by_hash: HashMap<[u8; 32], Kept>,
    /// Counts deletions, so that what was read before one is not kept after it.
    deletions: u64,
}

#[derive(Debug)]
struct Kept {
    key: ApiKey,
    used: AtomicI64,
}

impl KeyCache {
    /// The key of this hash, if it is kept.
    pub(crate) fn get(&self, hash: &[u8; 32]) -> Option<ApiKey> {
        self.read().by_hash.get(hash).map(|kept| kept.key.clone())
    }

    /// Notes a use of a key that is kept.
    pub(crate) fn used(&self, hash: &[u8; 32], at: Timestamp) {
        if let Some(kept) = self.read().by_hash.get(hash) {
            kept.used.fetch_max(at.0, Ordering::Relaxed);
        }
    }

    /// Last uses since the last call.
    pub(crate) fn take_uses(&self) -> Vec<([u8; 32], Timestamp)> {
        let inside = self.read();
        let uses = inside.by_hash.iter().map(|(hash, kept)| (*hash, kept.take_use()));
        uses.filter_map(|(hash, at)| Some((hash, at?))).collect()
    }

    /// How many deletions there were, to be read before the store is asked.
    pub(crate) fn deletions(&self) -> u64 {
        self.read().deletions
    }

    /// Keeps a key that the store gave, unless one was deleted since `deletions` was read.
    pub(crate) fn keep(&self, key: &ApiKey, deletions: u64) {
        let mut inside = self.write();
        if inside.by_hash.len() >= MAX_CACHED {
            // Those that were used a moment ago come back with their next use; that one is noted.
            inside.by_hash.clear();
        }
        if inside.deletions == deletions {
            let kept = Kept { key: key.clone(), used: AtomicI64::new(UNUSED) };
            inside.by_hash.insert(key.hash, kept);
        }
    }

    /// Forgets keys that the store no longer has.
    pub(crate) fn forget(&self, is_deleted: impl Fn(&ApiKey) -> bool) {
        let mut inside = self.write();
        inside.deletions += 1;
        inside.by_hash.retain(|_, kept| !is_deleted(&kept.key));
    }

    fn read(&self) -> RwLockReadGuard<'_, Inside> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Inside> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn take_use(&self) -> Option<Timestamp> {
        let at = self.used.swap(UNUSED, Ordering::Relaxed);
        (at != UNUSED).then_some(Timestamp(at))
    }
}
