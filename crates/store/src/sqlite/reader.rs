//! Readers: a few threads, each with its own connection, fed from one queue.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use mayfly_core::{Error, Result};
use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::fault::{self, Fault};

/// Reads waiting at most; then callers wait for room.
const QUEUE: usize = 1024;

type Job = Box<dyn FnOnce(&Connection) + Send>;

/// Handle to the readers' threads.
#[derive(Debug)]
pub(super) struct Readers {
    queue: Option<mpsc::Sender<Job>>,
    threads: Vec<JoinHandle<()>>,
    /// For lookups on the caller's own thread.
    direct: Vec<Mutex<Connection>>,
}

impl Readers {
    /// Starts one thread per queued connection; direct ones serve [`Readers::lookup`].
    pub(super) fn start(queued: Vec<Connection>, direct: Vec<Connection>) -> Result<Self> {
        let (queue, jobs) = mpsc::channel(QUEUE);
        let jobs = Arc::new(Mutex::new(jobs));
        let threads = queued
            .into_iter()
            .map(|connection| {
                let jobs = Arc::clone(&jobs);
                std::thread::Builder::new()
                    .name("store-reader".into())
                    .spawn(move || run(&connection, &jobs))
                    .map_err(|error| {
                        Error::internal("cannot start a reader thread of the store", error)
                    })
            })
            .collect::<Result<_>>()?;
        let direct = direct.into_iter().map(Mutex::new).collect();
        Ok(Self { queue: Some(queue), threads, direct })
    }

    /// Finds one row by its key. It takes a few microseconds, less than waking a thread, so it runs on the
    /// caller's thread while a direct connection is free, and is queued otherwise.
    pub(super) async fn lookup<T, F>(&self, operation: &'static str, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, Fault> + Send + 'static,
    {
        if let Some(connection) = self.direct.iter().find_map(|direct| direct.try_lock().ok()) {
            return work(&connection).map_err(|fault| fault.into_error(operation));
        }
        self.read(operation, work).await
    }

    /// Runs the work on the next free connection; it sees one state of the database throughout.
    pub(super) async fn read<T, F>(&self, operation: &'static str, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, Fault> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let job: Job = Box::new(move |connection| {
            if reply.is_closed() {
                return;
            }
            let result =
                connection.unchecked_transaction().map_err(Fault::from).and_then(|transaction| {
                    let value = work(&transaction)?;
                    transaction.finish()?;
                    Ok(value)
                });
            // A caller that left does not need the answer.
            drop(reply.send(result.map_err(|fault| fault.into_error(operation))));
        });
        let queue = self.queue.as_ref().ok_or_else(fault::closed)?;
        queue.send(job).await.map_err(|_| fault::closed())?;
        answer.await.map_err(|_| fault::closed())?
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        drop(self.queue.take());
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a reader thread of the store panicked");
            }
        }
    }
}

fn run(connection: &Connection, jobs: &Mutex<mpsc::Receiver<Job>>) {
    loop {
        // The thread that holds the lock waits for work; the others wait for the lock.
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv();
        match job {
            Some(job) => job(connection),
            None => return,
        }
    }
}
