//! Output of a session's command in the forms that clients read: marked stream, or apart.
//!
//! In a marked stream `01 01 01` precedes bytes of standard output, `02 02 02` those of standard error. Clients
//! below 0.167.0 want it where later ones want output unmarked.

use axum::http::HeaderMap;
use bytes::{Bytes, BytesMut};
use mayfly_core::Result;
use mayfly_core::ports::processes::Follower;
use mayfly_core::process::{Output, Stream};

/// Header in which clients say their version.
const VERSION: &str = "x-daytona-sdk-version";
/// First version that wants output unmarked.
const UNMARKED_SINCE: [u32; 3] = [0, 167, 0];
/// Bytes from which on a piece is sent as it is, without being joined with its neighbours.
const LARGE: usize = 16 << 10;
/// Bytes read at once.
pub(crate) const PIECE: usize = 256 << 10;

/// How a client wants whole logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// One text with markers.
    Marked,
    /// Output, and both streams apart.
    Apart,
}

impl Framing {
    /// By the version that the client says; one that says none is the newest.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let version = headers.get(VERSION).and_then(|value| value.to_str().ok());
        match version.and_then(numbers) {
            Some(version) if version < UNMARKED_SINCE && version != [0, 0, 0] => Self::Marked,
            _ => Self::Apart,
        }
    }
}

/// `0.166.0`, whatever follows it.
fn numbers(version: &str) -> Option<[u32; 3]> {
    let mut parts = version.trim().trim_start_matches('v').splitn(3, '.');
    let mut next = || {
        let part = parts.next()?;
        let digits = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
        part[..digits].parse().ok()
    };
    Some([next()?, next()?, next()?])
}

/// Turns output into a marked stream.
#[derive(Debug, Default)]
pub(crate) struct Marker {
    last: Option<Stream>,
    /// Where the output was read to.
    at: u64,
}

impl Marker {
    /// The stream's next bytes, in portions of at least 16 KiB where there is so much.
    pub(crate) fn mark(&mut self, output: Output) -> Vec<Bytes> {
        let (mut ready, mut small) = (Vec::new(), BytesMut::new());
        if let Some(lost) = lost(self.at, output.from) {
            self.enter(Stream::Output, &mut small);
            small.extend_from_slice(lost.as_bytes());
        }
        self.at = output.next;
        for piece in output.pieces {
            self.enter(piece.stream, &mut small);
            if piece.bytes.len() >= LARGE {
                if !small.is_empty() {
                    ready.push(small.split().freeze());
                }
                ready.push(piece.bytes);
            } else {
                small.extend_from_slice(&piece.bytes);
            }
        }
        if !small.is_empty() {
            ready.push(small.freeze());
        }
        ready
    }

    fn enter(&mut self, stream: Stream, out: &mut BytesMut) {
        if self.last != Some(stream) {
            self.last = Some(stream);
            out.extend_from_slice(marker(stream));
        }
    }
}

fn marker(stream: Stream) -> &'static [u8] {
    match stream {
        Stream::Output => &[1, 1, 1],
        Stream::Error => &[2, 2, 2],
    }
}

/// The line that stands for output which is no longer kept.
fn lost(asked: u64, from: u64) -> Option<String> {
    let bytes = from.checked_sub(asked).filter(|bytes| *bytes > 0)?;
    Some(format!("[{bytes} bytes of output are no longer kept]\n"))
}

/// What a command wrote, up to a bound.
#[derive(Debug)]
pub(crate) struct Collected {
    pub(crate) output: BytesMut,
    pub(crate) stdout: BytesMut,
    pub(crate) stderr: BytesMut,
    /// `None` while it runs.
    pub(crate) exit_code: Option<i32>,
    marker: Marker,
    framing: Framing,
    left: usize,
    cut: bool,
}

impl Collected {
    /// Nothing yet, and room for so many bytes.
    pub(crate) fn new(framing: Framing, most: usize) -> Self {
        Self {
            output: BytesMut::new(),
            stdout: BytesMut::new(),
            stderr: BytesMut::new(),
            exit_code: None,
            marker: Marker::default(),
            framing,
            left: most,
            cut: false,
        }
    }

    /// Takes all that there is now.
    pub(crate) async fn now(&mut self, follower: &mut dyn Follower) -> Result<()> {
        while !self.cut {
            let output = follower.now(PIECE).await?;
            let end = output.pieces.is_empty() || output.exit_code.is_some();
            self.take(output);
            if end {
                break;
            }
        }
        Ok(())
    }

