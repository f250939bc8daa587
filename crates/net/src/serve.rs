//! The network process: its start, its loop, and what the server asks of it.

use std::ffi::OsString;
use std::io::Write as _;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr as _;

use crate::audit::Audit;
use crate::control::{Answer, LIST_PAGE, MAX_REQUEST, Request, SandboxId, Status};
use crate::door::{self, Door};
use crate::entries::Sandbox;
use crate::namespace;
use crate::netlink;
use crate::policy::Policy;
use crate::slab::Key;
use crate::state::{State, Target, Timer};
use crate::steering::Steering;
use crate::sys::{self, Event, Result};
use crate::way::Way;

/// Servers that are connected at a time: one, and a successor.
const MAX_SERVERS: usize = 8;
/// Events taken from the kernel per round.
const ROUND: usize = 256;
/// Relays that continue per round.
const MAX_READY: usize = 64;
/// Programs that are loaded in idle moments for the next sandboxes; two descriptors each.
const LOADED_AHEAD: usize = 16;
/// Milliseconds between two looks at the host's addresses when they keep changing.
const ROUTES_TIME: u64 = 100;

/// Runs the network process: the control socket is descriptor 0, the arguments are a [`Way`] to steer and the
/// folder of the audit. Ends only when it cannot go on.
///
/// With the arguments `probe` and a way it only tells whether this host offers that way, the reason against it
/// on the standard output. With `socket` and `4` or `6` it makes one TCP socket, as an ordinary user, in the network
/// that its standard input is, and sends it to its standard output, a unix socket.
pub fn serve() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let [first, second] = arguments.as_slice() else { return ExitCode::from(2) };
    let way = |text: &OsString| text.to_str().and_then(|text| Way::from_str(text).ok());
    if first == "probe" {
        let Some(way) = way(second) else { return ExitCode::from(2) };
        return way.probe().map_or_else(|error| tell(&error), |()| ExitCode::SUCCESS);
    }
    if first == "socket" {
        return lend(if second == "6" { sys::INET6 } else { sys::INET });
    }
    let Some(way) = way(first) else { return ExitCode::from(2) };
    match run(way, PathBuf::from(second)) {
        Ok(never) => match never {},
        Err(_) => ExitCode::FAILURE,
    }
}

/// Makes one TCP socket in the network at the standard input and sends it to the standard output.
fn lend(family: i32) -> ExitCode {
    let made =
        door::one_way(std::io::stdin().as_fd()).and_then(|()| sys::socket(family, sys::STREAM, 0));
    let out = std::io::stdout();
    let sent = match &made {
        Ok(socket) => sys::send_packet(out.as_fd(), b"socket", Some(socket.as_fd())),
        Err(error) => sys::send_packet(out.as_fd(), error.to_string().as_bytes(), None),
    };
    if made.is_ok() && sent.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Tells who started this why a way is not there.
fn tell(error: &std::io::Error) -> ExitCode {
    let _ = std::io::stdout().write_all(error.to_string().as_bytes());
    ExitCode::FAILURE
}

fn run(way: Way, folder: PathBuf) -> Result<std::convert::Infallible> {
    sys::close_inherited()?;
    let control = sys::inherited_listener();
    // A session of its own, so that no signal of the server's terminal comes here. Listening once more makes
    // the kernel name this process, not the server that made the socket, to whoever connects.
    let _ = sys::new_session();
    let _ = std::fs::write("/proc/self/comm", b"mayfly-net");
    sys::listen(control.as_fd(), sys::BACKLOG)?;
    let descriptors = sys::raise_open_files()?;
    let audit = Audit::new(folder);
    let mut state = State::new(Door::of_caller()?, way, audit, descriptors)?;
    let changes = netlink::changes()?;
    state.host = netlink::own_addresses()?;
    state.watch(control.as_fd(), sys::READABLE, Target::Control)?;
    state.watch(changes.as_fd(), sys::READABLE, Target::Routes)?;
    let mut events = [Event::default(); ROUND];
    // Off while the kernel refuses to load programs; every ADD tries anew.
    let mut loads_ahead = way == Way::SkLookup;
    loop {
        let is_short = loads_ahead && state.steerings.len() < LOADED_AHEAD;
        let has_work = is_short || !state.ready.is_empty();
        let timeout = if has_work { 0 } else { state.until_next() };
        let count = match sys::wait(state.queue.as_fd(), &mut events, timeout) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => 0,
            counted => counted?,
        };
        state.take_time();
        if count == 0 && is_short && state.ready.is_empty() {
            let loaded = Steering::load();
            loads_ahead = loaded.is_ok();
            state.steerings.extend(loaded);
        }
        for event in &events[..count] {
            let (what, number) = (event.events, event.key);
            match Target::from_number(number) {
                Some(Target::Control) => state.accept_server(&control),
                Some(Target::Routes) => {
                    netlink::drain(changes.as_fd());
                    let soon = state.now + ROUTES_TIME;
                    state.read_routes_at(soon);
                }
                Some(target) => state.event(target, what),
                None => {}
            }
        }
        state.continue_ready();
        while let Some(timer) = state.due() {
            state.timer(timer);
        }
    }
}

