//! TCP: every connection of a sandbox, from its acceptance to its last byte.
//!
//! ```text
//! accepted -> judged -> Resolving (a name's addresses, then the proxy's) -> Dialling -> Greeting (proxy) -> Open -> ended
//!                |            |                             |                  |             |
//!                +------------+-----------------------------+------------------+-------------+--> reset
//! ```
//! Bytes are spliced through pipes; the way up is read and judged first where the name must be proven. All
//! watches are edge-triggered: a side is taken for ready until the kernel says otherwise.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::audit::{Kind, Record};
use crate::control::hexadecimal;
use crate::entries::{Purpose, Relay, Stage};
use crate::first_bytes::Guard;
use crate::judge::{self, Reason};
use crate::names::Name;
use crate::policy::Host;
use crate::pump::{Pump, Turn};
use crate::slab::Key;
use crate::state::{State, Target, Timer, wall_clock};
use crate::sys::{self, Result};

/// The address of `mayfly.internal`.
pub(crate) const INTERNAL: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
/// Port at which `mayfly.internal` is served.
const INTERNAL_PORT: u16 = 80;
const DNS_PORT: u16 = 53;
pub(crate) const DNS_TLS_PORT: u16 = 853;
/// Milliseconds until a connection must be open, its names included.
const DIAL_TIME: u64 = 15_000;
/// Addresses of one name that are tried.
const MAX_ADDRESSES: usize = 4;
/// Connections accepted from one sandbox per turn.
const TURN: usize = 64;
/// Longest head of a proxy's answer.
const MAX_GREETING: usize = 8 * 1024;

/// What stands behind the address that was dialled.
#[derive(Debug)]
enum Route {
    /// The server of `mayfly.internal`.
    Internal(String),
    /// The host that this name has.
    Name(Name),
    /// The address itself.
    Address,
}

impl State {
    /// Takes connections of a sandbox.
    pub(crate) fn accept(&mut self, sandbox: Key) {
        for _ in 0..TURN {
            let Some(listener) = self.sandboxes.get(sandbox).map(|own| own.sockets.tcp.as_fd())
            else {
                return;
            };
            // Any error: nobody there, or out of descriptors; the queue tells again.
            let Ok(inside) = sys::accept(listener) else { return };
            match sys::local_address(inside.as_fd()) {
                Ok(target) => self.begin(sandbox, inside, target),
                Err(_) => reset(&inside),
            }
        }
    }

    fn begin(&mut self, sandbox: Key, inside: OwnedFd, target: SocketAddr) {
        if target.port() == DNS_PORT && !target.ip().is_loopback() {
            return self.begin_client(sandbox, inside, target);
        }
        let route = match self.route(sandbox, target) {
            Ok(route) => route,
            Err(reason) => {
                self.denied(sandbox, "tcp", target, None, reason);
                return reset(&inside);
            }
        };
        let name = match &route {
            Route::Name(name) => Some(name.clone()),
            _ => None,
        };
        let guard = name.clone().map(|name| Guard::new(name, target.port()));
        let relay = Relay {
            sandbox,
            target,
            name,
            reached: None,
            is_internal: matches!(route, Route::Internal(_)),
            addresses: Vec::new(),
            goal: None,
            stage: Stage::Resolving,
            pump: Pump::new(inside, guard),
            is_queued: false,
            started: self.now,
            started_wall: wall_clock(),
        };
        self.count(&relay, 1);
        let key = self.relays.insert(relay);
        if let Some(own) = self.sandboxes.get_mut(sandbox) {
            own.counters.allowed += 1;
        }
        self.record(key, Kind::Open, "allowed");
        self.at(self.now + DIAL_TIME, Timer::Dial(key));
        match route {
            Route::Internal(path) => self.dial_internal(key, &path),
            Route::Name(name) => self.look_up(Purpose::Destination(key), sandbox, name),
            Route::Address => self.destination_known(key, vec![target]),
        }
    }

