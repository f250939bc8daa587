//! Jobs that make tasks.

use std::sync::Arc;

use mayfly_store::sqlite::Fault;
use rusqlite::{CachedStatement, Connection, OptionalExtension as _, params};
use sha2::{Digest as _, Sha256};

use super::{Effects, Pen, doom, durability_name};
use crate::error::DagError;
use crate::journal::{Journal, Synchronous};
use crate::tasks::decide::Rules;
use crate::tasks::status::TaskStatus;
use crate::tasks::task::{DEFAULT_RETRIES, DEFAULT_TIMEOUT, NewTaskSpec, TaskId};

/// New tasks and what follows from them.
pub(crate) struct Made {
    /// Their ids, in the order of the specs; ids of earlier tasks where a key was known.
    pub(crate) ids: Vec<TaskId>,
    pub(crate) effects: Effects,
}

impl Journal {
    /// Makes tasks, all or none.
    pub(crate) async fn make_tasks(
        &self,
        mode: Synchronous,
        specs: Arc<[NewTaskSpec]>,
        rules: Rules,
    ) -> Result<Made, DagError> {
        let now = self.clock().now();
        self.write(mode, "make tasks", move |db| make(&mut Pen::new(db, now, &rules), &specs))
            .await?
    }

    /// Reserves the next id, for a task that its maker will put.
    pub(crate) async fn next_task_id(&self) -> Result<TaskId, DagError> {
        self.write(Synchronous::Full, "reserve a task's id", |db| {
            let id = next(db, "task")?;
            set_next(db, "task", id + 1)?;
            Ok(TaskId(id))
        })
        .await
    }
}

/// The next number of a sequence.
pub(super) fn next(db: &Connection, name: &str) -> Result<i64, Fault> {
    let mut statement = db.prepare_cached("SELECT next FROM sequences WHERE name = ?1")?;
    Ok(statement.query_row([name], |row| row.get(0))?)
}

pub(super) fn set_next(db: &Connection, name: &str, next: i64) -> Result<(), Fault> {
    db.prepare_cached("UPDATE sequences SET next = ?2 WHERE name = ?1")?
        .execute(params![name, next])?;
    Ok(())
}

fn make(pen: &mut Pen<'_>, specs: &[NewTaskSpec]) -> Result<Result<Made, DagError>, Fault> {
    let first = next(pen.db, "task")?;
    let mut id = first;
    // Everything is looked at before anything is written.
    let mut places = Vec::with_capacity(specs.len());
    for spec in specs {
        match place(pen, spec)? {
            Ok(place) => places.push(place),
            Err(error) => return Ok(Err(error)),
        }
    }
    let mut ids = Vec::with_capacity(specs.len());
    let mut statement = pen.db.prepare_cached(INSERT)?;
    for (spec, place) in specs.iter().zip(places) {
        // Two specs of one call may have the same key.
        let known = match &spec.key {
            Some(key) => known(pen, &once(spec.parent, key))?,
            None => None,
        };
        if let Some(known) = known {
            ids.push(known);
            continue;
        }
        insert(pen, &mut statement, TaskId(id), spec, &place)?;
        ids.push(TaskId(id));
        id += 1;
    }
    if id > first {
        set_next(pen.db, "task", id)?;
    }
    Ok(Ok(Made { ids, effects: std::mem::take(&mut pen.effects) }))
}

/// Where a new task begins.
struct Place {
    status: TaskStatus,
    reason: Option<String>,
    dependencies: Vec<TaskId>,
    unmet: u32,
}

fn place(pen: &Pen<'_>, spec: &NewTaskSpec) -> Result<Result<Place, DagError>, Fault> {
    if let Some(parent) = spec.parent
        && pen.status_of(parent)?.is_none()
    {
        let text = format!("new task: `parent` is task {parent}, which does not exist");
        return Ok(Err(DagError::ValidationError(text)));
    }
    let (mut unmet, mut reason) = (0, None);
    let mut dependencies = spec.dependencies.clone();
    dependencies.sort_unstable();
    dependencies.dedup();
    for on in &dependencies {
        let Some(status) = pen.status_of(*on)? else {
            let text = format!("new task: `dependencies` names task {on}, which does not exist");
            return Ok(Err(DagError::DependencyNotFound(text)));
        };
        unmet += u32::from(!status.is_satisfied());
        if status.is_broken() && reason.is_none() {
            reason = Some(doom(*on, status, None));
        }
    }
    let status = if reason.is_some() {
        TaskStatus::Failed
    } else if unmet > 0 {
        TaskStatus::Blocked
    } else if spec.run_at.is_some_and(|at| at > pen.now) {
        TaskStatus::Pending
    } else {
        TaskStatus::Ready
    };
    Ok(Ok(Place { status, reason, dependencies, unmet }))
}

/// The name under which a task is made once: that of its maker and what that called it.
fn once(parent: Option<TaskId>, key: &str) -> String {
    // A key may be long; what is stored is not.
    let digest = Sha256::digest(key.as_bytes());
    let short = digest.iter().take(16).fold(0_u128, |all, byte| (all << 8) | u128::from(*byte));
    format!("{}:{short:032x}", parent.map_or(0, |parent| parent.0))
}

fn known(pen: &Pen<'_>, once: &str) -> Result<Option<TaskId>, Fault> {
    let mut statement = pen.db.prepare_cached("SELECT task_id FROM tasks WHERE once = ?1")?;
    Ok(statement.query_row([once], |row| row.get(0).map(TaskId)).optional()?)
}

const INSERT: &str = "INSERT INTO tasks (task_id, status, agent_type, priority, version, run_at, unmet, max_retries, durability,
                timeout_ms, task_type, parent, once, created_at, updated_at, status_reason, description, payload)
             VALUES (?1, ?2, ?3, ?4, 1, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?13, ?14, ?15, ?16)";

fn insert(
    pen: &mut Pen<'_>,
    statement: &mut CachedStatement<'_>,
    id: TaskId,
    spec: &NewTaskSpec,
    place: &Place,
) -> Result<(), Fault> {
    let timeout = spec.timeout.unwrap_or(DEFAULT_TIMEOUT);
    statement.execute(params![
        id.0,
        place.status.name(),
        spec.agent,
        spec.priority,
        spec.run_at,
        place.unmet,
        spec.max_retries.unwrap_or(DEFAULT_RETRIES),
        durability_name(spec.durability),
        i64::try_from(timeout.as_millis()).unwrap_or(i64::MAX),
        spec.task_type.name(),
        spec.parent.map(|parent| parent.0),
        spec.key.as_ref().map(|key| once(spec.parent, key)),
        pen.now,
        place.reason,
        spec.description,
        spec.input.as_ref(),
    ])?;
    if !place.dependencies.is_empty() {
        pen.add_edges(id, &place.dependencies)?;
    }
    pen.tell(id, None, place.status, 1, place.reason.as_deref())?;
    match place.status {
        TaskStatus::Ready => pen.effects.ready += 1,
        TaskStatus::Pending => pen.effects.due(spec.run_at),
        TaskStatus::Failed => pen.effects.settled.push(id),
        _ => {}
    }
    Ok(())
}
