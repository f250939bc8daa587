//! Sandboxes: compare-and-swap, lookups, lists.

use mayfly_core::Error;
use mayfly_core::id::{OrganizationId, SandboxId, ServerId, SnapshotId};
use mayfly_core::limits::Resources;
use mayfly_core::ports::store::{Change, SandboxPage, SandboxQuery, Swap};
use mayfly_core::sandbox::{Sandbox, Timers};
use mayfly_core::time::{Moment, Monotonic, Timestamp};
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row, params, params_from_iter};
use uuid::Uuid;

use super::events;
use super::fault::Fault;
use crate::rows;
use crate::sql::{self, Cursor, Filter};

/// All but the last activity, in the order that [`write`] binds and [`read`] reads.
const COLUMNS: &str = "id, organization, name, name_folded, snapshot, snapshot_name, user, env, \
    labels, public, target, cpu, memory_gib, disk_gib, profile, state, desired, resume_to, \
    error_reason, recoverable, auto_stop, auto_pause, auto_archive, auto_delete, ttl, \
    created_wall, created_mono, ttl_from_wall, ttl_from_mono, stopped_wall, stopped_mono, \
    updated_at, server, idempotency_key, warm, version, network, later_env, volumes";
const PARAMETERS: &str = "?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, \
    ?17, ?18, ?19, ?20, ?21, ?22, ?23, ?24, ?25, ?26, ?27, ?28, ?29, ?30, ?31, ?32, ?33, ?34, \
    ?35, ?36, ?37, ?38, ?39";

pub(super) fn replace(db: &Connection, change: &Change) -> Result<Swap, Fault> {
    let next = &change.next;
    if let Some(expected) = change.expected
        && next.version != expected + 1
    {
        return Err(Error::invalid(format!(
            "a change of version {expected} must carry version {}, not {}",
            expected + 1,
            next.version
        ))
        .into());
    }
    match write(db, next, change.expected) {
        Ok(0) => return Ok(Swap::Stale),
        Ok(_) => {}
        Err(Fault::Sqlite(error)) if Fault::is_duplicate(&error) => {
            return refusal(db, next, error);
        }
        Err(fault) => return Err(fault),
    }
    for event in &change.events {
        events::add(db, event)?;
    }
    Ok(Swap::Done)
}

/// Inserts or updates the row; the number of rows written. The last activity never moves back, because
/// `touch` may have moved it since the decision.
fn write(db: &Connection, next: &Sandbox, expected: Option<u64>) -> Result<usize, Fault> {
    let mut statement = if expected.is_some() {
        db.prepare_cached(&format!(
            "UPDATE sandboxes SET ({COLUMNS}) = ({PARAMETERS}),
                last_wall = CASE WHEN last_mono > ?41 THEN last_wall ELSE ?40 END,
                last_mono = max(last_mono, ?41)
             WHERE id = ?1 AND version = ?42"
        ))?
    } else {
        db.prepare_cached(&format!(
            "INSERT INTO sandboxes ({COLUMNS}, last_wall, last_mono)
             SELECT {PARAMETERS}, ?40, ?41 WHERE ?42 IS NULL"
        ))?
    };
    let version = |version: u64| i64::try_from(version).unwrap_or(i64::MAX);
    Ok(statement.execute(params![
        next.id.as_uuid().as_bytes(),
        next.organization.as_uuid().as_bytes(),
        next.name,
        next.name.to_lowercase(),
        next.snapshot.as_uuid().as_bytes(),
        next.snapshot_name,
        next.user,
        rows::map_text(&next.env)?,
        rows::map_text(&next.labels)?,
        next.public,
        next.target,
        next.resources.cpu,
        next.resources.memory_gib,
        next.resources.disk_gib,
        rows::profile_text(next.profile),
        rows::state_text(next.state),
        rows::desired_text(next.desired),
        next.resume_to.map(rows::state_text),
        next.error_reason,
        next.recoverable,
        next.timers.auto_stop,
        next.timers.auto_pause,
        next.timers.auto_archive,
        next.timers.auto_delete,
        next.timers.ttl,
        next.created.wall.0,
        rows::millis(next.created.mono),
        next.ttl_from.wall.0,
        rows::millis(next.ttl_from.mono),
        next.stopped_since.map(|at| at.wall.0),
        next.stopped_since.map(|at| rows::millis(at.mono)),
        next.updated_at.0,
        next.server.as_uuid().as_bytes(),
        next.idempotency_key,
        next.warm,
        version(next.version),
        rows::network_text(&next.network),
        rows::map_text(&next.later_env)?,
        rows::mounts_text(&next.volumes),
        next.last_activity.wall.0,
        rows::millis(next.last_activity.mono),
        expected.map(version),
    ])?)
}