    /// Takes all until the command ends.
    pub(crate) async fn until_end(&mut self, follower: &mut dyn Follower) -> Result<i32> {
        loop {
            let output = follower.next(PIECE).await?;
            let exit_code = output.exit_code;
            self.take(output);
            if let Some(code) = exit_code {
                return Ok(code);
            }
        }
    }

    fn take(&mut self, output: Output) {
        self.exit_code = output.exit_code;
        if let Some(lost) = lost(self.marker.at, output.from) {
            self.add(Stream::Output, lost.as_bytes());
        }
        self.marker.at = output.next;
        for piece in output.pieces {
            let room = self.left.min(piece.bytes.len());
            if room > 0 {
                self.add(piece.stream, &piece.bytes[..room]);
            }
            self.left -= room;
            if room < piece.bytes.len() && !self.cut {
                self.cut = true;
                self.add(piece.stream, b"\n[output truncated]\n");
            }
        }
    }

    fn add(&mut self, stream: Stream, bytes: &[u8]) {
        if self.framing == Framing::Marked {
            let Self { marker, output, .. } = self;
            marker.enter(stream, output);
        }
        self.output.extend_from_slice(bytes);
        match stream {
            Stream::Output => self.stdout.extend_from_slice(bytes),
            Stream::Error => self.stderr.extend_from_slice(bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use mayfly_core::process::Piece;

    use super::*;

    #[test]
    fn old_versions_get_the_marked_form() {
        for (version, framing) in [
            (Some("0.166.0"), Framing::Marked),
            (Some("0.150.0"), Framing::Marked),
            (Some("v0.99.12-rc.1"), Framing::Marked),
            (Some("0.167.0"), Framing::Apart),
            (Some("0.167.0-alpha.1"), Framing::Apart),
            (Some("0.226.1"), Framing::Apart),
            (Some("1.0.0"), Framing::Apart),
            (Some("0.0.0"), Framing::Apart),
            (Some("0.0.0-dev"), Framing::Apart),
            (Some("unknown"), Framing::Apart),
            (Some("0.166"), Framing::Apart),
            (Some(""), Framing::Apart),
            (None, Framing::Apart),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(version) = version {
                headers.insert(VERSION, HeaderValue::from_static(version));
            }
            assert_eq!(Framing::of(&headers), framing, "{version:?}");
        }
    }

    fn output(from: u64, pieces: &[(Stream, &[u8])]) -> Output {
        let mut next = from;
        let pieces = pieces.iter().map(|(stream, bytes)| {
            next += bytes.len() as u64;
            Piece { stream: *stream, bytes: Bytes::copy_from_slice(bytes) }
        });
        let pieces = pieces.collect();
        Output { pieces, from, next, exit_code: None }
    }

    #[test]
    fn streams_change_by_markers_and_large_pieces_are_not_copied() {
        let mut marker = Marker::default();
        let (out, err) = (Stream::Output, Stream::Error);
        let parts = marker.mark(output(0, &[(out, b"a"), (out, b"b"), (err, b"c")]));
        assert_eq!(parts, [&b"\x01\x01\x01ab\x02\x02\x02c"[..]]);
        let large = vec![7; LARGE];
        let parts = marker.mark(output(3, &[(err, b"d"), (err, &large), (out, b"e")]));
        assert_eq!(parts, [&b"d"[..], &large, b"\x01\x01\x01e"]);
        let parts = marker.mark(output(100_000, &[(err, b"f")]));
        let lost = 100_000 - 5 - LARGE;
        let text = format!("[{lost} bytes of output are no longer kept]\n\x02\x02\x02f");
        assert_eq!(parts, [text.as_bytes()]);
    }

    #[test]
    fn what_is_over_the_bound_is_marked_once() {
        let mut collected = Collected::new(Framing::Apart, 4);
        collected.take(output(0, &[(Stream::Output, b"abc"), (Stream::Error, b"def")]));
        collected.take(output(6, &[(Stream::Output, b"ghi")]));
        assert_eq!(collected.stdout, "abc");
        assert_eq!(collected.stderr, "d\n[output truncated]\n");
        assert_eq!(collected.output, "abcd\n[output truncated]\n");
        let mut exact = Collected::new(Framing::Marked, 3);
        exact.take(output(0, &[(Stream::Output, b"abc")]));
        assert_eq!(exact.output, "\x01\x01\x01abc");
        exact.take(output(3, &[(Stream::Output, b"d")]));
        assert_eq!(exact.stdout, "abc\n[output truncated]\n");
    }
}
