//! System calls on packet sockets and on the queue of events.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Result, number, owned, plain, raw, word};
use crate::calls::{Event, Watch};
use crate::numbers::{
    ACCEPT4, EPOLL_CREATE1, EPOLL_CTL, EPOLL_PWAIT, RECVMSG, SENDMSG, SOCKETPAIR,
};
use crate::protocol::MAX_PACKET;

/// A connected pair of packet sockets.
pub(crate) fn socket_pair() -> Result<(OwnedFd, OwnedFd)> {
    const SEQPACKET_CLOEXEC: usize = 5 | 0o2_000_000;
    let mut ends: [i32; 2] = [-1, -1];
    // SAFETY: the kernel writes two ints.
    unsafe { raw(SOCKETPAIR, [1, SEQPACKET_CLOEXEC, 0, ends.as_mut_ptr() as usize, 0, 0]) }?;
    Ok((owned(word(ends[0])), owned(word(ends[1]))))
}

/// The next client.
pub(crate) fn accept(listener: BorrowedFd<'_>) -> Result<OwnedFd> {
    const NONBLOCK_CLOEXEC: usize = 0o2_004_000;
    plain(ACCEPT4, [number(listener), 0, 0, NONBLOCK_CLOEXEC]).map(owned)
}

#[repr(C)]
struct MessageHeader {
    name: usize,
    name_length: u32,
    vectors: usize,
    vector_count: usize,
    control: usize,
    control_length: usize,
    flags: u32,
}

const MSG_NOSIGNAL: usize = 0x4000;
const MSG_CMSG_CLOEXEC: usize = 0x4000_0000;
const MSG_TRUNCATED: u32 = 0x20 | 0x8;
/// Descriptors in one message, at most.
const MAX_DESCRIPTORS: usize = 4;
const CONTROL_HEAD: usize = 16;

/// Sends one packet made of several parts, with descriptors.
pub(crate) fn send(
    socket: BorrowedFd<'_>,
    parts: &[&[u8]],
    descriptors: &[BorrowedFd<'_>],
) -> Result<()> {
    let vectors: Vec<[usize; 2]> =
        parts.iter().map(|part| [part.as_ptr() as usize, part.len()]).collect();
    let count = descriptors.len().min(MAX_DESCRIPTORS);
    let mut control = [0_u64; 4];
    control[0] = (CONTROL_HEAD + 4 * count) as u64;
    control[1] = 1 | (1 << 32); // SOL_SOCKET, SCM_RIGHTS
    for (index, descriptor) in descriptors.iter().take(count).enumerate() {
        let value = u64::from(descriptor.as_raw_fd().cast_unsigned());
        control[2 + index / 2] |= value << (32 * (index % 2));
    }
    let header = MessageHeader {
        name: 0,
        name_length: 0,
        vectors: vectors.as_ptr() as usize,
        vector_count: vectors.len(),
        control: if count == 0 { 0 } else { control.as_ptr() as usize },
        control_length: if count == 0 { 0 } else { (CONTROL_HEAD + 4 * count).next_multiple_of(8) },
        flags: 0,
    };
    let pointer = std::ptr::from_ref(&header) as usize;
    // SAFETY: header, vectors, parts and control live through the call and are only read.
    unsafe { raw(SENDMSG, [number(socket), pointer, MSG_NOSIGNAL, 0, 0, 0]) }.map(drop)
}

/// Receives one packet with its descriptors; zero bytes = the other end is gone. A cut packet is an error.
pub(crate) fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<(usize, Vec<OwnedFd>)> {
    let vectors: [[usize; 2]; 1] = [[buffer.as_mut_ptr() as usize, buffer.len()]];
    let mut control = [0_u64; 4];
    let mut header = MessageHeader {
        name: 0,
        name_length: 0,
        vectors: vectors.as_ptr() as usize,
        vector_count: 1,
        control: control.as_mut_ptr() as usize,
        control_length: size_of_val(&control),
        flags: 0,
    };
    let pointer = std::ptr::from_mut(&mut header) as usize;
    // SAFETY: the kernel writes at most the buffer's length, the control length and the header.
    let length = unsafe { raw(RECVMSG, [number(socket), pointer, MSG_CMSG_CLOEXEC, 0, 0, 0]) }?;
    let mut descriptors = Vec::new();
    if header.control_length > CONTROL_HEAD && control[1] == 1 | (1 << 32) {
        let bytes = usize::try_from(control[0]).unwrap_or(0).saturating_sub(CONTROL_HEAD);
        for index in 0..(bytes / 4).min(MAX_DESCRIPTORS) {
            let value = (control[2 + index / 2] >> (32 * (index % 2))) & 0xffff_ffff;
            descriptors.push(owned(usize::try_from(value).unwrap_or(usize::MAX)));
        }
    }
    if header.flags & MSG_TRUNCATED != 0 {
        return Err(io::Error::from(io::ErrorKind::InvalidData));
    }
    Ok((length, descriptors))
}

/// What process 1 receives packets into, and the stack that its children begin on. Pages of them take memory
/// only once they are used, which those of the heap do not promise.
pub(crate) struct Room {
    pub(crate) packet: &'static mut [u8],
    pub(crate) stack: &'static mut [u128],
}

/// The one room of this process; empty when it was taken before.
pub(crate) fn room() -> Room {
    /// Stack of a child until it becomes its program, in units of 16 bytes.
    const STACK: usize = 4096;
    static TAKEN: AtomicBool = AtomicBool::new(false);
    static mut PACKET: [u8; MAX_PACKET] = [0; MAX_PACKET];
    static mut CHILD: [u128; STACK] = [0; STACK];
    if TAKEN.swap(true, Ordering::Relaxed) {
        return Room { packet: &mut [], stack: &mut [] };
    }
    let (packet, stack) = (&raw mut PACKET, &raw mut CHILD);
    // SAFETY: nobody else has it, now or later: it is given out once.
    let packet = unsafe { &mut *packet };
    // SAFETY: as above.
    let stack = unsafe { &mut *stack };
    Room { packet, stack }
}

/// An event queue.
pub(crate) fn event_queue() -> Result<OwnedFd> {
    const CLOEXEC: usize = 0o2_000_000;
    plain(EPOLL_CREATE1, [CLOEXEC, 0, 0, 0]).map(owned)
}

/// Begins, changes (`events` as given) or, with zero events, keeps silent a watch on a descriptor.
pub(crate) fn watch(
    queue: BorrowedFd<'_>,
    fd: BorrowedFd<'_>,
    change: Watch,
    events: u32,
    key: u64,
) -> Result<()> {
    let event = Event { events, key };
    let pointer = std::ptr::from_ref(&event) as usize;
    // SAFETY: the kernel reads one event.
    unsafe { raw(EPOLL_CTL, [number(queue), change as usize, number(fd), pointer, 0, 0]) }.map(drop)
}

/// Waits for events; `timeout` in milliseconds, -1 = for ever.
pub(crate) fn wait<'a>(
    queue: BorrowedFd<'_>,
    events: &'a mut [Event],
    timeout: i32,
) -> Result<&'a [Event]> {
    let pointer = events.as_mut_ptr() as usize;
    let timeout = word(timeout);
    // SAFETY: the kernel writes at most as many events as the slice holds; no signal mask is given.
    let count = unsafe { raw(EPOLL_PWAIT, [number(queue), pointer, events.len(), timeout, 0, 8]) }?;
    Ok(&events[..count])
}
