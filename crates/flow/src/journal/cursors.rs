//! Jobs on subscribers' places: claim them, give them up, move them.

use std::collections::HashMap;

use mayfly_store::sqlite::Fault;
use rusqlite::{Connection, OptionalExtension as _, Row as SqlRow, params};

use super::messages::{channel_of, position};
use super::{Journal, Synchronous};
use crate::clock::Millis;
use crate::error::DagError;
use crate::pubsub::message::StartAt;

/// A subscriber's place in a channel, as stored.
#[derive(Clone, Debug)]
pub(crate) struct CursorRow {
    pub(crate) id: i64,
    pub(crate) channel: String,
    pub(crate) position: i64,
    pub(crate) ahead: Option<String>,
    pub(crate) owner: Option<String>,
    pub(crate) version: i64,
    pub(crate) lease: Option<Millis>,
    /// Sequence number, failed attempts, when the next is due.
    pub(crate) retries: Vec<(i64, u32, Millis)>,
}

impl Journal {
    /// All places of a subscriber.
    pub(crate) async fn cursors(&self, subscriber: &str) -> Result<Vec<CursorRow>, DagError> {
        let subscriber = subscriber.to_owned();
        self.read("read a subscriber", move |db| cursors(db, &subscriber)).await
    }

    /// Takes a subscriber over, if its places are still as they were read, and makes those that are not there. `None` when
    /// somebody was faster.
    pub(crate) async fn claim_cursors(
        &self,
        subscriber: &str,
        channels: Vec<String>,
        start: StartAt,
        owner: &str,
        expected: Vec<(i64, i64)>,
        at: Millis,
    ) -> Result<Option<Vec<CursorRow>>, DagError> {
        let (subscriber, owner) = (subscriber.to_owned(), owner.to_owned());
        self.write(Synchronous::Full, "take a subscriber over", move |db| {
            let known = cursors(db, &subscriber)?;
            let versions: Vec<_> = known.iter().map(|row| (row.id, row.version)).collect();
            if versions != expected {
                return Ok(None);
            }
            for channel in &channels {
                if !known.iter().any(|row| row.channel == *channel) {
                    make(db, &subscriber, channel, start, at)?;
                }
            }
            db.prepare_cached(
                "UPDATE message_cursors SET owner = ?2, version = version + 1, updated_at = ?3
                 WHERE subscriber = ?1",
            )?
            .execute(params![subscriber, owner, at])?;
            cursors(db, &subscriber).map(Some)
        })
        .await
    }

    /// Gives places up, so that another process need not wait for a lease.
    pub(crate) async fn release_cursors(&self, held: Vec<(i64, i64)>) -> Result<(), DagError> {
        self.write(Synchronous::Normal, "give a subscriber up", move |db| {
            for (id, version) in &held {
                db.prepare_cached(
                    "UPDATE message_cursors SET owner = NULL WHERE id = ?1 AND version = ?2",
                )?
                .execute([id, version])?;
            }
            Ok(())
        })
        .await
    }

    /// The place of a subscriber that asks for its messages itself; made when it is not there.
    pub(crate) async fn pull_cursor(
        &self,
        subscriber: &str,
        channel: &str,
        start: StartAt,
        at: Millis,
    ) -> Result<CursorRow, DagError> {
        let (subscriber, channel) = (subscriber.to_owned(), channel.to_owned());
        let (who, of) = (subscriber.clone(), channel.clone());
        let known = self.read("read a subscriber", move |db| cursor(db, &who, &of)).await?;
        if let Some(known) = known {
            return Ok(known);
        }
        self.write(Synchronous::Full, "make a subscriber", move |db| {
            if let Some(known) = cursor(db, &subscriber, &channel)? {
                return Ok(known);
            }
            make(db, &subscriber, &channel, start, at)?;
            cursor(db, &subscriber, &channel)?
                .ok_or_else(|| rusqlite::Error::QueryReturnedNoRows.into())
        })
        .await
    }

    /// Acknowledges everything up to a sequence number; answers the position, which never goes back. `None` when a process
    /// works for this subscriber.
    pub(crate) async fn pull_ack(
        &self,
        cursor: i64,
        seq: i64,
        at: Millis,
    ) -> Result<Option<i64>, DagError> {
        self.write(Synchronous::Normal, "acknowledge messages", move |db| {
            let moved = db
                .prepare_cached(
                    "UPDATE message_cursors SET position = max(position, ?2), updated_at = ?3
                     WHERE id = ?1 AND owner IS NULL RETURNING position",
                )?
                .query_row(params![cursor, seq, at], |row| row.get(0))
                .optional()?;
            Ok(moved)
        })
        .await
    }

