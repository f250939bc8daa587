//! The task of one agent: it holds the agent's places in its channels, hands messages over one at a time, and notes how
//! that went.
//!
//! ```text
//! standby -> holds its places -> waits | reads | handles -> stopped: places given up
//!    ^------------ the places belong to another process
//! ```

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use serde_json::json;
use tokio::sync::{Notify, watch};

use super::agent::{PubSubAgent, PubSubCtx};
use super::channels::{Channel, base};
use super::cursor::{Cursor, Failed};
use super::executor::Shared;
use super::message::{DEAD, Message, StartAt};
use super::scribe::{Mark, Step, Written};
use crate::clock::Millis;
use crate::error::{DagError, is_permanent};
use crate::journal::{CursorRow, Move, NewMessage, Room};

/// Handled messages whose end is not written yet, at most: so many may come again after a kill.
const UNWRITTEN: u64 = 512;
/// Wait before the file is read again that could not be.
const AGAIN: Duration = Duration::from_secs(1);
/// Messages read at once.
const PAGE: usize = 256;

/// What others know of a registered agent.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) name: Arc<str>,
    pub(crate) description: String,
    pub(crate) subscriptions: Vec<String>,
    pub(crate) publications: Vec<String>,
    pub(crate) start: StartAt,
    pub(crate) input: Option<Arc<jsonschema::Validator>>,
    pub(crate) output: Option<jsonschema::Validator>,
    pub(crate) wake: Arc<Notify>,
    /// Its places while it holds them.
    pub(crate) held: Mutex<Vec<Held>>,
    /// Whether another process works for it, so that nobody here waits for it.
    pub(crate) stands_by: AtomicBool,
}

/// A place that an agent of this process holds.
#[derive(Debug)]
pub(crate) struct Held {
    row: i64,
    version: i64,
    channel: Arc<Channel>,
    mark: Arc<Mark>,
}

impl Entry {
    fn held(&self) -> MutexGuard<'_, Vec<Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether everything that is in its channels is acknowledged, as far as this process knows.
    pub(crate) fn is_quiet(&self) -> bool {
        let held = self.held();
        let is_done = |held: &Held| {
            let written = *held.mark.borrow();
            !written.is_stale && written.position >= held.channel.head()
        };
        if held.is_empty() {
            return self.subscriptions.is_empty() || self.stands_by.load(Ordering::SeqCst);
        }
        held.iter().all(is_done)
    }

    /// Lets its worker claim its places again.
    pub(crate) fn unsettle(&self) {
        for held in &*self.held() {
            held.mark.send_modify(|written| written.is_stale = true);
        }
        self.wake.notify_one();
    }

    /// Lets a worker that stands by look again whether it may work, and one that lost a place see so; `owned` are the
    /// places that belong to this process, with their versions.
    pub(crate) fn look(&self, owned: &HashMap<i64, i64>) {
        let is_lost = |held: &Held| owned.get(&held.row) != Some(&held.version);
        let (stands_by, lost) = {
            let held = self.held();
            (held.is_empty(), held.iter().any(is_lost))
        };
        if lost {
            self.unsettle();
        } else if stands_by {
            self.wake.notify_one();
        }
    }
}

/// A place in one channel.
struct Place {
    row: i64,
    version: i64,
    cursor: Cursor,
    channel: Arc<Channel>,
    dead: Option<Arc<Channel>>,
    mark: Arc<Mark>,
    shown: watch::Receiver<Written>,
    ended: u64,
}

/// The task's own state.
pub(crate) struct Worker {
    shared: Arc<Shared>,
    entry: Arc<Entry>,
    agent: Box<dyn PubSubAgent>,
    places: Vec<Place>,
    turn: usize,
    /// An earlier process was killed while it held the places: attempts are counted before they are made, until one ends.
    is_careful: bool,
}

impl Worker {
    pub(crate) fn new(shared: Arc<Shared>, entry: Arc<Entry>, agent: Box<dyn PubSubAgent>) -> Self {
        Self { shared, entry, agent, places: Vec::new(), turn: 0, is_careful: false }
    }

