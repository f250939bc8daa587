//! Where file calls run: small ones on the thread that serves the caller, others in two pools, so that a
//! long search never keeps a small read waiting.

use std::os::fd::{AsFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use mayfly_core::{Error, Result};
use mayfly_files::{Root, View};
use rustix::fs::{Mode, OFlags};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::Semaphore;

use super::pool::{Pool, not_that_user};
use super::watch::Watch;
use crate::sys::creds;

/// Small calls at once on threads that serve callers, beyond those that the watcher has places for. Each
/// occupies a thread of its own meanwhile; more go to the pool.
const HERE: usize = 8;
/// Threads for calls that touch one file or folder.
const QUICK: usize = 4;
/// Threads for calls that walk trees; each sandbox gets one at a time.
const LONG: usize = 4;
/// Longest time of one call on its thread.
const TIME: Duration = Duration::from_secs(30);

/// Where file calls run.
#[derive(Debug)]
pub(super) struct Lanes {
    here: Semaphore,
    /// Of the event loop that made the first call; `None` within where there is none.
    watch: OnceLock<Option<Watch>>,
    quick: Pool,
    long: Pool,
    /// The server's own `/proc/self/fd`: the kernel's way to open again what is held by descriptor.
    descriptors: Arc<OwnedFd>,
}

impl Lanes {
    pub(super) fn start() -> Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let descriptors = rustix::fs::open("/proc/self/fd", flags, Mode::empty())
            .map_err(|error| Error::internal("/proc/self/fd is needed for file calls", error))?;
        Ok(Self {
            here: Semaphore::new(HERE),
            watch: OnceLock::new(),
            quick: Pool::start("files", QUICK)?,
            long: Pool::start("files-long", LONG)?,
            descriptors: Arc::new(descriptors),
        })
    }

    /// Runs a call of a few system calls and little data as the sandbox's user.
    ///
    /// A hand-off to another thread and back would cost more than the call itself, so it runs here; on an
    /// event loop of one thread that is impossible.
    pub(super) async fn small<T: Send + 'static>(
        &self,
        root: &Arc<Root>,
        work: impl FnOnce(&View<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let event_loop = Handle::try_current()
            .ok()
            .filter(|handle| handle.runtime_flavor() == RuntimeFlavor::MultiThread);
        let Some(event_loop) = event_loop else { return self.quick(root, work).await };
        let lend = |work| {
            // Inside the loan, so that also what a panic drops is dropped as that user.
            creds::lend(&root.identity(), || catch_unwind(AssertUnwindSafe(work)))
                .map_err(not_that_user)?
                .unwrap_or_else(|_| Err(Error::internal("a file call broke off", "it panicked")))
        };
        let watch = self.watch.get_or_init(|| Watch::start(event_loop));
        if let Some(_place) = watch.as_ref().and_then(Watch::enter) {
            return lend(self.prepared(root, &self.quick, work));
        }
        if let Ok(_place) = self.here.try_acquire() {
            let work = self.prepared(root, &self.quick, work);
            return tokio::task::block_in_place(|| lend(work));
        }
        self.quick(root, work).await
    }

    /// Runs a short call as the sandbox's user.
    pub(super) async fn quick<T: Send + 'static>(
        &self,
        root: &Arc<Root>,
        work: impl FnOnce(&View<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.quick.run(root.identity(), self.prepared(root, &self.quick, work)).await
    }

    /// Runs a call that may last, after the sandbox's earlier ones, which `calls` counts.
    pub(super) async fn long<T: Send + 'static>(
        &self,
        root: &Arc<Root>,
        calls: &Arc<Semaphore>,
        work: impl FnOnce(&View<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let turn = Arc::clone(calls).acquire_owned().await;
        let turn = turn.map_err(|closed| Error::internal("file calls have ended", closed))?;
        let work = self.prepared(root, &self.long, work);
        // The turn ends with the work, also when the caller has left.
        let work = move || {
            let done = work();
            drop(turn);
            done
        };
        self.long.run(root.identity(), work).await
    }

    /// Drops something as the sandbox's user, later.
    pub(super) fn discard<T: Send + 'static>(&self, root: &Arc<Root>, litter: T) {
        self.quick.discard(root.identity(), litter);
    }

    fn prepared<T, W: FnOnce(&View<'_>) -> Result<T>>(
        &self,
        root: &Arc<Root>,
        pool: &Pool,
        work: W,
    ) -> impl FnOnce() -> Result<T> + use<T, W> {
        let (root, descriptors) = (Arc::clone(root), Arc::clone(&self.descriptors));
        let stopping: Arc<AtomicBool> = pool.stopping();
        move || {
            work(&View {
                root: &root,
                descriptors: descriptors.as_fd(),
                deadline: Instant::now() + TIME,
                stopping: &stopping,
            })
        }
    }
}
