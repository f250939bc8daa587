//! Frames over a stream socket, with descriptors, within bounds of size and time.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};

/// Most descriptors of one frame.
pub const DESCRIPTORS: usize = 2;
/// Size of a frame's beginning: the length of the rest.
const HEAD: usize = 4;

/// Sends one frame; `TimedOut` when the other end does not read it in time.
pub fn send(
    socket: impl AsFd,
    content: &[u8],
    descriptors: &[BorrowedFd<'_>],
    deadline: Option<Instant>,
) -> io::Result<()> {
    let socket = socket.as_fd();
    let length = u32::try_from(content.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let frame = [&length.to_le_bytes(), content].concat();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut sent = 0;
    while sent < frame.len() {
        wait(socket, PollFlags::OUT, deadline)?;
        let rest = [IoSlice::new(&frame[sent..])];
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        match rustix::net::sendmsg(socket, &rest, &mut ancillary, flags) {
            Err(Errno::INTR | Errno::AGAIN) => {}
            result => {
                sent += result?;
                ancillary.clear();
            }
        }
    }
    Ok(())
}

/// Receives one frame of at most `most` bytes; `None` when the other end is gone.
pub fn receive(
    socket: impl AsFd,
    most: usize,
    deadline: Option<Instant>,
) -> io::Result<Option<(Vec<u8>, Vec<OwnedFd>)>> {
    let socket = socket.as_fd();
    let mut head = [0; HEAD];
    let mut descriptors = Vec::new();
    if !fill(socket, &mut head, &mut descriptors, deadline)? {
        return Ok(None);
    }
    let length = usize::try_from(u32::from_le_bytes(head)).unwrap_or(usize::MAX);
    if length > most {
        return Err(io::Error::other(format!(
            "a frame of {length} bytes; at most {most} are taken"
        )));
    }
    let mut content = vec![0; length];
    if !fill(socket, &mut content, &mut descriptors, deadline)? {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Some((content, descriptors)))
}

/// Fills the buffer; `false` when the other end was gone before its first byte.
fn fill(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
    descriptors: &mut Vec<OwnedFd>,
    deadline: Option<Instant>,
) -> io::Result<bool> {
    let mut filled = 0;
    while filled < buffer.len() {
        wait(socket, PollFlags::IN, deadline)?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut rest = [IoSliceMut::new(&mut buffer[filled..])];
        let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
        let received = match rustix::net::recvmsg(socket, &mut rest, &mut ancillary, flags) {
            Err(Errno::INTR | Errno::AGAIN) => continue,
            Err(Errno::CONNRESET) => 0,
            received => received?.bytes,
        };
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(received) = message {
                descriptors.extend(received);
            }
        }
        match received {
            0 if filled == 0 => return Ok(false),
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            more => filled += more,
        }
    }
    Ok(true)
}

fn wait(socket: BorrowedFd<'_>, what: PollFlags, deadline: Option<Instant>) -> io::Result<()> {
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let timeout = left.map(|left| Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(left.subsec_nanos()),
        });
        let mut polled = [PollFd::from_borrowed_fd(socket, what)];
        match rustix::event::poll(&mut polled, timeout.as_ref()) {
            Err(Errno::INTR) => {}
            Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
            ready => return Ok(ready.map(drop)?),
        }
    }
}