    /// Takes the agent's places; false when a living process holds them. `is_new` takes them from this process too.
    pub(crate) async fn claim(&mut self, is_new: bool) -> Result<bool, DagError> {
        let (journal, owner) = (self.shared.storage.journal(), self.shared.storage.owner());
        let name = Arc::clone(&self.entry.name);
        let rows = journal.cursors(&name).await?;
        let now = self.shared.now();
        let mut was_killed = false;
        for row in &rows {
            let Some(holder) = &row.owner else { continue };
            if holder == owner.name() {
                if is_new {
                    continue;
                }
                return Ok(false);
            }
            let is_dead = owner.is_dead(holder);
            if !is_dead && row.lease.is_some_and(|end| end > now) {
                return Ok(false);
            }
            was_killed = true;
            if is_dead {
                journal.forget_owner(holder.clone()).await?;
            }
        }
        let mut wanted = self.entry.subscriptions.clone();
        wanted.dedup();
        let (expected, start) = (rows.iter().map(|row| (row.id, row.version)), self.entry.start);
        let expected = expected.collect();
        let claimed =
            journal.claim_cursors(&name, wanted, start, owner.name(), expected, now).await?;
        let Some(rows) = claimed else { return Ok(false) };
        self.places.clear();
        for row in rows {
            if self.entry.subscriptions.contains(&row.channel) {
                let place = self.place(row).await?;
                self.places.push(place);
            }
        }
        self.is_careful = was_killed;
        let held = self.places.iter().map(|place| Held {
            row: place.row,
            version: place.version,
            channel: Arc::clone(&place.channel),
            mark: Arc::clone(&place.mark),
        });
        *self.entry.held() = held.collect();
        Ok(true)
    }

    async fn place(&mut self, row: CursorRow) -> Result<Place, DagError> {
        let channel = self.shared.channel(&row.channel).await?;
        let dead = match base(&row.channel) {
            // What fails there is not moved again.
            Some(_) if row.channel.ends_with(DEAD) => None,
            _ => Some(self.shared.channel(&format!("{}{DEAD}", row.channel)).await?),
        };
        let ahead = match &row.ahead {
            Some(text) => serde_json::from_str(text)?,
            None => Vec::new(),
        };
        let written = Written { position: row.position, ..Written::default() };
        let (mark, shown) = watch::channel(written);
        let name = Arc::clone(&self.entry.name);
        let cursor = Cursor::new(name, row.position, ahead, row.retries);
        let (row, version, mark) = (row.id, row.version, Arc::new(mark));
        Ok(Place { row, version, cursor, channel, dead, mark, shown, ended: 0 })
    }

