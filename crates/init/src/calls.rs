//! System calls that take numbers only, so that nothing about them is unsafe, and the types of the others.

use std::os::fd::{AsRawFd, BorrowedFd};

use crate::numbers::{CLOSE_RANGE, DUP3, EXIT_GROUP, KILL, LISTEN, PRCTL, SETNS, UNSHARE};
use crate::sys::{Result, number, plain};

/// Sends a signal; negative ids name groups, -1 everyone.
pub(crate) fn kill(pid: i32, signal: i32) -> Result<()> {
    plain(KILL, [word(pid), word(signal), 0, 0]).map(drop)
}

/// Joins a namespace.
pub(crate) fn join(namespace: BorrowedFd<'_>, kind: u64) -> Result<()> {
    plain(SETNS, [number(namespace), usize::try_from(kind).unwrap_or(0), 0, 0]).map(drop)
}

/// Leaves for new namespaces.
pub(crate) fn unshare(kinds: u64) -> Result<()> {
    plain(UNSHARE, [usize::try_from(kinds).unwrap_or(0), 0, 0, 0]).map(drop)
}

/// A process control option with numbers only.
pub(crate) fn prctl(option: usize, value: usize) -> Result<()> {
    plain(PRCTL, [option, value, 0, 0]).map(drop)
}

/// Closes every descriptor from this number on.
pub(crate) fn close_from(first: u32) -> Result<()> {
    plain(CLOSE_RANGE, [first as usize, u32::MAX as usize, 0, 0]).map(drop)
}

/// Closes every descriptor between these numbers, both included.
pub(crate) fn close_range(first: u32, last: u32) -> Result<()> {
    plain(CLOSE_RANGE, [first as usize, last as usize, 0, 0]).map(drop)
}

/// Copies a descriptor to a fixed number, kept over exec.
pub(crate) fn place(fd: BorrowedFd<'_>, target: i32) -> Result<()> {
    if fd.as_raw_fd() == target {
        return Ok(());
    }
    plain(DUP3, [number(fd), word(target), 0, 0]).map(drop)
}

/// Copies a descriptor, known by number only, to a fixed number, kept over exec.
pub(crate) fn place_number(fd: usize, target: i32) -> Result<()> {
    plain(DUP3, [fd, word(target), 0, 0]).map(drop)
}

/// Lets clients connect; also makes this process the peer that they see.
pub(crate) fn listen(socket: BorrowedFd<'_>) -> Result<()> {
    plain(LISTEN, [number(socket), 128, 0, 0]).map(drop)
}

/// Leaves at once, without running anything more.
pub(crate) fn exit(code: i32) -> ! {
    loop {
        let _ = plain(EXIT_GROUP, [word(code), 0, 0, 0]);
    }
}

/// An `int` argument, its sign carried to the whole register.
pub(crate) fn word(value: i32) -> usize {
    (value as isize).cast_unsigned()
}

/// One event as the kernel writes it.
#[derive(Clone, Copy, Debug, Default)]
#[cfg_attr(target_arch = "x86_64", repr(C, packed))]
#[cfg_attr(not(target_arch = "x86_64"), repr(C))]
pub(crate) struct Event {
    pub(crate) events: u32,
    pub(crate) key: u64,
}

pub(crate) const READABLE: u32 = 1;
pub(crate) const WRITABLE: u32 = 4;

/// How a watch changes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Watch {
    Add = 1,
    Remove = 2,
    Change = 3,
}

/// Which end of a pipe this process keeps.
#[derive(Clone, Copy, Debug)]
pub(crate) enum PipeEnd {
    Read,
    Write,
}
