//! Connections to process 1 of a sandbox: packets over its unix socket.
//!
//! Init lives beside hostile code, so what it sends is bounded and checked, and no descriptor is taken
//! from it.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use mayfly_core::id::SandboxId;
use mayfly_core::{Error, Kind, Result};
use mayfly_init::protocol::{MAX_PACKET, Reader, Stage, VERSION, Writer, init};
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// The folder of sockets, one per running sandbox.
#[derive(Debug)]
pub(super) struct Sockets {
    folder: OwnedFd,
}

impl Sockets {
    /// Opens the folder; it must be closed to other users.
    pub(super) fn open(path: &std::path::Path) -> Result<Self> {
        let folder = rustix::fs::open(
            path,
            OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .map_err(|error| {
            Error::internal("the folder of sockets could not be opened", io::Error::from(error))
        })?;
        Ok(Self { folder })
    }

    /// Short whatever the data directory is called: socket addresses hold 107 bytes.
    fn address(&self, id: SandboxId) -> rustix::io::Result<SocketAddrUnix> {
        SocketAddrUnix::new(PathBuf::from(format!(
            "/proc/self/fd/{}/{id}",
            self.folder.as_raw_fd()
        )))
    }

    /// A bound socket for process 1 to listen on; an old one of that name is replaced.
    pub(super) fn bind(&self, id: SandboxId) -> Result<OwnedFd> {
        self.remove(id);
        let bind = || {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let socket =
                rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
            rustix::net::bind(&socket, &self.address(id)?)?;
            Ok(socket)
        };
        bind().map_err(|error: rustix::io::Errno| {
            Error::internal("no socket for the new sandbox", io::Error::from(error))
        })
    }

    /// Removes the name of a sandbox's socket.
    pub(super) fn remove(&self, id: SandboxId) {
        let _ = rustix::fs::unlinkat(&self.folder, id.to_string(), AtFlags::empty());
    }

    /// Connects; `None` when nobody listens.
    pub(super) fn connect(&self, id: SandboxId) -> io::Result<OwnedFd> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket =
            rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        rustix::net::connect(&socket, &self.address(id)?)?;
        Ok(socket)
    }

    /// Names of all sockets.
    pub(super) fn ids(&self) -> Vec<SandboxId> {
        let Ok(entries) = rustix::fs::Dir::read_from(&self.folder) else { return Vec::new() };
        entries
            .flatten()
            .filter_map(|entry| entry.file_name().to_str().ok()?.parse().ok())
            .collect()
    }
}

/// What the init behind a connection says to a greeting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Greeting {
    /// It speaks our language.
    Understood,
    /// It said nothing in time, or had no room for one more client.
    Silent,
    /// It speaks this version of our language, which is not spoken here any more.
    Outdated(u32),
    /// It answered in another language.
    Foreign,
}

/// Greets init and waits so many milliseconds for its answer.
pub(super) fn greet(socket: &OwnedFd, milliseconds: i64) -> Greeting {
    let ping = Writer::new(init::PING).finish();
    if rustix::net::send(socket, &ping, SendFlags::NOSIGNAL).is_err() {
        return Greeting::Silent;
    }
    let mut polled = [rustix::event::PollFd::new(socket, rustix::event::PollFlags::IN)];
    let timeout = rustix::event::Timespec {
        tv_sec: milliseconds / 1000,
        tv_nsec: milliseconds % 1000 * 1_000_000,
    };
    let mut buffer = [0_u8; 64];
    if !matches!(rustix::event::poll(&mut polled, Some(&timeout)), Ok(ready) if ready > 0) {
        return Greeting::Silent;
    }
    match rustix::net::recv(socket, &mut buffer[..], RecvFlags::empty()) {
        Ok((_, length)) => judge(&buffer[..length.min(buffer.len())]),
        Err(_) => Greeting::Silent,
    }
}

fn judge(answer: &[u8]) -> Greeting {
    let mut reader = Reader::new(answer);
    match reader.u8() {
        // It let go of the connection.
        None => Greeting::Silent,
        Some(init::FAILED) if reader.u8() == Some(Stage::Busy as u8) => Greeting::Silent,
        // One version back is served, so that a server can be replaced while sandboxes live.
        Some(init::PONG) => match reader.u32() {
            Some(version) if version.abs_diff(VERSION.into()) <= 1 => Greeting::Understood,
            Some(version) => Greeting::Outdated(version),
            None => Greeting::Foreign,
        },
        Some(_) => Greeting::Foreign,
    }
}

