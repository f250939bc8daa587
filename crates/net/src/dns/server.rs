//! The DNS server of every sandbox: port 53 of any address, over UDP and TCP.
//!
//! Under a policy with domains an allowed name gets a synthetic address; otherwise names are resolved by the
//! host's resolvers and addresses that the policy denies are left out. All else is refused.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};

use super::message::{self, Code, Found, MAX_QUESTION, Question, TYPE_A, TYPE_AAAA};
use crate::control::hexadecimal;
use crate::entries::{Asker, Client, Purpose};
use crate::judge::{self, Reason};
use crate::names::Name;
use crate::namespace;
use crate::policy::Mode;
use crate::relay::INTERNAL;
use crate::slab::Key;
use crate::state::{State, Target, Timer};
use crate::sys;

/// The name under which the server is reached from inside.
const INTERNAL_NAME: &str = "mayfly.internal";
/// What a sandbox's host name begins with; the last 12 digits of its id follow.
const HOST_NAME: &str = "mayfly-";
/// The address of a sandbox's own host name.
const OWN_HOST: Ipv4Addr = Ipv4Addr::new(127, 0, 1, 1);
/// Seconds that an answer of ours holds.
const SECONDS: u32 = 60;
/// Milliseconds that a TCP client may be silent.
const IDLE: u64 = 10_000;
/// TCP clients of one sandbox.
const MAX_CLIENTS: u32 = 16;
/// Questions of one sandbox that wait for a resolver.
const MAX_LOOKUPS: u32 = 64;

impl State {
    /// Takes a connection to port 53.
    pub(crate) fn begin_client(&mut self, sandbox: Key, socket: OwnedFd, target: SocketAddr) {
        let has_room = self.has_room();
        let Some(own) = self.sandboxes.get_mut(sandbox) else { return };
        if own.clients >= MAX_CLIENTS || !has_room {
            return self.denied(sandbox, "dns", target, None, Reason::Limit);
        }
        own.clients += 1;
        let used = self.now;
        let client =
            Client { sandbox, socket, target, input: Vec::new(), is_answering: false, used };
        let key = self.clients.insert(client);
        let watched = self
            .clients
            .get(key)
            .map(|client| self.watch(client.socket.as_fd(), sys::READABLE, Target::Client(key)));
        self.at(used + IDLE, Timer::Client(key));
        if !matches!(watched, Some(Ok(()))) {
            self.end_client(key);
        }
    }

    /// Reads from a client over TCP.
    pub(crate) fn client_event(&mut self, key: Key) {
        let now = self.now;
        let Some(client) = self.clients.get_mut(key) else { return };
        let mut buffer = [0_u8; 2 + MAX_QUESTION];
        let room = buffer.len().saturating_sub(client.input.len());
        match sys::receive(client.socket.as_fd(), &mut buffer[..room]) {
            Ok(count) if count > 0 => {
                client.input.extend_from_slice(&buffer[..count]);
                client.used = now;
                self.next_question(key);
            }
            Err(error) if error.raw_os_error() == Some(sys::AGAIN) => {}
            // Also a client that sends more than one question fits: it should have waited.
            _ => self.end_client(key),
        }
    }

    fn next_question(&mut self, key: Key) {
        let Some(client) = self.clients.get_mut(key) else { return };
        let Some((head, rest)) = client.input.split_at_checked(2).filter(|_| !client.is_answering)
        else {
            return;
        };
        let length = usize::from(u16::from_be_bytes([head[0], head[1]]));
        if length > MAX_QUESTION {
            return self.end_client(key);
        }
        if let Some(question) = rest.get(..length).map(<[u8]>::to_vec) {
            client.input.drain(..2 + length);
            client.is_answering = true;
            let sandbox = client.sandbox;
            self.ask(sandbox, Asker::Client(key), &question);
        }
    }

    pub(crate) fn client_expired(&mut self, key: Key) {
        let Some(client) = self.clients.get(key) else { return };
        let until = client.used + IDLE;
        if until <= self.now {
            self.end_client(key);
        } else {
            self.at(until, Timer::Client(key));
        }
    }

    fn end_client(&mut self, key: Key) {
        let Some(client) = self.clients.remove(key) else { return };
        if let Some(own) = self.sandboxes.get_mut(client.sandbox) {
            own.clients = own.clients.saturating_sub(1);
        }
    }

    /// Ends all clients and questions of a sandbox.
    pub(crate) fn drop_questions(&mut self, sandbox: Key) {
        let mine = self.clients.iter().filter(|(_, client)| client.sandbox == sandbox);
        let keys: Vec<Key> = mine.map(|(key, _)| key).collect();
        for key in keys {
            self.end_client(key);
        }
        let mine = self.lookups.iter().filter(|(_, lookup)| lookup.sandbox == sandbox);
        let keys: Vec<Key> = mine.map(|(key, _)| key).collect();
        for key in keys {
            self.lookups.remove(key);
        }
    }

    /// Answers a question, or asks a resolver first.
    pub(crate) fn ask(&mut self, sandbox: Key, asker: Asker, bytes: &[u8]) {
        let question = match message::read_question(bytes) {
            Ok(question) => question,
            Err(Some(answer)) => return self.send_answer(sandbox, asker, &answer),
            Err(None) => return self.no_answer(asker),
        };
        match self.decide(sandbox, &question) {
            Decision::Answer(code, addresses) => {
                let answer = question.answer(code, &addresses, SECONDS);
                self.send_answer(sandbox, asker, &answer);
            }
            Decision::Deny(code, reason) => {
                self.deny_question(sandbox, asker, &question, code, reason);
            }
            Decision::Resolve(name) => {
                if let Some(own) = self.sandboxes.get_mut(sandbox) {
                    own.lookups += 1;
                }
                let kind = question.kind;
                self.look_up_kind(Purpose::Answer(asker, question), sandbox, name, kind);
            }
        }
    }

