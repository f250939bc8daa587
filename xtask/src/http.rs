//! As much of an HTTP client as the demo needs: one request per connection, over loopback.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

/// Longest wait for the server at any point of one call.
const PATIENCE: Duration = Duration::from_mins(1);

/// Most bytes of one answer.
const MAX_ANSWER: u64 = 64 << 20;

/// A server and the key it knows us by.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// API key.
    pub(crate) key: String,
}

/// What the server said.
#[derive(Debug)]
pub(crate) struct Answer {
    /// HTTP status.
    pub(crate) status: u16,
    /// Body as it came, transfer coding undone.
    pub(crate) body: Vec<u8>,
}

impl Client {
    /// A call without a body.
    pub(crate) fn call(&self, method: &str, path: &str) -> Result<Answer> {
        self.send(method, path, "application/json", &[])
    }

    /// A call whose success is JSON; any other status is an error with what the server said.
    pub(crate) fn json(&self, method: &str, path: &str, body: &Value) -> Result<Value> {
        let answer = self.send(method, path, "application/json", body.to_string().as_bytes())?;
        let text = String::from_utf8_lossy(&answer.body);
        if !(200..300).contains(&answer.status) {
            bail!("{method} {path} answered {}: {text}", answer.status);
        }
        serde_json::from_str(&text)
            .with_context(|| format!("{method} {path} answered no JSON: {text}"))
    }

    /// A call with a body of any type.
    pub(crate) fn send(&self, method: &str, path: &str, kind: &str, body: &[u8]) -> Result<Answer> {
        self.exchange(method, path, kind, body).with_context(|| format!("{method} {path}"))
    }

    fn exchange(&self, method: &str, path: &str, kind: &str, body: &[u8]) -> Result<Answer> {
        let mut stream = TcpStream::connect_timeout(&self.address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\nConnection: close\r\n\
             Content-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
            self.address,
            self.key,
            body.len()
        );
        stream.write_all(&[head.as_bytes(), body].concat())?;
        let mut raw = Vec::new();
        stream.take(MAX_ANSWER).read_to_end(&mut raw)?;
        parse(&raw)
    }
}

fn parse(raw: &[u8]) -> Result<Answer> {
    let end = find(raw, b"\r\n\r\n").context("the answer has no end of head")?;
    let head = std::str::from_utf8(&raw[..end]).context("the head of the answer is not text")?;
    let status = head.split(' ').nth(1).and_then(|word| word.parse().ok());
    let status = status.with_context(|| format!("no status in `{head}`"))?;
    let body = &raw[end + 4..];
    let is_chunked = head.to_ascii_lowercase().contains("\r\ntransfer-encoding: chunked");
    let body = if is_chunked { unchunked(body)? } else { body.to_vec() };
    Ok(Answer { status, body })
}

fn unchunked(mut rest: &[u8]) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = find(rest, b"\r\n").context("a chunk without a size")?;
        let size = std::str::from_utf8(&rest[..end])?.split(';').next().unwrap_or_default();
        let size = usize::from_str_radix(size.trim(), 16).context("a chunk's size is no number")?;
        rest = &rest[end + 2..];
        if size == 0 {
            return Ok(body);
        }
        let Some(chunk) = rest.get(..size) else { bail!("a chunk ends early") };
        body.extend_from_slice(chunk);
        rest = rest.get(size + 2..).context("a chunk without an end")?;
    }
}

/// Offset of the first occurrence.
pub(crate) fn find(text: &[u8], needle: &[u8]) -> Option<usize> {
    text.windows(needle.len()).position(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_in_both_forms() {
        let plain = parse(b"HTTP/1.1 204 No Content\r\nA: b\r\n\r\n").expect("a whole answer");
        assert_eq!((plain.status, plain.body.as_slice()), (204, b"".as_slice()));
        let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x\r\nde\r\n0\r\n\r\n";
        assert_eq!(parse(chunked).expect("a whole answer").body, b"abcde");
    }

    #[test]
    fn a_cut_answer_is_an_error() {
        assert!(parse(b"HTTP/1.1 200 OK\r\n").is_err());
        assert!(unchunked(b"5\r\nabc").is_err());
    }
}
