//! Settings of an executor of agents.

use serde::{Deserialize, Serialize};

use crate::error::DagError;
use crate::journal::Synchronous;

/// What becomes of a message when its channel holds all it may and nothing of that is acknowledged by everybody.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WhenFull {
    /// Publishing waits for room. A handler does not wait: it may go over the limit by as much again, then it is refused.
    #[default]
    Block,
    /// Publishing is refused with [`DagError::ChannelFull`].
    Reject,
    /// The oldest messages are removed and counted.
    DropOldest,
}

/// Settings. `PubSubConfig::default()` is right for most programs that set `database`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PubSubConfig {
    /// Where channels are kept: `sqlite:<path>`, or `sqlite::memory:` (the default), which ends with the executor.
    pub database: String,
    /// Messages that a subscriber may have in memory without having acknowledged them. Default 1,000; at least 1.
    pub max_messages: usize,
    /// Limit of one execution that begins with a message, of one handler, and of waiting for room; in seconds. Default
    /// 3,600; 1 to 86,400.
    pub timeout_seconds: u64,
    /// How often a message is tried before it goes to `<channel>.dead`. Default 3; at least 1.
    pub max_attempts: u32,
    /// Wait before the second attempt, in milliseconds; doubled for each further one. Default 1,000.
    pub retry_initial_ms: u64,
    /// The longest wait before an attempt, in milliseconds. Default 60,000.
    pub retry_max_ms: u64,
    /// Messages that a channel keeps. Default 10,000; at least 1.
    pub retain_messages: u64,
    /// How long a channel keeps acknowledged messages, in seconds. Default 86,400; at least 1.
    pub retain_seconds: u64,
    /// Bytes of payloads that a channel keeps. Default 104,857,600; at least `max_payload_bytes`.
    pub retain_bytes: u64,
    /// Size of a payload as JSON, in bytes. Default 1,048,576; at least 1.
    pub max_payload_bytes: u64,
    /// What happens when a channel is full.
    pub when_full: WhenFull,
    /// What a published message survives. Acknowledgements alone survive `kill -9`; power loss may repeat the last ones.
    pub synchronous: Synchronous,
    /// How long subscribers belong to a process that is stopped, in seconds. Default 120; above `heartbeat_seconds`.
    pub lease_seconds: u64,
    /// How often the lease is extended, in seconds. Default 30; at least 1.
    pub heartbeat_seconds: u64,
}

impl Default for PubSubConfig {
    fn default() -> Self {
        Self {
            database: "sqlite::memory:".to_owned(),
            max_messages: 1_000,
            timeout_seconds: 3_600,
            max_attempts: 3,
            retry_initial_ms: 1_000,
            retry_max_ms: 60_000,
            retain_messages: 10_000,
            retain_seconds: 86_400,
            retain_bytes: 104_857_600,
            max_payload_bytes: 1_048_576,
            when_full: WhenFull::Block,
            synchronous: Synchronous::Full,
            lease_seconds: 120,
            heartbeat_seconds: 30,
        }
    }
}

impl PubSubConfig {
    /// [`DagError::ValidationError`] that names the first field outside of its limits.
    pub fn validate(&self) -> Result<(), DagError> {
        let most = i64::MAX as u64 / 4_000;
        let checks = [
            ("max_messages", self.max_messages >= 1, "at least 1"),
            ("timeout_seconds", (1..=86_400).contains(&self.timeout_seconds), "1 to 86400"),
            ("max_attempts", self.max_attempts >= 1, "at least 1"),
            ("retry_max_ms", self.retry_max_ms <= most, "less than 73000 years"),
            ("retain_messages", (1..=most).contains(&self.retain_messages), "at least 1"),
            ("retain_seconds", (1..=most).contains(&self.retain_seconds), "at least 1"),
            ("max_payload_bytes", self.max_payload_bytes >= 1, "at least 1"),
            (
                "retain_bytes",
                (self.max_payload_bytes..=most).contains(&self.retain_bytes),
                "at least max_payload_bytes",
            ),
            ("heartbeat_seconds", self.heartbeat_seconds >= 1, "at least 1"),
            (
                "lease_seconds",
                (self.heartbeat_seconds + 1..=most).contains(&self.lease_seconds),
                "more than heartbeat_seconds",
            ),
        ];
        match checks.iter().find(|(_, holds, _)| !holds) {
            None => Ok(()),
            Some((field, _, expected)) => {
                Err(DagError::ValidationError(format!("PubSubConfig.{field}: expected {expected}")))
            }
        }
    }

    /// Wait in milliseconds before the attempt after so many failed ones.
    pub(crate) fn delay_ms(&self, failed: u32) -> i64 {
        let factor = 1_u64.checked_shl(failed.saturating_sub(1)).unwrap_or(u64::MAX);
        let delay = self.retry_initial_ms.saturating_mul(factor).min(self.retry_max_ms);
        i64::try_from(delay).unwrap_or(i64::MAX / 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_field_is_named() {
        assert!(PubSubConfig::default().validate().is_ok());
        let refuse = |config: PubSubConfig| config.validate().unwrap_err().to_string();
        let bad = PubSubConfig { max_attempts: 0, ..PubSubConfig::default() };
        assert!(refuse(bad).contains("PubSubConfig.max_attempts"));
        let bad = PubSubConfig { lease_seconds: 30, ..PubSubConfig::default() };
        assert!(refuse(bad).contains("lease_seconds: expected more than heartbeat_seconds"));
        let bad = PubSubConfig { retain_bytes: 5, ..PubSubConfig::default() };
        assert!(refuse(bad).contains("retain_bytes"));
    }

    #[test]
    fn waits_double_up_to_the_longest() {
        let config = PubSubConfig { retry_max_ms: 5_000, ..PubSubConfig::default() };
        let waits: Vec<i64> = [1, 2, 3, 4, 200].map(|failed| config.delay_ms(failed)).to_vec();
        assert_eq!(waits, [1_000, 2_000, 4_000, 5_000, 5_000]);
    }
}
