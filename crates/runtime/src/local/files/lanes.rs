//! Two pools, so that a long search never keeps a small read waiting.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use mayfly_core::{Error, Result};
use rustix::fs::{Mode, OFlags};

use super::pool::Pool;
use super::root::Root;
use super::view::View;

/// Threads for calls that touch one file or folder.
const QUICK: usize = 4;
/// Threads for calls that walk trees; each sandbox gets one at a time.
const LONG: usize = 4;
/// Longest time of one call on its thread.
const TIME: Duration = Duration::from_secs(30);

/// Where file calls run.
#[derive(Debug)]
pub(super) struct Lanes {
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
            quick: Pool::start("files", QUICK)?,
            long: Pool::start("files-long", LONG)?,
            descriptors: Arc::new(descriptors),
        })
    }

    /// Runs a short call as the sandbox's user.
    pub(super) async fn quick<T: Send + 'static>(
        &self,
        root: &Arc<Root>,
        work: impl FnOnce(&View<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.quick.run(root.identity(), self.prepared(root, &self.quick, work)).await
    }

    /// Runs a call that may last, after the sandbox's earlier ones.
    pub(super) async fn long<T: Send + 'static>(
        &self,
        root: &Arc<Root>,
        work: impl FnOnce(&View<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let turn = Arc::clone(&root.long_calls).acquire_owned().await;
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
