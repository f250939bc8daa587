//! One follower of process 1 for all readers of a process's output.
//!
//! ```text
//! process 1 --DATA--> feed (a task) --> window of the last pieces --> readers that keep up
//!                                       file of kept output       --> readers that are behind
//! ```
//! The feed waits for readers that are behind, so that the process is slowed down before they miss anything, but
//! only for so long: a reader that takes nothing stands in nobody's way. It misses what is no longer kept.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use mayfly_core::ports::processes::Follower as _;
use mayfly_core::process::{Output, Piece};
use mayfly_core::{Code, Error, Kind, Result};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout};

use super::Which;
use super::follow::Reader;
use crate::local::host::Host;

/// Bytes of one answer of process 1.
const PIECE: usize = 256 << 10;
/// Bytes kept in memory for readers that are a little behind, and the most pieces.
const WINDOW: usize = 256 << 10;
const WINDOW_PIECES: usize = 64;
/// Without new output for so long nothing is kept in memory: who is behind reads the file.
const IDLE: Duration = Duration::from_secs(1);
/// A reader that is behind by more than this part of all that is kept is waited for.
const BEHIND: u64 = 8;
/// Longest wait for readers of which none takes anything.
const STILL: Duration = Duration::from_millis(100);
/// Longest wait for readers while as much comes as is kept; process 1 waits for us twice as long at most.
const PER_LAP: Duration = Duration::from_millis(500);

/// The hubs of a server.
#[derive(Debug, Default)]
pub(super) struct Hubs(Mutex<HashMap<Which, Weak<Hub>>>);

/// The output of one process that runs.
#[derive(Debug)]
pub(super) struct Hub {
    state: Mutex<State>,
    /// Told of everything new.
    news: watch::Sender<()>,
    /// A reader took something, or left.
    progress: Notify,
    /// Ends the feed when the hub goes.
    _here: watch::Sender<()>,
}

#[derive(Debug)]
struct State {
    window: VecDeque<Output>,
    held: usize,
    /// Behind the last byte that came.
    end: u64,
    exit: Option<i32>,
    failure: Option<Failure>,
    readers: HashMap<u64, Place>,
    next: u64,
    /// Bytes that are kept of the process.
    size: u64,
    lap: u64,
    waited: Duration,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    at: u64,
    /// It was waited for in vain, and has not caught up since.
    lost: bool,
}

#[derive(Clone, Debug)]
struct Failure {
    kind: Kind,
    code: Option<Code>,
    message: String,
}

/// What there is for a reader at an offset.
#[derive(Debug)]
pub(super) enum Found {
    /// Output, or the end.
    Output(Output),
    /// Only the file has it: so many bytes.
    Behind(u64),
    /// Nothing yet.
    Nothing,
}

/// A reader's place at a hub; it leaves when dropped.
#[derive(Debug)]
pub(super) struct Seat {
    hub: Arc<Hub>,
    id: u64,
    news: watch::Receiver<()>,
}

impl Hubs {
    /// Takes a seat at the hub of a process, whose kept output ends at `end` and is `size` bytes long at most;
    /// makes the hub where there is none.
    pub(super) fn sit(&self, host: &Arc<Host>, which: Which, at: u64, kept: (u64, u64)) -> Seat {
        let mut hubs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = hubs.get(&which).and_then(Weak::upgrade).filter(|hub| hub.lives());
        let hub = found.unwrap_or_else(|| {
            // Those that went are forgotten now and then, when one is made.
            hubs.retain(|_, hub| hub.strong_count() > 0);
            let (hub, gone) = Hub::new(kept);
            hubs.insert(which, Arc::downgrade(&hub));
            tokio::spawn(feed(Arc::downgrade(&hub), gone, Arc::clone(host), which, kept.0));
            hub
        });
        drop(hubs);
        hub.seat(at)
    }
}

