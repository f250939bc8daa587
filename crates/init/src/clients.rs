//! Clients of process 1: what they ask, and the commands that are started for them.

use std::fs::File;
use std::io::ErrorKind;
use std::os::fd::{AsFd, OwnedFd};

use crate::command;
use crate::log::Log;
use crate::numbers;
use crate::protocol::stay::{self, Write};
use crate::protocol::{MAX_COMMANDS, MAX_RUN, Reader, Run, Stage, VERSION, Writer, init};
use crate::running::{Command, LAST_WORDS};
use crate::stay::follow::Follow;
use crate::supervisor::{CLIENT, OUTPUT, Supervisor, TURN};
use crate::sys::{self, READABLE, WRITABLE, Watch};

/// Clients at once: one of each command, two of all that stays (a server follows each of them once for all its
/// readers, and once more for a pipe), and some that ask. One without a command costs only its descriptor.
const MAX_CLIENTS: usize = MAX_COMMANDS + 2 * stay::MAX_STAYING + 64;
/// Commands that may be waiting for a quiet moment, in which their logs are written.
const UNWRITTEN: usize = 64;

pub(crate) struct Client {
    pub(crate) socket: OwnedFd,
    pub(crate) state: ClientState,
}

pub(crate) enum ClientState {
    /// Nothing asked yet.
    Fresh,
    /// A long request is arriving: its kind, what came, its whole length.
    Asking(u8, Vec<u8>, usize),
    /// Bound to a command.
    Running(usize),
    /// Follows output of what stays.
    Following(Follow),
    /// Waits for the end of what stays.
    Waiting(u64),
    /// Waits until the process of a slot has room for input.
    Writing(usize, Write),
}

impl Supervisor {
    pub(crate) fn accept(&mut self) {
        let Ok(socket) = sys::accept(self.listener.as_fd()) else { return };
        if self.clients.len() >= MAX_CLIENTS {
            let busy = Writer::new(init::FAILED).u8(Stage::Busy as u8).u32(11).finish();
            let _ = sys::send(socket.as_fd(), &[&busy], &[]);
            return;
        }
        self.next_client = (self.next_client + 1) & 0xffff_ffff;
        let key = CLIENT | self.next_client;
        if self.clients.contains_key(&key)
            || sys::watch(self.queue.as_fd(), socket.as_fd(), Watch::Add, READABLE, key).is_err()
        {
            return;
        }
        self.clients.insert(key, Client { socket, state: ClientState::Fresh });
        // The first packet is usually there already.
        self.read_client(key);
    }

    pub(crate) fn client_event(&mut self, key: u64, events: u32) {
        if events & WRITABLE != 0 {
            self.watch_client(key, false);
            match self.clients.get(&key).map(|client| &client.state) {
                Some(ClientState::Running(index)) => self.pump(*index),
                Some(ClientState::Following(_)) => self.serve(key),
                _ => {}
            }
        }
        if events & !WRITABLE != 0 {
            self.read_client(key);
        }
    }

    pub(crate) fn watch_client(&self, key: u64, writable: bool) {
        if let Some(client) = self.clients.get(&key) {
            let events = if writable { READABLE | WRITABLE } else { READABLE };
            let _ =
                sys::watch(self.queue.as_fd(), client.socket.as_fd(), Watch::Change, events, key);
        }
    }

