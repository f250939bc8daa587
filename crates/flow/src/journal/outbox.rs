//! Events for whoever tells others of changes: each is committed with its change, and is there until it is processed.

use rusqlite::params;

use super::{Journal, Synchronous};
use crate::error::DagError;

/// A change that somebody may want to hear of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxEvent {
    /// Rises with each event; changes of one task stand in the order in which they happened.
    pub id: i64,
    /// `task.` and the status that a task has now.
    pub event_type: String,
    /// JSON: `task_id`, `from`, `status`, `version`, `at`, and `reason` where there is one.
    pub payload: Vec<u8>,
}

impl Journal {
    /// Events that are not processed, oldest first.
    pub(crate) async fn outbox(&self, limit: u32) -> Result<Vec<OutboxEvent>, DagError> {
        self.read("read the outbox", move |db| {
            let mut statement = db.prepare_cached(
                "SELECT id, event_type, payload FROM outbox WHERE processed = 0 ORDER BY id LIMIT ?1",
            )?;
            let rows = statement.query_map([limit], |row| {
                Ok(OutboxEvent { id: row.get(0)?, event_type: row.get(1)?, payload: row.get(2)? })
            })?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
        .await
    }

    /// Marks events as processed, up to an id.
    pub(crate) async fn processed(&self, up_to: i64) -> Result<(), DagError> {
        let now = self.clock().now();
        self.write(Synchronous::Normal, "mark events as processed", move |db| {
            db.prepare_cached(
                "UPDATE outbox SET processed = 1, processed_at = ?2 WHERE processed = 0 AND id <= ?1",
            )?
            .execute(params![up_to, now])?;
            Ok(())
        })
        .await
    }
}
