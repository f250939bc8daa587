//! Questions to the host's resolvers: a fresh socket, port and id for each; TCP when the answer is cut.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;

use super::message::{self, Found, TYPE_A, TYPE_AAAA};
use crate::entries::{Channel, Lookup, Purpose};
use crate::names::Name;
use crate::slab::Key;
use crate::state::{State, Target, Timer};
use crate::sys;

/// Milliseconds that one resolver has for its answer.
const TIME: u64 = 2_000;
/// Resolvers asked for one name, repeats included.
const MAX_ATTEMPTS: usize = 4;
/// Longest answer over TCP.
const MAX_ANSWER: usize = 16 * 1024;

impl State {
    /// Asks for the addresses of a name that is to be dialled: IPv4 first.
    pub(crate) fn look_up(&mut self, purpose: Purpose, sandbox: Key, name: Name) {
        self.look_up_kind(purpose, sandbox, name, TYPE_A);
    }

    pub(crate) fn look_up_kind(&mut self, purpose: Purpose, sandbox: Key, name: Name, kind: u16) {
        let until = self.now;
        let lookup =
            Lookup { sandbox, purpose, name, kind, id: 0, attempts: 0, until, channel: None };
        let key = self.lookups.insert(lookup);
        self.ask_next(key);
    }

    /// Asks the next resolver in turn; when all have been asked, the lookup fails.
    fn ask_next(&mut self, key: Key) {
        loop {
            let Some(lookup) = self.lookups.get_mut(key) else { return };
            lookup.channel = None;
            let (sandbox, attempt) = (lookup.sandbox, lookup.attempts);
            lookup.attempts += 1;
            let resolver = self.resolver(sandbox, attempt);
            let Some(resolver) = resolver.filter(|_| attempt < MAX_ATTEMPTS) else {
                return self.found(key, Found::Failed);
            };
            if self.ask_by_datagram(key, resolver).is_ok() {
                return self.wait_for(key);
            }
        }
    }

    fn resolver(&self, sandbox: Key, attempt: usize) -> Option<SocketAddr> {
        let resolvers = &self.policy(sandbox)?.resolvers;
        resolvers.get(attempt % resolvers.len().max(1)).copied()
    }

    fn wait_for(&mut self, key: Key) {
        let until = self.now + TIME;
        if let Some(lookup) = self.lookups.get_mut(key) {
            lookup.until = until;
        }
        self.at(until, Timer::Lookup(key));
    }

    fn ask_by_datagram(&mut self, key: Key, resolver: SocketAddr) -> sys::Result<()> {
        let family = if resolver.is_ipv4() { sys::INET } else { sys::INET6 };
        let socket = sys::socket(family, sys::DATAGRAM, 0)?;
        sys::connect(socket.as_fd(), resolver)?;
        let id = u16::from_ne_bytes(sys::random::<2>()?);
        let Some(lookup) = self.lookups.get_mut(key) else { return Ok(()) };
        lookup.id = id;
        let question = message::write_question(id, &lookup.name, lookup.kind);
        sys::send(socket.as_fd(), &question)?;
        self.watch(socket.as_fd(), sys::READABLE, Target::Lookup(key))?;
        if let Some(lookup) = self.lookups.get_mut(key) {
            lookup.channel = Some(Channel::Datagram(socket));
        }
        Ok(())
    }

    fn ask_by_stream(&mut self, key: Key) {
        let asked = self
            .lookups
            .get(key)
            .and_then(|lookup| self.resolver(lookup.sandbox, lookup.attempts.saturating_sub(1)));
        let opened = asked.ok_or_else(no_resolver).and_then(|resolver| {
            let family = if resolver.is_ipv4() { sys::INET } else { sys::INET6 };
            let socket = sys::socket(family, sys::STREAM, 0)?;
            match sys::connect(socket.as_fd(), resolver) {
                Err(error) if error.raw_os_error() != Some(sys::IN_PROGRESS) => return Err(error),
                _ => {}
            }
            let events = sys::READABLE | sys::WRITABLE | sys::EDGE;
            self.watch(socket.as_fd(), events, Target::Lookup(key))?;
            Ok(socket)
        });
        match (opened, self.lookups.get_mut(key)) {
            (Ok(socket), Some(lookup)) => {
                lookup.channel = Some(Channel::Stream(socket, false, Vec::new()));
                self.wait_for(key);
            }
            _ => self.ask_next(key),
        }
    }

