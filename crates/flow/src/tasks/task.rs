//! Tasks as callers see them, and what a new one is made of.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::status::TaskStatus;
use crate::clock::Millis;
use crate::durability::Durability;
use crate::error::DagError;

/// The longest input or output of a task, in bytes. Store larger things as artifacts and pass their ids.
pub const MAX_BYTES: usize = 1 << 20;
/// The most dependencies that one call may name.
pub const MAX_DEPENDENCIES: usize = 10_000;
/// Time limit of an attempt that says nothing.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_mins(5);
/// Repeated attempts of a task that says nothing.
pub const DEFAULT_RETRIES: u32 = 3;

/// Id of a task: a whole number from 1 that never comes twice in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TaskId(pub i64);

impl std::fmt::Display for TaskId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// How large a piece of work is; for people and for lists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskType {
    /// What is to be reached.
    Objective,
    /// A part of it that somebody could judge by itself.
    Story,
    /// A piece of work.
    #[default]
    Task,
    /// A part of one.
    Subtask,
}

impl TaskType {
    /// Its name in tables and on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Objective => "objective",
            Self::Story => "story",
            Self::Task => "task",
            Self::Subtask => "subtask",
        }
    }

    /// Reads [`TaskType::name`].
    pub fn from_name(name: &str) -> Option<Self> {
        let all = [Self::Objective, Self::Story, Self::Task, Self::Subtask];
        all.into_iter().find(|kind| kind.name() == name)
    }
}

/// A task to make.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NewTaskSpec {
    /// Name of the agent that is to work on it. It may be registered later, or in another process.
    pub agent: String,
    /// What the agent gets; JSON for agents with schemas. At most [`MAX_BYTES`].
    pub input: Bytes,
    /// Tasks that must be completed or accepted before. At most [`MAX_DEPENDENCIES`].
    pub dependencies: Vec<TaskId>,
    /// What a crash during an attempt means. Default `BestEffort`.
    pub durability: Durability,
    /// Default `Task`.
    pub task_type: TaskType,
    /// For people.
    pub description: String,
    /// Time limit of an attempt. `None` is [`DEFAULT_TIMEOUT`], 300 s.
    pub timeout: Option<Duration>,
    /// Repeated attempts after failures. `None` is [`DEFAULT_RETRIES`], 3.
    pub max_retries: Option<u32>,
    /// The task that it is a part of.
    pub parent: Option<TaskId>,
    /// Higher begins earlier; equal ones begin in the order of their ids. Default 0.
    pub priority: i64,
    /// Not before this moment, in milliseconds since the epoch.
    pub run_at: Option<Millis>,
    /// A second task of the same key (and parent) is not made: the first one's id is answered.
    pub key: Option<String>,
}

impl NewTaskSpec {
    /// A task for an agent, with defaults.
    pub fn new(agent: impl Into<String>, input: impl Into<Bytes>) -> Self {
        Self { agent: agent.into(), input: input.into(), ..Self::default() }
    }

    /// A task for an agent that takes JSON.
    pub fn json(agent: impl Into<String>, input: &Value) -> Self {
        Self::new(agent, input.to_string())
    }

    /// Refuses what cannot be stored; the text names the field.
    pub(crate) fn check(&self) -> Result<(), DagError> {
        let refuse = |text: String| Err(DagError::ValidationError(format!("new task: {text}")));
        if self.agent.is_empty() {
            return refuse("`agent` is empty; give the name of an agent".to_owned());
        }
        let bytes = self.input.len();
        if bytes > MAX_BYTES {
            return refuse(format!(
                "`input` has {bytes} bytes, at most {MAX_BYTES} are taken; store it as an artifact and pass its id"
            ));
        }
        let count = self.dependencies.len();
        if count > MAX_DEPENDENCIES {
            return refuse(format!(
                "`dependencies` names {count} tasks, at most {MAX_DEPENDENCIES}"
            ));
        }
        if self.timeout.is_some_and(|limit| limit.is_zero()) {
            return refuse("`timeout` is 0; leave it out for 300 s".to_owned());
        }
        Ok(())
    }
}

