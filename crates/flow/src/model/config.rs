//! Settings of a run.

use serde::{Deserialize, Serialize};

use crate::error::DagError;
use crate::journal::Synchronous;

/// What happens to the rest of a run when a node has failed for good.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnFailure {
    /// Whatever needs the node is skipped, the rest goes on.
    Continue,
    /// What is in flight ends, nothing begins, the run stands until it is resumed.
    #[default]
    Pause,
    /// What is in flight is aborted, the rest cancelled.
    Stop,
}

/// What happens when nobody answers a human interrupt in time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum HumanTimeoutAction {
    /// The run pauses.
    #[default]
    Pause,
    /// The run goes on as if approved.
    Autopilot,
}

/// How long to wait before the next attempt.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum RetryStrategy {
    /// `min(initial * multiplier^(attempt - 1), max)`.
    Exponential {
        /// Before the second attempt, in seconds.
        initial_delay_secs: u64,
        /// Never longer than this, in seconds.
        max_delay_secs: u64,
        /// Growth per attempt.
        multiplier: f64,
    },
    /// The same each time.
    Linear {
        /// In seconds.
        delay_secs: u64,
    },
    /// Not at all.
    Immediate,
}

impl Default for RetryStrategy {
    fn default() -> Self {
        Self::Exponential { initial_delay_secs: 2, max_delay_secs: 60, multiplier: 2.0 }
    }
}

/// Settings of a run; those of a graph win over the executor's, those of a node over the graph's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DagConfig {
    /// Attempts of a node in total. Default 3, at least 1.
    pub max_attempts: Option<u32>,
    /// Default [`OnFailure::Pause`].
    pub on_failure: OnFailure,
    /// Seconds a run may take, waits for people not counted. Default 3600, 1 to 86400; `None` is no limit.
    pub timeout_seconds: Option<u64>,
    /// Minutes a human interrupt waits. Default `None`: for ever. 0 to 1440.
    pub human_wait_minutes: Option<u32>,
    /// Default [`HumanTimeoutAction::Pause`].
    pub human_timeout_action: HumanTimeoutAction,
    /// Kept for agents that count tokens; the engine does not.
    pub max_tokens: Option<u64>,
    /// Agent mode: steps before a person is asked. Default 50, 1 to 1000.
    pub max_iterations: Option<u32>,
    /// Agent mode: a person is asked each time after so many steps. Default 5, at least 1.
    pub review_frequency: Option<u32>,
    /// Default exponential from 2 s to 60 s, doubling.
    pub retry_strategy: RetryStrategy,
    /// Share of a delay by which it may be longer or shorter. Default 0.1, 0 to 1.
    pub retry_jitter: f64,
    /// Whether several nodes may run at once. Default true.
    pub enable_parallel_execution: bool,
    /// Nodes of a run that may run at once. Default 3, at least 1.
    pub max_parallel_nodes: usize,
    /// Whether a step with equal action and inputs takes the output of an earlier run's. Default false.
    pub reuse_cached_outputs: bool,
    /// Seconds after which another process may take over what this one stopped working on. Default 120.
    pub lease_seconds: u64,
    /// Seconds between two extensions of the lease. Default 30.
    pub heartbeat_seconds: u64,
    /// Seconds that an attempt has to end by itself when its run is cancelled. Default 5.
    pub cancel_grace_seconds: u64,
    /// What a committed step survives. Default [`Synchronous::Full`].
    pub synchronous: Synchronous,
    /// Accepted, without effect: steps are appended, there are no snapshots.
    pub enable_incremental_cache: bool,
    /// Accepted, without effect.
    pub cache_snapshot_interval: u64,
}

impl Default for DagConfig {
    fn default() -> Self {
        Self {
            max_attempts: Some(3),
            on_failure: OnFailure::default(),
            timeout_seconds: Some(3600),
            human_wait_minutes: None,
            human_timeout_action: HumanTimeoutAction::default(),
            max_tokens: None,
            max_iterations: Some(50),
            review_frequency: Some(5),
            retry_strategy: RetryStrategy::default(),
            retry_jitter: 0.1,
            enable_parallel_execution: true,
            max_parallel_nodes: 3,
            reuse_cached_outputs: false,
            lease_seconds: 120,
            heartbeat_seconds: 30,
            cancel_grace_seconds: 5,
            synchronous: Synchronous::default(),
            enable_incremental_cache: false,
            cache_snapshot_interval: 300,
        }
    }
}

