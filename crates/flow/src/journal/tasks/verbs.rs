//! Jobs on one task: what callers and remote workers do to it.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use mayfly_store::sqlite::Fault;
use rusqlite::params;

use super::turn::{Claim, Turned, extend, take};
use super::{Effects, Happened, Pen};
use crate::clock::Millis;
use crate::durability::Durability;
use crate::error::DagError;
use crate::journal::{Journal, Synchronous};
use crate::tasks::decide::{Event, Rules};
use crate::tasks::status::TaskStatus;
use crate::tasks::task::{Task, TaskId};

/// What is done to a task.
#[derive(Clone, Debug)]
pub(crate) enum Verb {
    /// By a caller; `expected` is the status that it must have.
    Set {
        expected: Option<TaskStatus>,
        to: TaskStatus,
        reason: Option<String>,
        output: Option<Bytes>,
    },
    /// By a caller who wants it to have this status, with a lease of `owner`.
    Start { expected: Option<TaskStatus>, owner: String, until: Millis },
    /// By a caller; with everything that is a part of it.
    Cancel { reason: String, parts: bool },
    /// By the worker that holds it.
    Complete { version: i64, output: Bytes },
    /// By the worker that holds it.
    Fail { version: i64, error: String, permanent: bool },
    /// By the worker that holds it.
    Beat { version: i64, until: Millis },
}

/// A task waits for others; `version` is that of the worker which holds it.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    pub(crate) version: Option<i64>,
    pub(crate) on: Vec<TaskId>,
    /// Whether it stands until then; else the dependencies are noted and it goes on.
    pub(crate) stand: bool,
}

type Answer = Result<(TaskStatus, Effects), DagError>;

impl Journal {
    /// Does something to a task; answers the status that it has then.
    pub(crate) async fn task_verb(
        &self,
        mode: Synchronous,
        id: TaskId,
        verb: Verb,
        rules: Rules,
    ) -> Result<(TaskStatus, Effects), DagError> {
        let now = self.clock().now();
        self.write(mode, "change a task", move |db| {
            let mut pen = Pen::new(db, now, &rules);
            let answer = perform(&mut pen, id, &verb)?;
            Ok(answer.map(|status| (status, std::mem::take(&mut pen.effects))))
        })
        .await?
    }

    /// Lets a task depend on others.
    pub(crate) async fn task_depends(
        &self,
        mode: Synchronous,
        id: TaskId,
        block: Block,
        rules: Rules,
    ) -> Result<(TaskStatus, Effects), DagError> {
        let now = self.clock().now();
        self.write(mode, "let a task wait for others", move |db| -> Result<Answer, Fault> {
            let mut pen = Pen::new(db, now, &rules);
            let answer = depend(&mut pen, id, &block)?;
            Ok(answer.map(|status| (status, std::mem::take(&mut pen.effects))))
        })
        .await?
    }

    /// Ready tasks with leases, for a worker that is not of this process.
    pub(crate) async fn claim_tasks(
        &self,
        mode: Synchronous,
        claim: Claim,
        rules: Rules,
    ) -> Result<Vec<Task>, DagError> {
        let (now, claim) = (self.clock().now(), Arc::new(claim));
        self.write(mode, "claim tasks", move |db| {
            let mut done = Turned::default();
            take(&mut Pen::new(db, now, &rules), &claim, &mut done)?;
            Ok(done.claimed)
        })
        .await
    }

    /// Before tasks that must not be repeated begin, that they begin must survive what would make them begin again.
    pub(crate) async fn settle_claims(
        &self,
        mode: Synchronous,
        claimed: &[Task],
    ) -> Result<(), DagError> {
        let once = claimed.iter().any(|task| task.durability == Durability::AtMostOnce);
        if mode == Synchronous::Full || !once {
            return Ok(());
        }
        // A commit that the disk confirms confirms all before it.
        self.write(Synchronous::Full, "confirm a claim", |db| {
            db.prepare_cached("UPDATE sequences SET next = next WHERE name = 'task'")?
                .execute([])?;
            Ok(())
        })
        .await
    }
}

fn perform(
    pen: &mut Pen<'_>,
    id: TaskId,
    verb: &Verb,
) -> Result<Result<TaskStatus, DagError>, Fault> {
    let (version, event, output) = match verb {
        Verb::Set { expected, to, reason, output } => {
            return set(pen, id, *expected, *to, reason.as_deref(), output.as_deref());
        }
        Verb::Start { expected, owner, until } => return start(pen, id, *expected, owner, *until),
        Verb::Cancel { reason, parts } => return cancel(pen, id, reason, *parts),
        Verb::Beat { version, until } => {
            if extend(pen.db, id, *version, *until)? {
                return Ok(Ok(TaskStatus::Running));
            }
            let Some((facts, current)) = pen.facts(id)? else { return Ok(Err(unknown(id))) };
            return Ok(Err(stale(id, facts.status, current, *version)));
        }
        Verb::Complete { version, output } => (*version, Event::Completed, Some(output.as_ref())),
        Verb::Fail { version, error, permanent } => {
            (*version, Event::Failed { error, permanent: *permanent }, None)
        }
    };
    let happened = pen.happen(id, Some(version), event, output)?;
    Ok(told(id, Some(version), &happened))
}

/// What a worker or caller hears.
fn told(id: TaskId, version: Option<i64>, happened: &Happened) -> Result<TaskStatus, DagError> {
    match happened {
        Happened::Now(status) | Happened::Same(status) => Ok(*status),
        Happened::Illegal { from, to } => Err(DagError::InvalidState(format!(
            "task {id} is {from}; it cannot become {to} from there"
        ))),
        Happened::Stale { status, version: current } => {
            Err(stale(id, *status, *current, version.unwrap_or(0)))
        }
        Happened::Missing => Err(unknown(id)),
    }
}

