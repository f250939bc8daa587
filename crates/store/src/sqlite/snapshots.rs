//! Snapshots.

use mayfly_core::Error;
use mayfly_core::id::{OrganizationId, SnapshotId};
use mayfly_core::limits::Resources;
use mayfly_core::snapshot::{Snapshot, Source};
use mayfly_core::time::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, params};
use uuid::Uuid;

use super::fault::Fault;
use crate::rows;

const COLUMNS: &str = "id, organization, name, source_kind, source_value, cpu, memory_gib, \
                       disk_gib, user, workdir, env, created_at, last_used_at";

/// Adds or replaces by id; a name that another visible snapshot has is a conflict.
pub(super) fn put(db: &Connection, snapshot: &Snapshot) -> Result<(), Fault> {
    let organization = snapshot.organization.map(|owner| *owner.as_uuid().as_bytes());
    let taken: bool = db
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM snapshots WHERE name = ?1 AND id <> ?2
                AND (organization IS NULL OR ?3 IS NULL OR organization = ?3))",
        )?
        .query_row(
            params![snapshot.name, snapshot.id.as_uuid().as_bytes(), organization],
            |row| row.get(0),
        )?;
    if taken {
        return Err(Error::conflict(format!("a snapshot named `{}` exists", snapshot.name))
            .with_hint("choose another name, or delete that snapshot first")
            .into());
    }
    let Source::Host { fingerprint } = &snapshot.source;
    db.prepare_cached(&format!(
        "INSERT OR REPLACE INTO snapshots ({COLUMNS})
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)"
    ))?
    .execute(params![
        snapshot.id.as_uuid().as_bytes(),
        organization,
        snapshot.name,
        "host",
        fingerprint,
        snapshot.resources.cpu,
        snapshot.resources.memory_gib,
        snapshot.resources.disk_gib,
        snapshot.user,
        snapshot.workdir,
        rows::map_text(&snapshot.env)?,
        snapshot.created_at.0,
        snapshot.last_used_at.map(|at| at.0),
    ])?;
    Ok(())
}

pub(super) fn mark_used(db: &Connection, id: SnapshotId, at: Timestamp) -> Result<(), Fault> {
    db.prepare_cached(
        "UPDATE snapshots SET last_used_at = max(coalesce(last_used_at, ?2), ?2) WHERE id = ?1",
    )?
    .execute(params![id.as_uuid().as_bytes(), at.0])?;
    Ok(())
}

pub(super) fn by_id(db: &Connection, id: SnapshotId) -> Result<Option<Snapshot>, Fault> {
    let mut statement =
        db.prepare_cached(&format!("SELECT {COLUMNS} FROM snapshots WHERE id = ?1"))?;
    Ok(statement.query_row([id.as_uuid().as_bytes()], read).optional()?)
}

/// Its own and the general ones, by name.
pub(super) fn list(db: &Connection, organization: OrganizationId) -> Result<Vec<Snapshot>, Fault> {
    let mut statement = db.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM snapshots
         WHERE organization IS NULL OR organization = ?1 ORDER BY name, id"
    ))?;
    let snapshots = statement.query_map([organization.as_uuid().as_bytes()], read)?;
    Ok(snapshots.collect::<rusqlite::Result<_>>()?)
}

fn read(row: &Row<'_>) -> rusqlite::Result<Snapshot> {
    let kind: String = row.get(3)?;
    let source = match kind.as_str() {
        "host" => Source::Host { fingerprint: row.get(4)? },
        _ => return Err(rows::unknown(3, "source of a snapshot", &kind)),
    };
    Ok(Snapshot {
        id: SnapshotId::from_uuid(Uuid::from_bytes(row.get(0)?)),
        organization: row
            .get::<_, Option<[u8; 16]>>(1)?
            .map(|bytes| OrganizationId::from_uuid(Uuid::from_bytes(bytes))),
        name: row.get(2)?,
        source,
        resources: Resources { cpu: row.get(5)?, memory_gib: row.get(6)?, disk_gib: row.get(7)? },
        user: row.get(8)?,
        workdir: row.get(9)?,
        env: rows::map(10, &row.get::<_, String>(10)?)?,
        created_at: Timestamp(row.get(11)?),
        last_used_at: row.get::<_, Option<i64>>(12)?.map(Timestamp),
    })
}
