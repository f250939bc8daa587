//! Jobs on channels: append messages within what a channel may hold, move cursors, read.

use std::collections::BTreeMap;
use std::sync::Arc;

use mayfly_store::sqlite::Fault;
use rusqlite::{Connection, OptionalExtension as _, Row as SqlRow, params};

use super::{Journal, Synchronous};
use crate::clock::Millis;
use crate::error::DagError;
use crate::pubsub::message::{Message, StartAt};

/// Sequence numbers of one channel in the keys of rows.
const SHARE: i64 = 1 << 40;
/// Rows removed beyond what is needed at most, so that not every message of a full channel removes one.
const SLACK: i64 = 256;
/// Rows that one job removes for their age at most.
const OLD: i64 = 1_000;

/// A message to append, its payload already in its stored form.
#[derive(Clone, Debug)]
pub(crate) struct NewMessage {
    pub(crate) channel: i64,
    pub(crate) message: Arc<Message>,
    pub(crate) payload: Arc<str>,
    pub(crate) room: Room,
    /// A cursor and the version that whoever publishes holds it with.
    pub(crate) fence: Option<(i64, i64)>,
}

/// What happens to a message when its channel is full of what is not acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    /// It is refused.
    Needed,
    /// It may go over the limit, up to twice of it.
    Overdrawn,
    /// The oldest are dropped.
    Dropping,
}

/// Where a subscriber stands now.
#[derive(Clone, Debug)]
pub(crate) struct Move {
    pub(crate) cursor: i64,
    pub(crate) version: i64,
    pub(crate) position: i64,
    pub(crate) ahead: Option<String>,
    pub(crate) attempts: u32,
    /// Failed attempts: sequence number, how many, when the next is due.
    pub(crate) retries: Vec<(i64, u32, Millis)>,
    /// Sequence numbers whose failed attempts are forgotten.
    pub(crate) over: Vec<i64>,
    /// Copies of what is given up, for the channel of dead letters.
    pub(crate) dead: Vec<NewMessage>,
}

/// What channels keep.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Retention {
    pub(crate) messages: i64,
    pub(crate) bytes: i64,
    pub(crate) millis: i64,
    pub(crate) drops: bool,
}

/// Everything that one step of an executor writes.
#[derive(Debug)]
pub(crate) struct Posting {
    pub(crate) at: Millis,
    pub(crate) keep: Retention,
    pub(crate) moves: Vec<Move>,
    pub(crate) messages: Vec<NewMessage>,
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Posted {
    Stored(i64),
    Duplicate(i64),
    Full,
    Stale,
}

/// What became of a step.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// For each move: whether the cursor still belonged to this process.
    pub(crate) moved: Vec<bool>,
    /// For each message.
    pub(crate) posted: Vec<Posted>,
    /// Sequence numbers of dead letters that were stored, by channel.
    pub(crate) heads: BTreeMap<i64, i64>,
}

/// One channel.
#[derive(Clone, Debug)]
pub(crate) struct ChannelRow {
    pub(crate) id: i64,
    pub(crate) channel: String,
    pub(crate) head: i64,
    pub(crate) stored: i64,
    pub(crate) bytes: i64,
    pub(crate) dropped: i64,
}

/// A channel's counts while a job works on it.
struct Counts {
    head: i64,
    stored: i64,
    bytes: i64,
    dropped: i64,
    floor: Option<i64>,
    /// Something was refused for want of room, and nothing comes free within a job.
    is_full: bool,
}

impl Journal {
    /// Writes one step: cursors move, then messages are appended, in order.
    pub(crate) async fn post(
        &self,
        mode: Synchronous,
        posting: &Arc<Posting>,
    ) -> Result<Outcome, DagError> {
        let posting = Arc::clone(posting);
        self.write(mode, "write messages", move |db| post(db, &posting)).await
    }

