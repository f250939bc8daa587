//! The audit log, bounded per organization.

use mayfly_core::audit::{Entry, Look, Page};
use mayfly_core::id::OrganizationId;
use mayfly_core::time::Timestamp;
use mayfly_core::{Error, Kind};
use rusqlite::{Connection, Row, params};
use uuid::Uuid;

use super::fault::Fault;

/// Ids in a block. The log of an organization is pruned with its first line in each block, so it keeps at most
/// this many lines too many, whoever else writes.
const BLOCK: i64 = 64;
/// Most lines of a page.
const MOST: u32 = 200;

pub(super) fn add(db: &Connection, entry: &Entry, keep: u32) -> Result<(), Fault> {
    let organization = entry.organization.as_uuid().as_bytes();
    let last: Option<i64> = db
        .prepare_cached("SELECT max(id) FROM audit WHERE organization = ?1")?
        .query_row([organization], |row| row.get(0))?;
    db.prepare_cached(
        "INSERT INTO audit (at, organization, key, origin, action, object, status, rule, count)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
    )?
    .execute(params![
        entry.at.0,
        organization,
        entry.key,
        entry.origin,
        entry.action,
        entry.object,
        entry.status,
        entry.rule,
        i64::try_from(entry.count).unwrap_or(i64::MAX),
    ])?;
    if last.is_some_and(|last| last / BLOCK != db.last_insert_rowid() / BLOCK) {
        db.prepare_cached(
            "DELETE FROM audit WHERE organization = ?1 AND id <= (SELECT id FROM audit
                WHERE organization = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)",
        )?
        .execute(params![organization, keep])?;
    }
    Ok(())
}

pub(super) fn page(
    db: &Connection,
    organization: OrganizationId,
    look: Look,
) -> Result<Page, Fault> {
    if !(1..=MOST).contains(&look.limit) {
        let message = format!("limit must be 1 to {MOST}, not {}", look.limit);
        return Err(Error::new(Kind::Invalid, message).into());
    }
    let organization = organization.as_uuid().as_bytes();
    let total: i64 = db
        .prepare_cached("SELECT count(*) FROM audit WHERE organization = ?1")?
        .query_row([organization], |row| row.get(0))?;
    let before = look.before.map_or(i64::MAX, |id| i64::try_from(id).unwrap_or(i64::MAX));
    let offset = i64::try_from(look.offset).unwrap_or(i64::MAX);
    let mut statement = db.prepare_cached(
        "SELECT id, at, organization, key, origin, action, object, status, rule, count FROM audit
         WHERE organization = ?1 AND id < ?2 ORDER BY id DESC LIMIT ?3 OFFSET ?4",
    )?;
    let items = statement
        .query_map(params![organization, before, look.limit, offset], read)?
        .collect::<rusqlite::Result<_>>()?;
    Ok(Page { items, total: u64::try_from(total).unwrap_or(0) })
}

fn read(row: &Row<'_>) -> rusqlite::Result<Entry> {
    let number = |value: i64| u64::try_from(value).unwrap_or(0);
    Ok(Entry {
        id: number(row.get(0)?),
        at: Timestamp(row.get(1)?),
        organization: OrganizationId::from_uuid(Uuid::from_bytes(row.get(2)?)),
        key: row.get(3)?,
        origin: row.get(4)?,
        action: row.get(5)?,
        object: row.get(6)?,
        status: row.get(7)?,
        rule: row.get(8)?,
        count: number(row.get(9)?),
    })
}
