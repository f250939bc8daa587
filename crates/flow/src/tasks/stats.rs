//! Counters of a task system, and what callers see of them.

use std::sync::atomic::{AtomicU64, Ordering};

/// What the scheduler of this process did since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SchedulerStats {
    /// Attempts at once at most.
    pub workers: usize,
    /// Attempts that run now.
    pub busy: usize,
    /// Tasks that were made here.
    pub submitted: u64,
    /// Tasks that workers of this process got.
    pub claimed: u64,
    /// Attempts that completed their task.
    pub completed: u64,
    /// Attempts after which their task failed.
    pub failed: u64,
    /// Attempts that failed and will be repeated.
    pub retried: u64,
    /// Attempts that made their task wait for others.
    pub blocked: u64,
    /// Attempts whose end came too late: another worker had the task, or a caller had taken it.
    pub stale: u64,
    /// Jobs that were given to the writer. An idle system gives almost none.
    pub turns: u64,
}

/// What became of tasks whose workers were lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecoveryStats {
    /// Tasks that workers of any process hold now.
    pub total_running: usize,
    /// Tasks that this process made run again.
    pub retried: u64,
    /// Tasks that this process paused: they were lost too often, or must not be repeated.
    pub paused: u64,
    /// Looks for lost workers that could not be finished, because the file could not be read or written.
    pub failed: u64,
}

/// How many tasks stand where. Finished ones are not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueStats {
    /// They wait for their time.
    pub pending: usize,
    /// They wait for other tasks.
    pub blocked: usize,
    /// They could begin.
    pub ready: usize,
    /// Workers hold them.
    pub running: usize,
    /// They stand until a caller does something.
    pub paused: usize,
    /// Of the running ones, those that this process holds and has not begun.
    pub leased: usize,
    /// How many this process would hold without having begun them.
    pub capacity: usize,
}

/// The counters themselves.
#[derive(Debug, Default)]
pub(crate) struct Stats {
    pub(crate) submitted: AtomicU64,
    pub(crate) claimed: AtomicU64,
    pub(crate) completed: AtomicU64,
    pub(crate) failed: AtomicU64,
    pub(crate) retried: AtomicU64,
    pub(crate) blocked: AtomicU64,
    pub(crate) stale: AtomicU64,
    pub(crate) turns: AtomicU64,
    pub(crate) busy: AtomicU64,
    pub(crate) leased: AtomicU64,
    pub(crate) recovered: AtomicU64,
    pub(crate) paused: AtomicU64,
    pub(crate) recovery_failed: AtomicU64,
}

/// Adds to a counter.
pub(crate) fn add(counter: &AtomicU64, more: usize) {
    counter.fetch_add(more as u64, Ordering::Relaxed);
}

/// Reads one.
pub(crate) fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

impl Stats {
    pub(crate) fn scheduler(&self, workers: usize) -> SchedulerStats {
        SchedulerStats {
            workers,
            busy: usize::try_from(read(&self.busy)).unwrap_or(usize::MAX),
            submitted: read(&self.submitted),
            claimed: read(&self.claimed),
            completed: read(&self.completed),
            failed: read(&self.failed),
            retried: read(&self.retried),
            blocked: read(&self.blocked),
            stale: read(&self.stale),
            turns: read(&self.turns),
        }
    }
}
