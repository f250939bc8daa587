//! A future that is polled again at once when it has woken itself, without a round through the scheduler.
//!
//! A connection and the handler of its request are one task, and the handler's first look at the body wakes
//! the connection to read it. The event loop takes a task that wakes itself for one that yields: it queues
//! it and wakes another thread, which costs more than a small request.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::task::AtomicWaker;

/// Polls in a row, before other tasks get their turn.
const POLLS: u32 = 8;

/// Nobody polls the future.
const RESTING: u8 = 0;
/// It is being polled.
const POLLED: u8 = 1;
/// It is being polled and was woken meanwhile.
const WOKEN: u8 = 2;

struct Signal {
    state: AtomicU8,
    task: AtomicWaker,
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let woken = self.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, |state| {
            (state != RESTING).then_some(WOKEN)
        });
        if woken.is_err() {
            self.task.wake();
        }
    }
}

/// The wrapped future.
pub(super) struct Again<F> {
    inner: Pin<Box<F>>,
    signal: Arc<Signal>,
    waker: Waker,
}

impl<F: Future> Again<F> {
    /// Wraps a future.
    pub(super) fn new(inner: F) -> Self {
        let signal = Signal { state: AtomicU8::new(RESTING), task: AtomicWaker::new() };
        let signal = Arc::new(signal);
        Self { inner: Box::pin(inner), waker: Waker::from(Arc::clone(&signal)), signal }
    }
}

impl<F: Future> Future for Again<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, outer: &mut Context<'_>) -> Poll<F::Output> {
        let Self { inner, signal, waker } = &mut *self;
        signal.task.register(outer.waker());
        for _ in 0..POLLS {
            signal.state.store(POLLED, Ordering::Release);
            if let Poll::Ready(done) = inner.as_mut().poll(&mut Context::from_waker(waker)) {
                return Poll::Ready(done);
            }
            if signal.state.swap(RESTING, Ordering::AcqRel) == POLLED {
                return Poll::Pending;
            }
        }
        outer.waker().wake_by_ref();
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;
    use std::sync::mpsc;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicU32);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Polls once; gives the answer and how often the scheduler was asked for another turn.
    fn poll<F: Future>(again: &mut Again<F>) -> (Poll<F::Output>, u32) {
        let count = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&count));
        let polled = Pin::new(again).poll(&mut Context::from_waker(&waker));
        (polled, count.0.load(Ordering::SeqCst))
    }

    /// Wakes itself this often before it is ready.
    fn restless(mut times: u32) -> impl Future<Output = ()> {
        std::future::poll_fn(move |context| {
            if times == 0 {
                return Poll::Ready(());
            }
            times -= 1;
            context.waker().wake_by_ref();
            Poll::Pending
        })
    }

    #[test]
    fn a_future_that_wakes_itself_goes_on_at_once() {
        assert_eq!(poll(&mut Again::new(restless(1))), (Poll::Ready(()), 0));
        assert_eq!(poll(&mut Again::new(restless(7))), (Poll::Ready(()), 0));
    }

    #[test]
    fn others_get_their_turn_in_between() {
        let mut again = Again::new(restless(9));
        assert_eq!(poll(&mut again), (Poll::Pending, 1));
        assert_eq!(poll(&mut again), (Poll::Ready(()), 0));
    }

    #[test]
    fn what_wakes_it_while_it_rests_wakes_the_task() {
        let (send, wakers) = mpsc::channel();
        let mut again = Again::new(std::future::poll_fn(move |context| {
            let _ = send.send(context.waker().clone());
            Poll::<()>::Pending
        }));
        let count = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&count));
        assert!(Pin::new(&mut again).poll(&mut Context::from_waker(&waker)).is_pending());
        wakers.recv().unwrap().wake();
        assert_eq!(count.0.load(Ordering::SeqCst), 1);
    }
}
