//! The one writer: a thread that commits whatever is queued as one transaction.
//!
//! ```text
//! queued jobs -> synchronous mode -> BEGIN IMMEDIATE -> the jobs -> COMMIT -> answers
//! ```
//! A job that fails is undone alone: the transaction is rolled back and its jobs run once more, each in a
//! savepoint of its own, which the usual transaction without failures is spared. A commit that fails answers
//! all of its jobs with the reason and leaves the old state. A failed write-back ends writing for good: see [`Fault::is_failed_sync`].

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use mayfly_core::measure::Histogram;
use mayfly_core::ports::store::Load;
use mayfly_core::{Error, Result};
use rusqlite::{Connection, ffi};
use tokio::sync::{mpsc, oneshot};

use super::checkpoint::Nudge;
use super::fault::{self, Fault};

/// Jobs waiting at most; then callers wait for room.
const QUEUE: usize = 1024;
/// Jobs in one transaction at most, so that the first one's answer does not wait for ever.
const BATCH: usize = 512;

/// What must not be lost once it is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Durability {
    /// Survives a kill of the server, at any point.
    Kill,
    /// Survives power loss too.
    PowerLoss,
}

/// Set once when the disk failed to keep data; shared with the checkpointer.
#[derive(Clone, Debug, Default)]
pub(super) struct Broken(Arc<AtomicBool>);

impl Broken {
    /// Ends writing for good.
    pub(super) fn set(&self) {
        if !self.0.swap(true, Ordering::SeqCst) {
            tracing::error!("the disk failed to keep data; the store takes no more writes");
        }
    }

    fn is_set(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

/// Handle to the writer's thread.
#[derive(Debug)]
pub(super) struct Writer {
    commits: Arc<Histogram>,
    queue: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Starts the thread on its own connection.
    pub(super) fn start(
        connection: Connection,
        broken: Broken,
        nudge: Option<Nudge>,
    ) -> Result<Self> {
        let (queue, jobs) = mpsc::channel(QUEUE);
        let commits = Arc::new(Histogram::default());
        let measured = Arc::clone(&commits);
        let thread = std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || Batches { connection, broken, nudge, mode: None, measured }.run(jobs))
            .map_err(|error| Error::internal("cannot start the store's writer thread", error))?;
        Ok(Self { commits, queue: Some(queue), thread: Some(thread) })
    }

    /// How busy it is.
    pub(super) fn load(&self) -> Load {
        let queued = self.queue.as_ref().map_or(0, |queue| queue.max_capacity() - queue.capacity());
        Load { queued: queued as u64, commits: self.commits.read() }
    }

    /// Runs the work inside the next transaction; answers after its commit. The work runs a second time when
    /// another one of its transaction failed.
    pub(super) async fn write<T, F>(
        &self,
        durability: Durability,
        operation: &'static str,
        work: F,
    ) -> Result<T>
    where
        T: Send + 'static,
        F: FnMut(&Connection) -> Result<T, Fault> + Send + 'static,
    {
        self.send(durability, false, operation, work).await
    }

    /// Runs the work between two transactions, outside of any.
    pub(super) async fn outside<T, F>(&self, operation: &'static str, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnMut(&Connection) -> Result<T, Fault> + Send + 'static,
    {
        self.send(Durability::PowerLoss, true, operation, work).await
    }

    async fn send<T, F>(
        &self,
        durability: Durability,
        outside: bool,
        operation: &'static str,
        work: F,
    ) -> Result<T>
    where
        T: Send + 'static,
        F: FnMut(&Connection) -> Result<T, Fault> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let work = Pending { operation, work, result: None, reply };
        let queue = self.queue.as_ref().ok_or_else(fault::closed)?;
        queue
            .send(Job { durability, outside, work: Box::new(work) })
            .await
            .map_err(|_| fault::closed())?;
        answer.await.map_err(|_| fault::closed())?
    }
}

impl Drop for Writer {
    /// Lets the thread commit what is queued and waits for it.
    fn drop(&mut self) {
        drop(self.queue.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the store's writer thread panicked");
        }
    }
}

struct Job {
    durability: Durability,
    outside: bool,
    work: Box<dyn Work>,
}

/// One job, whatever its answer's type.
trait Work: Send {
    /// Does it inside the transaction and keeps the result; the fault, where there was one.
    fn run(&mut self, connection: &Connection) -> Option<&Fault>;

