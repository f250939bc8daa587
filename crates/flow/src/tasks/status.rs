//! Statuses of tasks and which may follow which.
//!
//! ```text
//!              +---------------- resume, resolve ----------------+
//!              v                                                  |
//! Pending -> Ready <-> Running -> Completed -> Accepted        Paused
//!    ^  \      ^  \     |  |  \       \                           ^
//!    |   \     |   v    |  |   \       +-----> Rejected           | pause, poison, doubt
//!    |    +-> Blocked <-+  |    +----> Failed     ^               |
//!    +------ retry --------+                      | cancel        |
//!                              any that is not final -------------+
//! ```

use serde::{Deserialize, Serialize};

use crate::error::DagError;

/// Status of a task; its number is part of the interface.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum TaskStatus {
    /// Waits for its time: `run_at`, or the delay before a repeated attempt.
    #[default]
    Pending = 0,
    /// Waits for tasks that it depends on.
    Blocked = 1,
    /// Could begin.
    Ready = 2,
    /// A worker holds it by a lease.
    Running = 3,
    /// Ended well; its result may still be accepted or rejected.
    Completed = 4,
    /// Ended badly, or cannot begin because of what it depends on.
    Failed = 5,
    /// Stands until a caller resumes or resolves it; the reason says why.
    Paused = 6,
    /// Refused or cancelled by a caller.
    Rejected = 7,
    /// Completed, and a caller took the result.
    Accepted = 8,
}

impl TaskStatus {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 9] = [
        Self::Pending,
        Self::Blocked,
        Self::Ready,
        Self::Running,
        Self::Completed,
        Self::Failed,
        Self::Paused,
        Self::Rejected,
        Self::Accepted,
    ];

    /// Its name in tables and on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Blocked => "blocked",
            Self::Ready => "ready",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Paused => "paused",
            Self::Rejected => "rejected",
            Self::Accepted => "accepted",
        }
    }

    /// Reads [`TaskStatus::name`].
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.name() == name)
    }

    /// Its number, 0 to 8.
    pub fn number(self) -> u8 {
        self as u8
    }

    /// Whether work on it has ended. A completed task may still be accepted or rejected.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Rejected | Self::Accepted)
    }

    /// Whether a task that depends on it may begin.
    pub fn is_satisfied(self) -> bool {
        matches!(self, Self::Completed | Self::Accepted)
    }

    /// Whether a task that depends on it never can begin.
    pub fn is_broken(self) -> bool {
        matches!(self, Self::Failed | Self::Rejected)
    }

    /// Whether nothing more happens to it by itself.
    pub fn rests(self) -> bool {
        self.is_final() || self == Self::Paused
    }

    /// Whether this status may be followed by that one. Nothing else ever happens in the table.
    pub fn can_become(self, next: Self) -> bool {
        use TaskStatus::{
            Accepted, Blocked, Completed, Failed, Paused, Pending, Ready, Rejected, Running,
        };
        match self {
            Pending => matches!(next, Blocked | Ready | Failed | Paused | Rejected),
            Blocked => matches!(next, Pending | Ready | Failed | Paused | Rejected),
            Ready => matches!(next, Pending | Blocked | Running | Failed | Paused | Rejected),
            Running => {
                matches!(next, Pending | Blocked | Ready | Completed | Failed | Paused | Rejected)
            }
            Paused => matches!(next, Pending | Blocked | Ready | Completed | Failed | Rejected),
            Completed => matches!(next, Accepted | Rejected),
            Failed | Rejected | Accepted => false,
        }
    }
}

impl From<TaskStatus> for u8 {
    fn from(status: TaskStatus) -> Self {
        status.number()
    }
}

impl TryFrom<u8> for TaskStatus {
    type Error = DagError;

    fn try_from(number: u8) -> Result<Self, DagError> {
        let found = Self::ALL.into_iter().find(|status| status.number() == number);
        found.ok_or_else(|| {
            DagError::ValidationError(format!("{number} is no task status; expected 0 to 8"))
        })
    }
}

impl std::fmt::Display for TaskStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_are_those_of_the_interface() {
        let names = [
            "pending",
            "blocked",
            "ready",
            "running",
            "completed",
            "failed",
            "paused",
            "rejected",
            "accepted",
        ];
        for (number, name) in (0_u8..).zip(names) {
            let status = TaskStatus::try_from(number).unwrap();
            assert_eq!((status.number(), status.name()), (number, name));
            assert_eq!(TaskStatus::from_name(name), Some(status));
        }
        assert!(TaskStatus::try_from(9).is_err());
        assert_eq!(TaskStatus::from_name("cancelled"), None);
    }

    #[test]
    fn what_is_over_stays_over() {
        for status in TaskStatus::ALL {
            assert!(!status.can_become(status), "{status}");
            let onward: Vec<TaskStatus> =
                TaskStatus::ALL.into_iter().filter(|next| status.can_become(*next)).collect();
            match status {
                TaskStatus::Completed => {
                    assert_eq!(onward, [TaskStatus::Rejected, TaskStatus::Accepted]);
                }
                _ if status.is_final() => assert!(onward.is_empty(), "{status}: {onward:?}"),
                _ => assert!(onward.contains(&TaskStatus::Rejected), "{status}: no cancel"),
            }
        }
    }
}
