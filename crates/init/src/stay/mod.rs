//! Processes that stay until they end, are killed, or the sandbox stops, whoever listens.
//!
//! ```text
//! START, QUEUE --> entry (a ring of output in a file) <-- output -- process (pipes, terminal or shell)
//! FOLLOW, READ <-- DATA, from the ring
//! slow follower --> its process's output is not read for a moment; then the follower misses some
//! ```
//! An entry lives here while something may still be added to it or somebody follows it; then only its file is
//! left, which the server reads by itself.

pub(crate) mod ask;
pub(crate) mod entry;
pub(crate) mod follow;
pub(crate) mod process;
pub(crate) mod ring;
pub(crate) mod shell;
pub(crate) mod start;

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::time::Instant;

use crate::protocol::kept::{MAX_KEPT, MAX_KEPT_BYTES};
use crate::sys;
use entry::Entry;
use process::Process;

/// All that stays in this sandbox.
#[derive(Debug)]
pub(crate) struct Stay {
    pub(crate) processes: Vec<Option<Box<Process>>>,
    /// Processes and commands that run, wait or are followed.
    pub(crate) entries: BTreeMap<u64, Entry>,
    /// All others whose file is there, with its size.
    pub(crate) kept: BTreeMap<u64, u64>,
    /// Taken while output is moved; made at first use.
    pub(crate) piece: Vec<u8>,
    pub(crate) begin: Instant,
    /// Processes whose output waits for a follower.
    pub(crate) paused: usize,
}

impl Stay {
    pub(crate) fn new(kept: BTreeMap<u64, u64>) -> Self {
        Self {
            processes: Vec::new(),
            entries: BTreeMap::new(),
            kept,
            piece: Vec::new(),
            begin: Instant::now(),
            paused: 0,
        }
    }

    /// Milliseconds since this sandbox began.
    pub(crate) fn now(&self) -> u64 {
        u64::try_from(self.begin.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// The process of a slot.
    pub(crate) fn process(&mut self, slot: usize) -> Option<&mut Process> {
        self.processes.get_mut(slot)?.as_deref_mut()
    }

    /// Processes and commands that have not ended.
    pub(crate) fn unfinished(&self) -> usize {
        self.entries.values().filter(|entry| entry.exit.is_none()).count()
    }

    /// A slot for one more process.
    pub(crate) fn free_slot(&mut self) -> usize {
        self.processes.iter().position(Option::is_none).unwrap_or_else(|| {
            self.processes.push(None);
            self.processes.len() - 1
        })
    }

    /// Deletes the oldest ended ones while there are too many or too large ones.
    pub(crate) fn shrink(&mut self, logs: &impl AsFd) {
        let mut bytes: u64 = self.kept.values().sum();
        while bytes > MAX_KEPT_BYTES || self.kept.len() + self.entries.len() > MAX_KEPT {
            let Some((oldest, size)) = self.kept.pop_first() else { return };
            bytes -= size;
            let _ = sys::unlink_at(logs.as_fd(), &ring::name(oldest));
        }
    }
}