    /// Sends the result, or the reason why the whole transaction failed.
    fn answer(self: Box<Self>, commit: Result<(), &dyn Fn(&str) -> Error>);
}

struct Pending<T, F> {
    operation: &'static str,
    work: F,
    result: Option<Result<T, Fault>>,
    reply: oneshot::Sender<Result<T>>,
}

impl<T, F> Work for Pending<T, F>
where
    T: Send,
    F: FnMut(&Connection) -> Result<T, Fault> + Send,
{
    fn run(&mut self, connection: &Connection) -> Option<&Fault> {
        self.result.insert((self.work)(connection)).as_ref().err()
    }

    fn answer(self: Box<Self>, commit: Result<(), &dyn Fn(&str) -> Error>) {
        let result = match (commit, self.result) {
            (_, Some(Err(fault))) => Err(fault.into_error(self.operation)),
            (Ok(()), Some(Ok(value))) => Ok(value),
            (Err(reason), _) => Err(reason(self.operation)),
            (Ok(()), None) => Err(fault::closed()),
        };
        // A caller that left does not need the answer.
        drop(self.reply.send(result));
    }
}

/// The thread's own state.
struct Batches {
    connection: Connection,
    broken: Broken,
    nudge: Option<Nudge>,
    mode: Option<Durability>,
    measured: Arc<Histogram>,
}

impl Batches {
    fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        let mut batch = Vec::with_capacity(BATCH);
        while jobs.blocking_recv_many(&mut batch, BATCH) > 0 {
            for mut job in batch.extract_if(.., |job| job.outside) {
                // Its failure is its answer.
                let _ = job.work.run(&self.connection);
                job.work.answer(Ok(()));
            }
            if batch.is_empty() {
                continue;
            }
            let began = Instant::now();
            let outcome = if self.broken.is_set() { Err(None) } else { self.commit(&mut batch) };
            self.measured.note(began.elapsed());
            let reason = |operation: &str| match &outcome {
                Err(Some(code)) => {
                    fault::explain(operation, rusqlite::Error::SqliteFailure(*code, None))
                }
                _ => fault::stopped(),
            };
            let done = batch.len();
            for job in batch.drain(..) {
                job.work.answer(match outcome {
                    Ok(()) => Ok(()),
                    Err(_) => Err(&reason),
                });
            }
            if let Some(nudge) = &mut self.nudge {
                nudge.committed(done);
            }
        }
    }

    /// One transaction; `Err(None)` when writing has ended for good.
    fn commit(&mut self, batch: &mut [Job]) -> Result<(), Option<ffi::Error>> {
        let outcome = self.attempt(batch);
        if outcome.is_err() && !self.connection.is_autocommit() {
            // The failure is already reported; a rollback that fails too finds nothing to undo.
            drop(self.connection.execute_batch("ROLLBACK"));
        }
        match outcome {
            Ok(()) => Ok(()),
            Err(fault) if fault.is_failed_sync() => {
                self.broken.set();
                Err(None)
            }
            Err(fault) => Err(Some(fault.code())),
        }
    }

    fn attempt(&mut self, batch: &mut [Job]) -> Result<(), Fault> {
        let durability = batch.iter().map(|job| job.durability).max().unwrap_or(Durability::Kill);
        if self.mode != Some(durability) {
            let mode = match durability {
                Durability::Kill => "NORMAL",
                Durability::PowerLoss => "FULL",
            };
            self.connection.pragma_update(None, "synchronous", mode)?;
            self.mode = Some(durability);
        }
        self.execute("BEGIN IMMEDIATE")?;
        if !self.all_pass(batch)? {
            self.execute("ROLLBACK")?;
            self.execute("BEGIN IMMEDIATE")?;
            for job in batch {
                self.step(job)?;
            }
        }
        self.execute("COMMIT")
    }

    /// Runs the jobs up to the first that fails; `Err` when the whole transaction is lost.
    fn all_pass(&self, batch: &mut [Job]) -> Result<bool, Fault> {
        for job in batch {
            if let Some(fault) = job.work.run(&self.connection) {
                self.survives(fault)?;
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// `Err` when nothing of the transaction is left, as when the disk is full: `SQLite` may have rolled
    /// everything back by itself.
    fn survives(&self, fault: &Fault) -> Result<(), Fault> {
        if fault.is_failed_sync() || self.connection.is_autocommit() {
            return Err(Fault::from(rusqlite::Error::SqliteFailure(fault.code(), None)));
        }
        Ok(())
    }

    /// Runs one job and undoes it when it fails; `Err` when the whole transaction is lost.
    fn step(&self, job: &mut Job) -> Result<(), Fault> {
        self.execute("SAVEPOINT job")?;
        if let Some(fault) = job.work.run(&self.connection) {
            self.survives(fault)?;
            self.execute("ROLLBACK TO job")?;
        }
        self.execute("RELEASE job")
    }

    fn execute(&self, sql: &str) -> Result<(), Fault> {
        self.connection.prepare_cached(sql)?.execute([])?;
        Ok(())
    }
}
