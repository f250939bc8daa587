//! Everything that the network process holds, and the small things that every part does with it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::audit::{Audit, Record};
use crate::cidr::Cidr;
use crate::control::SandboxId;
use crate::door::Door;
use crate::entries::{Client, Flow, Lookup, Relay, Sandbox};
use crate::judge::Reason;
use crate::names::Name;
use crate::pipes::Pipes;
use crate::policy::Policy;
use crate::slab::{Key, Slab};
use crate::steering::Steering;
use crate::sys::{self, Result};
use crate::way::Way;

/// Sandboxes of one process, at most; each holds three descriptors.
const MAX_SANDBOXES: u64 = 4_000;
/// Descriptors for all else: spare pipes, audit files, servers, programs loaded ahead.
const OTHERS: u64 = 400;

/// What an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Target {
    Control,
    Routes,
    Server(Key),
    Listener(Key),
    Datagrams(Key),
    Inside(Key),
    Outside(Key),
    FlowInside(Key),
    FlowOutside(Key),
    Lookup(Key),
    Client(Key),
}

impl Target {
    /// The target as the number that the kernel keeps: kind, generation, index.
    pub(crate) fn number(self) -> u64 {
        let (kind, key) = match self {
            Self::Control => (0, None),
            Self::Routes => (1, None),
            Self::Server(key) => (2, Some(key)),
            Self::Listener(key) => (3, Some(key)),
            Self::Datagrams(key) => (4, Some(key)),
            Self::Inside(key) => (5, Some(key)),
            Self::Outside(key) => (6, Some(key)),
            Self::FlowInside(key) => (7, Some(key)),
            Self::FlowOutside(key) => (8, Some(key)),
            Self::Lookup(key) => (9, Some(key)),
            Self::Client(key) => (10, Some(key)),
        };
        let key = key.map_or(0, |key| u64::from(key.generation) << 32 | u64::from(key.index));
        kind << 56 | key
    }

    pub(crate) fn from_number(number: u64) -> Option<Self> {
        let index = u32::try_from(number & 0xffff_ffff).ok()?;
        let generation = u32::try_from(number >> 32 & 0x00ff_ffff).ok()?;
        let key = Key { index, generation };
        Some(match number >> 56 {
            0 => Self::Control,
            1 => Self::Routes,
            2 => Self::Server(key),
            3 => Self::Listener(key),
            4 => Self::Datagrams(key),
            5 => Self::Inside(key),
            6 => Self::Outside(key),
            7 => Self::FlowInside(key),
            8 => Self::FlowOutside(key),
            9 => Self::Lookup(key),
            10 => Self::Client(key),
            _ => return None,
        })
    }
}

/// What a time is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// A connection must be open by then.
    Dial(Key),
    /// A flow is idle.
    Flow(Key),
    Lookup(Key),
    Client(Key),
    /// Denials of a sandbox that were counted together.
    Denials(Key),
    /// The host's addresses have changed.
    Routes,
}

/// Everything.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) queue: OwnedFd,
    /// The way into sandboxes' networks.
    pub(crate) door: Door,
    /// How sandboxes are steered.
    pub(crate) way: Way,
    started: Instant,
    /// Milliseconds since the start, as of the present round of events.
    pub(crate) now: u64,
    pub(crate) sandboxes: Slab<Sandbox>,
    pub(crate) by_id: BTreeMap<SandboxId, Key>,
    pub(crate) relays: Slab<Relay>,
    pub(crate) flows: Slab<Flow>,
    pub(crate) lookups: Slab<Lookup>,
    pub(crate) clients: Slab<Client>,
    pub(crate) servers: Slab<OwnedFd>,
    /// The host's own addresses.
    pub(crate) host: Vec<Cidr>,
    timers: BinaryHeap<Reverse<(u64, Timer)>>,
    pub(crate) audit: Audit,
    pub(crate) pipes: Pipes,
    /// Programs loaded ahead for the next sandboxes.
    pub(crate) steerings: Vec<Steering>,
    /// Relays that have more to move than one turn allows.
    pub(crate) ready: VecDeque<Key>,
    /// Connections, flows and lookups in all, at most; each holds four descriptors at most.
    pub(crate) max_open: usize,
    /// Sandboxes, at most.
    pub(crate) max_sandboxes: usize,
}

