//! Signed preview links: a token that is part of the host's name, opens one port and says itself when it ends.
//!
//! ```text
//! token = base32(sandbox id, 16 bytes | last second, 4 bytes | code, 15 bytes)       56 characters
//! ```
//! Together with the longest port it fits the 63 characters of a host's label. Only links that are ended early are
//! stored.

use hmac::Mac;
use mayfly_core::id::SandboxId;
use mayfly_core::time::Timestamp;

use crate::http::signed::mac;

const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
/// Bytes of the part that is signed, and of all.
const SIGNED: usize = 20;
const BYTES: usize = 35;
const CHARACTERS: usize = 56;

/// What a token says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    /// The sandbox that it opens.
    pub(crate) sandbox: SandboxId,
    /// The last second in which it opens, since 1970.
    pub(crate) until: u32,
}

impl Link {
    /// Whether it is over.
    pub(crate) fn is_over(self, now: Timestamp) -> bool {
        now.0.div_euclid(1000) > i64::from(self.until)
    }

    /// When it is over.
    pub(crate) fn end(self) -> Timestamp {
        Timestamp((i64::from(self.until) + 1) * 1000)
    }

    /// The token of this link to a port.
    pub(crate) fn token(self, master: &[u8; 32], port: u16) -> String {
        let mut bytes = [0; BYTES];
        bytes[..16].copy_from_slice(self.sandbox.as_uuid().as_bytes());
        bytes[16..SIGNED].copy_from_slice(&self.until.to_be_bytes());
        let code = code(master, port, self).finalize().into_bytes();
        bytes[SIGNED..].copy_from_slice(&code[..BYTES - SIGNED]);
        encode(&bytes)
    }

    /// What a token says, if it was made for this port; it may be over. Compares in constant time.
    pub(crate) fn read(master: &[u8; 32], port: u16, token: &str) -> Option<Self> {
        let bytes = decode(token)?;
        let sandbox = SandboxId::from_uuid(uuid::Uuid::from_slice(&bytes[..16]).ok()?);
        let until = u32::from_be_bytes(bytes[16..SIGNED].try_into().ok()?);
        let link = Self { sandbox, until };
        code(master, port, link).verify_truncated_left(&bytes[SIGNED..]).is_ok().then_some(link)
    }
}

fn code(master: &[u8; 32], port: u16, link: Link) -> crate::http::signed::HmacSha256 {
    mac(master, &format!("preview-link:{}:{port}:{}", link.sandbox, link.until))
}

/// Whether a text has the form of a token.
pub(crate) fn is_token(text: &str) -> bool {
    text.len() == CHARACTERS && text.bytes().all(|byte| ALPHABET.contains(&byte))
}

/// Eight characters for every five bytes.
fn encode(bytes: &[u8; BYTES]) -> String {
    bytes
        .chunks_exact(5)
        .flat_map(|five| {
            let word = five.iter().fold(0_usize, |word, byte| word << 8 | usize::from(*byte));
            (0..8).rev().map(move |place| ALPHABET[word >> (5 * place) & 31])
        })
        .map(char::from)
        .collect()
}

fn decode(text: &str) -> Option<[u8; BYTES]> {
    if !is_token(text) {
        return None;
    }
    let mut bytes = [0; BYTES];
    for (eight, five) in text.as_bytes().chunks_exact(8).zip(bytes.chunks_exact_mut(5)) {
        let word = eight.iter().try_fold(0_u64, |word, character| {
            let value = ALPHABET.iter().position(|letter| letter == character)?;
            Some(word << 5 | value as u64)
        })?;
        five.copy_from_slice(&word.to_be_bytes()[3..]);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_opens_its_port_until_its_end() {
        let sandbox = SandboxId::from_uuid(uuid::Uuid::from_u128(u128::MAX / 3));
        let link = Link { sandbox, until: 2_000_000_000 };
        let master = [9; 32];
        let token = link.token(&master, 3000);
        assert!(is_token(&token) && format!("65535-{token}").len() <= 63);
        assert_eq!(Link::read(&master, 3000, &token), Some(link));
        assert_eq!(Link::read(&master, 3001, &token), None);
        assert_eq!(Link::read(&[8; 32], 3000, &token), None);
        for at in 0..token.len() {
            let mut changed = token.clone().into_bytes();
            changed[at] = if changed[at] == b'a' { b'b' } else { b'a' };
            let changed = String::from_utf8(changed).unwrap();
            assert_eq!(Link::read(&master, 3000, &changed), None, "{at}");
        }
        assert_eq!(Link::read(&master, 3000, &token[1..]), None);
        assert_eq!(Link::read(&master, 3000, &token.to_uppercase()), None);
        assert!(!link.is_over(Timestamp(2_000_000_000_999)));
        assert!(link.is_over(link.end()));
    }
}