    /// Works until the executor stops.
    pub(crate) async fn run(mut self) {
        let mut stop = self.shared.stopped.subscribe();
        let mut active = self.shared.active.subscribe();
        while !*stop.borrow_and_update() {
            let is_stale = self.places.iter().any(|place| place.shown.borrow().is_stale);
            if is_stale {
                tracing::warn!(agent = %self.entry.name, "its places in channels were taken over or moved");
                self.places.clear();
                self.entry.stands_by.store(false, Ordering::SeqCst);
                self.entry.held().clear();
            }
            if self.places.is_empty() && !self.retake().await {
                tokio::select! {
                    () = self.entry.wake.notified() => {}
                    _ = stop.changed() => {}
                }
                continue;
            }
            if *active.borrow_and_update() == 0 {
                tokio::select! {
                    _ = active.changed() => {}
                    () = self.entry.wake.notified() => {}
                    _ = stop.changed() => {}
                }
                continue;
            }
            let now = self.shared.now();
            let has_all = self.refill().await;
            if let Some((at, message, attempts)) = self.pick(now) {
                self.handle(at, message, attempts).await;
                continue;
            }
            if !has_all {
                // Nothing of what was read is for this agent; there is more.
                continue;
            }
            let deadline = self.places.iter().filter_map(|place| place.cursor.deadline(now)).min();
            let due =
                deadline.map(|at| Duration::from_millis(u64::try_from(at - now).unwrap_or(0)));
            let timer = async {
                match due {
                    Some(due) => tokio::time::sleep(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.entry.wake.notified() => {}
                () = timer => {}
                _ = stop.changed() => {}
                _ = active.changed() => {}
            }
        }
        self.leave().await;
    }

    async fn retake(&mut self) -> bool {
        if self.entry.subscriptions.is_empty() {
            return false;
        }
        let claimed = self.claim(false).await.unwrap_or_else(|error| {
            tracing::warn!(agent = %self.entry.name, %error, "its places could not be claimed");
            false
        });
        self.entry.stands_by.store(!claimed, Ordering::SeqCst);
        self.shared.progress.send_modify(|steps| *steps += 1);
        claimed
    }

    /// Writes what is not written and gives the places up.
    async fn leave(mut self) {
        for at in 0..self.places.len() {
            self.settled(at, 1).await;
        }
        let held = self.places.iter().map(|place| (place.row, place.version)).collect();
        self.entry.held().clear();
        if let Err(error) = self.shared.storage.journal().release_cursors(held).await {
            tracing::warn!(agent = %self.entry.name, %error, "its places could not be given up");
        }
    }

    /// Reads what there is room for; false when there is more to read although nothing came of this.
    async fn refill(&mut self) -> bool {
        let most = self.shared.config.max_messages;
        let mut has_all = true;
        for at in 0..self.places.len() {
            let (cursor, channel) = (&self.places[at].cursor, &self.places[at].channel);
            let (open, after, head) = (cursor.open(), cursor.read_to(), channel.head());
            // A few at a time would read the file for each.
            if after >= head || open > most / 2 {
                continue;
            }
            let Some(messages) = self.fetch(at, after, (most - open).min(PAGE)).await else {
                tokio::time::sleep(AGAIN).await;
                continue;
            };
            let cursor = &mut self.places[at].cursor;
            let before = cursor.position();
            if messages.is_empty() {
                // All that is left was removed.
                cursor.pass_to(head);
            }
            cursor.load(messages);
            has_all &= cursor.open() > 0 || cursor.read_to() >= head;
            if cursor.open() == 0 && cursor.position() != before {
                self.note(at, Change::default());
            }
        }
        has_all
    }

    /// Messages of a channel, from memory if they are there; `None` when the file cannot be read.
    async fn fetch(&mut self, at: usize, after: i64, limit: usize) -> Option<Vec<Arc<Message>>> {
        let channel = Arc::clone(&self.places[at].channel);
        if let Some(messages) = channel.recent(after, limit) {
            return Some(messages);
        }
        let (journal, name) = (self.shared.storage.journal(), Arc::clone(&channel.name));
        let read = journal.messages(channel.id, name, after, limit).await;
        read.inspect_err(|error| {
            tracing::warn!(agent = %self.entry.name, %error, "messages could not be read");
        })
        .ok()
    }

    /// What is next, of each channel in turn.
    fn pick(&mut self, now: Millis) -> Option<(usize, Arc<Message>, u32)> {
        for step in 0..self.places.len() {
            let at = (self.turn + step) % self.places.len();
            if let Some((message, attempts)) = self.places[at].cursor.next(now) {
                self.turn = at + 1;
                return Some((at, message, attempts));
            }
        }
        None
    }

    async fn handle(&mut self, at: usize, message: Arc<Message>, attempts: u32) {
        let (seq, most) = (message.seq, self.shared.config.max_attempts);
        if attempts >= most {
            let error = "its handler was cut short in every attempt";
            self.give_up(at, &message, attempts, error);
            return self.settled(at, UNWRITTEN).await;
        }
        if self.is_careful {
            self.places[at].cursor.count(seq);
            let now = self.shared.now();
            self.note(at, Change { retry: Some((seq, attempts + 1, now)), ..Change::default() });
            self.settled(at, 1).await;
            if self.places[at].shown.borrow().is_stale {
                return;
            }
        }
        let outcome = self.call(at, &message, attempts + 1).await;
        if self.is_careful {
            self.places[at].cursor.uncount(seq);
        }
        match outcome {
            Ok(()) => {
                self.places[at].cursor.done(seq);
                self.shared.counts.handled.fetch_add(1, Ordering::Relaxed);
                let over = (attempts > 0 || self.is_careful).then_some(seq);
                self.note(at, Change { over, ..Change::default() });
            }
            Err(error) => self.fail(at, &message, &error),
        }
        let most = if std::mem::take(&mut self.is_careful) { 1 } else { UNWRITTEN };
        self.settled(at, most).await;
    }

    fn fail(&mut self, at: usize, message: &Message, error: &anyhow::Error) {
        let (now, config) = (self.shared.now(), &self.shared.config);
        let (agent, channel, seq) = (&self.entry.name, &self.places[at].channel.name, message.seq);
        tracing::warn!(%agent, %channel, seq, error = %format!("{error:#}"), "a handler failed");
        self.shared.counts.failed.fetch_add(1, Ordering::Relaxed);
        let most = if is_permanent(error) { 1 } else { config.max_attempts };
        let delay = |failed| config.delay_ms(failed);
        match self.places[at].cursor.failed(seq, now, most, delay) {
            Failed::Again { attempts, due } => {
                let retry = Some((seq, attempts, due));
                self.note(at, Change { retry, ..Change::default() });
            }
            Failed::Dead { attempts } => {
                self.give_up(at, message, attempts, &format!("{error:#}"));
            }
        }
    }

    /// One call of the agent, within the time and without letting a panic out.
    async fn call(&mut self, at: usize, message: &Message, attempt: u32) -> anyhow::Result<()> {
        if let Some(schema) = &self.entry.input
            && let Err(error) = schema.validate(&message.payload)
        {
            // It was published where this schema was not known.
            let text = format!("the payload does not match the input schema: {error}");
            return Err(DagError::ValidationError(text).into());
        }
        let place = &self.places[at];
        let asked = message.correlation_id.as_ref().unwrap_or(&message.message_id);
        let ctx = PubSubCtx {
            shared: Arc::clone(&self.shared),
            entry: Arc::clone(&self.entry),
            at: (place.channel.id, message.seq),
            reply_to: message.reply_to.clone(),
            correlation_id: asked.clone(),
            attempt,
            fence: (place.row, place.version),
            published: Mutex::new(HashMap::new()),
        };
        let limit = Duration::from_secs(self.shared.config.timeout_seconds);
        let calm =
            AssertUnwindSafe(self.agent.process_message(&ctx, message.clone())).catch_unwind();
        match tokio::time::timeout(limit, calm).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(anyhow::anyhow!("the handler panicked")),
            Err(_) => {
                Err(DagError::ExecutionTimeout(format!("the handler took longer than {limit:?}"))
                    .into())
            }
        }
    }

    /// Moves a message to the channel of dead letters and acknowledges it, in one commit.
    fn give_up(&mut self, at: usize, message: &Message, attempts: u32, error: &str) {
        let place = &mut self.places[at];
        place.cursor.done(message.seq);
        self.shared.counts.dead.fetch_add(1, Ordering::Relaxed);
        let name = &self.entry.name;
        let Some(channel) = &place.dead else {
            tracing::error!(agent = %name, channel = %place.channel.name, seq = message.seq, error, "a dead letter could not be handled");
            return self.note(at, Change { over: Some(message.seq), ..Change::default() });
        };
        let payload = json!({
            "channel": *place.channel.name, "seq": message.seq, "subscriber": **name, "attempts": attempts,
            "error": error, "message": message,
        });
        let text = payload.to_string().into();
        let dead = Message {
            timestamp: self.shared.now(),
            source: name.to_string(),
            channel: Some(channel.name.to_string()),
            payload,
            message_id: format!("{}@{name}", message.message_id),
            key: message.key.clone(),
            ..Message::default()
        };
        let dead = NewMessage {
            channel: channel.id,
            message: Arc::new(dead),
            payload: text,
            room: Room::Dropping,
            fence: None,
        };
        self.note(at, Change { over: Some(message.seq), dead: Some(dead), ..Change::default() });
    }

    /// Hands a place to the scribe as it is now.
    fn note(&mut self, at: usize, change: Change) {
        let place = &mut self.places[at];
        place.ended += 1;
        let ahead = place.cursor.ahead();
        let to = Move {
            cursor: place.row,
            version: place.version,
            position: place.cursor.position(),
            ahead: (!ahead.is_empty()).then(|| json!(ahead).to_string()),
            attempts: place.cursor.attempts(),
            retries: change.retry.into_iter().collect(),
            over: change.over.into_iter().collect(),
            dead: change.dead.into_iter().collect(),
        };
        self.shared.scribe.step(Step { to, ended: place.ended, mark: Arc::clone(&place.mark) });
    }

    /// Returns when fewer than `most` ends of messages are not written.
    async fn settled(&mut self, at: usize, most: u64) {
        let place = &mut self.places[at];
        let (ended, shown) = (place.ended, &mut place.shown);
        let is_settled = |written: &Written| written.is_stale || ended - written.ended < most;
        // The other end lives as long as the place.
        drop(shown.wait_for(is_settled).await);
    }
}

/// What a step changes besides the place.
#[derive(Default)]
struct Change {
    retry: Option<(i64, u32, Millis)>,
    over: Option<i64>,
    dead: Option<NewMessage>,
}
