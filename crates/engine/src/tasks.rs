//! Work that outlives its caller, and its end at shutdown.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::runtime::Handle;
use tokio::sync::watch;

/// Counts work under way and tells reconcilers when to stop.
#[derive(Clone, Debug)]
pub(crate) struct Tasks {
    handle: Handle,
    count: Arc<watch::Sender<usize>>,
    stop: Arc<watch::Sender<bool>>,
}

impl Tasks {
    /// For the runtime that this is called in.
    pub(crate) fn new() -> Self {
        Self {
            handle: Handle::current(),
            count: Arc::new(watch::Sender::new(0)),
            stop: Arc::new(watch::Sender::new(false)),
        }
    }

    /// Runs work in a task of its own.
    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let counted = Counted::new(self);
        self.handle.spawn(async move {
            work.await;
            drop(counted);
        });
    }

    /// Runs work in the caller's task for as long as the caller stays, and in one of its own after that:
    /// a caller that leaves never cuts a transition short.
    pub(crate) fn adopt<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Adopted<T> {
        let counted = Counted::new(self);
        let work = Box::pin(async move {
            let out = work.await;
            drop(counted);
            out
        });
        Adopted { work: Some(work), handle: self.handle.clone() }
    }

    /// Whether the engine is to stop.
    pub(crate) fn is_stopped(&self) -> bool {
        *self.stop.borrow()
    }

    /// Resolves when the engine is to stop.
    pub(crate) async fn stopped(&self) {
        // An error would mean that the sender is gone, and this handle holds it.
        let _ = self.stop.subscribe().wait_for(|stop| *stop).await;
    }

    /// Tells reconcilers to stop, then waits until no work is under way.
    pub(crate) async fn drain(&self) {
        self.stop.send_replace(true);
        let _ = self.count.subscribe().wait_for(|count| *count == 0).await;
    }
}

/// One piece of work under way.
#[derive(Debug)]
struct Counted(Arc<watch::Sender<usize>>);

impl Counted {
    fn new(tasks: &Tasks) -> Self {
        tasks.count.send_modify(|count| *count += 1);
        Self(Arc::clone(&tasks.count))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

type Work<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Work in its caller's hands; dropped unfinished, it goes on in a task of its own.
pub(crate) struct Adopted<T: Send + 'static> {
    work: Option<Work<T>>,
    handle: Handle,
}

impl<T: Send + 'static> Future for Adopted<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let work = self.work.as_mut().expect("work is polled no more once it gave its result");
        let out = work.as_mut().poll(context);
        if out.is_ready() {
            self.work = None;
        }
        out
    }
}

impl<T: Send + 'static> Drop for Adopted<T> {
    fn drop(&mut self) {
        if let Some(work) = self.work.take() {
            self.handle.spawn(async move {
                let _ = work.await;
            });
        }
    }
}
