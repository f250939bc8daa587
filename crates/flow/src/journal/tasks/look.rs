//! Questions about tasks.

use std::time::Duration;

use rusqlite::{OptionalExtension as _, Row, params};

use super::turn::{DUE, LEASE, first};
use super::{damaged, durability, durability_name, status};
use crate::clock::Millis;
use crate::error::DagError;
use crate::journal::{Journal, Synchronous};
use crate::tasks::status::TaskStatus;
use crate::tasks::task::{DEFAULT_TIMEOUT, Task, TaskFilter, TaskId, TaskType};

/// The columns that [`task`] reads, in its order.
pub(super) const COLUMNS: &str = "task_id, status, agent_type, priority, version, owner, lease_expires_at, run_at, unmet,
    retries, max_retries, deliveries, recoveries, durability, timeout_ms, task_type, parent, created_at, updated_at,
    status_reason, description, payload, result";

/// How many tasks stand where, the finished ones left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) pending: usize,
    pub(crate) blocked: usize,
    pub(crate) ready: usize,
    pub(crate) running: usize,
    pub(crate) paused: usize,
}

/// What a look at the table finds.
#[derive(Debug)]
pub(crate) struct Around {
    pub(crate) rest: Vec<TaskId>,
    pub(crate) ready: bool,
    pub(crate) next: Option<Millis>,
}

impl Journal {
    /// One task.
    pub(crate) async fn task(&self, id: TaskId) -> Result<Option<Task>, DagError> {
        self.read("read a task", move |db| {
            let question = format!("SELECT {COLUMNS} FROM tasks WHERE task_id = ?1");
            Ok(db.prepare_cached(&question)?.query_row([id.0], task).optional()?)
        })
        .await
    }

