//! What can go wrong, for callers of the library and for what actions and agents answer.

use std::fmt;

/// A failure of the library. Its text names the run and the node where there is one, and the cause.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DagError {
    /// The run's own time limit is over; its state is kept and it can be resumed.
    #[error("time limit exceeded: {0}")]
    ExecutionTimeout(String),
    /// An input, a setting or a definition is wrong; the text names the field and what was expected.
    #[error("invalid: {0}")]
    ValidationError(String),
    /// No node of that id.
    #[error("node not found: {0}")]
    NodeNotFound(String),
    /// No action of that name.
    #[error("action not found: {0}")]
    ActionNotFound(String),
    /// A definition names actions that nobody registered; all are listed.
    #[error("action not registered: {0}")]
    ActionNotRegistered(String),
    /// No definition or run of that name.
    #[error("flow or run not found: {0}")]
    DagNotFound(String),
    /// A dependency names no node.
    #[error("dependency not found: {0}")]
    DependencyNotFound(String),
    /// The id is taken by a node with another definition.
    #[error("node already exists: {0}")]
    NodeAlreadyExists(String),
    /// The definition is no graph that can run: a cycle, a duplicate, nothing in it.
    #[error("invalid graph: {0}")]
    InvalidGraph(String),
    /// The state does not allow the verb; the text names the state.
    #[error("invalid state: {0}")]
    InvalidState(String),
    /// A node failed.
    #[error("execution failed: {0}")]
    ExecutionError(String),
    /// A value cannot be turned into, or read from, its stored form.
    #[error("cannot convert: {0}")]
    SerializationError(String),
    /// The database failed; nothing was half done.
    #[error("database: {0}")]
    DatabaseError(String),
    /// Something is held by another process.
    #[error("locked: {0}")]
    LockError(String),
    /// The run was cancelled.
    #[error("cancelled: {0}")]
    Cancelled(String),
    /// A channel holds all it may and its subscribers are behind.
    #[error("channel full: {0}")]
    ChannelFull(String),
    /// Another process has taken the run or task over; nothing was written.
    #[error("stale lease: {0}")]
    StaleLease(String),
}

impl DagError {
    /// Whether a repeated attempt could end otherwise.
    pub fn is_permanent(&self) -> bool {
        !matches!(
            self,
            Self::ExecutionTimeout(_)
                | Self::ExecutionError(_)
                | Self::DatabaseError(_)
                | Self::LockError(_)
                | Self::ChannelFull(_)
        )
    }
}

impl From<mayfly_core::Error> for DagError {
    fn from(error: mayfly_core::Error) -> Self {
        let hint = error.hint().map_or_else(String::new, |hint| format!("; hint: {hint}"));
        let cause = std::error::Error::source(&error)
            .map_or_else(String::new, |source| format!(" ({source})"));
        Self::DatabaseError(format!("{error}{cause}{hint}"))
    }
}

impl From<serde_json::Error> for DagError {
    fn from(error: serde_json::Error) -> Self {
        Self::SerializationError(error.to_string())
    }
}

/// What an agent or action answers when it fails; the sort decides whether it is tried again.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AgentError {
    /// The input or the request is wrong: not tried again.
    #[error("{0}")]
    User(String),
    /// Something needed failed: tried again.
    #[error("{0}")]
    System(String),
    /// It took too long: tried again.
    #[error("timed out: {0}")]
    Timeout(String),
    /// Its task waits for others and runs again after them. Made by `TaskContext::wait_for`; hand it on with `?`.
    #[error("waits for other tasks: {0}")]
    Blocked(String),
}

impl From<DagError> for AgentError {
    fn from(error: DagError) -> Self {
        let text = error.to_string();
        if error.is_permanent() { Self::User(text) } else { Self::System(text) }
    }
}

/// Wraps the error of an action so that it is not tried again.
#[derive(Debug)]
pub struct Permanent(pub anyhow::Error);

impl fmt::Display for Permanent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl std::error::Error for Permanent {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source()
    }
}

/// Whether an action's error says that a repeated attempt could not end otherwise.
pub fn is_permanent(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause.is::<Permanent>()
            || matches!(cause.downcast_ref(), Some(AgentError::User(_)))
            || cause.downcast_ref::<DagError>().is_some_and(DagError::is_permanent)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sort_of_an_error_decides_about_another_attempt() {
        let cases = [
            (anyhow::Error::new(AgentError::User("bad".into())), true),
            (anyhow::Error::new(AgentError::System("down".into())), false),
            (anyhow::Error::new(AgentError::Timeout("slow".into())), false),
            (anyhow::anyhow!("something"), false),
            (anyhow::Error::new(Permanent(anyhow::anyhow!("never"))).context("outer"), true),
            (anyhow::Error::new(DagError::ValidationError("x".into())), true),
            (anyhow::Error::new(DagError::ExecutionTimeout("x".into())), false),
        ];
        for (error, permanent) in cases {
            assert_eq!(is_permanent(&error), permanent, "{error:?}");
        }
    }
}
