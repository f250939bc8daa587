//! A bounded pool of threads that take the identity of a sandbox's user for each piece of work.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::JoinHandle;

use mayfly_core::{Error, Kind, Result};
use mayfly_files::Identity;
use tokio::sync::oneshot;

use crate::sys::creds::Worker;

/// Pieces of work that may wait; more are refused.
const QUEUE: usize = 1024;
/// Clean-up that may wait beyond that, so that a full queue leaves no litter.
const CLEANUP: usize = 1024;

type Work = Box<dyn FnOnce(std::io::Result<()>) + Send>;

struct Task {
    identity: Identity,
    work: Work,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Task>,
    closed: bool,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    ready: Condvar,
    stopping: Arc<AtomicBool>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, task: Task, bound: usize) -> Result<()> {
        let mut queue = self.lock();
        if queue.closed {
            return Err(Error::new(Kind::Unavailable, "the server is stopping"));
        }
        if queue.waiting.len() >= bound {
            return Err(Error::new(Kind::Unavailable, "too many file calls are waiting")
                .with_hint("try again in a moment"));
        }
        queue.waiting.push_back(task);
        drop(queue);
        self.ready.notify_one();
        Ok(())
    }

    /// The next task; `None` once closed and empty.
    fn next(&self) -> Option<Task> {
        let mut queue = self.lock();
        loop {
            if let Some(task) = queue.waiting.pop_front() {
                return Some(task);
            }
            if queue.closed {
                return None;
            }
            queue = self.ready.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// The threads; dropping it finishes what is queued, cutting long work short.
pub(super) struct Pool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("threads", &self.threads.len()).finish_non_exhaustive()
    }
}

impl Pool {
    /// Starts the threads. [`Kind::Unavailable`] when they cannot change who they are, which needs root.
    pub(super) fn start(name: &str, threads: usize) -> Result<Self> {
        let mut pool = Self { shared: Arc::default(), threads: Vec::with_capacity(threads) };
        for _ in 0..threads {
            let shared = Arc::clone(&pool.shared);
            let (report, started) = mpsc::sync_channel(1);
            let thread = std::thread::Builder::new()
                .name(name.to_owned())
                .spawn(move || serve(&shared, &report))
                .map_err(|error| Error::internal("a file worker could not start", error))?;
            pool.threads.push(thread);
            let prepared = started.recv().unwrap_or_else(|gone| Err(std::io::Error::other(gone)));
            prepared.map_err(|error| {
                Error::new(Kind::Unavailable, "file workers cannot take a sandbox user's identity")
                    .with_hint("run the server as root")
                    .with_source(error)
            })?;
        }
        Ok(pool)
    }

    /// Set when the pool is ending; long work looks at it.
    pub(super) fn stopping(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.shared.stopping)
    }

    /// Runs `work` as `identity` and waits for its answer. Work that was begun ends also when the
    /// caller leaves.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        identity: Identity,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (answer, asked) = oneshot::channel();
        let work = move |ready: std::io::Result<()>| {
            // An answer nobody waits for is dropped here, still as that user.
            let _ = answer.send(ready.map_err(not_that_user).and_then(|()| work()));
        };
        self.shared.push(Task { identity, work: Box::new(work) }, QUEUE)?;
        asked.await.unwrap_or_else(|lost| Err(Error::internal("a file call broke off", lost)))
    }

    /// Drops `litter` as `identity`, later. On a server that is ending it is forgotten instead, so that
    /// nothing of a sandbox is touched with the server's own rights.
    pub(super) fn discard<T: Send + 'static>(&self, identity: Identity, litter: T) {
        let litter = std::mem::ManuallyDrop::new(litter);
        let work = move |ready: std::io::Result<()>| {
            if ready.is_ok() {
                drop(std::mem::ManuallyDrop::into_inner(litter));
            }
        };
        let _ = self.shared.push(Task { identity, work: Box::new(work) }, QUEUE + CLEANUP);
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
        self.shared.lock().closed = true;
        self.shared.ready.notify_all();
        for thread in self.threads.drain(..) {
            // A worker's panic was already turned into the error of the call that met it.
            let _ = thread.join();
        }
    }
}

fn serve(shared: &Shared, report: &mpsc::SyncSender<std::io::Result<()>>) {
    let mut worker = match Worker::prepare() {
        Ok(worker) => worker,
        Err(error) => {
            let _ = report.send(Err(error));
            return;
        }
    };
    let _ = report.send(Ok(()));
    while let Some(Task { identity, work }) = shared.next() {
        let ready = worker.assume(&identity);
        // The caller sees a lost answer as an error; the next call is served as if nothing happened.
        let _ = catch_unwind(AssertUnwindSafe(|| work(ready)));
    }
}

pub(super) fn not_that_user(error: std::io::Error) -> Error {
    Error::internal("a file worker could not take the sandbox user's identity", error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(id: u32) -> Identity {
        Identity { uid: id, gid: id, groups: vec![], powers: false }
    }

    #[tokio::test]
    async fn each_piece_of_work_runs_as_its_user() {
        let pool = Pool::start("t", 2).unwrap();
        for id in [100_000, 200_000, 100_000] {
            let seen = pool.run(user(id), || Ok(rustix::process::geteuid().as_raw())).await;
            assert_eq!(seen.unwrap(), id);
        }
        assert!(rustix::process::geteuid().is_root());
    }

    #[tokio::test]
    async fn a_panic_is_an_error_and_the_worker_lives_on() {
        let pool = Pool::start("t", 1).unwrap();
        let broken = pool.run::<()>(user(100_000), || panic!("made to")).await.unwrap_err();
        assert_eq!(broken.kind(), Kind::Internal);
        assert_eq!(pool.run(user(100_000), || Ok(7)).await.unwrap(), 7);
    }

    #[tokio::test]
    async fn an_identity_that_cannot_be_taken_runs_nothing() {
        let pool = Pool::start("t", 1).unwrap();
        let groups = vec![1; 70_000];
        let refused = pool.run(Identity { groups, ..user(100_000) }, || Ok(())).await;
        assert_eq!(refused.unwrap_err().kind(), Kind::Internal);
        assert_eq!(pool.run(user(100_000), || Ok(1)).await.unwrap(), 1, "then serves again");
    }

    #[tokio::test]
    async fn a_full_queue_refuses() {
        let pool = Pool::start("t", 1).unwrap();
        let (hold, held) = mpsc::channel::<()>();
        let first = pool.run(user(100_000), move || Ok(held.recv().is_err()));
        tokio::pin!(first);
        let waiting: Vec<_> =
            (0..QUEUE + 2).map(|_| Box::pin(pool.run(user(100_000), || Ok(())))).collect();
        let mut refused = 0;
        let context = &mut std::task::Context::from_waker(std::task::Waker::noop());
        let _ = first.as_mut().poll(context);
        for mut call in waiting {
            if let std::task::Poll::Ready(Err(error)) = call.as_mut().poll(context) {
                assert_eq!(error.kind(), Kind::Unavailable);
                refused += 1;
            }
        }
        assert!(refused >= 1);
        drop(hold);
        assert!(first.await.unwrap());
    }
}