    /// A resolver has sent something.
    pub(crate) fn lookup_event(&mut self, key: Key) {
        let Some(lookup) = self.lookups.get_mut(key) else { return };
        match &mut lookup.channel {
            None => {}
            Some(Channel::Datagram(socket)) => {
                let mut buffer = [0_u8; 4096];
                let length = match sys::receive(socket.as_fd(), &mut buffer) {
                    Ok(length) => length,
                    Err(error) if error.raw_os_error() == Some(sys::AGAIN) => return,
                    Err(_) => return self.ask_next(key),
                };
                let answer =
                    message::read_answer(&buffer[..length], lookup.id, &lookup.name, lookup.kind);
                match answer {
                    // Not an answer to this question: the right one may still come.
                    None => {}
                    Some(Found::Cut) => self.ask_by_stream(key),
                    Some(Found::Failed) => self.ask_next(key),
                    Some(found) => self.found(key, found),
                }
            }
            Some(Channel::Stream(..)) => self.stream_event(key),
        }
    }

    fn stream_event(&mut self, key: Key) {
        let Some(lookup) = self.lookups.get_mut(key) else { return };
        let question = message::write_question(lookup.id, &lookup.name, lookup.kind);
        let Some(Channel::Stream(socket, has_asked, input)) = &mut lookup.channel else { return };
        if !*has_asked {
            let length = u16::try_from(question.len()).unwrap_or(0).to_be_bytes();
            let framed = [&length, question.as_slice()].concat();
            match sys::send(socket.as_fd(), &framed) {
                Ok(count) if count == framed.len() => *has_asked = true,
                Err(error) if error.raw_os_error() == Some(sys::AGAIN) => return,
                _ => return self.ask_next(key),
            }
        }
        let mut buffer = [0_u8; 4096];
        // A resolver may close right after its answer.
        let has_ended = loop {
            match sys::receive(socket.as_fd(), &mut buffer) {
                Ok(count) if count > 0 && input.len() < MAX_ANSWER => {
                    input.extend_from_slice(&buffer[..count]);
                }
                Err(error) if error.raw_os_error() == Some(sys::AGAIN) => break false,
                _ => break true,
            }
        };
        let whole = input.split_at_checked(2).and_then(|(head, rest)| {
            rest.get(..usize::from(u16::from_be_bytes([head[0], head[1]])))
        });
        let Some(whole) = whole else {
            if has_ended {
                self.ask_next(key);
            }
            return;
        };
        match message::read_answer(whole, lookup.id, &lookup.name, lookup.kind) {
            None | Some(Found::Cut | Found::Failed) => self.ask_next(key),
            Some(found) => self.found(key, found),
        }
    }

    /// The present resolver's time may be over.
    pub(crate) fn lookup_expired(&mut self, key: Key) {
        if self.lookups.get(key).is_some_and(|lookup| lookup.until <= self.now) {
            self.ask_next(key);
        }
    }

    /// A lookup has ended.
    fn found(&mut self, key: Key, found: Found) {
        let Some(lookup) = self.lookups.remove(key) else { return };
        let addresses: Vec<IpAddr> = match &found {
            Found::Addresses(addresses, _) => addresses.clone(),
            _ => Vec::new(),
        };
        match lookup.purpose {
            Purpose::Answer(asker, question) => {
                self.answer_found(lookup.sandbox, asker, &question, &lookup.name, found);
            }
            // A host may have IPv6 only.
            purpose if addresses.is_empty() && lookup.kind == TYPE_A => {
                self.look_up_kind(purpose, lookup.sandbox, lookup.name, TYPE_AAAA);
            }
            Purpose::Destination(relay) => self.destination_found(relay, &addresses),
            Purpose::Proxy(relay) => self.proxy_found(relay, &addresses),
        }
    }
}

fn no_resolver() -> std::io::Error {
    std::io::Error::from(std::io::ErrorKind::NotFound)
}
