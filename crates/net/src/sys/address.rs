//! Internet addresses in the kernel's form and back.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// An address as the kernel reads it: 16 bytes for IPv4, 28 for IPv6.
#[derive(Debug)]
pub(super) struct Encoded {
    bytes: [u8; 28],
    length: usize,
}

impl AsRef<[u8]> for Encoded {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

pub(super) fn encode(address: SocketAddr) -> Encoded {
    let mut bytes = [0_u8; 28];
    bytes[2..4].copy_from_slice(&address.port().to_be_bytes());
    match address {
        SocketAddr::V4(v4) => {
            bytes[0] = 2;
            bytes[4..8].copy_from_slice(&v4.ip().octets());
            Encoded { bytes, length: 16 }
        }
        SocketAddr::V6(v6) => {
            bytes[0] = 10;
            bytes[8..24].copy_from_slice(&v6.ip().octets());
            bytes[24..28].copy_from_slice(&v6.scope_id().to_ne_bytes());
            Encoded { bytes, length: 28 }
        }
    }
}

/// The address in these bytes; an IPv4 address in its IPv6 form comes out as IPv4.
pub(super) fn decode(bytes: &[u8]) -> Option<SocketAddr> {
    let port = u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?]);
    let ip = match u16::from_ne_bytes([bytes[0], bytes[1]]) {
        2 => IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(bytes.get(4..8)?).ok()?)),
        10 => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(bytes.get(8..24)?).ok()?)),
        _ => return None,
    };
    Some(SocketAddr::new(ip.to_canonical(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_come_back_as_they_went() {
        for text in ["1.2.3.4:80", "[2606:4700::1]:443", "0.0.0.0:0"] {
            let address: SocketAddr = text.parse().unwrap();
            assert_eq!(decode(encode(address).as_ref()), Some(address));
        }
    }

    #[test]
    fn a_mapped_address_is_the_address_within() {
        let mapped: SocketAddr = "[::ffff:1.2.3.4]:80".parse().unwrap();
        assert_eq!(decode(encode(mapped).as_ref()), "1.2.3.4:80".parse().ok());
    }

    #[test]
    fn short_and_foreign_bytes_are_no_address() {
        assert_eq!(decode(&[]), None);
        assert_eq!(decode(&[2, 0, 0, 80, 1, 2, 3]), None);
        assert_eq!(decode(&[1, 0, 47, 104, 0, 0, 0, 0]), None);
    }
}
