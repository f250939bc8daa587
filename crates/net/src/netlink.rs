//! The kernel's routing tables: what a sandbox's namespace needs, and which addresses are the host's own.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::cidr::Cidr;
use crate::sys::{self, Result};

const NEW_LINK: u16 = 16;
const NEW_ADDRESS: u16 = 20;
const NEW_ROUTE: u16 = 24;
const DELETE_ROUTE: u16 = 25;
const GET_ROUTE: u16 = 26;

const REQUEST_ACK: u16 = 1 | 4;
const REQUEST_DUMP: u16 = 1 | 0x300;
const CREATE_REPLACE: u16 = 0x400 | 0x100;

const TABLE_LOCAL: u8 = 255;
const TYPE_LOCAL: u8 = 2;
const SCOPE_HOST: u8 = 254;
const SCOPE_UNIVERSE: u8 = 0;
/// The loopback device is always the first of its namespace.
const LOOPBACK: i32 = 1;

/// The sandbox's own address.
pub(crate) const OWN_V4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
/// The sandbox's own IPv6 address.
pub(crate) const OWN_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);

/// Messages for the kernel, put together to be sent in one packet.
pub(crate) struct Batch {
    bytes: Vec<u8>,
    count: u32,
    /// How many of them are answered.
    answered: u32,
}

impl Batch {
    pub(crate) fn new() -> Self {
        Self { bytes: Vec::with_capacity(256), count: 0, answered: 0 }
    }

    /// Adds a message: kind, flags, fixed head, attributes.
    pub(crate) fn add(&mut self, kind: u16, flags: u16, head: &[u8], attributes: &[(u16, &[u8])]) {
        const ACK: u16 = 4;
        self.count += 1;
        self.answered += u32::from(flags & ACK != 0);
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&flags.to_ne_bytes());
        self.bytes.extend_from_slice(&self.count.to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(head);
        for (attribute, value) in attributes {
            let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
            self.bytes.extend_from_slice(&length.to_ne_bytes());
            self.bytes.extend_from_slice(&attribute.to_ne_bytes());
            self.bytes.extend_from_slice(value);
            self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        }
        let length = u32::try_from(self.bytes.len() - start).unwrap_or(u32::MAX);
        self.bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
    }

    fn own_address(&mut self, address: IpAddr) {
        const LOCAL: u16 = 2;
        const ADDRESS: u16 = 1;
        /// No duplicate address detection: the address is of use at once.
        const NO_DETECTION: u8 = 2;
        let index = LOOPBACK.to_ne_bytes();
        let (family, length, octets) = parts(address);
        let mut head = vec![family, length, NO_DETECTION, SCOPE_UNIVERSE];
        head.extend_from_slice(&index);
        let attributes: [(u16, &[u8]); 2] = [(LOCAL, &octets), (ADDRESS, &octets)];
        self.add(NEW_ADDRESS, REQUEST_ACK | CREATE_REPLACE, &head, &attributes);
    }

    /// Every address of a family is local here, seen from the sandbox's own. Connections to any of them go by
    /// reno: others lose half of their speed over loopback.
    fn any_is_local(&mut self, kind: u16, flags: u16, source: IpAddr) {
        const DEVICE: u16 = 4;
        const SOURCE: u16 = 7;
        const METRICS: u16 = 8;
        const BY_BOOT: u8 = 3;
        /// One nested attribute: the congestion control, length 9, kind 16.
        const RENO: [u8; 12] = [9, 0, 16, 0, b'r', b'e', b'n', b'o', 0, 0, 0, 0];
        let (family, _, octets) = parts(source);
        let scope = if source.is_ipv4() { SCOPE_HOST } else { SCOPE_UNIVERSE };
        let mut head = vec![family, 0, 0, 0, TABLE_LOCAL, BY_BOOT, scope, TYPE_LOCAL];
        head.extend_from_slice(&[0; 4]);
        let index = LOOPBACK.to_ne_bytes();
        let attributes: [(u16, &[u8]); 3] = [(DEVICE, &index), (SOURCE, &octets), (METRICS, &RENO)];
        self.add(kind, REQUEST_ACK | flags, &head, &attributes);
    }

    fn loopback_up(&mut self) {
        const UP: i32 = 1;
        let mut head = vec![0_u8; 4];
        head.extend_from_slice(&LOOPBACK.to_ne_bytes());
        head.extend_from_slice(&UP.to_ne_bytes());
        head.extend_from_slice(&UP.to_ne_bytes());
        self.add(NEW_LINK, REQUEST_ACK, &head, &[]);
    }

    /// Sends all to a part of the kernel and waits for every answer.
    pub(crate) fn send(self, protocol: i32) -> Result<()> {
        let socket = kernel_socket(protocol, 0)?;
        sys::send(socket.as_fd(), &self.bytes)?;
        let mut buffer = vec![0_u8; 8192];
        let mut answered = 0;
        while answered < self.answered {
            // The kernel answers within the call that sends, so there is nothing to wait for.
            let length = sys::receive(socket.as_fd(), &mut buffer)?;
            for (kind, body) in messages(&buffer[..length]) {
                if kind == ERROR {
                    answered += 1;
                    acknowledged(body)?;
                }
            }
        }
        Ok(())
    }
}

const ERROR: u16 = 2;
const DONE: u16 = 3;

fn acknowledged(body: &[u8]) -> Result<()> {
    let code = body.get(..4).map(|code| i32::from_ne_bytes(code.try_into().unwrap_or_default()));
    match code {
        Some(0) => Ok(()),
        Some(code) => Err(io::Error::from_raw_os_error(-code)),
        None => Err(io::Error::from(io::ErrorKind::InvalidData)),
    }
}

