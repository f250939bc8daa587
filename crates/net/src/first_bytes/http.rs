//! Plain HTTP/1: every request of a connection must be to the dialled name.
//!
//! Requests are framed as strictly as two readers can agree on: one Host, no folded lines, no bare line feeds,
//! one length or one `chunked`. A switch of protocols (WebSocket) is allowed to the first request, and
//! what follows it is free only once the server has answered 101.

use super::Decision;
use crate::names::Name;

/// Longest head of a request.
const MAX_HEAD: usize = 16 * 1024;

/// Whether these bytes begin an HTTP request; nothing while that is open. Methods are upper case for every server;
/// words in lower case belong to other protocols, which may wait for an answer after a single one.
pub(super) fn begins(bytes: &[u8]) -> Option<bool> {
    const MAX_METHOD: usize = 32;
    let method =
        bytes.iter().take_while(|byte| byte.is_ascii_uppercase() || **byte == b'-').count();
    if method == bytes.len() && method <= MAX_METHOD {
        return None;
    }
    if method == 0 || bytes.get(method) != Some(&b' ') {
        return Some(false);
    }
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    Some(bytes[..end].windows(6).any(|part| part == b" HTTP/"))
}

/// What comes next in the stream of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Head,
    /// So many bytes of a body or chunk, then this.
    Bytes(u64, After),
    ChunkSize,
    ChunkEnd,
    Trailer,
    /// A protocol switch was asked for: the answer tells.
    Answer,
    Free,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    Head,
    ChunkEnd,
}

/// The requests of one connection.
#[derive(Debug)]
pub(super) struct Requests {
    name: Name,
    port: u16,
    next: Next,
    is_first: bool,
}

impl Requests {
    pub(super) fn new(name: Name, port: u16) -> Self {
        Self { name, port, next: Next::Head, is_first: true }
    }

    pub(super) fn awaits_answer(&self) -> bool {
        self.next == Next::Answer
    }

    pub(super) fn answered(&mut self, is_switch: bool) {
        if self.next == Next::Answer {
            self.next = if is_switch { Next::Free } else { Next::Head };
        }
    }

    pub(super) fn judge(&mut self, bytes: &[u8]) -> Decision {
        if bytes.is_empty() && self.next != Next::Free {
            return Decision::Wait;
        }
        match self.next {
            Next::Free => Decision::Free,
            Next::Answer => Decision::Wait,
            Next::Head => self.head(bytes),
            Next::Bytes(left, after) => {
                let count = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                let left = left - count as u64;
                self.next = match (left, after) {
                    (0, After::Head) => Next::Head,
                    (0, After::ChunkEnd) => Next::ChunkEnd,
                    (left, after) => Next::Bytes(left, after),
                };
                Decision::Forward(count)
            }
            Next::ChunkSize => self.line(bytes, |this, line| {
                let size = hexadecimal(line)?;
                this.next = match size {
                    0 => Next::Trailer,
                    size => Next::Bytes(size, After::ChunkEnd),
                };
                Some(())
            }),
            Next::ChunkEnd => self.line(bytes, |this, line| {
                this.next = Next::ChunkSize;
                line.is_empty().then_some(())
            }),
            Next::Trailer => self.line(bytes, |this, line| {
                if line.is_empty() {
                    this.next = Next::Head;
                }
                Some(())
            }),
        }
    }

