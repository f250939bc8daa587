//! How a task system is made.

use std::sync::Arc;
use std::time::Duration;

use super::agent::{AgentRegistry, TaskAgent};
use super::decide::Rules;
use super::system::TaskSystem;
use crate::error::DagError;
use crate::journal::Synchronous;
use crate::storage::SqliteStorage;

/// Settings that every part of a system reads.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) workers: usize,
    pub(crate) ready_queue: usize,
    pub(crate) lease: Duration,
    pub(crate) heartbeat: Duration,
    pub(crate) rules: Rules,
    pub(crate) recovery_every: Duration,
    pub(crate) poll: Duration,
    pub(crate) grace: Duration,
    pub(crate) synchronous: Synchronous,
    pub(crate) outbox: i64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            workers: 2 * processors(),
            ready_queue: 10_000,
            lease: Duration::from_mins(2),
            heartbeat: Duration::from_secs(30),
            rules: Rules::default(),
            recovery_every: Duration::from_secs(30),
            poll: Duration::from_secs(5),
            grace: Duration::from_secs(5),
            synchronous: Synchronous::Full,
            outbox: 100_000,
        }
    }
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            retry_first: Duration::from_secs(1),
            retry_most: Duration::from_mins(5),
            retry_jitter: 0.1,
            max_recoveries: 5,
        }
    }
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Makes a [`TaskSystem`].
#[derive(Clone, Debug, Default)]
#[must_use = "a builder makes nothing until it is built"]
pub struct TaskSystemBuilder {
    settings: Settings,
    agents: AgentRegistry,
}

impl TaskSystemBuilder {
    /// The defaults, which are those of [`TaskSystemBuilder::production`].
    pub fn new() -> Self {
        Self::default()
    }

    /// Two workers, looks at other processes every second, stops quickly; survives `kill -9` and not power loss.
    pub fn development() -> Self {
        Self::new()
            .workers(2)
            .poll(Duration::from_secs(1))
            .grace(Duration::from_secs(1))
            .synchronous(Synchronous::Normal)
    }

    /// Two workers per processor; what was acknowledged survives power loss.
    pub fn production() -> Self {
        Self::new()
    }

    /// Four workers per processor; survives `kill -9`, and power loss may take the last commits.
    pub fn high_throughput() -> Self {
        Self::new().workers(4 * processors()).synchronous(Synchronous::Normal)
    }

    /// Attempts at once. 0 makes a system that runs nothing itself and serves remote workers. Default 2 per processor.
    pub fn workers(mut self, workers: usize) -> Self {
        self.settings.workers = workers;
        self
    }

    /// How many tasks may be leased and wait for a free worker; the rest waits in the file. Default 10,000; a batch is
    /// at most 512, and only tasks that end within milliseconds are leased ahead at all.
    pub fn ready_queue(mut self, most: usize) -> Self {
        self.settings.ready_queue = most;
        self
    }

    /// How long a worker that is not heard of keeps its task, and how often workers of this process are heard.
    /// Default 120 s and 30 s. Tasks of a process that died are taken over without waiting for it.
    pub fn lease(mut self, lease: Duration, heartbeat: Duration) -> Self {
        self.settings.lease = lease;
        self.settings.heartbeat = heartbeat;
        self
    }

    /// The delay before the first repeated attempt, which doubles, and the longest one. Default 1 s and 300 s.
    pub fn retry(mut self, first: Duration, most: Duration) -> Self {
        self.settings.rules.retry_first = first;
        self.settings.rules.retry_most = most;
        self
    }

    /// How much a delay may differ, as a share of it. Default 0.1.
    pub fn retry_jitter(mut self, share: f64) -> Self {
        self.settings.rules.retry_jitter = share;
        self
    }

    /// How often lost workers are looked for at the latest. Default 30 s; the end of a lease is a reason by itself.
    pub fn recovery_every(mut self, every: Duration) -> Self {
        self.settings.recovery_every = every;
        self
    }

    /// How often a task may lose its worker before it is paused. Default 5.
    pub fn max_recoveries(mut self, most: u32) -> Self {
        self.settings.rules.max_recoveries = most;
        self
    }

    /// How often is looked at what other processes did. Within a process nothing waits for this. Default 5 s.
    pub fn poll(mut self, every: Duration) -> Self {
        self.settings.poll = every;
        self
    }

    /// How long a cancelled attempt may go on. Default 5 s.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.settings.grace = grace;
        self
    }

    /// What acknowledged work survives. Default power loss.
    pub fn synchronous(mut self, mode: Synchronous) -> Self {
        self.settings.synchronous = mode;
        self
    }

    /// Rows that the outbox keeps at most, processed or not; the oldest go first. Default 100,000.
    pub fn outbox(mut self, rows: u32) -> Self {
        self.settings.outbox = rows.into();
        self
    }

    /// Adds an agent; more can be registered later.
    pub fn agent(self, agent: Arc<dyn TaskAgent>) -> Result<Self, DagError> {
        self.agents.register(agent)?;
        Ok(self)
    }

    /// Opens the file of `url` (`sqlite:tasks.db`, `sqlite::memory:`) and begins to work on what is in it.
    pub async fn open(self, url: &str) -> Result<TaskSystem, DagError> {
        let storage = SqliteStorage::new(url).await?;
        self.build(storage)
    }

    /// Begins to work on a file that is open already. [`DagError::ValidationError`] names a setting that is wrong.
    ///
    /// Call it inside of a runtime of tokio.
    pub fn build(self, storage: SqliteStorage) -> Result<TaskSystem, DagError> {
        self.settings.check()?;
        Ok(TaskSystem::start(storage, self.settings, self.agents))
    }
}

impl Settings {
    fn check(&self) -> Result<(), DagError> {
        let least = Duration::from_millis(10);
        let wrong = [
            (self.workers > 100_000, "`workers` is over 100,000"),
            (self.ready_queue == 0, "`ready_queue` is 0; give at least 1"),
            (self.heartbeat < least, "`heartbeat` is under 10 ms"),
            (self.lease < self.heartbeat * 2, "`lease` is under two heartbeats"),
            (self.rules.retry_first > self.rules.retry_most, "`retry` begins above its most"),
            (!(0.0..=1.0).contains(&self.rules.retry_jitter), "`retry_jitter` is not 0 to 1"),
            (self.recovery_every < least, "`recovery_every` is under 10 ms"),
            (self.poll < least, "`poll` is under 10 ms"),
        ];
        match wrong.iter().find(|(wrong, _)| *wrong) {
            Some((_, text)) => Err(DagError::ValidationError(format!("task system: {text}"))),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_settings_are_named() {
        let second = Duration::from_secs(1);
        let cases = [
            (TaskSystemBuilder::new().lease(second, second), "`lease`"),
            (TaskSystemBuilder::new().retry(second * 9, second), "`retry`"),
            (TaskSystemBuilder::new().retry_jitter(f64::NAN), "`retry_jitter`"),
            (TaskSystemBuilder::new().poll(Duration::ZERO), "`poll`"),
            (TaskSystemBuilder::new().ready_queue(0), "`ready_queue`"),
        ];
        for (builder, field) in cases {
            let error = builder.settings.check().unwrap_err().to_string();
            assert!(error.contains(field), "{error}");
        }
        for preset in [
            TaskSystemBuilder::development(),
            TaskSystemBuilder::production(),
            TaskSystemBuilder::high_throughput(),
        ] {
            assert!(preset.settings.check().is_ok());
        }
        assert_eq!(TaskSystemBuilder::new().settings.workers, 2 * processors());
    }
}
