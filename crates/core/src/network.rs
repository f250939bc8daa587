//! What a sandbox may reach, as callers ask for it and as it is kept.
//!
//! Block all wins over every list. Lists allow what any of them names, and nothing else. Without block all and
//! lists the public internet is reachable. Private ranges need the operator's permission besides, and nothing
//! reaches the host itself, link-local addresses and neighbours (isolation contract, N1 to N4).

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::fmt;
use std::str::FromStr;

use crate::time::Timestamp;
use crate::{Error, Result};

/// Most ranges of one list.
pub const MAX_CIDRS: usize = 256;
/// Most domains of one list.
pub const MAX_DOMAINS: usize = 128;
/// Longest URL of a proxy, bytes.
const MAX_PROXY: usize = 1024;

/// A range of addresses, `address/length`; bits beyond the length are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cidr {
    address: IpAddr,
    length: u8,
}

impl Cidr {
    /// Whether the other range lies within this one; never across the two families.
    pub fn covers(&self, other: &Self) -> bool {
        let bits = |address: IpAddr| match address {
            IpAddr::V4(v4) => u128::from(v4.to_bits()) << 96,
            IpAddr::V6(v6) => v6.to_bits(),
        };
        let difference = bits(self.address) ^ bits(other.address);
        self.address.is_ipv4() == other.address.is_ipv4()
            && self.length <= other.length
            && difference.checked_shr(128 - u32::from(self.length)).unwrap_or(0) == 0
    }

    /// Whether it lies in a range of private networks: 10/8, 172.16/12, 192.168/16, `fc00::/7`.
    pub fn is_private(&self) -> bool {
        const PRIVATE: [(IpAddr, u8); 4] = [
            (IpAddr::V4(Ipv4Addr::new(10, 0, 0, 0)), 8),
            (IpAddr::V4(Ipv4Addr::new(172, 16, 0, 0)), 12),
            (IpAddr::V4(Ipv4Addr::new(192, 168, 0, 0)), 16),
            (IpAddr::V6(Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0)), 7),
        ];
        PRIVATE
            .iter()
            .any(|(address, length)| Self { address: *address, length: *length }.covers(self))
    }
}

impl FromStr for Cidr {
    type Err = Error;

    /// Reads `address/length`, or one address alone; [`crate::Kind::Invalid`] names the text.
    fn from_str(text: &str) -> Result<Self> {
        let bad = || {
            let shown: String = text.chars().take(64).collect();
            Error::invalid(format!(
                "`{shown}` is not a range of addresses: expected address/length without bits beyond the length"
            ))
        };
        let (address, length) = text.split_once('/').map_or((text, None), |(a, b)| (a, Some(b)));
        let address: IpAddr = address.parse().map_err(|_| bad())?;
        let whole: u8 = if address.is_ipv4() { 32 } else { 128 };
        let length = match length {
            None => whole,
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                digits.parse().ok().filter(|length| *length <= whole).ok_or_else(bad)?
            }
            Some(_) => return Err(bad()),
        };
        let low = match address {
            IpAddr::V4(v4) => u128::from(v4.to_bits().checked_shl(length.into()).unwrap_or(0)),
            IpAddr::V6(v6) => v6.to_bits().checked_shl(length.into()).unwrap_or(0),
        };
        // IPv4 in its IPv6 form would be judged as what it carries.
        if low != 0 || address.to_canonical() != address {
            return Err(bad());
        }
        Ok(Self { address, length })
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

/// A name or `*.name` (every name below it, of any depth, but not the name itself), in lower case.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Domain(String);

impl Domain {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Domain {
    type Err = Error;

