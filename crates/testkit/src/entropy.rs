//! Randomness that a seed replays.

use std::sync::atomic::{AtomicU64, Ordering};

use mayfly_core::ports::entropy::Entropy;
use uuid::Uuid;

/// `SplitMix64` from a seed; never fit for secrets.
#[derive(Debug)]
pub struct SeededEntropy {
    state: AtomicU64,
    made: AtomicU64,
}

impl SeededEntropy {
    /// The sequence of this seed.
    pub fn new(seed: u64) -> Self {
        Self { state: AtomicU64::new(seed), made: AtomicU64::new(0) }
    }

    /// The next number of the sequence.
    pub fn number(&self) -> u64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut z = self.state.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

impl Entropy for SeededEntropy {
    fn uuid(&self) -> Uuid {
        let made = self.made.fetch_add(1, Ordering::Relaxed);
        let mut random = [0; 10];
        self.fill(&mut random);
        uuid::Builder::from_unix_timestamp_millis(1_767_225_600_000 + made, &random).into_uuid()
    }

    fn fill(&self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let number = self.number().to_le_bytes();
            chunk.copy_from_slice(&number[..chunk.len()]);
        }
    }
}
