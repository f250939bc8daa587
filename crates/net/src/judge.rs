//! The judgement: may this sandbox talk to this address, may it know this name?
//!
//! Pure functions of policy, the host's own addresses and the target. What is never allowed comes first, so
//! that no policy can list it; IPv6 forms that carry an IPv4 address are judged by that address as well.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::cidr::Cidr;
use crate::names::Name;
use crate::policy::{Mode, Policy};

/// Why something is denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The policy blocks everything.
    Blocked,
    /// 127/8, `::1`, `0/8`, `::`.
    Loopback,
    /// 169.254/16, `fe80::/10`.
    LinkLocal,
    /// An address at which clouds tell secrets.
    Metadata,
    /// Many receivers at once, broadcast included.
    Multicast,
    /// 100.64/10.
    CarrierNat,
    /// An address of the host itself.
    Host,
    /// Not of the public internet.
    Reserved,
    /// A private range that is not both listed and permitted.
    Private,
    /// Denied by the operator.
    Operator,
    /// Not on the caller's lists.
    NotListed,
    /// A name that is not allowed, or an address that stands for none.
    Name,
    /// Bytes that do not prove the name that was dialled.
    Unproven,
    /// A protocol that is never let out (DNS over TLS, other query types, UDP beside a proxy).
    Protocol,
    /// A bound of the sandbox or of the process is reached.
    Limit,
    /// The destination did not answer; not a denial.
    Unreachable,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Blocked => "blocked",
            Self::Loopback => "loopback",
            Self::LinkLocal => "link-local",
            Self::Metadata => "metadata",
            Self::Multicast => "multicast",
            Self::CarrierNat => "carrier-nat",
            Self::Host => "host",
            Self::Reserved => "reserved",
            Self::Private => "private",
            Self::Operator => "operator",
            Self::NotListed => "not-listed",
            Self::Name => "name",
            Self::Unproven => "unproven",
            Self::Protocol => "protocol",
            Self::Limit => "limit",
            Self::Unreachable => "unreachable",
        })
    }
}

/// Synthetic addresses of names under a domain policy lie here; nothing else is ever dialled in it.
pub const SYNTHETIC: (Ipv4Addr, u32) = (Ipv4Addr::new(198, 18, 0, 0), 15);

/// Whether an address stands for a name of a domain policy.
pub fn is_synthetic(address: IpAddr) -> bool {
    matches!(address, IpAddr::V4(v4) if is_within(v4, SYNTHETIC.0, SYNTHETIC.1))
}

/// Judges the address of a connection or datagram by the whole policy.
pub fn address(policy: &Policy, host: &[Cidr], address: IpAddr) -> Result<(), Reason> {
    if policy.mode == Mode::Block {
        return Err(Reason::Blocked);
    }
    not_own(host, address)?;
    let is_listed = |inner: IpAddr| policy.cidrs.iter().any(|cidr| cidr.contains(inner));
    for inner in carried(address) {
        reachable(policy, host, inner)?;
        if policy.mode == Mode::Allow && !is_listed(inner) {
            return Err(Reason::NotListed);
        }
    }
    Ok(())
}

/// Judges an address that an allowed name (or the caller's proxy) stands at: all but the caller's ranges.
pub fn resolved(policy: &Policy, host: &[Cidr], address: IpAddr) -> Result<(), Reason> {
    if policy.mode == Mode::Block {
        return Err(Reason::Blocked);
    }
    not_own(host, address)?;
    carried(address).into_iter().try_for_each(|inner| reachable(policy, host, inner))
}

/// Whether a name may be known. Where domains are listed only they may; else every name is resolved, as
/// the addresses it has are judged anyway.
pub fn name(policy: &Policy, name: &Name) -> Result<(), Reason> {
    match policy.mode {
        Mode::Block => Err(Reason::Blocked),
        Mode::Public => Ok(()),
        Mode::Allow if policy.domains.is_empty() => Ok(()),
        Mode::Allow if policy.domains.iter().any(|domain| domain.matches(name)) => Ok(()),
        Mode::Allow => Err(Reason::Name),
    }
}