    /// Makes channels that are not there; answers all of them.
    pub(crate) async fn declare(&self, names: Vec<String>) -> Result<Vec<ChannelRow>, DagError> {
        self.write(Synchronous::Full, "declare channels", move |db| {
            names.iter().map(|name| declare(db, name)).collect()
        })
        .await
    }

    /// One channel by its name.
    pub(crate) async fn channel(&self, name: &str) -> Result<Option<ChannelRow>, DagError> {
        let name = name.to_owned();
        self.read("read a channel", move |db| {
            let mut statement = db.prepare_cached(&select("WHERE channel = ?1"))?;
            Ok(statement.query_row([&name], channel_row).optional()?)
        })
        .await
    }

    /// All channels, by name.
    pub(crate) async fn channels(&self) -> Result<Vec<ChannelRow>, DagError> {
        self.read("list channels", move |db| {
            let mut statement = db.prepare_cached(&select("ORDER BY channel"))?;
            let rows = statement.query_map([], channel_row)?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
        .await
    }

    /// Messages of a channel after a sequence number, in order, at most `limit`, and few when they are large.
    pub(crate) async fn messages(
        &self,
        channel: i64,
        name: Arc<str>,
        after: i64,
        limit: usize,
    ) -> Result<Vec<Arc<Message>>, DagError> {
        self.read("read messages", move |db| {
            let mut statement = db.prepare_cached(
                "SELECT id, message_id, source, key, task_id, payload, reply_to, correlation_id, target, created_at
                 FROM message_log WHERE id > ?1 AND id <= ?2 ORDER BY id LIMIT ?3",
            )?;
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let mut rows = statement.query(params![
                channel * SHARE + after.clamp(0, SHARE - 1),
                channel * SHARE + (SHARE - 1),
                limit
            ])?;
            let (mut messages, mut bytes) = (Vec::new(), 0);
            while let Some(row) = rows.next()? {
                let (message, size) = message_row(row, channel, &name)?;
                messages.push(Arc::new(message));
                bytes += size;
                if bytes > PAGE_BYTES {
                    break;
                }
            }
            Ok(messages)
        })
        .await
    }

    /// The first message of a channel after a sequence number that answers a request.
    pub(crate) async fn answer(
        &self,
        channel: i64,
        name: Arc<str>,
        after: i64,
        correlation: String,
    ) -> Result<Option<Message>, DagError> {
        self.read("look for an answer", move |db| {
            let mut statement = db.prepare_cached(
                "SELECT id, message_id, source, key, task_id, payload, reply_to, correlation_id, target, created_at
                 FROM message_log WHERE id > ?1 AND id <= ?2 AND correlation_id = ?3 ORDER BY id LIMIT 1",
            )?;
            let range = (channel * SHARE + after, channel * SHARE + (SHARE - 1));
            let found = statement.query_row(params![range.0, range.1, correlation], |row| {
                Ok(message_row(row, channel, &name)?.0)
            });
            Ok(found.optional()?)
        })
        .await
    }

    /// Removes acknowledged messages that are too old, of all channels.
    pub(crate) async fn sweep_messages(&self, keep: Retention, at: Millis) -> Result<(), DagError> {
        self.write(Synchronous::Normal, "remove old messages", move |db| {
            let ids: Vec<i64> = db
                .prepare_cached("SELECT id FROM message_channels WHERE stored > 0")?
                .query_map([], |row| row.get(0))?
                .collect::<rusqlite::Result<_>>()?;
            for id in ids {
                let mut counts = counts(db, id)?;
                expire(db, id, &mut counts, keep, at)?;
                store_counts(db, id, &counts)?;
            }
            Ok(())
        })
        .await
    }
}

/// Bytes of payloads after which a page of messages ends.
const PAGE_BYTES: usize = 8 << 20;

fn message_row(
    row: &SqlRow<'_>,
    channel: i64,
    name: &Arc<str>,
) -> rusqlite::Result<(Message, usize)> {
    let text: String = row.get(5)?;
    let payload = serde_json::from_str(&text).map_err(|error| {
        let kind = rusqlite::types::Type::Text;
        rusqlite::Error::FromSqlConversionFailure(5, kind, Box::new(error))
    })?;
    let id: i64 = row.get(0)?;
    let message = Message {
        timestamp: row.get(9)?,
        source: row.get(2)?,
        channel: Some(name.to_string()),
        task_id: row.get(4)?,
        payload,
        message_id: row.get(1)?,
        key: row.get(3)?,
        seq: id - channel * SHARE,
        reply_to: row.get(6)?,
        correlation_id: row.get(7)?,
        target: row.get(8)?,
    };
    Ok((message, text.len()))
}

fn select(rest: &str) -> String {
    format!("SELECT id, channel, head, stored, bytes, dropped FROM message_channels {rest}")
}

fn channel_row(row: &SqlRow<'_>) -> rusqlite::Result<ChannelRow> {
    Ok(ChannelRow {
        id: row.get(0)?,
        channel: row.get(1)?,
        head: row.get(2)?,
        stored: row.get(3)?,
        bytes: row.get(4)?,
        dropped: row.get(5)?,
    })
}

fn declare(db: &Connection, name: &str) -> Result<ChannelRow, Fault> {
    db.prepare_cached("INSERT INTO message_channels (channel) VALUES (?1) ON CONFLICT DO NOTHING")?
        .execute([name])?;
    channel_of(db, name)
}

fn post(db: &Connection, posting: &Posting) -> Result<Outcome, Fault> {
    let mut outcome = Outcome::default();
    let mut rooms: BTreeMap<i64, Counts> = BTreeMap::new();
    for step in &posting.moves {
        let moved = move_cursor(db, step, posting.at)?;
        outcome.moved.push(moved);
        for dead in step.dead.iter().filter(|_| moved) {
            append(db, posting, dead, &mut rooms)?;
        }
    }
    for message in &posting.messages {
        outcome.posted.push(append(db, posting, message, &mut rooms)?);
    }
    for (channel, counts) in rooms {
        store_counts(db, channel, &counts)?;
        outcome.heads.insert(channel, counts.head);
    }
    Ok(outcome)
}

fn move_cursor(db: &Connection, step: &Move, at: Millis) -> Result<bool, Fault> {
    let changed = db
        .prepare_cached(
            "UPDATE message_cursors SET position = ?3, ahead = ?4, attempts = ?5, updated_at = ?6
             WHERE id = ?1 AND version = ?2",
        )?
        .execute(params![
            step.cursor,
            step.version,
            step.position,
            step.ahead,
            step.attempts,
            at
        ])?;
    if changed != 1 {
        return Ok(false);
    }
    for (seq, attempts, due) in &step.retries {
        db.prepare_cached(
            "INSERT INTO message_retries (cursor, seq, attempts, due_at) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (cursor, seq) DO UPDATE SET attempts = excluded.attempts, due_at = excluded.due_at",
        )?
        .execute(params![step.cursor, seq, attempts, due])?;
    }
    for seq in &step.over {
        db.prepare_cached("DELETE FROM message_retries WHERE cursor = ?1 AND seq = ?2")?
            .execute(params![step.cursor, seq])?;
    }
    Ok(true)
}

fn append(
    db: &Connection,
    posting: &Posting,
    new: &NewMessage,
    rooms: &mut BTreeMap<i64, Counts>,
) -> Result<Posted, Fault> {
    if let Some((cursor, version)) = new.fence {
        let held: Option<i64> = db
            .prepare_cached("SELECT version FROM message_cursors WHERE id = ?1")?
            .query_row([cursor], |row| row.get(0))
            .optional()?;
        if held != Some(version) {
            return Ok(Posted::Stale);
        }
    }
    let counts = match rooms.entry(new.channel) {
        std::collections::btree_map::Entry::Occupied(known) => known.into_mut(),
        std::collections::btree_map::Entry::Vacant(unknown) => {
            let mut read = counts(db, new.channel)?;
            expire(db, new.channel, &mut read, posting.keep, posting.at)?;
            unknown.insert(read)
        }
    };
    let size = i64::try_from(new.payload.len()).unwrap_or(i64::MAX);
    if !make_room(db, new.channel, counts, posting.keep, size, new.room)? {
        let known = duplicate(db, new)?;
        return Ok(known.map_or(Posted::Full, Posted::Duplicate));
    }
    let (seq, message) = (counts.head + 1, &new.message);
    let stored = db
        .prepare_cached(
            "INSERT INTO message_log (id, channel, message_id, source, key, task_id, payload, reply_to,
                correlation_id, target, created_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11) ON CONFLICT DO NOTHING",
        )?
        .execute(params![
            new.channel * SHARE + seq,
            new.channel,
            message.message_id,
            message.source,
            message.key,
            message.task_id,
            &*new.payload,
            message.reply_to,
            message.correlation_id,
            message.target,
            message.timestamp,
        ])?;
    if stored == 0 {
        return Ok(Posted::Duplicate(duplicate(db, new)?.unwrap_or(0)));
    }
    counts.head = seq;
    counts.stored += 1;
    counts.bytes += size;
    Ok(Posted::Stored(seq))
}

fn duplicate(db: &Connection, new: &NewMessage) -> Result<Option<i64>, Fault> {
    let id: Option<i64> = db
        .prepare_cached("SELECT id FROM message_log WHERE channel = ?1 AND message_id = ?2")?
        .query_row(params![new.channel, new.message.message_id], |row| row.get(0))
        .optional()?;
    Ok(id.map(|id| id - new.channel * SHARE))
}

fn counts(db: &Connection, channel: i64) -> Result<Counts, Fault> {
    let mut statement = db.prepare_cached(&select("WHERE id = ?1"))?;
    let row = statement.query_row([channel], channel_row)?;
    let ChannelRow { head, stored, bytes, dropped, .. } = row;
    Ok(Counts { head, stored, bytes, dropped, floor: None, is_full: false })
}

fn store_counts(db: &Connection, channel: i64, counts: &Counts) -> Result<(), Fault> {
    let Counts { head, stored, bytes, dropped, .. } = counts;
    db.prepare_cached(
        "UPDATE message_channels SET head = ?2, stored = ?3, bytes = ?4, dropped = ?5 WHERE id = ?1",
    )?
    .execute(params![channel, head, stored, bytes, dropped])?;
    Ok(())
}

/// Whether one more message of this size fits, perhaps after others are removed.
fn make_room(
    db: &Connection,
    channel: i64,
    counts: &mut Counts,
    keep: Retention,
    size: i64,
    room: Room,
) -> Result<bool, Fault> {
    let fits = |counts: &Counts, times: i64| {
        counts.stored < keep.messages.saturating_mul(times)
            && counts.bytes + size <= keep.bytes.saturating_mul(times)
    };
    if fits(counts, 1) {
        return Ok(true);
    }
    if counts.is_full && room == Room::Needed {
        return Ok(false);
    }
    let enough = Enough {
        stored: keep.messages - 1 - (keep.messages / 40).min(SLACK),
        bytes: keep.bytes.saturating_sub(size),
        before: None,
        rows: SLACK.max(1),
    };
    let floor = floor(db, channel, counts)?;
    remove(db, channel, counts, floor, enough)?;
    Ok(match room {
        Room::Dropping => {
            while !fits(counts, 1) && remove(db, channel, counts, counts.head, enough)? > 0 {}
            true
        }
        Room::Overdrawn => fits(counts, 2),
        Room::Needed => {
            counts.is_full = !fits(counts, 1);
            !counts.is_full
        }
    })
}

/// Removes what is acknowledged and too old.
fn expire(
    db: &Connection,
    channel: i64,
    counts: &mut Counts,
    keep: Retention,
    at: Millis,
) -> Result<(), Fault> {
    let before = at.saturating_sub(keep.millis);
    let enough = Enough { stored: 0, bytes: 0, before: Some(before), rows: OLD };
    let oldest: Option<Millis> = db
        .prepare_cached(
            "SELECT created_at FROM message_log WHERE id > ?1 AND id <= ?2 ORDER BY id LIMIT 1",
        )?
        .query_row([channel * SHARE, channel * SHARE + counts.head], |row| row.get(0))
        .optional()?;
    if oldest.is_none_or(|oldest| oldest >= before) {
        return Ok(());
    }
    let floor = if keep.drops { counts.head } else { floor(db, channel, counts)? };
    remove(db, channel, counts, floor, enough)?;
    Ok(())
}

/// Everybody has acknowledged up to here.
fn floor(db: &Connection, channel: i64, counts: &mut Counts) -> Result<i64, Fault> {
    if let Some(floor) = counts.floor {
        return Ok(floor);
    }
    let least: Option<i64> = db
        .prepare_cached(
            "SELECT min(m.position) FROM message_cursors AS m JOIN message_channels AS c ON c.channel = m.channel
             WHERE c.id = ?1",
        )?
        .query_row([channel], |row| row.get(0))?;
    let floor = least.unwrap_or(counts.head);
    counts.floor = Some(floor);
    Ok(floor)
}

/// When removing the oldest may end.
#[derive(Clone, Copy)]
struct Enough {
    stored: i64,
    bytes: i64,
    before: Option<Millis>,
    rows: i64,
}

/// Removes the oldest up to a sequence number until it is enough; answers how many went. What nobody acknowledged is
/// counted as dropped.
fn remove(
    db: &Connection,
    channel: i64,
    counts: &mut Counts,
    up_to: i64,
    enough: Enough,
) -> Result<i64, Fault> {
    let base = channel * SHARE;
    let mut statement = db.prepare_cached(
        "SELECT id, octet_length(payload), created_at FROM message_log
         WHERE id > ?1 AND id <= ?2 ORDER BY id LIMIT ?3",
    )?;
    let mut rows = statement.query(params![base, base + up_to, enough.rows])?;
    let (mut last, mut gone, mut dropped) = (base, 0, 0);
    let acked = floor(db, channel, counts)?;
    while let Some(row) = rows.next()? {
        let at: Millis = row.get(2)?;
        let is_enough = counts.stored <= enough.stored && counts.bytes <= enough.bytes;
        if is_enough || enough.before.is_some_and(|before| at >= before) {
            break;
        }
        last = row.get(0)?;
        gone += 1;
        dropped += i64::from(last - base > acked);
        counts.stored = counts.stored.saturating_sub(1);
        counts.bytes = counts.bytes.saturating_sub(row.get::<_, i64>(1)?);
    }
    drop(rows);
    if gone > 0 {
        counts.dropped += dropped;
        db.prepare_cached("DELETE FROM message_log WHERE id > ?1 AND id <= ?2")?
            .execute([base, last])?;
    }
    Ok(gone)
}

/// The position before the first message that a new subscriber gets.
pub(super) fn position(
    db: &Connection,
    channel: &ChannelRow,
    start: StartAt,
) -> Result<i64, Fault> {
    Ok(match start {
        StartAt::Latest => channel.head,
        StartAt::Earliest => 0,
        StartAt::Sequence(seq) => (seq - 1).clamp(0, channel.head),
        StartAt::Time(at) => {
            let base = channel.id * SHARE;
            let first: Option<i64> = db
                .prepare_cached(
                    "SELECT id FROM message_log WHERE id > ?1 AND id <= ?2 AND created_at >= ?3
                     ORDER BY id LIMIT 1",
                )?
                .query_row([base, base + channel.head, at], |row| row.get(0))
                .optional()?;
            first.map_or(channel.head, |id| id - base - 1)
        }
    })
}

/// The channel of this name, which is declared.
pub(super) fn channel_of(db: &Connection, name: &str) -> Result<ChannelRow, Fault> {
    let mut statement = db.prepare_cached(&select("WHERE channel = ?1"))?;
    Ok(statement.query_row([name], channel_row)?)
}
