//! Ways into sandboxes: SSH tokens and ended links, both known as hashes. What is over is forgotten at the next
//! write.

use mayfly_core::access::SshAccess;
use mayfly_core::id::{SandboxId, SshAccessId};
use mayfly_core::time::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};
use uuid::Uuid;

use super::fault::Fault;

pub(super) fn add_ssh(db: &Connection, access: &SshAccess) -> Result<(), Fault> {
    db.prepare_cached("DELETE FROM ssh_accesses WHERE expires_at <= ?1")?
        .execute([access.created_at.0])?;
    db.prepare_cached(
        "INSERT INTO ssh_accesses (hash, id, sandbox, created_at, expires_at) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?
    .execute(params![
        access.hash,
        access.id.as_uuid().as_bytes(),
        access.sandbox.as_uuid().as_bytes(),
        access.created_at.0,
        access.expires_at.0,
    ])?;
    Ok(())
}

pub(super) fn ssh(db: &Connection, hash: &[u8; 32]) -> Result<Option<SshAccess>, Fault> {
    let mut statement = db.prepare_cached(
        "SELECT hash, id, sandbox, created_at, expires_at FROM ssh_accesses WHERE hash = ?1",
    )?;
    let found = statement.query_row([hash.as_slice()], |row| {
        Ok(SshAccess {
            hash: row.get(0)?,
            id: SshAccessId::from_uuid(Uuid::from_bytes(row.get(1)?)),
            sandbox: SandboxId::from_uuid(Uuid::from_bytes(row.get(2)?)),
            created_at: Timestamp(row.get(3)?),
            expires_at: Timestamp(row.get(4)?),
        })
    });
    Ok(found.optional()?)
}

pub(super) fn delete_ssh(
    db: &Connection,
    sandbox: SandboxId,
    hash: Option<[u8; 32]>,
) -> Result<u64, Fault> {
    let deleted = db
        .prepare_cached(
            "DELETE FROM ssh_accesses WHERE sandbox = ?1 AND (?2 IS NULL OR hash = ?2)",
        )?
        .execute(params![sandbox.as_uuid().as_bytes(), hash])?;
    Ok(u64::try_from(deleted).unwrap_or(u64::MAX))
}

pub(super) fn end_link(
    db: &Connection,
    hash: &[u8; 32],
    until: Timestamp,
    now: Timestamp,
) -> Result<(), Fault> {
    db.prepare_cached("DELETE FROM ended_links WHERE expires_at <= ?1")?.execute([now.0])?;
    db.prepare_cached("INSERT OR IGNORE INTO ended_links (hash, expires_at) VALUES (?1, ?2)")?
        .execute(params![hash, until.0])?;
    Ok(())
}

pub(super) fn link_ended(db: &Connection, hash: &[u8; 32]) -> Result<bool, Fault> {
    let mut statement = db.prepare_cached("SELECT 1 FROM ended_links WHERE hash = ?1")?;
    Ok(statement.exists([hash.as_slice()])?)
}