impl Hub {
    fn new((end, size): (u64, u64)) -> (Arc<Self>, watch::Receiver<()>) {
        let (here, gone) = watch::channel(());
        let state = State {
            window: VecDeque::new(),
            held: 0,
            end,
            exit: None,
            failure: None,
            readers: HashMap::new(),
            next: 0,
            size: size.max(1),
            lap: 0,
            waited: Duration::ZERO,
        };
        let state = Mutex::new(state);
        let hub =
            Self { state, news: watch::Sender::new(()), progress: Notify::new(), _here: here };
        (Arc::new(hub), gone)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lives(&self) -> bool {
        let state = self.lock();
        state.failure.is_none() && state.exit.is_none()
    }

    fn seat(self: Arc<Self>, at: u64) -> Seat {
        let news = self.news.subscribe();
        let mut state = self.lock();
        let id = state.next;
        state.next += 1;
        state.readers.insert(id, Place { at, lost: false });
        drop(state);
        Seat { hub: self, id, news }
    }

    fn push(&self, output: Output) {
        let mut state = self.lock();
        (state.end, state.exit) = (output.next, output.exit_code);
        state.held += length(&output);
        state.window.push_back(output);
        while state.held > WINDOW || state.window.len() > WINDOW_PIECES {
            let Some(oldest) = state.window.pop_front() else { break };
            state.held -= length(&oldest);
        }
        drop(state);
        self.news.send_replace(());
    }

    fn fail(&self, error: &Error) {
        let message = error.message().to_owned();
        let failure = Failure { kind: error.kind(), code: error.code(), message };
        self.lock().failure = Some(failure);
        self.news.send_replace(());
    }

    fn clear(&self) {
        let mut state = self.lock();
        state.window = VecDeque::new();
        state.held = 0;
    }

    /// Waits for readers that are far behind, within the bounds.
    async fn wait_for_readers(&self) {
        loop {
            let progress = self.progress.notified();
            let Some(patience) = self.lock().patience() else { return };
            let began = Instant::now();
            let moved = timeout(patience, progress).await.is_ok();
            let mut state = self.lock();
            state.waited += began.elapsed();
            if !moved {
                state.give_up();
                return;
            }
        }
    }
}

fn length(output: &Output) -> usize {
    output.pieces.iter().map(|piece| piece.bytes.len()).sum()
}

impl State {
    fn is_behind(&self, place: &Place) -> bool {
        !place.lost && place.at + self.size / BEHIND < self.end
    }

    /// How long readers may still be waited for; nothing where none is far behind, or there was enough of it.
    fn patience(&mut self) -> Option<Duration> {
        if !self.readers.values().any(|place| self.is_behind(place)) {
            return None;
        }
        let lap = self.end / self.size;
        if lap != self.lap {
            (self.lap, self.waited) = (lap, Duration::ZERO);
        }
        let left = PER_LAP.saturating_sub(self.waited).min(STILL);
        if left.is_zero() {
            self.give_up();
            return None;
        }
        Some(left)
    }

    fn give_up(&mut self) {
        let (end, far) = (self.end, self.size / BEHIND);
        for place in self.readers.values_mut().filter(|place| place.at + far < end) {
            place.lost = true;
        }
    }