    /// Reads a pattern in any case; [`crate::Kind::Invalid`] names the text.
    fn from_str(text: &str) -> Result<Self> {
        let name = text.strip_prefix("*.").unwrap_or(text);
        if is_name(name) {
            return Ok(Self(text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase()));
        }
        let shown: String = text.chars().take(64).collect();
        let error =
            Error::invalid(format!("`{shown}` is not a domain: expected `name` or `*.name`"));
        Err(if text.is_ascii() {
            error
        } else {
            error.with_hint("write names in other scripts in their `xn--` form")
        })
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Labels of letters, digits, `-` and `_`; the last one is no number, so that no address is taken for a name.
fn is_name(text: &str) -> bool {
    let text = text.strip_suffix('.').unwrap_or(text);
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    let last = text.rsplit('.').next().unwrap_or_default();
    let is_number = last.bytes().all(|byte| byte.is_ascii_digit())
        || last.starts_with("0x")
        || last.starts_with("0X");
    text.len() <= 253 && text.split('.').all(is_label) && !is_number
}

/// An HTTP proxy, `http://[user:password@]host[:port]`.
#[derive(Clone, PartialEq, Eq)]
pub struct ProxyUrl(String);

impl ProxyUrl {
    /// The URL, its password included.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProxyUrl(..)")
    }
}

impl FromStr for ProxyUrl {
    type Err = Error;

    /// Reads a URL; [`crate::Kind::Invalid`] never repeats it, because it may hold a password.
    fn from_str(text: &str) -> Result<Self> {
        let bad = || {
            Error::invalid(
                "outboundProxyUrl is not a proxy: expected http://[user:password@]host[:port]",
            )
        };
        let is_plain = text.len() <= MAX_PROXY && text.bytes().all(|byte| byte.is_ascii_graphic());
        let rest = text.strip_prefix("http://").filter(|_| is_plain).ok_or_else(bad)?;
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (login, authority) = rest.rsplit_once('@').map_or(("", rest), |parts| parts);
        if !is_percent_encoded(login) {
            return Err(bad());
        }
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, port),
            _ => (authority, "80"),
        };
        let is_address = host.parse::<Ipv4Addr>().is_ok()
            || host
                .strip_prefix('[')
                .and_then(|host| host.strip_suffix(']'))
                .is_some_and(|host| host.parse::<Ipv6Addr>().is_ok());
        let is_port = port.bytes().all(|byte| byte.is_ascii_digit())
            && port.parse::<u16>().is_ok_and(|port| port != 0);
        if is_port && (is_address || is_name(host)) {
            return Ok(Self(text.to_owned()));
        }
        Err(bad())
    }
}

/// Whether every `%` begins a byte of UTF-8 text without control characters.
fn is_percent_encoded(text: &str) -> bool {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digits = tail.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) if digits.is_some_and(|digits| !digits.starts_with('+')) => bytes.push(byte),
            _ => return false,
        }
        rest = &tail[2..];
    }
    String::from_utf8(bytes).is_ok_and(|text| text.bytes().all(|byte| !byte.is_ascii_control()))
}

/// What one sandbox may reach.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkPolicy {
    /// Nothing at all, whatever the lists say.
    pub block_all: bool,
    /// Ranges that may be reached.
    pub cidrs: Vec<Cidr>,
    /// Names that may be reached.
    pub domains: Vec<Domain>,
    /// Where all TCP goes through.
    pub proxy: Option<ProxyUrl>,
}

impl NetworkPolicy {
    /// Nothing may be reached.
    pub fn blocked() -> Self {
        Self { block_all: true, ..Self::default() }
    }

    /// Whether it lists anything.
    pub fn lists(&self) -> bool {
        !self.cidrs.is_empty() || !self.domains.is_empty()
    }
}

/// Ranges of a text with commas between; an empty text is an empty list.
pub fn cidrs(text: &str) -> Result<Vec<Cidr>> {
    list("networkAllowList", text, MAX_CIDRS)
}

/// Domains of a text with commas between; an empty text is an empty list.
pub fn domains(text: &str) -> Result<Vec<Domain>> {
    list("domainAllowList", text, MAX_DOMAINS)
}

fn list<T: FromStr<Err = Error>>(field: &str, text: &str, most: usize) -> Result<Vec<T>> {
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    let count = text.split(',').count();
    if count > most {
        return Err(Error::invalid(format!(
            "{field} has {count} entries: expected at most {most}"
        )));
    }
    text.split(',')
        .map(str::trim)
        .enumerate()
        .map(|(index, entry)| {
            if entry.is_empty() {
                return Err(Error::invalid(format!("{field}: entry {} is empty", index + 1)));
            }
            entry.parse().map_err(|error: Error| {
                let named = Error::invalid(format!("{field}: {}", error.message()));
                match error.hint() {
                    Some(hint) => named.with_hint(hint),
                    None => named,
                }
            })
        })
        .collect()
}

