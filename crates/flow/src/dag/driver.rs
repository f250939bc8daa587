//! The one task that owns a run: it takes what attempts and callers say, decides, writes, then acts.
//!
//! ```text
//! messages, timers -> model -> entries -> one commit -> outputs visible, attempts begin, callers answered
//! ```
//! While a commit is on its way more messages gather; they make the next one. When a step cannot be written the run
//! stands with its step in memory: resuming it writes the step again, so nothing is lost or done twice.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::AbortHandle;
use tokio::time::Sleep;

use super::attempt::{Job, Outcome};
use super::cache::{Cache, Scopes};
use super::executor::DagExecutor;
use super::report::{DagExecutionReport, report};
use crate::clock::Millis;
use crate::error::DagError;
use crate::journal::{Artifact, Batch, Committed, NewRun, Reusable, encode};
use crate::model::entry::Slot;
use crate::model::run::RunState;
use crate::model::status::{RunStatus, State};

/// Messages waiting for a driver at most; then attempts and callers wait.
pub(crate) const INBOX: usize = 1024;
/// Messages that make one step at most.
const TOGETHER: usize = 512;

/// What callers do to a run, inside of its driver.
pub(crate) type Act = Box<dyn FnOnce(&mut Driver, Millis) + Send>;
/// What happens when the step is written, or could not be.
pub(crate) type After = Box<dyn FnOnce(Result<(), DagError>) + Send>;
/// Who waits for the run.
pub(crate) type Waiter = oneshot::Sender<Result<DagExecutionReport, DagError>>;

/// What a driver is told.
pub(crate) enum Message {
    Attempt {
        slot: Slot,
        attempt: u32,
        outcome: Outcome,
    },
    WaitSignal {
        slot: Slot,
        name: String,
        timeout: Option<Duration>,
        reply: oneshot::Sender<Option<Value>>,
    },
    Emit {
        slot: Slot,
        event: Value,
        reply: oneshot::Sender<()>,
    },
    Act(Act),
    Wait(Waiter),
    /// Write the step again that could not be written.
    Resume(oneshot::Sender<()>),
    /// Leave everything as it is in the file.
    Quit,
}

/// An attempt in memory.
#[derive(Default)]
pub(crate) struct Live {
    pub(crate) abort: Option<AbortHandle>,
    pub(crate) hash: [u8; 32],
    pub(crate) reuse: bool,
    pub(crate) waiting: Option<oneshot::Sender<Option<Value>>>,
    /// Signals that this attempt has got, by name.
    pub(crate) taken: HashMap<String, usize>,
}

/// The task's own state.
pub(crate) struct Driver {
    pub(crate) run: RunState,
    pub(crate) executor: DagExecutor,
    /// The handle that attempts get.
    pub(crate) handle: DagExecutor,
    pub(crate) values: Cache,
    pub(crate) caller: Option<Cache>,
    pub(crate) staged: Scopes,
    pub(crate) staged_writes: Vec<crate::model::entry::Write>,
    pub(crate) inbox: mpsc::Receiver<Message>,
    pub(crate) to_self: mpsc::Sender<Message>,
    pub(crate) attempts: HashMap<Slot, Live>,
    pub(crate) row: i64,
    pub(crate) version: i64,
    pub(crate) create: Option<NewRun>,
    pub(crate) artifacts: Vec<Artifact>,
    pub(crate) reusable: Vec<Reusable>,
    pub(crate) starts: Vec<(Slot, Job)>,
    pub(crate) aborts: Vec<AbortHandle>,
    pub(crate) after: Vec<After>,
    pub(crate) waiters: Vec<Waiter>,
    pub(crate) cancel: watch::Sender<bool>,
    pub(crate) grace: Option<Millis>,
    pub(crate) stalled: Arc<AtomicBool>,
    pub(crate) progress: watch::Sender<i64>,
    pub(crate) held: Vec<Message>,
    /// Status and reason as they are written.
    written: Option<(RunStatus, Option<String>)>,
    /// What nodes that fanned out did so over.
    pub(crate) spread: HashMap<usize, Arc<Value>>,
    /// A timer, with the moment that it was made for.
    timer: Option<(Millis, Pin<Box<Sleep>>)>,
}

impl Driver {
    /// A driver that has done nothing yet.
    pub(crate) fn new(
        run: RunState,
        executor: DagExecutor,
        values: Cache,
        inbox: mpsc::Receiver<Message>,
        to_self: mpsc::Sender<Message>,
    ) -> Self {
        let handle = executor.bound(&run.run_id, &run.flow);
        Self {
            run,
            executor,
            handle,
            values,
            caller: None,
            staged: Scopes::new(),
            staged_writes: Vec::new(),
            inbox,
            to_self,
            attempts: HashMap::new(),
            row: 0,
            version: 1,
            create: None,
            artifacts: Vec::new(),
            reusable: Vec::new(),
            starts: Vec::new(),
            aborts: Vec::new(),
            after: Vec::new(),
            waiters: Vec::new(),
            cancel: watch::Sender::new(false),
            grace: None,
            stalled: Arc::default(),
            progress: watch::Sender::new(0),
            held: Vec::new(),
            written: None,
            spread: HashMap::new(),
            timer: None,
        }
    }

