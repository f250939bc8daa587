//! The handle that programs hold on tasks.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot, watch};

use super::agent::{AgentRegistry, TaskAgent};
use super::builder::Settings;
use super::center::Center;
use super::dispatcher::{Dispatcher, INBOX, Message};
use super::shared::SharedState;
use super::stats::{QueueStats, RecoveryStats, SchedulerStats, read};
use super::status::TaskStatus;
use super::task::{NewTaskSpec, Task, TaskFilter, TaskId};
use crate::error::DagError;
use crate::journal::outbox::OutboxEvent;
use crate::journal::tasks::{Block, Verb};
use crate::storage::SqliteStorage;

/// The most tasks that one list shows, and events that one call reads.
const MAX_LIST: u32 = 1_000;

/// Makes, runs and controls tasks. A cheap handle; clones share everything.
///
/// When the last handle is dropped the attempts that run are aborted, like in a process that was killed; use
/// [`TaskSystem::stop`] to let them end.
#[derive(Clone)]
pub struct TaskSystem {
    pub(crate) center: Arc<Center>,
    /// Dropped with the last handle.
    _held: Arc<watch::Sender<()>>,
}

impl fmt::Debug for TaskSystem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskSystem")
            .field("agents", &self.center.agents)
            .field("settings", &self.center.settings)
            .finish_non_exhaustive()
    }
}

/// What a caller says of a task whose worker was lost while it ran, or that was lost too often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TaskResolution {
    /// It had no effect: it runs again, with fresh attempts.
    Retry,
    /// It had its effect; this is its output.
    Complete(Bytes),
    /// It failed, for this reason.
    Fail(String),
}

impl TaskSystem {
    pub(crate) fn start(storage: SqliteStorage, settings: Settings, agents: AgentRegistry) -> Self {
        let (inbox, messages) = mpsc::channel(INBOX);
        let center = Arc::new(Center::new(storage, settings, agents, inbox));
        let (held, handles) = watch::channel(());
        tokio::spawn(Dispatcher::new(Arc::clone(&center), messages).run(handles));
        Self { center, _held: Arc::new(held) }
    }

    /// The file.
    pub fn storage(&self) -> &SqliteStorage {
        &self.center.storage
    }

    /// The agents of this process.
    pub fn agents(&self) -> &AgentRegistry {
        &self.center.agents
    }

    /// Adds an agent; tasks that wait for it begin.
    pub fn register(&self, agent: Arc<dyn TaskAgent>) -> Result<(), DagError> {
        self.center.agents.register(agent)?;
        self.center.offered.store(true, std::sync::atomic::Ordering::SeqCst);
        self.center.wake.notify_one();
        Ok(())
    }

    /// Makes a task; it is durable when its id is answered.
    ///
    /// [`DagError::ValidationError`] names a field that is wrong, also where the agent's schema says so;
    /// [`DagError::DependencyNotFound`] a dependency that is not there.
    pub async fn create_task(&self, spec: NewTaskSpec) -> Result<TaskId, DagError> {
        let ids = self.center.create(vec![spec]).await?;
        ids.first().copied().ok_or_else(|| DagError::ExecutionError("no task was made".to_owned()))
    }

    /// Makes a task. The same as [`TaskSystem::create_task`].
    pub async fn submit(&self, spec: NewTaskSpec) -> Result<TaskId, DagError> {
        self.create_task(spec).await
    }

    /// Makes up to 10,000 tasks, all or none, in one commit.
    pub async fn create_tasks(&self, specs: Vec<NewTaskSpec>) -> Result<Vec<TaskId>, DagError> {
        self.center.create(specs).await
    }

    /// Lets a task depend on another one. A running task goes on; one that has not begun waits.
    ///
    /// [`DagError::InvalidGraph`] when the other one waits for this one, told with the whole cycle.
    pub async fn add_dependency(&self, task: TaskId, on: TaskId) -> Result<TaskStatus, DagError> {
        let block = Block { version: None, on: vec![on], stand: false };
        self.center.depend(task, block).await
    }