    pub(crate) fn read_client(&mut self, key: u64) {
        let buffer = std::mem::take(&mut self.buffer);
        // Bounded per event; the queue tells again while more is there.
        for _ in 0..TURN {
            let Some(client) = self.clients.get(&key) else { break };
            match sys::receive(client.socket.as_fd(), buffer) {
                Ok((length, _)) if length > 0 => self.packet(key, &buffer[..length]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                _ => {
                    self.drop_client(key);
                    break;
                }
            }
        }
        self.buffer = buffer;
    }

    pub(crate) fn drop_client(&mut self, key: u64) {
        let Some(client) = self.clients.remove(&key) else { return };
        match &client.state {
            ClientState::Following(follow) => self.unfollow(key, follow.number),
            ClientState::Waiting(number) => {
                if let Some(entry) = self.stay.entries.get_mut(number) {
                    entry.mourners.retain(|mourner| *mourner != key);
                }
                self.settle(*number);
            }
            _ => {}
        }
        if let ClientState::Running(index) = client.state
            && let Some(Some(command)) = self.commands.get_mut(index)
        {
            command.client = None;
            command.unsent.clear();
            // The rest of its input will never come: half a script must not be taken for a whole one.
            if command.input.is_some() && !command.input_ended && command.exit.is_none() {
                command::kill_tree(command.pid);
            }
            // What came whole is still given to it.
            if command.unread.is_empty() {
                command.input = None;
            }
            if std::mem::take(&mut command.paused) {
                self.resume_output(index);
            }
            self.pump(index);
        }
    }

    pub(crate) fn answer(&mut self, key: u64, packet: &[u8]) {
        if let Some(client) = self.clients.get(&key) {
            let _ = sys::send(client.socket.as_fd(), &[packet], &[]);
        }
    }

    pub(crate) fn refuse(&mut self, key: u64, stage: Stage, errno: i32) {
        self.answer(
            key,
            &Writer::new(init::FAILED).u8(stage as u8).u32(errno.cast_unsigned()).finish(),
        );
        if let Some(Client { state: ClientState::Following(follow), .. }) =
            self.clients.remove(&key)
        {
            self.unfollow(key, follow.number);
        }
    }

    pub(crate) fn packet(&mut self, key: u64, packet: &[u8]) {
        let mut reader = Reader::new(packet);
        let Some(client) = self.clients.get_mut(&key) else { return };
        let kind = reader.u8();
        match (kind, &mut client.state) {
            (Some(init::PING), _) => {
                self.flush_logs();
                self.answer(key, &Writer::new(init::PONG).u32(VERSION.into()).finish());
            }
            (Some(init::SHUTDOWN), _) => self.shut_down(),
            (
                Some(kind @ (init::RUN | stay::START | stay::QUEUE | stay::WRITE)),
                state @ ClientState::Fresh,
            ) => {
                let (version, total) = (reader.u32(), reader.u32());
                let total = total.map_or(usize::MAX, |total| total as usize);
                if version.is_none_or(|version| version > VERSION.into()) || total > MAX_RUN {
                    return self.refuse(key, Stage::Request, 7);
                }
                *state = ClientState::Asking(kind, reader.rest().to_vec(), total);
                self.try_start(key);
            }
            (Some(kind @ stay::RESIZE..=stay::FOLLOW), ClientState::Fresh) => {
                self.ask(key, kind, reader);
            }
            (Some(stay::READ), ClientState::Following(_)) => self.ask_on(key, reader),
            (Some(init::MORE), ClientState::Asking(_, body, total)) => {
                body.extend_from_slice(reader.rest());
                if body.len() > *total {
                    return self.refuse(key, Stage::Request, 22);
                }
                self.try_start(key);
            }
            (Some(init::INPUT), ClientState::Running(index)) => {
                let index = *index;
                self.take_input(key, index, reader.rest());
            }
            (Some(init::KILL), ClientState::Running(index)) => {
                if let Some(Some(command)) = self.commands.get(*index)
                    && command.exit.is_none()
                {
                    command::kill_tree(command.pid);
                }
            }
            _ => self.refuse(key, Stage::Request, 22),
        }
    }

    pub(crate) fn shut_down(&mut self) {
        self.leaving = true;
        self.hang_up();
        let _ = sys::kill(-1, numbers::SIGTERM);
        self.reap();
    }

    pub(crate) fn try_start(&mut self, key: u64) {
        let Some(client) = self.clients.get_mut(&key) else { return };
        let ClientState::Asking(kind, body, total) = &mut client.state else { return };
        if body.len() < *total {
            return;
        }
        let (kind, body) = (*kind, std::mem::take(body));
        if kind == init::RUN {
            self.start_run(key, &body);
        } else {
            self.ask_whole(key, kind, &body);
        }
    }

    fn start_run(&mut self, key: u64, body: &[u8]) {
        let Some(run) = Run::decode(body) else { return self.refuse(key, Stage::Request, 22) };
        let Some(index) = self.free_slot() else { return self.refuse(key, Stage::Busy, 11) };
        if self.leaving {
            return self.refuse(key, Stage::Busy, 3);
        }
        let started = match command::start(&run, &self.inside.null, self.stack) {
            Ok(started) => started,
            Err((stage, errno)) => return self.refuse(key, stage, errno),
        };
        let queue = self.queue.as_fd();
        let _ =
            sys::watch(queue, started.output.as_fd(), Watch::Add, READABLE, OUTPUT | index as u64);
        let log = Log::new(self.next_log, &run.title, run.started_at, self.log_bytes);
        self.next_log += 1;
        self.commands[index] = Some(Command {
            pid: started.pid,
            client: Some(key),
            output: Some(File::from(started.output)),
            input: started.input.map(File::from),
            unread: Vec::new(),
            input_ended: false,
            unsent: Vec::new(),
            paused: false,
            exit: None,
            last_words: LAST_WORDS,
            reported: false,
            log,
            dirty: false,
        });
        if let Some(client) = self.clients.get_mut(&key) {
            client.state = ClientState::Running(index);
        }
    }

    pub(crate) fn free_slot(&mut self) -> Option<usize> {
        let free = |slots: &[Option<Command>]| slots.iter().position(Option::is_none);
        if let Some(index) = free(&self.commands) {
            return Some(index);
        }
        if self.commands.len() >= UNWRITTEN {
            // Callers without a pause leave no quiet moment, in which logs are written and ended commands let go.
            self.flush_logs();
            if let Some(index) = free(&self.commands) {
                return Some(index);
            }
        }
        (self.commands.len() < MAX_COMMANDS).then(|| {
            self.commands.push(None);
            self.commands.len() - 1
        })
    }
}