    fn now(&self) -> Millis {
        self.executor.storage().clock().now()
    }

    /// Works until the run ends, pauses, or is somebody else's.
    pub(crate) async fn drive(mut self) {
        if !self.held.is_empty() {
            self.listen().await;
        }
        loop {
            self.advance().await;
            if let Err(error) = self.flush().await {
                return self.leave(&Err(error));
            }
            if !matches!(self.run.status, RunStatus::Pending | RunStatus::Running) {
                let answer = match (self.run.status, &self.run.reason) {
                    (RunStatus::TimedOut, reason) => {
                        Err(DagError::ExecutionTimeout(reason.clone().unwrap_or_default()))
                    }
                    _ => Ok(report(&self.run)),
                };
                return self.leave(&answer);
            }
            if !self.listen().await {
                let released = self.executor.storage().journal().release(self.row, self.version);
                if let Err(error) = released.await {
                    tracing::warn!(run = %self.run.run_id, %error, "the run could not be given up");
                }
                let reason = format!("run {}: the executor was stopped", self.run.run_id);
                return self.leave(&Err(DagError::InvalidState(reason)));
            }
        }
    }

    /// Takes what comes next; false when the driver is to quit.
    async fn listen(&mut self) -> bool {
        let mut messages = std::mem::take(&mut self.held);
        if messages.is_empty() {
            let deadline = [self.run.deadline(), self.grace].into_iter().flatten().min();
            self.set_timer(deadline);
            let timer = self.timer.as_mut();
            let timer = async {
                match timer {
                    Some((_, sleep)) => sleep.as_mut().await,
                    None => std::future::pending().await,
                }
            };
            let is_over = tokio::select! {
                biased;
                _ = self.inbox.recv_many(&mut messages, TOGETHER) => false,
                () = timer => true,
            };
            if is_over {
                self.timer = None;
            }
        }
        let now = self.now();
        for message in messages {
            if matches!(message, Message::Quit) {
                return false;
            }
            self.take(now, message);
        }
        self.pass_time(now);
        true
    }

    /// Most messages change no deadline: the timer of the last one goes on.
    fn set_timer(&mut self, deadline: Option<Millis>) {
        match (deadline, &self.timer) {
            (None, _) => self.timer = None,
            (Some(at), Some((known, _))) if at == *known => {}
            (Some(at), _) => {
                let left = u64::try_from(at - self.now()).unwrap_or(0);
                self.timer = Some((at, Box::pin(tokio::time::sleep(Duration::from_millis(left)))));
            }
        }
    }

    fn pass_time(&mut self, now: Millis) {
        for slot in self.run.tick(now) {
            // A wait for a signal is over: its attempt hears so, or begins again to hear it.
            let reply = self.attempts.get_mut(&slot).and_then(|live| live.waiting.take());
            self.run.wake(now, slot, reply.is_some());
            if let Some(reply) = reply {
                self.after.push(Box::new(move |_| drop(reply.send(None))));
            }
        }
        if self.grace.is_some_and(|grace| grace <= now) {
            self.grace = None;
            self.abort_running(now);
        }
        if self.run.stopping && self.run.in_flight > 0 {
            self.abort_running(now);
        }
    }

    /// Ends attempts in flight and records them as cancelled.
    fn abort_running(&mut self, now: Millis) {
        for slot in self.run.running() {
            self.abort(slot);
        }
        self.run.cancel_open(now, true);
    }

    pub(crate) fn abort(&mut self, slot: Slot) {
        if let Some(live) = self.attempts.remove(&slot) {
            self.aborts.extend(live.abort);
        }
    }

    fn take(&mut self, now: Millis, message: Message) {
        match message {
            Message::Attempt { slot, attempt, outcome } => {
                self.take_outcome(now, slot, attempt, outcome);
            }
            Message::WaitSignal { slot, name, timeout, reply } => {
                self.take_wait(now, slot, name, timeout, reply);
            }
            Message::Emit { slot, event, reply } => {
                self.run.emit(now, slot, event);
                self.after.push(Box::new(move |_| _ = reply.send(())));
            }
            Message::Act(act) => act(self, now),
            Message::Wait(waiter) => self.waiters.push(waiter),
            Message::Resume(reply) => _ = reply.send(()),
            Message::Quit => {}
        }
    }