    /// Gives a task another status, from whatever it has; answers the one that it has then.
    ///
    /// Which one may follow which is told in [`super::status`]; [`DagError::InvalidState`] otherwise. A task that is to
    /// wait is put where it belongs: blocked while a dependency is open, pending until its time, else ready. A running
    /// task that becomes blocked frees its worker and runs again.
    pub async fn update_status(
        &self,
        id: TaskId,
        status: TaskStatus,
    ) -> Result<TaskStatus, DagError> {
        self.set(id, None, status, None, None).await
    }

    /// [`TaskSystem::update_status`], if the task still has the status that is expected. Of several callers that expect
    /// the same, one succeeds; the others get [`DagError::InvalidState`] with both statuses.
    pub async fn compare_and_set(
        &self,
        id: TaskId,
        expected: TaskStatus,
        status: TaskStatus,
    ) -> Result<TaskStatus, DagError> {
        self.set(id, Some(expected), status, None, None).await
    }

    async fn set(
        &self,
        id: TaskId,
        expected: Option<TaskStatus>,
        to: TaskStatus,
        reason: Option<&str>,
        output: Option<Bytes>,
    ) -> Result<TaskStatus, DagError> {
        let verb = if to == TaskStatus::Running {
            let owner = self.storage().owner().name().to_owned();
            Verb::Start { expected, owner, until: self.center.lease_end() }
        } else {
            Verb::Set { expected, to, reason: reason.map(str::to_owned), output }
        };
        self.center.verb(id, verb).await
    }

    /// A task as it stands.
    pub async fn get(&self, id: TaskId) -> Result<Option<Task>, DagError> {
        self.storage().journal().task(id).await
    }

    /// Where a task stands.
    pub async fn status(&self, id: TaskId) -> Result<Option<TaskStatus>, DagError> {
        Ok(self.get(id).await?.map(|task| task.status))
    }

    /// Tasks, newest first, at most `limit` and never more than 1,000.
    pub async fn list(&self, filter: TaskFilter, limit: u32) -> Result<Vec<Task>, DagError> {
        self.storage().journal().task_list(filter, limit.min(MAX_LIST)).await
    }

    /// What a task depends on.
    pub async fn dependencies(&self, id: TaskId) -> Result<Vec<TaskId>, DagError> {
        self.storage().journal().task_dependencies(id).await
    }

    /// Waits until nothing more happens to a task by itself: it has ended, or is paused.
    ///
    /// [`DagError::NodeNotFound`] when there is no such task, [`DagError::InvalidState`] when the system was stopped.
    pub async fn wait(&self, id: TaskId) -> Result<Task, DagError> {
        let mut closed = self.center.closed.subscribe();
        let waiter = self.center.waiter(id);
        loop {
            let notified = waiter.notify.notified();
            tokio::pin!(notified);
            notified.as_mut().enable();
            let found = self.get(id).await?;
            let task =
                found.ok_or_else(|| DagError::NodeNotFound(format!("there is no task {id}")))?;
            if task.status.rests() {
                return Ok(task);
            }
            tokio::select! {
                () = notified => {}
                _ = closed.wait_for(|closed| *closed) => {
                    let text = format!("task {id}: the task system was stopped");
                    return Err(DagError::InvalidState(text));
                }
            }
        }
    }

    /// Cancels a task: it is rejected, with the reason, and so fails what depends on it. An attempt that runs is told,
    /// and aborted after the grace. A task that has ended stays as it is; its status is answered.
    pub async fn cancel(&self, id: TaskId) -> Result<TaskStatus, DagError> {
        self.center.verb(id, Verb::Cancel { reason: "cancelled".to_owned(), parts: false }).await
    }

    /// Cancels a task and everything that is a part of it, however deep.
    pub async fn cancel_with_parts(&self, id: TaskId) -> Result<TaskStatus, DagError> {
        self.center.verb(id, Verb::Cancel { reason: "cancelled".to_owned(), parts: true }).await
    }