impl State {
    fn event(&mut self, target: Target, events: u32) {
        match target {
            Target::Control | Target::Routes => {}
            Target::Server(key) => self.serve_packet(key),
            Target::Listener(key) => self.accept(key),
            Target::Datagrams(key) => self.receive_datagrams(key),
            Target::Inside(key) => self.inside_event(key, events),
            Target::Outside(key) => self.outside_event(key, events),
            Target::FlowInside(key) => self.flow_event(key, true),
            Target::FlowOutside(key) => self.flow_event(key, false),
            Target::Lookup(key) => self.lookup_event(key),
            Target::Client(key) => self.client_event(key),
        }
    }

    fn timer(&mut self, timer: Timer) {
        match timer {
            Timer::Dial(key) => self.dial_expired(key),
            Timer::Flow(key) => self.flow_expired(key),
            Timer::Lookup(key) => self.lookup_expired(key),
            Timer::Client(key) => self.client_expired(key),
            Timer::Denials(key) => self.flush_denials(key),
            Timer::Routes => self.read_routes(),
        }
    }

    fn continue_ready(&mut self) {
        for _ in 0..self.ready.len().min(MAX_READY) {
            if let Some(key) = self.ready.pop_front() {
                self.run_queued(key);
            }
        }
    }

    /// Reads the host's addresses at once, and again when changes have come to rest.
    fn read_routes_at(&mut self, soon: u64) {
        self.read_routes();
        self.at(soon, Timer::Routes);
    }

    fn read_routes(&mut self) {
        // The former addresses stay in force when the new ones cannot be read.
        let Ok(host) = netlink::own_addresses() else { return };
        if host == self.host {
            return;
        }
        self.host = host;
        let sandboxes: Vec<Key> = self.by_id.values().copied().collect();
        for key in sandboxes {
            self.judge_relays_again(key);
            self.judge_flows_again(key);
        }
    }

    fn accept_server(&mut self, control: &OwnedFd) {
        let Ok(server) = sys::accept(control.as_fd()) else { return };
        let own = sys::own_user();
        let is_ours = sys::peer_user(server.as_fd()).is_ok_and(|user| user == own);
        if !is_ours || self.servers.len() >= MAX_SERVERS {
            return;
        }
        let key = self.servers.insert(server);
        let watched = self
            .servers
            .get(key)
            .map(|server| self.watch(server.as_fd(), sys::READABLE, Target::Server(key)));
        if !matches!(watched, Some(Ok(()))) {
            self.servers.remove(key);
        }
    }

    fn serve_packet(&mut self, key: Key) {
        let mut buffer = vec![0_u8; MAX_REQUEST + 1];
        let Some(server) = self.servers.get(key) else { return };
        let (length, descriptors) = match sys::receive_packet(server.as_fd(), &mut buffer) {
            Ok((length, descriptors)) if length > 0 => (length, descriptors),
            Err(error) if error.raw_os_error() == Some(sys::AGAIN) => return,
            _ => {
                self.servers.remove(key);
                return;
            }
        };
        let (number, request) = Request::decode(&buffer[..length]);
        let (status, body) = match request {
            Some(request) => self.answer(request, descriptors),
            None => (Status::Malformed, b"not a request of version 1".to_vec()),
        };
        let packet = Answer { number, status, body }.encode();
        let sent = self.servers.get(key).map(|server| sys::send(server.as_fd(), &packet));
        // A server that does not read its answers is let go.
        if !matches!(sent, Some(Ok(_))) {
            self.servers.remove(key);
        }
    }

