//! What the process keeps one entry of for each sandbox, connection, flow, DNS client and lookup.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

use crate::audit::Denials;
use crate::control::{SandboxId, Statistics};
use crate::dns::message::Question;
use crate::dns::synthetic::Synthetic;
use crate::judge;
use crate::names::Name;
use crate::namespace::Sockets;
use crate::policy::Policy;
use crate::pump::Pump;
use crate::slab::Key;

/// Addresses whose names are remembered per sandbox, for the audit only.
const MAX_REMEMBERED: usize = 256;

/// One sandbox.
#[derive(Debug)]
pub(crate) struct Sandbox {
    pub(crate) id: SandboxId,
    pub(crate) sockets: Sockets,
    pub(crate) policy: Policy,
    pub(crate) names: Synthetic,
    /// Names that were asked for, by the address they had.
    pub(crate) remembered: HashMap<IpAddr, Name>,
    pub(crate) flows: HashMap<(SocketAddr, SocketAddr), Key>,
    pub(crate) lookups: u32,
    pub(crate) clients: u32,
    pub(crate) counters: Statistics,
    pub(crate) denials: Denials,
}

impl Sandbox {
    pub(crate) fn new(id: SandboxId, sockets: Sockets, policy: Policy) -> Self {
        Self {
            id,
            sockets,
            policy,
            names: Synthetic::default(),
            remembered: HashMap::new(),
            flows: HashMap::new(),
            lookups: 0,
            clients: 0,
            counters: Statistics::default(),
            denials: Denials::default(),
        }
    }

    pub(crate) fn remember(&mut self, address: IpAddr, name: &Name) {
        if self.remembered.len() >= MAX_REMEMBERED {
            self.remembered.clear();
        }
        self.remembered.insert(address, name.clone());
    }

    /// The name that an address is known to stand for.
    pub(crate) fn name_of(&self, address: IpAddr) -> Option<Name> {
        match address {
            IpAddr::V4(v4) if judge::is_synthetic(address) => self.names.name(v4).cloned(),
            _ => self.remembered.get(&address).cloned(),
        }
    }
}

/// How far a connection is.
#[derive(Debug)]
pub(crate) enum Stage {
    Resolving,
    Dialling,
    /// The proxy has been asked; its answer so far.
    Greeting(Vec<u8>),
    Open,
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Relay {
    pub(crate) sandbox: Key,
    /// What the sandbox dialled.
    pub(crate) target: SocketAddr,
    /// The name behind a synthetic address.
    pub(crate) name: Option<Name>,
    /// What is or was dialled last; behind a proxy, what the proxy is asked for.
    pub(crate) reached: Option<IpAddr>,
    pub(crate) is_internal: bool,
    /// Still to be tried.
    pub(crate) addresses: Vec<SocketAddr>,
    /// Asked of the proxy once it is reached.
    pub(crate) goal: Option<SocketAddr>,
    pub(crate) stage: Stage,
    pub(crate) pump: Pump,
    /// Whether it waits for its next turn already.
    pub(crate) is_queued: bool,
    pub(crate) started: u64,
    pub(crate) started_wall: u64,
}

/// One flow.
#[derive(Debug)]
pub(crate) struct Flow {
    pub(crate) sandbox: Key,
    pub(crate) source: SocketAddr,
    pub(crate) target: SocketAddr,
    pub(crate) inside: OwnedFd,
    pub(crate) outside: OwnedFd,
    pub(crate) up: u64,
    pub(crate) down: u64,
    pub(crate) used: u64,
    pub(crate) started: u64,
    pub(crate) started_wall: u64,
}

/// Who asked and how the answer goes back.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Asker {
    Datagram {
        source: SocketAddr,
        /// The server that was asked, as which the answer must come.
        target: SocketAddr,
    },
    Client(Key),
}

/// A client over TCP; one question at a time.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) sandbox: Key,
    pub(crate) socket: OwnedFd,
    pub(crate) target: SocketAddr,
    pub(crate) input: Vec<u8>,
    pub(crate) is_answering: bool,
    pub(crate) used: u64,
}

/// What an answer is for.
#[derive(Debug)]
pub(crate) enum Purpose {
    /// A sandbox has asked.
    Answer(Asker, Question),
    /// A connection's destination.
    Destination(Key),
    /// The proxy of a connection.
    Proxy(Key),
}

/// One name that is being asked for.
#[derive(Debug)]
pub(crate) struct Lookup {
    pub(crate) sandbox: Key,
    pub(crate) purpose: Purpose,
    pub(crate) name: Name,
    pub(crate) kind: u16,
    pub(crate) id: u16,
    pub(crate) attempts: usize,
    /// When the present resolver's time is over.
    pub(crate) until: u64,
    pub(crate) channel: Option<Channel>,
}

#[derive(Debug)]
pub(crate) enum Channel {
    Datagram(OwnedFd),
    /// Over TCP: whether the question has gone out, and the answer so far.
    Stream(OwnedFd, bool, Vec<u8>),
}
