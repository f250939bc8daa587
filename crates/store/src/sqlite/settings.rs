//! Values of the server itself, and the boot that stored moments belong to.

use mayfly_core::ports::clock::Clock;
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};

use super::fault::Fault;
use crate::rows::millis;

/// Boot that every `*_mono` column counts in. Not reachable by callers: their names hold no dot.
const BOOT: &str = "store.boot";

pub(super) fn get(db: &Connection, name: &str) -> Result<Option<String>, Fault> {
    let mut statement = db.prepare_cached("SELECT value FROM settings WHERE name = ?1")?;
    Ok(statement.query_row([name], |row| row.get(0)).optional()?)
}

pub(super) fn set(db: &Connection, name: &str, value: &str) -> Result<(), Fault> {
    db.prepare_cached(
        "INSERT INTO settings (name, value) VALUES (?1, ?2)
         ON CONFLICT (name) DO UPDATE SET value = excluded.value",
    )?
    .execute([name, value])?;
    Ok(())
}

/// Moves all stored moments to the clock's boot, once per boot, by the wall time they carry.
///
/// A moment that would lie after now (the wall clock was set back) becomes now.
pub(super) fn rebase(db: &mut Connection, clock: &dyn Clock) -> rusqlite::Result<()> {
    let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let stored: Option<String> = transaction
        .query_row("SELECT value FROM settings WHERE name = ?1", [BOOT], |row| row.get(0))
        .optional()?;
    if stored.as_deref() == Some(clock.boot_id()) {
        return transaction.rollback();
    }
    if stored.is_some() {
        let now = clock.now();
        transaction.execute(
            "UPDATE sandboxes SET
                created_mono = max(0, ?1 - max(0, ?2 - created_wall)),
                ttl_from_mono = max(0, ?1 - max(0, ?2 - ttl_from_wall)),
                stopped_mono = max(0, ?1 - max(0, ?2 - stopped_wall)),
                last_mono = max(0, ?1 - max(0, ?2 - last_wall))",
            params![millis(now.mono), now.wall.0],
        )?;
    }
    transaction.execute(
        "INSERT INTO settings (name, value) VALUES (?1, ?2)
         ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        [BOOT, clock.boot_id()],
    )?;
    transaction.commit()
}