    fn decide(&mut self, sandbox: Key, question: &Question) -> Decision {
        let (now, has_room) = (self.now, self.has_room());
        let Some(own) = self.sandboxes.get_mut(sandbox) else {
            return Decision::Deny(Code::Refused, Reason::Blocked);
        };
        let is_address = matches!(question.kind, TYPE_A | TYPE_AAAA);
        let Some(name) = question.name.clone() else {
            return Decision::Deny(Code::Refused, Reason::Name);
        };
        let fixed = match name.as_str() {
            INTERNAL_NAME => Some(INTERNAL),
            // So that no file of the sandbox has to name it.
            name if name.strip_prefix(HOST_NAME) == Some(&hexadecimal(&own.id)[20..]) => {
                Some(OWN_HOST)
            }
            _ => None,
        };
        if let Some(address) = fixed {
            let addresses = vec![IpAddr::V4(address)];
            return Decision::Answer(
                Code::Fine,
                if question.kind == TYPE_A { addresses } else { Vec::new() },
            );
        }
        if let Err(reason) = judge::name(&own.policy, &name) {
            return Decision::Deny(Code::Refused, reason);
        }
        if !is_address {
            return Decision::Deny(Code::Fine, Reason::Protocol);
        }
        if own.policy.mode == Mode::Allow && !own.policy.domains.is_empty() {
            if question.kind == TYPE_AAAA {
                return Decision::Answer(Code::Fine, Vec::new());
            }
            return match own.names.address(&name, now) {
                Some(address) => Decision::Answer(Code::Fine, vec![address.into()]),
                None => Decision::Deny(Code::Failed, Reason::Limit),
            };
        }
        if own.lookups >= MAX_LOOKUPS || !has_room {
            return Decision::Deny(Code::Failed, Reason::Limit);
        }
        Decision::Resolve(name)
    }

    /// A resolver has answered: what the policy denies is left out.
    pub(crate) fn answer_found(
        &mut self,
        sandbox: Key,
        asker: Asker,
        question: &Question,
        name: &Name,
        found: Found,
    ) {
        let Some(own) = self.sandboxes.get_mut(sandbox) else { return };
        own.lookups = own.lookups.saturating_sub(1);
        let (addresses, seconds) = match found {
            Found::Addresses(addresses, seconds) => (addresses, seconds),
            Found::NoSuchName => {
                return self.send_answer(
                    sandbox,
                    asker,
                    &question.answer(Code::NoSuchName, &[], 0),
                );
            }
            Found::Failed | Found::Cut => {
                return self.send_answer(sandbox, asker, &question.answer(Code::Failed, &[], 0));
            }
        };
        let mut refused = None;
        let mut passed = Vec::new();
        for address in addresses {
            match judge::address(&own.policy, &self.host, address) {
                Ok(()) => passed.push(address),
                Err(reason) => refused = Some(reason),
            }
        }
        for address in &passed {
            own.remember(*address, name);
        }
        match refused {
            Some(reason) if passed.is_empty() => {
                self.deny_question(sandbox, asker, question, Code::Refused, reason);
            }
            _ => {
                let answer = question.answer(Code::Fine, &passed, seconds.min(SECONDS));
                self.send_answer(sandbox, asker, &answer);
            }
        }
    }

    fn deny_question(
        &mut self,
        sandbox: Key,
        asker: Asker,
        question: &Question,
        code: Code,
        reason: Reason,
    ) {
        let target = match asker {
            Asker::Datagram { target, .. } => Some(target),
            Asker::Client(key) => self.clients.get(key).map(|client| client.target),
        };
        let target = target.unwrap_or_else(|| SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 53));
        self.denied(sandbox, "dns", target, question.name.as_ref(), reason);
        self.send_answer(sandbox, asker, &question.answer(code, &[], 0));
    }

    fn send_answer(&mut self, sandbox: Key, asker: Asker, answer: &[u8]) {
        match asker {
            Asker::Datagram { source, target } => {
                let Some(own) = self.sandboxes.get(sandbox) else { return };
                let inside = own.sockets.tcp.as_fd();
                // A lost answer is asked for again.
                if let Ok(socket) = namespace::speak_as(&self.door, inside, target) {
                    let _ = sys::send_to(socket.as_fd(), answer, source);
                }
            }
            Asker::Client(key) => {
                let Some(client) = self.clients.get_mut(key) else { return };
                let length = u16::try_from(answer.len()).unwrap_or(u16::MAX).to_be_bytes();
                let framed = [&length, answer].concat();
                client.is_answering = false;
                match sys::send(client.socket.as_fd(), &framed) {
                    Ok(count) if count == framed.len() => self.next_question(key),
                    // A client that does not read its answers gets none.
                    _ => self.end_client(key),
                }
            }
        }
    }

    fn no_answer(&mut self, asker: Asker) {
        if let Asker::Client(key) = asker {
            self.end_client(key);
        }
    }
}

enum Decision {
    Answer(Code, Vec<IpAddr>),
    Deny(Code, Reason),
    Resolve(Name),
}
