//! Durations counted up, for operators.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of the counted classes, microseconds; what takes longer is in a last class of its own.
pub const BOUNDS: [u64; 12] = [
    500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000, 5_000_000,
    30_000_000,
];

/// Counts durations by class; lock-free.
#[derive(Debug, Default)]
pub struct Histogram {
    counts: [AtomicU64; BOUNDS.len() + 1],
    micros: AtomicU64,
}

/// What a histogram counted so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Durations in each class, the last one without a bound.
    pub counts: [u64; BOUNDS.len() + 1],
    /// Their sum, microseconds.
    pub micros: u64,
}

impl Histogram {
    /// Counts one.
    pub fn note(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let class = BOUNDS.iter().position(|bound| micros <= *bound).unwrap_or(BOUNDS.len());
        self.counts[class].fetch_add(1, Ordering::Relaxed);
        self.micros.fetch_add(micros, Ordering::Relaxed);
    }

    /// What was counted; classes and sum may be some durations apart while others count.
    pub fn read(&self) -> Reading {
        let counts = std::array::from_fn(|class| self.counts[class].load(Ordering::Relaxed));
        Reading { counts, micros: self.micros.load(Ordering::Relaxed) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_duration_is_in_the_first_class_that_holds_it() {
        let histogram = Histogram::default();
        for micros in [0, 500, 501, 30_000_000, 30_000_001] {
            histogram.note(Duration::from_micros(micros));
        }
        let read = histogram.read();
        assert_eq!((read.counts[0], read.counts[1]), (2, 1));
        assert_eq!((read.counts[11], read.counts[12]), (1, 1));
        assert_eq!(read.micros, 60_001_002);
    }
}
