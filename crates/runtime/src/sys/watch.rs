//! Descriptors that async code waits on.

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Registers a descriptor with the async runtime.
pub(crate) fn watch(fd: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` always names the same open file until it is dropped, which the `AsyncFd` that
    // owns it does only after it has taken it out of the queue.
    Ok(unsafe { AsyncFd::register_with_interest(fd, interest) }?)
}
