//! The one task that owns the workers of a process: it begins attempts, writes what ended, and claims what is next.
//!
//! ```text
//! attempts, callers, timers -> dispatcher -> one turn (a job of the writer) -> queue -> attempts
//! ```
//! While a turn is on its way, attempts from the queue begin and others end; they make the next turn. How many tasks are
//! leased ahead follows their speed: none for long ones, so that other processes have their share, and hundreds for short
//! ones, so that a commit is shared by many.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::attempt;
use super::center::Center;
use super::stats::add;
use super::task::{Task, TaskId};
use crate::error::DagError;
use crate::journal::tasks::{Around, Ended, Turn, Turned};

/// Messages waiting for the dispatcher at most; then attempts wait.
pub(crate) const INBOX: usize = 1024;
/// Ends of attempts that one turn writes at most, and messages taken at once.
pub(super) const TOGETHER: usize = 512;
/// A batch that is worked off within this time may be larger next time.
pub(super) const QUICK: Duration = Duration::from_millis(50);
/// Tasks that are leased and not begun for this long are given back.
const STUCK: Duration = Duration::from_secs(1);
/// How long nothing is written after a turn that failed.
pub(super) const PAUSE: Duration = Duration::from_secs(1);

/// What the dispatcher is told.
pub(crate) enum Message {
    /// An attempt ended; nothing when its task waits for others.
    Ended { id: TaskId, version: i64, ended: Option<Ended> },
    /// Work off what runs, within the grace, then answer.
    Stop(oneshot::Sender<()>),
}

/// An attempt in memory.
pub(super) struct Live {
    abort: AbortHandle,
    pub(super) cancel: watch::Sender<bool>,
    /// When it is aborted, once it was revoked.
    pub(super) until: Option<Instant>,
}

/// What a look at other processes finds.
pub(super) struct Seen {
    pub(super) dead: Vec<String>,
    pub(super) around: Around,
}

pub(super) type Work<T> = Pin<Box<dyn Future<Output = T> + Send>>;
type Slot<T> = Option<Work<T>>;
/// A turn as it was sent, and what became of it.
pub(super) type Done = (Arc<Turn>, Result<Turned, DagError>);

pub(crate) struct Dispatcher {
    pub(super) center: Arc<Center>,
    inbox: mpsc::Receiver<Message>,
    /// Leased and not begun.
    pub(super) queue: VecDeque<Task>,
    pub(super) running: HashMap<(TaskId, i64), Live>,
    pub(super) ended: Vec<(TaskId, i64, Ended)>,
    pub(super) dead: Vec<String>,
    /// Whether something may be ready.
    pub(super) hungry: bool,
    /// How many tasks to lease beyond the free workers.
    pub(super) ahead: usize,
    pub(super) claimed: Instant,
    pub(super) begun: Instant,
    pub(super) beat: Instant,
    pub(super) poll: Instant,
    pub(super) sweep: Instant,
    /// Nothing is written before.
    pub(super) held: Option<Instant>,
    pub(super) stop: Option<(Vec<oneshot::Sender<()>>, Instant)>,
}

impl Dispatcher {
    pub(crate) fn new(center: Arc<Center>, inbox: mpsc::Receiver<Message>) -> Self {
        let now = Instant::now();
        Self {
            beat: now + center.settings.heartbeat,
            sweep: now + center.settings.recovery_every,
            center,
            inbox,
            queue: VecDeque::new(),
            running: HashMap::new(),
            ended: Vec::new(),
            dead: Vec::new(),
            hungry: false,
            ahead: 0,
            claimed: now,
            begun: now,
            poll: now,
            held: None,
            stop: None,
        }
    }

    /// Works until it is stopped, or until nobody holds the system any more.
    pub(crate) async fn run(mut self, mut handles: watch::Receiver<()>) {
        let mut turn: Slot<Done> = None;
        let mut look: Slot<Result<Seen, DagError>> = None;
        let mut heard = Vec::new();
        loop {
            self.woken();
            self.pass_time();
            self.begin();
            if turn.is_none() && self.has_reason() {
                turn = Some(self.turn());
            }
            if look.is_none() && self.poll <= Instant::now() {
                look = Some(self.look());
            }
            if self.is_over() && turn.is_none() {
                break;
            }
            let timer = self.timer(turn.is_some(), look.is_some());
            tokio::select! {
                biased;
                (sent, done) = next(&mut turn) => self.turned(&sent, done),
                seen = next(&mut look) => self.seen(seen),
                _ = self.inbox.recv_many(&mut heard, TOGETHER) => {
                    for message in heard.drain(..) {
                        self.hear(message);
                    }
                }
                () = self.center.wake.notified() => {}
                () = tokio::time::sleep_until(timer) => {}
                // Its sender is dropped with the last handle.
                _ = handles.changed() => break,
            }
        }
        for live in self.running.values() {
            live.abort.abort();
        }
        self.center.closed.send_replace(true);
        for waiter in self.stop.into_iter().flat_map(|(waiters, _)| waiters) {
            _ = waiter.send(());
        }
    }

