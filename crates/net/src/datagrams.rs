//! UDP: a flow per pair of addresses, from a socket inside that speaks as the destination to one outside.
//!
//! Both sockets of a flow are connected, so that the kernel hands its later datagrams straight to them.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::audit::{Kind, Record};
use crate::entries::{Asker, Flow};
use crate::judge::{self, Reason};
use crate::namespace;
use crate::relay::{DNS_TLS_PORT, INTERNAL};
use crate::slab::Key;
use crate::state::{State, Target, Timer, wall_clock};
use crate::sys::{self, Result};

/// Milliseconds without a datagram after which a flow ends.
const IDLE: u64 = 60_000;
/// Datagrams taken from one socket per turn.
const TURN: usize = 64;
const DNS_PORT: u16 = 53;
/// Longest datagram.
const MAX_DATAGRAM: usize = 65_536;

impl State {
    /// Takes datagrams of a sandbox that belong to no flow yet.
    pub(crate) fn receive_datagrams(&mut self, sandbox: Key) {
        let mut buffer = vec![0_u8; MAX_DATAGRAM];
        for _ in 0..TURN {
            let Some(own) = self.sandboxes.get(sandbox) else { return };
            match sys::receive_datagram(own.sockets.udp.as_fd(), &mut buffer) {
                Ok((length, source, target)) => {
                    self.datagram(sandbox, source, target, &buffer[..length]);
                }
                Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {}
                Err(_) => return,
            }
        }
    }

    fn datagram(&mut self, sandbox: Key, source: SocketAddr, target: SocketAddr, bytes: &[u8]) {
        if target.port() == DNS_PORT && !target.ip().is_loopback() {
            return self.ask(sandbox, Asker::Datagram { source, target }, bytes);
        }
        let known = self.sandboxes.get(sandbox).and_then(|own| own.flows.get(&(source, target)));
        let key = match known {
            Some(key) => *key,
            None => match self.begin_flow(sandbox, source, target) {
                Ok(key) => key,
                Err(reason) => return self.denied(sandbox, "udp", target, None, reason),
            },
        };
        self.send_up(key, bytes);
    }

    fn begin_flow(
        &mut self,
        sandbox: Key,
        source: SocketAddr,
        target: SocketAddr,
    ) -> std::result::Result<Key, Reason> {
        self.judge_flow(sandbox, target)?;
        let own = self.sandboxes.get(sandbox).ok_or(Reason::Blocked)?;
        if own.flows.len() >= own.policy.flows as usize || !self.has_room() {
            return Err(Reason::Limit);
        }
        let sockets = self.flow_sockets(own.sockets.tcp.as_fd(), source, target);
        let (inside, outside) = sockets.map_err(|_| Reason::Unreachable)?;
        let (started, started_wall) = (self.now, wall_clock());
        let flow = Flow {
            sandbox,
            source,
            target,
            inside,
            outside,
            up: 0,
            down: 0,
            used: started,
            started,
            started_wall,
        };
        let key = self.flows.insert(flow);
        if let Some(own) = self.sandboxes.get_mut(sandbox) {
            own.flows.insert((source, target), key);
            own.counters.flows += 1;
            own.counters.allowed += 1;
        }
        self.record_flow(key, Kind::Open, "allowed");
        self.at(started + IDLE, Timer::Flow(key));
        let watched = self.flows.get(key).map(|flow| {
            self.watch(flow.inside.as_fd(), sys::READABLE, Target::FlowInside(key))?;
            self.watch(flow.outside.as_fd(), sys::READABLE, Target::FlowOutside(key))
        });
        if !matches!(watched, Some(Ok(()))) {
            self.end_flow(key, "limit");
            return Err(Reason::Limit);
        }
        Ok(key)
    }

    /// Judges a flow. Names cannot be proven by datagrams, and a proxy takes none.
    fn judge_flow(&self, sandbox: Key, target: SocketAddr) -> std::result::Result<(), Reason> {
        let policy = self.policy(sandbox).ok_or(Reason::Blocked)?;
        if policy.proxy.is_some()
            || target.port() == DNS_TLS_PORT
            || target.ip() == IpAddr::V4(INTERNAL)
        {
            return Err(Reason::Protocol);
        }
        if judge::is_synthetic(target.ip()) {
            return Err(Reason::Unproven);
        }
        judge::address(policy, &self.host, target.ip())
    }