impl DagConfig {
    /// Checks every field; [`DagError::ValidationError`] names the first that is out of its range.
    pub fn validate(&self) -> Result<(), DagError> {
        let checks = [
            (self.max_attempts.is_none_or(|n| n >= 1), "max_attempts", "at least 1"),
            (
                self.timeout_seconds.is_none_or(|n| (1..=86_400).contains(&n)),
                "timeout_seconds",
                "1 to 86400",
            ),
            (self.human_wait_minutes.is_none_or(|n| n <= 1440), "human_wait_minutes", "0 to 1440"),
            (
                self.max_iterations.is_none_or(|n| (1..=1000).contains(&n)),
                "max_iterations",
                "1 to 1000",
            ),
            (self.review_frequency.is_none_or(|n| n >= 1), "review_frequency", "at least 1"),
            ((0.0..=1.0).contains(&self.retry_jitter), "retry_jitter", "0 to 1"),
            (self.max_parallel_nodes >= 1, "max_parallel_nodes", "at least 1"),
            (self.heartbeat_seconds >= 1, "heartbeat_seconds", "at least 1"),
            (
                self.lease_seconds > self.heartbeat_seconds,
                "lease_seconds",
                "more than heartbeat_seconds",
            ),
            (
                !matches!(self.retry_strategy, RetryStrategy::Exponential { multiplier, .. }
                    if !multiplier.is_finite() || multiplier < 1.0),
                "retry_strategy.multiplier",
                "at least 1",
            ),
        ];
        match checks.into_iter().find(|(holds, ..)| !holds) {
            Some((_, field, expected)) => {
                Err(DagError::ValidationError(format!("config field {field}: expected {expected}")))
            }
            None => Ok(()),
        }
    }

    /// `base` with every field of `over` that differs from its default.
    #[must_use]
    #[expect(clippy::float_cmp, reason = "whether a setting was touched, not how close it is")]
    pub fn merge(base: &Self, over: &Self) -> Self {
        let plain = Self::default();
        let mut merged = base.clone();
        macro_rules! take {
            ($($field:ident)*) => {
                $(if over.$field != plain.$field { merged.$field = over.$field; })*
            };
        }
        take!(
            max_attempts on_failure timeout_seconds human_wait_minutes human_timeout_action
            max_tokens max_iterations review_frequency retry_strategy retry_jitter
            enable_parallel_execution max_parallel_nodes reuse_cached_outputs lease_seconds
            heartbeat_seconds cancel_grace_seconds synchronous enable_incremental_cache
            cache_snapshot_interval
        );
        merged
    }

    /// Nodes of a run that may run at once, by both settings.
    pub(crate) fn width(&self) -> usize {
        if self.enable_parallel_execution { self.max_parallel_nodes } else { 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_field_is_named() {
        let bad = [
            (DagConfig { max_attempts: Some(0), ..DagConfig::default() }, "max_attempts"),
            (DagConfig { timeout_seconds: Some(0), ..DagConfig::default() }, "timeout_seconds"),
            (DagConfig { max_parallel_nodes: 0, ..DagConfig::default() }, "max_parallel_nodes"),
            (DagConfig { review_frequency: Some(0), ..DagConfig::default() }, "review_frequency"),
            (DagConfig { lease_seconds: 3, ..DagConfig::default() }, "lease_seconds"),
        ];
        for (config, field) in bad {
            let error = config.validate().unwrap_err().to_string();
            assert!(error.contains(field), "{error}");
        }
        DagConfig::default().validate().unwrap();
    }

    #[test]
    fn what_is_set_wins_over_the_base() {
        let base = DagConfig { max_parallel_nodes: 9, ..DagConfig::default() };
        let over = DagConfig { on_failure: OnFailure::Stop, ..DagConfig::default() };
        let merged = DagConfig::merge(&base, &over);
        assert_eq!((merged.max_parallel_nodes, merged.on_failure), (9, OnFailure::Stop));
    }
}
