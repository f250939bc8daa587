//! Jobs on runs: make one, append to its log, take it over, read it.

use std::sync::Arc;

use mayfly_store::sqlite::Fault;
use rusqlite::{Connection, OptionalExtension as _, Row as SqlRow, params};

use super::codec::Row;
use super::{Artifact, Journal, Synchronous, artifacts};
use crate::clock::Millis;
use crate::error::DagError;
use crate::model::status::RunStatus;

/// A run to make, together with its first entries.
#[derive(Clone, Debug)]
pub(crate) struct NewRun {
    pub(crate) flow: Arc<str>,
    pub(crate) config: String,
    pub(crate) definition: Arc<str>,
    /// SHA-256 of the definition.
    pub(crate) hash: [u8; 32],
    pub(crate) inputs: String,
    pub(crate) idempotency_key: Option<String>,
    pub(crate) parent: Option<String>,
    pub(crate) owner: String,
}

/// What an earlier equal step gave, noted for later ones.
#[derive(Clone, Debug)]
pub(crate) struct Reusable {
    pub(crate) hash: [u8; 32],
    pub(crate) artifact: Option<String>,
    pub(crate) writes: Option<String>,
}

/// Everything that one step of a run writes, all or nothing.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) run_id: Arc<str>,
    /// Key of the row, once there is one.
    pub(crate) row: i64,
    pub(crate) version: i64,
    pub(crate) create: Option<NewRun>,
    pub(crate) status: RunStatus,
    pub(crate) reason: Option<String>,
    /// Whether status or reason are other ones than those written before.
    pub(crate) is_turn: bool,
    pub(crate) busy: bool,
    pub(crate) at: Millis,
    pub(crate) rows: Vec<Row>,
    pub(crate) artifacts: Vec<Artifact>,
    pub(crate) reusable: Vec<Reusable>,
}

/// What became of a batch.
#[derive(Debug)]
pub(crate) enum Committed {
    /// It is written; the key of the run's row.
    Done(i64),
    /// The run belongs to somebody else now; nothing is written.
    Stale,
    /// A run of this id or idempotency key is there already; nothing is written.
    Exists(String),
}

/// A run as its row says.
#[derive(Clone, Debug)]
pub(crate) struct RunRow {
    pub(crate) row: i64,
    pub(crate) run_id: String,
    pub(crate) flow: String,
    pub(crate) status: RunStatus,
    pub(crate) reason: Option<String>,
    pub(crate) config: String,
    pub(crate) definition: String,
    pub(crate) inputs: String,
    pub(crate) owner: Option<String>,
    pub(crate) version: i64,
    pub(crate) busy: bool,
    pub(crate) lease: Option<Millis>,
    pub(crate) created_at: Millis,
    pub(crate) finished_at: Option<Millis>,
}

impl Journal {
    /// Writes one step of a run: its row, its entries, its artifacts.
    pub(crate) async fn commit(
        &self,
        mode: Synchronous,
        batch: &Arc<Batch>,
    ) -> Result<Committed, DagError> {
        let batch = Arc::clone(batch);
        self.write(mode, "write a step of a run", move |db| commit(db, &batch)).await
    }

    /// Takes a run over if it is still as it was read; `None` when somebody was faster.
    pub(crate) async fn claim(&self, run: &RunRow, owner: &str) -> Result<bool, DagError> {
        let (row, version, owner) = (run.row, run.version, owner.to_owned());
        self.write(Synchronous::Full, "take a run over", move |db| {
            let changed = db
                .prepare_cached(
                    "UPDATE run_heads SET version = version + 1 WHERE run = ?1 AND version = ?2",
                )?
                .execute([row, version])?;
            if changed == 1 {
                db.prepare_cached("UPDATE flow_runs SET owner = ?1 WHERE id = ?2")?
                    .execute(params![owner, row])?;
            }
            Ok(changed == 1)
        })
        .await
    }

    /// Gives a run up, so that another process need not wait for a lease.
    pub(crate) async fn release(&self, row: i64, version: i64) -> Result<(), DagError> {
        self.write(Synchronous::Normal, "give a run up", move |db| {
            db.prepare_cached(
                "UPDATE flow_runs SET owner = NULL
                 WHERE id = ?1 AND EXISTS (SELECT 1 FROM run_heads WHERE run = ?1 AND version = ?2)",
            )?
            .execute([row, version])?;
            Ok(())
        })
        .await
    }