    /// Lets a task stand until it is resumed. An attempt that runs is told, and aborted after the grace.
    pub async fn pause(&self, id: TaskId, reason: &str) -> Result<TaskStatus, DagError> {
        self.set(id, None, TaskStatus::Paused, Some(reason), None).await
    }

    /// Lets a paused task go on, with fresh attempts.
    pub async fn resume(&self, id: TaskId) -> Result<TaskStatus, DagError> {
        self.set(id, Some(TaskStatus::Paused), TaskStatus::Ready, None, None).await
    }

    /// Says what happened to a paused task.
    pub async fn resolve(
        &self,
        id: TaskId,
        resolution: TaskResolution,
    ) -> Result<TaskStatus, DagError> {
        let expected = Some(TaskStatus::Paused);
        match resolution {
            TaskResolution::Retry => self.resume(id).await,
            TaskResolution::Complete(output) => {
                self.set(id, expected, TaskStatus::Completed, None, Some(output)).await
            }
            TaskResolution::Fail(reason) => {
                self.set(id, expected, TaskStatus::Failed, Some(&reason), None).await
            }
        }
    }

    /// Takes the result of a completed task.
    pub async fn accept(&self, id: TaskId) -> Result<TaskStatus, DagError> {
        self.update_status(id, TaskStatus::Accepted).await
    }

    /// Refuses a task or the result of a completed one; what depends on it and has not begun fails.
    pub async fn reject(&self, id: TaskId, reason: &str) -> Result<TaskStatus, DagError> {
        self.set(id, None, TaskStatus::Rejected, Some(reason), None).await
    }

    /// Values that tasks share.
    pub fn shared_state(&self) -> SharedState {
        SharedState::new(self.storage().clone(), self.center.settings.synchronous)
    }

    /// Events of changes that are not processed, oldest first, at most 1,000.
    pub async fn outbox(&self, limit: u32) -> Result<Vec<OutboxEvent>, DagError> {
        self.storage().journal().outbox(limit.min(MAX_LIST)).await
    }

    /// Marks events as processed, up to this id.
    pub async fn outbox_processed(&self, up_to: i64) -> Result<(), DagError> {
        self.storage().journal().processed(up_to).await
    }

    /// Removes tasks that ended more than `age` ago, at most 1,000 a call; answers how many. One that an open task depends
    /// on or has spawned stays. Ids do not come again.
    pub async fn forget(&self, age: Duration) -> Result<usize, DagError> {
        let age = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
        let before = self.center.now().saturating_sub(age);
        self.storage().journal().forget_tasks(before, MAX_LIST).await
    }

    /// What the scheduler of this process did.
    pub fn scheduler_stats(&self) -> SchedulerStats {
        self.center.stats.scheduler(self.center.settings.workers)
    }

    /// What became of tasks whose workers were lost.
    pub async fn recovery_stats(&self) -> Result<RecoveryStats, DagError> {
        let counts = self.storage().journal().task_counts().await?;
        let stats = &self.center.stats;
        Ok(RecoveryStats {
            total_running: counts.running,
            retried: read(&stats.recovered),
            paused: read(&stats.paused),
            failed: read(&stats.recovery_failed),
        })
    }

    /// How many tasks stand where.
    pub async fn queue_stats(&self) -> Result<QueueStats, DagError> {
        let counts = self.storage().journal().task_counts().await?;
        Ok(QueueStats {
            pending: counts.pending,
            blocked: counts.blocked,
            ready: counts.ready,
            running: counts.running,
            paused: counts.paused,
            leased: usize::try_from(read(&self.center.stats.leased)).unwrap_or(usize::MAX),
            capacity: self.center.settings.ready_queue,
        })
    }

    /// Claims nothing more, tells attempts to end, aborts them after the grace, gives back what has not ended, and
    /// returns when all that is written. Stopping twice is the same.
    pub async fn stop(&self) {
        let (reply, stopped) = oneshot::channel();
        if self.center.inbox.send(Message::Stop(reply)).await.is_ok() {
            // A dispatcher that has ended answers by being gone.
            drop(stopped.await);
        }
    }
}