fn not_own(host: &[Cidr], address: IpAddr) -> Result<(), Reason> {
    let is_own = host.iter().any(|own| own.contains(address));
    if is_own { Err(Reason::Host) } else { Ok(()) }
}

fn reachable(policy: &Policy, host: &[Cidr], address: IpAddr) -> Result<(), Reason> {
    never(address)?;
    not_own(host, address)?;
    if policy.denied.iter().any(|denied| denied.contains(address)) {
        return Err(Reason::Operator);
    }
    let holds = |cidrs: &[Cidr]| cidrs.iter().any(|cidr| cidr.contains(address));
    if is_private(address) && !(holds(&policy.cidrs) && holds(&policy.permitted)) {
        return Err(Reason::Private);
    }
    Ok(())
}

/// The address itself and the IPv4 addresses that it carries; of a mapped one only what it carries.
fn carried(address: IpAddr) -> Vec<IpAddr> {
    let IpAddr::V6(v6) = address.to_canonical() else {
        return vec![address.to_canonical()];
    };
    let octets = v6.octets();
    let four = |at: usize| {
        IpAddr::V4(Ipv4Addr::new(octets[at], octets[at + 1], octets[at + 2], octets[at + 3]))
    };
    match v6.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, _, _] => vec![four(12)],
        [0x2002, ..] => vec![four(2)],
        [0x2001, 0, ..] => {
            let hidden = u32::from_be_bytes([octets[12], octets[13], octets[14], octets[15]]);
            vec![four(4), IpAddr::V4(Ipv4Addr::from_bits(!hidden))]
        }
        _ => vec![IpAddr::V6(v6)],
    }
}

fn is_within(address: Ipv4Addr, range: Ipv4Addr, length: u32) -> bool {
    (address.to_bits() ^ range.to_bits()) >> (32 - length) == 0
}

fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_private(),
        IpAddr::V6(v6) => v6.is_unique_local(),
    }
}

/// What no policy allows.
fn never(address: IpAddr) -> Result<(), Reason> {
    match address {
        IpAddr::V4(v4) => never_v4(v4),
        IpAddr::V6(v6) => never_v6(v6),
    }
}

fn never_v4(address: Ipv4Addr) -> Result<(), Reason> {
    /// Metadata services that lie outside 169.254/16 and 100.64/10.
    const METADATA: [Ipv4Addr; 2] =
        [Ipv4Addr::new(168, 63, 129, 16), Ipv4Addr::new(192, 0, 0, 192)];
    const RANGES: [([u8; 4], u32, Reason); 13] = [
        ([0, 0, 0, 0], 8, Reason::Loopback),
        ([127, 0, 0, 0], 8, Reason::Loopback),
        ([169, 254, 169, 254], 32, Reason::Metadata),
        ([169, 254, 0, 0], 16, Reason::LinkLocal),
        ([100, 64, 0, 0], 10, Reason::CarrierNat),
        ([224, 0, 0, 0], 4, Reason::Multicast),
        ([255, 255, 255, 255], 32, Reason::Multicast),
        ([240, 0, 0, 0], 4, Reason::Reserved),
        ([192, 0, 0, 0], 24, Reason::Reserved),
        ([192, 0, 2, 0], 24, Reason::Reserved),
        ([198, 18, 0, 0], 15, Reason::Reserved),
        ([198, 51, 100, 0], 24, Reason::Reserved),
        ([203, 0, 113, 0], 24, Reason::Reserved),
    ];
    if METADATA.contains(&address) {
        return Err(Reason::Metadata);
    }
    let hit = RANGES.iter().find(|(range, length, _)| is_within(address, (*range).into(), *length));
    hit.map_or(Ok(()), |(_, _, reason)| Err(*reason))
}