/// A text of these entries, as the wire has it.
pub fn joined<T: fmt::Display>(entries: &[T]) -> String {
    entries.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// A change of what a sandbox may reach; `None` leaves that part as it is, but for what [`NetworkChange::apply`]
/// says of lists and blocks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkChange {
    /// Whether nothing may be reached.
    pub block_all: Option<bool>,
    /// The new list of ranges.
    pub cidrs: Option<Vec<Cidr>>,
    /// The new list of domains.
    pub domains: Option<Vec<Domain>>,
    /// The new proxy, or none any more.
    pub proxy: Option<Option<ProxyUrl>>,
}

impl NetworkChange {
    /// The policy that results. As the published clients document it, a list lifts a block that the change does
    /// not ask for, and an explicit end of the block gives the public internet back: lists that the change does
    /// not give go with it.
    pub fn apply(&self, base: &NetworkPolicy) -> NetworkPolicy {
        let base = base.clone();
        let lists = self.cidrs.as_ref().is_some_and(|list| !list.is_empty())
            || self.domains.as_ref().is_some_and(|list| !list.is_empty());
        let (cidrs, domains) = match self.block_all {
            Some(false) => (Vec::new(), Vec::new()),
            _ => (base.cidrs, base.domains),
        };
        NetworkPolicy {
            block_all: self.block_all.unwrap_or(base.block_all && !lists),
            cidrs: self.cidrs.clone().unwrap_or(cidrs),
            domains: self.domains.clone().unwrap_or(domains),
            proxy: self.proxy.clone().unwrap_or(base.proxy),
        }
    }
}

/// What an entry of the audit tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditKind {
    /// A connection or flow was allowed and is being dialled.
    Open,
    /// It ended; the bytes are final.
    End,
    /// A connection, datagram or question was denied.
    Denied,
}

/// One entry of the audit of what a sandbox reached for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEntry {
    /// What it tells.
    pub kind: AuditKind,
    /// When the connection began.
    pub at: Timestamp,
    /// Milliseconds from then to this entry.
    pub millis: u64,
    /// `tcp`, `udp` or `dns`.
    pub protocol: String,
    /// Address that the sandbox used.
    pub address: IpAddr,
    /// Port that the sandbox used.
    pub port: u16,
    /// The name that it stands for, where it is known.
    pub name: Option<String>,
    /// `allowed`, or the reason of a denial or failure.
    pub verdict: String,
    /// Bytes from the sandbox.
    pub up: u64,
    /// Bytes to the sandbox.
    pub down: u64,
    /// Events that it stands for; above 1 only for denials counted together.
    pub count: u64,
}

