//! Points in time: wall clock for people, a monotonic clock for every decision.

/// Milliseconds since the Unix epoch, UTC. For display and sorting, never for expiry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(pub i64);

/// Milliseconds of a clock that never jumps and counts suspend (`CLOCK_BOOTTIME`).
///
/// Comparable only with moments of the same boot; the store rebases rows of an earlier boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Monotonic(pub u64);

impl Monotonic {
    /// What a clock shows at boot: not zero, so that moments of earlier boots have room before it.
    pub const BOOT: Self = Self(1 << 42);

    /// Time since `earlier`, zero when that lies in the future.
    pub fn since(self, earlier: Self) -> std::time::Duration {
        std::time::Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// This moment plus a number of minutes.
    #[must_use]
    pub fn plus_minutes(self, minutes: u64) -> Self {
        Self(self.0.saturating_add(minutes.saturating_mul(60_000)))
    }
}

/// The same instant on both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Moment {
    /// What a wall clock shows.
    pub wall: Timestamp,
    /// What expiry is decided by.
    pub mono: Monotonic,
}
