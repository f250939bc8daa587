//! The one task that writes for an executor: it takes whatever was published and acknowledged meanwhile, by everybody,
//! and makes one job of it. While that is on its way more gathers.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore, oneshot, watch};

use super::executor::Shared;
use super::message::Message;
use crate::error::DagError;
use crate::journal::{Move, NewMessage, Outcome, Posted, Posting, Synchronous};

/// Messages waiting to be written at most; then publishers wait.
const WAITING: usize = 1_024;
/// Messages in one job at most.
const TOGETHER: usize = 512;
/// Wait before acknowledgements that could not be written are tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// How far a subscriber's place is written.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Written {
    /// Messages that ended, whose end is written.
    pub(crate) ended: u64,
    /// Everything up to here is acknowledged.
    pub(crate) position: i64,
    /// The place belongs to somebody else now.
    pub(crate) is_stale: bool,
}

/// Shows a subscriber's worker what of its place is written.
pub(crate) type Mark = watch::Sender<Written>;

type Reply = oneshot::Sender<Result<Posted, DagError>>;

/// What waits to be written.
#[derive(Debug)]
pub(crate) struct Scribe {
    queue: Mutex<Queue>,
    wake: Notify,
    room: Semaphore,
}

#[derive(Debug, Default)]
struct Queue {
    messages: Vec<(NewMessage, Reply)>,
    places: BTreeMap<i64, Step>,
}

/// A subscriber's newest place, the end of so many messages.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) to: Move,
    pub(crate) ended: u64,
    pub(crate) mark: Arc<Mark>,
}

impl Step {
    /// Takes what came before this step and is not written yet.
    fn follow(&mut self, mut before: Self) {
        if before.to.version != self.to.version {
            return;
        }
        std::mem::swap(&mut self.to.retries, &mut before.to.retries);
        self.to.retries.append(&mut before.to.retries);
        self.to.over.append(&mut before.to.over);
        std::mem::swap(&mut self.to.dead, &mut before.to.dead);
        self.to.dead.append(&mut before.to.dead);
    }
}

/// What one job writes, and who hears of it.
struct Work {
    posting: Arc<Posting>,
    replies: Vec<Reply>,
    steps: Vec<(u64, Arc<Mark>)>,
}

impl Scribe {
    pub(crate) fn new() -> Self {
        Self { queue: Mutex::default(), wake: Notify::new(), room: Semaphore::new(WAITING) }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a message; answers when it is committed.
    pub(crate) async fn publish(&self, message: NewMessage) -> Result<Posted, DagError> {
        let gone = || DagError::InvalidState("the executor has ended".to_owned());
        let _place = self.room.acquire().await.map_err(|_| gone())?;
        let (reply, answer) = oneshot::channel();
        self.queue().messages.push((message, reply));
        self.wake.notify_one();
        answer.await.map_err(|_| gone())?
    }

    /// Notes a place; it is written soon, together with what else there is.
    pub(crate) fn step(&self, mut step: Step) {
        let mut queue = self.queue();
        if let Some(before) = queue.places.remove(&step.to.cursor) {
            step.follow(before);
        }
        queue.places.insert(step.to.cursor, step);
        drop(queue);
        self.wake.notify_one();
    }

    fn take(&self, shared: &Shared) -> Option<Work> {
        let mut queue = self.queue();
        if queue.messages.is_empty() && queue.places.is_empty() {
            return None;
        }
        let count = queue.messages.len().min(TOGETHER);
        let (messages, replies) = queue.messages.drain(..count).unzip();
        let places = std::mem::take(&mut queue.places);
        drop(queue);
        let (mut moves, mut steps) = (Vec::new(), Vec::new());
        for (_, step) in places {
            moves.push(step.to);
            steps.push((step.ended, step.mark));
        }
        let (at, keep) = (shared.now(), shared.retention());
        let posting = Arc::new(Posting { at, keep, moves, messages });
        Some(Work { posting, replies, steps })
    }

    /// Writes until the executor ends.
    pub(crate) async fn run(shared: Arc<Shared>) {
        loop {
            shared.scribe.wake.notified().await;
            while let Some(work) = shared.scribe.take(&shared) {
                let posting = &work.posting;
                let only_acks = posting.messages.is_empty()
                    && posting.moves.iter().all(|to| to.dead.is_empty());
                let mode = if only_acks { Synchronous::Normal } else { shared.config.synchronous };
                match shared.storage.journal().post(mode, posting).await {
                    Ok(outcome) => settle(&shared, work, &outcome),
                    Err(error) => {
                        shared.scribe.put_back(work, &error);
                        tokio::time::sleep(AGAIN).await;
                    }
                }
            }
        }
    }

    /// Publishers hear why; places are written later.
    fn put_back(&self, work: Work, error: &DagError) {
        tracing::warn!(%error, "messages could not be written");
        for reply in work.replies {
            drop(reply.send(Err(error.clone())));
        }
        for (to, (ended, mark)) in work.posting.moves.iter().cloned().zip(work.steps) {
            let step = Step { to, ended, mark };
            let mut queue = self.queue();
            match queue.places.get_mut(&step.to.cursor) {
                Some(newer) => newer.follow(step),
                None => _ = queue.places.insert(step.to.cursor, step),
            }
        }
        self.wake.notify_one();
    }
}

/// What is written becomes visible: messages to subscribers, places to workers, numbers to publishers.
fn settle(shared: &Shared, work: Work, outcome: &Outcome) {
    for (new, posted) in work.posting.messages.iter().zip(&outcome.posted) {
        if let Posted::Stored(seq) = posted
            && let Some(channel) = shared.channels.by_id(new.channel)
        {
            channel.append(Message { seq: *seq, ..(*new.message).clone() }, new.payload.len());
        }
    }
    for (id, head) in &outcome.heads {
        if let Some(channel) = shared.channels.by_id(*id) {
            channel.advance(*head);
        }
    }
    for ((to, (ended, mark)), moved) in
        work.posting.moves.iter().zip(work.steps).zip(&outcome.moved)
    {
        let position = to.position;
        mark.send_modify(|written| {
            *written = Written { ended, position, is_stale: written.is_stale || !moved };
        });
    }
    for (reply, posted) in work.replies.into_iter().zip(&outcome.posted) {
        // A publisher that left does not need the answer.
        drop(reply.send(Ok(*posted)));
    }
    if !outcome.moved.is_empty() {
        shared.progress.send_modify(|steps| *steps += 1);
    }
}