/// A task as it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Task {
    /// Its id.
    pub id: TaskId,
    /// Name of the agent that works on it.
    pub agent: String,
    /// What the agent gets.
    pub input: Bytes,
    /// Where it stands.
    pub status: TaskStatus,
    /// Why it stands there, where there is something to say: the last error, a lost worker, a caller's reason.
    pub status_reason: Option<String>,
    /// What the agent gave.
    pub output: Option<Bytes>,
    /// How large a piece of work it is.
    pub task_type: TaskType,
    /// For people.
    pub description: String,
    /// What a crash during an attempt means.
    pub durability: Durability,
    /// Higher begins earlier.
    pub priority: i64,
    /// Time limit of an attempt.
    pub timeout: Duration,
    /// Repeated attempts after failures at most.
    pub max_retries: u32,
    /// Repeated attempts so far.
    pub retries: u32,
    /// How often a worker got it.
    pub deliveries: u32,
    /// How often its worker was lost.
    pub recoveries: u32,
    /// Dependencies that are not satisfied yet.
    pub unmet: u32,
    /// The task that it is a part of.
    pub parent: Option<TaskId>,
    /// Not before this moment.
    pub run_at: Option<Millis>,
    /// Rises with each change of status. A worker writes with the one that its claim gave it.
    pub version: i64,
    /// The process that works on it; none for a worker that came through the remote calls.
    pub owner: Option<String>,
    /// When its worker is taken for lost.
    pub lease_expires_at: Option<Millis>,
    /// When it was made.
    pub created_at: Millis,
    /// When its status changed last.
    pub updated_at: Millis,
}

impl Task {
    /// Its input read as JSON; nothing at all is null.
    pub fn input_json(&self) -> Result<Value, DagError> {
        json(&self.input).map_err(|error| {
            DagError::SerializationError(format!("input of task {}: {error}", self.id))
        })
    }

    /// Its output read as JSON; null while there is none.
    pub fn output_json(&self) -> Result<Value, DagError> {
        json(self.output.as_deref().unwrap_or_default()).map_err(|error| {
            DagError::SerializationError(format!("output of task {}: {error}", self.id))
        })
    }
}

/// Which tasks a list shows.
#[derive(Clone, Debug, Default)]
pub struct TaskFilter {
    /// Only those of this status.
    pub status: Option<TaskStatus>,
    /// Only those of this agent.
    pub agent: Option<String>,
    /// Only parts of this task.
    pub parent: Option<TaskId>,
    /// Only those of this type.
    pub task_type: Option<TaskType>,
    /// Only those with a smaller id: the last one of the page before.
    pub before: Option<TaskId>,
}

/// Bytes read as JSON; none at all are null.
pub(crate) fn json(bytes: &[u8]) -> Result<Value, serde_json::Error> {
    if bytes.is_empty() { Ok(Value::Null) } else { serde_json::from_slice(bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_stored_is_refused_by_field() {
        let fine = NewTaskSpec::new("agent", "input");
        assert!(fine.check().is_ok());
        let cases = [
            (NewTaskSpec::default(), "`agent`"),
            (NewTaskSpec::new("a", vec![0; MAX_BYTES + 1]), "`input`"),
            (
                NewTaskSpec { dependencies: vec![TaskId(1); MAX_DEPENDENCIES + 1], ..fine.clone() },
                "`dependencies`",
            ),
            (NewTaskSpec { timeout: Some(Duration::ZERO), ..fine }, "`timeout`"),
        ];
        for (spec, field) in cases {
            let error = spec.check().unwrap_err().to_string();
            assert!(error.contains(field), "{error}");
        }
    }

    #[test]
    fn no_bytes_are_null() {
        assert_eq!(json(b"").unwrap(), Value::Null);
        assert_eq!(json(b"5").unwrap(), Value::from(5));
        assert!(json(b"{").is_err());
    }
}
