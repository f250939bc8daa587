//! A clock that moves when it is told to.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use mayfly_core::ports::clock::Clock;
use mayfly_core::time::{Moment, Monotonic, Timestamp};

/// Stands still until moved; begins at 2026-01-01 with one second of monotonic time.
#[derive(Debug)]
pub struct SimClock {
    now: Mutex<Moment>,
    boot: String,
}

impl Default for SimClock {
    fn default() -> Self {
        Self::booted("boot-1", Timestamp(1_767_225_600_000))
    }
}

impl SimClock {
    /// A clock of another boot, its monotonic time begun anew.
    pub fn booted(boot: &str, wall: Timestamp) -> Self {
        let now = Moment { wall, mono: Monotonic(1_000) };
        Self { now: Mutex::new(now), boot: boot.to_owned() }
    }

    /// Lets time pass on both clocks.
    pub fn advance(&self, by: Duration) {
        let millis = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        now.mono = Monotonic(now.mono.0.saturating_add(millis));
        now.wall = Timestamp(now.wall.0.saturating_add_unsigned(millis));
    }

    /// Sets the wall clock forward or back, as a person or a time server would.
    pub fn jump_wall(&self, millis: i64) {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        now.wall = Timestamp(now.wall.0.saturating_add(millis));
    }
}

impl Clock for SimClock {
    fn now(&self) -> Moment {
        *self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn boot_id(&self) -> &str {
        &self.boot
    }
}