/// A connection that async code can wait on.
#[derive(Debug)]
pub(super) struct Connection {
    socket: Arc<AsyncFd<OwnedFd>>,
    buffer: Vec<u8>,
}

/// The sending half of a connection.
#[derive(Debug)]
pub(super) struct Sender {
    socket: Arc<AsyncFd<OwnedFd>>,
}

impl Sender {
    /// Sends one packet, waiting while the other end has not taken earlier ones.
    pub(super) async fn send(&self, packet: &[u8]) -> io::Result<()> {
        loop {
            match rustix::net::send(self.socket.get_ref(), packet, SendFlags::NOSIGNAL) {
                Err(rustix::io::Errno::AGAIN) => {
                    let mut ready = self.socket.writable().await?;
                    ready.clear_ready();
                }
                result => return Ok(result.map(drop)?),
            }
        }
    }
}

impl Connection {
    /// Takes over a connected socket.
    pub(super) fn new(socket: OwnedFd) -> io::Result<Self> {
        let socket = crate::sys::watch::watch(socket, Interest::READABLE | Interest::WRITABLE)?;
        Ok(Self { socket: Arc::new(socket), buffer: vec![0; MAX_PACKET] })
    }

    /// Its sending half.
    pub(super) fn sender(&self) -> Sender {
        Sender { socket: Arc::clone(&self.socket) }
    }

    /// The next packet; empty when the other end is gone. Cancel-safe.
    pub(super) async fn receive(&mut self) -> io::Result<&[u8]> {
        let length = loop {
            let mut ready = self.socket.readable().await?;
            let socket = self.socket.get_ref().as_fd();
            match rustix::net::recv(socket, &mut self.buffer[..], RecvFlags::TRUNC) {
                Err(rustix::io::Errno::AGAIN) => ready.clear_ready(),
                // The other end went with packets of ours unread. The kernel says so once, before the packets
                // that it sent; they come with the next look, then its end.
                Err(rustix::io::Errno::CONNRESET) => {}
                result => break result?.1,
            }
        };
        if length > self.buffer.len() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "packet over the bound"));
        }
        Ok(&self.buffer[..length])
    }
}

/// An answer of init that makes no sense.
pub(super) fn nonsense(id: SandboxId) -> Error {
    Error::new(Kind::Internal, format!("process 1 of sandbox {id} answered nonsense"))
        .with_hint("stop and start the sandbox")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_answer_in_another_language_is_foreign() {
        let pong = |version: u32| Writer::new(init::PONG).u32(version).finish();
        let failed = |stage: Stage| Writer::new(init::FAILED).u8(stage as u8).u32(11).finish();
        let ours = u32::from(VERSION);
        for (answer, expected) in [
            (pong(ours), Greeting::Understood),
            (pong(ours - 1), Greeting::Understood),
            (pong(ours + 1), Greeting::Understood),
            (pong(ours + 2), Greeting::Outdated(ours + 2)),
            (pong(ours - 2), Greeting::Outdated(ours - 2)),
            (Writer::new(init::PONG).finish(), Greeting::Foreign),
            (failed(Stage::Busy), Greeting::Silent),
            (failed(Stage::Request), Greeting::Foreign),
            (b"HTTP/1.1 400".to_vec(), Greeting::Foreign),
            (Vec::new(), Greeting::Silent),
        ] {
            assert_eq!(judge(&answer), expected, "{answer:?}");
        }
    }

    #[test]
    fn one_that_lets_go_of_the_connection_is_silent() {
        let pair = || {
            let flags = SocketFlags::CLOEXEC;
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
        };
        let (ours, theirs) = pair().unwrap();
        drop(theirs);
        assert_eq!(greet(&ours, 200), Greeting::Silent);
        let (ours, _theirs) = pair().unwrap();
        assert_eq!(greet(&ours, 1), Greeting::Silent);
    }
}