pub(crate) fn unknown(id: TaskId) -> DagError {
    DagError::NodeNotFound(format!("there is no task {id}"))
}

fn stale(id: TaskId, status: TaskStatus, current: i64, held: i64) -> DagError {
    DagError::StaleLease(format!(
        "task {id} is {status} at version {current}; the worker's lease has version {held}"
    ))
}

fn miss(id: TaskId, expected: TaskStatus, actual: TaskStatus) -> DagError {
    DagError::InvalidState(format!("task {id}: expected status {expected}, actual status {actual}"))
}

fn set(
    pen: &mut Pen<'_>,
    id: TaskId,
    expected: Option<TaskStatus>,
    to: TaskStatus,
    reason: Option<&str>,
    output: Option<&[u8]>,
) -> Result<Result<TaskStatus, DagError>, Fault> {
    let Some((facts, _)) = pen.facts(id)? else { return Ok(Err(unknown(id))) };
    if let Some(expected) = expected.filter(|expected| *expected != facts.status) {
        return Ok(Err(miss(id, expected, facts.status)));
    }
    let waits = matches!(to, TaskStatus::Pending | TaskStatus::Blocked | TaskStatus::Ready);
    let doom = if waits && facts.status.can_become(to) { pen.doom_of(id)? } else { None };
    let event = match &doom {
        Some(reason) => Event::Set { to: TaskStatus::Failed, reason: Some(reason) },
        None => Event::Set { to, reason },
    };
    let happened = pen.happen(id, None, event, output)?;
    if facts.status == TaskStatus::Running
        && matches!(&happened, Happened::Now(status) if status.rests())
    {
        pen.effects.revoked.push(id);
    }
    Ok(told(id, None, &happened))
}

/// A claim of one task by its id: whoever comes second misses.
fn start(
    pen: &mut Pen<'_>,
    id: TaskId,
    expected: Option<TaskStatus>,
    owner: &str,
    until: Millis,
) -> Result<Result<TaskStatus, DagError>, Fault> {
    let Some((facts, version)) = pen.facts(id)? else { return Ok(Err(unknown(id))) };
    if let Some(expected) = expected.filter(|expected| *expected != facts.status) {
        return Ok(Err(miss(id, expected, facts.status)));
    }
    if facts.status != TaskStatus::Ready {
        let (from, to) = (facts.status, TaskStatus::Running);
        return Ok(told(id, None, &Happened::Illegal { from, to }));
    }
    pen.db
        .prepare_cached(
            "UPDATE tasks SET status = 'running', version = version + 1, deliveries = deliveries + 1, owner = ?2,
                lease_expires_at = ?3, updated_at = ?4 WHERE task_id = ?1",
        )?
        .execute(params![id.0, owner, until, pen.now])?;
    pen.tell(id, Some(facts.status), TaskStatus::Running, version + 1, None)?;
    pen.effects.due(Some(until));
    Ok(Ok(TaskStatus::Running))
}

fn cancel(
    pen: &mut Pen<'_>,
    id: TaskId,
    reason: &str,
    parts: bool,
) -> Result<Result<TaskStatus, DagError>, Fault> {
    let Some((facts, _)) = pen.facts(id)? else { return Ok(Err(unknown(id))) };
    let mut open = vec![id];
    let mut seen = HashSet::new();
    while let Some(at) = open.pop() {
        if !seen.insert(at) {
            continue;
        }
        if parts {
            let mut statement =
                pen.db.prepare_cached("SELECT task_id FROM tasks WHERE parent = ?1")?;
            let found = statement.query_map([at.0], |row| row.get(0).map(TaskId))?;
            open.extend(found.collect::<rusqlite::Result<Vec<_>>>()?);
        }
        let Some((facts, _)) = pen.facts(at)? else { continue };
        if facts.status.is_final() {
            continue;
        }
        let event = Event::Set { to: TaskStatus::Rejected, reason: Some(reason) };
        pen.happen(at, None, event, None)?;
        if facts.status == TaskStatus::Running {
            pen.effects.revoked.push(at);
        }
    }
    Ok(Ok(if facts.status.is_final() { facts.status } else { TaskStatus::Rejected }))
}

fn depend(
    pen: &mut Pen<'_>,
    id: TaskId,
    block: &Block,
) -> Result<Result<TaskStatus, DagError>, Fault> {
    let Some((facts, version)) = pen.facts(id)? else { return Ok(Err(unknown(id))) };
    if let Some(held) = block.version.filter(|held| *held != version) {
        return Ok(Err(stale(id, facts.status, version, held)));
    }
    if facts.status.is_final() {
        return Ok(Err(DagError::InvalidState(format!(
            "task {id} is {}; it can depend on nothing more",
            facts.status
        ))));
    }
    if let Err(error) = pen.depend(id, &block.on)? {
        return Ok(Err(error));
    }
    let doom = pen.doom_of(id)?;
    let event = match (&doom, facts.status) {
        (_, TaskStatus::Running) if !block.stand => return Ok(Ok(facts.status)),
        (Some(reason), TaskStatus::Running) => Event::Failed { error: reason, permanent: true },
        (Some(reason), _) => Event::Doomed { reason },
        (None, TaskStatus::Running) => Event::Waits,
        (None, _) => Event::Reconsider,
    };
    let happened = pen.happen(id, None, event, None)?;
    Ok(told(id, None, &happened))
}
