//! Removing tasks that are over.

use rusqlite::params;

use crate::clock::Millis;
use crate::error::DagError;
use crate::journal::{Journal, Synchronous};

impl Journal {
    /// Removes tasks that ended before a moment, oldest first, at most `limit`; answers how many. One that an open task
    /// depends on or has spawned stays: it would be made or waited for again.
    pub(crate) async fn forget_tasks(&self, before: Millis, limit: u32) -> Result<usize, DagError> {
        self.write(Synchronous::Normal, "remove tasks", move |db| {
            let mut statement = db.prepare_cached(
                "DELETE FROM tasks WHERE task_id IN (
                     SELECT t.task_id FROM tasks AS t
                     WHERE t.status IN ('completed', 'failed', 'rejected', 'accepted') AND t.updated_at < ?1
                     AND NOT EXISTS (
                         SELECT 1 FROM task_dependencies AS d JOIN tasks AS n ON n.task_id = d.task_id
                         WHERE d.depends_on_task_id = t.task_id
                         AND n.status NOT IN ('completed', 'failed', 'rejected', 'accepted'))
                     AND NOT EXISTS (
                         SELECT 1 FROM tasks AS p WHERE p.task_id = t.parent
                         AND p.status NOT IN ('completed', 'failed', 'rejected', 'accepted'))
                     ORDER BY t.task_id LIMIT ?2)
                 RETURNING task_id",
            )?;
            let gone = statement.query_map(params![before, limit], |row| row.get::<_, i64>(0))?;
            let gone = gone.collect::<rusqlite::Result<Vec<_>>>()?;
            let mut edges = db.prepare_cached(
                "DELETE FROM task_dependencies WHERE task_id = ?1 OR depends_on_task_id = ?1",
            )?;
            for id in &gone {
                edges.execute([id])?;
            }
            Ok(gone.len())
        })
        .await
    }
}
