//! What workers need that are no part of this process: claim, heartbeat, complete, fail, block.
//!
//! A claim gives each task with a `version`. Whoever writes with another one than the task has gets
//! [`DagError::StaleLease`] and changes nothing: a late worker can do no harm.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::status::TaskStatus;
use super::system::TaskSystem;
use super::task::{MAX_BYTES, MAX_DEPENDENCIES, Task, TaskId};
use crate::clock::Millis;
use crate::error::DagError;
use crate::journal::tasks::{Block, Claim, Effects, Verb};

/// What a remote worker asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimRequest {
    /// Names of agents whose tasks it can work on, 1 to 100.
    pub agents: Vec<String>,
    /// How many tasks at most, 1 to 512.
    pub max: usize,
    /// How long it may stay silent, 1 s to 1 h.
    pub lease: Duration,
    /// How long it waits when nothing is ready, up to 60 s.
    pub wait: Duration,
}

impl ClaimRequest {
    fn check(&self) -> Result<(), DagError> {
        let second = Duration::from_secs(1);
        let wrong = [
            (self.agents.is_empty() || self.agents.len() > 100, "`agents` names 1 to 100 agents"),
            (!(1..=512).contains(&self.max), "`max` is 1 to 512"),
            (!(second..=second * 3600).contains(&self.lease), "`lease` is 1 s to 1 h"),
            (self.wait > second * 60, "`wait` is at most 60 s"),
        ];
        match wrong.iter().find(|(wrong, _)| *wrong) {
            Some((_, text)) => Err(DagError::ValidationError(format!("claim: {text}"))),
            None => Ok(()),
        }
    }
}

impl TaskSystem {
    /// Gives ready tasks to a remote worker, highest priority first; none when the wait is over.
    ///
    /// When the caller leaves before it has the answer, the tasks run again after their leases.
    pub async fn claim(&self, request: ClaimRequest) -> Result<Vec<Task>, DagError> {
        request.check()?;
        let center = &self.center;
        let mut agents = request.agents.clone();
        agents.sort();
        agents.dedup();
        let agents: std::sync::Arc<[String]> = agents.into();
        let deadline = Instant::now() + request.wait;
        let (mut offers, mut closed) = (center.offers.subscribe(), center.closed.subscribe());
        loop {
            offers.borrow_and_update();
            // A look costs the writer nothing.
            let journal = center.storage.journal();
            if journal.look_around(Vec::new(), std::sync::Arc::clone(&agents)).await?.ready {
                let claim = Claim {
                    agents: std::sync::Arc::clone(&agents),
                    most: request.max,
                    once: request.max,
                    owner: None,
                    until: self.end_of(request.lease),
                };
                let next = Some(claim.until);
                let (mode, rules) = (center.settings.synchronous, center.settings.rules);
                let tasks = journal.claim_tasks(mode, claim, rules).await?;
                if !tasks.is_empty() {
                    journal.settle_claims(mode, &tasks).await?;
                    center.after(&Effects { next, ..Effects::default() });
                    return Ok(tasks);
                }
            }
            let look = deadline.min(Instant::now() + center.settings.poll);
            if deadline <= Instant::now() {
                return Ok(Vec::new());
            }
            tokio::select! {
                // The sender lives as long as the system.
                _ = offers.changed() => {}
                _ = closed.wait_for(|closed| *closed) => return Ok(Vec::new()),
                () = tokio::time::sleep_until(look) => {}
            }
        }
    }

    fn end_of(&self, lease: Duration) -> Millis {
        let lease = i64::try_from(lease.as_millis()).unwrap_or(i64::MAX / 2);
        self.center.now().saturating_add(lease)
    }

    /// Extends a worker's lease to `lease` from now; answers when it ends.
    pub async fn heartbeat(
        &self,
        id: TaskId,
        version: i64,
        lease: Duration,
    ) -> Result<Millis, DagError> {
        let until = self.end_of(lease.clamp(Duration::from_secs(1), Duration::from_hours(1)));
        self.center.verb(id, Verb::Beat { version, until }).await?;
        Ok(until)
    }

    /// A worker's task is done. Where its agent is known here, the output is held to its schema.
    pub async fn complete(
        &self,
        id: TaskId,
        version: i64,
        output: impl Into<Bytes> + Send,
    ) -> Result<TaskStatus, DagError> {
        let output = output.into();
        if output.len() > MAX_BYTES {
            return Err(DagError::ValidationError(format!(
                "task {id}: the output has {} bytes, at most {MAX_BYTES} are taken",
                output.len()
            )));
        }
        if let Some(task) = self.get(id).await?
            && let Some(agent) = self.center.agents.find(&task.agent)
        {
            agent
                .check_output(&output)
                .map_err(|error| DagError::ValidationError(format!("task {id}: {error}")))?;
        }
        self.center.verb(id, Verb::Complete { version, output }).await
    }

    /// A worker's attempt failed; unless that is `permanent` it is repeated after a delay, as often as the task says.
    pub async fn fail(
        &self,
        id: TaskId,
        version: i64,
        error: &str,
        permanent: bool,
    ) -> Result<TaskStatus, DagError> {
        let verb = Verb::Fail { version, error: error.to_owned(), permanent };
        self.center.verb(id, verb).await
    }

    /// A worker's task waits for others; the worker is free, and the task is ready again when they are satisfied.
    pub async fn block(
        &self,
        id: TaskId,
        version: i64,
        on: Vec<TaskId>,
    ) -> Result<TaskStatus, DagError> {
        if on.is_empty() || on.len() > MAX_DEPENDENCIES {
            return Err(DagError::ValidationError(format!(
                "task {id}: it can wait for 1 to {MAX_DEPENDENCIES} tasks, not for {}",
                on.len()
            )));
        }
        let block = Block { version: Some(version), on, stand: true };
        self.center.depend(id, block).await
    }
}
