//! Time that goes on across restarts of the host.
//!
//! The monotonic clock of the host begins anew at each boot, while rows keep moments of earlier boots. An
//! offset per boot, kept in the store, continues where the newest row left off plus the time that the wall
//! clock says has passed since, so that rows stay comparable and never have to be rewritten.

use std::sync::Arc;

use mayfly_core::ports::clock::Clock;
use mayfly_core::sandbox::Sandbox;
use mayfly_core::time::{Moment, Monotonic};

/// The host's clocks, the monotonic one continued over all boots.
#[derive(Debug)]
pub(crate) struct Steady {
    clock: Arc<dyn Clock>,
    offset: i64,
}

impl Steady {
    /// The clock with what is added to this boot's time.
    pub(crate) fn new(clock: Arc<dyn Clock>, offset: i64) -> Self {
        Self { clock, offset }
    }

    /// Now.
    pub(crate) fn now(&self) -> Moment {
        let now = self.clock.now();
        Moment { wall: now.wall, mono: Monotonic(now.mono.0.saturating_add_signed(self.offset)) }
    }
}

/// What to add to this boot's clock so that it continues the rows' time.
pub(crate) fn offset(rows: &[Sandbox], now: Moment) -> i64 {
    let newest = rows
        .iter()
        .flat_map(|row| {
            [Some(row.created), Some(row.ttl_from), Some(row.last_activity), row.stopped_since]
        })
        .flatten()
        .max_by_key(|moment| moment.mono);
    let Some(newest) = newest else { return 0 };
    let passed = now.wall.0.saturating_sub(newest.wall.0).max(0);
    let goal = i64::try_from(newest.mono.0).unwrap_or(i64::MAX).saturating_add(passed);
    goal.saturating_sub(i64::try_from(now.mono.0).unwrap_or(i64::MAX))
}
