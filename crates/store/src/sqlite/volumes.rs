//! Volumes.

use mayfly_core::Error;
use mayfly_core::id::{OrganizationId, VolumeId};
use mayfly_core::time::Timestamp;
use mayfly_core::volume::Volume;
use rusqlite::{Connection, Row, params};
use uuid::Uuid;

use super::fault::Fault;
use crate::rows;

const COLUMNS: &str = "id, organization, name, state, size_gib, error_reason, created_at, updated_at, \
    last_used_at";

pub(super) fn put(db: &Connection, volume: &Volume) -> Result<(), Fault> {
    let written = db
        .prepare_cached(&format!(
            "INSERT INTO volumes ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
             ON CONFLICT (id) DO UPDATE SET name = ?3, state = ?4, size_gib = ?5, error_reason = ?6,
                updated_at = ?8, last_used_at = ?9"
        ))?
        .execute(params![
            volume.id.as_uuid().as_bytes(),
            volume.organization.as_uuid().as_bytes(),
            volume.name,
            volume.state.as_str(),
            volume.size_gib,
            volume.error_reason,
            volume.created_at.0,
            volume.updated_at.0,
            volume.last_used_at.map(|at| at.0),
        ]);
    match written {
        Ok(_) => Ok(()),
        Err(error) if Fault::is_duplicate(&error) => {
            Err(Error::conflict(format!("a volume named {} already exists", volume.name))
                .with_hint("choose another name, or delete that volume first")
                .into())
        }
        Err(error) => Err(error.into()),
    }
}

pub(super) fn all(db: &Connection) -> Result<Vec<Volume>, Fault> {
    let mut statement = db.prepare_cached(&format!("SELECT {COLUMNS} FROM volumes ORDER BY id"))?;
    let found = statement.query_map([], read)?;
    Ok(found.collect::<rusqlite::Result<_>>()?)
}

pub(super) fn forget_deleted(db: &Connection, before: Timestamp) -> Result<u64, Fault> {
    let forgotten = db
        .prepare_cached("DELETE FROM volumes WHERE state = 'deleted' AND updated_at < ?1")?
        .execute([before.0])?;
    Ok(u64::try_from(forgotten).unwrap_or(u64::MAX))
}

fn read(row: &Row<'_>) -> rusqlite::Result<Volume> {
    Ok(Volume {
        id: VolumeId::from_uuid(Uuid::from_bytes(row.get(0)?)),
        organization: OrganizationId::from_uuid(Uuid::from_bytes(row.get(1)?)),
        name: row.get(2)?,
        state: rows::volume_state(3, row.get_ref(3)?.as_str()?)?,
        size_gib: row.get(4)?,
        error_reason: row.get(5)?,
        created_at: Timestamp(row.get(6)?),
        updated_at: Timestamp(row.get(7)?),
        last_used_at: row.get::<_, Option<i64>>(8)?.map(Timestamp),
    })
}
