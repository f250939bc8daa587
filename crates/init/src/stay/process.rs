//! A process that stays: output of it to its ring, input to it, and its end.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;

use super::shell::Shell;
use crate::protocol::{MAX_PACKET, Writer, stay};
use crate::running::LAST_WORDS;
use crate::supervisor::{STAY_ERROR, STAY_INPUT, STAY_OUTPUT, Supervisor, TURN};
use crate::sys::{self, READABLE, WRITABLE, Watch};

/// A process and our ends of its streams.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) number: u64,
    pub(crate) pid: i32,
    pub(crate) exit: Option<i32>,
    /// Its end was told: what still comes from others at its pipes is dropped.
    pub(crate) told: bool,
    /// Output (of a terminal all) and error.
    pub(crate) streams: [Option<File>; 2],
    pub(crate) input: Option<File>,
    /// Input that it has not taken yet.
    pub(crate) unread: Vec<u8>,
    pub(crate) input_ended: bool,
    pub(crate) terminal: bool,
    pub(crate) shell: Option<Box<Shell>>,
    /// Since when, and until when, its output waits for followers.
    pub(crate) paused: Option<(u64, u64)>,
}

impl Process {
    /// Number of what its output belongs to.
    pub(crate) fn target(&self) -> u64 {
        let command = self.shell.as_ref().and_then(|shell| shell.current.or(shell.last));
        command.unwrap_or(self.number)
    }

    pub(crate) fn is_alive(&self) -> bool {
        self.exit.is_none()
    }
}

const STREAMS: [u64; 2] = [STAY_OUTPUT, STAY_ERROR];

impl Supervisor {
    pub(crate) fn watch_stay(&self, fd: &impl AsFd, events: u32, key: u64, slot: usize) {
        let _ = sys::watch(self.queue.as_fd(), fd.as_fd(), Watch::Add, events, key | slot as u64);
    }

    pub(crate) fn unwatch(&self, fd: &impl AsFd) {
        let _ = sys::watch(self.queue.as_fd(), fd.as_fd(), Watch::Remove, 0, 0);
    }

    /// Takes output of one stream; others get their turn after a while.
    pub(crate) fn take_output(&mut self, slot: usize, stream: usize) {
        for _ in 0..TURN {
            let Some(process) = self.stay.process(slot) else { return };
            if process.paused.is_some() || (!process.told && self.must_wait(slot)) {
                return;
            }
            if self.move_piece(slot, stream) == 0 {
                return;
            }
        }
    }

    /// Moves one piece of output to where it belongs; its length, 0 when there is none now.
    fn move_piece(&mut self, slot: usize, stream: usize) -> usize {
        let mut piece = std::mem::take(&mut self.stay.piece);
        piece.resize(MAX_PACKET, 0);
        let moved = self.move_with(slot, stream, &mut piece);
        self.stay.piece = piece;
        moved
    }

    fn move_with(&mut self, slot: usize, stream: usize, piece: &mut [u8]) -> usize {
        let Some(process) = self.stay.process(slot) else { return 0 };
        let Some(file) = &mut process.streams[stream] else { return 0 };
        let read = loop {
            match file.read(piece) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                read => break read,
            }
        };
        let (told, target) = (process.told, process.target());
        match read {
            Ok(length) if length > 0 => {
                if !told && let Some(entry) = self.stay.entries.get_mut(&target) {
                    entry.ring.append(stream == 1, &piece[..length]);
                    self.serve_all(target);
                }
                length
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            // The end of pipes; of a terminal an error says that nobody has it open.
            _ => {
                process.streams[stream] = None;
                self.clear_slot(slot);
                0
            }
        }
    }

    /// Takes all that is in its pipes now, without waiting for followers.
    pub(crate) fn take_last_words(&mut self, slot: usize) {
        for stream in 0..2 {
            let mut left = LAST_WORDS + MAX_PACKET;
            loop {
                let moved = self.move_piece(slot, stream);
                left = left.saturating_sub(moved);
                if moved == 0 || left == 0 {
                    break;
                }
            }
        }
    }

    /// Its output is not read until followers have read on.
    pub(crate) fn pause(&mut self, slot: usize, patience: u64) {
        let now = self.stay.now();
        let Some(Some(process)) = self.stay.processes.get_mut(slot) else { return };
        process.paused = Some((now, now + patience));
        self.stay.paused += 1;
        if let Some(Some(process)) = self.stay.processes.get(slot) {
            process.streams.iter().flatten().for_each(|file| self.unwatch(file));
        }
    }

    pub(crate) fn resume(&mut self, slot: usize) {
        let now = self.stay.now();
        let Some(process) = self.stay.process(slot) else { return };
        let Some((since, _)) = process.paused.take() else { return };
        let target = process.target();
        self.stay.paused -= 1;
        if let Some(entry) = self.stay.entries.get_mut(&target) {
            entry.waited(now.saturating_sub(since));
        }
        let Some(Some(process)) = self.stay.processes.get(slot) else { return };
        for (file, key) in process.streams.iter().zip(STREAMS) {
            if let Some(file) = file {
                self.watch_stay(file, READABLE, key, slot);
            }
        }
        // What had to wait meanwhile.
        if process.exit.is_some() && !process.told {
            self.conclude(slot);
        } else if process.shell.is_some() {
            self.read_status(slot);
        }
    }

