//! Figures of web sockets: how fast the log of a session comes, and how soon a key comes back from a terminal.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::measure::Times;

/// Bytes of the log whose speed is taken.
pub(crate) const LOG: u64 = 256 << 20;

/// An open WebSocket.
pub(crate) struct Socket {
    stream: BufReader<TcpStream>,
    buffer: Vec<u8>,
}

impl Socket {
    /// Connects to a path of the server with a key.
    pub(crate) fn open(address: &str, key: &str, path: &str) -> Self {
        let stream = TcpStream::connect(address).expect("the server listens");
        stream.set_nodelay(true).expect("an open socket");
        let mut stream = BufReader::with_capacity(256 << 10, stream);
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {key}\r\nConnection: Upgrade\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream.get_mut().write_all(request.as_bytes()).expect("a request is sent");
        let mut line = String::new();
        stream.read_line(&mut line).expect("an answer");
        assert!(line.starts_with("HTTP/1.1 101"), "{line}");
        while !line.trim_end().is_empty() {
            line.clear();
            stream.read_line(&mut line).expect("headers");
        }
        Self { stream, buffer: Vec::new() }
    }

    /// The next message's kind and bytes; `None` = the end.
    fn next(&mut self) -> Option<(u8, &[u8])> {
        let mut head = [0; 2];
        self.stream.read_exact(&mut head).ok()?;
        let length = match head[1] {
            126 => self.number::<2>()?,
            127 => self.number::<8>()?,
            short => usize::from(short),
        };
        self.buffer.resize(length.max(self.buffer.len()), 0);
        self.stream.read_exact(&mut self.buffer[..length]).ok()?;
        let kind = head[0] & 15;
        (kind != 8).then_some((kind, &self.buffer[..length]))
    }

    fn number<const N: usize>(&mut self) -> Option<usize> {
        let mut bytes = [0; N];
        self.stream.read_exact(&mut bytes).ok()?;
        Some(bytes.iter().fold(0, |number, byte| number << 8 | usize::from(*byte)))
    }

    /// Sends a few bytes.
    fn send(&mut self, bytes: &[u8]) {
        let length = u8::try_from(bytes.len()).expect("a few bytes");
        // A mask of zeros changes nothing.
        let frame = [&[0x82, 0x80 | length, 0, 0, 0, 0], bytes].concat();
        self.stream.get_mut().write_all(&frame).expect("the server reads");
    }

    /// Reads until the text was among what came.
    fn until(&mut self, text: &str) {
        let mut seen = String::new();
        while !seen.contains(text) {
            let (_, bytes) = self.next().expect("more comes");
            seen.push_str(&String::from_utf8_lossy(bytes));
        }
    }
}

/// Reads a log to its end; its bytes and the time from the first of them on.
pub(crate) fn drain(mut log: Socket) -> (u64, Duration) {
    let (mut bytes, mut began) = (0, None);
    while let Some((kind, message)) = log.next() {
        if kind == 2 {
            bytes += message.len() as u64;
            began.get_or_insert_with(Instant::now);
        }
    }
    (bytes, began.map_or(Duration::ZERO, |began| began.elapsed()))
}

/// Times from a key to its echo, at a terminal that is there and reads lines.
pub(crate) fn keys(mut terminal: Socket, n: usize) -> Times {
    terminal.send(b"echo re''ady; cat > /dev/null\r");
    terminal.until("ready\r\n");
    let mut times = Times::default();
    for number in 0..n {
        if number % 50 == 49 {
            // A line ends now and then: the kernel keeps only so much of one.
            terminal.send(b"\r");
            terminal.until("\n");
        }
        let began = Instant::now();
        terminal.send(b"x");
        terminal.until("x");
        times.add(began.elapsed());
    }
    times
}
