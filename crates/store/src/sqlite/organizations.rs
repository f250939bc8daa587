//! Organizations.

use mayfly_core::Error;
use mayfly_core::access::{Organization, Quota};
use mayfly_core::id::OrganizationId;
use mayfly_core::time::Timestamp;
use rusqlite::{Connection, Row, params};
use uuid::Uuid;

use super::fault::Fault;

const COLUMNS: &str = "id, name, sandboxes, cpu, memory_gib, disk_gib, volumes, created_at";

pub(super) fn put(db: &Connection, organization: &Organization) -> Result<(), Fault> {
    let Quota { sandboxes, cpu, memory_gib, disk_gib, volumes } = organization.quota;
    let written = db
        .prepare_cached(&format!(
            "INSERT INTO organizations ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
             ON CONFLICT (id) DO UPDATE SET name = ?2, sandboxes = ?3, cpu = ?4, memory_gib = ?5,
                disk_gib = ?6, volumes = ?7"
        ))?
        .execute(params![
            organization.id.as_uuid().as_bytes(),
            organization.name,
            sandboxes,
            cpu,
            memory_gib,
            disk_gib,
            volumes,
            organization.created_at.0,
        ]);
    match written {
        Ok(_) => Ok(()),
        Err(error) if Fault::is_duplicate(&error) => {
            let name = &organization.name;
            Err(Error::conflict(format!("an organization named `{name}` exists"))
                .with_hint("choose another name")
                .into())
        }
        Err(error) => Err(error.into()),
    }
}

pub(super) fn list(db: &Connection) -> Result<Vec<Organization>, Fault> {
    let mut statement =
        db.prepare_cached(&format!("SELECT {COLUMNS} FROM organizations ORDER BY name"))?;
    let found = statement.query_map([], read)?;
    Ok(found.collect::<rusqlite::Result<_>>()?)
}

pub(super) fn delete(db: &Connection, id: OrganizationId) -> Result<bool, Fault> {
    let id = id.as_uuid().as_bytes();
    for (noun, condition) in [
        ("sandboxes", " AND state <> 'destroyed'"),
        ("volumes", " AND state <> 'deleted'"),
        ("snapshots", ""),
    ] {
        let mut statement = db.prepare_cached(&format!(
            "SELECT 1 FROM {noun} WHERE organization = ?1{condition} LIMIT 1"
        ))?;
        if statement.exists([id])? {
            return Err(Error::conflict(format!("the organization still has {noun}"))
                .with_hint(format!("delete its {noun} first"))
                .into());
        }
    }
    for table in ["keys", "audit", "volumes"] {
        db.prepare_cached(&format!("DELETE FROM {table} WHERE organization = ?1"))?
            .execute([id])?;
    }
    Ok(db.prepare_cached("DELETE FROM organizations WHERE id = ?1")?.execute([id])? > 0)
}

fn read(row: &Row<'_>) -> rusqlite::Result<Organization> {
    Ok(Organization {
        id: OrganizationId::from_uuid(Uuid::from_bytes(row.get(0)?)),
        name: row.get(1)?,
        quota: Quota {
            sandboxes: row.get(2)?,
            cpu: row.get(3)?,
            memory_gib: row.get(4)?,
            disk_gib: row.get(5)?,
            volumes: row.get(6)?,
        },
        created_at: Timestamp(row.get(7)?),
    })
}
