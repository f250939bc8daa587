//! What the handles, the contexts of attempts and the dispatcher of one task system share.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Notify, mpsc, watch};

use super::agent::AgentRegistry;
use super::builder::Settings;
use super::dispatcher::Message;
use super::stats::{Stats, add};
use super::task::{NewTaskSpec, TaskId};
use crate::clock::Millis;
use crate::error::DagError;
use crate::journal::tasks::{Block, Effects, Verb};
use crate::storage::SqliteStorage;
use crate::tasks::status::TaskStatus;

/// The most tasks that one call makes.
pub(crate) const MAX_TOGETHER: usize = 10_000;

pub(crate) struct Center {
    pub(crate) storage: SqliteStorage,
    pub(crate) settings: Settings,
    pub(crate) agents: AgentRegistry,
    pub(crate) stats: Stats,
    /// To the dispatcher.
    pub(crate) inbox: mpsc::Sender<Message>,
    pub(crate) wake: Notify,
    /// Whether something may be ready for the dispatcher.
    pub(crate) offered: AtomicBool,
    /// When something is due, as far as this process knows.
    pub(crate) due: AtomicI64,
    pub(crate) revoked: Mutex<Vec<TaskId>>,
    /// Rises when something becomes ready; remote workers wait for it.
    pub(crate) offers: watch::Sender<u64>,
    /// Whether the dispatcher has ended.
    pub(crate) closed: watch::Sender<bool>,
    waiters: Mutex<HashMap<TaskId, Arc<Notify>>>,
}

impl Center {
    pub(crate) fn new(
        storage: SqliteStorage,
        settings: Settings,
        agents: AgentRegistry,
        inbox: mpsc::Sender<Message>,
    ) -> Self {
        Self {
            storage,
            settings,
            agents,
            stats: Stats::default(),
            inbox,
            wake: Notify::new(),
            // The file may hold work already.
            offered: AtomicBool::new(true),
            due: AtomicI64::new(i64::MIN),
            revoked: Mutex::default(),
            offers: watch::Sender::new(0),
            closed: watch::Sender::new(false),
            waiters: Mutex::default(),
        }
    }

    pub(crate) fn now(&self) -> Millis {
        self.storage.clock().now()
    }

    /// When a lease ends that begins now.
    pub(crate) fn lease_end(&self) -> Millis {
        let lease = i64::try_from(self.settings.lease.as_millis()).unwrap_or(i64::MAX / 2);
        self.now().saturating_add(lease)
    }

    /// Tells everybody in this process what a job did.
    pub(crate) fn after(&self, effects: &Effects) {
        add(&self.stats.retried, effects.retried);
        let mut wakes = false;
        if let Some(next) = effects.next {
            wakes |= self.due.fetch_min(next, Ordering::SeqCst) > next;
        }
        if effects.ready > 0 {
            self.offered.store(true, Ordering::SeqCst);
            self.offers.send_modify(|count| *count += 1);
            wakes = true;
        }
        if !effects.revoked.is_empty() {
            let mut revoked = self.revoked.lock().unwrap_or_else(PoisonError::into_inner);
            revoked.extend(&effects.revoked);
            wakes = true;
        }
        self.settle(&effects.settled);
        if wakes {
            self.wake.notify_one();
        }
    }

    /// Lets those look again who wait for these tasks.
    pub(crate) fn settle(&self, tasks: &[TaskId]) {
        if tasks.is_empty() {
            return;
        }
        let waiters = self.waiters.lock().unwrap_or_else(PoisonError::into_inner);
        if waiters.is_empty() {
            return;
        }
        for notify in tasks.iter().filter_map(|id| waiters.get(id)) {
            notify.notify_waiters();
        }
    }

    /// Tasks that somebody waits for.
    pub(crate) fn waited(&self) -> Vec<TaskId> {
        let waiters = self.waiters.lock().unwrap_or_else(PoisonError::into_inner);
        waiters.keys().copied().collect()
    }

    /// Makes tasks.
    pub(crate) async fn create(&self, specs: Vec<NewTaskSpec>) -> Result<Vec<TaskId>, DagError> {
        if specs.is_empty() || specs.len() > MAX_TOGETHER {
            return Err(DagError::ValidationError(format!(
                "{} new tasks: one call makes 1 to {MAX_TOGETHER}",
                specs.len()
            )));
        }
        for spec in &specs {
            spec.check()?;
            if let Some(agent) = self.agents.find(&spec.agent) {
                agent.check_input(&spec.input).map_err(|error| {
                    DagError::ValidationError(format!("new task of agent {}: {error}", spec.agent))
                })?;
            }
        }
        let count = specs.len();
        let (mode, rules) = (self.settings.synchronous, self.settings.rules);
        let made = self.storage.journal().make_tasks(mode, specs.into(), rules).await?;
        add(&self.stats.submitted, count);
        self.after(&made.effects);
        Ok(made.ids)
    }

    /// Does something to a task.
    pub(crate) async fn verb(&self, id: TaskId, verb: Verb) -> Result<TaskStatus, DagError> {
        let (mode, rules) = (self.settings.synchronous, self.settings.rules);
        let (status, effects) = self.storage.journal().task_verb(mode, id, verb, rules).await?;
        self.after(&effects);
        Ok(status)
    }

    /// Lets a task depend on others.
    pub(crate) async fn depend(&self, id: TaskId, block: Block) -> Result<TaskStatus, DagError> {
        let (mode, rules) = (self.settings.synchronous, self.settings.rules);
        let (status, effects) = self.storage.journal().task_depends(mode, id, block, rules).await?;
        self.after(&effects);
        Ok(status)
    }

    /// Somebody who waits for a task from now on.
    pub(crate) fn waiter(&self, id: TaskId) -> Waiter<'_> {
        let mut waiters = self.waiters.lock().unwrap_or_else(PoisonError::into_inner);
        Waiter { center: self, id, notify: Arc::clone(waiters.entry(id).or_default()) }
    }
}

/// Forgets the waiter when it leaves.
pub(crate) struct Waiter<'center> {
    center: &'center Center,
    id: TaskId,
    pub(crate) notify: Arc<Notify>,
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let mut waiters = self.center.waiters.lock().unwrap_or_else(PoisonError::into_inner);
        // The table's and this one's.
        if Arc::strong_count(&self.notify) <= 2 {
            waiters.remove(&self.id);
        }
    }
}
