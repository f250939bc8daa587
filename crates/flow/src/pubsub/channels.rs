//! Channels in memory: their newest messages, who waits for them, and what their subscribers take.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use tokio::sync::{Notify, Semaphore, watch};

use super::message::{DEAD, Message, REPLIES};
use crate::error::DagError;
use crate::journal::ChannelRow;

/// Messages of a channel that are kept in memory for subscribers that are not far behind.
const TAIL: usize = 1_000;
/// Bytes of their payloads at most.
const TAIL_BYTES: usize = 4 << 20;
/// Publishers of a full channel that try again at once.
const DOOR: usize = 64;

/// One channel.
#[derive(Debug)]
pub(crate) struct Channel {
    pub(crate) id: i64,
    pub(crate) name: Arc<str>,
    head: watch::Sender<i64>,
    /// Publishers that try again when there may be room; the others wait behind them.
    pub(crate) door: Semaphore,
    live: Mutex<Live>,
}

#[derive(Debug, Default)]
struct Live {
    tail: VecDeque<(Arc<Message>, usize)>,
    bytes: usize,
    listeners: Vec<Arc<Notify>>,
    schemas: Vec<(Arc<str>, Arc<jsonschema::Validator>)>,
}

impl Channel {
    fn new(row: &ChannelRow) -> Self {
        Self {
            id: row.id,
            name: row.channel.as_str().into(),
            head: watch::Sender::new(row.head),
            door: Semaphore::new(DOOR),
            live: Mutex::default(),
        }
    }

    fn live(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The newest sequence number that this process knows of.
    pub(crate) fn head(&self) -> i64 {
        *self.head.borrow()
    }

    /// Shows the newest sequence number as it changes.
    pub(crate) fn watch(&self) -> watch::Receiver<i64> {
        self.head.subscribe()
    }

    /// Wakes somebody for each new message.
    pub(crate) fn listen(&self, wake: Arc<Notify>) {
        self.live().listeners.push(wake);
    }

    /// Holds payloads to what a subscriber takes.
    pub(crate) fn require(&self, agent: Arc<str>, schema: Arc<jsonschema::Validator>) {
        self.live().schemas.push((agent, schema));
    }

    /// [`DagError::ValidationError`] when a subscriber, or the only one meant, would not take the payload.
    pub(crate) fn check(&self, payload: &Value, target: Option<&str>) -> Result<(), DagError> {
        let live = self.live();
        for (agent, schema) in &live.schemas {
            if target.is_some_and(|target| target != &**agent) {
                continue;
            }
            if let Err(error) = schema.validate(payload) {
                return Err(DagError::ValidationError(format!(
                    "channel `{}`: the payload does not match the input schema of agent `{agent}`: {error}",
                    self.name
                )));
            }
        }
        Ok(())
    }

    /// A message was stored, with so many bytes of payload.
    pub(crate) fn append(&self, message: Message, size: usize) {
        let seq = message.seq;
        let mut live = self.live();
        let last = live.tail.back().map_or(0, |(last, _)| last.seq);
        if last + 1 != seq {
            // Another process has written in between.
            live.tail.clear();
            live.bytes = 0;
        }
        live.tail.push_back((Arc::new(message), size));
        live.bytes += size;
        while live.tail.len() > TAIL || (live.bytes > TAIL_BYTES && live.tail.len() > 1) {
            if let Some((_, size)) = live.tail.pop_front() {
                live.bytes -= size;
            }
        }
    }

    /// There are messages up to here.
    pub(crate) fn advance(&self, head: i64) {
        let moved = self.head.send_if_modified(|known| {
            let is_new = head > *known;
            *known = head.max(*known);
            is_new
        });
        if moved {
            for listener in &self.live().listeners {
                listener.notify_one();
            }
        }
    }

    /// Messages after a sequence number, at most `limit`; `None` when they must be read from the file.
    pub(crate) fn recent(&self, after: i64, limit: usize) -> Option<Vec<Arc<Message>>> {
        let live = self.live();
        let (first, last) = (live.tail.front()?.0.seq, live.tail.back()?.0.seq);
        if after >= last {
            return None;
        }
        let from = usize::try_from(after + 1 - first).ok()?;
        Some(
            live.tail
                .iter()
                .skip(from)
                .take(limit)
                .map(|(message, _)| Arc::clone(message))
                .collect(),
        )
    }
}

/// Channels by name and key.
#[derive(Debug, Default)]
pub(crate) struct Channels(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    by_name: HashMap<Arc<str>, Arc<Channel>>,
    by_id: HashMap<i64, Arc<Channel>>,
}

impl Channels {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn find(&self, name: &str) -> Option<Arc<Channel>> {
        self.known().by_name.get(name).cloned()
    }

    pub(crate) fn by_id(&self, id: i64) -> Option<Arc<Channel>> {
        self.known().by_id.get(&id).cloned()
    }

    /// Keeps a channel as it was read, or moves the known one on.
    pub(crate) fn learn(&self, row: &ChannelRow) -> Arc<Channel> {
        let mut known = self.known();
        if let Some(channel) = known.by_id.get(&row.id) {
            let channel = Arc::clone(channel);
            drop(known);
            channel.advance(row.head);
            return channel;
        }
        let channel = Arc::new(Channel::new(row));
        known.by_name.insert(Arc::clone(&channel.name), Arc::clone(&channel));
        known.by_id.insert(row.id, Arc::clone(&channel));
        channel
    }
}

/// [`DagError::ValidationError`] for what cannot be the name of a channel or subscriber.
pub(crate) fn check_name(what: &str, name: &str) -> Result<(), DagError> {
    let fits = !name.is_empty() && name.len() <= 200 && !name.chars().any(char::is_control);
    if fits {
        return Ok(());
    }
    Err(DagError::ValidationError(format!(
        "{what} `{}`: expected 1 to 200 bytes without control characters",
        name.escape_debug()
    )))
}

/// The channel that this one belongs to, when it takes dead letters or answers.
pub(crate) fn base(name: &str) -> Option<&str> {
    name.strip_suffix(DEAD).or_else(|| name.strip_suffix(REPLIES)).filter(|base| !base.is_empty())
}
