//! Rows of tasks: how a decision is written, with its row of the outbox and what follows for other tasks, in one job.
//!
//! Jobs check everything before they write anything, because a job that answers a refusal is committed all the same.

mod edges;
mod forget;
mod look;
mod make;
mod turn;
mod verbs;

use mayfly_core::{Error, Kind};
use mayfly_store::sqlite::Fault;
use rusqlite::{CachedStatement, Connection, OptionalExtension as _, Row, params};

pub(crate) use look::Around;
pub(crate) use turn::{Claim, Ended, Turn, Turned};
pub(crate) use verbs::{Block, Verb};

use crate::clock::Millis;
use crate::durability::Durability;
use crate::tasks::decide::{Change, Event, Facts, Refusal, Rules, chance, decide};
use crate::tasks::status::TaskStatus;
use crate::tasks::task::TaskId;

/// What a job means for those who wait in this process.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    /// Tasks that nothing more happens to by itself.
    pub(crate) settled: Vec<TaskId>,
    /// How many tasks became ready.
    pub(crate) ready: usize,
    /// Running tasks that were taken from their workers.
    pub(crate) revoked: Vec<TaskId>,
    /// When something is due, at the earliest of what changed.
    pub(crate) next: Option<Millis>,
    /// Failed attempts that will be repeated.
    pub(crate) retried: usize,
}

impl Effects {
    fn due(&mut self, at: Option<Millis>) {
        self.next = self.next.into_iter().chain(at).min();
    }
}

/// What became of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Happened {
    /// The task is this now.
    Now(TaskStatus),
    /// It was so already, or the event does not concern it.
    Same(TaskStatus),
    /// It cannot become that from this.
    Illegal { from: TaskStatus, to: TaskStatus },
    /// Somebody else has it, or nobody.
    Stale { status: TaskStatus, version: i64 },
    /// There is no such task.
    Missing,
}

/// Writes changes of tasks inside of one job.
pub(crate) struct Pen<'job> {
    pub(crate) db: &'job Connection,
    pub(crate) now: Millis,
    pub(crate) rules: &'job Rules,
    pub(crate) effects: Effects,
    read: Held<'job>,
    update: Held<'job>,
    outbox: Held<'job>,
    needed: Held<'job>,
}

/// A statement that a job uses for many rows: looking it up costs as much as a small row.
#[derive(Default)]
struct Held<'job>(Option<CachedStatement<'job>>);

impl<'job> Held<'job> {
    fn get(
        &mut self,
        db: &'job Connection,
        text: &str,
    ) -> rusqlite::Result<&mut CachedStatement<'job>> {
        match &mut self.0 {
            Some(statement) => Ok(statement),
            empty => Ok(empty.insert(db.prepare_cached(text)?)),
        }
    }
}

impl<'job> Pen<'job> {
    pub(crate) fn new(db: &'job Connection, now: Millis, rules: &'job Rules) -> Self {
        Self {
            db,
            now,
            rules,
            effects: Effects::default(),
            read: Held::default(),
            update: Held::default(),
            outbox: Held::default(),
            needed: Held::default(),
        }
    }