/// Which rule a refused write broke.
fn refusal(db: &Connection, next: &Sandbox, error: rusqlite::Error) -> Result<Swap, Fault> {
    if let Some(key) = &next.idempotency_key {
        let earlier = by_key(db, next.organization, key)?;
        if let Some(earlier) = earlier.filter(|earlier| earlier.id != next.id) {
            return Ok(Swap::Repeated(Box::new(earlier)));
        }
    }
    match by_name(db, next.organization, &next.name)? {
        Some(other) if other.id != next.id => Ok(Swap::NameTaken),
        _ if by_id(db, next.id)?.is_some() => Ok(Swap::Stale),
        _ => Err(error.into()),
    }
}

pub(super) fn touch(db: &Connection, id: SandboxId, at: Moment) -> Result<(), Fault> {
    db.prepare_cached(
        "UPDATE sandboxes SET last_wall = ?2, last_mono = ?3 WHERE id = ?1 AND last_mono < ?3",
    )?
    .execute(params![id.as_uuid().as_bytes(), at.wall.0, rows::millis(at.mono)])?;
    Ok(())
}

pub(super) fn by_id(db: &Connection, id: SandboxId) -> Result<Option<Sandbox>, Fault> {
    one(db, "id = ?1", params![id.as_uuid().as_bytes()])
}

pub(super) fn by_name(
    db: &Connection,
    organization: OrganizationId,
    name: &str,
) -> Result<Option<Sandbox>, Fault> {
    one(
        db,
        "organization = ?1 AND name = ?2 AND state <> 'destroyed'",
        params![organization.as_uuid().as_bytes(), name],
    )
}

pub(super) fn by_key(
    db: &Connection,
    organization: OrganizationId,
    key: &str,
) -> Result<Option<Sandbox>, Fault> {
    one(
        db,
        "organization = ?1 AND idempotency_key = ?2",
        params![organization.as_uuid().as_bytes(), key],
    )
}

fn one(
    db: &Connection,
    condition: &str,
    values: &[&dyn rusqlite::ToSql],
) -> Result<Option<Sandbox>, Fault> {
    let mut statement = db.prepare_cached(&format!(
        "SELECT {COLUMNS}, last_wall, last_mono FROM sandboxes WHERE {condition}"
    ))?;
    Ok(statement.query_row(values, read).optional()?)
}

pub(super) fn list(
    db: &Connection,
    organization: OrganizationId,
    query: &SandboxQuery,
) -> Result<SandboxPage, Fault> {
    sql::check(query)?;
    let mut filter = Filter::of(organization, query);
    let total: i64 = if query.uncounted {
        0
    } else {
        db.prepare_cached(&format!("SELECT count(*) FROM sandboxes WHERE {}", filter.text()))?
            .query_row(params_from_iter(&filter.values), |row| row.get(0))?
    };
    if let Some(cursor) = &query.cursor {
        filter.after(query, &Cursor::parse(query.sort, cursor)?);
    }
    let mut values = filter.values.clone();
    values.push(Value::from(i64::from(query.limit) + 1));
    values.push(Value::from(i64::try_from(query.offset).unwrap_or(i64::MAX)));
    let mut statement = db.prepare_cached(&format!(
        "SELECT {COLUMNS}, last_wall, last_mono FROM sandboxes WHERE {} ORDER BY {} LIMIT ? OFFSET ?",
        filter.text(),
        sql::order(query)
    ))?;
    let mut items: Vec<Sandbox> =
        statement.query_map(params_from_iter(&values), read)?.collect::<rusqlite::Result<_>>()?;
    let limit = usize::try_from(query.limit).unwrap_or(usize::MAX);
    let more = items.len() > limit;
    items.truncate(limit);
    let next = items
        .last()
        .filter(|_| more)
        .map(|last| Cursor::behind(query.sort, last).to_text(query.sort));
    Ok(SandboxPage { items, next, total: u64::try_from(total).unwrap_or(0) })
}

