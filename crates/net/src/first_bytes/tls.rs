//! The server name of a TLS `ClientHello` (RFC 8446, RFC 6066).
//!
//! With an encrypted `ClientHello` the outer name counts: it is the one that everybody on the way sees, and
//! the only one that can be compared.

use crate::names::Name;

/// What the first bytes of a connection are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Hello {
    /// The beginning of a hello.
    Short,
    /// A hello that names this server.
    Names(Name),
    /// A hello that names none, or one that cannot be read.
    NoName,
    NotTls,
}

const RECORD_HEAD: usize = 5;
const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
/// Longest hello; those of today have less than 2 KiB.
const MAX_HELLO: usize = 24 * 1024;

/// Reads the server name; the hello may be split over records and over calls.
pub(super) fn server_name(bytes: &[u8]) -> Hello {
    let mut hello = Vec::new();
    let mut rest = bytes;
    loop {
        if hello.len() >= 4 {
            let length =
                usize::from(hello[1]) << 16 | usize::from(hello[2]) << 8 | usize::from(hello[3]);
            match () {
                () if hello[0] != CLIENT_HELLO => return Hello::NotTls,
                () if length > MAX_HELLO => return Hello::NoName,
                () if hello.len() >= 4 + length => {
                    return name_of(&hello[4..4 + length]).map_or(Hello::NoName, Hello::Names);
                }
                () => {}
            }
        }
        let Some((head, tail)) = rest.split_at_checked(RECORD_HEAD) else {
            let is_ours = rest.first().is_none_or(|kind| *kind == HANDSHAKE)
                && rest.get(1).is_none_or(|major| *major == 3);
            return if is_ours { Hello::Short } else { Hello::NotTls };
        };
        let length = usize::from(head[3]) << 8 | usize::from(head[4]);
        if head[0] != HANDSHAKE || head[1] != 3 || length == 0 || length > 16 * 1024 {
            return Hello::NotTls;
        }
        hello.extend_from_slice(&tail[..length.min(tail.len())]);
        rest = tail.get(length..).unwrap_or_default();
        if tail.len() <= length && hello.len() < 4 {
            return Hello::Short;
        }
        if tail.len() < length && !is_complete(&hello) {
            return Hello::Short;
        }
    }
}

fn is_complete(hello: &[u8]) -> bool {
    let length = usize::from(hello[1]) << 16 | usize::from(hello[2]) << 8 | usize::from(hello[3]);
    hello[0] != CLIENT_HELLO || length > MAX_HELLO || hello.len() >= 4 + length
}

/// Takes a vector with a length of `size` bytes off the front.
fn vector<'a>(bytes: &mut &'a [u8], size: usize) -> Option<&'a [u8]> {
    let (head, tail) = bytes.split_at_checked(size)?;
    let length = head.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
    let (value, rest) = tail.split_at_checked(length)?;
    *bytes = rest;
    Some(value)
}

/// The one name in the server name extension of a hello's body.
fn name_of(body: &[u8]) -> Option<Name> {
    const SERVER_NAME: [u8; 2] = [0, 0];
    const HOST_NAME: u8 = 0;
    let mut rest = body.get(2 + 32..)?;
    vector(&mut rest, 1)?;
    vector(&mut rest, 2)?;
    vector(&mut rest, 1)?;
    let mut extensions = vector(&mut rest, 2)?;
    let mut found = None;
    while !extensions.is_empty() {
        let (kind, tail) = extensions.split_at_checked(2)?;
        extensions = tail;
        let mut data = vector(&mut extensions, 2)?;
        if kind != SERVER_NAME {
            continue;
        }
        let mut list = vector(&mut data, 2)?;
        let (HOST_NAME, tail) = list.split_first().map(|(kind, tail)| (*kind, tail))? else {
            return None;
        };
        list = tail;
        let name = Name::parse(std::str::from_utf8(vector(&mut list, 2)?).ok()?)?;
        // A second name or a second extension would leave open which one the server takes.
        if !list.is_empty() || !data.is_empty() || found.is_some() {
            return None;
        }
        found = Some(name);
    }
    rest.is_empty().then_some(found)?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_length(size: usize, bytes: &[u8]) -> Vec<u8> {
        let length = u32::try_from(bytes.len()).unwrap().to_be_bytes();
        [&length[4 - size..], bytes].concat()
    }

    fn name_extension(name: &str) -> Vec<u8> {
        let entry = [vec![0], with_length(2, name.as_bytes())].concat();
        [vec![0, 0], with_length(2, &with_length(2, &entry))].concat()
    }

    fn handshake(extensions: &[Vec<u8>]) -> Vec<u8> {
        let mut body = vec![3, 3];
        body.extend_from_slice(&[7; 32]);
        body.extend(with_length(1, &[1; 32]));
        body.extend(with_length(2, &[0x13, 1]));
        body.extend(with_length(1, &[0]));
        body.extend(with_length(2, &extensions.concat()));
        [vec![1], with_length(3, &body)].concat()
    }

    fn records(handshake: &[u8], size: usize) -> Vec<u8> {
        let record = |part: &[u8]| [vec![22, 3, 1], with_length(2, part)].concat();
        handshake.chunks(size).flat_map(record).collect()
    }

    fn names(text: &str) -> Hello {
        Hello::Names(Name::parse(text).unwrap())
    }

    #[test]
    fn the_name_is_found_however_the_hello_is_split() {
        let greased = vec![0x0a, 0x0a, 0, 1, 0];
        let whole = handshake(&[greased, name_extension("A.com")]);
        for size in [1, 3, 4, 5, 64, 16_000] {
            let bytes = records(&whole, size);
            assert_eq!(server_name(&bytes), names("a.com"), "{size}");
            for end in 0..bytes.len() {
                assert_eq!(server_name(&bytes[..end]), Hello::Short, "{size} {end}");
            }
        }
        let followed = [records(&whole, 999), vec![20, 3, 3, 0, 1, 1]].concat();
        assert_eq!(server_name(&followed), names("a.com"));
    }

    #[test]
    fn a_hello_without_one_clear_name_names_none() {
        for extensions in [
            vec![],
            vec![name_extension("a.com"), name_extension("b.com")],
            vec![name_extension("")],
            vec![name_extension("1.2.3.4")],
            vec![name_extension("a.com\0b.com")],
            vec![vec![0, 0, 0, 0]],
            vec![vec![0, 0, 0, 9, 0]],
        ] {
            let hello = server_name(&records(&handshake(&extensions), 999));
            assert_eq!(hello, Hello::NoName, "{extensions:?}");
        }
        let two = [vec![0], with_length(2, b"a.com"), vec![0], with_length(2, b"b.com")].concat();
        let two = [vec![0, 0], with_length(2, &with_length(2, &two))].concat();
        assert_eq!(server_name(&records(&handshake(&[two]), 999)), Hello::NoName);
    }

    #[test]
    fn other_bytes_are_no_hello() {
        for bytes in
            [&[22, 2, 1][..], &[23, 3, 1], &[22, 3, 1, 0, 0], &[22, 3, 1, 255, 255], b"GET /"]
        {
            assert_eq!(server_name(bytes), Hello::NotTls);
        }
        assert_eq!(server_name(&records(&[2, 0, 0, 1, 0], 99)), Hello::NotTls);
        assert_eq!(server_name(&records(&[1, 255, 0, 0], 99)), Hello::NoName);
        crate::seeded::mutations(&records(&handshake(&[name_extension("a.com")]), 40), |bytes| {
            server_name(bytes);
        });
    }
}
