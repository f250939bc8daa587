//! Values that tasks share, by scope and key, changed by compare-and-swap of their versions.

use mayfly_store::sqlite::Fault;
use rusqlite::{Connection, OptionalExtension as _, params};

use super::{Journal, Synchronous};
use crate::clock::Millis;
use crate::error::DagError;

/// A value with its version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedValue {
    /// The bytes.
    pub value: Vec<u8>,
    /// Rises with each change and never comes twice, also after the value was deleted.
    pub version: i64,
    /// When it ends, in milliseconds since the epoch.
    pub expires_at: Option<Millis>,
}

/// A change that is asked for.
#[derive(Clone, Debug)]
pub(crate) struct SharedPut {
    pub(crate) scope: String,
    pub(crate) key: String,
    /// None deletes it.
    pub(crate) value: Option<Vec<u8>>,
    /// The version that it must have; 0 is none at all.
    pub(crate) expected: Option<i64>,
    pub(crate) expires_at: Option<Millis>,
}

impl Journal {
    /// A value, unless its time is over.
    pub(crate) async fn shared(
        &self,
        scope: &str,
        key: &str,
    ) -> Result<Option<SharedValue>, DagError> {
        let (now, scope, key) = (self.clock().now(), scope.to_owned(), key.to_owned());
        self.read("read a shared value", move |db| find(db, &scope, &key, now)).await
    }

    /// Changes a value; answers its version before (0 for none) and now (0 when it is gone).
    pub(crate) async fn put_shared(
        &self,
        mode: Synchronous,
        put: SharedPut,
    ) -> Result<(i64, i64), DagError> {
        let now = self.clock().now();
        self.write(mode, "change a shared value", move |db| {
            let before = find(db, &put.scope, &put.key, now)?.map_or(0, |found| found.version);
            if let Some(expected) = put.expected.filter(|expected| *expected != before) {
                return Ok(Err(DagError::InvalidState(format!(
                    "shared value {}/{}: expected version {expected}, actual version {before}",
                    put.scope, put.key
                ))));
            }
            let ended = "DELETE FROM shared_state WHERE ttl <= ?1";
            db.prepare_cached(ended)?.execute([now])?;
            let Some(value) = &put.value else {
                db.prepare_cached("DELETE FROM shared_state WHERE scope = ?1 AND key = ?2")?
                    .execute([&put.scope, &put.key])?;
                return Ok(Ok((before, 0)));
            };
            let version: i64 = db
                .prepare_cached(
                    "UPDATE sequences SET next = next + 1 WHERE name = 'shared' RETURNING next - 1",
                )?
                .query_row([], |row| row.get(0))?;
            db.prepare_cached(
                "INSERT INTO shared_state (scope, key, value, version, ttl) VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT (scope, key) DO UPDATE SET value = excluded.value, version = excluded.version,
                    ttl = excluded.ttl",
            )?
            .execute(params![put.scope, put.key, value, version, put.expires_at])?;
            Ok(Ok((before, version)))
        })
        .await?
    }
}

fn find(
    db: &Connection,
    scope: &str,
    key: &str,
    now: Millis,
) -> Result<Option<SharedValue>, Fault> {
    let mut statement = db.prepare_cached(
        "SELECT value, version, ttl FROM shared_state
         WHERE scope = ?1 AND key = ?2 AND (ttl IS NULL OR ttl > ?3)",
    )?;
    let found = statement.query_row(params![scope, key, now], |row| {
        Ok(SharedValue { value: row.get(0)?, version: row.get(1)?, expires_at: row.get(2)? })
    });
    Ok(found.optional()?)
}
