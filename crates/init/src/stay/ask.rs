//! What clients ask about processes that stay.

use std::os::fd::AsFd;

use super::ring;
use crate::clients::{Client, ClientState};
use crate::command;
use crate::protocol::stay::{
    FOLLOW, FORGET, KILL_TREE, QUEUE, Queue, RESIZE, SIGNAL, START, Start, WRITE, Write,
};
use crate::protocol::{Reader, Stage};
use crate::supervisor::Supervisor;
use crate::sys;

/// Exit code of what was killed.
const KILLED: i32 = 137;

impl Supervisor {
    /// A packet with all of its request, from a client that has asked nothing yet.
    pub(crate) fn ask(&mut self, key: u64, kind: u8, mut reader: Reader<'_>) {
        let (number, more) = (reader.u64(), reader.u64());
        match (kind, number, more) {
            (FOLLOW, Some(number), Some(from)) => {
                // An earlier server says nothing about it.
                let patient = reader.u8() == Some(1);
                self.follow(key, number, from, patient);
            }
            (RESIZE, Some(number), Some(window)) => self.resize(key, number, window),
            (SIGNAL, Some(number), Some(signal @ 1..=64)) => {
                self.signal(key, number, i32::try_from(signal).unwrap_or(0));
            }
            (KILL_TREE, Some(number), _) => self.kill_stay(key, number),
            (FORGET, Some(number), _) => self.forget(key, number),
            _ => self.refuse(key, Stage::Request, 22),
        }
    }

    /// A question of a follower.
    pub(crate) fn ask_on(&mut self, key: u64, mut reader: Reader<'_>) {
        match (reader.u32(), reader.u8()) {
            (Some(max), Some(wait)) => self.asked(key, max as usize, wait != 0),
            _ => self.refuse(key, Stage::Request, 22),
        }
    }

    /// A request that is whole now.
    pub(crate) fn ask_whole(&mut self, key: u64, kind: u8, body: &[u8]) {
        match kind {
            START => match Start::decode(body) {
                Some(start) => self.start_stay(key, &start),
                None => self.refuse(key, Stage::Request, 22),
            },
            QUEUE => match Queue::decode(body) {
                Some(queue) => self.enqueue(key, queue),
                None => self.refuse(key, Stage::Request, 22),
            },
            WRITE => match Write::decode(body) {
                Some(write) => self.write_stay(key, write),
                None => self.refuse(key, Stage::Request, 22),
            },
            _ => self.refuse(key, Stage::Request, 22),
        }
    }

    /// Says why nothing can be done with a number that has no entry.
    pub(crate) fn refuse_number(&mut self, key: u64, number: u64) {
        let known = self.stay.kept.contains_key(&number);
        self.refuse(key, if known { Stage::Ended } else { Stage::Unknown }, 3);
    }

    /// The slot of a process or command that has not ended; else the client is refused.
    fn living(&mut self, key: u64, number: u64) -> Option<usize> {
        let Some(entry) = self.stay.entries.get(&number) else {
            self.refuse_number(key, number);
            return None;
        };
        if entry.exit.is_some() {
            self.refuse(key, Stage::Ended, 3);
            return None;
        }
        Some(entry.slot)
    }

    fn write_stay(&mut self, key: u64, write: Write) {
        let Some(slot) = self.living(key, write.number) else { return };
        let Some(process) = self.stay.process(slot) else { return };
        let current = process.shell.as_ref().and_then(|shell| shell.current);
        if process.number != write.number && current != Some(write.number) {
            return self.refuse(key, Stage::Early, 11);
        }
        if process.input.is_none() || process.input_ended {
            return self.refuse(key, Stage::Ended, 32);
        }
        if self.give(slot, &write.bytes) {
            return self.answer_done(key, write.number);
        }
        if let Some(client) = self.clients.get_mut(&key) {
            client.state = ClientState::Writing(slot, write);
        }
    }

    /// There is room again for input of a process.
    pub(crate) fn retry_writers(&mut self, slot: usize) {
        let waits = |client: &Client| match &client.state {
            ClientState::Writing(at, _) => *at == slot,
            _ => false,
        };
        let waiting = self.clients.iter().filter(|(_, client)| waits(client));
        for key in waiting.map(|(key, _)| *key).collect::<Vec<_>>() {
            if let Some(client) = self.clients.get_mut(&key)
                && let ClientState::Writing(_, write) =
                    std::mem::replace(&mut client.state, ClientState::Waiting(0))
            {
                self.write_stay(key, write);
            }
        }
    }

    fn resize(&mut self, key: u64, number: u64, window: u64) {
        let Some(slot) = self.living(key, number) else { return };
        let (columns, rows) = ((window & 0xffff) as u16, (window >> 16 & 0xffff) as u16);
        let Some(process) = self.stay.process(slot) else { return };
        if !process.terminal {
            return self.refuse(key, Stage::Unfit, 25);
        }
        if let Some(terminal) = &process.streams[0] {
            let _ = sys::set_window(terminal.as_fd(), (columns, rows));
        }
        if let Some(entry) = self.stay.entries.get_mut(&number) {
            entry.ring.set_window((columns, rows));
        }
        self.answer_done(key, number);
    }

    fn signal(&mut self, key: u64, number: u64, signal: i32) {
        let Some(slot) = self.living(key, number) else { return };
        let Some(process) = self.stay.process(slot) else { return };
        if process.is_alive() && process.number != number {
            // Of a command: what its shell runs, not the shell.
            let current = process.shell.as_ref().and_then(|shell| shell.current);
            if current != Some(number) {
                return self.refuse(key, Stage::Early, 11);
            }
            for child in command::children(process.pid) {
                let _ = sys::kill(child, signal);
            }
        } else if process.is_alive() {
            let terminal = process.streams[0].as_ref().filter(|_| process.terminal);
            let group = terminal.and_then(|terminal| sys::foreground(terminal.as_fd()).ok());
            let target = group.filter(|group| *group > 1).map_or(process.pid, |group| -group);
            let _ = sys::kill(target, signal);
        }
        self.answer_done(key, number);
    }

    fn kill_stay(&mut self, key: u64, number: u64) {
        let Some(slot) = self.living(key, number) else { return };
        if let Some(entry) = self.stay.entries.get_mut(&number) {
            entry.mourners.push(key);
        }
        if let Some(client) = self.clients.get_mut(&key) {
            client.state = ClientState::Waiting(number);
        }
        if self.unqueue(slot, number) {
            return self.finish(number, KILLED, false);
        }
        if let Some(process) = self.stay.process(slot)
            && process.is_alive()
        {
            command::kill_tree(process.pid);
        }
    }

    fn forget(&mut self, key: u64, number: u64) {
        if let Some(entry) = self.stay.entries.get(&number) {
            if entry.exit.is_none() {
                return self.refuse(key, Stage::Early, 16);
            }
            let (slot, followers) = (entry.slot, entry.followers.clone());
            self.stay.entries.remove(&number);
            for follower in followers {
                self.clients.remove(&follower);
            }
            if let Some(process) = self.stay.process(slot)
                && let Some(shell) = &mut process.shell
                && shell.last == Some(number)
            {
                shell.last = None;
            }
        }
        self.stay.kept.remove(&number);
        // The newest leaves an empty file, so that a later life of the sandbox does not give its number again.
        if number + 1 == self.next_log && ring::empty(&self.inside.logs, number) {
            self.stay.kept.insert(number, 0);
        } else {
            let _ = sys::unlink_at(self.inside.logs.as_fd(), &ring::name(number));
        }
        self.answer_done(key, number);
    }
}
