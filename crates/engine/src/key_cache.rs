//! Keys that were used since the start.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use mayfly_core::access::ApiKey;

/// Most keys kept in memory; beyond that the memory starts over.
const MAX_CACHED: usize = 10_000;

/// Keys in memory, by hash; the store decides, this only saves asking it.
#[derive(Debug, Default)]
pub(crate) struct KeyCache(RwLock<Kept>);

#[derive(Debug, Default)]
struct Kept {
    by_hash: HashMap<[u8; 32], ApiKey>,
    /// Counts deletions, so that what was read before one is not kept after it.
    deletions: u64,
}

impl KeyCache {
    /// The key of this hash, if it is kept.
    pub(crate) fn get(&self, hash: &[u8; 32]) -> Option<ApiKey> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).by_hash.get(hash).cloned()
    }

    /// How many deletions there were, to be read before the store is asked.
    pub(crate) fn deletions(&self) -> u64 {
        self.0.read().unwrap_or_else(PoisonError::into_inner).deletions
    }

    /// Keeps a key that the store gave, unless one was deleted since `deletions` was read.
    pub(crate) fn keep(&self, key: &ApiKey, deletions: u64) {
        let mut kept = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if kept.by_hash.len() >= MAX_CACHED {
            kept.by_hash.clear();
        }
        if kept.deletions == deletions {
            kept.by_hash.insert(key.hash, key.clone());
        }
    }

    /// Forgets keys that the store no longer has.
    pub(crate) fn forget(&self, is_deleted: impl Fn(&ApiKey) -> bool) {
        let mut kept = self.0.write().unwrap_or_else(PoisonError::into_inner);
        kept.deletions += 1;
        kept.by_hash.retain(|_, key| !is_deleted(key));
    }
}
