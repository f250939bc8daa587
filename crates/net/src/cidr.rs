//! Ranges of addresses.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// A range `address/length`; bits beyond the length are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cidr {
    address: IpAddr,
    length: u8,
}

impl Cidr {
    /// A range; nothing when the length is too great or bits beyond it are set.
    pub fn new(address: IpAddr, length: u8) -> Option<Self> {
        let range = Self::around(address, length)?;
        (range.address == address).then_some(range)
    }

    /// The range of this length that holds an address; nothing when the length is too great.
    pub fn around(address: IpAddr, length: u8) -> Option<Self> {
        let address = match address {
            IpAddr::V4(v4) if length <= 32 => {
                let mask = u32::MAX.checked_shl(u32::from(32 - length)).unwrap_or(0);
                IpAddr::V4((v4.to_bits() & mask).into())
            }
            IpAddr::V6(v6) if length <= 128 => {
                let mask = u128::MAX.checked_shl(u32::from(128 - length)).unwrap_or(0);
                IpAddr::V6((v6.to_bits() & mask).into())
            }
            _ => return None,
        };
        Some(Self { address, length })
    }

    /// Whether an address lies within; never true across the two families.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.address.is_ipv4() == address.is_ipv4()
            && Self::around(address, self.length).is_some_and(|range| range == *self)
    }
}

impl FromStr for Cidr {
    type Err = ();

    /// Reads `address/length`, or one address alone. IPv4 in its IPv6 form is refused.
    fn from_str(text: &str) -> Result<Self, ()> {
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(drop)?;
        let whole = if address.is_ipv4() { 32 } else { 128 };
        let length = match length {
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                digits.parse().map_err(drop)?
            }
            Some(_) => return Err(()),
            None => whole,
        };
        if address.to_canonical() != address {
            return Err(());
        }
        Self::new(address, length).ok_or(())
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_strictly() {
        for bad in [
            "",
            "/",
            "1.2.3.4/33",
            "1.2.3.4/8",
            "1.2.3/24",
            "01.2.3.4",
            "1.2.3.4/",
            "1.2.3.4/+8",
            "1.2.3.4/-1",
            "::1/129",
            "fe80::1%lo",
            "::ffff:1.2.3.4/128",
            "0x7f000001",
            "1.2.3.4/8/8",
            "2130706433",
            "10.0.0.0/ 8",
        ] {
            assert_eq!(bad.parse::<Cidr>(), Err(()), "{bad}");
        }
        for (good, text) in [
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("1.2.3.4", "1.2.3.4/32"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("2606::/16", "2606::/16"),
            ("::/0", "::/0"),
            ("::1", "::1/128"),
        ] {
            assert_eq!(good.parse::<Cidr>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn ranges_end_where_they_end() {
        for (range, address, expected) in [
            ("10.0.0.0/8", "10.255.255.255", true),
            ("10.0.0.0/8", "11.0.0.0", false),
            ("1.2.3.4/31", "1.2.3.5", true),
            ("1.2.3.4/31", "1.2.3.6", false),
            ("0.0.0.0/0", "255.255.255.255", true),
            ("0.0.0.0/0", "::", false),
            ("::/0", "1.2.3.4", false),
            ("2606:4700::/32", "2606:4700:ffff::1", true),
            ("2606:4700::/32", "2606:4701::", false),
        ] {
            let range: Cidr = range.parse().unwrap();
            assert_eq!(range.contains(address.parse().unwrap()), expected, "{range} {address}");
        }
    }
}