    /// Tasks, newest first.
    pub(crate) async fn task_list(
        &self,
        filter: TaskFilter,
        limit: u32,
    ) -> Result<Vec<Task>, DagError> {
        self.read("list tasks", move |db| {
            // The status stands in the text, so that its small index is used.
            let status = filter
                .status
                .map_or_else(|| "1".to_owned(), |status| format!("status = '{}'", status.name()));
            let question = format!(
                "SELECT {COLUMNS} FROM tasks WHERE {status} AND (?1 IS NULL OR agent_type = ?1)
                 AND (?2 IS NULL OR parent = ?2) AND (?3 IS NULL OR task_type = ?3)
                 AND (?4 IS NULL OR task_id < ?4) ORDER BY task_id DESC LIMIT ?5"
            );
            let kind = filter.task_type.map(TaskType::name);
            let (parent, before) = (filter.parent.map(|id| id.0), filter.before.map(|id| id.0));
            let mut statement = db.prepare_cached(&question)?;
            let rows =
                statement.query_map(params![filter.agent, parent, kind, before, limit], task)?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
        .await
    }

    /// What a task depends on, by id.
    pub(crate) async fn task_dependencies(&self, id: TaskId) -> Result<Vec<TaskId>, DagError> {
        self.read("read dependencies of a task", move |db| {
            let mut statement = db.prepare_cached(
                "SELECT depends_on_task_id FROM task_dependencies WHERE task_id = ?1
                 ORDER BY depends_on_task_id",
            )?;
            let rows = statement.query_map([id.0], |row| row.get(0).map(TaskId))?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
        .await
    }

    /// Which of these tasks rest, whether anything is ready for one of the agents, and when something is due.
    pub(crate) async fn look_around(
        &self,
        waited: Vec<TaskId>,
        agents: std::sync::Arc<[String]>,
    ) -> Result<Around, DagError> {
        self.read("look what other processes did", move |db| {
            let mut statement = db.prepare_cached("SELECT status FROM tasks WHERE task_id = ?1")?;
            let mut rest = Vec::new();
            for id in &waited {
                let found = statement.query_row([id.0], |row| status(row, 0)).optional()?;
                if found.is_none_or(TaskStatus::rests) {
                    rest.push(*id);
                }
            }
            let mut ready = db.prepare_cached(
                "SELECT 1 FROM tasks WHERE status = 'ready' AND agent_type = ?1 LIMIT 1",
            )?;
            let mut is_ready = false;
            for agent in agents.iter() {
                is_ready = is_ready || ready.exists([agent])?;
            }
            let next = first(db, DUE)?.into_iter().chain(first(db, LEASE)?).min();
            Ok(Around { rest, ready: is_ready, next })
        })
        .await
    }

    /// How many tasks stand where.
    pub(crate) async fn task_counts(&self) -> Result<Counts, DagError> {
        self.read("count tasks", |db| {
            let count = |status: &str| -> rusqlite::Result<usize> {
                let question = format!("SELECT count(*) FROM tasks WHERE status = '{status}'");
                let count: i64 = db.prepare_cached(&question)?.query_row([], |row| row.get(0))?;
                Ok(usize::try_from(count).unwrap_or(0))
            };
            Ok(Counts {
                pending: count("pending")?,
                blocked: count("blocked")?,
                ready: count("ready")?,
                running: count("running")?,
                paused: count("paused")?,
            })
        })
        .await
    }

    /// Writes a task as it is given, whatever was there.
    pub(crate) async fn put_task(&self, new: Task) -> Result<(), DagError> {
        let now = self.clock().now();
        self.write(Synchronous::Full, "put a task", move |db| {
            // One that is due must have a time, and one that runs a lease that ends.
            let run_at = match new.status {
                TaskStatus::Pending => Some(new.run_at.unwrap_or(now)),
                _ => new.run_at,
            };
            let lease = match new.status {
                TaskStatus::Running => Some(new.lease_expires_at.unwrap_or(now)),
                _ => None,
            };
            let timeout = i64::try_from(new.timeout.as_millis()).unwrap_or(i64::MAX);
            let question = format!(
                "INSERT OR REPLACE INTO tasks ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12,
                    ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23)"
            );
            db.prepare_cached(&question)?.execute(params![
                new.id.0,
                new.status.name(),
                new.agent,
                new.priority,
                new.version,
                new.owner,
                lease,
                run_at,
                new.unmet,
                new.retries,
                new.max_retries,
                new.deliveries,
                new.recoveries,
                durability_name(new.durability),
                timeout,
                new.task_type.name(),
                new.parent.map(|parent| parent.0),
                new.created_at,
                now,
                new.status_reason,
                new.description,
                new.input.as_ref(),
                new.output.as_deref(),
            ])?;
            let next = super::make::next(db, "task")?;
            if next <= new.id.0 {
                super::make::set_next(db, "task", new.id.0 + 1)?;
            }
            let reason = new.status_reason.as_deref();
            super::tell(db, new.id, None, new.status, new.version, now, reason)
        })
        .await
    }

    /// Writes the output of a task that is there.
    pub(crate) async fn put_output(&self, id: TaskId, output: Vec<u8>) -> Result<bool, DagError> {
        self.write(Synchronous::Full, "write the output of a task", move |db| {
            let changed = db
                .prepare_cached("UPDATE tasks SET result = ?2 WHERE task_id = ?1")?
                .execute(params![id.0, output])?;
            Ok(changed == 1)
        })
        .await
    }
}

/// A row as a task.
pub(super) fn task(row: &Row<'_>) -> rusqlite::Result<Task> {
    let kind: String = row.get(15)?;
    let timeout: Option<i64> = row.get(14)?;
    let bytes = |column: usize| row.get::<_, Option<Vec<u8>>>(column);
    Ok(Task {
        id: TaskId(row.get(0)?),
        status: status(row, 1)?,
        agent: row.get(2)?,
        priority: row.get(3)?,
        version: row.get(4)?,
        owner: row.get(5)?,
        lease_expires_at: row.get(6)?,
        run_at: row.get(7)?,
        unmet: row.get(8)?,
        retries: row.get(9)?,
        max_retries: row.get(10)?,
        deliveries: row.get(11)?,
        recoveries: row.get(12)?,
        durability: durability(row, 13)?,
        timeout: timeout.map_or(DEFAULT_TIMEOUT, |limit| {
            Duration::from_millis(u64::try_from(limit).unwrap_or(0))
        }),
        task_type: TaskType::from_name(&kind).ok_or_else(|| damaged(15, &kind))?,
        parent: row.get::<_, Option<i64>>(16)?.map(TaskId),
        created_at: row.get(17)?,
        updated_at: row.get(18)?,
        status_reason: row.get(19)?,
        description: row.get(20)?,
        input: bytes(21)?.unwrap_or_default().into(),
        output: bytes(22)?.map(Into::into),
    })
}