    /// Judges a connection by the address that was dialled.
    fn route(&self, sandbox: Key, target: SocketAddr) -> std::result::Result<Route, Reason> {
        let own = self.sandboxes.get(sandbox).ok_or(Reason::Blocked)?;
        if own.counters.connections >= u64::from(own.policy.connections) || !self.has_room() {
            return Err(Reason::Limit);
        }
        let address = target.ip();
        if address == IpAddr::V4(INTERNAL) {
            let path = own.policy.internal.clone().filter(|_| target.port() == INTERNAL_PORT);
            return path.map(Route::Internal).ok_or(Reason::Protocol);
        }
        if target.port() == DNS_TLS_PORT {
            return Err(Reason::Protocol);
        }
        if judge::is_synthetic(address) {
            let name = own.name_of(address).ok_or(Reason::Name)?;
            judge::name(&own.policy, &name)?;
            return Ok(Route::Name(name));
        }
        judge::address(&own.policy, &self.host, address).map(|()| Route::Address)
    }

    /// A name's addresses have been found (or not): the judged ones are dialled.
    pub(crate) fn destination_found(&mut self, key: Key, addresses: &[IpAddr]) {
        let Some(relay) = self.relays.get(key) else { return };
        let port = relay.target.port();
        match self.judged(relay.sandbox, addresses) {
            Ok(judged) => {
                let targets = judged.into_iter().map(|ip| SocketAddr::new(ip, port)).collect();
                self.destination_known(key, targets);
            }
            Err(reason) => self.end(key, reason),
        }
    }

    /// The proxy's addresses have been found (or not).
    pub(crate) fn proxy_found(&mut self, key: Key, addresses: &[IpAddr]) {
        let Some(relay) = self.relays.get(key) else { return };
        let proxy = self.policy(relay.sandbox).and_then(|policy| policy.proxy.as_ref());
        let port = proxy.map_or(0, |proxy| proxy.port);
        match self.judged(relay.sandbox, addresses) {
            Ok(judged) => {
                let targets = judged.into_iter().map(|ip| SocketAddr::new(ip, port)).collect();
                self.dial_first(key, targets);
            }
            Err(reason) => self.end(key, reason),
        }
    }

    /// The addresses that pass, or why the first does not.
    fn judged(
        &self,
        sandbox: Key,
        addresses: &[IpAddr],
    ) -> std::result::Result<Vec<IpAddr>, Reason> {
        let policy = self.policy(sandbox).ok_or(Reason::Blocked)?;
        let mut refused = Reason::Unreachable;
        let mut passed = Vec::new();
        for address in addresses.iter().take(MAX_ADDRESSES) {
            match judge::resolved(policy, &self.host, *address) {
                Ok(()) => passed.push(*address),
                Err(reason) => refused = reason,
            }
        }
        if passed.is_empty() { Err(refused) } else { Ok(passed) }
    }

    /// The destination is known and judged: it is dialled, or asked of the proxy.
    fn destination_known(&mut self, key: Key, targets: Vec<SocketAddr>) {
        let Some(relay) = self.relays.get_mut(key) else { return };
        let sandbox = relay.sandbox;
        let proxy = self.policy(sandbox).and_then(|policy| policy.proxy.clone());
        let Some(proxy) = proxy else {
            return self.dial_first(key, targets);
        };
        if let Some(relay) = self.relays.get_mut(key) {
            relay.goal = targets.first().copied();
        }
        match proxy.host {
            Host::Address(address) => self.proxy_found(key, &[address]),
            Host::Name(name) => self.look_up(Purpose::Proxy(key), sandbox, name),
        }
    }

    fn dial_first(&mut self, key: Key, mut targets: Vec<SocketAddr>) {
        targets.reverse();
        if let Some(relay) = self.relays.get_mut(key) {
            relay.addresses = targets;
            self.dial_next(key);
        }
    }

    /// Dials the next address; without one, the connection ends.
    fn dial_next(&mut self, key: Key) {
        loop {
            let Some(relay) = self.relays.get_mut(key) else { return };
            let Some(to) = relay.addresses.pop() else {
                return self.end(key, Reason::Unreachable);
            };
            relay.reached = Some(relay.goal.unwrap_or(to).ip());
            relay.stage = Stage::Dialling;
            if let Ok(socket) = begin_dial(to)
                && self.watch_outside(key, socket.as_fd()).is_ok()
                && let Some(relay) = self.relays.get_mut(key)
            {
                relay.pump.outside = Some(socket);
                return;
            }
        }
    }