/// A page of the audit, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditPage {
    /// The entries.
    pub items: Vec<AuditEntry>,
    /// Where the next page begins: opaque text made by the runtime; the same again while nothing is new.
    pub next: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_strictly_and_name_the_bad_entry() {
        let read = cidrs(" 1.2.3.0/24, 8.8.8.8,2606:4700::/32 ").unwrap();
        assert_eq!(joined(&read), "1.2.3.0/24,8.8.8.8/32,2606:4700::/32");
        assert_eq!(cidrs(" ").unwrap(), []);
        for bad in [
            "1.2.3.4/33",
            "1.2.3.4/8",
            "1.2.3/24",
            "01.2.3.4",
            "1.2.3.4/",
            "1.2.3.4/+8",
            "0x7f.1",
            "::ffff:1.2.3.4",
            "2606::1/16",
            "example.com",
            "2130706433",
            "::/129",
            "1.1.1.1/256",
        ] {
            let error = cidrs(&format!("1.1.1.1/32,{bad}")).unwrap_err();
            assert!(error.message().contains(&format!("`{bad}`")), "{error}");
        }
        assert!(cidrs("1.1.1.1,,2.2.2.2").unwrap_err().message().contains("entry 2 is empty"));
        assert!(cidrs("1.1.1.1,").unwrap_err().message().contains("entry 2 is empty"));
        let many = vec!["1.1.1.1"; MAX_CIDRS + 1].join(",");
        assert!(cidrs(&many).unwrap_err().message().contains("at most 256"));
        assert_eq!(cidrs("0.0.0.0/0,::/0").unwrap().len(), 2);
    }

    #[test]
    fn domains_are_names_or_what_is_below_one() {
        assert_eq!(joined(&domains("GitHub.com., *.X.org").unwrap()), "github.com,*.x.org");
        for bad in
            ["*", "*.", "a..b", "*x.org", "a.*.b", "1.2.3.4", "a b", "http://a.com", "a.com:1"]
        {
            let error = domains(bad).unwrap_err();
            assert!(error.message().contains("domainAllowList"), "{error}");
        }
        assert!(domains("bücher.de").unwrap_err().hint().is_some_and(|hint| hint.contains("xn--")));
        let long = format!("{}.com", "a".repeat(64));
        assert!(domains(&long).is_err());
    }

    #[test]
    fn proxies_are_http_and_never_repeated_in_refusals() {
        for good in [
            "http://p.example",
            "http://p.example:3128/",
            "http://u:p%40w@10.0.0.1:1",
            "http://[2606::1]:9",
        ] {
            assert_eq!(good.parse::<ProxyUrl>().unwrap().as_str(), good);
        }
        for bad in [
            "",
            "https://a",
            "http://",
            "http://a:0",
            "http://a:x",
            "http://a:65536",
            "http://a/b",
            "http://u:a%0d@b",
            "http://u:%zz@b",
            "http://u:%+1@b",
            "socks5://a",
            "http://a b",
            "http://[::1",
        ] {
            let error = bad.parse::<ProxyUrl>().unwrap_err();
            assert!(bad.len() < 12 || !error.message().contains(bad), "{bad} {error}");
        }
    }

    #[test]
    fn ranges_cover_what_lies_within() {
        let cidr = |text: &str| text.parse::<Cidr>().unwrap();
        assert!(cidr("10.0.0.0/8").covers(&cidr("10.1.0.0/16")));
        assert!(cidr("0.0.0.0/0").covers(&cidr("10.1.0.0/16")));
        assert!(!cidr("10.1.0.0/16").covers(&cidr("10.0.0.0/8")));
        assert!(!cidr("0.0.0.0/0").covers(&cidr("fd00::/8")));
        assert!(cidr("::/0").covers(&cidr("fd00::/8")));
        assert!(cidr("172.31.0.0/16").is_private() && cidr("fd00::1").is_private());
        assert!(!cidr("172.32.0.0/16").is_private() && !cidr("0.0.0.0/0").is_private());
    }

    #[test]
    fn a_change_leaves_what_it_does_not_name_and_lists_and_blocks_lift_each_other() {
        let (one, two) = (cidrs("1.1.1.1").unwrap(), cidrs("2.2.2.2").unwrap());
        let base = NetworkPolicy { cidrs: one.clone(), ..NetworkPolicy::blocked() };
        let none = NetworkChange::default();
        assert_eq!(none.apply(&base), base);
        let open = NetworkChange { block_all: Some(false), ..none.clone() };
        assert_eq!(open.apply(&base), NetworkPolicy::default(), "the public internet again");
        let list = NetworkChange { cidrs: Some(two.clone()), ..none.clone() };
        let listed = NetworkPolicy { cidrs: two, ..NetworkPolicy::default() };
        assert_eq!(list.apply(&base), listed);
        assert_eq!(NetworkChange { block_all: Some(false), ..list.clone() }.apply(&base), listed);
        let both = NetworkChange { block_all: Some(true), ..list }.apply(&base);
        assert!(both.block_all, "a block wins over lists of the same change");
        let cleared = NetworkChange { cidrs: Some(Vec::new()), ..none.clone() }.apply(&base);
        assert!(cleared.block_all && cleared.cidrs.is_empty(), "no list lifts nothing");
        let blocked = NetworkChange { block_all: Some(true), ..none }.apply(&listed);
        assert!(blocked.block_all && blocked.cidrs == listed.cidrs);
    }
}
