//! The two ways of one open connection: splice, half-close, back-pressure, and the guard on the way up.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::first_bytes::{ANSWER, Decision, Guard, MAX_HELD};
use crate::pipes::{CAPACITY, Pipe, Pipes};
use crate::sys::{self, Result};

/// Pipes full that one way moves before others have their turn.
const ROUNDS: usize = 8;

/// How a turn ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// All that could be moved has been.
    Waiting,
    /// There is more.
    More,
    /// Both ways have ended.
    Ended,
    /// One side is gone.
    Broken,
    /// The bytes do not prove the name.
    Refused,
}

/// One way.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "four facts that change independently")]
struct Way {
    pipe: Option<Pipe>,
    filled: usize,
    moved: u64,
    /// Of `moved`, what has not been taken to the counters.
    fresh: u64,
    /// The source may have bytes; the sink may take some.
    can_read: bool,
    can_write: bool,
    has_ended: bool,
    is_shut: bool,
}

/// Both ways.
#[derive(Debug)]
pub(crate) struct Pump {
    pub(crate) inside: OwnedFd,
    pub(crate) outside: Option<OwnedFd>,
    up: Way,
    down: Way,
    guard: Option<Guard>,
    /// Bytes on the way up that were read; the first `passed` of them may go.
    held: Vec<u8>,
    passed: usize,
}

impl Way {
    const fn new() -> Self {
        Self {
            pipe: None,
            filled: 0,
            moved: 0,
            fresh: 0,
            can_read: true,
            can_write: true,
            has_ended: false,
            is_shut: false,
        }
    }

    fn count(&mut self, bytes: usize) {
        self.moved += bytes as u64;
        self.fresh += bytes as u64;
    }

