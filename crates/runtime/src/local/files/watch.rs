//! Lets short blocking calls run on the event loop's own threads, and sees to it that one which a disk
//! keeps waiting does not stop the others.
//!
//! A thread of the event loop that waits inside a call may be the one whose turn it was to listen for
//! events; the others sleep, and nobody would listen. Telling another thread beforehand, each time, costs
//! as much as the call itself. So calls only say where they are, and a watcher that looks every now and
//! then wakes another thread when one has not moved on. At least one thread is always left.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::Handle;

/// Most calls at once, however many threads there are.
const PLACES: usize = 8;
/// How often the watcher looks.
const TICK: Duration = Duration::from_millis(2);
/// Looks without a new call after which it sleeps until the next one.
const QUIET: u32 = 500;

#[derive(Debug)]
struct Shared {
    /// One number per place, counted up when a call enters and when it leaves: odd while one is there.
    places: Box<[AtomicU64]>,
    asleep: AtomicBool,
    ending: AtomicBool,
}

/// The watcher of one event loop; ends when dropped.
#[derive(Debug)]
pub(super) struct Watch {
    event_loop: Handle,
    shared: Arc<Shared>,
    watcher: JoinHandle<()>,
}

/// A call under way; it has left when this is dropped.
#[derive(Debug)]
pub(super) struct Place<'a>(&'a AtomicU64);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Watch {
    /// Starts the watcher; `None` when no thread can be had.
    pub(super) fn start(event_loop: Handle) -> Option<Self> {
        let count = event_loop.metrics().num_workers().saturating_sub(1).min(PLACES);
        let places = (0..count).map(|_| AtomicU64::new(0)).collect();
        let asleep = AtomicBool::new(false);
        let shared = Arc::new(Shared { places, asleep, ending: AtomicBool::new(false) });
        let (watched, waking) = (Arc::clone(&shared), event_loop.clone());
        let watcher = std::thread::Builder::new()
            .name("files-watch".to_owned())
            // Waking any other thread is all that the task is for.
            .spawn(move || watched.watch(|| drop(waking.spawn(async {}))))
            .ok()?;
        Some(Self { event_loop, shared, watcher })
    }

    /// A place for one call; `None` when as many run as may.
    pub(super) fn enter(&self) -> Option<Place<'_>> {
        let place = self.shared.places.iter().find(|place| {
            let seen = place.load(Ordering::SeqCst);
            let entered = seen.wrapping_add(1);
            let order = Ordering::SeqCst;
            seen % 2 == 0 && place.compare_exchange(seen, entered, order, order).is_ok()
        })?;
        if self.shared.asleep.load(Ordering::SeqCst) {
            self.watcher.thread().unpark();
        }
        // The last task that was made ready here waits where no other thread takes it from, until the
        // next one is.
        drop(self.event_loop.spawn(async {}));
        Some(Place(place))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // Not waited for: it holds nothing, and sees this within one look.
        self.shared.ending.store(true, Ordering::SeqCst);
        self.watcher.thread().unpark();
    }
}

impl Shared {
    fn watch(&self, wake: impl Fn()) {
        let mut seen = vec![0; self.places.len()];
        let mut quiet = 0;
        while !self.ending.load(Ordering::SeqCst) {
            if quiet < QUIET {
                std::thread::park_timeout(TICK);
            } else {
                self.asleep.store(true, Ordering::SeqCst);
                // A call that entered before that told nobody.
                if !self.has_moved(&seen) {
                    std::thread::park();
                }
                self.asleep.store(false, Ordering::SeqCst);
            }
            quiet = if self.has_moved(&seen) { 0 } else { quiet.saturating_add(1) };
            let mut waits = false;
            for (place, seen) in self.places.iter().zip(&mut seen) {
                let now = place.load(Ordering::SeqCst);
                waits |= now == *seen && now % 2 == 1;
                *seen = now;
            }
            if waits {
                quiet = 0;
                wake();
            }
        }
    }

    fn has_moved(&self, seen: &[u64]) -> bool {
        self.places.iter().zip(seen).any(|(place, seen)| place.load(Ordering::SeqCst) != *seen)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 3)]
    async fn places_are_bounded_and_given_back() {
        let watch = Watch::start(Handle::current()).unwrap();
        let one = watch.enter();
        let two = watch.enter();
        assert!(one.is_some() && two.is_some());
        assert!(watch.enter().is_none(), "one thread is left");
        drop(one);
        assert!(watch.enter().is_some());
    }

    /// A peer that is no part of the event loop talks to it while calls wait on all threads but one.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_waiting_call_stops_nobody_else() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let watch = Arc::new(Watch::start(Handle::current()).unwrap());
        let (let_go, held) = mpsc::channel::<()>();
        let (entered, has_entered) = mpsc::channel();
        let blocked = tokio::spawn(async move {
            // An event brings it here, so that it holds the turn to listen.
            let (mut stream, _) = listener.accept().await.unwrap();
            let echo = tokio::spawn(async move {
                let (mut other, _) = listener.accept().await.unwrap();
                let byte = other.read_u8().await.unwrap();
                other.write_u8(byte).await.unwrap();
            });
            stream.read_u8().await.unwrap();
            let place = watch.enter().unwrap();
            entered.send(()).unwrap();
            let _ = held.recv();
            drop(place);
            echo.await.unwrap();
        });
        let peer = std::thread::spawn(move || {
            use std::io::{Read, Write};
            let mut first = std::net::TcpStream::connect(address).unwrap();
            first.write_all(b"x").unwrap();
            has_entered.recv().unwrap();
            let mut second = std::net::TcpStream::connect(address).unwrap();
            second.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            let mut byte = [0];
            second.write_all(b"y").unwrap();
            let echoed = second.read_exact(&mut byte);
            drop(let_go);
            echoed.unwrap();
        });
        blocked.await.unwrap();
        peer.join().unwrap();
        let _ = TcpStream::connect(address).await;
    }
}