pub(super) fn living(db: &Connection) -> Result<Vec<Sandbox>, Fault> {
    let mut statement = db.prepare_cached(&format!(
        "SELECT {COLUMNS}, last_wall, last_mono FROM sandboxes WHERE state <> 'destroyed' ORDER BY id"
    ))?;
    let living = statement.query_map([], read)?;
    Ok(living.collect::<rusqlite::Result<_>>()?)
}

/// Removes the records and their events.
pub(super) fn forget_destroyed(db: &Connection, before: Timestamp) -> Result<u64, Fault> {
    db.prepare_cached(
        "DELETE FROM events WHERE sandbox IN
            (SELECT id FROM sandboxes WHERE state = 'destroyed' AND updated_at < ?1)",
    )?
    .execute([before.0])?;
    let forgotten = db
        .prepare_cached("DELETE FROM sandboxes WHERE state = 'destroyed' AND updated_at < ?1")?
        .execute([before.0])?;
    Ok(u64::try_from(forgotten).unwrap_or(u64::MAX))
}

fn read(row: &Row<'_>) -> rusqlite::Result<Sandbox> {
    let resume_to = row.get::<_, Option<String>>(17)?;
    let stopped: (Option<i64>, Option<i64>) = (row.get(29)?, row.get(30)?);
    Ok(Sandbox {
        id: SandboxId::from_uuid(uuid(row, 0)?),
        organization: OrganizationId::from_uuid(uuid(row, 1)?),
        name: row.get(2)?,
        snapshot: SnapshotId::from_uuid(uuid(row, 4)?),
        snapshot_name: row.get(5)?,
        user: row.get(6)?,
        env: rows::map(7, row.get_ref(7)?.as_str()?)?,
        labels: rows::map(8, row.get_ref(8)?.as_str()?)?,
        public: row.get(9)?,
        target: row.get(10)?,
        resources: Resources {
            cpu: row.get(11)?,
            memory_gib: row.get(12)?,
            disk_gib: row.get(13)?,
        },
        profile: rows::profile(14, row.get_ref(14)?.as_str()?)?,
        state: rows::state(15, row.get_ref(15)?.as_str()?)?,
        desired: rows::desired(16, row.get_ref(16)?.as_str()?)?,
        resume_to: resume_to.map(|text| rows::state(17, &text)).transpose()?,
        error_reason: row.get(18)?,
        recoverable: row.get(19)?,
        timers: Timers {
            auto_stop: row.get(20)?,
            auto_pause: row.get(21)?,
            auto_archive: row.get(22)?,
            auto_delete: row.get(23)?,
            ttl: row.get(24)?,
        },
        created: moment(row.get(25)?, row.get(26)?),
        ttl_from: moment(row.get(27)?, row.get(28)?),
        stopped_since: stopped.0.zip(stopped.1).map(|(wall, mono)| moment(wall, mono)),
        updated_at: Timestamp(row.get(31)?),
        server: ServerId::from_uuid(uuid(row, 32)?),
        idempotency_key: row.get(33)?,
        warm: row.get(34)?,
        version: u64::try_from(row.get::<_, i64>(35)?).unwrap_or(0),
        network: rows::network(36, row.get_ref(36)?.as_str()?)?,
        later_env: rows::map(37, row.get_ref(37)?.as_str()?)?,
        volumes: rows::mounts(38, row.get_ref(38)?.as_str()?)?,
        last_activity: moment(row.get(39)?, row.get(40)?),
    })
}

fn uuid(row: &Row<'_>, column: usize) -> rusqlite::Result<Uuid> {
    row.get(column).map(Uuid::from_bytes)
}

fn moment(wall: i64, mono: i64) -> Moment {
    Moment { wall: Timestamp(wall), mono: Monotonic(u64::try_from(mono).unwrap_or(0)) }
}
