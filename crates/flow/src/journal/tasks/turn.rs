//! One job for everything that the workers of a process have to say and to ask: what ended, whose lease goes on, what is
//! due, whose worker is lost, and what is next.

use std::sync::Arc;

use bytes::Bytes;
use mayfly_store::sqlite::Fault;
use rusqlite::{Connection, OptionalExtension as _, params};

use super::look::{COLUMNS, task};
use super::{Effects, Happened, Pen};
use crate::clock::Millis;
use crate::durability::Durability;
use crate::error::DagError;
use crate::journal::{Journal, Synchronous};
use crate::tasks::decide::{Event, Rules};
use crate::tasks::status::TaskStatus;
use crate::tasks::task::{Task, TaskId};

/// Rows of one kind that a turn changes at most; the rest is the next turn's.
const MOST: usize = 512;
/// The same for statements.
const ROWS: i64 = 512;

/// How the work of a worker on a task ended.
#[derive(Clone, Debug)]
pub(crate) enum Ended {
    Completed(Bytes),
    Failed {
        error: String,
        permanent: bool,
    },
    /// Given back; `begun` says whether the agent was called.
    Released {
        begun: bool,
    },
}

/// What a claim asks for.
#[derive(Clone, Debug)]
pub(crate) struct Claim {
    pub(crate) agents: Arc<[String]>,
    /// How many tasks at most.
    pub(crate) most: usize,
    /// How many of them may be such that must not be repeated; those are claimed only when a worker is free.
    pub(crate) once: usize,
    /// The process; none for a worker that came through the remote calls.
    pub(crate) owner: Option<Arc<str>>,
    /// When the lease ends.
    pub(crate) until: Millis,
}

/// Everything that one turn does.
#[derive(Debug)]
pub(crate) struct Turn {
    pub(crate) now: Millis,
    pub(crate) rules: Rules,
    pub(crate) ended: Vec<(TaskId, i64, Ended)>,
    /// Tasks whose leases go on, with the versions that they are held by.
    pub(crate) beats: Vec<(TaskId, i64)>,
    pub(crate) beat_until: Millis,
    /// Owners whose processes are dead.
    pub(crate) dead: Vec<String>,
    pub(crate) claim: Option<Claim>,
    /// Rows that the outbox keeps at most.
    pub(crate) outbox: i64,
}

/// What became of it.
#[derive(Debug, Default)]
pub(crate) struct Turned {
    /// In the order of [`Turn::ended`].
    pub(crate) ended: Vec<Happened>,
    /// Tasks whose leases do not go on: somebody else has them, or nobody.
    pub(crate) lost: Vec<(TaskId, i64)>,
    pub(crate) claimed: Vec<Task>,
    /// Whether another turn would find more at once.
    pub(crate) more: bool,
    /// Tasks whose workers were lost: those that run again, and those that stand.
    pub(crate) recovered: usize,
    pub(crate) paused: usize,
    pub(crate) effects: Effects,
}

impl Journal {
    /// Does the turn.
    pub(crate) async fn turn(
        &self,
        mode: Synchronous,
        turn: &Arc<Turn>,
    ) -> Result<Turned, DagError> {
        let turn = Arc::clone(turn);
        self.write(mode, "write what workers did", move |db| turn.run(db)).await
    }

    /// Owners of running tasks, this process apart.
    pub(crate) async fn task_owners(&self, me: &str) -> Result<Vec<String>, DagError> {
        let me = me.to_owned();
        self.read("list owners of tasks", move |db| {
            let mut statement = db.prepare_cached(
                "SELECT DISTINCT owner FROM tasks WHERE status = 'running' AND owner <> ?1",
            )?;
            let names = statement.query_map([&me], |row| row.get(0))?;
            Ok(names.collect::<rusqlite::Result<_>>()?)
        })
        .await
    }
}

impl Turn {
    fn run(&self, db: &Connection) -> Result<Turned, Fault> {
        let mut pen = Pen::new(db, self.now, &self.rules);
        let mut done = Turned::default();
        for (id, version, ended) in &self.ended {
            let (event, output) = match ended {
                Ended::Completed(output) => (Event::Completed, Some(output.as_ref())),
                Ended::Failed { error, permanent } => {
                    (Event::Failed { error, permanent: *permanent }, None)
                }
                Ended::Released { begun } => (Event::Released { begun: *begun }, None),
            };
            done.ended.push(pen.happen(*id, Some(*version), event, output)?);
        }
        self.beat(db, &mut done)?;
        self.promote(&mut pen, &mut done)?;
        self.recover(&mut pen, &mut done)?;
        if let Some(claim) = &self.claim {
            take(&mut pen, claim, &mut done)?;
        }
        // Only what a table is for is kept: who reads the outbox must not fall behind for ever.
        db.prepare_cached("DELETE FROM outbox WHERE id <= (SELECT max(id) FROM outbox) - ?1")?
            .execute([self.outbox])?;
        pen.effects.due(first(db, DUE)?);
        pen.effects.due(first(db, LEASE)?);
        done.effects = pen.effects;
        Ok(done)
    }

    fn beat(&self, db: &Connection, done: &mut Turned) -> Result<(), Fault> {
        for (id, version) in &self.beats {
            if !extend(db, *id, *version, self.beat_until)? {
                done.lost.push((*id, *version));
            }
        }
        Ok(())
    }

