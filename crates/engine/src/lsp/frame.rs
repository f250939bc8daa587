//! Messages of the language server protocol in a stream of bytes: a header with a length, then that many bytes.

use bytes::{Buf, Bytes, BytesMut};

/// Most bytes of a header.
const MAX_HEADER: usize = 4096;
/// Most bytes of a message.
pub(super) const MAX_MESSAGE: usize = 8 << 20;

/// The stream keeps no rule of the protocol; nothing after this can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Nonsense(pub(super) &'static str);

/// Bytes that came, up to the message that is not complete.
#[derive(Debug, Default)]
pub(super) struct Frames {
    held: BytesMut,
    /// Length of the message whose header was read.
    expected: Option<usize>,
}

impl Frames {
    /// Takes the next bytes; at most those of one read are held beyond a message.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        self.held.extend_from_slice(bytes);
    }

    /// The next whole message.
    pub(super) fn next(&mut self) -> Result<Option<Bytes>, Nonsense> {
        if self.expected.is_none() {
            let Some(end) = find_end(&self.held) else {
                if self.held.len() > MAX_HEADER {
                    return Err(Nonsense("a header that does not end"));
                }
                return Ok(None);
            };
            if end > MAX_HEADER {
                return Err(Nonsense("a header that is too long"));
            }
            self.expected = Some(length(&self.held[..end])?);
            self.held.advance(end + 4);
        }
        match self.expected {
            Some(expected) if self.held.len() >= expected => {
                self.expected = None;
                Ok(Some(self.held.split_to(expected).freeze()))
            }
            _ => Ok(None),
        }
    }
}

fn find_end(bytes: &[u8]) -> Option<usize> {
    memchr::memmem::find(bytes, b"\r\n\r\n")
}

fn length(header: &[u8]) -> Result<usize, Nonsense> {
    let header = std::str::from_utf8(header).map_err(|_| Nonsense("a header that is no text"))?;
    let value = header.split("\r\n").find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.trim().eq_ignore_ascii_case("content-length").then(|| value.trim())
    });
    let length = value.and_then(|value| value.parse().ok());
    match length.ok_or(Nonsense("a header without a length"))? {
        length if length <= MAX_MESSAGE => Ok(length),
        _ => Err(Nonsense("a message that is too long")),
    }
}

/// A message as it goes out.
pub(super) fn enclosed(message: &[u8]) -> Bytes {
    let head = format!("Content-Length: {}\r\n\r\n", message.len());
    Bytes::from([head.as_bytes(), message].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(frames: &mut Frames) -> Vec<Bytes> {
        std::iter::from_fn(|| frames.next().unwrap()).collect()
    }

    #[test]
    fn messages_come_out_however_their_bytes_came() {
        let other = b"Content-Type: x\r\ncontent-length:  2\r\n\r\nhi";
        let whole = [&enclosed(b"{}")[..], &other[..], &enclosed(b"")[..]].concat();
        for size in 1..whole.len() {
            let mut frames = Frames::default();
            let mut found = Vec::new();
            for piece in whole.chunks(size) {
                frames.feed(piece);
                found.extend(all(&mut frames));
            }
            assert_eq!(found, [&b"{}"[..], b"hi", b""], "pieces of {size}");
        }
    }

    #[test]
    fn what_a_hostile_server_writes_is_refused_before_it_is_kept() {
        let huge = format!("Content-Length: {}\r\n\r\n", MAX_MESSAGE + 1);
        for bytes in [
            "x".repeat(MAX_HEADER + 1).as_bytes(),
            format!("A: {}\r\n\r\n", "x".repeat(MAX_HEADER)).as_bytes(),
            huge.as_bytes(),
            b"Content-Length: -1\r\n\r\n",
            b"Content-Length: 99999999999999999999999\r\n\r\n",
            b"Length: 1\r\n\r\n",
            b"\r\n\r\n",
            b"\xff\r\n\r\n",
        ] {
            let mut frames = Frames::default();
            frames.feed(bytes);
            assert!(
                frames.next().is_err(),
                "{:?}",
                String::from_utf8_lossy(&bytes[..20.min(bytes.len())])
            );
        }
        let mut frames = Frames::default();
        frames.feed(b"Content-Length: 5\r\n\r\nabc");
        assert_eq!(frames.next(), Ok(None));
    }
}
