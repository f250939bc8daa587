//! States of runs and of attempts, and their names in the file.

use serde::{Deserialize, Serialize};

/// State of a run.
///
/// ```text
/// pending -> running -> completed | failed | cancelled
///               |  ^
///               v  |  resume
///        paused, timed_out
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    /// Accepted, nothing began.
    #[default]
    Pending,
    /// Going on, or waiting for a time, a signal or a person.
    Running,
    /// Stands until it is resumed; the reason says why.
    Paused,
    /// Everything ended well.
    Completed,
    /// Something failed and nothing more will happen.
    Failed,
    /// Ended by a caller.
    Cancelled,
    /// Its own time limit ran out; it can be resumed.
    TimedOut,
}

impl RunStatus {
    /// Its name in tables and on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::TimedOut => "timed_out",
        }
    }

    /// Reads [`RunStatus::name`].
    pub fn from_name(name: &str) -> Option<Self> {
        let all = [
            Self::Pending,
            Self::Running,
            Self::Paused,
            Self::Completed,
            Self::Failed,
            Self::Cancelled,
            Self::TimedOut,
        ];
        all.into_iter().find(|status| status.name() == name)
    }

    /// Whether nothing will ever change again.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }
}

/// State of one invocation of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Waits for its dependencies, or for the time of its next attempt.
    #[default]
    Pending,
    /// Could begin.
    Ready,
    /// An attempt is in flight.
    Running,
    /// Waits for a person or a signal.
    Waiting,
    /// Nobody knows whether the attempt had its effect; a caller must resolve it.
    Paused,
    /// Ended well.
    Completed,
    /// Its last attempt failed.
    Failed,
    /// Never began, because of what came before it.
    Skipped,
    /// Ended by a caller.
    Cancelled,
}

impl State {
    /// Whether it has ended.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Skipped | Self::Cancelled)
    }

    /// Its name in tables and on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Ready => "ready",
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Paused => "paused",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
            Self::Cancelled => "cancelled",
        }
    }
}