    /// Tasks whose time has come.
    fn promote(&self, pen: &mut Pen<'_>, done: &mut Turned) -> Result<(), Fault> {
        if first(pen.db, DUE)?.is_none_or(|at| at > self.now) {
            return Ok(());
        }
        let mut statement = pen.db.prepare_cached(
            "SELECT task_id, version FROM tasks WHERE status = 'pending' AND run_at <= ?1
             ORDER BY run_at LIMIT ?2",
        )?;
        let due = ids(statement.query(params![self.now, ROWS])?)?;
        done.more |= due.len() == MOST;
        for (id, _) in due {
            pen.happen(id, None, Event::Reconsider, None)?;
        }
        Ok(())
    }

    /// Tasks whose leases are over, or whose owners are dead.
    fn recover(&self, pen: &mut Pen<'_>, done: &mut Turned) -> Result<(), Fault> {
        let mut lost = Vec::new();
        if first(pen.db, LEASE)?.is_some_and(|at| at <= self.now) {
            let mut statement = pen.db.prepare_cached(
                "SELECT task_id, version FROM tasks WHERE status = 'running' AND lease_expires_at <= ?1
                 ORDER BY lease_expires_at LIMIT ?2",
            )?;
            lost = ids(statement.query(params![self.now, ROWS])?)?;
        }
        for owner in &self.dead {
            let mut statement = pen.db.prepare_cached(
                "SELECT task_id, version FROM tasks WHERE status = 'running' AND owner = ?1 LIMIT ?2",
            )?;
            lost.extend(ids(statement.query(params![owner, ROWS])?)?);
        }
        done.more |= lost.len() >= MOST;
        for (id, version) in lost {
            // A task that is named twice is taken over once: its version has risen.
            match pen.happen(id, Some(version), Event::Lost, None)? {
                Happened::Now(TaskStatus::Paused) => done.paused += 1,
                Happened::Now(_) => done.recovered += 1,
                _ => {}
            }
        }
        Ok(())
    }
}

/// The first ready tasks of these agents, highest priority first, each with a lease.
pub(super) fn take(pen: &mut Pen<'_>, claim: &Claim, done: &mut Turned) -> Result<(), Fault> {
    let most = claim.most.min(MOST);
    let mut candidates: Vec<(std::cmp::Reverse<i64>, i64)> = Vec::new();
    let mut statement = pen.db.prepare_cached(
        "SELECT priority, task_id FROM tasks WHERE status = 'ready' AND agent_type = ?1
         ORDER BY priority DESC, task_id LIMIT ?2",
    )?;
    for agent in claim.agents.iter() {
        let mut rows = statement.query(params![agent, i64::try_from(most).unwrap_or(ROWS)])?;
        while let Some(row) = rows.next()? {
            candidates.push((std::cmp::Reverse(row.get(0)?), row.get(1)?));
        }
    }
    if claim.agents.len() > 1 {
        candidates.sort_unstable();
    }
    done.more |= most > 0 && candidates.len() >= most;
    candidates.truncate(most);
    let mut read =
        pen.db.prepare_cached(&format!("SELECT {COLUMNS} FROM tasks WHERE task_id = ?1"))?;
    let mut lease = pen.db.prepare_cached(
        "UPDATE tasks SET status = 'running', version = version + 1, deliveries = deliveries + 1, owner = ?2,
            lease_expires_at = ?3, updated_at = ?4 WHERE task_id = ?1",
    )?;
    let mut once = 0;
    for (_, id) in candidates {
        let mut task = read.query_row([id], task)?;
        if task.durability == Durability::AtMostOnce {
            if once == claim.once {
                continue;
            }
            once += 1;
        }
        lease.execute(params![id, claim.owner.as_deref(), claim.until, pen.now])?;
        task.version += 1;
        task.deliveries += 1;
        task.owner = claim.owner.as_deref().map(str::to_owned);
        task.lease_expires_at = Some(claim.until);
        task.updated_at = pen.now;
        pen.tell(task.id, Some(task.status), TaskStatus::Running, task.version, None)?;
        task.status = TaskStatus::Running;
        done.claimed.push(task);
    }
    Ok(())
}

/// Extends a lease; false when the task is not held by this version.
pub(super) fn extend(
    db: &Connection,
    id: TaskId,
    version: i64,
    until: Millis,
) -> Result<bool, Fault> {
    let changed = db
        .prepare_cached(
            "UPDATE tasks SET lease_expires_at = ?3
             WHERE task_id = ?1 AND version = ?2 AND status = 'running'",
        )?
        .execute(params![id.0, version, until])?;
    Ok(changed == 1)
}

/// When the first task is due.
pub(super) const DUE: &str =
    "SELECT run_at FROM tasks WHERE status = 'pending' ORDER BY run_at LIMIT 1";
/// When the first lease ends.
pub(super) const LEASE: &str =
    "SELECT lease_expires_at FROM tasks WHERE status = 'running' ORDER BY lease_expires_at LIMIT 1";

pub(super) fn first(db: &Connection, question: &str) -> Result<Option<Millis>, Fault> {
    let mut statement = db.prepare_cached(question)?;
    Ok(statement.query_row([], |row| row.get::<_, Option<Millis>>(0)).optional()?.flatten())
}

fn ids(mut rows: rusqlite::Rows<'_>) -> Result<Vec<(TaskId, i64)>, Fault> {
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push((TaskId(row.get(0)?), row.get(1)?));
    }
    Ok(found)
}