    /// What decisions about a task need, and the version of its row.
    pub(crate) fn facts(&mut self, id: TaskId) -> Result<Option<(Facts, i64)>, Fault> {
        let statement = self.read.get(
            self.db,
            "SELECT status, durability, retries, max_retries, recoveries, unmet, run_at, version
             FROM tasks WHERE task_id = ?1",
        )?;
        let read = |row: &Row<'_>| {
            let facts = Facts {
                status: status(row, 0)?,
                durability: durability(row, 1)?,
                retries: row.get(2)?,
                max_retries: row.get(3)?,
                recoveries: row.get(4)?,
                unmet: row.get(5)?,
                run_at: row.get(6)?,
            };
            Ok((facts, row.get(7)?))
        };
        Ok(statement.query_row([id.0], read).optional()?)
    }

    /// Decides and writes. With a version, only the worker that holds the task by it is heard.
    pub(crate) fn happen(
        &mut self,
        id: TaskId,
        version: Option<i64>,
        event: Event<'_>,
        output: Option<&[u8]>,
    ) -> Result<Happened, Fault> {
        let Some((facts, current)) = self.facts(id)? else { return Ok(Happened::Missing) };
        let from = facts.status;
        let holds =
            version.is_none_or(|held| held == current && facts.status == TaskStatus::Running);
        if !holds {
            return Ok(Happened::Stale { status: from, version: current });
        }
        match decide(&facts, event, self.now, self.rules, chance(id.0, facts.retries)) {
            Ok(change) => {
                self.effects.retried += usize::from(change.retries > facts.retries);
                self.record(id, from, current, &change, output)?;
                self.spread(id, from, &change)?;
                Ok(Happened::Now(change.to))
            }
            Err(Refusal::Same) => Ok(Happened::Same(from)),
            Err(Refusal::Illegal(to)) => Ok(Happened::Illegal { from, to }),
        }
    }

    fn record(
        &mut self,
        id: TaskId,
        from: TaskStatus,
        version: i64,
        change: &Change,
        output: Option<&[u8]>,
    ) -> Result<(), Fault> {
        self.update
            .get(
                self.db,
                "UPDATE tasks SET status = ?2, version = ?3, owner = NULL, lease_expires_at = NULL, run_at = ?4,
                    retries = ?5, recoveries = ?6, status_reason = ?7, updated_at = ?8,
                    result = coalesce(?9, result)
                 WHERE task_id = ?1",
            )?
            .execute(params![
                id.0,
                change.to.name(),
                version + 1,
                change.run_at,
                change.retries,
                change.recoveries,
                change.reason,
                self.now,
                output,
            ])?;
        self.tell(id, Some(from), change.to, version + 1, change.reason.as_deref())?;
        match change.to {
            TaskStatus::Ready => self.effects.ready += 1,
            TaskStatus::Pending => self.effects.due(change.run_at),
            to if to.rests() => self.effects.settled.push(id),
            _ => {}
        }
        Ok(())
    }

    /// One row of the outbox: who reads it hears of every change, in order, exactly if the change is there.
    pub(crate) fn tell(
        &mut self,
        id: TaskId,
        from: Option<TaskStatus>,
        to: TaskStatus,
        version: i64,
        reason: Option<&str>,
    ) -> Result<(), Fault> {
        let (kind, payload) = event(id, from, to, version, self.now, reason);
        self.outbox.get(self.db, OUTBOX)?.execute(params![kind, payload.as_bytes()])?;
        Ok(())
    }

    /// What a change means for tasks that depend on this one, and for those that depend on them.
    fn spread(&mut self, id: TaskId, from: TaskStatus, change: &Change) -> Result<(), Fault> {
        let satisfied = change.to.is_satisfied() && !from.is_satisfied();
        if !satisfied && !change.to.is_broken() {
            return Ok(());
        }
        // Every task fails at most once, so this ends.
        let mut broken = Vec::new();
        for dependent in self.dependents(id)? {
            if satisfied {
                self.satisfy(dependent)?;
            } else {
                broken.push((dependent, doom(id, change.to, change.reason.as_deref())));
            }
        }
        while let Some((dependent, reason)) = broken.pop() {
            let Some((facts, version)) = self.facts(dependent)? else { continue };
            let event = Event::Doomed { reason: &reason };
            let Ok(change) = decide(&facts, event, self.now, self.rules, 0.5) else { continue };
            self.record(dependent, facts.status, version, &change, None)?;
            let reason = doom(dependent, change.to, change.reason.as_deref());
            broken
                .extend(self.dependents(dependent)?.into_iter().map(|next| (next, reason.clone())));
        }
        Ok(())
    }

    fn satisfy(&mut self, dependent: TaskId) -> Result<(), Fault> {
        self.db
            .prepare_cached("UPDATE tasks SET unmet = unmet - 1 WHERE task_id = ?1 AND unmet > 0")?
            .execute([dependent.0])?;
        let Some((facts, version)) = self.facts(dependent)? else { return Ok(()) };
        if facts.status != TaskStatus::Blocked || facts.unmet > 0 {
            return Ok(());
        }
        if let Ok(change) = decide(&facts, Event::Reconsider, self.now, self.rules, 0.5) {
            self.record(dependent, facts.status, version, &change, None)?;
        }
        Ok(())
    }

    fn dependents(&mut self, id: TaskId) -> Result<Vec<TaskId>, Fault> {
        let statement = self
            .needed
            .get(self.db, "SELECT task_id FROM task_dependencies WHERE depends_on_task_id = ?1")?;
        let found = statement.query_map([id.0], |row| row.get(0).map(TaskId))?;
        Ok(found.collect::<rusqlite::Result<_>>()?)
    }
}