    fn flow_sockets(
        &self,
        listener: BorrowedFd<'_>,
        source: SocketAddr,
        target: SocketAddr,
    ) -> Result<(OwnedFd, OwnedFd)> {
        let family = if target.is_ipv4() { sys::INET } else { sys::INET6 };
        let outside = sys::socket(family, sys::DATAGRAM, 0)?;
        sys::connect(outside.as_fd(), target)?;
        let inside = namespace::speak_as(&self.door, listener, target)?;
        sys::connect(inside.as_fd(), source)?;
        Ok((inside, outside))
    }

    fn send_up(&mut self, key: Key, bytes: &[u8]) {
        let now = self.now;
        let Some(flow) = self.flows.get_mut(key) else { return };
        // A datagram that cannot be sent at once is lost, as on any network.
        if sys::send(flow.outside.as_fd(), bytes).is_ok() {
            flow.up += bytes.len() as u64;
        }
        flow.used = now;
        if let Some(sandbox) = self.sandboxes.get_mut(flow.sandbox) {
            sandbox.counters.up += bytes.len() as u64;
        }
    }

    /// Moves the datagrams of a flow that wait on one of its sockets.
    pub(crate) fn flow_event(&mut self, key: Key, is_inside: bool) {
        let mut buffer = vec![0_u8; MAX_DATAGRAM];
        for _ in 0..TURN {
            let Some(flow) = self.flows.get(key) else { return };
            let from = if is_inside { &flow.inside } else { &flow.outside };
            match sys::receive(from.as_fd(), &mut buffer) {
                Ok(length) if is_inside => self.send_up(key, &buffer[..length]),
                Ok(length) => self.send_down(key, &buffer[..length]),
                Err(error) if error.raw_os_error() == Some(sys::AGAIN) => return,
                // "Nobody listens there": the sandbox learns it by silence.
                Err(_) => {}
            }
        }
    }

    fn send_down(&mut self, key: Key, bytes: &[u8]) {
        let now = self.now;
        let Some(flow) = self.flows.get_mut(key) else { return };
        if sys::send(flow.inside.as_fd(), bytes).is_ok() {
            flow.down += bytes.len() as u64;
        }
        flow.used = now;
        if let Some(sandbox) = self.sandboxes.get_mut(flow.sandbox) {
            sandbox.counters.down += bytes.len() as u64;
        }
    }

    /// Ends a flow that has been idle for long enough, or looks again later.
    pub(crate) fn flow_expired(&mut self, key: Key) {
        let Some(flow) = self.flows.get(key) else { return };
        let until = flow.used + IDLE;
        if until <= self.now {
            self.end_flow(key, "allowed");
        } else {
            self.at(until, Timer::Flow(key));
        }
    }

    fn end_flow(&mut self, key: Key, verdict: &str) {
        self.record_flow(key, Kind::End, verdict);
        let Some(flow) = self.flows.remove(key) else { return };
        if let Some(sandbox) = self.sandboxes.get_mut(flow.sandbox) {
            sandbox.flows.remove(&(flow.source, flow.target));
            sandbox.counters.flows = sandbox.counters.flows.saturating_sub(1);
        }
    }

    /// Judges all flows of a sandbox again and ends those no longer allowed.
    pub(crate) fn judge_flows_again(&mut self, sandbox: Key) {
        for (key, target) in self.flows_of(sandbox) {
            if let Err(reason) = self.judge_flow(sandbox, target) {
                self.end_flow(key, &reason.to_string());
                self.denied(sandbox, "udp", target, None, reason);
            }
        }
    }

    /// Ends all flows of a sandbox.
    pub(crate) fn drop_flows(&mut self, sandbox: Key) {
        for (key, _) in self.flows_of(sandbox) {
            self.end_flow(key, "removed");
        }
    }

    fn flows_of(&self, sandbox: Key) -> Vec<(Key, SocketAddr)> {
        let own = self.sandboxes.get(sandbox);
        let flows = own.into_iter().flat_map(|own| &own.flows);
        flows.map(|((_, target), key)| (*key, *target)).collect()
    }

    fn record_flow(&mut self, key: Key, kind: Kind, verdict: &str) {
        let Some(flow) = self.flows.get(key) else { return };
        let Some(sandbox) = self.sandboxes.get(flow.sandbox) else { return };
        let record = Record {
            kind,
            started: flow.started_wall,
            duration: self.now.saturating_sub(flow.started),
            name: sandbox.name_of(flow.target.ip()).map(|name| name.as_str().to_owned()),
            verdict: verdict.to_owned(),
            up: flow.up,
            down: flow.down,
            ..Record::denial("udp", flow.target, None)
        };
        let id = sandbox.id;
        self.audit.write(&id, &record);
    }
}