    /// A child ended; whether it was one of these.
    pub(crate) fn reaped(&mut self, pid: i32, code: i32) -> bool {
        let is_it = |process: &Process| process.pid == pid && process.is_alive();
        let found =
            self.stay.processes.iter().position(|process| process.as_deref().is_some_and(is_it));
        let Some(slot) = found else { return false };
        if let Some(process) = self.stay.process(slot) {
            process.exit = Some(code);
            process.input = None;
            process.unread = Vec::new();
        }
        self.conclude(slot);
        true
    }

    /// Keeps its last output and tells its end.
    fn conclude(&mut self, slot: usize) {
        let Some(process) = self.stay.process(slot) else { return };
        let (Some(code), false, None) = (process.exit, process.told, process.paused) else {
            return;
        };
        self.take_last_words(slot);
        let Some(process) = self.stay.process(slot) else { return };
        process.told = true;
        let (number, terminal) = (process.number, process.terminal);
        if terminal {
            // Whoever still has the terminal open loses it.
            process.streams = [None, None];
        }
        let commands = process.shell.take().map_or_else(Vec::new, |shell| shell.unfinished());
        for command in commands {
            self.finish(command, code, false);
        }
        self.finish(number, code, false);
        self.clear_slot(slot);
    }

    /// Tells the end of a process or command to all who wait for it; `open` = more output may still come.
    pub(crate) fn finish(&mut self, number: u64, code: i32, open: bool) {
        let Some(entry) = self.stay.entries.get_mut(&number) else { return };
        entry.open = open;
        if entry.exit.is_none() {
            entry.exit = Some(code);
            entry.ring.finish(code);
        }
        for key in std::mem::take(&mut entry.mourners) {
            self.answer_done(key, number);
        }
        self.serve_all(number);
        self.settle(number);
    }

    /// Lets go of an entry to which nothing can happen any more; its file stays.
    pub(crate) fn settle(&mut self, number: u64) {
        let over = self.stay.entries.get(&number).filter(|entry| entry.is_over());
        if let Some(bytes) = over.map(|entry| entry.ring.bytes()) {
            self.stay.entries.remove(&number);
            self.stay.kept.insert(number, bytes);
            self.stay.shrink(&self.inside.logs);
        }
    }

    fn clear_slot(&mut self, slot: usize) {
        let Some(entry) = self.stay.processes.get_mut(slot) else { return };
        let done = |process: &Process| process.told && process.streams.iter().all(Option::is_none);
        if entry.as_deref().is_some_and(done) {
            *entry = None;
        }
    }

    /// Takes input for a process; whether there was room for it.
    pub(crate) fn give(&mut self, slot: usize, bytes: &[u8]) -> bool {
        let Some(process) = self.stay.process(slot) else { return true };
        if !process.unread.is_empty() && process.unread.len() + bytes.len() > HELD {
            return false;
        }
        if bytes.is_empty() && !process.terminal {
            process.input_ended = true;
        }
        let waits = !process.unread.is_empty();
        process.unread.extend_from_slice(bytes);
        if !waits {
            self.feed_stay(slot);
        }
        true
    }

    /// Gives a process input that it can take now.
    pub(crate) fn feed_stay(&mut self, slot: usize) {
        let queue = self.queue.as_fd();
        let Some(Some(process)) = self.stay.processes.get_mut(slot) else { return };
        let Some(input) = &mut process.input else { return };
        while !process.unread.is_empty() {
            match input.write(&process.unread) {
                Ok(taken) => drop(process.unread.drain(..taken)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    let key = STAY_INPUT | slot as u64;
                    let _ = sys::watch(queue, input.as_fd(), Watch::Add, WRITABLE, key);
                    return;
                }
                Err(_) => {
                    // It closed its input: what is left has no reader.
                    process.unread.clear();
                    process.input_ended = true;
                }
            }
        }
        let _ = sys::watch(queue, input.as_fd(), Watch::Remove, 0, 0);
        process.unread = Vec::new();
        if process.input_ended {
            process.input = None;
        }
        self.retry_writers(slot);
    }

    /// Drops what a command left unread of its input.
    pub(crate) fn drop_input(&mut self, slot: usize) {
        let null = self.inside.null.as_fd();
        let Some(Some(process)) = self.stay.processes.get_mut(slot) else { return };
        process.unread = Vec::new();
        if let Some(input) = &process.input {
            let _ = sys::watch(self.queue.as_fd(), input.as_fd(), Watch::Remove, 0, 0);
        }
        let Some(shell) = &process.shell else { return };
        // A pipe holds at most this much.
        let _ = sys::swallow(shell.input.as_fd(), null, 1 << 20);
    }

    /// Closes all terminals: their programs are told to leave.
    pub(crate) fn hang_up(&mut self) {
        for process in self.stay.processes.iter_mut().flatten().filter(|process| process.terminal) {
            process.streams = [None, None];
            process.input = None;
        }
    }

    pub(crate) fn answer_done(&mut self, key: u64, number: u64) {
        let done = Writer::new(stay::DONE).u64(number).finish();
        self.answer(key, &done);
        self.clients.remove(&key);
    }
}

/// Input held for a process that does not read it, bytes; a single larger piece is held alone.
const HELD: usize = 256 << 10;
