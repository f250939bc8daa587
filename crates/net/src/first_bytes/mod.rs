//! The first bytes of a connection to a name: they must prove that name before they are let out.

mod http;
mod tls;

use crate::names::Name;

/// Bytes that may wait for a judgement, at most.
pub(crate) const MAX_HELD: usize = 32 * 1024;
/// Longest first line that may still turn out to be HTTP.
const MAX_LINE: usize = 8 * 1024;

/// What may happen to the bytes that wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// More must be seen first.
    Wait,
    /// So many of them may go, at least 1; the rest is to be judged again.
    Forward(usize),
    /// All of this connection may go.
    Free,
    /// They do not prove the name.
    Refuse,
}

/// The judge of one connection.
#[derive(Debug)]
pub(crate) struct Guard {
    name: Name,
    port: u16,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Unknown,
    Http(http::Requests),
}

impl Guard {
    pub(crate) fn new(name: Name, port: u16) -> Self {
        Self { name, port, stage: Stage::Unknown }
    }

    /// Judges bytes that follow those forwarded before.
    pub(crate) fn judge(&mut self, bytes: &[u8]) -> Decision {
        if let Stage::Http(requests) = &mut self.stage {
            return requests.judge(bytes);
        }
        // These two ports promise TLS or HTTP; elsewhere other protocols go, as the address is the name's.
        let other = if matches!(self.port, 80 | 443) { Decision::Refuse } else { Decision::Free };
        match bytes.first() {
            None => Decision::Wait,
            Some(0x16) => match tls::server_name(bytes) {
                tls::Hello::Short => Decision::Wait,
                tls::Hello::Names(name) if name == self.name => Decision::Free,
                tls::Hello::Names(_) | tls::Hello::NoName => Decision::Refuse,
                tls::Hello::NotTls => other,
            },
            Some(b'\r' | b'\n') => Decision::Refuse,
            Some(_) => match http::begins(bytes) {
                Some(true) => {
                    let mut requests = http::Requests::new(self.name.clone(), self.port);
                    let decision = requests.judge(bytes);
                    self.stage = Stage::Http(requests);
                    decision
                }
                Some(false) => other,
                None if bytes.len() > MAX_LINE => Decision::Refuse,
                None => Decision::Wait,
            },
        }
    }

    /// Whether the answer's first bytes are needed for the next judgement.
    pub(crate) fn awaits_answer(&self) -> bool {
        matches!(&self.stage, Stage::Http(requests) if requests.awaits_answer())
    }

    /// The answer's first bytes, up to [`ANSWER`] of them.
    pub(crate) fn answered(&mut self, bytes: &[u8]) {
        if let Stage::Http(requests) = &mut self.stage {
            requests.answered(bytes.starts_with(b"HTTP/1.1 101"));
        }
    }
}

/// Bytes of an answer that tell whether it switches protocols.
pub(crate) const ANSWER: usize = 12;

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(port: u16, bytes: &[u8]) -> Decision {
        Guard::new(Name::parse("a.com").unwrap(), port).judge(bytes)
    }

    #[test]
    fn what_is_neither_tls_nor_http_is_refused_where_those_are_promised() {
        for (bytes, on_443, elsewhere) in [
            (b"".as_slice(), Decision::Wait, Decision::Wait),
            (b"SSH-2.0-x\r\n", Decision::Refuse, Decision::Free),
            (b"EHLO x\r\n", Decision::Refuse, Decision::Free),
            (b"EHLO", Decision::Wait, Decision::Wait),
            (&[b'A'; 32], Decision::Wait, Decision::Wait),
            (&[b'A'; 33], Decision::Refuse, Decision::Free),
            (b"\0\0\0\x08\x04", Decision::Refuse, Decision::Free),
            (b"\x16\x03\x01", Decision::Wait, Decision::Wait),
            (b"\x16\x04\x01\0\x05", Decision::Refuse, Decision::Free),
            (b"\r\nGET / HTTP/1.1\r\nHost: b.com\r\n\r\n", Decision::Refuse, Decision::Refuse),
            (b"GET / HTTP/1.1\r\nHost: b.com\r\n\r\n", Decision::Refuse, Decision::Refuse),
            (
                b"GET / HTTP/1.1\r\nHost: a.com\r\n\r\n",
                Decision::Forward(31),
                Decision::Forward(31),
            ),
            (b"get / HTTP/1.1\r\nHost: b.com\r\n\r\n", Decision::Refuse, Decision::Free),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Decision::Refuse, Decision::Refuse),
            (
                b"CONNECT b.com:443 HTTP/1.1\r\nHost: a.com\r\n\r\n",
                Decision::Refuse,
                Decision::Refuse,
            ),
        ] {
            let text = String::from_utf8_lossy(bytes);
            assert_eq!(judge(443, bytes), on_443, "{text}");
            assert_eq!(judge(80, bytes), on_443, "{text}");
            assert_eq!(judge(9000, bytes), elsewhere, "{text}");
        }
    }

    #[test]
    fn random_bytes_never_panic() {
        for good in [
            &[b'A'; 40][..],
            b"GET / HTTP/1.1\r\nHost: a.com\r\nContent-Length: 3\r\n\r\nabc".as_slice(),
            b"\x16\x03\x01\0\x10\x01\0\0\x0c\x03\x03aaaaaaaaaa",
        ] {
            crate::seeded::mutations(good, |bytes| {
                let mut guard = Guard::new(Name::parse("a.com").unwrap(), 80);
                let mut rest = bytes;
                while let Decision::Forward(count) = guard.judge(rest) {
                    assert!(count > 0 && count <= rest.len());
                    rest = &rest[count..];
                }
            });
        }
    }
}
