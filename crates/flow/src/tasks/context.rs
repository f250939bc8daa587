//! What an attempt on a task knows and may do.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;

use super::center::Center;
use super::shared::SharedState;
use super::status::TaskStatus;
use super::task::{NewTaskSpec, Task, TaskId};
use crate::error::{AgentError, DagError};
use crate::journal::tasks::Block;

/// One attempt on a task, for its agent.
pub struct TaskContext {
    task: Task,
    center: Arc<Center>,
    cancel: watch::Receiver<bool>,
    /// Whether the task waits for others now: what the attempt answers is not needed any more.
    left: AtomicBool,
    spawned: Arc<Mutex<HashMap<[u8; 32], u32>>>,
}

impl fmt::Debug for TaskContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskContext")
            .field("task", &self.task.id)
            .field("version", &self.task.version)
            .finish_non_exhaustive()
    }
}

impl TaskContext {
    pub(crate) fn new(task: Task, center: Arc<Center>, cancel: watch::Receiver<bool>) -> Self {
        Self { task, center, cancel, left: AtomicBool::new(false), spawned: Arc::default() }
    }

    pub(crate) fn has_left(&self) -> bool {
        self.left.load(Ordering::SeqCst)
    }

    /// The task, as it was when the attempt began.
    pub fn task(&self) -> &Task {
        &self.task
    }

    /// Its id.
    pub fn task_id(&self) -> TaskId {
        self.task.id
    }

    /// Which attempt it is, from 1. With the task's id it names the attempt, for others to know a repeated one by.
    pub fn attempt(&self) -> u32 {
        self.task.deliveries
    }

    /// Makes tasks for others to work on.
    pub fn handle(&self) -> TaskHandle {
        TaskHandle {
            center: Arc::clone(&self.center),
            task: self.task.id,
            spawned: Arc::clone(&self.spawned),
        }
    }

    /// Values that tasks share.
    pub fn shared(&self) -> SharedState {
        SharedState::new(self.center.storage.clone(), self.center.settings.synchronous)
    }

    /// Output of a task; `None` until it has completed.
    pub async fn dependency_output(&self, id: TaskId) -> Result<Option<Bytes>, AgentError> {
        let found = self.center.storage.journal().task(id).await?;
        let task = found.ok_or_else(|| {
            AgentError::User(format!("task {}: there is no task {id}", self.task.id))
        })?;
        Ok(task.output.filter(|_| task.status.is_satisfied()))
    }

    /// Waits for other tasks without holding the worker.
    ///
    /// Returns at once when all of them are satisfied. Otherwise the task is blocked, and this is
    /// [`AgentError::Blocked`], which the agent hands on with `?`: when they are satisfied it runs again from its
    /// beginning, and comes through here. Tasks that it spawned are then there already. When one of them fails, this task
    /// fails with the reason; waiting for a task that waits for this one is refused.
    pub async fn wait_for(&self, on: &[TaskId]) -> Result<(), AgentError> {
        let mut open = Vec::new();
        for id in on {
            let found = self.center.storage.journal().task(*id).await?;
            if !found.is_some_and(|task| task.status.is_satisfied()) {
                open.push(*id);
            }
        }
        if open.is_empty() {
            return Ok(());
        }
        let names: Vec<String> = open.iter().map(ToString::to_string).collect();
        let block = Block { version: Some(self.task.version), on: open, stand: true };
        self.center.depend(self.task.id, block).await?;
        self.left.store(true, Ordering::SeqCst);
        Err(AgentError::Blocked(names.join(", ")))
    }

    /// Whether a caller cancelled or paused the task, or the system is stopping.
    pub fn is_cancelled(&self) -> bool {
        *self.cancel.borrow()
    }

    /// Returns when that is so. An attempt that goes on is aborted after the grace.
    pub async fn cancelled(&self) {
        let mut cancel = self.cancel.clone();
        if cancel.wait_for(|cancelled| *cancelled).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Says that the attempt is alive. The system extends leases by itself; this fails with [`DagError::StaleLease`] or
    /// [`DagError::Cancelled`] when going on is in vain.
    pub async fn heartbeat(&self) -> Result<(), DagError> {
        if self.is_cancelled() {
            return Err(DagError::Cancelled(format!("task {}", self.task.id)));
        }
        let until = self.center.lease_end();
        let verb = crate::journal::tasks::Verb::Beat { version: self.task.version, until };
        self.center.verb(self.task.id, verb).await.map(drop)
    }

    /// Status of a task.
    pub async fn status(&self, id: TaskId) -> Result<Option<TaskStatus>, DagError> {
        Ok(self.center.storage.journal().task(id).await?.map(|task| task.status))
    }
}

/// Makes tasks as parts of the one that an attempt works on.
#[derive(Clone)]
pub struct TaskHandle {
    center: Arc<Center>,
    task: TaskId,
    spawned: Arc<Mutex<HashMap<[u8; 32], u32>>>,
}

impl fmt::Debug for TaskHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TaskHandle").field(&self.task).finish()
    }
}

impl TaskHandle {
    /// Makes a task, as a part of this one unless it names another parent.
    ///
    /// A repeated attempt that spawns the same again gets the task that is there: the n-th spawn with equal agent, input,
    /// type, description and dependencies is the same task. Give a `key` to say yourself which tasks are the same.
    pub async fn spawn_task(&self, mut spec: NewTaskSpec) -> Result<TaskId, DagError> {
        spec.parent = spec.parent.or(Some(self.task));
        if spec.key.is_none() {
            spec.key = Some(self.key(&spec));
        }
        let ids = self.center.create(vec![spec]).await?;
        ids.first().copied().ok_or_else(|| {
            DagError::ExecutionError(format!("task {}: no task was made", self.task))
        })
    }

    /// Makes a task that depends on `on`.
    pub async fn spawn_dependent(
        &self,
        on: TaskId,
        mut spec: NewTaskSpec,
    ) -> Result<TaskId, DagError> {
        if !spec.dependencies.contains(&on) {
            spec.dependencies.push(on);
        }
        self.spawn_task(spec).await
    }

    /// By what and as which of several equal ones a spawned task is known again.
    fn key(&self, spec: &NewTaskSpec) -> String {
        let mut hash = Sha256::new();
        let parts = [spec.agent.as_bytes(), &spec.input, spec.description.as_bytes()];
        for part in parts {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        hash.update(spec.task_type.name());
        for on in &spec.dependencies {
            hash.update(on.0.to_le_bytes());
        }
        let digest: [u8; 32] = hash.finalize().into();
        let mut spawned = self.spawned.lock().unwrap_or_else(PoisonError::into_inner);
        let count = spawned.entry(digest).or_default();
        *count += 1;
        format!("spawned {count} {digest:?}")
    }
}