    /// Judges one line of a chunked body.
    fn line(
        &mut self,
        bytes: &[u8],
        read: impl FnOnce(&mut Self, &[u8]) -> Option<()>,
    ) -> Decision {
        const MAX_LINE: usize = 1024;
        let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
            return if bytes.len() > MAX_LINE { Decision::Refuse } else { Decision::Wait };
        };
        let line = bytes[..end].strip_suffix(b"\r").filter(|line| !line.contains(&b'\r'));
        match line.and_then(|line| read(self, line)) {
            Some(()) => Decision::Forward(end + 1),
            None => Decision::Refuse,
        }
    }

    fn head(&mut self, bytes: &[u8]) -> Decision {
        let Some(end) = bytes.windows(4).position(|part| part == b"\r\n\r\n") else {
            return if bytes.len() > MAX_HEAD { Decision::Refuse } else { Decision::Wait };
        };
        if end > MAX_HEAD {
            return Decision::Refuse;
        }
        match self.request(&bytes[..end]) {
            Some(next) => {
                self.next = next;
                self.is_first = false;
                Decision::Forward(end + 4)
            }
            None => Decision::Refuse,
        }
    }

    /// What follows a request's head; nothing when the request is not to our name beyond doubt.
    fn request(&self, head: &[u8]) -> Option<Next> {
        let text = std::str::from_utf8(head).ok()?;
        let mut lines = text.split("\r\n");
        self.first_line(lines.next()?)?;
        let (mut hosts, mut length, mut is_chunked, mut upgrade) = (0, None, false, false);
        for line in lines {
            let (key, value) = line.split_once(':')?;
            let is_key = !key.is_empty()
                && key
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"-_!#$%&'*+.^`|~".contains(&byte));
            let value = value.trim_matches([' ', '\t']);
            if !is_key || value.bytes().any(|byte| byte.is_ascii_control() && byte != b'\t') {
                return None;
            }
            match key.to_ascii_lowercase().as_str() {
                "host" => {
                    hosts += 1;
                    self.is_ours(value).then_some(())?;
                }
                "content-length" if length.is_none() => length = Some(decimal(value)?),
                "transfer-encoding" if !is_chunked && value.eq_ignore_ascii_case("chunked") => {
                    is_chunked = true;
                }
                "upgrade" if value.eq_ignore_ascii_case("websocket") && self.is_first => {
                    upgrade = true;
                }
                "content-length" | "transfer-encoding" | "http2-settings" | "upgrade" => {
                    return None;
                }
                _ => {}
            }
        }
        match (hosts, length, is_chunked, upgrade) {
            (1, None, true, false) => Some(Next::ChunkSize),
            (1, None | Some(0), false, true) => Some(Next::Answer),
            (1, None | Some(0), false, false) => Some(Next::Head),
            (1, Some(length), false, false) => Some(Next::Bytes(length, After::Head)),
            _ => None,
        }
    }

    fn first_line(&self, line: &str) -> Option<()> {
        let mut parts = line.split(' ');
        let (method, target, version) = (parts.next()?, parts.next()?, parts.next()?);
        let is_plain = line.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
        let is_version = matches!(version, "HTTP/1.1" | "HTTP/1.0") && parts.next().is_none();
        let is_target = match target.split_once("://") {
            _ if target.starts_with('/') => true,
            Some((scheme, rest)) => {
                let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
                scheme.eq_ignore_ascii_case("http") && self.is_ours(&rest[..end])
            }
            None => target == "*" && method == "OPTIONS",
        };
        let is_method = !matches!(method, "CONNECT" | "PRI" | "");
        (is_plain && is_version && is_target && is_method).then_some(())
    }

    /// Whether an authority is the dialled name, with the dialled port or none.
    fn is_ours(&self, authority: &str) -> bool {
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) => (host, decimal(port)),
            None => (authority, Some(u64::from(self.port))),
        };
        port == Some(u64::from(self.port))
            && Name::parse(host).is_some_and(|name| name == self.name)
    }
}

fn decimal(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_number)
}