    /// Hands a connection to the server behind `mayfly.internal`, with a line that says whose it is.
    fn dial_internal(&mut self, key: Key, path: &str) {
        let sandbox = self.relays.get(key).and_then(|relay| self.sandboxes.get(relay.sandbox));
        let Some(id) = sandbox.map(|sandbox| sandbox.id) else { return };
        let line = format!("MAYFLY 1 {}\r\n", hexadecimal(&id));
        let dialled = sys::socket(sys::UNIX, sys::STREAM, 0).and_then(|socket| {
            sys::connect_unix(socket.as_fd(), path.as_bytes())?;
            sys::send(socket.as_fd(), line.as_bytes())?;
            self.watch_outside(key, socket.as_fd())?;
            Ok(socket)
        });
        match (dialled, self.relays.get_mut(key)) {
            (Ok(socket), Some(relay)) => {
                relay.pump.outside = Some(socket);
                self.open(key);
            }
            _ => self.end(key, Reason::Unreachable),
        }
    }

    fn watch_outside(&self, key: Key, socket: BorrowedFd<'_>) -> Result<()> {
        self.watch(socket, ALL, Target::Outside(key))
    }

    /// Something happened on the host's side.
    pub(crate) fn outside_event(&mut self, key: Key, events: u32) {
        let Some(relay) = self.relays.get_mut(key) else { return };
        let Some(outside) = relay.pump.outside.as_ref() else { return };
        match &mut relay.stage {
            Stage::Resolving => {}
            Stage::Dialling if events & (sys::WRITABLE | sys::FAILED) == 0 => {}
            Stage::Dialling => match (sys::pending_error(outside.as_fd()), relay.goal) {
                (Ok(()), None) => self.open(key),
                (Ok(()), Some(goal)) => self.greet(key, goal),
                (Err(_), _) => self.dial_next(key),
            },
            Stage::Greeting(_) => self.greeted(key),
            Stage::Open => {
                relay.pump.outside_event(events);
                self.run(key);
            }
        }
    }

    /// Something happened on the sandbox's side.
    pub(crate) fn inside_event(&mut self, key: Key, events: u32) {
        if let Some(relay) = self.relays.get_mut(key) {
            relay.pump.inside_event(events);
            self.run(key);
        }
    }

    /// Asks the proxy for the destination.
    fn greet(&mut self, key: Key, goal: SocketAddr) {
        let Some(relay) = self.relays.get_mut(key) else { return };
        relay.stage = Stage::Greeting(Vec::new());
        let login = self.sandboxes.get(relay.sandbox).and_then(|sandbox| {
            sandbox.policy.proxy.as_ref().and_then(|proxy| proxy.login.as_deref())
        });
        let login = login.map_or_else(String::new, |login| {
            format!("Proxy-Authorization: Basic {}\r\n", base64(login.as_bytes()))
        });
        let request = format!("CONNECT {goal} HTTP/1.1\r\nHost: {goal}\r\n{login}\r\n");
        let outside = relay.pump.outside.as_ref();
        let sent = outside.map(|outside| sys::send(outside.as_fd(), request.as_bytes()));
        if !matches!(sent, Some(Ok(count)) if count == request.len()) {
            self.end(key, Reason::Unreachable);
        }
    }

    /// Reads the proxy's answer, byte for byte up to its end: what follows belongs to the destination.
    fn greeted(&mut self, key: Key) {
        let Some(relay) = self.relays.get_mut(key) else { return };
        let (Stage::Greeting(answer), Some(outside)) = (&mut relay.stage, &relay.pump.outside)
        else {
            return;
        };
        let mut byte = [0_u8; 1];
        while !answer.ends_with(b"\r\n\r\n") {
            match sys::receive(outside.as_fd(), &mut byte) {
                Ok(1) if answer.len() < MAX_GREETING => answer.push(byte[0]),
                Err(error) if error.raw_os_error() == Some(sys::AGAIN) => return,
                _ => return self.end(key, Reason::Unreachable),
            }
        }
        let is_agreed = answer.starts_with(b"HTTP/1.1 200") || answer.starts_with(b"HTTP/1.0 200");
        if is_agreed { self.open(key) } else { self.end(key, Reason::Unreachable) }
    }