    /// What there is from an offset on.
    fn find(&self, at: u64) -> Found {
        if at >= self.end {
            return match self.exit {
                Some(_) => {
                    let (pieces, exit_code) = (Vec::new(), self.exit);
                    Found::Output(Output { pieces, from: at, next: at, exit_code })
                }
                None => Found::Nothing,
            };
        }
        match self.window.iter().find(|output| output.next > at) {
            Some(output) if output.from <= at => Found::Output(behind(output, at)),
            // Something before it was never told to us.
            Some(output) if self.window.front().is_some_and(|first| first.from < output.from) => {
                Found::Output(output.clone())
            }
            _ => Found::Behind(self.end - at),
        }
    }
}

/// The part of output from an offset in it on.
fn behind(output: &Output, at: u64) -> Output {
    let mut skip = usize::try_from(at - output.from).unwrap_or(usize::MAX);
    let mut pieces = Vec::with_capacity(output.pieces.len());
    for piece in &output.pieces {
        let before = skip.min(piece.bytes.len());
        skip -= before;
        let mut bytes: Bytes = piece.bytes.clone();
        bytes.advance(before);
        if !bytes.is_empty() {
            pieces.push(Piece { stream: piece.stream, bytes });
        }
    }
    Output { pieces, from: at, next: output.next, exit_code: output.exit_code }
}

impl Seat {
    /// What there is from an offset on; the failure of the feed where it has one.
    pub(super) fn find(&mut self, at: u64) -> Result<Found> {
        self.news.mark_unchanged();
        let state = self.hub.lock();
        match (state.find(at), &state.failure) {
            (Found::Nothing, Some(failure)) => {
                let Failure { kind, code, message } = failure.clone();
                let error = Error::new(kind, message);
                Err(match code {
                    Some(code) => error.with_code(code),
                    None => error,
                })
            }
            (found, _) => Ok(found),
        }
    }

    /// Waits for something new since the last look. Cancel-safe.
    pub(super) async fn news(&mut self) {
        // Its sender stands in the hub, which we hold.
        let _ = self.news.changed().await;
    }

    /// The reader has come to an offset.
    pub(super) fn moved(&self, at: u64) {
        let mut state = self.hub.lock();
        let caught_up = at >= state.window.front().map_or(state.end, |first| first.from);
        if let Some(place) = state.readers.get_mut(&self.id) {
            place.at = at;
            place.lost &= !caught_up;
        }
        drop(state);
        self.hub.progress.notify_waiters();
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.hub.lock().readers.remove(&self.id);
        self.hub.progress.notify_waiters();
    }
}

/// Carries output from process 1 to a hub until it ends, fails, or nobody has a seat any more.
async fn feed(
    hub: Weak<Hub>,
    mut gone: watch::Receiver<()>,
    host: Arc<Host>,
    which: Which,
    from: u64,
) {
    let work = async {
        let mut reader = Reader::begin(host, which, from, false).await?;
        loop {
            // The wait for readers holds the hub, and is bounded.
            let Some(here) = hub.upgrade() else { return Ok(()) };
            here.wait_for_readers().await;
            let holds = here.lock().held > 0;
            drop(here);
            let output = if holds {
                if let Ok(output) = timeout(IDLE, reader.next(PIECE)).await {
                    output?
                } else {
                    if let Some(hub) = hub.upgrade() {
                        hub.clear();
                    }
                    continue;
                }
            } else {
                reader.next(PIECE).await?
            };
            let Some(hub) = hub.upgrade() else { return Ok(()) };
            let is_over = output.exit_code.is_some();
            hub.push(output);
            if is_over {
                return Ok(());
            }
        }
    };
    let outcome: Result<()> = tokio::select! {
        outcome = work => outcome,
        // Only its end can be told.
        _ = gone.changed() => return,
    };
    if let (Err(error), Some(hub)) = (outcome, hub.upgrade()) {
        hub.fail(&error);
    }
}

#[cfg(test)]
mod tests {
    use mayfly_core::process::Stream;

    use super::*;

    const SIZE: u64 = 1 << 20;

    fn output(from: u64, bytes: &[u8]) -> Output {
        let piece = Piece { stream: Stream::Output, bytes: Bytes::copy_from_slice(bytes) };
        Output { pieces: vec![piece], from, next: from + bytes.len() as u64, exit_code: None }
    }

    fn text(found: Result<Found>) -> (u64, String) {
        let Found::Output(output) = found.unwrap() else { panic!("no output") };
        let text = output.pieces.iter().map(|piece| String::from_utf8_lossy(&piece.bytes));
        (output.from, text.collect())
    }

