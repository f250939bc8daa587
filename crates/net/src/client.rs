//! The server's end of the control socket.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use crate::control::{Answer, MAX_ANSWER, Request};
use crate::sys;

/// Longest wait for an answer.
const TIME: Duration = Duration::from_secs(10);

/// A connection to the network process.
#[derive(Debug)]
pub struct Client {
    socket: UnixStream,
    number: u32,
}

/// A listening control socket at a path, to be given to the network process as descriptor 0. A file that is
/// there already is replaced.
///
/// # Errors
/// When the path cannot be bound or is longer than 107 bytes.
pub fn listen(path: &Path) -> io::Result<OwnedFd> {
    use std::os::unix::ffi::OsStrExt as _;
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let socket = sys::socket(sys::UNIX, sys::SEQPACKET, 0)?;
    sys::bind_unix(socket.as_fd(), path.as_os_str().as_bytes())?;
    sys::listen(socket.as_fd(), sys::BACKLOG)?;
    Ok(socket)
}

/// The sending half of a connection whose answers are read by somebody else.
#[derive(Debug)]
pub struct Sender {
    socket: UnixStream,
    number: u32,
}

/// The receiving half.
#[derive(Debug)]
pub struct Receiver {
    socket: UnixStream,
    buffer: Vec<u8>,
}

impl Sender {
    /// Sends a request and gives its number, which its answer will carry. Waits 10 seconds at most.
    ///
    /// # Errors
    /// When the process is gone or takes nothing.
    pub fn send(
        &mut self,
        request: &Request,
        descriptor: Option<BorrowedFd<'_>>,
    ) -> io::Result<u32> {
        self.number = self.number.wrapping_add(1);
        sys::send_packet(self.socket.as_fd(), &request.encode(self.number), descriptor)?;
        Ok(self.number)
    }

    /// Ends the connection: the other half sees its end.
    pub fn close(&self) {
        let _ = self.socket.shutdown(std::net::Shutdown::Both);
    }
}

impl Receiver {
    /// The next answer, however long it takes.
    ///
    /// # Errors
    /// When the process is gone or answers nonsense.
    pub fn receive(&mut self) -> io::Result<Answer> {
        loop {
            match receive(&mut self.socket, &mut self.buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                received => return received,
            }
        }
    }
}

fn receive(socket: &mut UnixStream, buffer: &mut [u8]) -> io::Result<Answer> {
    use std::io::Read as _;
    let length = socket.read(buffer)?;
    if length == 0 {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
    }
    Answer::decode(&buffer[..length]).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
}

impl Client {
    /// Connects to the process behind a path.
    ///
    /// # Errors
    /// When nobody listens there.
    pub fn connect(path: &Path) -> io::Result<Self> {
        use std::os::unix::ffi::OsStrExt as _;
        let socket = sys::socket(sys::UNIX, sys::SEQPACKET, 0)?;
        sys::connect_unix(socket.as_fd(), path.as_os_str().as_bytes())?;
        // Options and waiting of std are those of any connected unix socket.
        let socket = UnixStream::from(socket);
        socket.set_nonblocking(false)?;
        socket.set_read_timeout(Some(TIME))?;
        socket.set_write_timeout(Some(TIME))?;
        Ok(Self { socket, number: 0 })
    }

    /// Asks and waits for the answer, 10 seconds at most.
    ///
    /// # Errors
    /// When the process is gone, silent, or answers something else; what it refuses is in the answer.
    pub fn ask(
        &mut self,
        request: &Request,
        descriptor: Option<BorrowedFd<'_>>,
    ) -> io::Result<Answer> {
        self.number = self.number.wrapping_add(1);
        sys::send_packet(self.socket.as_fd(), &request.encode(self.number), descriptor)?;
        let answer = receive(&mut self.socket, &mut vec![0_u8; MAX_ANSWER])?;
        let is_ours = answer.number == self.number;
        is_ours.then_some(answer).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
    }

    /// Splits the connection, for a program whose threads ask at the same time.
    ///
    /// # Errors
    /// When no descriptor is left.
    pub fn split(self) -> io::Result<(Sender, Receiver)> {
        let socket = self.socket.try_clone()?;
        // Both are the same socket: only waiting for answers may take any time.
        socket.set_read_timeout(None)?;
        let receiver = Receiver { socket, buffer: vec![0_u8; MAX_ANSWER] };
        Ok((Sender { socket: self.socket, number: self.number }, receiver))
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