    fn answer(&mut self, request: Request, descriptors: Vec<OwnedFd>) -> (Status, Vec<u8>) {
        match request {
            Request::Hello => {
                let text = format!(
                    "sandboxes {} connections {} flows {} lookups {} audit-lost {} allowed {} denied {}",
                    self.sandboxes.len(),
                    self.relays.len(),
                    self.flows.len(),
                    self.lookups.len(),
                    self.audit.lost,
                    self.audit.allowed,
                    self.audit.denied
                );
                (Status::Done, text.into_bytes())
            }
            Request::Add(id, text) => match <[OwnedFd; 1]>::try_from(descriptors) {
                Ok([namespace]) => self.add(id, &text, &namespace),
                Err(_) => (Status::Malformed, b"ADD takes one descriptor".to_vec()),
            },
            Request::SetPolicy(id, text) => self.set_policy(&id, &text),
            Request::Assign(from, to, text) => self.assign(&from, to, &text),
            Request::Remove(id) => {
                self.remove(&id);
                (Status::Done, Vec::new())
            }
            Request::Statistics(id) => {
                let sandbox = self.by_id.get(&id).and_then(|key| self.sandboxes.get(*key));
                match sandbox {
                    Some(sandbox) => (Status::Done, sandbox.counters.encode()),
                    None => (Status::Unknown, Vec::new()),
                }
            }
            Request::List(after) => {
                let ids = self.by_id.keys().filter(|id| **id > after).take(LIST_PAGE);
                (Status::Done, ids.flatten().copied().collect())
            }
        }
    }

    fn add(&mut self, id: SandboxId, text: &str, namespace: &OwnedFd) -> (Status, Vec<u8>) {
        let policy = match Policy::parse(text) {
            Ok(policy) => policy,
            Err(error) => return (Status::BadPolicy, error.to_string().into_bytes()),
        };
        if self.by_id.contains_key(&id) {
            return (Status::Exists, Vec::new());
        }
        if self.by_id.len() >= self.max_sandboxes {
            return (Status::Full, Vec::new());
        }
        let ready = self.steerings.pop();
        let taken = namespace::take_charge(&self.door, namespace.as_fd(), self.way, ready);
        let sockets = match taken {
            Ok(sockets) => sockets,
            Err(error) => {
                let status = if error.is_layer { Status::MissingLayer } else { Status::Failed };
                return (status, error.to_string().into_bytes());
            }
        };
        let key = self.sandboxes.insert(Sandbox::new(id, sockets, policy));
        self.by_id.insert(id, key);
        let watched = self.sandboxes.get(key).map(|sandbox| {
            let (tcp, udp) = (sandbox.sockets.tcp.as_fd(), sandbox.sockets.udp.as_fd());
            self.watch(tcp, sys::READABLE, Target::Listener(key))?;
            self.watch(udp, sys::READABLE, Target::Datagrams(key))
        });
        match watched {
            Some(Err(error)) => {
                self.remove(&id);
                (Status::Failed, format!("watch the sockets: {error}").into_bytes())
            }
            _ => (Status::Done, Vec::new()),
        }
    }

    fn set_policy(&mut self, id: &SandboxId, text: &str) -> (Status, Vec<u8>) {
        let policy = match Policy::parse(text) {
            Ok(policy) => policy,
            Err(error) => return (Status::BadPolicy, error.to_string().into_bytes()),
        };
        let Some(key) = self.by_id.get(id).copied() else {
            return (Status::Unknown, Vec::new());
        };
        let Some(sandbox) = self.sandboxes.get_mut(key) else {
            return (Status::Unknown, Vec::new());
        };
        let former = std::mem::replace(&mut sandbox.policy, policy);
        if former.proxy != sandbox.policy.proxy {
            self.drop_proxied(key);
        }
        self.judge_relays_again(key);
        self.judge_flows_again(key);
        (Status::Done, Vec::new())
    }

    /// A namespace that waited becomes a sandbox's. What happened in it before is nothing: no process ran.
    fn assign(&mut self, from: &SandboxId, to: SandboxId, text: &str) -> (Status, Vec<u8>) {
        let policy = match Policy::parse(text) {
            Ok(policy) => policy,
            Err(error) => return (Status::BadPolicy, error.to_string().into_bytes()),
        };
        if self.by_id.contains_key(&to) {
            return (Status::Exists, Vec::new());
        }
        let Some(sandbox) = self.by_id.get(from).and_then(|key| self.sandboxes.get_mut(*key))
        else {
            return (Status::Unknown, Vec::new());
        };
        (sandbox.id, sandbox.policy) = (to, policy);
        if let Some(key) = self.by_id.remove(from) {
            self.by_id.insert(to, key);
        }
        self.audit.close(from);
        (Status::Done, Vec::new())
    }

    fn remove(&mut self, id: &SandboxId) {
        let Some(key) = self.by_id.remove(id) else { return };
        self.drop_relays(key);
        self.drop_flows(key);
        self.drop_questions(key);
        self.flush_denials(key);
        self.sandboxes.remove(key);
        self.audit.close(id);
    }
}