/// The size of a chunk; extensions of it are refused.
fn hexadecimal(line: &[u8]) -> Option<u64> {
    let is_number = (1..=15).contains(&line.len()) && line.iter().all(u8::is_ascii_hexdigit);
    let text = std::str::from_utf8(line).ok().filter(|_| is_number)?;
    u64::from_str_radix(text, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requests() -> Requests {
        Requests::new(Name::parse("a.com").unwrap(), 80)
    }

    /// Bytes that get out of a stream, and whether it was refused.
    fn run(stream: &str, step: usize) -> (usize, bool) {
        let mut requests = requests();
        let (mut sent, mut seen) = (0, 0);
        while seen < stream.len() {
            seen = (seen + step).min(stream.len());
            loop {
                match requests.judge(&stream.as_bytes()[sent..seen]) {
                    Decision::Forward(count) => sent += count,
                    Decision::Refuse => return (sent, true),
                    Decision::Wait => break,
                    Decision::Free => return (stream.len(), false),
                }
            }
        }
        (sent, false)
    }

    #[test]
    fn good_streams_go_out_whole() {
        for stream in [
            "GET / HTTP/1.1\r\nHost: a.com\r\n\r\n",
            "GET / HTTP/1.0\r\nhost:A.COM.:80\r\nX: y\r\n\r\n",
            "GET http://a.com/x HTTP/1.1\r\nHost: a.com\r\n\r\n",
            "OPTIONS * HTTP/1.1\r\nHost: a.com\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a.com\r\nContent-Length: 5\r\n\r\nhelloGET /2 HTTP/1.1\r\nHost: a.com\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a.com\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nT: x\r\n\r\nGET / HTTP/1.1\r\nHost: a.com\r\n\r\n",
        ] {
            for step in [1, 7, 4096] {
                assert_eq!(run(stream, step), (stream.len(), false), "{stream:?} by {step}");
            }
        }
    }

    #[test]
    fn doubtful_requests_are_refused_also_after_good_ones() {
        let good = "POST / HTTP/1.1\r\nHost: a.com\r\nContent-Length: 2\r\n\r\nok";
        for bad in [
            "GET / HTTP/1.1\r\nHost: b.com\r\n\r\n",
            "GET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a.com\r\nHost: a.com\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a.com\r\nHost: b.com\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a.com:81\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a.com, b.com\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a.com\r\n X: folded\r\n\r\n",
            "GET / HTTP/1.1\r\nHost : a.com\r\n\r\n",
            "GET / HTTP/1.1\nHost: a.com\n\n\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a.com\r\nX: a\nHost: b.com\r\n\r\n",
            "GET http://b.com/ HTTP/1.1\r\nHost: a.com\r\n\r\n",
            "GET http://u@a.com/ HTTP/1.1\r\nHost: a.com\r\n\r\n",
            "GET b.com HTTP/1.1\r\nHost: a.com\r\n\r\n",
            "CONNECT a.com:443 HTTP/1.1\r\nHost: a.com\r\n\r\n",
            "PRI * HTTP/2.0\r\n\r\n",
            "GET / HTTP/2.0\r\nHost: a.com\r\n\r\n",
            "GET / HTTP/1.1 x\r\nHost: a.com\r\n\r\n",
            "GET  / HTTP/1.1\r\nHost: a.com\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a.com\r\nUpgrade: h2c\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a.com\r\nHTTP2-Settings: x\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a.com\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a.com\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a.com\r\nContent-Length: +5\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a.com\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a.com\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\n",
            "POST / HTTP/1.1\r\nHost: a.com\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\n",
        ] {
            assert!(run(bad, 4096).1, "{bad:?}");
            let (sent, is_refused) = run(&format!("{good}{bad}"), 4096);
            assert!(is_refused && sent >= good.len(), "{bad:?}");
        }
        let endless = format!("GET / HTTP/1.1\r\nHost: a.com\r\nX: {}", "x".repeat(MAX_HEAD));
        assert_eq!(run(&endless, 4096), (0, true));
    }

    #[test]
    fn a_switch_of_protocols_waits_for_its_answer() {
        let request =
            b"GET / HTTP/1.1\r\nHost: a.com\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
        let smuggled = b"GET / HTTP/1.1\r\nHost: b.com\r\n\r\n";
        for (is_switch, expected) in [(true, Decision::Free), (false, Decision::Refuse)] {
            let mut requests = requests();
            assert_eq!(requests.judge(request), Decision::Forward(request.len()));
            assert_eq!(
                (requests.judge(smuggled), requests.awaits_answer()),
                (Decision::Wait, true)
            );
            requests.answered(is_switch);
            assert_eq!(requests.judge(smuggled), expected);
        }
        let late = "GET / HTTP/1.1\r\nHost: a.com\r\n\r\nGET / HTTP/1.1\r\nHost: a.com\r\nUpgrade: websocket\r\n\r\n";
        assert!(run(late, 4096).1);
    }
}
