//! A client of web sockets that costs a descriptor and nothing else.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

/// Longest wait for the other end.
const PATIENCE: Duration = Duration::from_mins(1);

/// An open WebSocket.
#[derive(Debug)]
pub(crate) struct Socket {
    stream: BufReader<TcpStream>,
}

/// What came.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    Text(Vec<u8>),
    Binary(Vec<u8>),
    /// A close with its code.
    Close(u16),
    /// The connection is gone.
    Gone,
}

impl Socket {
    /// Connects to a path of a server (`http://host:port`); else the status of the refusal.
    pub(crate) fn open(url: &str, key: &str, path: &str) -> Result<Self, u16> {
        let address = url.trim_start_matches("http://");
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        // Small: thousands of them are open at once.
        let mut stream = BufReader::with_capacity(1024, stream);
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {key}\r\n\
             Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream.get_mut().write_all(request.as_bytes()).unwrap();
        let (mut status, mut line) = (0, String::new());
        loop {
            line.clear();
            stream.read_line(&mut line).unwrap();
            match line.trim_end() {
                "" => break,
                text if status == 0 => status = text[9..12].parse().unwrap(),
                _ => {}
            }
        }
        if status == 101 { Ok(Self { stream }) } else { Err(status) }
    }

    /// The next message; pings are passed over.
    pub(crate) fn next(&mut self) -> Frame {
        loop {
            let mut head = [0; 2];
            if self.stream.read_exact(&mut head).is_err() {
                return Frame::Gone;
            }
            let length = match head[1] {
                126 => u64::from(u16::from_be_bytes(self.bytes())),
                127 => u64::from_be_bytes(self.bytes()),
                short => short.into(),
            };
            let mut payload = vec![0; usize::try_from(length).unwrap()];
            if self.stream.read_exact(&mut payload).is_err() {
                return Frame::Gone;
            }
            match head[0] & 15 {
                1 => return Frame::Text(payload),
                2 => return Frame::Binary(payload),
                8 => return Frame::Close(u16::from_be_bytes([payload[0], payload[1]])),
                _ => {}
            }
        }
    }

    /// All bytes of binary messages until a mark is among them.
    pub(crate) fn until(&mut self, mark: &str) -> Vec<u8> {
        let mut all = Vec::new();
        while !all.windows(mark.len()).any(|part| part == mark.as_bytes()) {
            match self.next() {
                Frame::Binary(bytes) => all.extend(bytes),
                Frame::Text(_) => {}
                end => {
                    panic!("{end:?} instead of {mark:?} after {}", String::from_utf8_lossy(&all))
                }
            }
        }
        all
    }

    /// All bytes of binary messages, and how it ended.
    pub(crate) fn rest(&mut self) -> (Vec<u8>, Frame) {
        let mut all = Vec::new();
        loop {
            match self.next() {
                Frame::Binary(bytes) => all.extend(bytes),
                Frame::Text(_) => {}
                end => return (all, end),
            }
        }
    }

    /// Sends a binary message of at most 125 bytes.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        let length = u8::try_from(bytes.len()).unwrap();
        assert!(length < 126);
        // A mask of zeros changes nothing.
        let frame = [&[0x82, 0x80 | length, 0, 0, 0, 0], bytes].concat();
        self.stream.get_mut().write_all(&frame).unwrap();
    }

    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.stream.read_exact(&mut bytes).unwrap();
        bytes
    }
}