    /// One run by its id.
    pub(crate) async fn run(&self, id: &str) -> Result<Option<RunRow>, DagError> {
        let id = id.to_owned();
        self.read("read a run", move |db| {
            let mut statement = db.prepare_cached(&select("WHERE r.run_id = ?1"))?;
            Ok(statement.query_row([&id], run_row).optional()?)
        })
        .await
    }

    /// The run of this id or idempotency key.
    pub(crate) async fn existing_run(
        &self,
        run_id: Option<String>,
        key: Option<String>,
    ) -> Result<Option<String>, DagError> {
        self.read("look for a run", move |db| {
            let mut statement = db.prepare_cached(
                "SELECT run_id FROM flow_runs WHERE run_id = ?1 OR idempotency_key = ?2",
            )?;
            Ok(statement.query_row(params![run_id, key], |row| row.get(0)).optional()?)
        })
        .await
    }

    /// Runs of a status or flow, newest first, at most `limit`.
    pub(crate) async fn runs(
        &self,
        status: Option<RunStatus>,
        flow: Option<String>,
        limit: u32,
    ) -> Result<Vec<RunRow>, DagError> {
        self.read("list runs", move |db| {
            let mut statement = db.prepare_cached(&select(
                "WHERE (?1 IS NULL OR r.status = ?1) AND (?2 IS NULL OR r.flow_name = ?2)
                 ORDER BY r.id DESC LIMIT ?3",
            ))?;
            let status = status.map(RunStatus::name);
            let rows = statement.query_map(params![status, flow, limit], run_row)?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
        .await
    }

    /// Entries of a run after a sequence number, in order, at most `limit`, with the bytes of inline outputs.
    pub(crate) async fn log(
        &self,
        row: i64,
        after: i64,
        limit: u32,
    ) -> Result<Vec<(Row, Option<Vec<u8>>)>, DagError> {
        self.read("read the log of a run", move |db| {
            let mut statement = db.prepare_cached(
                "SELECT l.sequence, l.at, l.kind, l.node, l.key, l.attempt, l.input_hash, l.artifact,
                        l.data, a.inline_data
                 FROM run_log AS l LEFT JOIN artifacts AS a ON a.artifact_id = l.artifact
                 WHERE l.run = ?1 AND l.sequence > ?2 ORDER BY l.sequence LIMIT ?3",
            )?;
            let rows = statement.query_map(params![row, after, limit], |row| {
                let read = Row {
                    sequence: row.get(0)?,
                    at: row.get(1)?,
                    kind: row.get(2)?,
                    node: row.get(3)?,
                    key: row.get(4)?,
                    attempt: row.get(5)?,
                    hash: row.get(6)?,
                    artifact: row.get(7)?,
                    data: row.get(8)?,
                };
                Ok((read, row.get(9)?))
            })?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
        .await
    }

    /// What an equal step gave earlier.
    pub(crate) async fn reusable(&self, hash: [u8; 32]) -> Result<Option<Reusable>, DagError> {
        self.read("look for an equal step", move |db| {
            let mut statement =
                db.prepare_cached("SELECT artifact, data FROM reusable WHERE input_hash = ?1")?;
            let found = statement.query_row([hash.as_slice()], |row| {
                Ok(Reusable { hash, artifact: row.get(0)?, writes: row.get(1)? })
            });
            Ok(found.optional()?)
        })
        .await
    }
}

fn select(rest: &str) -> String {
    format!(
        "SELECT r.id, r.run_id, r.flow_name, r.status, r.status_reason, r.config, d.body, r.inputs, r.owner,
                h.version, h.busy, o.lease_expires_at, r.created_at, r.finished_at
         FROM flow_runs AS r JOIN run_heads AS h ON h.run = r.id JOIN flow_definitions AS d ON d.id = r.definition
         LEFT JOIN owners AS o ON o.owner = r.owner {rest}"
    )
}

fn run_row(row: &SqlRow<'_>) -> rusqlite::Result<RunRow> {
    let status: String = row.get(3)?;
    Ok(RunRow {
        row: row.get(0)?,
        run_id: row.get(1)?,
        flow: row.get(2)?,
        status: RunStatus::from_name(&status).unwrap_or_default(),
        reason: row.get(4)?,
        config: row.get(5)?,
        definition: row.get(6)?,
        inputs: row.get(7)?,
        owner: row.get(8)?,
        version: row.get(9)?,
        busy: row.get(10)?,
        lease: row.get(11)?,
        created_at: row.get(12)?,
        finished_at: row.get(13)?,
    })
}

fn commit(db: &Connection, batch: &Batch) -> Result<Committed, Fault> {
    let row = match &batch.create {
        Some(new) => match create(db, batch, new)? {
            Ok(row) => row,
            Err(existing) => return Ok(Committed::Exists(existing)),
        },
        None if update(db, batch)? => batch.row,
        None => return Ok(Committed::Stale),
    };
    for artifact in &batch.artifacts {
        artifacts::insert(db, artifact, batch.at)?;
    }
    let mut log = db.prepare_cached(
        "INSERT INTO run_log (run, sequence, at, kind, node, key, attempt, input_hash, artifact, data)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
    )?;
    for entry in &batch.rows {
        log.execute(params![
            row,
            entry.sequence,
            entry.at,
            entry.kind,
            entry.node,
            entry.key,
            entry.attempt,
            entry.hash,
            entry.artifact,
            entry.data
        ])?;
    }
    for reusable in &batch.reusable {
        db.prepare_cached(
            "INSERT INTO reusable (input_hash, artifact, data, at) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT DO NOTHING",
        )?
        .execute(params![reusable.hash, reusable.artifact, reusable.writes, batch.at])?;
    }
    Ok(Committed::Done(row))
}

fn update(db: &Connection, batch: &Batch) -> Result<bool, Fault> {
    let sequence = batch.rows.last().map(|row| row.sequence);
    let changed = db
        .prepare_cached(
            "UPDATE run_heads SET busy = ?3, updated_at = ?4, sequence = coalesce(?5, sequence)
             WHERE run = ?1 AND version = ?2",
        )?
        .execute(params![batch.row, batch.version, batch.busy, batch.at, sequence])?;
    if changed == 1 && batch.is_turn {
        db.prepare_cached(
            "UPDATE flow_runs SET status = ?2, status_reason = ?3, finished_at = ?4, error = ?5 WHERE id = ?1",
        )?
        .execute(params![
            batch.row,
            batch.status.name(),
            batch.reason,
            batch.status.is_final().then_some(batch.at),
            batch.reason.as_ref().filter(|_| batch.status == RunStatus::Failed),
        ])?;
    }
    Ok(changed == 1)
}

fn create(db: &Connection, batch: &Batch, new: &NewRun) -> Result<Result<i64, String>, Fault> {
    let existing = db
        .prepare_cached("SELECT run_id FROM flow_runs WHERE run_id = ?1 OR idempotency_key = ?2")?
        .query_row(params![&*batch.run_id, new.idempotency_key], |row| row.get(0))
        .optional()?;
    if let Some(existing) = existing {
        return Ok(Err(existing));
    }
    let find = "SELECT id FROM flow_definitions WHERE hash = ?1";
    let known =
        db.prepare_cached(find)?.query_row([new.hash.as_slice()], |row| row.get(0)).optional()?;
    let definition: i64 = match known {
        Some(id) => id,
        None => db
            .prepare_cached("INSERT INTO flow_definitions (hash, name, body) VALUES (?1, ?2, ?3)")?
            .insert(params![new.hash, &*new.flow, &*new.definition])?,
    };
    let row = db
        .prepare_cached(
            "INSERT INTO flow_runs (run_id, flow_name, status, status_reason, config, definition, inputs,
                idempotency_key, parent_run_id, owner, created_at, finished_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
        )?
        .insert(params![
            &*batch.run_id,
            &*new.flow,
            batch.status.name(),
            batch.reason,
            new.config,
            definition,
            new.inputs,
            new.idempotency_key,
            new.parent,
            new.owner,
            batch.at,
            batch.status.is_final().then_some(batch.at),
        ])?;
    db.prepare_cached(
        "INSERT INTO run_heads (run, version, busy, sequence, updated_at) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?
    .execute(params![
        row,
        batch.version,
        batch.busy,
        batch.rows.last().map_or(0, |row| row.sequence),
        batch.at
    ])?;
    Ok(Ok(row))
}

/// Whether an owner's lease has ended, by the table.
pub(crate) fn lease_ended(row: &RunRow, now: Millis) -> bool {
    row.lease.is_none_or(|end| end <= now)
}