    #[tokio::test]
    async fn readers_find_what_comes_from_their_offset_on() {
        let (hub, _gone) = Hub::new((0, SIZE));
        let mut seat = Arc::clone(&hub).seat(0);
        assert!(matches!(seat.find(0), Ok(Found::Nothing)));
        hub.push(output(0, b"abc"));
        hub.push(output(3, b"def"));
        hub.push(output(10, b"k"));
        seat.news().await;
        assert_eq!(text(seat.find(0)), (0, "abc".to_owned()));
        assert_eq!(text(seat.find(1)), (1, "bc".to_owned()), "it had a part of it");
        assert_eq!(text(seat.find(3)), (3, "def".to_owned()));
        assert_eq!(text(seat.find(6)), (10, "k".to_owned()), "behind a gap");
        assert!(matches!(seat.find(11), Ok(Found::Nothing)));
        hub.clear();
        assert!(matches!(seat.find(3), Ok(Found::Behind(8))), "the file has it");
        hub.push(Output { pieces: Vec::new(), from: 11, next: 11, exit_code: Some(4) });
        for _ in 0..2 {
            let Found::Output(end) = seat.find(11).unwrap() else { panic!("no end") };
            assert_eq!((end.exit_code, end.next), (Some(4), 11));
        }
        assert!(!hub.lives(), "whoever comes now finds its end in the file");
    }

    #[tokio::test]
    async fn memory_is_bounded_whatever_readers_do() {
        let (hub, _gone) = Hub::new((0, SIZE));
        let _slow = Arc::clone(&hub).seat(0);
        let piece = vec![7; 60 << 10];
        for number in 0..100 {
            hub.push(output(number * piece.len() as u64, &piece));
        }
        let held: usize = hub.lock().window.iter().map(length).sum();
        assert_eq!(held, hub.lock().held);
        assert!(held <= WINDOW, "{held}");
        for number in 0..1000 {
            hub.push(output(6_144_000 + number, b"x"));
        }
        assert!(hub.lock().window.len() <= WINDOW_PIECES);
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_takes_nothing_is_waited_for_once_and_one_that_catches_up_again() {
        let (hub, _gone) = Hub::new((0, SIZE));
        let (slow, fast) = (Arc::clone(&hub).seat(0), Arc::clone(&hub).seat(0));
        let waits = async || {
            let began = Instant::now();
            hub.wait_for_readers().await;
            began.elapsed()
        };
        hub.push(output(0, &vec![7; 100 << 10]));
        assert_eq!(waits().await, Duration::ZERO, "nobody is far behind");
        hub.push(output(100 << 10, &vec![7; 100 << 10]));
        fast.moved(200 << 10);
        assert_eq!(waits().await, STILL);
        hub.push(output(200 << 10, b"more"));
        fast.moved((200 << 10) + 4);
        assert_eq!(waits().await, Duration::ZERO, "it is lost");
        slow.moved((200 << 10) + 4);
        hub.push(output((200 << 10) + 4, &vec![7; 200 << 10]));
        fast.moved((400 << 10) + 4);
        assert_eq!(waits().await, STILL, "it had caught up");
        drop(slow);
        hub.push(output((400 << 10) + 4, &vec![7; 200 << 10]));
        let catching_up = async {
            tokio::time::sleep(Duration::from_millis(5)).await;
            fast.moved((600 << 10) + 4);
        };
        let (waited, ()) = tokio::join!(waits(), catching_up);
        assert!(waited < STILL, "{waited:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn slow_readers_cost_a_bounded_part_of_each_lap() {
        let (hub, _gone) = Hub::new((0, SIZE));
        let slow = Arc::clone(&hub).seat(0);
        let began = Instant::now();
        let piece = vec![7; 200 << 10];
        for number in 0..5 {
            hub.push(output(number * piece.len() as u64, &piece));
            // It takes a little whenever it is nearly given up.
            let dawdling = async {
                for step in 1..20 {
                    tokio::time::sleep(STILL.saturating_sub(Duration::from_millis(1))).await;
                    slow.moved(number * 1000 + step);
                }
            };
            tokio::select! {
                () = hub.wait_for_readers() => {}
                () = dawdling => {}
            }
        }
        assert!(began.elapsed() <= PER_LAP, "{:?}", began.elapsed());
    }
}