    /// Writes what happened, then acts. An error when the run is not this process's any more.
    async fn flush(&mut self) -> Result<(), DagError> {
        if self.run.has_entries() || self.create.is_some() {
            let batch = self.batch();
            let mode = self.run.config.synchronous;
            loop {
                let answer = self.executor.storage().journal().commit(mode, &batch).await;
                match answer {
                    Ok(Committed::Done(row)) => {
                        self.row = row;
                        break;
                    }
                    Ok(Committed::Stale) => return Err(self.stale()),
                    Ok(Committed::Exists(id)) => {
                        return Err(DagError::InvalidState(format!("run {id} is there already")));
                    }
                    Err(error) if self.create.is_some() => return Err(error),
                    Err(error) => {
                        if !self.stall(error).await {
                            let reason = format!("run {}: stopped", self.run.run_id);
                            return Err(DagError::InvalidState(reason));
                        }
                    }
                }
            }
            self.create = None;
            if batch.is_turn {
                self.written = Some((batch.status, batch.reason.clone()));
            }
        }
        self.act();
        Ok(())
    }

    fn stale(&self) -> DagError {
        let run = &self.run.run_id;
        DagError::StaleLease(format!("run {run} was taken over by another process"))
    }

    fn batch(&mut self) -> Arc<Batch> {
        let entries = self.run.take_entries();
        let rows = entries.iter().map(|entry| encode(&self.run, entry)).collect();
        Arc::new(Batch {
            run_id: Arc::clone(&self.run.run_id),
            row: self.row,
            version: self.version,
            create: self.create.clone(),
            status: self.run.status,
            reason: self.run.reason.clone(),
            is_turn: self.written.as_ref().is_none_or(|(status, reason)| {
                *status != self.run.status || *reason != self.run.reason
            }),
            busy: self.run.in_flight > 0,
            at: self.now(),
            rows,
            artifacts: std::mem::take(&mut self.artifacts),
            reusable: std::mem::take(&mut self.reusable),
        })
    }

    /// The step could not be written: everybody who waits is told, and the run stands until it is resumed. False when
    /// the driver is to quit instead.
    async fn stall(&mut self, error: DagError) -> bool {
        let run = &self.run.run_id;
        tracing::error!(%run, %error, "a step could not be written; the run stands until it is resumed");
        self.stalled.store(true, Ordering::SeqCst);
        for waiter in self.waiters.drain(..) {
            drop(waiter.send(Err(error.clone())));
        }
        while let Some(message) = self.inbox.recv().await {
            match message {
                Message::Resume(reply) => {
                    self.stalled.store(false, Ordering::SeqCst);
                    _ = reply.send(());
                    return true;
                }
                Message::Quit => return false,
                Message::Wait(waiter) => drop(waiter.send(Err(error.clone()))),
                // Its caller hears that nobody answers.
                Message::Act(_) => {}
                // As many as there are attempts in memory.
                other => self.held.push(other),
            }
        }
        false
    }

    /// What was decided is written: outputs become visible, attempts begin, callers hear.
    fn act(&mut self) {
        let writes = std::mem::take(&mut self.staged_writes);
        if !writes.is_empty() {
            self.values.apply(&writes);
            if let Some(caller) = &self.caller {
                caller.apply(&writes);
            }
            self.staged.clear();
        }
        for abort in self.aborts.drain(..) {
            abort.abort();
        }
        for (slot, job) in self.starts.drain(..) {
            let task = tokio::spawn(super::attempt::run(job));
            if let Some(live) = self.attempts.get_mut(&slot) {
                live.abort = Some(task.abort_handle());
            }
        }
        for after in self.after.drain(..) {
            after(Ok(()));
        }
        // One receiver waits for listeners to come and watches nothing.
        if self.progress.receiver_count() > 1 {
            self.progress.send_replace(self.run.sequence);
        }
    }

    /// The driver's end: nobody is left waiting, nothing goes on.
    fn leave(mut self, answer: &Result<DagExecutionReport, DagError>) {
        self.executor.forget(&self.run.run_id, &self.to_self);
        for live in self.attempts.values() {
            if let Some(abort) = &live.abort {
                abort.abort();
            }
        }
        if let Err(error) = answer {
            for after in self.after.drain(..) {
                after(Err(error.clone()));
            }
        }
        self.inbox.close();
        while let Ok(message) = self.inbox.try_recv() {
            if let Message::Wait(waiter) = message {
                self.waiters.push(waiter);
            }
        }
        for waiter in self.waiters.drain(..) {
            drop(waiter.send(answer.clone()));
        }
    }

    /// Whether an outcome is that of the attempt in flight.
    pub(crate) fn is_current(&self, slot: Slot, attempt: u32) -> bool {
        self.attempts.contains_key(&slot)
            && self.run.item(slot).attempt == attempt
            && matches!(self.run.item(slot).state, State::Running | State::Waiting)
    }
}
