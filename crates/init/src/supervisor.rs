//! The life of process 1: one loop over clients, commands and dead children.
//!
//! ```text
//! client --RUN--> command --output pipe--> OUTPUT packets to the client, and the log
//!                 command ends --> what is left in the pipe, then EXITED, then the connection closes
//! client leaves   --> the command goes on; its output goes to the log only
//! slow client     --> its command's pipe is not read until it has taken what was sent
//! ```

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};

use crate::command;
use crate::log::Log;
use crate::numbers;
use crate::protocol::{
    MAX_CHUNK, MAX_COMMANDS, MAX_INPUT, MAX_PACKET, MAX_RUN, Reader, Run, Stage, VERSION, Writer,
    init,
};
use crate::setup::Inside;
use crate::sys::{self, READABLE, WRITABLE, Watch};

/// Clients at once; a client without a command costs only its descriptor.
const MAX_CLIENTS: usize = MAX_COMMANDS + 64;
/// Pieces of output taken from one command before others get their turn.
const TURN: usize = 8;
/// Bytes still taken from the pipe of a command that has ended but whose children go on writing.
const LAST_WORDS: usize = 1 << 20;

/// Stack of a child until it becomes its program, in units of 16 bytes.
const CHILD_STACK: usize = 4096;

const LISTENER: u64 = 0;
const CHILDREN: u64 = 1;
const CLIENT: u64 = 1 << 32;
const OUTPUT: u64 = 2 << 32;
const INPUT: u64 = 3 << 32;

struct Client {
    socket: OwnedFd,
    state: ClientState,
}

enum ClientState {
    /// Nothing asked yet.
    Fresh,
    /// A run request is arriving; its whole length.
    Asking(Vec<u8>, usize),
    /// Bound to a command.
    Running(usize),
}

#[expect(clippy::struct_excessive_bools, reason = "four independent facts about one command")]
struct Command {
    pid: i32,
    client: Option<u64>,
    output: Option<File>,
    input: Option<File>,
    /// Input that the command has not taken yet.
    unread: Vec<u8>,
    /// No more input will come.
    input_ended: bool,
    /// Output that the client has not taken yet.
    unsent: Vec<u8>,
    /// The client is slow, so the pipe is not watched.
    paused: bool,
    exit: Option<i32>,
    /// Bytes still read after the end; zero = done.
    last_words: usize,
    reported: bool,
    log: Log,
    dirty: bool,
}

impl Command {
    /// Its end is told and nothing more can come of it.
    fn is_over(&self) -> bool {
        self.reported && self.output.is_none() && self.client.is_none()
    }
}

struct Supervisor {
    queue: OwnedFd,
    listener: OwnedFd,
    inside: Inside,
    log_bytes: u64,
    next_log: u64,
    clients: BTreeMap<u64, Client>,
    next_client: u64,
    commands: Vec<Option<Command>>,
    /// Where children begin; one at a time.
    stack: Vec<u128>,
    buffer: Vec<u8>,
    dirty: bool,
    leaving: bool,
}

/// Serves until the sandbox is told to end and its last process is gone. Never returns.
pub(crate) fn run(listener: OwnedFd, inside: Inside, log_bytes: u64) -> ! {
    let _ = sys::block_signals(&[numbers::SIGCHLD]);
    let (Ok(queue), Ok(children)) = (sys::event_queue(), sys::child_signals()) else {
        sys::exit(1)
    };
    let watched = sys::watch(queue.as_fd(), listener.as_fd(), Watch::Add, READABLE, LISTENER)
        .and_then(|()| sys::watch(queue.as_fd(), children.as_fd(), Watch::Add, READABLE, CHILDREN));
    if watched.is_err() {
        sys::exit(1);
    }
    let next_log = inside.last_log + 1;
    let mut supervisor = Supervisor {
        queue,
        listener,
        inside,
        log_bytes,
        next_log,
        clients: BTreeMap::new(),
        next_client: 0,
        commands: Vec::new(),
        stack: vec![0; CHILD_STACK],
        buffer: vec![0; MAX_PACKET],
        dirty: false,
        leaving: false,
    };
    let mut children = File::from(children);
    loop {
        supervisor.turn(&mut children);
    }
}

impl Supervisor {
    fn turn(&mut self, children: &mut File) {
        let mut events = [sys::Event::default(); 32];
        let queue = self.queue.as_fd();
        let ready = match sys::wait(queue, &mut events, if self.dirty { 0 } else { -1 }) {
            Ok(ready) => ready.len(),
            Err(error) if error.kind() == ErrorKind::Interrupted => 0,
            Err(_) => sys::exit(1),
        };
        if ready == 0 {
            return self.flush_logs();
        }
        for event in events.into_iter().take(ready) {
            let key = event.key;
            let index = usize::try_from(key & 0xffff_ffff).unwrap_or(0);
            match key {
                LISTENER => self.accept(),
                CHILDREN => {
                    let mut signals = [0_u8; 1024];
                    let _ = children.read(&mut signals);
                    self.reap();
                }
                key if key & OUTPUT == OUTPUT && key & INPUT == INPUT => self.feed(index),
                key if key & OUTPUT == OUTPUT => self.pump(index),
                _ => self.client_event(key, event.events),
            }
        }
    }