    /// The position before the first message that a start means.
    pub(crate) async fn place(&self, channel: &str, start: StartAt) -> Result<i64, DagError> {
        let name = channel.to_owned();
        self.read("find a place in a channel", move |db| {
            position(db, &channel_of(db, &name)?, start)
        })
        .await
    }

    /// The places that belong to an owner, with their versions.
    pub(crate) async fn owned_cursors(&self, owner: &str) -> Result<HashMap<i64, i64>, DagError> {
        let owner = owner.to_owned();
        self.read("read subscribers", move |db| {
            let mut statement =
                db.prepare_cached("SELECT id, version FROM message_cursors WHERE owner = ?1")?;
            let rows = statement.query_map([&owner], |row| Ok((row.get(0)?, row.get(1)?)))?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
        .await
    }

    /// Whether processes besides this owner's have a lease.
    pub(crate) async fn has_others(&self, owner: &str, at: Millis) -> Result<bool, DagError> {
        let owner = owner.to_owned();
        self.read("look for other processes", move |db| {
            let mut statement = db.prepare_cached(
                "SELECT 1 FROM owners WHERE owner <> ?1 AND lease_expires_at > ?2 LIMIT 1",
            )?;
            Ok(statement.exists(params![owner, at])?)
        })
        .await
    }

    /// Sets a subscriber's place in a channel; whoever works for it has to claim it again.
    pub(crate) async fn seek(
        &self,
        subscriber: &str,
        channel: &str,
        start: StartAt,
        at: Millis,
    ) -> Result<i64, DagError> {
        let (subscriber, channel) = (subscriber.to_owned(), channel.to_owned());
        self.write(Synchronous::Full, "move a subscriber", move |db| {
            if cursor(db, &subscriber, &channel)?.is_none() {
                make(db, &subscriber, &channel, start, at)?;
            }
            let to = position(db, &channel_of(db, &channel)?, start)?;
            db.prepare_cached(
                "DELETE FROM message_retries WHERE cursor IN
                    (SELECT id FROM message_cursors WHERE subscriber = ?1 AND channel = ?2)",
            )?
            .execute([&subscriber, &channel])?;
            db.prepare_cached(
                "UPDATE message_cursors SET position = ?3, ahead = NULL, attempts = 0
                 WHERE subscriber = ?1 AND channel = ?2",
            )?
            .execute(params![subscriber, channel, to])?;
            db.prepare_cached(
                "UPDATE message_cursors SET owner = NULL, version = version + 1, updated_at = ?2
                 WHERE subscriber = ?1",
            )?
            .execute(params![subscriber, at])?;
            Ok(to)
        })
        .await
    }
}

fn make(
    db: &Connection,
    subscriber: &str,
    channel: &str,
    start: StartAt,
    at: Millis,
) -> Result<(), Fault> {
    let position = position(db, &channel_of(db, channel)?, start)?;
    db.prepare_cached(
        "INSERT INTO message_cursors (subscriber, channel, position, updated_at) VALUES (?1, ?2, ?3, ?4)",
    )?
    .execute(params![subscriber, channel, position, at])?;
    Ok(())
}

const SELECT: &str =
    "SELECT m.id, m.channel, m.position, m.ahead, m.owner, m.version, o.lease_expires_at
    FROM message_cursors AS m LEFT JOIN owners AS o ON o.owner = m.owner WHERE m.subscriber = ?1";

fn cursors(db: &Connection, subscriber: &str) -> Result<Vec<CursorRow>, Fault> {
    let mut rows: Vec<CursorRow> = db
        .prepare_cached(&format!("{SELECT} ORDER BY m.id"))?
        .query_map([subscriber], cursor_row)?
        .collect::<rusqlite::Result<_>>()?;
    for row in &mut rows {
        row.retries = db
            .prepare_cached(
                "SELECT seq, attempts, due_at FROM message_retries WHERE cursor = ?1 ORDER BY seq",
            )?
            .query_map([row.id], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
            .collect::<rusqlite::Result<_>>()?;
    }
    Ok(rows)
}

fn cursor(db: &Connection, subscriber: &str, channel: &str) -> Result<Option<CursorRow>, Fault> {
    let mut statement = db.prepare_cached(&format!("{SELECT} AND m.channel = ?2"))?;
    Ok(statement.query_row([subscriber, channel], cursor_row).optional()?)
}

fn cursor_row(row: &SqlRow<'_>) -> rusqlite::Result<CursorRow> {
    Ok(CursorRow {
        id: row.get(0)?,
        channel: row.get(1)?,
        position: row.get(2)?,
        ahead: row.get(3)?,
        owner: row.get(4)?,
        version: row.get(5)?,
        lease: row.get(6)?,
        retries: Vec::new(),
    })
}