    /// The destination is reached: bytes may flow.
    fn open(&mut self, key: Key) {
        let Some(relay) = self.relays.get_mut(key) else { return };
        relay.stage = Stage::Open;
        let inside = relay.pump.inside.as_fd();
        if sys::watch(self.queue.as_fd(), inside, ALL, Target::Inside(key).number()).is_err() {
            return self.end(key, Reason::Limit);
        }
        self.run(key);
    }

    /// Moves what can be moved.
    pub(crate) fn run(&mut self, key: Key) {
        let Some(relay) = self.relays.get_mut(key) else { return };
        if !matches!(relay.stage, Stage::Open) || relay.is_queued {
            return;
        }
        let result = relay.pump.run(&mut self.pipes);
        let (up, down) = relay.pump.take_counts();
        if let Some(sandbox) = self.sandboxes.get_mut(relay.sandbox) {
            sandbox.counters.up += up;
            sandbox.counters.down += down;
        }
        match result {
            Turn::Waiting => {}
            Turn::More => {
                relay.is_queued = true;
                self.ready.push_back(key);
            }
            Turn::Ended => self.close(key, "allowed", false),
            Turn::Broken => self.close(key, "allowed", true),
            Turn::Refused => self.end(key, Reason::Unproven),
        }
    }

    /// The turn of a connection that had more to move has come.
    pub(crate) fn run_queued(&mut self, key: Key) {
        if let Some(relay) = self.relays.get_mut(key) {
            relay.is_queued = false;
            self.run(key);
        }
    }

    /// The time to be open has passed.
    pub(crate) fn dial_expired(&mut self, key: Key) {
        let is_open = self.relays.get(key).is_none_or(|relay| matches!(relay.stage, Stage::Open));
        if !is_open {
            self.end(key, Reason::Unreachable);
        }
    }

    /// Ends a connection for a reason, by reset.
    pub(crate) fn end(&mut self, key: Key, reason: Reason) {
        if reason != Reason::Unreachable
            && let Some(relay) = self.relays.get(key)
        {
            let (sandbox, target, name) = (relay.sandbox, relay.target, relay.name.clone());
            self.denied(sandbox, "tcp", target, name.as_ref(), reason);
        }
        self.close(key, &reason.to_string(), true);
    }

    fn close(&mut self, key: Key, verdict: &str, by_reset: bool) {
        self.record(key, Kind::End, verdict);
        let Some(relay) = self.relays.remove(key) else { return };
        self.count(&relay, -1);
        let (inside, outside) = relay.pump.finish(&mut self.pipes);
        if by_reset {
            outside.iter().for_each(reset);
            reset(&inside);
        }
    }

    fn count(&mut self, relay: &Relay, change: i32) {
        let now = self.now;
        let Some(sandbox) = self.sandboxes.get_mut(relay.sandbox) else { return };
        sandbox.counters.connections =
            sandbox.counters.connections.saturating_add_signed(i64::from(change));
        if let IpAddr::V4(v4) = relay.target.ip() {
            sandbox.names.count(v4, change, now);
        }
    }

