//! The BPF program that steers all that a sandbox sends to the two sockets of the network process.
//!
//! It runs in the kernel for every new connection and datagram of one network namespace: destinations in 127/8
//! and `::1` are left to the sandbox's own services, everything else goes to slot 0 (TCP) or slot 1 (UDP) of
//! an array of sockets. An empty slot, or any failure, drops. Datagrams to the sandbox's own address stay inside
//! too: they are answers to a socket that is not connected, which the kernel finds by its port only.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use crate::netlink::{OWN_V4, OWN_V6};
use crate::sys::{self, Result};

/// A loaded program whose array is still empty: it drops everything.
#[derive(Debug)]
pub(crate) struct Steering {
    map: OwnedFd,
    program: OwnedFd,
}

impl Steering {
    /// Loads one; the kernel's examination of it takes most of the time of making a sandbox's network.
    pub(crate) fn load() -> Result<Self> {
        let map = sys::bpf_socket_map(2)?;
        let program = sys::bpf_socket_lookup(&program(&map))?;
        Ok(Self { map, program })
    }

    /// Ties the namespace's connections and datagrams to these sockets while the answer stays open.
    pub(crate) fn attach(
        self,
        namespace: BorrowedFd<'_>,
        tcp: BorrowedFd<'_>,
        udp: BorrowedFd<'_>,
    ) -> Result<OwnedFd> {
        sys::bpf_place(self.map.as_fd(), 0, tcp)?;
        sys::bpf_place(self.map.as_fd(), 1, udp)?;
        sys::bpf_link(self.program.as_fd(), namespace)
    }
}

/// Where a jump goes; resolved to a distance when the program is put together.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Label {
    Next,
    Version6,
    Own6,
    Own,
    Steer,
    Datagram,
    Choose,
    Drop,
    Pass,
}

/// One instruction: code, registers, offset in memory, constant; jumps name their label.
#[derive(Clone, Copy)]
struct Step {
    here: Label,
    code: u8,
    to: u8,
    from: u8,
    offset: i16,
    value: u32,
    jump: Label,
}

fn step(code: u8, to: u8, from: u8, offset: i16, value: u32) -> Step {
    Step { here: Label::Next, code, to, from, offset, value, jump: Label::Next }
}

/// Loads a word of the context, which register 6 holds, to register 3.
fn context(offset: i16) -> Step {
    step(0x61, 3, 6, offset, 0)
}

fn set(register: u8, value: u32) -> Step {
    step(0xb7, register, 0, 0, value)
}

fn copy(to: u8, from: u8) -> Step {
    step(0xbf, to, from, 0, 0)
}

fn call(function: u32) -> Step {
    step(0x85, 0, 0, 0, function)
}

fn when(register: u8, value: u32, jump: Label) -> Step {
    Step { jump, ..step(0x15, register, 0, 0, value) }
}

fn unless(register: u8, value: u32, jump: Label) -> Step {
    Step { jump, ..step(0x55, register, 0, 0, value) }
}

fn at(here: Label, step: Step) -> Step {
    Step { here, ..step }
}

fn steps(map: u32) -> Vec<Step> {
    /// Offsets in the kernel's `struct bpf_sk_lookup`.
    const FAMILY: i16 = 8;
    const PROTOCOL: i16 = 12;
    const LOCAL_IP4: i16 = 40;
    const LOCAL_IP6: i16 = 44;
    const LOOKUP_ELEMENT: u32 = 1;
    const RELEASE: u32 = 86;
    const ASSIGN: u32 = 124;
    const MAP_DESCRIPTOR: u8 = 1;
    let octets = OWN_V6.octets();
    let word = |at: usize| {
        u32::from_ne_bytes([octets[at], octets[at + 1], octets[at + 2], octets[at + 3]])
    };
    let own = [word(0), word(4), word(8), word(12)];
    let goto_steer = || Step { jump: Label::Steer, ..step(0x05, 0, 0, 0, 0) };
    vec![
        copy(6, 1),
        context(FAMILY),
        when(3, 10, Label::Version6),
        unless(3, 2, Label::Drop),
        context(LOCAL_IP4),
        when(3, u32::from_ne_bytes(OWN_V4.octets()), Label::Own),
        step(0x57, 3, 0, 0, u32::from_ne_bytes([255, 0, 0, 0])),
        when(3, u32::from_ne_bytes([127, 0, 0, 0]), Label::Pass),
        goto_steer(),
        at(Label::Version6, context(LOCAL_IP6)),
        when(3, own[0], Label::Own6),
        unless(3, 0, Label::Steer),
        context(LOCAL_IP6 + 4),
        unless(3, 0, Label::Steer),
        context(LOCAL_IP6 + 8),
        unless(3, 0, Label::Steer),
        context(LOCAL_IP6 + 12),
        when(3, u32::from_ne_bytes([0, 0, 0, 1]), Label::Pass),
        goto_steer(),
        at(Label::Own6, context(LOCAL_IP6 + 4)),
        unless(3, own[1], Label::Steer),
        context(LOCAL_IP6 + 8),
        unless(3, own[2], Label::Steer),
        context(LOCAL_IP6 + 12),
        unless(3, own[3], Label::Steer),
        at(Label::Own, context(PROTOCOL)),
        when(3, 17, Label::Pass),
        at(Label::Steer, context(PROTOCOL)),
        set(2, 0),
        when(3, 6, Label::Choose),
        when(3, 17, Label::Datagram),
        at(Label::Drop, set(0, 0)),
        step(0x95, 0, 0, 0, 0),
        at(Label::Datagram, set(2, 1)),
        // The key goes to the stack, its address to register 2, the map to register 1.
        at(Label::Choose, step(0x63, 10, 2, -4, 0)),
        copy(2, 10),
        step(0x07, 2, 0, 0, (-4_i32).cast_unsigned()),
        step(0x18, 1, MAP_DESCRIPTOR, 0, map),
        step(0, 0, 0, 0, 0),
        call(LOOKUP_ELEMENT),
        when(0, 0, Label::Drop),
        copy(7, 0),
        copy(1, 6),
        copy(2, 7),
        set(3, 0),
        call(ASSIGN),
        copy(8, 0),
        copy(1, 7),
        call(RELEASE),
        unless(8, 0, Label::Drop),
        at(Label::Pass, set(0, 1)),
        step(0x95, 0, 0, 0, 0),
    ]
}

fn program(map: &OwnedFd) -> Vec<u64> {
    let steps = steps(map.as_raw_fd().cast_unsigned());
    let mut program = Vec::with_capacity(steps.len());
    for (index, step) in steps.iter().enumerate() {
        let target = steps.iter().position(|other| other.here == step.jump);
        let offset = match (step.jump, target) {
            (Label::Next, _) | (_, None) => step.offset,
            (_, Some(target)) => {
                let distance = target.cast_signed() - index.cast_signed() - 1;
                i16::try_from(distance).expect("the program is far shorter than a jump can reach")
            }
        };
        program.push(
            u64::from(step.code)
                | u64::from(step.to) << 8
                | u64::from(step.from) << 12
                | u64::from(offset.cast_unsigned()) << 16
                | u64::from(step.value) << 32,
        );
    }
    program
}
