//! Dependencies between tasks: no cycle comes into being, because reachability is looked at in the transaction that
//! writes the edge.

use std::collections::HashMap;

use mayfly_store::sqlite::Fault;
use rusqlite::{OptionalExtension as _, params};

use super::{Pen, doom, status};
use crate::error::DagError;
use crate::tasks::status::TaskStatus;
use crate::tasks::task::TaskId;

impl Pen<'_> {
    /// Notes that a task needs others. Nothing is written when one of them is unknown or would close a cycle.
    pub(super) fn depend(
        &mut self,
        task: TaskId,
        on: &[TaskId],
    ) -> Result<Result<(), DagError>, Fault> {
        let mut unmet = 0_u32;
        let mut fresh = Vec::with_capacity(on.len());
        for other in on {
            let Some(status) = self.status_of(*other)? else {
                return Ok(Err(missing(task, *other)));
            };
            if let Some(cycle) = self.cycle(task, *other)? {
                return Ok(Err(DagError::InvalidGraph(cycle)));
            }
            if self.is_edge(task, *other)? || fresh.contains(other) {
                continue;
            }
            fresh.push(*other);
            unmet += u32::from(!status.is_satisfied());
        }
        self.add_edges(task, &fresh)?;
        if unmet > 0 {
            self.db
                .prepare_cached("UPDATE tasks SET unmet = unmet + ?2 WHERE task_id = ?1")?
                .execute(params![task.0, unmet])?;
        }
        Ok(Ok(()))
    }

    /// Writes edges that are known to be fine.
    pub(super) fn add_edges(&self, task: TaskId, on: &[TaskId]) -> Result<(), Fault> {
        let mut insert = self.db.prepare_cached(
            "INSERT INTO task_dependencies (task_id, depends_on_task_id) VALUES (?1, ?2)
             ON CONFLICT DO NOTHING",
        )?;
        for other in on {
            insert.execute([task.0, other.0])?;
        }
        Ok(())
    }

    fn is_edge(&self, task: TaskId, on: TaskId) -> Result<bool, Fault> {
        let mut statement = self.db.prepare_cached(
            "SELECT 1 FROM task_dependencies WHERE task_id = ?1 AND depends_on_task_id = ?2",
        )?;
        Ok(statement.exists([task.0, on.0])?)
    }

    pub(super) fn status_of(&self, id: TaskId) -> Result<Option<TaskStatus>, Fault> {
        let mut statement =
            self.db.prepare_cached("SELECT status FROM tasks WHERE task_id = ?1")?;
        Ok(statement.query_row([id.0], |row| status(row, 0)).optional()?)
    }

    /// The cycle that the edge would close, told from end to end.
    fn cycle(&self, task: TaskId, on: TaskId) -> Result<Option<String>, Fault> {
        // What has ended waits for nothing, so no cycle leads through it.
        let mut statement = self.db.prepare_cached(
            "SELECT d.depends_on_task_id FROM task_dependencies AS d
             JOIN tasks AS t ON t.task_id = d.depends_on_task_id
             WHERE d.task_id = ?1 AND t.status NOT IN ('completed', 'failed', 'rejected', 'accepted')",
        )?;
        // Each task is looked at once; how it was reached is kept for the message.
        let mut reached: HashMap<i64, i64> = HashMap::from([(on.0, task.0)]);
        let mut open = vec![on.0];
        while let Some(at) = open.pop() {
            if at == task.0 {
                return Ok(Some(told(task, on, &reached)));
            }
            let mut rows = statement.query([at])?;
            while let Some(row) = rows.next()? {
                let next: i64 = row.get(0)?;
                if let std::collections::hash_map::Entry::Vacant(slot) = reached.entry(next) {
                    slot.insert(at);
                    open.push(next);
                }
            }
        }
        Ok(None)
    }

    /// Why a task can never begin, if one that it needs failed or was rejected.
    pub(super) fn doom_of(&self, task: TaskId) -> Result<Option<String>, Fault> {
        let mut statement = self.db.prepare_cached(
            "SELECT t.task_id, t.status, t.status_reason FROM task_dependencies AS d
             JOIN tasks AS t ON t.task_id = d.depends_on_task_id
             WHERE d.task_id = ?1 AND t.status IN ('failed', 'rejected') LIMIT 1",
        )?;
        let found = statement.query_row([task.0], |row| {
            let reason: Option<String> = row.get(2)?;
            Ok(doom(TaskId(row.get(0)?), status(row, 1)?, reason.as_deref()))
        });
        Ok(found.optional()?)
    }
}

pub(super) fn missing(task: TaskId, on: TaskId) -> DagError {
    DagError::DependencyNotFound(format!("task {task} needs task {on}, which does not exist"))
}

fn told(task: TaskId, on: TaskId, reached: &HashMap<i64, i64>) -> String {
    const SHOWN: usize = 20;
    let mut path = vec![task.0];
    while let Some(before) = reached.get(path.last().unwrap_or(&task.0)) {
        path.push(*before);
        if *before == task.0 || path.len() > SHOWN {
            break;
        }
    }
    path.reverse();
    let path: Vec<String> = path.iter().map(ToString::to_string).collect();
    format!("task {task} cannot depend on task {on}, which waits for it: {}", path.join(" -> "))
}