    /// Judges all connections of a sandbox again and resets those no longer allowed.
    pub(crate) fn judge_relays_again(&mut self, sandbox: Key) {
        let Some(own) = self.sandboxes.get(sandbox) else { return };
        let judge_one = |relay: &Relay| -> std::result::Result<(), Reason> {
            match &relay.name {
                _ if relay.is_internal => {
                    own.policy.internal.as_ref().map(drop).ok_or(Reason::Blocked)
                }
                Some(name) => {
                    judge::name(&own.policy, name)?;
                    let reached = relay.reached;
                    reached.map_or(Ok(()), |ip| judge::resolved(&own.policy, &self.host, ip))
                }
                None => judge::address(&own.policy, &self.host, relay.target.ip()),
            }
        };
        let mine = self.relays.iter().filter(|(_, relay)| relay.sandbox == sandbox);
        let refused: Vec<(Key, Reason)> =
            mine.filter_map(|(key, relay)| Some((key, judge_one(relay).err()?))).collect();
        for (key, reason) in refused {
            self.end(key, reason);
        }
    }

    /// Resets all connections of a sandbox but those to the server: the proxy is another one now.
    pub(crate) fn drop_proxied(&mut self, sandbox: Key) {
        let is_ours = |relay: &Relay| relay.sandbox == sandbox && !relay.is_internal;
        let mine = self.relays.iter().filter(|(_, relay)| is_ours(relay));
        let keys: Vec<Key> = mine.map(|(key, _)| key).collect();
        for key in keys {
            self.end(key, Reason::Protocol);
        }
    }

    /// Resets all connections of a sandbox.
    pub(crate) fn drop_relays(&mut self, sandbox: Key) {
        let mine = self.relays.iter().filter(|(_, relay)| relay.sandbox == sandbox);
        let keys: Vec<Key> = mine.map(|(key, _)| key).collect();
        for key in keys {
            self.close(key, "removed", true);
        }
    }

    fn record(&mut self, key: Key, kind: Kind, verdict: &str) {
        let Some(relay) = self.relays.get(key) else { return };
        let Some(sandbox) = self.sandboxes.get(relay.sandbox) else { return };
        let name = relay.name.clone().or_else(|| sandbox.name_of(relay.target.ip()));
        let (up, down) = relay.pump.totals();
        let record = Record {
            kind,
            started: relay.started_wall,
            duration: self.now.saturating_sub(relay.started),
            name: name.map(|name| name.as_str().to_owned()),
            verdict: verdict.to_owned(),
            up,
            down,
            ..Record::denial("tcp", relay.target, None)
        };
        let id = sandbox.id;
        self.audit.write(&id, &record);
    }
}

const ALL: u32 = sys::READABLE | sys::WRITABLE | sys::PEER_CLOSED | sys::EDGE;

/// Begins to connect from the host. No source is bound, so that the kernel picks a port that is free for
/// this destination, which is what `IP_BIND_ADDRESS_NO_PORT` is for where one is.
fn begin_dial(to: SocketAddr) -> Result<OwnedFd> {
    let family = if to.is_ipv4() { sys::INET } else { sys::INET6 };
    let socket = sys::socket(family, sys::STREAM, 0)?;
    sys::set(socket.as_fd(), sys::SOL_TCP, sys::TCP_NODELAY, 1)?;
    sys::set(socket.as_fd(), sys::SOL_SOCKET, sys::SO_KEEPALIVE, 1)?;
    match sys::connect(socket.as_fd(), to) {
        Err(error) if error.raw_os_error() != Some(sys::IN_PROGRESS) => Err(error),
        _ => Ok(socket),
    }
}

/// Has the coming close show the peer a reset.
fn reset(socket: &OwnedFd) {
    const NOW: [u8; 8] = [1, 0, 0, 0, 0, 0, 0, 0];
    // A socket that is no TCP socket any more is closed all the same.
    let _: io::Result<()> = sys::set_bytes(socket.as_fd(), sys::SOL_SOCKET, sys::SO_LINGER, &NOW);
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let part = |at: usize| u32::from(three.get(at).copied().unwrap_or(0));
        let bits = part(0) << 16 | part(1) << 8 | part(2);
        for digit in 0..4 {
            let index = (bits >> (18 - 6 * digit) & 63) as usize;
            text.push(if digit <= three.len() { char::from(DIGITS[index]) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logins_are_written_as_base64() {
        for (bytes, text) in
            [("", ""), ("a", "YQ=="), ("ab", "YWI="), ("abc", "YWJj"), ("u:p@\u{ff}", "dTpwQMO/")]
        {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }
}