fn tell(
    db: &Connection,
    id: TaskId,
    from: Option<TaskStatus>,
    to: TaskStatus,
    version: i64,
    now: Millis,
    reason: Option<&str>,
) -> Result<(), Fault> {
    let (kind, payload) = event(id, from, to, version, now, reason);
    db.prepare_cached(OUTBOX)?.execute(params![kind, payload.as_bytes()])?;
    Ok(())
}

/// Why a task fails that depends on this one.
pub(crate) fn doom(id: TaskId, status: TaskStatus, reason: Option<&str>) -> String {
    // The first cause is told once, however long the chain is.
    let cause = reason.filter(|reason| !reason.is_empty()).map_or_else(String::new, |reason| {
        let first = reason.rsplit_once(": ").filter(|_| reason.starts_with("depends on task "));
        format!(": {}", first.map_or(reason, |(_, first)| first))
    });
    format!("depends on task {id}, which is {status}{cause}")
}

const OUTBOX: &str = "INSERT INTO outbox (event_type, payload) VALUES (?1, ?2)";

/// An event's type and payload, as the outbox keeps it.
fn event(
    id: TaskId,
    from: Option<TaskStatus>,
    to: TaskStatus,
    version: i64,
    at: Millis,
    reason: Option<&str>,
) -> (&'static str, String) {
    let kind = match to {
        TaskStatus::Pending => "task.pending",
        TaskStatus::Blocked => "task.blocked",
        TaskStatus::Ready => "task.ready",
        TaskStatus::Running => "task.running",
        TaskStatus::Completed => "task.completed",
        TaskStatus::Failed => "task.failed",
        TaskStatus::Paused => "task.paused",
        TaskStatus::Rejected => "task.rejected",
        TaskStatus::Accepted => "task.accepted",
    };
    let from = from.map_or_else(|| "null".to_owned(), |from| format!("\"{from}\""));
    let reason = reason.map_or_else(String::new, |reason| {
        format!(",\"reason\":{}", serde_json::Value::from(reason))
    });
    let payload = format!(
        "{{\"task_id\":{id},\"from\":{from},\"status\":\"{to}\",\"version\":{version},\"at\":{at}{reason}}}"
    );
    (kind, payload)
}

/// A status as its column has it; an unknown one is a damaged row.
pub(crate) fn status(row: &Row<'_>, column: usize) -> rusqlite::Result<TaskStatus> {
    let name = row.get_ref(column)?.as_str()?;
    TaskStatus::from_name(name).ok_or_else(|| damaged(column, name))
}

pub(crate) fn durability(row: &Row<'_>, column: usize) -> rusqlite::Result<Durability> {
    match row.get_ref(column)?.as_str()? {
        "best_effort" => Ok(Durability::BestEffort),
        "at_most_once" => Ok(Durability::AtMostOnce),
        other => Err(damaged(column, other)),
    }
}

pub(crate) fn durability_name(durability: Durability) -> &'static str {
    match durability {
        Durability::BestEffort => "best_effort",
        Durability::AtMostOnce => "at_most_once",
    }
}

pub(crate) fn damaged(column: usize, text: &str) -> rusqlite::Error {
    let error = Error::new(Kind::Internal, format!("a task's row holds `{text}`"));
    rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_cause_is_told_once() {
        let first = doom(TaskId(3), TaskStatus::Failed, Some("disk on fire"));
        assert_eq!(first, "depends on task 3, which is failed: disk on fire");
        let second = doom(TaskId(4), TaskStatus::Failed, Some(&first));
        assert_eq!(second, "depends on task 4, which is failed: disk on fire");
        assert_eq!(
            doom(TaskId(5), TaskStatus::Rejected, None),
            "depends on task 5, which is rejected"
        );
    }

    #[test]
    fn events_are_json() {
        let (kind, payload) =
            event(TaskId(7), None, TaskStatus::Failed, 2, 5, Some("a \"quoted\" reason"));
        let payload: serde_json::Value = serde_json::from_str(&payload).unwrap();
        assert_eq!(kind, "task.failed");
        assert_eq!(payload["reason"], "a \"quoted\" reason");
        assert_eq!((&payload["from"], &payload["task_id"]), (&serde_json::Value::Null, &7.into()));
    }
}