impl State {
    pub(crate) fn new(door: Door, way: Way, audit: Audit, descriptors: u64) -> Result<Self> {
        // A third of few descriptors is for sandboxes, of many what they need.
        let for_sandboxes = (descriptors / 3).min(3 * MAX_SANDBOXES);
        let for_open = descriptors.saturating_sub(for_sandboxes + OTHERS);
        let count = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        Ok(Self {
            queue: sys::event_queue()?,
            door,
            way,
            started: Instant::now(),
            now: 0,
            sandboxes: Slab::new(),
            by_id: BTreeMap::new(),
            relays: Slab::new(),
            flows: Slab::new(),
            lookups: Slab::new(),
            clients: Slab::new(),
            servers: Slab::new(),
            host: Vec::new(),
            timers: BinaryHeap::new(),
            audit,
            pipes: Pipes::default(),
            steerings: Vec::new(),
            ready: VecDeque::new(),
            // Two sockets each, and two pipes (four ends) while bytes are on their way.
            max_open: count(for_open / 6),
            max_sandboxes: count(for_sandboxes / 3),
        })
    }

    /// Takes the time, once per round of events.
    pub(crate) fn take_time(&mut self) {
        self.now = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
    }

    pub(crate) fn watch(&self, fd: BorrowedFd<'_>, events: u32, target: Target) -> Result<()> {
        sys::watch(self.queue.as_fd(), fd, events, target.number())
    }

    /// Has a timer come at this time.
    pub(crate) fn at(&mut self, time: u64, timer: Timer) {
        self.timers.push(Reverse((time, timer)));
    }

    /// The next timer that is due.
    pub(crate) fn due(&mut self) -> Option<Timer> {
        let Reverse((time, timer)) = *self.timers.peek()?;
        (time <= self.now).then(|| {
            self.timers.pop();
            timer
        })
    }

    /// Milliseconds until the next timer, as the kernel takes them.
    pub(crate) fn until_next(&self) -> i32 {
        self.timers.peek().map_or(-1, |Reverse((time, _))| {
            i32::try_from(time.saturating_sub(self.now)).unwrap_or(i32::MAX)
        })
    }

    /// Whether one more connection, flow or lookup fits into the process.
    pub(crate) fn has_room(&self) -> bool {
        self.relays.len() + self.flows.len() + self.lookups.len() + self.clients.len()
            < self.max_open
    }

    pub(crate) fn policy(&self, sandbox: Key) -> Option<&Policy> {
        self.sandboxes.get(sandbox).map(|sandbox| &sandbox.policy)
    }

    /// Writes a denial to the audit, or counts it when there are too many.
    pub(crate) fn denied(
        &mut self,
        sandbox_key: Key,
        protocol: &str,
        target: SocketAddr,
        name: Option<&Name>,
        reason: Reason,
    ) {
        let now = self.now;
        let Some(sandbox) = self.sandboxes.get_mut(sandbox_key) else { return };
        sandbox.counters.denied += 1;
        let name = name.cloned().or_else(|| sandbox.name_of(target.ip()));
        let name = name.map(|name| name.as_str().to_owned());
        let denial = Record::denial(protocol, target, name);
        let record = Record { started: wall_clock(), verdict: reason.to_string(), ..denial };
        let had_some = sandbox.denials.together.is_some();
        let (id, written) = (sandbox.id, sandbox.denials.take(record, now));
        let has_some = sandbox.denials.together.is_some();
        if let Some(record) = written {
            self.audit.write(&id, &record);
        }
        if has_some && !had_some {
            self.at(now + 1000, Timer::Denials(sandbox_key));
        }
    }

    /// Writes the line of the denials that were counted together.
    pub(crate) fn flush_denials(&mut self, sandbox: Key) {
        let Some(sandbox) = self.sandboxes.get_mut(sandbox) else { return };
        let (id, together) = (sandbox.id, sandbox.denials.together.take());
        if let Some(record) = together {
            self.audit.write(&id, &record);
        }
    }
}

/// Milliseconds since 1970.
pub(crate) fn wall_clock() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_come_back_from_their_numbers() {
        let key = Key { index: 123_456, generation: 0x00ab_cdef };
        for target in [
            Target::Control,
            Target::Routes,
            Target::Server(key),
            Target::Listener(key),
            Target::Datagrams(key),
            Target::Inside(key),
            Target::Outside(key),
            Target::FlowInside(key),
            Target::FlowOutside(key),
            Target::Lookup(key),
            Target::Client(key),
        ] {
            assert_eq!(Target::from_number(target.number()), Some(target));
        }
        assert_eq!(Target::from_number(u64::MAX), None);
    }
}
