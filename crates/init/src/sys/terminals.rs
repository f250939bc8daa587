//! System calls on terminals, and what a pipe holds.

use std::fs::File;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use super::{Result, number, owned, plain, raw};
use crate::numbers::{FCNTL, IOCTL, SPLICE};

const TIOCSCTTY: usize = 0x540e;
const TIOCGPGRP: usize = 0x540f;
const TIOCSWINSZ: usize = 0x5414;
const TIOCSPTLCK: usize = 0x4004_5431;
const TIOCGPTPEER: usize = 0x5441;
const READ_WRITE_NOCTTY_CLOEXEC: usize = 0o2_000_402;

/// A new terminal: our end, not blocking, and that of its program.
pub(crate) fn terminal() -> Result<(OwnedFd, OwnedFd)> {
    use std::os::unix::fs::OpenOptionsExt;
    const NOCTTY_NONBLOCK: i32 = 0o4_400;
    let ours: OwnedFd = File::options()
        .read(true)
        .write(true)
        .custom_flags(NOCTTY_NONBLOCK)
        .open("/dev/pts/ptmx")?
        .into();
    let unlocked: i32 = 0;
    let pointer = std::ptr::from_ref(&unlocked) as usize;
    // SAFETY: the kernel reads one int.
    unsafe { raw(IOCTL, [number(ours.as_fd()), TIOCSPTLCK, pointer, 0, 0, 0]) }?;
    let theirs = plain(IOCTL, [number(ours.as_fd()), TIOCGPTPEER, READ_WRITE_NOCTTY_CLOEXEC, 0])
        .map(owned)?;
    Ok((ours, theirs))
}

/// Changes the size of a terminal; its foreground group is told.
pub(crate) fn set_window(terminal: BorrowedFd<'_>, (columns, rows): (u16, u16)) -> Result<()> {
    let size: [u16; 4] = [rows, columns, 0, 0];
    // SAFETY: the kernel reads four shorts.
    unsafe { raw(IOCTL, [number(terminal), TIOCSWINSZ, size.as_ptr() as usize, 0, 0, 0]) }.map(drop)
}

/// The process group in the foreground of a terminal.
pub(crate) fn foreground(terminal: BorrowedFd<'_>) -> Result<i32> {
    let mut group: i32 = 0;
    let pointer = std::ptr::from_mut(&mut group) as usize;
    // SAFETY: the kernel writes one int.
    unsafe { raw(IOCTL, [number(terminal), TIOCGPGRP, pointer, 0, 0, 0]) }?;
    Ok(group)
}

/// Makes a terminal the controlling one of this session.
pub(crate) fn take_terminal(terminal: BorrowedFd<'_>) -> Result<()> {
    plain(IOCTL, [number(terminal), TIOCSCTTY, 0, 0]).map(drop)
}

/// A copy of a descriptor at or above a number.
pub(crate) fn copy_above(fd: BorrowedFd<'_>, lowest: i32) -> Result<usize> {
    const F_DUPFD: usize = 0;
    plain(FCNTL, [number(fd), F_DUPFD, usize::try_from(lowest).unwrap_or(0), 0])
}

/// Moves what a pipe holds to the null device, at most `most` bytes, without waiting.
pub(crate) fn swallow(pipe: BorrowedFd<'_>, null: BorrowedFd<'_>, most: usize) -> Result<usize> {
    const SPLICE_F_NONBLOCK: usize = 2;
    // SAFETY: both offsets are null, so the kernel reads and writes no memory of ours.
    unsafe { raw(SPLICE, [number(pipe), 0, number(null), 0, most, SPLICE_F_NONBLOCK]) }
}
