//! What is kept of one process or command, while something may still happen to it.

use super::ring::Ring;
use crate::protocol::MAX_PACKET;

/// Longest that output waits for a follower that reads nothing, milliseconds.
pub(crate) const PATIENCE: u64 = 200;
/// Longest that it waits in all while the ring is written once, milliseconds: a reader may slow a process down
/// to ten rings a second at most.
const PATIENCE_PER_LAP: u64 = 1000;

/// One process or command.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) ring: Ring,
    pub(crate) exit: Option<i32>,
    /// Its process; of a command, the shell's.
    pub(crate) slot: usize,
    /// Its process may still add output although it has ended.
    pub(crate) open: bool,
    /// Clients that follow it.
    pub(crate) followers: Vec<u64>,
    /// Clients that wait for its end.
    pub(crate) mourners: Vec<u64>,
    /// Lap of the ring in which output waited, and for how long.
    lap: (u64, u64),
}

impl Entry {
    pub(crate) fn new(ring: Ring, slot: usize) -> Self {
        Self {
            ring,
            exit: None,
            slot,
            open: false,
            followers: Vec::new(),
            mourners: Vec::new(),
            lap: (0, 0),
        }
    }

    /// Whether nothing can happen to it any more.
    pub(crate) fn is_over(&self) -> bool {
        self.exit.is_some() && !self.open && self.followers.is_empty() && self.mourners.is_empty()
    }

    /// Whether the next piece would come near to what a follower at this offset has not read. A quarter of the
    /// ring is left for last words, which do not wait.
    pub(crate) fn crowds(&self, at: u64) -> bool {
        let head = self.ring.head();
        head.end + MAX_PACKET as u64 > at + head.size - head.size / 4
    }

    /// How long output may still wait in this lap, milliseconds.
    pub(crate) fn patience(&self) -> u64 {
        let (lap, waited) = self.lap;
        let now = self.ring.head().end / self.ring.head().size;
        if lap == now { PATIENCE_PER_LAP.saturating_sub(waited) } else { PATIENCE_PER_LAP }
    }

    /// Notes that output waited.
    pub(crate) fn waited(&mut self, milliseconds: u64) {
        let now = self.ring.head().end / self.ring.head().size;
        let before = if self.lap.0 == now { self.lap.1 } else { 0 };
        self.lap = (now, before + milliseconds);
    }
}
