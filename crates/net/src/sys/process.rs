//! Processes and user namespaces: what an ordinary user's network process needs to get into sandboxes' networks.

use std::os::fd::{BorrowedFd, OwnedFd};

use super::numbers::{CLONE, EXIT_GROUP, GETEUID, IOCTL, SETNS, SOCKETPAIR, UNSHARE, WAIT4};
use super::{
    NEW_NETWORK, NONBLOCK_CLOEXEC, Result, SEQPACKET, UNIX, number, owned, plain, raw, word,
};

const NEW_USER: usize = 0x1000_0000;

/// The effective user of this process.
pub(crate) fn own_user() -> u32 {
    plain(GETEUID, [0; 4]).ok().and_then(|id| u32::try_from(id).ok()).unwrap_or(u32::MAX)
}

/// Whether this process is root.
pub(crate) fn is_root() -> bool {
    own_user() == 0
}

/// The user namespace that a network belongs to; it must be the caller's or one below.
pub(crate) fn owner_of(network: BorrowedFd<'_>) -> Result<OwnedFd> {
    const NS_GET_USERNS: usize = 0xb701;
    plain(IOCTL, [number(network), NS_GET_USERNS, 0, 0]).map(owned)
}

/// Moves this process, which must have one thread, to another user namespace, with all rights in it.
pub(crate) fn join_user(namespace: BorrowedFd<'_>) -> Result<()> {
    plain(SETNS, [number(namespace), NEW_USER, 0, 0]).map(drop)
}

/// Moves this process to a fresh network, within a fresh user namespace where it has no rights otherwise.
pub(crate) fn unshare_for_probe(with_user: bool) -> Result<()> {
    let user = if with_user { NEW_USER } else { 0 };
    plain(UNSHARE, [NEW_NETWORK | user, 0, 0, 0]).map(drop)
}

/// Two connected sockets that keep packets apart and never block.
pub(crate) fn packet_pair() -> Result<(OwnedFd, OwnedFd)> {
    let mut ends: [i32; 2] = [-1, -1];
    let kind = word(SEQPACKET) | NONBLOCK_CLOEXEC;
    // SAFETY: the kernel writes two ints.
    unsafe { raw(SOCKETPAIR, [word(UNIX), kind, 0, ends.as_mut_ptr() as usize, 0, 0]) }?;
    Ok((owned(word(ends[0])), owned(word(ends[1]))))
}

/// Does something in a child that is a copy of this process, which must have one thread, and waits for its end.
/// The child does nothing else; what it made is what it sent.
pub(crate) fn in_child(act: impl FnOnce()) -> Result<()> {
    const ALL_CHILDREN: usize = 0x4000_0000;
    // SAFETY: no flags and no stack: the child has its own copy of all memory, as after `fork`. It tells nobody
    // of its end but who waits for it.
    let child = unsafe { raw(CLONE, [0; 6]) }?;
    if child == 0 {
        act();
        loop {
            let _ = plain(EXIT_GROUP, [0; 4]);
        }
    }
    loop {
        match plain(WAIT4, [child, 0, ALL_CHILDREN, 0]) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            waited => return waited.map(drop),
        }
    }
}
