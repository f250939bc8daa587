//! Pipes through which connections are spliced: held only while bytes are on their way, then used again.

use std::os::fd::OwnedFd;

use crate::sys::{self, Result};

/// Bytes that one direction of a connection holds, at most.
pub(crate) const CAPACITY: usize = 256 * 1024;
/// Empty pipes that are kept for the next connection.
const MAX_SPARE: usize = 64;

/// A pipe: reading end, writing end.
pub(crate) type Pipe = (OwnedFd, OwnedFd);

/// Empty pipes.
#[derive(Debug, Default)]
pub(crate) struct Pipes(Vec<Pipe>);

impl Pipes {
    pub(crate) fn take(&mut self) -> Result<Pipe> {
        self.0.pop().map_or_else(|| sys::pipe(CAPACITY), Ok)
    }

    /// Takes an empty pipe back.
    pub(crate) fn give(&mut self, pipe: Pipe) {
        if self.0.len() < MAX_SPARE {
            self.0.push(pipe);
        }
    }
}
