//! Finds a call's output between the marks of its driver, in one stream.

use bytes::{Bytes, BytesMut};

/// After the mark: the call's output begins.
const BEGIN: u8 = b'[';
/// After the mark: it is over.
const END: u8 = b']';

/// One stream of one call.
#[derive(Debug)]
pub(super) struct Scan {
    begin: Vec<u8>,
    end: Vec<u8>,
    state: State,
    /// Bytes that may be the beginning of the mark that is looked for; after the end, what follows it.
    held: BytesMut,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// What comes is of earlier calls.
    Before,
    /// What comes is the call's.
    Inside,
    /// The call is over in this stream.
    After,
}

impl Scan {
    /// For a call with this mark.
    pub(super) fn new(mark: &str) -> Self {
        let with = |last: u8| [mark.as_bytes(), &[last]].concat();
        Self { begin: with(BEGIN), end: with(END), state: State::Before, held: BytesMut::new() }
    }

    /// Whether the call has begun in this stream.
    pub(super) fn has_begun(&self) -> bool {
        self.state != State::Before
    }

    /// Whether the call is over in this stream.
    pub(super) fn is_over(&self) -> bool {
        self.state == State::After
    }

    /// What came after the end.
    pub(super) fn rest(&self) -> &[u8] {
        if self.is_over() { &self.held } else { &[] }
    }

    /// Takes the next bytes of the stream; gives those of the call's output that are sure.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Bytes {
        self.held.extend_from_slice(bytes);
        if self.state == State::Before {
            let Some(at) = find(&self.held, &self.begin) else {
                let keep = overlap(&self.held, &self.begin);
                let _ = self.held.split_to(self.held.len() - keep);
                return Bytes::new();
            };
            let _ = self.held.split_to(at + self.begin.len());
            self.state = State::Inside;
        }
        if self.state == State::After {
            return Bytes::new();
        }
        if let Some(at) = find(&self.held, &self.end) {
            let output = self.held.split_to(at).freeze();
            let _ = self.held.split_to(self.end.len());
            self.state = State::After;
            return output;
        }
        let keep = overlap(&self.held, &self.end);
        self.held.split_to(self.held.len() - keep).freeze()
    }
}

fn find(text: &[u8], word: &[u8]) -> Option<usize> {
    memchr::memmem::find(text, word)
}

/// How many of the last bytes could be the beginning of the word.
fn overlap(text: &[u8], word: &[u8]) -> usize {
    let most = text.len().min(word.len() - 1);
    (1..=most).rev().find(|&count| text.ends_with(&word[..count])).unwrap_or(0)
}

/// Text of bytes that come in pieces: a character may be split between two, what is not UTF-8 is replaced.
#[derive(Debug, Default)]
pub(super) struct Text {
    held: Vec<u8>,
}

impl Text {
    /// The text that is complete so far.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> String {
        self.held.extend_from_slice(bytes);
        let keep = incomplete(&self.held);
        let rest = self.held.split_off(self.held.len() - keep);
        let whole = std::mem::replace(&mut self.held, rest);
        String::from_utf8_lossy(&whole).into_owned()
    }

    /// What is left at the end.
    pub(super) fn finish(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.held)).into_owned()
    }
}

/// How many of the last bytes are the beginning of a character.
fn incomplete(bytes: &[u8]) -> usize {
    for back in 1..=bytes.len().min(3) {
        let tail = &bytes[bytes.len() - back..];
        if tail[0] & 0xc0 != 0x80 {
            let open =
                matches!(std::str::from_utf8(tail), Err(error) if error.error_len().is_none());
            return if open { back } else { 0 };
        }
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds the stream in pieces of this size; the call's output and what follows it.
    fn scanned(stream: &[u8], size: usize) -> (Vec<u8>, Vec<u8>, bool) {
        let mut scan = Scan::new("MARK");
        let mut output = Vec::new();
        for piece in stream.chunks(size) {
            output.extend_from_slice(&scan.feed(piece));
        }
        (output, scan.rest().to_vec(), scan.is_over())
    }

    #[test]
    fn a_calls_output_is_found_however_the_stream_is_cut() {
        let stream = b"old MARMAR MARK] MARK[one MARK MARMARK]{\"a\":1}\nlate";
        for size in 1..=stream.len() {
            let (output, rest, over) = scanned(stream, size);
            assert_eq!(output, b"one MARK MAR", "{size}");
            assert!(rest == b"{\"a\":1}\nlate" && over, "{size}");
        }
    }

    #[test]
    fn what_is_sure_comes_at_once() {
        let mut scan = Scan::new("MARK");
        assert_eq!(scan.feed(b"junk"), "");
        assert!(!scan.has_begun());
        assert_eq!(scan.feed(b"MARK[hello MA"), "hello ");
        assert_eq!(scan.feed(b"P"), "MAP");
    }

    #[test]
    fn characters_are_never_torn() {
        let (mut text, mut whole) = (Text::default(), String::new());
        let bytes = ["aä€😀".as_bytes(), b"\xff\xe2\x82"].concat();
        for byte in &bytes {
            whole.push_str(&text.feed(&[*byte]));
        }
        assert_eq!(whole, "aä€😀\u{fffd}");
        assert_eq!(text.finish(), "\u{fffd}");
    }
}
