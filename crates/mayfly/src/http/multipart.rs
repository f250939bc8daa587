//! A parser for `multipart/form-data` that holds one chunk at a time and never grows.
//!
//! Pure: bytes are pushed in, events are pulled out. A part's data comes as soon as it cannot be the
//! beginning of a delimiter any more, so bodies of any size pass through in flat memory.

use bytes::{Buf, Bytes, BytesMut};
use memchr::memmem;

/// Most bytes of one part's headers.
const HEADERS_LIMIT: usize = 16 << 10;

/// Most white space between a boundary and its line end, bytes.
const PADDING_LIMIT: usize = 1 << 10;

/// What the parser found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A part begins; the value is its form field's name.
    Part(String),
    /// Bytes of the current part.
    Data(Bytes),
    /// The current part is complete.
    PartEnd,
    /// The closing delimiter was seen; what follows is ignored.
    End,
    /// Push more bytes.
    Starved,
}

/// Why a body is not multipart/form-data.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Malformed(pub(crate) &'static str);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Preamble,
    /// Right behind a delimiter: the line end, or the two dashes of the last one.
    Delimiter,
    Headers,
    Data,
    End,
}

/// The state between two chunks.
#[derive(Debug)]
pub(crate) struct Parser {
    buffer: BytesMut,
    delimiter: memmem::Finder<'static>,
    state: State,
}

impl Parser {
    /// A parser for the boundary of this Content-Type; `None` when it names none of 1 to 70 bytes.
    pub(crate) fn for_content_type(content_type: &str) -> Option<Self> {
        let (kind, parameters) = content_type.split_once(';')?;
        if !kind.trim().eq_ignore_ascii_case("multipart/form-data") {
            return None;
        }
        let boundary = parameter(parameters, "boundary")?;
        (1..=70).contains(&boundary.len()).then(|| Self::new(&boundary))
    }

    fn new(boundary: &str) -> Self {
        let delimiter = format!("\r\n--{boundary}");
        // The first delimiter may stand at the very beginning; a line end in front makes it like the others.
        let buffer = BytesMut::from(&b"\r\n"[..]);
        Self {
            buffer,
            delimiter: memmem::Finder::new(delimiter.as_bytes()).into_owned(),
            state: State::Preamble,
        }
    }

    /// Adds bytes; pull events until [`Event::Starved`] before the next call.
    pub(crate) fn push(&mut self, bytes: &Bytes) {
        if self.state != State::End {
            self.buffer.extend_from_slice(bytes);
        }
    }

