//! The packet rules that steer all that a sandbox sends to the two sockets of the network process, where no BPF
//! program may be loaded.
//!
//! ```text
//! connect 1.2.3.4:443 --route: local--> lo --prerouting: these rules--> socket, which must be transparent
//! ```
//! Every address is local in the namespace ([`crate::netlink::configure`]), so a packet needs no mark and no route of
//! its own: it comes in again over `lo`, and all that is left is to choose the socket. Rules are never matched by
//! what is open already, since the kernel looks for an open connection first. While no transparent socket listens
//! at the port they choose nothing; what runs inside has no right to make a socket transparent.

use crate::netlink::{Batch, OWN_V4, OWN_V6};
use crate::sys::Result;

const NETFILTER: i32 = 12;

/// Kinds of messages: those of `nf_tables` carry the number of that part of netfilter in the upper byte.
const NEW_TABLE: u16 = 10 << 8;
const DELETE_TABLE: u16 = 10 << 8 | 2;
const NEW_CHAIN: u16 = 10 << 8 | 3;
const NEW_RULE: u16 = 10 << 8 | 6;
const BEGIN: u16 = 0x10;
const END: u16 = 0x11;

const REQUEST: u16 = 1;
const REQUEST_ACK: u16 = 1 | 4;
const EXCLUSIVE: u16 = 0x200;
const CREATE: u16 = 0x400;
const APPEND: u16 = 0x800;

/// Both families in one table.
const INET: u8 = 1;
const NAME: &[u8] = b"mayfly\0";
const REGISTER: u32 = 1;
const VERDICT_REGISTER: u32 = 0;
const TCP: u8 = 6;
const UDP: u8 = 17;
const IPV4: u8 = 2;
const IPV6: u8 = 10;

/// Puts the rules in force in this thread's namespace, for listeners at these ports, in place of those of an
/// earlier network process.
pub(crate) fn install(tcp: u16, udp: u16) -> Result<()> {
    match put(tcp, udp, false) {
        // The kernel waits for every processor before it forgets rules, so it is asked to only where some are.
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => put(tcp, udp, true),
        done => done,
    }
}

/// All or nothing, at one moment.
fn put(tcp: u16, udp: u16, replaces: bool) -> Result<()> {
    let mut batch = Batch::new();
    batch.add(BEGIN, REQUEST, &head(0, 10), &[]);
    if replaces {
        batch.add(DELETE_TABLE, REQUEST_ACK, &head(INET, 0), &[(1, NAME)]);
    }
    batch.add(NEW_TABLE, REQUEST_ACK | CREATE | EXCLUSIVE, &head(INET, 0), &[(1, NAME)]);
    let hook = [number(1, PREROUTING), number(2, BEFORE_ROUTES)].concat();
    let chain: [(u16, &[u8]); 4] =
        [(1, NAME), (3, NAME), (4 | NESTED, &hook), (7, b"filter\0".as_slice())];
    batch.add(NEW_CHAIN, REQUEST_ACK | CREATE, &head(INET, 0), &chain);
    for rule in rules(tcp, udp) {
        let attributes: [(u16, &[u8]); 3] = [(1, NAME), (2, NAME), (4 | NESTED, &rule)];
        batch.add(NEW_RULE, REQUEST_ACK | CREATE | APPEND, &head(INET, 0), &attributes);
    }
    batch.add(END, REQUEST, &head(0, 10), &[]);
    batch.send(NETFILTER)
}

const PREROUTING: u32 = 0;
/// The place of rules that choose by themselves what becomes of a packet, after its fragments are joined.
const BEFORE_ROUTES: u32 = (-150_i32).cast_unsigned();
const NESTED: u16 = 0x8000;

/// The rules, as the BPF program decides: loopback is left alone, and so are datagrams to the sandbox's own
/// address, which are answers to a socket that is not connected.
fn rules(tcp: u16, udp: u16) -> Vec<Vec<u8>> {
    const FIRST_OCTET: (u32, u32) = (16, 1);
    const DESTINATION_4: (u32, u32) = (16, 4);
    const DESTINATION_6: (u32, u32) = (24, 16);
    let loopback = std::net::Ipv6Addr::LOCALHOST.octets();
    let to = |family, place, value: &[u8]| [is_family(family), is_there(place, value)].concat();
    vec![
        [to(IPV4, FIRST_OCTET, &[127]), accept()].concat(),
        [to(IPV6, DESTINATION_6, &loopback), accept()].concat(),
        [to(IPV4, DESTINATION_4, &OWN_V4.octets()), is_protocol(UDP), accept()].concat(),
        [to(IPV6, DESTINATION_6, &OWN_V6.octets()), is_protocol(UDP), accept()].concat(),
        [is_protocol(TCP), choose(tcp)].concat(),
        [is_protocol(UDP), choose(udp)].concat(),
    ]
}

fn is_family(family: u8) -> Vec<u8> {
    const FAMILY: u32 = 15;
    [load(FAMILY), equals(&[family])].concat()
}

fn is_protocol(protocol: u8) -> Vec<u8> {
    const PROTOCOL: u32 = 16;
    [load(PROTOCOL), equals(&[protocol])].concat()
}

/// Loads a property of the packet.
fn load(key: u32) -> Vec<u8> {
    expression(b"meta\0", &[number(1, REGISTER), number(2, key)].concat())
}

/// Whether the network header has these bytes at an offset.
fn is_there((offset, length): (u32, u32), value: &[u8]) -> Vec<u8> {
    const NETWORK_HEADER: u32 = 1;
    let fields =
        [number(1, REGISTER), number(2, NETWORK_HEADER), number(3, offset), number(4, length)];
    [expression(b"payload\0", &fields.concat()), equals(value)].concat()
}

fn equals(value: &[u8]) -> Vec<u8> {
    const EQUAL: u32 = 0;
    let data = attribute(3 | NESTED, &attribute(1, value));
    expression(b"cmp\0", &[number(1, REGISTER), number(2, EQUAL), data].concat())
}

fn accept() -> Vec<u8> {
    const ACCEPT: u32 = 1;
    let verdict = attribute(2 | NESTED, &number(1, ACCEPT));
    immediate(VERDICT_REGISTER, &verdict)
}

/// Chooses the transparent socket at a port, of either family.
fn choose(port: u16) -> Vec<u8> {
    const ANY_FAMILY: u32 = 0;
    let tproxy = [number(1, ANY_FAMILY), number(3, REGISTER)].concat();
    let port = attribute(1, &port.to_be_bytes());
    [immediate(REGISTER, &port), expression(b"tproxy\0", &tproxy)].concat()
}

fn immediate(register: u32, data: &[u8]) -> Vec<u8> {
    let data = attribute(2 | NESTED, data);
    expression(b"immediate\0", &[number(1, register), data].concat())
}

/// One step of a rule; a step that does not hold ends the rule.
fn expression(name: &[u8], fields: &[u8]) -> Vec<u8> {
    attribute(1 | NESTED, &[attribute(1, name), attribute(2 | NESTED, fields)].concat())
}

fn number(kind: u16, value: u32) -> Vec<u8> {
    attribute(kind, &value.to_be_bytes())
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
    bytes.extend_from_slice(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// The fixed head of netfilter's messages: family, version, what a batch is for.
fn head(family: u8, subsystem: u16) -> [u8; 4] {
    let [high, low] = subsystem.to_be_bytes();
    [family, 0, high, low]
}
