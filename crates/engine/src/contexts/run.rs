//! One call of an interpreter, from its begin to its end.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mayfly_core::ports::processes::Follower;
use mayfly_core::process::{Output, Stream};
use mayfly_core::{Error, Kind, Result};
use tokio::sync::OwnedMutexGuard;
use tokio::time::{Instant, timeout_at};

use super::scan::{Scan, Text};
use super::{CodeRequest, Place, within};
use crate::fields::{first, join, split};
use crate::reach::{Busy, Reach};

/// Bytes of output read at once.
const PIECE: usize = 64 << 10;
/// From the interrupt to the kill.
const GRACE: Duration = Duration::from_secs(5);
/// Longest time until the driver takes up a call that is its turn.
const TAKE_UP: Duration = Duration::from_secs(10);
/// Most bytes of what the driver says about an error.
const MOST_SAID: usize = 1 << 20;
/// The interrupt signal.
const INTERRUPT: i32 = 2;

/// What happens in a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CodeEvent {
    /// The program printed.
    Output(Stream, String),
    /// The program ended by an exception; `Done` follows.
    Raised {
        /// Its class.
        name: String,
        /// Its text.
        value: String,
        /// As Python prints it, frames of the program only.
        traceback: String,
    },
    /// It is over; the last event.
    Done,
    /// Its time was over and it was stopped; the last event.
    TimedOut,
}

/// A call that runs.
///
/// It holds its context until it ends: poll [`CodeRun::next`] to its last event, or end it by [`CodeRun::leave`].
#[derive(Debug)]
pub struct CodeRun {
    reach: Reach,
    place: OwnedMutexGuard<Place>,
    follower: Box<dyn Follower>,
    streams: [(Scan, Text); 2],
    deadline: Instant,
    /// Until when the driver is to take the call up.
    take_up: Instant,
    /// Whether what it does instead was interrupted.
    cleared: bool,
    events: VecDeque<CodeEvent>,
    over: bool,
    _busy: Busy,
}

/// Hands the call to the context's driver.
pub(super) async fn begin(
    reach: &Reach,
    place: OwnedMutexGuard<Place>,
    request: CodeRequest,
    deadline: Instant,
) -> Result<CodeRun> {
    let mut random = [0; 16];
    reach.house.entropy.fill(&mut random);
    let mark =
        random.iter().fold("\u{2}mayfly-".to_owned(), |mark, byte| format!("{mark}{byte:02x}"));
    let envs = request.envs.iter().flat_map(|(name, value)| [name.as_str(), value]);
    let call = join([mark.as_str(), &request.code].into_iter().chain(envs));
    let call = format!("{}\n{call}", call.len());
    let port = reach.house.runtime.processes();
    let follower = port.follow(reach.id(), place.number, place.offset).await?;
    let busy = reach.busy();
    port.write(reach.id(), place.number, Bytes::from(call)).await?;
    let stream = || (Scan::new(&mark), Text::default());
    Ok(CodeRun {
        reach: reach.clone(),
        place,
        follower,
        streams: [stream(), stream()],
        deadline,
        take_up: within(TAKE_UP),
        cleared: false,
        events: VecDeque::new(),
        over: false,
        _busy: busy,
    })
}