    /// Bytes held back at the moment.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn held(&self) -> usize {
        self.buffer.len()
    }

    /// The next event.
    pub(crate) fn next(&mut self) -> Result<Event, Malformed> {
        loop {
            match self.state {
                State::End => return Ok(Event::End),
                State::Preamble => {
                    let Some(at) = self.delimiter.find(&self.buffer) else {
                        self.drop_all_but_a_tail();
                        return Ok(Event::Starved);
                    };
                    self.buffer.advance(at + self.delimiter.needle().len());
                    self.state = State::Delimiter;
                }
                State::Delimiter => {
                    if !self.line_end()? {
                        return Ok(Event::Starved);
                    }
                }
                State::Headers => return self.headers(),
                State::Data => return Ok(self.data()),
            }
        }
    }

    /// Steps over the rest of a delimiter's line; `false` = more bytes are needed.
    fn line_end(&mut self) -> Result<bool, Malformed> {
        let padding = self.buffer.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
        if padding > PADDING_LIMIT {
            return Err(Malformed("a boundary is followed by more than 1 KiB of white space"));
        }
        let rest = &self.buffer[padding..];
        match rest {
            [b'-', b'-', ..] if padding == 0 => self.state = State::End,
            [b'\r', b'\n', ..] => {
                // The line end stays: it is also what an empty header block begins with.
                self.buffer.advance(padding);
                self.state = State::Headers;
            }
            [] | [b'-' | b'\r'] => return Ok(false),
            _ => return Err(Malformed("a boundary is followed by neither a line end nor `--`")),
        }
        Ok(true)
    }

    fn headers(&mut self) -> Result<Event, Malformed> {
        let Some(end) = memmem::find(&self.buffer, b"\r\n\r\n") else {
            // Up to three bytes of the end may be there already.
            if self.buffer.len() > HEADERS_LIMIT + 3 {
                return Err(Malformed("the headers of a part are larger than 16 KiB"));
            }
            return Ok(Event::Starved);
        };
        if end > HEADERS_LIMIT {
            return Err(Malformed("the headers of a part are larger than 16 KiB"));
        }
        let block = self.buffer.split_to(end + 4);
        let name = field_name(&block[..end])?;
        self.state = State::Data;
        Ok(Event::Part(name))
    }

    fn data(&mut self) -> Event {
        if let Some(at) = self.delimiter.find(&self.buffer) {
            if at > 0 {
                return Event::Data(self.buffer.split_to(at).freeze());
            }
            self.buffer.advance(self.delimiter.needle().len());
            self.state = State::Delimiter;
            return Event::PartEnd;
        }
        let safe = self.buffer.len() - self.tail();
        if safe == 0 {
            return Event::Starved;
        }
        Event::Data(self.buffer.split_to(safe).freeze())
    }

    /// Length of the longest end of the buffer that a delimiter may begin with.
    fn tail(&self) -> usize {
        let needle = self.delimiter.needle();
        let longest = self.buffer.len().min(needle.len() - 1);
        let window = &self.buffer[self.buffer.len() - longest..];
        memchr::memchr_iter(b'\r', window)
            .find(|&at| needle.starts_with(&window[at..]))
            .map_or(0, |at| window.len() - at)
    }

    fn drop_all_but_a_tail(&mut self) {
        let gone = self.buffer.len() - self.tail();
        self.buffer.advance(gone);
    }
}

/// The `name` of a part's Content-Disposition.
fn field_name(block: &[u8]) -> Result<String, Malformed> {
    let block = std::str::from_utf8(block)
        .map_err(|_| Malformed("the headers of a part are not valid UTF-8"))?;
    let disposition = block.split("\r\n").find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.trim().eq_ignore_ascii_case("content-disposition").then_some(value)
    });
    let (_, parameters) = disposition
        .and_then(|value| value.split_once(';'))
        .ok_or(Malformed("a part has no Content-Disposition with a field name"))?;
    parameter(parameters, "name")
        .ok_or(Malformed("a part has no Content-Disposition with a field name"))
}

/// One parameter of a header such as `a=b; name="x \"y\""`.
fn parameter(text: &str, wanted: &str) -> Option<String> {
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ';']);
        let (key, after) = rest.split_once('=')?;
        let after = after.trim_start();
        let (value, behind) = if let Some(quoted) = after.strip_prefix('"') {
            unquote(quoted)?
        } else {
            let end = after.find(';').unwrap_or(after.len());
            (after[..end].trim().to_owned(), &after[end..])
        };
        if key.trim().eq_ignore_ascii_case(wanted) {
            return Some(value);
        }
        rest = behind;
    }
}

