//! What happened to sandboxes; written in the transaction of the change.

use mayfly_core::event::{Event, What};
use mayfly_core::id::{OrganizationId, SandboxId};
use mayfly_core::time::Timestamp;
use rusqlite::{Connection, Row, params};
use uuid::Uuid;

use super::fault::Fault;
use crate::rows;

/// Newest events kept of each sandbox.
const KEPT: u32 = 1000;
/// Every so many events the sandbox of the event at hand is pruned, so a sandbox keeps a little over
/// [`KEPT`] in proportion to its share of all events.
const PRUNE_EVERY: i64 = 64;

pub(super) fn add(db: &Connection, event: &Event) -> Result<(), Fault> {
    let (kind, first, second) = match &event.what {
        What::Created => ("created", None, None),
        What::StateChanged { from, to } => {
            ("state", Some(rows::state_text(*from)), Some(rows::state_text(*to)))
        }
        What::Audit { rule, target } => ("audit", Some(rule.as_str()), Some(target.as_str())),
    };
    let sandbox = event.sandbox.as_uuid().as_bytes();
    let organization = event.organization.as_uuid().as_bytes();
    db.prepare_cached(
        "INSERT INTO events (at, organization, sandbox, kind, first, second)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?
    .execute(params![event.at.0, organization, sandbox, kind, first, second])?;
    if db.last_insert_rowid() % PRUNE_EVERY == 0 {
        db.prepare_cached(
            "DELETE FROM events WHERE sandbox = ?1 AND id <= (SELECT id FROM events
                WHERE sandbox = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)",
        )?
        .execute(params![sandbox, KEPT])?;
    }
    Ok(())
}

pub(super) fn newest(db: &Connection, sandbox: SandboxId, limit: u32) -> Result<Vec<Event>, Fault> {
    let mut statement = db.prepare_cached(
        "SELECT at, organization, sandbox, kind, first, second FROM events
         WHERE sandbox = ?1 ORDER BY id DESC LIMIT ?2",
    )?;
    let events = statement.query_map(params![sandbox.as_uuid().as_bytes(), limit], read)?;
    Ok(events.collect::<rusqlite::Result<_>>()?)
}

fn read(row: &Row<'_>) -> rusqlite::Result<Event> {
    let kind: String = row.get(3)?;
    let what = match kind.as_str() {
        "created" => What::Created,
        "state" => What::StateChanged {
            from: rows::state(4, &row.get::<_, String>(4)?)?,
            to: rows::state(5, &row.get::<_, String>(5)?)?,
        },
        "audit" => What::Audit { rule: row.get(4)?, target: row.get(5)? },
        _ => return Err(rows::unknown(3, "kind of event", &kind)),
    };
    Ok(Event {
        at: Timestamp(row.get(0)?),
        organization: OrganizationId::from_uuid(Uuid::from_bytes(row.get(1)?)),
        sandbox: SandboxId::from_uuid(Uuid::from_bytes(row.get(2)?)),
        what,
    })
}
