//! Running commands: input to them, output of them to client and log, and their end.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;

use crate::log::Log;
use crate::protocol::{MAX_CHUNK, MAX_INPUT, Stage, Writer, init};
use crate::supervisor::{INPUT, OUTPUT, Supervisor, TURN};
use crate::sys::{self, READABLE, WRITABLE, Watch};

/// Bytes still taken from the pipe of a command that has ended but whose children go on writing.
pub(crate) const LAST_WORDS: usize = 1 << 20;

#[expect(clippy::struct_excessive_bools, reason = "four independent facts about one command")]
pub(crate) struct Command {
    pub(crate) pid: i32,
    pub(crate) client: Option<u64>,
    pub(crate) output: Option<File>,
    pub(crate) input: Option<File>,
    /// Input that the command has not taken yet.
    pub(crate) unread: Vec<u8>,
    /// No more input will come.
    pub(crate) input_ended: bool,
    /// Output that the client has not taken yet.
    pub(crate) unsent: Vec<u8>,
    /// The client is slow, so the pipe is not watched.
    pub(crate) paused: bool,
    pub(crate) exit: Option<i32>,
    /// Bytes still read after the end; zero = done.
    pub(crate) last_words: usize,
    pub(crate) reported: bool,
    pub(crate) log: Log,
    pub(crate) dirty: bool,
}

impl Command {
    /// Its end is told and nothing more can come of it.
    pub(crate) fn is_over(&self) -> bool {
        self.reported && self.output.is_none() && self.client.is_none()
    }
}

impl Supervisor {
    pub(crate) fn take_input(&mut self, key: u64, index: usize, bytes: &[u8]) {
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
    pub(crate) fn feed(&mut self, index: usize) {
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
    pub(crate) fn pump(&mut self, index: usize) {
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
    pub(crate) fn send_unsent(&mut self, index: usize) -> bool {
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
    pub(crate) fn pause_output(&self, index: usize) {
        if let Some(Some(Command { output: Some(output), .. })) = self.commands.get(index) {
            let _ = sys::watch(self.queue.as_fd(), output.as_fd(), Watch::Remove, 0, 0);
        }
    }

    pub(crate) fn resume_output(&self, index: usize) {
        if let Some(Some(Command { output: Some(output), .. })) = self.commands.get(index) {
            let key = OUTPUT | index as u64;
            let _ = sys::watch(self.queue.as_fd(), output.as_fd(), Watch::Add, READABLE, key);
        }
    }

    /// Tells the client how its command ended, once that is known and all output was sent.
    pub(crate) fn report(&mut self, index: usize) {
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
}