/// Reads up to the closing quote; a backslash takes the next letter as it is.
fn unquote(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(letters.next()?.1),
            letter => value.push(letter),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Fields = Vec<(String, Vec<u8>)>;

    /// Feeds the body in pieces of this size and collects (name, data) of complete parts.
    fn collect(body: &[u8], piece: usize) -> Result<(Fields, bool), Malformed> {
        let mut parser = Parser::new("B");
        let (mut parts, mut open, mut ended) = (Vec::new(), None, false);
        for chunk in body.chunks(piece.max(1)) {
            parser.push(&Bytes::copy_from_slice(chunk));
            loop {
                match parser.next()? {
                    Event::Part(name) => open = Some((name, Vec::new())),
                    Event::Data(data) => {
                        let part: &mut (String, Vec<u8>) =
                            open.as_mut().expect("data lies in a part");
                        part.1.extend_from_slice(&data);
                    }
                    Event::PartEnd => parts.extend(open.take()),
                    Event::End => {
                        ended = true;
                        break;
                    }
                    Event::Starved => break,
                }
            }
        }
        Ok((parts, ended))
    }

    fn body(parts: &[(&str, &[u8])]) -> Vec<u8> {
        let mut out = Vec::new();
        for (name, data) in parts {
            out.extend_from_slice(
                format!("--B\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n")
                    .as_bytes(),
            );
            out.extend_from_slice(data);
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b"--B--\r\n");
        out
    }

    #[test]
    fn parts_come_whole_whatever_the_pieces() {
        let parts: [(&str, &[u8]); 4] = [
            ("files[0].path", b"a/b.txt"),
            ("files[0].file", b""),
            ("x", b"\r\n--A\r\n--"),
            ("y", b"\r\r\n-"),
        ];
        let whole = body(&parts);
        for piece in 1..whole.len() {
            let (found, ended) = collect(&whole, piece).expect("a good body");
            assert!(ended, "piece {piece}");
            let found: Vec<_> = found.iter().map(|(n, d)| (n.as_str(), d.as_slice())).collect();
            assert_eq!(found, parts, "piece {piece}");
        }
    }

    #[test]
    fn a_body_without_its_end_does_not_end() {
        let whole = body(&[("x", b"data")]);
        let (_, ended) = collect(&whole[..whole.len() - 4], 3).expect("a good beginning");
        assert!(!ended);
    }

    #[test]
    fn bad_bodies_are_refused() {
        for bad in [
            &b"--Bx\r\n"[..],
            b"--B\r\nContent-Type: x\r\n\r\nfoo\r\n--B--",
            b"--B\r\nContent-Disposition: form-data\r\n\r\nfoo\r\n--B--",
            b"--B\r\n\xff: \r\n\r\n",
        ] {
            assert!(collect(bad, 5).is_err(), "{bad:?}");
        }
        let mut long = b"--B\r\n".to_vec();
        long.resize(HEADERS_LIMIT + 100, b'a');
        assert!(collect(&long, 999).is_err());
    }

    #[test]
    fn bounds_do_not_depend_on_the_pieces() {
        for length in HEADERS_LIMIT - 4..HEADERS_LIMIT + 8 {
            let head = "Content-Disposition: form-data; name=\"a\"\r\nX: ";
            let filler = "a".repeat(length - head.len());
            let body = format!("--B\r\n{head}{filler}\r\n\r\nz\r\n--B--");
            let whole = collect(body.as_bytes(), body.len());
            assert_eq!(collect(body.as_bytes(), 1), whole, "headers of {length} bytes");
            assert_eq!(whole.is_ok(), length + 2 <= HEADERS_LIMIT, "headers of {length} bytes");
        }
        for length in PADDING_LIMIT - 1..PADDING_LIMIT + 2 {
            let body = format!("--B{}\r\n\r\n", " ".repeat(length));
            let whole = collect(body.as_bytes(), body.len());
            assert_eq!(collect(body.as_bytes(), 1), whole, "{length} bytes of white space");
        }
    }

    #[test]
    fn boundaries_are_read_from_the_header() {
        for (text, good) in [
            ("multipart/form-data; boundary=x", true),
            ("Multipart/Form-Data; charset=utf-8; boundary=\"a b\"", true),
            ("multipart/mixed; boundary=x", false),
            ("multipart/form-data", false),
            ("multipart/form-data; boundary=", false),
        ] {
            assert_eq!(Parser::for_content_type(text).is_some(), good, "{text}");
        }
        assert_eq!(
            parameter("form-data; name=\"a;\\\"b\"; filename=c", "name").as_deref(),
            None,
            "the kind in front is not part of the parameters"
        );
        assert_eq!(parameter(" filename=c; name=\"a;\\\"b\"", "name").as_deref(), Some("a;\"b"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..400), piece in 1usize..50) {
            let _ = collect(&bytes, piece);
        }

        #[test]
        fn any_data_survives(data in proptest::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'-'), Just(b'B'), any::<u8>()], 0..200), piece in 1usize..40) {
            prop_assume!(memmem::find(&data, b"\r\n--B").is_none() && !data.starts_with(b"--B"));
            let whole = body(&[("a", &data), ("b", b"z")]);
            let (found, ended) = collect(&whole, piece).expect("a good body");
            prop_assert!(ended);
            prop_assert_eq!(&found[0].1, &data);
        }
    }
}
