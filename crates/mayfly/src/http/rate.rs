//! A token bucket per API key or address.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Mutex;

use mayfly_core::time::Monotonic;

/// Keys remembered at once; the map starts over when more come, which only gives them a fresh burst.
const MAX_KEYS: usize = 4096;

/// Buckets by key. Holds a hash of each key, never the key.
#[derive(Debug)]
pub(crate) struct Rate {
    per_second: u64,
    hasher: RandomState,
    buckets: Mutex<HashMap<u64, Bucket>>,
}

#[derive(Debug)]
struct Bucket {
    /// Thousandths of a request left.
    left: u64,
    at: Monotonic,
}

impl Rate {
    /// So many requests per second and key, with a burst of twice that; 0 = no limit.
    pub(crate) fn new(per_second: u32) -> Self {
        Self {
            per_second: per_second.into(),
            hasher: RandomState::new(),
            buckets: Mutex::new(HashMap::new()),
        }
    }

    /// Takes one request off the key's bucket; `Err` holds the seconds to wait.
    pub(crate) fn take(&self, key: &str, now: Monotonic) -> Result<(), u64> {
        self.judge(key, now, 1000)
    }

    /// The same, without taking any.
    pub(crate) fn check(&self, key: &str, now: Monotonic) -> Result<(), u64> {
        self.judge(key, now, 0)
    }

    fn judge(&self, key: &str, now: Monotonic, taken: u64) -> Result<(), u64> {
        if self.per_second == 0 {
            return Ok(());
        }
        let full = self.per_second * 2 * 1000;
        let id = self.hasher.hash_one(key);
        let mut buckets =
            self.buckets.lock().expect("no code panics while it holds the lock of the buckets");
        if buckets.len() >= MAX_KEYS && !buckets.contains_key(&id) {
            buckets.clear();
        }
        let bucket = buckets.entry(id).or_insert(Bucket { left: full, at: now });
        let millis = u64::try_from(now.since(bucket.at).as_millis()).unwrap_or(u64::MAX);
        bucket.left = bucket.left.saturating_add(millis.saturating_mul(self.per_second)).min(full);
        bucket.at = now;
        if bucket.left < 1000 {
            return Err(1);
        }
        bucket.left -= taken;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_then_the_sustained_rate_holds() {
        let rate = Rate::new(10);
        for _ in 0..20 {
            assert_eq!(rate.take("a", Monotonic(0)), Ok(()));
        }
        assert_eq!(rate.take("a", Monotonic(0)), Err(1));
        assert_eq!(rate.take("b", Monotonic(0)), Ok(()), "another key has its own bucket");
        assert_eq!(rate.take("a", Monotonic(100)), Ok(()), "one tenth of a second gives one");
        assert_eq!(rate.take("a", Monotonic(100)), Err(1));
        assert_eq!(rate.check("a", Monotonic(100)), Err(1));
        assert!((0..100).all(|_| rate.check("c", Monotonic(0)).is_ok()), "a look takes nothing");
        let open = Rate::new(0);
        assert!((0..1000).all(|_| open.take("a", Monotonic(0)).is_ok()), "0 means no limit");
    }
}