impl CodeRun {
    /// The next event; after the last one, the last kind again. Cancel-safe.
    pub async fn next(&mut self) -> Result<CodeEvent> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(event);
            }
            if self.over {
                return Ok(CodeEvent::Done);
            }
            let begun = self.streams.iter().any(|(scan, _)| scan.has_begun());
            let until = if begun { self.deadline } else { self.deadline.min(self.take_up) };
            match timeout_at(until, self.follower.next(PIECE)).await {
                Ok(output) => {
                    let output = output?;
                    self.take(output);
                }
                Err(_) if until == self.deadline => {
                    self.stop().await?;
                    return Ok(CodeEvent::TimedOut);
                }
                Err(_) => self.clear_the_way().await?,
            }
        }
    }

    /// Stops the call because nobody waits for it any more.
    pub async fn leave(mut self) {
        if let Err(error) = self.stop().await {
            tracing::debug!(sandbox = %self.reach.id(), %error, "a call was not stopped");
        }
    }

    /// Ends what an earlier server left running in the context, so that the call's turn comes.
    async fn clear_the_way(&mut self) -> Result<()> {
        let (sandbox, number) = (self.reach.id(), self.place.number);
        let port = self.reach.house.runtime.processes();
        if !self.cleared {
            self.cleared = true;
            self.take_up = within(GRACE);
            return port.signal(sandbox, number, INTERRUPT).await;
        }
        self.over = true;
        port.kill(sandbox, number).await?;
        let message = "the interpreter did not take the call up and was ended";
        Err(Error::new(Kind::Unavailable, message).with_hint("try again"))
    }

    /// Interrupts the call, and kills the interpreter when that does not end it.
    async fn stop(&mut self) -> Result<()> {
        if self.over {
            return Ok(());
        }
        let (sandbox, number) = (self.reach.id(), self.place.number);
        let house = Arc::clone(&self.reach.house);
        let port = house.runtime.processes();
        port.signal(sandbox, number, INTERRUPT).await?;
        let grace = within(GRACE);
        while !self.over {
            if let Ok(output) = timeout_at(grace, self.follower.next(PIECE)).await {
                let output = output?;
                self.take(output);
            } else {
                port.kill(sandbox, number).await?;
                self.over = true;
            }
            self.events.clear();
        }
        Ok(())
    }

    /// Sorts output into events.
    fn take(&mut self, output: Output) {
        if output.from > self.place.offset && self.streams[0].0.has_begun() {
            let lost = format!(
                "\n[{} bytes of output are no longer kept]\n",
                output.from - self.place.offset
            );
            self.events.push_back(CodeEvent::Output(Stream::Output, lost));
        }
        for piece in output.pieces {
            let index = usize::from(piece.stream == Stream::Error);
            let (scan, text) = &mut self.streams[index];
            let bytes = scan.feed(&piece.bytes);
            let mut words = text.feed(&bytes);
            if scan.is_over() {
                words.push_str(&text.finish());
            }
            if !words.is_empty() {
                self.events.push_back(CodeEvent::Output(piece.stream, words));
            }
        }
        self.place.offset = output.next;
        if let Some(code) = output.exit_code {
            self.ended(code);
        } else if self.streams.iter().all(|(scan, _)| scan.is_over()) {
            self.said();
        }
    }

    /// The interpreter itself is over.
    fn ended(&mut self, code: i32) {
        for (stream, (_, text)) in [Stream::Output, Stream::Error].iter().zip(&mut self.streams) {
            let words = text.finish();
            if !words.is_empty() {
                self.events.push_back(CodeEvent::Output(*stream, words));
            }
        }
        self.events.push_back(CodeEvent::Raised {
            name: "InterpreterExited".to_owned(),
            value: format!(
                "the interpreter ended with exit code {code}; the state of its context is lost"
            ),
            traceback: String::new(),
        });
        self.events.push_back(CodeEvent::Done);
        self.over = true;
    }

    /// Reads what the driver says at the end, once it is complete.
    fn said(&mut self) {
        let rest = self.streams[0].0.rest();
        let Some((said, _)) = first(rest) else {
            if rest.len() > MOST_SAID {
                self.finish(None);
            }
            return;
        };
        // What cannot be read is the program's doing: it took over its driver.
        let said = split(said).and_then(|said| <[String; 3]>::try_from(said).ok());
        self.finish(said);
    }

    fn finish(&mut self, said: Option<[String; 3]>) {
        if let Some([name, value, traceback]) = said {
            self.events.push_back(CodeEvent::Raised { name, value, traceback });
        }
        self.events.push_back(CodeEvent::Done);
        self.over = true;
    }
}