fn never_v6(address: Ipv6Addr) -> Result<(), Reason> {
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => Err(Reason::Loopback),
        [first, ..] if first >> 8 == 0xff => Err(Reason::Multicast),
        [first, ..] if first & 0xffc0 == 0xfe80 => Err(Reason::LinkLocal),
        // AWS and Google Cloud.
        [0xfd00, 0xec2, ..] | [0xfd20, 0xce, ..] => Err(Reason::Metadata),
        [first, ..] if first & 0xfe00 == 0xfc00 => Ok(()),
        [0x2001, second, ..] if second < 0x200 => Err(Reason::Reserved),
        [0x2001, 0xdb8, ..] => Err(Reason::Reserved),
        [0x3fff, second, ..] if second < 0x1000 => Err(Reason::Reserved),
        [first, ..] if first & 0xe000 == 0x2000 => Ok(()),
        _ => Err(Reason::Reserved),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(text: &str) -> Policy {
        Policy::parse(text).unwrap()
    }

    fn check(policy: &Policy, target: &str, expected: Result<(), Reason>) {
        let host: [Cidr; 2] = ["93.184.1.1/32".parse().unwrap(), "2606:1::1/128".parse().unwrap()];
        assert_eq!(address(policy, &host, target.parse().unwrap()), expected, "{target}");
    }

    const NEVER: [(&str, Reason); 44] = [
        ("0.0.0.0", Reason::Loopback),
        ("0.1.2.3", Reason::Loopback),
        ("127.0.0.1", Reason::Loopback),
        ("127.255.255.255", Reason::Loopback),
        ("169.254.0.1", Reason::LinkLocal),
        ("169.254.169.254", Reason::Metadata),
        ("168.63.129.16", Reason::Metadata),
        ("192.0.0.192", Reason::Metadata),
        ("100.64.0.1", Reason::CarrierNat),
        ("100.100.100.200", Reason::CarrierNat),
        ("100.127.255.255", Reason::CarrierNat),
        ("224.0.0.251", Reason::Multicast),
        ("239.255.255.255", Reason::Multicast),
        ("255.255.255.255", Reason::Multicast),
        ("240.0.0.1", Reason::Reserved),
        ("198.18.0.1", Reason::Reserved),
        ("198.19.255.255", Reason::Reserved),
        ("192.0.2.1", Reason::Reserved),
        ("93.184.1.1", Reason::Host),
        ("::", Reason::Loopback),
        ("::1", Reason::Loopback),
        ("fe80::1", Reason::LinkLocal),
        ("febf::1", Reason::LinkLocal),
        ("fec0::1", Reason::Reserved),
        ("ff02::1", Reason::Multicast),
        ("fd00:ec2::254", Reason::Metadata),
        ("fd20:ce::254", Reason::Metadata),
        ("2001:db8::1", Reason::Reserved),
        ("2001:2::1", Reason::Reserved),
        ("100::1", Reason::Reserved),
        ("::7f00:1", Reason::Reserved),
        ("::a9fe:a9fe", Reason::Reserved),
        ("2606:1::1", Reason::Host),
        ("::ffff:127.0.0.1", Reason::Loopback),
        ("::ffff:169.254.169.254", Reason::Metadata),
        ("::ffff:93.184.1.1", Reason::Host),
        ("64:ff9b::127.0.0.1", Reason::Loopback),
        ("64:ff9b::a9fe:a9fe", Reason::Metadata),
        ("64:ff9b:1::1", Reason::Reserved),
        ("2002:7f00:1::", Reason::Loopback),
        ("2002:a9fe:a9fe::1", Reason::Metadata),
        ("2001:0:7f00:1::", Reason::Loopback),
        // Teredo with a public server and the client 169.254.169.254, obfuscated.
        ("2001:0:808:808::5601:5601", Reason::Metadata),
        ("64:ff9b::5db8:101", Reason::Host),
    ];

    #[test]
    fn what_is_never_allowed_cannot_be_listed() {
        let all = "cidr 0.0.0.0/0\ncidr ::/0\npermit 0.0.0.0/0\npermit ::/0\n";
        for mode in ["mode public\n", "mode allow\n"] {
            let open = policy(&format!("{mode}{all}"));
            for (target, reason) in NEVER {
                check(&open, target, Err(reason));
            }
        }
    }

    #[test]
    fn the_public_internet_is_open_to_public_and_closed_to_block() {
        for target in [
            "1.1.1.1",
            "8.8.8.8",
            "93.184.216.34",
            "100.63.255.255",
            "100.128.0.0",
            "128.0.0.1",
            "126.255.255.255",
            "1.0.0.0",
            "223.255.255.255",
            "169.253.255.255",
            "198.17.255.255",
            "198.20.0.0",
            "2606:4700::1",
            "2a00::1",
            "64:ff9b::101:101",
            "2002:101:101::1",
            "::ffff:1.1.1.1",
        ] {
            check(&policy("mode public"), target, Ok(()));
            check(&policy("mode block\ncidr 0.0.0.0/0\ncidr ::/0"), target, Err(Reason::Blocked));
            check(&policy("mode allow"), target, Err(Reason::NotListed));
        }
    }

    #[test]
    fn private_ranges_need_caller_and_operator() {
        for (target, listed, permitted) in [
            ("10.1.2.3", "10.0.0.0/8", "10.1.0.0/16"),
            ("172.16.0.1", "172.16.0.0/12", "172.16.0.0/12"),
            ("172.31.255.255", "172.16.0.0/12", "172.16.0.0/12"),
            ("192.168.1.1", "192.168.1.1/32", "192.168.0.0/16"),
            ("fd12::1", "fd12::/16", "fc00::/7"),
            ("::ffff:10.1.2.3", "10.0.0.0/8", "10.1.0.0/16"),
            ("64:ff9b::a01:203", "10.0.0.0/8", "10.1.0.0/16"),
        ] {
            for mode in ["mode public", "mode allow"] {
                check(&policy(mode), target, Err(Reason::Private));
                check(&policy(&format!("{mode}\ncidr {listed}")), target, Err(Reason::Private));
                check(
                    &policy(&format!("{mode}\npermit {permitted}")),
                    target,
                    Err(Reason::Private),
                );
                let both = format!("{mode}\ncidr {listed}\npermit {permitted}");
                check(&policy(&both), target, Ok(()));
                check(&policy(&format!("{both}\ndeny {listed}")), target, Err(Reason::Operator));
            }
        }
    }

    #[test]
    fn lists_hold_for_both_families() {
        let lists = policy("mode allow\ncidr 1.1.1.0/24\ncidr 2606:4700::/32\ndeny 1.1.1.7/32");
        check(&lists, "1.1.1.1", Ok(()));
        check(&lists, "1.1.2.1", Err(Reason::NotListed));
        check(&lists, "1.1.1.7", Err(Reason::Operator));
        check(&lists, "2606:4700::1", Ok(()));
        check(&lists, "2606:4701::1", Err(Reason::NotListed));
        check(&lists, "::ffff:1.1.1.1", Ok(()));
        check(&lists, "2002:101:101::", Ok(()));
        check(&lists, "2002:101:201::", Err(Reason::NotListed));
    }

    #[test]
    fn names_follow_the_lists() {
        let www = Name::parse("www.example.com").unwrap();
        for (text, expected) in [
            ("mode block\ndomain www.example.com", Err(Reason::Blocked)),
            ("mode public", Ok(())),
            ("mode allow", Ok(())),
            ("mode allow\ndomain *.example.com", Ok(())),
            ("mode allow\ndomain example.com", Err(Reason::Name)),
            ("mode allow\ndomain example.org\ncidr 0.0.0.0/0", Err(Reason::Name)),
        ] {
            assert_eq!(name(&policy(text), &www), expected, "{text}");
        }
    }

    #[test]
    fn addresses_of_allowed_names_are_judged_too() {
        let text = policy("mode allow\ndomain a.com");
        let judged = |target: &str| resolved(&text, &[], target.parse().unwrap());
        assert_eq!(judged("1.1.1.1"), Ok(()));
        assert_eq!(judged("10.0.0.1"), Err(Reason::Private));
        assert_eq!(judged("127.0.0.1"), Err(Reason::Loopback));
        assert_eq!(judged("::ffff:169.254.169.254"), Err(Reason::Metadata));
    }
}
