//! API keys; a value is known only as its hash.

use mayfly_core::Error;
use mayfly_core::access::ApiKey;
use mayfly_core::id::OrganizationId;
use mayfly_core::time::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, params};
use uuid::Uuid;

use super::fault::Fault;
use crate::rows;

const COLUMNS: &str =
    "hash, organization, name, masked, permissions, created_at, expires_at, last_used_at";

pub(super) fn add(db: &Connection, key: &ApiKey) -> Result<(), Fault> {
    let added = db
        .prepare_cached(&format!(
            "INSERT INTO keys ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)"
        ))?
        .execute(params![
            key.hash,
            key.organization.as_uuid().as_bytes(),
            key.name,
            key.masked,
            rows::permissions_text(&key.permissions),
            key.created_at.0,
            key.expires_at.map(|at| at.0),
            key.last_used_at.map(|at| at.0),
        ]);
    match added {
        Ok(_) => Ok(()),
        Err(error) if Fault::is_duplicate(&error) => {
            Err(Error::conflict(format!("a key named `{}` exists", key.name))
                .with_hint("choose another name, or delete that key first")
                .into())
        }
        Err(error) => Err(error.into()),
    }
}

pub(super) fn by_hash(db: &Connection, hash: &[u8; 32]) -> Result<Option<ApiKey>, Fault> {
    let mut statement =
        db.prepare_cached(&format!("SELECT {COLUMNS} FROM keys WHERE hash = ?1"))?;
    Ok(statement.query_row([hash.as_slice()], read).optional()?)
}

pub(super) fn list(db: &Connection, organization: OrganizationId) -> Result<Vec<ApiKey>, Fault> {
    let mut statement = db.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM keys WHERE organization = ?1 ORDER BY name"
    ))?;
    let keys = statement.query_map([organization.as_uuid().as_bytes()], read)?;
    Ok(keys.collect::<rusqlite::Result<_>>()?)
}

pub(super) fn mark_used(db: &Connection, uses: &[([u8; 32], Timestamp)]) -> Result<(), Fault> {
    let mut statement = db.prepare_cached(
        "UPDATE keys SET last_used_at = max(?2, ifnull(last_used_at, ?2)) WHERE hash = ?1",
    )?;
    for (hash, at) in uses {
        statement.execute(params![hash, at.0])?;
    }
    Ok(())
}

pub(super) fn delete(
    db: &Connection,
    organization: OrganizationId,
    name: &str,
) -> Result<bool, Fault> {
    let deleted = db
        .prepare_cached("DELETE FROM keys WHERE organization = ?1 AND name = ?2")?
        .execute(params![organization.as_uuid().as_bytes(), name])?;
    Ok(deleted > 0)
}

fn read(row: &Row<'_>) -> rusqlite::Result<ApiKey> {
    Ok(ApiKey {
        hash: row.get(0)?,
        organization: OrganizationId::from_uuid(Uuid::from_bytes(row.get(1)?)),
        name: row.get(2)?,
        masked: row.get(3)?,
        permissions: rows::permissions(4, &row.get::<_, String>(4)?)?,
        created_at: Timestamp(row.get(5)?),
        expires_at: row.get::<_, Option<i64>>(6)?.map(Timestamp),
        last_used_at: row.get::<_, Option<i64>>(7)?.map(Timestamp),
    })
}