    fn hear(&mut self, message: Message) {
        match message {
            Message::Ended { id, version, ended } => {
                // One that was aborted has its end already.
                if self.running.remove(&(id, version)).is_none() {
                    return;
                }
                match ended {
                    Some(ended) => self.ended.push((id, version, ended)),
                    None => add(&self.center.stats.blocked, 1),
                }
            }
            Message::Stop(reply) => {
                let until = Instant::now() + self.center.settings.grace;
                self.stop.get_or_insert_with(|| (Vec::new(), until)).0.push(reply);
                self.give_back();
                for live in self.running.values() {
                    live.cancel.send_replace(true);
                }
            }
        }
    }

    /// Takes what callers left.
    fn woken(&mut self) {
        self.hungry |= self.center.offered.swap(false, Ordering::SeqCst);
        let mut revoked = self.center.revoked.lock().unwrap_or_else(PoisonError::into_inner);
        let ids = std::mem::take(&mut *revoked);
        drop(revoked);
        let until = Instant::now() + self.center.settings.grace;
        for id in ids {
            self.queue.retain(|task| task.id != id);
            let lives = self.running.iter_mut().filter(|((of, _), _)| *of == id);
            for (_, live) in lives {
                live.cancel.send_replace(true);
                live.until.get_or_insert(until);
            }
        }
    }

    /// Aborts what should have ended, and gives back what does not begin.
    fn pass_time(&mut self) {
        let now = Instant::now();
        let over: Vec<(TaskId, i64)> = self
            .running
            .iter()
            .filter(|(_, live)| live.until.is_some_and(|until| until <= now))
            .map(|(key, _)| *key)
            .collect();
        for key in over {
            if let Some(live) = self.running.remove(&key) {
                live.abort.abort();
            }
        }
        if !self.queue.is_empty() && self.begun + STUCK <= now {
            self.give_back();
            self.ahead = 0;
        }
        if self.stop.as_ref().is_some_and(|(_, until)| *until <= now) {
            for ((id, version), live) in self.running.drain() {
                live.abort.abort();
                self.ended.push((id, version, Ended::Released { begun: true }));
            }
        }
    }

    pub(super) fn give_back(&mut self) {
        for task in self.queue.drain(..) {
            self.ended.push((task.id, task.version, Ended::Released { begun: false }));
        }
    }

    fn is_over(&self) -> bool {
        self.stop.is_some() && self.running.is_empty() && self.ended.is_empty()
    }

    /// Lets attempts begin while workers are free.
    fn begin(&mut self) {
        while self.running.len() < self.center.settings.workers {
            let Some(task) = self.queue.pop_front() else { break };
            self.begun = Instant::now();
            let Some(agent) = self.center.agents.find(&task.agent) else { continue };
            let (cancel, cancelled) = watch::channel(false);
            let key = (task.id, task.version);
            let work = attempt::run(Arc::clone(&self.center), agent, task, cancelled);
            let abort = tokio::spawn(work).abort_handle();
            self.running.insert(key, Live { abort, cancel, until: None });
        }
        let stats = &self.center.stats;
        stats.busy.store(self.running.len() as u64, Ordering::Relaxed);
        stats.leased.store(self.queue.len() as u64, Ordering::Relaxed);
    }

    /// How many tasks to claim.
    pub(super) fn wanted(&self) -> usize {
        if !self.hungry || self.stop.is_some() || self.queue.len() > self.ahead / 2 {
            return 0;
        }
        let free = self.center.settings.workers.saturating_sub(self.running.len());
        (free + self.ahead).saturating_sub(self.queue.len()).min(TOGETHER)
    }

    fn has_reason(&self) -> bool {
        let now = Instant::now();
        if self.held.is_some_and(|held| held > now) {
            return false;
        }
        !self.ended.is_empty()
            || !self.dead.is_empty()
            || self.wanted() > 0
            || self.beat <= now
            || self.sweep <= now
            || self.center.due.load(Ordering::SeqCst) <= self.center.now()
    }

    /// When there is something to do without being told.
    fn timer(&self, turning: bool, looking: bool) -> Instant {
        let now = Instant::now();
        let mut at = self.beat.min(self.sweep);
        if !looking {
            at = at.min(self.poll);
        }
        let due = self.center.due.load(Ordering::SeqCst);
        if due != i64::MAX {
            let left = u64::try_from(due.saturating_sub(self.center.now())).unwrap_or(0);
            at = at.min(now + Duration::from_millis(left.min(86_400_000)));
        }
        if let Some(held) = self.held {
            at = at.max(held);
        }
        if turning {
            // The turn's end comes first.
            at = at.max(now + STUCK);
        }
        let ends = self.running.values().filter_map(|live| live.until);
        let stop = self.stop.as_ref().filter(|_| !self.running.is_empty()).map(|(_, until)| *until);
        let stuck = (!self.queue.is_empty()).then(|| self.begun + STUCK);
        ends.chain(stop).chain(stuck).chain([at]).min().unwrap_or(at)
    }
}

/// The end of what is in a slot, which is empty then.
async fn next<T>(slot: &mut Slot<T>) -> T {
    let Some(work) = slot else { return std::future::pending().await };
    let done = work.await;
    *slot = None;
    done
}
