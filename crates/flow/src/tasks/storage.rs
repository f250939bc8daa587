//! The port that tasks are kept by, as a trait of few calls, and its form on `SQLite`.

use async_trait::async_trait;
use bytes::Bytes;

use super::builder::Settings;
use super::decide::Rules;
use super::shared::SharedState;
use super::status::TaskStatus;
use super::task::{Task, TaskFilter, TaskId};
use crate::error::DagError;
use crate::journal::Synchronous;
use crate::journal::tasks::Verb;
use crate::storage::SqliteStorage;

/// Keeps tasks. Each call that changes something is durable when it returns, and all or nothing.
#[async_trait]
pub trait Storage: Send + Sync {
    /// Writes a task as it is given, whatever was there under its id.
    async fn put(&self, task: &Task) -> Result<(), DagError>;

    /// A task.
    async fn get(&self, id: TaskId) -> Result<Option<Task>, DagError>;

    /// Changes a task's status if it is still the old one. Of several callers one succeeds; a miss is
    /// [`DagError::InvalidState`] and names the expected and the actual status.
    async fn update_status(
        &self,
        id: TaskId,
        old: TaskStatus,
        new: TaskStatus,
    ) -> Result<(), DagError>;

    /// Where a task stands.
    async fn get_status(&self, id: TaskId) -> Result<Option<TaskStatus>, DagError>;

    /// A task's output.
    async fn get_output(&self, id: TaskId) -> Result<Option<Bytes>, DagError>;

    /// Writes a task's output, whatever its status is.
    async fn update_output(&self, id: TaskId, output: &[u8]) -> Result<(), DagError>;

    /// Tasks that workers hold, newest first, at most 1,000.
    async fn list_running(&self) -> Result<Vec<Task>, DagError>;

    /// Returns when everything that was written before is in the file itself and survives power loss.
    async fn flush(&self) -> Result<(), DagError>;

    /// Reserves an id that never comes again.
    async fn next_task_id(&self) -> Result<TaskId, DagError>;

    /// A value that tasks share.
    async fn get_shared_state(&self, scope: &str, key: &str) -> Result<Option<Bytes>, DagError>;

    /// Writes a value that tasks share.
    async fn set_shared_state(&self, scope: &str, key: &str, value: &[u8]) -> Result<(), DagError>;

    /// Removes a value that tasks share; whether there was one.
    async fn delete_shared_state(&self, scope: &str, key: &str) -> Result<bool, DagError>;
}

#[async_trait]
impl Storage for SqliteStorage {
    async fn put(&self, task: &Task) -> Result<(), DagError> {
        self.journal().put_task(task.clone()).await
    }

    async fn get(&self, id: TaskId) -> Result<Option<Task>, DagError> {
        self.journal().task(id).await
    }

    async fn update_status(
        &self,
        id: TaskId,
        old: TaskStatus,
        new: TaskStatus,
    ) -> Result<(), DagError> {
        let expected = Some(old);
        let verb = if new == TaskStatus::Running {
            let lease = i64::try_from(Settings::default().lease.as_millis()).unwrap_or(0);
            let until = self.clock().now().saturating_add(lease);
            Verb::Start { expected, owner: self.owner().name().to_owned(), until }
        } else {
            Verb::Set { expected, to: new, reason: None, output: None }
        };
        let rules = Rules::default();
        self.journal().task_verb(Synchronous::Full, id, verb, rules).await.map(drop)
    }

    async fn get_status(&self, id: TaskId) -> Result<Option<TaskStatus>, DagError> {
        Ok(self.journal().task(id).await?.map(|task| task.status))
    }

    async fn get_output(&self, id: TaskId) -> Result<Option<Bytes>, DagError> {
        Ok(self.journal().task(id).await?.and_then(|task| task.output))
    }

    async fn update_output(&self, id: TaskId, output: &[u8]) -> Result<(), DagError> {
        if self.journal().put_output(id, output.to_vec()).await? {
            return Ok(());
        }
        Err(DagError::NodeNotFound(format!("there is no task {id}")))
    }

    async fn list_running(&self) -> Result<Vec<Task>, DagError> {
        let filter = TaskFilter { status: Some(TaskStatus::Running), ..TaskFilter::default() };
        self.journal().task_list(filter, 1_000).await
    }

    async fn flush(&self) -> Result<(), DagError> {
        self.journal().flush().await
    }

    async fn next_task_id(&self) -> Result<TaskId, DagError> {
        self.journal().next_task_id().await
    }

    async fn get_shared_state(&self, scope: &str, key: &str) -> Result<Option<Bytes>, DagError> {
        SharedState::new(self.clone(), Synchronous::Full).get(scope, key).await
    }

    async fn set_shared_state(&self, scope: &str, key: &str, value: &[u8]) -> Result<(), DagError> {
        SharedState::new(self.clone(), Synchronous::Full).put(scope, key, value).await.map(drop)
    }

    async fn delete_shared_state(&self, scope: &str, key: &str) -> Result<bool, DagError> {
        SharedState::new(self.clone(), Synchronous::Full).delete(scope, key).await
    }
}