fn parts(address: IpAddr) -> (u8, u8, Vec<u8>) {
    match address {
        IpAddr::V4(v4) => (2, 32, v4.octets().to_vec()),
        IpAddr::V6(v6) => (10, 128, v6.octets().to_vec()),
    }
}

/// Routes, addresses, devices.
const ROUTE: i32 = 0;

/// A socket to a part of the kernel that also hears of changes in these groups.
fn kernel_socket(protocol: i32, groups: u32) -> Result<OwnedFd> {
    let socket = sys::socket(sys::NETLINK, sys::RAW, protocol)?;
    let mut name = vec![16, 0, 0, 0, 0, 0, 0, 0];
    name.extend_from_slice(&groups.to_ne_bytes());
    sys::bind_raw(socket.as_fd(), &name)?;
    Ok(socket)
}

/// The messages of a packet: kind and body.
fn messages(mut packet: &[u8]) -> Vec<(u16, &[u8])> {
    let mut found = Vec::new();
    while packet.len() >= 16 {
        let length = u32::from_ne_bytes(packet[..4].try_into().unwrap_or_default()) as usize;
        if length < 16 || length > packet.len() {
            break;
        }
        let kind = u16::from_ne_bytes([packet[4], packet[5]]);
        found.push((kind, &packet[16..length]));
        packet = packet.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    found
}

/// Sets up this thread's network namespace: loopback up, the sandbox's addresses, everything local.
/// Repeating it changes nothing.
pub(crate) fn configure(has_v6: bool) -> Result<()> {
    let mut batch = Batch::new();
    batch.loopback_up();
    batch.own_address(OWN_V4.into());
    batch.any_is_local(NEW_ROUTE, CREATE_REPLACE, OWN_V4.into());
    if has_v6 {
        batch.own_address(OWN_V6.into());
        batch.any_is_local(NEW_ROUTE, CREATE_REPLACE, OWN_V6.into());
    }
    batch.send(ROUTE)
}

/// Takes the routes of [`configure`] away again, as far as they are there.
pub(crate) fn unconfigure(has_v6: bool) {
    let sources = [Some(IpAddr::V4(OWN_V4)), has_v6.then_some(IpAddr::V6(OWN_V6))];
    for source in sources.into_iter().flatten() {
        let mut batch = Batch::new();
        batch.any_is_local(DELETE_ROUTE, 0, source);
        // What was not made yet cannot be taken away; the step that failed is what is reported.
        let _ = batch.send(ROUTE);
    }
}

/// A socket that becomes readable when addresses or routes of this thread's namespace change.
pub(crate) fn changes() -> Result<OwnedFd> {
    const ADDRESSES: u32 = 0x10 | 0x100;
    const ROUTES: u32 = 0x40 | 0x400;
    kernel_socket(ROUTE, ADDRESSES | ROUTES)
}

/// Empties such a socket. Lost notices count as a change too.
pub(crate) fn drain(socket: BorrowedFd<'_>) {
    let mut buffer = [0_u8; 8192];
    for _ in 0..64 {
        match sys::receive(socket, &mut buffer) {
            Err(error) if error.raw_os_error() == Some(sys::AGAIN) => return,
            Ok(_) | Err(_) => {}
        }
    }
}

/// The addresses of this thread's namespace: all routes of type local, broadcast, anycast and multicast.
pub(crate) fn own_addresses() -> Result<Vec<Cidr>> {
    let mut own = Vec::new();
    for family in [2_u8, 10] {
        let mut batch = Batch::new();
        batch.add(GET_ROUTE, REQUEST_DUMP, &[family, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], &[]);
        let socket = kernel_socket(ROUTE, 0)?;
        sys::send(socket.as_fd(), &batch.bytes)?;
        read_dump(&socket, &mut own)?;
    }
    own.sort_unstable();
    own.dedup();
    Ok(own)
}

fn read_dump(socket: &OwnedFd, own: &mut Vec<Cidr>) -> Result<()> {
    const MAX_PACKETS: usize = 100_000;
    let mut buffer = vec![0_u8; 64 * 1024];
    for _ in 0..MAX_PACKETS {
        let length = sys::receive(socket.as_fd(), &mut buffer)?;
        for (kind, body) in messages(&buffer[..length]) {
            match kind {
                DONE => return Ok(()),
                ERROR => acknowledged(body)?,
                NEW_ROUTE => own.extend(own_route(body)),
                _ => {}
            }
        }
    }
    Err(io::Error::from(io::ErrorKind::InvalidData))
}

/// The destination of a route that ends at this host.
fn own_route(body: &[u8]) -> Option<Cidr> {
    const DESTINATION: u16 = 1;
    const ENDS_HERE: std::ops::RangeInclusive<u8> = 2..=5;
    let (head, mut attributes) = body.split_at_checked(12)?;
    let (family, length) = (head[0], head[1]);
    if !ENDS_HERE.contains(&head[7]) {
        return None;
    }
    while let Some((start, _)) = attributes.split_at_checked(4) {
        let size = usize::from(u16::from_ne_bytes([start[0], start[1]]));
        let value = attributes.get(4..size)?;
        if u16::from_ne_bytes([start[2], start[3]]) == DESTINATION {
            let address = match family {
                2 => IpAddr::from(<[u8; 4]>::try_from(value).ok()?),
                _ => IpAddr::from(<[u8; 16]>::try_from(value).ok()?),
            };
            return Cidr::around(address, length);
        }
        attributes = attributes.get(size.next_multiple_of(4)..).unwrap_or_default();
    }
    // A route without a destination is the whole family.
    let zero = if family == 2 { IpAddr::V4(0.into()) } else { IpAddr::V6(0.into()) };
    Cidr::around(zero, length)
}