    fn flush_logs(&mut self) {
        self.dirty = false;
        for command in self.commands.iter_mut().flatten().filter(|command| command.dirty) {
            command.dirty = false;
            command.log.flush(&self.inside.logs);
        }
        for slot in &mut self.commands {
            if slot.as_ref().is_some_and(Command::is_over) {
                *slot = None;
            }
        }
    }

    fn accept(&mut self) {
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

    fn client_event(&mut self, key: u64, events: u32) {
        if events & WRITABLE != 0
            && let Some(Client { state: ClientState::Running(index), .. }) = self.clients.get(&key)
        {
            let index = *index;
            self.watch_client(key, false);
            self.pump(index);
        }
        if events & !WRITABLE != 0 {
            self.read_client(key);
        }
    }

    fn watch_client(&self, key: u64, writable: bool) {
        if let Some(client) = self.clients.get(&key) {
            let events = if writable { READABLE | WRITABLE } else { READABLE };
            let _ =
                sys::watch(self.queue.as_fd(), client.socket.as_fd(), Watch::Change, events, key);
        }
    }

    fn read_client(&mut self, key: u64) {
        let mut buffer = std::mem::take(&mut self.buffer);
        // Bounded per event; the queue tells again while more is there.
        for _ in 0..TURN {
            let Some(client) = self.clients.get(&key) else { break };
            match sys::receive(client.socket.as_fd(), &mut buffer) {
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

    fn drop_client(&mut self, key: u64) {
        let Some(client) = self.clients.remove(&key) else { return };
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

    fn answer(&mut self, key: u64, packet: &[u8]) {
        if let Some(client) = self.clients.get(&key) {
            let _ = sys::send(client.socket.as_fd(), &[packet], &[]);
        }
    }

    fn refuse(&mut self, key: u64, stage: Stage, errno: i32) {
        self.answer(
            key,
            &Writer::new(init::FAILED).u8(stage as u8).u32(errno.cast_unsigned()).finish(),
        );
        self.clients.remove(&key);
    }

    fn packet(&mut self, key: u64, packet: &[u8]) {
        let mut reader = Reader::new(packet);
        let Some(client) = self.clients.get_mut(&key) else { return };
        let kind = reader.u8();
        match (kind, &mut client.state) {
            (Some(init::PING), _) => {
                self.flush_logs();
                self.answer(key, &Writer::new(init::PONG).u32(VERSION.into()).finish());
            }
            (Some(init::SHUTDOWN), _) => self.shut_down(),
            (Some(init::RUN), state @ ClientState::Fresh) => {
                let (version, total) = (reader.u32(), reader.u32());
                let total = total.map_or(usize::MAX, |total| total as usize);
                if version.is_none_or(|version| version > VERSION.into()) || total > MAX_RUN {
                    return self.refuse(key, Stage::Request, 7);
                }
                *state = ClientState::Asking(reader.rest().to_vec(), total);
                self.try_start(key);
            }
            (Some(init::MORE), ClientState::Asking(body, total)) => {
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

    fn shut_down(&mut self) {
        self.leaving = true;
        let _ = sys::kill(-1, numbers::SIGTERM);
        self.reap();
    }

    fn try_start(&mut self, key: u64) {
        let Some(Client { state: ClientState::Asking(body, total), .. }) = self.clients.get(&key)
        else {
            return;
        };
        if body.len() < *total {
            return;
        }
        let Some(run) = Run::decode(body) else { return self.refuse(key, Stage::Request, 22) };
        let Some(index) = self.free_slot() else { return self.refuse(key, Stage::Busy, 11) };
        if self.leaving {
            return self.refuse(key, Stage::Busy, 3);
        }
        let started = match command::start(&run, &self.inside.null, &mut self.stack) {
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

    fn free_slot(&mut self) -> Option<usize> {
        if let Some(index) = self.commands.iter().position(Option::is_none) {
            return Some(index);
        }
        (self.commands.len() < MAX_COMMANDS).then(|| {
            self.commands.push(None);
            self.commands.len() - 1
        })
    }

    fn take_input(&mut self, key: u64, index: usize, bytes: &[u8]) {
        let Some(Some(command)) = self.commands.get_mut(index) else { return };
        let Some(input) = &command.input else { return };
        if command.unread.len() + bytes.len() > MAX_INPUT {
            return self.refuse(key, Stage::Request, 7);
        }
        command.input_ended |= bytes.is_empty();
        command.unread.extend_from_slice(bytes);
        let _ = sys::watch(
            self.queue.as_fd(),
            input.as_fd(),
            Watch::Add,
            WRITABLE,
            INPUT | index as u64,
        );
        self.feed(index);
    }

    /// Gives the command input that it can take now.
    fn feed(&mut self, index: usize) {
        let Some(Some(command)) = self.commands.get_mut(index) else { return };
        let Some(input) = &mut command.input else { return };
        while !command.unread.is_empty() {
            match input.write(&command.unread) {
                Ok(taken) => drop(command.unread.drain(..taken)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => {
                    // The command closed its input: what is left has no reader.
                    command.unread.clear();
                    command.input_ended = true;
                }
            }
        }
        let _ = sys::watch(self.queue.as_fd(), input.as_fd(), Watch::Remove, 0, 0);
        if command.input_ended {
            command.input = None;
        }
    }

    /// Moves output from a command to its client and its log, and reports its end.
    #[expect(clippy::large_stack_arrays, reason = "one thread with the whole stack of its process")]
    fn pump(&mut self, index: usize) {
        let mut buffer = [0_u8; MAX_CHUNK];
        let mut turns = 0;
        loop {
            let Some(Some(command)) = self.commands.get_mut(index) else { return };
            if !command.unsent.is_empty() && !self.send_unsent(index) {
                return;
            }
            let Some(Some(command)) = self.commands.get_mut(index) else { return };
            turns += 1;
            // The last words of an ended command are bounded by themselves.
            if turns > TURN && (command.exit.is_none() || command.reported) {
                return;
            }
            let read = match &mut command.output {
                Some(_)
                    if command.exit.is_some() && !command.reported && command.last_words == 0 =>
                {
                    Err(ErrorKind::WouldBlock.into())
                }
                Some(output) => output.read(&mut buffer),
                None => Ok(0),
            };
            match read {
                Ok(length) if length > 0 => {
                    if command.exit.is_some() {
                        command.last_words = command.last_words.saturating_sub(length);
                    }
                    command.log.append(&self.inside.logs, &buffer[..length]);
                    command.dirty = true;
                    self.dirty = true;
                    if command.client.is_some() && !command.reported {
                        command.unsent.push(init::OUTPUT);
                        command.unsent.extend_from_slice(&buffer[..length]);
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                result => {
                    if result.is_ok() {
                        command.output = None;
                    }
                    return self.report(index);
                }
            }
        }
    }

    /// Sends the next packet, and lets the client go after its last one; `false` when it has to take earlier
    /// packets first.
    fn send_unsent(&mut self, index: usize) -> bool {
        let Some(Some(command)) = self.commands.get_mut(index) else { return false };
        let Some(key) = command.client else {
            command.unsent.clear();
            return true;
        };
        let Some(client) = self.clients.get(&key) else { return true };
        match sys::send(client.socket.as_fd(), &[&command.unsent], &[]) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                command.paused = true;
                self.pause_output(index);
                self.watch_client(key, true);
                false
            }
            Err(_) => {
                command.unsent.clear();
                self.drop_client(key);
                true
            }
            Ok(()) => {
                command.unsent.clear();
                let resume = std::mem::take(&mut command.paused);
                if command.reported {
                    command.client = None;
                    self.clients.remove(&key);
                    self.dirty = true;
                }
                if resume {
                    self.resume_output(index);
                }
                true
            }
        }
    }

    /// Takes the pipe out of the queue: a silent watch would still report that its writer is gone, for ever.
    fn pause_output(&self, index: usize) {
        if let Some(Some(Command { output: Some(output), .. })) = self.commands.get(index) {
            let _ = sys::watch(self.queue.as_fd(), output.as_fd(), Watch::Remove, 0, 0);
        }
    }

    fn resume_output(&self, index: usize) {
        if let Some(Some(Command { output: Some(output), .. })) = self.commands.get(index) {
            let key = OUTPUT | index as u64;
            let _ = sys::watch(self.queue.as_fd(), output.as_fd(), Watch::Add, READABLE, key);
        }
    }

    /// Tells the client how its command ended, once that is known and all output was sent.
    fn report(&mut self, index: usize) {
        let Some(Some(command)) = self.commands.get_mut(index) else { return };
        let Some(code) = command.exit else { return };
        if !command.reported {
            command.reported = true;
            command.log.finish(code);
            command.dirty = true;
            if command.client.is_some() {
                let number = command.log.number();
                command.unsent =
                    Writer::new(init::EXITED).u32(code.cast_unsigned()).u64(number).finish();
                // Without room for it now, it follows when the client has taken the output.
                self.send_unsent(index);
            }
        }
        self.dirty = true;
    }

    fn reap(&mut self) {
        loop {
            match sys::reap() {
                Ok(Some((pid, status))) => {
                    let found = self.commands.iter().position(|command| {
                        command
                            .as_ref()
                            .is_some_and(|command| command.pid == pid && command.exit.is_none())
                    });
                    if let Some(index) = found {
                        if let Some(Some(command)) = self.commands.get_mut(index) {
                            command.exit = Some(exit_code(status));
                            command.input = None;
                        }
                        self.pump(index);
                    }
                }
                // No child is left: the sandbox is empty.
                Err(_) if self.leaving => {
                    self.flush_logs();
                    sys::exit(0)
                }
                Ok(None) | Err(_) => return,
            }
        }
    }
}

/// Exit code of a wait status; 128 + n after signal n.
fn exit_code(status: i32) -> i32 {
    match status & 0x7f {
        0 => (status >> 8) & 0xff,
        signal => 128 + signal,
    }
}