    /// Splices until one side has to wait. A pipe is filled only when it is empty, so that a source that
    /// would block has nothing, rather than the pipe no room.
    fn splice(
        &mut self,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        pipes: &mut Pipes,
    ) -> Result<bool> {
        for _ in 0..ROUNDS {
            if self.filled == 0 && self.can_read && !self.has_ended {
                let pipe = match self.pipe.take() {
                    Some(pipe) => pipe,
                    None => pipes.take()?,
                };
                let taken = sys::splice(from, pipe.1.as_fd(), CAPACITY);
                self.pipe = Some(pipe);
                match none_when_blocked(taken)? {
                    None => self.can_read = false,
                    Some(0) => self.has_ended = true,
                    Some(count) => self.filled = count,
                }
            }
            if self.filled > 0
                && self.can_write
                && let Some(pipe) = &self.pipe
            {
                match none_when_blocked(sys::splice(pipe.0.as_fd(), to, self.filled))? {
                    None => self.can_write = false,
                    Some(count) => {
                        self.filled -= count;
                        self.count(count);
                    }
                }
            }
            let is_stuck = if self.filled > 0 { !self.can_write } else { !self.can_read };
            if is_stuck || (self.has_ended && self.filled == 0) {
                self.settle(to, pipes)?;
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Gives an empty pipe back and passes the end of the source on.
    fn settle(&mut self, to: BorrowedFd<'_>, pipes: &mut Pipes) -> Result<()> {
        if self.filled > 0 {
            return Ok(());
        }
        if let Some(pipe) = self.pipe.take() {
            pipes.give(pipe);
        }
        if self.has_ended && !self.is_shut {
            sys::shutdown_write(to)?;
            self.is_shut = true;
        }
        Ok(())
    }
}

fn none_when_blocked(result: Result<usize>) -> Result<Option<usize>> {
    match result {
        Err(error) if error.raw_os_error() == Some(sys::AGAIN) => Ok(None),
        result => result.map(Some),
    }
}

impl Pump {
    pub(crate) fn new(inside: OwnedFd, guard: Option<Guard>) -> Self {
        let (up, down) = (Way::new(), Way::new());
        Self { inside, outside: None, up, down, guard, held: Vec::new(), passed: 0 }
    }

    pub(crate) fn inside_event(&mut self, events: u32) {
        let failed = events & sys::FAILED != 0;
        self.up.can_read |= failed || events & (sys::READABLE | sys::PEER_CLOSED) != 0;
        self.down.can_write |= failed || events & sys::WRITABLE != 0;
    }

    pub(crate) fn outside_event(&mut self, events: u32) {
        let failed = events & sys::FAILED != 0;
        self.down.can_read |= failed || events & (sys::READABLE | sys::PEER_CLOSED) != 0;
        self.up.can_write |= failed || events & sys::WRITABLE != 0;
    }

    /// Moves what can be moved in one turn.
    pub(crate) fn run(&mut self, pipes: &mut Pipes) -> Turn {
        let moved = self.hear_answer().and_then(|()| {
            let Some(up) = self.run_up(pipes)? else { return Ok(Turn::Refused) };
            let down = self.run_down(pipes)?;
            Ok(match (up || down, self.up.is_shut && self.down.is_shut) {
                (_, true) => Turn::Ended,
                (true, false) => Turn::More,
                (false, false) => Turn::Waiting,
            })
        });
        moved.unwrap_or(Turn::Broken)
    }

    /// Bytes moved up and down since the last call.
    pub(crate) fn take_counts(&mut self) -> (u64, u64) {
        (std::mem::take(&mut self.up.fresh), std::mem::take(&mut self.down.fresh))
    }

    /// Bytes moved up and down in all.
    pub(crate) fn totals(&self) -> (u64, u64) {
        (self.up.moved, self.down.moved)
    }

    /// Ends both ways: the sockets, to be closed.
    pub(crate) fn finish(self, pipes: &mut Pipes) -> (OwnedFd, Option<OwnedFd>) {
        for way in [self.up, self.down] {
            if let (0, Some(pipe)) = (way.filled, way.pipe) {
                pipes.give(pipe);
            }
        }
        (self.inside, self.outside)
    }

    /// Looks at the answer's first bytes where the way up waits for them; they stay to be moved.
    fn hear_answer(&mut self) -> Result<()> {
        let (Some(guard), Some(outside)) = (&mut self.guard, &self.outside) else { return Ok(()) };
        if !guard.awaits_answer() {
            return Ok(());
        }
        let mut first = [0_u8; ANSWER];
        match none_when_blocked(sys::peek(outside.as_fd(), &mut first))? {
            Some(count) if count == ANSWER || count == 0 => guard.answered(&first[..count]),
            _ => self.down.can_read = false,
        }
        Ok(())
    }

    fn awaits_answer(&self) -> bool {
        self.guard.as_ref().is_some_and(Guard::awaits_answer)
    }

    fn run_down(&mut self, pipes: &mut Pipes) -> Result<bool> {
        match &self.outside {
            Some(outside) if !self.awaits_answer() => {
                self.down.splice(outside.as_fd(), self.inside.as_fd(), pipes)
            }
            _ => Ok(false),
        }
    }

    /// The way up; nothing when its bytes are refused, else whether there is more.
    fn run_up(&mut self, pipes: &mut Pipes) -> Result<Option<bool>> {
        for _ in 0..ROUNDS {
            let Some(outside) = &self.outside else { return Ok(Some(false)) };
            if self.guard.is_none() && self.held.is_empty() {
                return self.up.splice(self.inside.as_fd(), outside.as_fd(), pipes).map(Some);
            }
            let has_read = self.read_held()?;
            if !self.judge_held() {
                return Ok(None);
            }
            let has_written = self.write_held()?;
            if self.up.has_ended && self.held.is_empty() {
                let Some(outside) = &self.outside else { return Ok(Some(false)) };
                self.up.settle(outside.as_fd(), pipes)?;
                return Ok(Some(false));
            }
            if !has_read && !has_written {
                return Ok(Some(false));
            }
        }
        Ok(Some(true))
    }

    fn read_held(&mut self) -> Result<bool> {
        let room = MAX_HELD.saturating_sub(self.held.len());
        if !self.up.can_read || self.up.has_ended || room == 0 {
            return Ok(false);
        }
        let mut buffer = [0_u8; 16 * 1024];
        let length = room.min(buffer.len());
        match none_when_blocked(sys::receive(self.inside.as_fd(), &mut buffer[..length]))? {
            None => self.up.can_read = false,
            Some(0) => self.up.has_ended = true,
            Some(count) => self.held.extend_from_slice(&buffer[..count]),
        }
        Ok(self.up.can_read)
    }

    /// Judges what is held; false = refused.
    fn judge_held(&mut self) -> bool {
        while let Some(guard) = &mut self.guard {
            match guard.judge(&self.held[self.passed..]) {
                Decision::Forward(count) => self.passed += count,
                Decision::Free => self.guard = None,
                Decision::Refuse => return false,
                Decision::Wait => break,
            }
        }
        if self.guard.is_none() {
            self.passed = self.held.len();
        }
        let waiting = self.held.len() - self.passed;
        let is_final = waiting >= MAX_HELD || (self.up.has_ended && waiting > 0);
        self.awaits_answer() || !is_final
    }

    fn write_held(&mut self) -> Result<bool> {
        let Some(outside) = &self.outside else { return Ok(false) };
        if self.passed == 0 || !self.up.can_write {
            return Ok(false);
        }
        match none_when_blocked(sys::send(outside.as_fd(), &self.held[..self.passed]))? {
            None => self.up.can_write = false,
            Some(count) => {
                self.held.drain(..count);
                self.passed -= count;
                self.up.count(count);
            }
        }
        Ok(self.up.can_write)
    }
}
